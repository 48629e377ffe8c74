\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set common :abs_srcdir '/sql/include/common.psql'
\i :common
\set ECHO all
-- The four steps, run_atomic() and CALL run(): in order, out of order, and
-- where they cannot or must not run.
CREATE EXTENSION sis_sync;
SELECT sis_sync.create_roster('roster');
SELECT probe.add_sync('tiny', 'tiny-oneroster', ARRAY['0101', 'sch-b']);
CREATE FUNCTION probe.newest(name text) RETURNS bigint LANGUAGE sql AS
  $$ SELECT max(id) FROM sis_sync.run WHERE sync = name $$;
CREATE VIEW probe.roster AS
  SELECT (SELECT count(*) FROM roster.school WHERE archived_at IS NULL) AS schools,
         (SELECT count(*) FROM roster.section WHERE archived_at IS NULL) AS sections,
         (SELECT count(*) FROM roster.student WHERE archived_at IS NULL) AS students,
         (SELECT count(*) FROM roster.staff WHERE archived_at IS NULL) AS staff,
         (SELECT count(*) FROM roster.contact WHERE archived_at IS NULL) AS contacts,
         (SELECT count(*) FROM roster.enrollment WHERE archived_at IS NULL) AS enrollments;

-- ----------
-- In order, each in a transaction of its own
-- ----------

SELECT sis_sync.stage('tiny') AS run \gset
SELECT probe.last_run('tiny');
SELECT record_type, read, received FROM probe.counts('tiny') WHERE read > 0;
-- what came can be looked at by file and line
SELECT source, line, source_id, given_name, school_source_ids FROM sis_sync.stage_student
WHERE run_id = :run ORDER BY source, line LIMIT 3;
TABLE probe.roster;
SELECT sis_sync.verify(:run);
SELECT probe.last_run('tiny');
TABLE probe.roster;
SELECT sis_sync.apply(:run);
SELECT probe.last_run('tiny');
TABLE probe.roster;
SELECT sis_sync.archive(:run);
SELECT probe.last_run('tiny');
SELECT * FROM probe.counts('tiny');
-- of a school that is not set up nothing is taken
SELECT source_id, school_source_id FROM roster.student WHERE school_source_id = 'sch-c' OR source_id LIKE 'stu-c%';
SELECT source_id, app_school FROM roster.school ORDER BY source_id;
-- nobody out of scope stays in staging
SELECT count(*) FROM sis_sync.stage_student WHERE run_id = :run AND source_id = 'stu-c1';

-- ----------
-- Out of order
-- ----------

-- a run that has ended
SELECT probe.error_of(format('SELECT sis_sync.%I(%s)', s, :run))
FROM unnest(ARRAY['verify', 'apply', 'archive']) s;
-- one that is staged only
SELECT sis_sync.stage('tiny') AS run \gset
SELECT probe.error_of(format('SELECT sis_sync.apply(%s)', :run));
SELECT probe.error_of(format('SELECT sis_sync.archive(%s)', :run));
SELECT sis_sync.verify(:run);
SELECT probe.error_of(format('SELECT sis_sync.verify(%s)', :run));
SELECT probe.error_of(format('SELECT sis_sync.archive(%s)', :run));
SELECT sis_sync.apply(:run);
SELECT probe.error_of(format('SELECT sis_sync.apply(%s)', :run));
-- not the newest one
SELECT sis_sync.stage('tiny') AS newer \gset
SELECT left(probe.error_of(format('SELECT sis_sync.archive(%s)', :run)), 5) AS state;
SELECT id = :newer AS newest, status, phase FROM sis_sync.run WHERE id IN (:run, :newer) ORDER BY id;
-- a run that does not exist, a sync that does not, none at all
SELECT left(probe.error_of('SELECT sis_sync.verify(9999)'), 5) AS state;
SELECT probe.error_of($$SELECT sis_sync.stage('nobody')$$);
SELECT probe.error_of($$SELECT sis_sync.run_atomic('nobody')$$);
CALL sis_sync.run('nobody');
\echo :LAST_ERROR_SQLSTATE
CALL sis_sync.run(NULL);
\echo :LAST_ERROR_SQLSTATE

-- ----------
-- run_atomic(): all or nothing, in the caller's transaction
-- ----------

