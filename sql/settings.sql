\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set common :abs_srcdir '/sql/include/common.psql'
\i :common
\set ECHO all
-- Settings are plain tables: what their constraints and the trigger let pass.
CREATE EXTENSION sis_sync;
SELECT sis_sync.create_roster('roster');
-- Tries each statement and takes it back.
CREATE FUNCTION probe.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  verdict text;
BEGIN
  verdict := probe.refusal_of(statement);
  RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
  RETURN verdict;
END $$;

-- ----------
-- sync
-- ----------

INSERT INTO sis_sync.sync (name, server) VALUES ('quarry', 'quarry_server');
SELECT name, server, target_schema, deletion_threshold, school_min_records, min_allowed, reject_threshold,
       restore_returning, all_schools, include_demographics, extra_columns, timezone, keep_values, keep_staged
FROM sis_sync.sync;

SELECT v.columns, v.value, probe.try(format('INSERT INTO sis_sync.sync (%s) VALUES (%s)', v.columns, v.value)) AS verdict
FROM (VALUES
  (1, 'name, server', $$'', 'x'$$),
  (2, 'name, server', $$NULL, 'x'$$),
  (3, 'name, server', $$'quarry', 'x'$$),
  (4, 'name', $$'valley'$$),
  (5, 'id, name, server', $$7, 'valley', 'x'$$),
  (6, 'name, server', $$'Two words, é', 'x'$$)
) v (n, columns, value) ORDER BY v.n;

SELECT c.name AS column, v.value, probe.try(format('UPDATE sis_sync.sync SET %I = %s', c.name, v.value)) AS verdict
FROM (VALUES
  (1, 'deletion_threshold', ARRAY['0', '2.5', '100', '-1', '-0.001', '100.001', '101', '''NaN''', '''Infinity''', 'NULL', '''10 %''']),
  (2, 'reject_threshold', ARRAY['0', '0.1', '100', '-1', '101', '''NaN''', 'NULL']),
  (3, 'school_min_records', ARRAY['0', '1', '100000', '-1', 'NULL']),
  (4, 'min_allowed', ARRAY['0', '2', '-1', 'NULL']),
  (5, 'server', ARRAY['''other''', 'NULL']),
  (6, 'target_schema', ARRAY['''other''', 'NULL']),
  (6.1, 'run_every', ARRAY['''1 day''', '''1 minute''', '''366 days''', '''0''', '''-1 day''', '''367 days''', 'NULL']),
  (6.2, 'next_run_at', ARRAY['''2026-08-31 05:00+00''', '''infinity''', '''-infinity''', '''1999-12-31 00:00+00''', 'NULL']),
  (7, 'restore_returning', ARRAY['false', 'NULL']),
  (8, 'all_schools', ARRAY['true', 'NULL']),
  (9, 'include_demographics', ARRAY['true', 'NULL']),
  (10, 'extra_columns', ARRAY['''{}''', '''{metadata.house,homeroom}''', 'NULL']),
  (11, 'timezone', ARRAY['''UTC''', '''America/New_York''', '''europe/berlin''', '''Mars/Olympus''', '''''', 'NULL']),
  (12, 'update_threshold', ARRAY['0', '12.5', '100', '-1', '101', '''NaN''', 'NULL']),
  (13, 'creep_threshold', ARRAY['0', '100', '-1', '100.5', '''NaN''', 'NULL']),
  (14, 'creep_days', ARRAY['1', '366', '0', '367', 'NULL']),
  (15, 'hold', ARRAY['''sync''', '''school''', '''district''', 'NULL']),
  (16, 'keep_emptied_columns', ARRAY['true', 'NULL']),
  (17, 'max_age_hours', ARRAY['1', '0', '-1', 'NULL']),
  (18, 'keep_values', ARRAY['''0''', '''90 days''', '''1000 years''', '''-1 day''', 'NULL']),
  (19, 'keep_staged', ARRAY['''0''', '''1 day''', '''-1 second''', 'NULL'])
) c (n, name, wanted), unnest(c.wanted) WITH ORDINALITY AS v (value, n)
ORDER BY c.n, v.n;
SELECT probe.error_of($$UPDATE sis_sync.sync SET timezone = 'Mars/Olympus'$$);
SELECT probe.error_of($$INSERT INTO sis_sync.sync (name, server, timezone) VALUES ('valley', 'x', 'Mars/Olympus')$$);
-- a zone that the trigger takes is one that a run can use
SELECT count(*) AS zones, count(*) FILTER (WHERE probe.try(format('UPDATE sis_sync.sync SET timezone = %L', name)) <> 'accepted') AS refused
FROM pg_timezone_names WHERE name IN ('UTC', 'America/New_York', 'America/Chicago', 'America/Denver', 'America/Los_Angeles', 'Pacific/Honolulu', 'Asia/Kolkata');

