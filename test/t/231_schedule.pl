# The real pg_cron, in both of its ways of running jobs (as a client of its
# own, and in background workers): schedule() and what its jobs do; a run of
# one sync that goes well, and one that trips and says so.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $probe = SisTest->new->start;
my $version = $probe->value('postgres',
	q{SELECT default_version FROM pg_available_extensions WHERE name = 'pg_cron'});

# ----------
# Without pg_cron, and beside it
# ----------
my $plain = $probe->fresh_db('plain');
for my $call ('schedule()', 'unschedule()')
{
	my $error = $probe->fails($plain, "SELECT sis_sync.$call");

	is($error->{sqlstate}, '55000', "$call without pg_cron");
	like($error->{hint}, qr/shared_preload_libraries.*cron\.database_name = 'plain'.*CREATE EXTENSION pg_cron/,
		'the hint has all the steps');
}
is($probe->fails($plain, "SELECT sis_sync.schedule($_)")->{sqlstate}, '22023', "schedule($_)")
  for 0, 17;
is($probe->fails($plain, "SELECT sis_sync.schedule($_)")->{sqlstate}, '22004', "schedule($_)")
  for 'NULL', '1, NULL';
$probe->stop;
if (!defined $version)
{
  SKIP: { skip 'pg_cron is not installed', 1; }
	done_testing;
	exit;
}

sub small { return District->new(students => 501, staff => 20, sections => 20, contacts => 40); }

# A server whose pg_cron runs jobs in one of its ways.
sub server
{
	my ($workers) = @_;
	my $node = SisTest->new(conf => {
			shared_preload_libraries      => 'pg_cron',
			'cron.database_name'          => 'app',
			'cron.timezone'               => 'GMT',
			'cron.use_background_workers' => $workers,
			max_worker_processes          => 20 });

	$node->set('cron.host' => $node->host)->start;
	return $node;
}

# What is to be run: two districts by the queue and one whose folder is not
# there; one that trips, by a job of its own.
sub set_up
{
	my ($node, $db) = @_;

	for my $name (qw(east west))
	{
		SampleSync->new($node, $db, $name, district => small(),
			set => { run_every => "'1 day'" })->write;
	}
	$node->sync($db, 'nowhere', '/nowhere/at/all', all_schools => 'true', run_every => "'1 day'");

	my $trips = SampleSync->new($node, $db, 'trips', district => small());
	$trips->succeeds('first load');
	$trips->district->remove('student', $trips->district->ids('student', 450, 51));
	$trips->write;
	return;
}

sub jobs
{
	my ($node, $db) = @_;

	return join ', ', map { "$_->[0]: $_->[1]" } @{ $node->rows($db,
		q{SELECT jobname, schedule || ' ' || command FROM cron.job WHERE jobname LIKE 'sis_sync%' ORDER BY 1}) };
}

my %node = map { $_ => server($_) } qw(off on);
my $db = 'app';

for my $workers (sort keys %node)
{
	my $node = $node{$workers};

	$node->fresh_db($db);
	if ($workers eq 'off')
	{
		like($node->fails($db, 'SELECT sis_sync.schedule()')->{hint}, qr/^Run CREATE EXTENSION pg_cron\.$/,
			'a hint where only the extension is missing');
		$node->fresh_db('elsewhere');
		my $hint = $node->fails('elsewhere', 'SELECT sis_sync.schedule()')->{hint};
		my ($sql) = $hint =~ /There, run (SELECT .*\)), once/;

		$node->run($db, 'CREATE EXTENSION pg_cron');
		$node->run($db, $sql);
		is($node->value($db, q{SELECT database || ': ' || command FROM cron.job}),
			'elsewhere: CALL sis_sync.run_due()', 'the hint for another database is right');
		$node->run($db, 'SELECT cron.unschedule(jobid) FROM cron.job');
	}
	else
	{
		$node->run($db, 'CREATE EXTENSION pg_cron');
	}
	set_up($node, $db);
}

# ----------
# The jobs that schedule() makes
# ----------
my $node = $node{off};
my @two = map { "sis_sync run_due $_: * * * * * CALL sis_sync.run_due()" } 1, 2;

