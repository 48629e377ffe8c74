# 210_oneroster.pl
#	A district over OneRoster REST, 1.1 and 1.2, over real TLS: whole syncs, and
#	the ways in which services page.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use OneRosterSync;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('oneroster');

my %expected = (
	school => 2, term => 1, course => 8, section => 16, student => 60,
	staff => 8, contact => 60, student_contact => 61,
	enrollment => 60 * 3 + 16 + 1);
my ($student) = grep { $_->{id} eq 'stu-000003' } @{ District->with_repeats->{student} };
utf8::decode($student->{$_}) for qw(given middle family);

# ----------
# Nights, in each version and each way of signing in
# ----------

my @ways = (
	[ '1.1', 'oauth1', {}, {} ],
	[ '1.1', 'oauth1', { auth => { oauth1 => { %{ $OneRosterSync::AUTH{oauth1}{oauth1} },
					methods => ['HMAC-SHA1'] } } }, { signature_method => 'HMAC-SHA1' } ],
	[ '1.1', 'oauth2', {}, {} ],
	[ '1.2', 'oauth1', {}, {} ],
	[ '1.2', 'oauth2', {}, {} ],
	[ '1.2', 'bearer', {}, {} ]);

for my $i (0 .. $#ways)
{
	my ($version, $way, $service, $server) = @{ $ways[$i] };
	my $s = OneRosterSync->new($node, $db, "night $i $version $way",
		version => $version, way => $way, district => District->with_repeats,
		service => $service, server => { page_size => 25, %$server },
		set => { include_demographics => 'true', deletion_threshold => 10,
			extra_columns => q('{dateLastModified,status,password,metadata.note,username}') });
	my $d = $s->district;

	$s->succeeds('first load');
	$s->all_counts_are('all nine types are filled', 'created', %expected);
	$s->all_counts_are('without rejects', 'rejected');
	is($s->last_run->{district_id}, $d->{district}{id}, "$s->{name}: the district's ID");
	is_deeply($s->rows('SELECT given_name, middle_name, family_name, birth_date, username'
			  . " FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000003'"),
		[ [ @$student{qw(given middle family birth username)} ] ], "$s->{name}: a student");
	is_deeply($s->rows("SELECT school_source_id, school_source_ids FROM <roster>.student"
			  . " WHERE sync_id = <id> AND source_id = 'stu-000001'"),
		[ [ 'sch-001', '{sch-001,sch-002}' ] ], "$s->{name}: at two schools");
	is($s->list("SELECT person_source_id FROM <roster>.enrollment WHERE sync_id = <id>"
			  . " AND role = 'teacher' AND is_primary AND section_source_id = 'sec-00001'"),
		'stf-00001', "$s->{name}: one primary teacher");
	is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
			  . " AND extra::text <> format('{\"username\": \"%s\"}', username)"),
		0, "$s->{name}: of what is named for extra, what may be kept is");

	$s->run_succeeds('the same again');
	$s->all_counts_are("nothing is $_", $_) for qw(created updated archived);

	$d->remove('student', 'stu-000010', 'stu-000011');
	$d->set('student', 'stu-000012', email => 'new@district.example');
	$d->add('student', schools => ['sch-001']);
	$d->remove('staff', 'stf-00008');
	$s->succeeds('a normal night');
	$s->counts_are('what changed', student => { created => 1, updated => 1, archived => 2 },
		staff => { archived => 1 }, school => { archived => 0 });

	my $digest = $s->digest;
	$d->remove('student', map { sprintf 'stu-%06d', $_ } 20 .. 30);
	my $error = $s->ends_in('SI001', 'eleven leave');
	is($error->{constraint}, 'deletion_threshold_reached', "$s->{name}: Threshold");
	is($s->digest, $digest, "$s->{name}: nothing was archived");
	$s->service->is_clean($s->{name});
}

