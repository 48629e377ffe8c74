package SisTest;

=encoding UTF-8

=head1 NAME

SisTest - a private PostgreSQL cluster with sis_sync, for the TAP tests

=head1 SYNOPSIS

    use lib 'test/lib';
    use SisTest;            # also: strict, warnings, utf8, Test::More

    my $node = SisTest->new(conf => { log_statement => 'all' });
    $node->start;
    my $db = $node->fresh_db('year');            # extension and "roster"
    $node->sync($db, 'springfield', $dir, all_schools => 'true');

    $node->run($db, q{CALL sis_sync.run('springfield')});  # dies on an error
    my $n    = $node->value($db, 'SELECT count(*) FROM roster.student');
    my $list = $node->rows($db, 'SELECT 1, NULL');         # [[1, undef]]
    my $recs = $node->hashes($db, 'SELECT 1 AS a');        # [{a => 1}]
    my $err  = $node->fails($db, q{CALL sis_sync.run('x')});
    is($err->{sqlstate}, 'SI009');      # and message, detail, hint, context,
                                        # schema, table, column, constraint
    my $run  = $node->last_run($db, 'springfield');        # row of sis_sync.run
    my $c    = $node->counts($db, $run->{id});  # $c->{student}{archived}

    # another connection, for cancels, locks and races
    my $s = $node->session($db);                # ->pid is its backend
    $s->send(q{CALL sis_sync.run('springfield')});
    $node->wait_until($db, "SELECT true FROM sis_sync.run WHERE status = 'running'");
    $node->value($db, 'SELECT pg_cancel_backend(' . $s->pid . ')');
    my $result = $s->wait;              # {out => [[…]], error => {sqlstate …}}
    $s->query('SELECT 1');              # send and wait
    $s->close;                          # or kill: a client that dies

    $node->kill9($s->pid);              # and waits for the crash recovery
    $node->restart('immediate');        # or fast, the default
    $node->begin_stop('fast');          # stop() then waits for its end
    $node->set(work_mem => '1MB')->restart;
    my $out = `@{[ $node->program('pg_dump') ]} `;   # and ->host, ->port

    my $path = $node->dir('feed');      # a new folder the server can read
    my $real = SisTest::data('oneroster-district')
        or plan skip_all => SisTest::NO_DATA;

    done_testing;

Every call takes the database first and, at its end, options: C<< role => 'x' >>
connects as that role, C<< timeout => 600 >> (seconds; 180) bounds it.  SQL of
several statements runs each in a transaction of its own, as psql does.

Clusters trust everybody who reaches their socket, which lies in a folder of
mode 0700.  Tests run beside each other: nothing may depend on how long
something takes.  Started as root, a test becomes the user postgres before
anything else.  fsync is off unless C<< fsync => 1 >>.  All is stopped and
removed at the end; when a test failed, the end of the server's log is shown.

=cut

use strict;
use warnings;
use utf8;

use Cwd        ();
use Encode     ();
use File::Path ();
use File::Spec ();
use File::Temp ();
use IO::Socket::INET ();
use IPC::Run   ();
use POSIX      ();
use Test::More ();

use constant NO_DATA => 'no data folder beside the tree';

our ($ROOT, $BINDIR, @NODES);

BEGIN
{
	$ENV{LC_ALL} = 'C';
	$ENV{PGCLIENTENCODING} = 'UTF8';
	delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS
		PGPASSWORD PGPASSFILE PGSSLMODE PGTZ PGDATESTYLE)};

	my (undef, $here) = File::Spec->splitpath(Cwd::abs_path(__FILE__));
	$ROOT = Cwd::abs_path("$here/../..");

	if ($> == 0)
	{
		my (undef, undef, $uid, $gid, undef, undef, undef, $home) =
		  getpwnam('postgres')
		  or die "there is no user postgres: run test/setup\n";
		$( = $gid;
		$) = "$gid $gid";
		POSIX::setuid($uid) or die "could not become postgres: $!\n";
		$ENV{HOME} = $home;
	}

	my $pg_config = $ENV{PG_CONFIG};
	if (!$pg_config)
	{
		my $version = sub { $_[0] =~ m{/(\d+)/bin} ? $1 : 0 };
		($pg_config) =
		  sort { $version->($b) <=> $version->($a) }
		  grep { my $pgxs = `$_ --pgxs 2>/dev/null`; chomp $pgxs; -f $pgxs }
		  glob('/usr/lib/postgresql/*/bin/pg_config');
		$pg_config ||= 'pg_config';
	}
	chomp($BINDIR = `$pg_config --bindir`);
	die "pg_config does not run: run test/setup\n" if $? != 0;
}

