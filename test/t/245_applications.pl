# An application's own things on its roster tables: triggers, columns, foreign
# keys, a publication with a real subscriber, row security, partitions.  A
# create, an update, an archive, a restore and an undo work with all of them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new(conf => { wal_level => 'logical' })->start;
my $db = $node->fresh_db('app');
my $copy = $node->fresh_db('copy');
my $s = SampleSync->new($node, $db, 'north',
	district => District->new(students => 60, sections => 4, staff => 2, teachers => 0, enroll => 1));
my $d = $s->{district};

# ----------
# What the application has added
# ----------
$node->run($db, q{
	CREATE SCHEMA app;
	-- its own columns
	CREATE TABLE app.bus (id int PRIMARY KEY);
	INSERT INTO app.bus VALUES (7);
	ALTER TABLE roster.student
	  ADD COLUMN locker text NOT NULL DEFAULT 'none',
	  ADD COLUMN bus int REFERENCES app.bus,
	  ADD COLUMN full_name text GENERATED ALWAYS AS (given_name || ' ' || family_name) STORED;
	-- keys to the roster, out of it, and within
	CREATE TABLE app.loan (
	  sync_id bigint, student text COLLATE "C", book text,
	  FOREIGN KEY (sync_id, student) REFERENCES roster.student (sync_id, source_id));
	ALTER TABLE roster.enrollment ADD FOREIGN KEY (sync_id, section_source_id)
	  REFERENCES roster.section (sync_id, source_id);
	ALTER TABLE roster.section ADD FOREIGN KEY (sync_id, school_source_id)
	  REFERENCES roster.school (sync_id, source_id) DEFERRABLE INITIALLY DEFERRED;
	-- triggers for rows, and for statements with all their rows
	CREATE TABLE app.seen (n int GENERATED ALWAYS AS IDENTITY, run bigint, what text, row_count bigint, detail text);
	CREATE FUNCTION app.before_row() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  IF tg_op = 'INSERT' THEN new.locker := 'L-' || new.source_id; END IF;
	  RETURN new;
	END $$;
	CREATE FUNCTION app.after_row() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  INSERT INTO app.seen (what, detail) VALUES ('row ' || tg_op, new.source_id);
	  RETURN NULL;
	END $$;
	CREATE FUNCTION app.after_insert() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  INSERT INTO app.seen (what, row_count) SELECT 'statement INSERT', count(*) FROM new_rows;
	  RETURN NULL;
	END $$;
	CREATE FUNCTION app.after_update() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  INSERT INTO app.seen (what, row_count, detail)
	    SELECT 'statement UPDATE', count(*), string_agg(n.source_id, ' ' ORDER BY n.source_id)
	    FROM new_rows n JOIN old_rows o USING (sync_id, source_id) WHERE (n.*) IS DISTINCT FROM (o.*);
	  RETURN NULL;
	END $$;
	CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON roster.student FOR EACH ROW EXECUTE FUNCTION app.before_row();
	CREATE TRIGGER after_row AFTER INSERT OR UPDATE ON roster.student FOR EACH ROW EXECUTE FUNCTION app.after_row();
	CREATE TRIGGER after_insert AFTER INSERT ON roster.student REFERENCING NEW TABLE AS new_rows
	  FOR EACH STATEMENT EXECUTE FUNCTION app.after_insert();
	CREATE TRIGGER after_update AFTER UPDATE ON roster.student REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	  FOR EACH STATEMENT EXECUTE FUNCTION app.after_update()});
$node->run($copy, 'ALTER TABLE roster.student ADD COLUMN locker text, ADD COLUMN bus int, ADD COLUMN full_name text');
$node->run($db, q{
	CREATE PUBLICATION roster_pub FOR TABLE roster.school, roster.term, roster.course, roster.section,
	  roster.student, roster.staff, roster.contact, roster.student_contact, roster.enrollment;
	SELECT pg_create_logical_replication_slot('roster_sub', 'pgoutput')});
$node->run($copy, sprintf(q{CREATE SUBSCRIPTION roster_sub CONNECTION 'host=%s port=%d dbname=app user=%s'
	PUBLICATION roster_pub WITH (create_slot = false, slot_name = 'roster_sub')},
		$node->host, $node->port, scalar getpwuid $>));

