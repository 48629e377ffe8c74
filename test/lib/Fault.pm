# Fault.pm
#	A test bed for faults: a sync of each kind of source, two nights that each
#	can go to and fro between, faults to put in its way, and what must hold
#	afterwards.
#
#	my $bed = Fault->new(seed => 7);
#	my @problems = $bed->try_case({ source => 'zip', phase => 'apply',
#		fault => 'cancel', outcome => 'fails', sqlstate => '57014',
#		do => sub { my ($bed, $src) = @_; ...; return { fired => 1, error => … } } });
#
# outcome says what the run in the fault's way comes to:
#	passes		succeeds, all the same
#	fails		with that sqlstate (a pattern), which the log says too
#	unlogged	with that sqlstate, which the log could not say
#	ends		its backend is no more
#	any			succeeds, or fails with that sqlstate
# The roster then is as it was, to the row version, or all the night's, by the
# content of each row; the log says which; nothing is left over; and the next
# run comes to the night's roster and calls interrupted what had no end.
#
# The two nights: in A there is student 59 of sixty, in B student 60 instead,
# and student 1 has another e-mail address.  The threshold is 99, so that
# nothing but the checks of completeness stands before the roster.
package Fault;

use strict;
use warnings;
use District;
use Hold;
use Service;
use SisTest;
use Sshd;
use Zip;

our @SOURCES = qw(directory zip sftp clever oneroster);
our %KIND = (memory => 1, temporary => 2, tables => 3);    # of test/lib/fault.c

my $TOKEN = '0f1e2d3c4b5a69788796a5b4c3d2e1f001234567';
my $COUNTDOWN = 1 << 30;

sub new
{
	my ($class, %opt) = @_;
	my $node = SisTest->new(conf => { max_prepared_transactions => 1,
			restart_after_crash => 'on', autovacuum => 'off',
			client_min_messages => 'warning' });
	my $self = bless { node => $node, db => 'faults', seed => $opt{seed},
		random => $opt{seed} & 0x7fffffff, dir => $node->dir('faults') }, $class;

	$self->_make_preload;
	$self->start;
	$node->fresh_db($self->{db});
	$self->{hold} = Hold->new($node, $self->{db}, late => 1);
	$self->_make_raising;
	$self->_write_nights;
	$self->_make_sources;
	$self->_first_nights;
	return $self;
}

# Numbers from the seed, the same on every machine.
sub random
{
	my ($self, $n) = @_;

	$self->{random} = ($self->{random} * 1103515245 + 12345) & 0x7fffffff;
	return ($self->{random} >> 8) % $n;
}

sub node   { return $_[0]{node}; }
sub hold   { return $_[0]{hold}; }
sub source { return $_[0]{source}{ $_[1] }; }

# Whether fault.c can be preloaded: not before a sanitizer.
sub can_preload { return !$ENV{ASAN_OPTIONS} && !$ENV{UBSAN_OPTIONS}; }

sub start
{
	my ($self) = @_;

	local $ENV{LD_PRELOAD} = $self->{preload} // '';
	local $ENV{SIS_FAULT_FILE} = $self->{order_file};
	delete $ENV{LD_PRELOAD} if !$self->{preload};
	$self->{node}->start;
	return;
}

# By a session of its own.
sub query
{
	my ($self, $sql) = @_;

	$self->{control} //= $self->{node}->session($self->{db});
	my $result = $self->{control}->query($sql);
	die "$sql: $result->{err}" if $result->{error};
	return $result->{out};
}

sub value { return $_[0]->query($_[1])->[0][0]; }

