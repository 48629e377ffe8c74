/* sis_sync--1.0.sql: what CREATE EXTENSION makes (design, section 3) */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION sis_sync" to load this file. \quit

DO $$
BEGIN
  IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
    RAISE EXCEPTION 'sis_sync needs a database whose encoding is UTF8'
      USING ERRCODE = 'feature_not_supported',
            DETAIL = pg_catalog.format('The encoding of this database is %s.',
                                       pg_catalog.getdatabaseencoding()),
            HINT = 'Create one with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;
END $$;

-- Not IF NOT EXISTS: a schema of that name that is already there is somebody
-- else's, and what is in it would be adopted.
CREATE SCHEMA sis_sync;
COMMENT ON SCHEMA sis_sync IS 'settings, staging and log of sis_sync';

-- ---------------------------------------------------------------------------
-- Settings: plain tables, changed with plain INSERT, UPDATE and DELETE
-- ---------------------------------------------------------------------------

CREATE TABLE sis_sync.sync (
  id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  name text PRIMARY KEY CHECK (name OPERATOR(pg_catalog.<>) ''),
  server text NOT NULL,
  target_schema text NOT NULL DEFAULT 'roster',
  deletion_threshold numeric NOT NULL DEFAULT 10
    CHECK (deletion_threshold OPERATOR(pg_catalog.>=) 0
           AND deletion_threshold OPERATOR(pg_catalog.<=) 100),
  school_min_records integer NOT NULL DEFAULT 100
    CHECK (school_min_records OPERATOR(pg_catalog.>=) 0),
  min_allowed integer NOT NULL DEFAULT 2
    CHECK (min_allowed OPERATOR(pg_catalog.>=) 0),
  reject_threshold numeric NOT NULL DEFAULT 5
    CHECK (reject_threshold OPERATOR(pg_catalog.>=) 0
           AND reject_threshold OPERATOR(pg_catalog.<=) 100),
  restore_returning boolean NOT NULL DEFAULT true,
  all_schools boolean NOT NULL DEFAULT false,
  include_demographics boolean NOT NULL DEFAULT false,
  extra_columns text[] NOT NULL DEFAULT '{}',
  timezone text NOT NULL DEFAULT 'UTC'
);
COMMENT ON TABLE sis_sync.sync IS 'one row per sync: where a district''s data comes from and how much of it may be archived in a night';
COMMENT ON COLUMN sis_sync.sync.id IS 'stands in every roster row as sync_id; never changes';
COMMENT ON COLUMN sis_sync.sync.server IS 'name of the foreign server the data comes from';
COMMENT ON COLUMN sis_sync.sync.target_schema IS 'schema made by create_roster()';
COMMENT ON COLUMN sis_sync.sync.deletion_threshold IS 'percent of the SIS-managed records of a type that a run may archive';
COMMENT ON COLUMN sis_sync.sync.school_min_records IS 'a school with fewer records is judged as if it had this many';
COMMENT ON COLUMN sis_sync.sync.min_allowed IS 'so many records of a type (not school, not student) may always be archived when the percent is above 0';
COMMENT ON COLUMN sis_sync.sync.reject_threshold IS 'percent of the rows of a type that may be rejected (five always may)';
COMMENT ON COLUMN sis_sync.sync.restore_returning IS 'false: archived sections and enrollments stay archived when they return';
COMMENT ON COLUMN sis_sync.sync.all_schools IS 'true: every school of the source is in scope';
COMMENT ON COLUMN sis_sync.sync.include_demographics IS 'true: OneRoster''s demographics (birth date, sex) are read';
COMMENT ON COLUMN sis_sync.sync.extra_columns IS 'columns of the source, without a place of their own, to keep in "extra"';
COMMENT ON COLUMN sis_sync.sync.timezone IS 'time zone whose date decides whether a term has ended';

CREATE TABLE sis_sync.sync_school (
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  school_id text NOT NULL CHECK (pg_catalog.btrim(school_id) OPERATOR(pg_catalog.<>) ''),
  app_school text,
  PRIMARY KEY (sync, school_id)
);
COMMENT ON TABLE sis_sync.sync_school IS 'the schools of the source that a sync takes, by the district''s own ID or the source''s, and the application''s school for each';

