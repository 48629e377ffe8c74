# One district in all the CSV layouts there are, and in all the ways in which
# files of one content differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('layouts');

sub district
{
	my $d = District->with_repeats;

	$d->set('staff', $_, role => 'administrator', title => 'Principal')
	  for $d->add('staff', schools => ['sch-001']),
	  $d->add('staff', schools => ['sch-002']);
	return $d;
}

my %expected = (
	school => 2, term => 1, course => 8, section => 16, student => 60,
	staff => 10, contact => 60, student_contact => 61,
	enrollment => 60 * 3 + 16 + 1);
my %everything = map { $_ => { created => 0, updated => 0, restored => 0,
		archived => 0, rejected => 0, unchanged => $expected{$_} } } keys %expected;

my %sync;
for my $layout (qw(oneroster11 oneroster12 clever))
{
	$sync{$layout} = SampleSync->new($node, $db, $layout,
		district => district(), write => { layout => $layout },
		set => { include_demographics => 'true' });
	$sync{$layout}->succeeds('first load');
	$sync{$layout}->all_counts_are('all nine types are filled', 'created',
		%expected);
	$sync{$layout}->all_counts_are('without rejects', 'rejected');
}

# The same district, whatever its layout
my %same = (
	school => 'source_id, name',
	term => 'name, start_date, end_date',
	course => 'name, course_code',
	section => 'source_id, name, section_code, school_source_id, subjects, periods',
	student => 'source_id, given_name, middle_name, family_name, username, email,'
	  . ' birth_date, school_source_id, school_source_ids',
	staff => 'source_id, given_name, family_name, username, email,'
	  . ' school_source_id, school_source_ids',
	contact => 'email, phones',
	enrollment => 'section_source_id, school_source_id, person_source_id, role');
for my $type (sort keys %same)
{
	my $select = sub {
		"SELECT $same{$type} FROM roster.$type WHERE sync_id = "
		  . $sync{ $_[0] }->id;
	};

	for my $other (qw(oneroster12 clever))
	{
		is($node->value($db, 'SELECT count(*) FROM (('
				  . $select->('oneroster11') . ') EXCEPT (' . $select->($other)
				  . ')) AS d'),
			0, "$type: $other has all that oneroster11 has");
		is($node->value($db, 'SELECT count(*) FROM (('
				  . $select->($other) . ') EXCEPT (' . $select->('oneroster11')
				  . ')) AS d'),
			0, "$type: $other has no more");
	}
}
my $links = sub {
	'SELECT l.student_source_id, c.email FROM roster.student_contact l'
	  . ' JOIN roster.contact c ON c.sync_id = l.sync_id'
	  . ' AND c.source_id = l.contact_source_id WHERE l.sync_id = ' . $sync{ $_[0] }->id
	  . ' ORDER BY 1, 2';
};
is_deeply($node->rows($db, $links->($_)),
	$node->rows($db, $links->('oneroster11')), "student_contact: $_ joins the same")
  for qw(oneroster12 clever);

# Values, and not only as many of them
my ($student) = grep { $_->{id} eq 'stu-000003' } @{ district()->{student} };
utf8::decode($student->{$_}) for qw(given middle family);
for my $layout (qw(oneroster11 oneroster12 clever))
{
	my $s = $sync{$layout};

	is_deeply($s->rows(
			'SELECT given_name, middle_name, family_name, birth_date, username'
			  . ' FROM <roster>.student'
			  . " WHERE sync_id = <id> AND source_id = 'stu-000003'"),
		[ [ @$student{qw(given middle family birth username)} ] ],
		"$layout: a student");
	is_deeply($s->rows('SELECT school_source_id, school_source_ids'
			  . " FROM <roster>.student WHERE sync_id = <id>"
			  . " AND source_id = 'stu-000001'"),
		[ [ 'sch-001', '{sch-001,sch-002}' ] ], "$layout: at two schools");
	is($s->value("SELECT array_to_string(roles, ',') FROM <roster>.staff"
			  . " WHERE sync_id = <id> AND source_id = 'stf-00001'"),
		'teacher', "$layout: a teacher's roles");
	is($s->list('SELECT person_source_id FROM <roster>.enrollment'
			  . " WHERE sync_id = <id> AND role = 'teacher'"
			  . " AND section_source_id = 'sec-00001'"),
		'stf-00001 stf-00003', "$layout: two teachers of a section");
	is($s->list('SELECT person_source_id FROM <roster>.enrollment'
			  . " WHERE sync_id = <id> AND role = 'teacher' AND is_primary"
			  . " AND section_source_id = 'sec-00001'"),
		'stf-00001', "$layout: one of them is the primary one");
}
is($sync{$_}->value("SELECT string_agg(DISTINCT sis_id, ' ' ORDER BY sis_id)"
		  . ' FROM <roster>.school WHERE sync_id = <id>'),
	'0101 0102', "$_: the district's own numbers")
  for qw(oneroster11 oneroster12);
