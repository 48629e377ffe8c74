# OneRosterSync.pm
#	A sync of a sample district over a local OneRoster service.
#
#	my $s = OneRosterSync->new($node, $db, 'springfield',
#		district => District->new(students => 501), version => '1.2',
#		way => 'oauth2', server => { page_size => 100 });
#	$s->succeeds('first load');
#	$s->service->change(faults => [ … ]);
#
# It is a SampleSync; what is written is what the service shows.
package OneRosterSync;

use strict;
use warnings;
use utf8;
use parent -norequire, 'SampleSync';
use SampleSync;
use Service;

our %AUTH = (
	oauth1 => { oauth1 => { key => 'key/1 +%', secret => 's3cr&t/+ key',
			methods => ['HMAC-SHA256'] } },
	oauth2 => { oauth2 => { path => '/oauth/access_token', id => 'client-7',
			secret => 's3cr:t=2', expires_in => 3600,
			scopes => [ map { ("https://purl.imsglobal.org/spec/or/v1p$_/scope/roster-core.readonly",
					"https://purl.imsglobal.org/spec/or/v1p$_/scope/roster-demographics.readonly") } 1, 2 ] } },
	bearer => { bearer => 'b34r3r-t0k3n' });
our %MAPPING = (
	oauth1 => { client_id => 'key/1 +%', client_secret => 's3cr&t/+ key' },
	oauth2 => { client_id => 'client-7', client_secret => 's3cr:t=2' },
	bearer => { token => 'b34r3r-t0k3n' });

# Options beside those of SampleSync: version, way (of signing in), wrapper,
# server and mapping (options to add; undef takes one away), service (keys of
# test/services/oneroster).
sub new
{
	my ($class, $node, $db, $name, %opt) = @_;
	my $version = $opt{version} //= '1.1';
	my $way = $opt{way} //= 'oauth1';
	my $wrapper = $opt{wrapper} //= 'sis_oneroster';
	my %set = %{ delete $opt{set} // {} };
	my $self = bless {
		node => $node, db => $db, name => $name, dir => $node->dir($name),
		roster => 'roster', %opt,
		write => { layout => $version eq '1.2' ? 'oneroster12' : 'oneroster11',
			%{ $opt{write} // {} } } }, $class;
	my $base = $version eq '1.2' ? '/ims/oneroster/rostering/v1p2' : '/ims/oneroster/v1p1';

	$self->{district}->write($self->{dir}, %{ $self->{write} });
	$self->{service} = Service->new($node, 'oneroster', data => $self->{dir},
		version => $version, base => $base, auth => $AUTH{$way},
		%{ $opt{service} // {} });
	$base = $self->{service}{control}{base};

	my %server = (
		base_url => $self->{service}->url($base),
		$opt{service} && exists $opt{service}{tls} ? () : (ca_file => $self->{service}->ca_file),
		$way eq 'oauth2' ? (token_url => $self->{service}->url('/oauth/access_token')) : (),
		%{ $opt{server} // {} });
	my %mapping = (%{ $MAPPING{$way} }, %{ $opt{mapping} // {} });

	$node->run($db, qq{CREATE SERVER "$name" FOREIGN DATA WRAPPER $wrapper } . _options(\%server));
	$node->run($db, qq{CREATE USER MAPPING FOR PUBLIC SERVER "$name" } . _options(\%mapping));
	$set{all_schools} //= 'true' unless $opt{schools};
	$node->run($db, sprintf("INSERT INTO sis_sync.sync (name, server%s) VALUES ('$name', '$name'%s)",
			join('', map { ", $_" } sort keys %set), join('', map { ", $set{$_}" } sort keys %set)));
	$node->run($db, "INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('$name', '$_')")
	  for @{ $opt{schools} // [] };
	$self->{id} = $node->value($db, "SELECT id FROM sis_sync.sync WHERE name = '$name'");
	return $self;
}

sub service { return $_[0]{service}; }

# Writes the district, and has the service show it.
sub write    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, %opt) = @_;

	$self->SUPER::write(%opt);
	$self->{service}->change;
	return;
}

# Sets options of the server or, with of => 'mapping', of the user mapping;
# undef takes one away.
sub alter
{
	my ($self, $of, %options) = @_;
	my $what = $of eq 'server' ? 'SERVER' : 'USER MAPPING FOR PUBLIC SERVER';
	my $table = $of eq 'server' ?
	  "pg_foreign_server WHERE srvname = '$self->{name}'" :
	  "pg_user_mappings WHERE srvname = '$self->{name}'";
	my $column = $of eq 'server' ? 'srvoptions' : 'umoptions';
	my %is_set = map { $_->[0] => 1 }
	  @{ $self->rows("SELECT split_part(unnest($column), '=', 1) FROM $table") };
	my @changes = map {
		my $value = $options{$_} // '';
		$value =~ s/'/''/g;
		!defined $options{$_} ? ($is_set{$_} ? "DROP $_" : ())
		  : ($is_set{$_} ? 'SET' : 'ADD') . " $_ '$value'"
	} sort keys %options;

	$self->do(qq{ALTER $what "$self->{name}" OPTIONS (} . join(', ', @changes) . ')') if @changes;
	return $self;
}

sub _options
{
	my ($options) = @_;

	return 'OPTIONS (' . join(', ', map {
		my $value = $options->{$_};
		$value =~ s/'/''/g;
		"$_ '$value'"
	} grep { defined $options->{$_} } sort keys %$options) . ')';
}

1;