# Users as tombstones, in both versions
for my $version ('1.1', '1.2')
{
	my $s = OneRosterSync->new($node, $db, "tombstones $version", version => $version,
		district => District->with_repeats, set => { deletion_threshold => 50 });

	$s->succeeds('first load');
	$s->district->set('student', 'stu-000005', status => 'tobedeleted');
	$s->district->set('staff', 'stf-00005', status => 'tobedeleted');
	$s->succeeds('two are to be deleted');
	$s->counts_are('they are archived', student => { archived => 1 }, staff => { archived => 1 });
	$s->service->is_clean($s->{name});
}

# ----------
# Schools
# ----------

{
	my $s = OneRosterSync->new($node, $db, 'schools', district => District->with_repeats,
		schools => [ District->new(seed => 7, schools => 2)->{school}[0]{number} ]);
	$s->succeeds('one school is set up');
	is($s->active->{school}, 1, 'one school');
	ok($s->active->{student} < 60, 'and its students');
	my $digest = $s->digest;
	$s->do("UPDATE sis_sync.sync_school SET school_id = '99999' WHERE sync = 'schools'");
	is($s->run_ends_in('SI003', 'a school that is not there')->{constraint},
		'schools_not_found', 'the reason has its name');
	is($s->digest, $digest, 'nothing changed');
	$s->service->is_clean('schools');
}

# ----------
# The ways of paging
# ----------

my %ways = (
	'totals' => {},
	'totals, another name in case' => { count_header => 'x-total-count' },
	'no totals' => { totals => \0 },
	'no totals, links' => { totals => \0, links => 'good' },
	'no totals, a next link always' => { totals => \0, links => 'always' },
	'totals, a next link always' => { links => 'always' },
	'a lowered limit' => { clamp => 7 },
	'a lowered limit, no totals' => { clamp => 7, totals => \0 },
	'a revision' => { perm_rev => 'r-17' },
	'an order of its own' => { order => 'backwards' },
	'an order of its own, no totals' => { order => 'backwards', totals => \0 },
	'uncompressed' => { plain => \1 },
	'plain HTTP' => { tls => 0 },
	'references as plain IDs' => { flat => \1 },
	'roles as in both versions' => { both => \1 });

for my $way (sort keys %ways)
{
	my $s = OneRosterSync->new($node, $db, $way, district => District->with_repeats,
		service => $ways{$way}, server => { page_size => 20 });

	$s->succeeds('first load');
	$s->all_counts_are('all nine types are filled', 'created', %expected);
	$s->all_counts_are('without rejects', 'rejected');
	if ($ways{$way}{clamp})
	{
		like($s->last_run->{note}, qr/sends 7 rows a page where page_size asks for 20/,
			"$way: the run says so");
	}
	else
	{
		is($s->last_run->{note}, undef, "$way: no note");
	}
	$s->service->is_clean($way);
}

# Pages of one row, of two, of all
for my $size (1, 2, 60, 61, 10000)
{
	my $s = OneRosterSync->new($node, $db, "pages of $size",
		district => District->new(seed => 3, schools => 1, students => 20, staff => 2,
			sections => 3, contacts => 5, enroll => 1),
		server => { page_size => $size });

	$s->succeeds('first load');
	is($s->active->{student}, 20, "pages of $size: all students");
	is($s->active->{enrollment}, 23, "pages of $size: all enrollments");
	$s->service->is_clean("pages of $size");
}

# A total that says how many rows the page has
{
	my $s = OneRosterSync->new($node, $db, 'a total of the page', district => District->with_repeats,
		server => { page_size => 20 }, service => { faults => [
			{ id => 'page', on => 'users', at => 'first', kind => 'total', by => 20 - 128, times => 99 } ] });
	$s->run_ends_in('SI007', 'more rows than the total says');
	cmp_ok($s->service->fired('page'), '>', 0, 'the total was wrong');
}

