# Rule 1: the deletion threshold, in all the ways a run can be started, and its
# exact arithmetic.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('threshold');

# 501 students, 20 sections with a teacher each, 4 enrollments a student; the
# first 100 students have a contact.
sub district_501
{
	return District->new(seed => 501, students => 501, sections => 20,
		staff => 10, contacts => 100, enroll => 4);
}

# The night after: so many of the last students gone, 3 new ones in 4 sections
# each, 7 with another e-mail address, a section gone.
sub next_night
{
	my ($d, $gone) = @_;

	$d->remove('student', $d->ids('student', 501 - $gone, $gone));
	$d->set('student', $_, email => "$_\@elsewhere.example.org")
	  for $d->ids('student', 0, 7);
	for (1 .. 3)
	{
		my $student = $d->add('student');

		$d->enroll($_, $student) for $d->ids('section', 0, 4);
	}
	$d->remove('section', $d->ids('section', 19, 1));
	return $d;
}

# ----------
# 50 of 501 at 10 %
# ----------
my $fifty = SampleSync->new($node, $db, 'fifty', district => district_501());
$fifty->succeeds('first load');
$fifty->all_counts_are('first load: created', 'created',
	school => 1, term => 1, course => 8, section => 20, student => 501,
	staff => 10, contact => 100, student_contact => 100, enrollment => 2024);
my $born = $fifty->list(
	'SELECT source_id || created_at FROM <roster>.student WHERE sync_id = <id>');

$fifty->{district}->remove('student',
	$fifty->{district}->ids('student', 451, 50));
$fifty->succeeds('50 of 501 leave');
$fifty->all_counts_are('50 leave: archived', 'archived',
	student => 50, enrollment => 200);
$fifty->counts_are('50 leave', student => {
		to_archive => 50, in_force => 501, allowed => 50, unchanged => 451,
		created => 0, updated => 0 },
	enrollment => { to_archive => 0, in_force => 2024, allowed => 202 });
is($fifty->value('SELECT count(*) FROM sis_sync.pending_archive'), 0,
	'50 leave: nothing is held back');
is($fifty->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'),
	501, 'an archived row stays');
is($fifty->value('SELECT count(*) FROM sis_sync.change'
		. " WHERE run_id = <run> AND record_type = 'student' AND action = 'archive'"),
	50, 'the change log has the 50');

$fifty->{district} = district_501();
$fifty->succeeds('the 50 return');
$fifty->counts_are('the 50 return',
	student => { restored => 50, created => 0, unchanged => 451 },
	enrollment => { restored => 200, created => 0 });
is($fifty->list(
		'SELECT source_id || created_at FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NULL'),
	$born, 'those who returned have the rows they had');

# An export that numbers its rows anew: the same ends and role, other IDs.
$fifty->{district}->renumber_enrollments;
$fifty->succeeds('all enrollments are renumbered');
$fifty->counts_are('renumbered', enrollment => {
		created => 2024, archived => 2024, to_archive => 0, in_force => 2024 });

# ----------
# 51 of 501 at 10 %, by CALL
# ----------
my $call = SampleSync->new($node, $db, 'fiftyone', district => district_501());
$call->succeeds('first load');
my @gone = $call->{district}->ids('student', 450, 51);
next_night($call->{district}, 51);

my $before = $call->digest;
$call->write;
my $dry = $call->run_ends_in('SI001', 'dry run', $call->call_sql('dry'));
like($dry->{message}, qr/\b51\b.*\b501\b|\b501\b.*\b51\b/,
	'dry run: the same error as the real run');
is($call->digest, $before, 'dry run: nothing changed');
is($call->last_run->{dry_run}, 't', 'dry run: the log says so');

my $error = $call->run_ends_in('SI001', '51 of 501 leave');
is($error->{constraint}, 'deletion_threshold_reached', 'SI001: condition');
is($error->{table}, 'student', 'SI001: record type');
like($error->{message}, qr/(?<![\d.])$_(?![\d.]*\d)/,
	"SI001: the primary message has $_")
  for 51, 501, 10, 50;