sub import
{
	my $package = caller;

	strict->import;
	warnings->import;
	utf8->import;
	eval "package $package; Test::More->import; 1" or die $@;
	my $builder = Test::More->builder;
	binmode($_, ':encoding(UTF-8)')
	  for $builder->output, $builder->failure_output, $builder->todo_output;
	return;
}

# The project's top folder.
sub root { return $ROOT; }

# A real roster beside the tree, or undef where it is absent.
sub data
{
	my ($name) = @_;
	my $path = "$ROOT/../shared/data/$name";

	return -d $path ? Cwd::abs_path($path) : undef;
}

# --- the cluster -----------------------------------------------------------

sub new
{
	my ($class, %arg) = @_;
	my $conf = $arg{conf} || {};
	my $top = File::Temp::tempdir('sis_sync_XXXXXX', TMPDIR => 1);
	my $self = bless {
		top  => $top,
		port => _free_port(),
		pid  => $$,
		dirs => 0
	}, $class;

	chmod 0700, $top;
	push @NODES, $self;
	_system("$BINDIR/initdb", '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N',
		'-D', "$top/data");
	my %set = (
		listen_addresses        => '',
		unix_socket_directories => $top,
		port                    => $self->{port},
		fsync                   => $arg{fsync} ? 'on' : 'off',
		log_line_prefix         => '%m [%p] %q%a ',
		%$conf);
	return $self->set(%set);
}

# Adds settings; they count from the next start.
sub set
{
	my ($self, %set) = @_;

	open(my $fh, '>>', "$self->{top}/data/postgresql.conf") or die $!;
	print $fh "$_ = " . _literal($set{$_}) . "\n" for sort keys %set;
	close($fh) or die $!;
	return $self;
}

sub start
{
	my ($self) = @_;

	_system("$BINDIR/pg_ctl", '-s', '-w', '-t', '120', '-D',
		"$self->{top}/data", '-l', "$self->{top}/log", 'start');
	$self->{running} = 1;
	return $self;
}

sub stop
{
	my ($self, $mode) = @_;

	return $self if !$self->{running};
	$self->begin_stop($mode || 'fast') if !$self->{stopping};
	for (1 .. 2400)
	{
		last if !-e "$self->{top}/data/postmaster.pid";
		select(undef, undef, undef, 0.05);
	}
	die "the server did not stop\n" if -e "$self->{top}/data/postmaster.pid";
	$self->{running} = $self->{stopping} = 0;
	return $self;
}

# Asks for a shutdown; stop() also waits for its end.
sub begin_stop
{
	my ($self, $mode) = @_;

	_system("$BINDIR/pg_ctl", '-s', '-W', '-D', "$self->{top}/data",
		'-m', $mode, 'stop');
	$self->{stopping} = 1;
	return $self;
}

sub restart
{
	my ($self, $mode) = @_;

	return $self->stop($mode)->start;
}

# Kills a backend as a crash would, and waits until the server is back.
sub kill9
{
	my ($self, $pid) = @_;

	kill('KILL', $pid) == 1 or die "no process $pid\n";
	for (1 .. 600)
	{
		select(undef, undef, undef, 0.1);
		next if kill(0, $pid);
		my ($out, undef, $code) = $self->try('postgres', 'SELECT 1');
		return $self if $code == 0;
	}
	die "the server did not recover from the crash\n";
}

