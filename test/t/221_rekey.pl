# SI011 and the ways on from it: rekey() gives the records their new IDs in place,
# approve() lets the old ones go.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('rekey');

# Rows of a type by what stays: number and birth of the row.
sub born
{
	my ($s, $type, $number) = @_;

	return $s->list("SELECT concat_ws('|', $number, created_at, created_run)"
		  . " FROM <roster>.$type WHERE sync_id = <id> AND archived_at IS NULL");
}

sub rekey
{
	my ($s, $run) = @_;

	return sprintf 'CALL sis_sync.rekey(%d)', $run // $s->last_run->{id};
}

# ----------
# 1,000 students, new IDs, same numbers
# ----------
my $d = District->new(students => 1000, sections => 50, staff => 20,
	contacts => 300, enroll => 4);
my $s = SampleSync->new($node, $db, 'thousand', district => $d);
$s->succeeds('first load');
my $born = born($s, 'student', 'student_number');
my $before = $s->digest;
my $active = $s->active;
$d->rekey('student', sub { $_[0] =~ s/stu/pupil/r });

$s->write;
my $dry = $s->run_ends_in('SI011', 'a dry run', $s->call_sql('dry'));
$s->run_ends_in('55000', 'a dry run is nothing to decide on', rekey($s));
my $error = $s->run_ends_in('SI011', '1,000 new IDs');
my $run = $s->last_run->{id};
is($error->{constraint}, 'ids_rekeyed', 'condition');
is($error->{table}, 'student', 'record type');
like($error->{message}, qr/\b1000 of 1000\b.*\b1000 are new, 1000 of them with a match/,
	'the error counts the pairs');