like($error->{hint}, qr/threshold/i, 'SI001: the hint names a way on');
my ($raise) = $error->{hint} =~ /(INSERT INTO .*?), and run/;
$call->do($raise =~ s/\.\.\./$_/r) for 30, 20;
is($call->value("SELECT percent FROM sis_sync.sync_threshold WHERE sync = '$call->{name}'"),
	20, 'SI001: the statement of the hint works, the second time too');
$call->do("DELETE FROM sis_sync.sync_threshold WHERE sync = '$call->{name}'");
$call->all_counts_are('51 leave: archived', 'archived');
$call->counts_are('51 leave: creates and updates are kept', student => {
		created => 3, updated => 7, unchanged => 443, to_archive => 51,
		in_force => 501, allowed => 50 },
	section => { to_archive => 1, in_force => 20, allowed => 2 },
	enrollment => { created => 12 });
is($call->value(
		'SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NULL'),
	504, '51 leave: 501 and the 3 new ones are there');
is($call->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND email LIKE '%\@elsewhere.example.org'"),
	7, '51 leave: the 7 addresses are there');
is($call->list("SELECT source_id FROM sis_sync.pending_archive"
		  . " WHERE run_id = <run> AND record_type = 'student'"),
	join(' ', sort @gone), '51 leave: exactly these are pending');
is($call->list("SELECT source_id FROM sis_sync.pending_archive"
		  . " WHERE run_id = <run> AND record_type = 'section'"),
	'sec-00020', '51 leave: the section is pending, though its type did not trip');
my $run = $call->last_run;
is_deeply([ @$run{qw(status reason error_code message)} ],
	[ 'failed', 'Threshold', 'SI001', $error->{message} ],
	'51 leave: the log has the reason and the message');
isnt($run->{finished_at}, undef, '51 leave: the run is finished');

$call->do("UPDATE sis_sync.sync SET deletion_threshold = 20 WHERE id = <id>");
$call->run_succeeds('threshold raised to 20');
$call->counts_are('threshold raised to 20', student => {
		archived => 51, to_archive => 51, in_force => 504, allowed => 100,
		created => 0, updated => 0 },
	section => { archived => 1 });
is($call->list('SELECT source_id FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NOT NULL'),
	join(' ', sort @gone), 'threshold raised: exactly the 51 are archived');

# ----------
# The same in one transaction, and in four
# ----------
my $steps = SampleSync->new($node, $db, 'steps', district => district_501());
$steps->succeeds('first load');
next_night($steps->{district}, 51);
$steps->write;
$before = $steps->digest;
my $runs = $steps->value('SELECT count(*) FROM sis_sync.run');

sub nothing_changed
{
	my ($title) = @_;

	is($steps->digest, $before, "$title: the roster is as it was");
	is($steps->value('SELECT count(*) FROM sis_sync.run'),
		$runs, "$title: no run is left in the log");
	return;
}

$error = $steps->run_ends_in('SI001', 'run_atomic',
	"SELECT sis_sync.run_atomic('steps')");
like($error->{message}, qr/\b51\b.*\b501\b/, 'run_atomic: with its numbers');
nothing_changed('run_atomic');

$steps->run_ends_in('SI001', 'four steps in one transaction', q{
	DO $$
	DECLARE r bigint;
	BEGIN
	  r := sis_sync.stage('steps');
	  PERFORM sis_sync.verify(r);
	  PERFORM sis_sync.apply(r);
	  PERFORM sis_sync.archive(r);
	END $$});
nothing_changed('four steps in one transaction');

