# A year in a district: what happens between two Augusts, in exact numbers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('year');
my ($s, $error);

# ----------
# Term change.  "19 January" is today: the term ended four days ago, on "15
# January"; on "10 November" it still had 66 days to go.
# ----------
sub term_change
{
	my ($name, $end) = @_;
	my $d = District->new(schools => 4, students => 1600, sections => 260,
		staff => 80, enroll => 4, term_start => District::today(-120),
		term_end => $end);
	my $sync = SampleSync->new($node, $db, $name, district => $d);

	$sync->succeeds('first term');
	$sync->counts_are('first term', section => { created => 260 },
		student => { created => 1600 }, enrollment => { created => 6660 });
	$d->replace_sections($d->add('term', start => District::today(-3),
			end => District::today(120)));
	return $sync;
}

$s = term_change('january', District::today(-4));
$s->succeeds('the feed of 19 January');
$s->counts_are('19 January',
	section => { created => 260, archived => 260, in_force => 0,
		to_archive => 0 },
	enrollment => { created => 6660, archived => 6660, in_force => 0,
		to_archive => 0 },
	student => { unchanged => 1600, archived => 0, in_force => 1600 },
	term => { created => 1, archived => 0 });
is($s->active->{enrollment}, 6660, '19 January: 6,660 enrollments are there');

$s = term_change('november', District::today(66));
$error = $s->ends_in('SI001', 'the same feed on 10 November');
$s->counts_are('10 November',
	section => { created => 260, archived => 0, in_force => 260,
		to_archive => 260, allowed => 26 },
	enrollment => { created => 6660, archived => 0, in_force => 6660,
		to_archive => 6660, allowed => 666 });
$s->all_counts_are('10 November: archived', 'archived');
like("$error->{message} $error->{detail}", qr/\b6,?660\b/,
	'10 November: the error has 6660');
like("$error->{message} $error->{detail}", qr/\b666\b/,
	'10 November: and 666 allowed');
is($s->value('SELECT count(*) FROM sis_sync.pending_archive'
		  . " WHERE run_id = <run> AND record_type = 'enrollment'"),
	6660, '10 November: they are pending');

# The day a term ends it has not ended; which day it is, sync.timezone says.
# It is never the same day in these two zones, 26 hours apart.  (Ten minutes on:
# the day must not change under the test.)
my $west = $node->value($db, q{
	SELECT ((now() + interval '10 minutes') AT TIME ZONE 'Etc/GMT+12')::date});
for my $zone ([ 'Etc/GMT+12', 1 ], [ 'Pacific/Kiritimati', 0 ])
{
	my ($timezone, $in_force) = @$zone;
	my $d = District->new(students => 100, sections => 20, staff => 4,
		enroll => 2, term_end => $west);

	$s = SampleSync->new($node, $db, $in_force ? 'west' : 'east',
		district => $d, set => { timezone => "'$timezone'" });
	$s->succeeds('a term that ends today in the west');
	$d->drop('enrollment', $d->ids('enrollment', 0, 120));
	if ($in_force)
	{
		$s->ends_in('SI001', "in $timezone it has not ended");
		$s->counts_are($timezone, enrollment => {
				in_force => 220, to_archive => 120, allowed => 22,
				archived => 0 });
	}
	else
	{
		$s->succeeds("in $timezone it has ended");
		$s->counts_are($timezone, enrollment => {
				in_force => 0, to_archive => 0, archived => 120 });
	}
}

# An enrollment's own end goes before its section's; the latest of a section's
# terms counts.
my $d = District->new(students => 40, sections => 40, staff => 1, teachers => 0,
	enroll => 1, term_end => District::today(100));
my $ended = $d->add('term', start => District::today(-90),
	end => District::today(-10));
my ($running) = $d->ids('term');
$d->set('section', $_, terms => [$ended]) for $d->ids('section', 0, 10);
$d->set('section', $_, terms => [ $ended, $running ])
  for $d->ids('section', 10, 10);
$d->set('enrollment', $_, end => District::today(-10))
  for $d->ids('enrollment', 30, 10);
$s = SampleSync->new($node, $db, 'ends', district => $d,
	set => { deletion_threshold => 50 });
$s->succeeds('sections and enrollments that have ended, and that have not');
$d->drop('enrollment', $d->ids('enrollment', 39, 1));
$s->succeeds('one of the ended enrollments goes');
# 10 by their section's term, 10 by their own date: 20 of 40 have not ended
$s->counts_are('ends', section => { in_force => 30 },
	enrollment => { in_force => 20, to_archive => 0, archived => 1 });

