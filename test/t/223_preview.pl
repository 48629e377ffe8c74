# preview(): what a run would do, record by record, and nothing else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('preview');

sub preview
{
	my ($s, $run, $more) = @_;

	$run //= $s->last_run->{id};
	return $s->rows("SELECT record_type, source_id, action, reason, changes"
		  . " FROM sis_sync.preview($run) " . ($more // 'ORDER BY 1, 2'));
}

# What a run has done, in the same words.
sub done
{
	my ($s) = @_;

	return $s->list(join ' UNION ALL ',
		"SELECT concat_ws(':', record_type, source_id, action, replace(reason, ' ', '_'))"
		  . ' FROM sis_sync.change WHERE run_id = <run>',
		map {
			"SELECT concat_ws(':', '$_', source_id, 'create') FROM <roster>.$_"
			  . ' WHERE sync_id = <id> AND created_run = <run>'
		} @SampleSync::TYPES);
}

sub told
{
	my ($s) = @_;

	return join ' ', sort map {
		join ':', @$_[ 0 .. 2 ], defined $_->[3] ? $_->[3] =~ s/ /_/gr : ()
	} @{ preview($s) };
}

# Two of three schools are set up.
my $d = District->new(schools => 3, students => 90, sections => 9, staff => 9,
	contacts => 60, enroll => 2, terms => 2);
my $s = SampleSync->new($node, $db, 'night', district => $d,
	schools => [ '0101', '0102' ]);
$s->succeeds('first load');
is_deeply(preview($s), [], 'after a run there is nothing left to do');
$d->remove('student', 'stu-000088');
$d->remove('section', 'sec-00008');
$s->succeeds('two leave');
$d = $s->{district} = District->new(schools => 3, students => 90, sections => 9,
	staff => 9, contacts => 60, enroll => 2, terms => 2);

# one night with everything; stu-000001 and stu-000004 move out of scope
my $grade = $d->get('student', 'stu-000002')->{grade};
$d->set('student', 'stu-000002', grade => '09', phone => '802-555-0002');
$d->set('student', 'stu-000005', email => '');
$d->set('section', 'sec-00001', periods => [ 3, 4 ]);
$d->set('student', 'stu-000088', username => 'kit88');
$d->remove('student', 'stu-000086');
$d->move(['sch-003'], 'stu-000001', 'stu-000004');
$d->enroll('sec-00001', $d->add('student'));
$s->write;
my $before = $s->digest;
is($s->call($s->call_sql('dry')), undef, 'a dry run');
my $dry = $s->last_run;
is_deeply([ @$dry{qw(dry_run status)} ], [ 't', 'succeeded' ], 'with the verdict in the log');
$s->counts_are('and counts', student => {
		created => 1, updated => 2, restored => 1, to_archive => 3, archived => 0 },
	section => { updated => 1, restored => 1 });

my $log = $s->value('SELECT md5(string_agg(r::text, E\'\n\' ORDER BY id)) FROM sis_sync.run r');
is_deeply(preview($s, undef, "WHERE record_type IN ('student', 'section') AND action <> 'create'"
		  . ' ORDER BY 1, 2'), [
		[ 'section', 'sec-00001', 'update', undef,
			'{"periods": {"new": ["3", "4"], "old": ["2"]}}' ],
		[ 'section', 'sec-00008', 'restore', undef, undef ],
		[ 'student', 'stu-000001', 'archive', 'left scope', undef ],
		[ 'student', 'stu-000002', 'update', undef,
			qq({"grade": {"new": "09", "old": "$grade"},)
			  . ' "phone": {"new": "802-555-0002", "old": null}}' ],
		[ 'student', 'stu-000004', 'archive', 'left scope', undef ],
		[ 'student', 'stu-000005', 'update', undef,
			'{"email": {"new": null, "old": "s5@students.example.org"}}' ],
		[ 'student', 'stu-000086', 'archive', 'not in the feed', undef ],
		[ 'student', 'stu-000088', 'restore', undef,
			'{"username": {"new": "kit88", "old": "s88"}}' ] ],
	'each record with its action, and the fields that differ');
is_deeply(preview($s, undef, "WHERE action = 'create' ORDER BY 1"), [
		[ 'enrollment', ($d->ids('enrollment'))[-1], 'create', undef, undef ],
		[ 'student', 'stu-000091', 'create', undef, undef ] ], 'creates');
my $told = told($s);
is($s->digest, $before, 'nothing changed');
is($s->value('SELECT md5(string_agg(r::text, E\'\n\' ORDER BY id)) FROM sis_sync.run r'),
	$log, 'nor the log');
is($s->value("SELECT count(*) FROM sis_sync.stage_student WHERE run_id = <run>"
		  . " AND source_id IN ('stu-000001', 'stu-000004')"
		  . ' AND coalesce(given_name, family_name, email, grade) IS NULL'),
	2, 'of those who left scope nothing but the ID is kept');

# Against the roster as it is
$s->do("UPDATE <roster>.student SET phone = '802-555-0002' WHERE sync_id = <id>"
	  . " AND source_id = 'stu-000002'");
like(preview($s, undef, "WHERE source_id = 'stu-000002'")->[0][4], qr/^\{"grade": [^}]*\}\}$/,
	'computed anew: a field that was set by hand differs no more');
$s->do("UPDATE <roster>.student SET phone = NULL WHERE sync_id = <id>"
	  . " AND source_id = 'stu-000002'");

# Two at once, and while another sync runs
my $session = $node->session($db);
$session->query('BEGIN');
is(scalar @{ $session->query("SELECT * FROM sis_sync.preview($dry->{id})")->{out} },
	scalar @{ preview($s) }, 'two previews at once');
$session->query('ROLLBACK');
$session->close;

$s->run_succeeds('the real run');
is(done($s), $told, 'does what the preview told');

# ----------
# A run that tripped, and one whose IDs are new
# ----------
$d->remove('student', $d->ids('student', 2, 20));
$s->ends_in('SI001', 'a trip');
is(scalar @{ preview($s, undef, "WHERE record_type = 'student' AND action = 'archive'") },
	scalar @{ $s->rows("SELECT 1 FROM sis_sync.pending_archive WHERE run_id = <run> AND record_type = 'student'") },
	'a tripped run: what it holds back');
is_deeply(preview($s, undef, "WHERE action <> 'archive'"), [],
	'what it has done is not told again');
my $n = SampleSync->new($node, $db, 'newids',
	district => District->new(students => 40, sections => 4, staff => 4, enroll => 1));
$n->succeeds('new IDs: first load');
$n->{district}->rekey('student', sub { "n-$_[0]" });
$n->ends_in('SI011', 'new IDs');
is($n->value("SELECT string_agg(action || n, ' ' ORDER BY action) FROM (SELECT action, count(*) AS n"
		  . ' FROM sis_sync.preview(' . $n->last_run->{id} . ") WHERE record_type = 'student' GROUP BY 1) x"),
	'archive40 create40', 'new IDs: what would come of it');

# ----------
# When there is nothing to tell from
# ----------
my $tripped = $s->last_run->{id};
$s->run_ends_in('SI001', 'again');
$s->run_ends_in('SI007', 'the rows of an older run are gone',
	"SELECT * FROM sis_sync.preview($tripped)");
$s->do('CALL sis_sync.undo(' . $s->value("SELECT max(id) FROM sis_sync.run WHERE sync = 'night'"
	  . " AND status = 'succeeded'") . ')');
$s->run_ends_in('55000', 'an undo stages nothing',
	'SELECT * FROM sis_sync.preview(' . $s->last_run->{id} . ')');
$s->run_ends_in('42704', 'a run that is not there', 'SELECT * FROM sis_sync.preview(999999)');

# ----------
# Who may look
# ----------
$node->run($db, q{
	CREATE ROLE looker LOGIN;
	GRANT USAGE ON SCHEMA sis_sync, roster TO looker;
	GRANT EXECUTE ON FUNCTION sis_sync.preview(bigint) TO looker});
$s->run_ends_in('SI001', 'a trip');
my $look = 'SELECT count(*) FROM sis_sync.preview(' . $s->last_run->{id} . ')';
is($node->fails($db, $look, role => 'looker')->{sqlstate}, '42501',
	'without USAGE on the server and SELECT on the log');
$node->run($db, 'GRANT SELECT ON sis_sync.run TO looker');
my $error = $node->fails($db, $look, role => 'looker');
is($error->{sqlstate}, '42501', 'without SELECT on the roster');
like($error->{hint}, qr/GRANT SELECT ON ALL TABLES IN SCHEMA roster TO looker/,
	'the hint says what is needed');
$node->run($db, 'GRANT SELECT ON ALL TABLES IN SCHEMA roster TO looker');
cmp_ok($node->value($db, $look, role => 'looker'), '>', 0, 'with both');

done_testing;
