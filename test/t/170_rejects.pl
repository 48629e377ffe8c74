# Rules 3, 4, 5, 6 and 8: bad rows, feeds that do not add up, two runs at once,
# and a run that dies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('rejects');

sub sample
{
	my ($name, %opt) = @_;
	my %size = (seed => 4, schools => 1, students => 200, sections => 10,
		staff => 10, contacts => 20, teachers => 0, enroll => 0,
		%{ delete $opt{size} // {} });

	return SampleSync->new($node, $db, $name,
		district => District->new(%size), %opt);
}

# Empties the values at some places of a row.
sub blank
{
	return District::with(map { $_ => '' } @_);
}

# Places of columns in users.csv, classes.csv and enrollments.csv (1.1)
my ($USER_ID, $MODIFIED, $ROLE, $GIVEN, $FAMILY, $EMAIL) = (0, 2, 5, 8, 9, 12);
my $CLASS_SCHOOL = 9;
my ($LINK_SECTION, $LINK_PERSON, $LINK_ROLE) = (3, 5, 6);

# ----------
# One bad row is one reject; its stored record stays as it is.
# ----------
my $s = sample('defects', size => { students => 200, sections => 100, enroll => 1 });
$s->succeeds('first load');
my $before = $s->digest;
my ($reject, $error);

# A given record's row is damaged: one reject with file, line, ID and a reason.
sub one_reject
{
	my ($title, $type, $file, $id, $change) = @_;

	$s->succeeds($title, change => { "$file/$id" => $change });
	is_deeply($s->rows('SELECT record_type, source_id, line, loaded'
			  . " FROM sis_sync.reject WHERE run_id = <run> AND source LIKE '%$file.csv'"
		  . " AND record_type = '$type'"),
		[ [ $type, $id, $s->{lines}{$file}{$id}, 'f' ] ],
		"$title: the reject has type, ID and line");
	isnt($s->value('SELECT reason FROM sis_sync.reject WHERE run_id = <run>'),
		undef, "$title: and a reason");
	$s->counts_are($title, $type => {
			rejected => 1, archived => 0, to_archive => 0, updated => 0 });
	$s->all_counts_are("$title: nothing is archived", 'archived');
	is($s->digest, $before, "$title: its stored record stays as it is");
	return;
}

one_reject('bad UTF-8', 'student', 'users', 'stu-000010',
	sub { $_[0] =~ s/s10@/\xC3\x28@/r });
one_reject('a NUL', 'student', 'users', 'stu-000011',
	sub { $_[0] =~ s/s11@/s\x0011@/r });
one_reject('no name at all', 'student', 'users', 'stu-000012',
	blank($GIVEN, $FAMILY));
one_reject('a section without a school', 'section', 'classes', 'sec-00003',
	blank($CLASS_SCHOOL));
one_reject('a school without a name', 'school', 'orgs', 'sch-001', blank(3));
one_reject("an enrollment without $_->[0]", 'enrollment', 'enrollments',
	'enr-0000020', blank($_->[1]))
  for [ section => $LINK_SECTION ], [ person => $LINK_PERSON ],
  [ role => $LINK_ROLE ];

# Nobody knows what type a user of an unknown role is; he is not gone, though.
$s->succeeds('a role that is not in the standard',
	change => { 'users/stu-000014' => District::with($ROLE => 'mascot') });
cmp_ok($s->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run>'
		  . " AND source_id = 'stu-000014' AND NOT loaded"
		  . " AND line = $s->{lines}{users}{'stu-000014'}"),
	'>=', 1, 'an unknown role is a reject');
is($s->digest, $before, 'an unknown role: the stored record stays as it is');

$s->succeeds('one name is enough',
	change => { 'users/stu-000013' => blank($FAMILY) });
$s->counts_are('one name is enough',
	student => { rejected => 0, updated => 1 });

$s->succeeds('all is well again');
$s->counts_are('all is well again',
	student => { rejected => 0, updated => 1, unchanged => 199 });

# ----------
# Optional values
# ----------
my $d = sample('optional', set => { include_demographics => 'true' });
$d->succeeds('a bad birth date at first',
	change => { 'demographics/stu-000020' => sub { $_[0] =~ s/\d{4}-\d\d-\d\d/20-13-45/r } });
$d->counts_are('it loads', student => { created => 200, rejected => 0 });
is($d->value("SELECT birth_date FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = 'stu-000020'"),
	undef, 'a bad birth date becomes NULL');
is_deeply($d->rows('SELECT record_type, source_id, loaded FROM sis_sync.reject'
		  . ' WHERE run_id = <run>'),
	[ [ 'student', 'stu-000020', 't' ] ], 'with a note');
is($d->value("SELECT count(*) FROM sis_sync.reject WHERE run_id = <run>"
		  . " AND line = $d->{lines}{demographics}{'stu-000020'}"
		  . " AND column_name IS NOT NULL"),
	1, 'that has line and column');
my $born = $d->value("SELECT birth_date FROM <roster>.student"
	  . " WHERE sync_id = <id> AND source_id = 'stu-000021'");
isnt($born, undef, 'another one has a birth date');
$d->succeeds('a bad birth date later',
	change => { 'demographics/stu-000021' => sub { $_[0] =~ s/\d{4}-\d\d-\d\d/soon/r } });
is($d->value("SELECT birth_date FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id = 'stu-000021'"),
	$born, 'keeps the one on record');
$d->counts_are('and is no update of that record', student => {
		updated => 1, unchanged => 199 });

# ----------
# A row whose ID cannot be read
# ----------
for my $case (
	[ 'too few fields' => sub { $_[0] =~ s/,[^,]*,[^,]*$//r } ],
	[ 'too many fields' => sub { "$_[0],more" } ],
	[ 'no ID' => blank($USER_ID) ])
{
	my ($title, $change) = @$case;
	my $u = sample('unreadable ' . $title =~ tr/ /_/r);

	$u->succeeds('first load');
	$u->{district}->drop('student', 'stu-000001');
	$u->{district}->drop('section', 'sec-00010');
	$u->succeeds("$title, a student and a section leave",
		change => { 'users/stu-000030' => $change });
	$u->counts_are("$title: students are not archived, sections are",
		student => { archived => 0, rejected => 1 }, section => { archived => 1 });
	is($u->active->{student}, 200, "$title: all students are there");
	is($u->value('SELECT source_id FROM sis_sync.reject WHERE run_id = <run>'
			  . " AND record_type = 'student'"),
		undef, "$title: the reject has no ID");
	is($u->value('SELECT line FROM sis_sync.reject WHERE run_id = <run>'
			  . " AND record_type = 'student'"),
		$u->{lines}{users}{'stu-000030'}, "$title: but a line");
	like($u->last_run->{note} // '', qr/student/, "$title: the run says so");
	$u->succeeds('the next night');
	$u->counts_are("$title: archived the night after",
		student => { archived => 1 });
}
$s->succeeds('extra empty fields do not count',
	change => { 'users/stu-000030' => sub { "$_[0],,," } });
$s->counts_are('extra empty fields', student => {
		rejected => 0, unchanged => 200 });

# ----------
# Links to nothing protect nothing
# ----------
my $l = sample('dangling', size => { sections => 10, enroll => 1 });
$l->succeeds('first load');
my ($link) = $l->{district}->ids('enrollment', 5, 1);
$l->{district}->set('enrollment', $link, person => 'stu-999999');
$l->succeeds('a link to a student who is not there');
$l->counts_are('a link to nothing', enrollment => {
		rejected => 1, archived => 1, unchanged => 199 });

# ----------
# Two different rows with one ID: the same winner in any row order
# ----------
sub double
{
	my ($id, %values) = @_;

	# two rows for it, by address and date of modification
	return {
		"users/$id" => sub {
			my ($line) = @_;

			return map {
				District::with($EMAIL => $_, $MODIFIED => $values{$_})->($line)
			} sort keys %values;
		}
	};
}

sub swapped
{
	my ($change) = @_;
	my ($key) = keys %$change;

	return { $key => sub { reverse $change->{$key}->(@_) } };
}

my $winner = "SELECT email FROM <roster>.student WHERE sync_id = <id>"
  . " AND source_id = 'stu-000040'";
my %undated = ('a@example.org' => '', 'b@example.org' => '');
my %dated = (
	'a@example.org' => '2026-09-02T06:00:00.000Z',
	'b@example.org' => '2026-09-01T06:00:00.000Z');
my %later_b = (
	'a@example.org' => '2026-09-01T06:00:00.000Z',
	'b@example.org' => '2026-09-01T07:00:00.000Z');
my @won;
for my $order (0, 1)
{
	my $two = sample("two$order");
	my $rows = double('stu-000040', %undated);

	$two->succeeds('two rows', change => $order ? swapped($rows) : $rows);
	$two->counts_are('one of them is a reject', student => {
			created => 200, rejected => 1, received => 200 });
	is_deeply($two->rows('SELECT source_id, loaded FROM sis_sync.reject'
			  . ' WHERE run_id = <run>'),
		[ [ 'stu-000040', 'f' ] ], "two$order: with its ID");
	push @won, $two->value($winner);

	# whatever order the rows have the next night
	for my $night (0, 1)
	{
		$two->succeeds('again', change => $night ? swapped($rows) : $rows);
		$two->counts_are('the stored version wins', student => {
				unchanged => 200, updated => 0, rejected => 1 });
	}
	# also against one that is newer
	my $other = (grep { $_ ne $won[-1] } keys %undated)[0];
	my $newer = double('stu-000040', $won[-1] => '2026-09-01T06:00:00.000Z',
		$other => '2026-09-05T06:00:00.000Z');
	$two->succeeds('the other one is newer',
		change => $order ? swapped($newer) : $newer);
	is($two->value($winner), $won[-1], "two$order: the stored version still wins");

	for my $case ([ "dated_a$order", 'a@example.org', %dated ],
		[ "dated_b$order", 'b@example.org', %later_b ])
	{
		my ($name, $expected, %rows) = @$case;
		my $sync = sample($name);
		my $change = double('stu-000040', %rows);

		$sync->succeeds('two dated rows',
			change => $order ? swapped($change) : $change);
		is($sync->value($winner), $expected, "$name: the later one wins");
	}
}
is($won[0], $won[1], 'the same row wins in either order');

my $same = sample('same');
$same->succeeds('the same row twice',
	change => { 'users/stu-000040' => sub { ($_[0], $_[0]) } });
$same->counts_are('the same row twice is one record', student => {
		created => 200, received => 200 });

# ----------
# Too many rejects
# ----------
sub nameless
{
	my (@ids) = @_;

	return map { ("users/$_" => blank($GIVEN, $FAMILY)) } @ids;
}

for my $case ([ 100, 5, 5 ], [ 400, 20, 5 ], [ 400, 8, 2 ])
{
	my ($students, $most, $percent) = @$case;
	my $r = sample("many${students}_$percent",
		size => { students => $students, contacts => 0, staff => 1 },
		set => { reject_threshold => $percent });
	my @ids = $r->{district}->ids('student');

	$r->succeeds('first load');
	$before = $r->digest;
	$r->{district}->add('section');
	$error = $r->ends_in('SI010', ($most + 1) . " rejects of $students",
		change => { nameless(@ids[ 0 .. $most ]) });
	is($error->{constraint}, 'too_many_rejects', "$r->{name}: condition");
	is($error->{table}, 'student', "$r->{name}: record type");
	is($r->digest, $before, "$r->{name}: nothing changed");
	is($r->last_run->{reason}, 'Too Many Rejects', "$r->{name}: reason");
	is($r->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run>'),
		$most + 1, "$r->{name}: they can be looked at");
	$r->succeeds("$most rejects of $students",
		change => { nameless(@ids[ 0 .. $most - 1 ]) });
	$r->counts_are("$most rejects", student => {
			rejected => $most, archived => 0, unchanged => $students - $most },
		section => { created => 1 });
}

# ----------
# Cause before symptom
# ----------
my $w = sample('causes', size => { students => 300 });
$w->succeeds('first load');
$before = $w->digest;

# every name with an accent in WIN1252
$error = $w->ends_in('SI010', 'a wrong encoding', change => {
		map {
			+"users/$_" => sub { $_[0] =~ s/s(\d+)@/s$1\xE9@/r }
		} $w->{district}->ids('student', 0, 60) });
like($error->{hint} // '', qr/encoding/, 'wrong encoding: the hint names the option');
is($w->digest, $before, 'wrong encoding: nothing changed');

# all IDs have lost their leading zeros, as a spreadsheet does
my $z = sample('zeros', size => { students => 0, contacts => 0 });
$z->{district}->add('student', id => sprintf('%06d', $_), number => $_)
  for 1 .. 100;
$z->succeeds('IDs with leading zeros');
$before = $z->digest;
$z->{district}->drop('student', $z->{district}->ids('student'));
$z->{district}->add('student', id => $_, number => $_) for 1 .. 100;
$z->ends_in('SI011', 'leading zeros are lost');
is($z->digest, $before, 'leading zeros: nothing changed');

# A mistyped optional header is no emptied column.
$w->succeeds('a mistyped optional header',
	header => { users => sub { $_[0] =~ s/,email,/,emial,/r } });
$w->counts_are('a mistyped optional header',
	student => { updated => 0, unchanged => 300 });

# ----------
# Incomplete data
# ----------
my $e = sample('empty', size => { students => 100, staff => 6, contacts => 6,
		sections => 6 });
$e->succeeds('first load');
$before = $e->digest;

sub incomplete
{
	my ($title, $kind, @ids) = @_;
	my $copy = $e->{district};

	$e->{district} = $copy->copy;
	$e->{district}->remove($kind, @ids ? @ids : $copy->ids($kind));
	my $result = $e->ends_in('SI007', $title);
	is($result->{table}, $kind, "$title: record type");
	is($e->digest, $before, "$title: nothing changed");
	is($e->last_run->{reason}, 'Incomplete Data', "$title: reason");
	$e->{district} = $copy;
	return;
}

incomplete('no students', 'student');
incomplete('none of six staff', 'staff');
incomplete('none of six sections', 'section');
incomplete('none of six contacts', 'contact');
$e->do('UPDATE sis_sync.sync SET deletion_threshold = 100 WHERE id = <id>');
incomplete('no students, at 100 %', 'student');
$e->{district}->remove('contact', $e->{district}->ids('contact'));
$e->succeeds('none of six contacts, at 100 %');
$e->counts_are('none of six contacts, at 100 %', contact => { archived => 6 },
	student_contact => { archived => 6 });

# Five are few enough to be judged by the threshold.
my $five = sample('five', size => { contacts => 5 });
$five->succeeds('first load');
$five->{district}->remove('contact', $five->{district}->ids('contact'));
$error = $five->ends_in('SI001', 'none of five contacts');
is($error->{table}, 'contact', 'none of five contacts: record type');

# Nobody in scope
my $nobody = sample('nobody',
	size => { schools => 2, students => 0, contacts => 0 },
	schools => ['0102']);
$nobody->{district}->add('student', schools => ['sch-001']) for 1 .. 20;
$nobody->ends_in('SI007', 'no student in scope, in a first load');
is_deeply($nobody->active, { map { $_ => 0 } @SampleSync::TYPES },
	'no student in scope: nothing is loaded');

# A source older than the one last applied
my $old = sample('older');
my $now = time;
$old->succeeds('first load', mtime => $now - 3600);
$before = $old->digest;
$old->{district}->set('student', 'stu-000001', email => 'old@example.org');
$error = $old->ends_in('SI007', 'files of the day before', mtime => $now - 90_000);
is($old->digest, $before, 'older: nothing changed');
isnt($error->{hint}, undef, 'older: there is a hint');
$old->do("ALTER SERVER older OPTIONS (ADD encoding 'UTF8')");
$old->run_succeeds('compared only while the server\'s options are unchanged');
$old->counts_are('older, after ALTER SERVER', student => { updated => 1 });

# The newest of the files counts.
$old->write(mtime => $now - 90_001);
utime $now - 60, $now - 60, $old->dir . '/users.csv';
$old->run_succeeds('one file is newer');

# Another district
my $x = sample('district');
$x->succeeds('first load');
$before = $x->digest;
$x->{district}{district}{id} = 'dist-9999';
$x->{district}->add('student');
$error = $x->ends_in('SI002', 'another district');
is($error->{constraint}, 'wrong_credentials', 'another district: condition');
is($x->last_run->{reason}, 'Wrong Credentials', 'another district: reason');
is($x->digest, $before, 'another district: nothing changed');

# ----------
# One run per sync at a time; a run that dies
# ----------
my $one = sample('one');
my $two = sample('other');
$one->succeeds('first load');
$two->succeeds('first load');
$one->{district}->set('student', $_, email => "$_\@elsewhere.example.org")
  for $one->{district}->ids('student');
$one->{district}->remove('student', 'stu-000200');
$one->write;
$before = $one->digest;

# Holds a run of the sync where it meets the roster.
sub run_held
{
	my $lock = $node->session($db);
	my $run = $node->session($db);

	$lock->query('BEGIN');
	$lock->query('LOCK TABLE roster.student IN ACCESS EXCLUSIVE MODE');
	$run->send($one->call_sql);
	$node->wait_until($db, 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted'
		  . ' AND pid = ' . $run->pid);
	return ($lock, $run);
}

my ($lock, $run) = run_held();
$error = $one->run_ends_in('SI008', 'a second run at once');
is($error->{constraint}, 'sync_in_progress', 'a second run: condition');
is($one->call("SELECT sis_sync.run_atomic('one')")->{sqlstate}, 'SI008',
	'a second run by run_atomic');
$lock->query('ROLLBACK');
my $result = $run->wait;
is($result->{error}, undef, 'the first run goes on and succeeds');
$one->counts_are('the first run', student => { updated => 199, archived => 1 });
$_->close for $lock, $run;
is($two->call, undef, 'another sync is not held up');

# Killed in the middle: the state before, and the next run says what happened.
$one->{district}->set('student', $_, email => "$_\@third.example.org")
  for $one->{district}->ids('student');
$one->write;
$before = $one->digest;
($lock, $run) = run_held();
my $dead = $one->value("SELECT max(id) FROM sis_sync.run WHERE sync = 'one'");
$node->kill9($run->pid);
is($one->digest, $before, 'kill -9: the roster is as it was');
is($one->value("SELECT status FROM sis_sync.run WHERE id = $dead"), 'running',
	'kill -9: the log does not know yet');
$_->close for $lock, $run;
$one->run_succeeds('the next run');
is($one->value("SELECT status FROM sis_sync.run WHERE id = $dead"),
	'interrupted', 'kill -9: marked interrupted by the next run');
$one->counts_are('the next run', student => { updated => 199 });

# Terminated, and cancelled
for my $how (qw(terminate cancel))
{
	$one->{district}->set('student', $_, email => "$_\@$how.example.org")
	  for $one->{district}->ids('student');
	$one->write;
	$before = $one->digest;
	($lock, $run) = run_held();
	$dead = $one->value("SELECT max(id) FROM sis_sync.run WHERE sync = 'one'");
	$node->value($db, "SELECT pg_${how}_backend(" . $run->pid . ')');
	$result = $run->wait;
	is($result->{error}{sqlstate}, $how eq 'cancel' ? '57014' : '57P01',
		"$how: the error is PostgreSQL's own");
	$lock->query('ROLLBACK');
	$_->close for $lock, $run;
	is($one->digest, $before, "$how: the roster is as it was");
	$one->run_succeeds("the run after $how");
	isnt($one->value("SELECT status FROM sis_sync.run WHERE id = $dead"),
		'running', "$how: the dead run is not called running");
	$one->counts_are("the run after $how", student => { updated => 199 });
}

# ----------
# A file of nothing but bad rows fills the staging table, and not the log
# ----------
my $flood = sample('flood');
$flood->succeeds('first load');
$before = $flood->digest;
$flood->ends_in('SI010', 'a flood of bad rows',
	append => { enrollments => [ join "\n", ('x') x 120_000 ] });
is($flood->digest, $before, 'a flood of bad rows: the roster is as it was');
is($flood->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run>'),
	100_000, 'so many are logged one by one');
$flood->counts_are('all are counted', enrollment => { rejected => 120_000 });
is($flood->value("SELECT count(*) FROM sis_sync.stage_enrollment WHERE run_id = <run> AND status = 'rejected'"),
	120_000, 'and staged');
like($flood->last_run->{note}, qr/the first 100000 are logged/, 'the run says so');

# ----------
# No name of anybody in the log
# ----------
is($node->value($db, q{
	SELECT count(*) FROM sis_sync.run r
	JOIN (SELECT family_name AS name FROM roster.student
	      UNION SELECT given_name FROM roster.student WHERE length(given_name) > 3
	      UNION SELECT family_name FROM roster.staff) n
	ON strpos(concat_ws(' ', r.message, r.detail, r.hint, r.note), n.name) > 0}),
	0, 'no name of a person in the log of runs');
is($node->value($db, q{
	SELECT count(*) FROM sis_sync.reject r
	JOIN (SELECT family_name AS name FROM roster.student
	      UNION SELECT given_name FROM roster.student WHERE length(given_name) > 3) n
	ON strpos(r.reason, n.name) > 0}),
	0, 'nor in the reasons of rejects');
my $log = $node->log;
my %names = map { $_->[0] => 1 } @{ $node->rows($db,
		'SELECT DISTINCT family_name FROM roster.student WHERE length(family_name) > 4') };
is(join(' ', grep { $log =~ /\b\Q$_\E\b/ } sort keys %names), '',
	'nor in the server\'s log');

done_testing;