# A new empty folder, for files that the server reads.
sub dir
{
	my ($self, $name) = @_;
	my $path = sprintf('%s/%d-%s', $self->{top}, ++$self->{dirs}, $name || 'dir');

	mkdir $path or die "could not make $path: $!";
	return $path;
}

# The server's log so far.
sub log
{
	my ($self) = @_;

	open(my $fh, '<:encoding(UTF-8)', "$self->{top}/log") or return '';
	local $/;
	return scalar <$fh>;
}

# Path of a PostgreSQL program, and what it needs to connect.
sub program { return "$BINDIR/$_[1]"; }
sub bindir  { return $BINDIR; }
sub host    { return $_[0]{top}; }
sub port    { return $_[0]{port}; }

# --- databases -------------------------------------------------------------

# A new database with the extension and a roster; roster => undef: without.
sub fresh_db
{
	my ($self, $name, %opt) = @_;
	my $roster = exists $opt{roster} ? $opt{roster} : 'roster';

	$self->run('postgres', qq{CREATE DATABASE "$name"});
	$self->run($name, 'CREATE EXTENSION sis_sync');
	$self->run($name, "SELECT sis_sync.create_roster('$roster')") if defined $roster;
	return $name;
}

# A server of sis_directory over a folder, and a sync of the same name over
# it.  Other arguments are columns of sis_sync.sync, as SQL; schools => […]
# sets up schools.
sub sync
{
	my ($self, $db, $name, $path, %set) = @_;
	my $schools = delete $set{schools} || [];
	my @columns = sort keys %set;

	$self->run($db, sprintf('CREATE SERVER "%s" FOREIGN DATA WRAPPER sis_directory OPTIONS (path %s)',
			$name, _literal($path)));
	$self->run($db, sprintf('INSERT INTO sis_sync.sync (%s) VALUES (%s)',
			join(', ', qw(name server), @columns),
			join(', ', _literal($name), _literal($name), @set{@columns})));
	$self->run($db, sprintf('INSERT INTO sis_sync.sync_school (sync, school_id) VALUES (%s, %s)',
			_literal($name), _literal($_)))
	  for @$schools;
	return $name;
}

sub last_run
{
	my ($self, $db, $sync) = @_;

	return $self->hashes($db, sprintf('SELECT * FROM sis_sync.run WHERE sync = %s ORDER BY id DESC LIMIT 1',
			_literal($sync)))->[0];
}

# {record_type => row of run_count} of a run.
sub counts
{
	my ($self, $db, $run) = @_;

	return { map { $_->{record_type} => $_ }
		  @{ $self->hashes($db, "SELECT * FROM sis_sync.run_count WHERE run_id = $run") } };
}

# --- SQL -------------------------------------------------------------------

# (standard output, standard error, exit code) of psql; never dies.
sub try
{
	my ($self, $db, $sql, %opt) = @_;
	my ($out, $err) = ('', '');
	my @flags = @{ delete $opt{flags} || ['-At'] };
	my $timer = IPC::Run::timeout($opt{timeout} || 180);
	my $ok = eval {
		IPC::Run::run([ $self->_psql($db, %opt), @flags ],
			'<', \Encode::encode('UTF-8', $sql), '>', \$out, '2>', \$err, $timer);
		1;
	};
	my $code = $? >> 8;

	if (!$ok)
	{
		die $@ if !$timer->is_expired;
		die "psql took more than " . ($opt{timeout} || 180) . " s: $sql\n";
	}
	return (Encode::decode('UTF-8', $out), Encode::decode('UTF-8', $err), $code);
}

# Runs SQL that must succeed; returns standard output.
sub run
{
	my ($self, $db, $sql, %opt) = @_;
	my ($out, $err, $code) = $self->try($db, $sql, %opt);

	die "in $db: $sql\n$err" if $code != 0;
	chomp $out;
	return $out;
}

# Rows of one statement as arrays; NULL is undef.
sub rows
{
	my ($self, $db, $sql, %opt) = @_;
	my $out = $self->run($db, $sql, %opt, flags => [ _row_flags(), '-t' ]);

	return _split_rows($out);
}