CREATE TABLE sis_sync.sync_threshold (
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  record_type text NOT NULL CHECK (record_type OPERATOR(pg_catalog.=) ANY (ARRAY[
    'school', 'term', 'course', 'section', 'student', 'staff', 'contact',
    'student_contact', 'enrollment'])),
  percent numeric NOT NULL
    CHECK (percent OPERATOR(pg_catalog.>=) 0 AND percent OPERATOR(pg_catalog.<=) 100),
  valid_until timestamptz,
  PRIMARY KEY (sync, record_type)
);
COMMENT ON TABLE sis_sync.sync_threshold IS 'a deletion threshold for one record type, for good or until a moment';

-- What a sync remembers from its last good run; kept apart from what people set.
CREATE TABLE sis_sync.sync_state (
  sync text PRIMARY KEY REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  district_id text,
  source_as_of timestamptz,
  options_hash bigint
);
COMMENT ON TABLE sis_sync.sync_state IS 'what the last applied run saw: the district''s ID, and how new the source was';

-- ---------------------------------------------------------------------------
-- Log
-- ---------------------------------------------------------------------------

CREATE TABLE sis_sync.run (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  kind text NOT NULL DEFAULT 'sync' CHECK (kind OPERATOR(pg_catalog.=) ANY (
    ARRAY['sync', 'undo', 'rekey'])),
  of_run bigint,
  undone_by bigint,
  started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished_at timestamptz,
  status text NOT NULL DEFAULT 'running' CHECK (status OPERATOR(pg_catalog.=) ANY (
    ARRAY['running', 'succeeded', 'failed', 'interrupted'])),
  phase text NOT NULL DEFAULT 'stage' CHECK (phase OPERATOR(pg_catalog.=) ANY (
    ARRAY['stage', 'staged', 'verify', 'verified', 'apply', 'applied', 'archive', 'done'])),
  dry_run boolean NOT NULL DEFAULT false,
  reason text,
  error_code text,
  message text,
  detail text,
  hint text,
  note text,
  run_by text NOT NULL DEFAULT SESSION_USER,
  source_as_of timestamptz,
  district_id text,
  options_hash bigint
);
CREATE INDEX run_sync_id_idx ON sis_sync.run (sync, id);
COMMENT ON TABLE sis_sync.run IS 'one row per run: how it went, and in whose words it failed';
COMMENT ON COLUMN sis_sync.run.kind IS 'sync: from the source; undo: puts back what another run did; rekey: gives records the new IDs that another run found';
COMMENT ON COLUMN sis_sync.run.of_run IS 'the run that an undo or a rekey is about';
COMMENT ON COLUMN sis_sync.run.undone_by IS 'the undo that put back all of this run, while that stands';
COMMENT ON COLUMN sis_sync.run.phase IS 'the last step reached: stage, staged, verify, verified, apply, applied, archive, done';
COMMENT ON COLUMN sis_sync.run.reason IS 'the failing reason in words, such as Threshold; NULL when it did not fail';
COMMENT ON COLUMN sis_sync.run.note IS 'what a reader should know of a run that did not fail';

