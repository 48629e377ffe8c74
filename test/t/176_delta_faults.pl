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
