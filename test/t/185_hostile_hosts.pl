# sis_sftp against a host that means no good, or has broken down: whatever it
# does, the backend can be cancelled, and gives up in time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SisTest;
use Sshd;
use Time::HiRes qw(time);

my $node = SisTest->new->start;
my $db = $node->fresh_db('hostile');
my $files = $node->dir('files');
my $keys = $node->dir('keys');
my $key = Sshd::key($keys, 'user', 'ed25519');

District->new(schools => 1, students => 20, sections => 4)
  ->write($files, layout => 'oneroster11');

# A sync of that name over a host with that habit (test/lib/bad_sftp.pl).
sub sample
{
	my ($name, $habit, %option) = @_;
	my $sshd = Sshd->new($node->dir($name), subsystem =>
		  $habit && "$^X $SisTest::ROOT/test/lib/bad_sftp.pl $habit");
	my %secret = (username => $sshd->user, private_key => $key->{private});

	$sshd->authorize($key);
	$sshd->start;
	$secret{$_} = delete $option{$_} for grep { exists $option{$_} }
	  qw(private_key passphrase);
	%option = (host => '127.0.0.1', port => $sshd->port, path => $files,
		host_key_sha256 => $sshd->fingerprint('ed25519'), %option);
	$node->run($db, "CREATE SERVER $name FOREIGN DATA WRAPPER sis_sftp OPTIONS ("
		  . join(', ', map { "$_ '$option{$_}'" } keys %option) . ')');
	$node->run($db, "CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ("
		  . join(', ', map { "$_ '$secret{$_}'" } keys %secret) . ')');
	$node->run($db, "INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('$name', '$name', true)");
	return $sshd;
}

# How long the run still goes on when it is told to end, and its error.
sub ended
{
	my ($name, $how) = @_;
	my $session = $node->session($db);
	my $pid = $session->pid;

	$session->send("CALL sis_sync.run('$name')");
	sleep 2;
	my $start = time;
	$node->value($db, "SELECT pg_${how}_backend($pid)");
	my $result = eval { $session->wait(10) };
	my $seconds = time - $start;

	# nothing else ends it then
	$node->kill9($pid) if !$result;
	$session->close;
	return ($seconds, $result->{error} // {});
}

# ----------
# No answer when a file is closed: libcurl waits for it without a limit
# ----------
my $mute = sample('mute', 'mute-close');
for my $how (qw(cancel terminate))
{
	my ($seconds, $error) = ended('mute', $how);

	is($error->{sqlstate}, $how eq 'cancel' ? '57014' : '57P01',
		"no answer to a close, $how: PostgreSQL's own error");
	cmp_ok($seconds, '<', 1, "no answer to a close, $how: served within a second");
}
$node->run($db, "ALTER SERVER mute OPTIONS (ADD timeout '2')");
my $start = time;
my $error = $node->fails($db, "CALL sis_sync.run('mute')", timeout => 30);
is($error->{sqlstate}, 'SI004', 'no answer to a close: the timeout ends it');
like($error->{message}, qr/within the timeout/, 'no answer to a close: and says so');
cmp_ok(time - $start, '<', 4, 'no answer to a close: in time');

# ----------
# A private key that takes ages to open
# ----------
my $passphrase = 'a pass phrase';

# With that many rounds of bcrypt in its text, so many of them done.
sub rounds_key
{
	my ($rounds, $said) = @_;
	my $file = "$keys/rounds$rounds";

	system('ssh-keygen', '-q', '-t', 'ed25519', '-N', $passphrase, '-a', $rounds,
		'-f', $file) == 0 or die 'ssh-keygen';
	my $made = { private => Sshd::read_file($file), public => Sshd::read_file("$file.pub") };
	if ($said)
	{
		require MIME::Base64;
		my ($body) = $made->{private} =~ /-----\n(.*?)\n-----/s;
		my $bytes = MIME::Base64::decode($body);

		$bytes =~ s/(bcrypt....\0\0\0\x10.{16})..../$1 . pack 'N', $said/se or die 'no rounds';
		$made->{private} = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
		  . MIME::Base64::encode($bytes) . "-----END OPENSSH PRIVATE KEY-----\n";
	}
	return $made;
}

my $quick = rounds_key(16);
my $plain = sample('opening', undef, private_key => $quick->{private},
	passphrase => $passphrase);
$plain->authorize($quick);
$node->run($db, "CALL sis_sync.run('opening')");
pass('a key with the usual rounds');

my $slow = rounds_key(17, 1_000_000)->{private};
my $pkcs8 = `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null | openssl pkcs8 -topk8 -passout pass:x -iter 1000`;
for my $case ([ 'a million rounds', $slow ],
	[ 'behind another key', $key->{private} . $slow ],
	[ 'with other marks in its text', $slow =~ s/\A(.{60})/$1=/sr ],
	[ 'PKCS #8, whose rounds are not looked at', $pkcs8 ])
{
	my ($title, $text) = @$case;

	$node->run($db, "ALTER USER MAPPING FOR PUBLIC SERVER opening OPTIONS (SET private_key '$text')");
	my ($seconds, $got) = ended('opening', 'cancel');
	is($got->{sqlstate}, 'SI002', "a key that takes ages to open, $title: SI002");
	like($got->{message}, qr/too long to open/, "$title: says so");
}

# ----------
# What lies in the folder beside the set
# ----------
my $folder = $node->dir('folder');
District->new(schools => 1, students => 20, sections => 4)
  ->write($folder, layout => 'oneroster11');
my $crowded = sample('crowded', undef, path => $folder);

# not to be read, so not to be fetched
open my $out, '>', "$folder/payroll.csv" or die $!;
close $out;
chmod 0, "$folder/payroll.csv";
mkdir "$folder/old demographics.csv" or die $!;
$node->run($db, "UPDATE sis_sync.sync SET include_demographics = true WHERE name = 'crowded'");
$node->run($db, "CALL sis_sync.run('crowded')");
is($node->value($db, "SELECT count(birth_date) FROM roster.student t JOIN sis_sync.sync s ON s.id = t.sync_id AND s.name = 'crowded'"),
	20, 'a folder "old demographics.csv" does not hide the file');
is($node->value($db, "SELECT count(*) FROM sis_sync.run WHERE sync = 'crowded' AND status = 'succeeded'"),
	1, 'a file of another name is not fetched');

for my $n (0 .. 120)
{
	my $i = 0;
	my $name = join '', map { $n >> $i++ & 1 ? uc : $_ } split //, 'demographics.csv';

	next if -e "$folder/$name";
	open my $file, '>', "$folder/$name" or die $!;
}
$error = $node->fails($db, "CALL sis_sync.run('crowded')");
is($error->{sqlstate}, 'SI006', 'more files to read than there can be: SI006');
like($error->{message}, qr/too many CSV files/, 'and says so');

done_testing;