is_deeply($sync{clever}->rows(
		'SELECT school_number, state_id, nces_id, low_grade, high_grade, city,'
		  . ' state, zip, phone, principal_email FROM <roster>.school'
		  . " WHERE sync_id = <id> AND source_id = 'sch-001'"),
	[
		[
			'0101', 'ST30001', '990000100001', 'Kindergarten', '12',
			'Lindenfield', 'VT', '05001', '802-555-0001',
			'principal@sch-001.example.org'
		]
	], 'clever: what a school has');
is_deeply($sync{oneroster11}->rows(
		'SELECT term_type, school_year, section_type, location, is_primary'
		  . ' FROM <roster>.term t JOIN <roster>.section s USING (sync_id)'
		  . ' JOIN <roster>.enrollment e USING (sync_id)'
		  . " WHERE sync_id = <id> AND s.source_id = 'sec-00001'"
		  . " AND e.section_source_id = s.source_id AND e.role = 'teacher'"
		  . ' ORDER BY e.person_source_id'),
	[
		map {
			[ 'term', District->new->{year}, 'scheduled', 'Room 101', $_ ]
		} qw(t f)
	],
	'oneroster11: what a term, a section and an enrollment have');

# ----------
# Files that differ, and rosters that do not
# ----------
my @variants = (
	[ 'BOM' => bom => 1 ],
	[ 'CRLF' => eol => "\r\n" ],
	[ 'every value quoted' => quote => 1 ],
	[ 'BOM, CRLF and quotes' => bom => 1, eol => "\r\n", quote => 1 ],
	[ 'rows in the opposite order' => reverse => 1 ]);
for my $layout (qw(oneroster11 oneroster12 clever))
{
	for my $variant (@variants)
	{
		my ($title, %opt) = @$variant;

		$sync{$layout}->succeeds($title, %opt);
		$sync{$layout}->counts_are("$title: all unchanged", %everything);
	}
}
$sync{oneroster11}->succeeds('without a manifest', manifest => 0);
$sync{oneroster11}->counts_are('without a manifest: all unchanged', %everything);
$sync{oneroster11}->succeeds('columns in another order', columns => {
		users => [ reverse qw(sourcedId status dateLastModified enabledUser
			orgSourcedIds role username userIds givenName familyName middleName
			identifier email sms phone agentSourcedIds grades password) ] });
$sync{oneroster11}->counts_are('other order: all unchanged', %everything);
$sync{clever}->succeeds('contacts in numbered columns', contacts => 'columns');
$sync{clever}->counts_are('numbered columns: all unchanged', %everything);
$sync{clever}->succeeds('headers of other capitals, with spaces',
	header => { students => sub { lc($_[0]) =~ tr/_/ /r } });
$sync{clever}->counts_are('other headers: all unchanged', %everything);

# Without IDs of contacts they are made from content, never from the row order.
my $made = SampleSync->new($node, $db, 'made_ids', district => district(),
	write => { layout => 'clever', clever_ids => 0 });
