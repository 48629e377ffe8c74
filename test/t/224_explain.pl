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
	for my $sql (statements($text))
	{
		if ($sql =~ /<[A-Z ]+>/)
		{
			is($node->fails($db, $sql)->{sqlstate}, '42601', "$title, only when filled in: $sql");
		}
		elsif ($sql =~ /^SELECT\b/ && $sql !~ /explain_failure|pg_cancel_backend/)
		{
			my (undef, $err, $exit) = $node->try($db, $sql);

			is($exit, 0, "$title: $sql") or diag($err);
		}
	}
	like($text, qr/^  If unsure, do nothing yet: as long as runs end like this, nobody is archived\.\n\z/m,
		"$title: and if in doubt");
	return;
}

# The ways of which one is to be taken: letter => its statements.
sub ways
{
	my ($text) = @_;
	my %ways;

	$text =~ s/.*^WHAT TO DO NEXT\n//ms;
	while ($text =~ /^  ([A-Z])\. (.*?)(?=^  \S|\z)/msg)
	{
		my ($letter, $way) = ($1, $2);

		$ways{$letter} = [ $way =~ /^    (\S.*;)$/mg ];
	}
	return \%ways;
}

# The newest run of a sync, in the log alone, as if it had ended so.
sub logged
{
	my ($sync, %columns) = @_;
	my %all = (status => 'failed', %columns);

	$node->run($db, "INSERT INTO sis_sync.run (sync, finished_at, run_by, "
		  . join(', ', sort keys %all) . ") VALUES ('$sync', now(), 'postgres', "
		  . join(', ', map { "'" . $all{$_} =~ s/'/''/gr . "'" } sort keys %all) . ')');
	return $node->value($db,
		"SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = '$sync'");
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
like($text, qr/^  Held back: 155 records: 62 enrollment, 31 contact, 31 student, 31 student_contact; all of them not in the export\.$/m,
	'SI001: what it held back, and why they seem to be gone');
is(() = $text =~ /31 of 300/g, 2, 'SI001: the figures once, beside the error itself');
my ($given, $family) = @{ $s->rows('SELECT given_name, family_name FROM <roster>.student'
	  . " WHERE sync_id = <id> AND source_id = 'stu-000001'")->[0] };
like($text, qr/- \Q$given $family\E \(ID stu-000001, school sch-001\): not in the export/,
	'SI001: by name');
like($text, qr/- and 26 more/, 'SI001: not all of them');
my $run = $s->last_run->{id};
my @next = statements($text);
is($next[0], "SELECT * FROM sis_sync.pending_archive WHERE run_id = $run ORDER BY record_type, source_id;",
	'SI001: what to look at first');
my $again = "CALL sis_sync.run('smith');";
my $explain = "SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = 'smith';";
my $ways = ways($text);
my $season = $node->value($db, q{SELECT to_char(now() + '14 days', 'YYYY-MM-DD')});
my $raise = 'INSERT INTO sis_sync.sync_threshold (sync, record_type, percent, valid_until) VALUES '
  . join(', ', map { "('smith', '$_->[0]', $_->[1], '$season')" } [ contact => 62 ],
	[ student_contact => 62 ], [ enrollment => 11 ], [ student => 11 ])
  . ' ON CONFLICT (sync, record_type) DO UPDATE SET percent = excluded.percent, valid_until = excluded.valid_until;';
is_deeply($ways, {
		A => [ $again ],
		B => [ "SELECT sis_sync.approve($run, <WHY THEY MAY GO>);", $again ],
		C => [ $again, $explain ],
		D => [ $raise, $again ],
		E => [ q{UPDATE sis_sync.sync SET deletion_threshold = <PERCENT> WHERE name = 'smith';}, $again ] },
	'SI001: the ways on, each by itself');
like($text, qr/This approves all 155 records: 62 enrollment, 31 contact/, 'SI001: what approve covers');
like($text, qr/10 percent now\. It protects the less; this run needs 62/, 'SI001: what the limit is, and would have to be');
unlike($text, qr/undo|left scope|set up|Everybody|GRANT/, 'SI001: nothing that is not the case');
is($s->call("BEGIN; $ways->{D}[0] SELECT sis_sync.run_atomic('smith'); ROLLBACK"), undef,
	'SI001: with the limits raised as it says, the run passes');
$s->run_ends_in('SI001', 'a dry run', $s->call_sql('dry'));
$text = explained($s);
like($text, qr/It was a dry run.*cannot be decided on/s, 'SI001: of a dry run');
unlike($text, qr/sis_sync\.(?:approve|undo)\(|taken over:/, 'SI001: which says nothing of what it has not done');

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
like($bare, qr/Names are shown to those who may read the tables of schema roster;/, 'and it says so');
like($bare, qr/31 of 300/, 'but the figures');

my $approve = $ways->{B}[0] =~ s/<WHY THEY MAY GO>/'why they may go'/r;
is($s->call($approve), undef, 'what it says to type: approve');
$text = explained($s, $run);
like($text, qr/It was approved by \w+ \(why they may go\); the next run uses that/,
	'then it says that it is approved');
is_deeply(ways($text), { A => [ $again ],
		B => [ "UPDATE sis_sync.approval SET expires_at = now() WHERE run_id = $run AND spent_run IS NULL;" ] },
	'and how to withdraw that');
unlike($text, qr/do nothing yet/, 'for the next run archives them');
is($s->call("BEGIN; " . ways($text)->{B}[0] . " SELECT sis_sync.run_atomic('smith'); COMMIT")->{sqlstate},
	'SI001', 'which works');
is($s->call($again), undef, 'and run');
$s->counts_are('approved', student => { archived => 31 });
$text = explained($s, $run);
like($text, qr/run \d+ came after it and succeeded\. Runs that came after it have archived 155 records\./,
	'then it is not the last word');
is_deeply([ statements($text) ], [ 'SELECT sis_sync.explain_failure(' . $s->last_run->{id} . ');' ],
	'and nothing is to be done about it');
like($text, qr/run \d+ has used that/, 'and the approval was used');
$text = explained($s);
like($text, qr/: succeeded\.\n/, 'a run that went well');
like($text, qr/student: 0 created, 0 updated, 0 restored, 31 archived/, 'what it did');
is_deeply([ statements($text) ],
	[ 'CALL sis_sync.undo(' . $s->last_run->{id} . ');' ], 'how it can be undone');

# Names that SQL has to quote
$run = $s->last_run->{id};
$node->run($db, q{
	ALTER SERVER smith RENAME TO "Smith's ""server""";
	UPDATE sis_sync.sync SET name = 'Smith''s district', server = 'Smith''s "server"'
	  WHERE name = 'smith';
	UPDATE sis_sync.run SET status = 'failed', error_code = '42501', reason = 'X', phase = 'staged',
	  run_by = 'Joe', message = 'permission denied for foreign server x' WHERE id = } . $run);
$text = explained($s, $run);
is_whole('quoted', $text, '42501', 'X');
is((statements($text))[0],
	q{GRANT USAGE ON FOREIGN SERVER "Smith's ""server""" TO "Joe";}, 'a server and a role, quoted');
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
like($text, qr/^  student: of 50 that are gone, 50 have a match among the new ones, 0 have none\.$/m,
	'SI011: how many have a match');
like($text, qr/^  student stu-000001 is now 1: .+ \(the same email, sis_id, student_number\)$/m,
	'SI011: pairs, by name');
like($text, qr/And 45 more/, 'SI011: not all of them');
unlike($text, qr/leading zeros|WHO IT IS|twin/, 'SI011: no guess that the pairs do not bear out');
like($text, qr/It archives 50 records: 50 student, also those with a match/, 'SI011: what approve does');
$run = $n->last_run->{id};
$again = q{CALL sis_sync.run('newids');};
my @try = (q{CALL sis_sync.run('newids', dry_run => true);},
	q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = 'newids';}, $again);
@next = statements($text);
is($next[0], "SELECT * FROM sis_sync.rekey_match WHERE run_id = $run;", 'SI011: what to look at first');
$ways = ways($text);
is_deeply($ways, { A => [ $again ],
		B => [ "CALL sis_sync.rekey($run);", @try,
			"SELECT max(id) FROM sis_sync.run WHERE sync = 'newids' AND kind = 'rekey' AND of_run = $run;",
			'CALL sis_sync.undo(<RUN>);' ],
		C => [ "SELECT sis_sync.approve($run, <WHY THEY MAY GO>);", $again ] },
	'SI011: the ways on');
is($n->call($ways->{B}[$_]), undef, "SI011: $ways->{B}[$_]") for 0 .. 3;
my $rekey = $n->value($ways->{B}[4] =~ s/;$//r);
is($n->call("CALL sis_sync.undo($rekey)"), undef, 'SI011: and it can be taken back');

# IDs that did lose zeros; one in ten has left
$n = SampleSync->new($node, $db, 'zeros',
	district => District->new(students => 50, sections => 5, staff => 5, enroll => 1));
$n->{district}->rekey('student', sub { $_[0] =~ s/stu-/0/r });
$n->succeeds('first load');
$n->{district}->rekey('student', sub { $_[0] =~ s/^0+//r });
$n->{district}->remove('student', 1 .. 5);
$n->ends_in('SI011', 'IDs lost their zeros');
$text = explained($n);
like($text, qr/of 50 that are gone, 45 have a match among the new ones, 5 have none\./, 'zeros: five have left');
like($text, qr/leading zeros/, 'zeros: that is said');
like($text, qr/The 5 without a match keep their old IDs, and count as gone/, 'zeros: what becomes of the others');
$n->run_ends_in('SI011', 'a dry run', $n->call_sql('dry'));
unlike(explained($n), qr/sis_sync\.(?:approve|rekey)\(/, 'zeros: a dry run is not decided on');

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
		"SELECT sis_sync.approve($run, <WHY THEY ARE RIGHT>);",
		"CALL sis_sync.run('updates');",
		"UPDATE sis_sync.sync SET update_threshold = <PERCENT> WHERE name = 'updates';",
		"CALL sis_sync.run('updates');" ],
	'SI012: what to type next');
$next[2] =~ s/<.*>/'grades were mended'/;
is($u->call($_), undef, "SI012: $_") for @next[ 2, 3 ];
like(explained($u, $run), qr/It was approved by \w+ .*and run \d+ has used that/,
	'SI012: then it says that it was approved');

# ----------
# The others
# ----------
($text) = of_folder('district', 'tiny-oneroster', 'other-district');
is_whole('SI002', $text, 'SI002', 'Wrong Credentials');
like($text, qr/^Run.*^  Nothing was changed\. Another district answered/ms, 'SI002: what is the case');
unlike($text, qr/USER MAPPING|token|shares/, 'SI002: and not what is not');
like($text, qr/^    ALTER SERVER district OPTIONS \(SET path <FOLDER>\);/m, 'SI002: where the data comes from');
like($text, qr/Only after the district has confirmed that "dist-1" is now called "dist-2" \(otherwise you load another district's children\)/,
	'SI002: with a warning');
is_deeply([ @{ ways($text)->{B} }[ 0, 1 ] ], [
		q{UPDATE sis_sync.sync_state SET district_id = NULL WHERE sync = 'district';},
		q{CALL sis_sync.run('district', dry_run => true);} ], 'SI002: first a dry run');

($text) = of_folder('schools', undef, 'tiny-oneroster', schools => [ 'sch-x' ]);
is_whole('SI003', $text, 'SI003', 'Schools to Sync Are Not Found');
like($text, qr/^SET UP AND NOT FOUND\n  "sch-x"; "sch-a" came, which is spelled most alike \(that alone proves nothing\); 0 students/m,
	'SI003: what is not found');
like($text, qr/^SCHOOLS IN THE SOURCE\n  \S+ \(or sch-a\): \S/m, 'SI003: those that came');
$ways = ways($text);
is($ways->{A}[0], q{UPDATE sis_sync.sync_school SET school_id = <NEW ID> WHERE sync = 'schools' AND school_id = 'sch-x';},
	'SI003: how to correct one');
is($ways->{C}[0], q{CALL sis_sync.retire_school('schools', 'sch-x', <WHY>);},
	'SI003: how to retire one');
is($ways->{D}[0], q{DELETE FROM sis_sync.sync_school WHERE sync = 'schools' AND school_id = 'sch-x';},
	'SI003: how to remove one');
like($text, qr/No other school is set up: runs then end in SI009/, 'SI003: the last one');

$node->sync($db, 'away', '/nowhere/at/all', all_schools => 'true');
$node->fails($db, q{CALL sis_sync.run('away')});
$text = $node->value($db, q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run});
is_whole('SI004', $text, 'SI004', 'Source Unavailable');
like($text, qr/database server's own/, 'SI004: on which machine');
like($text, qr/\(now "\/nowhere\/at\/all"\).*^    ALTER SERVER away OPTIONS \(SET path <FOLDER>\);/ms,
	'SI004: how to correct it');
unlike($text, qr/key|certificate|network/, 'SI004: a folder has no key');

($text) = of_folder('semicolons', undef, 'semicolons');
is_whole('SI006', $text, 'SI006', 'Malformed Data');
like($text, qr/separated by commas\. The file is in "[^"]*semicolons" on the database server's machine/,
	'SI006: where the file is');

($text) = of_folder('page', undef, 'web-page');
is_whole('SI006', $text, 'SI006', 'Malformed Data');
like($text, qr/the message above\. It is about what is in/, 'SI006: what to send');
unlike($text, qr/commas/, 'SI006: no advice of another fault');

($text) = of_folder('incomplete', 'tiny-oneroster', 'no-sections');
is_whole('SI007', $text, 'SI007', 'Incomplete Data');
like($text, qr/was not yet written: classes\.csv \(OneRoster\)/, 'SI007: which file');
unlike($text, qr/crash|older/, 'SI007: nothing that is not the case');

$node->sync($db, 'unready', $node->dir('unready'));
$node->fails($db, q{CALL sis_sync.run('unready')});
$text = $node->value($db, q{SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run});
is_whole('SI009', $text, 'SI009', 'Not Configured');
like($text, qr/^    INSERT INTO sis_sync\.sync_school \(sync, school_id\) VALUES \('unready', <SCHOOL ID>\);/m,
	'SI009: how to set one up');
like($text, qr/EVERY school.*^    UPDATE sis_sync\.sync SET all_schools = <TRUE>/ms, 'SI009: or all, with a warning');

($text) = of_folder('nameless', 'tiny-oneroster', 'nameless-students');
is_whole('SI010', $text, 'SI010', 'Too Many Rejects');
like($text, qr/^  \d+ rows of type student, in users\.csv, first in line \d+: /m,
	'SI010: the reasons, with file and line');
unlike($text, qr/encoding|WIN1252/, 'SI010: nothing of encodings where no bytes are wrong');
$run = $node->last_run($db, 'nameless')->{id};
$node->run($db, "UPDATE sis_sync.reject SET reason = 'not valid UTF-8' WHERE run_id = $run");
$text = $node->value($db, "SELECT sis_sync.explain_failure($run)");
like($text, qr/\(DROP encoding\) takes that back.*^    ALTER SERVER nameless OPTIONS \(ADD encoding 'WIN1252'\);/ms,
	'SI010: but where they are');
$node->run($db, q{ALTER SERVER nameless OPTIONS (ADD encoding 'UTF8')});
like($node->value($db, "SELECT sis_sync.explain_failure($run)"),
	qr/^    ALTER SERVER nameless OPTIONS \(SET encoding 'WIN1252'\);/m, 'SI010: SET where it is set');

# What a run took over before it tripped can be put back.
my ($trip, $tripped) = of_folder('emptied', 'tiny-oneroster', 'school-emptied');
is_whole('one update', $trip, 'SI001', 'Threshold');
like($trip, qr/were taken over: 0 created, 1 updated\./, 'SI001: what was taken over');
is_deeply(ways($trip)->{F}, [ "CALL sis_sync.undo($tripped->{id});" ], 'SI001: and how to put that back');

# A school that loses everybody: no percent would let that pass
$s = SampleSync->new($node, $db, 'school',
	district => District->new(schools => 3, students => 60, sections => 6, staff => 6, enroll => 1));
$s->succeeds('first load');
my @gone = @{ $s->rows('SELECT source_id FROM <roster>.student WHERE sync_id = <id>'
	  . " AND school_source_id = 'sch-001'") };
is(scalar @gone, 20, 'a third of the students');
$s->{district}->remove('student', map { $_->[0] } @gone);
$s->ends_in('SI001', 'a school without students');
$text = explained($s);
is_whole('a school emptied', $text, 'SI001', 'Threshold');
like($text, qr/^  - Everybody of a school: /m, 'SI001: the cause of that');
unlike($text, qr/sync_threshold|deletion_threshold/, 'SI001: which is not to be let go by a limit');

# Errors that no folder brings about, and PostgreSQL's own: from the log alone
for my $case ([ 'SI005', 'Rate Limited' ], [ 'SI008', 'Sync In Progress' ],
	[ '55P03', 'a lock could not be had' ], [ '40P01', 'deadlock' ],
	[ '40001', 'a conflict with other transactions' ],
	[ '53100', 'the disk is full' ], [ '53300', 'no place is free' ],
	[ '42501', 'a right is missing' ],
	[ '23505', 'the roster refused a record' ],
	[ '22001', 'the roster refused a value' ],
	[ '57014', 'it was cancelled' ], [ '57P01', 'the server was stopped' ])
{
	my ($code, $title) = @$case;

	is_whole($code, logged('newids', error_code => $code, message => 'it went wrong', hint => 'Mend it.',
			$code =~ /^SI/ ? (reason => $title) : ()), $code, $title);
}
like(logged('newids', error_code => 'XX000', message => 'it went wrong'),
	qr/failed, an error of the database.*\n.*The error was: it went wrong\..*CALL sis_sync\.run\('newids'\);/s,
	'any other SQLSTATE');

# What is to be done depends on what the message says: [code, message, has, has not]
for my $case (
	[ 'SI007', 'the source is older than what was applied last', qr/source_as_of = NULL/, qr/left out/ ],
	[ 'SI007', 'no record of type section in scope was received',
		qr/VALUES \('newids', 'section', 100, now\(\) \+ '1 day'\)/, qr/older|crash/ ],
	[ 'SI007', 'the rows staged by run 1 are gone', qr/crashed/, qr/left out/ ],
	[ 'SI007', 'no student in scope was received', qr/never takes that for the truth/, qr/sync_threshold/ ],
	[ 'SI006', 'file "users.csv" has a quote on line 7 that is not closed', qr/message above; it names the line/, qr/commas/ ],
	[ 'SI002', 'the district shares no data', qr/share its data with the application again/, qr/USER MAPPING/ ],
	[ 'SI004', 'could not connect to "x" port 22', qr/network is down/, qr/fingerprint|certificate|folder/ ],
	[ 'SI004', 'the key of host "x" port 22 is not one of those configured', qr/fingerprint, by telephone/, qr/path/ ],
	[ 'SI004', 'could not verify the certificate of "x" port 443: expired', qr/ca_file/, qr/fingerprint/ ],
	[ '42501', 'permission denied for schema roster', qr/GRANT USAGE ON SCHEMA sis_sync, roster TO postgres;/, qr/ALL TABLES/ ],
	[ '42501', 'permission denied for table student',
		qr/GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA roster TO postgres;/, qr/FOREIGN SERVER/ ],
	[ '42501', 'row security of table "student" would hide rows from the run', qr/BYPASSRLS/, qr/GRANT/ ],
	[ '57014', 'canceling statement due to statement timeout', qr/SET statement_timeout = <TIME>/, qr/Somebody/ ],
	[ '57014', 'canceling statement due to user request', qr/Somebody cancelled/, qr/statement_timeout/ ])
{
	my ($code, $message, $has, $has_not) = @$case;
	my $said = logged('newids', error_code => $code, message => $message, reason => 'X');

	like($said, $has, "$code, $message");
	unlike($said, $has_not, "$code, $message: nothing else");
}

# Secrets: the option that the mapping has, where that may be seen
$node->run($db, q{
	CREATE SERVER secret FOREIGN DATA WRAPPER sis_clever;
	CREATE USER MAPPING FOR PUBLIC SERVER secret OPTIONS (token 'hush');
	INSERT INTO sis_sync.sync (name, server, all_schools) VALUES ('secret', 'secret', true)});
$text = logged('secret', error_code => 'SI002', reason => 'Wrong Credentials',
	message => 'Clever refused the token', hint => 'Ask.');
is_whole('a token', $text, 'SI002', 'Wrong Credentials');
is_deeply(ways($text), { A => [ 'ALTER USER MAPPING FOR PUBLIC SERVER secret OPTIONS (SET token <NEW TOKEN>);' ] },
	'SI002: the secret that there is');
$run = $node->last_run($db, 'secret')->{id};
$text = explained($s, $run, role => 'looker');
is_deeply([ sort keys %{ ways($text) } ], [ 'A', 'B' ], 'who may not see that is told both');
unlike($text, qr/hush/, 'and nobody what it is');
$node->run($db, q{
	DROP USER MAPPING FOR PUBLIC SERVER secret;
	CREATE USER MAPPING FOR PUBLIC SERVER secret OPTIONS (client_id 'x', client_secret 'hush')});
is_deeply(ways(explained($s, $run)), { A => [ 'ALTER USER MAPPING FOR PUBLIC SERVER secret OPTIONS (SET client_secret <NEW SECRET>);' ] },
	'SI002: a client secret');

# A run under way, and one that has broken off
for my $status (qw(interrupted running))
{
	like(logged('newids', status => $status), qr/^    CALL sis_sync\.run\('newids'\);$/m, $status);
}
like(logged('newids', status => 'interrupted', phase => 'staged'), qr/^  Nothing was changed\./m,
	'interrupted before it wrote');
like(logged('newids', status => 'interrupted', phase => 'archive'), qr/^  By then it had written: 0 created, 0 updated, 0 archived\./m,
	'interrupted after it wrote');
my $hold = $node->session($db);
$hold->query('BEGIN');
$hold->query(q{SELECT sis_sync.stage('newids')});
$text = logged('newids', error_code => 'SI008', message => 'it went wrong', reason => 'Sync In Progress');
my $cancel = (statements($text))[-1];
is($cancel, q{SELECT pg_cancel_backend(pid) FROM sis_sync.progress WHERE sync = 'newids';},
	'SI008: how to cancel it');
is($node->value($db, $cancel =~ s/pg_cancel_backend\(pid\)/pid/r), $hold->pid,
	'SI008: that is the session which is at it');
$hold->query('ROLLBACK');
$hold->close;

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
like($text, qr/conname = 'short';/, 'which rule it is');
my ($find) = grep { /THE RULE/ } statements($text);
is_deeply($node->rows($db, $find =~ s/<THE RULE>/length(grade) < 3/r),
	[ [ 'stu-000001', 'users.csv', 2 ] ], 'which row it is');

done_testing;