# ----------
# Consequence: 50 students leave and take their enrollments with them
# ----------
$d = District->new(students => 501, sections => 10, staff => 1, teachers => 0,
	enroll => 6);
for my $student ($d->ids('student', 451, 50))
{
	my %has = map { $_->{section} => 1 }
	  grep { $_->{person} eq $student } @{ $d->{enrollment} };
	my @other = grep { !$has{$_} } $d->ids('section');

	$d->enroll($_, $student) for @other[ 0, 1 ];
}
$s = SampleSync->new($node, $db, 'consequence', district => $d);
$s->succeeds('451 with 6 enrollments and 50 with 8');
$s->counts_are('first load',
	student => { created => 501 }, enrollment => { created => 3106 });
$d->remove('student', $d->ids('student', 451, 50));
$s->succeeds('the 50 leave');
$s->counts_are('consequence',
	student => { archived => 50, to_archive => 50, allowed => 50 },
	enrollment => { archived => 400, to_archive => 0, in_force => 3106,
		allowed => 310 });

# ----------
# Lagging links: 500 students with 7 enrollments each
# ----------
for my $name (qw(lagging damaged))
{
	$d = District->new(students => 500, sections => 7, staff => 1,
		teachers => 0, enroll => 7);
	$s = SampleSync->new($node, $db, $name, district => $d);
	$s->succeeds('first load');
	$s->counts_are('first load',
		student => { created => 500 }, enrollment => { created => 3500 });
	if ($name eq 'lagging')
	{
		$d->drop('student', 'stu-000250');
		$s->succeeds('one is gone, his rows still come');
		$s->counts_are('lagging', student => { archived => 1, rejected => 0 },
			enrollment => { archived => 7, unchanged => 3493 });
	}
	else
	{
		$s->succeeds('his row has bad UTF-8',
			change => { 'users/stu-000250' => sub { $_[0] =~ s/s250@/\xFF@/r } });
		$s->counts_are('damaged',
			student => { archived => 0, rejected => 1, unchanged => 499,
				to_archive => 0 },
			enrollment => { archived => 0, rejected => 0, unchanged => 3500 });
		is($s->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run>'),
			1, 'damaged: one reject');
		is($s->value("SELECT archived_at FROM <roster>.student"
				  . " WHERE sync_id = <id> AND source_id = 'stu-000250'"),
			undef, 'damaged: the student stays');
	}
}

# ----------
# Small numbers
# ----------
for my $percent (10, 0)
{
	$d = District->new(students => 20, sections => 2, staff => 9, teachers => 0);
	$s = SampleSync->new($node, $db, "small$percent", district => $d,
		set => { deletion_threshold => $percent });
	$s->succeeds('9 staff');
	$d->remove('staff', 'stf-00009');
	if ($percent)
	{
		$s->succeeds('one of nine leaves');
		$s->counts_are('one of nine', staff => {
				archived => 1, to_archive => 1, in_force => 9, allowed => 2 });
	}
	else
	{
		$error = $s->ends_in('SI001', 'one of nine leaves, at threshold 0');
		is($error->{table}, 'staff', 'at threshold 0: staff');
		$s->counts_are('at threshold 0', staff => {
				archived => 0, to_archive => 1, in_force => 9, allowed => 0 });
	}
}

# Three of nine are more than the two that may always go; not for students.
$d = District->new(students => 20, sections => 2, staff => 9, teachers => 0);
$s = SampleSync->new($node, $db, 'three', district => $d);
$s->succeeds('9 staff');
$d->remove('staff', $d->ids('staff', 6, 3));
$s->ends_in('SI001', 'three of nine leave');
$d = District->new(students => 9, sections => 1, staff => 1);
$s = SampleSync->new($node, $db, 'nine', district => $d);
$s->succeeds('9 students');
$d->remove('student', 'stu-000009');
$s->ends_in('SI001', 'one of nine students leaves');

