# pg_cron runs a sync as a plain job: a good run, and one that trips the
# threshold and whose numbers stand in cron.job_run_details.
use FindBin;
use lib "$FindBin::Bin/../lib";
use SisTest;

my $probe = SisTest->new->start;
my $version = $probe->value('postgres',
	q{SELECT default_version FROM pg_available_extensions WHERE name = 'pg_cron'});
$probe->stop;
plan skip_all => 'pg_cron is not installed' if !defined $version;

# Jobs connect by libpq, here through the cluster's own socket.
my $node = SisTest->new(conf => {
		shared_preload_libraries => 'pg_cron',
		'cron.database_name'     => 'cron_test',
		'cron.timezone'          => 'GMT' });
$node->set('cron.host' => $node->host);
$node->start;
my $db = $node->fresh_db('cron_test');
$node->run($db, 'CREATE EXTENSION pg_cron');

my %size = (schools => 3, students => 501, staff => 30, sections => 40, contacts => 100);
my %dir = map { $_ => $node->dir($_) } qw(good trips);
sub district
{
	my ($dir, %more) = @_;
	my %all = (%size, %more);
	my @command = ($^X, SisTest::root() . '/test/district', '--layout', 'oneroster11',
		'--out', $dir, map { ("--$_", $all{$_}) } sort keys %all);

	is(system(@command), 0, 'a sample district');
	return;
}

for my $name (qw(good trips))
{
	district($dir{$name});
	$node->sync($db, $name, $dir{$name}, all_schools => 'true');
}

# One has been loaded before, and 51 of its 501 students leave.
$node->run($db, q{CALL sis_sync.run('trips')});
district($dir{trips}, leave => 51);

$node->run($db, "SELECT cron.schedule('$_', '* * * * *', \$\$CALL sis_sync.run('$_')\$\$)")
  for qw(good trips);
$node->wait_until($db, q{SELECT count(DISTINCT jobid) = 2 FROM cron.job_run_details
	WHERE status IN ('succeeded', 'failed')}, timeout => 150);
$node->run($db, "SELECT cron.unschedule('$_')") for qw(good trips);

my %job = map { $_->{command} =~ /run\('(\w+)'\)/ => $_ } reverse @{
	$node->hashes($db, 'SELECT * FROM cron.job_run_details ORDER BY runid') };

is($job{good}{status}, 'succeeded', 'the good job succeeded') or diag($job{good}{return_message});
my $run = $node->last_run($db, 'good');
is($run->{status}, 'succeeded', 'and so did its run');
is($node->value($db, q{SELECT count(*) FROM roster.student t JOIN sis_sync.sync s ON s.id = t.sync_id
	WHERE s.name = 'good' AND t.archived_at IS NULL}), 501, 'its students are there');

is($job{trips}{status}, 'failed', 'the tripped job failed');
my $message = $job{trips}{return_message};
for my $number (51, 501, 10, 50)
{
	like($message, qr/(?<![\d.])$number(?![\d.]*\d)/, "its message has our $number");
}
like($message, qr/student/, 'and the record type');
$run = $node->last_run($db, 'trips');
is($run->{error_code}, 'SI001', 'its run has SI001');
is($run->{reason}, 'Threshold', 'and the reason');
is($node->value($db, "SELECT count(*) FROM sis_sync.pending_archive WHERE record_type = 'student' AND run_id = $run->{id}"),
	51, 'the 51 are listed');
is($node->value($db, 'SELECT count(*) FROM roster.student WHERE archived_at IS NOT NULL'),
	0, 'nobody was archived');

done_testing;
