# Packages of changes as real exports send them: parts of a record alone, rows
# of schools that are not set up, whole files in between, and records that are
# held back, come back or belong to the application.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('faults');

# A sync that has read the district whole, and a folder of those files.
sub load
{
	my ($name, $d, %opt) = @_;
	my $s = SampleSync->new($node, $db, $name, district => $d,
		write => { layout => $opt{layout} // 'oneroster11' },
		schools => $opt{schools}, set => $opt{set} // {});

	$s->succeeds('first load');
	return ($s, whole($d, $opt{layout}));
}

sub whole
{
	my ($d, $layout) = @_;
	my $dir = $node->dir('whole');

	$d->write($dir, layout => $layout // 'oneroster11');
	return $dir;
}

# Puts a package: the lines of each file of changes; bulk => files that are
# whole, unnamed => those the manifest has no word on.
sub package_of
{
	my ($s, $whole, $files, %opt) = @_;
	my %mode;

	unlink glob $s->dir . '/*.csv';
	for my $file (keys %$files)
	{
		my ($header) = Delta::read_file("$whole/$file.csv");

		open my $out, '>:raw', $s->dir . "/$file.csv" or die "$file: $!";
		print $out "$_\n" for $header, @{ $files->{$file} };
		close $out or die "$file: $!";
		$mode{$file} = 'delta';
	}
	for my $file (@{ $opt{bulk} // [] })
	{
		system('cp', "$whole/$file.csv", $s->dir) == 0 or die 'cp';
		$mode{$file} = 'bulk';
	}
	Delta::write_manifest($whole, $s->dir, \%mode);
	for my $file (@{ $opt{unnamed} // [] })
	{
		system('sed', '-i', "/^file\\.$file,/d", $s->dir . '/manifest.csv') == 0
		  or die 'sed';
	}
	return;
}

sub line
{
	my ($whole, $file, $id) = @_;
	my (undef, $lines) = Delta::read_file("$whole/$file.csv");

	return $lines->{$id} // die "no $id in $file";
}

sub deleted
{
	return line(@_) =~ s/^("?[^",]*"?),[^,]*,/$1,tobedeleted,/r;
}

# A row with other values, by the names of its columns.
sub changed
{
	my ($whole, $file, $id, %values) = @_;
	my ($header) = Delta::read_file("$whole/$file.csv");
	my @names = split /,/, $header;
	my %place = map { $names[$_] => $_ } 0 .. $#names;

	return District::with(map { $place{$_} => $values{$_} } keys %values)
	  ->(line($whole, $file, $id));
}

sub live
{
	my ($s, $type, $where) = @_;

	return $s->value("SELECT count(*) FROM <roster>.$type WHERE sync_id = <id>"
		  . ' AND archived_at IS NULL AND ' . ($where // 'true'));
}

sub raise_threshold
{
	my ($s, $type) = @_;

	$node->run($db, "INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('$s->{name}', '$type', 100)");
	return;
}

# ----------
# Schools that are not set up
# ----------
for my $layout (qw(oneroster11 oneroster12))
{
	my $d = District->new(schools => 2, students => 200, sections => 20,
		staff => 10, enroll => 1);
	my ($a, $b) = $d->ids('school', 0, 2);
	my ($s) = load("other-$layout", $d, layout => $layout,
		schools => [ $d->get('school', $a)->{number} ]);
	my @sections = grep { $d->get('section', $_)->{school} eq $b } $d->ids('section');
	my @students = (grep { $d->get('student', $_)->{schools}[0] eq $b }
		$d->ids('student'))[ 0 .. 19 ];
	my @new = map { $d->enroll($sections[ $_ % 5 ], $students[$_], 'student') } 0 .. 19;
	my $w = whole($d, $layout);
	my %files = (users => [], enrollments => [ map { line($w, 'enrollments', $_) } @new ]);

	$files{roles} = [ map { line($w, 'roles', "$_-r0") } @students ]
	  if $layout eq 'oneroster12';
	package_of($s, $w, \%files);
	$s->run_succeeds('links and roles of another school');
	$s->counts_are('nothing is wrong with them',
		enrollment => { received => 20, out_of_scope => 20, rejected => 0, unchanged => 110, archived => 0 },
		student => { rejected => 0, unchanged => 100 });
}

# A school that is no longer set up: its records were not received.
{
	my $d = District->new(schools => 2, students => 200, sections => 10,
		staff => 10, enroll => 1);
	my @numbers = map { $d->get('school', $_)->{number} } $d->ids('school');
	my ($s, $w) = load('frozen', $d, schools => \@numbers);

	$node->run($db, "DELETE FROM sis_sync.sync_school WHERE sync = 'frozen' AND school_id = '$numbers[1]'");
	package_of($s, $w, { users => [] });
	$s->run_succeeds('a school less');
	$s->counts_are('a school less', student => { received => 0,
			out_of_scope => 0, frozen => 100, in_force => 100, archived => 0 });
}

# ----------
# Held back
# ----------

# Whole files find them gone, and the next package does not name them.
for my $way (qw(run steps))
{
	my $d = District->new(students => 500, sections => 10, staff => 10, enroll => 2);
	my ($s, $w) = load("bulk-$way", $d);
	my @gone = $d->ids('student', 0, 60);

	package_of($s, $w, { users => [ map { deleted($w, 'users', $_) } @gone[ 0 .. 54 ] ] });
	$s->run_ends_in('SI001', 'a package deletes 55');
	$d->remove('student', @gone);
	$s->write;
	if ($way eq 'run')
	{
		$s->run_ends_in('SI001', 'whole files lack 60');
	}
	else
	{
		my $run = $node->value($db, "SELECT sis_sync.stage('$s->{name}')");
		$node->run($db, "SELECT sis_sync.$_($run)") for qw(verify apply);
		$s->run_ends_in('SI001', 'whole files lack 60', "SELECT sis_sync.archive($run)");
	}
	package_of($s, $w, { users => [] });
	my $error = $s->run_ends_in('SI001', 'an empty package');
	like($error->{message} // '', qr/\b60 of 500\b/, 'the 60 are held again');
	raise_threshold($s, 'student');
	$s->run_succeeds('raised');
	$s->counts_are('they go', student => { archived => 60 });
	is($s->value("SELECT count(*) FROM sis_sync.pending_delete WHERE sync = '$s->{name}'"),
		0, 'nothing waits any more');
}

# They have moved to a school that is not set up, and then it is.
for my $layout (qw(oneroster11 oneroster12))
{
	my $d = District->new(schools => 2, students => 600, sections => 20,
		staff => 10, enroll => 0);
	my ($a, $b) = $d->ids('school', 0, 2);
	my ($s, $before) = load("moved-$layout", $d, layout => $layout,
		schools => [ $d->get('school', $a)->{number} ]);
	my @movers = (grep { $d->get('student', $_)->{schools}[0] eq $a }
		$d->ids('student'))[ 0 .. 59 ];
	my $left = qr/60 of 300 .*\(0 not in the feed, 60 now at a school that is not set up\)/;
	my %files = (users => []);
	my $error;

	$d->move([$b], @movers);
	my $w = whole($d, $layout);
	if ($layout eq 'oneroster11')
	{
		$files{users} = [ map { line($w, 'users', $_) } @movers ];
	}
	else
	{
		# by roles alone: one ends, one begins
		$files{roles} = [ map { deleted($before, 'roles', "$_-r0"),
				line($w, 'roles', "$_-r0") =~ s/^[^,]*/$_-new/r } @movers ];
	}
	package_of($s, $w, \%files);
	$error = $s->run_ends_in('SI001', '60 move');
	like($error->{detail} // '', $left, '60 move');
	$s->counts_are('60 are received', student => { received => 60, out_of_scope => 60 });
	for my $night (2, 3)
	{
		package_of($s, $w, { users => [], $files{roles} ? (roles => []) : () });
		$error = $s->run_ends_in('SI001', "night $night");
		like($error->{detail} // '', $left, "night $night: the same, and why");
	}
	$node->run($db, sprintf q{INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('%s', '%s')},
		$s->{name}, $d->get('school', $b)->{number});
	package_of($s, $w, { users => [], $files{roles} ? (roles => []) : () }, bulk => ['orgs']);
	raise_threshold($s, 'student');
	$s->run_succeeds('their school is set up');
	$s->counts_are('nobody goes', student => { archived => 0, to_archive => 0, updated => 60 });
	is(live($s, 'student', "school_source_id = '$b' AND school_source_ids = '{$b}'"),
		60, 'they are there');
}

# Roles end and begin again (1.2): the users' own rows have not changed.
{
	my $d = District->new(students => 500, sections => 10, staff => 10, enroll => 0);
	my ($s, $w) = load('roles', $d, layout => 'oneroster12');
	my @who = $d->ids('student', 0, 60);

	package_of($s, $w, { users => [], roles => [ map { deleted($w, 'roles', "$_-r0") } @who ] });
	$s->run_ends_in('SI001', 'roles of 60 end');
	package_of($s, $w, { users => [], roles => [ map { line($w, 'roles', "$_-r0") } @who ] });
	raise_threshold($s, 'student');
	$s->run_succeeds('and are back');
	is(live($s, 'student'), 500, 'nobody is archived');
	is($s->value("SELECT count(*) FROM sis_sync.pending_delete WHERE sync = 'roles'"),
		0, 'nobody waits');
}

# ----------
# The application's own
# ----------
{
	my $d = District->new(schools => 2, students => 60, sections => 10,
		staff => 10, enroll => 0);
	my ($a, $b) = $d->ids('school', 0, 2);
	my ($section) = grep { $d->get('section', $_)->{school} eq $a } $d->ids('section');
	my ($student) = grep { $d->get('student', $_)->{schools}[0] eq $b } $d->ids('student');
	my $link = $d->enroll($section, $student, 'student');
	my ($s, $w) = load('manual', $d, schools => [ $d->get('school', $a)->{number} ]);

	$s->do("UPDATE <roster>.school SET sis_managed = false WHERE sync_id = <id> AND source_id = '$a'");
	$s->do("UPDATE <roster>.enrollment SET sis_managed = false WHERE sync_id = <id> AND source_id = '$link'");
	$s->run_succeeds('whole files');
	is(live($s, 'student'), 31, 'one is in scope by an enrollment');
	package_of($s, $w, { users => [] });
	$s->run_succeeds('the school set up is the application\'s, so is an enrollment');
	is(live($s, 'student'), 31, 'he still is in scope');
	$s->counts_are('they are counted', school => { manual => 1 }, enrollment => { manual => 1 });
}

# ----------
# An end goes and returns
# ----------
{
	my $d = District->new(students => 100, sections => 4, staff => 4,
		contacts => 10, enroll => 2);
	my ($s, $w) = load('ends', $d);
	my @reason = ('SELECT DISTINCT archived_reason FROM <roster>.enrollment WHERE sync_id = <id> AND archived_at IS NOT NULL');

	$node->run($db, "UPDATE sis_sync.sync SET deletion_threshold = 30 WHERE name = 'ends'");
	package_of($s, $w, { classes => [ deleted($w, 'classes', 'sec-00001') ],
			users => [ deleted($w, 'users', 'stu-000001') ] });
	$s->run_succeeds('a section and a student go');
	is(live($s, 'enrollment'), 152, 'their enrollments with them');
	is($s->list($reason[0]), 'goes with its end', 'that is why');
	$s->counts_are('they are no loss', enrollment => { to_archive => 0, out_of_scope => 0 });
	package_of($s, $w, { classes => [ line($w, 'classes', 'sec-00001') ],
			users => [ line($w, 'users', 'stu-000001') ] });
	$s->run_succeeds('they return');
	is(live($s, 'enrollment'), 204, 'and so do the enrollments, which have not changed');
	is(live($s, 'student_contact'), 10, 'and the link of his contact');
	is(live($s, 'contact'), 10, 'and the contact');
	$s->counts_are('all is there', enrollment => { received => 0, restored => 52, unchanged => 152 });
}

# ----------
# Parts of a record alone
# ----------
for my $layout (qw(oneroster11 oneroster12))
{
	my $d = District->new(students => 100, sections => 4, staff => 4, enroll => 1);
	my ($s, $w) = load("birth-$layout", $d, layout => $layout,
		set => { include_demographics => 'true' });

	package_of($s, $w, { demographics => [ map { changed($w, 'demographics', $_, birthDate => '2012-12-12') }
				$d->ids('student', 0, 5) ] });
	$s->run_succeeds('birth dates');
	$s->counts_are('birth dates', student => { updated => 5, archived => 0, created => 0 });
	is(live($s, 'student', "birth_date = '2012-12-12'"), 5, 'birth dates are new');
	is(live($s, 'student', 'family_name IS NULL OR school_source_id IS NULL'), 0, 'nothing else is');
}

# ----------
# Rejects
# ----------

# What a changed user is (1.2) is not known where the row is judged.
{
	my $d = District->new(students => 1000, sections => 10, staff => 10, enroll => 1);
	my ($s, $w) = load('names', $d, layout => 'oneroster12');

	package_of($s, $w, { roles => [], users => [
				map { changed($w, 'users', $_, givenName => 'Renamed') } $d->ids('student', 10, 200) ],
			});
	open my $out, '>>:raw', $s->dir . '/users.csv' or die "users.csv: $!";
	print $out changed($w, 'users', $_, givenName => '', familyName => ''), "\n"
	  for $d->ids('student', 0, 8);
	close $out or die "users.csv: $!";
	$s->run_succeeds('eight users without a name');
	$s->counts_are('eight rejects', student => { rejected => 8, updated => 200 },
		staff => { rejected => 0 }, contact => { rejected => 0 });
}

# ----------
# What is no good package
# ----------
{
	my $d = District->new(students => 60, sections => 10, staff => 4,
		courses => 30, enroll => 1);
	my ($s, $w) = load('manifest', $d);

	package_of($s, $w, { users => [], courses => [ line($w, 'courses', 'crs-001') ] },
		unnamed => ['courses']);
	my $error = $s->run_ends_in('SI006', 'a file without a word in the manifest');
	like($error->{message} // '', qr/no word on "courses\.csv"/, 'it is named');
	is(live($s, 'course'), 30, 'its other records have not left');

	$s->do("DELETE FROM <roster>.$_ WHERE sync_id = <id>") for qw(enrollment student);
	package_of($s, $w, { users => [ line($w, 'users', 'stu-000003') ] });
	$s->run_ends_in('SI007', 'changes of a roster that is no longer there');
	is(live($s, 'student'), 0, 'no roster of one student');
}

# Files without a time of change are not of 1970.
{
	my $d = District->new(students => 20, sections => 2, staff => 2, enroll => 1);
	my ($s) = load('times', $d);

	$s->write(mtime => 0);
	$s->run_succeeds('no times');
	is($s->last_run->{source_as_of}, undef, 'nothing is said of their time');
}

done_testing();
