# Forgetting: a person whose names, birth date and password went every way is
# found nowhere after erase_person(); erase_archived(), drop_sync(), and what
# is kept for how long.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use IPC::Run;
use OneRosterSync;
use SampleSync;
use SisTest;

# The server writes all statements and all errors to its log.
my $node = SisTest->new(conf => { log_min_duration_statement => 0,
		log_min_messages => 'debug1', log_error_verbosity => 'verbose' })->start;
my $db = $node->fresh_db('erase');

# What must be found nowhere; unlike anything in the sample districts.
my %canary = (given => 'Zanzibarra', family => 'Quetzalcoatlus', birth => '1907-11-23',
	email => 'zq.canary@example.org', changed => 'zq.later@example.org',
	password => 'Pfeffer!Mühle77', contact => 'Xylophonia');
my $id = 'stu-canary';
my $own_id = 'SIS-CANARY-9';

# Every table of every schema of this database, in which a text is.
my $scan = q{
	CREATE FUNCTION pg_temp.tables_with(wanted text) RETURNS SETOF text LANGUAGE plpgsql AS $$
	DECLARE
	  relation regclass;
	  found boolean;
	BEGIN
	  FOR relation IN SELECT c.oid::regclass FROM pg_class c
	    WHERE c.relkind IN ('r', 'm') ORDER BY c.oid
	  LOOP
	    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s t WHERE position($1 IN t::text) > 0)', relation)
	      INTO found USING wanted;
	    IF found THEN RETURN NEXT relation::text; END IF;
	  END LOOP;
	END $$};

sub tables_with
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	# the text itself must not get into pg_proc or another catalog
	return [ map { $_->[0] } @{ $node->session($db)->query(
				"$scan; SELECT * FROM pg_temp.tables_with('$text')")->{out} } ];
}

sub dump_of
{
	my $out = '';

	IPC::Run::run([ $node->program('pg_dump'), '-h', $node->host, '-p', $node->port, $db ],
		'>', \$out) or die "pg_dump: $?";
	return $out;
}

sub is_nowhere
{
	my ($title, @texts) = @_;
	my $dump = dump_of();

	for my $text (@texts)
	{
		my $bytes = Encode::encode('UTF-8', $text);

		is_deeply(tables_with($text), [], "$title: \"$text\" is in no table");
		is(index($dump, $bytes), -1, "$title: \"$text\" is not in a dump");
	}
	return;
}

# Errors and statements of the tests name what is looked for; all else must not.
sub log_without_mine
{
	return join "\n", grep { !/tables_with|erase_person/ } split /\n/, $node->log;
}

my @values = @canary{qw(given family birth email changed contact)};

# The district's files have a column of passwords, and the student in it.
sub district
{
	my (%opt) = @_;
	my $d = District->new(schools => 2, students => 60, sections => 6, staff => 4,
		contacts => 20, enroll => 2, %opt);

	$d->add('student', id => $id, number => $own_id, given => $canary{given},
		family => $canary{family}, birth => $canary{birth}, email => $canary{email},
		username => 'zq-canary', schools => ['sch-001']);
	$d->add('contact', id => 'con-canary', given => $canary{contact}, family => $canary{family});
	$d->add('link', student => $id, contact => 'con-canary');
	$d->enroll('sec-00001', $id);
	return $d;
}

# The files have a column of passwords; each row gets the one looked for.
sub add_passwords
{
	my ($dir) = @_;

	open my $in, '<:raw', "$dir/users.csv" or die $!;
	chomp(my @lines = <$in>);
	close $in;
	my @names = split /,/, $lines[0];
	my ($at) = grep { $names[$_] eq 'password' } 0 .. $#names;
	open my $out, '>:raw', "$dir/users.csv" or die $!;
	print $out shift @lines, "\n";
	for my $line (@lines)
	{
		my @fields = split /,/, $line, -1;

		$fields[$at] = Encode::encode('UTF-8', $canary{password}) if @fields == @names;
		print $out join(',', @fields), "\n";
	}
	close $out;
	return;
}

sub erased
{
	my ($s, $person, $type) = @_;

	return $node->value($db, "SELECT sis_sync.erase_person('$s->{name}', '$person'"
		  . ($type ? ", record_type => '$type'" : '') . ')');
}

