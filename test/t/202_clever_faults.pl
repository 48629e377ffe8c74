# Clever misbehaves at the first, a middle and the last page: what may pass is
# tried again, what does not pass leaves the roster untouched.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use List::Util qw(max);
use SampleClever;
use SisTest;
use Time::HiRes ();

my $node = SisTest->new(conf => { log_min_messages => 'debug1' })->start;
my $db = $node->fresh_db('faults');
my $s = SampleClever->new($node, $db, 'springfield',
	district => District->new(seed => 9, schools => 2, students => 40, staff => 4,
		sections => 30, contacts => 20),
	options => { page_size => 9 });
my $service = $s->service;
my $students = 'users?role=student';

$s->run_succeeds('first load');
my $digest = $s->digest;

# ----------
# What passes
# ----------

my %passing = (
	500 => { kind => 'status', status => 500 },
	502 => { kind => 'status', status => 502, body => '<html>Bad Gateway</html>' },
	503 => { kind => 'status', status => 503, body => '' },
	504 => { kind => 'status', status => 504 },
	408 => { kind => 'status', status => 408 },
	html => { kind => 'html' },
	cut => { kind => 'cut' },
	short => { kind => 'short' },
	syntax => { kind => 'syntax' },
	reset => { kind => 'reset' },
	rate => { kind => 'rate', seconds => 1 },
	'rate, and no word how long' => { kind => 'rate' });

for my $name (sort keys %passing)
{
	# at all three at once, and in two lists beside each other
	$service->change(faults => [ map { my $on = $_;
				map { { %{ $passing{$name} }, id => "$name $_ $on", on => $on, at => $_ } } qw(first middle last) }
			  $students, 'sections' ]);
	$s->run_succeeds("$name, once");
	$s->counts_are("$name, once: all is read, once", student => { rows_read => 40, unchanged => 40, rejected => 0 },
		section => { rows_read => 30, unchanged => 30 }, enrollment => { created => 0, archived => 0 });
	$service->has_misbehaved($name);
	$service->is_clean($name);
	is($s->digest, $digest, "$name, once: the roster is the same");
}
$service->change(faults => [ map { { id => $_, on => $_, kind => 'cut', times => 2 } }
		qw(districts users?role=contact users?role=teacher users?role=staff users?role=district_admin
		courses terms schools) ]);
$s->run_succeeds('every list is cut twice');
$service->has_misbehaved('every list is cut twice');
$service->change(faults => [ { id => 'tokens', on => 'tokens', kind => 'status', status => 503 } ],
	client => { id => 'app', secret => 's' }, connected => [ { district => 'd15c0' . '0' x 19, token => $s->token } ],
	district => { id => 'd15c0' . '0' x 19 });
$node->run($db, 'UPDATE sis_sync.sync_state SET district_id = NULL');
$s->option(district_id => 'd15c0' . '0' x 19);
$s->option(token_url => $service->url('/oauth/tokens'));
$s->mapping(client_id => 'app', client_secret => 's');
$s->run_succeeds('the tokens endpoint stumbles');
$service->has_misbehaved('the tokens endpoint stumbles');
$s->mapping(token => $s->token);
$service->is_clean('what passes');
$digest = $s->digest;

# ----------
# What does not
# ----------

my %lasting = (
	500 => [ SI004 => qr/could not read "\Q$students\E" from "127\.0\.0\.1:\d+": status 500/, { kind => 'status', status => 500 } ],
	html => [ SI006 => qr/page of "\Q$students\E" .* a web page instead of JSON/, { kind => 'html' } ],
	cut => [ SI007 => qr/page of "\Q$students\E" from "[\d.:]+" was cut short/, { kind => 'cut' } ],
	short => [ SI007 => qr/the JSON text ends too early/, { kind => 'short' } ],
	syntax => [ SI006 => qr/not valid JSON/, { kind => 'syntax' } ],
	no_data => [ SI006 => qr/JSON of another shape/, { kind => 'no_data' } ],
	reset => [ SI004 => qr/127\.0\.0\.1/, { kind => 'reset' } ]);

