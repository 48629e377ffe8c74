# The fault matrix (test/lib/FaultTable.pm): whatever strikes wherever, the
# roster is as it was or all the night's, the log tells the truth, nothing is
# left over, and the next run does all.
#
# The seed is the date: a run that failed fails again the same day, and every
# day has other bytes and another order.  SIS_FAULT_SEED=... takes another;
# SIS_FAULT_ONLY=... only cases whose title matches; test/faults takes more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Fault;
use FaultTable;
use SisTest;

my $seed = $ENV{SIS_FAULT_SEED} // District::today() =~ s/-//gr;
my $wanted = $ENV{SIS_FAULT_CASES};
my $only = $ENV{SIS_FAULT_ONLY};

note("SIS_FAULT_SEED=$seed");
my $bed = Fault->new(seed => $seed);
my @all = FaultTable::cases($bed);
my @cases;

if (defined $wanted)
{
	push @cases, FaultTable::shuffled($bed, @all) while @cases < $wanted;
	splice @cases, $wanted;
}
else
{
	@cases = FaultTable::shuffled($bed, FaultTable::quick($bed, @all));
}
@cases = grep { $_->{title} =~ /$only/ } @cases if defined $only;
for my $case (@cases)
{
	my @problems = $bed->try_case($case);

	ok(!@problems, $case->{title})
	  or diag("SIS_FAULT_SEED=$seed", map { "\n  $_" } @problems);
}
cmp_ok(scalar @cases, '>=', $wanted // 150, scalar(@cases) . ' cases') if !defined $only;

done_testing;
