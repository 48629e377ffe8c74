# 210_oneroster.pl
#	A district over OneRoster REST, 1.1 and 1.2: whole syncs, over real TLS.
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

sub district
{
	my $d = District->new(seed => 7, schools => 2, students => 60, staff => 8,
		sections => 16, contacts => 60, enroll => 3);

	$d->set('staff', 'stf-00001', schools => [ 'sch-001', 'sch-002' ]);
	$d->set('student', 'stu-000001', schools => [ 'sch-001', 'sch-002' ]);
	$d->enroll('sec-00001', 'stf-00003', 'teacher', primary => 'false');
	$d->add('link', student => 'stu-000001', contact => 'con-000002');
	return $d;
}

my %expected = (
	school => 2, term => 1, course => 8, section => 16, student => 60,
	staff => 8, contact => 60, student_contact => 61,
	enrollment => 60 * 3 + 16 + 1);

for my $version ('1.1', '1.2')
{
	my $s = OneRosterSync->new($node, $db, "rest $version", version => $version,
		district => district(), server => { page_size => 20 },
		set => { include_demographics => 'true' });

	$s->succeeds('first load');
	$s->all_counts_are('all nine types are filled', 'created', %expected);
	$s->all_counts_are('without rejects', 'rejected');
	$s->service->is_clean($version);
	diag(explain($s->last_run));
}
done_testing;
