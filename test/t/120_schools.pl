# Rule 2: the schools set up, and what is in scope.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('schools');

sub set_up
{
	my ($s, @schools) = @_;

	$s->do("DELETE FROM sis_sync.sync_school WHERE sync = '$s->{name}'");
	$s->do("INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('$s->{name}', '$_')")
	  for @schools;
	return;
}

# ----------
# Schools to Sync Are Not Found
# ----------
my $s = SampleSync->new($node, $db, 'finding',
	district => District->new(schools => 3, students => 30, sections => 6,
		staff => 6),
	schools => [ '0101', '0102' ]);
$s->succeeds('two of three schools');
my $before = $s->digest;

sub not_found
{
	my ($title, %opt) = @_;
	my $error = $s->ends_in('SI003', $title, %opt);

	is($s->digest, $before, "$title: nothing changed");
	is($s->last_run->{reason}, 'Schools to Sync Are Not Found',
		"$title: the reason in the log");
	is($error->{constraint}, 'schools_not_found', "$title: condition");
	return $error;
}

# New students and leavers wait in the feed, so that "nothing changed" can fail.
$s->{district}->remove('student', 'stu-000001');
$s->{district}->add('student');

set_up($s, '0101', '0999');
my $error = not_found('one school is missing');
like($error->{detail}, qr/\b0999\b/, 'the detail names the missing school');
unlike($error->{detail}, qr/\b0101\b/, 'and not the other one');
like($error->{hint}, qr/\b(?:3|three)\b/i, 'the hint says how many came');

set_up($s, '0999', '0888');
$error = not_found('two schools are missing');
like($error->{detail}, qr/\b$_\b/, "the detail names $_") for '0999', '0888';

set_up($s, '0101', '0102');
$s->{district}->set('school', 'sch-001', number => '101');
$error = not_found('leading zeros are lost');
like($error->{detail}, qr/\b0101\b/, 'the detail names the one set up');
like($error->{hint}, qr/\b101\b/, 'the hint names the one received');
$s->{district}->set('school', 'sch-001', number => '0101');

$s->{district}->set('school', 'sch-001', status => 'tobedeleted');
$error = not_found('a school is to be deleted');
like($error->{detail}, qr/\b0101\b/, 'the detail names it');
$s->{district}->set('school', 'sch-001', status => '');

set_up($s, '0101', $s->{district}{district}{id});
not_found('a district is no school');

set_up($s, '0101', '0102');
$s->{district}->set('school', 'sch-003', number => '0102');
$error = not_found('two schools of one number');
like("$error->{message} $error->{detail}", qr/ambiguous/, 'called ambiguous');
$s->{district}->set('school', 'sch-003', number => '0103');

$s->do("UPDATE sis_sync.sync SET all_schools = true WHERE id = <id>");
set_up($s, '0101', '0999');
not_found('all schools, and a listed one is missing');
$s->do("UPDATE sis_sync.sync SET all_schools = false WHERE id = <id>");

set_up($s);
$error = $s->ends_in('SI009', 'no schools, and not all_schools');
is($s->digest, $before, 'no schools: nothing changed');
is($s->last_run->{reason}, 'Not Configured', 'no schools: the reason in the log');

is($node->fails($db, "CALL sis_sync.run('nobody')")->{sqlstate}, 'SI009',
	'a sync that is not there');

# Trimmed, by the district's number first, else by the source's ID
$node->run($db, "DELETE FROM sis_sync.sync_school WHERE sync = 'finding'");
$s->do("INSERT INTO sis_sync.sync_school VALUES ('finding', ' 0101 ', 'lincoln-high'),"
	  . " ('finding', 'sch-002', 'grant-middle')");
$s->succeeds('a number with blanks around it, and an ID of the source');
is_deeply($s->rows('SELECT source_id, app_school FROM <roster>.school'
		  . ' WHERE sync_id = <id> ORDER BY 1'),
	[ [ 'sch-001', 'lincoln-high' ], [ 'sch-002', 'grant-middle' ] ],
	'the application\'s schools');
$s->do("UPDATE sis_sync.sync_school SET app_school = 'hoover' WHERE sync = 'finding'"
	  . " AND school_id = 'sch-002'");
$s->succeeds('the application\'s school is another');
is($s->value("SELECT app_school FROM <roster>.school WHERE sync_id = <id>"
		  . " AND source_id = 'sch-002'"),
	'hoover', 'app_school follows at the next run');

