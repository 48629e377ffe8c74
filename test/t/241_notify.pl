# NOTIFY sis_sync: one JSON object for each end of a run, which a listener gets
# after the log shows it; IDs, status and counts only, and never too long.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use JSON::PP ();
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('notify');
my $hold = Hold->new($node, $db);
my $s = SampleSync->new($node, $db, 'north',
	district => District->new(students => 200, sections => 4, staff => 2, teachers => 0, enroll => 1));
my $json = JSON::PP->new->utf8(0);

# psql prints what has come, on standard output, after each statement
my $listener = $node->session($db);
$listener->query('LISTEN sis_sync');

# What has come since the last call; each with what the log shows at once
# afterwards.
sub heard
{
	my ($wanted) = @_;
	my @heard;

	for (1 .. 200)
	{
		my $result = $listener->query(q{SELECT 'log', coalesce(json_object_agg(id, status), '{}') FROM sis_sync.run});
		my $text = join "\n", map { join '|', @$_ } @{ $result->{out} };

		push @heard, map { $json->decode($_) }
		  $text =~ /^Asynchronous notification "sis_sync" with payload "(.*)" received from server process with PID \d+\.$/mg;
		my ($log) = $text =~ /^log\|(.*)$/m;
		$log = $json->decode($log);
		$_->{logged} //= $log->{ $_->{run} } for @heard;
		last if @heard >= $wanted;
		select undef, undef, undef, 0.02;
	}
	return @heard;
}

# ----------
# Each way a run ends
# ----------
$s->succeeds('first load');
my $id = $s->last_run->{id};
my %first = (archived => 0, rejected => 0, restored => 0, to_archive => 0, updated => 0);
is_deeply([ heard(1) ], [ {
	run => $id, sync => 'north', sync_id => 0 + $s->id, kind => 'sync', dry_run => JSON::PP::false,
	status => 'succeeded', logged => 'succeeded', reason => undef, error_code => undef,
	counts => {
		school => { received => 1, created => 1, %first },
		term => { received => 1, created => 1, %first },
		course => { received => 8, created => 8, %first },
		section => { received => 4, created => 4, %first },
		student => { received => 200, created => 200, %first },
		staff => { received => 2, created => 2, %first },
		enrollment => { received => 200, created => 200, %first } } } ],
	'a good run');

$s->{district}->remove('student', $s->{district}->ids('student', 0, 30));
$s->ends_in('SI001', '30 leave');
my ($note) = heard(1);
is_deeply([ @$note{qw(run status reason error_code logged)}, @{ $note->{counts}{student} }{qw(received to_archive archived)} ],
	[ $s->last_run->{id}, 'failed', 'Threshold', 'SI001', 'failed', 170, 30, 0 ], 'a trip');
my $tripped = $note->{run};

$s->run_ends_in('SI001', 'a dry run', $s->call_sql('dry'));
($note) = heard(1);
is_deeply([ @$note{qw(dry_run error_code)} ], [ JSON::PP::true, 'SI001' ], 'a dry run');

$node->run($db, q{CREATE SERVER nowhere FOREIGN DATA WRAPPER sis_directory OPTIONS (path '/nowhere');
	INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('lost', 'nowhere', true)});
$node->fails($db, q{CALL sis_sync.run('lost')});
($note) = heard(1);
is_deeply([ @$note{qw(sync status reason error_code counts)} ],
	[ 'lost', 'failed', 'Source Unavailable', 'SI004', {} ], 'a source that is not there');

my $run = $hold->run($s, 'verify');
$node->run($db, 'SELECT pg_cancel_backend(' . $run->pid . ')');
is($run->wait->{error}{sqlstate}, '57014', 'a cancel');
$hold->release;
($note) = heard(1);
is_deeply([ @$note{qw(status reason error_code logged)} ], [ 'failed', undef, '57014', 'failed' ],
	'a cancelled run');