# What the subscriber has of it, once it has caught up.
my $rows = q{SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM (} . join(' UNION ALL ', map {
	my $columns = $_ eq 'student' ? 'sync_id, source_id, given_name, family_name, email, locker, archived_at, archived_run, updated_run'
	  : 'sync_id, source_id, archived_at, archived_run, updated_run';
	"SELECT concat_ws('|', '$_', $columns) AS x FROM roster.$_"
} @SampleSync::TYPES) . ') t';

sub is_replicated
{
	my ($title) = @_;
	my $lsn = $node->value($db, 'SELECT pg_current_wal_lsn()');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->wait_until($copy, q{SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate <> 'r'});
	$node->wait_until($db, "SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots WHERE slot_name = 'roster_sub'");
	return is($node->value($copy, $rows), $node->value($db, $rows), "$title: the subscriber has the same");
}

# What the triggers have seen since: statements with their rows.
sub seen
{
	my $seen = $node->rows($db, q{SELECT what, row_count, detail FROM app.seen WHERE what LIKE 'statement%' ORDER BY n});
	my $by_row = $node->rows($db, q{SELECT what, count(*) FROM app.seen WHERE what LIKE 'row%' GROUP BY what ORDER BY what});

	$node->run($db, 'TRUNCATE app.seen');
	return { statements => $seen, rows => $by_row };
}

# ----------
# The nights
# ----------
$s->succeeds('create');
is_deeply(seen(), { statements => [ [ 'statement INSERT', 60, undef ] ], rows => [ [ 'row INSERT', 60 ] ] },
	'create: what the triggers saw');
is($s->value(q{SELECT count(*) FROM roster.student WHERE locker = 'L-' || source_id
	AND full_name = given_name || ' ' || family_name}), 60, 'create: columns by trigger and generated');
is_replicated('create');
$node->run($db, q{
	INSERT INTO app.loan SELECT sync_id, source_id, 'Atlas' FROM roster.student;
	UPDATE roster.student SET bus = 7 WHERE source_id = 'stu-000002'});
seen();

my @leavers = map { sprintf 'stu-%06d', $_ } 59, 60;
my $all = $d->copy;
$_->set('student', 'stu-000001', family => 'Married') for $d, $all;
$_->set('student', 'stu-000002', email => 'new@example.org') for $d, $all;
$d->remove('student', @leavers);
$s->succeeds('update and archive');
$s->counts_are('update and archive', student => { updated => 2, archived => 2 }, enrollment => { archived => 2 });
is_deeply(seen(), { statements => [ [ 'statement UPDATE', 2, 'stu-000001 stu-000002' ], [ 'statement UPDATE', 2, "@leavers" ] ],
		rows => [ [ 'row UPDATE', 4 ] ] }, 'update and archive: what the triggers saw');
is_deeply($s->rows(q{SELECT full_name LIKE '% Married' FROM roster.student WHERE source_id = 'stu-000001'
	UNION ALL SELECT bus = 7 AND locker = 'L-stu-000002' FROM roster.student WHERE source_id = 'stu-000002'
	UNION ALL SELECT count(*) = 60 FROM app.loan}), [ ['t'], ['t'], ['t'] ],
	'update and archive: the generated column follows, the application\'s own stay');
is_replicated('update and archive');

$s->{district} = $all;
$s->succeeds('restore');
$s->counts_are('restore', student => { restored => 2, updated => 0 }, enrollment => { restored => 2 });
is_deeply(seen(), { statements => [ [ 'statement UPDATE', 2, "@leavers" ] ], rows => [ [ 'row UPDATE', 2 ] ] },
	'restore: what the triggers saw');
is_replicated('restore');

$s->do('CALL sis_sync.undo(' . $s->last_run->{id} . ')');
is_deeply(seen(), { statements => [ [ 'statement UPDATE', 2, "@leavers" ] ], rows => [ [ 'row UPDATE', 2 ] ] },
	'undo: what the triggers saw');
is($s->value('SELECT count(*) FROM roster.student WHERE archived_at IS NOT NULL'), 2, 'undo: they are archived again');
is_replicated('undo');

$s->run_succeeds('restore again');
is_replicated('restore again');
seen();
$s->run_succeeds('a night without changes');
is_deeply(seen(), { statements => [], rows => [] }, 'a night without changes: no trigger fires');

# A key of the application that does not hold is an error, and nothing changes.
$node->run($db, q{CREATE TABLE app.must_exist (sync_id bigint, section text COLLATE "C", PRIMARY KEY (sync_id, section));
	INSERT INTO app.must_exist SELECT sync_id, source_id FROM roster.section;
	ALTER TABLE roster.section ADD FOREIGN KEY (sync_id, source_id) REFERENCES app.must_exist DEFERRABLE INITIALLY DEFERRED});
$s->{district}->add('section');
my $before = $s->digest;
my $error = $s->ends_in('23503', 'a deferred foreign key');
unlike($error->{detail} // '', qr/sec-/, 'its detail shows no row');
is($s->digest, $before, 'a deferred foreign key: nothing changed');
is($s->last_run->{status}, 'failed', 'and the log says so');
$node->run($db, 'DROP TABLE app.must_exist CASCADE');
$s->run_succeeds('without it');

# ----------
# Row security
# ----------
$node->run($db, q{
	CREATE ROLE runner LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster, app TO runner;
	GRANT EXECUTE ON PROCEDURE sis_sync.run(text, boolean) TO runner;
	GRANT USAGE ON FOREIGN SERVER north TO runner;
	GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA roster, app TO runner;
	ALTER TABLE roster.student ENABLE ROW LEVEL SECURITY;
	CREATE POLICY later_ones ON roster.student TO runner USING (source_id > 'stu-000010')});
$s->{district}->set('student', 'stu-000030', email => 'seen@example.org');
$s->{district}->set('student', 'stu-000003', email => 'hidden@example.org');
$s->write;
$before = $s->digest;
(undef, my $err, my $code) = $node->try($db, $s->call_sql, role => 'runner');
isnt($code, 0, 'a policy that hides rows from the runner: an error');
$error = SisTest::parse_error($err);
is($error->{sqlstate}, '42501', 'its SQLSTATE');
like($error->{message}, qr/row security of table "student"/, 'it says why');
is($s->digest, $before, 'nothing changed');
is($s->last_run->{error_code}, '42501', 'the log says so');
$node->run($db, 'ALTER ROLE runner BYPASSRLS');
is((($node->try($db, $s->call_sql, role => 'runner'))[2]), 0, 'a role that sees all rows may run it');
$s->counts_are('all rows', student => { updated => 2 });
is_replicated('as another role');

# ----------
# A roster table that is partitioned by sync
# ----------
$node->run($db, q{SELECT sis_sync.create_roster('parted')});
my %part = map {
	my $set = $_;
	$set => SampleSync->new($node, $db, $set, roster => 'parted', set => { target_schema => q{'parted'} },
		district => District->new(seed => length $set, students => 40, sections => 4, staff => 2, teachers => 0, enroll => 1))
} qw(east southeast);
# the view that reads it is made anew over the new table
my $view = $node->value($db, q{SELECT pg_get_viewdef('parted.person_app_school'::regclass)});
$node->run($db, sprintf(q{
	DROP VIEW parted.person_app_school;
	ALTER TABLE parted.student RENAME TO student_plain;
	CREATE TABLE parted.student (LIKE parted.student_plain INCLUDING ALL) PARTITION BY LIST (sync_id);
	DROP TABLE parted.student_plain;
	CREATE TABLE parted.student_east PARTITION OF parted.student FOR VALUES IN (%d);
	CREATE TABLE parted.student_rest PARTITION OF parted.student DEFAULT;
	CREATE VIEW parted.person_app_school AS %s}, $part{east}->id, $view));
$_->succeeds('partitions, create') for values %part;
is_deeply($node->rows($db, q{SELECT count(*) FROM parted.student_east UNION ALL SELECT count(*) FROM parted.student_rest}),
	[ [40], [40] ], 'partitions: each sync in its own');
my $east = $part{east};
my $whole = $east->{district}->copy;
$_->set('student', 'stu-000001', email => 'parted@example.org') for $east->{district}, $whole;
$east->{district}->remove('student', 'stu-000040');
$east->succeeds('partitions, update and archive');
$east->counts_are('partitions, update and archive', student => { updated => 1, archived => 1 });
$east->{district} = $whole;
$east->succeeds('partitions, restore');
$east->counts_are('partitions, restore', student => { restored => 1, updated => 0 });
$east->do('CALL sis_sync.undo(' . $east->last_run->{id} . ')');
is($node->value($db, 'SELECT count(*) FROM parted.student_east WHERE archived_at IS NOT NULL'), 1, 'partitions, undo');
is($node->value($db, 'SELECT count(*) FROM parted.student_rest WHERE archived_at IS NOT NULL OR updated_run <> created_run'),
	0, 'partitions: the other sync is left alone');
$node->run($copy, 'DROP SUBSCRIPTION roster_sub');

done_testing;