# Rows of one statement as hashes.
sub hashes
{
	my ($self, $db, $sql, %opt) = @_;
	my $out = $self->run($db, $sql, %opt, flags => [ _row_flags(), '-P', 'footer=off' ]);
	my ($names, @rows) = @{ _split_rows($out) };

	return [ map { my %h; @h{@$names} = @$_; \%h } @rows ];
}

# The one value of one statement; undef for NULL or no row.
sub value
{
	my ($self, $db, $sql, %opt) = @_;

	return ($self->rows($db, $sql, %opt)->[0] || [])->[0];
}

# The error of SQL that must fail, as a hash; a failed test when it does not.
sub fails
{
	my ($self, $db, $sql, %opt) = @_;
	my (undef, $err, $code) = $self->try($db, $sql, %opt);

	if ($code == 0)
	{
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		Test::More::fail("should have raised an error: $sql");
		return {};
	}
	return parse_error($err);
}

# What psql printed of an error under VERBOSITY verbose, taken apart.
sub parse_error
{
	my ($text) = @_;
	my %names = (
		'DETAIL'          => 'detail',
		'HINT'            => 'hint',
		'CONTEXT'         => 'context',
		'SCHEMA NAME'     => 'schema',
		'TABLE NAME'      => 'table',
		'COLUMN NAME'     => 'column',
		'CONSTRAINT NAME' => 'constraint');
	my $others = 'QUERY|LINE|LOCATION|DATATYPE NAME|NOTICE|WARNING|INFO';
	my $label = qr/^(${\ join('|', sort keys %names)}|$others)(?: \d+)?:(?:  ?(.*))?$/;
	my (%error, $field);

	for my $line (split /\n/, $text)
	{
		$line =~ s/^psql:[^:]*:\d+: //;
		if ($line =~ /^(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}): (.*)/)
		{
			last if exists $error{sqlstate};
			@error{qw(sqlstate message)} = ($1, $2);
			$field = 'message';
		}
		elsif ($line =~ $label)
		{
			my ($name, $value) = ($1, $2);
			$field = exists $error{sqlstate} ? $names{$name} : undef;
			$error{$field} = defined $value ? $value : '' if $field;
		}
		elsif ($field)
		{
			$error{$field} .= "\n$line";
		}
	}
	$error{text} = $text;
	return \%error;
}

# Polls until the statement's value is true.
sub wait_until
{
	my ($self, $db, $sql, %opt) = @_;
	my $until = time + ($opt{timeout} || 60);

	while (time <= $until)
	{
		my $value = $self->value($db, $sql, %opt);
		return 1 if defined $value && $value ne 'f' && $value ne '0';
		select(undef, undef, undef, 0.05);
	}
	die "waited in vain for: $sql\n";
}

# --- a session of its own --------------------------------------------------

sub session
{
	my ($self, $db, %opt) = @_;

	return SisTest::Session->new($self, $db, %opt);
}

# --- inside ----------------------------------------------------------------

sub _psql
{
	my ($self, $db, %opt) = @_;

	return ("$BINDIR/psql", '-X', '-q', '-v', 'VERBOSITY=verbose',
		'-v', 'ON_ERROR_STOP=1', '-h', $self->{top}, '-p', $self->{port},
		'-U', $opt{role} || scalar getpwuid($>), '-d', $db);
}

# Rows end in a zero byte, fields in 0x1f, and NULL is 0x1d: nothing that a
# roster's text holds.
sub _row_flags { return ('-A', '-0', '-F', "\x1f", '-P', "null=\x1d"); }

sub _split_rows
{
	my ($out) = @_;

	return [ map { [ map { $_ eq "\x1d" ? undef : $_ } split /\x1f/, $_, -1 ] }
		  split /\0/, $out ];
}

sub _literal
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

sub _free_port
{
	my $socket = IO::Socket::INET->new(
		Listen    => 1,
		LocalAddr => '127.0.0.1',
		LocalPort => 0) or die "no free port: $!";

	return $socket->sockport;
}

