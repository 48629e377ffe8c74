# The generator of sample districts: the same bytes from the same seed, the
# numbers asked for, and rows that refer to each other.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use File::Temp ();
use Test::More;

my $dir = File::Temp::tempdir(CLEANUP => 1);
my $program = "$FindBin::Bin/../district";

sub slurp
{
	my ($file) = @_;

	open my $in, '<:raw', $file or die "$file: $!";
	local $/;
	return scalar <$in>;
}

sub run_district
{
	my ($to, @options) = @_;

	is(system($^X, $program, '--out', "$dir/$to", @options), 0,
		"district @options");
	return join '', map { slurp($_) } sort glob "$dir/$to/*.csv";
}

sub lines
{
	my ($file) = @_;

	return slurp("$dir/$file") =~ tr/\n//;
}

my @size = qw(--schools 3 --students 90 --staff 9 --sections 12 --contacts 45
  --enroll 2);
for my $layout (qw(oneroster11 oneroster12 clever))
{
	my @options = ('--layout', $layout, @size);
	my $bytes = run_district("$layout-a", @options);

	is(run_district("$layout-b", @options), $bytes, "$layout: the same bytes");
	isnt(run_district("$layout-c", @options, '--seed', 2),
		$bytes, "$layout: another seed, another district");
	isnt(run_district("$layout-c", @options, '--change', 1),
		$bytes, "$layout: another night");
}
is(lines('oneroster11-a/users.csv'), 1 + 90 + 9 + 45, 'users');
is(lines('oneroster11-a/enrollments.csv'), 1 + 180 + 12, 'enrollments');
is(lines('oneroster11-a/demographics.csv'), 1 + 90, 'demographics');
is(lines('oneroster12-a/roles.csv'), 1 + 90 + 9 + 45, 'roles');
is(lines('clever-a/students.csv'), 1 + 90, 'Clever students');
is(lines('clever-a/enrollments.csv'), 1 + 180, 'Clever enrollments');

run_district('night', @size, qw(--leave 10 --change 5 --new 3));
is(lines('night/demographics.csv'), 1 + 83, '10 left and 3 joined');
is(() = slurp("$dir/night/users.csv") =~ /\@new\.example\.org/g, 5, '5 changed');

run_district('stream', @size, qw(--enrollments 1000));
my %pairs;
for (split /\n/, slurp("$dir/stream/enrollments.csv"))
{
	my @values = split /,/, $_, -1;
	$pairs{"$values[3] $values[5]"}++;
}
is(scalar keys %pairs, 1001, 'streamed: no pair twice, and a header');

# Every row can be found by the line that write() returns.
my $d = District->new(students => 20, staff => 4, sections => 4, contacts => 5);
$d->set('section', 'sec-00002', name => "two\nlines");
my $at = $d->write("$dir/lines", bom => 1, eol => "\r\n");
my @text = split /\n/, slurp("$dir/lines/classes.csv"), -1;
like($text[ $at->{classes}{$_} - 1 ], qr/^$_,/, "the line of $_")
  for $d->ids('section');
is_deeply([ map { scalar grep { defined } @{ $at->{users} }{ $d->ids($_) } }
		  qw(student staff contact) ], [ 20, 4, 5 ], 'the line of every user');

# Changes between nights
my $copy = $d->copy;
$d->remove('student', 'stu-000001', 'stu-000002');
is($d->count('student'), 18, 'two students removed');
is((grep { $_->{person} =~ /^stu-00000[12]$/ } @{ $d->{enrollment} }), 0,
	'with their enrollments');
is($d->count('contact'), 3, 'and their contacts');
is($copy->count('student'), 20, 'a copy is not touched');
my @old = $copy->ids('enrollment');
$copy->renumber_enrollments;
my %old = map { $_ => 1 } @old;
is((grep { $old{$_} } $copy->ids('enrollment')), 0, 'renumbered');
my $new = $copy->replace_sections($copy->add('term'));
is(scalar keys %$new, 4, 'four sections are replaced');
is((grep { $new->{ $_->{section} } } @{ $copy->{enrollment} }), 0,
	'no enrollment is in an old one');

# A change of a row keeps the rest of it.
my $line = 'a,"b, ""c""",,d';
is(District::with(3 => 'x,y')->($line), 'a,"b, ""c""",,"x,y"', 'with');
is(District::with()->($line), $line, 'without');

isnt(system("$^X $program --layout other --out $dir/x >/dev/null 2>&1"),
	0, 'a layout that is not there');
like(scalar `$^X $program --help`, qr/^usage: /, 'usage');

done_testing;
