# Back to school: from May to September in a district, night by night.  June
# archives nothing, July is frozen, August brings a new year and other schools.
# What each night does was written down before it was run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

# Four schools with 100 students, 10 sections and 10 staff each; a student has
# two sections, a section one teacher: 4 * (200 + 10) = 840 enrollments.  The
# term ends on 12 June.
#
# Each row: the day; how the run ends; what it counts.  Of created, updated,
# restored and archived what is not named is 0, for all nine types.
my @NIGHTS = (
	[ '1 May', 'succeeded', first_load => {
			school => 'created 4', term => 'created 1', course => 'created 8',
			section => 'created 40', student => 'created 400',
			staff => 'created 40', enrollment => 'created 840' } ],
	# 30 graduates leave with 60 enrollments, 5 come, 12 have another phone
	[ '10 June', 'succeeded', june => {
			student => 'created 5, updated 12, unchanged 358, to_archive 30, in_force 400, allowed 40',
			enrollment => 'unchanged 780, to_archive 0, in_force 840' } ],
	# the term has ended, and its sections are not sent any more; 15 more
	# leave: 45 of 405 would be too many in another month
	[ '25 June', 'succeeded', end_of_term => {
			section => 'received 0, to_archive 0, in_force 0',
			student => 'unchanged 360, to_archive 45, in_force 405, allowed 40',
			enrollment => 'received 0, to_archive 0, in_force 0' } ],
	# the first and the last day that are frozen; the district sends nonsense
	[ '1 July', 'succeeded', nonsense => undef ],
	[ '31 July', 'succeeded', nonsense => undef ],
	# School 3 has merged into school 1 and is not sent any more
	[ '18 August', 'SI003', rollover => undef ],
	# It is taken out, the new school 5 put in.  All 324 who stay are a grade
	# higher, 100 of them now at school 1 (those of school 3 were in no school
	# set up, so N is 405 - 100); 81 of 405 (20 %) are gone; 60 + 20 are new.
	# Of the staff of school 3, 8 go with it; what has nowhere to go is frozen:
	# 2 staff, 10 sections, 210 enrollments, the school.
	[ '19 August', 'SI001', set_up_schools => {
			school => 'created 1, unchanged 3, frozen 1',
			term => 'created 1, to_archive 1',
			section => 'created 40, frozen 10, to_archive 0, in_force 0',
			student => 'created 80, updated 324, unchanged 0, to_archive 81, in_force 305, allowed 30',
			staff => 'created 10, updated 8, unchanged 30, frozen 2, in_force 30',
			enrollment => 'created 848, frozen 210, to_archive 0, in_force 0' } ],
	# Approved: the 81, the old term, and the sections and enrollments of the
	# other three schools, 3 * (200 + 10).  N is 324 + 80.
	[ '20 August', 'succeeded', approve => {
			school => 'frozen 1', term => 'archived 1',
			section => 'archived 30, unchanged 40, frozen 10, in_force 40',
			student => 'archived 81, unchanged 404, to_archive 0, in_force 404, allowed 40',
			staff => 'unchanged 48, frozen 2',
			enrollment => 'archived 630, unchanged 848, frozen 210, in_force 848' } ],
	# School 3 is retired after that night, and this is undone (see %after).
	[ '21 August', 'succeeded', nothing => {
			student => 'unchanged 404', enrollment => 'unchanged 848' } ],
	[ '22 August', 'succeeded', nothing => {
			school => 'unchanged 4, frozen 1', section => 'unchanged 40, frozen 10',
			student => 'unchanged 404', staff => 'unchanged 48, frozen 2',
			enrollment => 'unchanged 848, frozen 210' } ],
	# 3 leave with 6 enrollments, 4 come with 8, 6 have another phone
	[ '10 September', 'succeeded', september => {
			student => 'created 4, updated 6, archived 3, unchanged 395, to_archive 3, in_force 404',
			enrollment => 'created 8, archived 6, unchanged 842, to_archive 0' } ]);

my $node = SisTest->new->start;
my $db = $node->fresh_db('school_year');

# ----------
# The calendar.  No clock is moved: the days that go by are taken off every
# date that is stored, sent or set up, so that today is the day of the story.
# Where the sync is, it is about noon, and stays so until the test is over.
# ----------
my $noon = 12 - (gmtime)[2];
my $zone = sprintf 'Etc/GMT%+d', -$noon;
my @MONTHS = (May => 31, June => 30, July => 31, August => 31, September => 30);
my $day = 0;

