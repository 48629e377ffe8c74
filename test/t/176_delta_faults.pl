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

done_testing();
