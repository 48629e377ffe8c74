# Sshd.pm
#	A real OpenSSH server on a free port of this machine, for SFTP only, run by
#	the ordinary user that the tests run as; keys are made on the spot.
#
#	my $sshd = Sshd->new($node->dir('sshd'));
#	$sshd->authorize(Sshd::key($dir, 'night', 'ed25519'));
#	$sshd->start;
#	... $sshd->port, $sshd->fingerprint('ed25519'), $sshd->log ...
#	$sshd->stop;			# and start() again: on the same port
#
# Sshd::Proxy stands between: it stops forwarding in mid-file, until told to go
# on.
#
# An ordinary user's sshd cannot check passwords: Sshd::password_login() is the
# one that test/all starts when it runs as root, or undef.
package Sshd;

use strict;
use warnings;
use IO::Socket::INET ();
use POSIX ();

my @running;					# of both packages

# Makes a key pair: {file, private (text), public (line), type}.
sub key
{
	my ($dir, $name, $type, $passphrase) = @_;
	my $file = "$dir/$name";

	system('ssh-keygen', '-q', '-t', $type, '-N', $passphrase // '', '-C',
		'a test', '-f', $file) == 0
	  or die "ssh-keygen failed\n";
	return { file => $file, type => $type,
		private => read_file($file), public => read_file("$file.pub") };
}

sub read_file
{
	my ($path) = @_;

	open my $in, '<:raw', $path or die "$path: $!";
	local $/;
	return scalar <$in>;
}

# As a number: 9.08 is OpenSSH 9.8.
sub openssh_version
{
	my ($major, $minor) = `ssh -V 2>&1` =~ /OpenSSH_(\d+)\.(\d+)/
	  or die "no version of OpenSSH\n";

	return $major + $minor / 100;
}

# Whether libcurl can log in with an RSA key: libssh2 1.11 was the first.
sub signs_rsa
{
	my $text = `python3 -c 'import ctypes
version = ctypes.CDLL("libcurl.so.4").curl_version
version.restype = ctypes.c_char_p
print(version().decode())'`;
	my ($major, $minor) = $text =~ m{libssh2/(\d+)\.(\d+)}
	  or die "libcurl does not tell its libssh2: $text\n";

	return $major > 1 || $minor >= 11;
}

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
		LocalPort => 0)
	  or die "no free port: $!";

	return $socket->sockport;
}

# In an empty folder of its own.  subsystem: the command that serves SFTP, if not
# sshd itself.
sub new
{
	my ($class, $dir, %opt) = @_;
	my $self = bless { %opt, dir => $dir, port => free_port(), keys => {} },
	  $class;

	$self->new_host_keys('ed25519');
	open my $fh, '>', "$dir/authorized_keys" or die $!;
	return $self;
}

sub port { return $_[0]{port}; }
sub user { return scalar getpwuid($>); }
sub log  { return read_file("$_[0]{dir}/log"); }

# Gives it new host keys of these types; they count from the next start.
sub new_host_keys
{
	my ($self, @types) = @_;
	my $n = ++$self->{generation};

	$self->{keys} =
	  { map { $_ => key($self->{dir}, "host_${_}_$n", $_) } @types };
	return;
}

# As ssh-keygen prints it: SHA256:…
sub fingerprint
{
	my ($self, $type) = @_;
	my $line = `ssh-keygen -l -f $self->{keys}{$type}{file}.pub`;

	return (split ' ', $line)[1];
}

# A line of known_hosts.
sub known_hosts
{
	my ($self, $type) = @_;

	return "[127.0.0.1]:$self->{port} "
	  . join(' ', (split ' ', $self->{keys}{$type}{public})[0, 1]);
}

# Lets somebody log in with that key.
sub authorize
{
	my ($self, $key) = @_;

	open my $fh, '>>', "$self->{dir}/authorized_keys" or die $!;
	print $fh $key->{public};
	close $fh or die $!;
	return;
}

