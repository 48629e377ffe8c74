# A run that goes on, seen from another session: sis_sync.progress in each
# phase, with numbers that grow; what is left of it afterwards; and what the
# session itself is told.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use OneRosterSync;
use SampleSync;
use SisTest;
use Sshd;
use Time::HiRes qw(time sleep);

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('progress');
my $looker = $node->session($db);

# The row of a sync in the view, as a hash; undef: it does not run.
my @COLUMNS = qw(run_id pid phase record_type rows_done rows_total bytes_done
  bytes_total percent started_at);

sub progress
{
	my ($sync, $session) = @_;
	my $result = ($session // $looker)->query('SELECT ' . join(', ', @COLUMNS)
		  . " FROM sis_sync.progress WHERE sync = '$sync'");
	my %row;

	die $result->{error}{text} if $result->{error};
	die 'more than one row' if @{ $result->{out} } > 1;
	return if !@{ $result->{out} };
	@row{@COLUMNS} = @{ $result->{out}[0] };
	return \%row;
}

# A test: these columns of the row are so.
sub shows
{
	my ($sync, $title, %expected) = @_;
	my $row = progress($sync) // {};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply({ map { $_ => $row->{$_} } keys %expected }, \%expected,
		"$title: what is shown")
	  || diag(explain($row));
}

sub nothing_is_shown
{
	my ($title) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->value($db, 'SELECT count(*) FROM sis_sync.progress'), 0, "$title: no run goes on");
	return is($node->value($db, 'SELECT count(*) FROM pg_stat_progress_copy'), 0,
		"$title: and no numbers are left");
}

# ----------
# A slow REST service: rows of the totals that it tells
# ----------
my $rest = OneRosterSync->new($node, $db, 'slow',
	district => District->new(students => 200, sections => 20, staff => 5, enroll => 2),
	server => { page_size => 50, max_connections => 1 },
	service => { latency => 100 });
