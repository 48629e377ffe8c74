\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set common :abs_srcdir '/sql/include/common.psql'
\i :common
\set ECHO all
-- The named errors that a folder can cause, with all that a client can read of
-- each: SQLSTATE, message, detail, hint, condition, record type.
CREATE EXTENSION sis_sync;
SELECT sis_sync.create_roster('roster');
CREATE FUNCTION probe.failure_of(name text, folder text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM probe.read_folder(name, folder);
  RETURN probe.error_of(format('DO $do$ BEGIN PERFORM sis_sync.run_atomic(%L); END $do$', name));
END $$;
-- everything in the roster, to tell that nothing was changed
CREATE FUNCTION probe.digest() RETURNS text LANGUAGE sql AS $$
  SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM (
    SELECT r::text FROM roster.school r UNION ALL SELECT r::text FROM roster.term r
    UNION ALL SELECT r::text FROM roster.course r UNION ALL SELECT r::text FROM roster.section r
    UNION ALL SELECT r::text FROM roster.student r UNION ALL SELECT r::text FROM roster.staff r
    UNION ALL SELECT r::text FROM roster.contact r UNION ALL SELECT r::text FROM roster.student_contact r
    UNION ALL SELECT r::text FROM roster.enrollment r) AS all_rows (x)
$$;

SELECT probe.add_sync('tiny', 'tiny-oneroster', ARRAY['0101', '0102']);
SELECT sis_sync.run_atomic('tiny') > 0 AS loaded;

-- ----------
-- SI001: Threshold
-- ----------

SELECT probe.failure_of('tiny', 'school-emptied');
-- all of a school, within the percentage
UPDATE sis_sync.sync SET deletion_threshold = 50 WHERE name = 'tiny';
SELECT probe.failure_of('tiny', 'school-emptied');
-- a type's own percentage, and the number that may always go
INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('tiny', 'student', 0);
SELECT probe.failure_of('tiny', 'school-emptied');
UPDATE sis_sync.sync_threshold SET percent = 2.5 WHERE sync = 'tiny';
SELECT probe.failure_of('tiny', 'school-emptied');
-- one that is over counts no more
UPDATE sis_sync.sync_threshold SET percent = 100, valid_until = '2020-01-31' WHERE sync = 'tiny';
SELECT split_part(probe.failure_of('tiny', 'school-emptied'), E'\n', 2);
DELETE FROM sis_sync.sync_threshold;
UPDATE sis_sync.sync SET deletion_threshold = 10 WHERE name = 'tiny';

-- ----------
-- SI002: Wrong Credentials
-- ----------

SELECT probe.failure_of('tiny', 'other-district');

-- ----------
-- SI003: Schools to Sync Are Not Found
-- ----------

SELECT probe.failure_of('tiny', 'school-renumbered');
SELECT probe.failure_of('tiny', 'school-twice');
-- (two IDs are as near as each other, so the hint is left out)
SELECT split_part(probe.failure_of('tiny', 'school-deleted'), E'\nhint', 1);
SELECT probe.add_sync('lost', 'tiny-oneroster', ARRAY['0101', ' 0102 ', '0999', 'dist-1', '9000', 'sch-aa', 'SCH-B']);
SELECT probe.error_of($$SELECT sis_sync.run_atomic('lost')$$);

-- ----------
-- SI004: Source Unavailable
-- ----------

SELECT probe.failure_of('tiny', 'not-there');
SELECT probe.failure_of('tiny', 'tiny-oneroster/users.csv');

-- ----------
-- SI006: Malformed Data
-- ----------

SELECT f AS folder, probe.failure_of('tiny', f)
FROM unnest(ARRAY['bad-header', 'double-header', 'semicolons', 'web-page', 'utf16', 'lost-quote',
                  'both-layouts', 'unknown-mode']) WITH ORDINALITY AS u (f, n)
ORDER BY n;
-- the layout that is named decides
ALTER SERVER tiny OPTIONS (ADD layout 'clever');
SELECT probe.failure_of('tiny', 'both-layouts');
ALTER SERVER tiny OPTIONS (DROP layout);

-- ----------
-- SI007: Incomplete Data
-- ----------

SELECT f AS folder, probe.failure_of('tiny', f)
FROM unnest(ARRAY['no-files', 'no-users', 'promised-file', 'absent-users', 'empty-file', 'cut-row', 'open-quote',
                  'no-students', 'empty-enrollments', 'no-sections']) WITH ORDINALITY AS u (f, n)
ORDER BY n;
-- no student in scope at all, be there any on record or not, and whatever the percentages
SELECT probe.add_sync('small', 'header-only');
SELECT probe.failure_of('small', 'header-only');
UPDATE sis_sync.sync SET deletion_threshold = 100 WHERE name = 'tiny';
INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('tiny', 'student', 100);
SELECT split_part(probe.failure_of('tiny', 'no-students'), E'\n', 2);
-- another type at 100 percent
SELECT probe.failure_of('tiny', 'empty-enrollments') AS passes;
SELECT count(*) FROM roster.enrollment WHERE archived_at IS NULL;
UPDATE sis_sync.sync SET deletion_threshold = 10 WHERE name = 'tiny';
DELETE FROM sis_sync.sync_threshold;
SELECT probe.failure_of('tiny', 'tiny-oneroster') AS passes;
-- a source older than the one last applied
UPDATE sis_sync.sync_state SET source_as_of = '2999-01-31 UTC' WHERE sync = 'tiny';
SELECT regexp_replace(probe.failure_of('tiny', 'tiny-oneroster'), '^detail: It is of .*; the last applied run saw .*\.$', 'detail: It is of ...; the last applied run saw ....', 'n');
-- with other options it is another source
SELECT split_part(probe.failure_of('tiny', 'school-emptied'), E'\n', 2);
UPDATE sis_sync.sync_state SET source_as_of = NULL WHERE sync = 'tiny';
-- what was staged is gone
SELECT probe.read_folder('tiny', 'tiny-oneroster');
SELECT sis_sync.stage('tiny') AS run \gset
BEGIN;
TRUNCATE sis_sync.stage_student;
SELECT probe.error_of(format('SELECT sis_sync.verify(%s)', :run));
ROLLBACK;
SELECT sis_sync.verify(:run);
SELECT sis_sync.apply(:run);
DELETE FROM sis_sync.stage_enrollment WHERE run_id = :run AND source_id = 'enr-a1';
SELECT probe.error_of(format('SELECT sis_sync.archive(%s)', :run));
UPDATE sis_sync.stage_slot SET run_id = NULL WHERE run_id = :run;
SELECT probe.error_of(format('SELECT sis_sync.archive(%s)', :run));

-- ----------
-- SI010: Too Many Rejects
-- ----------

SELECT probe.failure_of('tiny', 'nameless-students');
UPDATE sis_sync.sync SET reject_threshold = 33.5 WHERE name = 'tiny';
SELECT probe.failure_of('tiny', 'nameless-students') AS passes;
UPDATE sis_sync.sync SET reject_threshold = 33 WHERE name = 'tiny';
SELECT split_part(probe.failure_of('tiny', 'nameless-students'), E'\n', 2);
SELECT source, line, record_type, source_id, column_name, reason, loaded FROM sis_sync.reject
WHERE run_id = (SELECT max(id) FROM sis_sync.run WHERE sync = 'tiny' AND status = 'succeeded') ORDER BY line;

-- a quote that spoils one row only is one reject
SELECT probe.failure_of('small', 'stray-quote') AS passes;
SELECT source, line, record_type, source_id, reason, loaded FROM sis_sync.reject
WHERE run_id = (SELECT max(id) FROM sis_sync.run WHERE sync = 'small') ORDER BY line, record_type COLLATE "C";
SELECT source_id FROM roster.student WHERE sync_id = (SELECT id FROM sis_sync.sync WHERE name = 'small');

-- ----------
-- SI011: IDs Re-keyed
-- ----------

SELECT probe.add_sync('zeros', 'leading-zeros');
SELECT sis_sync.run_atomic('zeros') > 0 AS loaded;
SELECT probe.failure_of('zeros', 'lost-zeros');

-- ----------
-- The run log says the same
-- ----------

CREATE FUNCTION probe.logged(name text) RETURNS text LANGUAGE sql AS $$
  SELECT probe.mask(concat_ws(E'\n', error_code, 'message: ' || message, 'detail: ' || detail, 'hint: ' || hint))
  FROM sis_sync.run WHERE sync = name ORDER BY id DESC LIMIT 1
$$;
CREATE TABLE probe.wanted (name text, folder text, failure text);
INSERT INTO probe.wanted
SELECT s, f, regexp_replace(probe.failure_of(s, f), '\ncondition:.*', '')
FROM (VALUES ('tiny', 'school-emptied'), ('tiny', 'other-district'), ('lost', 'tiny-oneroster'), ('tiny', 'not-there'),
             ('tiny', 'semicolons'), ('tiny', 'no-sections'), ('tiny', 'nameless-students'), ('zeros', 'lost-zeros')) w (s, f);
SELECT probe.read_folder('tiny', 'school-emptied');
CALL sis_sync.run('tiny');
SELECT reason, probe.logged('tiny') = (SELECT failure FROM probe.wanted WHERE folder = 'school-emptied') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
-- of the others nothing is changed
SELECT probe.digest() AS before \gset
SELECT probe.read_folder('tiny', 'other-district');
CALL sis_sync.run('tiny');
SELECT reason, probe.logged('tiny') = (SELECT failure FROM probe.wanted WHERE folder = 'other-district') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
CALL sis_sync.run('lost');
SELECT reason, probe.logged('lost') = (SELECT failure FROM probe.wanted WHERE name = 'lost') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
SELECT probe.read_folder('tiny', 'semicolons');
CALL sis_sync.run('tiny');
SELECT reason, probe.logged('tiny') = (SELECT failure FROM probe.wanted WHERE folder = 'semicolons') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
SELECT probe.read_folder('tiny', 'no-sections');
CALL sis_sync.run('tiny');
SELECT reason, probe.logged('tiny') = (SELECT failure FROM probe.wanted WHERE folder = 'no-sections') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
SELECT probe.read_folder('tiny', 'nameless-students');
CALL sis_sync.run('tiny');
SELECT reason, probe.logged('tiny') = (SELECT failure FROM probe.wanted WHERE folder = 'nameless-students') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
CALL sis_sync.run('zeros');
SELECT reason, probe.logged('zeros') = (SELECT failure FROM probe.wanted WHERE name = 'zeros') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;
SELECT probe.read_folder('tiny', 'not-there');
\set VERBOSITY sqlstate
CALL sis_sync.run('tiny');
\set VERBOSITY terse
SELECT reason, probe.logged('tiny') = (SELECT failure FROM probe.wanted WHERE folder = 'not-there') AS same
FROM sis_sync.run ORDER BY id DESC LIMIT 1;

SELECT probe.digest() = :'before' AS nothing_changed;

-- no name or address of a person is in any of it
SELECT count(*) FROM sis_sync.run
WHERE concat(message, detail, hint, note) ~* '(Una|Farrowby|Hartwell|school\.example)';
SELECT count(*) FROM probe.wanted WHERE failure ~* '(Una|Farrowby|Hartwell|school\.example)';

SET client_min_messages = warning;
DROP EXTENSION sis_sync CASCADE;
DROP SCHEMA roster, probe CASCADE;