$made->succeeds('contacts without IDs');
$made->counts_are('contacts without IDs',
	student_contact => { created => 61, rejected => 0 },
	contact => { rejected => 0, archived => 0 });
my $contacts = $made->active->{contact};
for my $variant ([ 'other order' => reverse => 1 ],
	[ 'numbered columns' => contacts => 'columns' ])
{
	my ($title, %opt) = @$variant;

	$made->succeeds("contacts without IDs, $title", %opt);
	$made->counts_are("contacts without IDs, $title", contact => {
			unchanged => $contacts, created => 0, archived => 0 },
		student_contact => { unchanged => 61, created => 0, archived => 0 });
}

# An optional column that is not there keeps the old values.
$sync{oneroster11}->succeeds('no e-mail column', columns => {
		users => [ qw(sourcedId status dateLastModified enabledUser
			orgSourcedIds role username userIds givenName familyName middleName
			identifier sms phone agentSourcedIds grades password) ] });
$sync{oneroster11}->counts_are('no e-mail column: all unchanged', %everything);
is($sync{oneroster11}->value(
		'SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'
		  . ' AND email IS NOT NULL'),
	60, 'the addresses are kept');
$sync{oneroster11}->{district}->set('student', 'stu-000005', email => '');
$sync{oneroster11}->succeeds('an empty value, though, empties it');
$sync{oneroster11}->counts_are('an empty value', student => { updated => 1 });

# ----------
# Line breaks, commas and quotes inside a value
# ----------
my $d = district();
$d->set('section', 'sec-00003', name => "Algebra,\r\n\"honors\"\nsecond floor");
for my $layout (qw(oneroster11 clever))
{
	my $s = SampleSync->new($node, $db, "breaks_$layout", district => $d,
		write => { layout => $layout });

	$s->succeeds('a name of three lines');
	is($s->value("SELECT name FROM <roster>.section WHERE sync_id = <id>"
			  . " AND source_id = 'sec-00003'"),
		"Algebra,\r\n\"honors\"\nsecond floor", "$layout: a name of three lines");
	$s->counts_are("$layout: no row is lost", section => { created => 16 });
	my $file = $layout eq 'clever' ? 'sections' : 'classes';
	is($s->value("SELECT line FROM sis_sync.stage_section WHERE sync_id = <id>"
			  . " AND source_id = 'sec-00004'"),
		$s->{lines}{$file}{'sec-00004'},
		"$layout: the line is that of the file, not a row's number");
}

# ----------
# OneRoster: roles, demographics, extra columns, passwords
# ----------
my $s = SampleSync->new($node, $db, 'roles', district => district(),
	write => { layout => 'oneroster12', append => { roles => [
			'r-x,,,stu-000060,secondary,aide,,,sch-002,',
			'r-y,,,stf-00009,secondary,teacher,,,sch-002,' ] } });
$s->succeeds('a student who is an aide, an administrator who teaches');
$s->counts_are('both tables',
	student => { created => 60 }, staff => { created => 11 });
is_deeply($s->rows("SELECT source_id, (SELECT string_agg(r, ',' ORDER BY r)"
		  . ' FROM unnest(roles) r), school_source_id FROM <roster>.staff'
		  . " WHERE sync_id = <id> AND source_id IN ('stu-000060', 'stf-00009')"
		  . ' ORDER BY 1'),
	[
		[ 'stf-00009', 'siteadministrator,teacher', 'sch-001' ],
		[ 'stu-000060', 'aide', 'sch-002' ]
	], 'with their roles');

$s = SampleSync->new($node, $db, 'extra', district => district(),
	write => { password => 'Quartz-7-Lantern' },
	set => { extra_columns => q{'{userIds}'} });
$s->succeeds('extra columns, and passwords in the file');
is($s->value("SELECT extra ->> 'userIds' FROM <roster>.student"
		  . " WHERE sync_id = <id> AND source_id = 'stu-000001'"),
	'{SIS:0012001}', 'a column that is named goes to extra');
