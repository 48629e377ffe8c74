# A district from Clever's Data API: what becomes of its records, night after
# night.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleClever;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('clever');

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

# ----------
# All nine types, in both versions, in pages of all sizes
# ----------

my $s = SampleClever->new($node, $db, 'springfield', district => district(),
	options => { page_size => 7 });
$s->run_succeeds('first load');
$s->all_counts_are('all nine types are filled', 'created', %expected);
$s->all_counts_are('without rejects', 'rejected');
my @requests = $s->service->requests;
is(scalar(grep { $_->{query} eq 'limit=7&role=student' || $_->{query} eq 'role=student&limit=7' } @requests),
	1, 'one first page of students');
is(scalar(grep { $_->{query} =~ /role=student/ } @requests), 9,
	'60 students are nine pages of seven');
is(scalar(grep { $_->{path} =~ m{/districts$} } @requests), 2,
	'the district is looked at before and after');
is_deeply([ grep { $_->{path} !~ m{^/v3\.1/} } @requests ], [], 'v3.1 by default');
$s->service->is_clean('first load');

# The same districts as its files, but for the IDs that Clever makes
my $csv = SampleSync->new($node, $db, 'files', district => district(),
	write => { layout => 'clever' });
$csv->succeeds('the same as files');
my %same = (
	school => 'sis_id, name, school_number, state_id, nces_id, low_grade, high_grade, phone,'
	  . ' address, city, state, zip, principal_name, principal_email',
	term => 'name, start_date, end_date, term_type, school_year',
	course => 'name, course_code, grades, subjects',
	section => 'sis_id, name, section_code, section_type, grades, periods, location',
	student => 'sis_id, given_name, middle_name, family_name, preferred_given_name,'
	  . ' student_number, state_id, username, email, phone, grade, birth_date, gender, enabled',
	staff => 'sis_id, given_name, middle_name, family_name, staff_number, state_id, username,'
	  . ' email, phone, title, roles, enabled',
	contact => 'sis_id, given_name, family_name, email, phones, username',
	student_contact => 'relationship, contact_type',
	enrollment => 'role, is_primary, begin_date, end_date');
for my $type (sort keys %same)
{
	my $rows = sub {
		$node->rows($db, "SELECT $same{$type} FROM roster.$type WHERE sync_id = "
			  . $_[0]->id . " ORDER BY $same{$type}");
	};
	is_deeply($rows->($s), $rows->($csv), "$type: as from Clever's files");
}

# References lead to what they should
my $joined = sub {
	my ($sync) = @_;
	return $node->rows($db, 'SELECT p.sis_id, e.role, e.is_primary, s.sis_id, c.name, t.name, h.sis_id'
		  . ' FROM roster.enrollment e JOIN roster.section s ON (s.sync_id, s.source_id) = (e.sync_id, e.section_source_id)'
		  . ' JOIN roster.course c ON (c.sync_id, c.source_id) = (s.sync_id, s.course_source_id)'
		  . ' JOIN roster.term t ON t.sync_id = s.sync_id AND t.source_id = s.term_source_ids[1]'
		  . ' JOIN roster.school h ON (h.sync_id, h.source_id) = (s.sync_id, s.school_source_id) AND h.source_id = e.school_source_id'
		  . ' JOIN (SELECT sync_id, source_id, sis_id FROM roster.student UNION ALL SELECT sync_id, source_id, sis_id FROM roster.staff) p'
		  . '   ON (p.sync_id, p.source_id) = (e.sync_id, e.person_source_id)'
		  . ' WHERE e.sync_id = ' . $sync->id . ' ORDER BY 1, 2, 4');
};
is(scalar @{ $joined->($s) }, $expected{enrollment}, 'every enrollment joins its ends');
is_deeply($joined->($s), $joined->($csv), 'enrollments join what the files join');
my $contacts = sub {
	$node->rows($db, 'SELECT s.sis_id, c.sis_id, l.relationship FROM roster.student_contact l'
		  . ' JOIN roster.student s ON (s.sync_id, s.source_id) = (l.sync_id, l.student_source_id)'
		  . ' JOIN roster.contact c ON (c.sync_id, c.source_id) = (l.sync_id, l.contact_source_id)'
		  . ' WHERE l.sync_id = ' . $_[0]->id . ' ORDER BY 1, 2');
};
is_deeply($contacts->($s), $contacts->($csv), 'contacts belong to whom they belong to in the files');
my $schools = sub {
	$node->rows($db, 'SELECT p.sis_id, (SELECT sis_id FROM roster.school WHERE (sync_id, source_id) = (p.sync_id, p.school_source_id)),'
		  . ' (SELECT array_agg(sis_id ORDER BY sis_id) FROM roster.school WHERE sync_id = p.sync_id AND source_id = ANY (p.school_source_ids))'
		  . ' FROM (SELECT sync_id, sis_id, school_source_id, school_source_ids FROM roster.student'
		  . '   UNION ALL SELECT sync_id, sis_id, school_source_id, school_source_ids FROM roster.staff) p'
		  . ' WHERE p.sync_id = ' . $_[0]->id . ' ORDER BY 1');
};
is_deeply($schools->($s), $schools->($csv), 'people are at the schools of the files');
is_deeply($s->rows("SELECT school_source_id = ANY (school_source_ids), cardinality(school_source_ids) FROM <roster>.student"
		  . " WHERE sync_id = <id> AND sis_id = 'stu-000001'"), [ [ 't', 2 ] ], 'a student of two schools');