# ----------
# Every way: accepted, changed, rejected, out of scope, archived, in a package
# of changes, held back, with new IDs
# ----------
my $s = SampleSync->new($node, $db, 'ways', district => district(),
	schools => ['0101'], set => { include_demographics => 'true' });
my $d = $s->{district};
my $night = sub
{
	my ($title) = @_;

	$s->write;
	add_passwords($s->dir);
	return $s->run_succeeds($title);
};

$night->('accepted');
{
	open my $in, '<:encoding(UTF-8)', $s->dir . '/users.csv' or die $!;
	like(join('', <$in>), qr/\Q$canary{password}\E/, 'the files have the password');
}
my $mentions = tables_with($canary{family});
ok(scalar(grep { $_ eq 'roster.student' } @$mentions), 'it is found in the roster');
ok(scalar(grep { /^sis_sync\.stage_student/ } @$mentions), 'and in staging');
ok(scalar(grep { $_ eq 'roster.contact' } @$mentions), 'and a contact of the name');
is($s->value("SELECT birth_date FROM <roster>.student WHERE sync_id = <id> AND source_id = '$id'"),
	$canary{birth}, 'with the birth date');

$d->set('student', $id, email => $canary{changed});
$night->('changed');
is_deeply([ grep { $_ eq 'sis_sync.change' } @{ tables_with($canary{email}) } ],
	['sis_sync.change'], 'the previous value is in the log');

# rejected: with its ID, and without one but with its names
$s->write(append => { users => [
		"$id,,,true,student,$canary{given},$canary{family}",
		",,,true,sch-001,student,zq-canary,,$canary{given},$canary{family},,$own_id,$canary{email},,,,,," ] });
add_passwords($s->dir);
$s->run_succeeds('rejected');
cmp_ok($s->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run> AND NOT loaded'), '>=', 1,
	'there are rejects');

# out of scope: moves to a school that is not set up
$d->set('student', $id, schools => ['sch-002']);
$s->do(q{INSERT INTO sis_sync.sync_threshold VALUES ('ways', 'student', 100)});
$d->remove('enrollment', map { $_->{id} } grep { $_->{person} eq $id } @{ $d->{enrollment} });
$night->('out of scope');
is($s->value("SELECT archived_reason FROM <roster>.student WHERE sync_id = <id> AND source_id = '$id'"),
	'left scope', 'archived, as it left scope');
$d->set('student', $id, schools => ['sch-001']);
$d->enroll('sec-00001', $id);
$night->('back again');

# held back by a threshold, with others
$s->do(q{UPDATE sis_sync.sync_threshold SET percent = 0 WHERE sync = 'ways'});
my $with = $d->copy;
$d->remove('student', $id);
$s->write;
add_passwords($s->dir);
$s->run_ends_in('SI001', 'held back');
is($s->value("SELECT count(*) FROM sis_sync.pending_archive WHERE source_id = '$id'"), 1, 'it is held back');
$s->do(q{UPDATE sis_sync.sync_threshold SET percent = 100 WHERE sync = 'ways'});
$night->('archived');

# a package of changes that brings it, and one that takes it
my %dir = map { $_ => $node->dir($_) } qw(without with);
$d->write($dir{without});
$with->write($dir{with});
Delta::write($dir{without}, $dir{with}, $s->dir);
$s->run_succeeds('a package brings it');
$s->do(q{UPDATE sis_sync.sync_threshold SET percent = 0 WHERE sync = 'ways'});
Delta::write($dir{with}, $dir{without}, $s->dir);
$s->run_ends_in('SI001', 'a package deletes it, and is held back');
is($s->value("SELECT count(*) FROM sis_sync.pending_delete WHERE source_id = '$id'"), 1, 'the deletion waits');
is($s->call('CALL sis_sync.undo(' . $s->value(q{SELECT max(id) FROM sis_sync.run
	WHERE sync = 'ways' AND status = 'succeeded'}) . ')'), undef, 'an undo archives it');

