# explain_failure(): each named error, in words that lead to the next statement.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use File::Copy ();
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('explain');

sub explained
{
	my ($s, $run, %opt) = @_;

	$run //= $s->last_run->{id};
	return $node->value($db, "SELECT sis_sync.explain_failure($run)", %opt);
}

# The statements under "what to do next".
sub statements
{
	my ($text) = @_;

	$text =~ s/.*^WHAT TO DO NEXT\n//ms;
	return $text =~ /^    (\S.*;)$/mg;
}

# The parts that every explanation has; and each SELECT that it names runs.
sub is_whole
{
	my ($title, $text, $code, $reason) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($text, qr/^Run \d+ of sync ".*?", .* by \w+: failed, \Q$reason\E \($code\)\.$/m,
		"$title: the title");
	like($text, qr/^$_$/m, "$title: $_")
	  for 'WHAT HAPPENED', 'WHAT LIKELY CAUSED IT', 'WHAT TO DO NEXT';
	unlike($text, qr/\{\w+\}/, "$title: no mark is left");
	for my $sql (grep { /^(?:SELECT|SHOW)\b/ && !/approve/ } statements($text))
	{
		my (undef, $err, $exit) = $node->try($db, $sql);

		is($exit, 0, "$title: $sql") or diag($err);
	}
	return;
}