-- the id never changes
SELECT probe.error_of('UPDATE sis_sync.sync SET id = DEFAULT');
SELECT probe.error_of('UPDATE sis_sync.sync SET id = 99');
SELECT probe.try('UPDATE sis_sync.sync SET id = id') AS verdict;

-- ----------
-- sync_school
-- ----------

SELECT v.value, probe.try(format('INSERT INTO sis_sync.sync_school (sync, school_id) VALUES (%s)', v.value)) AS verdict
FROM unnest(ARRAY[
  $$'quarry', '4012'$$, $$'quarry', '0123'$$, $$'quarry', ''$$, $$'quarry', '  '$$, $$'quarry', NULL$$,
  $$NULL, '4012'$$, $$'nobody', '4012'$$
]) WITH ORDINALITY AS v (value, n) ORDER BY v.n;
INSERT INTO sis_sync.sync_school VALUES ('quarry', '4012', 'lincoln-high'), ('quarry', '4013', NULL);
SELECT probe.try($$INSERT INTO sis_sync.sync_school VALUES ('quarry', '4012')$$) AS verdict;

-- ----------
-- sync_threshold
-- ----------

SELECT v.value, probe.try(format('INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES (%s)', v.value)) AS verdict
FROM unnest(ARRAY[
  $$'quarry', 'pupil', 10$$, $$'quarry', 'Student', 10$$, $$'quarry', '', 10$$, $$'quarry', NULL, 10$$,
  $$'quarry', 'student', 0$$, $$'quarry', 'student', 12.5$$, $$'quarry', 'student', 100$$, $$'quarry', 'student', -1$$,
  $$'quarry', 'student', 100.5$$, $$'quarry', 'student', 'NaN'$$, $$'quarry', 'student', NULL$$, $$'nobody', 'student', 10$$
]) WITH ORDINALITY AS v (value, n) ORDER BY v.n;
SELECT t.type, probe.try(format($$INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('quarry', %L, 100)$$, t.type)) AS verdict
FROM unnest(ARRAY['school', 'term', 'course', 'section', 'student', 'staff', 'contact', 'student_contact', 'enrollment'])
     WITH ORDINALITY AS t (type, n) ORDER BY t.n;
INSERT INTO sis_sync.sync_threshold VALUES ('quarry', 'student', 20, 'infinity'), ('quarry', 'section', 50, NULL);
SELECT probe.try($$INSERT INTO sis_sync.sync_threshold VALUES ('quarry', 'student', 30)$$) AS verdict;

-- ----------
-- A new name goes along
-- ----------

