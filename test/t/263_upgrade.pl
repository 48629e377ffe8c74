# ALTER EXTENSION UPDATE from the first release: a database of version 1.0, in
# use by an application, becomes what a new one of this version is, to the last
# comment; the next night changes nothing, and what was logged before can be
# undone and approved.
#
# test/upgrade/sis_sync--1.0.sql is what was released, and is never changed.
use strict;
use warnings;
use File::Copy ();
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my ($share) = map { chomp; $_ } `@{[ SisTest->program('pg_config') ]} --sharedir`;
my @installed;
plan skip_all => 'the server belongs to somebody else: run test/all' if !-w "$share/extension";

# Puts a script of the extension into the server, for this test.
sub install_script
{
	my ($name, $text) = @_;
	my $path = "$share/extension/sis_sync--$name.sql";

	push @installed, $path;
	open(my $fh, '>:encoding(UTF-8)', $path) or die "$path: $!";
	print $fh $text;
	close($fh) or die $!;
	return;
}

sub text_of
{
	my ($path) = @_;

	open(my $fh, '<:encoding(UTF-8)', SisTest::root() . "/$path") or die "$path: $!";
	local $/;
	return scalar <$fh>;
}

END { unlink @installed; }

install_script('1.0', text_of('test/upgrade/sis_sync--1.0.sql'));
my $node = SisTest->new->start;
my $this_version = $node->value('postgres',
	q{SELECT default_version FROM pg_available_extensions WHERE name = 'sis_sync'});

# ----------
# A database of version 1.0.  Its library is not there any more: the rows come
# from runs of this one, in the columns that 1.0 had.
# ----------
my %district = map { $_ => District->new(seed => length $_, schools => 2, students => 120,
		sections => 12, staff => 8, contacts => 30, enroll => 2) } qw(springfield held);
my $made = $node->fresh_db('made');
my %sync = map { $_ => SampleSync->new($node, $made, $_, district => $district{$_},
		set => { min_allowed => 3 }) } sort keys %district;
