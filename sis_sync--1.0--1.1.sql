/* sis_sync--1.0--1.1.sql: what ALTER EXTENSION UPDATE makes of version 1.0 */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION sis_sync UPDATE TO '1.1'" to load this file. \quit

-- The result is the same as that of sis_sync--1.1.sql to the last comment, and
-- test/t/263_upgrade.pl compares them: what comes new there comes here as well.

-- ---------------------------------------------------------------------------
-- Settings
-- ---------------------------------------------------------------------------

ALTER TABLE sis_sync.sync
  DROP CONSTRAINT sync_name_check,
  ADD CONSTRAINT sync_name_check
    CHECK (name OPERATOR(pg_catalog.<>) '' AND name OPERATOR(pg_catalog.!~) '[\u0001-\u001f\u007f-\u009f]'),
  ADD CONSTRAINT sync_server_check CHECK (server OPERATOR(pg_catalog.!~) '[\u0001-\u001f\u007f-\u009f]'),
  ADD CONSTRAINT sync_target_schema_check CHECK (target_schema OPERATOR(pg_catalog.!~) '[\u0001-\u001f\u007f-\u009f]');
ALTER TABLE sis_sync.sync
  ADD COLUMN run_every interval CHECK (run_every OPERATOR(pg_catalog.>) '0'::pg_catalog.interval
                            AND run_every OPERATOR(pg_catalog.<=) '366 days'::pg_catalog.interval
                            -- no negative part: times it a large number, a month less 29 days leaves the calendar
                            AND pg_catalog.date_part('year', run_every) OPERATOR(pg_catalog.>=) 0
                            AND pg_catalog.date_part('month', run_every) OPERATOR(pg_catalog.>=) 0
                            AND pg_catalog.date_part('day', run_every) OPERATOR(pg_catalog.>=) 0
                            AND pg_catalog.date_part('epoch', run_every OPERATOR(pg_catalog.-)
                                  pg_catalog.date_trunc('day', run_every)) OPERATOR(pg_catalog.>=) 0),
  ADD COLUMN next_run_at timestamptz
      CHECK (next_run_at OPERATOR(pg_catalog.>=) '2000-01-01 00:00+00'::pg_catalog.timestamptz),
  ADD COLUMN update_threshold numeric
      CHECK (update_threshold OPERATOR(pg_catalog.>=) 0
             AND update_threshold OPERATOR(pg_catalog.<=) 100),
  ADD COLUMN creep_threshold numeric
      CHECK (creep_threshold OPERATOR(pg_catalog.>=) 0
             AND creep_threshold OPERATOR(pg_catalog.<=) 100),
  ADD COLUMN creep_days integer NOT NULL DEFAULT 30
      CHECK (creep_days OPERATOR(pg_catalog.>=) 1
             AND creep_days OPERATOR(pg_catalog.<=) 366),
  ADD COLUMN hold text NOT NULL DEFAULT 'sync'
      CHECK (hold OPERATOR(pg_catalog.=) ANY (ARRAY['sync', 'school'])),
  ADD COLUMN keep_emptied_columns boolean NOT NULL DEFAULT false,
  ADD COLUMN max_age_hours integer CHECK (max_age_hours OPERATOR(pg_catalog.>) 0
                               AND max_age_hours OPERATOR(pg_catalog.<=) 87600),
  ADD COLUMN keep_values interval NOT NULL DEFAULT '30 days'
      CHECK (keep_values OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval
             AND ('2000-01-01'::pg_catalog.timestamp OPERATOR(pg_catalog.-) keep_values)
                 OPERATOR(pg_catalog.>=) '1000-01-01'::pg_catalog.timestamp),
  ADD COLUMN keep_staged interval NOT NULL DEFAULT '7 days'
      CHECK (keep_staged OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval
             AND ('2000-01-01'::pg_catalog.timestamp OPERATOR(pg_catalog.-) keep_staged)
                 OPERATOR(pg_catalog.>=) '1000-01-01'::pg_catalog.timestamp);
COMMENT ON COLUMN sis_sync.sync.run_every IS 'run_due() runs it so often, at the same time of day in its time zone; NULL: only by hand';
COMMENT ON COLUMN sis_sync.sync.next_run_at IS 'the time it is next due; in the past until a run that is not to be tried again soon; NULL: now; infinity: paused';
COMMENT ON COLUMN sis_sync.sync.update_threshold IS 'percent of the records in force of a type that a run may update (min_allowed always may); NULL: any';
COMMENT ON COLUMN sis_sync.sync.creep_threshold IS 'percent of what was in force creep_days ago that may be archived in these days together; NULL: any';
COMMENT ON COLUMN sis_sync.sync.creep_days IS 'over how many days creep_threshold adds up';
COMMENT ON COLUMN sis_sync.sync.hold IS 'what a tripped threshold holds back: sync: everything; school: what belongs to the schools that tripped, unless the district did';
COMMENT ON COLUMN sis_sync.sync.keep_emptied_columns IS 'true: a column that was filled in most records and comes empty keeps its values until emptied_column says that this is accepted';
COMMENT ON COLUMN sis_sync.sync.max_age_hours IS 'a source older than this is warned of; NULL: never';
COMMENT ON COLUMN sis_sync.sync.timezone IS 'time zone whose date decides whether a term has ended, and whose time of day run_every keeps';
COMMENT ON COLUMN sis_sync.sync.keep_values IS 'how long previous values (change) and rejected rows (reject) are kept; later a run cannot be undone';
COMMENT ON COLUMN sis_sync.sync.keep_staged IS 'how long staged rows are kept, if nothing needs their place before';