sub wait_for
{
	my ($self, $sql) = @_;
	my $until = time + 30;

	while (time < $until)
	{
		return 1 if ($self->value($sql) // 'f') eq 't';
		select(undef, undef, undef, 0.01);
	}
	return 0;
}

# ----------
# Sources
# ----------

sub _write_nights
{
	my ($self) = @_;
	my $all = District->new(seed => 5, schools => 2, students => 60, staff => 6,
		sections => 12, contacts => 30, enroll => 2);
	my %night = (A => $all->copy, B => $all->copy);

	$night{A}->remove('student', 'stu-000060');
	$night{B}->remove('student', 'stu-000059');
	$night{B}->set('student', 'stu-000001', email => 'b@example.org');
	for my $name (qw(A B))
	{
		my $dir = $self->{dir};

		$night{$name}->write("$dir/oneroster/$name", layout => 'oneroster11');
		$night{$name}->write("$dir/clever/$name", layout => 'clever');
		mkdir "$dir/zip" if !-d "$dir/zip";
		Zip::pack_folder("$dir/zip/$name.zip", "$dir/oneroster/$name");
	}
	mkdir "$self->{dir}/bad" or die $!;
	return;
}

sub _make_sources
{
	my ($self) = @_;
	my $node = $self->{node};
	my $dir = $self->{dir};
	my $sshd = $self->{sshd} = Sshd->new($node->dir('sshd'));
	my $key = Sshd::key($node->dir('keys'), 'night', 'ed25519');
	my %service = (
		clever => Service->new($node, 'clever', data => "$dir/clever/A",
			tokens => [$TOKEN], rate_limit => 1_000_000),
		oneroster => Service->new($node, 'oneroster', data => "$dir/oneroster/A",
			version => '1.1', base => '/ims/oneroster/v1p1', auth => { bearer => $TOKEN }));
	my %options = (
		directory => { path => "$dir/oneroster/A" },
		zip => { path => "$dir/zip/A.zip" });
	my %mapping = (clever => { token => $TOKEN }, oneroster => { token => $TOKEN },
		sftp => { username => $sshd->user, private_key => $key->{private} });
	my %port = (sftp => $sshd->port, map { $_ => $service{$_}->port } keys %service);

	$sshd->authorize($key);
	$sshd->start;
	for my $name (@SOURCES)
	{
		my $src = $self->{source}{$name} = { name => $name, state => '',
			service => $service{$name} };

		if ($port{$name})
		{
			$src->{proxy} = Service->new($node, 'proxy', tls => 0, to => $port{$name},
				count => "$dir/count_$name");
			$options{$name} = { timeout => 20 };
		}
		if ($service{$name})
		{
			$options{$name}{base_url} = 'https://127.0.0.1:' . $src->{proxy}->port
			  . ($service{$name}{control}{base} // '');
			$options{$name}{ca_file} = $service{$name}->ca_file;
			$options{$name}{page_size} = 15;
			$options{$name}{auth} = 'bearer' if $name eq 'oneroster';
		}
		if ($name eq 'sftp')
		{
			$options{$name} = { %{ $options{$name} }, path => "$dir/oneroster/A",
				host => '127.0.0.1', port => $src->{proxy}->port,
				host_key_sha256 => $sshd->fingerprint('ed25519') };
		}
		my $wrapper = { zip => 'directory' }->{$name} // $name;
		$self->query("CREATE SERVER $name FOREIGN DATA WRAPPER sis_$wrapper "
			  . _options($options{$name}));
		$self->query("CREATE USER MAPPING FOR PUBLIC SERVER $name " . _options($mapping{$name}))
		  if $mapping{$name};
		$self->query(q{INSERT INTO sis_sync.sync (name, server, all_schools, deletion_threshold)}
			  . " VALUES ('$name', '$name', true, 99)");
		$src->{id} = $self->value("SELECT id FROM sis_sync.sync WHERE name = '$name'");
		$src->{options} = { %{ $options{$name} } };
	}
	return;
}

sub _options
{
	my ($options) = @_;

	return 'OPTIONS (' . join(', ', map { "$_ '$options->{$_}'" } sort keys %$options) . ')';
}

# Sets options of a source's server; undef takes one away.  mend() puts back
# what they were.
sub set_options
{
	my ($self, $src, %new) = @_;
	my $now = $src->{options};
	my @changes;

	for my $key (sort keys %new)
	{
		$src->{mend}{$key} = $now->{$key} if !exists $src->{mend}{$key};
		push @changes, !defined $new{$key} ? (defined $now->{$key} ? "DROP $key" : ())
		  : (defined $now->{$key} ? 'SET' : 'ADD') . " $key '$new{$key}'";
		$now->{$key} = $new{$key};
	}
	$self->query("ALTER SERVER $src->{name} OPTIONS (" . join(', ', @changes) . ')') if @changes;
	return;
}

sub mend
{
	my ($self, $src) = @_;

	$self->order(0, 0, 0) if $self->{preload};
	$self->set_options($src, %{ $src->{mend} // {} });
	$src->{mend} = {};
	$src->{proxy}->change(fault => undef) if $src->{proxy} && $src->{proxy}{control}{fault};
	$src->{service}->change(faults => undef) if $src->{service} && $src->{service}{control}{faults};
	if ($self->{held})
	{
		$self->{hold}->release;
		$self->{held} = 0;
	}
	return;
}

# Has a source show a night, as of now.
sub show
{
	my ($self, $src, $night) = @_;
	my $dir = $self->{dir};
	my $path = $src->{name} eq 'zip' ? "$dir/zip/$night.zip" : "$dir/oneroster/$night";

	if ($src->{service})
	{
		my $of = $src->{name} eq 'clever' ? 'clever' : 'oneroster';

		$src->{service}->change(data => "$dir/$of/$night");
	}
	else
	{
		utime undef, undef, $path, glob "$path/*";
		$self->set_options($src, path => $path);
		delete $src->{mend}{path};
	}
	$src->{night} = $night;
	return;
}

# The folder or zip file that a source reads tonight.
sub path
{
	my ($self, $src) = @_;

	return "$self->{dir}/oneroster/$src->{night}";
}

# ----------
# Running
# ----------

sub session
{
	my ($self, $src) = @_;

	return $src->{session} //= $self->{node}->session($self->{db});
}

# The run, with SQL before it in the same session.
sub begin_run
{
	my ($self, $src, $before) = @_;
	my $session = $self->session($src);

	if ($before)
	{
		my $error = $session->query($before)->{error};
		die $error->{text} if $error;
	}
	return $session->send("CALL sis_sync.run('$src->{name}')");
}

sub run
{
	my ($self, $src, $before) = @_;

	return $self->begin_run($src, $before)->wait;
}

# Every row of a sync's roster: {"type id" => [version, content]}.
sub roster
{
	my ($self, $src) = @_;
	my $rows = $self->query(join ' UNION ALL ', map {
			"SELECT '$_ ' || source_id, md5(concat(xmin, t)), md5((to_jsonb(t)"
			  . " - '{created_at,updated_at,archived_at,created_run,updated_run,restored_run,archived_run}'::text[]"
			  . " || jsonb_build_object('archived', archived_at IS NOT NULL))::text)"
			  . " FROM roster.$_ t WHERE sync_id = $src->{id}"
		} qw(school term course section student staff contact student_contact enrollment));

	return { map { $_->[0] => [ @$_[ 1, 2 ] ] } @$rows };
}

# What differs between two rosters: versions (0) or contents (1) of rows.
sub difference
{
	my ($old, $new, $of) = @_;
	my %all = map { $_ => 1 } keys %$old, keys %$new;

	return grep { !$old->{$_} || !$new->{$_} || $old->{$_}[$of] ne $new->{$_}[$of] } sort keys %all;
}

sub last_run
{
	my ($self, $src) = @_;
	my $row = $self->query('SELECT id, status, error_code, finished_at IS NOT NULL, reason'
		  . " FROM sis_sync.run WHERE sync = '$src->{name}' ORDER BY id DESC LIMIT 1")->[0] // [0];

	return { map { (qw(id status error_code finished reason))[$_] => $row->[$_] } 0 .. 4 };
}

# The first nights, which teach what A and B are, and how long they take.
sub _first_nights
{
	my ($self) = @_;

	for my $src (map { $self->source($_) } @SOURCES)
	{
		for my $night (qw(A B A B A))
		{
			my ($bytes, $calls);

			$self->show($src, $night);
			$src->{proxy}->change if $src->{proxy};
			$self->order($self->session($src)->pid, 'memory', $COUNTDOWN) if $self->{preload};
			my $error = $self->run($src)->{error};
			die "$src->{name}: $error->{text}" if $error;
			$src->{expected}{$night} = $self->roster($src);
			$src->{bytes} = Sshd::read_file("$self->{dir}/count_$src->{name}") if $src->{proxy};
			$src->{memory} = $COUNTDOWN - $self->ordered->[2] if $self->{preload};
			$self->mend($src);
		}
		$src->{state} = 'A';
		$src->{fds} = _descriptors($self->session($src)->pid);
	}
	return;
}

# A place among the bytes that the server of a source says in a night.
sub random_byte
{
	my ($self, $src) = @_;

	return 1 + $self->random(int($src->{bytes} * 0.9));
}

# ----------
# Faults
# ----------

sub _make_preload
{
	my ($self) = @_;
	my $file = "$self->{dir}/fault.so";

	$self->{order_file} = "$self->{dir}/order";
	open my $fh, '>:raw', $self->{order_file} or die $!;
	print $fh pack('l4', 0, 0, 0, 0) or die $!;
	close $fh or die $!;
	return if !can_preload();
	system('gcc', '-O1', '-fPIC', '-shared', '-o', $file, "$SisTest::ROOT/test/lib/fault.c") == 0
	  or die "gcc failed\n";
	$self->{preload} = $file;
	return;
}

# Orders that in that process the n-th call of a kind fails.
sub order
{
	my ($self, $pid, $kind, $n) = @_;

	open my $fh, '+<:raw', $self->{order_file} or die $!;
	syswrite $fh, pack('l4', 0, 0, 0, 0) or die $!;
	sysseek $fh, 0, 0;
	syswrite $fh, pack('l4', $pid, $KIND{$kind} // 0, $n, 0) or die $!;
	return;
}

# [pid, kind, calls left, how often it fired]
sub ordered
{
	my ($self) = @_;

	return [ unpack 'l4', Sshd::read_file($self->{order_file}) ];
}

# Errors to order at a moment: SET sis_fault.raise = 'apply:53100'.
sub _make_raising
{
	my ($self) = @_;

	$self->{node}->run($self->{db}, q{
		CREATE FUNCTION public.fault_raise(moment text) RETURNS boolean IMMUTABLE
		LANGUAGE plpgsql AS $$
		DECLARE
		  told text := current_setting('sis_fault.raise', true);
		BEGIN
		  IF split_part(told, ':', 1) = moment THEN
		    RAISE EXCEPTION 'ordered at %', moment USING ERRCODE = split_part(told, ':', 2);
		  END IF;
		  RETURN true;
		END $$;
		CREATE FUNCTION public.fault_trigger() RETURNS trigger
		LANGUAGE plpgsql AS $$
		BEGIN
		  PERFORM public.fault_raise(tg_argv[0]);
		  RETURN new;
		END $$;
		CREATE INDEX fault ON roster.student (source_id) WHERE public.fault_raise('verify');
		CREATE TRIGGER fault_apply BEFORE UPDATE ON roster.student FOR EACH ROW
		  WHEN (new.archived_at IS NULL) EXECUTE FUNCTION public.fault_trigger('apply');
		CREATE TRIGGER fault_archive BEFORE UPDATE ON roster.student FOR EACH ROW
		  WHEN (new.archived_at IS NOT NULL) EXECUTE FUNCTION public.fault_trigger('archive');
		CREATE TRIGGER fault_log BEFORE UPDATE ON sis_sync.run FOR EACH ROW
		  WHEN (new.status = 'succeeded') EXECUTE FUNCTION public.fault_trigger('log');
		CREATE TRIGGER fault_failed BEFORE UPDATE ON sis_sync.run FOR EACH ROW
		  WHEN (new.status = 'failed') EXECUTE FUNCTION public.fault_trigger('failed');
		CREATE CONSTRAINT TRIGGER fault_commit AFTER UPDATE ON roster.student
		  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.fault_trigger('commit')});
	return;
}

# Lets a run come to a moment and wait there; false when it does not.
sub hold_at
{
	my ($self, $src, $moment, $before) = @_;
	my $session = $self->session($src);

	$self->{hold}->at($moment);
	$self->{held} = 1;
	$self->begin_run($src, $before);
	return $self->wait_for("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = "
		  . $session->pid);
}

# Ends the run: cancel, terminate, kill -9, fast or immediate.
sub end
{
	my ($self, $src, $how) = @_;
	my $pid = $self->session($src)->pid;

	if ($how =~ /^(?:cancel|terminate)$/)
	{
		$self->value("SELECT pg_${how}_backend($pid)");
		return $src->{session}->wait;
	}
	if ($how eq 'kill -9')
	{
		$self->{node}->kill9($pid);
	}
	else
	{
		$self->{node}->stop($how);
		$self->start;
	}
	my $result = $src->{session}->wait;

	# nor is anybody else's session there
	delete $_->{session} for values %{ $self->{source} };
	delete $self->{control};
	return $result;
}

# ----------
# What must hold
# ----------

sub _descriptors
{
	my ($pid) = @_;

	# sockets, pipes, files of others: PostgreSQL keeps files of tables open
	return scalar grep { !m{/data/(?:base|global|pg_wal|pg_xact)/} }
	  map { readlink // () } glob "/proc/$pid/fd/*";
}

sub _left_over
{
	my ($self, $src) = @_;
	my @problems;
	my $locks = $self->value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3");
	my @temporary = glob $self->{node}->host . '/data/base/pgsql_tmp/*';

	push @problems, "locks: $locks" if $locks != 0;
	push @problems, "temporary files: @temporary" if @temporary;
	if ($src->{session})
	{
		my $fds = _descriptors($src->{session}->pid);
		my $prepared = $src->{session}->query('SELECT (SELECT count(*) FROM pg_prepared_statements)'
			  . ' + (SELECT count(*) FROM pg_cursors)')->{out}[0][0] // 'closed';

		push @problems, "descriptors: $fds, were $src->{fds}" if $fds != $src->{fds};
		push @problems, "prepared statements and cursors: $prepared" if $prepared ne '0' && $prepared ne '1';
	}
	return @problems;
}

# Problems of a case; none when all is as it must be.
sub try_case
{
	my ($self, $case) = @_;
	my $src = $self->source($case->{source});
	my $night = $src->{state} eq 'A' ? 'B' : 'A';
	my @problems;

	$self->show($src, $night);
	my $before = $self->roster($src);
	my $last = $self->last_run($src)->{id};
	my $got = eval { $case->{do}->($self, $src) }
	  // return ("it died: $@", do { $self->mend($src); () });
	my $error = $got->{error};
	my $gone = $got->{closed};

	delete $src->{session} if $gone;
	$self->mend($src);
	my $run = $self->last_run($src);
	my $after = $self->roster($src);
	my @changed = difference($before, $after, 0);
	my $status = $run->{id} == $last ? 'none' : $run->{status};
	my $seen = $error ? "$error->{sqlstate}: $error->{message}" : 'no error';

	push @problems, 'the fault did not fire' if !$got->{fired};
	push @problems, "the connection is gone ($seen)" if $gone && $case->{outcome} ne 'ends';
	push @problems, 'the connection is still there' if !$gone && $case->{outcome} eq 'ends';
	push @problems, $self->_outcome($case, $status, $run, $error, $seen);
	if ($status eq 'succeeded')
	{
		my @wrong = difference($src->{expected}{$night}, $after, 1);

		push @problems, "not the night's roster: @wrong" if @wrong;
	}
	elsif (@changed)
	{
		push @problems, "status $status, and these rows are not as they were: @changed";
	}
	push @problems, $self->_left_over($src);

	# the next run
	$src->{session}->query('RESET ALL') if $src->{session};
	my $next = $self->run($src);
	push @problems, "the next run: $next->{error}{text}" if $next->{error};
	delete $src->{session} if $next->{closed};
	my @wrong = difference($src->{expected}{$night}, $self->roster($src), 1);
	push @problems, "after the next run: @wrong" if @wrong;
	my $next_run = $self->last_run($src);
	push @problems, "the next run: status $next_run->{status}" if $next_run->{status} ne 'succeeded';
	if ($status eq 'running')
	{
		my $now = $self->value("SELECT status FROM sis_sync.run WHERE id = $run->{id}");

		push @problems, "after the next run it is $now" if $now ne 'interrupted';
	}
	push @problems, map { "after the next run: $_" } $self->_left_over($src), $self->_staged($src);
	# what it left is no problem of others
	delete $src->{session} if @problems;
	$src->{state} = $night;
	return @problems;
}

# Slots that are kept after a run that succeeded
sub _staged
{
	my ($self, $src) = @_;
	my $slots = $self->value(q{SELECT string_agg(format('%s of run %s', slot, run_id), ', ')}
		  . " FROM sis_sync.stage_slot WHERE sync = '$src->{name}'"
		  . " AND (pinned OR run_id <> (SELECT max(id) FROM sis_sync.run WHERE sync = '$src->{name}'))");

	return defined $slots ? "staging slots: $slots" : ();
}

sub _outcome
{
	my ($self, $case, $status, $run, $error, $seen) = @_;
	my $outcome = $case->{outcome};
	my $pattern = qr/^(?:$case->{sqlstate})$/ if defined $case->{sqlstate};
	my @problems;

	if ($outcome eq 'passes' || ($outcome eq 'any' && !$error))
	{
		push @problems, "it ends in $seen" if $error;
		push @problems, "status $status" if $status ne 'succeeded';
	}
	elsif ($outcome eq 'ends')
	{
		push @problems, "status $status" if $status !~ /^(?:running|none)$/;
	}
	else
	{
		return "it ends in $seen" if !$error || $error->{sqlstate} !~ $pattern;
		return "it ends in $seen" if $case->{message} && $error->{message} !~ $case->{message};
		# an error before the run is in the log leaves none there
		if ($outcome eq 'unlogged' || ($outcome eq 'any' && $status =~ /^(?:running|none)$/))
		{
			push @problems, "status $status" if $outcome eq 'unlogged' && $status ne 'running';
		}
		else
		{
			push @problems, "status $status" if $status ne 'failed';
			push @problems, 'error_code ' . ($run->{error_code} // 'NULL') . ", raised $error->{sqlstate}"
			  if ($run->{error_code} // '') ne $error->{sqlstate};
			push @problems, 'no finished_at' if ($run->{finished} // 'f') ne 't';
		}
	}
	return @problems;
}

1;
