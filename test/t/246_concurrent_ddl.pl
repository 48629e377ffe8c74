# A run beside maintenance, DDL and an application: while its source is slow,
# when nobody waits for it; and while it writes, when each waits for the other
# and neither is lost.  What 188_concurrency.pl has is not here again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use OneRosterSync;
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('ddl');
my $hold = Hold->new($node, $db);

sub deadlocks
{
	return $node->value('postgres', q{SELECT sum(deadlocks) FROM pg_stat_database});
}

# ----------
# While the source is slow: one request a second, one at a time
# ----------
my $rest = OneRosterSync->new($node, $db, 'slow',
	district => District->new(students => 60, sections => 4, staff => 2, teachers => 0, enroll => 1),
	server => { max_connections => 1 });
$rest->succeeds('first load');
my $run = $node->session($db);
my $dba = $node->session($db);

sub begin_slow
{
	$rest->{district}->set('student', 'stu-000001', email => "$_[0]\@example.org");
	$rest->write;
	$rest->service->change(latency => 1000);
	$run->send($rest->call_sql);
	$node->wait_until($db, q{SELECT bytes_done > 0 FROM sis_sync.progress WHERE sync = 'slow' AND phase = 'fetch'});
	return;
}

sub still_fetching
{
	my ($title) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->value($db, q{SELECT phase FROM sis_sync.progress WHERE sync = 'slow'}), 'fetch',
		"$title: the run was still reading its source");
}

begin_slow('night1');
is_deeply($node->rows($db, 'SELECT relation::regclass::text, mode FROM pg_locks WHERE relation IS NOT NULL AND pid = ' . $run->pid),
	[], 'a slow source: the run has locked no table');
$dba->query(q{SET lock_timeout = '300ms'});
for my $sql (q{UPDATE roster.student SET email = 'by-hand@example.org' WHERE source_id = 'stu-000002'},
	'VACUUM roster.student', 'VACUUM FULL roster.student', 'VACUUM FULL sis_sync.run',
	'VACUUM FULL sis_sync.run_count', 'CREATE INDEX by_email ON roster.student (email)',
	'CREATE INDEX CONCURRENTLY by_grade ON roster.student (grade)', 'REINDEX TABLE roster.enrollment',
	'CLUSTER roster.student USING student_pkey',
	'ALTER TABLE roster.student ADD COLUMN locker text', 'ALTER TABLE roster.student ADD CHECK (length(email) < 1000)',
	q{ALTER SERVER slow OPTIONS (ADD page_size '7')}, 'TRUNCATE roster.student_contact',
	'LOCK TABLE roster.section IN ACCESS EXCLUSIVE MODE')
{
	my $done = $dba->query($sql =~ /^LOCK/ ? "BEGIN; $sql; COMMIT" : $sql);

	is($done->{error}, undef, "beside a slow source, at once: $sql");
}
# one second and no more: it must not wait for the run's end
my $second = $node->session($db);
is($second->query($rest->call_sql)->{error}{sqlstate}, 'SI008', 'beside a slow source: a second run, at once');
still_fetching('all of it');
is($run->wait->{error}, undef, 'the run goes on over all of it');
$rest->counts_are('and repairs what was done by hand', student => { updated => 2, archived => 0 });
is($node->value($db, q{SELECT count(*) FROM pg_index WHERE NOT indisvalid}), 0, 'no index is broken');

