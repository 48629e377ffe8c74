# SampleSync.pm
#	A sync of a sample district: its folder, its settings and its nights.
#
#	my $s = SampleSync->new($node, $db, 'springfield',
#		district => District->new(students => 501),
#		set => { deletion_threshold => 10 });
#	$s->succeeds('first load');
#	$s->district->remove('student', 'stu-000001');
#	$s->succeeds('a normal night');
#	$s->counts_are('one student left', student => { archived => 1 });
package SampleSync;

use strict;
use warnings;
use utf8;
use Test::More ();

our @TYPES = qw(school term course section student staff contact
  student_contact enrollment);

# Options: district; write (options of District::write for every night); set
# (columns of sis_sync.sync, as SQL); schools (those set up; all without it);
# roster (schema, default roster).
sub new
{
	my ($class, $node, $db, $name, %opt) = @_;
	my $self = bless {
		node => $node, db => $db, name => $name, dir => $node->dir($name),
		write => {}, roster => 'roster', %opt }, $class;
	my %set = %{ $opt{set} // {} };

	$set{all_schools} //= 'true' unless $opt{schools};
	$node->sync($db, $name, $self->{dir}, schools => $opt{schools}, %set);
	$self->{id} = $node->value($db,
		"SELECT id FROM sis_sync.sync WHERE name = '$name'");
	return $self;
}

sub district { return $_[0]{district}; }
sub dir      { return $_[0]{dir}; }
sub id       { return $_[0]{id}; }

# Writes the district; returns where each row stands.
sub write    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, %opt) = @_;

	return $self->{lines} =
	  $self->{district}->write($self->{dir}, %{ $self->{write} }, %opt);
}

sub call_sql
{
	my ($self, $dry) = @_;

	return "CALL sis_sync.run('$self->{name}'"
	  . ($dry ? ', dry_run => true' : '') . ')';
}

# Runs the sync over what was written; the error as a hash, or undef.
sub call
{
	my ($self, $sql, %opt) = @_;
	my (undef, $err, $code) =
	  $self->{node}->try($self->{db}, $sql // $self->call_sql, %opt);

	return $code == 0 ? undef : SisTest::parse_error($err);
}

# A night that must go well: writes, runs, checks.
sub succeeds
{
	my ($self, $title, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->write(%opt);
	return $self->run_succeeds($title);
}

sub run_succeeds
{
	my ($self, $title) = @_;
	my $error = $self->call;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = Test::More::ok(!$error, "$self->{name}: $title: succeeds");
	Test::More::diag($error->{text}) if $error;
	return $good;
}

# A night that must end in that error; returns it.
sub ends_in
{
	my ($self, $sqlstate, $title, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->write(%opt);
	return $self->run_ends_in($sqlstate, $title);
}

sub run_ends_in
{
	my ($self, $sqlstate, $title, $sql) = @_;
	my $error = $self->call($sql) // {};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Test::More::is($error->{sqlstate} // 'no error', $sqlstate,
		"$self->{name}: $title: $sqlstate")
	  or Test::More::diag($error->{text} // '');
	return $error;
}

sub last_run
{
	my ($self) = @_;

	return $self->{node}->last_run($self->{db}, $self->{name});
}

# The last run's counts of some types, and some of them: numbers.
sub counts_are
{
	my ($self, $title, %expected) = @_;
	my $run = $self->last_run;
	my $counts = $self->{node}->counts($self->{db}, $run->{id} // 0);
	my %got;

	for my $type (keys %expected)
	{
		$got{$type}{$_} = $counts->{$type}{$_} for keys %{ $expected{$type} };
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More::is_deeply(\%got, \%expected, "$self->{name}: $title")
	  || Test::More::diag(Test::More::explain(\%got));
}

# One number of all nine types.
sub all_counts_are
{
	my ($self, $title, $column, %expected) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $self->counts_are($title,
		map { $_ => { $column => $expected{$_} // 0 } } @TYPES);
}

# SQL in which <id>, <run> and <roster> stand for the sync's ID, its last run
# and its roster.
sub sql
{
	my ($self, $sql) = @_;

	$sql =~ s/<id>/$self->{id}/g;
	$sql =~ s/<roster>/$self->{roster}/g;
	$sql =~ s{<run>}{
		"(SELECT max(id) FROM sis_sync.run WHERE sync = '$self->{name}')"}ge;
	return $sql;
}

sub value
{
	my ($self, $sql) = @_;

	return $self->{node}->value($self->{db}, $self->sql($sql));
}

sub rows
{
	my ($self, $sql) = @_;

	return $self->{node}->rows($self->{db}, $self->sql($sql));
}

sub do    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, $sql) = @_;

	return $self->{node}->run($self->{db}, $self->sql($sql));
}

# The IDs in the first column, in order, as one string.
sub list
{
	my ($self, $sql) = @_;

	return join ' ', sort map { $_->[0] } @{ $self->rows($sql) };
}

# How many rows of each type are there and not archived.
sub active
{
	my ($self) = @_;

	return {
		map { $_->[0] => $_->[1] } @{
			$self->rows(
				join ' UNION ALL ',
				map {
					"SELECT '$_', count(*) FROM <roster>.$_"
					  . ' WHERE sync_id = <id> AND archived_at IS NULL'
				} @TYPES)
		}
	};
}

# A hash over all the sync's rows in the roster, and over which transactions
# wrote them.
sub digest
{
	my ($self) = @_;

	return $self->value(
		"SELECT md5(coalesce(string_agg(x, E'\\n' ORDER BY x), '')) FROM ("
		  . join(' UNION ALL ',
			map {
				"SELECT concat('$_', t.xmin, t) AS x FROM <roster>.$_ t"
				  . ' WHERE sync_id = <id>'
			} @TYPES)
		  . ') AS all_rows');
}

1;