# Each tries five times, with pauses: all beside each other.
my %of;
for my $name (sort keys %lasting)
{
	my $one = $of{$name} = SampleClever->new($node, $db, "kind_$name",
		district => District->new(seed => 10, students => 40, sections => 10),
		options => { page_size => 9 });

	$one->run_succeeds('first load');
	$one->{before} = $one->digest;
	$one->{session} = $node->session($db);
}
for my $at (qw(first middle last))
{
	for my $name (sort keys %lasting)
	{
		$of{$name}->service->change(faults => [
				{ %{ $lasting{$name}[2] }, id => $at, on => $students, at => $at, times => 99 } ]);
		$of{$name}{session}->send($of{$name}->call_sql);
	}
	for my $name (sort keys %lasting)
	{
		my ($sqlstate, $message) = @{ $lasting{$name} };
		my $title = "$name at the $at page";
		my $error = $of{$name}{session}->wait->{error} // {};
		my $fired = $of{$name}->service->fired($at);

		is($error->{sqlstate}, $sqlstate, "$title: $sqlstate");
		like($error->{message}, $message, "$title: message");
		# what cannot pass is not tried again; libcurl itself tries once more
		# when a connection that was good before is reset
		if ($name eq 'no_data') { is($fired, 1, "$title: the fault fired"); }
		# and behind a page that breaks in its last record the next is on its way
		elsif ($name =~ /^(?:reset|syntax)$/) { cmp_ok($fired, '>=', 5, "$title: the fault fired each time"); }
		else { is($fired, 5, "$title: the fault fired each time"); }
		like($error->{detail} // '', qr/It was tried 5 times/, "$title: detail") if $name ne 'no_data';
		is($of{$name}->digest, $of{$name}{before}, "$title: the roster is untouched");
		$of{$name}->service->is_clean($title);
	}
}
for my $name (sort keys %lasting)
{
	$of{$name}->service->change(faults => undef);
	$of{$name}{session}->close;
	$of{$name}->service->stop;
}
$service->change(faults => [ { id => 'four', on => $students, at => 'middle', kind => 'cut', times => 4 } ]);
$s->run_succeeds('four times cut');
is($service->fired('four'), 4, 'and good the fifth time');

# ----------
# Records that are no records
# ----------

for my $text ('{"data":[{"id":"x"}],"links":[]}', '{"data":[null,1,"x",[]],"links":{}}', '{"data":[],"links":[{"rel":"next"}]}',
	'{"data":[{"data":null}],"links":[null,{"rel":null,"uri":5}]}')
{
	$service->change(faults => [ { id => 'odd', on => 'courses', kind => 'body', text => $text } ]);
	my $error = $s->call;
	is($s->value("SELECT count(*) FROM <roster>.course WHERE sync_id = <id> AND archived_at IS NULL"), 8,
		"no course goes by $text");
	$service->has_misbehaved($text);
}
$service->change(faults => undef);

# ----------
# The rate limit
# ----------

{
	my %refused;

	$service->change(rate_limit => 8, rate_window => 2);
	$s->run_succeeds('eight requests in two seconds');
	$refused{ $_->{window} }++ for grep { $_->{status} == 429 } $service->requests;
	cmp_ok(scalar keys %refused, '>', 0, 'some were refused');
	# in a window no more than are on their way at once (max_connections): all
	# wait for its end
	cmp_ok(max(0, values %refused), '<=', 4, 'they were spread');
	$service->is_clean('the rate limit');
	$service->change(rate_limit => undef, rate_window => undef, clock => 86400,
		faults => [ { id => 'clock', on => $students, at => 'middle', kind => 'rate', seconds => 2 } ]);
	$s->run_succeeds('the clock of the service is another');
	$service->has_misbehaved('clock');
	$service->change(clock => undef);
	for my $at (qw(first middle last))
	{
		$service->change(faults => [ { id => "asks $at", on => $students, at => $at, kind => 'rate', seconds => 7200, times => 99 } ]);
		my $error = $s->run_ends_in('SI005', "two hours to wait at the $at page");
		like($error->{message}, qr/takes no more requests for now/, 'message');
		like($error->{detail}, qr/asks to wait for \d+ seconds; the option "timeout" leaves \d+/, 'detail');
		is($s->last_run->{reason}, 'Rate Limited', 'reason');
		is($service->fired("asks $at"), 1, 'the fault fired, and nothing was waited for');
		is($s->digest, $digest, 'the roster is untouched');
	}
	$s->option(timeout => 3);
	$service->change(faults => [ { id => 'for ever', on => $students, at => 'middle', kind => 'rate', times => 99 } ]);
	my $began = time;
	$s->run_ends_in('SI005', '429 until the deadline');
	cmp_ok(time - $began, '<=', 6, 'which is kept');
	$service->has_misbehaved('429 until the deadline');
	$service->change(faults => undef, latency => 1000);
	my $error = $s->run_ends_in('SI004', 'slow until the deadline');
	like($error->{message}, qr/./, $error->{message});
	is($s->digest, $digest, 'the roster is untouched');
	$service->change(latency => undef);
	$s->option(timeout => undef);
	$service->is_clean('waiting');
}

# ----------
# Bounds
# ----------

{
	$service->change(faults => [ { id => 'bomb', on => 'terms', kind => 'bomb', size => 300_000_000, times => 9 } ]);
	$s->run_ends_in('SI006', 'much in little');
	$service->has_misbehaved('much in little');
	$service->change(faults => [ { id => 'huge', on => 'terms', kind => 'body', times => 9,
				text => '{"data":[{"data":{"id":"' . 'x' x 1_100_000 . '"}}],"links":[]}' } ]);
	my $error = $s->run_ends_in('SI006', 'a record too long');
	like($error->{message}, qr/a JSON value is too long/, 'message');
	$service->change(faults => [ { id => 'deep', on => 'terms', kind => 'body', times => 9,
				text => '{"data":[' . '[' x 100 . ']' x 100 . '],"links":[]}' } ]);
	$error = $s->run_ends_in('SI006', 'a record too deep');
	like($error->{message}, qr/nested too deeply/, 'message');
	is($s->digest, $digest, 'the roster is untouched');
	$service->change(faults => undef);
	$service->is_clean('bounds');
}

# ----------
# Whoever waits can be told to stop
# ----------

{
	$service->change(faults => [ { id => 'stall', on => $students, at => 'middle', kind => 'stall', seconds => 30, times => 99 } ]);
	my $waits = "SELECT true FROM pg_stat_activity WHERE pid = %d AND wait_event_type = 'Extension'";

	for my $how (qw(cancel terminate statement_timeout))
	{
		my $session = $node->session($db);
		my $function = "pg_${how}_backend";

		$session->query("SET statement_timeout = '2s'") if $how eq 'statement_timeout';
		$session->send($s->call_sql);
		$node->wait_until($db, sprintf($waits, $session->pid));
		select(undef, undef, undef, 0.5);
		is($node->value($db, 'SELECT backend_xmin FROM pg_stat_activity WHERE pid = ' . $session->pid), undef,
			"$how: nobody's vacuum is held up");
		my $began = Time::HiRes::time();
		$node->value($db, "SELECT $function(" . $session->pid . ')') if $how ne 'statement_timeout';
		my $result = $session->wait(20);
		cmp_ok(Time::HiRes::time() - $began, '<', $how eq 'statement_timeout' ? 3 : 1, "$how: at once");
		is($result->{error}{sqlstate}, $how eq 'terminate' ? '57P01' : '57014', "$how: as PostgreSQL says it");
		is($s->digest, $digest, "$how: the roster is untouched");
	}
	cmp_ok($service->fired('stall'), '>=', 3, 'the fault fired');
	$service->change(faults => undef);
	$s->run_succeeds('the next run');
	is($node->value('postgres', "SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'no temporary file is left');
}

# Nothing is left of many runs in one session
{
	my $session = $node->session($db);
	# sockets, pipes and the like: PostgreSQL keeps files of tables open
	my $fds = sub { return scalar grep { (readlink $_ // '') !~ m{^/} } glob('/proc/' . $session->pid . '/fd/*'); };
	my $memory = sub { return $session->query("SELECT sum(total_bytes) FROM pg_backend_memory_contexts")->{out}[0][0]; };
	my (@fds, @memory);

	for my $n (1 .. 30)
	{
		$service->change(faults => $n % 3 ? undef : [ { id => "n$n", on => $students, at => 'last', kind => 'no_data' } ]);
		$session->query($s->call_sql);
		next if $n != 10 && $n != 30;
		push @fds, $fds->();
		push @memory, $memory->();
	}
	is($fds[1], $fds[0], 'no descriptor is left by twenty runs');
	cmp_ok($memory[1] - $memory[0], '<', 1_000_000, 'no memory');
	$session->close;
}

done_testing;
