# The extension can be made, and a small district loads and loads again.
use FindBin;
use lib "$FindBin::Bin/../lib";
use SisTest;

my @types = qw(school term course section student staff contact student_contact enrollment);

my $node = SisTest->new->start;
my $db = $node->fresh_db('smoke');
my $dir = $node->dir('district');

is($node->value($db, q{SELECT extversion FROM pg_extension WHERE extname = 'sis_sync'}),
	'1.1', 'the extension is there');
is_deeply(
	$node->rows($db, q{SELECT tablename FROM pg_tables WHERE schemaname = 'roster' ORDER BY 1}),
	[ map { [$_] } sort @types ],
	'create_roster made a table for each record type');

my @generator = ($^X, SisTest::root() . '/test/district', '--layout', 'oneroster11',
	'--out', $dir, qw(--schools 2 --students 40 --staff 6 --sections 8 --contacts 30));
is(system(@generator), 0, 'a sample district');

$node->sync($db, 'springfield', $dir, all_schools => 'true');
for my $night (qw(first second))
{
	my (undef, $err, $code) = $node->try($db, q{CALL sis_sync.run('springfield')});
	is($code, 0, "the $night night succeeds") or diag($err);

	my $run = $node->last_run($db, 'springfield');
	is($run->{status}, 'succeeded', "the $night run says so");
	my $counts = $node->counts($db, $run->{id});
	for my $type (@types)
	{
		my $c = $counts->{$type} || {};
		my $same = $night eq 'first' ? 'created' : 'unchanged';
		my $rows = $node->value($db, "SELECT count(*) FROM roster.$type WHERE archived_at IS NULL");

		cmp_ok($c->{$same} || 0, '>', 0, "$night night: $type has $same records");
		is($c->{$same}, $c->{received}, "$night night: every $type is $same");
		is($rows, $c->{received}, "$night night: and stands in the roster");
	}
}
is($node->value($db, 'SELECT count(*) FROM roster.student'), 40, '40 students');

# What every start of this kind must refuse, whatever else there is.
my $error = $node->fails($db, q{CALL sis_sync.run('shelbyville')});
is($error->{sqlstate}, 'SI009', 'a sync that is not there: SI009');
is($error->{constraint}, 'sync_not_configured', 'and its condition name');
$error = $node->fails($db, q{DO $$ BEGIN CALL sis_sync.run('springfield'); EXCEPTION WHEN division_by_zero THEN END $$});
is($error->{sqlstate}, '25001', 'CALL where it cannot commit: 25001');
like($error->{hint}, qr/run_atomic/, 'the hint names run_atomic');

done_testing;
