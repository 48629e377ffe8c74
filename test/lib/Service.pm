# Service.pm
#	A local REST service over TLS, for the tests of the providers that use one.
#
#	my $service = Service->new($node, 'clever', data => $district, token => 't');
#	$node->run($db, "CREATE SERVER … OPTIONS (base_url '" . $service->url
#		. "', ca_file '" . $service->ca_file . "')");
#	$service->change(faults => [ { id => 'cut', on => 'users', at => 'last',
#		kind => 'cut', times => 1 } ]);
#	$service->is_clean('the night');        # asked for nothing unexpected
#	is($service->fired('cut'), 1);
#
# The program test/services/NAME is told what to do by a JSON file, which it
# reads again when it has been replaced, prints its port, writes each request
# as a line of JSON into the file's name with ".log" behind it, and ends with
# its standard input: never later than the test.
package Service;

use strict;
use warnings;
use utf8;
use IO::Select ();
use IPC::Open2 ();
use JSON::PP   ();
use Test::More ();

my $json = JSON::PP->new->utf8->canonical;

# Options: all but tls are the program's own keys; tls => 0: plain HTTP.
sub new
{
	my ($class, $node, $name, %control) = @_;
	my $tls = exists $control{tls} ? delete $control{tls} : 1;
	my $dir = $node->dir("service-$name");
	my $self = bless {
		name => $name, dir => $dir, file => "$dir/control.json",
		tls => $tls, read => 0, control => {} }, $class;

	_make_certificates($dir) if $tls;
	@control{qw(key cert)} = ("$dir/server.key", "$dir/server.crt") if $tls;
	$self->change(%control);
	$self->start;
	return $self;
}

sub start
{
	my ($self) = @_;
	my $program = SisTest::root() . "/test/services/$self->{name}";
	my @port = $self->{port} ? ($self->{port}) : ();

	$self->{pid} = IPC::Open2::open2(my $out, my $in, 'python3', $program,
		$self->{file}, @port);
	@$self{qw(in out)} = ($in, $out);
	IO::Select->new($out)->can_read(30) or die "$self->{name} does not start\n";
	my $line = <$out> // die "$self->{name} ended at once\n";
	chomp($self->{port} = $line);
	return $self;
}

# Ends it; start() brings it back.
sub stop
{
	my ($self) = @_;

	return $self if !$self->{pid};
	close $self->{in};
	close $self->{out};
	local $?;
	waitpid $self->{pid}, 0;
	delete $self->{pid};
	return $self;
}

sub port    { return $_[0]{port}; }
sub ca_file { return "$_[0]{dir}/ca.crt"; }
sub dir     { return $_[0]{dir}; }

# A certificate authority that has signed nothing here.
sub other_ca_file { return "$_[0]{dir}/other.crt"; }

sub url
{
	my ($self, $path) = @_;

	return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{port}" . ($path // '');
}

# Changes keys of what it is told; undef takes one away.
sub change
{
	my ($self, %changes) = @_;
	my $control = $self->{control};

	for my $key (keys %changes)
	{
		if (defined $changes{$key}) { $control->{$key} = $changes{$key}; }
		else                        { delete $control->{$key}; }
	}
	open my $fh, '>:raw', "$self->{file}.new" or die $!;
	print $fh $json->encode($control) or die $!;
	close $fh or die $!;
	rename "$self->{file}.new", $self->{file} or die $!;
	return $self;
}

# The requests since the last call of requests() or is_clean(), as hashes.
sub requests
{
	my ($self) = @_;
	my @lines;

	open my $fh, '<:raw', "$self->{file}.log" or return ();
	seek $fh, $self->{read}, 0;
	while (my $line = <$fh>)
	{
		push @lines, $json->decode($line);
	}
	$self->{read} = tell $fh;
	push @{ $self->{seen} }, @lines;
	return @lines;
}

# How often a fault has fired so far.
sub fired
{
	my ($self, $id) = @_;

	$self->requests;
	return scalar grep { ($_->{fault} // '') eq $id } @{ $self->{seen} // [] };
}

# A test: each fault that is ordered has fired.
sub has_misbehaved
{
	my ($self, $title) = @_;
	my @waiting = grep { !$self->fired($_) } map { $_->{id} } @{ $self->{control}{faults} // [] };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More::ok(!@waiting, "$title: each fault fired")
	  || Test::More::diag("not fired: @waiting");
}

# A test: no request so far was one that the service does not expect.
sub is_clean
{
	my ($self, $title) = @_;

	$self->requests;
	my @violations = grep { $_->{violation} } @{ $self->{seen} // [] };
	$self->{seen} = [];
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More::ok(!@violations, "$title: asks for nothing unexpected")
	  || Test::More::diag(Test::More::explain(\@violations));
}

# A certificate authority, the server's certificate by it, and another
# authority that has nothing to do with it.
sub _make_certificates
{
	my ($dir) = @_;

	_write("$dir/san.cnf", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
	for my $ca (qw(ca other))
	{
		_openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1
			  -nodes -days 2), '-subj', "/CN=sis_sync test $ca",
			'-keyout', "$dir/$ca.key", '-out', "$dir/$ca.crt");
	}
	_openssl(qw(req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1
		  -nodes -subj /CN=127.0.0.1), '-keyout', "$dir/server.key",
		'-out', "$dir/server.csr");
	_openssl(qw(x509 -req -days 2 -CAcreateserial), '-in', "$dir/server.csr",
		'-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key",
		'-extfile', "$dir/san.cnf", '-out', "$dir/server.crt");
	return;
}

sub _write
{
	my ($path, $text) = @_;

	open my $fh, '>', $path or die $!;
	print $fh $text or die $!;
	close $fh or die $!;
	return;
}

sub _openssl
{
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'openssl', @_ ], '<', \undef, '>', \$out, '2>', \$err)
	  or die "openssl @_ failed:\n$err";
	return;
}

sub DESTROY { local ($?, $@); $_[0]->stop; return; }

1;
