# sis_sftp against a real OpenSSH server: what it reads, whom it trusts, how it
# logs in, and how it fails.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;
use Sshd;
use Time::HiRes qw(time);

my $node = SisTest->new->start;
my $db = $node->fresh_db('sftp');
my $keys = $node->dir('keys');
my $files = $node->dir('files');

my $sshd = Sshd->new($node->dir('sshd'));
my $key = Sshd::key($keys, 'user', 'ed25519');
my $sealed = Sshd::key($keys, 'sealed', 'ecdsa', 'a pass phrase');
my $rsa = Sshd::key($keys, 'rsa', 'rsa');
my $rsa_stranger = Sshd::key($keys, 'rsa_stranger', 'rsa');
my $stranger = Sshd::key($keys, 'stranger', 'ed25519');
$sshd->authorize($_) for $key, $sealed, $rsa;
$sshd->start;

my $user = $sshd->user;
my $district = District->new(seed => 8, schools => 2, students => 150,
	sections => 12, contacts => 10);
$district->write($files, layout => 'oneroster11');

sub literal
{
	return "'" . ($_[0] =~ s/'/''/gr) . "'";
}

sub options
{
	my (%option) = @_;

	return '(' . join(', ', map { "$_ " . literal($option{$_}) }
		  grep { defined $option{$_} } sort keys %option) . ')';
}

my @MAPPING = qw(username password private_key passphrase);

# A sync of a server of its own over $files; options that are undef are left
# out, all others added to what works.
sub sample
{
	my ($name, %option) = @_;
	my %all = (host => '127.0.0.1', port => $sshd->port, path => $files,
		host_key_sha256 => $sshd->fingerprint('ed25519'), username => $user,
		private_key => $key->{private}, %option);
	my %secret = map { $_ => delete $all{$_} } @MAPPING;

	$node->run($db, "CREATE SERVER \"$name\" FOREIGN DATA WRAPPER sis_sftp OPTIONS "
		  . options(%all));
	$node->run($db, "CREATE USER MAPPING FOR PUBLIC SERVER \"$name\" OPTIONS "
		  . options(%secret))
	  if grep { defined } values %secret;
	$node->run($db, "INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('$name', '$name', true)");
	return $name;
}

sub run_sync
{
	my ($name, %opt) = @_;
	my (undef, $err, $code) = $node->try($db,
		($opt{before} // '') . "CALL sis_sync.run('$name')");

	return $code == 0 ? undef : SisTest::parse_error($err);
}

# The sync must succeed.
sub works
{
	my ($name, $title) = @_;
	my $error = run_sync($name);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(!$error, "$name: $title") || diag($error->{text});
}

# It must fail with that state and what these say: message, detail, hint.
sub fails
{
	my ($name, $sqlstate, $title, %expected) = @_;
	my $start = time;
	my $error = run_sync($name);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($error->{sqlstate} // 'no error', $sqlstate, "$name: $title: $sqlstate")
	  or diag($error ? $error->{text} : '');
	for my $part (sort keys %expected)
	{
		like($error->{$part} // '', $expected{$part}, "$name: $title: its $part");
	}
	$error->{seconds} = time - $start;
	return $error;
}

# Sets options of the server or, for secrets, of the mapping.
sub set_option
{
	my ($name, $option, $value, $verb) = @_;
	my $what = (grep { $_ eq $option } @MAPPING) ?
	  'USER MAPPING FOR PUBLIC SERVER' : 'SERVER';

	$verb //= defined $value ? 'SET' : 'DROP';
	$node->run($db, "ALTER $what \"$name\" OPTIONS ($verb $option"
		  . (defined $value ? ' ' . literal($value) : '') . ')');
	return;
}

# ----------
# A transfer that stalls for a minute; looked at when all else is done
# ----------
my $big = $node->dir('big');
sub write_big
{
	my ($megabytes) = @_;
	my $line = join(',', map { "field$_" } 1 .. 50) . "\n";

	$district->write($big, layout => 'oneroster11');
	open my $out, '>>', "$big/users.csv" or die $!;
	print $out $line x (1024 * 1024 * $megabytes / length $line);
	close $out or die $!;
	return;
}
write_big(8);
my $slow_proxy = Sshd::Proxy->new(dir => $node->dir('slow'), port => $sshd->port,
	limit => 3_000_000);
my $slow = $node->session($db);
sample('slow', port => $slow_proxy->port, path => $big);
$slow->send("CALL sis_sync.run('slow')");
my $slow_start = time;
$slow_proxy->wait_stalled;

# ----------
# The host's key
# ----------
sample('first', host_key_sha256 => undef);
my $mark = length $sshd->log;
my $error = fails('first', 'SI004', 'no host key configured',
	message => qr/no host key is configured/,
	detail => qr/\Q${\ $sshd->fingerprint('ed25519')}\E/,
	hint => qr/compare.*ALTER SERVER first/is);
unlike(substr($sshd->log, $mark), qr/userauth-request|\b\Q$user\E\b.*ssh2/,
	'first: nothing was sent to log in');
my ($alter) = $error->{hint} =~ /(ALTER SERVER .*\))/;
$node->run($db, $alter);
works('first', 'after typing what the hint says');
is($node->value($db, 'SELECT count(*) FROM roster.student'), 150,
	'first: all students are there');
is($node->last_run($db, 'first')->{source_as_of} ne '', 1,
	'first: the state of the source is known');

sample('keys', host_key_sha256 => undef);
for my $case (
	[ 'a fingerprint without SHA256:', host_key_sha256 =>
	  substr $sshd->fingerprint('ed25519'), 7 ],
	[ 'the second of two fingerprints', host_key_sha256 =>
	  'SHA256:' . 'A' x 43 . ",\n" . $sshd->fingerprint('ed25519') . '=' ],
	[ 'known_hosts', known_hosts =>
	  "# a comment\nexample.org " . (split ' ', $sshd->known_hosts('ed25519'), 2)[1]
	  . "\n" . $sshd->known_hosts('ed25519') ])
{
	my ($title, $option, $value) = @$case;

	set_option('keys', $option, $value, 'ADD');
	works('keys', $title);
	set_option('keys', $option, undef);
}
set_option('keys', 'host_key_sha256', 'SHA256:' . 'A' x 43, 'ADD');
fails('keys', 'SI004', 'another fingerprint',
	message => qr/not one of those configured/,
	detail => qr/\Q${\ $sshd->fingerprint('ed25519')}\E/, hint => qr/attack/);
set_option('keys', 'host_key_sha256', undef);
set_option('keys', 'known_hosts', 'example.org '
	  . (split ' ', $sshd->known_hosts('ed25519'), 2)[1], 'ADD');
fails('keys', 'SI004', 'a host that is not in known_hosts',
	message => qr/not in known_hosts/,
	detail => qr/\Q${\ $sshd->fingerprint('ed25519')}\E/);
set_option('keys', 'known_hosts', $sshd->known_hosts('ed25519'));

sample('changed');
works('changed', 'before the host has a new key');
$sshd->stop;
$sshd->new_host_keys('ed25519', 'ecdsa');
$sshd->start;
$mark = length $sshd->log;
fails('changed', 'SI004', 'the host has a new key',
	message => qr/not one of those configured/,
	detail => qr/SHA256:/, hint => qr/attack/);
fails('keys', 'SI004', 'and another one than in known_hosts',
	message => qr/is not the one in known_hosts/,
	detail => qr/SHA256:/, hint => qr/attack/);
unlike(substr($sshd->log, $mark), qr/userauth-request|\b\Q$user\E\b.*ssh2/,
	'changed: nothing was sent to log in');
set_option('keys', 'known_hosts', $sshd->known_hosts('ed25519'));
works('keys', 'one key of two in known_hosts');

my $host_keys = join ' ', map { $sshd->fingerprint($_) } qw(ed25519 ecdsa);
set_option('changed', 'host_key_sha256', $host_keys);
works('changed', 'with the new keys');

# ----------
# The login
# ----------
sub login
{
	my ($name, %option) = @_;

	return sample($name, host_key_sha256 => $host_keys, %option);
}

login('sealed', private_key => $sealed->{private}, passphrase => 'a pass phrase');
works('sealed', 'an ecdsa key with a passphrase');
set_option('sealed', 'passphrase', 'another pass phrase');
fails('sealed', 'SI002', 'a wrong passphrase', message => qr/login .* refused/,
	detail => qr/passphrase does not open/);
set_option('sealed', 'passphrase', undef);
fails('sealed', 'SI002', 'no passphrase', detail => qr/has no passphrase/);

login('login');
set_option('login', 'private_key', $stranger->{private});
fails('login', 'SI002', 'a key that the host does not know',
	message => qr/login .* refused/, detail => qr/did not take the private key/);
set_option('login', 'private_key', $rsa->{private});
if (Sshd::signs_rsa())
{
	works('login', 'an RSA key');
	set_option('login', 'private_key', $rsa_stranger->{private});
	fails('login', 'SI002', 'an RSA key that the host does not know',
		detail => qr/did not take the private key for this user: the user name/);
}
else
{
	fails('login', 'SI002', 'an RSA key', detail => qr/RSA.*ed25519/);
}
set_option('login', 'private_key', substr $key->{private}, 0, 150);
fails('login', 'SI002', 'half a key', detail => qr/cut or damaged/);
set_option('login', 'private_key', $key->{public});
fails('login', 'SI002', 'a public key', detail => qr/not a private key/);
set_option('login', 'private_key', $key->{private} =~ s/\n\z//r);
works('login', 'a key without the end of its last line');
set_option('login', 'username', 'nobody-at-all');
fails('login', 'SI002', 'a wrong user', detail => qr/user name may be wrong/);
set_option('login', 'username', $user);
set_option('login', 'private_key', undef);
set_option('login', 'password', 'correct horse', 'ADD');
fails('login', 'SI002', 'a password where only keys are taken',
	detail => qr/not offer a login by password.*publickey/);

# ----------
# Passwords: root's sshd
# ----------
SKIP:
{
	my $login = Sshd::password_login()
	  or skip 'logins by password need root: run test/all as root', 9;

	$district->write($login->{dir}, layout => 'oneroster11');
	for my $way ([ 'password', $login->{port} ],
		[ 'keyboard-interactive', $login->{pam_port} ])
	{
		my ($name, $port) = @$way;

		login($name, port => $port, path => $login->{dir}, private_key => undef,
			host_key_sha256 => $login->{fingerprint}, username => $login->{user},
			password => $login->{password});
		works($name, 'a login by password');
		set_option($name, 'password', 'not ' . $login->{password});
		fails($name, 'SI002', 'a wrong password',
			message => qr/login .* refused/,
			detail => qr/did not take the password/);
	}
	set_option('password', 'password', $login->{password});
	set_option('password', 'username', 'nobody-at-all');
	fails('password', 'SI002', 'a wrong user');
	unlike($node->log, qr/\Q$login->{password}\E/, 'no password in the log');
}

# ----------
# What is not configured
# ----------
login('unset', host => undef);
fails('unset', 'SI009', 'no host', message => qr/"host"/, hint => qr/ALTER SERVER/);
set_option('unset', 'host', 'somebody@127.0.0.1', 'ADD');
fails('unset', 'SI009', 'a user in the host', message => qr/"host".*is no host/);
set_option('unset', 'host', '127.0.0.1');
set_option('unset', 'path', undef);
fails('unset', 'SI009', 'no path', message => qr/"path"/, hint => qr/ALTER SERVER/);
set_option('unset', 'path', $files, 'ADD');
set_option('unset', 'username', undef);
fails('unset', 'SI009', 'no user', message => qr/"username"/);
set_option('unset', 'username', $user, 'ADD');
set_option('unset', 'private_key', undef);
fails('unset', 'SI009', 'nothing to log in with',
	message => qr/neither a password nor a private key/);
$node->run($db, 'DROP USER MAPPING FOR PUBLIC SERVER unset');
fails('unset', 'SI009', 'no user mapping', message => qr/no user mapping/);

# ----------
# Paths and names
# ----------
login('paths');
set_option('paths', 'path', "$files/nowhere");
fails('paths', 'SI004', 'a folder that is not there',
	message => qr{could not open folder "\Q$files\E/nowhere/"});
set_option('paths', 'path', "$files/nowhere.zip");
fails('paths', 'SI004', 'a zip file that is not there',
	message => qr{could not open file "\Q$files\E/nowhere.zip"});
my $forbidden = $node->dir('forbidden');
chmod 0, $forbidden;
set_option('paths', 'path', $forbidden);
fails('paths', 'SI004', 'a forbidden folder',
	message => qr{could not read folder "\Q$forbidden\E/"},
	detail => qr/Permission denied/);
chmod 0700, $forbidden;
$district->write($forbidden, layout => 'oneroster11');
chmod 0, "$forbidden/users.csv";
fails('paths', 'SI004', 'a forbidden file',
	message => qr{could not read file "\Q$forbidden\E/users.csv"});
chmod 0600, "$forbidden/users.csv";
works('paths', 'allowed again');

my $linked = $node->dir('linked');
symlink '.', "$linked/users.csv" or die $!;
set_option('paths', 'path', $linked);
fails('paths', 'SI004', 'a link to a folder',
	message => qr{could not read file "\Q$linked\E/users.csv"});

# folders, dotfiles, links to nothing, other files, odd names
my $odd = $node->dir('odd #1 %41 ü');
$district->write($odd, layout => 'oneroster11');
mkdir "$odd/folder.csv" or die $!;
symlink 'nowhere', "$odd/nothing.csv" or die $!;
for my $name ('.hidden.csv', 'readme.txt', "bell\a.csv", "\xC3\xBC.csv",
	'back\\slash.csv', 'csv')
{
	open my $out, '>', "$odd/$name" or die $!;
	print $out "\0";
}
rename "$odd/users.csv", "$odd/USERS.CSV" or die $!;
set_option('paths', 'path', "$odd/");
works('paths', 'what does not belong to the set is passed over');

# ~ is the home of the user, wherever that is
set_option('paths', 'path', '~/no such folder');
fails('paths', 'SI004', 'a folder at home', message => qr{"~/no such folder/"});

# ----------
# Hosts that are not there, or do not speak
# ----------
login('nobody', port => Sshd::free_port());
$error = fails('nobody', 'SI004', 'a closed port',
	message => qr/could not connect to "127.0.0.1" port \d+/);
set_option('nobody', 'host', 'no-such-host.invalid');
fails('nobody', 'SI004', 'no such host', message => qr/address of "no-such-host.invalid"/);

my $silent = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1',
	LocalPort => 0)
  or die $!;
login('silent', port => $silent->sockport, connect_timeout => 1);
$error = fails('silent', 'SI004', 'no banner', message => qr/no answer in time/,
	detail => qr/connect_timeout.*1 s/);
cmp_ok($error->{seconds}, '<', 4, 'silent: given up in time');
set_option('silent', 'connect_timeout', 30);
set_option('silent', 'timeout', 1, 'ADD');
$error = fails('silent', 'SI004', 'no banner within the whole timeout',
	message => qr/within the timeout/);
cmp_ok($error->{seconds}, '<', 4, 'silent: given up in time');
set_option('silent', 'timeout', undef);

# one that closes at once, as OpenSSH does with whoever failed too often
my $closing = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1',
	LocalPort => 0)
  or die $!;
login('closing', port => $closing->sockport);
my $closer = fork;
die "fork: $!" if !defined $closer;
if ($closer == 0)
{
	my $client = $closing->accept;
	print $client "Not allowed at this time\r\n";
	close $client;
	POSIX::_exit(0);
}
fails('closing', 'SI004', 'an end before the banner', message => qr/could not agree on SSH/,
	hint => qr/did not even greet.*logins that failed/);
kill 'KILL', $closer;
waitpid $closer, 0;

my $proxy = Sshd::Proxy->new(dir => $node->dir('proxy'), port => $sshd->port,
	limit => 3_000_000);
login('stalled', port => $proxy->port, path => $big, timeout => 3);
$error = fails('stalled', 'SI004', 'a stall in mid-file',
	message => qr/within the timeout/, detail => qr/3 seconds; [1-9]\d* bytes/);
cmp_ok($error->{seconds}, '<', 6, 'stalled: given up in time');
set_option('stalled', 'timeout', 600);

# ----------
# Files that change while they are read
# ----------
login('changing', port => $proxy->port, path => $big);
my $night = $node->session($db);
$proxy->again;
$night->send("CALL sis_sync.run('changing')");
$proxy->wait_stalled;
$district->write($big, layout => 'oneroster11');
$proxy->go;
my $result = $night->wait;
ok(!$result->{error}, 'changing: a file that changes once is fetched again')
  or diag($result->{err});
$night->close;

my $writer = fork;
die "fork: $!" if !defined $writer;
END { kill 'TERM', $writer if $writer; }
if ($writer == 0)
{
	$SIG{TERM} = 'DEFAULT';
	while (1)
	{
		open my $out, '>>', "$files/demographics.csv" or POSIX::_exit(1);
		print $out "\n";
		close $out;
		select(undef, undef, undef, 0.002);
	}
}
# it has begun
my $size = -s "$files/demographics.csv";
select(undef, undef, undef, 0.05) while -s "$files/demographics.csv" == $size;
fails('changed', 'SI007', 'a file that goes on changing',
	message => qr/file "demographics.csv" changed while it was read/);
kill 'TERM', $writer;
waitpid $writer, 0;
undef $writer;
works('changed', 'and the next run, when it does not any more');

# ----------
# Nothing blocks the backend, and nothing is left
# ----------
write_big(8);

# Descriptors of a backend that are no files of the cluster.
sub descriptors
{
	my ($pid) = @_;
	my @links = map { readlink // '' } glob "/proc/$pid/fd/*";

	return join ' ', sort map { s/\[\d+\]//r } grep { !m{^/} || m{/memfd:} } @links;
}

# Temporary files of a backend.
sub temporary_files
{
	my ($pid) = @_;

	return glob $node->host . "/data/base/pgsql_tmp/pgsql_tmp$pid.*";
}

# A run of its own session that waits for the host: before its banner, or in
# mid-file.
sub held_run
{
	my ($where, $before) = @_;
	my $session = $node->session($db);
	my $name = $where eq 'banner' ? 'silent' : 'stalled';

	# so that what a backend opens once and keeps is there
	$session->query("SET statement_timeout = '300ms'");
	$proxy->again;
	$session->query("CALL sis_sync.run('$name')");
	$session->query('RESET statement_timeout');
	my $descriptors = descriptors($session->pid);

	$session->query($before) if $before;
	$proxy->again;
	$session->send("CALL sis_sync.run('$name')");
	$proxy->wait_stalled if $where ne 'banner';
	# it has taken all that came
	select(undef, undef, undef, 0.2);
	$node->wait_until($db, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = "
		  . $session->pid);
	return ($session, $descriptors, $name);
}

my $digest_sql = "SELECT md5(string_agg(s::text, '' ORDER BY sync_id, source_id)) FROM roster.student s";
my $digest = $node->value($db, $digest_sql);

for my $where (qw(banner mid-file))
{
	for my $how (qw(cancel terminate statement_timeout))
	{
		my ($session, $before, $name) = held_run($where,
			$how eq 'statement_timeout' ? "SET statement_timeout = '2s'" : undef);
		my $pid = $session->pid;

		if ($how eq 'cancel')
		{
			is_deeply($node->rows($db, "SELECT backend_xid, backend_xmin, wait_event_type FROM pg_stat_activity WHERE pid = $pid"),
				[ [ undef, undef, 'Extension' ] ],
				"$where: holds neither a transaction ID nor a snapshot");
			my @temporary = temporary_files($pid);
			is(scalar @temporary, $where eq 'banner' ? 0 : 1, "$where: temporary files");
			unlike(Sshd::read_file($_), qr/field\d/, "$where: and they cannot be read")
			  for @temporary;
		}
		my $start = time;
		$node->value($db, "SELECT pg_${how}_backend($pid)")
		  if $how ne 'statement_timeout';
		$result = $session->wait(20);
		my $seconds = time - $start;

		is($result->{error}{sqlstate}, $how eq 'terminate' ? '57P01' : '57014',
			"$where, $how: PostgreSQL's own error");
		cmp_ok($seconds, '<', $how eq 'statement_timeout' ? 3 : 1,
			"$where, $how: served within a second");
		is(descriptors($pid), $before, "$where, $how: no descriptor is left")
		  if $how ne 'terminate';
		$session->close;
		is(join(' ', temporary_files($pid)), '', "$where, $how: no temporary file is left");
		is($node->value($db, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
				  . " AND pid = $pid"), 0, "$where, $how: no lock is left");
		is($node->value($db, $digest_sql), $digest, "$where, $how: the roster is as it was");
	}
}
$district->write($big, layout => 'oneroster11');
$proxy->again;
works('stalled', 'the next run');

# A minute without a byte
$result = $slow->wait;
is($result->{error}{sqlstate}, 'SI004', 'slow: a stall ends by itself: SI004');
like($result->{error}{message} // '', qr/stalled/, 'slow: and says so');
my $seconds = time - $slow_start;
cmp_ok($seconds, '>', 55, 'slow: after a minute');
$slow->close;

# A fast shutdown: last, since it ends the server.
write_big(8);
for my $where (qw(banner mid-file))
{
	my ($session) = held_run($where);
	my $pid = $session->pid;
	my $start = time;

	$node->stop('fast');
	cmp_ok(time - $start, '<', 2, "$where: a fast shutdown is served at once");
	$session->close;
	is(join(' ', temporary_files($pid)), '', "$where: a fast shutdown leaves no temporary file");
	$node->start;
}
$district->write($big, layout => 'oneroster11');
$proxy->again;
works('stalled', 'the run after the shutdown');

# ----------
# No secret anywhere
# ----------
my $log = $node->log;
unlike($log, qr/\Q$_\E/, 'no secret in the server\'s log')
  for 'correct horse', 'another pass phrase', substr($key->{private}, 60, 40);
is($node->value($db, "SELECT count(*) FROM sis_sync.run r WHERE r::text ~ 'correct horse|pass phrase|OPENSSH'"),
	0, 'nor in the log of runs');

done_testing;
