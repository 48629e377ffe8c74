# approve(): exactly the records that a run held back may go, once, within seven
# days, and count against no limit; any other record is judged as before.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('approve');

# 501 students with 4 enrollments each, of whom the last 51 leave: one too many
# at 10 %.
sub held
{
	my ($name, %opt) = @_;
	my $d = District->new(seed => 501, students => 501, sections => 20,
		staff => 10, enroll => 4);
	my $s = SampleSync->new($node, $db, $name, district => $d, %opt);

	$s->succeeds('first load');
	$s->{whole} = $d->copy;
	$d->remove('student', $d->ids('student', 450, 51));
	$s->{error} = $s->ends_in('SI001', '51 of 501 leave');
	$s->{held} = $s->last_run->{id};
	return $s;
}

sub approve
{
	my ($s, $run) = @_;

	return sprintf q{SELECT sis_sync.approve(%d, 'the school in Ash Street has closed')},
	  $run // $s->{held};
}

# The night after: three of the 51 are back, and so many others are gone.
sub three_return
{
	my ($s, $others) = @_;
	my $d = $s->{whole}->copy;

	$d->remove('student', $d->ids('student', 453, 48));
	$d->remove('student', $d->ids('student', 0, $others));
	$s->{district} = $d;
	return;
}

sub approval
{
	my ($s) = @_;

	return $s->{node}->hashes($db, "SELECT * FROM sis_sync.approval"
		  . " WHERE sync = '$s->{name}' ORDER BY run_id DESC LIMIT 1")->[0];
}

