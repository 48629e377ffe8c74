# How long a night takes does not hang on statistics: not on the first nights of
# a roster, nor on those of a new district in a roster that was analyzed
# without it.  No join looks at each pair of two large sets.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use SampleSync;
use SisTest;

my $STUDENTS = 1000;
my $node = SisTest->new(conf => {
		autovacuum => 'off',
		session_preload_libraries => 'auto_explain',
		'auto_explain.log_min_duration' => 0,
		'auto_explain.log_analyze' => 'on',
		'auto_explain.log_timing' => 'off',
		'auto_explain.log_nested_statements' => 'on' })->start;
my $db = $node->fresh_db('statistics');

# The pairs that were looked at and did not match, in the worst statement since
# the last call.
my $seen = 0;

sub is_linear
{
	my ($title) = @_;
	my $log = substr $node->log, $seen;
	my ($worst, $statement) = (0, '');

	$seen += length $log;
	for my $entry (split /^\d{4}-\d\d-\d\d /m, $log)
	{
		next if $entry !~ /plan:\n/;
		while ($entry =~ /Rows Removed by Join Filter: (\d+)/g)
		{
			($worst, $statement) = ($1, $entry) if $1 > $worst;
		}
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok($worst, '<=', 20 * $STUDENTS, "$title: no statement compares all with all")
	  or diag($statement);
	return;
}

sub nights
{
	my ($name, $seed) = @_;
	my $s = SampleSync->new($node, $db, $name,
		district => District->new(seed => $seed, students => $STUDENTS,
			sections => 40, staff => 40, contacts => 500, enroll => 3),
		set => { deletion_threshold => 100 });
	my $d = $s->{district};

	$s->succeeds('first load');
	is_linear("$name, first load");
	$d->set('student', $_, email => "$_\@changed.example.org") for $d->ids('student', 0, 200);
	$s->succeeds('some change');
	is_linear("$name, some change");
	$d->set('student', $_, email => "$_\@again.example.org") for $d->ids('student');
	$d->set('enrollment', $_, begin => District::today(-10)) for $d->ids('enrollment');
	$s->succeeds('all change');
	is_linear("$name, all change");
	my $whole = $d->copy;

	$d->remove('student', $d->ids('student', 0, 500));
	$s->succeeds('half leave');
	is_linear("$name, half leave");
	$node->run($db, 'CALL sis_sync.undo(' . $s->last_run->{id} . ')');
	is_linear("$name, undo");
	$s->{district} = $whole;
	$s->succeeds('they return');
	is_linear("$name, they return");

	# changes only
	my %dir = map { $_ => $node->dir($_) } qw(old new);

	$whole->write($dir{old});
	$whole->set('student', $_, email => "$_\@delta.example.org") for $whole->ids('student');
	$whole->write($dir{new});
	Delta::write($dir{old}, $dir{new}, $s->dir);
	$s->run_succeeds('a package of changes');
	is_linear("$name, a package of changes");
	return;
}

nights('first', 1);
$node->run($db, 'ANALYZE');
nights('second', 2);

done_testing;