cmp_ok(erased($s, $id), '>', 10, 'erase_person removes rows');
cmp_ok(erased($s, 'con-canary'), '>=', 2, 'and those of the contact, who is somebody else');
is_deeply([ @{ $s->last_run }{qw(kind status)} ], [ 'erase', 'succeeded' ], 'it is a run of its own');
is_nowhere('every way of files', @values, @canary{qw(password)}, $id, $own_id, 'con-canary', 'zq-canary');
is(index(log_without_mine(), $_), -1, "\"$_\" is not in the server's log") for @values, $canary{password};
my (undef, $err) = $node->try($db, q{SELECT sis_sync.erase_person('ways', 'nobody')});
like($err, qr/WARNING:.*nothing was erased/, 'nobody of that ID: a warning');

# The source still has it: it comes back, and everybody else is as before.
$s->do(q{UPDATE sis_sync.sync_threshold SET percent = 100 WHERE sync = 'ways'});
$s->{district} = $with;
$s->succeeds('the next night');
$s->counts_are('it comes back', student => { created => 1, archived => 0, unchanged => 30 });
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND source_id = '$id' AND archived_at IS NULL"),
	1, 'as a new record');

# ----------
# From a service, with the rest of a night that is undone
# ----------
my $rest = OneRosterSync->new($node, $db, 'rest', district => district(seed => 2),
	set => { include_demographics => 'true' });
$rest->succeeds('from OneRoster REST');
$rest->{district}->set('student', $_, phone => '802-555-7777') for $id, 'stu-000001';
$rest->succeeds('two change');
my $changed = $rest->last_run->{id};
is(erased($rest, $id) > 3, 1, 'erased');
is(erased($rest, 'con-canary') > 1, 1, 'with the contact');
erased($s, $_) for $id, 'con-canary';
is_nowhere('OneRoster REST', @values, $id);
is(index(log_without_mine(), $_), -1, "REST: \"$_\" is not in the log") for @values;
is($rest->value("SELECT erased FROM sis_sync.run WHERE id = $changed"), 1, 'the run says that one of its changes is gone');
is($rest->value("SELECT count(*) FROM sis_sync.preview($changed)"), 0,
	'a preview still finds its staged rows whole');
