# SampleClever.pm
#	A sync of a sample district that Clever's API serves: a SampleSync whose
#	nights come from the local service test/services/clever.
#
#	my $s = SampleClever->new($node, $db, 'springfield',
#		district => District->new(students => 501),
#		options => { page_size => 100 });
#	$s->succeeds('first load');
#	$s->service->change(faults => [ … ]);
#
# The service is handed what the district uploads to Clever, and serves what
# Clever makes of it.
package SampleClever;

use strict;
use warnings;
use utf8;
use parent -norequire, 'SampleSync';
use SampleSync;
use Service;

# Options: as of SampleSync, and: options (of the server), mapping (options of
# the user mapping; default: the token), control (of the service).
sub new
{
	my ($class, $node, $db, $name, %opt) = @_;
	my $dir = $node->dir($name);
	my $token = '0f1e2d3c4b5a69788796a5b4c3d2e1f001234567';
	my $self = bless {
		node => $node, db => $db, name => $name, dir => $dir,
		write => { layout => 'clever' }, roster => 'roster', token => $token,
		%opt }, $class;

	SampleSync::write($self) if $self->{district};
	my $service = $self->{service} = Service->new($node, 'clever',
		data => $dir, tokens => [$token], %{ $opt{control} // {} });
	my %options = (
		base_url => $service->url, ca_file => $service->ca_file,
		%{ $opt{options} // {} });

	$node->run($db, "CREATE SERVER $name FOREIGN DATA WRAPPER sis_clever "
		  . _options(\%options));
	$node->run($db, "CREATE USER MAPPING FOR PUBLIC SERVER $name "
		  . _options($opt{mapping} // { token => $token }));
	$node->run($db, sprintf(
			'INSERT INTO sis_sync.sync (%s) VALUES (%s)',
			join(', ', qw(name server), sort keys %{ $self->settings }),
			join(', ', "'$name'", "'$name'",
				map { $self->settings->{$_} } sort keys %{ $self->settings })));
	$node->run($db, "INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('$name', '$_')")
	  for @{ $opt{schools} // [] };
	$self->{id} = $node->value($db,
		"SELECT id FROM sis_sync.sync WHERE name = '$name'");
	return $self;
}

sub settings
{
	my ($self) = @_;
	my %set = %{ $self->{set} // {} };

	$set{all_schools} //= 'true' unless $self->{schools};
	return \%set;
}

sub service { return $_[0]{service}; }
sub token   { return $_[0]{token}; }

# Writes the district, and has the service serve it.
sub write    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, %opt) = @_;
	my $lines = SampleSync::write($self, %opt);

	$self->{service}->change;
	return $lines;
}

# Changes an option of the server.
sub option
{
	my ($self, $name, $value) = @_;
	my $server = $self->{name};
	my $there = $self->{node}->value($self->{db},
		"SELECT count(*) FROM pg_foreign_server, pg_options_to_table(srvoptions)"
		  . " WHERE srvname = '$server' AND option_name = '$name'");
	my $verb = !defined $value ? "DROP $name" : ($there ? 'SET' : 'ADD') . " $name '$value'";

	return if !$there && !defined $value;
	$self->{node}->run($self->{db}, "ALTER SERVER $server OPTIONS ($verb)");
	return;
}

# Changes the user mapping.
sub mapping
{
	my ($self, %options) = @_;
	my $name = $self->{name};

	$self->{node}->run($self->{db}, "DROP USER MAPPING FOR PUBLIC SERVER $name;"
		  . "CREATE USER MAPPING FOR PUBLIC SERVER $name " . _options(\%options));
	return;
}

sub _options
{
	my ($options) = @_;

	return 'OPTIONS ('
	  . join(', ', map { "$_ '" . ($options->{$_} =~ s/'/''/gr) . "'" } sort keys %$options)
	  . ')';
}

1;