ALTER TABLE sis_sync.sync_school
  DROP CONSTRAINT sync_school_school_id_check,
  ADD CONSTRAINT sync_school_school_id_check
    CHECK (pg_catalog.btrim(school_id) OPERATOR(pg_catalog.<>) '' AND school_id OPERATOR(pg_catalog.!~) '[\u0001-\u001f\u007f-\u009f]'),
  ADD COLUMN active boolean NOT NULL DEFAULT true,
  ADD COLUMN retired_run bigint;
COMMENT ON COLUMN sis_sync.sync_school.active IS 'false: it need not be in the data, and its records are left alone, as those of a school that is not set up';
COMMENT ON COLUMN sis_sync.sync_school.retired_run IS 'the run of retire_school() that made it inactive';

CREATE TABLE sis_sync.sync_window (
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  mode text NOT NULL CHECK (mode OPERATOR(pg_catalog.=) ANY (
    ARRAY['no_archive', 'adds_only', 'frozen'])),
  from_date date NOT NULL,
  to_date date NOT NULL,
  yearly boolean NOT NULL DEFAULT false,
  PRIMARY KEY (sync, mode, from_date),
  CHECK (to_date OPERATOR(pg_catalog.>=) from_date),
  CONSTRAINT sync_window_within_a_year CHECK (NOT yearly OR (
    pg_catalog.isfinite(from_date) AND pg_catalog.isfinite(to_date)
    AND to_date OPERATOR(pg_catalog.<) (from_date OPERATOR(pg_catalog.+) '1 year'::pg_catalog.interval)))
);
COMMENT ON TABLE sis_sync.sync_window IS 'from when to when a sync does less than usual; where windows overlap, the strictest holds';
COMMENT ON COLUMN sis_sync.sync_window.mode IS 'no_archive: creates and updates only; adds_only: creates and restores only; frozen: nothing, the source is not even asked';
COMMENT ON COLUMN sis_sync.sync_window.from_date IS 'the first day, in the sync''s time zone';
COMMENT ON COLUMN sis_sync.sync_window.to_date IS 'the last day; it still belongs to the window';
COMMENT ON COLUMN sis_sync.sync_window.yearly IS 'true: the same days of every later year as well';

CREATE TABLE sis_sync.emptied_column (
  sync text NOT NULL REFERENCES sis_sync.sync (name) ON UPDATE CASCADE ON DELETE CASCADE,
  record_type text NOT NULL,
  column_name text NOT NULL,
  since_run bigint,
  accepted boolean NOT NULL DEFAULT false,
  PRIMARY KEY (sync, record_type, column_name)
);
COMMENT ON TABLE sis_sync.emptied_column IS 'columns that were filled in most records and come empty (sync.keep_emptied_columns); a row goes when its column is filled again';
COMMENT ON COLUMN sis_sync.emptied_column.since_run IS 'the first run in which it came empty';
COMMENT ON COLUMN sis_sync.emptied_column.accepted IS 'false: the values on record are kept; set it to true to have them emptied';

-- ---------------------------------------------------------------------------
-- Log
-- ---------------------------------------------------------------------------

ALTER TABLE sis_sync.run
  ADD COLUMN erased bigint NOT NULL DEFAULT 0,
  ADD COLUMN purged_at timestamptz,
  DROP CONSTRAINT run_kind_check,
  ADD CONSTRAINT run_kind_check CHECK (kind OPERATOR(pg_catalog.=) ANY (
    ARRAY['sync', 'undo', 'rekey', 'retire', 'erase']));
CREATE INDEX run_not_purged_idx ON sis_sync.run (sync, started_at) WHERE purged_at IS NULL;
CREATE INDEX run_running_idx ON sis_sync.run (sync, id) WHERE status OPERATOR(pg_catalog.=) 'running';
CREATE INDEX run_failed_idx ON sis_sync.run (sync, id)
  WHERE status OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'interrupted']);
COMMENT ON COLUMN sis_sync.run.kind IS 'sync: from the source; undo: puts back what another run did; rekey: gives records the new IDs that another run found; retire: archives what is left of a school; erase: removes people';
COMMENT ON COLUMN sis_sync.run.erased IS 'how many of its rows in change were removed since, by erasing people: an undo cannot put those back';
COMMENT ON COLUMN sis_sync.run.purged_at IS 'when its rows in change and reject were removed, since they are kept no longer: from then on it cannot be undone';

ALTER TABLE sis_sync.run_count
  ADD COLUMN to_update bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN sis_sync.run_count.to_update IS 'records that the source has changed, updated or not';

ALTER VIEW sis_sync.rekey_twin RENAME TO rekey_match;
COMMENT ON TABLE sis_sync.rekey_pair IS 'records that are gone and their matches among the new ones, where IDs seem to have changed (SI011)';

-- ---------------------------------------------------------------------------
-- Watching: what goes on now, and how each sync stands
-- ---------------------------------------------------------------------------

