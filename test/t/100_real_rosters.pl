# The two real rosters beside the tree: exact counts, and a second night that
# finds nothing to do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use SisTest;

my @TYPES = qw(school term course section student staff contact
  student_contact enrollment);

sub data
{
	my ($name) = @_;
	my $folder = $ENV{SIS_SHARED_DATA};

	return -d "$folder/$name" ? "$folder/$name" : undef if $folder;
	return SisTest::data($name);
}

# How many different values a few columns of a file have, together.
sub distinct
{
	my ($file, @columns) = @_;
	my (%seen, @header);

	open my $in, '<', $file or die "$file: $!";
	while (my $line = <$in>)
	{
		$line =~ s/\r?\n$//;
		my @values = split /,/, $line, -1;

		if (!@header)
		{
			@header = @values;
			next;
		}
		my %row;
		@row{@header} = @values;
		my $key = join "\0", @row{@columns};
		$seen{$key} = 1 if $key =~ /[^\0]/;
	}
	close $in;
	return scalar keys %seen;
}

my $oneroster = data('oneroster-district');
my $clever = data('clever-csv-two-schools');

plan skip_all => SisTest::NO_DATA unless $oneroster && $clever;

my $node = SisTest->new->start;
my $db = $node->fresh_db('real');
my %expected = (
	oneroster => {
		school => 8, term => 2, course => 91, section => 364, student => 778,
		staff => 59, contact => 0, student_contact => 0, enrollment => 5810
	},
	# 602 enrollments of students, and one for each teacher of a section
	clever => {
		school => 2,
		term => distinct("$clever/sections.csv", qw(Term_name Term_start Term_end)),
		course => distinct("$clever/sections.csv", 'Course_number'),
		section => 28, student => 86, staff => 12, contact => 0,
		student_contact => 0,
		enrollment => 602
		  + distinct("$clever/sections.csv", qw(Section_id Teacher_id))
		  + distinct("$clever/sections.csv", 'Teacher_2_id')
	});

is(distinct("$clever/sections.csv", 'Teacher_2_id'), 0,
	'the Clever set has no second teachers');

$node->sync($db, 'oneroster', $oneroster, all_schools => 'true',
	include_demographics => 'true');
$node->sync($db, 'clever', $clever, all_schools => 'true');

for my $sync (qw(oneroster clever))
{
	for my $night (1, 2)
	{
		$node->run($db, "CALL sis_sync.run('$sync')");

		my $run = $node->last_run($db, $sync);
		my $counts = $node->counts($db, $run->{id});
		my $changed = $night == 1 ? 'created' : 'unchanged';

		is($run->{status}, 'succeeded', "$sync, night $night: succeeded");
		for my $column (qw(received created updated unchanged restored archived
			rejected out_of_scope manual))
		{
			my %got = map { $_ => $counts->{$_}{$column} } @TYPES;
			my %want = map {
				$_ => $column eq 'received' || $column eq $changed
				  ? $expected{$sync}{$_} : 0
			} @TYPES;

			# The district itself, an org of the file, is no school of ours.
			if ($sync eq 'oneroster' && $column =~ /^(received|out_of_scope)$/)
			{
				delete $_->{school} for \%got, \%want;
			}
			is_deeply(\%got, \%want, "$sync, night $night: $column")
			  or diag(explain(\%got));
		}
	}
}

is($node->value($db, q{
	SELECT count(*) FROM roster.staff t JOIN sis_sync.sync s ON s.id = t.sync_id
	WHERE s.name = 'oneroster' AND 'teacher' = ANY (roles)}), 50,
	'oneroster: 50 teachers');
is($node->value($db, q{
	SELECT count(*) FROM roster.staff t JOIN sis_sync.sync s ON s.id = t.sync_id
	WHERE s.name = 'oneroster' AND 'administrator' = ANY (roles)}), 9,
	'oneroster: 9 administrators');
is($node->value($db, q{
	SELECT count(*) FROM roster.student t JOIN sis_sync.sync s ON s.id = t.sync_id
	WHERE s.name = 'oneroster' AND birth_date IS NOT NULL AND gender IS NOT NULL}),
	778, 'oneroster: every student has his demographics');
is_deeply($node->rows($db, q{
	SELECT DISTINCT school_year FROM roster.term t JOIN sis_sync.sync s
	ON s.id = t.sync_id WHERE s.name = 'oneroster'}), [ ['2026-2027'] ],
	'oneroster: the school year as it is written');
is_deeply($node->rows($db, q{
	SELECT role, count(*) FROM roster.enrollment t JOIN sis_sync.sync s
	ON s.id = t.sync_id WHERE s.name = 'clever' GROUP BY 1 ORDER BY 1}),
	[ [ 'student', 602 ], [ 'teacher', 28 ] ], 'clever: enrollments by role');
is_deeply($node->rows($db, q{
	SELECT birth_date, email FROM roster.student t JOIN sis_sync.sync s
	ON s.id = t.sync_id WHERE s.name = 'clever' AND source_id = '13001'}),
	[ [ '2000-04-02', undef ] ], 'clever: 4/2/2000, and no e-mail address');
is_deeply($node->rows($db, q{
	SELECT DISTINCT start_date, end_date FROM roster.term t JOIN sis_sync.sync s
	ON s.id = t.sync_id WHERE s.name = 'clever' AND t.name = 'SY1516'}),
	[ [ '2017-07-01', '2018-06-30' ] ], 'clever: the dates of a term');

done_testing;