SELECT sis_sync.run_atomic('tiny') = probe.newest('tiny') AS returns_the_run;
SELECT probe.last_run('tiny');
SELECT record_type, created, updated, unchanged, archived, in_force FROM probe.counts('tiny') WHERE read > 0;
BEGIN;
UPDATE roster.student SET given_name = 'Nobody' WHERE source_id = 'stu-a1';
SELECT sis_sync.run_atomic('tiny') > 0 AS ran;
SELECT given_name FROM roster.student WHERE source_id = 'stu-a1';
SELECT record_type, updated FROM probe.counts('tiny') WHERE updated > 0;
SELECT probe.newest('tiny') AS inside \gset
ROLLBACK;
SELECT count(*) FROM sis_sync.run WHERE id = :inside;
-- the steps too, in one transaction
BEGIN;
SELECT sis_sync.stage('tiny') AS run \gset
SELECT sis_sync.verify(:run), sis_sync.apply(:run), sis_sync.archive(:run);
COMMIT;
SELECT probe.last_run('tiny');

-- ----------
-- CALL run(): a statement of its own
-- ----------

SELECT probe.newest('tiny') AS before \gset
CREATE FUNCTION probe.call_it() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL sis_sync.run('tiny'); END $$;
CREATE PROCEDURE probe.call_it_by_procedure() LANGUAGE plpgsql AS $$ BEGIN CALL sis_sync.run('tiny'); END $$;
CREATE PROCEDURE probe.call_it_with_setting() LANGUAGE plpgsql SET work_mem = '4MB' AS $$ BEGIN CALL sis_sync.run('tiny'); END $$;
CREATE PROCEDURE probe.call_it_as_definer() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN CALL sis_sync.run('tiny'); END $$;
BEGIN;
\set VERBOSITY default
\set SHOW_CONTEXT never
CALL sis_sync.run('tiny');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
ROLLBACK;
BEGIN;
CALL sis_sync.run('tiny', dry_run => true);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT probe.call_it();
\echo :LAST_ERROR_SQLSTATE
DO $$ BEGIN CALL sis_sync.run('tiny'); EXCEPTION WHEN no_data_found THEN NULL; END $$;
\echo :LAST_ERROR_SQLSTATE
DO $$ BEGIN PERFORM probe.call_it(); END $$;
\echo :LAST_ERROR_SQLSTATE
CALL probe.call_it_with_setting();
\echo :LAST_ERROR_SQLSTATE
CALL probe.call_it_as_definer();
\echo :LAST_ERROR_SQLSTATE
-- a string of several statements is one transaction
SELECT 1 AS one \; CALL sis_sync.run('tiny');
\echo :LAST_ERROR_SQLSTATE
CALL sis_sync.run('tiny') \; SELECT 1 AS one;
\echo :LAST_ERROR_SQLSTATE
-- it was refused before anything was done
SELECT probe.newest('tiny') = :before AS nothing_done;

-- where it can commit it runs
DO $$ BEGIN CALL sis_sync.run('tiny'); END $$;
SELECT probe.newest('tiny') > :before AS ran, probe.last_run('tiny');
CALL probe.call_it_by_procedure();
SELECT probe.last_run('tiny');
CALL sis_sync.run(sync => 'tiny', dry_run => false);
SELECT probe.last_run('tiny');
-- whatever the session's defaults are
SET default_transaction_isolation = 'serializable';
SET default_transaction_read_only = on;
CALL sis_sync.run('tiny');
RESET default_transaction_read_only;
RESET default_transaction_isolation;
SELECT probe.last_run('tiny');