-- SECURITY DEFINER: PostgreSQL shows a role the numbers of its own sessions
-- only; these are counts of runs, for whoever may look on (src/base/progress.c).
CREATE FUNCTION sis_sync.run_progress(OUT pid integer, OUT run_id bigint, OUT step bigint, OUT record_type bigint,
    OUT rows_done bigint, OUT rows_total bigint, OUT bytes_done bigint, OUT bytes_total bigint, OUT started_at timestamptz)
  RETURNS SETOF record
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT p.pid, p.param11, p.param12, p.param13, p.param3, p.param14, p.param1, p.param2,
           '2000-01-01 00:00:00+00'::timestamptz + p.param15 * '1 microsecond'::interval
    FROM pg_stat_get_progress_info('COPY') p
    JOIN pg_database d ON d.oid = p.datid
    WHERE d.datname = current_database() AND p.param12 > 0
  $$;
COMMENT ON FUNCTION sis_sync.run_progress() IS 'the numbers of sis_sync.progress, by process';

-- A run holds an advisory lock with its sync's ID that SQL cannot take (src/slot.c).
CREATE VIEW sis_sync.progress AS
  SELECT s.name AS sync, coalesce(p.run_id, r.id) AS run_id, l.pid,
         coalesce((ARRAY['fetch', 'stage', 'verify', 'apply', 'archive', 'undo', 'rekey', 'retire', 'erase'])[p.step],
                  CASE WHEN r.phase OPERATOR(pg_catalog.=) 'staged' THEN 'verify'
                       WHEN r.phase OPERATOR(pg_catalog.=) 'verified' THEN 'apply'
                       WHEN r.phase OPERATOR(pg_catalog.=) 'applied' THEN 'archive'
                       ELSE r.phase END) AS phase,
         (ARRAY['school', 'term', 'course', 'section', 'student', 'staff', 'contact',
                'student_contact', 'enrollment'])[p.record_type] AS record_type,
         p.rows_done, nullif(p.rows_total, 0) AS rows_total,
         p.bytes_done, nullif(p.bytes_total, 0) AS bytes_total,
         pg_catalog.round(
           CASE WHEN p.bytes_total OPERATOR(pg_catalog.>) 0
                THEN 100.0 OPERATOR(pg_catalog.*) least(p.bytes_done, p.bytes_total)::numeric
                     OPERATOR(pg_catalog./) p.bytes_total::numeric
                WHEN p.rows_total OPERATOR(pg_catalog.>) 0
                THEN 100.0 OPERATOR(pg_catalog.*) least(p.rows_done, p.rows_total)::numeric
                     OPERATOR(pg_catalog./) p.rows_total::numeric
           END, 1) AS percent,
         coalesce(r.started_at, p.started_at) AS started_at
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) l.database
   AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
  JOIN sis_sync.sync s ON (s.id OPERATOR(pg_catalog.&) 4294967295) OPERATOR(pg_catalog.=) l.objid::bigint
  LEFT JOIN sis_sync.run_progress() p ON p.pid OPERATOR(pg_catalog.=) l.pid
  LEFT JOIN LATERAL (
    SELECT r.* FROM sis_sync.run r
    WHERE r.sync OPERATOR(pg_catalog.=) s.name AND r.status OPERATOR(pg_catalog.=) 'running'
    ORDER BY r.id DESC LIMIT 1
  ) r ON r.id OPERATOR(pg_catalog.=) coalesce(p.run_id, r.id)
  WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted
    AND l.classid OPERATOR(pg_catalog.=) 1::oid AND l.objsubid OPERATOR(pg_catalog.=) 3::smallint;
COMMENT ON VIEW sis_sync.progress IS 'runs that go on now: what each is doing, and how much of that is done';

CREATE VIEW sis_sync.health AS
  SELECT s.name AS sync,
         EXISTS (SELECT 1 FROM pg_catalog.pg_locks l
                 JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) l.database
                  AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
                 WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted
                   AND l.classid OPERATOR(pg_catalog.=) 1::oid AND l.objsubid OPERATOR(pg_catalog.=) 3::smallint
                   AND l.objid::bigint OPERATOR(pg_catalog.=) (s.id OPERATOR(pg_catalog.&) 4294967295)) AS running,
         good.finished_at AS last_success,
         pg_catalog.now() OPERATOR(pg_catalog.-) good.finished_at AS age,
         good.id AS last_success_run,
         bad.finished_at AS last_failure,
         CASE WHEN bad.status OPERATOR(pg_catalog.=) 'interrupted' THEN 'Interrupted' ELSE bad.reason END AS reason,
         bad.error_code,
         bad.id AS last_failure_run,
         (SELECT pg_catalog.count(*) FROM sis_sync.run r
          WHERE r.sync OPERATOR(pg_catalog.=) s.name AND r.kind OPERATOR(pg_catalog.=) 'sync' AND NOT r.dry_run
            AND r.status OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'interrupted'])
            AND r.id OPERATOR(pg_catalog.>) coalesce(good.id, 0)) AS failures_in_a_row,
         unended.id AS unended_run,
         t.source_as_of,
         coalesce(t.source_as_of OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-)
           pg_catalog.make_interval(hours => s.max_age_hours)), false) AS source_too_old,
         held.records AS held_records,
         held.run_id AS held_run,
         held.approved AS held_approved
  FROM sis_sync.sync s
  LEFT JOIN sis_sync.sync_state t ON t.sync OPERATOR(pg_catalog.=) s.name
  LEFT JOIN LATERAL (
    SELECT r.id, r.finished_at FROM sis_sync.run r
    WHERE r.sync OPERATOR(pg_catalog.=) s.name AND r.kind OPERATOR(pg_catalog.=) 'sync' AND NOT r.dry_run
      AND r.status OPERATOR(pg_catalog.=) 'succeeded'
    ORDER BY r.id DESC LIMIT 1) good ON true
  LEFT JOIN LATERAL (
    SELECT r.id, r.finished_at, r.status, r.reason, r.error_code FROM sis_sync.run r
    WHERE r.sync OPERATOR(pg_catalog.=) s.name AND r.kind OPERATOR(pg_catalog.=) 'sync' AND NOT r.dry_run
      AND r.status OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'interrupted'])
    ORDER BY r.id DESC LIMIT 1) bad ON true
  LEFT JOIN LATERAL (
    SELECT r.id FROM sis_sync.run r
    WHERE r.sync OPERATOR(pg_catalog.=) s.name AND r.status OPERATOR(pg_catalog.=) 'running'
    ORDER BY r.id DESC LIMIT 1) unended ON true
  -- what is held rests on the last run that wrote or found new IDs (see approve())
  LEFT JOIN LATERAL (
    SELECT r.id AS run_id, pg_catalog.count(*) AS records,
           EXISTS (SELECT 1 FROM sis_sync.approval a WHERE a.run_id OPERATOR(pg_catalog.=) r.id
                   AND a.spent_run IS NULL AND a.expires_at OPERATOR(pg_catalog.>) pg_catalog.now()) AS approved
    FROM (
      SELECT w.id FROM sis_sync.run w
      WHERE w.sync OPERATOR(pg_catalog.=) s.name AND NOT w.dry_run
        AND (w.phase OPERATOR(pg_catalog.=) ANY (ARRAY['applied', 'archive', 'done'])
             OR w.error_code OPERATOR(pg_catalog.=) 'SI011')
      ORDER BY w.id DESC LIMIT 1) r
    JOIN sis_sync.pending_archive p ON p.run_id OPERATOR(pg_catalog.=) r.id
    GROUP BY r.id) held ON true;