my $run = $node->session($db);
$run->send($rest->call_sql);
my (@seen, %phases);
my $until = time + 120;
while (time < $until)
{
	my $row = progress('slow');

	last if !$row && @seen;
	push @seen, $row if $row;
	$phases{ $row->{phase} // '' } = 1 if $row;
	sleep 0.03;
}
is($run->wait->{error}, undef, 'a slow service: the run succeeds');
my $id = $rest->last_run->{id};
is_deeply([ grep { $_->{run_id} != $id || $_->{pid} != $run->pid || !$_->{started_at} } @seen ], [],
	'a slow service: run, process and time');
my @fetching = grep { ($_->{phase} // '') eq 'fetch' && $_->{rows_total} } @seen;
cmp_ok(scalar @fetching, '>=', 5, 'a slow service: seen while it is being read');
my @percent = map { $_->{percent} } @fetching;
my ($first, $last) = @fetching[ 0, -1 ];
is(scalar(grep { $_ < 0 || $_ > 100 } @percent), 0, 'percent lies between 0 and 100');
for my $column (qw(rows_done bytes_done rows_total))
{
	my @values = map { $_->{$column} } @fetching;

	is_deeply(\@values, [ sort { $a <=> $b } @values ], "$column never falls");
	cmp_ok($last->{$column}, '>', $first->{$column}, "$column grows");
}
is($first->{bytes_total}, undef, 'no total of bytes is made up');
# 4 orgs and terms and courses aside: users 205 and more, enrollments 400 and more
cmp_ok($last->{rows_total}, '>=', 605, 'the totals add up');
nothing_is_shown('a slow service, afterwards');

# by another role, with what docs/grants.md gives a role that looks on
$node->run($db, q{
	CREATE ROLE looker LOGIN;
	GRANT USAGE ON SCHEMA sis_sync TO looker;
	GRANT SELECT ON sis_sync.progress TO looker;
	GRANT EXECUTE ON FUNCTION sis_sync.run_progress() TO looker});
my $by_role = $node->session($db, role => 'looker');
$run->send($rest->call_sql);
$node->wait_until($db, q{SELECT rows_done > 0 FROM sis_sync.progress WHERE sync = 'slow' AND phase = 'fetch'});
my $row = progress('slow', $by_role);
ok($row->{rows_done} > 0 && $row->{pid} == $run->pid,
	'a role with no other right sees the numbers of another\'s run');
is($by_role->query('SELECT count(relid) FROM pg_stat_progress_copy')->{out}[0][0], 0,
	'which PostgreSQL itself would not show it');
$by_role->close;

# nothing is locked or held while the service is slow
is_deeply($node->rows($db, q{SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
	WHERE l.pid = } . $run->pid), [], 'no table is locked while the source is read');
is_deeply($node->rows($db, 'SELECT backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = ' . $run->pid),
	[ [ undef, undef ] ], 'nor is a snapshot held');

# a cancel in the middle of it
$looker->query('SELECT pg_cancel_backend(' . $run->pid . ')');
is($run->wait->{error}{sqlstate}, '57014', 'a cancel while it is read');
nothing_is_shown('a cancel');
# not to be held open by the proxy below, which is a fork of this process
$rest->service->stop;

# ----------
# Files from an SFTP site: bytes of bytes
# ----------
my $keys = $node->dir('keys');
my $files = $node->dir('files');
my $sshd = Sshd->new($node->dir('sshd'));
my $key = Sshd::key($keys, 'user', 'ed25519');
$sshd->authorize($key);
$sshd->start;
District->new(seed => 3, students => 3000, sections => 60, staff => 5, enroll => 2)
  ->write($files, layout => 'oneroster11');
my $size = 0;
$size += -s $_ for glob "$files/*.csv";
my $proxy = Sshd::Proxy->new(dir => $node->dir('proxy'), port => $sshd->port,
	limit => 200_000);
cmp_ok($size, '>', 400_000, 'files that are larger than what comes at first');
$node->run($db, sprintf(q{
	SELECT sis_sync.create_roster('remote');
	CREATE SERVER remote FOREIGN DATA WRAPPER sis_sftp
	  OPTIONS (host '127.0.0.1', port '%d', path '%s', host_key_sha256 '%s');
	CREATE USER MAPPING FOR PUBLIC SERVER remote OPTIONS (username '%s', private_key '%s');
	INSERT INTO sis_sync.sync (name, server, target_schema, all_schools)
	  VALUES ('remote', 'remote', 'remote', true)},
		$proxy->port, $files, $sshd->fingerprint('ed25519'), $sshd->user, $key->{private}));
$run->send(q{CALL sis_sync.run('remote')});
$proxy->wait_stalled;
# what has been forwarded may still be on its way
$node->wait_until($db, q{SELECT bytes_done > 50000 FROM sis_sync.progress WHERE sync = 'remote'});
$row = progress('remote');
is($row->{phase}, 'fetch', 'files: the phase');
is($row->{bytes_total}, $size, 'files: bytes of all of them');
cmp_ok($row->{bytes_done}, '<', 200_000, 'files: so far');
is($row->{percent}, sprintf('%.1f', 100 * $row->{bytes_done} / $size), 'files: percent')
  or diag(explain($row));
$proxy->go;
is($run->wait->{error}, undef, 'files: the run succeeds');
$proxy->stop;
nothing_is_shown('files, afterwards');

# ----------
# Each phase of a run over a folder
# ----------
my $hold = Hold->new($node, $db);
my $s = SampleSync->new($node, $db, 'held',
	district => District->new(students => 120, sections => 4, staff => 2,
		teachers => 0, enroll => 1),
	set => { deletion_threshold => 100 });
$s->succeeds('first load');

# The application's trigger fails in an exception block each time: the abort of
# a subtransaction ends what PostgreSQL shows of a command.
$node->run($db, q{
	CREATE FUNCTION public.stumble() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  BEGIN
	    RAISE EXCEPTION 'stumbled';
	  EXCEPTION WHEN OTHERS THEN NULL;
	  END;
	  RETURN NULL;
	END $$;
	CREATE TRIGGER stumble AFTER INSERT ON roster.section
	  FOR EACH STATEMENT EXECUTE FUNCTION public.stumble()});

my $night = 0;

# Two students change, one leaves with his enrollment, two sections are new.
sub night
{
	my ($moment) = @_;
	my $d = $s->{district};

	$night++;
	$d->set('student', "stu-00000$_", email => "night$night\@example.org") for 1, 2;
	$d->remove('student', ($d->ids('student'))[-1]);
	$d->add('section') for 1, 2;
	$s->write($moment eq 'fold'
		? (change => { 'users/stu-000002' => sub { ($_[0], $_[0]) } }) : ());
	return;
}

sub folder_size
{
	my $bytes = 0;

	# the manifest is read, too; demographics are not wanted
	$bytes += -s $_ for grep { !/demographics/ } glob $s->dir . '/*.csv';
	return $bytes;
}

# Rows of the files with records.
sub folder_rows
{
	my $rows = 0;

	for my $file (grep { !/demographics|manifest/ } glob $s->dir . '/*.csv')
	{
		open my $fh, '<', $file or die $!;
		my @lines = <$fh>;
		$rows += @lines - 1;
	}
	return $rows;
}

my %shown = (
	fold => sub { (phase => 'stage', bytes_done => folder_size(), bytes_total => folder_size(),
			percent => '100.0', rows_done => folder_rows()) },
	verify => sub { (phase => 'verify', rows_total => undef, bytes_total => undef, percent => undef) },
	# 2 sections, and 2 students to come
	apply => sub { (phase => 'apply', record_type => 'student', rows_done => 2,
			rows_total => 4, percent => '50.0') },
	# his enrollment, and he to come
	archive => sub { (phase => 'archive', record_type => 'student', rows_done => 1,
			rows_total => 2, percent => '50.0') });
for my $moment (qw(fold verify apply archive))
{
	night($moment);
	my $session = $hold->run($s, $moment);
	my %common = (run_id => $s->last_run->{id}, pid => $session->pid,
		started_at => $s->last_run->{started_at});

	shows('held', $moment, %common, $shown{$moment}->());
	$hold->release;
	is($session->wait->{error}, undef, "$moment: the run succeeds");
	nothing_is_shown("$moment, afterwards");
	$session->close;
}
is_deeply($s->rows('SELECT sum(created), sum(updated), sum(archived) FROM sis_sync.run_count WHERE run_id = <run>'),
	[ [ 2, 2, 2 ] ], 'that is what each night did');

# an error while it writes
$node->run($db, q{ALTER TABLE roster.student ADD CONSTRAINT no_night CHECK (email NOT LIKE 'night5@%') NOT VALID});
night('apply');
$s->run_ends_in('23514', 'a constraint of the application');
nothing_is_shown('an error');
$node->run($db, 'ALTER TABLE roster.student DROP CONSTRAINT no_night');

# the four steps in a transaction of the caller's: its run is not committed
my $session = $hold->run($s, 'apply', sql => q{SELECT sis_sync.run_atomic('held')});
$row = progress('held');
is($row->{phase}, 'apply', 'run_atomic: the phase');
ok($row->{run_id} > $s->last_run->{id} && $row->{started_at}, 'run_atomic: a run that the log does not show yet');
$hold->release;
is($session->wait->{error}, undef, 'run_atomic: succeeds');
nothing_is_shown('run_atomic, afterwards');

# between two steps, the lock tells of it
$session->query('BEGIN');
my $staged = $session->query(q{SELECT sis_sync.stage('held')})->{out}[0][0];
shows('held', 'between two steps', pid => $session->pid, run_id => undef, phase => undef,
	rows_done => undef);
$session->query('COMMIT');
nothing_is_shown('a step that is committed');
is($session->query("SELECT sis_sync.verify($staged)")->{error}, undef, 'and the next step goes on');
nothing_is_shown('a step of its own');

# without numbers
$node->run($db, 'ALTER DATABASE progress SET track_activities = off');
my $untracked = $hold->run($s, 'verify');
shows('held', 'track_activities off', pid => $untracked->pid, run_id => $s->last_run->{id},
	phase => 'verify', rows_done => undef, percent => undef, started_at => $s->last_run->{started_at});
$hold->release;
is($untracked->wait->{error}, undef, 'track_activities off: the run succeeds');
$untracked->close;
$node->run($db, 'ALTER DATABASE progress RESET track_activities');

# an undo
night('apply');
$s->run_succeeds('a night to undo');
my $undone = $s->last_run->{id};
$hold->at('apply');
$session->send("CALL sis_sync.undo($undone)");
$hold->until_waiting($session->pid);
shows('held', 'an undo', phase => 'undo', pid => $session->pid);
$hold->release;
is($session->wait->{error}, undef, 'an undo succeeds');
nothing_is_shown('an undo, afterwards');

# two databases of one cluster do not see each other's
my $other = $node->fresh_db('other_progress');
my $there = SampleSync->new($node, $other, 'held', district => $s->{district});
night('apply');
my $here = $hold->run($s, 'apply');
is($node->value($other, 'SELECT count(*) FROM sis_sync.progress'), 0,
	'another database: a sync of the same ID does not run there');
is($node->value($other, 'SELECT running FROM sis_sync.health'), 'f', 'nor is it said to');
$hold->release;
is($here->wait->{error}, undef, 'the run goes on');
$here->close;

# ----------
# What the session is told
# ----------
sub notices
{
	my ($result) = @_;

	return [ $result->{err} =~ /^NOTICE:  00000: (.*)$/mg ];
}
night('apply');
my $result = $session->query($s->call_sql);
$id = $s->last_run->{id};
my $d = $s->{district};
my %n = map { $_ => scalar $d->ids($_) } qw(student staff section enrollment);
is_deeply(notices($result), [
	qq{run $id of sync "held": reading from server "held"},
	"run $id: received " . (1 + 1 + 8 + $n{section} + $n{student} + $n{staff} + $n{enrollment})
	  . " records: 1 school, 1 term, 8 course, $n{section} section, $n{student} student, $n{staff} staff, $n{enrollment} enrollment; 0 rows rejected",
	"run $id: created 2, updated 2, restored 0 and archived 2 records; "
	  . (1 + 1 + 8 + $n{section} - 2 + $n{student} - 2 + $n{staff} + $n{enrollment}) . ' are unchanged' ],
	'a line for each phase') or diag($result->{err});
$d->remove('student', ($d->ids('student'))[-1]);
$s->write;
$result = $session->query($s->call_sql('dry'));
like(notices($result)->[-1], qr/: would create 0, update 0 and restore 0 records, and archive 1 that count against the threshold;/, 'a dry run says would')
  or diag($result->{err});
$session->query('SET client_min_messages = warning');
is($session->query($s->call_sql)->{err}, '', 'client_min_messages: silence');
unlike($node->log, qr/NOTICE/, 'the server\'s log has none of it');
$_->close for $session, $looker, $run;

done_testing;