# Side by side: never more connections than are allowed, and not fewer
{
	my $s = OneRosterSync->new($node, $db, 'connections', district => District->with_repeats,
		service => { latency => 100 }, server => { page_size => 10, max_connections => 3 });
	$s->succeeds('first load');
	my $most = 0;
	for my $request ($s->service->requests)
	{
		$most = $request->{busy} if $request->{busy} > $most;
	}
	is($most, 3, 'three requests at once');
}

# ----------
# What a service does not offer
# ----------

{
	my $s = OneRosterSync->new($node, $db, 'absent', district => District->with_repeats,
		set => { include_demographics => 'true' },
		service => { absent => [ 'demographics', 'courses', 'academicSessions' ] });
	$s->succeeds('no demographics, courses and sessions');
	is($s->active->{student}, 60, 'students came');
	is($s->active->{course}, 0, 'courses did not');
	$s->service->change(absent => []);
	$s->run_succeeds('now they are there');
	is($s->active->{course}, 8, 'courses came');
	$s->service->change(absent => [ 'enrollments', 'courses', 'demographics' ]);
	$s->run_succeeds('enrollments are no longer offered');
	$s->counts_are('they are left alone', enrollment => { archived => 0 }, course => { archived => 0 });
	is($s->active->{enrollment}, $expected{enrollment}, 'all are there');
	is($s->value('SELECT count(birth_date) FROM <roster>.student WHERE sync_id = <id>'),
		60, 'birth dates stay');

	my $digest = $s->digest;
	for my $required (qw(orgs users))
	{
		$s->service->change(absent => [$required]);
		like($s->run_ends_in('SI004', "no $required")->{hint}, qr/"base_url"/, 'a hint');
		is($s->digest, $digest, "no $required: nothing changed");
	}
	$s->service->is_clean('absent');
}

# Who may no longer see who belongs to whom
{
	my $s = OneRosterSync->new($node, $db, 'agents', district => District->with_repeats);
	$s->succeeds('first load');
	$s->service->change(no_agents => \1);
	$s->run_ends_in('SI007', 'users have no word on agents');
	is($s->active->{student_contact}, $expected{student_contact}, 'no link has gone');
	$s->service->is_clean('agents');
}

# ----------
# Which version it is
# ----------

for my $version ('1.1', '1.2')
{
	for my $root ('', '/', '/ims/oneroster')
	{
		my $name = "probe $version " . ($root =~ s{/}{-}gr);
		my $s = OneRosterSync->new($node, $db, $name, version => $version,
			district => District->with_repeats, service => { probes => \1 });
		$s->alter(server => base_url => $s->service->url($root));
		$s->succeeds('finds the version');
		$s->all_counts_are('all nine types are filled', 'created', %expected);
		$s->service->is_clean($name);
		$s->alter(server => version => $version);
		$s->run_succeeds('knows the version');
		ok(!grep({ $_->{status} != 200 } $s->service->requests), "$name: and asks no more");
		$s->service->is_clean($name);
	}
}
{
	my $s = OneRosterSync->new($node, $db, 'no service', district => District->with_repeats,
		service => { probes => \1, base => '/elsewhere' });
	$s->alter(server => base_url => $s->service->url('/'));
	like($s->run_ends_in('SI004', 'neither version')->{message},
		qr/could not find a OneRoster service at "127\.0\.0\.1:\d+"/, 'says where');
}

# Nothing that nobody asked for reached the tables: no password, no address
is($node->value($db, 'SELECT count(*) FROM roster.student t WHERE t::text ~ $$pa55word|hush-|elsewhere$$'),
	0, 'no password in the roster');
is($node->value($db, "SELECT count(*) FROM sis_sync.$_ t WHERE t::text ~ 'pa55word|hush-|cr3dential|elsewhere'"),
	0, "nor in $_")
  for qw(stage_student stage_staff stage_contact reject change run);
unlike($node->log, qr/pa55word|s3cr|b34r3r-t0k3n|cr3dential/, 'nor in the log, nor a secret')
  if $node->log !~ /USER MAPPING/;

done_testing;
