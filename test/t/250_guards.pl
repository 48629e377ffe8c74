# The guards that are off unless set: updates, losses that creep, columns that
# come empty, trips of single schools, windows, and the age of the source.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('guards');
my ($d, $s, $error, $run, $before);

sub set
{
	my ($sync, $assignments) = @_;

	return $sync->do("UPDATE sis_sync.sync SET $assignments WHERE id = <id>");
}

sub explained
{
	my ($sync) = @_;

	return $sync->value('SELECT sis_sync.explain_failure(<run>)');
}

# ----------
# update_threshold: 200 students at 10 %: 20 may change, 21 trip it
# ----------
$d = District->new(students => 200, sections => 10, staff => 10, enroll => 1);
$s = SampleSync->new($node, $db, 'updates', district => $d);
$s->succeeds('first load');
$d->set('student', $_, grade => '05') for $d->ids('student', 0, 30);
$d->set('student', $_, grade => '04') for $d->ids('student', 0, 30);
$s->succeeds('without a threshold any number may change');
$s->counts_are('none set', student => {
		updated => $s->value('SELECT to_update FROM sis_sync.run_count'
			  . " WHERE run_id = <run> AND record_type = 'student'") });
set($s, 'update_threshold = 10');
$d->set('student', $_, phone => '802-555-0001') for $d->ids('student', 100, 20);
$s->succeeds('20 of 200 change');
$s->counts_are('20 of 200', student => { updated => 20, to_update => 20 });

$d->set('student', $_, phone => '802-555-0002') for $d->ids('student', 100, 21);
$d->set('student', $_, email => "$_\@new.example.org") for $d->ids('student', 100, 4);
my $new = $d->add('student');
$d->remove('student', $d->ids('student', 0, 1));
$s->write;
$before = $s->digest;
$s->run_ends_in('SI012', 'a dry run', $s->call_sql('dry'));
$s->run_ends_in('55000', 'a dry run is not approved',
	'SELECT sis_sync.approve((SELECT max(id) FROM sis_sync.run), \'x\')');
$error = $s->run_ends_in('SI012', '21 of 200 change');
is($error->{constraint}, 'update_threshold_reached', 'SI012: condition');
is($error->{table}, 'student', 'SI012: record type');
is($error->{message}, 'update threshold reached: 21 of 200 records of type student'
	  . ' would be updated, 10 percent allows 20', 'SI012: the message');
like($error->{detail}, qr/allows 20 \(phone in 21, email in 4\)/,
	'SI012: the detail names the columns');
is($s->digest, $before, 'SI012: nothing has changed');
is($s->last_run->{reason}, 'Update Threshold', 'SI012: the reason');
$s->counts_are('21 of 200', student => { updated => 0, created => 0, archived => 0,
		to_update => 21 });