COMMENT ON VIEW sis_sync.health IS 'one row per sync: its last success and failure, failures since, and what waits for a decision; dry runs do not count';
COMMENT ON COLUMN sis_sync.health.age IS 'since the last success';
COMMENT ON COLUMN sis_sync.health.failures_in_a_row IS 'runs failed or interrupted since the last success';
COMMENT ON COLUMN sis_sync.health.unended_run IS 'a run that the log has as running: when running is false its session is gone, or a step of it is still to come';
COMMENT ON COLUMN sis_sync.health.source_as_of IS 'how new the source was at the last run that was applied';
COMMENT ON COLUMN sis_sync.health.source_too_old IS 'true: that is more than max_age_hours ago';
COMMENT ON COLUMN sis_sync.health.held_records IS 'records that held_run held back: they wait for approve() or rekey()';
COMMENT ON COLUMN sis_sync.health.held_approved IS 'true: approved, and the next run will let them go';

-- ---------------------------------------------------------------------------
-- When syncs are due
-- ---------------------------------------------------------------------------

-- The last run that counts decides: one that began at next_run_at or later.
-- After a success, and after a failure that only people can mend (no rights,
-- wrong settings, a decision to take), the sync waits for its next regular
-- time.  After any other failure it is tried again 5, 10, 20, ... minutes
-- later; a run that broke off (a server that crashed, a worker that was
-- killed) is tried again at once, but only once.
CREATE VIEW sis_sync.due AS
  SELECT s.name AS sync, s.run_every, s.next_run_at,
         CASE WHEN s.next_run_at IS NULL THEN '-infinity'::timestamptz
              WHEN l.id IS NULL OR l.started_at OPERATOR(pg_catalog.<) s.next_run_at
              THEN s.next_run_at
              WHEN l.settled THEN n.regular_at
              ELSE least(l.ended_at OPERATOR(pg_catalog.+) b.backoff, n.regular_at) END AS due_at,
         n.regular_at, f.failures, l.id AS last_run, l.status AS last_status,
         l.error_code AS last_error_code
  FROM sis_sync.sync s
  LEFT JOIN LATERAL (
    SELECT r.id, r.status, r.error_code, r.started_at,
           coalesce(r.finished_at, r.started_at) AS ended_at,
           r.status OPERATOR(pg_catalog.=) 'succeeded'
             OR r.error_code OPERATOR(pg_catalog.=) ANY (ARRAY['SI001', 'SI002', 'SI003', 'SI009', 'SI011', 'SI012'])
             OR pg_catalog.starts_with(r.error_code, '42') AS settled
    FROM sis_sync.run r
    WHERE r.sync OPERATOR(pg_catalog.=) s.name
      AND r.kind OPERATOR(pg_catalog.=) 'sync' AND NOT r.dry_run
    ORDER BY r.id DESC LIMIT 1
  ) l ON true
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS failures
    FROM sis_sync.run r
    WHERE r.sync OPERATOR(pg_catalog.=) s.name
      AND r.kind OPERATOR(pg_catalog.=) 'sync' AND NOT r.dry_run
      AND r.id OPERATOR(pg_catalog.>) coalesce((
        SELECT g.id FROM sis_sync.run g
        WHERE g.sync OPERATOR(pg_catalog.=) s.name AND g.kind OPERATOR(pg_catalog.=) 'sync'
          AND NOT g.dry_run AND g.status OPERATOR(pg_catalog.=) 'succeeded'
        ORDER BY g.id DESC LIMIT 1), 0)
  ) f
  CROSS JOIN LATERAL (
    SELECT '5 minutes'::interval OPERATOR(pg_catalog.*)
             CASE WHEN c.counted OPERATOR(pg_catalog.=) 0 THEN 0
                  ELSE pg_catalog.pow(2, least(c.counted, 10) OPERATOR(pg_catalog.-) 1) END AS backoff
    FROM (SELECT f.failures OPERATOR(pg_catalog.-)
            CASE WHEN l.status OPERATOR(pg_catalog.=) 'failed' THEN 0 ELSE 1 END AS counted) c
  ) b
  -- The first of next_run_at + k * run_every after the last run: k is guessed,
  -- since months and days are not of one length, and the guess' neighbours are
  -- looked at.
  CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.min(t.at), l.ended_at OPERATOR(pg_catalog.+) s.run_every) AS regular_at
    FROM pg_catalog.floor(
           extract(epoch FROM l.ended_at OPERATOR(pg_catalog.-)
             CASE WHEN pg_catalog.isfinite(s.next_run_at) THEN s.next_run_at END)
           OPERATOR(pg_catalog./) extract(epoch FROM s.run_every)) AS guess (k)
    CROSS JOIN pg_catalog.generate_series(-3, 3) AS near (k)
    CROSS JOIN LATERAL (
      SELECT ((s.next_run_at AT TIME ZONE s.timezone) OPERATOR(pg_catalog.+)
              (s.run_every OPERATOR(pg_catalog.*)
               (guess.k OPERATOR(pg_catalog.+) near.k)::double precision))
             AT TIME ZONE s.timezone AS at
    ) t
    WHERE t.at OPERATOR(pg_catalog.>) l.ended_at
      AND guess.k OPERATOR(pg_catalog.+) near.k OPERATOR(pg_catalog.>=) 0
  ) n
  WHERE s.run_every IS NOT NULL;
