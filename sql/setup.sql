\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set common :abs_srcdir '/sql/include/common.psql'
\i :common
\set ECHO all
-- What CREATE EXTENSION, create_roster() and upgrade_roster() make.

-- a schema of that name is somebody else's
CREATE SCHEMA sis_sync;
SELECT probe.error_of('CREATE EXTENSION sis_sync');
DROP SCHEMA sis_sync;

CREATE EXTENSION sis_sync;
SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'sis_sync';

-- ----------
-- Members
-- ----------

SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments,
       p.prokind AS kind, format_type(p.prorettype, NULL) AS returns, l.lanname AS language,
       p.proisstrict AS strict, p.prosecdef AS definer, p.proconfig AS settings
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'sis_sync'::regnamespace
ORDER BY p.proname COLLATE "C";

SELECT fdwname, fdwhandler = 0 AS no_handler, fdwvalidator::regproc AS validator
FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'sis\_%' ORDER BY fdwname;

-- settings and log: kind, persistence, primary key, carried by pg_dump
SELECT c.relname, c.relkind, c.relpersistence AS persistence,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p') AS has_key,
       c.oid = ANY (x.extconfig) AS dumped
FROM pg_class c, pg_extension x
WHERE c.relnamespace = 'sis_sync'::regnamespace AND x.extname = 'sis_sync'
  AND c.relkind IN ('r', 'S', 'v') AND NOT c.relispartition
ORDER BY c.relkind, c.relname COLLATE "C";

-- nothing is registered twice, or with a condition, or that is not there
SELECT count(*) = count(DISTINCT u.oid) AS once, bool_and(c.oid IS NOT NULL) AS there,
       bool_and(u.condition = '') AS whole
FROM pg_extension x, unnest(x.extconfig, x.extcondition) AS u (oid, condition)
LEFT JOIN pg_class c ON c.oid = u.oid
WHERE x.extname = 'sis_sync';

-- the columns of settings and log
SELECT c.relname AS table,
       string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ||
                  CASE WHEN a.attnotnull THEN '!' ELSE '' END ||
                  CASE a.attidentity WHEN '' THEN '' ELSE ' identity' END ||
                  coalesce(' = ' || pg_get_expr(d.adbin, d.adrelid), ''), ', ' ORDER BY a.attnum) AS columns
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'sis_sync'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
GROUP BY c.relname ORDER BY c.relname COLLATE "C";

SELECT conrelid::regclass AS "table", confrelid::regclass AS "references",
       confupdtype AS on_update, confdeltype AS on_delete
FROM pg_constraint
WHERE connamespace = 'sis_sync'::regnamespace AND contype = 'f'
ORDER BY conrelid::regclass::text COLLATE "C", confrelid::regclass::text COLLATE "C";

-- everything of the extension is in its schema, apart from the wrappers
SELECT pg_describe_object(d.classid, d.objid, 0) AS elsewhere
FROM pg_depend d
JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
WHERE x.extname = 'sis_sync' AND d.deptype = 'e'
  AND (pg_identify_object(d.classid, d.objid, 0)).schema IS DISTINCT FROM 'sis_sync'
ORDER BY pg_describe_object(d.classid, d.objid, 0) COLLATE "C";

-- ----------
-- Comments: what lacks one (leaves of the staging tables need none)
-- ----------

SELECT 'table' AS kind, c.relname::text AS name
FROM pg_class c
WHERE c.relnamespace = 'sis_sync'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT 'routine', p.proname FROM pg_proc p
WHERE p.pronamespace = 'sis_sync'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'wrapper', w.fdwname FROM pg_foreign_data_wrapper w
WHERE w.fdwname LIKE 'sis\_%' AND obj_description(w.oid, 'pg_foreign_data_wrapper') IS NULL
UNION ALL
SELECT 'schema', n.nspname FROM pg_namespace n
WHERE n.nspname = 'sis_sync' AND obj_description(n.oid, 'pg_namespace') IS NULL
UNION ALL
SELECT 'extension', x.extname FROM pg_extension x
WHERE x.extname = 'sis_sync' AND obj_description(x.oid, 'pg_extension') IS NULL;

-- the settings that are not told by their name
SELECT a.attname FROM pg_attribute a
WHERE a.attrelid = 'sis_sync.sync'::regclass AND a.attnum > 0
  AND col_description(a.attrelid, a.attnum) IS NULL
ORDER BY a.attnum;

-- ----------
-- Rights: PUBLIC has none
-- ----------

SELECT 'relation' AS kind, c.relname::text AS name, a.privilege_type
FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
WHERE c.relnamespace = 'sis_sync'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND a.grantee = 0
UNION ALL
SELECT 'column', t.attrelid::regclass || '.' || t.attname, a.privilege_type
FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid, aclexplode(t.attacl) a
WHERE c.relnamespace = 'sis_sync'::regnamespace AND a.grantee = 0
UNION ALL
SELECT 'routine', p.proname, a.privilege_type
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE p.pronamespace = 'sis_sync'::regnamespace AND a.grantee = 0
UNION ALL
SELECT 'schema', n.nspname, a.privilege_type
FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname = 'sis_sync' AND a.grantee = 0
UNION ALL
SELECT 'wrapper', w.fdwname, a.privilege_type
FROM pg_foreign_data_wrapper w, aclexplode(coalesce(w.fdwacl, acldefault('F', w.fdwowner))) a
WHERE w.fdwname LIKE 'sis\_%' AND a.grantee = 0;

