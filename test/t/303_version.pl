# The version stands in one place, and everything that repeats it agrees; and
# META.json is what PGXN takes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use JSON::PP ();
use SisTest;

sub text
{
	my ($path) = @_;

	open my $fh, '<:raw', SisTest::root() . "/$path" or die "$path: $!";
	local $/;
	return scalar <$fh>;
}

my ($version) = text('sis_sync.control') =~ /^default_version\s*=\s*'([^']+)'/m;
like($version, qr/^\d+\.\d+$/, 'the control file has a version');
ok(-f SisTest::root() . "/sis_sync--$version.sql", 'its install script is there');
like(text('Makefile'), qr/^DATA = .*\bsis_sync--\Q$version\E\.sql\b/m, 'and is installed');

my ($changed) = text('CHANGELOG.md') =~ /^## (\S+)/m;
is($changed, $version, 'CHANGELOG.md begins with it');

my $build = SisTest::root() . '/packaging/debian/build';
chomp(my $package = `$build --version`);
like($package, qr/^\Q$version\E-\d+$/, 'the Debian packages have it');

# The module says it to the services that it asks
my $pg_config = SisTest->bindir . '/pg_config';
chomp(my $lib = `$pg_config --pkglibdir`);
open my $module, '<:raw', "$lib/sis_sync.so" or die "$lib/sis_sync.so: $!";
my $bytes = do { local $/; <$module> };
like($bytes, qr{\0sis_sync/\Q$version\E\0}, 'the module has it');

my $node = SisTest->new->start;
my $db = $node->fresh_db('version');
is($node->value($db, q{SELECT extversion FROM pg_extension WHERE extname = 'sis_sync'}), $version, 'and so has CREATE EXTENSION');

# ----------
# META.json, by the PGXN meta specification 1.0.0
# ----------
my $meta = JSON::PP->new->utf8->decode(text('META.json'));
my $semver = qr/^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-?[A-Za-z][0-9A-Za-z-]*)?$/;
my $term = qr/^[^\s\/\\[:cntrl:]]{2,}$/;
my %known = map { $_ => 1 } qw(name version abstract maintainer license provides meta-spec
  description generated_by no_index prereqs release_status resources tags);

is($meta->{version}, "$version.0", 'META.json has the version');
ok(defined $meta->{$_}, "it has $_") for qw(name version abstract maintainer license provides meta-spec);
is_deeply([ grep { !$known{$_} && !/^x_/i } sort keys %$meta ], [], 'and no key that is not in the specification');
like($meta->{name}, $term, 'name');
like($meta->{version}, $semver, 'version');
is($meta->{license}, 'postgresql', 'licence');
like($meta->{release_status}, qr/^(?:stable|testing|unstable)$/, 'release status');
is_deeply($meta->{'meta-spec'}, { version => '1.0.0', url => 'https://pgxn.org/meta/spec.txt' }, 'specification');
ok(length($_) > 0 && length($_) < 256, "tag $_") for @{ $meta->{tags} };
is_deeply([ keys %{ $meta->{provides} } ], ['sis_sync'], 'it provides the extension');
my $extension = $meta->{provides}{sis_sync};
is($extension->{version}, $meta->{version}, 'in its version');
is($extension->{file}, "sis_sync--$version.sql", 'by its install script');
ok(-f SisTest::root() . "/$extension->{docfile}", 'with a page');
for my $phase (sort keys %{ $meta->{prereqs} })
{
	like($phase, qr/^(?:configure|build|test|runtime|develop)$/, "prerequisites: $phase");
	for my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		like($relation, qr/^(?:requires|recommends|suggests|conflicts)$/, "$relation");
		like($_, $semver, 'a version') for values %{ $meta->{prereqs}{$phase}{$relation} };
	}
}

done_testing;
