# README's ten lines, for Clever: only the lines of CREATE SERVER and of the
# user mapping are others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Service;
use SisTest;

my $node = SisTest->new->start;
my $token = 'a-token-of-the-district';
my $district = District->new(seed => 11, students => 30, contacts => 10);
my $dir = $node->dir('upload');

$district->add('school', id => '4012', number => '4012', name => 'Lincoln High');
$district->set('student', $_, schools => ['4012']) for $district->ids('student');
$district->set('section', $_, school => '4012') for $district->ids('section');
$district->write($dir, layout => 'clever');

my $service = Service->new($node, 'clever', data => $dir, tokens => [$token]);
my $readme = do { local $/; open my $fh, '<:encoding(UTF-8)', SisTest::root() . '/README.md' or die $!; <$fh> };
my ($ten) = $readme =~ /^## A district in ten lines\n+```sql\n(.*?)^```/ms;
my ($clever) = $readme =~ /^```sql\n(CREATE SERVER springfield FOREIGN DATA WRAPPER sis_clever.*?)^```/ms;

ok($ten && $clever, 'README has both');
$clever =~ s/\(token '…'\)/(token '$token')/ or die 'no token to put in';
$clever =~ s/WRAPPER sis_clever/"WRAPPER sis_clever OPTIONS (base_url '" . $service->url . "', ca_file '" . $service->ca_file . "')"/e;
$ten =~ s/^CREATE SERVER.*?;\n/$clever/ms or die 'no server to replace';
$ten =~ s/^SELECT cron.*\n//m or die 'no job';    # 010_cron.pl has it
$node->run('postgres', 'CREATE DATABASE readme');
$node->run('readme', $ten);
is($node->value('readme', 'SELECT status FROM sis_sync.run ORDER BY id DESC LIMIT 1'), 'succeeded', 'it runs');
is($node->value('readme', 'SELECT count(*) FROM roster.student WHERE archived_at IS NULL'), 30, 'and fills the roster');
is($node->value('readme', "SELECT app_school FROM roster.school WHERE sis_id = '4012'"), 'lincoln-high', 'of the school set up');
$service->is_clean('README');

done_testing;