CREATE TABLE sis_sync.run_count (
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  record_type text NOT NULL,
  offered text NOT NULL DEFAULT 'missing' CHECK (offered OPERATOR(pg_catalog.=) ANY (
    ARRAY['missing', 'absent', 'full', 'delta'])),
  rows_read bigint NOT NULL DEFAULT 0,
  received bigint NOT NULL DEFAULT 0,
  out_of_scope bigint NOT NULL DEFAULT 0,
  rejected bigint NOT NULL DEFAULT 0,
  unreadable bigint NOT NULL DEFAULT 0,
  created bigint NOT NULL DEFAULT 0,
  updated bigint NOT NULL DEFAULT 0,
  unchanged bigint NOT NULL DEFAULT 0,
  restored bigint NOT NULL DEFAULT 0,
  manual bigint NOT NULL DEFAULT 0,
  frozen bigint NOT NULL DEFAULT 0,
  to_archive bigint NOT NULL DEFAULT 0,
  archived bigint NOT NULL DEFAULT 0,
  in_force bigint NOT NULL DEFAULT 0,
  allowed bigint NOT NULL DEFAULT 0,
  staged_rows bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (run_id, record_type)
);
COMMENT ON TABLE sis_sync.run_count IS 'what a run did, by record type';
COMMENT ON COLUMN sis_sync.run_count.offered IS 'full: what is not in the source is gone; delta: what is not in it has not changed; absent: the source says it has none of this type; missing: it says nothing';
COMMENT ON COLUMN sis_sync.run_count.received IS 'distinct records received';
COMMENT ON COLUMN sis_sync.run_count.out_of_scope IS 'received records of schools that are not set up';
COMMENT ON COLUMN sis_sync.run_count.unreadable IS 'rejected rows whose ID cannot be read: while there is one, the type archives nothing';
COMMENT ON COLUMN sis_sync.run_count.manual IS 'received records that belong to the application (sis_managed = false): left alone';
COMMENT ON COLUMN sis_sync.run_count.frozen IS 'stored records none of whose schools is set up any more: left alone, in no other count';
COMMENT ON COLUMN sis_sync.run_count.to_archive IS 'A: records in force that are gone and count against the threshold';
COMMENT ON COLUMN sis_sync.run_count.in_force IS 'N: SIS-managed, unarchived records in scope that have not ended';
COMMENT ON COLUMN sis_sync.run_count.allowed IS 'how many of them may be archived';
COMMENT ON COLUMN sis_sync.run_count.staged_rows IS 'rows left in the staging table; compared before every later step';

CREATE TABLE sis_sync.run_school (
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  school_source_id text COLLATE "C" NOT NULL,
  record_type text NOT NULL,
  to_archive bigint NOT NULL DEFAULT 0,
  in_force bigint NOT NULL DEFAULT 0,
  percent numeric NOT NULL,
  allowed bigint NOT NULL DEFAULT 0,
  tripped boolean NOT NULL DEFAULT false,
  PRIMARY KEY (run_id, school_source_id, record_type)
);
COMMENT ON TABLE sis_sync.run_school IS 'the threshold judged in each school that would lose a record';

CREATE TABLE sis_sync.reject (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  record_type text NOT NULL,
  source text NOT NULL,
  line bigint,
  source_id text COLLATE "C",
  column_name text,
  reason text NOT NULL,
  loaded boolean NOT NULL DEFAULT false,
  "row" jsonb
);
CREATE INDEX reject_run_id_idx ON sis_sync.reject (run_id, record_type);
COMMENT ON TABLE sis_sync.reject IS 'rows that were not taken, and notes on rows that were';
COMMENT ON COLUMN sis_sync.reject.loaded IS 'true: only a note, the row was taken';

CREATE TABLE sis_sync.change (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  record_type text NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  action text NOT NULL CHECK (action OPERATOR(pg_catalog.=) ANY (ARRAY['update', 'restore', 'archive', 'rekey'])),
  reason text,
  before jsonb NOT NULL,
  row_run bigint,
  row_fingerprint bigint
);
CREATE INDEX change_run_id_idx ON sis_sync.change (run_id, record_type, source_id);
COMMENT ON TABLE sis_sync.change IS 'previous values of what a run updated, restored, archived or gave a new ID; what it created is told by created_run of the roster''s row, and what an undo archived of that by archived_run';
COMMENT ON COLUMN sis_sync.change.row_run IS 'the run that the row names as its last since this change (archived_run of an archived row, else updated_run): another one there means that the row was changed again';
COMMENT ON COLUMN sis_sync.change.row_fingerprint IS 'the row''s fingerprint since this change: NULL in the row alone means that the row was edited by hand';

CREATE TABLE sis_sync.pending_archive (
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  record_type text NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  school_source_id text COLLATE "C",
  reason text NOT NULL,
  PRIMARY KEY (run_id, record_type, source_id)
);
COMMENT ON TABLE sis_sync.pending_archive IS 'the exact records that a tripped threshold held back';

