# What pg_cron makes of the lines that a run tells its session: in both of its
# ways of running jobs, the job's message is what it was without them.
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
$probe->stop;
plan skip_all => 'pg_cron is not installed' if !defined $version;

for my $workers (qw(off on))
{
	my $title = $workers eq 'on' ? 'background workers' : 'connections';
	my $node = SisTest->new(conf => {
			shared_preload_libraries => 'pg_cron', 'cron.database_name' => 'cron_test',
			'cron.use_background_workers' => $workers });
	$node->set('cron.host' => $node->host);
	$node->start;
	my $db = $node->fresh_db('cron_test');
	$node->run($db, 'CREATE EXTENSION pg_cron');
	my $s = SampleSync->new($node, $db, 'trips',
		district => District->new(students => 200, sections => 4, staff => 2, teachers => 0, enroll => 1));
	$s->succeeds('first load');
	$s->{district}->remove('student', $s->{district}->ids('student', 0, 30));
	$s->write;
	$node->run($db, q{SELECT cron.schedule('trips', '* * * * *', $$CALL sis_sync.run('trips')$$)});
	$node->wait_until($db, q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'failed'}, timeout => 150);
	$node->run($db, q{SELECT cron.unschedule('trips')});
	my $message = $node->value($db, q{SELECT return_message FROM cron.job_run_details WHERE status = 'failed' ORDER BY runid LIMIT 1});
	like($message, qr/^ERROR: +deletion threshold reached: 30 of 200 /, "$title: the job's message is the error");
	unlike($message, qr/NOTICE/, "$title: and nothing else") or diag($message);
	my @lines = grep { /NOTICE/ } split /\n/, $node->log;
	is(scalar @lines, 0, "$title: nothing in the server's log") or diag(join "\n", @lines);
	$node->stop;
}

done_testing;