my $both = SampleSync->new($node, $db, 'precedence',
	district => District->new(schools => 1, students => 6, sections => 1,
		staff => 1),
	schools => ['0101']);
my $decoy = $both->{district}->add('school', id => '0101', number => '0777');
$both->{district}->add('student', schools => [$decoy]);
$both->succeeds('one school\'s number is another one\'s ID');
is($both->list('SELECT source_id FROM <roster>.school WHERE sync_id = <id>'),
	'sch-001', 'the number goes before the ID');
is($both->active->{student}, 6, 'with its students only');

# ----------
# Transfers: 300 students at school A, one of them also at X, which is not set up
# ----------
my $start = District->new(schools => 2, students => 0, sections => 4, staff => 4,
	teachers => 0, enroll => 0);
my @at_a = map { $start->add('student', schools => ['sch-001']) } 1 .. 299;
my $in_both = $start->add('student', schools => [ 'sch-001', 'sch-002' ]);
my @at_x = map { $start->add('student', schools => ['sch-002']) } 1 .. 50;
$start->enroll_all(1);

$s = SampleSync->new($node, $db, 'transfers', district => $start->copy,
	schools => ['0101']);
$s->succeeds('first load');
$s->counts_are('first load',
	student => { created => 300, out_of_scope => 50 },
	enrollment => { created => 300, out_of_scope => 50 });
my $born = $s->list(
	'SELECT source_id || created_at FROM <roster>.student WHERE sync_id = <id>');
my @leave = @at_a[ 0 .. 4 ];

$s->{district}->move(['sch-002'], @leave, $in_both);
$s->{district}->move(['sch-001'], @at_x[ 0, 1 ]);
$s->succeeds('five move, one leaves A, two come');
$s->counts_are('transfers', student => {
		created => 2, archived => 6, unchanged => 294, updated => 0,
		restored => 0, to_archive => 6, in_force => 300, allowed => 30 },
	enrollment => { archived => 6, to_archive => 0, unchanged => 294 });
is($s->list("SELECT source_id FROM sis_sync.change WHERE run_id = <run>"
		  . " AND record_type = 'student' AND action = 'archive'"
		  . " AND reason = 'left scope'"),
	join(' ', sort @leave, $in_both), 'the six left scope, says the log');

$s->{district} = $start->copy;
$s->succeeds('all back');
$s->counts_are('all back', student => {
		restored => 6, archived => 2, created => 0, unchanged => 294 },
	enrollment => { restored => 6, unchanged => 294 });
is($s->list(
		'SELECT source_id || created_at FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NULL'),
	$born, 'with the rows they had');

# Now more than the threshold lets move: split in the error.
$s->{district}->move(['sch-002'], @at_a[ 0 .. 39 ]);
$s->{district}->remove('student', @at_a[ 40 .. 44 ]);
$error = $s->ends_in('SI001', 'forty move away, five are gone');
my $text = "$error->{message} $error->{detail}";
like($text, qr/\b$_\b/, "the error has $_") for 45, 300, 30, 40, 5;
like($text, qr/not in the feed/, 'what is not in the feed apart');
like($text, qr/not set up/, 'from what is at a school that is not set up');
is_deeply($s->rows('SELECT reason, count(*) FROM sis_sync.pending_archive'
		  . " WHERE run_id = <run> AND record_type = 'student'"
		  . " GROUP BY (reason = 'left scope'), reason ORDER BY count(*)")->[1],
	[ 'left scope', 40 ], 'the forty are pending with that reason');

# A move between two schools that are set up is an update.
set_up($s, '0101', '0102');
$s->{district} = $start->copy;
$s->succeeds('both schools are set up');
$s->{district}->move(['sch-002'], @at_a[ 0 .. 19 ]);
$s->succeeds('twenty move from one to the other');
$s->counts_are('a move is an update',
	student => { updated => 20, archived => 0, to_archive => 0 });

# ----------
# Scope: one of eight schools
# ----------
my $eight = District->new(schools => 8, students => 400, staff => 40,
	sections => 80, contacts => 400, enroll => 4, terms => 2);
$s = SampleSync->new($node, $db, 'scope', district => $eight,
	schools => ['0103']);
$s->succeeds('first load');
$s->all_counts_are('scope: created', 'created',
	school => 1, term => 2, course => 8, section => 10, student => 50,
	staff => 5, contact => 50, student_contact => 50, enrollment => 210);
