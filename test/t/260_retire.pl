# Schools that close: inactive schools, retire_school(), what SI003 says of the
# students, and a school that is set up again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('retire');

# Two schools of 500 and 412 students, one section each and nobody else; the
# third school is in the source and not set up.
sub three_schools
{
	my $d = District->new(schools => 3, students => 0, sections => 3, staff => 3,
		contacts => 0);
	my @a = map { $d->add('student', schools => ['sch-001']) } 1 .. 500;
	my @b = map { $d->add('student', schools => ['sch-002']) } 1 .. 412;

	$d->contacts_for(0);
	$d->enroll_all(1);
	for my $n (0 .. 411)
	{
		my $contact = $d->add('contact');

		$d->add('link', student => $b[$n], contact => $contact);
	}
	return ($d, \@a, \@b);
}

# School B has closed: 371 of its students are at A, 41 have left the district.
sub close_b
{
	my ($d, $b) = @_;

	$d->remove('student', @$b[ 371 .. 411 ]);
	$d->move(['sch-001'], @$b[ 0 .. 370 ]);
	$d->remove('section', map { $_->{id} } grep { $_->{school} eq 'sch-002' } @{ $d->{section} });
	$d->remove('staff', map { $_->{id} } grep { $_->{schools}[0] eq 'sch-002' } @{ $d->{staff} });
	$d->remove('school', 'sch-002');
	return;
}