# A sync of one of the folders of test/data, after a first load of another.
sub of_folder
{
	my ($name, $first, $then, %set) = @_;
	my $dir = $node->dir($name);
	my $schools = delete $set{schools};
	my $put = sub {
		unlink glob "$dir/*";
		File::Copy::copy($_, $dir) or die $! for glob SisTest::root() . "/test/data/$_[0]/*";
	};

	$node->sync($db, $name, $dir, all_schools => $schools ? 'false' : 'true',
		schools => $schools // [], %set);
	if ($first)
	{
		$put->($first);
		$node->run($db, "CALL sis_sync.run('$name')");
	}
	$put->($then) if $then;
	my $error = $node->fails($db, "CALL sis_sync.run('$name')");
	my $run = $node->last_run($db, $name);

	return ($node->value($db, "SELECT sis_sync.explain_failure($run->{id})"), $run, $error);
}

# ----------
# SI001
# ----------
my $d = District->new(schools => 2, students => 300, sections => 20, staff => 40,
	contacts => 50, enroll => 2);
my $s = SampleSync->new($node, $db, 'smith', district => $d);
$s->succeeds('first load');
$d->remove('student', $d->ids('student', 0, 31));
$s->ends_in('SI001', '31 leave');
my $text = explained($s);
is_whole('SI001', $text, 'SI001', 'Threshold');
like($text, qr/Whole district, type student: 31 of 300 would be archived, 30 may be: 1 too many\./,
	'SI001: how far from the limit');
like($text, qr/School sch-001, type student: 16 of 150 would be archived, 15 may be: 1 too many\./,
	'SI001: in each school');
like($text, qr/31 student: not in the feed/, 'SI001: why they seem to be gone');
my ($given, $family) = @{ $s->rows('SELECT given_name, family_name FROM <roster>.student'
	  . " WHERE sync_id = <id> AND source_id = 'stu-000001'")->[0] };
like($text, qr/- \Q$given $family\E \(ID stu-000001, school sch-001\): not in the feed/,
	'SI001: by name');
like($text, qr/- and 26 more/, 'SI001: not all of them');
my $run = $s->last_run->{id};
my @next = statements($text);
is_deeply([ @next[ 0 .. 3 ] ], [
		"SELECT * FROM sis_sync.pending_archive WHERE run_id = $run;",
		"CALL sis_sync.run('smith');",
		"SELECT sis_sync.approve($run, 'why they may go');",
		"CALL sis_sync.run('smith');" ],
	'SI001: what to type next');
$s->run_ends_in('SI001', 'a dry run', $s->call_sql('dry'));
like(explained($s), qr/It was a dry run.*cannot be decided on/s, 'SI001: of a dry run');

# Who may not read the roster sees no names.
$node->run($db, q{
	CREATE ROLE looker LOGIN;
	GRANT USAGE ON SCHEMA sis_sync TO looker;
	GRANT EXECUTE ON FUNCTION sis_sync.explain_failure(bigint) TO looker});
is($node->fails($db, "SELECT sis_sync.explain_failure($run)", role => 'looker')->{sqlstate},
	'42501', 'not for everybody');
$node->run($db, 'GRANT SELECT ON sis_sync.run TO looker');
my $bare = explained($s, $run, role => 'looker');
unlike($bare, qr/\Q$family\E/, 'no names for who may not read the roster');
like($bare, qr/Names are shown to those who may read roster roster/, 'and it says so');
like($bare, qr/31 of 300/, 'but the figures');

is($s->call($next[2]), undef, 'what it says to type: approve');
like(explained($s, $run), qr/It was approved by \w+ \(why they may go\); the next run uses that/,
	'then it says that it is approved');
is($s->call($next[3]), undef, 'and run');
$s->counts_are('approved', student => { archived => 31 });
$text = explained($s, $run);
like($text, qr/run \d+ came after it/, 'then it is not the last word');
like($text, qr/run \d+ has used that/, 'and the approval was used');
$text = explained($s);
like($text, qr/: succeeded\.\n/, 'a run that went well');
like($text, qr/student: 0 created, 0 updated, 0 restored, 31 archived/, 'what it did');
is_deeply([ statements($text) ],
	[ 'CALL sis_sync.undo(' . $s->last_run->{id} . ');' ], 'how it can be undone');

# Names that SQL has to quote
$node->run($db, q{
	ALTER SERVER smith RENAME TO "Smith's ""server""";
	UPDATE sis_sync.sync SET name = 'Smith''s district', server = 'Smith''s "server"'
	  WHERE name = 'smith';
	UPDATE sis_sync.run SET error_code = '42501', reason = 'X' WHERE id = } . $run);
$text = explained($s, $run);
is_whole('quoted', $text, '42501', 'X');
is((statements($text))[1],
	q{GRANT USAGE ON FOREIGN SERVER "Smith's ""server""" TO sync_runner;}, 'a server, quoted');
is((statements($text))[-1], q{CALL sis_sync.run('Smith''s district');}, 'a sync, quoted');

# ----------
# SI011
# ----------
my $n = SampleSync->new($node, $db, 'newids',
	district => District->new(students => 50, sections => 5, staff => 5, enroll => 1));
$n->succeeds('first load');
$n->{district}->rekey('student', sub { $_[0] =~ s/stu-0*//r });
$n->ends_in('SI011', 'IDs lost their zeros');
$text = explained($n);
is_whole('SI011', $text, 'SI011', 'IDs Re-keyed');
like($text, qr/^  student stu-000001 is now 1: .+ \(the same email, sis_id, student_number\)$/m,
	'SI011: pairs, by name');
like($text, qr/And 45 more/, 'SI011: not all of them');
@next = statements($text);
$run = $n->last_run->{id};
is_deeply(\@next, [
		"SELECT * FROM sis_sync.rekey_twin WHERE run_id = $run;",
		"CALL sis_sync.run('newids');", "CALL sis_sync.rekey($run);",
		"CALL sis_sync.run('newids');",
		"SELECT sis_sync.approve($run, 'why they may go');",
		"CALL sis_sync.run('newids');" ], 'SI011: what to type next');
is($n->call($_), undef, "SI011: $_") for @next[ 2, 3 ];

# ----------
# SI012
# ----------
my $u = SampleSync->new($node, $db, 'updates', set => { update_threshold => 10 },
	district => District->new(students => 50, sections => 5, staff => 5, enroll => 1));
$u->succeeds('first load');
$u->{district}->set('student', $_, phone => '1') for $u->{district}->ids('student', 0, 6);
$u->ends_in('SI012', '6 of 50 change');
$text = explained($u);
is_whole('SI012', $text, 'SI012', 'Update Threshold');
like($text, qr/6 of 50 records of type student would be updated, 10 percent allows 5 \(phone in 6\)\./,
	'SI012: how many, and in which column');
@next = statements($text);
$run = $u->last_run->{id};
is_deeply(\@next, [
		"SELECT * FROM sis_sync.preview($run) WHERE action = 'update';",
		"CALL sis_sync.run('updates');",
		"SELECT sis_sync.approve($run, 'why they are right');",
		"CALL sis_sync.run('updates');",
		"UPDATE sis_sync.sync SET update_threshold = 50 WHERE name = 'updates';" ],
	'SI012: what to type next');
is($u->call($_), undef, "SI012: $_") for @next[ 2, 3 ];
like(explained($u, $run), qr/It was approved by \w+ .*and run \d+ has used that/,
	'SI012: then it says that it was approved');

# ----------
# The others
# ----------
($text) = of_folder('district', 'tiny-oneroster', 'other-district');
is_whole('SI002', $text, 'SI002', 'Wrong Credentials');
like($text, qr/ALTER USER MAPPING FOR PUBLIC SERVER district/, 'SI002: where the secret is');
like($text, qr/The error itself advises: .*sync_state/, 'SI002: with the advice of the error');

($text) = of_folder('schools', undef, 'tiny-oneroster', schools => ['sch-x']);
is_whole('SI003', $text, 'SI003', 'Schools to Sync Are Not Found');
like($text, qr/^SCHOOLS IN THE SOURCE\n  \S+: \S/m, 'SI003: those that came');
like($text, qr/^    UPDATE sis_sync\.sync_school SET school_id = 'new' WHERE sync = 'schools'/m,
	'SI003: how to correct one');

$node->sync($db, 'away', '/nowhere/at/all', all_schools => 'true');
$node->fails($db, q{CALL sis_sync.run('away')});
$text = $node->value($db, q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run});
is_whole('SI004', $text, 'SI004', 'Source Unavailable');

($text) = of_folder('semicolons', undef, 'semicolons');
is_whole('SI006', $text, 'SI006', 'Malformed Data');

($text) = of_folder('incomplete', 'tiny-oneroster', 'no-sections');
is_whole('SI007', $text, 'SI007', 'Incomplete Data');

$node->sync($db, 'unready', $node->dir('unready'));
$node->fails($db, q{CALL sis_sync.run('unready')});
$text = $node->value($db, q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run});
is_whole('SI009', $text, 'SI009', 'Not Configured');
like($text, qr/The error itself advises: .*INSERT INTO sis_sync\.sync_school/,
	'SI009: with the advice of the error');

($text) = of_folder('nameless', 'tiny-oneroster', 'nameless-students');
is_whole('SI010', $text, 'SI010', 'Too Many Rejects');
like($text, qr/^  \d+ rows of type student, file users\.csv, first in line \d+: /m,
	'SI010: the reasons, with file and line');

# Two that no folder brings about, and PostgreSQL's own: from the log alone
for my $case ([ 'SI005', 'Rate Limited' ], [ 'SI008', 'Sync In Progress' ],
	[ '55P03', 'a lock could not be had' ], [ '40P01', 'deadlock' ],
	[ '40001', 'a conflict with other transactions' ],
	[ '53100', 'the disk is full' ], [ '53300', 'no place is free' ],
	[ '42501', 'a right is missing' ],
	[ '23505', 'the roster refused a record' ],
	[ '22001', 'the roster refused a value' ])
{
	my ($code, $title) = @$case;

	$node->run($db, 'INSERT INTO sis_sync.run (sync, status, finished_at, error_code, reason, message, hint)'
		  . " VALUES ('newids', 'failed', now(), '$code', "
		  . ($code =~ /^SI/ ? "'$title'" : 'NULL') . ", 'it went wrong', 'Mend it.')");
	is_whole($code, $node->value($db,
			q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = 'newids'}),
		$code, $title) if $code !~ /^23/;
}
for my $case ([ '57014', 'cancelled' ], [ '57P01', 'stopped' ], [ 'XX000', 'an error of the database' ])
{
	$node->run($db, 'INSERT INTO sis_sync.run (sync, status, finished_at, error_code, message)'
		  . " VALUES ('newids', 'failed', now(), '$case->[0]', 'it went wrong')");
	like($node->value($db, q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = 'newids'}),
		qr/failed, .*$case->[1].*\n.*The error was: it went wrong\..*CALL sis_sync\.run\('newids'\);/s,
		"SQLSTATE $case->[0]");
}
for my $status (qw(interrupted running))
{
	$node->run($db, 'INSERT INTO sis_sync.run (sync, status) VALUES'
		  . " ('newids', '$status')");
	like($node->value($db, q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = 'newids'}),
		qr/^    CALL sis_sync\.run\('newids'\);$/m, $status);
}

is($node->fails($db, 'SELECT sis_sync.explain_failure(999999)')->{sqlstate}, '42704',
	'a run that is not there');

# A constraint of the application's: the message has no value in it.
$node->run($db, q{ALTER TABLE roster.student ADD CONSTRAINT short CHECK (length(grade) < 3)});
my $c = SampleSync->new($node, $db, 'constraint',
	district => District->new(students => 50, sections => 5, staff => 5, enroll => 1));
$c->{district}->set('student', 'stu-000001', grade => 'Kindergarten');
$c->ends_in('23514', 'a constraint of the application');
$text = explained($c);
is_whole('23514', $text, '23514', 'the roster refused a record');
unlike($text, qr/Kindergarten/, 'no value is shown');

done_testing;
