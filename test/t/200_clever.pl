# A district from Clever's Data API: what becomes of its records, nights,
# schools and the threshold.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleClever;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('clever');

sub district
{
	my $d = District->new(seed => 7, schools => 2, students => 60, staff => 8,
		sections => 16, contacts => 60, enroll => 3);

	$d->set('staff', $_, role => 'administrator', title => 'Principal')
	  for $d->add('staff', schools => ['sch-001']),
	  $d->add('staff', schools => ['sch-002']);
	$d->set('staff', 'stf-00001', schools => [ 'sch-001', 'sch-002' ]);
	$d->set('student', 'stu-000001', schools => [ 'sch-001', 'sch-002' ]);
	$d->enroll('sec-00001', 'stf-00003', 'teacher', primary => 'false');
	$d->add('link', student => 'stu-000001', contact => 'con-000002');
	return $d;
}

my %expected = (
	school => 2, term => 1, course => 8, section => 16, student => 60,
	staff => 10, contact => 60, student_contact => 61,
	enrollment => 60 * 3 + 16 + 1);

my $s = SampleClever->new($node, $db, 'springfield', district => district(),
	options => { page_size => 7 });
$s->run_succeeds('first load');
$s->all_counts_are('all nine types are filled', 'created', %expected);
$s->all_counts_are('without rejects', 'rejected');
$s->service->is_clean('first load');

done_testing;
