# What docs/security.md claims and no other test shows: each attack is made by
# the role that would make it, and must come to nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use POSIX ();
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('attacked');

sub district { return District->new(students => 40, sections => 4, staff => 4, enroll => 1, @_); }

# The error's SQLSTATE, or "none".
sub sqlstate
{
	my ($sql, %opt) = @_;
	my (undef, $err, $code) = $node->try($db, $sql, %opt);

	return $code == 0 ? 'none' : SisTest::parse_error($err)->{sqlstate} // $err;
}

# ----------
# An application's developer owns the roster, and runs the sync: his trigger
# alters a table that the run writes to later, so that an ID is of another type
# ----------
$node->run($db, q{
	CREATE ROLE developer LOGIN;
	GRANT CREATE ON DATABASE attacked TO developer;
	GRANT USAGE ON SCHEMA sis_sync TO developer;
	GRANT EXECUTE ON FUNCTION sis_sync.create_roster(text), sis_sync.upgrade_roster(text) TO developer;
	GRANT EXECUTE ON PROCEDURE sis_sync.run(text, boolean) TO developer});
for my $case ([ 'name', 'a value of fixed length, read as one with a length of its own' ],
	[ 'varchar', 'one of the same bytes' ])
{
	my ($type, $title) = @$case;
	my $s = SampleSync->new($node, $db, "app_$type", district => district(), roster => "app_$type",
		set => { target_schema => "'app_$type'" });
	$node->run($db, "GRANT USAGE ON FOREIGN SERVER app_$type TO developer");
	$node->run($db, "SELECT sis_sync.create_roster('app_$type')", role => 'developer');
	$s->write;
	is(sqlstate($s->call_sql, role => 'developer'), 'none', "$type: the developer runs his sync");
	$node->run($db, qq{
		CREATE FUNCTION app_$type.alter_student() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
		  DROP VIEW IF EXISTS app_$type.person_app_school;
		  DROP TRIGGER IF EXISTS forget_fingerprint ON app_$type.student;
		  ALTER TABLE app_$type.student ALTER source_id TYPE $type;
		  RETURN NULL;
		END \$\$;
		CREATE TRIGGER alter_student AFTER UPDATE ON app_$type.school
		  FOR EACH STATEMENT EXECUTE FUNCTION app_$type.alter_student()}, role => 'developer');
	my $d = $s->{district};
	$d->set('school', ($d->ids('school'))[0], name => 'Renamed');
	$d->set('student', $_, given => 'Renamed') for $d->ids('student', 0, 10);
	$s->write;
	my (undef, $err) = $node->try($db, $s->call_sql, role => 'developer');
	my $error = SisTest::parse_error($err);
	is($error->{sqlstate}, '42804', "$type: $title, is refused") or diag($err);
	like($error->{message} // '', qr/^a column of the roster has changed its type during the run$/, "$type: and why");
	is($node->value($db, 'SELECT 1'), '1', "$type: the server stands");
	is($node->value($db, "SELECT count(*) FROM sis_sync.change c JOIN sis_sync.run r ON r.id = c.run_id
		WHERE r.sync = 'app_$type'"), 0, "$type: nothing misread is in the log");
	is($node->value($db, "SELECT data_type FROM information_schema.columns
		WHERE table_schema = 'app_$type' AND table_name = 'student' AND column_name = 'source_id'"),
		'text', "$type: and the table is as it was");
}

# ----------
# A hostile district: names and IDs that would be read as something else
# ----------
my $s = SampleSync->new($node, $db, 'springfield', district => district());
my $d = $s->{district};
my ($first) = $d->ids('student');
my $hostile = "Bob\nWHAT TO DO NEXT\n    DROP TABLE roster.student;\n\e]0;owned\a\x{9b}31m";
utf8::encode($hostile);
$d->set('student', $first, given => $hostile);
$s->succeeds('a student whose name is a page of text');
is($s->value(q{SELECT count(*) FROM <roster>.student WHERE given_name LIKE '%DROP TABLE%'}), 1,
	'it is kept as it came, a name');
$d->remove('student', $d->ids('student', 0, 20));
$s->ends_in('SI001', 'he and half of the others leave');
my $run = $s->last_run->{id};
my $text = $node->run($db, "SELECT sis_sync.explain_failure($run)");
like($text, qr/^    - Bob\?WHAT TO DO NEXT\?    DROP TABLE/m, 'explain_failure() has him in one line');
unlike($text, qr/^\s*DROP/m, 'no line of it is his');
is(scalar(() = $text =~ /^WHAT TO DO NEXT$/mg), 1, 'nor is a heading');
unlike($text, qr/[\x00-\x09\x0b-\x1f\x7f-\x9f]/, 'and there is nothing that a terminal obeys');

# the reason of somebody who may approve is one line as well
is(sqlstate("SELECT sis_sync.approve($run, E'yes\\nWHAT TO DO NEXT\\n    DROP TABLE x;')"), 'none', 'approved with such a reason');
$text = $node->run($db, "SELECT sis_sync.explain_failure($run)");
unlike($text, qr/^\s*DROP/m, 'nor is a line of it a reason\'s');
is(scalar(() = $text =~ /^WHAT TO DO NEXT$/mg), 1, 'nor a heading');

# ----------
# Names that administrators choose: no line feed, no escape; quotes are quoted
# ----------
for my $name ("E'a\\nb'", "E'\\x1b[2J'", "E'a\\x7f'", "U&'a\\009b'")
{
	is(sqlstate("INSERT INTO sis_sync.sync (name, server) VALUES ($name, 'springfield')"), '23514', "no sync is called $name");
	is(sqlstate("INSERT INTO sis_sync.sync (name, server) VALUES ('x', $name)"), '23514', 'no server');
	is(sqlstate("INSERT INTO sis_sync.sync (name, server, target_schema) VALUES ('x', 'x', $name)"), '23514', 'no roster');
	is(sqlstate("INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('springfield', $name)"), '23514', 'no school');
}
my $odd = q{x'); DROP TABLE roster.student; --"\é};
(my $literal = $odd) =~ s/'/''/g;
is(sqlstate("INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('$literal', 'springfield', true)"), 'none',
	'a name of quotes and statements may be');
is(sqlstate("CALL sis_sync.run('$literal', dry_run => true)"), 'none', 'and is run');
is(sqlstate("UPDATE sis_sync.sync SET max_age_hours = 1, run_every = '1 day' WHERE name = '$literal'"), 'none', 'and set up');
$node->run($db, "UPDATE sis_sync.sync SET all_schools = false WHERE name = '$literal'");
is(sqlstate("CALL sis_sync.run('$literal')"), 'SI009', 'and fails');
$text = $node->run($db, 'SELECT sis_sync.explain_failure((SELECT max(id) FROM sis_sync.run))');
my @statements = grep { !/<[A-Z ]+>/ } $text =~ /^    (\S.*;)$/mg;
cmp_ok(scalar @statements, '>=', 2, 'statements are printed for it');
is(sqlstate("BEGIN; $_ ROLLBACK"), 'none', "pasted, it does what it says: $_") for grep { !/^CALL/ } @statements;
is($node->value($db, q{SELECT to_regclass('roster.student')}), 'roster.student', 'and nothing else');
$node->run($db, "DELETE FROM sis_sync.sync WHERE name = '$literal'");

# ----------
# Settings of one sync that would end what serves all
# ----------
for my $set (q{run_every = '1 mon -29 days -23:59:59'}, q{run_every = '-1 year 400 days'},
	q{max_age_hours = 2147483647}, q{keep_values = '300000 years'}, q{keep_values = '5900000 years -2124000000 days'},
	q{keep_staged = '300000 years'})
{
	like(sqlstate("UPDATE sis_sync.sync SET $set WHERE name = 'springfield'"), qr/^(?:23514|22008)$/, "refused: $set");
}
is(sqlstate("UPDATE sis_sync.sync SET $_ WHERE name = 'springfield'"), 'none', "taken: $_")
  for q{run_every = '1 microsecond', next_run_at = '2000-01-01'}, q{run_every = '1 year', next_run_at = '294276-12-30'},
  q{run_every = '1 mon', next_run_at = 'infinity'}, q{max_age_hours = 87600}, q{keep_values = '900 years', keep_staged = '900 years'};
for my $set (q{run_every = '1 microsecond', next_run_at = '2000-01-01'}, q{run_every = '366 days', next_run_at = '294276-12-30'},
	q{run_every = '11 mons 20 days', next_run_at = '2000-01-01'})
{
	$node->run($db, "UPDATE sis_sync.sync SET $set WHERE name = 'springfield'");
	is($node->value($db, q{SELECT count(*) FROM sis_sync.due}), 1, "the view due stands: $set");
}
is($node->value($db, q{SELECT count(*) FROM sis_sync.health}), 3, 'health has all');
is(sqlstate('SELECT sis_sync.purge()'), 'none', 'and purge() goes through all');
$node->run($db, q{UPDATE sis_sync.sync SET run_every = NULL, next_run_at = NULL});

# ----------
# A role that only looks on keeps nobody from the staging slots
# ----------
$node->run($db, q{
	CREATE ROLE looker LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster TO looker;
	GRANT SELECT ON sis_sync.run TO looker;
	GRANT SELECT ON ALL TABLES IN SCHEMA roster TO looker;
	GRANT EXECUTE ON FUNCTION sis_sync.preview(bigint) TO looker});
for my $n (1 .. 16)
{
	$node->run($db, "INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('slot $n', 'springfield', true)");
	$node->run($db, "CALL sis_sync.run('slot $n', dry_run => true)");
}
is($node->value($db, q{SELECT count(DISTINCT run_id) FROM sis_sync.stage_slot WHERE sync LIKE 'slot %'}), 16,
	'sixteen dry runs have pinned all slots');
my $look = $node->session($db, role => 'looker');
$look->query('BEGIN');
$look->query("SELECT count(*) FROM sis_sync.preview($_)")
  for map { $_->[0] } @{ $node->rows($db, q{SELECT run_id FROM sis_sync.stage_slot}) };
$d->add('student');
$s->write;
is(sqlstate(q{SET statement_timeout = '60s'; CALL sis_sync.run('slot 1', dry_run => true)}), 'none',
	'a look at all of them, left open, keeps no run from a slot');
$look->close;

# ----------
# What runs with more rights than its caller's
# ----------
is_deeply($node->rows($db, q{
	SELECT p.oid::regprocedure, p.proconfig FROM pg_proc p
	WHERE p.pronamespace = 'sis_sync'::regnamespace AND p.prosecdef}),
	[ [ 'sis_sync.run_progress()', '{"search_path=pg_catalog, pg_temp"}' ] ],
	'one function is SECURITY DEFINER, it takes no argument, and its search_path is fixed');

# ----------
# search_path and operators: a role's own, before pg_catalog's
# ----------
$node->run($db, q{
	CREATE ROLE hijacker LOGIN;
	CREATE SCHEMA trap AUTHORIZATION hijacker;
	GRANT USAGE ON SCHEMA sis_sync, roster TO hijacker;
	GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA roster TO hijacker;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA sis_sync TO hijacker;
	GRANT USAGE ON FOREIGN SERVER springfield TO hijacker});
$node->run($db, q{
	CREATE TABLE trap.sprung (by text);
	GRANT INSERT ON trap.sprung TO PUBLIC;
	CREATE FUNCTION trap.note() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
	  IF current_user <> session_user THEN INSERT INTO trap.sprung VALUES (current_user); END IF;
	  RETURN true;
	END $$;
	CREATE FUNCTION trap.texteq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT pg_catalog.texteq($1, $2) AND trap.note()';
	CREATE FUNCTION trap.int8eq(int8, int8) RETURNS boolean LANGUAGE sql AS 'SELECT pg_catalog.int8eq($1, $2) AND trap.note()';
	CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.texteq);
	CREATE OPERATOR trap.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = trap.int8eq);
	CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now() WHERE trap.note()';
	CREATE FUNCTION trap.count("any") RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint WHERE trap.note()';
	CREATE FUNCTION trap.btrim(text) RETURNS text LANGUAGE sql AS 'SELECT $1 WHERE trap.note()'}
	=~ s/\tCREATE FUNCTION trap.count.*\n//r, role => 'hijacker');
my $path = q{SET search_path = trap, pg_catalog; };
for my $sql (q{SELECT sis_sync.stage('springfield')}, "SELECT sis_sync.explain_failure($run)",
	"SELECT * FROM sis_sync.preview((SELECT pg_catalog.max(run_id) FROM (VALUES ($run)) v (run_id)))",
	'SELECT * FROM sis_sync.run_progress()', q{SELECT * FROM sis_sync.mode_on('springfield', '2026-01-01')},
	'SELECT sis_sync.purge()')
{
	sqlstate($path . $sql, role => 'hijacker');
}
sqlstate($path . q{CALL sis_sync.run_due()}, role => 'hijacker');
is(sqlstate($path . q{CALL sis_sync.run('springfield', dry_run => true)}, role => 'hijacker'), 'none', 'a run under operators of the caller\'s own');
is($node->value($db, 'SELECT count(*) FROM trap.sprung'), 0, 'none of them was ever called as somebody else');

# ----------
# Notifications can be sent by anybody: they tell nothing that has not to be looked up
# ----------
$node->run($db, 'CREATE ROLE stranger LOGIN');
is(sqlstate(q{NOTIFY sis_sync, '{"run": 1}'}, role => 'stranger'), 'none', 'a forged notification is not refused by PostgreSQL');
is(sqlstate($_, role => 'stranger'), '42501', "a role with nothing: $_")
  for 'SELECT * FROM sis_sync.health', 'SELECT * FROM sis_sync.progress', 'SELECT * FROM sis_sync.due',
  'SELECT sis_sync.run_progress()', 'SELECT sis_sync.schedule()', 'CALL sis_sync.run_due()',
  q{SELECT sis_sync.erase_person('springfield', 'x')}, q{SELECT sis_sync.drop_sync('springfield')}, 'SELECT sis_sync.purge()';

# ----------
# The trigger of sis_sync.sync on a table of somebody's own, without its constraints
# ----------
$node->run($db, q{CREATE SCHEMA own AUTHORIZATION hijacker});
$node->run($db, q{
	CREATE TABLE own.sync (id int8, name text, target_schema text, timezone text);
	INSERT INTO own.sync VALUES (1, 'x', NULL, NULL);
	CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON own.sync FOR EACH ROW EXECUTE FUNCTION sis_sync.guard_sync()}, role => 'hijacker');
is(sqlstate($_, role => 'hijacker'), '39P01', "refused: $_")
  for q{UPDATE own.sync SET target_schema = 'roster'}, q{DELETE FROM own.sync};

# ----------
# What somebody who may put files into a folder can have the server open
# ----------
my $drop = SampleSync->new($node, $db, 'drop', district => district());
$drop->succeeds('a folder');
my $before = $drop->digest;
my $users = $drop->dir . '/users.csv';
rename $users, $node->dir('secret') . '/users.csv' or die $!;
symlink $node->dir('secret') . '/users.csv', $users or die $!;
is($drop->run_ends_in('SI004', 'a symbolic link out of the folder')->{message}, 'cannot open file "users.csv"', 'which');
unlink $users or die $!;
POSIX::mkfifo($users, 0666) or die $!;
is(sqlstate(q{SET statement_timeout = '20s'; CALL sis_sync.run('drop')}), 'SI007', 'a pipe in the place of a file hangs nobody');
is($drop->digest, $before, 'and nothing was changed');

# ----------
# Limits that the manual states: what a granted role can do beyond its own sync
# ----------
# whoever may change settings names the server of any sync, and so decides on all
$node->run($db, q{
	CREATE ROLE half_admin LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster TO half_admin;
	GRANT SELECT, UPDATE ON sis_sync.sync TO half_admin;
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA roster TO half_admin;
	GRANT EXECUTE ON FUNCTION sis_sync.drop_sync(text, boolean) TO half_admin;
	GRANT USAGE ON FOREIGN SERVER springfield TO half_admin});
is(sqlstate(q{SELECT sis_sync.drop_sync('drop')}, role => 'half_admin'), '42501', 'a sync over a server of others is not dropped');
is(sqlstate(q{UPDATE sis_sync.sync SET server = 'springfield' WHERE name = 'drop'; SELECT sis_sync.drop_sync('drop')},
	role => 'half_admin'), 'none', 'but by whoever may name another server for it');
# a trigger runs as whoever runs the sync
$node->run($db, q{
	CREATE TABLE trap.ran_as (by text);
	CREATE FUNCTION trap.ran() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO trap.ran_as VALUES (current_user); RETURN NULL; END $$;
	GRANT USAGE ON SCHEMA trap TO half_admin;
	GRANT INSERT ON trap.ran_as TO half_admin;
	GRANT EXECUTE ON PROCEDURE sis_sync.run(text, boolean) TO half_admin;
	CREATE TRIGGER ran AFTER INSERT OR UPDATE ON roster.student FOR EACH STATEMENT EXECUTE FUNCTION trap.ran()});
$d->add('student');
$s->write;
is(sqlstate($s->call_sql, role => 'half_admin'), 'none', 'a run with a trigger on the roster');
is($node->value($db, q{SELECT string_agg(DISTINCT by, ' ') FROM trap.ran_as}), 'half_admin', 'which runs with the rights of who runs the sync');

# ----------
# What an application's rules say of a row stays unsaid
# ----------
$node->run($db, q{DROP TRIGGER ran ON roster.student; CREATE UNIQUE INDEX one_email ON roster.student (email) WHERE archived_at IS NULL});
my ($one, $two) = ($d->ids('student'))[0, 1];
$d->set('student', $two, email => 'secret.person@example.org');
$s->succeeds('an address');
$d->set('student', $one, email => 'secret.person@example.org');
my $refusal = $s->ends_in('23505', 'the same one again, which the application forbids');
is($refusal->{detail}, q{The row's values are withheld; look for it in sis_sync.stage_student.}, 'the detail');
unlike($refusal->{text}, qr/secret\.person/, 'the error does not show it');
unlike(join('', map { $_ // '' } values %{ $s->last_run }), qr/secret\.person/, 'nor does the log of runs');
unlike($node->log, qr/secret\.person/, 'nor the server\'s log');
$node->run($db, 'DROP INDEX roster.one_email');

# ----------
# What is no plain table or column in a roster
# ----------
for my $case (
	[ 'a view', 'ALTER TABLE odd.term RENAME TO other; CREATE VIEW odd.term AS SELECT * FROM odd.other', qr/"term" is not a table/ ],
	[ 'a foreign table', 'CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nothing FOREIGN DATA WRAPPER nothing;
		ALTER TABLE odd.term RENAME TO other; CREATE FOREIGN TABLE odd.term () INHERITS (odd.other) SERVER nothing', qr/"term" is not a table/ ],
	[ 'a foreign child', 'CREATE FOREIGN TABLE odd.far () INHERITS (odd.term) SERVER nothing', qr/"far" is not a table/ ],
	[ 'a generated column', q{ALTER TABLE odd.term DROP COLUMN name CASCADE, ADD COLUMN name text GENERATED ALWAYS AS (upper(source_id)) STORED},
		qr/column "name" of table "term" is not a plain column/ ],
	[ 'a domain', 'CREATE DOMAIN odd.words AS text; DROP TRIGGER forget_fingerprint ON odd.term; ALTER TABLE odd.term ALTER name TYPE odd.words', qr/is not a plain column of type text/ ])
{
	my ($title, $sql, $message) = @$case;
	$node->run($db, "SET client_min_messages = warning; SELECT sis_sync.create_roster('odd'); $sql;
		INSERT INTO sis_sync.sync (name, server, target_schema, all_schools) VALUES ('odd', 'springfield', 'odd', true)");
	my $error = $node->fails($db, q{CALL sis_sync.run('odd')});
	is($error->{sqlstate}, 'SI009', "$title: SI009");
	like($error->{message} // '', $message, "$title: which");
	$node->run($db, q{SET client_min_messages = warning; DROP SCHEMA odd CASCADE; DELETE FROM sis_sync.sync WHERE name = 'odd'});
}

# ----------
# Advisory locks that anybody can take
# ----------
my $id = $s->id;
my $locker = $node->session($db, role => 'stranger');
$locker->query("SELECT pg_advisory_lock(1, $id), pg_advisory_lock((1::bigint << 32) + $id)");
$locker->query("SELECT pg_advisory_lock(2, n), pg_advisory_lock((2::bigint << 32) + n) FROM generate_series(0, 15) n");
$d->set('student', $one, email => 'another@example.org');
$s->succeeds('all of the numbers locked by a stranger');
$locker->close;

# ----------
# Whoever deletes a sync does not run the code of the roster's owner as himself
# ----------
$node->run($db, q{
	CREATE FUNCTION app_varchar.always() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN RAISE WARNING 'planned by %', current_user; RETURN true; END $$;
	CREATE INDEX planned ON app_varchar.school (sync_id) WHERE app_varchar.always()}, role => 'developer');
my (undef, $said) = $node->try($db, q{SELECT 1 FROM app_varchar.school WHERE sync_id = 1});
my $me = getpwuid $>;
like($said, qr/planned by $me$/m, 'the planner runs what stands in an index');
(undef, $said) = $node->try($db, q{DELETE FROM sis_sync.sync WHERE name = 'app_varchar'});
like($said, qr/planned by developer$/m, 'DELETE FROM sis_sync.sync has it run as the owner');
unlike($said, qr/planned by $me$/m, 'and never as whoever deletes');
is(SisTest::parse_error($said)->{sqlstate}, '2BP01', 'the sync stays, since it has records');

$node->stop;
done_testing();
