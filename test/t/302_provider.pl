# The worked example of docs/provider.md compiles as it stands, without a warning.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp ();
use IPC::Run ();
use Manual;
use SisTest;

my @code = grep { $_->{kind} eq 'c' } Manual::blocks('docs/provider.md');
my $folder = File::Temp->newdir;
my $pg_config = SisTest->bindir . '/pg_config';
my $include = `$pg_config --includedir-server`;

chomp $include;
is(scalar @code, 1, 'there is one example');

# (exit code, what the compiler says)
sub compile
{
	my ($text) = @_;
	my $said = '';

	open my $fh, '>', "$folder/roll.c" or die $!;
	print $fh $text;
	close $fh or die $!;
	IPC::Run::run([ 'gcc', '-fsyntax-only', '-Wall', '-Wextra', '-Werror',
			qw(-Wmissing-prototypes -Wdeclaration-after-statement -Wno-unused-parameter -Wno-missing-field-initializers),
			'-I', SisTest::root() . '/src', '-isystem', $include, "$folder/roll.c" ],
		'>&', \$said);
	return ($? >> 8, $said);
}

my ($code, $said) = compile($code[0]{text});
is($code, 0, 'it compiles') or diag($said);
($code) = compile($code[0]{text} =~ s/SIS_OFFER_FULL/SIS_OFFER_ALL/r);
isnt($code, 0, 'and what is not in provider.h does not');

done_testing;
