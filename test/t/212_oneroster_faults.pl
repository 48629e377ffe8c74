# 212_oneroster_faults.pl
#	A OneRoster service that misbehaves, at the first, a middle and the last
#	page: what passes is tried again, and what does not leaves the roster as it
#	was, under the right name.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use OneRosterSync;
use SampleSync;
use SisTest;
use Time::HiRes qw(time sleep);

my $node = SisTest->new->start;
my $db = $node->fresh_db('faults');
my @PLACES = qw(first middle last);

sub make
{
	my ($name, %opt) = @_;

	return OneRosterSync->new($node, $db, $name,
		district => District->new(seed => 7, schools => 2, students => 60, staff => 8,
			sections => 16, contacts => 60, enroll => 3),
		server => { page_size => 40, %{ delete $opt{server} // {} } }, %opt);
}

sub with_fault
{
	my ($s, $at, $times, %fault) = @_;

	$s->service->change(faults => [ { id => 'f', on => 'users', at => $at, times => $times, %fault } ]);
	return;
}

# ----------
# What passes
# ----------

my $s = make('passing', service => { perm_rev => 'r-1' });
$s->succeeds('first load');
$s->service->is_clean('first load');

# fault => how often users' first page is asked for: a pull that is started
# again asks for all pages anew
my @passing = (
	[ 'status 500', 1, kind => 'status', status => 500 ],
	[ 'status 502', 1, kind => 'status', status => 502, errors => 'html' ],
	[ 'status 503', 1, kind => 'status', status => 503 ],
	[ 'status 504', 1, kind => 'status', status => 504 ],
	[ 'status 429', 1, kind => 'status', status => 429, headers => [ [ 'Retry-After', '1' ] ] ],
	[ 'a web page', 1, kind => 'html' ],
	[ 'a cut body', 1, kind => 'cut' ],
	[ 'a body cut in front', 1, kind => 'cut', part => 0 ],
	[ 'half a page', 1, kind => 'json_cut' ],
	[ 'a reset', 1, kind => 'reset' ],
	[ 'a reset in front', 1, kind => 'vanish' ],
	[ 'a short page', 1, kind => 'short', rows => 17 ],
	[ 'an empty page', 2, kind => 'none' ],
	[ 'a row missing', 2, kind => 'drop' ],
	[ 'a row from another page', 2, kind => 'repeat', row => 75 ],
	[ 'too many rows', 2, kind => 'more' ],
	[ 'another total', 2, kind => 'total', by => 1 ],
	[ 'another revision', 2, kind => 'perm_rev' ]);
for my $case (@passing)
{
	my ($name, $pulls, %fault) = @$case;

	for my $at (@PLACES)
	{
		my %here = %fault;
		# the first page has nothing to be compared with
		my $expected = $at eq 'first' && $name =~ /^(?:a short page|too many rows|another revision)$/ ? 1 : $pulls;

		$here{row} = 3 if defined $here{row} && $at ne 'first';
		$s->service->change(perm_rev => 'r-1');
		with_fault($s, $at, 1, %here);
		$s->run_succeeds("$name at the $at page");
		is($s->service->fired('f'), 1, "$name at the $at page: it fired");
		$s->counts_are("$name at the $at page: nothing has changed", map { $_ =>
				{ created => 0, updated => 0, archived => 0, rejected => 0 } } qw(student staff contact enrollment));
		my $firsts = grep { ($_->{collection} // '') eq 'users' && $_->{offset} == 0 && $_->{status} == 200 }
		  @{ $s->service->{seen} };
		cmp_ok($firsts, '>=', $expected, "$name at the $at page: pulled as often as it takes");
		$s->service->is_clean("$name at the $at page");
	}
}

# Rows that join and leave while pages are fetched
for my $kind (qw(grow swap))
{
	for my $at (@PLACES)
	{
		my $s = make("$kind $at");
		my $digest;

		$s->succeeds('first load');
		with_fault($s, $at, 1, kind => $kind);
		$s->run_succeeds("$kind at the $at page");
		is($s->service->fired('f'), 1, "$kind at the $at page: it fired");
		$s->counts_are("$kind at the $at page: exactly that", contact => {
			created => 1, archived => $kind eq 'swap' ? 1 : 0, updated => 0 },
			student => { archived => 0 }, staff => { archived => 0 });
		$s->service->is_clean("$kind at the $at page");
	}
}

# A row from another page where the order is the service's own
{
	my $s = make('own order', service => { order => 'backwards' });

	$s->succeeds('first load');
	for my $at (@PLACES)
	{
		with_fault($s, $at, 99, kind => 'repeat', row => $at eq 'first' ? 75 : 3);
		like($s->run_ends_in('SI007', "a row from another page at the $at page")->{detail},
			qr/stand on two pages of "users": [12]\./, 'says so');
		cmp_ok($s->service->fired('f'), '>', 0, "own order, $at: it fired");
		$s->service->is_clean("own order, $at");
	}
}

# ----------
# What does not pass
# ----------

my @lasting = (
	[ 'status 503', 'SI004', qr/status 503/, kind => 'status', status => 503 ],
	[ 'a web page', 'SI006', qr/web page/, kind => 'html' ],
	[ 'a cut body', 'SI007', qr/cut short/, kind => 'cut' ],
	[ 'half a page', 'SI007', qr/cannot be read/, kind => 'json_cut' ],
	[ 'a reset', 'SI004', qr/could not|reset|empty|closed/i, kind => 'vanish' ],
	[ 'status 429', 'SI005', qr/no more requests for now/, kind => 'status', status => 429,
		headers => [ [ 'Retry-After', '7200' ] ] ],
	[ 'status 400', 'SI004', qr/status 400/, kind => 'status', status => 400, code => 'invaliddata' ],
	[ 'status 418', 'SI004', qr/status 418/, kind => 'status', status => 418 ],
	[ 'status 204', 'SI004', qr/status 204/, kind => 'status', status => 204 ],
	[ 'a redirect', 'SI004', qr/status 302/, kind => 'redirect', to => 'https://thief.example/steal?x=1' ],
	[ 'status 401', 'SI002', qr/refuses "users"/, kind => 'status', status => 401 ],
	[ 'status 403', 'SI002', qr/refuses "users"/, kind => 'status', status => 403 ],
	[ 'no list', 'SI006', qr/cannot be read/, kind => 'body', text => '{"statusInfoSet":[{"imsx_codeMajor":"success"}]}' ],
	[ 'an object for a list', 'SI006', qr/cannot be read/, kind => 'body', text => '{"users":{}}' ],
	[ 'null for a list', 'SI006', qr/cannot be read/, kind => 'body', text => '{"users":null}' ],
	[ 'another list', 'SI006', qr/cannot be read/, kind => 'body', text => '{"orgs":[]}' ],
	[ 'a list alone', 'SI006', qr/cannot be read/, kind => 'body', text => '[]' ],
	[ 'no JSON', 'SI006', qr/cannot be read/, kind => 'body', text => 'out of order' ],
	[ 'nothing', 'SI007', qr/cannot be read/, kind => 'body', text => '' ],
	[ 'too deep', 'SI006', qr/cannot be read/, kind => 'body', text => '{"users":[' . '[' x 100 . ']' x 100 . ']}' ],
	[ 'an empty page', 'SI007', qr/do not fit together/, kind => 'none' ],
	[ 'a row missing', 'SI007', qr/do not fit together/, kind => 'drop' ],
	[ 'a row from another page', 'SI007', qr/do not fit together/, kind => 'repeat', row => 75 ],
	[ 'another total', 'SI007', qr/do not fit together/, kind => 'total', by => -1 ]);
my $digest = $s->digest;

$s->alter(server => timeout => 3);
for my $case (@lasting)
{
	my ($name, $sqlstate, $message, %fault) = @$case;

	for my $at (@PLACES)
	{
		my %here = %fault;

		$here{row} = 3 if defined $here{row} && $at ne 'first';
		with_fault($s, $at, 99, %here);
		my $error = $s->run_ends_in($sqlstate, "$name at the $at page");
		like($error->{message} // '', $message, "$name at the $at page: the message");
		cmp_ok($s->service->fired('f'), '>', 0, "$name at the $at page: it fired");
		is($s->digest, $digest, "$name at the $at page: the roster is as it was");
		unlike($error->{text} // '', qr/thief\.example\/|s3cr|oauth_|Authorization/,
			"$name at the $at page: no secret, and no address but the host");
		$s->service->is_clean("$name at the $at page");
	}
}
is($s->value('SELECT count(DISTINCT reason) FROM sis_sync.run WHERE sync = $$passing$$ AND status = $$failed$$'),
	5, 'each failing reason has its name in the log');

# Too much
with_fault($s, 'first', 99, kind => 'bomb', size => 300 * 1024 * 1024);
$s->alter(server => timeout => 60);
$s->run_ends_in('SI006', 'a page without an end');
is($s->digest, $digest, 'a page without an end: the roster is as it was');
with_fault($s, 'first', 99, kind => 'body',
	text => '{"users":[{"sourcedId":"x","givenName":"' . 'x' x 1100000 . '"}]}');
$s->run_ends_in('SI006', 'a record without an end');
is($s->digest, $digest, 'a record without an end: the roster is as it was');
$s->service->is_clean('too much');

# ----------
# Records with a defect of their own
# ----------

my $id = 'con-000001';
my @defects = (
	[ 'bad bytes', qr/not valid UTF-8/, $id, qq({"sourcedId":"$id","role":"parent","givenName":"\\\\xff"}) ],
	[ 'a zero byte', qr/zero byte/, $id, qq({"sourcedId":"$id","role":"parent","givenName":"a\\\\\\\\u0000b"}) ],
	[ 'half a surrogate pair', qr/not valid UTF-8/, $id, qq({"sourcedId":"$id","role":"parent","givenName":"\\\\\\\\ud800"}) ],
	[ 'a key twice', qr/twice/, undef, qq({"sourcedId":"$id","role":"parent","role":"student","givenName":"x"}) ],
	[ 'a number', qr/not an object/, undef, '42' ],
	[ 'null', qr/not an object/, undef, 'null' ],
	[ 'a list', qr/not an object/, undef, '[]' ],
	[ 'no ID', qr/ID is missing/, undef, '{"role":"parent","givenName":"x"}' ],
	[ 'no role', qr/role is missing/, $id, qq({"sourcedId":"$id","givenName":"x"}) ],
	[ 'an unknown role', qr/unknown role/, $id, qq({"sourcedId":"$id","role":"janitor","givenName":"x"}) ],
	[ 'no name', qr/family_name|given_name|missing/, $id, qq({"sourcedId":"$id","role":"parent","givenName":" "}) ]);
for my $case (@defects)
{
	my ($name, $reason, $source_id, $text) = @$case;

	with_fault($s, 'first', 99, kind => 'record', text => $text =~ s/\\\\/\\/gr);
	$s->run_succeeds("$name: the night goes on");
	cmp_ok($s->service->fired('f'), '>', 0, "$name: it fired");
	like($s->value('SELECT reason FROM sis_sync.reject WHERE run_id = <run> ORDER BY id LIMIT 1') // 'none',
		$reason, "$name: the reason");
	is($s->value('SELECT source_id FROM sis_sync.reject WHERE run_id = <run> ORDER BY id LIMIT 1'),
		$source_id, "$name: whose it is");
	is($s->value("SELECT source || ' ' || line FROM sis_sync.reject WHERE run_id = <run> ORDER BY id LIMIT 1"),
		'users 1', "$name: where it stands");
	is($s->digest, $digest, "$name: its stored record is as it was");
	$s->service->is_clean($name);
}

# ----------
# Connections
# ----------

$s->service->change(faults => []);
$s->alter(server => timeout => 5, connect_timeout => 2);
my $ca = $s->service->ca_file;
$s->alter(server => ca_file => $s->service->other_ca_file);
like($s->run_ends_in('SI004', 'a certificate of somebody else')->{text}, qr/certificate/i, 'says so');
$s->alter(server => ca_file => undef);
$s->run_ends_in('SI004', 'a certificate that nobody knows');
$s->alter(server => ca_file => $ca);
$s->service->stop;
$s->run_ends_in('SI004', 'nobody there');
is($s->digest, $digest, 'the roster is as it was');
$s->service->start;
$s->run_succeeds('back again');

# A service that does not answer: the wait ends at once when it has to
$s->alter(server => timeout => 60);
with_fault($s, 'middle', 99, kind => 'hang', seconds => 20);
for my $how (qw(pg_cancel_backend pg_terminate_backend))
{
	my $session = $node->session($db);

	$s->service->requests;
	$session->send($s->call_sql);
	sleep 0.05 until $s->service->fired('f') || !kill 0, $session->pid;
	is_deeply($node->rows($db, 'SELECT backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = ' . $session->pid),
		[ [ undef, undef ] ], "$how: nobody waits for a fetch");
	my $start = time;
	$node->value($db, "SELECT $how(" . $session->pid . ')');
	my $result = $session->wait;
	cmp_ok(time - $start, '<', 2, "$how: within a second");
	is($result->{error}{sqlstate}, $how =~ /cancel/ ? '57014' : '57P01', "$how: its own error");
	is($s->digest, $digest, "$how: the roster is as it was");
	$s->service->{seen} = [];
	$session->close;
}
with_fault($s, 'middle', 99, kind => 'hang', seconds => 20);
my $start = time;
my ($out, $err) = $node->try($db, 'SET statement_timeout = 700; ' . $s->call_sql);
like($err, qr/57014/, 'statement_timeout');
cmp_ok(time - $start, '<', 2, 'statement_timeout: in time');
$s->alter(server => timeout => 1);
$start = time;
$s->run_ends_in('SI004', 'the option timeout');
cmp_ok(time - $start, '<', 3, 'the option timeout: in time');
is($s->digest, $digest, 'the roster is as it was');
$s->service->change(faults => []);
$s->alter(server => timeout => 60);
$s->run_succeeds('and then all is well');
$s->service->is_clean('the end');

done_testing;