sub retire
{
	my ($s, $school, $reason) = @_;

	return "CALL sis_sync.retire_school('$s->{name}', '$school', '"
	  . ($reason // 'closed in June') . q{')};
}

sub undo { return 'CALL sis_sync.undo(' . $_[0]->last_run->{id} . ')'; }

my ($d, $at_a, $at_b) = three_schools();
my $s = SampleSync->new($node, $db, 'closing', district => $d,
	schools => [ '0101', '0102' ]);
$s->succeeds('first load');
$s->all_counts_are('first load', 'created', school => 2, term => 1, course => 8,
	section => 2, student => 912, staff => 2, contact => 412,
	student_contact => 412, enrollment => 914);

# ----------
# The feed lacks the school
# ----------
close_b($d, $at_b);
my $before = $s->digest;
my $error = $s->ends_in('SI003', 'the school is missing');
like($error->{detail},
	qr/^Not found: "0102"\. Of the 412 students of "0102", 371 are now at school "0101", 41 are not in the data\.$/,
	'the detail says where its students are');
like($error->{hint}, qr/CALL sis_sync\.retire_school\('closing', '0102', 'why'\)/,
	'the hint says what to type');
is($s->digest, $before, 'nothing changed');
my $words = $s->value('SELECT sis_sync.explain_failure(<run>)');
like($words, qr/371 are now at school "0101"/, 'explain_failure says so, too');
like($words, qr/retire_school\('closing'/, 'and names the statement');
my $failed = $s->last_run->{id};

# What is refused changes nothing
is($s->call(retire($s, '0999'))->{sqlstate}, '22023', 'a school that is not there');
is($s->call(retire($s, '0102', '  '))->{sqlstate}, '22023', 'no reason');
is($s->call(q{CALL sis_sync.retire_school('closing', '0102', NULL)})->{sqlstate},
	'22004', 'a reason that is NULL');
is($s->last_run->{id}, $failed, 'no run is logged for these');

# ----------
# Retiring it: 41 of 412 are archived, and what goes with them
# ----------
is($s->call(retire($s, '0102')), undef, 'retire_school succeeds');
is_deeply([ @{ $s->last_run }{qw(kind status error_code)} ],
	[ 'retire', 'succeeded', undef ], 'it is a run of its own');
is($s->last_run->{note},
	'School "0102" was retired (closed in June): 41 students and 498 other records were archived.',
	'its note says who, why and how many');
$s->all_counts_are('archived', 'archived', school => 1, section => 1,
	student => 41, staff => 1, contact => 41, student_contact => 41,
	enrollment => 413);
is($s->value(q{SELECT count(*) FROM <roster>.student WHERE sync_id = <id>
	AND archived_at IS NULL AND school_source_id = 'sch-002'}), 371,
	'the 371 who have moved are not');
is($s->value(q{SELECT string_agg(DISTINCT archived_reason, ', ' ORDER BY archived_reason)
	FROM <roster>.student WHERE sync_id = <id>}), 'school retired', 'they say why');
is_deeply($s->rows(q{SELECT school_id, active FROM sis_sync.sync_school
	WHERE sync = 'closing' ORDER BY 1}), [ [ '0101', 't' ], [ '0102', 'f' ] ],
	'the school is inactive');

# Undo, and undo of that
my $retired = $s->last_run->{id};
is($s->call(undo($s)), undef, 'undo succeeds');
$s->all_counts_are('undo', 'restored', school => 1, section => 1, student => 41,
	staff => 1, contact => 41, student_contact => 41, enrollment => 413);
is($s->active->{student}, 912, 'all 912 are back');
is($s->value(q{SELECT active FROM sis_sync.sync_school WHERE sync = 'closing'
	AND school_id = '0102'}), 't', 'and the school is active again');
$s->run_ends_in('SI003', 'so it is missed again');
is($s->call('CALL sis_sync.undo(' . $s->value(q{SELECT max(id) FROM sis_sync.run
	WHERE kind = 'undo'}) . ')'), undef, 'undo of the undo');
is($s->active->{student}, 871, 'the 41 are archived again');
is($s->value(q{SELECT active FROM sis_sync.sync_school WHERE sync = 'closing'
	AND school_id = '0102'}), 'f', 'and the school is inactive');

# The next night moves the 371, and misses nothing.
$s->run_succeeds('the next night');
$s->counts_are('the next night',
	student => { updated => 371, archived => 0, unchanged => 500, frozen => 0 });
is($s->active->{student}, 871, '871 are there');

# ----------
# Made inactive by hand: frozen, and later retired
# ----------
($d, $at_a, $at_b) = three_schools();
$s = SampleSync->new($node, $db, 'by_hand', district => $d, schools => [ '0101', '0102' ]);
$s->succeeds('first load');
my $whole = $d->copy;
close_b($d, $at_b);
$s->do(q{UPDATE sis_sync.sync_school SET active = false WHERE sync = 'by_hand' AND school_id = '0102'});
$s->succeeds('an inactive school is not looked for');
$s->counts_are('its records are frozen', student => { updated => 371,
		frozen => 41, archived => 0, in_force => 500 },
	school => { frozen => 1, archived => 0 }, section => { frozen => 1 });
is($s->active->{student}, 912, 'all are there');
# another night takes the staging rows away; the roster knows where they are
$s->do('TRUNCATE sis_sync.stage_student');
is($s->call(retire($s, 'sch-002')), undef, 'retired by the source\'s ID');
$s->counts_are('what is left', student => { archived => 41 },
	section => { archived => 1 }, staff => { archived => 1 });
is($s->call(undo($s)), undef, 'undone');
is($s->active->{student}, 912, 'all are there again');
is($s->value(q{SELECT active FROM sis_sync.sync_school WHERE sync = 'by_hand'
	AND school_id = '0102'}), 'f', 'the school stays as it was made by hand');

# Active again: what was frozen counts again.
$s->{district} = $whole->copy;
$s->do(q{UPDATE sis_sync.sync_school SET active = true WHERE sync = 'by_hand' AND school_id = '0102'});
$s->succeeds('the school is back');
$s->counts_are('its records count again', student => { frozen => 0,
		in_force => 912, updated => 371, archived => 0 });
$s->do(q{DELETE FROM sis_sync.sync_school WHERE sync = 'by_hand' AND school_id = '0102'});
$s->succeeds('the school is taken out');
$s->counts_are('its records are frozen', student => { frozen => 412, in_force => 500 });
$s->do(q{INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('by_hand', '0102')});
$s->{district}->remove('student', @$at_b[ 0 .. 9 ]);
$s->succeeds('the school is set up again, and ten have left');
$s->counts_are('its records count again', student => { frozen => 0,
		in_force => 912, to_archive => 10, archived => 10 });

# ----------
# Where people are is not known: nobody is archived
# ----------
($d, $at_a, $at_b) = three_schools();
$s = SampleSync->new($node, $db, 'unknown', district => $d, schools => [ '0101', '0102' ]);
is($s->call(retire($s, '0102'))->{sqlstate}, '22023', 'before any run: no such school');
$s->succeeds('first load');
close_b($d, $at_b);
$s->ends_in('SI003', 'the school is missing');
$node->restart('immediate');
$before = $s->digest;
$error = $s->call(retire($s, '0102'));
is($error->{sqlstate}, '55000', 'the staged rows are gone: 55000');
like($error->{hint}, qr/CALL sis_sync\.run\('unknown'\)/, 'the hint says what to do');
is($s->digest, $before, 'nobody was archived');
$s->run_ends_in('SI003', 'once more');
is($s->call(retire($s, '0102')), undef, 'now it is known');
$s->counts_are('41 of 412', student => { archived => 41 });

# ----------
# Persons of two schools, guests, contacts of two students
# ----------
$d = District->new(schools => 4, students => 40, sections => 8, staff => 8, enroll => 1);
my ($two) = $d->add('student', schools => [ 'sch-002', 'sch-001' ]);
my ($far) = $d->add('student', schools => [ 'sch-002', 'sch-004' ]);
my $guest_in_b = $d->add('student', schools => ['sch-004']);
my $guest_in_a = $d->add('student', schools => ['sch-002']);
my $both_rooms = $d->add('student', schools => ['sch-004']);
my ($in_a) = map { $_->{id} } grep { $_->{school} eq 'sch-001' } @{ $d->{section} };
my ($in_b) = map { $_->{id} } grep { $_->{school} eq 'sch-002' } @{ $d->{section} };
$d->enroll($in_b, $guest_in_b);
$d->enroll($in_a, $guest_in_a);
$d->enroll($_, $both_rooms) for $in_a, $in_b;
my ($child_a) = map { $_->{id} } grep { $_->{schools}[0] eq 'sch-001' } @{ $d->{student} };
my ($child_b) = map { $_->{id} } grep { $_->{schools}[0] eq 'sch-002' && $_->{id} ne $two } @{ $d->{student} };
my $parent = $d->add('contact');
$d->add('link', student => $_, contact => $parent) for $child_a, $child_b;
$s = SampleSync->new($node, $db, 'edges', district => $d, schools => [ '0101', '0102', '0103' ]);
$s->succeeds('first load');
is($s->call(retire($s, '0102')), undef, 'retire one of three');
my %gone = map { $_->[0] => 1 } @{ $s->rows(q{SELECT source_id FROM <roster>.student
	WHERE sync_id = <id> AND archived_at IS NOT NULL}) };
is_deeply([ map { $gone{$_} // 0 } $two, $far, $guest_in_b, $guest_in_a, $both_rooms, $child_b, $child_a ],
	[ 0, 1, 1, 0, 0, 1, 0 ],
	'who has another school that is set up, or a section there, stays');
is($s->value("SELECT archived_at IS NULL FROM <roster>.contact WHERE sync_id = <id> AND source_id = '$parent'"),
	't', 'a contact of one who stays, stays');
is($s->value("SELECT count(*) FROM <roster>.student_contact WHERE sync_id = <id> AND contact_source_id = '$parent' AND archived_at IS NULL"),
	1, 'with that link only');
is($s->value(q{SELECT count(*) FROM <roster>.section WHERE sync_id = <id> AND school_source_id = 'sch-003' AND archived_at IS NULL}),
	2, 'no section of another school is touched');

done_testing;
