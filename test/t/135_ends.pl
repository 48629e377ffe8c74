# Rules 1, 2 and 4 where they meet: links whose end is of two types, bad rows of
# a school that is not set up, and what was stored before the steps of a run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('ends');
my ($ROLE, $GIVEN, $FAMILY, $AGENTS) = (5, 8, 9, 15);
my $CLASS_SCHOOL = 9;

# ----------
# A student becomes staff: he is there, but no student any more, and what links
# students with their contacts goes with the student.
# ----------
my $s = SampleSync->new($node, $db, 'promoted',
	district => District->new(students => 50, contacts => 3, sections => 5,
		staff => 5, teachers => 0, enroll => 2));
my %names = ('users/con-000001' => District::with($AGENTS => 'stu-000001'));
$s->succeeds('first load', change => {%names});
$s->succeeds('a student becomes a teacher',
	change => { %names, 'users/stu-000001' => District::with($ROLE => 'teacher') });
$s->counts_are('a student becomes a teacher',
	student => { archived => 1, to_archive => 1 }, staff => { created => 1 },
	contact => { unchanged => 3, archived => 0 },
	enrollment => { unchanged => 100, archived => 0 },
	student_contact => { archived => 1, to_archive => 0, unchanged => 2,
		rejected => 1 });
is($s->list('SELECT source_id FROM <roster>.student_contact WHERE sync_id = <id>'
		  . ' AND archived_at IS NOT NULL'),
	'stu-000001/con-000001', 'his contact\'s link has gone with him');

# ----------
# Bad rows of a school that is set up no longer bring nobody of it back.
# ----------
my $d = District->new(schools => 2, students => 40, sections => 4, staff => 4,
	teachers => 0, enroll => 2);
$s = SampleSync->new($node, $db, 'frozen', district => $d,
	schools => [ '0101', '0102' ]);
$s->succeeds('two schools');
$s->do("DELETE FROM sis_sync.sync_school WHERE sync = 'frozen' AND school_id = '0102'");
$s->succeeds('one is set up no longer');
my $before = $s->digest;
$d->enroll('sec-00002', $d->add('student', schools => ['sch-002']));
$d->add('link', student => 'stu-000002', contact => $d->add('contact'));
my %bad = (
	'classes/sec-00002' => District::with($CLASS_SCHOOL => ''),
	'users/stu-000002' => District::with($GIVEN => '', $FAMILY => ''));
$s->succeeds('bad rows of its section and its student', change => \%bad);
$s->all_counts_are('bad rows of a frozen school: created', 'created');
$s->all_counts_are('bad rows of a frozen school: rejected', 'rejected',
	section => 1, student => 1);
$s->counts_are('bad rows of a frozen school: out of scope',
	enrollment => { out_of_scope => 41 }, contact => { out_of_scope => 1 },
	student_contact => { out_of_scope => 1 });
is($s->digest, $before, 'bad rows of a frozen school: nothing is touched');

# ----------
# run_atomic archives after it has updated, and judges as CALL run() does: by
# what was stored before.
# ----------
sub sections_of
{
	my ($name, $end, $tonight) = @_;
	my $district = District->new(students => 100, sections => 20, staff => 4,
		enroll => 2, term_end => District::today($end));
	my $other = $district->add('term', start => District::today(-90),
		end => District::today($tonight));
	my $sync = SampleSync->new($node, $db, $name, district => $district);

	$sync->succeeds('first load');
	$district->set('section', $_, terms => [$other]) for $district->ids('section');
	$district->drop('enrollment', $district->ids('enrollment', 0, 120));
	$sync->write;
	return $sync;
}

for my $way (qw(call atomic))
{
	my $sql = sub {
		my ($sync) = @_;

		return $way eq 'call' ? undef : "SELECT sis_sync.run_atomic('$sync->{name}')";
	};
	$s = sections_of("mistyped_$way", 60, -10);
	my $error = $s->run_ends_in('SI001',
		'all sections say that they have ended, and enrollments are missing',
		$sql->($s));
	like($error->{message}, qr/\b120 of 220\b.*\b22\b/, "$way: with its numbers");

	$s = sections_of("next_$way", -10, 60);
	is($s->call($sql->($s)), undef, "$way: sections that had ended have a new term");
	$s->counts_are("$way: sections that had ended", section => { in_force => 0, updated => 20 },
		enrollment => { in_force => 0, to_archive => 0, archived => 120 });
}

done_testing;