is($sync{oneroster11}->value("SELECT count(*) FROM <roster>.student"
		  . " WHERE sync_id = <id> AND extra -> 'userIds' IS NOT NULL"),
	0, 'one that is not named does not');
is($s->value('SELECT count(birth_date) + count(gender) FROM <roster>.student'
		  . ' WHERE sync_id = <id>'),
	0, 'no demographics unless they are asked for');
is($sync{oneroster11}->value(
		'SELECT count(birth_date) + count(gender) FROM <roster>.student'
		  . ' WHERE sync_id = <id>'),
	120, 'demographics when they are');
for my $table (qw(sis_sync.stage_student sis_sync.stage_staff
	sis_sync.stage_contact sis_sync.reject sis_sync.change roster.student
	roster.staff roster.contact))
{
	is($s->value("SELECT count(*) FROM $table t WHERE t::text LIKE '%Quartz%'"),
		0, "no password in $table");
}

# Clever's dates of birth are on the person, and always read.
is($made->value('SELECT count(birth_date) FROM <roster>.student'
		  . ' WHERE sync_id = <id>'),
	60, 'clever: dates of birth without include_demographics');

# ----------
# The manifest, and files that are missing
# ----------
$s = SampleSync->new($node, $db, 'manifest', district => district());
$s->succeeds('first load');
my $before = $s->digest;
$s->{district}->remove('student', 'stu-000001');

sub refused
{
	my ($title, $state, %opt) = @_;
	my $error = $s->ends_in($state, $title, %opt);

	is($s->digest, $before, "$title: nothing changed");
	return $error;
}

my $error = refused('the manifest names a file that is missing', 'SI007',
	leave_out => ['enrollments'], modes => { enrollments => 'bulk' });
like("$error->{message} $error->{detail}", qr/enrollments/, 'it is named');
is($s->last_run->{reason}, 'Incomplete Data', 'the reason in the log');
refused('users.csv is missing, without a manifest', 'SI007',
	leave_out => ['users'], manifest => 0);
refused('enrollments.csv is missing, without a manifest', 'SI007',
	leave_out => ['enrollments'], manifest => 0);
refused('orgs.csv is missing, without a manifest', 'SI007',
	leave_out => ['orgs'], manifest => 0);
$error = refused('a required header is mistyped', 'SI006',
	header => { users => sub { $_[0] =~ s/sourcedId/sourceddId/r } });
like("$error->{message} $error->{detail}", qr/users\.csv/, 'the file is named');
refused('a file that ends inside a quoted value', 'SI007',
	append => { enrollments => ['"enr-9,,,sec-00001'] });

# The rest of the feed of that night is applied, what is absent is left alone.
$s->{district}->remove('course', 'crs-001');
$s->succeeds('courses are absent', leave_out => ['courses']);
$s->counts_are('courses are absent',
	course => { archived => 0, created => 0, updated => 0 },
	student => { archived => 1 });
is($s->active->{course}, 8, 'absent: the courses are all there');

# A manifest that has a line only for some files
$s->write;
{
	open my $manifest, '>', $s->dir . '/manifest.csv' or die $!;
	print $manifest "\"propertyName\",\"value\"\r\n\"oneroster.version\",\"1.1\"\r\n",
	  "\"manifest.version\",\"1.0\"\r\n\"file.users\",\"bulk\"\r\n";
	close $manifest;
}
$s->run_succeeds('a manifest of few lines');
$s->counts_are('a manifest of few lines', course => { archived => 1 },
	student => { unchanged => 59, archived => 0 });

$s = SampleSync->new($node, $db, 'clever_files', district => district(),
	write => { layout => 'clever' });
$s->succeeds('first load');
$before = $s->digest;
refused("$_.csv is missing", 'SI007', leave_out => [$_])
  for qw(schools students teachers sections enrollments);

# The path itself
$node->sync($db, 'nowhere', $s->dir . '/nowhere', all_schools => 'true');
is($node->fails($db, "CALL sis_sync.run('nowhere')")->{sqlstate}, 'SI004',
	'a folder that is missing');

done_testing;