# A quiet night, however the pages fall, whatever way "unknown" is written
my $digest = $s->digest;
for my $size (1000, 10000, 3)
{
	$s->option(page_size => $size);
	$s->run_succeeds("pages of $size");
	$s->counts_are("pages of $size: nothing changes", %everything);
}
for my $absent (undef, 'missing', '')
{
	my $name = defined $absent ? "\"$absent\"" : 'null';
	$s->service->{control}{absent} = $absent;
	$s->service->change;
	$s->run_succeeds("unknown is $name");
	$s->counts_are("unknown is $name: nothing changes", %everything);
}
is($s->digest, $digest, 'the roster is the same, row by row');
$s->option(api_version => 'v3.0');
$s->run_succeeds('v3.0');
$s->counts_are('v3.0: nothing changes', %everything);
is(scalar(grep { $_->{path} !~ m{^/v3\.0/} } grep { $_->{path} =~ /users/ } ($s->service->requests)[-5 .. -1]),
	0, 'v3.0 is asked for');
$s->option(api_version => undef);
$s->option(page_size => 7);
$s->option(max_connections => 1);
$s->run_succeeds('one connection');
$s->counts_are('one connection: nothing changes', %everything);
$s->option(max_connections => 16);
$s->run_succeeds('16 connections');
$s->counts_are('16 connections: nothing changes', %everything);
$s->option(max_connections => undef);
$s->service->is_clean('quiet nights');

# Pages come side by side, and no more of them than there are connections
$s->service->change(latency => 100);
$s->option(max_connections => 3);
$s->run_succeeds('side by side');
{
	my @seen = grep { $_->{path} !~ /districts/ } $s->service->requests;
	my $most = 0;

	for my $one (@seen)
	{
		# of the tenth of a second that each takes, the end may be noted late
		my $beside = grep { $_->{at} <= $one->{at} && $one->{at} < $_->{at} + $_->{took} - 0.02 } @seen;
		$most = $beside if $beside > $most;
	}
	cmp_ok($most, '<=', 3, 'three connections are three requests at a time');
	cmp_ok($most, '>', 1, 'and not one');
	my ($first) = sort { $a->{at} <=> $b->{at} } @seen;
	like($first->{query}, qr/role=student/, 'the longest chain begins');
}
$s->service->change(latency => undef);
$s->option(max_connections => undef);

# Both forms of dates
$s->service->change(patch => { 'stu-000002' => { 'roles.student.dob' => '2011-02-09' },
		'stu-000003' => { 'roles.student.dob' => '2/9/2011' },
		'stu-000004' => { 'roles.student.dob' => '02/30/2011' } });
$s->run_succeeds('dates');
is($s->list("SELECT sis_id || '=' || birth_date FROM <roster>.student WHERE sync_id = <id> AND sis_id IN ('stu-000002', 'stu-000003')"),
	'stu-000002=2011-02-09 stu-000003=2011-02-09', 'both forms of dates');
is($s->value("SELECT birth_date IS NOT NULL FROM <roster>.student WHERE sync_id = <id> AND sis_id = 'stu-000004'"),
	't', 'a date that is none leaves the stored one');
is($s->value("SELECT reason FROM sis_sync.reject WHERE run_id = <run> AND loaded"), 'not a date', 'and a note');
$s->service->change(patch => undef);
$s->run_succeeds('the dates are as before');

# ----------
# What leaves and comes
# ----------

$s->district->remove('student', 'stu-000005');
$s->district->set('student', 'stu-000006', email => 'new@students.example.org');
my $new = $s->district->add('student');
$s->succeeds('a normal night');
$s->counts_are('a normal night', student => { created => 1, updated => 1, archived => 1, unchanged => 58 },
	enrollment => { archived => 3, created => 0 }, contact => { archived => 1 },
	student_contact => { archived => 1 }, section => { unchanged => 16 });