sub date
{
	my ($days) = @_;

	return $node->value($db, "SELECT (now() AT TIME ZONE '$zone')::date + ($days)");
}

# How many days a day of the story lies after 1 May.
sub days_of
{
	my ($date, $month) = split ' ', $_[0];
	my $days = $date - 1;

	for (my $i = 0; $MONTHS[$i] ne $month; $i += 2)
	{
		$days += $MONTHS[ $i + 1 ];
	}
	return $days;
}

my $d = District->new(schools => 4, students => 400, sections => 40, staff => 40,
	enroll => 2, term_start => date(-240), term_end => date(days_of('12 June')));
my @of_three = map { $_->{id} } grep { $_->{schools}[0] eq 'sch-003' } @{ $d->{student} };
my $s = SampleSync->new($node, $db, 'year', district => $d,
	schools => [qw(0101 0102 0103 0104)], set => { timezone => "'$zone'" });

$s->do(sprintf q{INSERT INTO sis_sync.sync_window (sync, mode, from_date, to_date, yearly) VALUES
	('year', 'no_archive', '%s', '%s', true), ('year', 'frozen', '%s', '%s', true)},
	map { date(days_of($_)) } '1 June', '30 June', '1 July', '31 July');

sub days_go_by
{
	my ($days) = @_;

	$s->do("UPDATE <roster>.term SET start_date = start_date - $days,"
		  . " end_date = end_date - $days WHERE sync_id = <id>");
	$s->do("UPDATE sis_sync.sync_window SET from_date = from_date - $days,"
		  . " to_date = to_date - $days");
	for my $term (@{ $d->{term} })
	{
		$term->{$_} = $node->value($db, "SELECT date '$term->{$_}' - $days")
		  for qw(start end);
	}
	$day += $days;
	return;
}

# ----------
# What happens before each night
# ----------

# Some of those of the first night, and not of school 3; the last ones first.
sub leavers
{
	my ($count) = @_;
	my %of_three = map { $_ => 1 } @of_three;
	my @ids = reverse grep { !$of_three{$_} && $_ le 'stu-000400' } $d->ids('student');

	return @ids[ 0 .. $count - 1 ];
}

sub enroll
{
	my ($school, @students) = @_;
	my @sections = map { $_->{id} } grep { $_->{school} eq $school } @{ $d->{section} };
	my $n = 0;

	for my $student (@students)
	{
		$d->enroll($sections[ ($n + $_) % @sections ], $student) for 0, 1;
		$n++;
	}
	return;
}

my %before = (
	first_load => sub { },
	nothing => sub { },
	june => sub {
		$d->remove('student', leavers(30));
		$d->add('student') for 1 .. 5;
		$d->set('student', $_, phone => '802-555-3000') for $d->ids('student', 0, 12);
	},
	end_of_term => sub {
		$d->drop('enrollment', $d->ids('enrollment'));
		$d->drop('section', $d->ids('section'));
		$d->remove('student', leavers(15));
	},
	nonsense => sub { },
	rollover => sub {
		my $term = $d->add('term', start => date(-5), end => date(290));

		$d->drop('term', 'term-01');
		$d->remove('student', leavers(36));
		$d->set('student', $_, grade => 'UG') for $d->ids('student');
		my ($old, @staff) = ('sch-003');
		$d->set('student', $_->{id}, schools => ['sch-001'])
		  for grep { $_->{schools}[0] eq $old } @{ $d->{student} };
		@staff = map { $_->{id} } grep { $_->{schools}[0] eq $old } @{ $d->{staff} };
		$d->remove('staff', @staff[ 8, 9 ]);
		$d->set('staff', $_, schools => ['sch-001']) for @staff[ 0 .. 7 ];
		$d->drop('school', $old);
		my $new = $d->add('school');
		$d->add('staff', schools => [$new]) for 1 .. 10;
		$d->add('student', schools => [$new]) for 1 .. 60;
		$d->add('student', schools => ['sch-002']) for 1 .. 20;
		for my $school ($d->ids('school'))
		{
			$d->add('section', school => $school, terms => [$term]) for 1 .. 10;
		}
		$d->teach;
		$d->enroll_all(2);
	},
	set_up_schools => sub {
		$s->do(q{DELETE FROM sis_sync.sync_school WHERE sync = 'year' AND school_id = '0103'});
		$s->do(q{INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('year', '0105')});
	},
	approve => sub {
		$s->do("SELECT sis_sync.approve(<run>, 'class of this year')");
	},
	september => sub {
		$d->remove('student', leavers(3));
		enroll('sch-002', map { $d->add('student', schools => ['sch-002']) } 1 .. 4);
		$d->set('student', $_, phone => '802-555-4000') for $d->ids('student', 0, 6);
	});