COMMENT ON VIEW sis_sync.due IS 'when run_due() will take each sync that has run_every';
COMMENT ON COLUMN sis_sync.due.due_at IS 'next_run_at, or later when a run since then has ended; -infinity: as soon as possible';
COMMENT ON COLUMN sis_sync.due.regular_at IS 'its next time after the last run, were that one not to be tried again';
COMMENT ON COLUMN sis_sync.due.failures IS 'runs since the last success that failed or broke off';

-- ---------------------------------------------------------------------------
-- Functions and procedures
-- ---------------------------------------------------------------------------

CREATE PROCEDURE sis_sync.run_due(max_runs integer DEFAULT NULL)
  AS 'MODULE_PATHNAME', 'sis_run_due' LANGUAGE C;
COMMENT ON PROCEDURE sis_sync.run_due(integer) IS 'runs the syncs that are due, one after another; a failure is a WARNING and stops no other';

CREATE FUNCTION sis_sync.schedule(workers integer DEFAULT 2, cron text DEFAULT '* * * * *') RETURNS integer
  AS 'MODULE_PATHNAME', 'sis_schedule' LANGUAGE C;
COMMENT ON FUNCTION sis_sync.schedule(integer, text) IS 'makes so many jobs of pg_cron that call run_due(), and drops those beyond; returns how many there are';

CREATE FUNCTION sis_sync.unschedule() RETURNS integer
  AS 'MODULE_PATHNAME', 'sis_unschedule' LANGUAGE C STRICT;
COMMENT ON FUNCTION sis_sync.unschedule() IS 'drops the jobs that schedule() made; returns how many there were';

CREATE FUNCTION sis_sync.mode_on(sync text, day date, OUT mode text, OUT until date)
  LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(x.mode, 'normal'), x.last
  FROM (SELECT 1) one LEFT JOIN (
    SELECT w.mode, v.last
    FROM sis_sync.sync_window w,
      LATERAL unnest(CASE WHEN w.yearly THEN
        ARRAY[date_part('year', $2) - date_part('year', w.from_date) - 1,
              date_part('year', $2) - date_part('year', w.from_date)]::integer[]
        ELSE ARRAY[0] END) AS y (n),
      LATERAL (SELECT (w.from_date + make_interval(years => y.n))::date AS first,
                      (w.to_date + make_interval(years => y.n))::date AS last) v
    WHERE w.sync = $1 AND y.n >= 0 AND $2 >= v.first AND $2 <= v.last
    ORDER BY array_position(ARRAY['frozen', 'adds_only', 'no_archive'], w.mode), v.last DESC
    LIMIT 1) x ON true
$$;
COMMENT ON FUNCTION sis_sync.mode_on(text, date) IS 'how a sync runs on a day: normal, or as the strictest window of that day says, and until when';

CREATE PROCEDURE sis_sync.retire_school(sync text, school_id text, reason text)
  AS 'MODULE_PATHNAME', 'sis_retire_school' LANGUAGE C;
COMMENT ON PROCEDURE sis_sync.retire_school(text, text, text) IS 'archives what is left of a school that has closed, as a run of its own, and makes the school inactive';

COMMENT ON FUNCTION sis_sync.approve(bigint, text) IS 'lets exactly the records that a run held back go, or as many updates as it held back be made, once and within seven days';
COMMENT ON PROCEDURE sis_sync.rekey(bigint) IS 'gives the records that a run found (SI011) their new source_id in place';

-- ---------------------------------------------------------------------------
-- Forgetting
-- ---------------------------------------------------------------------------

CREATE FUNCTION sis_sync.erase_person(sync text, source_id text, record_type text DEFAULT NULL)
  RETURNS bigint
  AS 'MODULE_PATHNAME', 'sis_erase_person' LANGUAGE C;