# ----------
# School guard
# ----------
sub guarded
{
	my ($name, @staff) = @_;
	my $district = District->new(schools => scalar @staff, students => 300,
		sections => 30, staff => 0, teachers => 0);

	for my $i (0 .. $#staff)
	{
		$district->add('staff', schools => [ $district->{school}[$i]{id} ])
		  for 1 .. $staff[$i];
	}
	my $sync = SampleSync->new($node, $db, $name, district => $district);
	$sync->succeeds('first load');
	return $sync;
}

sub lose_staff
{
	my ($sync, @schools) = @_;
	my %loses = map { $_ => 1 } @schools;

	$sync->{district}->remove('staff', map { $_->{id} }
		  grep { $loses{ $_->{schools}[0] } } @{ $sync->{district}{staff} });
	return;
}

my $tripped = 'SELECT school_source_id, to_archive, in_force, percent::int, allowed'
  . " FROM sis_sync.run_school WHERE run_id = <run> AND record_type = 'staff'"
  . ' AND tripped ORDER BY 1';

$s = guarded('guard', (60) x 30);
lose_staff($s, 'sch-007');
$error = $s->ends_in('SI001', 'one of 30 schools loses all its 60 staff');
$s->counts_are('guard: the district would pass', staff => {
		to_archive => 60, in_force => 1800, allowed => 180, archived => 0 });
is_deeply($s->rows($tripped), [ [ 'sch-007', 60, 60, 10, 10 ] ],
	'guard: the school trips, 60 of 60, allowed 10');
like($error->{message}, qr/(?<![\d.])$_(?![\d.]*\d)/,
	"guard: the message has $_")
  for 60, 10;
like("$error->{message} $error->{detail}", qr/sch-007|0107/,
	'guard: the error names the school');

# Every school that trips is named.
lose_staff($s, 'sch-011');
$error = $s->ends_in('SI001', 'two schools lose all');
like("$error->{message} $error->{detail}", qr/$_/, "two schools: $_ is named")
  for qr/sch-007|0107/, qr/sch-011|0111/;
is_deeply([ map { $_->[0] } @{ $s->rows($tripped) } ],
	[ 'sch-007', 'sch-011' ], 'two schools: both in the log');

$s = guarded('five', 55, 5);
lose_staff($s, 'sch-002');
$s->ends_in('SI001', 'a school of five loses five');
is_deeply($s->rows($tripped), [ [ 'sch-002', 5, 5, 10, 10 ] ],
	'five of five trips, though ten would be allowed');
$s->do('UPDATE sis_sync.sync SET deletion_threshold = 99.9 WHERE id = <id>');
$s->run_ends_in('SI001', 'five of five at 99.9 %');
$s->do('UPDATE sis_sync.sync SET deletion_threshold = 100 WHERE id = <id>');
$s->run_succeeds('five of five at 100 %');

$s = guarded('four', 56, 4);
lose_staff($s, 'sch-002');
$s->succeeds('a school of four loses four');
$s->counts_are('four of four', staff => {
		archived => 4, to_archive => 4, in_force => 60, allowed => 6 });

# school_min_records: 11 of 60 are over 10; with 200, they are not.
$s = guarded('minimum', (60) x 3);
$s->{district}->remove('staff', $s->{district}->ids('staff', 0, 11));
$s->ends_in('SI001', 'a school loses 11 of 60');
$s->do('UPDATE sis_sync.sync SET school_min_records = 200 WHERE id = <id>');
$s->run_succeeds('with school_min_records 200');

# ----------
# Hand edits, and the application's own rows
# ----------
$d = District->new(students => 50, sections => 5, staff => 5, enroll => 2);
$s = SampleSync->new($node, $db, 'hands', district => $d);
$s->succeeds('first load');
my $family = $s->value("SELECT family_name FROM <roster>.student"
	  . " WHERE sync_id = <id> AND source_id = 'stu-000003'");
$s->do("UPDATE <roster>.student SET family_name = 'Edited' WHERE sync_id = <id>"
	  . " AND source_id = 'stu-000003'");
$s->do("UPDATE <roster>.section SET location = 'Elsewhere' WHERE sync_id = <id>"
	  . " AND source_id = 'sec-00002'");
$s->succeeds('after an application changed two rows');
$s->all_counts_are('hand edits: updated', 'updated', student => 1, section => 1);
is($s->value("SELECT family_name FROM <roster>.student"
		  . " WHERE sync_id = <id> AND source_id = 'stu-000003'"),
	$family, 'the name is repaired');
$s->succeeds('and again');
$s->all_counts_are('repaired once: updated', 'updated');

# A row of the application's own whose ID then comes in the feed
$s->do("INSERT INTO <roster>.student (sync_id, source_id, given_name, family_name,"
	  . " sis_managed) VALUES (<id>, 'stu-000051', 'Own', 'Row', false)");
is($d->add('student'), 'stu-000051', 'the ID that comes in the feed');
$s->succeeds('an ID of the feed is an application\'s own');
$s->counts_are('an application\'s own row', student => {
		manual => 1, created => 0, updated => 0, unchanged => 50,
		in_force => 50 });
is_deeply($s->rows("SELECT given_name, family_name, sis_managed, archived_at"
		  . " FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = 'stu-000051'"),
	[ [ 'Own', 'Row', 'f', undef ] ], 'it is left alone');

# Rows that an application takes over are neither changed, archived nor counted.
$s->do("UPDATE <roster>.student SET sis_managed = false WHERE sync_id = <id>"
	  . " AND source_id IN ('stu-000001', 'stu-000002')");
$d->remove('student', 'stu-000001');
$d->set('student', 'stu-000002', email => 'new@example.org');
$s->succeeds('an application has taken two rows over');
$s->counts_are('taken over', student => {
		manual => 2, archived => 0, to_archive => 0, updated => 0,
		in_force => 48, unchanged => 48 });
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id IN ('stu-000001', 'stu-000002')"
		  . " AND archived_at IS NULL AND email NOT LIKE 'new\@%'"),
	2, 'taken over: both are as they were');