SELECT probe.add_sync('valley', 'tiny-oneroster');
-- a run that failed keeps its staging rows for somebody to look at
SELECT probe.read_folder('valley', 'no-students');
CALL sis_sync.run('valley');
UPDATE sis_sync.sync SET name = 'hills' WHERE name = 'valley';
UPDATE sis_sync.sync SET name = 'pit' WHERE name = 'quarry';
SELECT sync, school_id, app_school FROM sis_sync.sync_school ORDER BY 1, 2;
SELECT sync, record_type, percent FROM sis_sync.sync_threshold ORDER BY 1, 2;
SELECT sync, status, reason FROM sis_sync.run ORDER BY id;
SELECT sync, pinned FROM sis_sync.stage_slot WHERE run_id IS NOT NULL ORDER BY slot;
-- until the sync's next run, under whatever name
SELECT probe.read_folder('valley', 'tiny-oneroster');
CALL sis_sync.run('hills');
SELECT probe.last_run('hills');
SELECT count(*) AS pinned FROM sis_sync.stage_slot WHERE pinned;
SELECT count(*) AS syncs, bool_and(s.sync = 'hills') AS renamed FROM sis_sync.sync_state s;

-- ----------
-- A sync with records is not dropped
-- ----------

SELECT count(*) FROM roster.student;
SELECT probe.error_of($$DELETE FROM sis_sync.sync WHERE name = 'hills'$$);
SELECT probe.try($$DELETE FROM sis_sync.sync WHERE name = 'pit'$$) AS verdict;
-- one record is enough, of any type
SELECT t.type, probe.try(format($$
  WITH x AS (SELECT id FROM sis_sync.sync WHERE name = 'pit')
  INSERT INTO roster.%I (sync_id, source_id) SELECT id, 'one' FROM x$$, t.type)) AS inserted,
  probe.try(format($$DO $do$ BEGIN
    INSERT INTO roster.%I (sync_id, source_id) SELECT id, 'one' FROM sis_sync.sync WHERE name = 'pit';
    DELETE FROM sis_sync.sync WHERE name = 'pit';
  END $do$ $$, t.type)) ~ '^2BP01' AS refused
FROM unnest(ARRAY['school', 'term', 'course', 'section', 'student', 'staff', 'contact', 'student_contact', 'enrollment'])
     WITH ORDINALITY AS t (type, n) ORDER BY t.n;
-- nor after its records have been left in another schema
SELECT probe.try($$DO $do$ BEGIN
    UPDATE sis_sync.sync SET target_schema = 'elsewhere' WHERE name = 'hills';
    DELETE FROM sis_sync.sync WHERE name = 'hills';
  END $do$ $$) <> 'accepted' AS refused;
-- an application's own rows and archived ones do not keep it
BEGIN;
DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['school', 'term', 'course', 'section', 'student', 'staff'] LOOP
    EXECUTE format('UPDATE roster.%I SET archived_at = now()', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['contact', 'student_contact', 'enrollment'] LOOP
    EXECUTE format('UPDATE roster.%I SET sis_managed = false', t);
  END LOOP;
END $$;
DELETE FROM sis_sync.sync WHERE name = 'hills';
SELECT (SELECT count(*) FROM sis_sync.sync WHERE name = 'hills') AS syncs,
       (SELECT count(*) FROM sis_sync.run) AS runs,
       (SELECT count(*) FROM sis_sync.sync_state) AS states,
       (SELECT count(*) FROM roster.student) AS students;
ROLLBACK;
-- without a roster there are no records
BEGIN;
SET LOCAL client_min_messages = warning;
DROP SCHEMA roster CASCADE;
DELETE FROM sis_sync.sync WHERE name = 'hills';
ROLLBACK;
-- ids are not given again
DELETE FROM sis_sync.sync WHERE name = 'pit';
SELECT id AS before FROM sis_sync.sync ORDER BY id DESC LIMIT 1 \gset
INSERT INTO sis_sync.sync (name, server) VALUES ('quarry', 'quarry_server');
SELECT id > :before AS new FROM sis_sync.sync WHERE name = 'quarry';

SET client_min_messages = warning;
DROP EXTENSION sis_sync CASCADE;
DROP SCHEMA roster, probe CASCADE;
