# A run that is busy with a million rows is ended within a second as well: in
# the middle of a file, while repeated IDs are folded, while it compares, and
# while it writes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Interrupt;
use SampleSync;
use SisTest;
use Time::HiRes qw(time);

my $ROWS = 1_000_000;
my $node = SisTest->new(conf => { autovacuum => 'off', max_wal_size => '4GB' })->start;
my $db = $node->fresh_db('large');
my $interrupt = Interrupt->new($node, $db);
my $s = SampleSync->new($node, $db, 'large',
	district => District->new(students => 2000, sections => 600, staff => 2,
		teachers => 0, enroll => 0));
$s->write(enrollments => $ROWS);

# What shows where a run is, from outside of its transaction
my $leaf = q{SELECT pg_relation_size('sis_sync.stage_enrollment_' || to_char(slot, 'FM00'))
	FROM sis_sync.stage_slot WHERE run_id = (SELECT max(id) FROM sis_sync.run WHERE status = 'running')};
my $locks = q{SELECT count(*) > 0 FROM pg_locks WHERE granted
	AND relation = 'roster.enrollment'::regclass AND pid = <pid>};
my %in = (
	read => "SELECT ($leaf) > 5000000 OR ($locks)",
	fold => $locks,
	verify => "$locks AND mode = 'RowExclusiveLock'",
	apply => q{SELECT pg_relation_size('roster.enrollment') > 10000000});

sub busy_run
{
	my ($where) = @_;
	my $session = $node->session($db);
	my $pid = $session->pid;

	# what ended runs have left shows as size
	$node->run($db, 'TRUNCATE roster.enrollment');
	$session->send($s->call_sql);
	$interrupt->wait_until($in{$where} =~ s/<pid>/$pid/r);
	return $session;
}

sub ended_in
{
	my ($where, @ways) = @_;
	my $before = $s->digest;

	for my $how (@ways)
	{
		my $title = "$where, $how";
		my $session = busy_run($where);
		my ($seconds, $result) = $interrupt->end($how, $session);

		is($result->{error}{sqlstate}, $how eq 'cancel' ? '57014' : '57P01',
			"$title: PostgreSQL's own error") if $result;
		$interrupt->is_in_time($seconds, $title);
		$interrupt->nothing_is_left($s, $title, $before,
			$how eq 'cancel' ? $session->pid : undef);
		is($s->last_run->{status}, $how eq 'cancel' ? 'failed' : 'running',
			"$title: what the log says");
		$session->close;
	}
	return;
}

ended_in('read', qw(cancel terminate shutdown));
ended_in('verify', qw(cancel terminate shutdown));
ended_in('apply', qw(cancel terminate shutdown));

# Wherever it is after so long
for my $ms (200, 500, 1000, 1500, 2500)
{
	my $title = "statement_timeout after $ms ms";
	my $session = $node->session($db);
	my $before = $s->digest;

	$session->query("SET statement_timeout = $ms");
	my $start = time;
	my $error = $session->query($s->call_sql)->{error} // {};

	is($error->{sqlstate}, '57014', $title);
	$interrupt->is_in_time(time - $start - $ms / 1000, $title);
	$interrupt->nothing_is_left($s, $title, $before, $session->pid);
	$session->close;
}

# Killed in the middle of the file: the stage is empty, and nobody takes what
# is in it for a feed.
my $session = busy_run('read');
my $dead = $s->last_run->{id};
$node->kill9($session->pid);
$session->close;
$interrupt = Interrupt->new($node, $db);
is($s->value('SELECT count(*) FROM sis_sync.stage_enrollment'), 0,
	'kill -9 in the middle of a file: the stage is empty');
$s->run_ends_in('55000', 'kill -9 in the middle of a file: no step goes on with it',
	"SELECT sis_sync.verify($dead)");

# Writes each row twice, so that every ID has to be looked at.
sub write_twice
{
	my ($rows) = @_;
	my $file = $s->dir . '/enrollments.csv';

	$s->write(enrollments => $rows);
	open my $in, '<:raw', $file or die $!;
	open my $out, '>:raw', "$file.twice" or die $!;
	while (my $line = <$in>)
	{
		print $out $line;
		print $out $line if $. > 1;
	}
	close $out or die $!;
	rename "$file.twice", $file or die $!;
	return;
}

write_twice($ROWS);
ended_in('fold', qw(cancel terminate shutdown));

# They were interrupted where it takes long; this is the same with less.
write_twice(50_000);
$s->run_succeeds('the next run');
$s->counts_are('the next run', enrollment => { rows_read => 100_000,
		received => 50_000, created => 50_000, rejected => 0 });
is($s->value(q{SELECT count(*) FROM sis_sync.run WHERE status = 'running'}), 0,
	'no run is called running any more');

done_testing;