is($dry->{message}, $error->{message}, 'the dry run said the same');
like($error->{hint}, $_, "the hint names $_")
  for qr/rekey_match WHERE run_id = $run\b/, qr/CALL sis_sync\.rekey\($run\)/,
  qr/sis_sync\.approve\($run, /;
is_deeply([ @{ $s->last_run }{qw(status reason error_code)} ],
	[ 'failed', 'IDs Re-keyed', 'SI011' ], 'the log says so');
for my $what (qw(created updated restored archived))
{
	$s->all_counts_are("nothing is $what", $what);
}
is($s->digest, $before, 'nothing changed');
is($s->value('SELECT count(*) FROM sis_sync.rekey_pair WHERE run_id = <run>'),
	1000, '1,000 pairs');
is_deeply($s->rows('SELECT record_type, old_source_id, new_source_id, matched_on,'
		  . ' source FROM sis_sync.rekey_match WHERE run_id = <run>'
		  . " AND new_source_id = 'pupil-000123'"),
	[ [ 'student', 'stu-000123', 'pupil-000123',
			'email, sis_id, student_number', 'users.csv' ] ],
	'the view shows a pair, and what it matched on');
is($s->value("SELECT v.given_name || v.family_name = t.given_name || t.family_name"
		  . ' FROM sis_sync.rekey_match v JOIN <roster>.student t'
		  . ' ON t.source_id = v.old_source_id AND t.sync_id = <id>'
		  . " WHERE v.run_id = <run> AND v.new_source_id = 'pupil-000123'"),
	't', 'with the name of both');

my $links = $s->list('SELECT source_id || created_at FROM <roster>.enrollment'
	  . ' WHERE sync_id = <id>');
is($s->call(rekey($s)), undef, 'rekey succeeds');
my $rekey = $s->last_run;
is_deeply([ @$rekey{qw(kind of_run status)} ], [ 'rekey', $run, 'succeeded' ],
	'it is a run of its own');
$s->all_counts_are('rekeyed', 'updated', student => 1000, enrollment => 4000,
	student_contact => 300);
is(born($s, 'student', 'student_number'), $born, '1,000 rows keep created_at');
is($s->value("SELECT count(*) FROM <roster>.student WHERE sync_id = <id>"
		  . " AND source_id LIKE 'pupil-%'"), 1000, 'and have their new IDs');
is($s->list('SELECT source_id || created_at FROM <roster>.enrollment'
		  . ' WHERE sync_id = <id>'),
	$links, 'the enrollments are the same rows');
is($s->value('SELECT count(*) FROM <roster>.enrollment e WHERE sync_id = <id>'
		  . " AND role = 'student' AND NOT EXISTS (SELECT FROM <roster>.student t"
		  . ' WHERE t.sync_id = e.sync_id AND t.source_id = e.person_source_id)'),
	0, 'and follow their students');
is($s->value('SELECT count(*) FROM <roster>.student_contact WHERE sync_id = <id>'
		  . " AND source_id = student_source_id || '/' || contact_source_id"
		  . " AND student_source_id LIKE 'pupil-%'"),
	300, 'so do the contacts\' links, with IDs made of their ends');
is_deeply($s->rows("SELECT source_id, before ->> 'source_id' FROM sis_sync.change"
		  . " WHERE run_id = <run> AND record_type = 'student' AND action = 'rekey'"
		  . " AND source_id = 'pupil-000123'"),
	[ [ 'pupil-000123', 'stu-000123' ] ], 'the change log has both IDs');
is_deeply($s->active, $active, 'as many records as before');

$s->run_succeeds('the next run');
for my $what (qw(created updated restored archived to_archive))
{
	$s->all_counts_are("the next run: $what", $what);
}
$s->all_counts_are('the next run: all unchanged', 'unchanged',
	school => 1, term => 1, course => 8, section => 50, student => 1000,
	staff => 20, contact => 300, student_contact => 300, enrollment => 4050);
$error = $s->run_ends_in('55000', 'a second time', rekey($s, $run));
like($error->{message}, qr/not the last word/, 'a second time: why');

# ----------
# Clever's CSV: IDs of links and contacts are made of the students' own
# ----------
$d = District->new(students => 60, sections => 6, staff => 6, contacts => 30,
	enroll => 2);
$s = SampleSync->new($node, $db, 'clever', district => $d,
	write => { layout => 'clever', clever_ids => 0 });
$s->succeeds('Clever: first load');
$active = $s->active;
my %born = map { $_ => born($s, $_, "''") } qw(contact student_contact enrollment);
$d->rekey('student', sub { $_[0] =~ s{stu-}{a/b\\}r });
$s->ends_in('SI011', 'Clever: new IDs of 60 students');
is($s->call(rekey($s)), undef, 'Clever: rekey succeeds');
is_deeply($s->active, $active, 'Clever: as many records as before');
$s->run_succeeds('Clever: the next run') or diag $s->last_run->{message};
$s->all_counts_are('Clever: the next run: created', 'created');
$s->all_counts_are('Clever: the next run: updated', 'updated');
$s->counts_are('Clever: all unchanged', student => { unchanged => 60 },
	contact => { unchanged => 30, archived => 0 },
	student_contact => { unchanged => 30, archived => 0 },
	enrollment => { unchanged => 126, archived => 0 });
is(born($s, $_, "''"), $born{$_}, "Clever: $_ rows are the same")
  for qw(contact student_contact enrollment);

# ----------
# Both types; some are really gone; what no longer holds is left
# ----------
$d = District->new(students => 200, sections => 20, staff => 60, enroll => 2);
$s = SampleSync->new($node, $db, 'both', district => $d);
$s->succeeds('both: first load');
$d->remove('student', $d->ids('student', 190, 10));
$d->rekey('student', sub { "n-$_[0]" }, $d->ids('student', 0, 150));
$d->rekey('staff', sub { "n-$_[0]" });
$error = $s->ends_in('SI011', 'both: students and staff');
like($error->{message}, qr/student.*\b160 of 200.*\b150 are new, 150 of them/,
	'both: the message has the students');
like($error->{detail}, qr/staff.*\b60 of 60.*\b60 are new, 60 of them/,
	'both: the detail has the staff');
$run = $s->last_run->{id};
$s->do("UPDATE <roster>.staff SET sis_managed = false WHERE sync_id = <id>"
	  . " AND source_id = 'stf-00060'");
is($s->call("BEGIN; CALL sis_sync.rekey($run); COMMIT"), undef,
	'both: rekey, in a transaction block');
$s->counts_are('both: renamed', student => { updated => 150 },
	staff => { updated => 59 });
is_deeply($s->rows('SELECT record_type, source_id FROM sis_sync.skipped'
		  . ' WHERE run_id = <run>'),
	[ [ 'staff', 'stf-00060' ] ], 'both: the application\'s own is left');
$s->run_succeeds('both: the next run');
$s->counts_are('both: the next run', student => {
		unchanged => 190, archived => 10, created => 0 },
	staff => { unchanged => 59, created => 1 });

# ----------
# approve() lets that happen as creates and archives
# ----------
$d = District->new(students => 200, sections => 20, staff => 30, enroll => 2);
$s = SampleSync->new($node, $db, 'approved', district => $d);
$s->succeeds('approved: first load');
$d->rekey('student', sub { "n-$_[0]" });
$s->ends_in('SI011', 'approved: new IDs');
$run = $s->last_run->{id};
is($s->value('SELECT count(*) FROM sis_sync.pending_archive WHERE run_id = <run>'),
	200, 'approved: the old ones are held back');
$s->do("SELECT sis_sync.approve($run, 'another district office')");
$s->run_succeeds('approved: the next run');
$s->counts_are('approved', student => {
		created => 200, archived => 200, to_archive => 0, in_force => 0 },
	enrollment => { created => 0, updated => 400, archived => 0 });
$error = $s->run_ends_in('55000', 'then it is too late to rekey', rekey($s, $run));

# A foreign key of the application's to a student
$d->rekey('student', sub { "k-$_[0]" });
$s->ends_in('SI011', 'with a foreign key');
$s->do('CREATE TABLE public.loan (sync_id bigint, student text COLLATE "C",'
	  . ' CONSTRAINT loan_student FOREIGN KEY (sync_id, student) REFERENCES <roster>.student)');
$s->do("INSERT INTO public.loan SELECT sync_id, source_id FROM <roster>.student"
	  . ' WHERE sync_id = <id> AND archived_at IS NULL');
$error = $s->run_ends_in('23503', 'a key that does not follow', rekey($s));
like($error->{hint}, qr/ON UPDATE CASCADE/, 'the hint says what it needs');
unlike($error->{detail}, qr/stu-/, 'and the detail shows no row');
$s->do('ALTER TABLE public.loan DROP CONSTRAINT loan_student,'
	  . ' ADD FOREIGN KEY (sync_id, student) REFERENCES <roster>.student ON UPDATE CASCADE');
is($s->call(rekey($s)), undef, 'one that follows');
is($s->value("SELECT count(*) FROM public.loan WHERE student LIKE 'k-%'"), 200,
	'takes the application along');
$s->run_succeeds('the next run');
$s->all_counts_are('with a foreign key: created', 'created');

# The four steps raise it and leave nothing.
$d->rekey('student', sub { "m-$_[0]" });
$s->write;
$s->run_ends_in('SI011', 'run_atomic', "SELECT sis_sync.run_atomic('approved')");
my $id = $s->value("SELECT sis_sync.stage('approved')");
$s->run_ends_in('SI011', 'verify', "SELECT sis_sync.verify($id)");
$s->run_ends_in('55000', 'nothing to approve', "SELECT sis_sync.approve($id, 'x')");
$s->run_ends_in('55000', 'nothing to rekey', rekey($s, $id));

done_testing;
