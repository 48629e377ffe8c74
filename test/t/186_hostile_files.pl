# What somebody can put into the folder: however much there is of it, a run
# needs little memory and can be cancelled, and what it leaves can be read.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;
use Time::HiRes qw(time);

# few buffers, so that a backend's memory is its own
my $node = SisTest->new(conf => { shared_buffers => '8MB' })->start;
my $db = $node->fresh_db('hostile');

sub district { return District->new(schools => 2, students => 40, sections => 8, @_); }

sub append
{
	my ($file, $n, $line) = @_;

	open my $out, '>>', $file or die "$file: $!";
	print $out $line->($_) for 1 .. $n;
	close $out or die "$file: $!";
	return;
}

# Runs it in a session of its own: the error, and megabytes at most.
sub memory_of
{
	my ($s) = @_;
	my $session = $node->session($db);
	my $result = $session->query($s->call_sql);
	my ($kb) = do { local (@ARGV, $/) = '/proc/' . $session->pid . '/status'; <> } =~ /VmHWM:\s+(\d+)/;

	$session->close;
	return ($result->{error}, $kb / 1024);
}

# ----------
# Any number of rows with one ID
# ----------
my $s = SampleSync->new($node, $db, 'term',
	district => District->new(schools => 2, students => 50, sections => 2500),
	write => { layout => 'clever' });
$s->succeeds('a term that 2,500 sections name');
$s->counts_are('and nothing is rejected', term => { received => 1, rejected => 0 },
	course => { rejected => 0 }, section => { created => 2500 });

$s = SampleSync->new($node, $db, 'same', district => district());
$s->succeeds('first load');
$s->write;
append($s->dir . '/courses.csv', 300_000, sub {
	return "same,active,,,Title $_[0]" . 'x' x 200 . ",C1,,,,\n" });
my ($error, $mb) = memory_of($s);
is($error->{sqlstate}, 'SI010', '300,000 rows with one ID: too many rejects');
# a sanitizer keeps what was freed for a while
my $more = $ENV{ASAN_OPTIONS} ? 1000 : 0;
cmp_ok($mb, '<', 70 + $more, "300,000 rows with one ID: $mb MB");

# one person with a thousand roles, at schools of long names
my $d = district();
$s = SampleSync->new($node, $db, 'roles', district => $d, write => { layout => 'oneroster12' });
$s->write;
append($s->dir . '/roles.csv', 990, sub {
	return "role$_[0],,,${\ $d->ids('student', 0, 1)},secondary,student,,,$_[0]" . 'o' x 1900 . ",\n" });
($error, $mb) = memory_of($s);
ok(!$error, 'a person with a thousand roles') or diag($error->{text});
cmp_ok($mb, '<', 100 + $more, "a person with a thousand roles: $mb MB");

# ----------
# Any number of files
# ----------
$s = SampleSync->new($node, $db, 'many', district => district());
$s->succeeds('first load');
append($s->dir . sprintf('/%0200d.csv', $_), 0, undef) for 1 .. 10_000;
my $session = $node->session($db);
my $start = time;
$session->send($s->call_sql);
select(undef, undef, undef, 0.5);
$node->value($db, 'SELECT pg_cancel_backend(' . $session->pid . ')');
my $result = $session->wait(60);
cmp_ok(time - $start, '<', 3, '10,000 files: known at once, or cancelled');
$session->close;
$error = $s->run_ends_in('SI006', 'too many files');
like($error->{message}, qr/too many CSV files/, 'too many files: says so');
unlink glob $s->dir . '/0*.csv';

append($s->dir . '/manifest.csv', 5000, sub { return "file.file$_[0],bulk\n" });
$error = $s->run_ends_in('SI006', 'a manifest of 5,000 files');
like($error->{message}, qr/"manifest.csv" names too many files/, 'a manifest of 5,000 files: says so');

# ----------
# A file from the future
# ----------
$s = SampleSync->new($node, $db, 'future', district => district());
$s->write;
utime 7_000_000_000, 7_000_000_000, $s->dir . '/users.csv' or die $!;
$s->run_succeeds('a file of the year 2191');
is($s->value("SELECT source_as_of <= now() FROM sis_sync.sync_state WHERE sync = 'future'"),
	't', 'future: the source is as of now at the latest');
$s->succeeds('and the next night');

done_testing;