# one that was terminated is found by the next
$hold->at('verify');
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
my $gone = $s->last_run->{id};
$node->run($db, 'SELECT pg_terminate_backend(' . $run->pid . ')');
$run->wait;
$hold->release;
$node->wait_until($db, q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3});
is_deeply([ heard(0) ], [], 'a terminated run tells nothing');
$s->run_ends_in('SI001', 'the next run');
my @both = heard(2);
is_deeply([ map { [ @$_{qw(run status logged)} ] } @both ],
	[ [ $gone, 'interrupted', 'interrupted' ], [ $s->last_run->{id}, 'failed', 'failed' ] ],
	'the next run tells of it, before its own end');

# ----------
# In the caller's transaction: when that commits, or never
# ----------
$s->do(q{INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('north', 'student', 100)});
my $session = $node->session($db);
$session->query('BEGIN');
$session->query(q{SELECT sis_sync.run_atomic('north')});
$session->query('ROLLBACK');
is_deeply([ heard(0) ], [], 'run_atomic, rolled back: nothing');
$session->query('BEGIN');
$id = $session->query(q{SELECT sis_sync.run_atomic('north')})->{out}[0][0];
is_deeply([ heard(0) ], [], 'run_atomic, not yet committed: nothing');
$session->query('COMMIT');
($note) = heard(1);
is_deeply([ @$note{qw(run status logged)}, $note->{counts}{student}{archived} ],
	[ $id, 'succeeded', 'succeeded', 30 ], 'run_atomic, committed');
$session->query("CALL sis_sync.undo($id)");
($note) = heard(1);
is_deeply([ @$note{qw(kind status)}, $note->{counts}{student}{restored} ], [ 'undo', 'succeeded', 30 ], 'an undo');
$s->run_succeeds('again');
heard(1);
$s->do('UPDATE roster.student SET email = NULL');
$s->{district}->rekey('student', sub { "n-$_[0]" });
$s->do(q{DELETE FROM sis_sync.sync_threshold});
$s->ends_in('SI011', 'IDs change');
($note) = heard(1);
is($note->{error_code}, 'SI011', 'IDs that have changed');
$session->query("CALL sis_sync.rekey($note->{run})");
($note) = heard(1);
is_deeply([ @$note{qw(kind status)} ], [ 'rekey', 'succeeded' ], 'a rekey');
$s->run_succeeds('after the rekey');
heard(1);

# a listener that runs the sync at once finds it free
$session->query('LISTEN sis_sync');
$s->run_succeeds('one more');
is($session->query('SELECT 1')->{error}, undef, 'it is told');
is($session->query($s->call_sql)->{error}, undef, 'and can run the sync');
heard(2);

# ----------
# Never too long, and no personal value
# ----------
my $long = 'x' x 7900;
$s->do("UPDATE sis_sync.sync SET name = '$long' WHERE id = <id>");
$node->run($db, "CALL sis_sync.run('$long')");
($note) = heard(1);
is_deeply([ @$note{qw(sync sync_id status)} ], [ undef, 0 + $s->id, 'succeeded' ],
	'a sync of 7,900 characters: its ID tells which');
my $odd = "\"\\\x{e9}" x 100;
$node->run($db, "UPDATE sis_sync.sync SET name = E'" . ("\"\\\\\\u00e9" x 100) . "' WHERE id = " . $s->id);
$node->run($db, "CALL sis_sync.run(E'" . ("\"\\\\\\u00e9" x 100) . "')");
($note) = heard(1);
is($note->{sync}, $odd, 'quotes, backslashes and letters beyond ASCII');

# the largest that can be
$node->run($db, q{UPDATE sis_sync.run_count SET received = 9223372036854775807, rejected = 9223372036854775807,
	created = 9223372036854775807, updated = 9223372036854775807, restored = 9223372036854775807,
	to_archive = 9223372036854775807, archived = 9223372036854775807});
cmp_ok($node->value($db, q{SELECT max(octet_length(json_agg::text)) FROM (SELECT json_agg(json_build_object(c.record_type,
	json_build_object('received', received, 'rejected', rejected, 'created', created, 'updated', updated,
	  'restored', restored, 'to_archive', to_archive, 'archived', archived))) FROM sis_sync.run_count c GROUP BY run_id) x}),
	'<', 4000, 'the largest counts leave room for the longest name');

$_->close for $session, $listener;

done_testing;