is($rest->call("CALL sis_sync.undo($changed)"), undef, 'its undo');
like($rest->last_run->{note}, qr/1 changes of that run had been erased/, 'says so');
is($rest->value(q{SELECT phone FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000001'}),
	undef, 'and puts back the other');
is($rest->call('CALL sis_sync.undo(' . $rest->value(q{SELECT max(id) FROM sis_sync.run WHERE kind = 'erase' AND sync = 'rest'}) . ')')->{sqlstate},
	'55000', 'an erase is not undone');

# ----------
# Whose is an ID?
# ----------
my $twice = SampleSync->new($node, $db, 'twice', district =>
	  District->new(students => 10, sections => 2, staff => 2, enroll => 1));
$twice->{district}->set('staff', 'stf-00001', number => '77');
$twice->succeeds('first load');
$twice->do(q{UPDATE <roster>.staff SET source_id = 'stu-000001' WHERE sync_id = <id> AND source_id = 'stf-00001';
	UPDATE <roster>.enrollment SET person_source_id = 'stu-000001' WHERE sync_id = <id> AND person_source_id = 'stf-00001'});
my $error = $twice->call(q{SELECT sis_sync.erase_person('twice', 'stu-000001')});
is($error->{sqlstate}, '42P08', 'one ID of a student and of staff: say which');
like($error->{hint}, qr/record_type => 'student'/, 'the hint tells how');
cmp_ok(erased($twice, 'stu-000001', 'student'), '>', 1, 'the student');
is_deeply($twice->rows(q{SELECT 'staff', count(*) FROM <roster>.staff WHERE sync_id = <id> AND source_id = 'stu-000001'
	UNION ALL SELECT role, count(*) FROM <roster>.enrollment WHERE sync_id = <id> AND person_source_id = 'stu-000001' GROUP BY role ORDER BY 1}),
	[ [ 'staff', 1 ], [ 'teacher', 1 ] ], 'staff of the same ID stays, and teaches one section');
is($twice->call(q{SELECT sis_sync.erase_person('twice', 'x', 'school')})->{sqlstate}, '22023', 'a school is no person');

# A trigger that keeps a row, and a foreign key
$twice->do(q{CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER keep BEFORE DELETE ON <roster>.student FOR EACH ROW EXECUTE FUNCTION public.keep()});
is($twice->call(q{SELECT sis_sync.erase_person('twice', 'stu-000002')})->{sqlstate}, '55000', 'what a trigger keeps is not called erased');
$twice->do(q{DROP TRIGGER keep ON <roster>.student;
	CREATE TABLE public.loan (sync_id bigint, student text COLLATE "C", FOREIGN KEY (sync_id, student) REFERENCES <roster>.student);
	INSERT INTO public.loan SELECT <id>, 'stu-000002'});
$error = $twice->call(q{SELECT sis_sync.erase_person('twice', 'stu-000002')});
is($error->{sqlstate}, '23503', 'a foreign key keeps it');
like($error->{hint}, qr/ON DELETE CASCADE/, 'the hint says why');
$twice->do('DROP TABLE public.loan');

# ----------
# What was archived longer ago
# ----------
my $old = SampleSync->new($node, $db, 'old', district =>
	  District->new(students => 40, sections => 4, staff => 4, contacts => 40, enroll => 2));
$old->succeeds('first load');
$old->do(q{INSERT INTO sis_sync.sync_threshold VALUES ('old', 'student', 100), ('old', 'contact', 100)});
$old->{district}->remove('student', $old->{district}->ids('student', 0, 3));
$old->succeeds('three leave');
my $left = $old->last_run->{id};
$old->do(qq{UPDATE <roster>.$_ SET archived_at = archived_at - interval '2 years' WHERE sync_id = <id>})
  for qw(student contact student_contact enrollment);
$old->{district}->remove('student', $old->{district}->ids('student', 0, 2));
$old->succeeds('two more leave');
is($old->call(q{SELECT sis_sync.erase_archived('old', '-1 day')})->{sqlstate}, '22023', 'a negative age');
is($node->value($db, q{SELECT sis_sync.erase_archived('old', '3 years')}), 0, 'nothing is older than three years');
cmp_ok($node->value($db, q{SELECT sis_sync.erase_archived('old', '1 year')}), '>=', 15, 'what is older than a year');
is_deeply([ map { $old->value("SELECT count(*) FROM <roster>.$_ WHERE sync_id = <id>") }
	  qw(student contact student_contact enrollment) ], [ 37, 37, 37, 78 ],
	'three students, contacts and links, and six enrollments are gone');
is($old->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND archived_at IS NOT NULL'),
	2, 'those who left lately are there');
is($old->value("SELECT erased FROM sis_sync.run WHERE id = $left"), 15, 'the run says what an undo lacks');

# ----------
# What is kept for how long
# ----------
my $keep = SampleSync->new($node, $db, 'keep', district =>
	  District->new(students => 20, sections => 2, staff => 2, enroll => 1));
$keep->succeeds('first load', append => { enrollments => ['enr-lost,,,sec-00001,sch-001,nobody,student,,,'] });
my $first = $keep->last_run->{id};
$keep->{district}->set('student', 'stu-000001', email => 'b@example.org');
$keep->succeeds('a change');
my $run = $keep->last_run->{id};
$keep->{district}->set('student', 'stu-000001', email => 'c@example.org');
$keep->succeeds('another one');
my $young = $keep->last_run->{id};
my $logged = "SELECT (SELECT count(*) FROM sis_sync.change WHERE run_id = $run), "
  . "(SELECT count(*) FROM sis_sync.reject WHERE run_id = $first)";
is_deeply($keep->rows($logged), [ [ 1, 1 ] ], 'values are on record');
$keep->do("UPDATE sis_sync.run SET started_at = started_at - interval '29 days' WHERE id IN ($first, $run)");
$twice->succeeds('a night of another sync');
is_deeply($keep->rows($logged), [ [ 1, 1 ] ], 'after 29 days they are');
$keep->do("UPDATE sis_sync.run SET started_at = started_at - interval '2 days' WHERE id IN ($first, $run)");
$twice->succeeds('a night of another sync');
is_deeply($keep->rows($logged), [ [ 0, 0 ] ], 'after 31 days they are not');
is($keep->value("SELECT count(*) FROM sis_sync.change WHERE run_id = $young"), 1, 'those of a later run are');
my $before = $keep->digest;
$error = $keep->call("CALL sis_sync.undo($run)");
is($error->{sqlstate}, '55000', 'its undo is refused');
like($error->{message}, qr/what run $run changed is on record no longer/, 'and says why');
like($error->{hint}, qr/keep_values/, 'and names the setting');
is($keep->call("CALL sis_sync.undo($run, record_type => 'student')")->{sqlstate}, '55000', 'in part, too');
is($keep->digest, $before, 'nothing was done by half');

is($keep->value('SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'), 20, 'staged rows are there');
$keep->do(q{UPDATE sis_sync.stage_slot SET taken_at = taken_at - interval '6 days' WHERE sync = 'keep'});
$twice->succeeds('a night of another sync');
is($keep->value('SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'), 20, 'after six days they are');
$keep->do(q{UPDATE sis_sync.stage_slot SET taken_at = taken_at - interval '2 days' WHERE sync = 'keep'});
$twice->succeeds('a night of another sync');
is($keep->value('SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'), 0, 'after eight they are not');
is($keep->value(q{SELECT count(*) FROM sis_sync.stage_slot WHERE sync = 'keep'}), 0, 'and the slot is free');

# purge()
my $runs = $node->value($db, 'SELECT count(*) FROM sis_sync.run');
is($node->value($db, 'SELECT sis_sync.purge()'), 0, 'purge() finds nothing that is due');
is($node->value($db, q{SELECT sis_sync.purge('1 year')}), 0, 'nor older than a year');
is($node->value($db, 'SELECT count(*) FROM sis_sync.run'), $runs, 'and removes no run');
is($node->value($db, q{SELECT sis_sync.purge('30 days')}), 2, 'two runs are older than 30 days');
is($keep->value("SELECT count(*) FROM sis_sync.run WHERE id IN ($first, $run)"), 0, 'they are gone');
is($node->value($db, q{SELECT count(*) FROM sis_sync.stage_slot WHERE run_id IS NOT NULL}) > 1, 1, 'later staged rows stay');
$node->value($db, q{SELECT sis_sync.purge('0')});
is($node->value($db, 'SELECT count(*) FROM sis_sync.stage_student'), 0, 'purge(0): nothing staged');
is($keep->value(q{SELECT string_agg(id::text, ',') FROM sis_sync.run WHERE sync = 'keep'}), $young,
	'only the newest run of a sync stays');
$keep->run_succeeds('a night after that');
$keep->counts_are('nothing is taken for changed', student => { unchanged => 20, updated => 0, created => 0 });
$node->run($db, q{UPDATE sis_sync.sync SET keep_staged = '0' WHERE name = 'keep'});
$keep->run_succeeds('with nothing staged to keep');
is($keep->value('SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'), 0, 'nothing staged is kept');

# ----------
# drop_sync()
# ----------
is($node->fails($db, q{DELETE FROM sis_sync.sync WHERE name = 'twice'})->{sqlstate}, '2BP01', 'a sync with records is not deleted');
my $there = 0;
$there += $_ for values %{ $twice->active };
is($node->value($db, q{SELECT sis_sync.drop_sync('twice')}), $there, 'drop_sync archives its records');
is($twice->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id> AND archived_at IS NOT NULL'), 10, 'they are archived');
for my $table (qw(sync sync_school sync_threshold sync_state run stage_slot))
{
	my $column = $table eq 'sync' ? 'name' : 'sync';

	is($node->value($db, "SELECT count(*) FROM sis_sync.$table WHERE $column = 'twice'"), 0, "nothing of it is in $table");
}
is($twice->value('SELECT count(*) FROM sis_sync.stage_student WHERE sync_id = <id>'), 0, 'nor in staging');
$keep->do(q{UPDATE <roster>.student SET sis_managed = false WHERE sync_id = <id> AND source_id = 'stu-000020'});
cmp_ok($node->value($db, q{SELECT sis_sync.drop_sync('keep', erase => true)}), '>', 40, 'drop_sync with erase');
is($keep->list('SELECT source_id FROM <roster>.student WHERE sync_id = <id>'), 'stu-000020',
	'leaves what is the application\'s');
$node->run($db, q{DROP SCHEMA roster CASCADE; DROP SERVER old CASCADE});
is($node->value($db, q{SELECT sis_sync.drop_sync('old')}), 0, 'without a roster and a server there is nothing to archive');
is($node->fails($db, q{SELECT sis_sync.drop_sync('nobody')})->{sqlstate}, 'SI009', 'a sync that is not there');

done_testing;
