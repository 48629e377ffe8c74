# A run beside others: two runs of a sync, an application that writes the same
# rows, deadlocks, maintenance and DDL, readers of what is staged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('concurrency');
my $hold = Hold->new($node, $db);
my $s = SampleSync->new($node, $db, 'held',
	district => District->new(students => 300, sections => 60, staff => 4,
		teachers => 0, enroll => 30),
	set => { deletion_threshold => 100 });
my $d = $s->{district};
$node->run($db, 'ALTER TABLE roster.student ADD COLUMN locker text');
$s->succeeds('first load');

my $night = 0;

# These students change, and the last one leaves.
sub night
{
	my (@students) = @_;

	$night++;
	$d->set('student', $_, email => "$_\@night$night.example.org") for @students;
	$d->remove('student', ($d->ids('student'))[-1]);
	$s->write;
	return;
}

sub student
{
	my ($id, $column) = @_;

	return $s->value("SELECT $column FROM <roster>.student WHERE sync_id = <id> AND source_id = '$id'");
}

# ----------
# Two runs of one sync
# ----------
night('stu-000001');
my $run = $hold->run($s, 'apply');
my $running = $s->last_run->{id};
my %other = (
	'CALL' => $s->call_sql, 'dry run' => $s->call_sql('dry'),
	'run_atomic()' => q{SELECT sis_sync.run_atomic('held')},
	'stage()' => q{SELECT sis_sync.stage('held')},
	'verify()' => "SELECT sis_sync.verify($running)",
	'apply()' => "SELECT sis_sync.apply($running)");
for my $what (sort keys %other)
{
	# at once: it does not wait for any lock
	my $error = $s->call("SET lock_timeout = '100ms'; $other{$what}") // {};

	like($error->{sqlstate} // 'no error',
		$what =~ /verify|apply/ ? qr/^(?:SI008|55000)$/ : qr/^SI008$/,
		"$what beside a run: at once");
}
$hold->release;
is($run->wait->{error}, undef, 'the run goes on');
is($s->last_run->{id}, $running, 'and nothing stands in the log of the others');
$s->counts_are('the run', student => { updated => 1, archived => 1 });

# ----------
# An application writes the same rows
# ----------
sub application
{
	my ($sql) = @_;
	my $app = $node->session($db);

	for my $one ('BEGIN', split /;\s*/, $s->sql($sql))
	{
		my $error = $app->query($one)->{error};
		die $error->{text} if $error;
	}
	return $app;
}