$s->counts_are('scope: out of scope',
	map { $_->[0] => { out_of_scope => $_->[1] } } [ term => 0 ],
	[ course => 0 ], [ section => 70 ], [ student => 350 ], [ staff => 35 ],
	[ contact => 350 ], [ student_contact => 350 ], [ enrollment => 1470 ]);
is($s->value(
		"SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND 'sch-003' = ANY (school_source_ids)"),
	50, 'scope: all of that school');
is($s->value('SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'),
	50, 'people out of scope have left staging');
is($s->value('SELECT count(*) FROM sis_sync.stage_contact WHERE sync_id = <id>'),
	50, 'and so have their contacts');

# A student and a teacher of other schools, in a section of this one
my ($guest) = grep { $_->{schools}[0] eq 'sch-001' } @{ $eight->{student} };
my ($teacher) = grep { $_->{schools}[0] eq 'sch-002' } @{ $eight->{staff} };
my ($section) = grep { $_->{school} eq 'sch-003' } @{ $eight->{section} };
$eight->enroll($section->{id}, $guest->{id});
$eight->enroll($section->{id}, $teacher->{id}, 'teacher');
$s->succeeds('guests in a section');
$s->all_counts_are('guests: created', 'created',
	student => 1, staff => 1, contact => 1, student_contact => 1,
	enrollment => 2);
$s->all_counts_are('guests: archived', 'archived');

# A student at two schools belongs to each that is set up.
$eight->set('student', ($eight->ids('student'))[2],
	schools => [ 'sch-005', 'sch-003' ]);
$s->succeeds('the school is the second of two');
$s->counts_are('the second of two schools',
	student => { updated => 1, archived => 0, unchanged => 50 });

# Staff who have only the district, as in a central office
my $office = $eight->add('staff', role => 'administrator',
	schools => [ $eight->{district}{id} ]);
$s->succeeds('staff of the district');
is($s->value("SELECT count(*) FROM <roster>.staff WHERE sync_id = <id>"
		  . " AND source_id = '$office'"),
	0, 'out of scope while one school is set up');
my $all = SampleSync->new($node, $db, 'all_schools', district => $eight);
$all->succeeds('all schools');
is($all->value("SELECT count(*) FROM <roster>.staff WHERE sync_id = <id>"
		  . " AND source_id = '$office'"),
	1, 'in scope under all_schools');
$all->all_counts_are('all schools: created', 'created',
	school => 8, term => 2, course => 8, section => 80, student => 400,
	staff => 41, contact => 400, student_contact => 400, enrollment => 1682);

# ----------
# A school that is set up no longer
# ----------
$s = SampleSync->new($node, $db, 'frozen',
	district => District->new(schools => 2, students => 200, sections => 20,
		staff => 20, contacts => 0, enroll => 4),
	schools => [ '0101', '0102' ]);
$s->succeeds('two schools');
my $of_b = q{SELECT md5(string_agg(concat(x, y), '|' ORDER BY x, y)) FROM (
	SELECT t.xmin::text AS x, t::text AS y FROM <roster>.student t
	WHERE sync_id = <id> AND school_source_id = 'sch-002'
	UNION ALL SELECT t.xmin::text, t::text FROM <roster>.section t
	WHERE sync_id = <id> AND school_source_id = 'sch-002'
	UNION ALL SELECT t.xmin::text, t::text FROM <roster>.staff t
	WHERE sync_id = <id> AND school_source_id = 'sch-002'
	UNION ALL SELECT t.xmin::text, t::text FROM <roster>.enrollment t
	WHERE sync_id = <id> AND school_source_id = 'sch-002') AS b};
my $b = $s->value($of_b);

set_up($s, '0101');
$s->{district}->set('student', $_, email => "$_\@elsewhere.example.org")
  for $s->{district}->ids('student');
$s->succeeds('one school is set up no longer');
is($s->value($of_b), $b, 'its records are untouched');
$s->counts_are('frozen records are not counted',
	student => { in_force => 100, to_archive => 0, archived => 0,
		updated => 100, frozen => 100 },
	section => { in_force => 10, to_archive => 0, archived => 0, frozen => 10 },
	staff => { in_force => 10, to_archive => 0, archived => 0, frozen => 10 },
	enrollment => { in_force => 410, to_archive => 0, archived => 0,
		frozen => 410 });
$s->{district}->remove('student',
	map { $_->{id} } grep { $_->{schools}[0] eq 'sch-002' }
	  @{ $s->{district}{student} });
$s->succeeds('its students leave the feed');
is($s->value($of_b), $b, 'its records are still untouched');

done_testing;
