# Backup and upgrade: a dump restored in another cluster, a standby that is
# promoted, and pg_upgrade in place.  Each goes on where the first left off:
# the next night changes nothing, what is pending can be decided on, and a run
# that was under way is known to have been interrupted.
use strict;
use warnings;
use Cwd ();
use File::Path ();
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use IPC::Run;
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { wal_level => 'replica', max_wal_senders => 4 })->start;
my $db = $node->fresh_db('app');

sub command
{
	my ($title, @command) = @_;
	my $out = '';
	my $good = IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>&1');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($good, $title) || diag($out);
}

# ----------
# What there is: a sync that goes well, one that tripped, one under way
# ----------
my %district = map { $_ => District->new(seed => length $_, schools => 2, students => 120, sections => 12,
		staff => 8, contacts => 30, enroll => 2) } qw(springfield held staged);
my %sync = map { $_ => SampleSync->new($node, $db, $_, district => $district{$_}) } sort keys %district;

$_->succeeds('first load') for @sync{ sort keys %sync };
$district{springfield}->remove('student', 'stu-000120');
$district{springfield}->set('student', 'stu-000001', email => 'new@example.org');
$sync{springfield}->succeeds('second night');
my $undoable = $sync{springfield}->last_run->{id};
$district{held}->remove('student', $district{held}->ids('student', 0, 20));
$sync{held}->ends_in('SI001', 'twenty of 120 leave');
my $tripped = $sync{held}->last_run->{id};
$sync{staged}->write;
my $staged = $node->value($db, q{SELECT sis_sync.stage('staged')});

my $content = join ' UNION ALL ',
  map { "SELECT concat('$_', t) AS x FROM roster.$_ t" } @SampleSync::TYPES;
$content = "SELECT md5(string_agg(x, E'\\n' ORDER BY x)) || count(*) FROM ($content) AS c";
my $before = $node->value($db, $content);
my $last_run = $node->value($db, 'SELECT max(id) FROM sis_sync.run');

# ----------
# What must hold elsewhere; staged: are the staged rows there?
# ----------
sub goes_on
{
	my ($title, $there, %opt) = @_;
	my %s = map { $_ => bless { %{ $sync{$_} }, node => $there }, 'SampleSync' } keys %sync;

	is($there->value($db, $content), $before, "$title: the roster is the same");
	my $rows = $there->value($db, "SELECT count(*) FROM sis_sync.stage_student WHERE run_id = $staged");
	is($rows, $opt{staged} ? 120 : 0, "$title: staged rows are " . ($opt{staged} ? 'there' : 'not there'));
	my $error = $s{staged}->call("SELECT sis_sync.verify($staged)");
	if ($opt{staged})
	{
		is($error, undef, "$title: the run that was staged goes on");
	}
	else
	{
		is($error->{sqlstate}, 'SI007', "$title: the run that was staged cannot go on");
	}

	for my $name (sort keys %s)
	{
		next if $name eq 'held';
		$s{$name}->run_succeeds("$title: the next night");
		cmp_ok($s{$name}->last_run->{id}, '>', $last_run, "$title: with the next number");
		for my $what (qw(created updated restored archived))
		{
			$s{$name}->all_counts_are("$title: nothing was $what", $what);
		}
	}
	is($there->value($db, "SELECT status FROM sis_sync.run WHERE id = $staged"), 'interrupted',
		"$title: the run that was under way is interrupted");
	is($there->value($db, $content), $before, "$title: the roster is still the same");

	# what was held back can be decided on
	is($s{held}->call("SELECT sis_sync.approve($tripped, 'they have left')"), undef, "$title: approve");
	$s{held}->run_succeeds("$title: the approved run");
	$s{held}->counts_are("$title: twenty go", student => { archived => 20, updated => 0 });
	# and undone
	is($s{springfield}->call("CALL sis_sync.undo($undoable)"), undef, "$title: undo of a night before");
	$s{springfield}->counts_are("$title: it is back", student => { restored => 1, updated => 1 });
	is($there->value($db, q{SELECT count(*) FROM sis_sync.stage_slot WHERE sync IS NOT NULL}), 3,
		"$title: each sync has one slot");
	return;
}

# ----------
# A dump, restored in another cluster
# ----------
my $dump = $node->dir('dump') . '/dump';
command('pg_dump', $node->program('pg_dump'), '-h', $node->host, '-p', $node->port, '-Fc', '-f', $dump, $db);
{
	my $other = SisTest->new->start;

	$other->run('postgres', "CREATE DATABASE $db");
	command('pg_restore', $other->program('pg_restore'), '-h', $other->host, '-p', $other->port,
		'--exit-on-error', '-d', $db, $dump);
	goes_on('restored', $other, staged => 0);
	$other->stop;
}

# ----------
# A standby, promoted when the primary is gone
# ----------
my $standby = SisTest->new;
File::Path::remove_tree("$standby->{top}/data");
command('pg_basebackup', $node->program('pg_basebackup'), '-h', $node->host, '-p', $node->port,
	'-D', "$standby->{top}/data", '-R', '-c', 'fast', '-X', 'stream');
$standby->set(port => $standby->port, unix_socket_directories => $standby->host);
$standby->start;
$sync{springfield}->run_succeeds('a night while the standby follows');
$last_run = $sync{springfield}->last_run->{id};
my $lsn = $node->value('postgres', 'SELECT pg_current_wal_lsn()');
$standby->wait_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'");
is($standby->value($db, $content), $before, 'the standby has it all');
is($standby->fails($db, q{CALL sis_sync.run('springfield')})->{sqlstate}, '25006', 'no run on a standby');
is($standby->fails($db, q{SELECT sis_sync.purge('1 day')})->{sqlstate}, '25006', 'and no purge');
$node->stop;
$standby->value('postgres', 'SELECT pg_promote()');
goes_on('promoted', $standby, staged => 0);
$standby->stop;

# ----------
# pg_upgrade in place; to a newer server where NEW_PG_CONFIG names one, as
# test/pg_upgrade does
# ----------
my $old_bindir = SisTest::bindir();
if (my $pg_config = $ENV{NEW_PG_CONFIG})
{
	chomp($SisTest::BINDIR = `$pg_config --bindir`);
}
my $new = SisTest->new;
my $here = Cwd::getcwd();
chdir $new->{top} or die $!;
command('pg_upgrade', $new->program('pg_upgrade'), '-b', $old_bindir, '-B', SisTest::bindir(),
	'-d', "$node->{top}/data", '-D', "$new->{top}/data", '-s', $new->{top},
	'-p', $node->port, '-P', $new->port, '--link');
chdir $here;
$new->start;
my ($from, $to) = map { `$_/postgres --version` =~ /(\d+)/ } $old_bindir, SisTest::bindir();
like($new->value('postgres', 'SHOW server_version'), qr/^$to\b/, "upgraded: from $from to $to");
cmp_ok($to, '>', $from, 'upgraded: to a newer server') if $ENV{NEW_PG_CONFIG};
my $kept = $new->value($db, "SELECT count(*) FROM sis_sync.stage_student WHERE run_id = $staged");
note "pg_upgrade has kept $kept staged rows";
goes_on('upgraded', $new, staged => $kept > 0);
is($new->value($db, q{SELECT count(*) FROM sis_sync.stage_slot}), 16, 'upgraded: sixteen slots');

done_testing;