# A run that waits for the application's transaction, and then goes on.
sub run_beside
{
	my ($title, $sql, $end) = @_;
	my $app = application($sql);

	$run->send($s->call_sql);
	$hold->until_waiting($run->pid);
	$app->query($end // 'COMMIT');
	$app->close;
	is($run->wait->{error}, undef, "$title: the run succeeds");
	return;
}

my $leaver = ($d->ids('student'))[-1];
my $is = q{WHERE sync_id = <id> AND source_id =};
night(map { sprintf 'stu-%06d', $_ } 1 .. 9);
run_beside('application', qq{
	UPDATE roster.student SET email = 'by\@hand.org' $is 'stu-000001';
	UPDATE roster.student SET locker = 'L-2' $is 'stu-000002';
	UPDATE roster.student SET sis_managed = false $is 'stu-000003';
	UPDATE roster.student SET locker = 'L-9' $is '$leaver'});
is(student('stu-000001', 'email'), 'by@hand.org',
	'a record edited by hand meanwhile is left for the next night');
is(student('stu-000002', "concat(locker, ' ', email)"),
	"L-2 stu-000002\@night$night.example.org",
	'a column of the application\'s own is kept, and the change made');
isnt(student('stu-000003', 'email'), "stu-000003\@night$night.example.org",
	'a record that became the application\'s is left alone');
is(student($leaver, "concat(locker, ' ', archived_at IS NOT NULL)"), 'L-9 t',
	'a record that leaves is archived, with the application\'s column');
$s->counts_are('only what was written is counted',
	student => { updated => 7, archived => 1 });
$s->run_succeeds('the night after');
is(student('stu-000001', 'email'), "stu-000001\@night$night.example.org",
	'and then it is repaired');
$s->counts_are('the night after', student => { updated => 1, manual => 1 });

$leaver = ($d->ids('student'))[-1];
night('stu-000004');
run_beside('edited while it leaves',
	"UPDATE roster.student SET email = 'by\@hand.org' $is '$leaver'");
is(student($leaver, 'archived_at'), undef, 'a leaver edited by hand meanwhile stays for a night');
$s->run_succeeds('the night after');
isnt(student($leaver, 'archived_at'), undef, 'and is archived then');

night('stu-000005');
run_beside('rolled back',
	"UPDATE roster.student SET email = 'by\@hand.org' $is 'stu-000005'", 'ROLLBACK');
is(student('stu-000005', 'email'), "stu-000005\@night$night.example.org",
	'an edit that is rolled back is not waited for until the next night');

# The application makes the very record that the feed brings.
night('stu-000006');
my $new = $d->add('student');
$s->write;
run_beside('the same record created', qq{
	INSERT INTO roster.student (sync_id, source_id, family_name, locker)
	  VALUES (<id>, '$new', 'Entered', 'L-n')});
is(student($new, "concat(family_name, ' ', locker)"), 'Entered L-n',
	'a record created meanwhile is left for the next night');
$s->counts_are('nothing was created', student => { created => 0 });
$s->run_succeeds('the night after');
is(student($new, 'locker'), 'L-n', 'and then it is the district\'s, with its own column');
isnt(student($new, 'family_name'), 'Entered', 'and with the feed\'s values');

# ----------
# A deadlock: the application locks in another order
# ----------
my ($link) = grep { $d->get('enrollment', $_)->{person} eq 'stu-000010' }
  $d->ids('enrollment');
my $deadlocks = q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'concurrency'};
night('stu-000007');
$d->drop('enrollment', $link);
# a link to nobody is a reject of the comparison: counted once
$s->write(append => { enrollments => ['enr-lost,,,sec-00001,sch-001,nobody,student,,,'] });
$run->query(q{SET deadlock_timeout = '50ms'});
$hold->at('apply');
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
my $app = application("SELECT 1 FROM roster.enrollment $is '$link' FOR UPDATE");
$app->query(q{SET deadlock_timeout = '1h'});
$app->send("UPDATE roster.student SET locker = 'L-7' WHERE source_id = 'stu-000007';\nCOMMIT");
$hold->until_waiting($app->pid);
$hold->release;
my $result = $app->wait;
is($result->{error}, undef, 'deadlock: the application goes on');
$result = $run->wait;
is($result->{error}, undef, 'deadlock: so does the run, at its second attempt')
  or diag($result->{error}{text});
is(student('stu-000007', "concat(locker, ' ', email)"),
	"L-7 stu-000007\@night$night.example.org", 'deadlock: neither is lost');
isnt($s->value("SELECT archived_at FROM <roster>.enrollment $is '$link'"), undef,
	'deadlock: what the run waited for is done');
$s->counts_are('deadlock: counted once',
	student => { updated => 1, archived => 1 }, enrollment => { rejected => 1 });
is($s->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run>'), 1,
	'deadlock: the reject is logged once');
is($s->value('SELECT count(*) FROM sis_sync.change WHERE run_id = <run>'
		  . " AND record_type = 'student'"),
	2, 'deadlock: and each change once');
$node->wait_until($db, "SELECT ($deadlocks) = 1");
pass('deadlock: PostgreSQL counts one');

# How often it tries: attempts are counted by a sequence, which nothing rolls
# back.
$node->run($db, q{
	CREATE SEQUENCE public.attempts;
	CREATE TABLE public.trouble (sqlstate text, times int);
	INSERT INTO public.trouble VALUES ('40P01', 0);
	CREATE FUNCTION public.trouble() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE t public.trouble;
	BEGIN
	  SELECT * INTO t FROM public.trouble;
	  IF nextval('public.attempts') <= t.times THEN
	    RAISE EXCEPTION USING errcode = t.sqlstate, message = 'trouble';
	  END IF;
	  RETURN NULL;
	END $$;
	CREATE TRIGGER trouble AFTER UPDATE ON roster.student
	  FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)
	  EXECUTE FUNCTION public.trouble()});