$node->run($db, q{SELECT cron.schedule('sis_sync of mine', '0 0 1 1 *', 'SELECT 1')});
is($node->value($db, q{SELECT sis_sync.schedule(12, '0 0 1 1 *')}), 12, 'twelve workers');
is($node->value($db, 'SELECT sis_sync.unschedule()'), 12, 'all are dropped');
is(jobs($node, $db), 'sis_sync of mine: 0 0 1 1 * SELECT 1', 'but not the job of somebody else');
is($node->value($db, 'SELECT sis_sync.unschedule()'), 0, 'nothing is left to drop');
$node->run($db, q{SELECT cron.unschedule('sis_sync of mine')});
$node->value($db, q{SELECT sis_sync.schedule(3, '0 0 1 1 *')});
is($node->value($db, 'SELECT sis_sync.schedule()'), 2, 'two workers, by default');
is(jobs($node, $db), join(', ', @two), 'schedule() drops the third, and changes the others');
$node->value($db, 'SELECT sis_sync.schedule()');
is(jobs($node, $db), join(', ', @two), 'schedule() again changes nothing');
isnt($node->fails($db, q{SELECT sis_sync.schedule(2, 'at midnight')})->{sqlstate}, undef,
	'a schedule that pg_cron does not take is an error');
is(jobs($node, $db), join(', ', @two), 'and changes nothing');

# ----------
# What they do, in both ways
# ----------
$node{on}->value($db, 'SELECT sis_sync.schedule()');
$_->run($db, q{SELECT cron.schedule('trips', '* * * * *', $$CALL sis_sync.run('trips')$$)})
  for values %node;

for my $workers (sort keys %node)
{
	my $node = $node{$workers};
	my $title = "cron.use_background_workers = $workers";

	$node->wait_until($db, q{SELECT count(DISTINCT jobid) = 3 FROM cron.job_run_details
		WHERE status IN ('succeeded', 'failed')}, timeout => 180);
	$node->run($db, q{SELECT cron.unschedule('trips')});
	is($node->value($db, 'SELECT sis_sync.unschedule()'), 2, "$title: both workers were there");
	$node->wait_until($db, q{SELECT count(*) = 0 FROM sis_sync.run WHERE status = 'running'});

	is($node->value($db, q{SELECT string_agg(DISTINCT status, ' ') FROM cron.job_run_details
		WHERE command = 'CALL sis_sync.run_due()' AND end_time IS NOT NULL}),
		'succeeded', "$title: the workers' jobs succeed, though one district fails")
	  or diag($node->value($db, q{SELECT string_agg(concat_ws(' ', jobid, status, return_message, start_time, end_time), E'\n') FROM cron.job_run_details}));
	is_deeply($node->rows($db, q{SELECT sync, status, error_code FROM sis_sync.run
		WHERE sync <> 'trips' ORDER BY sync, id}),
		[ [ 'east', 'succeeded', undef ], [ 'nowhere', 'failed', 'SI004' ], [ 'west', 'succeeded', undef ] ],
		"$title: every district has run once");
	is($node->value($db, q{SELECT count(*) FROM roster.student WHERE archived_at IS NULL}),
		3 * 501, "$title: all students are there");
	is($node->value($db, q{SELECT count(*) FROM sis_sync.sync WHERE name IN ('east', 'west')
		AND next_run_at > now() + '23 hours'}), 2, "$title: they are due tomorrow");
	like($node->log, qr/WARNING:  run \d+ of sync "nowhere" failed \(Source Unavailable\): could not open/,
		"$title: the server's log has a warning of the one that failed");

	my $trip = $node->hashes($db, q{SELECT status, return_message FROM cron.job_run_details
		WHERE command LIKE '%trips%' ORDER BY runid LIMIT 1})->[0];
	is($trip->{status}, 'failed', "$title: the job of the sync that trips failed");
	like($trip->{return_message}, qr/51 of 501 records of type student/, "$title: its message has the numbers");
}

done_testing;
