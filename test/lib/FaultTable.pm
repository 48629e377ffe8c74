# FaultTable.pm
#	The fault matrix: each source, each phase, each fault that can strike there.
#
#	my @all = FaultTable::cases($bed);             # for Fault::try_case()
#	my @few = FaultTable::quick($bed, @all);       # those of one night
#
# Places and bytes are drawn from the bed's seed when a case is tried, so that
# the same table again is another set of cases.
package FaultTable;

use strict;
use warnings;
use Fault;
use File::Path qw(remove_tree);
use Zip;

my @FILES = qw(directory zip sftp);
my @SERVICES = qw(clever oneroster);
my @NETWORK = ('sftp', @SERVICES);
my %USERS = (clever => 'users?role=student', oneroster => 'users');

# What a run waits for (test/lib/Hold.pm), by phase
my %MOMENT = (fetch => 'opening', stage => 'slot', verify => 'verify', apply => 'apply',
	archive => 'archive', log => 'log', commit => 'commit', 'table lock' => 'table',
	'row lock' => 'row');

sub cases
{
	my ($bed) = @_;
	my @cases = map { interrupts($_), raised($_), preloaded($bed, $_) } @Fault::SOURCES;

	push @cases, map { files($_) } @FILES;
	push @cases, map { connections($_) } @NETWORK;
	push @cases, map { answers($_) } @SERVICES;
	$_->{title} = "$_->{source}, $_->{phase}, $_->{fault}" for @cases;
	return @cases;
}

# So many by the seed.  Restarts take long: each kind in each phase, but of one
# source.
my $QUICK = 150;

sub quick
{
	my ($bed, @all) = @_;
	my (%group, @few);

	for my $case (@all)
	{
		if ($case->{restarts}) { push @{ $group{"$case->{phase}, $case->{fault}"} }, $case; }
		else                   { push @few, $case; }
	}
	@few = (shuffled($bed, @few))[ 0 .. $QUICK - 1 ];
	push @few, map { $group{$_}[ $bed->random(scalar @{ $group{$_} }) ] } sort keys %group;
	return @few;
}

