# The manual's examples, run as they stand: what they print is what it says.
#
# With SIS_MANUAL_OUT=FOLDER in the environment the pages are written there with
# the output that came, to look at and to copy from.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Basename qw(basename);
use IPC::Run ();
use Manual;
use SisTest;

my $node = SisTest->new(conf => { timezone => 'UTC' })->start;

# What psql prints, both streams in order.
sub psql
{
	my ($db, $sql) = @_;
	my $out = '';
	my $in = Encode::encode('UTF-8', $sql);

	IPC::Run::run([ $node->program('psql'), '-X', '-q', '-P', 'pager=off',
			'-h', $node->host, '-p', $node->port, '-d', $db ],
		'<', \$in, '>&', \$out, IPC::Run::timeout(180));
	return Encode::decode('UTF-8', $out);
}

# What differs from run to run, as the manual writes it.
sub masked
{
	my ($text) = @_;
	my $mask = sub { '…' . ' ' x (length($_[0]) - 1) };

	$text =~ s/(\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[-+]\d\d| UTC)?)/$mask->($1)/ge;
	$text =~ s/(\d\d:\d\d:\d\d\.\d+)/$mask->($1)/ge;
	$text =~ s/(\d{4}-\d\d-\d\d)/$mask->($1)/ge;
	$text =~ s/… +(?=[,.'])/…/g;    # not in a column
	$text =~ s/, by \S+:/, by …:/g;
	$text =~ s/ +$//mg;
	return $text;
}

my %examples;
my $pages = 0;

for my $page (grep { Manual::is_run($_) } Manual::pages())
{
	my $db = basename($page, '.md');
	my $folder = $node->dir('springfield');
	my @blocks = Manual::blocks($page);
	my $rewritten = Manual::text($page);

	$node->run('postgres', qq{CREATE DATABASE "$db"});
	$pages++;
	for my $i (0 .. $#blocks)
	{
		my ($kind, $text) = @{ $blocks[$i] }{qw(kind text)};
		my $title = "$page, line $blocks[$i]{line}";
		my $next = $blocks[ $i + 1 ];

		$text =~ s/\Q$Manual::FOLDER\E/$folder/g;
		if ($kind eq 'sh' && $text =~ m{^test/district })
		{
			my $log = '';
			my $done = IPC::Run::run([ 'sh', '-ec', 'cd "$1"; ' . $text, 'sh', SisTest::root() ],
				'<', \undef, '>&', \$log);
			ok($done, "$title: the folder is written") or diag($log);
		}
		elsif ($kind eq 'sql')
		{
			my $got = psql($db, $text);

			$got =~ s/\Q$folder\E/$Manual::FOLDER/g;
			if ($next && $next->{kind} eq 'output')
			{
				my $masked = masked($got);

				$examples{$page}++;
				like(Manual::plain($got), Manual::pattern($next->{text}), $title);
				$rewritten =~ s/^```output\n\Q$next->{text}\E```$/```shown\n$masked```/m;
			}
			else
			{
				unlike($got, qr/^(?:ERROR|FATAL):/m, "$title: no error");
			}
		}
		elsif ($kind eq 'output')
		{
			is($i > 0 ? $blocks[ $i - 1 ]{kind} : '', 'sql', "$title: an output follows its statements");
		}
	}
	if (my $out = $ENV{SIS_MANUAL_OUT})
	{
		$rewritten =~ s/^```shown$/```output/mg;
		open my $fh, '>:encoding(UTF-8)', "$out/" . basename($page) or die $!;
		print $fh $rewritten;
		close $fh or die $!;
	}
}
cmp_ok($pages, '>=', 1, 'some pages have examples');
cmp_ok($examples{'docs/reference.md'} // 0, '>=', 20, 'the reference has examples of its routines');

# The statements of the other pages name what is there: they may fail, for the
# sync is not the one they are about, but not for a typing error.
my $db = $node->fresh_db('others');
my $statements = 0;

$node->sync($db, 'springfield', $node->dir('empty'), all_schools => 'true');
for my $page (grep { !Manual::is_run($_) } Manual::pages(), 'README.md')
{
	for my $block (grep { $_->{kind} eq 'sql' } Manual::blocks($page))
	{
		my $sql = $block->{text} =~ s/^ *SELECT (?:cron\.|\* FROM cron\.).*?;.*\n//mgr;
		my (undef, $err) = $node->try($db, "\\set ON_ERROR_STOP off\n$sql");

		$statements++;
		unlike($err, qr/ERROR:  (?:42601|42703|42P01|42883|3F000):/,
			"$page, line $block->{line}: it has no typing error");
	}
}
cmp_ok($statements, '>=', 50, 'other pages have statements');

# The comparison itself: it must be able to fail.
like(Manual::plain(" n |   at\n---+-----\n 1 | 2026-01-01\n"), Manual::pattern(" n | at\n---+----\n 1 | …\n"), 'widths do not matter');
unlike(Manual::plain(" 1 | x\n"), Manual::pattern(" 2 | …\n"), 'what is not masked does');
unlike(Manual::plain(" 1 | x\n 2 | y\n"), Manual::pattern(" 1 | …\n"), 'nor does a mask take a line more');

done_testing;