-- ----------
-- Staging tables
-- ----------

SELECT p.relname AS parent, p.relkind AS kind, pg_get_partkeydef(p.oid) AS key,
       count(*) AS leaves, bool_and(l.relpersistence = 'u') AS unlogged,
       bool_and(l.reloptions @> '{autovacuum_enabled=false}') AS no_autovacuum,
       count(DISTINCT pg_get_expr(l.relpartbound, l.oid)) AS slots,
       bool_and(EXISTS (SELECT FROM pg_depend d WHERE d.objid = l.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')) AS members,
       bool_or(EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid)) AS indexes
FROM pg_inherits i
JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_class l ON l.oid = i.inhrelid
WHERE p.relnamespace = 'sis_sync'::regnamespace
GROUP BY p.oid, p.relname, p.relkind
ORDER BY p.relname COLLATE "C";
SELECT count(*) AS leaves FROM pg_class
WHERE relnamespace = 'sis_sync'::regnamespace AND relispartition AND relkind = 'r';
SELECT min(slot), max(slot), count(*), count(run_id) AS taken FROM sis_sync.stage_slot;

-- what stands in front of a type's own columns
SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) AS columns
FROM pg_attribute
WHERE attrelid = 'sis_sync.stage_school'::regclass AND attnum > 0
  AND attnum < (SELECT attnum FROM pg_attribute WHERE attrelid = 'sis_sync.stage_school'::regclass AND attname = 'sis_id');

-- ----------
-- create_roster()
-- ----------

SELECT sis_sync.create_roster('roster');
SELECT c.relname AS table,
       string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ||
                  CASE WHEN a.attnotnull THEN '!' ELSE '' END, ', ' ORDER BY a.attnum) AS columns
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'roster'::regnamespace AND c.relkind IN ('r', 'v')
GROUP BY c.relname, c.relkind ORDER BY c.relkind, c.relname COLLATE "C";

-- one table in full
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
       l.collname AS collated, pg_get_expr(d.adbin, d.adrelid) AS default
FROM pg_attribute a
LEFT JOIN pg_collation l ON l.oid = a.attcollation AND l.collname <> 'default'
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = 'roster.enrollment'::regclass AND a.attnum > 0
ORDER BY a.attnum;

-- the same in each: key, fillfactor, owner, trigger, persistence; no foreign key, no member
SELECT c.relname, pg_get_constraintdef(k.oid) AS key, c.reloptions, c.relpersistence AS persistence,
       pg_get_userbyid(c.relowner) = current_user AS mine,
       (SELECT string_agg(tgname, ', ') FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS triggers,
       EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f') AS foreign_key,
       EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('e', 'x')) AS member,
       obj_description(c.oid, 'pg_class') IS NOT NULL AS comment
FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
WHERE c.relnamespace = 'roster'::regnamespace AND c.relkind = 'r'
ORDER BY c.relname COLLATE "C";

-- IDs compare byte by byte
SELECT c.relname, a.attname
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'roster'::regnamespace AND c.relkind = 'r'
  AND a.attname ~ '(^sis_id|source_ids?)$' AND l.collname <> 'C';

-- staged are the target's columns as text, under the same names
SELECT t.relname, a.attname
FROM pg_class t
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
WHERE t.relnamespace = 'roster'::regnamespace AND t.relkind = 'r'
  AND a.attname NOT IN ('sync_id', 'app_school', 'sis_managed', 'created_at', 'updated_at', 'archived_at',
                        'archived_reason', 'created_run', 'updated_run', 'restored_run', 'archived_run',
                        'fingerprint', 'fingerprint_version')
EXCEPT
SELECT replace(s.relname, 'stage_', ''), a.attname
FROM pg_class s
JOIN pg_attribute a ON a.attrelid = s.oid AND a.attnum > 0 AND a.atttypid = 'text'::regtype
WHERE s.relnamespace = 'sis_sync'::regnamespace AND s.relkind = 'p';

-- a roster is made once, in a schema of its own
SELECT probe.error_of($$SELECT sis_sync.create_roster('roster')$$);
SELECT probe.error_of($$SELECT sis_sync.create_roster('')$$);
SELECT probe.error_of(format('SELECT sis_sync.create_roster(%L)', repeat('a', 64)));
SELECT probe.error_of($$SELECT sis_sync.create_roster('pg_roster')$$);
BEGIN;
SELECT sis_sync.create_roster('Her "own" roster');
SELECT count(*) FROM pg_class WHERE relnamespace = '"Her ""own"" roster"'::regnamespace AND relkind = 'r';
ROLLBACK;