sub shuffled
{
	my ($bed, @list) = @_;

	for my $i (reverse 1 .. $#list)
	{
		my $j = $bed->random($i + 1);

		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

# ----------
# Somebody ends the run, or somebody else is in its way
# ----------

sub interrupts
{
	my ($source) = @_;
	my %fault = (
		cancel => { outcome => 'fails', sqlstate => '57014' },
		terminate => { outcome => 'ends' },
		'lock_timeout' => { outcome => 'fails', sqlstate => '55P03', before => q{SET lock_timeout = '60ms'} },
		'statement_timeout' => { outcome => 'fails', sqlstate => '57014', before => q{SET statement_timeout = '700ms'} },
		map { $_ => { outcome => 'ends', restarts => 1 } } 'kill -9', 'fast', 'immediate');
	my @cases;

	for my $phase (sort keys %MOMENT)
	{
		for my $how (sort keys %fault)
		{
			my $moment = $MOMENT{$phase};
			my $before = $fault{$how}{before};

			push @cases, { source => $source, phase => $phase, fault => $how,
				%{ $fault{$how} },
				do => sub {
					my ($bed, $src) = @_;

					return timeout($bed, $src, $moment, $before) if $before;
					my $fired = $bed->hold_at($src, $moment);

					return { %{ $bed->end($src, $how) }, fired => $fired };
				} };
		}
	}
	return @cases;
}

# A timeout while something is locked: the error is the proof that it was.
sub timeout
{
	my ($bed, $src, $moment, $before) = @_;

	$bed->hold->at($moment);
	$bed->{held} = 1;
	my $result = $bed->run($src, $before);

	return { %$result, fired => defined $result->{error} };
}

# ----------
# PostgreSQL itself fails
# ----------

sub raised
{
	my ($source) = @_;
	my %fault = ('disk full' => '53100', 'out of memory' => '53200', 'deadlock' => '40P01');
	my @cases;

	for my $phase (qw(verify apply archive log commit))
	{
		for my $fault (sort keys %fault)
		{
			push @cases, { source => $source, phase => $phase, fault => "$fault, ordered",
				# what fails at the commit is not in the log: all is as before
				outcome => $phase eq 'commit' ? 'any' : 'fails', sqlstate => $fault{$fault},
				message => qr/^ordered at $phase$/,
				do => sub {
					my ($bed, $src) = @_;
					my $result = $bed->run($src, "SET sis_fault.raise = '$phase:$fault{$fault}'");

					return { %$result, fired => ($result->{error}{message} // '') =~ /^ordered/ };
				} };
		}
	}
	push @cases, { source => $source, phase => 'log', fault => 'the log cannot say that it failed',
		outcome => 'unlogged', sqlstate => 'SI003',
		do => sub {
			my ($bed, $src) = @_;

			$bed->query("INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('$source', 'nowhere')");
			my $result = $bed->run($src, q{SET sis_fault.raise = 'failed:53100'});
			$bed->query("DELETE FROM sis_sync.sync_school WHERE sync = '$source'");
			return { %$result, fired => ($result->{err} // '') =~ /ordered at failed/ };
		} };
	return @cases;
}

# The disk is full, or memory is used up, in earnest (test/lib/fault.c).
sub preloaded
{
	my ($bed, $source) = @_;
	my @cases;

	return () if !$bed->{preload};
	my $ordered = sub {
		my ($bed, $src, $kind, $n) = @_;

		$bed->order($bed->session($src)->pid, $kind, $n);
		my $result = $bed->run($src);
		my $fired = $bed->ordered->[3];

		$bed->order(0, $kind, 0);
		return { %$result, fired => $fired };
	};
	push @cases, { source => $source, phase => 'stage', fault => 'disk full',
		outcome => 'fails', sqlstate => '53100',
		do => sub {
			my ($bed, $src) = @_;

			# so that its tables must grow
			$bed->query('TRUNCATE ' . join(', ', map { "sis_sync.stage_$_" } qw(school student enrollment)));
			return $ordered->($bed, $src, 'tables', 1);
		} };
	# any allocation of the run, in whichever phase it is
	push @cases, map { { source => $source, phase => $_, fault => 'out of memory',
			outcome => 'any', sqlstate => '53200|SI004',
			do => sub {
				my ($bed, $src) = @_;

				return $ordered->($bed, $src, 'memory', 1 + $bed->random(int($src->{memory} * 0.8)));
			} } } map { "allocation $_" } 'one', 'two', 'three', 'four';
	return @cases;
}

# ----------
# Files that are not what they should be
# ----------

sub files
{
	my ($source) = @_;
	my $zip = $source eq 'zip';
	my @cases;
	my $add = sub {
		my ($fault, $outcome, $sqlstate, $spoil, $as_zip) = @_;

		push @cases, { source => $source, phase => 'fetch', fault => $fault,
			outcome => $outcome, sqlstate => $sqlstate,
			do => sub {
				my ($bed, $src) = @_;
				my $bad = "$bed->{dir}/bad";

				remove_tree($bad, { keep_root => 1 });
				mkdir "$bad/files" or die $!;
				system('cp', '-t', "$bad/files", glob $bed->path($src) . '/*.csv') == 0 or die 'cp';
				$spoil->($bed, "$bad/files") if !$as_zip;
				Zip::pack_folder("$bad/x.zip", "$bad/files") if $zip;
				$spoil->($bed, "$bad/x.zip") if $as_zip;
				$bed->set_options($src, path => $zip ? "$bad/x.zip" : "$bad/files");
				my $result = $bed->run($src);

				chmod 0600, glob "$bad/files/*";
				# the files are bad before the run sees them
				return { %$result, fired => 1 };
			} };
		return;
	};

	$add->('cut at a random byte', 'fails', 'SI007', sub {
			my ($bed, $dir) = @_;
			my $file = (qw(users enrollments classes))[ $bed->random(3) ];

			edit("$dir/$file.csv", sub { cut_in_row($bed, $_[0]) });
		});
	$add->('header cut at a random byte', 'fails', 'SI00[67]', sub {
			my ($bed, $dir) = @_;

			edit("$dir/users.csv", sub { substr $_[0], 0, 1 + $bed->random(index($_[0], "\n") - 8) });
		});
	$add->('garbage', 'fails', 'SI00[67]|SI010', sub {
			my ($bed, $dir) = @_;

			edit("$dir/users.csv", sub { join '', map { chr $bed->random(256) } 1 .. 4000 });
		});
	$add->('garbage from a random byte on', 'fails', 'SI00[67]|SI010', sub {
			my ($bed, $dir) = @_;

			edit("$dir/users.csv", sub {
					my $at = index($_[0], "\n") + $bed->random(length($_[0]) / 3);

					substr($_[0], 0, $at) . (substr($_[0], $at) ^ ("\x5a" x (length($_[0]) - $at)));
				});
		});
	$add->('wrong length: a file without bytes', 'fails', 'SI007', sub { edit("$_[1]/users.csv", sub { '' }) });
	$add->('wrong length: a header alone', 'fails', 'SI007', sub { edit("$_[1]/enrollments.csv", sub { $_[0] =~ s/\n.*/\n/sr }) });
	$add->('a file is missing', 'fails', 'SI007', sub { unlink "$_[1]/classes.csv" });
	$add->('a web page', 'fails', 'SI006', sub { edit("$_[1]/users.csv", sub { '<!DOCTYPE html><html><body>Log in</body></html>' }) });
	$add->('of another shape', 'fails', 'SI006', sub { system('cp', "$_[1]/courses.csv", "$_[1]/users.csv") });
	$add->('a quote without an end', 'fails', 'SI00[67]', sub {
			my ($bed, $dir) = @_;

			edit("$dir/users.csv", sub {
					my @lines = split /\n/, $_[0];
					my $n = 1 + $bed->random(scalar(@lines) - 2);

					$lines[$n] =~ s/^"?([^,"]*)"?,/"$1,/;
					join "\n", @lines, '';
				});
		});
	if ($zip)
	{
		$add->('archive cut at a random byte', 'fails', 'SI00[67]', sub {
				my ($bed, $file) = @_;

				edit($file, sub { substr $_[0], 0, 1 + $bed->random(length($_[0]) - 1) });
			}, 1);
		$add->('archive without bytes', 'fails', 'SI007', sub { edit($_[1], sub { '' }) }, 1);
		$add->('garbage for an archive', 'fails', 'SI00[67]', sub {
				my ($bed, $file) = @_;

				edit($file, sub { join '', map { chr $bed->random(256) } 1 .. 4000 });
			}, 1);
		# some bits of it say nothing of what is in it
		$add->('a random bit of the archive', 'any', 'SI00[467]', sub {
				my ($bed, $file) = @_;

				edit($file, sub {
						my $bytes = $_[0];

						vec($bytes, $bed->random(8 * length $bytes), 1) ^= 1;
						$bytes;
					});
			}, 1);
		$add->('wrong length: bytes missing in the middle', 'fails', 'SI00[67]', sub {
				my ($bed, $file) = @_;

				edit($file, sub { my $b = $_[0]; substr($b, 100 + $bed->random(length($b) / 2), 1 + $bed->random(50)) = ''; $b });
			}, 1);
	}
	$add->('not to be read', 'fails', 'SI00[24]', sub { chmod 0, "$_[1]/users.csv" })
	  if !$zip;
	$add->('nothing there', 'fails', 'SI004', sub { remove_tree($_[1]) }) if !$zip;
	$add->('nothing there', 'fails', 'SI004', sub { unlink $_[1] }, 1) if $zip;
	return @cases;
}

sub edit
{
	my ($path, $change) = @_;
	my $bytes = $change->(Zip::bytes($path));

	open my $out, '>:raw', $path or die "$path: $!";
	print $out $bytes or die $!;
	close $out or die $!;
	return;
}

# Cut in a row that then has too few fields: one that ends between rows looks
# whole, and is the empty types' and the threshold's affair.
sub cut_in_row
{
	my ($bed, $bytes) = @_;
	my ($header) = $bytes =~ /^([^\n]*)\n/;
	my $fields = $header =~ tr/,//;

	for (1 .. 1000)
	{
		my $part = substr $bytes, 0, length($header) + 2 + $bed->random(length($bytes) - length($header) - 2);
		my ($last) = $part =~ /([^\n]*)\z/;

		return $part if $last ne '' && ($last =~ tr/,//) < $fields;
	}
	die 'no place to cut';
}

# ----------
# Connections that break
# ----------

sub connections
{
	my ($source) = @_;
	my $service = $source ne 'sftp';
	my @cases;
	my $add = sub {
		my ($fault, $outcome, $sqlstate, $do) = @_;

		push @cases, { source => $source, phase => 'fetch', fault => $fault,
			outcome => $outcome, sqlstate => $sqlstate, do => $do };
		return;
	};
	my $broken = sub {
		my ($kind, $times, $timeout) = @_;

		return sub {
			my ($bed, $src) = @_;

			$bed->set_options($src, timeout => $timeout) if $timeout;
			$src->{proxy}->change(fault => { id => 'f', kind => $kind, times => $times,
					at => $bed->random_byte($src) });
			$src->{proxy}{seen} = [];
			my $result = $bed->run($src);

			return { %$result, fired => $src->{proxy}->fired('f') };
		};
	};

	$add->('connection refused', 'fails', 'SI004', sub {
			my ($bed, $src) = @_;

			$bed->set_options($src, timeout => 2);
			$src->{proxy}->stop;
			my $result = $bed->run($src);
			$src->{proxy}->start;
			return { %$result, fired => 1 };
		});
	for my $kind (qw(reset close garbage))
	{
		# an answer that broke once is asked for again
		$add->("$kind at a random byte, once", 'any', 'SI00[24567]', $broken->($kind, 1));
		$add->("$kind at a random byte, for good", 'fails', 'SI00[24567]', $broken->($kind, 9999, 2));
	}
	for my $kind (qw(hang drip))
	{
		$add->("$kind from a random byte on", 'fails', 'SI004', $broken->($kind, 9999, 1));
	}
	for my $how (qw(cancel terminate), 'kill -9', 'fast', 'immediate')
	{
		push @cases, { source => $source, phase => 'fetch in mid-answer', fault => $how,
			$how eq 'cancel' ? (outcome => 'fails', sqlstate => '57014') : (outcome => 'ends'),
			restarts => $how !~ /^(?:cancel|terminate)$/,
			do => sub {
				my ($bed, $src) = @_;

				$src->{proxy}->change(fault => { id => 'f', kind => 'hang', times => 9999,
						at => $bed->random_byte($src) });
				$src->{proxy}{seen} = [];
				$bed->begin_run($src);
				for (1 .. 1000)
				{
					last if $src->{proxy}->fired('f');
					select(undef, undef, undef, 0.02);
				}
				my $fired = $src->{proxy}->fired('f');
				return { %{ $bed->end($src, $how) }, fired => $fired };
			} };
	}
	if ($service)
	{
		$add->('TLS: a certificate of somebody else', 'fails', 'SI004', sub {
				my ($bed, $src) = @_;

				$bed->set_options($src, timeout => 2, ca_file => $src->{service}->other_ca_file);
				return { %{ $bed->run($src) }, fired => 1 };
			});
	}
	else
	{
		$add->('a host key of somebody else', 'fails', 'SI004', sub {
				my ($bed, $src) = @_;

				$bed->set_options($src, host_key_sha256 => 'SHA256:' . 'A' x 43);
				return { %{ $bed->run($src) }, fired => 1 };
			});
	}
	return @cases;
}

# ----------
# Answers that are none
# ----------

sub answers
{
	my ($source) = @_;
	my $clever = $source eq 'clever';
	my @cases;
	my $add = sub {
		my ($fault, $outcome, $sqlstate, $times, @of_fault) = @_;

		push @cases, { source => $source, phase => 'fetch', fault => $fault,
			outcome => $outcome, sqlstate => $sqlstate,
			do => sub {
				my ($bed, $src) = @_;
				my $at = (qw(first middle last))[ $bed->random(3) ];

				$bed->set_options($src, timeout => 2) if $outcome eq 'fails';
				$src->{service}->change(faults => [ { id => 'f', on => $USERS{$source},
							at => $at, times => $times, @of_fault } ]);
				$src->{service}{seen} = [];
				my $result = $bed->run($src);

				return { %$result, fired => $src->{service}->fired('f') };
			} };
		return;
	};
	my $later = sub {
		my ($seconds) = @_;

		return $clever ? (kind => 'rate', seconds => $seconds)
		  : (kind => 'status', status => 429, headers => [ [ 'Retry-After', $seconds ] ]);
	};

	$add->('401 midway', 'fails', 'SI002', 99, kind => 'status', status => 401);
	$add->('403 midway', 'fails', 'SI002', 99, kind => 'status', status => 403);
	$add->('429, once', 'passes', undef, 1, $later->(1));
	$add->('429, wait two hours', 'fails', 'SI005', 99, $later->(7200));
	for my $status (500, 502, 503, 504)
	{
		$add->("$status, once", 'passes', undef, 1, kind => 'status', status => $status);
		$add->("$status, for good", 'fails', 'SI004', 99, kind => 'status', status => $status);
	}
	my $short = $clever ? 'short' : 'json_cut';
	$add->('a web page, once', 'passes', undef, 1, kind => 'html');
	$add->('a web page, for good', 'fails', 'SI006', 99, kind => 'html');
	$add->('a body cut, once', 'passes', undef, 1, kind => 'cut');
	$add->('a body cut, for good', 'fails', 'SI007', 99, kind => 'cut');
	$add->('wrong length, once', 'passes', undef, 1, kind => $short);
	$add->('wrong length, for good', 'fails', 'SI007', 99, kind => $short);
	$add->('reset, once', 'passes', undef, 1, kind => 'reset');
	$add->('reset, for good', 'fails', 'SI004', 99, kind => 'reset');
	$add->('garbage', 'fails', 'SI006', 99, kind => 'body', text => "\x01out of order\x02" x 20);
	my $list = $clever ? 'data' : 'users';
	my %shape = ('an empty object' => '{}', 'a list' => '[]', 'a string' => '"x"',
		'null for a list' => qq({"$list":null}), 'an object for a list' => qq({"$list":{}}),
		'another list' => '{"gadgets":[]}');
	for my $shape (sort keys %shape)
	{
		$add->("JSON of another shape: $shape", 'fails', 'SI006', 99, kind => 'body', text => $shape{$shape});
	}
	return @cases;
}

1;