sub _system
{
	my @command = @_;
	my $out = '';
	my $log = File::Temp->new;

	# To a file, not a pipe: the server would keep a pipe open.
	IPC::Run::run(\@command, '<', \undef, '>', "$log", '2>&1')
	  or do { local $/; die "@command failed:\n" . <$log> };
	return;
}

# Stops and removes what is left, also after die, INT and TERM.
sub _clean_up
{
	my ($code) = @_;
	my $failed = $code != 0 || !Test::More->builder->is_passing;

	for my $node (grep { $_->{pid} == $$ } @NODES)
	{
		if ($failed && -f "$node->{top}/log")
		{
			my @log = split /\n/, $node->log;
			splice @log, 0, @log - 30 if @log > 30;
			Test::More::diag("the end of the server's log:");
			Test::More::diag("  $_") for @log;
		}
		eval { $node->stop('immediate') } if -f "$node->{top}/data/postmaster.pid";
		File::Path::remove_tree($node->{top});
	}
	@NODES = ();
	return;
}

$SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { exit 130 };
# "perl test/t/x.pl | head" must not end the test without its clean-up.
$SIG{PIPE} = sub { };

END
{
	my $code = $?;

	_clean_up($code);
	$? = $code;
}

package SisTest::Session;

use strict;
use warnings;

# A psql that stays; each answer ends in a mark that it is told to print.
sub new
{
	my ($class, $node, $db, %opt) = @_;
	my $self = bless { in => '', out => '', err => '', marks => 0,
		timeout => $opt{timeout} || 180 }, $class;

	$self->{timer} = IPC::Run::timer($self->{timeout});
	$self->{psql} = IPC::Run::start(
		[ $node->_psql($db, %opt), '-v', 'ON_ERROR_STOP=0', SisTest::_row_flags(), '-t' ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()')->{out}[0][0];
	return $self;
}

# The process ID of the backend.
sub pid { return $_[0]{pid}; }

# Sends SQL and does not wait for it.
sub send
{
	my ($self, $sql) = @_;
	my $mark = 'mark-' . ++$self->{marks};

	$self->{mark} = $mark;
	$self->{in} .= Encode::encode('UTF-8', $sql) . "\n;\n\\echo $mark\n\\warn $mark\n";
	$self->{psql}->pump_nb;
	return $self;
}

# Waits for what was sent: {out => rows, error => hash or undef}; closed is
# true when the connection is gone.
sub wait
{
	my ($self, $timeout) = @_;
	my $mark = $self->{mark};
	my $closed = 0;

	$self->{timer}->start($timeout || $self->{timeout});
	until ($self->{out} =~ /\Q$mark\E\n/ && $self->{err} =~ /\Q$mark\E\n/)
	{
		die "the session took too long\n" if $self->{timer}->is_expired;
		if (!$self->{psql}->pumpable || !eval { $self->{psql}->pump; 1 })
		{
			$closed = 1;
			last;
		}
	}
	my ($out, $err) = @$self{qw(out err)};
	@$self{qw(out err)} = ('', '');
	s/\Q$mark\E\n.*//s for $out, $err;
	$out = Encode::decode('UTF-8', $out);
	$err = Encode::decode('UTF-8', $err);
	return {
		out    => SisTest::_split_rows($out),
		error  => $err =~ /^(?:psql:[^:]*:\d+: )?(?:ERROR|FATAL|PANIC):/m ? SisTest::parse_error($err) : undef,
		err    => $err,
		closed => $closed || $err =~ /connection to server was lost/ ? 1 : 0
	};
}

sub query
{
	my ($self, $sql, $timeout) = @_;

	return $self->send($sql)->wait($timeout);
}

sub close
{
	my ($self) = @_;

	return if !$self->{psql};
	$self->{in} .= "\\q\n";
	eval { $self->{psql}->finish; 1 } or $self->{psql}->kill_kill;
	delete $self->{psql};
	return;
}

# Kills the client, not the backend.
sub kill    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self) = @_;

	$self->{psql}->kill_kill;
	delete $self->{psql};
	return;
}

sub DESTROY { local ($?, $@); $_[0]->close; return; }

1;