-- a dry run ends as the real one would, and changes nothing
SELECT probe.read_folder('tiny', 'school-emptied');
CALL sis_sync.run('tiny', dry_run => true);
\echo :LAST_ERROR_SQLSTATE
SELECT probe.last_run('tiny');
SELECT count(*) FROM sis_sync.pending_archive WHERE run_id = probe.newest('tiny') AND record_type = 'student';
TABLE probe.roster;
-- nor does run_atomic(), or the steps in one transaction; in four, creates and updates stay
UPDATE roster.student SET given_name = 'Nobody' WHERE source_id = 'stu-a1';
SELECT left(probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$), 5) AS state;
SELECT given_name FROM roster.student WHERE source_id = 'stu-a1';
SELECT sis_sync.stage('tiny') AS run \gset
SELECT sis_sync.verify(:run);
SELECT count(*) > 0 AS reported FROM sis_sync.run_school WHERE run_id = :run AND tripped;
SELECT sis_sync.apply(:run);
SELECT given_name FROM roster.student WHERE source_id = 'stu-a1';
SELECT left(probe.error_of(format('SELECT sis_sync.archive(%s)', :run)), 5) AS state;
TABLE probe.roster;
-- CALL keeps them, too
UPDATE roster.student SET given_name = 'Nobody' WHERE source_id = 'stu-a1';
CALL sis_sync.run('tiny');
\echo :LAST_ERROR_SQLSTATE
SELECT probe.last_run('tiny');
SELECT given_name FROM roster.student WHERE source_id = 'stu-a1';
TABLE probe.roster;
-- the way on that the hint names
INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('tiny', 'student', 100);
CALL sis_sync.run('tiny');
SELECT probe.last_run('tiny');
TABLE probe.roster;
SELECT record_type, to_archive, archived FROM probe.counts('tiny') WHERE archived > 0;
SELECT source_id, archived_reason FROM roster.student WHERE archived_at IS NOT NULL ORDER BY source_id;
-- and back
SELECT probe.read_folder('tiny', 'tiny-oneroster');
CALL sis_sync.run('tiny');
SELECT record_type, created, restored, archived FROM probe.counts('tiny') WHERE restored > 0 OR created > 0 OR archived > 0;
TABLE probe.roster;

-- ----------
-- Not configured
-- ----------