$node->run($made, q{INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('springfield', 'staff', 20)});
$_->succeeds('first load') for @sync{ sort keys %sync };
my $email = $sync{springfield}->value(q{SELECT email FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000001'});
$district{springfield}->remove('student', 'stu-000120');
$district{springfield}->set('student', 'stu-000001', email => 'new@example.org');
$sync{springfield}->succeeds('second night');
my $undoable = $sync{springfield}->last_run->{id};
$district{held}->remove('student', $district{held}->ids('student', 0, 20));
$sync{held}->ends_in('SI001', 'twenty of 120 leave');
my $tripped = $sync{held}->last_run->{id};

$node->run('postgres', $_) for 'CREATE DATABASE old', 'CREATE ROLE reader', 'CREATE ROLE other_dba SUPERUSER LOGIN';
my $old = 'old';
$node->run($old, q{CREATE EXTENSION sis_sync VERSION '1.0'});
$node->run($old, q{SELECT sis_sync.create_roster('roster')});
my $dir = $node->dir('rows');
for my $table ((map { "sis_sync.$_" } qw(sync sync_school sync_threshold sync_state run run_count run_school
	  reject change pending_archive pending_delete approval rekey_pair skipped stage_slot)),
	(map { "roster.$_" } @SampleSync::TYPES))
{
	my $columns = $node->value($old, "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)"
		  . " FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped");
	$node->run($old, 'DELETE FROM sis_sync.stage_slot') if $table eq 'sis_sync.stage_slot';
	$node->run($made, "COPY (SELECT $columns FROM $table) TO '$dir/$table'");
	$node->run($old, "COPY $table ($columns) FROM '$dir/$table'");
}
for my $sequence (qw(sync_id_seq run_id_seq reject_id_seq change_id_seq))
{
	my $last = $node->value($made, "SELECT last_value FROM sis_sync.$sequence");
	$node->run($old, "SELECT setval('sis_sync.$sequence', $last)");
}
$node->run($old, "CREATE SERVER $_ FOREIGN DATA WRAPPER sis_directory OPTIONS (path '"
	  . $sync{$_}->dir . q{')}) for sort keys %sync;
%sync = map { $_ => bless { %{ $sync{$_} }, db => $old }, 'SampleSync' } keys %sync;

# What the application has made of it
$node->run($old, q{GRANT SELECT ON sis_sync.run, sis_sync.rekey_twin TO reader;
	CREATE TABLE tenant (sync text REFERENCES sis_sync.sync (name), school bigint);
	INSERT INTO tenant VALUES ('springfield', 1);
	CREATE VIEW rekeyed AS SELECT run_id, count(*) AS pairs FROM sis_sync.rekey_twin GROUP BY run_id;
	CREATE VIEW last_runs AS SELECT sync, max(id) AS run FROM sis_sync.run GROUP BY sync});

# ----------
# This library over version 1.0: a clear word, and nothing happens
# ----------
my $content = 'SELECT md5(string_agg(x, E\'\n\' ORDER BY x)) || count(*) FROM ('
  . join(' UNION ALL ', map { "SELECT concat('$_', t) AS x FROM roster.$_ t" } @SampleSync::TYPES) . ') AS c';
my $before = $node->value($old, $content);
my $log = $node->value($old, 'SELECT count(*) FROM sis_sync.run');
for my $sql (q{CALL sis_sync.run('springfield')}, q{SELECT sis_sync.stage('springfield')},
	q{SELECT sis_sync.run_atomic('springfield')}, "SELECT sis_sync.verify($undoable)",
	"SELECT sis_sync.explain_failure($tripped)", "SELECT * FROM sis_sync.preview($undoable)",
	"SELECT sis_sync.approve($tripped, 'they have left')", "CALL sis_sync.undo($undoable)",
	"CALL sis_sync.rekey($undoable)")
{
	my $error = $node->fails($old, $sql);
	is("$error->{sqlstate} $error->{message}", 'SI009 extension "sis_sync" is of version 1.0 in this database,'
		  . " its library of version $this_version", "before the update: $sql");
	like($error->{hint}, qr/^Run ALTER EXTENSION sis_sync UPDATE;/, 'the hint says what to type');
}
is($node->value($old, $content), $before, 'the roster is as it was');
is($node->value($old, 'SELECT count(*) FROM sis_sync.run'), $log, 'and so is the log');
$node->run($old, q{UPDATE sis_sync.sync SET deletion_threshold = 11 WHERE name = 'held'});

# ----------
# What a database has of the extension and in the roster, a line for each thing
# ----------
my $CATALOG = <<'SQL';
WITH member AS (
  SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
  WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'sis_sync'
), rel AS (
  SELECT c.*, c.oid::regclass::text AS name FROM pg_class c
  WHERE c.relnamespace IN ('sis_sync'::regnamespace, 'roster'::regnamespace)
), proc AS (
  SELECT p.*, p.oid::regprocedure::text AS name FROM pg_proc p WHERE p.pronamespace = 'sis_sync'::regnamespace
), line AS (
  SELECT format('member %s', pg_describe_object(classid, objid, 0)) AS line FROM member
  UNION ALL
  SELECT format('relation %s %s %s %s %s %s %s', name, relkind, relpersistence, relowner::regrole, reloptions,
    pg_get_expr(relpartbound, oid), (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(relacl) a))
  FROM rel WHERE relkind <> 'i' OR NOT relispartition
  UNION ALL
  SELECT format('column %s %s %s %s %s %s %s %s %s %s', r.name, a.attnum, a.attname,
    format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, a.attnotnull, a.attidentity, a.attstorage,
    pg_get_expr(d.adbin, d.adrelid), a.attacl)
  FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
  WHERE a.attnum > 0
  UNION ALL
  SELECT format('constraint %s %s %s %s', r.name, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
  FROM rel r JOIN pg_constraint c ON c.conrelid = r.oid
  UNION ALL
  SELECT format('index %s', pg_get_indexdef(i.indexrelid)) FROM rel r JOIN pg_index i ON i.indrelid = r.oid
  UNION ALL
  SELECT format('trigger %s %s', pg_get_triggerdef(t.oid), t.tgenabled)
  FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
  UNION ALL
  SELECT format('view %s %s', name, pg_get_viewdef(oid)) FROM rel WHERE relkind = 'v'
  UNION ALL
  SELECT format('sequence %s %s', r.name, (s.*)::text)
  FROM rel r JOIN LATERAL (SELECT seqtypid, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle
    FROM pg_sequence WHERE seqrelid = r.oid) s ON true
  UNION ALL
  SELECT format('function %s %s %s %s', name, pg_get_functiondef(oid), proowner::regrole,
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(proacl) a)) FROM proc
  UNION ALL
  SELECT format('label %s %s %s', enumtypid::regtype, enumsortorder, enumlabel) FROM pg_enum
  UNION ALL
  SELECT format('wrapper %s %s %s %s', fdwname, fdwvalidator::regproc, fdwowner::regrole, fdwacl)
  FROM pg_foreign_data_wrapper
  UNION ALL
  SELECT format('schema %s %s %s', nspname, nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname IN ('sis_sync', 'roster')
  UNION ALL
  SELECT format('comment %s %s', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description
  WHERE (classoid, objoid) IN (SELECT classid, objid FROM member) OR objoid IN (SELECT oid FROM rel)
  UNION ALL
  SELECT format('first privileges %s %s', pg_describe_object(classoid, objoid, objsubid), initprivs) FROM pg_init_privs
  WHERE (classoid, objoid) IN (SELECT classid, objid FROM member)
  UNION ALL
  SELECT format('dumped %s %s', c.oid::regclass, c.condition) FROM pg_extension e,
    ROWS FROM (unnest(e.extconfig), unnest(e.extcondition)) c (oid, condition) WHERE e.extname = 'sis_sync'
  UNION ALL
  SELECT format('extension %s %s %s', extowner::regrole, extnamespace::regnamespace, extrelocatable)
  FROM pg_extension WHERE extname = 'sis_sync'
)
SQL
my $DIGEST = "$CATALOG SELECT md5(string_agg(line, E'\\n' ORDER BY line COLLATE \"C\")) FROM line";

my $fresh = $node->fresh_db('fresh');
$node->run($fresh, 'GRANT SELECT ON sis_sync.run, sis_sync.rekey_match TO reader');
my $wanted = $node->value($fresh, $DIGEST);
isnt($node->value($old, $DIGEST), $wanted, 'version 1.0 is another');

# ----------
# No statement of the update's script can be left out: each is, in turn, in a
# transaction that is rolled back, and it fails or the result differs
# ----------
my $script = text_of("sis_sync--1.0--$this_version.sql");
$script =~ s/^\\echo.*\n//m;
my @statements;
my $left_out = 0;
while ($script =~ /\G(.*?;)[ ]*(?:\n|\z)/gsc)
{
	my $statement = $1;
	while ((() = $statement =~ /\$\$/g) % 2)
	{
		$script =~ /\G(.*?;)[ ]*(?:\n|\z)/gsc or die 'a body without an end';
		$statement .= "\n$1";
	}
	push @statements, $statement;
}
cmp_ok(scalar(@statements), '>', 50, 'the script has been taken apart');
for my $n (0 .. $#statements)
{
	# of an ALTER TABLE, each of its clauses
	my ($head, @parts) = split /,\n(?=  (?:ADD|DROP) )/, $statements[$n];
	my @ways = ('');
	if (@parts)
	{
		my ($table, $first) = $head =~ /^(.*ALTER TABLE \S+)\n(.*)$/s;
		my @all = ($first, @parts);
		$all[-1] =~ s/;\s*$//;
		@ways = map { my $k = $_; "$table\n" . join(",\n", @all[ grep { $_ != $k } 0 .. $#all ]) . ';' } 0 .. $#all;
	}
	for my $way (@ways)
	{
		my $version = 'test' . $left_out++;
		install_script("1.0--$version", join("\n", @statements[ 0 .. $n - 1 ], $way, @statements[ $n + 1 .. $#statements ]));
		my ($out, $err, $code) = $node->try($old, "BEGIN; ALTER EXTENSION sis_sync UPDATE TO '$version'; $DIGEST; ROLLBACK", role => 'other_dba');
		chomp $out;
		isnt($code == 0 ? $out : 'fails', $wanted, "without " . substr($statements[$n] =~ s/^(?:\s|--.*\n)*//r =~ s/\s+/ /gr, 0, 60))
		  or diag($statements[$n]);
	}
}

# ----------
# The update, by another than the one who made the extension
# ----------
$node->run($old, 'ALTER EXTENSION sis_sync UPDATE', role => 'other_dba');
is($node->value($old, q{SELECT extversion FROM pg_extension WHERE extname = 'sis_sync'}), $this_version, 'it is of this version');
$node->run($old, q{SELECT sis_sync.upgrade_roster('roster')});
my %lines = map { my $db = $_; $db => { map { $_->[0] => 1 } @{ $node->rows($db, "$CATALOG SELECT line FROM line") } } } $old, $fresh;
cmp_ok(scalar(keys %{ $lines{$fresh} }), '>', 3000, 'there is much to compare');
my @only = ((map { "- $_" } grep { !$lines{$fresh}{$_} } sort keys %{ $lines{$old} }),
	(map { "+ $_" } grep { !$lines{$old}{$_} } sort keys %{ $lines{$fresh} }));
is(join("\n", @only), '', 'updated, it is the same as a new one');
is($node->value($old, $DIGEST), $wanted, 'and by its digest');
is($node->value($old, q{SELECT pairs FROM rekeyed}), undef, q{the application's view is still there});
is($node->value($old, q{SELECT run FROM last_runs WHERE sync = 'held'}), $tripped, 'and the other');

# ----------
# The nights after
# ----------
is($node->value($old, $content), $before, 'the roster is the same');
is_deeply($node->rows($old, 'SELECT name, deletion_threshold, min_allowed, hold, run_every FROM sis_sync.sync ORDER BY 1'),
	[ [ 'held', 11, 3, 'sync', undef ], [ 'springfield', 10, 3, 'sync', undef ] ], 'the settings are kept');
is($node->value($old, q{SELECT percent FROM sis_sync.sync_threshold WHERE sync = 'springfield'}), 20, 'all of them');
like($node->value($old, "SELECT sis_sync.explain_failure($tripped)"), qr/Threshold/, 'a failure of before is explained');
is($sync{held}->call("SELECT sis_sync.approve($tripped, 'they have left')"), undef, 'what was held before is approved');
$sync{springfield}->run_succeeds('the next night');
is($sync{springfield}->last_run->{id}, $tripped + 1, 'with the next number');
$sync{springfield}->all_counts_are("nothing was $_", $_) for qw(created updated restored archived);
$sync{springfield}->counts_are('and all is there', student => { unchanged => 119, in_force => 119 });
is($node->value($old, $content), $before, 'the roster is still the same');
$sync{held}->run_succeeds('the approved run');
$sync{held}->counts_are('twenty go', student => { archived => 20, updated => 0, created => 0 });
is($sync{springfield}->call("CALL sis_sync.undo($undoable)"), undef, 'undo of a night before the update');
$sync{springfield}->counts_are('it is back', student => { restored => 1, updated => 1 });
is($sync{springfield}->value(q{SELECT email FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000001'}),
	$email, 'with the value of before');

done_testing;
