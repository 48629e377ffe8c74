# A thousand runs in one session, good and failing ones, from files and from a
# service, leave its memory, its descriptors and its locks as they were: what
# the libraries take from malloc, too.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use SampleClever;
use SampleSync;
use SisTest;
use Zip;

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('long');
my $hold = Hold->new($node, $db);

sub sample
{
	my ($name, %opt) = @_;

	return SampleSync->new($node, $db, $name,
		district => District->new(students => 40, sections => 4, staff => 4,
			contacts => 10, enroll => 2),
		%opt);
}

my $good = sample('good', set => { deletion_threshold => 100 });
my $zipped = sample('zipped');
my $trips = sample('trips');
my $broken = sample('broken');
my $missing = sample('missing', schools => ['no such school']);
my $bad_set = sample('bad_set');

my $rest = SampleClever->new($node, $db, 'rest',
	district => District->new(students => 40, sections => 4, staff => 4, contacts => 10, enroll => 2));

$_->succeeds('first load') for $good, $trips, $broken, $bad_set, $rest;
$zipped->write;
Zip::pack_folder($zipped->dir . '/export.zip', $zipped->dir);
unlink glob $zipped->dir . '/*.csv';
$trips->{district}->remove('student', $trips->{district}->ids('student', 20, 20));
$trips->write;
$broken->write(append => { users => ['"an unclosed quote'] });
$missing->write;
$bad_set->write(modes => { users => 'bulk' }, leave_out => ['users']);

# What a run in the session ends in
my $session = $node->session($db);
my $pid = $session->pid;
my $round = 0;

sub ends
{
	my ($sqlstate, $sql) = @_;
	my $error = $session->query($sql)->{error};
	my $got = $error ? $error->{sqlstate} : 'ok';

	die "$sql: $got instead of $sqlstate\n" . ($error ? $error->{text} : '')
	  if $got ne $sqlstate;
	return;
}

sub round_of_runs
{
	my $d = $good->{district};

	$round++;
	$d->set('student', 'stu-000001', email => "round$round\@example.org");
	$d->remove('student', 'stu-000040') if $d->count('student') == 40;
	$good->write;
	ends('ok', $good->call_sql('dry'));
	ends('ok', $good->call_sql);
	ends('ok', q{SELECT sis_sync.run_atomic('good')});
	ends('ok', $zipped->call_sql);
	ends('SI001', $trips->call_sql);
	ends('SI001', q{SELECT sis_sync.run_atomic('trips')});
	ends('SI007', $broken->call_sql);
	ends('SI003', $missing->call_sql);
	ends('SI007', $bad_set->call_sql);
	ends('ok', $rest->call_sql);
	$rest->service->change(tokens => ['another']);
	ends('SI002', $rest->call_sql);
	$rest->service->change(tokens => [ $rest->token ]);

	# in the middle of apply
	$d->set('student', 'stu-000001', email => "again$round\@example.org");
	$good->write;
	$session->query(q{SET statement_timeout = '150ms'});
	$hold->at('apply');
	ends('57014', $good->call_sql);
	$hold->release;
	$session->query('RESET statement_timeout');
	return;
}

sub memory
{
	my %bytes = map { $_->[0] => $_->[1] } @{ $session->query(q{
		SELECT name, sum(used_bytes) FROM pg_backend_memory_contexts
		WHERE level > 0 GROUP BY name})->{out} };
	my $top = $session->query(q{SELECT used_bytes FROM pg_backend_memory_contexts
		WHERE name = 'TopMemoryContext'})->{out}[0][0];
	my $all = 0;

	$all += $_ for values %bytes;
	return ($top, $all, \%bytes);
}

# What the backend has of its own, in kB, malloc's included.
sub resident
{
	open(my $status, '<', "/proc/$pid/status") or die "cannot read /proc: $!";
	my ($kb) = map { /^RssAnon:\s*(\d+) kB/ ? $1 : () } <$status>;

	close($status);
	return $kb;
}

# What is open beside the files of the database, which a backend keeps open.
sub descriptors
{
	my $data = $node->host . '/data/';
	my @open = grep { defined && index($_, $data) != 0 }
	  map { readlink } glob "/proc/$pid/fd/*";

	return join ' ', sort @open;
}

# Failing ones in one transaction, each caught
sub caught_runs
{
	ends('ok', q{DO $$
	BEGIN
	  FOR i IN 1 .. 10 LOOP
	    BEGIN
	      PERFORM sis_sync.run_atomic('broken');
	    EXCEPTION WHEN OTHERS THEN
	      ASSERT sqlstate = 'SI007';
	    END;
	  END LOOP;
	  ASSERT (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
	    AND locktype = 'advisory') = 0;
	END $$});
	return;
}

# What a backend keeps once it has met everything.  The first index of many
# pages that is built at once, when it comes, is PostgreSQL's: since 17 it makes
# room then for WAL records of 32 pages, and keeps it.
round_of_runs() for 1 .. 12;
caught_runs();
ends('ok', $_) for 'CREATE TABLE big AS SELECT n FROM generate_series(1, 20000) n',
  'CREATE INDEX ON big (n)', 'DROP TABLE big';
my $resident = resident();
my ($top, $all, $before) = memory();
my $descriptors = descriptors();

round_of_runs() for 1 .. 80;
caught_runs() for 1 .. 10;
my ($top_after, $all_after, $after) = memory();
my %grown = map { $_ => $after->{$_} - ($before->{$_} // 0) }
  grep { $after->{$_} > ($before->{$_} // 0) } keys %$after;

is($top_after, $top, 'a thousand runs: TopMemoryContext has not grown');
cmp_ok($all_after, '<=', $all + 128 * 1024, 'nor has all memory')
  or diag(explain(\%grown));
SKIP:
{
	skip 'a sanitizer keeps what was freed', 1 if $ENV{ASAN_OPTIONS};
	# PostgreSQL's cache takes its room by doubling
	cmp_ok(resident(), '<=', $resident + 4096, 'nor has what the process holds, by 4 MB');
}
is(descriptors(), $descriptors, 'no descriptor is left');
is($node->value($db, "SELECT count(*) FROM pg_locks WHERE pid = $pid"), 0,
	'no lock is left');
is(join(' ', glob $node->host . '/data/base/pgsql_tmp/*'), '', 'no temporary file is left');

done_testing;
