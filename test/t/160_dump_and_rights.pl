# The roster is the application's: what it adds survives dump and restore, two
# syncs never touch each other's records, and a run has its caller's rights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use IPC::Run;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('app');
my $s = SampleSync->new($node, $db, 'springfield',
	district => District->new(schools => 2, students => 120, sections => 12,
		staff => 8, contacts => 60, enroll => 3));
$s->succeeds('first load');
$s->{district}->remove('student', 'stu-000120');
$s->succeeds('second night');

# ----------
# What an application adds
# ----------
$node->run($db, q{
	ALTER TABLE roster.student ADD COLUMN locker text;
	UPDATE roster.student SET locker = 'L-' || source_id;
	CREATE INDEX student_locker ON roster.student (locker);
	CREATE TABLE public.loan (
	  sync_id bigint, student text COLLATE "C", book text,
	  FOREIGN KEY (sync_id, student) REFERENCES roster.student (sync_id, source_id));
	INSERT INTO public.loan SELECT sync_id, source_id, 'Atlas' FROM roster.student;
	CREATE TABLE public.audit (who text, path text, source_id text);
	CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  INSERT INTO audit VALUES (current_user, current_setting('search_path'), NEW.source_id);
	  PERFORM set_config('audit.jit', current_setting('jit'), false);
	  RETURN NEW;
	END $$;
	CREATE TRIGGER note AFTER INSERT ON roster.student
	  FOR EACH ROW EXECUTE FUNCTION public.note();
	ALTER TABLE roster.contact ENABLE ROW LEVEL SECURITY;
	CREATE POLICY see_all ON roster.contact USING (true);
	CREATE PUBLICATION rosters FOR TABLE roster.student;
	COMMENT ON COLUMN roster.student.locker IS 'where the books are';
});
$s->succeeds('a night with all that');
$s->all_counts_are('nothing to do for the sync', 'updated');

# ----------
# What the extension keeps: deletions that wait, rejects, limits, secrets
# ----------
my $held = SampleSync->new($node, $db, 'held', schools => ['0101'],
	district => District->new(seed => 7, students => 100, sections => 4, enroll => 1));
my %dir = map { $_ => $node->dir($_) } qw(before after);

$node->run($db, q{
	INSERT INTO sis_sync.sync_threshold VALUES ('held', 'enrollment', 100);
	INSERT INTO sis_sync.sync_window VALUES ('held', 'frozen', '2001-07-01', '2001-07-31');
	INSERT INTO sis_sync.emptied_column VALUES ('held', 'student', 'email', NULL, true);
	CREATE SERVER site FOREIGN DATA WRAPPER sis_sftp
	  OPTIONS (host 'sftp.example.org', path '~/export', host_key_sha256 'oVkFw/Hr5W2D8Xz5+RnGf3kC6Z0rS6rGlLqkQvTqR1E');
	CREATE USER MAPPING FOR PUBLIC SERVER site OPTIONS (username 'district', password 'correct horse');
	CREATE ROLE fetcher;
	GRANT USAGE ON FOREIGN SERVER site TO fetcher});
$held->{write} = { append => { enrollments => ['enr-lost,,,sec-00001,sch-001,nobody,student,,,'] } };
$held->succeeds('first load, with a reject');
$held->{district}->write($dir{before});
$held->{district}->remove('student', $held->{district}->ids('student', 80, 20));
$held->{district}->write($dir{after});
Delta::write($dir{before}, $dir{after}, $held->dir);
$held->run_ends_in('SI001', 'a package of changes that deletes 20 of 100');

my $content = join ' UNION ALL ',
  map { "SELECT '$_' || t::text AS x FROM roster.$_ t" } @SampleSync::TYPES;
$content = "SELECT md5(string_agg(x, E'\\n' ORDER BY x)) || count(*) FROM ($content) AS c";
my $objects = q{
	SELECT string_agg(x, E'\n' ORDER BY x) FROM (
	  SELECT indexdef AS x FROM pg_indexes WHERE schemaname = 'roster'
	  -- (a restored condition has other parentheses around the same terms)
	  UNION ALL SELECT translate(pg_get_triggerdef(t.oid), '()', '') FROM pg_trigger t
	    JOIN pg_class c ON c.oid = t.tgrelid
	    WHERE relnamespace = 'roster'::regnamespace AND NOT tgisinternal
	  UNION ALL SELECT concat(tablename, policyname, qual) FROM pg_policies
	  UNION ALL SELECT concat(conrelid::regclass, pg_get_constraintdef(oid))
	    FROM pg_constraint WHERE contype IN ('f', 'p') AND connamespace IN
	      ('roster'::regnamespace, 'public'::regnamespace)
	  UNION ALL SELECT concat(pubname, tablename) FROM pg_publication_tables
	  UNION ALL SELECT concat(relname, reloptions, relrowsecurity) FROM pg_class
	    WHERE relnamespace = 'roster'::regnamespace) AS o};
