#!/usr/bin/perl
# An SFTP server (protocol 3) for sshd's "Subsystem sftp", that serves files as
# they are and then does one thing as no server should:
#
#	mute-close	never answers when a file is closed
#	mute-read	answers the first read of a file with an error, and nothing after
#
# usage: bad_sftp.pl HABIT
use strict;
use warnings;
use Fcntl qw(:mode);

my $habit = shift // '';
my (%handles, $next, $muted);

use constant { OPEN => 3, CLOSE => 4, READ => 5, LSTAT => 7, FSTAT => 8,
	OPENDIR => 11, READDIR => 12, REALPATH => 16, STAT => 17 };

sub answer
{
	my ($type, $body) = @_;

	return if $muted;
	syswrite STDOUT, pack('NCa*', 1 + length $body, $type, $body);
	return;
}

sub status
{
	my ($id, $code) = @_;

	return answer(101, pack('NNN/aN/a', $id, $code, 'status', ''));
}

sub attributes
{
	my (@st) = @_;

	# size, owner, mode, times
	return pack('NNNNNNNN', 0xF, $st[7] >> 32, $st[7] & 0xFFFFFFFF, @st[ 4, 5, 2, 8, 9 ]);
}

sub take
{
	my ($n) = @_;
	my $data = '';

	while (length $data < $n)
	{
		sysread(STDIN, $data, $n - length $data, length $data) or exit 0;
	}
	return $data;
}

sub serve
{
	my ($type, $id, $rest) = @_;
	my ($name) = unpack 'N/a', $rest;
	my $handle = $handles{$name};

	if ($type == REALPATH)
	{
		answer(104, pack('NNN/aN/aN', $id, 1, $name, $name, 0));
	}
	elsif ($type == STAT || $type == LSTAT || $type == FSTAT)
	{
		my @st = stat($handle ? $handle->{path} : $name);

		@st ? answer(105, pack('Na*', $id, attributes(@st))) : status($id, 2);
	}
	elsif ($type == OPEN || $type == OPENDIR)
	{
		my $new = { path => $name };

		if ($type == OPEN)
		{
			open $new->{file}, '<:raw', $name or return status($id, 2);
		}
		else
		{
			opendir my $dir, $name or return status($id, 2);
			$new->{names} = [ readdir $dir ];
		}
		$handles{ ++$next } = $new;
		answer(102, pack('NN/a', $id, $next));
	}
	elsif ($type == READ)
	{
		my (undef, $high, $low, $len) = unpack 'N/aNNN', $rest;

		if ($habit eq 'mute-read')
		{
			status($id, 4);
			$muted = 1;
		}
		sysseek $handle->{file}, ($high << 32) + $low, 0;
		my $data;
		sysread($handle->{file}, $data, $len) ?
		  answer(103, pack('NN/a', $id, $data)) : status($id, 1);
	}
	elsif ($type == READDIR)
	{
		my @names = splice @{ $handle->{names} }, 0, 100;

		return status($id, 1) if !@names;
		answer(104, pack('NN', $id, scalar @names)
			  . join '', map { pack('N/aN/aa*', $_, "-rw-r--r-- 1 u g 1 Jan 1 00:00 $_",
					attributes(stat "$handle->{path}/$_")) } @names);
	}
	elsif ($type == CLOSE)
	{
		$muted = 1 if $habit eq 'mute-close' && $handle->{file};
		delete $handles{$name};
		status($id, 0);
	}
	else
	{
		status($id, 8);
	}
	return;
}

while (1)
{
	my ($type, $body) = unpack 'Ca*', take(unpack 'N', take(4));

	if ($type == 1)
	{
		answer(2, pack('N', 3));
	}
	else
	{
		serve($type, unpack 'Na*', $body);
	}
}