COMMENT ON FUNCTION sis_sync.erase_person(text, text, text) IS 'removes a student, staff member or contact, with the links, from roster, staging and log; returns how many rows';

CREATE FUNCTION sis_sync.erase_archived(sync text, older_than interval) RETURNS bigint
  AS 'MODULE_PATHNAME', 'sis_erase_archived' LANGUAGE C;
COMMENT ON FUNCTION sis_sync.erase_archived(text, interval) IS 'removes likewise all people and links that were archived longer ago';

CREATE FUNCTION sis_sync.drop_sync(sync text, erase boolean DEFAULT false) RETURNS bigint
  AS 'MODULE_PATHNAME', 'sis_drop_sync' LANGUAGE C;
COMMENT ON FUNCTION sis_sync.drop_sync(text, boolean) IS 'removes a sync, its settings, staged rows and log; its records in the roster are archived, or erased; returns how many of them';

CREATE FUNCTION sis_sync.purge(older_than interval DEFAULT NULL) RETURNS bigint
  AS 'MODULE_PATHNAME', 'sis_purge' LANGUAGE C;
COMMENT ON FUNCTION sis_sync.purge(interval) IS 'removes what is kept no longer (sync.keep_values, sync.keep_staged), and runs and staged rows older than that; returns how many runs it has removed or emptied';

-- ---------------------------------------------------------------------------
-- Rights: what is new belongs to whom the rest does, and PUBLIC gets nothing
-- ---------------------------------------------------------------------------

-- C code does settings and log as the extension's owner, who need not be the
-- one that updates it.
DO $$
DECLARE
  owner text;
  object text;
BEGIN
  SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.extowner)) INTO STRICT owner
  FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'sis_sync';
  FOREACH object IN ARRAY ARRAY[
    'TABLE sis_sync.sync_window', 'TABLE sis_sync.emptied_column', 'VIEW sis_sync.progress',
    'VIEW sis_sync.health', 'VIEW sis_sync.due', 'FUNCTION sis_sync.run_progress()',
    'FUNCTION sis_sync.schedule(integer, text)', 'FUNCTION sis_sync.unschedule()',
    'FUNCTION sis_sync.mode_on(text, date)', 'FUNCTION sis_sync.erase_person(text, text, text)',
    'FUNCTION sis_sync.erase_archived(text, interval)', 'FUNCTION sis_sync.drop_sync(text, boolean)',
    'FUNCTION sis_sync.purge(interval)', 'PROCEDURE sis_sync.run_due(integer)',
    'PROCEDURE sis_sync.retire_school(text, text, text)']
  LOOP
    EXECUTE 'ALTER ' OPERATOR(pg_catalog.||) object OPERATOR(pg_catalog.||) ' OWNER TO '
      OPERATOR(pg_catalog.||) owner;
  END LOOP;
END $$;

REVOKE ALL ON sis_sync.sync_window, sis_sync.emptied_column, sis_sync.progress,
  sis_sync.health, sis_sync.due FROM PUBLIC;
REVOKE ALL ON FUNCTION sis_sync.run_progress(), sis_sync.schedule(integer, text),
  sis_sync.unschedule(), sis_sync.mode_on(text, date),
  sis_sync.erase_person(text, text, text), sis_sync.erase_archived(text, interval),
  sis_sync.drop_sync(text, boolean), sis_sync.purge(interval) FROM PUBLIC;
REVOKE ALL ON PROCEDURE sis_sync.run_due(integer),
  sis_sync.retire_school(text, text, text) FROM PUBLIC;

-- ---------------------------------------------------------------------------
-- What pg_dump carries
-- ---------------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('sis_sync.sync_window', '');
SELECT pg_catalog.pg_extension_config_dump('sis_sync.emptied_column', '');

-- ---------------------------------------------------------------------------
-- Comments on what 1.0 had
-- ---------------------------------------------------------------------------