-- it belongs to the caller, who needs the right to make a schema
CREATE ROLE regress_sis_app;
GRANT USAGE ON SCHEMA sis_sync, probe TO regress_sis_app;
GRANT EXECUTE ON FUNCTION sis_sync.create_roster(text) TO regress_sis_app;
SET ROLE regress_sis_app;
SELECT probe.error_of($$SELECT sis_sync.create_roster('hers')$$) ~ '^42501' AS refused;
RESET ROLE;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_sis_app', current_database()); END $$;
BEGIN;
SET LOCAL ROLE regress_sis_app;
SELECT sis_sync.create_roster('hers');
SELECT n.nspowner::regrole AS schema, string_agg(DISTINCT c.relowner::regrole::text, ', ') AS tables
FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE n.nspname = 'hers' GROUP BY 1;
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = warning;
GRANT EXECUTE ON FUNCTION sis_sync.upgrade_roster(text) TO regress_sis_app;
SET LOCAL ROLE regress_sis_app;
SELECT sis_sync.create_roster('hers');
SELECT sis_sync.upgrade_roster('hers');
SELECT probe.error_of($$SELECT sis_sync.upgrade_roster('roster')$$) ~ '^42501' AS refused;
ROLLBACK;

-- ----------
-- upgrade_roster()
-- ----------

SET client_min_messages = warning;
SELECT probe.error_of($$SELECT sis_sync.upgrade_roster('nowhere')$$);

INSERT INTO roster.student (sync_id, source_id, given_name) VALUES (1, 'stu-1', 'Una');
ALTER TABLE roster.student ADD COLUMN locker text DEFAULT 'none';
CREATE VIEW probe.roster_objects AS
  SELECT c.relname::text AS name, a.attname::text AS part, format_type(a.atttypid, a.atttypmod) AS type,
         l.collname::text AS collated, pg_get_expr(d.adbin, d.adrelid) AS definition
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE c.relnamespace = 'roster'::regnamespace AND c.relkind IN ('r', 'v')
  UNION ALL
  SELECT c.relname, t.tgname, 'trigger', NULL, pg_get_triggerdef(t.oid)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE c.relnamespace = 'roster'::regnamespace AND NOT t.tgisinternal;
CREATE TABLE probe.roster_before AS SELECT * FROM probe.roster_objects;

-- on a whole one it changes nothing
SELECT sis_sync.upgrade_roster('roster');
(TABLE probe.roster_before EXCEPT TABLE probe.roster_objects)
UNION ALL
(TABLE probe.roster_objects EXCEPT TABLE probe.roster_before);

-- what an older one lacks is added
ALTER TABLE roster.student DROP COLUMN phone CASCADE;
ALTER TABLE roster.student DROP COLUMN given_name CASCADE;
ALTER TABLE roster.enrollment DROP COLUMN fingerprint_version;
ALTER TABLE roster.section DROP COLUMN term_source_ids CASCADE;
DROP TRIGGER forget_fingerprint ON roster.contact;
SELECT name, part, type FROM (TABLE probe.roster_before EXCEPT TABLE probe.roster_objects) x
ORDER BY name COLLATE "C", part COLLATE "C";
SELECT sis_sync.upgrade_roster('roster');
SELECT name, part, type, collated FROM (TABLE probe.roster_before EXCEPT TABLE probe.roster_objects) x
ORDER BY name COLLATE "C", part COLLATE "C";
SELECT sync_id, source_id, given_name, sis_managed, locker FROM roster.student;

-- the column and the view that tell an application its own schools are no exception
ALTER TABLE roster.school DROP COLUMN app_school CASCADE;
SELECT sis_sync.upgrade_roster('roster');
SELECT name, part, type, collated FROM (TABLE probe.roster_before EXCEPT TABLE probe.roster_objects) x
ORDER BY name COLLATE "C", part COLLATE "C";

-- ----------
-- DROP EXTENSION takes its own and leaves the roster
-- ----------

DROP EXTENSION sis_sync;
SELECT count(*) FROM pg_namespace WHERE nspname = 'sis_sync';
SELECT count(*) FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'sis\_%';
SELECT source_id FROM roster.student;
UPDATE roster.student SET family_name = 'Redfern', fingerprint = 1;
UPDATE roster.student SET family_name = 'Farrowby' RETURNING fingerprint;

SET client_min_messages = warning;
DROP SCHEMA probe CASCADE;
DROP OWNED BY regress_sis_app;
DROP ROLE regress_sis_app;

-- ----------
-- A database that is not UTF8 is refused
-- ----------

\set regression :DBNAME
CREATE DATABASE regress_sis_latin1 ENCODING 'LATIN1' LOCALE_PROVIDER 'libc' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c regress_sis_latin1
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE EXTENSION sis_sync;
SELECT count(*) FROM pg_namespace WHERE nspname = 'sis_sync';
\c :regression
DROP DATABASE regress_sis_latin1;