# ----------
# 51 held and approved; then 3 return and 20 others are gone too
# ----------
my $s = held('twenty');
like($s->{error}{hint}, qr/sis_sync\.approve\($s->{held},/,
	'the hint of SI001 names approve, with the run');
$s->do(approve($s));
my $approval = approval($s);
is_deeply([ @$approval{qw(run_id reason spent_run)} ],
	[ $s->{held}, 'the school in Ash Street has closed', undef ],
	'the approval is on record, with its reason');
is($approval->{approved_by}, $node->value($db, 'SELECT current_user'),
	'and who gave it');
is($s->value("SELECT expires_at - approved_at FROM sis_sync.approval"
		  . " WHERE run_id = $s->{held}"),
	'7 days', 'for seven days');

three_return($s, 20);
$s->write;
my $before = $s->digest;
is($s->call($s->call_sql('dry')), undef, 'a dry run would pass');
is(approval($s)->{spent_run}, undef, 'and does not use the approval');
is($s->digest, $before, 'nor change anything');

$s->run_succeeds('three return, twenty others leave');
$s->counts_are('453 in force', student => {
		in_force => 453, allowed => 45, to_archive => 20, archived => 68 });
is($s->active->{student}, 433, 'the others are there');
is(approval($s)->{spent_run}, $s->last_run->{id}, 'the approval is spent');
isnt(approval($s)->{spent_at}, undef, 'and says when');
like($s->last_run->{note}, qr/\b240 of the records held back by run $s->{held}\b/,
	'the note counts the 48 students and their 192 enrollments');
my $error = $s->run_ends_in('55000', 'approved a second time', approve($s));
like($error->{detail}, qr/has used it/, 'a second time: why');

# Once: those who return and leave again are judged like everybody.
$s->{district} = $s->{whole}->copy;
$s->succeeds('all are back');
$s->{district}->remove('student', $s->{district}->ids('student', 450, 51));
$s->ends_in('SI001', 'the same 51 leave again');

# ----------
# With 46 others gone instead
# ----------
$s = held('fortysix');
$s->do(approve($s));
three_return($s, 46);
$error = $s->ends_in('SI001', 'three return, 46 others leave');
$s->counts_are('46 of 453', student => {
		in_force => 453, allowed => 45, to_archive => 46, archived => 0 });
like($error->{message}, qr/\b46 of 453\b.*\ballows 45\b/, 'the message counts them');
$s->all_counts_are('nothing is archived', 'archived');
is(approval($s)->{spent_run}, undef, 'the approval is unspent');
is($s->value("SELECT count(*) FROM sis_sync.pending_archive"
		  . " WHERE run_id = $s->{held} AND record_type = 'student'"),
	51, 'what it names is still on record');
is($s->value("SELECT count(*) FROM sis_sync.pending_archive"
		  . " WHERE run_id = <run> AND record_type = 'student'"),
	94, 'the new run holds back all 94');

# A newer held run takes its place ...
my $newer = $s->last_run->{id};
$s->do(approve($s, $newer));
$s->run_succeeds('all 94 are approved');
$s->counts_are('94 approved', student => {
		in_force => 407, to_archive => 0, archived => 94 });
is(approval($s)->{spent_run}, $s->last_run->{id}, 'the newer approval is spent');
is($s->value("SELECT spent_run FROM sis_sync.approval WHERE run_id = $s->{held}"),
	undef, 'the older one is not');

# ... and with that the older one counts no more.
$s->{district} = $s->{whole}->copy;
$s->succeeds('all are back');
$s->{district}->remove('student', $s->{district}->ids('student', 450, 51));
$s->ends_in('SI001', 'the first 51 leave again');

# ----------
# What cannot be approved
# ----------
$s = held('refused');
$s->run_ends_in('22023', 'without a reason',
	"SELECT sis_sync.approve($s->{held}, ' ')");
$s->run_ends_in('22023', 'with NULL for a reason',
	"SELECT sis_sync.approve($s->{held}, NULL)");
$s->run_ends_in('22004', 'no run', q{SELECT sis_sync.approve(NULL, 'x')});
$s->run_ends_in('42704', 'a run that is not there',
	q{SELECT sis_sync.approve(999999, 'x')});
$error = $s->run_ends_in('55000', 'a run that went well',
	"SELECT sis_sync.approve(min(id), 'x') FROM sis_sync.run WHERE sync = 'refused'");
my $older = $s->{held};
$s->ends_in('SI001', 'held again');
$error = $s->run_ends_in('55000', 'not the newest held run', approve($s, $older));
like($error->{detail}, qr/\b@{[ $s->last_run->{id} ]}\b/, 'it names the newest');
$s->run_ends_in('SI001', 'a dry run', $s->call_sql('dry'));
$error = $s->run_ends_in('55000', 'a dry run cannot be approved',
	approve($s, $s->last_run->{id}));
like($error->{message}, qr/dry run/, 'and says why');
is($s->value('SELECT count(*) FROM sis_sync.approval'
		  . " WHERE sync = 'refused'"), 0, 'nothing was approved');

# A dry run and a source that is away take nothing from the held run.
my $held = $s->value("SELECT max(id) FROM sis_sync.run WHERE sync = 'refused'"
	  . " AND NOT dry_run");
$s->do(approve($s, $held));

# After seven days
$s->do("UPDATE sis_sync.approval SET expires_at = now() - interval '1 second'"
	  . " WHERE run_id = $held");
$s->run_ends_in('SI001', 'after seven days');
is(approval($s)->{spent_run}, undef, 'a lapsed approval is not used');
$error = $s->run_ends_in('55000', 'a lapsed one again', approve($s, $held));
like($error->{detail}, qr/lapsed/, 'it has lapsed');
$s->do(approve($s, $s->last_run->{id}));
$s->run_succeeds('the new run is approved');

# ----------
# In each school: what is approved counts in neither of its figures
# ----------
my $d = District->new(schools => 2, students => 300, sections => 20, staff => 0,
	teachers => 0);
$d->add('staff', schools => ['sch-001']) for 1 .. 55;
$d->add('staff', schools => ['sch-002']) for 1 .. 60;
$s = SampleSync->new($node, $db, 'schools', district => $d);
$s->succeeds('first load');
my @of_two = map { $_->{id} } grep { $_->{schools}[0] eq 'sch-002' } @{ $d->{staff} };
$d->remove('staff', @of_two[ 0 .. 10 ]);
$s->ends_in('SI001', 'a school of 60 loses 11');
$s->do(approve($s, $s->last_run->{id}));
$d->remove('staff', @of_two[ 11 .. 14 ]);
$s->succeeds('and 4 more');
is_deeply($s->rows('SELECT school_source_id, to_archive, in_force, allowed, tripped'
		  . " FROM sis_sync.run_school WHERE run_id = <run> AND record_type = 'staff'"),
	[ [ 'sch-002', 4, 49, 10, 'f' ] ], '4 of 49, of whom 10 may go');
$s->counts_are('15 are archived', staff => { archived => 15, to_archive => 4,
		in_force => 104 });
$d->remove('staff', @of_two[ 15 .. 55 ]);
$s->ends_in('SI001', '41 of 45');
$s->do(approve($s, $s->last_run->{id}));
$d->remove('staff', @of_two[ 56 .. 59 ]);
$s->succeeds('the last four of a school go with them');
$d = $s->{district} = District->new(schools => 2, students => 300, sections => 20,
	staff => 0, teachers => 0);
$d->add('staff', schools => ['sch-001']) for 1 .. 55;
$d->add('staff', schools => ['sch-002']) for 1 .. 60;
$s->succeeds('all are back');
$d->remove('staff', @of_two[ 0 .. 54 ]);
$s->ends_in('SI001', 'a school of 60 loses 55');
$s->do(approve($s, $s->last_run->{id}));
$d->remove('staff', @of_two[ 55 .. 59 ]);
$s->ends_in('SI001', 'then the other five, all that it has left');
is_deeply($s->rows('SELECT to_archive, in_force, allowed FROM sis_sync.run_school'
		  . " WHERE run_id = <run> AND record_type = 'staff' AND tripped"),
	[ [ 5, 5, 10 ] ], 'five of five trips, though ten would be allowed');

# ----------
# Four steps
# ----------
$s = held('steps');
my $id = $s->value("SELECT sis_sync.stage('steps')");
$s->do("SELECT sis_sync.verify($id)");
$s->do(approve($s, $id));
$s->do("SELECT sis_sync.apply($id)");
is($s->call("SELECT sis_sync.archive($id)"), undef,
	'a coming trip that verify reports can be approved');
$s->counts_are('by steps', student => { archived => 51, to_archive => 0 });
is(approval($s)->{spent_run}, $id, 'by steps: the approval is spent');
$s = held('atomic');
$s->do(approve($s));
is($s->call("SELECT sis_sync.run_atomic('atomic')"), undef,
	'run_atomic uses an approval');
$s->counts_are('run_atomic', student => { archived => 51 });

# ----------
# Packages of changes: deletions that wait are approved like others
# ----------
my ($old, $new) = ($node->dir('yesterday'), $node->dir('today'));
$d = District->new(seed => 7, students => 501, sections => 20, staff => 10,
	enroll => 4);
$s = SampleSync->new($node, $db, 'delta', district => $d);
$s->succeeds('first load');
$d->write($old);
$d->remove('student', $d->ids('student', 450, 51));
$d->write($new);
Delta::write($old, $new, $s->dir);
$s->run_ends_in('SI001', 'a package deletes 51');
$s->do(approve($s, $s->last_run->{id}));
($old, $new) = ($new, $node->dir('tomorrow'));
$d->remove('student', $d->ids('student', 0, 20));
$d->write($new);
Delta::write($old, $new, $s->dir);
$s->run_succeeds('the next package deletes 20 others');
$s->counts_are('delta', student => {
		archived => 71, to_archive => 20, in_force => 450, allowed => 45 });
is($s->value("SELECT count(*) FROM sis_sync.pending_delete WHERE sync = 'delta'"),
	0, 'no deletion waits any more');

done_testing;