CREATE TABLE sis_sync.approval (
  run_id bigint PRIMARY KEY REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  reason text NOT NULL CHECK (pg_catalog.btrim(reason) OPERATOR(pg_catalog.<>) ''),
  approved_by text NOT NULL,
  approved_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  expires_at timestamptz NOT NULL
    DEFAULT pg_catalog.now() OPERATOR(pg_catalog.+) '7 days'::pg_catalog.interval,
  spent_run bigint,
  spent_at timestamptz
);
CREATE INDEX approval_sync_idx ON sis_sync.approval (sync, run_id);
COMMENT ON TABLE sis_sync.approval IS 'who let the records in pending_archive of a run go, when and why; made by approve()';
COMMENT ON COLUMN sis_sync.approval.expires_at IS 'from then on it counts no more';
COMMENT ON COLUMN sis_sync.approval.spent_run IS 'the run that used it: an approval counts once';

CREATE TABLE sis_sync.rekey_pair (
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  record_type text NOT NULL,
  old_source_id text COLLATE "C" NOT NULL,
  new_source_id text COLLATE "C" NOT NULL,
  matched_on text NOT NULL,
  PRIMARY KEY (run_id, record_type, old_source_id),
  UNIQUE (run_id, record_type, new_source_id)
);
COMMENT ON TABLE sis_sync.rekey_pair IS 'records that are gone and their twins among the new ones, where IDs seem to have changed (SI011)';
COMMENT ON COLUMN sis_sync.rekey_pair.matched_on IS 'what both have, and nobody else';

CREATE TABLE sis_sync.skipped (
  run_id bigint NOT NULL REFERENCES sis_sync.run (id) ON DELETE CASCADE,
  record_type text NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (run_id, record_type, source_id)
);
COMMENT ON TABLE sis_sync.skipped IS 'records that an undo or a rekey left as they are, and why';

-- A package of changes names a deletion once; held back, it must not be lost.
CREATE TABLE sis_sync.pending_delete (
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  record_type text NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  run_id bigint NOT NULL,
  moved boolean NOT NULL DEFAULT false,
  school_source_id text COLLATE "C",
  school_source_ids text[] COLLATE "C",
  PRIMARY KEY (sync, record_type, source_id)
);
COMMENT ON TABLE sis_sync.pending_delete IS 'deletions that a delta package need not name again and that have not been carried out: they wait until they are, or the record is seen active';
COMMENT ON COLUMN sis_sync.pending_delete.moved IS 'it has not been deleted but is at these schools now, none of which was set up';

-- ---------------------------------------------------------------------------
-- Staging: sixteen slots, each an unlogged partition of every record type
-- ---------------------------------------------------------------------------

CREATE TABLE sis_sync.stage_slot (
  slot smallint PRIMARY KEY,
  run_id bigint,
  sync text REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE SET NULL,
  pinned boolean NOT NULL DEFAULT false,
  taken_at timestamptz
);
INSERT INTO sis_sync.stage_slot (slot)
  SELECT pg_catalog.generate_series(0, 15);
COMMENT ON TABLE sis_sync.stage_slot IS 'which run''s rows stand in which staging partition';
COMMENT ON COLUMN sis_sync.stage_slot.pinned IS 'kept to be looked at until the sync''s next run, or until the slot is needed';

CREATE TYPE sis_sync.stage_status AS ENUM
  ('active', 'deleted', 'rejected', 'duplicate', 'part');
COMMENT ON TYPE sis_sync.stage_status IS 'what became of a staged row: active: a record of tonight; deleted: the source calls it deleted; rejected: not taken, a stored record of its ID is protected; duplicate: the same as, or lost to, another row of its ID; part: brought part of a record that stands in a row of its own';

CREATE FUNCTION sis_sync.create_staging_tables() RETURNS void
  AS 'MODULE_PATHNAME', 'sis_create_staging_tables' LANGUAGE C STRICT;
SELECT sis_sync.create_staging_tables();
DROP FUNCTION sis_sync.create_staging_tables();

