# sis_sync.health: one row per sync, after each way a night can end; the
# expected rows are written down by hand.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Hold;
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { max_prepared_transactions => 1 })->start;
my $db = $node->fresh_db('health');
my $hold = Hold->new($node, $db);
my $s = SampleSync->new($node, $db, 'north',
	district => District->new(students => 200, sections => 4, staff => 2, teachers => 0, enroll => 1));
my $other = SampleSync->new($node, $db, 'south', roster => 'south', set => { target_schema => q{'south'} },
	district => District->new(seed => 2, students => 50, sections => 4, staff => 2, teachers => 0, enroll => 1));
$node->run($db, q{SELECT sis_sync.create_roster('south')});

# A test: these columns of north's row are so; "good" and "bad" stand for
# the last success and the last failure.
sub is_so
{
	my ($title, %expected) = @_;
	my $row = $node->hashes($db, q{SELECT * FROM sis_sync.health WHERE sync = 'north'})->[0];

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply({ map { $_ => $row->{$_} } keys %expected }, \%expected, $title)
	  || diag(explain($row));
}

my %none = map { $_ => undef } qw(last_success last_success_run last_failure reason error_code
  last_failure_run unended_run source_as_of held_records held_run held_approved);
is_so('before the first night', %none, age => undef, running => 'f', failures_in_a_row => 0);

$s->succeeds('first load');
my $good = $s->last_run;
is_so('a good night', %none, last_success => $good->{finished_at}, last_success_run => $good->{id}, running => 'f',
	source_as_of => $good->{source_as_of}, failures_in_a_row => 0);
is($node->value($db, q{SELECT age >= '0' AND age < '1 hour' FROM sis_sync.health WHERE sync = 'north'}),
	't', 'its age');

# 30 of 200 leave
$s->{district}->remove('student', $s->{district}->ids('student', 0, 30));
$s->ends_in('SI001', '30 leave');
my $trip = $s->last_run;
my %held = (held_records => $node->value($db, 'SELECT count(*) FROM sis_sync.pending_archive'), held_run => $trip->{id});
cmp_ok($held{held_records}, '>=', 30, 'records are held');
is_so('a trip', last_success_run => $good->{id}, last_failure => $trip->{finished_at},
	last_failure_run => $trip->{id}, reason => 'Threshold', error_code => 'SI001',
	failures_in_a_row => 1, %held, held_approved => 'f');

$s->run_ends_in('SI001', 'a dry run', $s->call_sql('dry'));
is_so('a dry run does not count', last_failure_run => $trip->{id}, failures_in_a_row => 1, %held);

# it runs, it is killed, and only the next run finds out
my $run = $hold->run($s, 'verify');
my $killed = $s->last_run->{id};
is_so('while it runs', running => 't', unended_run => $killed, failures_in_a_row => 1);
is($node->value($db, q{SELECT running FROM sis_sync.health WHERE sync = 'south'}), 'f', 'the other does not');
$node->run($db, 'SELECT pg_terminate_backend(' . $run->pid . ')');
$run->wait;
$hold->release;
$node->wait_until($db, q{SELECT NOT running FROM sis_sync.health WHERE sync = 'north'});
is_so('killed', unended_run => $killed, failures_in_a_row => 1);
$s->run_ends_in('SI001', 'the next');
my $second = $s->last_run;
is_so('an interrupted run is a failure', unended_run => undef, failures_in_a_row => 3,
	last_failure_run => $second->{id}, held_run => $second->{id});

# an error without a reason of ours
$run = $hold->run($s, 'verify');
$node->run($db, 'SELECT pg_cancel_backend(' . $run->pid . ')');
$run->wait;
$hold->release;
is_so('a cancel', failures_in_a_row => 4, reason => undef, error_code => '57014', held_run => $second->{id});
$node->run($db, qq{UPDATE sis_sync.run SET status = 'interrupted', error_code = NULL WHERE id = (SELECT max(id) FROM sis_sync.run)});
is_so('an interrupted one is called so', failures_in_a_row => 4, reason => 'Interrupted', error_code => undef);

# a decision, and what comes of it
$s->do("SELECT sis_sync.approve($second->{id}, 'they have left')");
is_so('approved', held_run => $second->{id}, held_records => $held{held_records}, held_approved => 't');
$s->run_succeeds('the night after');
$good = $s->last_run;
is_so('they are gone', last_success_run => $good->{id}, failures_in_a_row => 0, held_records => undef,
	held_run => undef, held_approved => undef, reason => 'Interrupted');

# an undo is no night
$s->do("CALL sis_sync.undo($good->{id})");
is_so('an undo does not count', last_success_run => $good->{id}, failures_in_a_row => 0);

# several syncs, and who may look
is($node->value($db, 'SELECT count(*) FROM sis_sync.health'), 2, 'a row for each sync');
$node->run($db, q{CREATE ROLE looker LOGIN; GRANT USAGE ON SCHEMA sis_sync TO looker;
	GRANT SELECT ON sis_sync.health TO looker});
is($node->value($db, 'SELECT count(last_success) FROM sis_sync.health', role => 'looker'), 1,
	'a role that may see nothing else');
$run->close;

done_testing;
