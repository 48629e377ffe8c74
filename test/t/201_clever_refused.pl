# Clever refuses, or what it sends is not to be trusted: the named errors, what
# they say, and that nothing changes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleClever;
use SisTest;

my $node = SisTest->new(conf => {
		log_min_messages => 'debug1' })->start;
my $db = $node->fresh_db('refused');
my $id = 'd15c0' . '0' x 19;
my $other_id = 'd15c1' . '0' x 19;
my $token = '0f1e2d3c4b5a69788796a5b4c3d2e1f001234567';
my $secret = 'client-secret-3a91f0';

my $s = SampleClever->new($node, $db, 'springfield',
	district => District->new(seed => 8, schools => 2, students => 40, staff => 4,
		sections => 8, contacts => 20),
	options => { page_size => 9 }, control => { district => { id => $id } });
my $service = $s->service;

$s->run_succeeds('first load');
is($s->value('SELECT district_id FROM sis_sync.run WHERE id = <run>'), $id, 'the district is known');
my $digest = $s->digest;

# A night that fails so: the message, the detail and the hint match.
sub refused
{
	my ($title, $sqlstate, $message, $detail, $hint) = @_;
	my $error = $s->run_ends_in($sqlstate, $title);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($error->{message} // '', $message, "$title: message");
	like($error->{detail} // '', $detail, "$title: detail") if $detail;
	like($error->{hint} // '', $hint, "$title: hint") if $hint;
	is($s->digest, $digest, "$title: nothing changes");
	is($s->last_run->{reason}, { SI002 => 'Wrong Credentials', SI003 => 'Schools to Sync Are Not Found',
			SI004 => 'Source Unavailable', SI006 => 'Malformed Data', SI007 => 'Incomplete Data',
			SI009 => 'Not Configured' }->{$sqlstate}, "$title: the reason in the log");
	$service->has_misbehaved($title) if $service->{control}{faults};
	$service->is_clean($title);
	return $error;
}

# ----------
# The token
# ----------

$s->mapping(token => 'wrong' . $token);
refused('a wrong token', 'SI002', qr/^Clever refused the token$/, qr/first request was answered with status 401/,
	qr/ALTER USER MAPPING/);
$s->mapping(token => "il$token");
refused('a token of a person', 'SI002', qr/^Clever refused the token$/, qr/begins with "il".*not of a district/);
$s->mapping(token => "two\nlines");
refused('a token of two lines', 'SI009', qr/characters that no token has/);
is(scalar $service->requests, 0, 'is sent nowhere');
$s->mapping(client_id => 'only');
refused('half of the credentials', 'SI009', qr/neither a token nor a client ID and secret/);
$s->mapping(token => $token);

for my $at (qw(first middle last))
{
	$service->change(faults => [ { id => 'revoked', on => 'users?role=student', at => $at, kind => 'status',
				status => 401, times => 9 } ]);
	refused("the token is revoked at the $at page", 'SI002', qr/^Clever refused the token$/,
		qr/was good when this run began/);
}
$service->change(faults => undef);

# ----------
# What the token reaches
# ----------

for my $how (qw(html 403 404))
{
	$service->change(secure_sync => $how);
	refused("no Secure Sync ($how)", 'SI002', qr/may not read the district's roster/,
		qr/answered with status (403|404)/, qr/Secure Sync/);
}
$service->change(secure_sync => undef);

$service->change(shared => JSON::PP::false);
refused('sharing is off', 'SI002', qr/shares no data/, qr/each of the district's lists is empty/, qr/share schools/);
$service->change(shared => undef, faults => [ { id => 'none', on => 'districts', kind => 'no_district', times => 9 } ]);
refused('no district', 'SI002', qr/token is of no district/);
$service->change(faults => undef, district => { id => $other_id });
refused('another district', 'SI002', qr/another district: "$other_id", not "$id"/, undef, qr/address and credentials/);
$s->option(district_id => $id);
refused('not the district of the option', 'SI002', qr/token is not of district "$id"/, qr/is of district "$other_id"/,
	qr/district_id/);
$service->change(district => { id => $id });
$s->run_succeeds('the district of the option');
$digest = $s->digest;
$s->option(district_id => undef);

# A school that is set up and was unshared; no students
$node->run($db, "UPDATE sis_sync.sync SET all_schools = false WHERE name = 'springfield';"
	  . "INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('springfield', 'sch-001'), ('springfield', 'sch-002')");
my $whole = $s->district->copy;
$s->district->drop('school', 'sch-002');
$s->write;
refused('a school is unshared', 'SI003', qr/could not find 1 of 2 schools/, qr/sch-002/);
$s->{district} = $whole;
$node->run($db, "DELETE FROM sis_sync.sync_school; UPDATE sis_sync.sync SET all_schools = true");
$s->district->{student} = [];
$s->district->{enrollment} = [];
$s->district->{link} = [];
$s->write;
refused('no students', 'SI007', qr/no student in scope was received/);
$s->{district} = District->new(seed => 8, schools => 2, students => 40, staff => 4, sections => 8, contacts => 20);
$s->write;
$s->run_succeeds('all is back');
$digest = $s->digest;

# ----------
# The tokens endpoint
# ----------

$s->mapping(client_id => 'app', client_secret => $secret);
refused('a client without a district', 'SI009', qr/server "springfield" has no option "district_id"/, qr/tokens are of one district/, qr/ADD district_id/);
$s->option(district_id => $id);
$s->option(token_url => $service->url('/oauth/tokens'));
$service->change(client => { id => 'app', secret => $secret }, connected => [
		{ district => $other_id, token => 'another' }, { district => $id, token => $token } ]);
$s->run_succeeds('by client ID and secret');
$s->counts_are('by client ID and secret', student => { unchanged => 40 });
$service->is_clean('by client ID and secret');
$digest = $s->digest;

$service->change(client => { id => 'app', secret => 'other' });
refused('a wrong client secret', 'SI002', qr/^Clever refused the client ID or its secret$/, qr/tokens endpoint.*status 401/,
	qr/client_id and client_secret/);
$service->change(client => { id => 'app', secret => $secret }, connected => [ { district => $other_id, token => 'another' } ]);
refused('an unknown district', 'SI002', qr/Clever does not know district "$id"/, qr/accepts the client ID/, qr/still connected/);
$service->change(connected => [ { district => $id, token => 'stale' } ]);
refused('a revoked token', 'SI002', qr/^Clever refused the token$/, qr/has just issued it.*has been revoked/, qr/still connected/);
$service->change(connected => [ { district => $id, token => "bad\r\nX-Evil: 1" } ]);
refused('a hostile tokens endpoint', 'SI002', qr/does not know district/);

# the token is renewed at Clever in the middle of the run
for my $at (qw(first middle last))
{
	$service->change(connected => [ { district => $id, token => $token } ], faults => [
			{ id => "renewed $at", on => 'users?role=student', at => $at, kind => 'status', status => 401, times => 1 } ]);
	$s->run_succeeds("the token is renewed at the $at page");
	$s->counts_are("the token is renewed at the $at page", student => { unchanged => 40, rejected => 0 });
	is($service->fired("renewed $at"), 1, 'the fault fired');
	is(scalar(grep { $_->{path} eq '/oauth/tokens' } @{ $service->{seen} }), 2, 'a token was got again, once');
	$service->is_clean("renewed $at");
}
$service->change(faults => [ { id => 'down', on => 'tokens', kind => 'status', status => 404, times => 9 } ]);
refused('no tokens endpoint', 'SI004', qr/could not get a token from "127\.0\.0\.1:\d+": status 404/, undef, qr/token_url/);
$service->change(faults => [ { id => 'no list', on => 'tokens', kind => 'no_data', times => 9 } ]);
refused('no list of tokens', 'SI006', qr/oauth\/tokens/);
$service->change(faults => undef);
$s->option(district_id => undef);
$s->mapping(token => $token);

# ----------
# The wrong address, and limits
# ----------

$s->option(base_url => $service->url('/'));
$s->run_succeeds('an address with a slash at its end');
$digest = $s->digest;
{
	my $nobody = SisTest::_free_port();

	$s->option(base_url => "https://127.0.0.1:$nobody");
	refused('nobody listens', 'SI004', qr/127\.0\.0\.1/, qr/tried 5 times/);
	$s->option(base_url => $service->url);
}
$service->change(faults => [ { id => 'gone', on => 'districts', kind => 'status', status => 404, times => 9 } ]);
refused('no such API', 'SI004', qr/does not know the Data API v3\.1/, undef, qr/base_url/);
$service->change(faults => [ { id => 'large', on => 'sections', kind => 'status', status => 413, times => 9 } ]);
refused('pages too large', 'SI004', qr/refuses pages of that size/, qr/9 records/, qr/page_size/);
$service->change(faults => [ { id => 'odd', on => 'sections', kind => 'status', status => 418, times => 9 } ]);
refused('an odd status', 'SI004', qr/could not read "sections" from "[\d.:]+": status 418/);
$service->change(faults => undef);

# ----------
# TLS
# ----------

$s->option(ca_file => $service->other_ca_file);
refused('a certificate by nobody we trust', 'SI004', qr/certificate|TLS/i);
is(scalar $service->requests, 0, 'and nothing was asked');
$s->option(ca_file => undef);
refused("the system's authorities", 'SI004', qr/certificate|TLS/i);
$s->option(ca_file => $service->ca_file);

# ----------
# Redirects and links to elsewhere carry nothing
# ----------

{
	my $elsewhere = Service->new($node, 'clever', data => $s->dir, tokens => [$token]);

	for my $status (301, 302, 307, 308)
	{
		$service->change(faults => [ { id => "redirect $status", on => '*', at => 'any', kind => 'redirect', status => $status,
					to => $elsewhere->url('/v3.1/districts?token=leak') } ]);
		my $error = refused("redirect $status", 'SI004', qr/status $status/, qr/redirects to "127\.0\.0\.1:\d+"/);
		unlike("@{$error}{qw(message detail)}", qr/leak|token=|v3\.1/, 'the host only is named');
	}
	for my $at (qw(first middle last))
	{
		$service->change(faults => [ { id => "foreign $at", on => 'users?role=student', at => $at, kind => 'foreign',
					to => $elsewhere->url } ]);
		refused("a link to elsewhere on the $at page", 'SI004', qr/next page of "users\?role=student" is at another host/,
			qr/points to "127\.0\.0\.1:\d+"/);
	}
	$service->change(faults => [ { id => 'slashes', on => 'sections', kind => 'foreign', to => '//127.0.0.1:' . $elsewhere->port } ]);
	refused('a link without a scheme', 'SI004', qr/at another host/);
	is(scalar $elsewhere->requests, 0, 'nobody came there');
}
for my $kind (qw(absolute drops_role))
{
	$service->change(faults => [ { id => $kind, on => '*', at => 'any', kind => $kind, times => 99 } ]);
	$s->run_succeeds("$kind links");
	$s->counts_are("$kind links", student => { unchanged => 40, rejected => 0 });
	cmp_ok($service->fired($kind), '>', 5, "$kind: the fault fired");
	$service->is_clean("$kind links");
}

# ----------
# Paging
# ----------

for my $kind (qw(stuck back no_cursor))
{
	for my $at ($kind eq 'no_cursor' ? qw(first middle last) : qw(middle last))
	{
		$service->change(faults => [ { id => $kind, on => 'users?role=student', at => $at, kind => $kind, times => 99 } ]);
		refused("$kind cursor on the $at page", 'SI007', qr/pages of "users\?role=student" have no end/, undef, undef);
	}
}
$service->change(faults => [ { id => 'more', on => 'users?role=student', at => 'last', kind => 'extra_next', times => 1 } ]);
$s->run_succeeds('a next link on the last page');
$s->counts_are('a next link on the last page', student => { unchanged => 40 });
is($service->fired('more'), 1, 'the fault fired');
$service->is_clean('a next link on the last page');

# ----------
# The district is synced while we read
# ----------

$service->change(district => { id => $id, last_sync => '2026-11-02T05:01:00.000Z' }, faults => [ { id => 'before', on => 'districts', times => 1, kind => 'district',
			record => { last_sync => '2026-11-02T05:00:00.000Z' } } ]);
$s->run_succeeds('synced while we read');
is($service->fired('before'), 1, 'the fault fired');
is(scalar(grep { $_->{query} =~ /role=student/ && $_->{query} !~ /starting_after/ } @{ $service->{seen} }), 2, 'all was read again');
$s->counts_are('synced while we read', student => { unchanged => 40, rows_read => 40 });
is($s->value("SELECT source_as_of AT TIME ZONE 'UTC' FROM sis_sync.run WHERE id = <run>"), '2026-11-02 05:01:00', 'as of the second time');
$service->is_clean('synced while we read');
$digest = $s->digest;
$service->change(faults => [ map { { id => "again $_", on => 'districts', kind => 'district',
				record => { last_sync => "2026-11-02T06:0$_:00.000Z" } } } 0 .. 3 ]);
refused('synced all the time', 'SI007', qr/does not hold still/, qr/read 3 times/);
$service->change(faults => undef, district => { id => $id, last_sync => '2026-11-01T05:00:00.000Z' });
refused('older than what was applied', 'SI007', qr/older than what was applied last/);
$service->change(district => { id => $id, last_sync => undef });
$s->run_succeeds('no last_sync');
$digest = $s->digest;

for my $state (qw(paused error pending))
{
	$service->change(district => { id => $id, state => $state, last_sync => '2026-11-02T05:01:00.000Z' });
	$s->run_succeeds("state $state");
	like($s->last_run->{note}, $state eq 'paused' ? qr/has paused the syncs/ : qr/state "$state"/, "state $state: noted");
}
$service->change(district => { id => $id, last_sync => '2026-11-02T05:01:00.000Z' });
$s->run_succeeds('all is well');
unlike($s->last_run->{note} // '', qr/Clever/, 'nothing to note');
$service->is_clean('states');

# ----------
# Secrets
# ----------

my $everything = join "\n", $node->log, map { $node->run($db, "SELECT t::text FROM $_ t") }
  qw(sis_sync.run sis_sync.reject sis_sync.change sis_sync.run_count sis_sync.sync sis_sync.sync_state pg_stat_activity);
for my $value ($token, $secret, 'stale', $node->value($db, "SELECT translate(encode('app:$secret', 'base64'), E'\\n', '')"))
{
	next if $value eq 'stale';
	unlike($everything =~ s/^.*(?:CREATE|ALTER|DROP) USER MAPPING.*$//gmr, qr/\Q$value\E/, 'no secret in any log or table');
}
$node->run('postgres', 'CREATE ROLE nobody LOGIN');
is($node->value($db, "SELECT count(*) FROM pg_user_mappings WHERE umoptions::text ~ '$token'", role => 'nobody'), 0,
	'others do not see it in the user mapping');
is($node->value($db, "SELECT count(*) FROM pg_user_mappings WHERE umoptions::text ~ '$token'"), 1, 'which is where it is');

done_testing;