# ----------
# What happens after a night: what is left of school 3 is archived, which is
# what was frozen: itself, its 10 sections with their 10 * (20 + 1) enrollments,
# and 2 staff.  All 100 students and the other 8 are at school 1.
# ----------
my %after = ('21 August' => sub {
	my $was = $s->active;
	my %left = (school => 1, section => 10, staff => 2, enrollment => 210);

	is($s->call(q{CALL sis_sync.retire_school('year', '0103', 'merged into 0101')}), undef,
		'school 3 is retired');
	$s->all_counts_are('retired', 'archived', %left);
	is($s->last_run->{note},
		'School "0103" was retired (merged into 0101): 0 students and 223 other records were archived.',
		'the note says what was archived');
	is_deeply($s->active, { %$was, map { $_ => $was->{$_} - $left{$_} } keys %left },
		'and nothing else is');
	is($s->value(q{SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND archived_at IS NULL
		AND source_id IN ('} . join("','", @of_three) . q{')}), 100,
		'the 100 students who have moved are still there');

	is($s->call('CALL sis_sync.undo(' . $s->last_run->{id} . ')'), undef, 'that is undone');
	$s->all_counts_are('undone', 'restored', %left);
	is_deeply($s->active, $was, 'and all is there again');
});

# ----------
# The nights
# ----------
sub check_counts
{
	my ($title, $expected) = @_;
	my %wanted;

	for my $type (@SampleSync::TYPES)
	{
		$wanted{$type}{$_} = 0 for qw(created updated restored archived);
		for my $item (split /, /, $expected->{$type} // '')
		{
			my ($column, $count) = split ' ', $item;
			$wanted{$type}{$column} = $count;
		}
	}
	return $s->counts_are($title, %wanted);
}

for my $night (@NIGHTS)
{
	my ($title, $ending, $event, $counts) = @$night;

	days_go_by(days_of($title) - $day) if days_of($title) > $day;
	$before{$event}->();
	if ($event eq 'nonsense')
	{
		unlink glob $s->dir . '/*';
		open my $fh, '>', $s->dir . '/users.csv' or die $!;
		print $fh "<html>Closed for the summer</html>\n";
		close $fh or die $!;
	}
	else
	{
		$s->write;
	}
	my $was = $s->digest;
	$ending eq 'succeeded' ? $s->run_succeeds($title) : $s->run_ends_in($ending, $title);
	check_counts($title, $counts) if $counts;
	is($s->digest, $was, "$title: nothing has changed") if !$counts;
	is($s->value('SELECT count(*) FROM sis_sync.run_count WHERE run_id = <run>'), 0,
		"$title: nothing was fetched") if $event eq 'nonsense';
	like($s->last_run->{note}, qr/^Nothing was fetched or changed: today lies in the window "frozen"/,
		"$title: and the note says so") if $event eq 'nonsense';
	like($s->last_run->{note}, qr/were not archived: today lies in the window "no_archive"/,
		"$title: the note") if $title =~ /June/;
	$after{$title}->() if $after{$title};
}

# What is there in the end: 404 - 3 + 4 students in three schools and a new
# one, and of school 3 what was frozen.
my $active = $s->active;
is_deeply($active, { school => 5, term => 1, course => 8, section => 50, student => 405,
		staff => 50, contact => 0, student_contact => 0, enrollment => 1060 },
	'in the end')
  or diag(explain($active));
is($s->value(q{SELECT count(*) FROM <roster>.student WHERE sync_id = <id>
	AND archived_at IS NULL AND school_source_id = 'sch-003'}), 0,
	'nobody has stayed at school 3');
is($s->list('SELECT source_id FROM <roster>.student WHERE sync_id = <id>'
	  . " AND archived_at IS NULL AND school_source_id = 'sch-001' AND created_run ="
	  . " (SELECT min(id) FROM sis_sync.run) AND source_id IN ('" . join("','", @of_three) . "')"),
	join(' ', sort @of_three),
	'the 100 of school 3 are at school 1, with the rows they had');

done_testing;