# Settings and log, with their sequences; sources and who may use them
my $kept = join ' UNION ALL ', map { $_->[0] } @{ $node->rows($db, q{
	SELECT CASE c.relkind WHEN 'S'
	  THEN format('SELECT %L || last_value || is_called AS x FROM %s', c.relname, c.oid::regclass)
	  ELSE format('SELECT %L || t::text AS x FROM %s t', c.relname, c.oid::regclass) END
	FROM pg_extension x, unnest(x.extconfig) AS u JOIN pg_class c ON c.oid = u
	WHERE x.extname = 'sis_sync' ORDER BY c.relname COLLATE "C"}) };
$kept = "SELECT x FROM ($kept) AS k ORDER BY x COLLATE \"C\"";
my $sources = q{
	SELECT srvname, fdwname, ARRAY(SELECT unnest(srvoptions) ORDER BY 1), umuser,
	  ARRAY(SELECT unnest(umoptions) ORDER BY 1), srvacl::text
	FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
	LEFT JOIN pg_user_mapping m ON m.umserver = s.oid ORDER BY srvname};

sub restored
{
	my ($name, $from) = @_;
	my $file = $node->dir('dump') . '/dump';
	my @connect = ('-h', $node->host, '-p', $node->port);
	my $out;

	is(IPC::Run::run([ $node->program('pg_dump'), @connect, '-Fc', '-f', $file,
				$from ], '>', \$out, '2>', \$out) ? 0 : $?, 0, "$name: pg_dump")
	  or diag($out);
	$node->run('postgres', "CREATE DATABASE $name");
	is(IPC::Run::run([ $node->program('pg_restore'), @connect,
				'--exit-on-error', '-d', $name, $file ],
			'>', \$out, '2>', \$out) ? 0 : $?, 0,
		"$name: pg_restore --exit-on-error")
	  or diag($out);
	return $name;
}

restored('copy', $db);
is($node->value('copy', $content), $node->value($db, $content),
	'the copy has all rows of the roster, with the added column');
is($node->value('copy', $objects), $node->value($db, $objects),
	'the copy has all indexes, triggers, policies, keys and publications');
like($node->value('copy', $objects), qr/student_locker/, 'the index among them');
my $rows_kept = $node->rows($db, $kept);
is_deeply($node->rows('copy', $kept), $rows_kept,
	'the copy has all settings and the log, and its numbers go on');
