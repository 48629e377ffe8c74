# Crashes: after kill -9 of a backend, an immediate shutdown or a promotion the
# roster is as it was, nothing that was staged is judged, and the next run does
# all.  And where a sync cannot run: on a standby, in a read-only transaction.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use Interrupt;
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { restart_after_crash => 'on', work_mem => '64kB',
		max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('crash');
my $hold = Hold->new($node, $db);
my $s = SampleSync->new($node, $db, 'held',
	district => District->new(students => 3000, sections => 40, staff => 2,
		teachers => 0, enroll => 1),
	set => { deletion_threshold => 100 });
$s->succeeds('first load');

my $staged = join ' UNION ALL ',
  map { "SELECT 1 FROM sis_sync.stage_$_" } @SampleSync::TYPES;
my $night = 0;

# All students change, so that the delta does not fit into memory; one leaves.
sub night
{
	my ($moment) = @_;
	my $d = $s->{district};

	$night++;
	$d->remove('student', ($d->ids('student'))[-1]);
	$d->set('student', $_, email => "$_\@night$night.example.org")
	  for $d->ids('student');
	$s->write($moment eq 'fold'
		? (change => { 'users/stu-000002' => sub { ($_[0], $_[0]) } }) : ());
	return;
}

for my $moment (qw(fold verify apply archive))
{
	for my $how ('kill -9', $moment eq 'apply' ? 'immediate shutdown' : ())
	{
		my $title = "$moment, $how";

		night($moment);
		$node->value($db, 'CHECKPOINT');
		my $before = $s->digest;
		my $run = $hold->run($s, $moment);

		if ($moment =~ /apply|archive/)
		{
			isnt(join(' ', glob $node->host . '/data/base/pgsql_tmp/*'), '',
				"$title: there are temporary files");
		}
		$how eq 'kill -9' ? $node->kill9($run->pid) : $node->restart('immediate');
		$run->close;
		$hold->release;
		my $interrupt = Interrupt->new($node, $db);

		$interrupt->nothing_is_left($s, $title, $before);
		is($node->value($db, "SELECT count(*) FROM ($staged) AS rows"), 0,
			"$title: the stage is empty");
		$s->run_ends_in($moment eq 'fold' ? '55000' : 'SI007',
			"$title: no step goes on with the old run",
			$s->sql('SELECT sis_sync.verify(<run>)'));
		$interrupt->next_run_does_all($s, $title, 0);
		$s->counts_are("$title: the next run", student => {
				updated => 3000 - $night, archived => 1 });
	}
}

# ----------
# A standby, and its promotion
# ----------
my $signal = $node->host . '/data/standby.signal';
my %where = (
	'CALL' => $s->call_sql, 'CALL, dry run' => $s->call_sql('dry'),
	'run_atomic()' => q{SELECT sis_sync.run_atomic('held')},
	'stage()' => q{SELECT sis_sync.stage('held')});

night('verify');
my $staged_run = $s->value(q{SELECT sis_sync.stage('held')});
$where{'verify()'} = "SELECT sis_sync.verify($staged_run)";
my $before = $s->digest;
$node->stop;
open my $fh, '>', $signal or die "$signal: $!";
close $fh;
$node->start;
is($node->value($db, 'SELECT pg_is_in_recovery()'), 't', 'a standby');
for my $what (sort keys %where)
{
	my $error = $s->run_ends_in('25006', "$what on a standby", $where{$what});

	like($error->{hint} // '', qr/primary/, "$what on a standby: the hint")
	  if $what =~ /CALL/;
}
is($node->value($db, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}),
	0, 'no lock is held on the standby');
$node->run($db, 'SELECT pg_promote()');
$node->wait_until($db, 'SELECT NOT pg_is_in_recovery()');
is($s->digest, $before, 'promoted: the roster is as it was');
is($node->value($db, "SELECT count(*) FROM ($staged) AS rows"), 0,
	'promoted: the stage is empty');
my $error = $s->run_ends_in('SI007', 'promoted: verify', $where{'verify()'});
is($s->digest, $before, 'promoted: nothing changed');
$s->run_succeeds('promoted: the next run');
$s->counts_are('promoted: the next run', student => {
		updated => 3000 - $night, archived => 1 });

# ----------
# Read-only transactions
# ----------
night('verify');
$before = $s->digest;
my $last = $s->last_run->{id};
for my $what ('run_atomic()', 'stage()')
{
	$s->run_ends_in('25006', "$what in a read-only transaction",
		"BEGIN READ ONLY;\n$where{$what}");
}
$s->run_ends_in('25001', 'CALL in a read-only transaction',
	"BEGIN READ ONLY;\n$where{CALL}");
is($s->digest, $before, 'read-only: nothing changed');
is($s->last_run->{id}, $last, 'read-only: nor was a run begun');
is($s->call('SET default_transaction_read_only = on; ' . $s->call_sql), undef,
	'a CALL has transactions of its own, whatever is the default');

done_testing;
