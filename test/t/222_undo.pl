# undo(): puts back what a run did, as a run of its own; what was changed since
# is left and listed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;
use Time::HiRes qw(time);

my $node = SisTest->new->start;
my $db = $node->fresh_db('undo');

# A checksum of each row: all columns of the record, NULLs and arrays included,
# whose it is, whether it is there, and its fingerprint.
sub rows_of
{
	my ($s, $condition) = @_;
	my %rows;

	$condition //= 'true';
	for my $type (@SampleSync::TYPES)
	{
		$rows{"$type/$_->[0]"} = $_->[1] for @{
			$s->rows("SELECT t.source_id, md5((to_jsonb(t) - '{created_at,updated_at,"
				  . "archived_at,archived_reason,created_run,updated_run,restored_run,"
				  . "archived_run}'::text[])::text) || (archived_at IS NULL)"
				  . " FROM <roster>.$type t WHERE sync_id = <id> AND $condition")
		};
	}
	return \%rows;
}

sub undo
{
	my ($s, $run, @more) = @_;

	return sprintf 'CALL sis_sync.undo(%s)', join ', ', $run // $s->last_run->{id}, @more;
}

sub skipped
{
	my ($s) = @_;

	return $s->rows('SELECT record_type, source_id, reason FROM sis_sync.skipped'
		  . ' WHERE run_id = <run> ORDER BY 1, 2');
}

# ----------
# One night with everything, and back, and forth
# ----------
my $d = District->new(schools => 3, students => 300, sections => 30, staff => 24,
	contacts => 90, enroll => 3);
my $s = SampleSync->new($node, $db, 'night', district => $d);
my $away = $d->copy;

$s->succeeds('first load');
my $load = $s->last_run->{id};
$d->remove('student', 'stu-000290', 'stu-000291');
$d->remove('section', 'sec-00030');
$s->succeeds('two leave, who will return');
my $middle = $s->last_run->{id};
my $first = rows_of($s);