$s->district->drop('student', $new);
$s->district->{student} = [ grep { $_->{id} ne $new } @{ $s->district->{student} } ];
$s->succeeds('and one goes again');

# One value is cleared; a value that nobody has any more was not shared
$s->service->change(patch => { 'stu-000006' => { email => '', 'roles.student.email' => '' } });
$s->run_succeeds('an address is cleared');
is($s->value("SELECT email FROM <roster>.student WHERE sync_id = <id> AND sis_id = 'stu-000006'"), undef,
	'the address of one is gone');
my %hidden = map { $_->{id} => { email => '', 'roles.student.email' => '' } } @{ $s->district->{student} };
$s->service->change(patch => \%hidden);
$s->run_succeeds('addresses are hidden');
$s->counts_are('hiding addresses changes nothing', student => { updated => 0, archived => 0, unchanged => 59 });
cmp_ok($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND email IS NOT NULL"), '>', 50,
	'the stored addresses stay');
$s->service->change(patch => undef);
$s->run_succeeds('addresses are back');
$s->service->is_clean('nights');

# ----------
# People of several roles
# ----------

{
	my $d = District->new(seed => 3, students => 20, staff => 4, sections => 4);
	$d->add('staff', role => 'administrator', title => 'Coach', email => 't1@staff.example.org',
		family => 'Both');
	my $r = SampleClever->new($node, $db, 'roles', district => $d, options => { page_size => 100 });
	my $teacher = '{teacher,staff,district_admin}';

	$r->service->change(patch => { 'stf-00001' => { 'roles.district_admin' => { title => 'Boss' },
				'roles.staff.roles' => ['SchoolTechLead'] } });
	$r->run_succeeds('three roles');
	$r->counts_are('three roles: one person', staff => { created => 4, rejected => 0 });
	is($r->value("SELECT roles @> '$teacher' AND roles @> '{schooltechlead}' AND cardinality(roles) = 4"
			  . " FROM <roster>.staff WHERE sync_id = <id> AND sis_id = 'stf-00001'"), 't', 'three roles and a job');
	is($r->value("SELECT title FROM <roster>.staff WHERE sync_id = <id> AND sis_id = 'stf-00001'"),
		'Teacher', "the teacher's title comes first");
	$r->service->change(roles => 'own');
	$r->run_succeeds('lists that show their own role only');
	is($r->value("SELECT count(*) FROM <roster>.staff WHERE sync_id = <id> AND archived_at IS NULL"), 4, 'one person still, none archived');

	# a student who teaches stands in both tables
	$r->service->change(roles => undef, patch => { 'stu-000001' => { 'roles.teacher' => {
					sis_id => 'T-X', school => 'x', schools => [] } } });
	$r->run_succeeds('a student who teaches');
	is($r->value("SELECT count(*) FROM <roster>.staff t JOIN <roster>.student s USING (sync_id, source_id)"
			  . " WHERE sync_id = <id> AND s.archived_at IS NULL"), 1, 'a student who teaches is both');
	$r->service->is_clean('roles');
}

# ----------
# extra_columns, and what is never kept
# ----------

{
	my $x = SampleClever->new($node, $db, 'extra',
		district => District->new(seed => 4, students => 10, contacts => 5),
		set => { extra_columns => "'{race,homeroom,ext.bus,location.zip,roles.student.enrollments,"
			  . "credentials,credentials.password,last_modified,roles.student.created,period,nothing}'" },
		control => { patch => { 'stu-000001' => {
					'roles.student.ext' => { homeroom => 'H1', bus => 7 },
					'roles.student.location.zip' => '00501',
					'roles.student.credentials.password' => 'hunter2',
					'roles.student.secret_plan' => 'unmapped', } } });
	$x->run_succeeds('extra columns');
	is($x->value("SELECT extra FROM <roster>.student WHERE sync_id = <id> AND sis_id = 'stu-000001'"),
		'{"race": "Asian", "ext.bus": 7, "homeroom": "H1", "location.zip": "00501"}',
		'what was named is kept');
	is($x->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND extra->>'race' = 'Asian'"), 10,
		'of each');
	is($x->value("SELECT count(*) FROM <roster>.section WHERE sync_id = <id> AND extra ? 'period'"), 10,
		'also what has a column');
	for my $table (qw(roster.student sis_sync.stage_student))
	{
		is($node->value($db, "SELECT count(*) FROM $table t WHERE t::text ~ 'hunter2|unmapped'"), 0,
			"$table: no password, nothing that nobody asked for");
	}
	my $plain = $node->value($db, "SELECT extra FROM roster.student WHERE sync_id = " . $s->id . " AND extra IS NOT NULL LIMIT 1");
	is($plain, undef, 'and nothing at all where nothing was named');

	# JSON has numbers that numeric has not
	my ($id, $school) = @{ $x->rows("SELECT source_id, school_source_id FROM <roster>.student"
			  . " WHERE sync_id = <id> AND sis_id = 'stu-000002'")->[0] };
	$x->service->change(replace => { 'stu-000002' => qq({"id":"$id","name":{"first":"A","last":"B"},"roles":{"student":)
			  . qq({"sis_id":"stu-000002","school":"$school","schools":["$school"],"ext":{"homeroom":"H2","bus":1e-99999}}}}) });
	$x->run_succeeds('a number too small for numeric');
	is($x->value("SELECT extra FROM <roster>.student WHERE sync_id = <id> AND sis_id = 'stu-000002'"),
		'{"homeroom": "H2"}', 'a number that jsonb would not take is left out');
	$x->service->is_clean('extra columns');
}