# It read its settings when it began; the next one reads the new ones.
is(scalar(grep { ($_->{path} // $_->{url} // $_->{target} // '') =~ /limit=7\b/ } $rest->service->requests), 0,
	'ALTER SERVER meanwhile: this run goes on as it began');

# the extension is dropped while the source is read
my $there = $node->fresh_db('dropped');
my $last = OneRosterSync->new($node, $there, 'slow',
	district => District->new(students => 60, sections => 4, staff => 2, teachers => 0, enroll => 1),
	server => { max_connections => 1 }, service => { latency => 1000 });
my $session = $node->session($there);
$session->send($last->call_sql);
$node->wait_until($there, q{SELECT bytes_done > 0 FROM sis_sync.progress WHERE phase = 'fetch'});
my $dropper = $node->session($there);
$dropper->query(q{SET lock_timeout = '300ms'});
is($dropper->query('DROP EXTENSION sis_sync CASCADE')->{error}, undef, 'DROP EXTENSION beside a slow source: at once');
my $result = $session->wait;
ok($result->{error} && !$result->{closed}, 'the run ends in an error');
like($result->{error}{message} // '', qr/sis_sync|could not open relation|does not exist/, 'which says why')
  or diag($result->{err});
is($node->value($there, 'SELECT count(*) FROM roster.student'), 0, 'and nothing was written');
$_->close for $session, $dropper;

# ----------
# While it writes
# ----------
my $s = SampleSync->new($node, $db, 'held',
	district => District->new(seed => 2, students => 120, sections => 4, staff => 2, teachers => 0, enroll => 1),
	roster => 'roster', set => { deletion_threshold => 100 });
$s->succeeds('first load');
my $night = 0;

# The first student changes, the last one leaves.
sub night
{
	my $d = $s->{district};

	$night++;
	$d->set('student', 'stu-000001', email => "night$night\@example.org");
	$d->remove('student', ($d->ids('student'))[-1]);
	$s->write;
	return;
}

sub student
{
	my ($columns) = @_;

	return $s->value("SELECT concat_ws(' ', $columns) FROM roster.student WHERE sync_id = <id> AND source_id = 'stu-000001'");
}

# Each waits for the run, and is done when that is.
my $before = deadlocks();
for my $sql ('VACUUM FULL roster.student', 'CREATE INDEX by_name ON roster.student (family_name)',
	'REINDEX TABLE roster.student', 'TRUNCATE roster.contact', 'CLUSTER roster.student USING student_pkey')
{
	night();
	$hold->at('apply');
	$run->send($s->call_sql);
	$hold->until_waiting($run->pid);
	$dba->query('RESET lock_timeout');
	$dba->send($sql);
	$hold->until_waiting($dba->pid);
	$hold->release;
	is($run->wait->{error}, undef, "beside a run that writes: $sql: the run goes on");
	is($dba->wait->{error}, undef, "beside a run that writes: $sql: is done afterwards");
	$s->counts_are("$sql", student => { updated => 1, archived => 1 });
}

# The other order: the run comes when that has its locks.
for my $sql ('LOCK TABLE roster.student IN ACCESS EXCLUSIVE MODE', 'CREATE INDEX by_phone ON roster.student (phone)',
	'ALTER TABLE roster.student ADD COLUMN badge text')
{
	night();
	$dba->query('BEGIN');
	is($dba->query($sql)->{error}, undef, "before a run: $sql");
	$run->send($s->call_sql);
	$hold->until_waiting($run->pid);
	$dba->query('COMMIT');
	is($run->wait->{error}, undef, "before a run: $sql: the run waits, and goes on");
	$s->counts_are("$sql", student => { updated => 1, archived => 1 });
}

# The application's UPDATE comes when the run has changed the row already.
night();
$hold->at('archive');
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
$dba->send(q{UPDATE roster.student SET locker = 'L-1' WHERE source_id = 'stu-000001' AND sync_id = } . $s->id);
$hold->until_waiting($dba->pid);
$hold->release;
is($run->wait->{error}, undef, 'an UPDATE of a row that the run has changed: the run goes on');
is($dba->wait->{error}, undef, 'an UPDATE of a row that the run has changed: is done afterwards');
is(student('locker, email'), "L-1 night$night\@example.org", 'and neither is lost');

# It changes what the run has changed: the later one stands, and is repaired.
night();
$hold->at('archive');
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
$dba->send(q{UPDATE roster.student SET email = 'by-hand@example.org' WHERE source_id = 'stu-000001' AND sync_id = } . $s->id);
$hold->until_waiting($dba->pid);
$hold->release;
is($run->wait->{error}, undef, 'the same column: the run goes on');
is($dba->wait->{error}, undef, 'the same column: so does the application');
is(student('email'), 'by-hand@example.org', 'the same column: the later one stands');
$s->run_succeeds('the night after');
is(student('email'), "night$night\@example.org", 'the same column: the next run repairs it');

# and the other order
night();
$dba->query('BEGIN');
$dba->query(q{UPDATE roster.student SET locker = 'L-2' WHERE source_id = 'stu-000001' AND sync_id = } . $s->id);
$run->send($s->call_sql);
$hold->until_waiting($run->pid);
$dba->query('COMMIT');
is($run->wait->{error}, undef, 'the UPDATE first: the run waits, and goes on');
is(student('locker, email'), "L-2 night$night\@example.org", 'the UPDATE first: neither is lost');

# Two syncs write to one roster side by side.
night();
$rest->service->change(latency => 0);
$rest->{district}->set('student', 'stu-000001', email => 'beside@example.org');
$rest->write;
$hold->at('apply');
$run->send($s->call_sql);
$second->send($rest->call_sql);
$hold->until_waiting($_->pid) for $run, $second;
is($node->value($db, 'SELECT count(*) FROM sis_sync.progress'), 2, 'two syncs of one roster: both write');
$hold->release;
is($_->wait->{error}, undef, 'two syncs of one roster: it goes on') for $run, $second;
is($rest->value(q{SELECT count(*) FROM roster.student WHERE email = 'beside@example.org' AND sync_id = <id>}), 1,
	'two syncs of one roster: the one is done');
is(student('email'), "night$night\@example.org", 'two syncs of one roster: and the other');
is(deadlocks(), $before, 'no deadlock in any of it');
$_->close for $run, $dba, $second;

done_testing;
