# Manual.pm
#	The pages of docs/, and the examples in them.
#
#	for my $page (Manual::pages()) { … }          # docs/reference.md, …
#	my @blocks = Manual::blocks($page);           # {kind, text, line}
#	my $like = Manual::pattern($block->{text});   # what an output must be like
#
# A page with an output block is run as it stands; docs/README.md has the rules.
package Manual;

use strict;
use warnings;
use utf8;
use File::Find ();
use SisTest ();

# The folder that the examples name, and for which the test has another.
our $FOLDER = '/srv/sis/springfield';

# Paths of all pages, from the top of the tree.
sub pages
{
	my $root = SisTest::root();
	my @pages;

	File::Find::find({
			no_chdir => 1,
			wanted => sub { push @pages, substr($_, length("$root/")) if /\.md$/; }
		}, "$root/docs");
	return sort @pages;
}

sub text
{
	my ($page) = @_;

	open my $fh, '<:encoding(UTF-8)', SisTest::root() . "/$page" or die "$page: $!";
	local $/;
	return scalar <$fh>;
}

# The fenced blocks of a page, in order; line is that of the opening fence.
sub blocks
{
	my ($page) = @_;
	my ($number, $block, @blocks) = (0);

	for my $line (split /^/, text($page))
	{
		$number++;
		if ($block && $line =~ /^ *```$/)
		{
			push @blocks, $block;
			$block = undef;
		}
		elsif ($block)
		{
			$block->{text} .= $line;
		}
		elsif ($line =~ /^ *```(\w*)$/)
		{
			$block = { kind => $1, text => '', line => $number };
		}
	}
	die "$page: a block is not closed\n" if $block;
	return @blocks;
}

# A page that is run: one in which some output stands.
sub is_run
{
	my ($page) = @_;

	return scalar grep { $_->{kind} eq 'output' } blocks($page);
}

# psql's columns are as wide as what stands in them: spaces and rules count as
# one, and blank lines at the end as none.
sub plain
{
	my ($text) = @_;

	$text =~ s/[ \t]+/ /g;
	$text =~ s/-{2,}/--/g;
	$text =~ s/ ?\n/\n/g;
	$text =~ s/\n+\z//;
	return $text;
}

# A pattern for an output block: "…" is anything within the line.
sub pattern
{
	my ($text) = @_;
	my $like = quotemeta plain($text);

	$like =~ s/\\?…/[^\\n]*?/g;
	return qr/\A$like\z/;
}

1;