# ----------
# One bad record is one reject
# ----------

{
	my $d = District->new(seed => 5, students => 40, contacts => 40, staff => 4, sections => 8);
	my $r = SampleClever->new($node, $db, 'rejects', district => $d, options => { page_size => 9 });
	$r->run_succeeds('first load');
	my $active = $r->active;
	my $user = '{"id":"ID","name":{"first":"A","last":"B%s"},"roles":{"student":{"school":"x"}}%s}';
	my $id = $r->value("SELECT source_id FROM <roster>.student WHERE sync_id = <id> AND sis_id = 'stu-000004'");
	my %bad = (
		'not valid UTF-8' => sprintf($user, '\ud800', ''),
		'contains a zero byte' => sprintf($user, '\u0000', ''),
		'the role is missing' => '{"id":"ID","name":{"last":"B"},"roles":{}}',
		'a required value is missing' => '{"id":"ID","name":{},"roles":{"student":{}}}');

	for my $reason (sort keys %bad)
	{
		$r->service->change(replace => { 'stu-000004' => $bad{$reason} =~ s/ID/$id/r });
		$r->run_succeeds($reason);
		is_deeply($r->rows("SELECT record_type, source, source_id FROM sis_sync.reject WHERE run_id = <run> AND reason = '$reason'"),
			[ [ 'student', 'users?role=student', $id ] ], "$reason: is rejected by its ID");
		is_deeply($r->active, $active, "$reason: nothing is archived");
	}
	my $line = $r->value("SELECT n FROM (SELECT source_id, row_number() OVER (ORDER BY source_id) AS n FROM <roster>.student WHERE sync_id = <id>) x WHERE source_id = '$id'");
	is($r->value("SELECT line FROM sis_sync.reject WHERE run_id = <run> LIMIT 1"), $line,
		'the line is the place in the whole list, over all pages');

	# without an ID the type archives nothing, and nor does what it names
	$r->district->remove('student', 'stu-000010');
	$r->write;
	$r->service->change(replace => { 'sec-00002' => '{"id":"a","id":"b"}', 'con-000003' => '"none"' });
	$r->run_succeeds('records without an ID');
	is_deeply([ sort map { "$_->[0] $_->[1]" } @{ $r->rows("SELECT record_type, reason FROM sis_sync.reject WHERE run_id = <run> AND source_id IS NULL") } ],
		[ 'contact the role is missing', 'enrollment a key stands twice', 'section a key stands twice',
			'student_contact the role is missing' ], 'they and what they name are rejects');
	$r->counts_are('so sections, enrollments, contacts archive nothing', student => { archived => 1 },
		section => { archived => 0 }, contact => { archived => 0 });
	$r->service->change(replace => undef);
	$r->run_succeeds('all is well again');
	$r->service->is_clean('rejects');
}

# Records that refer to what is not there
{
	my $d = District->new(seed => 6, students => 20, staff => 2, sections => 4, contacts => 4);
	my $r = SampleClever->new($node, $db, 'loose', district => $d);
	my $sections = 'f' x 24;

	$r->service->change(patch => {
			'sec-00001' => { teachers => [$sections], teacher => $sections },
			'sec-00002' => { course => $sections, term_id => $sections },
			'con-000001' => { 'roles.contact.student_relationships' => [
					{ student => $sections, relationship => 'Parent', type => 'Primary' } ] } });
	$r->run_succeeds('loose ends');
	$r->counts_are('loose ends cost their links only', section => { created => 4, rejected => 0 },
		student => { created => 20 }, contact => { created => 4 });
	is($r->value("SELECT count(*) FROM sis_sync.reject WHERE run_id = <run> AND record_type IN ('enrollment', 'student_contact')"), 2,
		'a teacher and a student that nobody knows');
	$r->service->is_clean('loose ends');
}

done_testing;