CREATE VIEW sis_sync.rekey_twin AS
  SELECT p.run_id, r.sync, p.record_type, p.old_source_id, p.new_source_id, p.matched_on,
         s.given_name, s.family_name, s.source, s.line
  FROM sis_sync.rekey_pair p
  JOIN sis_sync.run r ON r.id OPERATOR(pg_catalog.=) p.run_id
  LEFT JOIN (
    SELECT 'student'::text AS record_type, run_id, status, source_id, given_name, family_name, source, line
    FROM sis_sync.stage_student
    UNION ALL
    SELECT 'staff'::text, run_id, status, source_id, given_name, family_name, source, line
    FROM sis_sync.stage_staff
  ) s ON s.run_id OPERATOR(pg_catalog.=) p.run_id
     AND s.record_type OPERATOR(pg_catalog.=) p.record_type
     AND s.source_id OPERATOR(pg_catalog.=) p.new_source_id
     AND s.status OPERATOR(pg_catalog.=) 'active';
COMMENT ON VIEW sis_sync.rekey_twin IS 'the pairs in rekey_pair with the names, files and lines of the new records, as long as their run''s staged rows stand';

-- ---------------------------------------------------------------------------
-- What guards the settings
-- ---------------------------------------------------------------------------

CREATE FUNCTION sis_sync.guard_sync() RETURNS trigger
  AS 'MODULE_PATHNAME', 'sis_guard_sync' LANGUAGE C;
CREATE TRIGGER guard_sync BEFORE INSERT OR UPDATE OR DELETE ON sis_sync.sync
  FOR EACH ROW EXECUTE FUNCTION sis_sync.guard_sync();
COMMENT ON FUNCTION sis_sync.guard_sync() IS 'trigger: a sync''s id never changes, a sync with records is not dropped, the time zone exists';

-- ---------------------------------------------------------------------------
-- Sources: one foreign-data wrapper per kind, each granted apart
-- ---------------------------------------------------------------------------

CREATE FUNCTION sis_sync.directory_validator(text[], oid) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_directory_validator' LANGUAGE C STRICT;
CREATE FUNCTION sis_sync.sftp_validator(text[], oid) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_sftp_validator' LANGUAGE C STRICT;
CREATE FUNCTION sis_sync.clever_validator(text[], oid) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_clever_validator' LANGUAGE C STRICT;
CREATE FUNCTION sis_sync.oneroster_validator(text[], oid) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_oneroster_validator' LANGUAGE C STRICT;
CREATE FUNCTION sis_sync.classlink_validator(text[], oid) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_classlink_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.directory_validator(text[], oid) IS 'checks the options of sis_directory';
COMMENT ON FUNCTION sis_sync.sftp_validator(text[], oid) IS 'checks the options of sis_sftp';
COMMENT ON FUNCTION sis_sync.clever_validator(text[], oid) IS 'checks the options of sis_clever';
COMMENT ON FUNCTION sis_sync.oneroster_validator(text[], oid) IS 'checks the options of sis_oneroster';
COMMENT ON FUNCTION sis_sync.classlink_validator(text[], oid) IS 'checks the options of sis_classlink';

CREATE FOREIGN DATA WRAPPER sis_directory VALIDATOR sis_sync.directory_validator;
CREATE FOREIGN DATA WRAPPER sis_sftp VALIDATOR sis_sync.sftp_validator;
CREATE FOREIGN DATA WRAPPER sis_clever VALIDATOR sis_sync.clever_validator;
CREATE FOREIGN DATA WRAPPER sis_oneroster VALIDATOR sis_sync.oneroster_validator;
CREATE FOREIGN DATA WRAPPER sis_classlink VALIDATOR sis_sync.classlink_validator;
COMMENT ON FOREIGN DATA WRAPPER sis_directory IS 'CSV files in a folder on the database host';
COMMENT ON FOREIGN DATA WRAPPER sis_sftp IS 'CSV files on an SFTP site';
COMMENT ON FOREIGN DATA WRAPPER sis_clever IS 'the Clever API';
COMMENT ON FOREIGN DATA WRAPPER sis_oneroster IS 'a OneRoster REST service';
COMMENT ON FOREIGN DATA WRAPPER sis_classlink IS 'ClassLink''s OneRoster service';

