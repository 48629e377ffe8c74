# Random nights against the rules in plain Python (test/model).
#
# The seed is the date: a run that failed fails again the same day without a
# word more, and every day brings other nights.  What differs is printed whole,
# as files and SQL.  SIS_MODEL_SEED=... takes another seed; test/model/run takes
# more nights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use IPC::Run ();
use SisTest;

my $NIGHTS = 300;

my $node = SisTest->new->start;
my $db = $node->fresh_db('model');
my ($bin) = $node->program('') =~ m{^(.*)/$};
my $out = '';

local $ENV{PATH} = "$bin:$ENV{PATH}";
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = $db;
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
my $good = IPC::Run::run(
	[ 'python3', SisTest::root() . '/test/model/check.py', '--nights', $NIGHTS,
		'--seed', $ENV{SIS_MODEL_SEED} // District::today() ],
	'<', \undef, '>', \$out, '2>&1', IPC::Run::timeout(600));

ok($good, "$NIGHTS nights are as the rules say");
$good ? note($out) : diag($out);

done_testing;