sub trouble
{
	my ($sqlstate, $times) = @_;

	night('stu-000008');
	$node->run($db, "UPDATE public.trouble SET sqlstate = '$sqlstate', times = $times;
		ALTER SEQUENCE public.attempts RESTART");
	return $s->digest;
}

for my $sqlstate (qw(40P01 40001 55P03))
{
	trouble($sqlstate, 2);
	is($run->query($s->call_sql)->{error}, undef,
		"$sqlstate twice: the third attempt succeeds");
	$s->counts_are("$sqlstate twice", student => { updated => 1, archived => 1 });

	my $before = trouble($sqlstate, 100);
	my $error = $run->query($s->call_sql)->{error} // {};
	is($error->{sqlstate}, $sqlstate, "$sqlstate again and again: the error is PostgreSQL's own");
	is($node->value($db, 'SELECT last_value FROM public.attempts'), 3,
		"$sqlstate again and again: three attempts");
	is($s->digest, $before, "$sqlstate again and again: the roster is as it was");
	is_deeply($s->rows('SELECT status, error_code FROM sis_sync.run WHERE id = <run>'),
		[ [ 'failed', $sqlstate ] ], "$sqlstate again and again: the log says so");
	trouble($sqlstate, 0);
	$s->run_succeeds("$sqlstate is over");
}
trouble('P0001', 1);
is($run->query($s->call_sql)->{error}{sqlstate}, 'P0001', 'another error');
is($node->value($db, 'SELECT last_value FROM public.attempts'), 1,
	'another error: one attempt');
$node->run($db, 'DROP TRIGGER trouble ON roster.student');
$run->close;

# ----------
# Maintenance and settings, while a run writes
# ----------
night('stu-000009');
$run = $hold->run($s, 'apply');
my $dba = $node->session($db);
$dba->query(q{SET lock_timeout = '5s'});
for my $sql ('VACUUM roster.student', 'ANALYZE roster.student',
	'VACUUM sis_sync.run', 'ANALYZE sis_sync.stage_student',
	q{ALTER SERVER held OPTIONS (ADD encoding 'UTF8')},
	q{UPDATE sis_sync.sync SET deletion_threshold = 99 WHERE name = 'held'},
	q{SELECT count(*) FROM sis_sync.stage_student},
	q{SELECT count(*) FROM sis_sync.stage_enrollment WHERE line > 5})
{
	is($dba->query($sql)->{error}, undef, "beside a run: $sql");
}
$dba->query('RESET lock_timeout');
$dba->send('CREATE INDEX CONCURRENTLY student_locker ON roster.student (locker)');
$hold->until_waiting($dba->pid);
$hold->release;
is($run->wait->{error}, undef, 'the run goes on');
is($dba->wait->{error}, undef, 'so does CREATE INDEX CONCURRENTLY');
is($node->value($db, q{SELECT indisvalid FROM pg_index
	WHERE indexrelid = 'roster.student_locker'::regclass}), 't', 'and the index is good');

# DDL that waits for a run, and then is done
night('stu-000009');
$hold->at('apply');
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
$dba->send('ALTER TABLE roster.student ADD COLUMN badge text');
$hold->until_waiting($dba->pid);
$hold->release;
is($run->wait->{error}, undef, 'ALTER TABLE beside a run: the run goes on');
is($dba->wait->{error}, undef, 'ALTER TABLE beside a run: is done afterwards');
$s->run_succeeds('with the new column');

# A table of the roster is dropped while the source is read.
night('stu-000009');
$s->write(change => { 'users/stu-000002' => sub { ($_[0], $_[0]) } });
$hold->at('fold');
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
$dba->send('BEGIN; DROP TABLE roster.contact; COMMIT');
$hold->until_waiting($dba->pid);
$hold->release;
my $error = $run->wait->{error} // {};
is($dba->wait->{error}, undef, 'DROP TABLE beside a run: is done when it can');
is($error->{sqlstate}, 'SI009', 'DROP TABLE beside a run: SI009');
like($error->{message} // '', qr/no table "contact"/, 'DROP TABLE beside a run: which');
is($s->last_run->{error_code}, 'SI009', 'DROP TABLE beside a run: the log says so');
$_->close for $run, $dba;

# ----------
# Readers of what is staged: a run waits for them a second at most
# ----------
$node->run($db, q{SELECT sis_sync.create_roster('other')});
my $big = SampleSync->new($node, $db, 'big', roster => 'other',
	district => District->new(seed => 2, students => 400, sections => 60, staff => 2,
		teachers => 0, enroll => 30),
	set => { target_schema => q{'other'} });
$big->succeeds('first load');
my $blocks = q{SELECT sum(pg_relation_size(relid)) / 8192 FROM pg_partition_tree('sis_sync.stage_enrollment') WHERE isleaf};
cmp_ok($node->value($db, $blocks), '>', 256, 'a leaf that is emptied by TRUNCATE');
my $reader = application('SELECT count(*) FROM sis_sync.stage_enrollment');
is($big->call(q{SET lock_timeout = '100ms'; } . $big->call_sql), undef,
	'a run does not wait for a reader, whatever its lock_timeout');
$big->all_counts_are('it has all', 'received', school => 1, term => 1,
	course => 8, section => 60, student => 400, staff => 2, enrollment => 12_000);
is($node->value($db, q{SELECT count(*) FROM sis_sync.stage_enrollment WHERE sync_id = } . $big->id),
	12_000, 'and nothing of the old run is left in the stage');
is($reader->query('SELECT count(*) > 0 FROM sis_sync.stage_enrollment')->{error}, undef,
	'the reader goes on');
$reader->close;
$big->run_succeeds('without a reader');

# ----------
# DROP EXTENSION beside a run: one of the two ends in an error that names what
# happened, or it waits for the run.  The roster is as before or as after.
# ----------
for my $moment (qw(slot fold table apply))
{
	my $there = $node->fresh_db("drop_$moment");
	my $held = Hold->new($node, $there);
	my $last = SampleSync->new($node, $there, 'last',
		district => District->new(students => 50, sections => 2, teachers => 0));

	$last->succeeds('first load');
	$last->{district}->set('student', 'stu-000001', email => 'new@example.org');
	$last->{district}->remove('student', 'stu-000050');
	$last->write($moment eq 'fold'
		? (change => { 'users/stu-000002' => sub { ($_[0], $_[0]) } }) : ());
	my $before = $last->digest;
	$run = $held->run($last, $moment);
	$dba = $node->session($there);
	$dba->send('DROP EXTENSION sis_sync CASCADE');
	$node->wait_until($there, q{SELECT wait_event_type = 'Lock' OR state = 'idle'
		FROM pg_stat_activity WHERE query LIKE 'DROP%' AND pid = } . $dba->pid);
	$held->release;
	my ($of_run, $of_drop) = ($run->wait->{error}, $dba->wait->{error});

	if ($of_run)
	{
		like($of_run->{message}, qr/sis_sync|deadlock detected|could not open relation/, "DROP EXTENSION, $moment: the run's error");
		is($last->digest, $before, "DROP EXTENSION, $moment: the roster is as it was");
	}
	else
	{
		is_deeply($last->rows(q{SELECT email, archived_at IS NULL FROM <roster>.student
			WHERE source_id IN ('stu-000001', 'stu-000050') ORDER BY source_id})->[0],
			[ 'new@example.org', 't' ], "DROP EXTENSION, $moment: the run is done");
		is($last->value('SELECT count(*) FROM <roster>.student WHERE archived_at IS NOT NULL'),
			1, "DROP EXTENSION, $moment: all of it");
	}
	is($of_drop ? $of_drop->{sqlstate} : 'ok', $of_drop ? '40P01' : 'ok',
		"DROP EXTENSION, $moment: done, or a deadlock of which PostgreSQL says so");
	ok(!($of_run && $of_drop), "DROP EXTENSION, $moment: not both fail");
	is($node->value($there, q{SELECT count(*) FROM pg_extension WHERE extname = 'sis_sync'}),
		$of_drop ? 1 : 0, "DROP EXTENSION, $moment: the extension is gone or whole");
	$_->close for $run, $dba;
}

done_testing;