for my $table (qw(sync sync_school sync_threshold sync_window emptied_column
	sync_state run run_count
	run_school reject change pending_archive pending_delete))
{
	cmp_ok(scalar(grep { $_->[0] =~ /^$table\(/ } @$rows_kept), '>', 0,
		"rows of $table among them");
}
is_deeply($node->rows('copy', $sources), $node->rows($db, $sources),
	'the copy has the sources, their secrets and grants');
is($node->fails('copy', q{ALTER SERVER site OPTIONS (ADD pathh 'x')})->{sqlstate},
	'HV00D', 'and options are checked there');
for my $type (@SampleSync::TYPES)
{
	is($node->value('copy', "SELECT count(*) FROM sis_sync.stage_$type"), 0,
		"the copy has no $type staged");
}
is($node->value('copy', q{SELECT count(*) FROM sis_sync.stage_slot
	WHERE run_id IS NOT NULL OR sync IS NOT NULL OR pinned}), 0, 'and all slots are free');

# A night in the copy: its fingerprints and its numbers go on.
my $last = $node->value($db, 'SELECT max(id) FROM sis_sync.run');
my (undef, $err, $code) =
  $node->try('copy', "CALL sis_sync.run('springfield')");
is($code, 0, 'a night in the copy succeeds') or diag($err);
my $run = $node->last_run('copy', 'springfield');
is($run->{id}, $last + 1, 'its run has the next number');
is($node->counts('copy', $run->{id})->{$_}{updated}, 0,
	"nothing of $_ is taken for changed")
  for qw(student enrollment);
is($node->counts('copy', $run->{id})->{student}{unchanged}, 119,
	'all students are unchanged');

# What was held back there is held again, and done once it may be.
Delta::write($dir{after}, $dir{after}, $held->dir);
is($node->fails('copy', $held->call_sql)->{sqlstate}, 'SI001',
	'the deletions that wait are held again in the copy');
is($node->value('copy', q{SELECT count(*) FROM sis_sync.pending_archive
	WHERE record_type = 'student' AND run_id = (SELECT max(id) FROM sis_sync.run)}),
	20, 'all twenty');
$node->run('copy', q{UPDATE sis_sync.sync SET deletion_threshold = 20 WHERE name = 'held'});
$node->run('copy', $held->call_sql);
is($node->counts('copy', $node->last_run('copy', 'held')->{id})->{student}{archived},
	20, 'and archived when the threshold allows it');

# Numbers of the log and of syncs go on.
$s->{district}->set('student', 'stu-000001', email => 'new@example.org');
$s->write(change => { 'users/stu-000002' => sub { $_[0] . ',too,many,fields' } });
$node->run('copy', $s->call_sql);
for my $table (qw(change reject))
{
	cmp_ok($node->value('copy', "SELECT min(id) FROM sis_sync.$table WHERE run_id = (SELECT max(id) FROM sis_sync.run)"),
		'>', $node->value($db, "SELECT max(id) FROM sis_sync.$table"),
		"a new row of $table has a new number");
}
is($node->value('copy', q{INSERT INTO sis_sync.sync (name, server) VALUES ('another', 'site') RETURNING id}),
	1 + $node->value($db, 'SELECT max(id) FROM sis_sync.sync'), 'and so has a new sync');

# ----------
# DROP EXTENSION
# ----------
my $rows = $node->value('copy', $content);
my $counts = $node->value('copy', 'SELECT count(*) FROM roster.student WHERE sync_id = ' . $s->id);
$node->run('copy', 'DROP EXTENSION sis_sync CASCADE');
is($node->value('copy', $content), $rows, 'DROP EXTENSION leaves the roster');
is($counts, 120, 'with its 120 students');
is($node->value('copy', q{SELECT count(*) FROM pg_trigger
	WHERE tgrelid = 'roster.student'::regclass AND tgname = 'note'}),
	1, 'and its triggers');
$node->run('copy', q{UPDATE roster.student SET email = 'x' WHERE source_id = 'stu-000001'});

# ----------
# Two syncs whose records share all IDs
# ----------
my $twin = SampleSync->new($node, $db, 'shelbyville',
	district => District->new(schools => 2, students => 120, sections => 12,
		staff => 8, contacts => 60, enroll => 3));
my $before = $s->digest;
$twin->succeeds('the same IDs under another sync');
$twin->all_counts_are('created', 'created',
	school => 2, term => 1, course => 8, section => 12, student => 120,
	staff => 8, contact => 60, student_contact => 60, enrollment => 372);
$twin->{district}->remove('student', $twin->{district}->ids('student', 108, 12));
$twin->{district}->set('staff', $_, email => "$_\@elsewhere.example.org")
  for $twin->{district}->ids('staff');
$twin->{district}->add('student');
$twin->succeeds('its second night');
$twin->counts_are('its second night',
	student => { archived => 12, created => 1 }, staff => { updated => 8 });
is($s->digest, $before, 'no row of the other sync was touched');
$twin->{district}->remove('student', $twin->{district}->ids('student', 70, 30));
$twin->ends_in('SI001', 'a trip');
is($s->digest, $before, 'nor by a trip');
$before = $twin->digest;
$s->{district}->remove('student', 'stu-000119');
$s->succeeds('a night of the first sync');
$s->counts_are('a night of the first sync',
	student => { archived => 1, in_force => 119 });
is($twin->digest, $before, 'nor the other way round');

# ----------
# A role with no more than the rights of the design
# ----------
$node->run($db, q{
	CREATE ROLE sync_runner LOGIN;
	CREATE ROLE stranger LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster TO sync_runner;
	GRANT EXECUTE ON PROCEDURE sis_sync.run(text, boolean) TO sync_runner;
	GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA roster TO sync_runner;
	GRANT INSERT ON public.audit TO sync_runner;
	ALTER TABLE roster.contact DISABLE ROW LEVEL SECURITY;
	ALTER ROLE sync_runner SET search_path = public, roster;
	TRUNCATE public.audit;
});
my $call = q{CALL sis_sync.run('springfield')};

is($node->fails($db, $call, role => 'stranger')->{sqlstate}, '42501',
	'PUBLIC may do nothing');
is($node->fails($db, $call, role => 'sync_runner')->{sqlstate}, '42501',
	'without USAGE on the server: 42501');
$node->run($db, 'GRANT USAGE ON FOREIGN SERVER springfield TO sync_runner');

$s->{district}->add('student') for 1 .. 3;
$s->{district}->set('student', 'stu-000001', email => 'other@example.org');
$s->{district}->remove('student', 'stu-000118');
$s->write;
my $error = $s->call($call, role => 'sync_runner');
is($error, undef, 'the role runs a sync') or diag($error->{text});
$s->counts_are('by the role', student => {
		created => 3, updated => 1, archived => 1 });
is($s->last_run->{run_by}, 'sync_runner', 'the log says who');
is_deeply($node->rows($db,
		'SELECT who, path, count(*) FROM public.audit GROUP BY 1, 2'),
	[ [ 'sync_runner', 'public, roster', 3 ] ],
	'the trigger ran as that role, with its search_path');
is($node->fails($db, 'SELECT * FROM sis_sync.sync', role => 'sync_runner')->{sqlstate},
	'42501', 'it cannot read the settings');
is($node->fails($db, 'SELECT * FROM sis_sync.stage_student', role => 'sync_runner')
	->{sqlstate}, '42501', 'nor what is staged');
is($node->fails($db, q{SELECT sis_sync.run_atomic('springfield')},
		role => 'sync_runner')->{sqlstate},
	'42501', 'nor run a function it was not granted');

# Rosters are written without jit, and what a trigger sets stays set.
$s->{district}->add('student');
$s->write;
is_deeply($node->session($db, role => 'sync_runner')->query(
		"SET jit = on; $call; SELECT current_setting('jit'), current_setting('audit.jit', true)")
	->{out}, [ [ 'on', 'off' ] ], 'jit is off in a trigger only, whose setting stays');

# Nothing is done with more rights than the caller's.
for my $right (qw(INSERT UPDATE SELECT))
{
	$node->run($db, "REVOKE $right ON roster.enrollment FROM sync_runner");
	$s->{district}->enroll('sec-00001', $s->{district}->add('student'));
	$s->write;
	$before = $s->digest;
	$error = $s->call($call, role => 'sync_runner') // {};
	is($error->{sqlstate}, '42501', "without $right on a table of the roster: 42501");
	is($s->digest, $before, "without $right: nothing changed");
	$node->run($db, "GRANT $right ON roster.enrollment TO sync_runner");
}
$error = $s->call($call, role => 'sync_runner');
is($error, undef, 'with all rights again') or diag($error->{text});

# Row security that hides rows is an error, never a filter.
$node->run($db, q{
	ALTER TABLE roster.student ENABLE ROW LEVEL SECURITY;
	CREATE POLICY part ON roster.student USING (source_id < 'stu-000050')});
$s->{district}->set('student', 'stu-000002', email => 'other@example.org');
$s->write;
$before = $s->digest;
$error = $s->call($call, role => 'sync_runner') // {};
is($error->{sqlstate}, '42501', 'row security that hides rows is an error');
is($s->digest, $before, 'row security: nothing changed');
is($s->last_run->{status}, 'failed', 'row security: the log says so');
$node->run($db, 'ALTER TABLE roster.student DISABLE ROW LEVEL SECURITY');
$error = $s->call($call, role => 'sync_runner');
is($error, undef, 'without it') or diag($error->{text});

# The four steps for a role, too
$node->run($db, q{
	GRANT EXECUTE ON FUNCTION sis_sync.stage(text), sis_sync.verify(bigint),
	  sis_sync.apply(bigint), sis_sync.archive(bigint), sis_sync.run_atomic(text)
	  TO sync_runner});
$s->{district}->remove('student', 'stu-000117');
$s->write;
my $id = $node->value($db, q{SELECT sis_sync.stage('springfield')},
	role => 'sync_runner');
for my $step (qw(verify apply archive))
{
	(undef, $err, $code) =
	  $node->try($db, "SELECT sis_sync.$step($id)", role => 'sync_runner');
	is($code, 0, "$step by the role") or diag($err);
}
$s->counts_are('four steps by the role', student => { archived => 1 });

done_testing;
