\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set common :abs_srcdir '/sql/include/common.psql'
\i :common
\set ECHO all
-- The options of the five wrappers, as CREATE and ALTER check them.
CREATE EXTENSION sis_sync;

-- What comes of setting one option.  The value stands in no part of an error:
-- it may be a secret in the wrong place.
CREATE FUNCTION probe.set_option(wrapper text, place text, name text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  code text; message text; detail text; hint text; verdict text;
BEGIN
  IF place = 'server' THEN
    EXECUTE format('CREATE SERVER probe FOREIGN DATA WRAPPER %I OPTIONS (%I %L)', wrapper, name, value);
  ELSE
    EXECUTE format('CREATE SERVER probe FOREIGN DATA WRAPPER %I', wrapper);
    EXECUTE format('CREATE USER MAPPING FOR PUBLIC SERVER probe OPTIONS (%I %L)', name, value);
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
  RETURN 'accepted';
WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
    detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  verdict := concat_ws(' / ', code, message, nullif(detail, ''), nullif(hint, ''));
  IF length(value) > 8 AND strpos(verdict, value) > 0 THEN
    verdict := verdict || ' / SHOWS THE VALUE';
  END IF;
  RETURN verdict;
END $$;

-- Design, section 2: which wrapper has which options, each with a good value.
CREATE TABLE probe.options AS
SELECT w.wrapper, o.place, o.name, o.value
FROM (VALUES
  ('directory', 'server', 'path', '/srv/rosters'),
  ('directory sftp', 'server', 'layout', 'oneroster'),
  ('directory sftp', 'server', 'encoding', 'WIN1252'),
  ('sftp', 'server', 'host', 'sftp.school.example'),
  ('sftp', 'server', 'port', '22'),
  ('sftp', 'server', 'path', '~/rosters'),
  ('sftp', 'server', 'host_key_sha256', 'SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEFG'),
  ('sftp', 'server', 'known_hosts', 'sftp.school.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA'),
  ('sftp', 'user mapping', 'username', 'quarry'),
  ('sftp', 'user mapping', 'password', 'hunter2hunter2'),
  ('sftp', 'user mapping', 'private_key', 'hunter2hunter2'),
  ('sftp', 'user mapping', 'passphrase', 'hunter2hunter2'),
  ('clever oneroster classlink', 'server', 'base_url', 'https://api.school.example'),
  ('clever oneroster classlink', 'server', 'token_url', 'https://login.school.example/oauth/token'),
  ('clever', 'server', 'api_version', 'v3.1'),
  ('clever', 'server', 'district_id', '5f1b0c'),
  ('oneroster classlink', 'server', 'version', '1.2'),
  ('oneroster classlink', 'server', 'auth', 'oauth2'),
  ('oneroster classlink', 'server', 'signature_method', 'HMAC-SHA256'),
  ('oneroster classlink', 'server', 'scope', 'roster-core.readonly'),
  ('classlink', 'server', 'application_id', 'a1b2'),
  ('sftp clever oneroster classlink', 'server', 'connect_timeout', '10'),
  ('sftp clever oneroster classlink', 'server', 'timeout', '600'),
  ('sftp clever oneroster classlink', 'server', 'max_connections', '4'),
  ('sftp clever oneroster classlink', 'server', 'page_size', '1000'),
  ('sftp clever oneroster classlink', 'server', 'ca_file', '/etc/ssl/ca.pem'),
  ('clever oneroster classlink', 'user mapping', 'token', 'hunter2hunter2'),
  ('clever oneroster classlink', 'user mapping', 'client_id', 'hunter2hunter2'),
  ('clever oneroster classlink', 'user mapping', 'client_secret', 'hunter2hunter2')
) o (wrappers, place, name, value),
LATERAL (SELECT 'sis_' || unnest(string_to_array(o.wrappers, ' '))) w (wrapper);

-- each is accepted, by itself and all together
SELECT wrapper, place, count(*) AS options
FROM probe.options GROUP BY wrapper, place ORDER BY wrapper, place;
SELECT wrapper, place, name, probe.set_option(wrapper, place, name, value) AS verdict
FROM probe.options
WHERE probe.set_option(wrapper, place, name, value) <> 'accepted'
ORDER BY wrapper, place, name;
SELECT w.wrapper,
       probe.refusal_of(format('CREATE SERVER %I FOREIGN DATA WRAPPER %I OPTIONS (%s)',
         'all_' || w.wrapper, w.wrapper, w.options)) AS verdict
FROM (SELECT wrapper, string_agg(format('%I %L', name, value), ', ') AS options
      FROM probe.options WHERE place = 'server' GROUP BY wrapper) w
ORDER BY w.wrapper;
SELECT w.wrapper,
       probe.refusal_of(format('CREATE USER MAPPING FOR PUBLIC SERVER %I OPTIONS (%s)',
         'all_' || w.wrapper, w.options)) AS verdict
FROM (SELECT wrapper, string_agg(format('%I %L', name, value), ', ') AS options
      FROM probe.options WHERE place = 'user mapping' GROUP BY wrapper) w
ORDER BY w.wrapper;

-- an option that no wrapper, or another one, has: the hint names the valid ones
SELECT w.wrapper, p.place, probe.set_option(w.wrapper, p.place, 'hoast', 'hunter2hunter2') AS verdict
FROM (SELECT DISTINCT wrapper FROM probe.options) w, (VALUES ('server'), ('user mapping')) p (place)
ORDER BY w.wrapper, p.place;
SELECT w.wrapper, count(*) AS foreign_options,
       count(*) FILTER (WHERE probe.set_option(w.wrapper, o.place, o.name, o.value) ~ '^HV00D / invalid option "') AS refused,
       count(*) FILTER (WHERE probe.set_option(w.wrapper, o.place, o.name, o.value) ~ 'SHOWS THE VALUE') AS shown
FROM (SELECT DISTINCT wrapper FROM probe.options) w,
     (SELECT place, name, min(value) AS value FROM probe.options GROUP BY place, name) o
WHERE NOT EXISTS (SELECT FROM probe.options p WHERE p.wrapper = w.wrapper AND p.place = o.place AND p.name = o.name)
GROUP BY w.wrapper ORDER BY w.wrapper;

-- a valid option in the wrong catalog: the detail says where it belongs
SELECT wrapper, probe.set_option(wrapper, 'user mapping', name, value) AS verdict
FROM probe.options WHERE place = 'server' AND name IN ('path', 'base_url') ORDER BY wrapper;
SELECT wrapper, probe.set_option(wrapper, 'server', name, value) AS verdict
FROM probe.options WHERE place = 'user mapping' AND name IN ('password', 'client_secret') ORDER BY wrapper;
SELECT o.wrapper, count(*) AS misplaced,
       count(*) FILTER (WHERE v.verdict ~ '^HV00D / invalid option .* is an option of (the server|a user mapping)\.') AS refused,
       count(*) FILTER (WHERE v.verdict ~ 'SHOWS THE VALUE') AS shown
FROM probe.options o,
     LATERAL (SELECT probe.set_option(o.wrapper, CASE o.place WHEN 'server' THEN 'user mapping' ELSE 'server' END,
                                      o.name, o.value) AS verdict) v
GROUP BY o.wrapper ORDER BY o.wrapper;
-- the wrapper itself and its tables have none
SELECT probe.error_of($$ALTER FOREIGN DATA WRAPPER sis_clever OPTIONS (ADD base_url 'https://api.school.example')$$);
SELECT probe.error_of($$ALTER FOREIGN DATA WRAPPER sis_clever OPTIONS (ADD token 'hunter2hunter2')$$);

-- ----------
-- Values
-- ----------

-- words: exactly as written
SELECT o.wrapper, o.name, v.value, probe.set_option(o.wrapper, 'server', o.name, v.value) AS verdict
FROM (VALUES
  ('sis_directory', 'layout', ARRAY['oneroster', 'clever', 'OneRoster', 'one', 'oneroster clever', ' ']),
  ('sis_directory', 'encoding', ARRAY['UTF8', 'WIN1252', 'UTF-8', 'LATIN1', 'WIN1250']),
  ('sis_sftp', 'layout', ARRAY['clever', 'edfi']),
  ('sis_sftp', 'encoding', ARRAY['UTF8', 'UTF16']),
  ('sis_clever', 'api_version', ARRAY['v3.0', 'v3.1', '3.0', 'v2.1', 'v3']),
  ('sis_oneroster', 'version', ARRAY['1.1', '1.2', '1.0', 'v1p2']),
  ('sis_oneroster', 'auth', ARRAY['oauth1', 'oauth2', 'bearer', 'basic', 'oauth']),
  ('sis_oneroster', 'signature_method', ARRAY['HMAC-SHA256', 'HMAC-SHA1', 'PLAINTEXT', 'HMAC-SHA']),
  ('sis_classlink', 'auth', ARRAY['oauth1', 'none'])
) o (wrapper, name, wanted), unnest(o.wanted) WITH ORDINALITY AS v (value, n)
ORDER BY o.wrapper, o.name COLLATE "C", v.n;

-- numbers
SELECT o.name, v.value, probe.set_option(o.wrapper, 'server', o.name, v.value) AS verdict
FROM (VALUES
  ('sis_sftp', 'port', ARRAY['1', '65535', '0', '65536', '-22', '22.5', '0x16', '22 ', 'ssh', '99999999999999999999']),
  ('sis_clever', 'connect_timeout', ARRAY['1', '600', '0', '601', '10s', '-1']),
  ('sis_clever', 'timeout', ARRAY['1', '86400', '0', '86401', '1 h']),
  ('sis_oneroster', 'max_connections', ARRAY['1', '16', '0', '17', 'many']),
  ('sis_oneroster', 'page_size', ARRAY['1', '10000', '0', '10001', '1e3'])
) o (wrapper, name, wanted), unnest(o.wanted) WITH ORDINALITY AS v (value, n)
ORDER BY o.name COLLATE "C", v.n;

-- nothing is empty
SELECT wrapper, count(*) AS options,
       count(*) FILTER (WHERE probe.set_option(wrapper, place, name, '') ~ '^22023 / invalid value for option ') AS refused
FROM probe.options GROUP BY wrapper ORDER BY wrapper;
SELECT probe.set_option('sis_clever', 'user mapping', 'token', '') AS verdict;

-- paths
SELECT o.wrapper, o.name, v.value, probe.set_option(o.wrapper, 'server', o.name, v.value) AS verdict
FROM (VALUES
  ('sis_directory', 'path', ARRAY['/srv/rosters', '/srv/rosters.zip', 'rosters', './rosters', '~/rosters']),
  ('sis_sftp', 'path', ARRAY['/rosters', '~/rosters', 'rosters', '~rosters', '../rosters']),
  ('sis_clever', 'ca_file', ARRAY['/etc/ssl/ca.pem', 'ca.pem'])
) o (wrapper, name, wanted), unnest(o.wanted) WITH ORDINALITY AS v (value, n)
ORDER BY o.wrapper, v.n;

-- addresses: https, and http on this machine only; no user, no blanks
SELECT v.value, probe.set_option('sis_oneroster', 'server', 'base_url', v.value) AS verdict
FROM unnest(ARRAY[
  'https://sis.school.example/ims/oneroster/v1p1',
  'https://sis.school.example:8443/ims/oneroster/rostering/v1p2/',
  'https://192.0.2.7/v1p1',
  'https://[2001:db8::7]:8443/v1p1',
  'https://sis.school.example/~ann@home/v1p1',
  'http://localhost:8080/v1p1',
  'http://127.0.0.1/v1p1',
  'http://127.8.8.8:8080/v1p1',
  'http://[::1]:8080/v1p1',
  'http://sis.school.example/v1p1',
  'http://192.0.2.7/v1p1',
  'http://localhost.school.example/v1p1',
  'http://127.0.0.1.school.example/v1p1',
  'http://[::2]/v1p1',
  'http://sis.school.example#@localhost/v1p1',
  'http://localhost@sis.school.example/v1p1',
  'http://localhost:80@sis.school.example/v1p1',
  'http://localhost\@sis.school.example/v1p1',
  'https://ann:hunter2@sis.school.example/v1p1',
  'https://hunter2hunter2@sis.school.example/v1p1',
  'https:///v1p1',
  'https://:8443/v1p1',
  'https://?host=sis.school.example',
  'https://sis.school.example/a b',
  E'https://sis.school.example/a\nb',
  'ftp://sis.school.example/v1p1',
  'file:///etc/passwd',
  'sis.school.example/v1p1',
  'https:/sis.school.example'
]) WITH ORDINALITY AS v (value, n)
ORDER BY v.n;
-- the others that hold an address follow the same rules
SELECT o.wrapper, o.name, probe.set_option(o.wrapper, 'server', o.name, 'http://sis.school.example') AS plain,
       probe.set_option(o.wrapper, 'server', o.name, 'https://ann:hunter2@sis.school.example') ~ '^22023' AS user_refused,
       probe.set_option(o.wrapper, 'server', o.name, 'http://localhost:8080') AS loopback
FROM probe.options o WHERE o.name LIKE '%\_url' ORDER BY o.wrapper, o.name;

-- host keys: one or more fingerprints, with or without SHA256:
SELECT v.value, probe.set_option('sis_sftp', 'server', 'host_key_sha256', v.value) AS verdict
FROM unnest(ARRAY[
  '0123456789abcdefghijklmnopqrstuvwxyzABCDEFG',
  'SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDE+/',
  'SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEFG=',
  'SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEFG, 0123456789abcdefghijklmnopqrstuvwxyzABCDEFG',
  'SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEF',
  'SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEFG SHA256:short',
  'MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48',
  ' , '
]) WITH ORDINALITY AS v (value, n)
ORDER BY v.n;
SELECT v.value, probe.set_option('sis_sftp', 'server', 'known_hosts', v.value) AS verdict
FROM unnest(ARRAY[
  E'sftp.school.example ssh-ed25519 AAAA\nsftp.school.example ecdsa-sha2-nistp256 AAAA',
  '/etc/ssh/ssh_known_hosts',
  '~/.ssh/known_hosts',
  'sftp.school.example'
]) WITH ORDINALITY AS v (value, n)
ORDER BY v.n;

-- ----------
-- ALTER is checked like CREATE
-- ----------

CREATE SERVER valley FOREIGN DATA WRAPPER sis_clever;
ALTER SERVER valley OPTIONS (ADD timeout '60', ADD api_version 'v3.1');
SELECT probe.error_of($$ALTER SERVER valley OPTIONS (SET timeout 'never')$$);
SELECT probe.error_of($$ALTER SERVER valley OPTIONS (ADD token 'hunter2hunter2')$$);
ALTER SERVER valley OPTIONS (DROP timeout);
CREATE USER MAPPING FOR PUBLIC SERVER valley OPTIONS (token 'hunter2hunter2');
SELECT probe.error_of($$ALTER USER MAPPING FOR PUBLIC SERVER valley OPTIONS (SET token '')$$);
SELECT probe.error_of($$ALTER USER MAPPING FOR PUBLIC SERVER valley OPTIONS (ADD tokken 'hunter3hunter3')$$);
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'valley';

-- ----------
-- Rights
-- ----------

CREATE ROLE regress_sis_owner;
CREATE ROLE regress_sis_files IN ROLE pg_read_server_files;
CREATE ROLE regress_sis_reader;
GRANT USAGE ON SCHEMA probe TO regress_sis_owner, regress_sis_files, regress_sis_reader;
-- a wrapper is granted apart
GRANT USAGE ON FOREIGN DATA WRAPPER sis_directory, sis_sftp TO regress_sis_owner, regress_sis_files;
SET ROLE regress_sis_owner;
SELECT probe.refusal_of('CREATE SERVER hers FOREIGN DATA WRAPPER sis_clever');
-- files of the database host need pg_read_server_files, to set and to change
SELECT probe.error_of($$CREATE SERVER hers FOREIGN DATA WRAPPER sis_directory OPTIONS (path '/srv/rosters')$$);
SELECT probe.error_of($$CREATE SERVER hers FOREIGN DATA WRAPPER sis_sftp OPTIONS (ca_file '/etc/ssl/ca.pem')$$);
SELECT probe.refusal_of($$CREATE SERVER far FOREIGN DATA WRAPPER sis_sftp OPTIONS (path '/srv/rosters')$$);
CREATE SERVER hers FOREIGN DATA WRAPPER sis_directory OPTIONS (layout 'clever');
SELECT probe.error_of($$ALTER SERVER hers OPTIONS (ADD path '/srv/rosters')$$);
SELECT probe.error_of($$ALTER SERVER far OPTIONS (ADD ca_file '/etc/ssl/ca.pem')$$);
RESET ROLE;
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname IN ('hers', 'far') ORDER BY srvname;
SET ROLE regress_sis_files;
SELECT probe.refusal_of($$CREATE SERVER theirs FOREIGN DATA WRAPPER sis_directory OPTIONS (path '/srv/rosters')$$);
SELECT probe.refusal_of($$ALTER SERVER theirs OPTIONS (SET path '/srv/other')$$);
RESET ROLE;
-- a server given to another role does not let that role move it
GRANT USAGE ON FOREIGN DATA WRAPPER sis_directory TO regress_sis_owner;
ALTER SERVER theirs OWNER TO regress_sis_owner;
SET ROLE regress_sis_owner;
SELECT probe.error_of($$ALTER SERVER theirs OPTIONS (SET path '/etc')$$);
RESET ROLE;

-- secrets: for the server's owner and superusers only
GRANT USAGE ON FOREIGN SERVER valley TO regress_sis_reader;
SET ROLE regress_sis_reader;
SELECT srvname, usename, umoptions FROM pg_user_mappings WHERE srvname = 'valley';
SELECT option_value FROM information_schema.user_mapping_options WHERE foreign_server_name = 'valley';
RESET ROLE;
SET ROLE regress_sis_owner;
CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (username 'quarry', password 'hunter2hunter2');
SELECT srvname, usename, umoptions FROM pg_user_mappings WHERE srvname IN ('valley', 'far') ORDER BY srvname;
RESET ROLE;

SET client_min_messages = warning;
DROP EXTENSION sis_sync CASCADE;
DROP SCHEMA probe CASCADE;
DROP OWNED BY regress_sis_owner, regress_sis_files, regress_sis_reader;
DROP ROLE regress_sis_owner, regress_sis_files, regress_sis_reader;