-- ---------------------------------------------------------------------------
-- Functions and procedures.  SECURITY INVOKER: the roster is written with the
-- caller's rights; C code does settings, staging and log as the owner.
-- ---------------------------------------------------------------------------

CREATE FUNCTION sis_sync.create_roster(schema text) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_create_roster' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.create_roster(text) IS 'makes the application''s roster tables in a new schema, owned by the caller';

CREATE FUNCTION sis_sync.upgrade_roster(schema text) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_upgrade_roster' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.upgrade_roster(text) IS 'adds to a roster what this version needs';

CREATE FUNCTION sis_sync.stage(sync text) RETURNS bigint
  AS 'MODULE_PATHNAME', 'sis_stage' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.stage(text) IS 'step 1 of a run: reads the source into the staging tables; returns the run';

CREATE FUNCTION sis_sync.verify(run bigint) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_verify' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.verify(bigint) IS 'step 2: judges what was staged; a coming trip of the threshold is only reported';

CREATE FUNCTION sis_sync.apply(run bigint) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_apply' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.apply(bigint) IS 'step 3: creates, updates and restores';

CREATE FUNCTION sis_sync.archive(run bigint) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_archive' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.archive(bigint) IS 'step 4: archives what left, or raises SI001';

CREATE FUNCTION sis_sync.run_atomic(sync text) RETURNS bigint
  AS 'MODULE_PATHNAME', 'sis_run_atomic' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.run_atomic(text) IS 'all four steps in the caller''s transaction, which any error aborts; returns the run';

CREATE PROCEDURE sis_sync.run(sync text, dry_run boolean DEFAULT false)
  AS 'MODULE_PATHNAME', 'sis_run' LANGUAGE C;
COMMENT ON PROCEDURE sis_sync.run(text, boolean) IS 'runs a sync, committing between its phases; ends in a named error when it fails';

CREATE FUNCTION sis_sync.preview(run bigint)
  RETURNS TABLE (record_type text, source_id text, action text, reason text, changes jsonb)
  AS 'MODULE_PATHNAME', 'sis_preview' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.preview(bigint) IS 'what the rows staged by a run would do to the roster as it is: each record, its action, and the fields that differ, old and new';

CREATE FUNCTION sis_sync.explain_failure(run bigint) RETURNS text
  AS 'MODULE_PATHNAME', 'sis_explain_failure' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.explain_failure(bigint) IS 'a run''s end in words: what happened, who it is about, what likely caused it, and the statements to type next';

-- Not STRICT: a NULL must not pass for a decision.
CREATE FUNCTION sis_sync.approve(run bigint, reason text) RETURNS void
  AS 'MODULE_PATHNAME', 'sis_approve' LANGUAGE C;
COMMENT ON FUNCTION sis_sync.approve(bigint, text) IS 'lets exactly the records that a run held back go, once and within seven days';

CREATE PROCEDURE sis_sync.rekey(run bigint)
  AS 'MODULE_PATHNAME', 'sis_rekey' LANGUAGE C;
COMMENT ON PROCEDURE sis_sync.rekey(bigint) IS 'gives the twins that a run found (SI011) their new source_id in place';

CREATE PROCEDURE sis_sync.undo(run bigint, school text DEFAULT NULL, record_type text DEFAULT NULL)
  AS 'MODULE_PATHNAME', 'sis_undo' LANGUAGE C;
COMMENT ON PROCEDURE sis_sync.undo(bigint, text, text) IS 'puts back what a run did, or what it did in one school or to one record type';

-- ---------------------------------------------------------------------------
-- Rights: PUBLIC gets nothing
-- ---------------------------------------------------------------------------

REVOKE ALL ON SCHEMA sis_sync FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA sis_sync FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA sis_sync FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sis_sync FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA sis_sync FROM PUBLIC;

-- ---------------------------------------------------------------------------
-- What pg_dump carries: settings and log with their sequences, never staging
-- ---------------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('sis_sync.sync', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.sync_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.sync_school', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.sync_threshold', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.sync_state', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.run', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.run_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.run_count', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.run_school', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.reject', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.reject_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.change', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.change_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.pending_archive', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.pending_delete', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.approval', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.rekey_pair', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.skipped', '');
