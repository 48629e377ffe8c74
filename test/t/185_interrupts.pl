# A run is cancelled, terminated, timed out or shut down within a second,
# wherever it is; the roster stays as it was, nothing is left behind, and the
# next run does all.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use Interrupt;
use SampleSync;
use SisTest;
use Time::HiRes qw(time sleep);

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('interrupts');
my $hold = Hold->new($node, $db);
my $interrupt = Interrupt->new($node, $db);
my $s = SampleSync->new($node, $db, 'held',
	district => District->new(students => 200, sections => 4, staff => 2,
		teachers => 0, enroll => 1),
	set => { deletion_threshold => 100 });
$s->succeeds('first load');

# Writes a night in which one student changes and one leaves.  For the fold an
# ID comes twice.
my $night = 0;

sub night
{
	my ($moment) = @_;
	my $d = $s->{district};

	$night++;
	$d->set('student', 'stu-000001', email => "night$night\@example.org");
	$d->remove('student', ($d->ids('student'))[-1]);
	$s->write($moment eq 'fold'
		? (change => { 'users/stu-000002' => sub { ($_[0], $_[0]) } }) : ());
	return;
}

# ----------
# Every way to end a run, at every moment
# ----------
for my $moment (@Hold::MOMENTS)
{
	for my $how (qw(cancel terminate shutdown))
	{
		my $title = "$moment, $how";

		night($moment);
		my $before = $s->digest;
		my $run = $hold->run($s, $moment);
		my ($seconds, $result) = $interrupt->end($how, $run);

		is($result->{error}{sqlstate}, $how eq 'cancel' ? '57014' : '57P01',
			"$title: PostgreSQL's own error") if $how ne 'shutdown';
		$hold->release;
		$interrupt->is_in_time($seconds, $title);
		$interrupt->nothing_is_left($s, $title, $before, $how eq 'cancel' ? $run->pid : undef);
		$interrupt->next_run_does_all($s, $title, $how eq 'cancel');
		$s->counts_are("$title: the next run",
			student => { updated => 1, archived => 1 });
		if ($how eq 'cancel')
		{
			is_deeply($run->query('SELECT 1')->{out}, [ [1] ],
				"$title: the session goes on");
		}
		$run->close;
	}
}

# ----------
# Timeouts: they count for the whole CALL, and are the user's own
# ----------
$node->run($db, q{
	CREATE ROLE hasty SUPERUSER LOGIN;
	ALTER ROLE hasty SET statement_timeout = '1s'});
for my $moment (@Hold::MOMENTS)
{
	for my $where (qw(session role))
	{
		my $title = "$moment, statement_timeout of the $where";

		night($moment);
		my $before = $s->digest;
		my $session = $node->session($db, role => $where eq 'role' ? 'hasty' : undef);
		my $start;

		$session->query(q{SET statement_timeout = '1s'}) if $where eq 'session';
		$hold->at($moment);
		$start = time;
		my $result = $session->query($s->call_sql);
		my $seconds = time - $start;

		is($result->{error}{sqlstate}, '57014', "$title: PostgreSQL's own error");
		like($result->{error}{message} // '', qr/statement timeout/,
			"$title: and which one");
		cmp_ok($seconds, '>=', 0.9, "$title: not before its time");
		$interrupt->is_in_time($seconds - 1, $title);
		$hold->release;
		$interrupt->nothing_is_left($s, $title, $before, $session->pid);
		$interrupt->next_run_does_all($s, $title, 1);
		$s->counts_are("$title: the next run",
			student => { updated => 1, archived => 1 });
		$session->close;
	}
}

# Steps of their own, and all four in one transaction
my %step = (
	stage => "SELECT sis_sync.stage('held')",
	verify => 'SELECT sis_sync.verify(<run>)',
	apply => 'SELECT sis_sync.apply(<run>)',
	archive => 'SELECT sis_sync.archive(<run>)');
