# Interrupt.pm
#	Ending a run that is under way: how long that takes, and what it leaves.
#
#	my $interrupt = Interrupt->new($node, $db);
#	my ($seconds, $result) = $interrupt->end($how, $session);
#	$interrupt->is_in_time($seconds, 'a cancel');
#	$interrupt->nothing_is_left($sync, 'a cancel', $digest_before, $session->pid);
#	$interrupt->next_run_does_all($sync, 'a cancel', $how eq 'cancel');
package Interrupt;

use strict;
use warnings;
use SisTest;
use Time::HiRes qw(time sleep);

sub new
{
	my ($class, $node, $db) = @_;

	return bless {
		node => $node, db => $db, control => $node->session($db) }, $class;
}

# Ends what a session is doing, by cancel, terminate or shutdown: seconds from
# the signal to the end of its statement or process, and what the client got.
sub end
{
	my ($self, $how, $session) = @_;
	my $pid = $session->pid;
	my $start = time;

	if ($how eq 'shutdown')
	{
		$self->{node}->begin_stop('fast');
		sleep 0.005 while kill 0, $pid;
		my $seconds = time - $start;

		$self->{control}->close;
		$self->{node}->stop->start;
		$self->{control} = $self->{node}->session($self->{db});
		return ($seconds, undef);
	}
	$self->{control}->query("SELECT pg_${how}_backend($pid)");
	my $result = $session->wait;
	return (time - $start, $result);
}

# Polls without the start of a psql in between, for what does not last.
sub wait_until
{
	my ($self, $sql) = @_;
	my $until = time + 120;

	while (time < $until)
	{
		my $result = $self->{control}->query($sql);

		die $result->{error}{text} if $result->{error};
		return 1 if ($result->{out}[0][0] // 'f') eq 't';
		sleep 0.005;
	}
	die "waited in vain for: $sql\n";
}

# How long the machine takes to end a sleep.
sub machine
{
	my ($self) = @_;
	my $sleeper = $self->{node}->session($self->{db});

	$sleeper->send('SELECT pg_sleep(60)');
	$self->wait_until("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = "
		  . $sleeper->pid);
	my ($seconds) = $self->end('cancel', $sleeper);
	$sleeper->close;
	return $seconds;
}

# A second is asked where a sleep ends quickly, more of a machine that is busy
# with something else.
sub is_in_time
{
	my ($self, $seconds, $title) = @_;
	my $limit = 1;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if ($seconds >= $limit)
	{
		my $machine = $self->machine;

		$limit = 1 + 5 * $machine if $machine > 0.3;
		Test::More::diag(sprintf '%s: %.2f s, while a sleep takes %.2f s to end',
			$title, $seconds, $machine);
	}
	return Test::More::cmp_ok($seconds, '<', $limit, "$title: within a second");
}

# The roster, the locks, the folder of the sync and the temporary files
# afterwards; pid: of the backend, where it lives on.
sub nothing_is_left
{
	my ($self, $s, $title, $before, $pid) = @_;
	my $dir = $s->dir;
	my @open = !defined $pid ? ()
	  : grep { defined && index($_, $dir) >= 0 }
	  map { readlink } glob "/proc/$pid/fd/*";
	my @temporary = glob $self->{node}->host . '/data/base/pgsql_tmp/*';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Test::More::is($s->digest, $before, "$title: the roster is as it was");
	Test::More::is($s->value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3}),
		0, "$title: the locks of sync and slot are free");
	Test::More::is("@open", '', "$title: no file of the source is open");
	Test::More::is("@temporary", '', "$title: no temporary file is left");
	return;
}

# The run that was ended has no other end in the log; the one after it is good.
sub next_run_does_all
{
	my ($self, $s, $title, $logged) = @_;
	my $id = $s->last_run->{id};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Test::More::is_deeply(
		$s->rows("SELECT status, error_code FROM sis_sync.run WHERE id = $id"),
		[ $logged ? [ 'failed', '57014' ] : [ 'running', undef ] ],
		"$title: what the log says");
	$s->run_succeeds("$title: the next run");
	Test::More::is($s->value("SELECT status FROM sis_sync.run WHERE id = $id"),
		$logged ? 'failed' : 'interrupted',
		"$title: what it says after the next run");
	return;
}

1;
