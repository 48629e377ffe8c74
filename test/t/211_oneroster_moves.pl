# 211_oneroster_moves.pl
#	A district that moves from OneRoster files to its REST service finds the
#	records it had.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use OneRosterSync;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('moves');

sub district
{
	my $d = District->with_repeats;

	$d->set('staff', $_, role => 'administrator', title => 'Principal')
	  for $d->add('staff', schools => ['sch-001']), $d->add('staff', schools => []);
	$d->set('student', 'stu-000001', schools => [ 'sch-002', 'sch-001' ]);
	$d->set('student', 'stu-000002', preferred_given => 'Bo', preferred_family => 'Bee');
	$d->set('student', 'stu-000003', enabled => 'false', phone => '555 0100');
	return $d;
}

for my $version ('1.1', '1.2')
{
	for my $flat (0, 1)
	{
		my $s = OneRosterSync->new($node, $db, "moves $version $flat",
			version => $version, district => district(),
			service => { flat => $flat ? \1 : \0 }, server => { page_size => 20 },
			set => { include_demographics => 'true' });
		my $rest = $s->{name};
		my $before;

		# the files first
		$node->run($db, qq{CREATE SERVER "files $rest" FOREIGN DATA WRAPPER sis_directory}
			  . " OPTIONS (path '" . $s->dir . "')");
		$s->do("UPDATE sis_sync.sync SET server = 'files $rest' WHERE id = <id>");
		$s->succeeds('the last night with files');
		$before = $s->active;
		$s->do("UPDATE sis_sync.sync SET server = '$rest' WHERE id = <id>");
		$s->run_succeeds('the first night over REST');
		$s->all_counts_are("nothing is $_", $_)
		  for qw(created updated archived restored rejected);
		is_deeply($s->active, $before, "$rest: the same records");
		is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
				  . ' AND birth_date IS NOT NULL'), 60, "$rest: birth dates");

		# and back
		$s->do("UPDATE sis_sync.sync SET server = 'files $rest' WHERE id = <id>");
		$s->run_succeeds('a night with files again');
		$s->all_counts_are("nothing is $_", $_) for qw(created updated archived);
		is(scalar grep({ ($_->{status} // 0) == 200 } $s->service->requests) > 20, 1,
			"$rest: page by page");
		$s->service->is_clean($rest);
	}
}

# Who wants demographics no more loses those that are stored.
my $s = OneRosterSync->new($node, $db, 'demographics', district => district(),
	set => { include_demographics => 'true' });
$s->succeeds('first load');
is($s->value('SELECT count(birth_date) FROM <roster>.student WHERE sync_id = <id>'),
	60, 'birth dates came');
$s->service->is_clean('with demographics');
$s->do('UPDATE sis_sync.sync SET include_demographics = false WHERE id = <id>');
$s->run_succeeds('without demographics');
is($s->value('SELECT count(birth_date) + count(gender) FROM <roster>.student WHERE sync_id = <id>'),
	0, 'and have gone');
my @paths = map { $_->{path} } $s->service->requests;
ok(@paths > 5 && !grep({ /demographics/ } @paths), 'they were not asked for');
$s->service->is_clean('without demographics');

# README's ten lines, with the server and the mapping for OneRoster
{
	my $d = District->new(seed => 11, students => 30, contacts => 10);
	my $readme = do { local $/; open my $fh, '<:encoding(UTF-8)', SisTest::root() . '/README.md' or die $!; <$fh> };
	my ($ten) = $readme =~ /^## A district in ten lines\n+```sql\n(.*?)^```/ms;
	my ($oneroster) = $readme =~ /^```sql\n(CREATE SERVER springfield FOREIGN DATA WRAPPER sis_oneroster.*?)^```/ms;
	my $dir = $node->dir('readme');
	my $base = '/ims/oneroster/v1p1';

	$d->add('school', id => 'lincoln', number => '4012', name => 'Lincoln High');
	$d->set('student', $_, schools => ['lincoln']) for $d->ids('student');
	$d->set('section', $_, school => 'lincoln') for $d->ids('section');
	$d->write($dir, layout => 'oneroster11');
	my $service = Service->new($node, 'oneroster', data => $dir, version => '1.1', base => $base,
		auth => $OneRosterSync::AUTH{oauth1});

	ok($ten && $oneroster, 'README has both');
	$oneroster =~ s/'https:[^']*'/"'" . $service->url($base) . "', ca_file '" . $service->ca_file . "'"/e or die;
	$oneroster =~ s/client_id '…', client_secret '…'/client_id 'key\/1 +%', client_secret 's3cr&t\/+ key'/ or die;
	$ten =~ s/^CREATE SERVER.*?;\n/$oneroster/ms or die;
	$ten =~ s/^SELECT cron.*\n//m or die;
	$node->run('postgres', 'CREATE DATABASE readme');
	$node->run('readme', $ten);
	is($node->value('readme', 'SELECT status FROM sis_sync.run ORDER BY id DESC LIMIT 1'), 'succeeded', 'it runs');
	is($node->value('readme', 'SELECT count(*) FROM roster.student WHERE archived_at IS NULL'), 30, 'and fills the roster');
	$service->is_clean('README');
}

done_testing;