night('verify');
for my $step (qw(stage verify apply archive))
{
	my $session = $node->session($db, role => 'hasty');
	my $before = $s->digest;

	$hold->at($step eq 'stage' ? 'slot' : $step);
	my $start = time;
	my $error = $session->query($s->sql($step{$step}))->{error} // {};
	my $seconds = time - $start;

	is($error->{sqlstate}, '57014', "$step(): statement_timeout of the role");
	$interrupt->is_in_time($seconds - 1, "$step(), statement_timeout");
	$hold->release;
	$interrupt->nothing_is_left($s, "$step(), statement_timeout", $before, $session->pid);
	is($s->call($s->sql($step{$step})), undef, "$step(): done again");
	$session->close;
}
$s->counts_are('the four steps', student => { updated => 1, archived => 1 });
for my $moment (qw(slot verify apply archive table row))
{
	my $session = $node->session($db);
	my $before;

	night($moment);
	$before = $s->digest;
	$hold->at($moment);
	$session->query(q{SET statement_timeout = '1s'});
	my $start = time;
	my $error = $session->query("SELECT sis_sync.run_atomic('held')")->{error} // {};
	my $seconds = time - $start;

	is($error->{sqlstate}, '57014', "run_atomic, $moment: statement_timeout");
	$interrupt->is_in_time($seconds - 1, "run_atomic, $moment");
	$hold->release;
	$interrupt->nothing_is_left($s, "run_atomic, $moment", $before, $session->pid);
	is($s->call("SELECT sis_sync.run_atomic('held')"), undef,
		"run_atomic, $moment: done again");
	$s->counts_are("run_atomic, $moment", student => { updated => 1, archived => 1 });
	$session->close;
}

# A run is no idle transaction.
night('apply');
my $run = $hold->run($s, 'apply',
	before => q{SET idle_in_transaction_session_timeout = '20ms'});
$node->wait_until($db, q{SELECT now() - query_start > interval '500 ms'
	FROM pg_stat_activity WHERE pid = } . $run->pid);
$hold->release;
is($run->wait->{error}, undef, 'idle_in_transaction_session_timeout does not end a run');
$run->close;

# ----------
# lock_timeout: for the roster's locks, with advice
# ----------
for my $moment (qw(opening table row))
{
	my $session = $node->session($db);

	night($moment);
	my $before = $s->digest;
	$hold->at($moment);
	$session->query(q{SET lock_timeout = '100ms'});
	my $error = $session->query($s->call_sql)->{error} // {};
	is($error->{sqlstate}, '55P03', "$moment, lock_timeout: 55P03");
	like($error->{hint} // '', qr/pg_locks.*lock_timeout/s, "$moment, lock_timeout: a hint");
	is($s->last_run->{hint}, $error->{hint}, "$moment, lock_timeout: also in the log");
	$error = $session->query("SELECT sis_sync.run_atomic('held')")->{error} // {};
	is($error->{sqlstate}, '55P03', "$moment, run_atomic, lock_timeout: 55P03");
	like($error->{hint} // '', qr/pg_locks.*lock_timeout/s,
		"$moment, run_atomic, lock_timeout: a hint");
	$hold->release;
	$interrupt->nothing_is_left($s, "$moment, lock_timeout", $before, $session->pid);
	is($session->query($s->call_sql)->{error}, undef,
		"$moment, lock_timeout: the same session, when the lock is free");
	$session->close;
}

# ----------
# Somebody has locked the log: a cancel does not wait for him
# ----------
night('apply');
my $before = $s->digest;
$run = $hold->run($s, 'apply');
my $locker = $node->session($db);
$locker->query('BEGIN');
is($locker->query('LOCK TABLE sis_sync.run IN SHARE MODE')->{error}, undef, 'the log is locked');
my ($seconds, $result) = $interrupt->end('cancel', $run);
$interrupt->is_in_time($seconds, 'log locked');
is($result->{error}{sqlstate}, '57014', 'log locked: the error is that of the run');
like($result->{err}, qr/WARNING:  55P03: could not write into the log that run \d+ failed/,
	'log locked: a warning says that it is not logged');
$locker->close;
$hold->release;
$run->close;
$interrupt->nothing_is_left($s, 'log locked', $before);
$interrupt->next_run_does_all($s, 'log locked', 0);

# ----------
# The client goes away
# ----------
night('apply');
$before = $s->digest;
$run = $hold->run($s, 'apply', before => q{SET client_connection_check_interval = '50ms'});
my $start = time;
$run->kill;
sleep 0.005 while kill 0, $run->pid;
$interrupt->is_in_time(time - $start, 'the client is gone, and the server looks for it');
$hold->release;
$interrupt->nothing_is_left($s, 'client gone', $before);
$interrupt->next_run_does_all($s, 'client gone', 0);

night('apply');
$run = $hold->run($s, 'apply');
$run->kill;
$hold->release;
$node->wait_until($db, 'SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ' . $run->pid);
is($s->last_run->{status}, 'succeeded', 'the client is gone, and the run goes on by default');
$s->counts_are('by default', student => { updated => 1, archived => 1 });

done_testing;
