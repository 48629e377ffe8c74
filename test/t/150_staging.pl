# The staging tables: every received row can be found, and a stage that is not
# what it was is never taken for a feed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('staging');

my %file_of = (
	school => 'orgs', term => 'academicSessions', course => 'courses',
	section => 'classes', student => 'users', staff => 'users',
	contact => 'users', enrollment => 'enrollments');

# Every record of the district stands in its staging table with file and line.
sub all_found
{
	my ($s, $title) = @_;

	for my $type (sort keys %file_of)
	{
		my $file = $file_of{$type};
		my $lines = $s->{lines}{$file};
		my $got = join ' ', map { join ':', @$_ } @{
			$s->rows('SELECT source_id, line FROM sis_sync.stage_' . $type
				  . " WHERE sync_id = <id> AND source LIKE '%$file.csv'"
				  . ' ORDER BY source_id')
		};
		my $want = join ' ',
		  map { "$_:$lines->{$_}" } sort $s->{district}->ids($type);

		is($got, $want, "$s->{name}: $title: every $type by file and line");
	}
	return;
}

sub sample
{
	my ($name, %opt) = @_;

	return SampleSync->new($node, $db, $name,
		district => District->new(seed => 3, schools => 2, students => 100,
			sections => 10, staff => 6, contacts => 20, enroll => 3),
		%opt);
}

my $s = sample('found');
$s->succeeds('first load');
all_found($s, 'a good run');
is_deeply($s->rows('SELECT given_name, email FROM sis_sync.stage_student'
		  . " WHERE sync_id = <id> AND source LIKE '%users.csv'"
		  . " AND line = $s->{lines}{users}{'stu-000042'}"),
	$s->rows('SELECT given_name, email FROM <roster>.student'
		  . " WHERE sync_id = <id> AND source_id = 'stu-000042'"),
	'a row by its file and line, with its values');

$s->write;
is($s->call($s->call_sql('dry')), undef, 'found: dry run');
all_found($s, 'a dry run');

$s->{district}->remove('student', $s->{district}->ids('student', 80, 20));
$s->ends_in('SI001', '20 of 100 leave');
all_found($s, 'a tripped run');

$s->{district}->set('school', 'sch-001', number => 'other');
$s->do("INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('found', '0101')");
$s->ends_in('SI003', 'a school is missing');
all_found($s, 'a run without its school');
$s->do("DELETE FROM sis_sync.sync_school WHERE sync = 'found'");
$s->{district}->set('school', 'sch-001', number => '0101');

$s->ends_in('SI010', 'six rows without a name', change => {
		map {
			+"users/$_" => District::with(8 => '', 9 => '')
		} qw(stu-000011 stu-000012 stu-000013 stu-000014 stu-000015 stu-000016) });
is($s->value('SELECT count(*) FROM sis_sync.stage_enrollment'
		  . " WHERE sync_id = <id> AND source LIKE '%enrollments.csv'"
		  . " AND line = $s->{lines}{enrollments}{'enr-0000100'}"
		  . " AND source_id = 'enr-0000100'"),
	1, 'a run with too many rejects: a row by file and line');
is_deeply($s->rows('SELECT source_id, line FROM sis_sync.reject WHERE run_id = <run>'
		  . " AND source LIKE '%users.csv' ORDER BY line"),
	[
		map { [ $_, $s->{lines}{users}{$_} ] }
		  qw(stu-000011 stu-000012 stu-000013 stu-000014 stu-000015 stu-000016)
	],
	'and the rejects by file and line');

