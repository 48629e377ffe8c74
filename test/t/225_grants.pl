# What a role may do: the three of docs/grants.md, made by the statements that
# stand there, each by logging in as the role.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('grants');
my %sync = map {
	$_ => SampleSync->new($node, $db, $_, district =>
		  District->new(students => 120, sections => 10, staff => 8, enroll => 2))
} qw(springfield shelbyville);
$_->succeeds('first load') for values %sync;
my $s = $sync{springfield};

# Servers with secrets: one for PUBLIC, one for a role of its own
$node->run($db, q{
	CREATE ROLE other LOGIN;
	CREATE SERVER far FOREIGN DATA WRAPPER sis_sftp
	  OPTIONS (host 'far.example.org', path '/export', host_key_sha256 'oW1nEvSQeBnsVBbnlNOMJBRKcqRgVDBiOpzFOpSXQ0E');
	CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (username 'u', password 'public-secret');
	CREATE USER MAPPING FOR other SERVER far OPTIONS (username 'o', password 'other-secret');
	CREATE USER MAPPING FOR PUBLIC SERVER springfield;
	INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('far', 'far', true);
});

open(my $doc, '<:encoding(UTF-8)', SisTest::root() . '/docs/grants.md') or die $!;
my $manual = do { local $/; <$doc> };
my @blocks = $manual =~ /^```sql\n(.*?)^```/msg;
is(scalar @blocks, 3, 'the manual has three roles');
$node->run($db, $_) for @blocks;

sub allowed
{
	my ($role, $title, $sql) = @_;
	my (undef, $err, $code) = $node->try($db, $sql, role => $role);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($code, 0, "$role: $title") || diag($err);
}

