# 213_oneroster_sign_in.pl
#	Who may read a OneRoster service: OAuth 1, OAuth 2, a bearer, ClassLink's
#	proxy; and what is said of those who may not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use OneRosterSync;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('sign_in');
my %digest;

sub make
{
	my ($name, %opt) = @_;
	my $s = OneRosterSync->new($node, $db, $name,
		district => District->new(seed => 7, schools => 2, students => 30, staff => 4,
			sections => 4, contacts => 10, enroll => 2),
		%opt, server => { page_size => 20, %{ $opt{server} // {} } });

	$s->succeeds('first load');
	$s->service->is_clean($name);
	$digest{$name} = $s->digest;
	return $s;
}

# A night that must end in SI002 and change nothing; by a fault, if one is
# named.
sub refused
{
	my ($s, $title, $detail, $hint, $fault) = @_;
	my $error = $s->run_ends_in('SI002', $title);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($error->{constraint}, 'wrong_credentials', "$s->{name}: $title: by name");
	is($s->last_run->{reason}, 'Wrong Credentials', "$s->{name}: $title: the reason");
	like($error->{detail} // '', $detail, "$s->{name}: $title: the detail");
	like($error->{hint} // '', $hint, "$s->{name}: $title: the hint") if $hint;
	is($s->digest, $digest{ $s->{name} }, "$s->{name}: $title: nothing has changed");
	cmp_ok($s->service->fired($fault), '>', 0, "$s->{name}: $title: the fault fired") if $fault;
	$s->service->is_clean("$s->{name}: $title");
	return $error;
}

# Settings that are wrong: SI009, and the service is not even asked.
sub not_set
{
	my ($s, $title, $message) = @_;
	$s->service->requests;
	my $error = $s->run_ends_in('SI009', $title);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($error->{message}, $message, "$s->{name}: $title: the message");
	is(scalar $s->service->requests, 0, "$s->{name}: $title: nobody was asked");
	return $error;
}

# ----------
# OAuth 1, whatever the shape of the errors
# ----------

for my $version ('1.1', '1.2')
{
	my $s = make("oauth1 $version", version => $version);
	my %right = %{ $OneRosterSync::MAPPING{oauth1} };
	my %words = (status => 1, imsx => 1, wrapped => 1, message => 1);

	for my $shape (qw(status imsx wrapped message text html empty))
	{
		my $says = sub {
			my ($text) = @_;
			return $words{$shape} ? qr/It says "\Q$text\E"/ : qr/It gives no reason that could be read/;
		};

		$s->service->change(errors => $shape);
		$s->alter(mapping => client_id => 'nobody');
		refused($s, "$shape: a bad key", $says->('invalid consumer key'), qr/client_id and client_secret/);
		$s->alter(mapping => %right, client_secret => 'wrong');
		refused($s, "$shape: a bad secret", $says->('invalid signature'), qr/client_id and client_secret/);
		$s->alter(mapping => %right);
		$s->alter(server => signature_method => 'HMAC-SHA1');
		refused($s, "$shape: another hash", qr/signed by HMAC-SHA1/, qr/signature_method to be HMAC-SHA256/);
		$s->alter(server => signature_method => undef);
		$s->service->change(clock => 1200);
		refused($s, "$shape: a clock that is behind", qr/(?:119|120)\d seconds behind the clock of the service/,
			qr/Set the clock/);
		$s->service->change(clock => -4000);
		refused($s, "$shape: a clock that is ahead", qr/(?:399|400)\d seconds ahead of the clock of the service/,
			qr/Set the clock/);
		$s->service->change(clock => undef);
	}
	$s->service->change(errors => undef);

	# a service that repeats a secret in its answer
	for my $secret ($right{client_id}, $right{client_secret}, 's3cr%26t%2F%2B%20key', 'OAuth oauth_signature="x"',
		'Basic czNjcjp0PTI=', 'Bearer b34r3r')
	{
		$s->service->change(faults => [ { id => 'echo', on => 'users', at => 'last', times => 9,
					kind => 'status', status => 401, text => "no: $secret" } ]);
		my $error = refused($s, 'an answer with a secret in it', qr/It says "internal_server_error"/,
			undef, 'echo');
		unlike($error->{text}, qr/\Q$secret\E/, "$s->{name}: it is not repeated");
	}
	$s->service->change(faults => []);
	$s->run_succeeds('and again');
}

# What is not set
{
	my $s = make('unset');

	$s->alter(mapping => client_secret => undef);
	like(not_set($s, 'no secret', qr/has no client_secret/)->{hint}, qr/ALTER USER MAPPING/, 'what to type');
	$s->alter(mapping => client_id => undef);
	not_set($s, 'nothing at all', qr/has no client_id/);
	$s->alter(server => auth => 'bearer');
	not_set($s, 'no token', qr/has no token/);
	$s->alter(mapping => token => "two\nlines");
	not_set($s, 'a token of two lines', qr/cannot be one/);
	$s->alter(server => auth => 'oauth2');
	$s->alter(mapping => token => undef, client_id => 'x', client_secret => 'y');
	like(not_set($s, 'no token_url', qr/has no token_url/)->{hint}, qr/ALTER SERVER unset OPTIONS \(ADD token_url/,
		'what to type');
	$s->alter(server => auth => undef, base_url => $s->service->url('/ims/oneroster/v1p1?x=1'));
	not_set($s, 'an address with a query', qr/query or fragment/);
	$s->alter(server => base_url => undef);
	not_set($s, 'no address', qr/has no base_url/);
}

# ----------
# OAuth 2
# ----------

for my $version ('1.1', '1.2')
{
	my $s = make("oauth2 $version", version => $version, way => 'oauth2');
	my %right = %{ $OneRosterSync::MAPPING{oauth2} };
	my %auth = %{ $OneRosterSync::AUTH{oauth2}{oauth2} };
	my $tokens = sub { scalar grep { $_->{path} eq $auth{path} && $_->{status} == 200 } $s->service->requests };

	$s->run_succeeds('again');
	is($tokens->(), 1, "$s->{name}: one token for all pages");

	$s->alter(mapping => client_secret => 'wrong');
	refused($s, 'a bad secret', qr/does not know the client.*client authentication failed/, qr/token_url/);
	$s->alter(mapping => %right, client_id => 'nobody');
	refused($s, 'a bad ID', qr/does not know the client/);
	$s->alter(mapping => %right);
	$s->alter(server => scope => 'https://scopes.example/all');
	refused($s, 'another scope', qr/may not have what was asked for/, qr/"scope"/);
	$s->alter(server => scope => $auth{scopes}[ $version eq '1.2' ? 2 : 0 ]);
	$s->run_succeeds('a scope that was set');
	$s->alter(server => scope => undef);

	# a token that ends while pages are fetched
	for my $at (qw(first middle last))
	{
		$s->service->requests;
		$s->service->change(faults => [ { id => 'expire', on => 'users', at => $at, kind => 'expire' } ]);
		$s->run_succeeds("a token that is refused at the $at page");
		is($s->service->fired('expire'), 1, 'it fired');
		$s->service->is_clean("a token that is refused at the $at page");
	}
	$s->service->change(faults => [ { id => 'expire', on => 'users', at => 'middle', kind => 'expire', times => 99 } ]);
	$s->service->requests;
	refused($s, 'tokens that are never good', qr/the service takes neither.*token expired/, undef, 'expire');
	$s->service->change(faults => []);

	# it is renewed before its end where that is known: nothing is refused
	$s->service->change(auth => { oauth2 => { %auth, expires_in => 2 } }, latency => 250);
	$s->alter(server => max_connections => 1);
	$s->run_succeeds('tokens that end soon');
	my @requests = $s->service->requests;
	cmp_ok(scalar grep({ $_->{path} eq $auth{path} } @requests), '>', 1, "$s->{name}: they were renewed");
	is(scalar grep({ $_->{status} == 401 } @requests), 0, "$s->{name}: before their end");
	$s->service->change(auth => { oauth2 => { %auth, expires_in => undef } }, latency => undef);
	$s->run_succeeds('a token without an end');

	# the token endpoint misbehaves
	my %fault = (id => 'token', on => 'token', times => 99);
	$s->service->change(faults => [ { %fault, times => 1, kind => 'status', status => 503 } ]);
	$s->run_succeeds('status 503, once');
	is($s->service->fired('token'), 1, 'it fired');
	$s->alter(server => timeout => 3);
	for my $case ([ 'status 503', 'SI004', kind => 'status', status => 503 ],
		[ 'status 404', 'SI004', kind => 'status', status => 404 ],
		[ 'a web page', 'SI006', kind => 'html' ],
		[ 'no token', 'SI006', kind => 'body', text => '{"token_type":"bearer"}' ],
		[ 'a token of two lines', 'SI006', kind => 'body', text => '{"access_token":"a\\r\\nX-Evil: 1"}' ],
		[ 'a redirect', 'SI004', kind => 'redirect', to => 'https://thief.example/' ])
	{
		my ($title, $sqlstate, @how) = @$case;

		$s->service->change(faults => [ { %fault, @how } ]);
		$s->run_ends_in($sqlstate, "the token endpoint: $title");
		cmp_ok($s->service->fired('token'), '>', 0, 'it fired');
		is($s->digest, $digest{ $s->{name} }, 'nothing has changed');
		$s->service->is_clean("the token endpoint: $title");
	}
}

# ----------
# A bearer, and ClassLink
# ----------

{
	my $s = make('bearer', way => 'bearer', version => '1.2');

	$s->alter(mapping => token => 'an-0ld-0ne');
	refused($s, 'another token', qr/not valid, or no longer.*invalid token/, qr/ALTER USER MAPPING/);
}

my %proxy = (wrapper => 'sis_classlink', way => 'bearer',
	service => { base => '/proxy/app%3D17/ims/oneroster/v1p1', count_header => 'x-total-count', perm_rev => '44' });
{
	my $s = OneRosterSync->new($node, $db, 'proxy', %proxy,
		district => District->new(seed => 7, schools => 2, students => 30, staff => 4,
			sections => 4, contacts => 10, enroll => 2),
		server => { base_url => undef, page_size => 20 });

	$s->alter(server => base_url => $s->service->url('/proxy/'), application_id => 'app%3D17');
	$s->succeeds('through the proxy');
	$digest{proxy} = $s->digest;
	$s->service->is_clean('proxy');

	$s->alter(mapping => token => 'an-0ld-0ne');
	refused($s, 'another token', qr/not valid, or no longer.*invalid token/, qr/ClassLink's console/);
	$s->alter(mapping => token => $OneRosterSync::MAPPING{bearer}{token});
	$s->alter(server => application_id => 'app%3D18');
	$s->service->change(wrong_paths => \1);
	refused($s, 'another application', qr/No application of that ID/, qr/"application_id"/);
	$s->alter(server => application_id => 'app%3D17');
	for my $list (qw(orgs users classes enrollments))
	{
		$s->service->change(forbidden => [$list]);
		refused($s, "$list may not be read", qr/may not read the list "$list".*not permitted/, qr/share it/);
	}
	$s->service->change(forbidden => []);
	$s->service->change(empty => \1);
	refused($s, 'nothing is shared any more', qr/every list is empty/, qr/stopped sharing/);
	$s->service->change(empty => undef);

	# the district's data are those of another
	my $other = District->new(seed => 8, schools => 2, students => 30, staff => 4,
		sections => 4, contacts => 10, enroll => 2);
	$other->write($s->dir, layout => 'oneroster11');
	$s->service->change;
	refused($s, 'another district', qr/./);
	$s->succeeds('and the right one');
}
{
	my $s = OneRosterSync->new($node, $db, 'roster server', wrapper => 'sis_classlink',
		district => District->new(seed => 7, schools => 2, students => 30), server => { base_url => undef });

	$s->alter(server => base_url => $s->service->url);
	$s->succeeds('the roster server itself, by its host alone');
	$s->service->is_clean('roster server');
	$s->alter(server => base_url => undef);
	not_set($s, 'no address', qr/has no base_url/);
}

# Demographics that may not be read
{
	my $s = make('demographics', set => { include_demographics => 'true' });

	$s->service->change(forbidden => ['demographics']);
	refused($s, 'may not be read', qr/may not read demographics/, qr/include_demographics/);
}

# ----------
# No secret anywhere
# ----------

my $secret = qr/s3cr|an-0ld-0ne|b34r3r|client-7|tok-\d+-/;
for my $table (qw(run reject change run_count stage_student stage_staff))
{
	is($node->value($db, "SELECT count(*) FROM sis_sync.$table t WHERE t::text ~ 's3cr|an-0ld-0ne|b34r3r|client-7|tok-[0-9]+-'"),
		0, "no secret in $table");
}
my @lines = grep { !/USER MAPPING/ && $_ =~ $secret } split /\n/, $node->log;
is_deeply(\@lines, [], 'no secret in the log');

done_testing;
