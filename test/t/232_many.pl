# A thousand districts of 500 students, two workers, and workers that are
# killed: every district is run once, and none is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SisTest;

my $node = SisTest->new(conf => { shared_buffers => '256MB', max_wal_size => '4GB' })->start;
my $db = $node->fresh_db('many');

for my $seed (1 .. 4)
{
	my $dir = $node->dir("folder$seed");

	District->new(seed => $seed, students => 500, staff => 20, sections => 20,
		contacts => 50, enroll => 2)->write($dir);
	$node->run($db, "CREATE SERVER folder$seed FOREIGN DATA WRAPPER sis_directory OPTIONS (path '$dir')");
}
$node->run($db, q{
	INSERT INTO sis_sync.sync (name, server, all_schools, run_every, next_run_at)
	SELECT 'district ' || i, 'folder' || i % 4 + 1, true, '1 day', now() - interval '1 hour'
	FROM generate_series(1, 1000) i});

sub worker { return $node->session($db, timeout => 900)->send('CALL sis_sync.run_due()'); }

sub wait_for
{
	my ($runs) = @_;

	return $node->wait_until($db, "SELECT count(*) >= $runs FROM sis_sync.run WHERE status = 'succeeded'",
		timeout => 600);
}

my @workers = (worker(), worker());
wait_for(100);
$node->value($db, 'SELECT pg_terminate_backend(' . $workers[0]->pid . ')');
is($workers[0]->wait->{error}{sqlstate}, '57P01', 'a worker is terminated');
$workers[0] = worker();
wait_for(250);
$node->kill9($workers[1]->pid);
ok($_->wait->{closed}, 'after a crash, no worker is left') for @workers;
@workers = (worker(), worker());
is($_->wait->{err}, '', 'two workers do the rest, without a warning') for @workers;

is_deeply($node->rows($db, q{SELECT n, count(*) FROM (
	SELECT count(r.id) AS n FROM sis_sync.sync s
	LEFT JOIN sis_sync.run r ON r.sync = s.name AND r.status = 'succeeded' GROUP BY s.id) x
	GROUP BY n}), [ [ 1, 1000 ] ], 'each of a thousand has one run that succeeded');
is($node->value($db, q{SELECT count(*) FROM sis_sync.run WHERE status IN ('running', 'failed')}),
	0, 'none failed, none is taken to be running');
my $interrupted = $node->value($db, q{SELECT count(*) FROM sis_sync.run WHERE status = 'interrupted'});
ok($interrupted >= 1 && $interrupted <= 3, "what the three workers were at was interrupted ($interrupted)");
is($node->value($db, q{SELECT count(*) FROM sis_sync.run a JOIN sis_sync.run b ON b.sync = a.sync AND b.id > a.id
	AND b.started_at < a.finished_at AND a.status = 'succeeded'}), 0, 'no district was run twice at a time');
cmp_ok($node->value($db, q{SELECT count(*) FROM sis_sync.run a JOIN sis_sync.run b ON b.id > a.id
	AND b.started_at < a.finished_at AND a.status = 'succeeded'}), '>', 100, 'but two of them were');
is_deeply($node->rows($db, q{SELECT n, count(*) FROM (
	SELECT count(*) AS n FROM roster.student WHERE archived_at IS NULL GROUP BY sync_id) x
	GROUP BY n}), [ [ 500, 1000 ] ], 'each has its 500 students');
is($node->value($db, q{SELECT count(*) FROM sis_sync.due WHERE due_at > now() + '22 hours'}),
	1000, 'all are due tomorrow');
# a worker that ended between a run and this leaves it: due knows from the log
cmp_ok($node->value($db, q{SELECT count(*) FROM sis_sync.sync WHERE next_run_at > now() + '22 hours'}),
	'>=', 997, 'which is written down, but for what the three workers were at');
is($node->value($db, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no lock is left');

done_testing;
