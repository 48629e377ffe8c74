# What the end of each run removes: that it costs little beside a large log, and
# that the run's end is right when it cannot be done, or is cancelled.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('retention');
my $s = SampleSync->new($node, $db, 'north',
	district => District->new(students => 200, sections => 4, staff => 2, teachers => 0, enroll => 1));

$s->succeeds('first load');
my $first = $s->last_run->{id};

# Makes the first run's values due again.
sub make_due
{
	$node->run($db, "UPDATE sis_sync.run SET started_at = now() - interval '31 days', purged_at = NULL WHERE id = $first");
	return;
}

sub is_purged { return $node->value($db, "SELECT purged_at IS NOT NULL FROM sis_sync.run WHERE id = $first"); }

# ----------
# A large log: 100 syncs, 200 nights each, none of them due
# ----------
$node->run($db, q{
	INSERT INTO sis_sync.sync (name, server) SELECT 'other ' || i, 'none' FROM generate_series(1, 100) i;
	INSERT INTO sis_sync.run (sync, started_at, finished_at, status, phase)
	  SELECT 'other ' || i, t, t, 'succeeded', 'archive'
	  FROM generate_series(1, 200) n, generate_series(1, 100) i, LATERAL (SELECT now() - (200 - n) * interval '1 hour' AS t) x;
	VACUUM ANALYZE sis_sync.run, sis_sync.sync});

# How many rows and index entries of the run log a statement reads.
sub reads
{
	my ($sql) = @_;
	my $sum = q{SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)
		FROM pg_stat_user_tables t WHERE relid = 'sis_sync.run'::regclass};
	my $scans = q{SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relid = 'sis_sync.run'::regclass};
	my ($before, $scans_before) = ($node->value($db, $sum), $node->value($db, $scans));

	$node->run($db, $sql);
	$node->wait_until($db, "SELECT ($scans) > $scans_before");
	return $node->value($db, $sum) - $before;
}

make_due();
cmp_ok(reads($s->call_sql), '<', 1000, 'a run reads few of 20,000 runs that are not due');
is(is_purged(), 't', 'and finds the one that is');
cmp_ok(reads('SELECT * FROM sis_sync.health'), '<', 1000, 'so does the view health');
is($node->value($db, q{SELECT count(*) FROM sis_sync.run WHERE purged_at IS NOT NULL}), 1, 'nothing else was due');

# ----------
# It cannot be done
# ----------
make_due();
my $locker = $node->session($db);
$locker->query('BEGIN; LOCK TABLE sis_sync.change IN SHARE MODE');
my ($out, $err, $code) = $node->try($db, $s->call_sql, timeout => 60);
is($code, 0, 'a table of the log is locked: the run goes well');
like($err, qr/WARNING: .*could not remove what is kept no longer: canceling statement due to lock timeout/, 'and warns');
is($s->last_run->{status}, 'succeeded', 'the log says so');
($out, $err, $code) = $node->try($db,
	q{BEGIN; SELECT sis_sync.run_atomic('north') > 0; SHOW lock_timeout; COMMIT}, timeout => 60);
is($code, 0, 'a run in a transaction of the caller likewise');
like($err, qr/WARNING: .*could not remove what is kept no longer/, 'with the same warning');
is($out =~ s/^(BEGIN|COMMIT)\n//mgr, "t\n0\n", 'and the caller\'s settings as they were');
is($s->last_run->{status}, 'succeeded', 'it is committed');
$locker->query('ROLLBACK');
$locker->close;
is(is_purged(), 'f', 'nothing was removed');
($out, $err, $code) = $node->try($db, q{BEGIN; SELECT sis_sync.run_atomic('north') > 0; SHOW lock_timeout; COMMIT});
is($out =~ s/^(BEGIN|COMMIT)\n//mgr, "t\n0\n", 'nor has it changed them when it is done');
is(is_purged(), 't', 'the next run does it');

# ----------
# It is cancelled
# ----------
$node->run($db, q{
	CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  PERFORM pg_sleep(60);
	  RETURN NEW;
	END $$;
	CREATE TRIGGER hang BEFORE UPDATE ON sis_sync.run
	  FOR EACH ROW WHEN (NEW.purged_at IS NOT NULL) EXECUTE FUNCTION public.hang();
	UPDATE sis_sync.sync SET run_every = '1 day', next_run_at = NULL WHERE name = 'north';
	UPDATE sis_sync.sync SET server = 'nowhere', run_every = '1 day', next_run_at = NULL WHERE name = 'other 1'});
make_due();
my $before = $s->last_run->{id};
my $worker = $node->session($db);
$worker->query('LISTEN sis_sync');
$worker->send('CALL sis_sync.run_due()');
$node->wait_until($db, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
$node->value($db, 'SELECT pg_cancel_backend(' . $worker->pid . ')');
is(($worker->wait->{error} || {})->{sqlstate}, '57014', 'a cancel meanwhile ends the call');
$worker->close;
is($s->last_run->{status}, 'succeeded', 'the run had gone well, and its end stands');
cmp_ok($s->last_run->{id}, '>', $before, 'it is that run');
is($node->value($db, q{SELECT count(*) FROM sis_sync.run WHERE sync = 'other 1' AND started_at > now() - interval '1 minute' AND status = 'failed'}),
	0, 'and the next sync was not begun');
is($node->value($db, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no lock is left');
$node->run($db, 'DROP TRIGGER hang ON sis_sync.run; DELETE FROM sis_sync.sync WHERE name ~ $$^other$$');

# ----------
# What is held back can still be approved after a purge
# ----------
$s->{district}->remove('student', $s->{district}->ids('student', 0, 30));
$s->ends_in('SI001', '30 of 200 leave');
my $held = $s->last_run->{id};
$node->run($db, q{ALTER SERVER north OPTIONS (SET path '/nowhere')});
is($node->fails($db, $s->call_sql)->{sqlstate}, 'SI004', 'and then the source cannot be reached');
$node->run($db, q{UPDATE sis_sync.run SET started_at = started_at - interval '2 days'});
$node->value($db, q{SELECT sis_sync.purge('1 day')});
is($node->value($db, q{SELECT held_run FROM sis_sync.health}), $held, 'purge: what is held back is still known');
$node->run($db, "SELECT sis_sync.approve($held, 'they have left')");
$node->run($db, q{ALTER SERVER north OPTIONS (SET path '} . $s->dir . q{')});
$s->run_succeeds('the next night');
is($s->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND archived_at IS NOT NULL'), 30, 'approved, they are archived');

done_testing;