# An application writes such a row while a first load is under way.
my $m = SampleSync->new($node, $db, 'meanwhile',
	district => District->new(students => 50, sections => 5, staff => 5, enroll => 2));
$m->do('CREATE FUNCTION public.be_first() RETURNS trigger LANGUAGE plpgsql AS $$'
	  . ' BEGIN INSERT INTO <roster>.student (sync_id, source_id, given_name,'
	  . " family_name, sis_managed) VALUES (<id>, 'stu-000007', 'Own', 'Row', false)"
	  . ' ON CONFLICT DO NOTHING; RETURN NULL; END $$');
$m->do('CREATE TRIGGER be_first BEFORE INSERT ON <roster>.student'
	  . ' FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)'
	  . ' EXECUTE FUNCTION public.be_first()');
$m->succeeds('an application writes an ID of the feed in the middle of a first load');
$m->do('DROP TRIGGER be_first ON <roster>.student');
$m->counts_are('written meanwhile', student => { created => 49 });
is_deeply($m->rows("SELECT given_name, family_name, sis_managed"
		  . " FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = 'stu-000007'"),
	[ [ 'Own', 'Row', 'f' ] ], 'written meanwhile: it is left alone');

# A first load that meets a unique index of the application's own
$m = SampleSync->new($node, $db, 'unique',
	district => District->new(students => 50, sections => 5, staff => 5, enroll => 2));
$m->do('CREATE UNIQUE INDEX one_school ON <roster>.student (school_source_id)'
	  . ' WHERE sync_id = <id>');
$m->ends_in('23505', 'a unique index of the application\'s own');
is($m->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'), 0,
	'and nothing is written');
$m->do('DROP INDEX <roster>.one_school');

# ----------
# Rollover: what was archived stays so where restore_returning is false
# ----------
$d = District->new(students => 40, sections => 40, staff => 4, teachers => 0,
	enroll => 4);
$s = SampleSync->new($node, $db, 'rollover', district => $d->copy,
	set => { restore_returning => 'false' });
$s->succeeds('first load');
$s->{district}->remove('section', 'sec-00040');
$s->{district}->remove('student', 'stu-000040', 'stu-000039');
my $gone = $d->count('enrollment') - $s->{district}->count('enrollment');
$s->succeeds('a section and two students leave');
$s->counts_are('left', section => { archived => 1 },
	student => { archived => 2 }, enrollment => { archived => $gone });
$s->{district} = $d;
$s->succeeds('they return');
$s->counts_are('rollover', section => { restored => 0 },
	student => { restored => 2 }, enrollment => { restored => 0 });
is($s->active->{section}, 39, 'rollover: the section stays archived');
$s->do('UPDATE sis_sync.sync SET restore_returning = true WHERE id = <id>');
$s->run_succeeds('restore_returning is true again');
$s->counts_are('restored', section => { restored => 1 },
	enrollment => { restored => $gone });

# What comes with a status of deletion is gone; a disabled user or a date in
# the future is not.
$d = District->new(students => 50, sections => 4, staff => 4, enroll => 2);
$s = SampleSync->new($node, $db, 'status', district => $d);
$s->succeeds('first load');
$d->set('student', 'stu-000001', status => 'tobedeleted');
$d->set('student', 'stu-000002', status => 'inactive');
$d->set('student', 'stu-000003', status => 'active');
$d->set('student', 'stu-000004', enabled => 'false');
$d->set('enrollment', ($d->ids('enrollment'))[-1], begin => District::today(30));
$s->succeeds('two are to be deleted');
$s->counts_are('status',
	student => { archived => 2, to_archive => 2, updated => 1,
		unchanged => 47 },
	enrollment => { archived => 4, updated => 1 });
is($s->list('SELECT source_id FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND archived_at IS NOT NULL'),
	'stu-000001 stu-000002', 'status: exactly those two');
is($s->value("SELECT enabled FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = 'stu-000004'"),
	'f', 'status: a disabled user is there, disabled');

done_testing;