sub start
{
	my ($self) = @_;
	my $dir = $self->{dir};

	open my $conf, '>', "$dir/config" or die $!;
	print $conf "HostKey $_->{file}\n" for values %{ $self->{keys} };
	print $conf <<"END";
ListenAddress 127.0.0.1
Port $self->{port}
PidFile none
AuthorizedKeysFile $dir/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
LogLevel DEBUG
Subsystem sftp @{[ $self->{subsystem} // "internal-sftp" ]}
END
	# newer ones shut out for a while whoever has failed to log in too often
	print $conf "PerSourcePenalties no\n" if openssh_version() >= 9.08;
	close $conf or die $!;
	defined($self->{pid} = fork) or die "fork: $!";
	if ($self->{pid} == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$dir/log";
		open STDERR, '>>', "$dir/log";
		exec('/usr/sbin/sshd', '-D', '-e', '-f', "$dir/config")
		  or POSIX::_exit(127);
	}
	push @running, $self;
	for (1 .. 200)
	{
		return $self
		  if IO::Socket::INET->new(PeerAddr => '127.0.0.1',
			PeerPort => $self->{port});
		die "sshd ended: " . $self->log if waitpid($self->{pid}, 1) != 0;
		select(undef, undef, undef, 0.05);
	}
	die "sshd did not start\n";
}

# Connections that are open stay so.
sub stop
{
	my ($self) = @_;

	local $?;
	return if !$self->{pid};
	kill 'TERM', $self->{pid};
	waitpid($self->{pid}, 0);
	delete $self->{pid};
	@running = grep { $_ != $self } @running;
	return;
}

# Where root's sshd listens, whom it lets in, and a folder of files that he can
# read and the tests can write: {port, pam_port, user, password, fingerprint,
# dir}.  undef when there is none.
sub password_login
{
	my $file = "$ENV{HOME}/password_login";

	return if !-f $file;
	return { read_file($file) =~ /^(\w+)=(.*)$/mg };
}

my $owner = $$;

END
{
	local $?;
	if ($$ == $owner)
	{
		$_->stop for my @list = @running;
	}
}

# Forwards one connection at a time to a port of this machine, but no more than
# so many bytes from there until go() is called.
package Sshd::Proxy;

use strict;
use warnings;
use parent -norequire, 'Sshd';
use IO::Select ();
use IO::Socket::INET ();

# dir: an empty folder of its own; port: where to forward to; limit: bytes.
sub new
{
	my ($class, %opt) = @_;
	my $listen = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
		LocalPort => 0)
	  or die "no free port: $!";
	my $self = bless { %opt, listen => $listen, port => $listen->sockport,
		to => $opt{port} }, $class;

	defined($self->{pid} = fork) or die "fork: $!";
	if ($self->{pid} == 0)
	{
		local @SIG{qw(TERM PIPE)} = ('DEFAULT', 'IGNORE');
		$self->serve while 1;
	}
	close $listen;
	push @running, $self;
	return $self;
}

sub stalled { return -f "$_[0]{dir}/stalled"; }

# Waits until it has stopped in the middle.
sub wait_stalled
{
	my ($self) = @_;

	for (1 .. 1200)
	{
		return 1 if $self->stalled;
		select(undef, undef, undef, 0.05);
	}
	die "the transfer did not come to the place where it is to stall\n";
}

# Forwards all there is from now on.
sub go
{
	my ($self) = @_;

	open my $fh, '>', "$self->{dir}/go" or die $!;
	return;
}

# For another connection: as at the beginning.
sub again
{
	my ($self) = @_;

	unlink "$self->{dir}/go", "$self->{dir}/stalled";
	return;
}

sub serve
{
	my ($self) = @_;
	my $client = $self->{listen}->accept or return;
	my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
		PeerPort => $self->{to})
	  or return;
	my $left = $self->{limit};

	while (1)
	{
		my $stopped = $left <= 0 && !-f "$self->{dir}/go";
		my @ready =
		  IO::Select->new($client, $stopped ? () : $server)->can_read(0.05);

		if ($stopped && !$self->stalled)
		{
			open my $fh, '>', "$self->{dir}/stalled" or die $!;
		}
		for my $from (@ready)
		{
			my $n = sysread $from, my $data, 16384;

			return if !$n;
			$left -= $n if $from == $server;
			my $to = $from == $server ? $client : $server;
			for (my $done = 0; $done < $n;)
			{
				my $written = syswrite $to, $data, $n - $done, $done;

				return if !$written;
				$done += $written;
			}
		}
	}
	return;
}

1;