-- no schools
INSERT INTO sis_sync.sync (name, server) VALUES ('bare', 'tiny');
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
CALL sis_sync.run('bare');
\echo :LAST_ERROR_SQLSTATE
SELECT probe.last_run('bare');
-- no server
UPDATE sis_sync.sync SET server = 'gone', all_schools = true WHERE name = 'bare';
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
CALL sis_sync.run('bare');
SELECT probe.last_run('bare');
-- a server of somebody else's
CREATE FOREIGN DATA WRAPPER regress_sis_other;
CREATE SERVER gone FOREIGN DATA WRAPPER regress_sis_other;
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
DROP SERVER gone;
DROP FOREIGN DATA WRAPPER regress_sis_other;
-- no path
CREATE SERVER gone FOREIGN DATA WRAPPER sis_directory;
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
DROP SERVER gone;
-- no mapping, and one that says too little
CREATE SERVER gone FOREIGN DATA WRAPPER sis_clever;
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
CREATE USER MAPPING FOR PUBLIC SERVER gone OPTIONS (client_id 'hunter2hunter2');
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
CALL sis_sync.run('bare');
SELECT probe.last_run('bare');
DROP USER MAPPING FOR PUBLIC SERVER gone;
DROP SERVER gone;
CREATE FUNCTION probe.with_wrapper(wrapper text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  verdict text;
BEGIN
  EXECUTE format('CREATE SERVER gone FOREIGN DATA WRAPPER %I', wrapper);
  CREATE USER MAPPING FOR PUBLIC SERVER gone;
  verdict := split_part(probe.error_of($s$SELECT sis_sync.stage('bare')$s$), E'\n', 2);
  DROP USER MAPPING FOR PUBLIC SERVER gone;
  DROP SERVER gone;
  RETURN verdict;
END $$;
SELECT w, probe.with_wrapper(w) FROM unnest(ARRAY['sis_classlink', 'sis_clever', 'sis_oneroster', 'sis_sftp']) w;
-- no roster, and one that lacks something
UPDATE sis_sync.sync SET server = 'tiny', target_schema = 'nowhere' WHERE name = 'bare';
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
UPDATE sis_sync.sync SET target_schema = 'roster' WHERE name = 'bare';
BEGIN;
DROP TRIGGER forget_fingerprint ON roster.enrollment;
ALTER TABLE roster.enrollment DROP COLUMN fingerprint;
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
ROLLBACK;
BEGIN;
DROP TRIGGER forget_fingerprint ON roster.term;
ALTER TABLE roster.term ALTER COLUMN school_year TYPE varchar(20);
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
ROLLBACK;
BEGIN;
ALTER TABLE roster.contact RENAME TO guardian;
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
ROLLBACK;
BEGIN;
ALTER TABLE roster.contact RENAME TO guardian;
CREATE VIEW roster.contact AS SELECT * FROM roster.guardian;
SELECT probe.error_of($$SELECT sis_sync.stage('bare')$$);
ROLLBACK;

-- ----------
-- Rights
-- ----------

CREATE ROLE regress_sis_runner;
GRANT USAGE ON SCHEMA probe TO regress_sis_runner;
SET ROLE regress_sis_runner;
SELECT left(probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$), 5) AS state;
RESET ROLE;
GRANT USAGE ON SCHEMA sis_sync TO regress_sis_runner;
SET ROLE regress_sis_runner;
SELECT probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$);
CALL sis_sync.run('tiny');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION sis_sync.run_atomic(text), sis_sync.stage(text), sis_sync.verify(bigint), sis_sync.apply(bigint), sis_sync.archive(bigint) TO regress_sis_runner;
GRANT EXECUTE ON PROCEDURE sis_sync.run(text, boolean) TO regress_sis_runner;
-- USAGE on the server; who lacks it leaves no trace in the log
SELECT probe.newest('tiny') AS before \gset
SET ROLE regress_sis_runner;
SELECT probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$);
CALL sis_sync.run('tiny');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT probe.newest('tiny') = :before AS not_logged;
SELECT sis_sync.stage('tiny') AS run \gset
SET ROLE regress_sis_runner;
SELECT probe.error_of(format('SELECT sis_sync.verify(%s)', :run));
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER tiny TO regress_sis_runner;
-- the roster
SET ROLE regress_sis_runner;
SELECT probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$);
RESET ROLE;
GRANT USAGE ON SCHEMA roster TO regress_sis_runner;
GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA roster TO regress_sis_runner;
SET ROLE regress_sis_runner;
SELECT probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$);
RESET ROLE;
GRANT INSERT ON ALL TABLES IN SCHEMA roster TO regress_sis_runner;
-- row security is an error, never a filter
ALTER TABLE roster.student ENABLE ROW LEVEL SECURITY;
SET ROLE regress_sis_runner;
SELECT probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$);
RESET ROLE;
ALTER TABLE roster.student DISABLE ROW LEVEL SECURITY;
-- no more than these; settings, log and staging stay out of reach
SET ROLE regress_sis_runner;
CALL sis_sync.run('tiny');
SELECT sis_sync.run_atomic('tiny') > 0 AS ran;
SELECT sis_sync.stage('tiny') AS run \gset
SELECT sis_sync.verify(:run);
SELECT sis_sync.apply(:run);
SELECT sis_sync.archive(:run);
SELECT probe.refusal_of('SELECT FROM sis_sync.run');
SELECT probe.refusal_of('SELECT FROM sis_sync.stage_student');
SELECT probe.refusal_of('UPDATE sis_sync.sync SET deletion_threshold = 100');
RESET ROLE;
SELECT probe.last_run('tiny');
SELECT DISTINCT run_by = 'regress_sis_runner' AS hers FROM sis_sync.run WHERE id >= :run;
-- a mapping of another role's is none of hers
CREATE SERVER far FOREIGN DATA WRAPPER sis_sftp;
CREATE ROLE regress_sis_other;
CREATE USER MAPPING FOR regress_sis_other SERVER far OPTIONS (password 'hunter2hunter2');
GRANT USAGE ON FOREIGN SERVER far TO regress_sis_runner;
UPDATE sis_sync.sync SET server = 'far' WHERE name = 'tiny';
SET ROLE regress_sis_runner;
SELECT probe.error_of($$SELECT sis_sync.run_atomic('tiny')$$);
RESET ROLE;

-- ----------
-- Clever's layout goes the same way
-- ----------

SELECT probe.add_sync('clever', 'tiny-clever');
CALL sis_sync.run('clever');
SELECT record_type, read, received, rejected, created FROM probe.counts('clever');
CALL sis_sync.run('clever');
SELECT record_type, created, updated, unchanged, archived FROM probe.counts('clever') WHERE read > 0;

SET client_min_messages = warning;
DROP EXTENSION sis_sync CASCADE;
DROP SCHEMA roster, probe CASCADE;
DROP OWNED BY regress_sis_runner, regress_sis_other;
DROP ROLE regress_sis_runner, regress_sis_other;
