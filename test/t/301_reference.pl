# The reference is complete: every object of the extension and of a roster has
# its comment, and its place in docs/ with the names, types and defaults that
# the catalog has; nothing else is there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Manual;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('reference');

# ----------
# Comments
# ----------

# Leaves of the staging tables go without, and so do columns of staging tables:
# docs/reference-tables.md has these once for all.
is_deeply($node->rows($db, q{
	SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
	JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
	LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
	WHERE x.extname = 'sis_sync' AND d.deptype = 'e' AND c.relispartition IS NOT TRUE
	  AND (c.relkind IS NULL OR c.relkind <> 'i')
	  AND obj_description(d.objid, d.classid::regclass::name) IS NULL ORDER BY 1}),
	[], 'every object has a comment');
is_deeply($node->rows($db, q{
	SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'sis_sync'::regnamespace AND c.relkind IN ('r', 'v') AND NOT c.relispartition
	  AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL ORDER BY 1, 2}),
	[], 'and every column of a table or view');
is_deeply($node->rows($db, q{
	SELECT pg_describe_object('pg_class'::regclass, oid, 0) FROM pg_class
	WHERE relnamespace = 'roster'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid, 'pg_class') IS NULL
	UNION ALL SELECT pg_describe_object('pg_proc'::regclass, oid, 0) FROM pg_proc
	WHERE pronamespace = 'roster'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL}),
	[], 'and every table, view and function of a roster');

# ----------
# Their places
# ----------