my $text = explained($s);
like($text, qr/failed, Update Threshold \(SI012\)/, 'SI012: explained');
like($text, qr/phone in 21/, 'SI012: with the columns');
$run = $s->last_run->{id};
like($text, qr/^    SELECT sis_sync\.approve\($run, /m, 'SI012: what to type');
is($s->value("SELECT count(*) FROM sis_sync.preview($run) WHERE action = 'update'"),
	21, 'SI012: preview shows the updates');

# Approved: as many may be made, once.
$s->do("SELECT sis_sync.approve($run, 'a new exchange')");
is($s->call($s->call_sql('dry')), undef, 'a dry run would pass');
$d->set('student', $_, phone => '802-555-0003') for $d->ids('student', 150, 1);
$s->ends_in('SI012', '22, of which 21 are approved');
$d->set('student', ($d->ids('student', 150, 1))[0], phone => '');
$s->succeeds('21 are approved');
$s->counts_are('approved', student => { updated => 21, created => 1, archived => 1 });
is($s->value("SELECT spent_run FROM sis_sync.approval WHERE run_id = $run"),
	$s->last_run->{id}, 'the approval is spent');
$d->set('student', $_, phone => '802-555-0004') for $d->ids('student', 100, 21);
$s->ends_in('SI012', 'once');
is(($s->call("SELECT sis_sync.run_atomic('updates')") // {})->{sqlstate}, 'SI012', 'run_atomic');
set($s, 'update_threshold = NULL');
$s->run_succeeds('without a threshold again');

# min_allowed may always change, unless the percentage is 0.
set($s, 'update_threshold = 1');
$d->set('school', 'sch-001', name => 'Another name');
$s->succeeds('one school of one');
set($s, 'update_threshold = 0');
$d->set('school', 'sch-001', name => 'Yet another');
$error = $s->ends_in('SI012', 'at 0 none');
is($error->{table}, 'school', 'at 0: the type');

# What has ended is not in force, and its updates do not count.
$d = District->new(students => 100, sections => 20, staff => 4, teachers => 0,
	enroll => 1, term_start => District::today(-200), term_end => District::today(-3));
$s = SampleSync->new($node, $db, 'ended', district => $d, set => { update_threshold => 5 });
$s->succeeds('a term that has ended');
$d->set('section', $_, location => 'Attic') for $d->ids('section');
$s->succeeds('all its sections change');
$s->counts_are('ended', section => { updated => 20, to_update => 20 });

# An approval of records held back stands beside one of updates.
$d = District->new(students => 200, sections => 10, staff => 10, enroll => 1);
$s = SampleSync->new($node, $db, 'both', district => $d, set => { update_threshold => 10 });
$s->succeeds('first load');
$d->remove('student', $d->ids('student', 0, 30));
$s->ends_in('SI001', '30 leave');
my $held = $s->last_run->{id};
$s->do("SELECT sis_sync.approve($held, 'moved away')");
$d->set('student', $_, phone => '1') for $d->ids('student');
$s->ends_in('SI012', 'and the others all change');
$s->do('SELECT sis_sync.approve(<run>, \'new phones\')');
$s->run_succeeds('both are approved');
$s->counts_are('both', student => { updated => 170, archived => 30 });

# ----------
# creep_threshold: 200 students, 5 % of them in 30 days: 10
# ----------
sub days_go_by
{
	my ($sync, $days) = @_;

	$sync->do("UPDATE sis_sync.run SET started_at = started_at - interval '$days days',"
		  . " finished_at = finished_at - interval '$days days' WHERE sync = '$sync->{name}'");
	$sync->do("UPDATE sis_sync.approval SET approved_at = approved_at - interval '$days days'"
		  . " WHERE sync = '$sync->{name}'");
	$sync->do("UPDATE <roster>.$_ SET archived_at = archived_at - interval '$days days'"
		  . ' WHERE sync_id = <id> AND archived_at IS NOT NULL')
	  for @SampleSync::TYPES;
	return;
}

$d = District->new(students => 200, sections => 10, staff => 10, enroll => 2);
my $whole = $d->copy;
$s = SampleSync->new($node, $db, 'creep', district => $d,
	set => { creep_threshold => 5, creep_days => 30 });
$s->succeeds('first load');
days_go_by($s, 40);
for my $night (1 .. 3)
{
	$d->remove('student', $d->ids('student', 0, 3));
	$s->succeeds("night $night: 3 leave");
	$s->counts_are("night $night", student => { archived => 3, allowed => $night == 3 ? 19 : $night == 2 ? 19 : 20 });
	days_go_by($s, 1);
}
my $third = $s->last_run->{id};
$d->remove('student', $d->ids('student', 0, 2));
$d->add('student');
$error = $s->ends_in('SI001', '2 more are 11 of 200');
is($error->{message}, 'deletion threshold reached: with 2 tonight, 11 of 200 records of'
	  . ' type student would be archived within 30 days, 5 percent allows 10',
	'creep: the message has the days and the numbers');
is($s->last_run->{reason}, 'Threshold', 'creep: the reason');
like($error->{hint}, qr/SET creep_threshold = /, 'creep: the hint');
$s->counts_are('creep: creates are kept', student => { created => 1, archived => 0,
		to_archive => 2, allowed => 19 });
is($s->value('SELECT count(*) FROM sis_sync.pending_archive WHERE run_id = <run>'
		  . " AND record_type = 'student'"), 2, 'creep: the two are held back');
like(explained($s), qr/within 30 days/, 'creep: explained');

# One returns: ten are no more than ten.
push @{ $d->{student} }, $whole->get('student', 'stu-000001');
$d->{index}{student}{'stu-000001'} = $whole->get('student', 'stu-000001');
$s->succeeds('one of the first nine returns: 10 of 200');
$s->counts_are('net of restored', student => { restored => 1, archived => 2 });
$d->remove('student', $d->ids('student', 0, 1));
$s->ends_in('SI001', 'one more');
$run = $s->last_run->{id};
$s->do("SELECT sis_sync.approve($run, 'it is so')");
$s->run_succeeds('approved');
$s->counts_are('creep: approved', student => { archived => 1, to_archive => 0 });
$d->remove('student', $d->ids('student', 0, 1));
$s->ends_in('SI001', 'the next one still is the eleventh');

# What was undone does not count; nor does what lies before these days.
$s->do("CALL sis_sync.undo($third)");
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . ' AND archived_at IS NOT NULL'), 8, 'the third night is undone');
$error = $s->run_ends_in('SI001', 'after the undo');
like($error->{message}, qr/with 4 tonight, 11 of 200/, 'its three count tonight, and once');
days_go_by($s, 40);
$s->run_succeeds('40 days later');
$s->counts_are('40 days later', student => { archived => 4 });

# ----------
# keep_emptied_columns
# ----------
sub email_of
{
	my ($id) = @_;

	return $s->value("SELECT email FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = '$id'");
}

$d = District->new(students => 100, sections => 10, staff => 19, enroll => 1);
$s = SampleSync->new($node, $db, 'emptied', district => $d,
	set => { keep_emptied_columns => 'true' });
$d->set('student', $_, middle => '') for $d->ids('student', 0, 100);
$d->set('student', $_, middle => 'X') for $d->ids('student', 0, 90);
$s->succeeds('first load');
$s->succeeds('a night without a change');
is($s->last_run->{note}, undef, 'nothing is empty: no note');
my %email = map { $_ => $d->get('student', $_)->{email} } $d->ids('student');
$d->set('student', $_, email => '') for $d->ids('student');
$d->set('staff', $_, email => '') for $d->ids('staff');
$d->set('student', 'stu-000002', phone => '802-555-7777');
$s->write;
is($s->call($s->call_sql('dry')), undef, 'a dry run');
like($s->last_run->{note}, qr/^Column email of type student is empty in all 100 rows/,
	'a dry run notes it');
is($s->value('SELECT count(*) FROM sis_sync.emptied_column'), 0, 'and remembers nothing');
$s->run_succeeds('all e-mail addresses are empty');
$s->counts_are('emptied', student => { updated => 1, unchanged => 99 },
	staff => { updated => 19 });
is(email_of('stu-000001'), $email{'stu-000001'}, 'the old one is kept');
is(email_of('stu-000002'), $email{'stu-000002'}, 'also where another column changes');
is($s->value("SELECT phone FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = 'stu-000002'"), '802-555-7777', 'which is updated');
is($s->value('SELECT count(email) FROM <roster>.staff WHERE sync_id = <id>'), 0,
	'19 staff are too few to tell');
$run = $s->last_run;
my ($accept) = $run->{note} =~ /(UPDATE sis_sync\.emptied_column .*)\.$/;
is_deeply($s->rows('SELECT record_type, column_name, loaded FROM sis_sync.reject'
		  . ' WHERE run_id = <run>'), [ [ 'student', 'email', 't' ] ],
	'a note among the rejects');
is_deeply($s->rows('SELECT record_type, column_name, since_run, accepted'
		  . " FROM sis_sync.emptied_column WHERE sync = 'emptied'"),
	[ [ 'student', 'email', $run->{id}, 'f' ] ], 'and it is remembered');

$before = $s->digest;
$s->run_succeeds('the same the next night');
$s->all_counts_are('the next night: updated', 'updated');
is($s->digest, $before, 'the next night writes nothing, not even fingerprints');
$d->set('student', 'stu-000003', phone => '802-555-8888', email => '');
$d->add('student', email => '') for 1 .. 20;
$d->set('student', 'stu-000004', middle => '');
$s->succeeds('20 new ones have none either, so it is filled in 100 of 120');
$s->counts_are('new ones', student => { updated => 2, created => 20, unchanged => 98 });
$s->succeeds('and it is kept still');
$s->counts_are('kept still', student => { updated => 0, unchanged => 120 });
is(email_of('stu-000001'), $email{'stu-000001'}, 'it is');

# A column filled in 90 % and not more may come empty.
$d->set('student', $_, middle => '') for $d->ids('student');
$s->succeeds('another column that was filled in fewer');
# (89 of the first hundred, and 7 of the twenty new ones)
$s->counts_are('filled in fewer', student => { updated => 96 });

# Some come again: then the empty ones are meant.
$d->set('student', 'stu-000001', email => $email{'stu-000001'});
$s->succeeds('one row has an address');
$s->counts_are('one row has one', student => { updated => 99 });
is($s->value("SELECT count(*) FROM sis_sync.emptied_column WHERE sync = 'emptied'"), 0,
	'the column is forgotten');
$d->set('student', $_, email => $email{$_} // 'x@example.org') for $d->ids('student');
$s->succeeds('all have one again');
$s->counts_are('all again', student => { updated => 119 });

# Accepted
$d->set('student', $_, email => '') for $d->ids('student');
$s->succeeds('empty again');
$s->counts_are('empty again', student => { updated => 0 });
$s->do($accept);
$s->run_succeeds('accepted');
$s->counts_are('accepted', student => { updated => 120 });
is($s->value('SELECT count(email) FROM <roster>.student WHERE sync_id = <id>'), 0,
	'they are empty');
$s->run_succeeds('and stay so');
$s->all_counts_are('accepted, the next night: updated', 'updated');
$d->set('student', $_, email => 'y@example.org') for $d->ids('student');
$s->succeeds('filled again');
$d->set('student', $_, email => '') for $d->ids('student');
$s->succeeds('and empty: the guard is there again');
$s->counts_are('again', student => { updated => 0 });
set($s, 'keep_emptied_columns = false');
$s->run_succeeds('without the guard');
$s->counts_are('without the guard', student => { updated => 120 });

# ----------
# hold = school: of 30 schools with 60 staff, one loses all and one loses 5
# ----------
$d = District->new(schools => 30, students => 300, sections => 30, staff => 0,
	teachers => 0, contacts => 300, enroll => 1);
for my $i (0 .. 29)
{
	$d->add('staff', schools => [ $d->{school}[$i]{id} ]) for 1 .. 59;
	$d->add('staff', schools => [ $d->{school}[$i]{id}, $d->{school}[ ($i + 1) % 30 ]{id} ]);
}
$s = SampleSync->new($node, $db, 'hold', district => $d,
	set => { hold => q('school'), school_min_records => 100 });
$s->succeeds('first load');
my %staff;
push @{ $staff{ $_->{schools}[0] } }, $_->{id} for @{ $d->{staff} };
$d->remove('staff', @{ $staff{'sch-007'} }, @{ $staff{'sch-020'} }[ 0 .. 4 ]);
# school 006's last one is also at 007, and leaves
$d->remove('staff', $staff{'sch-006'}[59]);
my ($of7) = map { $_->{id} } grep { $_->{schools}[0] eq 'sch-007' } @{ $d->{student} };
my ($of8) = map { $_->{id} } grep { $_->{schools}[0] eq 'sch-008' } @{ $d->{student} };
$d->remove('student', $of7, $of8);
$d->add('staff', schools => ['sch-001']);
$s->write;
$before = $s->digest;
$s->run_ends_in('SI001', 'hold: a dry run', $s->call_sql('dry'));
is($s->digest, $before, 'hold: a dry run changes nothing');
$s->run_ends_in('SI001', 'hold: in one transaction', "SELECT sis_sync.run_atomic('hold')");
is($s->digest, $before, 'hold: in one transaction nothing either');
$error = $s->run_ends_in('SI001', 'one school of 30 loses all its staff');
like($error->{detail}, qr/School "sch-007".*What belongs to these schools is held back, other schools go on\.$/s,
	'hold: the detail says so');
$s->counts_are('hold', staff => { created => 1, to_archive => 66, archived => 5 },
	student => { to_archive => 2, archived => 1 },
	contact => { archived => 1 }, student_contact => { archived => 1 },
	enrollment => { archived => 1 });
is($s->list('SELECT source_id FROM <roster>.staff WHERE sync_id = <id> AND archived_at IS NOT NULL'),
	join(' ', sort @{ $staff{'sch-020'} }[ 0 .. 4 ]), 'hold: the five of another school have left');
is($s->list('SELECT source_id FROM sis_sync.pending_archive WHERE run_id = <run>'
		  . " AND record_type = 'staff'"),
	join(' ', sort @{ $staff{'sch-007'} }, $staff{'sch-006'}[59]),
	'hold: those of the school are held, and one who is also there');
is($s->list('SELECT source_id FROM <roster>.student WHERE sync_id = <id> AND archived_at IS NOT NULL'),
	$of8, 'hold: the student of another school has left');
is($s->list('SELECT DISTINCT record_type || count(*) FROM sis_sync.pending_archive'
		  . ' WHERE run_id = <run> GROUP BY record_type'),
	'contact1 enrollment1 staff61 student1 student_contact1', 'hold: what hangs on them as well');
is($s->value('SELECT count(*) FROM <roster>.enrollment e JOIN <roster>.student p'
		  . ' USING (sync_id) WHERE sync_id = <id> AND p.source_id = e.person_source_id'
		  . ' AND e.archived_at IS NULL AND p.archived_at IS NOT NULL'),
	0, 'hold: no enrollment of one who has left');
like(explained($s), qr/School sch-007, type staff: 61 of 61/, 'hold: explained');
my $tripped = $s->last_run->{id};
is_deeply([ map { $s->last_run->{$_} } qw(status reason) ], [ 'failed', 'Threshold' ],
	'hold: the run has failed');
$s->do("CALL sis_sync.undo($tripped)");
is($s->value('SELECT count(*) FROM <roster>.staff WHERE sync_id = <id> AND archived_at IS NOT NULL'),
	1, 'hold: an undo brings the five back, and archives the new one');
$s->run_ends_in('SI001', 'again');
$s->counts_are('again', staff => { restored => 1, archived => 5 }, student => { archived => 1 });
$s->do('SELECT sis_sync.approve(<run>, \'the school has closed\')');
$s->run_succeeds('approved');
$s->counts_are('hold: approved', staff => { archived => 61 }, student => { archived => 1 },
	enrollment => { archived => 1 }, contact => { archived => 1 });

# A trip of the district holds all.
$d->remove('staff', map { @{ $staff{"sch-0$_"} }[ 10 .. 40 ] } '09' .. '18');
$error = $s->ends_in('SI001', 'ten schools lose half');
like($error->{detail}, qr/Nothing was archived\.$/, 'a trip of the district holds all');
$s->all_counts_are('a trip of the district: archived', 'archived');

# ----------
# Windows
# ----------
sub window
{
	my ($sync, $mode, $from, $to, $yearly) = @_;

	$sync->do("DELETE FROM sis_sync.sync_window WHERE sync = '$sync->{name}'");
	$sync->do(sprintf "INSERT INTO sis_sync.sync_window VALUES ('%s', '%s', '%s', '%s', %s)",
		$sync->{name}, $mode, $from, $to, $yearly ? 'true' : 'false')
	  if defined $mode;
	return;
}

$d = District->new(students => 100, sections => 10, staff => 10, enroll => 1);
$s = SampleSync->new($node, $db, 'windows', district => $d);
my $mode_on = sub { join ' ', map { $_ // '-' } @{ $s->rows("SELECT * FROM sis_sync.mode_on('windows', '$_[0]')")->[0] } };

for my $case (
	# both days belong to it
	[ [ 'frozen', '2026-07-01', '2026-07-31', 0 ],
		'2026-06-30' => 'normal -', '2026-07-01' => 'frozen 2026-07-31',
		'2026-07-31' => 'frozen 2026-07-31', '2026-08-01' => 'normal -',
		'2027-07-15' => 'normal -' ],
	[ [ 'frozen', '2026-07-01', '2026-07-31', 1 ],
		'2025-07-15' => 'normal -', '2027-07-01' => 'frozen 2027-07-31',
		'2040-07-31' => 'frozen 2040-07-31', '2027-08-01' => 'normal -' ],
	# over new year
	[ [ 'no_archive', '2026-12-20', '2027-01-05', 1 ],
		'2026-12-19' => 'normal -', '2026-12-20' => 'no_archive 2027-01-05',
		'2027-01-05' => 'no_archive 2027-01-05', '2027-01-06' => 'normal -',
		'2026-01-03' => 'normal -',
		'2027-12-31' => 'no_archive 2028-01-05', '2028-01-01' => 'no_archive 2028-01-05' ],
	# leap days
	[ [ 'adds_only', '2024-02-29', '2024-02-29', 1 ],
		'2024-02-29' => 'adds_only 2024-02-29', '2025-02-28' => 'adds_only 2025-02-28',
		'2025-03-01' => 'normal -', '2028-02-28' => 'normal -',
		'2028-02-29' => 'adds_only 2028-02-29' ],
	[ [ 'adds_only', '2023-02-15', '2024-02-14', 1 ],
		'2024-02-29' => 'adds_only 2025-02-14', '2028-02-29' => 'adds_only 2029-02-14' ],
	[ [ 'frozen', '-infinity', 'infinity', 0 ], '2026-07-01' => 'frozen infinity' ])
{
	my ($window, @days) = @$case;

	window($s, @$window);
	while (my ($day, $expected) = splice @days, 0, 2)
	{
		is($mode_on->($day), $expected, "window @$window: $day");
	}
}
window($s, 'no_archive', '2026-06-01', '2026-08-31');
$s->do("INSERT INTO sis_sync.sync_window VALUES ('windows', 'frozen', '2026-07-01', '2026-07-31'),"
	  . " ('windows', 'adds_only', '2026-07-15', '2026-08-10')");
is($mode_on->('2026-06-15'), 'no_archive 2026-08-31', 'overlap: the only one');
is($mode_on->('2026-07-20'), 'frozen 2026-07-31', 'overlap: the strictest');
is($mode_on->('2026-08-05'), 'adds_only 2026-08-10', 'overlap: the next');
for my $bad ("'windows', 'normal', '2026-01-01', '2026-01-02'",
	"'windows', 'frozen', '2026-01-02', '2026-01-01'",
	"'windows', 'frozen', '2026-01-01', '2027-01-01', true",
	"'windows', 'frozen', '2026-01-01', 'infinity', true")
{
	is($node->fails($db, "INSERT INTO sis_sync.sync_window VALUES ($bad)")->{sqlstate},
		'23514', "refused: $bad");
}
$s->do("INSERT INTO sis_sync.sync_window VALUES ('windows', 'frozen', '2026-01-01', '2026-12-31', true)");

# The day is the sync's: never the same in these two zones, 26 hours apart.
my $west = $node->value($db, q{
	SELECT ((now() + interval '10 minutes') AT TIME ZONE 'Etc/GMT+12')::date});
window($s, 'frozen', $west, $west);
set($s, q{timezone = 'Pacific/Kiritimati'});
$s->succeeds('first load, where it is a day later');
set($s, q{timezone = 'Etc/GMT+12'});

# frozen: the source is not asked
$d->remove('student', $d->ids('student', 0, 20));
$d->add('student');
$s->write;
unlink glob $s->dir . '/*';
$before = $s->digest;
is($s->call, undef, 'frozen: the run succeeds, without any file');
$run = $s->last_run;
is_deeply([ @$run{qw(status phase error_code)} ], [ 'succeeded', 'stage', undef ],
	'frozen: in the log');
is($run->{note}, "Nothing was fetched or changed: today lies in the window \"frozen\", until $west.",
	'frozen: the note');
isnt($run->{finished_at}, undef, 'frozen: it has finished');
is($s->digest, $before, 'frozen: nothing has changed');
is($s->call($s->call_sql('dry')), undef, 'frozen: a dry run');
is($s->call("SELECT sis_sync.run_atomic('windows')"), undef, 'frozen: run_atomic');
is($s->last_run->{status}, 'succeeded', 'frozen: run_atomic succeeds');
$error = $s->run_ends_in('55000', 'frozen: stage', "SELECT sis_sync.stage('windows')");
like($error->{message}, qr/is frozen/, 'frozen: stage says why');
like(explained($s), qr/Note: Nothing was fetched or changed/, 'frozen: explained');
set($s, q{timezone = 'Pacific/Kiritimati'});

# no_archive: what is gone waits, and is no failure
my $today = $node->value($db, q{
	SELECT ((now() + interval '10 minutes') AT TIME ZONE 'Pacific/Kiritimati')::date});
my @all = ($today, $node->value($db, "SELECT date '$today' + 30"));
$d->set('student', $_, phone => '802-555-0099') for $d->ids('student', 0, 5);
window($s, 'no_archive', @all);
$s->succeeds('no_archive: 20 of 100 are gone');
$s->counts_are('no_archive', student => { created => 1, updated => 5, to_archive => 20,
		in_force => 100, allowed => 10, archived => 0 });
$s->all_counts_are('no_archive: archived', 'archived');
is($s->value('SELECT count(*) FROM sis_sync.pending_archive'
		  . ' WHERE run_id = <run>'), 0, 'no_archive: nothing to approve');
like($s->last_run->{note}, qr/^40 records that are gone were not archived: today lies in the window "no_archive", until $all[1]\.$/,
	'no_archive: the note');
is($s->call($s->call_sql('dry')), undef, 'no_archive: a dry run');
$s->counts_are('no_archive: a dry run', student => { to_archive => 20 });
is($s->call("SELECT sis_sync.run_atomic('windows')"), undef, 'no_archive: run_atomic');
$s->all_counts_are('no_archive: run_atomic: archived', 'archived');

# An approval is not spent.
window($s);
$s->run_ends_in('SI001', 'after the window');
$held = $s->last_run->{id};
$s->do("SELECT sis_sync.approve($held, 'they moved')");
for my $mode (qw(no_archive adds_only frozen))
{
	window($s, $mode, @all);
	$s->run_succeeds("$mode, with an approval");
	is($s->value("SELECT spent_run FROM sis_sync.approval WHERE run_id = $held"), undef,
		"$mode: the approval is not spent");
	is($s->active->{student}, 101, "$mode: and not used");
}

# adds_only
window($s, 'adds_only', @all);
$d->add('student');
$d->set('student', $_, phone => '802-555-0100') for $d->ids('student', 0, 7);
$s->succeeds('adds_only');
$s->counts_are('adds_only', student => { created => 1, updated => 0, to_update => 7,
		archived => 0 });
like($s->last_run->{note}, qr/\b7 updates were not made: .*adds_only/, 'adds_only: the note');
window($s);
$s->run_succeeds('after the windows');
$s->counts_are('after the windows', student => { created => 0, updated => 7, archived => 20,
		to_archive => 0 });
is($s->value("SELECT spent_run FROM sis_sync.approval WHERE run_id = $held"),
	$s->last_run->{id}, 'then the approval is used');

# What returns is an add.
$whole = $d->copy;
$d->remove('student', $d->ids('student', 0, 2));
$s->succeeds('two leave');
$s->{district} = $whole;
window($s, 'adds_only', @all);
$s->succeeds('they return');
$s->counts_are('adds_only: return', student => { restored => 2 });

# held back, then frozen: the held run can still be approved afterwards
$d = $s->{district};
window($s);
$d->remove('student', $d->ids('student', 0, 20));
$s->ends_in('SI001', '20 leave');
$held = $s->last_run->{id};
window($s, 'frozen', @all);
$s->run_succeeds('frozen') for 1 .. 2;
window($s);
$s->do("SELECT sis_sync.approve($held, 'it is so')");
is($s->value("SELECT count(*) FROM sis_sync.preview($held) WHERE record_type = 'student' AND action = 'archive'"), 20,
	'frozen runs leave what was staged');
$s->run_succeeds('approved after a frozen month');
$s->counts_are('approved after', student => { archived => 20 });

# Packages of changes: a deletion that comes in a window waits.
my ($old, $new_dir) = ($node->dir('yesterday'), $node->dir('today'));
$d = District->new(seed => 7, students => 200, sections => 10, staff => 10, enroll => 1);
$s = SampleSync->new($node, $db, 'package', district => $d);
$s->succeeds('first load');
window($s, 'no_archive', District::today(-2), District::today(2));
$d->write($old);
$d->remove('student', $d->ids('student', 0, 5));
$d->write($new_dir);
Delta::write($old, $new_dir, $s->dir);
$s->run_succeeds('a package deletes 5, in a window');
is($s->value("SELECT count(*) FROM sis_sync.pending_delete WHERE sync = 'package' AND record_type = 'student'"),
	5, 'they wait');
($old, $new_dir) = ($new_dir, $node->dir('tomorrow'));
$d->remove('student', $d->ids('student', 0, 1));
$d->write($new_dir);
window($s);
Delta::write($old, $new_dir, $s->dir);
$s->run_succeeds('the next package deletes another');
$s->counts_are('a package after a window', student => { archived => 6, to_archive => 6 });

# What whole files lack in a window is known to the package that comes next.
window($s, 'no_archive', District::today(-2), District::today(2));
$d->remove('student', $d->ids('student', 0, 3));
$s->succeeds('whole files without three, in a window');
$d->write($old);
$d->remove('student', $d->ids('student', 0, 1));
$d->write($new_dir);
window($s);
Delta::write($old, $new_dir, $s->dir);
$s->run_succeeds('a package after that');
$s->counts_are('whole files, then a package', student => { archived => 4 });

# ----------
# max_age_hours
# ----------
$d = District->new(students => 50, sections => 5, staff => 5, enroll => 1);
$s = SampleSync->new($node, $db, 'age', district => $d, set => { max_age_hours => 24 });
my (undef, $warning) = do {
	$s->write(mtime => time - 23 * 3600);
	$node->try($db, $s->call_sql);
};
unlike($warning, qr/WARNING/, 'a source of 23 hours: no warning');
is($s->last_run->{note}, undef, 'and no note');
$s->write(mtime => time - 3600 * 22);
set($s, 'max_age_hours = 21');
(undef, $warning) = $node->try($db, $s->call_sql);
like($warning, qr/WARNING:.*the source of sync "age" is older than 21 hours\nDETAIL:  It is of /,
	'an older one: a warning');
is(() = $warning =~ /WARNING/g, 1, 'one');
like($s->last_run->{note}, qr/^The source is older than 21 hours: it is of /, 'and a note');
is($s->last_run->{status}, 'succeeded', 'and no failure');
my $too_old = q{SELECT source_too_old FROM sis_sync.health WHERE sync = 'age'};
is($s->value($too_old), 't', 'health shows it');
(undef, $warning) = $node->try($db, "SELECT sis_sync.run_atomic('age')");
is(() = $warning =~ /WARNING/g, 1, 'one of run_atomic');
set($s, 'max_age_hours = NULL');
(undef, $warning) = $node->try($db, $s->call_sql);
unlike($warning, qr/WARNING/, 'off unless set');
is($s->value($too_old), 'f', 'health: off unless set');

done_testing;