sub refused
{
	my ($role, $title, $sql) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $error = $node->fails($db, $sql, role => $role);

	return is($error->{sqlstate} // 'no error', '42501', "$role cannot: $title")
	  || diag($error->{text} // '');
}

# ----------
# PUBLIC has nothing: every object of the extension, for a role without grants
# ----------
$node->run($db, 'CREATE ROLE stranger LOGIN');
is_deeply($node->rows($db, q{
	SELECT 'relation', c.oid::regclass::text FROM pg_class c
	WHERE c.relnamespace = 'sis_sync'::regnamespace AND (
	  CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('stranger', c.oid, 'USAGE, SELECT, UPDATE')
	       WHEN c.relkind IN ('r', 'p', 'v', 'm', 'f') THEN
	         has_table_privilege('stranger', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
	         OR has_any_column_privilege('stranger', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END)
	UNION ALL SELECT 'routine', p.oid::regprocedure::text FROM pg_proc p
	WHERE p.pronamespace = 'sis_sync'::regnamespace AND has_function_privilege('stranger', p.oid, 'EXECUTE')
	UNION ALL SELECT 'schema', 'sis_sync' WHERE has_schema_privilege('stranger', 'sis_sync', 'USAGE, CREATE')
	UNION ALL SELECT 'wrapper', fdwname FROM pg_foreign_data_wrapper
	WHERE fdwname LIKE 'sis\_%' AND has_foreign_data_wrapper_privilege('stranger', oid, 'USAGE')
	UNION ALL SELECT 'server', srvname FROM pg_foreign_server
	WHERE has_server_privilege('stranger', oid, 'USAGE')}),
	[], 'PUBLIC has no right on any object');
cmp_ok($node->value($db, q{SELECT count(*) FROM pg_depend d JOIN pg_extension x ON d.refobjid = x.oid
	WHERE x.extname = 'sis_sync' AND d.deptype = 'e'}), '>', 150, 'and they are all there');
refused('stranger', $_, $_)
  for q{CALL sis_sync.run('springfield')}, q{SELECT * FROM sis_sync.run},
  q{SELECT sis_sync.approve(1, 'x')}, q{CALL sis_sync.undo(1)}, q{CALL sis_sync.rekey(1)},
  q{SELECT * FROM sis_sync.preview(1)}, q{SELECT sis_sync.explain_failure(1)},
  q{SELECT sis_sync.create_roster('x')};

# ----------
# A role that runs one sync
# ----------
$s->{district}->add('student');
$s->write;
allowed('sync_runner', 'run its sync', q{CALL sis_sync.run('springfield')});
is($s->last_run->{run_by}, 'sync_runner', 'the log says who');
my $runs = $node->value($db, 'SELECT count(*) FROM sis_sync.run');
refused('sync_runner', 'run another sync', q{CALL sis_sync.run('shelbyville')});
refused('sync_runner', 'run one over a server with secrets', q{CALL sis_sync.run('far')});
is($node->value($db, 'SELECT count(*) FROM sis_sync.run'), $runs, 'nor leave a line in the log');
refused('sync_runner', 'run it step by step', q{SELECT sis_sync.run_atomic('springfield')});
my $run = $s->last_run->{id};
my $other = $sync{shelbyville}->last_run->{id};
allowed('sync_runner', 'have its run explained', "SELECT sis_sync.explain_failure($run)");
refused('sync_runner', 'have another\'s explained', "SELECT sis_sync.explain_failure($other)");
refused('sync_runner', $_, $_)
  for "SELECT sis_sync.approve($run, 'x')", "CALL sis_sync.undo($run)",
  "CALL sis_sync.rekey($run)", "SELECT * FROM sis_sync.preview($run)",
  'SELECT * FROM sis_sync.sync', 'SELECT * FROM sis_sync.run',
  'SELECT * FROM sis_sync.stage_student', 'SELECT * FROM sis_sync.stage_student_00',
  'SELECT * FROM sis_sync.change', 'SELECT * FROM sis_sync.rekey_match',
  q{INSERT INTO sis_sync.approval (run_id, sync, reason, approved_by) VALUES (1, 'springfield', 'x', 'x')};

# no secret
for my $role (qw(sync_runner sync_admin sync_looker))
{
	is($node->value($db, q{SELECT count(umoptions) FROM pg_user_mappings}, role => $role), 0,
		"$role sees no option of a mapping in pg_user_mappings");
	is($node->value($db, q{SELECT count(option_value) FROM information_schema.user_mapping_options},
			role => $role), 0, "nor in information_schema");
	refused($role, 'read the catalog of mappings', 'SELECT * FROM pg_user_mapping');
}
$node->run($db, 'GRANT USAGE ON FOREIGN SERVER far TO sync_runner, other');
is($node->value($db, q{SELECT count(umoptions) FROM pg_user_mappings}, role => 'sync_runner'), 0,
	'nor when it may use the server');
is($node->value($db, q{SELECT string_agg(umoptions::text, '') FROM pg_user_mappings}, role => 'other'),
	'{username=o,password=other-secret}', 'a role sees its own, and no other');
my (undef, $said) = $node->try($db, q{CALL sis_sync.run('far')}, role => 'sync_runner');
unlike($said, qr/secret/, 'no error shows one');
$node->run($db, 'REVOKE USAGE ON FOREIGN SERVER far FROM sync_runner');

# no other host, no file
refused('sync_runner', $_, $_)
  for q{ALTER SERVER springfield OPTIONS (SET path '/etc')},
  q{ALTER SERVER far OPTIONS (SET host 'elsewhere.example.org')},
  q{CREATE SERVER mine FOREIGN DATA WRAPPER sis_sftp OPTIONS (host 'elsewhere.example.org')},
  q{CREATE SERVER mine FOREIGN DATA WRAPPER sis_directory OPTIONS (path '/etc')},
  q{CREATE SERVER mine FOREIGN DATA WRAPPER sis_clever},
  q{UPDATE sis_sync.sync SET server = 'far'},
  q{INSERT INTO sis_sync.sync (name, server) VALUES ('mine', 'far')},
  q{SELECT pg_read_file('/etc/passwd')},
  q{COPY roster.course (sync_id, source_id) FROM '/etc/passwd'};

# with every routine granted it is still bound to its server
$node->run($db, q{
	CREATE ROLE everything LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster TO everything;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA sis_sync TO everything;
	GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA roster TO everything});
my $d = $sync{shelbyville}{district};
$d->remove('student', $d->ids('student', 0, 30));
$sync{shelbyville}->ends_in('SI001', '30 leave');
$other = $sync{shelbyville}->last_run->{id};
refused('everything', $_, $_)
  for "SELECT sis_sync.approve($other, 'x')", "CALL sis_sync.undo($other)",
  "CALL sis_sync.rekey($other)", "SELECT * FROM sis_sync.preview($other)",
  "SELECT sis_sync.explain_failure($other)", q{SELECT sis_sync.stage('shelbyville')},
  q{CALL sis_sync.retire_school('shelbyville', '0101', 'x')}, q{SELECT sis_sync.drop_sync('shelbyville')},
  q{SELECT sis_sync.erase_person('shelbyville', 'stu-000050')}, q{SELECT sis_sync.erase_archived('shelbyville', '0')};
$runs = $node->value($db, q{SELECT count(*) FROM sis_sync.run});
allowed('everything', 'purge', q{SELECT sis_sync.purge('0')});
is($node->value($db, q{SELECT count(*) FROM sis_sync.run}), $runs, 'but no log of a sync whose server it may not use');

# ----------
# A role that administers
# ----------
allowed('sync_admin', 'set up a sync', q{
	INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('second', 'springfield', true);
	INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('second', '0101');
	INSERT INTO sis_sync.sync_threshold VALUES ('second', 'staff', 20, now() + '1 day');
	DELETE FROM sis_sync.sync WHERE name = 'second'});
$s->{district}->remove('student', $s->{district}->ids('student', 0, 30));
$s->write;
my (undef, $err) = $node->try($db, q{CALL sis_sync.run('springfield')}, role => 'sync_admin');
like($err, qr/SI001/, 'sync_admin: run a sync that trips');
$run = $s->last_run->{id};
allowed('sync_admin', 'preview', "SELECT * FROM sis_sync.preview($run)");
allowed('sync_admin', 'explain', "SELECT sis_sync.explain_failure($run)");
allowed('sync_admin', 'look at what is held', "SELECT * FROM sis_sync.pending_archive WHERE run_id = $run");
allowed('sync_admin', 'approve', "SELECT sis_sync.approve($run, 'they have left')");
is($s->value("SELECT approved_by FROM sis_sync.approval WHERE run_id = $run"),
	'sync_admin', 'the approval says who');
allowed('sync_admin', 'run it', q{CALL sis_sync.run('springfield')});
allowed('sync_admin', 'undo', 'CALL sis_sync.undo(' . $s->last_run->{id} . ')');
is($s->active->{student}, 121, 'all are back');
$s->{district}->rekey('student', sub { "n-$_[0]" });
$s->write;
$node->try($db, q{CALL sis_sync.run('springfield')}, role => 'sync_admin');
$run = $s->last_run->{id};
allowed('sync_admin', 'look at the pairs', "SELECT * FROM sis_sync.rekey_match WHERE run_id = $run");
allowed('sync_admin', 'rekey', "CALL sis_sync.rekey($run)");
# forgetting
refused('sync_runner', $_, $_)
  for q{SELECT sis_sync.erase_person('springfield', 'n-stu-000060')}, q{SELECT sis_sync.erase_archived('springfield', '0')},
  q{SELECT sis_sync.drop_sync('springfield')}, q{SELECT sis_sync.purge()}, q{CALL sis_sync.retire_school('springfield', '0101', 'x')};
my $there = $s->active->{student};
is($node->value($db, q{SELECT sis_sync.erase_person('springfield', 'n-stu-000060') > 1}, role => 'sync_admin'), 't',
	'sync_admin: erase a person');
is($s->active->{student}, $there - 1, 'who is gone');
is($s->last_run->{run_by}, 'sync_admin', 'the log says who did it');
$node->run($db, 'REVOKE DELETE ON roster.student FROM sync_admin');
refused('sync_admin', 'erase without DELETE on the roster', q{SELECT sis_sync.erase_person('springfield', 'n-stu-000061')});
$node->run($db, 'GRANT DELETE ON roster.student TO sync_admin');
allowed('sync_admin', $_, $_)
  for q{SELECT sis_sync.erase_archived('springfield', '1 day')}, q{SELECT sis_sync.purge('1 year')};
allowed('sync_admin', 'retire a school', q{CALL sis_sync.retire_school('springfield', '0101', 'closed')});
is($s->active->{student}, 0, 'whose students are archived');
refused('sync_admin', $_, $_)
  for q{CALL sis_sync.run('shelbyville')}, "SELECT sis_sync.approve($other, 'x')",
  q{ALTER SERVER springfield OPTIONS (SET path '/etc')},
  q{DELETE FROM sis_sync.run}, q{UPDATE sis_sync.change SET before = '{}'},
  q{INSERT INTO sis_sync.approval (run_id, sync, reason, approved_by) VALUES (1, 'springfield', 'x', 'x')},
  q{SELECT sis_sync.create_roster('x')};

allowed('sync_admin', 'drop a sync', q{SELECT sis_sync.drop_sync('springfield', erase => true)});

# ----------
# A role that looks on
# ----------
allowed('sync_looker', $_, $_)
  for q{SELECT * FROM sis_sync.run}, "SELECT * FROM sis_sync.pending_archive WHERE run_id = $other",
  q{SELECT * FROM sis_sync.progress}, q{SELECT * FROM sis_sync.health},
  "SELECT * FROM sis_sync.preview($other)", "SELECT sis_sync.explain_failure($other)";
refused('sync_looker', $_, $_)
  for q{CALL sis_sync.run('springfield')}, "SELECT sis_sync.approve($other, 'x')",
  "CALL sis_sync.undo($other)", "CALL sis_sync.rekey($other)",
  q{SELECT * FROM sis_sync.sync}, q{SELECT * FROM sis_sync.stage_student},
  q{SELECT * FROM sis_sync.reject}, q{UPDATE roster.student SET grade = '01'},
  q{UPDATE sis_sync.run SET status = 'succeeded'};

done_testing;