COMMENT ON SEQUENCE sis_sync.sync_id_seq IS 'numbers of sync.id';
COMMENT ON SEQUENCE sis_sync.run_id_seq IS 'numbers of run.id';
COMMENT ON SEQUENCE sis_sync.reject_id_seq IS 'numbers of reject.id';
COMMENT ON SEQUENCE sis_sync.change_id_seq IS 'numbers of change.id';
COMMENT ON COLUMN sis_sync.sync.name IS 'what people and all other tables call it; may be changed';
COMMENT ON COLUMN sis_sync.sync_school.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.sync_school.school_id IS 'the school, by the district''s own ID (sis_id) or by the source''s (source_id)';
COMMENT ON COLUMN sis_sync.sync_school.app_school IS 'the application''s school for it; comes to roster.school.app_school with the next run';
COMMENT ON COLUMN sis_sync.sync_threshold.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.sync_threshold.record_type IS 'the type it is for';
COMMENT ON COLUMN sis_sync.sync_threshold.percent IS 'counts in place of deletion_threshold; 0: no record may go, 100: all may';
COMMENT ON COLUMN sis_sync.sync_threshold.valid_until IS 'until when; NULL: for good';
COMMENT ON COLUMN sis_sync.sync_window.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.sync_state.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.sync_state.district_id IS 'the district that was first synced; another one ends in SI002; NULL: not known';
COMMENT ON COLUMN sis_sync.sync_state.source_as_of IS 'how new the source was; an older one ends in SI007; NULL: not known';
COMMENT ON COLUMN sis_sync.sync_state.options_hash IS 'of the server''s options then: source_as_of is compared only while they are the same';
COMMENT ON COLUMN sis_sync.emptied_column.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.emptied_column.record_type IS 'the type that has the column';
COMMENT ON COLUMN sis_sync.emptied_column.column_name IS 'the roster''s column';
COMMENT ON COLUMN sis_sync.run.id IS 'the run''s number: run_id elsewhere, created_run and so on in the roster';
COMMENT ON COLUMN sis_sync.run.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.run.started_at IS 'when it began';
COMMENT ON COLUMN sis_sync.run.finished_at IS 'when it ended; NULL: not yet, or unnoticed';
COMMENT ON COLUMN sis_sync.run.status IS 'running, succeeded, failed; interrupted: its session ended before it did';
COMMENT ON COLUMN sis_sync.run.dry_run IS 'true: nothing was to be written';
COMMENT ON COLUMN sis_sync.run.error_code IS 'SQLSTATE of the error it ended in: SI001 and so on, or one of PostgreSQL''s';
COMMENT ON COLUMN sis_sync.run.message IS 'that error''s message';
COMMENT ON COLUMN sis_sync.run.detail IS 'its detail';
COMMENT ON COLUMN sis_sync.run.hint IS 'its hint';
COMMENT ON COLUMN sis_sync.run.run_by IS 'the role whose session it was';
COMMENT ON COLUMN sis_sync.run.source_as_of IS 'how new the source was: its newest file, or what the service says; NULL: it does not tell';
COMMENT ON COLUMN sis_sync.run.district_id IS 'the district that the source says it is; NULL: it does not tell';
COMMENT ON COLUMN sis_sync.run.options_hash IS 'of the server''s options';
COMMENT ON COLUMN sis_sync.run_count.run_id IS 'the run';
COMMENT ON COLUMN sis_sync.run_count.record_type IS 'the type counted';
COMMENT ON COLUMN sis_sync.run_count.rows_read IS 'rows of the source that were read for it';
COMMENT ON COLUMN sis_sync.run_count.rejected IS 'rows that were not taken: see reject';
COMMENT ON COLUMN sis_sync.run_count.created IS 'records created';
COMMENT ON COLUMN sis_sync.run_count.updated IS 'records updated';
COMMENT ON COLUMN sis_sync.run_count.unchanged IS 'records received that are as on record';
COMMENT ON COLUMN sis_sync.run_count.restored IS 'archived records that returned';
COMMENT ON COLUMN sis_sync.run_count.archived IS 'records archived, those that count against no threshold included';
COMMENT ON COLUMN sis_sync.run_school.run_id IS 'the run';
COMMENT ON COLUMN sis_sync.run_school.school_source_id IS 'source_id of the school';
COMMENT ON COLUMN sis_sync.run_school.record_type IS 'the type judged';
COMMENT ON COLUMN sis_sync.run_school.to_archive IS 'A: its records that are gone and count';
COMMENT ON COLUMN sis_sync.run_school.in_force IS 'N: its records in force';
COMMENT ON COLUMN sis_sync.run_school.percent IS 'the percent that counted';
COMMENT ON COLUMN sis_sync.run_school.allowed IS 'how many might be archived';
COMMENT ON COLUMN sis_sync.run_school.tripped IS 'true: more than that were gone';
COMMENT ON COLUMN sis_sync.reject.id IS 'number of the reject';
COMMENT ON COLUMN sis_sync.reject.run_id IS 'the run';
COMMENT ON COLUMN sis_sync.reject.record_type IS 'the type it was read for';
COMMENT ON COLUMN sis_sync.reject.source IS 'file or collection';
COMMENT ON COLUMN sis_sync.reject.line IS 'line of the file, or number in the collection, from 1';
COMMENT ON COLUMN sis_sync.reject.source_id IS 'the row''s ID; NULL: it cannot be read, and the type archives nothing that night';
COMMENT ON COLUMN sis_sync.reject.column_name IS 'the source''s name of the column at fault; NULL: the row as a whole';
COMMENT ON COLUMN sis_sync.reject.reason IS 'what is wrong, without values';
COMMENT ON COLUMN sis_sync.reject."row" IS 'the row''s mapped columns as they came (personal data)';
COMMENT ON COLUMN sis_sync.change.id IS 'number of the change';
COMMENT ON COLUMN sis_sync.change.run_id IS 'the run that made it';
COMMENT ON COLUMN sis_sync.change.record_type IS 'the type of the record';
COMMENT ON COLUMN sis_sync.change.source_id IS 'the record''s ID since the change';
COMMENT ON COLUMN sis_sync.change.action IS 'update, restore, archive, rekey';
COMMENT ON COLUMN sis_sync.change.reason IS 'why it was archived';
COMMENT ON COLUMN sis_sync.change.before IS 'previous values of the columns that changed (personal data)';
COMMENT ON COLUMN sis_sync.pending_archive.run_id IS 'the run that held it back';
COMMENT ON COLUMN sis_sync.pending_archive.record_type IS 'the type of the record';
COMMENT ON COLUMN sis_sync.pending_archive.source_id IS 'the record';
COMMENT ON COLUMN sis_sync.pending_archive.school_source_id IS 'its school; NULL: its type has none';
COMMENT ON COLUMN sis_sync.pending_archive.reason IS 'why it would go: not in the feed, deleted in the source, left scope, goes with its end';
COMMENT ON COLUMN sis_sync.approval.run_id IS 'the run whose records may go, or as many of whose updates may be made';
COMMENT ON COLUMN sis_sync.approval.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.approval.reason IS 'why, in the words of who approved';
COMMENT ON COLUMN sis_sync.approval.approved_by IS 'the role that approved';
COMMENT ON COLUMN sis_sync.approval.approved_at IS 'when';
COMMENT ON COLUMN sis_sync.approval.spent_at IS 'when it was used';
COMMENT ON COLUMN sis_sync.rekey_pair.run_id IS 'the run that found it';
COMMENT ON COLUMN sis_sync.rekey_pair.record_type IS 'student or staff';
COMMENT ON COLUMN sis_sync.rekey_pair.old_source_id IS 'ID on record';
COMMENT ON COLUMN sis_sync.rekey_pair.new_source_id IS 'ID in the source now';
COMMENT ON COLUMN sis_sync.skipped.run_id IS 'the undo or rekey';
COMMENT ON COLUMN sis_sync.skipped.record_type IS 'the type of the record';
COMMENT ON COLUMN sis_sync.skipped.source_id IS 'the record';
COMMENT ON COLUMN sis_sync.skipped.reason IS 'why it was left';
COMMENT ON COLUMN sis_sync.pending_delete.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.pending_delete.record_type IS 'the type of the record';
COMMENT ON COLUMN sis_sync.pending_delete.source_id IS 'the record';
COMMENT ON COLUMN sis_sync.pending_delete.run_id IS 'the run in which the package named it';
COMMENT ON COLUMN sis_sync.pending_delete.school_source_id IS 'of a record that has moved: its school now';
COMMENT ON COLUMN sis_sync.pending_delete.school_source_ids IS 'of a record that has moved: its schools now';
COMMENT ON COLUMN sis_sync.stage_slot.slot IS '0 to 15: the partitions stage_student_00 and so on';
COMMENT ON COLUMN sis_sync.stage_slot.run_id IS 'the run whose rows stand there; NULL: none';
COMMENT ON COLUMN sis_sync.stage_slot.sync IS 'name of its sync';
COMMENT ON COLUMN sis_sync.stage_slot.taken_at IS 'when the run took it';
COMMENT ON COLUMN sis_sync.rekey_match.run_id IS 'the run that found the pair';
COMMENT ON COLUMN sis_sync.rekey_match.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.rekey_match.record_type IS 'student or staff';
COMMENT ON COLUMN sis_sync.rekey_match.old_source_id IS 'ID on record';
COMMENT ON COLUMN sis_sync.rekey_match.new_source_id IS 'ID in the source now';
COMMENT ON COLUMN sis_sync.rekey_match.matched_on IS 'what both have, and nobody else';
COMMENT ON COLUMN sis_sync.rekey_match.given_name IS 'of the new record';
COMMENT ON COLUMN sis_sync.rekey_match.family_name IS 'of the new record';
COMMENT ON COLUMN sis_sync.rekey_match.source IS 'file or collection of the new record';
COMMENT ON COLUMN sis_sync.rekey_match.line IS 'where in it';
COMMENT ON COLUMN sis_sync.progress.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.progress.run_id IS 'the run';
COMMENT ON COLUMN sis_sync.progress.pid IS 'the session''s process; NULL: a prepared transaction holds the sync';
COMMENT ON COLUMN sis_sync.progress.phase IS 'what it is doing: fetch, stage, verify, apply, archive, undo, rekey, retire, erase';
COMMENT ON COLUMN sis_sync.progress.record_type IS 'the type under way; NULL: not told by type';
COMMENT ON COLUMN sis_sync.progress.rows_done IS 'rows so far in this phase';
COMMENT ON COLUMN sis_sync.progress.rows_total IS 'of how many; NULL: not known';
COMMENT ON COLUMN sis_sync.progress.bytes_done IS 'bytes so far in this phase';
COMMENT ON COLUMN sis_sync.progress.bytes_total IS 'of how many; NULL: not known';
COMMENT ON COLUMN sis_sync.progress.percent IS 'of this phase: of the bytes where their total is known, else of the rows';
COMMENT ON COLUMN sis_sync.progress.started_at IS 'when the run began';
COMMENT ON COLUMN sis_sync.health.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.health.running IS 'true: a run goes on now';
COMMENT ON COLUMN sis_sync.health.last_success IS 'the end of the last run that succeeded';
COMMENT ON COLUMN sis_sync.health.last_success_run IS 'that run';
COMMENT ON COLUMN sis_sync.health.last_failure IS 'the end of the last run that failed or was interrupted, also when a good one came after it';
COMMENT ON COLUMN sis_sync.health.reason IS 'its failing reason, or Interrupted';
COMMENT ON COLUMN sis_sync.health.error_code IS 'its SQLSTATE';
COMMENT ON COLUMN sis_sync.health.last_failure_run IS 'that run';
COMMENT ON COLUMN sis_sync.health.held_run IS 'the run that held records back';
COMMENT ON COLUMN sis_sync.due.sync IS 'name of the sync';
COMMENT ON COLUMN sis_sync.due.run_every IS 'as set in sync';
COMMENT ON COLUMN sis_sync.due.next_run_at IS 'as set in sync';
COMMENT ON COLUMN sis_sync.due.last_run IS 'the last run; dry runs do not count';
COMMENT ON COLUMN sis_sync.due.last_status IS 'its status';
COMMENT ON COLUMN sis_sync.due.last_error_code IS 'its SQLSTATE';