# Four statements in one transaction, each of which sees what the last one did.
my $session = $node->session($db);
$session->query('BEGIN');
my $id = $session->query("SELECT sis_sync.stage('steps')")->{out}[0][0];
for my $step (qw(verify apply))
{
	is($session->query("SELECT sis_sync.$step($id)")->{error},
		undef, "$step in an open transaction");
}
is($session->query('SELECT count(*) FROM roster.student WHERE sync_id = '
		  . $steps->id)->{out}[0][0],
	504, 'the transaction sees what apply did');
is($session->query("SELECT sis_sync.archive($id)")->{error}{sqlstate},
	'SI001', 'archive in an open transaction: SI001');
$session->query('ROLLBACK');
$session->close;
nothing_changed('four statements in one transaction');

# CALL where it cannot commit
$node->run($db, q{
	CREATE FUNCTION public.calls() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN CALL sis_sync.run('steps'); END $$});
my %refused = (
	'inside BEGIN' => "BEGIN;\nCALL sis_sync.run('steps')",
	'in a function' => 'SELECT public.calls()',
	'DO with an exception block' => q{
		DO $$
		BEGIN
		  BEGIN
		    CALL sis_sync.run('steps');
		  EXCEPTION WHEN division_by_zero THEN NULL;
		  END;
		END $$},
	'a string of several statements' =>
	  "SELECT 1\\; CALL sis_sync.run('steps')\\; SELECT 2",
	'dry run inside BEGIN' =>
	  "BEGIN;\nCALL sis_sync.run('steps', dry_run => true)");
for my $where (sort keys %refused)
{
	$error = $steps->run_ends_in('25001', "CALL: $where", $refused{$where});
	like($error->{hint} // '', qr/run_atomic/, "CALL: $where: the hint");
	nothing_changed("CALL: $where");
}

# Out of order
$id = $steps->value("SELECT sis_sync.stage('steps')");
$steps->run_ends_in('55000', 'apply before verify', "SELECT sis_sync.apply($id)");
$steps->run_ends_in('55000', 'archive before verify',
	"SELECT sis_sync.archive($id)");
is($steps->digest, $before, 'out of order: the roster is as it was');

# Four transactions
my $old = $id;
$id = $steps->value("SELECT sis_sync.stage('steps')");
cmp_ok($id, '>', $old, 'stage returns a new run');
$steps->do("SELECT sis_sync.verify($id)");
is($steps->digest, $before, 'verify changes nothing, and only reports the trip');
$steps->run_ends_in('55000', 'archive before apply',
	"SELECT sis_sync.archive($id)");
$steps->do("SELECT sis_sync.apply($id)");
$steps->run_ends_in('SI001', 'four transactions: archive',
	"SELECT sis_sync.archive($id)");
is($steps->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'
		  . " AND created_run = $id"),
	3, 'four transactions: the 3 new ones stay');
is($steps->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND email LIKE '%\@elsewhere.example.org'"),
	7, 'four transactions: the 7 updates stay');
is($steps->value(
		'SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NOT NULL'),
	0, 'four transactions: nothing is archived');

# The guard is judged again by archive itself.
$steps->do('UPDATE sis_sync.sync SET deletion_threshold = 20 WHERE id = <id>');
$id = $steps->value("SELECT sis_sync.stage('steps')");
$steps->do("SELECT sis_sync.verify($id)");
$steps->do("SELECT sis_sync.apply($id)");
$steps->do('UPDATE sis_sync.sync SET deletion_threshold = 10 WHERE id = <id>');
$steps->run_ends_in('SI001', 'threshold lowered between apply and archive',
	"SELECT sis_sync.archive($id)");
$steps->do('UPDATE sis_sync.sync SET deletion_threshold = 20 WHERE id = <id>');
is($steps->call("SELECT sis_sync.archive($id)"), undef,
	'threshold raised again: archive succeeds');
is($steps->value(
		'SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NOT NULL'),
	51, 'and archives the 51');