# The sections of a page: {heading => text}.
sub sections
{
	my ($page) = @_;
	my (%text, $heading);

	for my $line (split /^/, Manual::text($page))
	{
		if ($line =~ /^##+ (.*)$/)
		{
			$heading = $1;
			fail("$page has $heading twice") if exists $text{$heading};
			$text{$heading} = '';
		}
		$text{$heading} .= $line if defined $heading;
	}
	return \%text;
}

# The tables of a section: for each, its rows without the heading, as lists.
sub tables_of
{
	my ($text) = @_;
	my @tables;

	while (($text // '') =~ /^\|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)*)/mg)
	{
		push @tables, [ map { [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, s/^\|//r, -1 ] } split /\n/, $1 ];
	}
	return @tables;
}

sub first_cells { return sort map { $_->[0] } map { @$_ } @_; }

# Routines, as \df prints them
my $routines = sections('docs/reference.md');
my %made = map { $_->[0] => 1 } @{ $node->rows($db, q{
	SELECT format('sis_sync.%s(%s)%s', proname, pg_get_function_arguments(oid),
	              CASE prokind WHEN 'p' THEN '' ELSE ' → ' || pg_get_function_result(oid) END)
	FROM pg_proc WHERE pronamespace = 'sis_sync'::regnamespace}) };
my %written = map { $_ => 1 } grep { /^sis_sync\./ } keys %$routines;

cmp_ok(scalar keys %made, '>=', 29, 'routines are there');
is_deeply([ sort keys %written ], [ sort keys %made ], 'docs/reference.md has each routine, with its arguments and result');
for my $routine (sort grep { !/validator|guard_sync|unschedule|stage|verify|apply|archive\(run/ } keys %written)
{
	like($routines->{$routine}, qr/^```output$/m, "$routine has an example");
}

# Tables and views
my $tables = sections('docs/reference-tables.md');
my $columns = sub {
	return $node->rows($db, qq{
		SELECT a.attname, replace(replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'), 'sis_sync.', ''),
		  CASE WHEN c.relkind = 'v' THEN NULL WHEN a.attidentity <> '' THEN 'generated'
		       WHEN d.adbin IS NOT NULL THEN regexp_replace(pg_get_expr(d.adbin, d.adrelid), '::[a-z ]+(\\[\\])?', '', 'g')
		       WHEN a.attnotnull THEN 'required' ELSE '' END
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.oid = '$_[0]'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname});
};
my $kinds = { map { $_->[0] => $_->[1] } @{ $node->rows($db, q{
	SELECT relname, CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END FROM pg_class
	WHERE relnamespace = 'sis_sync'::regnamespace AND relkind IN ('r', 'v') AND NOT relispartition}) } };

cmp_ok(scalar keys %$kinds, '>=', 20, 'tables and views are there');
for my $name (sort keys %$kinds)
{
	my ($table) = tables_of($tables->{"sis_sync.$name ($kinds->{$name})"});
	my $width = $kinds->{$name} eq 'view' ? 1 : 2;
	my @expected = map { [ @$_[ 0 .. $width ] ] } @{ $columns->("sis_sync.$name") };

	is_deeply([ sort { $a->[0] cmp $b->[0] } map { [ @$_[ 0 .. $width ] ] } @{ $table // [] } ],
		\@expected, "docs/reference-tables.md has the columns of $name");
}
is_deeply([ sort grep { s/^sis_sync\.(\S+) \((?:table|view)\)$/$1/ } my @names = keys %$tables ],
	[ sort keys %$kinds ], 'and no others');

my $page = Manual::text('docs/reference-tables.md');
for (@{ $node->rows($db, q{SELECT relname FROM pg_class WHERE relnamespace = 'sis_sync'::regnamespace
	AND relkind IN ('p', 'S') UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'sis_sync'::regnamespace AND typtype = 'e'}) })
{
	like($page, qr/^### .*\b$_->[0]\b/m, "it has $_->[0]");
}
my ($status) = tables_of($tables->{'sis_sync.stage_status (type)'});
is_deeply([ first_cells($status) ],
	[ map { $_->[0] } @{ $node->rows($db, q{SELECT enumlabel FROM pg_enum WHERE enumtypid = 'sis_sync.stage_status'::regtype ORDER BY enumlabel::text COLLATE "C"}) } ],
	'and the values of stage_status');

# The roster, and staging: its columns and those of the type
my ($common) = tables_of($tables->{'The roster'});
my ($staged) = tables_of((grep { /^### sis_sync\.stage_school, / } values %$tables)[0]);
for my $type (qw(school term course section student staff contact student_contact enrollment))
{
	my ($own) = tables_of($tables->{"roster.$type (table)"});
	my @real = map { [ @$_[ 0, 1 ] ] } @{ $columns->("roster.$type") };

	is_deeply([ sort { $a->[0] cmp $b->[0] } map { [ @$_[ 0, 1 ] ] } @{ $common // [] }, @{ $own // [] } ],
		\@real, "it has the columns of roster.$type");
	my @stage = sort((first_cells($staged)), qw(source_id sis_id extra), grep { $_ ne 'app_school' } first_cells($own));
	is_deeply([ map { $_->[0] } @{ $columns->("sis_sync.stage_$type") } ], \@stage, "and of stage_$type");
}
my ($person) = tables_of($tables->{'roster.person_app_school (view)'});
is_deeply([ first_cells($person) ], [ map { $_->[0] } @{ $columns->('roster.person_app_school') } ], 'and of person_app_school');

# Options: what the wrappers say is valid
my $sources = sections('docs/reference-sources.md');
for my $wrapper (map { $_->[0] } @{ $node->rows($db, q{SELECT fdwname FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'sis\_%'}) })
{
	my ($server, $mapping) = tables_of($sources->{"$wrapper (wrapper)"});
	my $valid = sub { my ($hint) = ($_[0]->{hint} // '') =~ /context are: (.*)/; return [ sort split /, /, $hint // '' ]; };

	is_deeply([ first_cells($server // []) ], $valid->($node->fails($db, "CREATE SERVER x FOREIGN DATA WRAPPER $wrapper OPTIONS (nothing 'x')")),
		"docs/reference-sources.md has the options of $wrapper");
	$node->run($db, "CREATE SERVER for_$wrapper FOREIGN DATA WRAPPER $wrapper");
	is_deeply([ first_cells($mapping // []) ], $valid->($node->fails($db, "CREATE USER MAPPING FOR PUBLIC SERVER for_$wrapper OPTIONS (nothing 'x')")),
		"and of its user mapping");
}

# Errors: those of the source
my $errors = do { local $/; open my $fh, '<', SisTest::root() . '/src/base/error.c' or die $!; <$fh> };
my @named;
while ($errors =~ /MAKE_SQLSTATE\('S', 'I', '(\d)', '(\d)', '(\d)'\)\},?\s*"(\w+)", "([^"]+)"|MAKE_SQLSTATE\('S', 'I', '(\d)', '(\d)', '(\d)'\),\s*"(\w+)", "([^"]+)"/g)
{
	push @named, defined $1 ? [ "SI$1$2$3", $4, $5 ] : [ "SI$6$7$8", $9, $10 ];
}
cmp_ok(scalar @named, '>=', 12, 'named errors are there');
my ($si) = tables_of($routines->{Errors});
is_deeply([ map { [ @$_[ 0 .. 2 ] ] } @{ $si // [] } ], \@named, 'docs/reference.md has each named error');
for my $error (@named)
{
	my $file = SisTest::root() . "/docs/failures/$error->[0].md";

	ok(-f $file, "$error->[0] has a page of its own") or next;
	like(Manual::text("docs/failures/$error->[0].md"), qr/^# $error->[0]: \Q$error->[2]\E$/m, 'with its reason');
}

# Links between pages lead somewhere
for my $from (Manual::pages(), 'README.md', 'CONTRIBUTING.md')
{
	next if !-f SisTest::root() . "/$from";
	my ($folder) = $from =~ m{^(.*/)?};
	my $text = Manual::text($from) =~ s/^```.*?^```$//msgr;

	for my $link ($text =~ /\]\(([^)#\s]+)/g)
	{
		next if $link =~ /^https?:/;
		ok(-e SisTest::root() . '/' . ($folder // '') . $link, "$from: $link is there");
	}
}

done_testing;