# ----------
# A crash between the committed steps empties the unlogged stage
# ----------
my @steps = qw(verify apply archive);
for my $done (0 .. 2)
{
	my $c = sample("crash$done");

	$c->succeeds('first load');
	$c->{district}->remove('student', 'stu-000001', 'stu-000002');
	$c->{district}->set('student', 'stu-000003', email => 'new@example.org');
	$c->write;

	my $run = $c->value("SELECT sis_sync.stage('$c->{name}')");
	$c->do("SELECT sis_sync.$steps[$_]($run)") for 0 .. $done - 1;
	$node->value($db, 'CHECKPOINT');
	my $before = $c->digest;

	$node->restart('immediate');
	is($c->value('SELECT count(*) FROM sis_sync.stage_student'),
		0, "crash$done: the stage is empty");
	is($c->value("SELECT staged_rows FROM sis_sync.run_count WHERE run_id = $run"
			  . " AND record_type = 'student'"),
		98, "crash$done: the logged count is not");
	my $error = $c->run_ends_in('SI007', "$steps[$done] after the crash",
		"SELECT sis_sync.$steps[$done]($run)");
	is($error->{constraint}, 'incomplete_data', "crash$done: condition");
	is($c->digest, $before, "crash$done: nothing changed");
	is($c->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'
			  . ' AND archived_at IS NOT NULL'),
		0, "crash$done: nothing is archived");
	$c->run_succeeds('the next run');
	$c->counts_are('the next run', student => { archived => 2 });
}

# A part of the rows is no stage either.
$s = sample('partly');
$s->succeeds('first load');
my $run = $s->value("SELECT sis_sync.stage('partly')");
$s->do('DELETE FROM sis_sync.stage_enrollment WHERE sync_id = <id>'
	  . " AND line > 100");
$s->run_ends_in('SI007', 'rows are missing from the stage',
	"SELECT sis_sync.verify($run)");

# ----------
# A stage that a later run of the same sync replaced
# ----------
$s = sample('replaced');
$s->succeeds('first load');
$s->{district}->remove('student', 'stu-000001');
$s->write;
my $digest = $s->digest;
for my $done (0 .. 2)
{
	my $old = $s->value("SELECT sis_sync.stage('replaced')");
	my $error;

	$s->do("SELECT sis_sync.$steps[$_]($old)") for 0 .. $done - 1;
	$digest = $s->digest;
	$s->value("SELECT sis_sync.stage('replaced')");
	# "not the sync's newest run", and "a stage that another run replaced"
	$error = $s->call("SELECT sis_sync.$steps[$done]($old)") // {};
	like($error->{sqlstate} // 'no error', qr/^(?:55000|SI007)$/,
		"replaced: $steps[$done] of a run that is not the newest");
	is($s->digest, $digest, "replaced: $steps[$done]: nothing changed");
}

# ----------
# Sixteen slots
# ----------
my @syncs = map { sample(sprintf 'slot%02d', $_) } 1 .. 17;
for my $sync (@syncs)
{
	$sync->write;
	is($sync->call($sync->call_sql('dry')), undef, "$sync->{name}: dry run");
}
is($node->value($db, 'SELECT count(DISTINCT sync_id) FROM sis_sync.stage_student'),
	16, 'sixteen syncs have their rows in the stage');
is($syncs[16]->value(
		'SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'),
	100, 'the last one is among them');
is($syncs[0]->value(
		'SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'),
	0, 'the oldest one had to go');

# Committed stages of 17 syncs: the first one's slot is another one's now.
my @runs = map { $_->value("SELECT sis_sync.stage('$_->{name}')") } @syncs;
is($syncs[16]->call("SELECT sis_sync.verify($runs[16])"), undef,
	'slot17: verify of the last one');
is($syncs[8]->call("SELECT sis_sync.verify($runs[8])"), undef,
	'slot09: verify of one in between');
$syncs[0]->run_ends_in('SI007', 'verify of the first one',
	"SELECT sis_sync.verify($runs[0])");

# All under way at once.  None waits for another's transaction, although the
# slots of all are other syncs' by now.
my @sessions;
for my $sync (@syncs[ 0 .. 15 ])
{
	my $session = $node->session($db);
	my $result;

	push @sessions, $session;
	$session->query('BEGIN');
	$session->query("SET statement_timeout = '30s'");
	$result = $session->query("SELECT sis_sync.stage('$sync->{name}')");
	is($result->{error}, undef, "$sync->{name}: stage in an open transaction")
	  or diag($result->{error}{text});
}
$syncs[16]->run_ends_in('53300', 'all slots are taken');
$syncs[0]->run_ends_in('SI008', 'one of those under way');
$sessions[0]->query('ROLLBACK');
$syncs[16]->run_succeeds('one slot is free again');
$_->close for @sessions;

done_testing;