# run_atomic on a night without trouble
$steps->{district}->add('student');
$steps->write;
$id = $steps->value("SELECT sis_sync.run_atomic('steps')");
is($id, $steps->last_run->{id}, 'run_atomic returns the run');
is($steps->last_run->{status}, 'succeeded', 'run_atomic: the run succeeded');
$steps->counts_are('run_atomic', student => { created => 1 });

# ----------
# Exact arithmetic
# ----------
my $case = 0;

sub case
{
	my ($students, $leave, $percent, $allowed, $trips, %more) = @_;
	my $title = "$leave of $students at $percent %";
	my $s = SampleSync->new($node, $db, 'case' . ++$case,
		district => District->new(students => $students, sections => 1,
			staff => 1, teachers => 0, enroll => 0),
		set => { deletion_threshold => $percent });

	$s->do(sprintf 'INSERT INTO sis_sync.sync_threshold'
		  . " (sync, record_type, percent, valid_until) VALUES ('%s', %s)",
		$s->{name}, $more{threshold}) if $more{threshold};
	$s->succeeds("$title, first load");
	$s->{district}->remove('student',
		$s->{district}->ids('student', $students - $leave, $leave));
	if ($trips)
	{
		my $e = $s->ends_in('SI001', $title);

		like($e->{message}, qr/(?<![\d.])$leave(?!\d)/, "$title: A in the message");
		is($s->value('SELECT count(*) FROM sis_sync.pending_archive'
				  . ' WHERE run_id = <run>'),
			$leave, "$title: pending");
	}
	else
	{
		$s->succeeds($title);
	}
	$s->counts_are($title, student => {
			in_force => $students, to_archive => $leave, allowed => $allowed,
			archived => $trips ? 0 : $leave });
	return $s;
}

case(100, 7, 7, 7, 0);
case(100, 8, 7, 7, 1);
case(100, 29, 29, 29, 0);
case(100, 30, 29, 29, 1);
case(10_000, 3_099, 30, 3_000, 1);
case(10_000, 3_000, 30, 3_000, 0);
case(1_000, 25, 2.5, 25, 0);
case(1_000, 26, 2.5, 25, 1);
case(100, 2, 2.5, 2, 0);
case(100, 3, 2.5, 2, 1);
case(100, 1, 0, 0, 1);
case(100, 99, 100, 100, 0);

# A row in sync_threshold overrides, until its moment has passed.
case(100, 15, 10, 15, 0, threshold => "'student', 15, NULL");
case(100, 15, 10, 15, 0, threshold => "'student', 15, now() + interval '1 hour'");
case(100, 15, 10, 10, 1, threshold => "'student', 15, now() - interval '1 hour'");
case(100, 15, 20, 5, 1, threshold => "'student', 5, NULL");
case(100, 15, 10, 10, 1, threshold => "'staff', 100, NULL");

# Terms and courses are free, unless a row governs them.
my $free = SampleSync->new($node, $db, 'free',
	district => District->new(students => 20, sections => 4, staff => 2));
$free->succeeds('first load');

sub other_courses
{
	my ($d) = @_;
	my @old = $d->ids('course');

	$d->add('course') for @old;
	my @new = $d->ids('course', scalar @old, scalar @old);
	my %new;
	@new{@old} = @new;
	$_->{course} = $new{ $_->{course} } for @{ $d->{section} };
	$d->drop('course', @old);
	return;
}

other_courses($free->{district});
$free->succeeds('all courses have new IDs');
$free->counts_are('all courses have new IDs',
	course => { created => 8, archived => 8 },
	section => { updated => 4, archived => 0 });
$free->do("INSERT INTO sis_sync.sync_threshold VALUES ('free', 'course', 10, NULL)");
other_courses($free->{district});
$error = $free->ends_in('SI001', 'again, with a threshold for courses');
is($error->{table}, 'course', 'the record type of that error');
$free->counts_are('with a threshold for courses',
	course => { to_archive => 8, in_force => 8, allowed => 2, archived => 0 });

done_testing;