# values become others, NULL becomes a value and a value NULL, lists change
$s->{district} = $d = $away->copy;
$d->remove('student', $d->ids('student', 295, 5));
$d->remove('staff', 'stf-00024');
$d->set('student', 'stu-000001', email => 'new@example.org', phone => '802-555-0001');
$d->set('student', 'stu-000002', email => '', middle => 'Quill', grade => '12');
$d->set('student', 'stu-000290', family => 'Returned');
$d->set('section', 'sec-00001', grades => [ '01', '02' ], periods => [], location => '');
$d->set('section', 'sec-00002', subjects => [], name => q{It's "quoted" \\ and {braced}});
$d->set('term', 'term-01', end => District::today(210));
$d->set('enrollment', 'enr-0000001', primary => 'true', begin => District::today(-3));
$d->set('school', 'sch-002', name => 'Renamed');
$d->add('student') for 1 .. 4;
$d->enroll('sec-00001', $_) for $d->ids('student', 295, 4);
$s->do("INSERT INTO sis_sync.sync_school VALUES ('night', '0103', 'the third')");
$s->succeeds('a night with everything');
my $night = $s->last_run->{id};
$s->counts_are('a night with everything',
	student => { created => 4, updated => 2, restored => 2, archived => 5 },
	section => { updated => 2, restored => 1 }, school => { updated => 2 },
	staff => { archived => 1 }, term => { updated => 1 });
my $after = rows_of($s);
my $active = $s->active;
my $before;

is($s->call(undo($s)), undef, 'undo succeeds');
is_deeply([ @{ $s->last_run }{qw(kind of_run status error_code)} ],
	[ 'undo', $night, 'succeeded', undef ], 'it is a run of its own');
is_deeply(skipped($s), [], 'nothing is left as it is') or diag explain skipped($s);
is_deeply(rows_of($s, "created_run <> $night"), $first,
	'every row that was there is as it was, NULLs and lists included');
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND created_run = $night AND archived_at IS NULL"), 0,
	'what the run created is archived');
is($s->value('SELECT archived_reason FROM <roster>.student WHERE sync_id = <id>'
		  . " AND source_id = 'stu-000301'"), "undo of run $night", 'and says why');
$s->counts_are('the counts of the undo',
	student => { archived => 6, updated => 2, restored => 5 },
	section => { archived => 1, updated => 2 }, school => { updated => 2 },
	staff => { restored => 1 });
my $undo = $s->last_run->{id};
is($s->value("SELECT undone_by FROM sis_sync.run WHERE id = $night"), $undo,
	'the run says by whom it was undone');
my $error = $s->run_ends_in('55000', 'undone twice', undo($s, $night));
like($error->{hint}, qr/undo\($undo\)/, 'the hint says how it comes back');

is($s->call(undo($s, $undo)), undef, 'undo of the undo');
is_deeply(rows_of($s), $after, 'the state before the undo');
is_deeply($s->active, $active, 'with as many records');
is($s->value("SELECT undone_by FROM sis_sync.run WHERE id = $night"), undef,
	'the run is in effect again');
$s->run_succeeds('the same night again');
for my $what (qw(created updated restored archived))
{
	$s->all_counts_are("the same night again: $what", $what);
}

# Back by three nights, the last one first
my $redo = $s->value("SELECT max(id) FROM sis_sync.run WHERE kind = 'undo'");
is($s->call(undo($s, $redo)), undef, 'undo of the undo of the undo');
is_deeply(rows_of($s, "created_run <> $night"), $first, 'as after the first undo');
is($s->call(undo($s, $middle)), undef, 'then the night before');
is_deeply(skipped($s), [], 'nothing is left as it is') or diag explain skipped($s);
is($s->active->{student}, 300, 'all 300 students are there');
is($s->call(undo($s, $load)), undef, 'then the first load');
is_deeply(skipped($s), [], 'nothing is left as it is') or diag explain skipped($s);
is_deeply([ values %{ $s->active } ], [ (0) x 9 ], 'nobody is there any more');
$s->run_succeeds('the next night brings all back');
$s->counts_are('brought back', student => { restored => 299, created => 0 });
is_deeply($s->active, $active, 'as many as the source has');

# ----------
# What was changed since is left, and listed
# ----------
$d = District->new(students => 60, sections => 6, staff => 6, contacts => 20,
	enroll => 2);
$s = SampleSync->new($node, $db, 'since', district => $d);
$s->succeeds('first load');
$d->set('student', $_, email => "$_\@one.example.org") for $d->ids('student', 0, 8);
my @left = map { $_->{id} }
  grep { $_->{person} =~ /^stu-00005[78]$/ } @{ $d->{enrollment} };
$d->remove('student', $d->ids('student', 56, 4));
my $new = $d->add('student');
$d->enroll('sec-00001', $new);
$s->succeeds('one');
$night = $s->last_run->{id};
$d->set('student', 'stu-000001', email => 'two@example.org');
$d->remove('student', 'stu-000002');
$d->enroll('sec-00002', $new);
$s->succeeds('two');
$s->do(<<'SQL');
UPDATE <roster>.student SET email = 'hand@example.org' WHERE sync_id = <id> AND source_id = 'stu-000003';
UPDATE <roster>.student SET sis_managed = false WHERE sync_id = <id> AND source_id IN ('stu-000004', 'stu-000057');
DELETE FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000005';
UPDATE <roster>.student SET phone = '1' WHERE sync_id = <id> AND source_id = 'stu-000058';
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep BEFORE UPDATE ON <roster>.student FOR EACH ROW
  WHEN (old.source_id = 'stu-000006') EXECUTE FUNCTION public.keep();
SQL
my (undef, $notice) = $node->try($db, undo($s, $night));
like($notice, qr/NOTICE: .*\b12 records were changed since run $night\b/,
	'a notice says how many');
is_deeply(skipped($s), [
		(map { [ 'enrollment', $_, 'one of its ends has left' ] } sort @left),
		[ 'student', 'stu-000001', 'it was changed by a later run' ],
		[ 'student', 'stu-000002', 'it was changed by a later run' ],
		[ 'student', 'stu-000003', 'it was edited by hand' ],
		[ 'student', 'stu-000004', 'it belongs to the application' ],
		[ 'student', 'stu-000005', 'it is not there any more' ],
		[ 'student', 'stu-000006', 'a trigger, or somebody just now, kept it from being written' ],
		[ 'student', 'stu-000057', 'it belongs to the application' ],
		[ 'student', 'stu-000058', 'it was edited by hand' ] ],
	'and which, and why');

is_deeply($s->rows("SELECT source_id, email, archived_at IS NULL FROM <roster>.student"
		  . " WHERE sync_id = <id> AND source_id IN ('stu-000001', 'stu-000002',"
		  . " 'stu-000003', 'stu-000004', 'stu-000006', 'stu-000007') ORDER BY 1"), [
		[ 'stu-000001', 'two@example.org', 't' ],
		[ 'stu-000002', 'stu-000002@one.example.org', 'f' ],
		[ 'stu-000003', 'hand@example.org', 't' ],
		[ 'stu-000004', 'stu-000004@one.example.org', 't' ],
		[ 'stu-000006', 'stu-000006@one.example.org', 't' ],
		[ 'stu-000007', 's7@students.example.org', 't' ] ],
	'they are as they were; the others are back');
is_deeply($s->rows('SELECT archived_reason FROM <roster>.enrollment'
		  . " WHERE sync_id = <id> AND person_source_id = '$new' ORDER BY source_id"),
	[ [ "undo of run $night" ], ['goes with its end'] ],
	'a link of a later run goes with the record that the run had created');
is($s->value('SELECT count(*) FROM sis_sync.change WHERE run_id = <run>'
		  . " AND source_id = 'stu-000006'"),
	0, 'what a trigger kept is not in the change log');
$s->do("DROP TRIGGER keep ON <roster>.student");

# The same trigger in a run
$s->do("CREATE TRIGGER keep BEFORE UPDATE ON <roster>.student FOR EACH ROW"
	  . " WHEN (old.source_id IN ('stu-000010', 'stu-000020')) EXECUTE FUNCTION public.keep()");
$d->set('student', $_, email => "$_\@three.example.org") for $d->ids('student', 9, 3);
$d->remove('student', 'stu-000020', 'stu-000021');
$s->succeeds('a trigger keeps two rows');
is($s->list("SELECT action || ':' || source_id FROM sis_sync.change"
		  . " WHERE run_id = <run> AND record_type = 'student'"
		  . " AND source_id IN ('stu-000010', 'stu-000011', 'stu-000020', 'stu-000021')"),
	'archive:stu-000021 update:stu-000011',
	'the log of a run has what was really written');
$s->do("DROP TRIGGER keep ON <roster>.student");

# ----------
# By school, and by type
# ----------
$d = District->new(schools => 3, students => 90, sections => 9, staff => 9,
	contacts => 30, enroll => 2);
$s = SampleSync->new($node, $db, 'parts', district => $d);
$s->succeeds('first load');
$first = rows_of($s);
$d->set('student', $_, phone => '802-555-0100') for $d->ids('student');
$d->set('section', $_, location => 'Gym') for $d->ids('section');
$d->remove('student', 'stu-000088', 'stu-000089', 'stu-000090');
$s->succeeds('all change');
$night = $s->last_run->{id};
my $of_two = "school_source_id = 'sch-002'";
is($s->call(undo($s, $night, "school => '0102'")), undef, 'one school, by its own ID');
$s->counts_are('one school', student => { updated => 29, restored => 1 },
	section => { updated => 3 }, enrollment => { restored => 2 },
	contact => { updated => 0 });
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND phone = '802-555-0100' AND $of_two"), 0, 'all of it');
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND phone = '802-555-0100' AND archived_at IS NULL"), 58, 'and no other');
is($s->value("SELECT undone_by FROM sis_sync.run WHERE id = $night"), undef,
	'the run is not undone by a part');
is($s->call(undo($s, $night, 'NULL', "'section'")), undef, 'one type');
$s->counts_are('one type', section => { updated => 6 }, student => { updated => 0 });
is($s->call(undo($s, $night)), undef, 'the rest');
$s->counts_are('the rest', section => { updated => 0 },
	student => { updated => 58, restored => 2 });
is_deeply(rows_of($s, "created_run <> $night"), $first, 'with that all is back');
my $two = $s->last_run->{id};
$s->run_ends_in('22023', 'a school that is not there',
	undo($s, $two, "school => '0199'"));
$error = $s->run_ends_in('22023', 'a type that is not there',
	undo($s, $two, "record_type => 'pupil'"));
like($error->{hint}, qr/student, staff/, 'the hint names the types');

# Created students of one type leave with their links.
$d->enroll('sec-00001', $d->add('student')) for 1 .. 2;
$s->succeeds('two new students');
is($s->call(undo($s, undef, "record_type => 'student'")), undef, 'only the students');
$s->counts_are('with their links', student => { archived => 2 },
	enrollment => { archived => 2 });

# ----------
# What cannot be undone
# ----------
$s->run_succeeds('they come back');
my $restored = $s->last_run->{id};
$s->run_succeeds('a night without changes');
$s->run_ends_in('55000', 'it did nothing', undo($s));
$s->call($s->call_sql('dry'));
$s->run_ends_in('55000', 'a dry run', undo($s));
$s->run_ends_in('42704', 'a run that is not there', undo($s, 999999));
$s->run_ends_in('22004', 'no run', 'CALL sis_sync.undo(NULL)');
my $session = $node->session($db);
$session->query('BEGIN');
$session->query("SELECT sis_sync.stage('parts')");
$s->run_ends_in('SI008', 'while another run is in progress', undo($s, $night));
$session->query('ROLLBACK');
$session->close;

# In a transaction of the caller's, which takes it back
$before = rows_of($s);
is($s->call("BEGIN; CALL sis_sync.undo($restored); ROLLBACK"), undef, 'in a transaction block');
is_deeply(rows_of($s), $before, 'rolled back');

# A tripped run: its creates and updates can be undone, and undo needs no EXECUTE
# on anything else, but the caller's rights on the roster.
$d->remove('student', $d->ids('student', 30, 40));
$d->set('staff', 'stf-00001', email => 'head@example.org');
$s->ends_in('SI001', 'a trip');
is($s->call(undo($s)), undef, 'what a tripped run has written');
$s->counts_are('of a tripped run', staff => { updated => 1 });
$node->run($db, q{
	CREATE ROLE undoer LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster TO undoer;
	GRANT USAGE ON FOREIGN SERVER parts TO undoer;
	GRANT EXECUTE ON PROCEDURE sis_sync.undo(bigint, text, text) TO undoer;
	GRANT SELECT ON ALL TABLES IN SCHEMA roster TO undoer});
my $undo_it = undo($s);
is($node->fails($db, $undo_it, role => 'undoer')->{sqlstate}, '42501',
	'without rights on the roster');
$node->run($db, 'GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA roster TO undoer');
is($s->call($undo_it, role => 'undoer'), undef, 'with them');
is($s->last_run->{run_by}, 'undoer', 'the log says who');

# ----------
# Undo of a rekey
# ----------
$d = District->new(students => 100, sections => 10, staff => 10, contacts => 40,
	enroll => 2);
$s = SampleSync->new($node, $db, 'newids', district => $d);
$s->succeeds('first load');
$first = rows_of($s);
$d->rekey('student', sub { "n-$_[0]" });
$s->ends_in('SI011', 'new IDs');
$s->do(sprintf 'CALL sis_sync.rekey(%d)', $s->last_run->{id});
$after = rows_of($s);
my $rekey = $s->last_run->{id};
is($s->call(undo($s)), undef, 'undo of a rekey');
is_deeply(rows_of($s), $first, 'undo of a rekey: every row is as it was');
is($s->call(undo($s)), undef, 'and its undo');
is_deeply(rows_of($s), $after, 'the state before the undo');
$s->run_succeeds('the next run');
$s->counts_are('after all that', student => { unchanged => 100, updated => 0 },
	enrollment => { unchanged => 210, updated => 0 });
$new = $d->enroll('sec-00001', 'n-stu-000002');
$d->set('student', 'n-stu-000001', phone => '1');
$s->succeeds('a student changes, another has a new enrollment');
is($s->call(undo($s, $rekey)), undef, 'undo of the rekey, now');
is_deeply(skipped($s),
	[ [ 'student', 'n-stu-000001', 'it was changed since, or its old ID is taken' ] ],
	'the changed one keeps its new ID');
is($s->value('SELECT person_source_id FROM <roster>.enrollment WHERE sync_id = <id>'
		  . " AND source_id = '$new'"), 'stu-000002',
	'the new enrollment follows its student');

# ----------
# 100,000 records; the notes say how long it takes beside their load.  Each time
# the statistics are older than the sync: to the planner it has hardly a row.
# ----------
my ($loads, $undos) = (0, 0);
my $d_large = District->new(students => 100_000, sections => 10, staff => 5,
	enroll => 0, teachers => 0);
for my $round (1 .. 3)
{
	$s = SampleSync->new($node, $db, "large$round", district => $d_large);
	$s->write;
	$s->do('ANALYZE <roster>.student');
	my $start = time;
	$s->run_succeeds('100,000 records are loaded');
	my $load = time - $start;
	my $run = $s->last_run->{id};
	$before = $s->value("SELECT md5(string_agg((to_jsonb(t) - 'updated_at')::text, '' ORDER BY source_id))"
		  . ' FROM <roster>.student t WHERE sync_id = <id>');
	$start = time;
	is($s->call("SET statement_timeout = '60s';\n" . undo($s, $run)), undef, 'the load is undone');
	my $took = time - $start;
	note sprintf 'load %.2f s, undo %.2f s: %.2f', $load, $took, $took / $load;
	$loads += $load;
	$undos += $took;
}
note sprintf 'undo of a load, over three: %.2f of it', $undos / $loads;
is($s->active->{student}, 0, 'nobody is there');
is($s->call(undo($s)), undef, 'the undo is undone');
is($s->value("SELECT md5(string_agg((to_jsonb(t) - 'updated_at')::text, '' ORDER BY source_id))"
		  . ' FROM <roster>.student t WHERE sync_id = <id>'),
	$before, 'all 100,000 are as they were');

# A night that changes many records of a table that was never analyzed, and its
# undo: the delta must not be scanned once for each row of the roster.
my $plans = $node->fresh_db('plans');
$node->run($plans, 'ALTER TABLE roster.student SET (autovacuum_enabled = false)');
$s = SampleSync->new($node, $plans, 'unseen', district => $d_large);
$s->succeeds('100,000 that no statistics know of');
$d_large->set('student', $_, email => "$_\@elsewhere.example.org")
  for $d_large->ids('student', 0, 50_000);
$s->write;
$node->run($plans, q{CREATE TABLE roster.planned AS SELECT ''::text AS setting LIMIT 0});
$node->run($plans, q{CREATE FUNCTION roster.note_setting() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO roster.planned SELECT current_setting('enable_nestloop'); RETURN NULL; END$$});
$node->run($plans, 'CREATE TRIGGER note_setting AFTER UPDATE ON roster.student'
	  . ' FOR EACH STATEMENT EXECUTE FUNCTION roster.note_setting()');
is($s->call("SET statement_timeout = '60s';\n" . $s->call_sql), undef,
	'50,000 of them are updated within a minute');
$s->counts_are('updated', student => { updated => 50_000 });
is($s->call("SET statement_timeout = '60s';\n" . undo($s)), undef, 'and put back');
$s->counts_are('put back', student => { updated => 50_000 });
is_deeply($node->rows($plans, 'SELECT * FROM roster.planned'), [['on'], ['on']],
	"the application's triggers are planned with the session's settings");

done_testing;
