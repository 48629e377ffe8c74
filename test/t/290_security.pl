# What docs/security.md claims and no other test shows: each attack is made by
# the role that would make it, and must come to nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('attacked');

sub district { return District->new(students => 40, sections => 4, staff => 4, enroll => 1, @_); }

# The error's SQLSTATE, or "none".
sub sqlstate
{
	my ($sql, %opt) = @_;
	my (undef, $err, $code) = $node->try($db, $sql, %opt);

	return $code == 0 ? 'none' : SisTest::parse_error($err)->{sqlstate} // $err;
}

# ----------
# An application's developer owns the roster, and runs the sync: his trigger
# alters a table that the run writes to later, so that an ID is of another type
# ----------
$node->run($db, q{
	CREATE ROLE developer LOGIN;
	GRANT CREATE ON DATABASE attacked TO developer;
	GRANT USAGE ON SCHEMA sis_sync TO developer;
	GRANT EXECUTE ON FUNCTION sis_sync.create_roster(text), sis_sync.upgrade_roster(text) TO developer;
	GRANT EXECUTE ON PROCEDURE sis_sync.run(text, boolean) TO developer});
for my $case ([ 'name', 'a value of fixed length, read as one with a length of its own' ],
	[ 'varchar', 'one of the same bytes' ])
{
	my ($type, $title) = @$case;
	my $s = SampleSync->new($node, $db, "app_$type", district => district(), roster => "app_$type",
		set => { target_schema => "'app_$type'" });
	$node->run($db, "GRANT USAGE ON FOREIGN SERVER app_$type TO developer");
	$node->run($db, "SELECT sis_sync.create_roster('app_$type')", role => 'developer');
	$s->write;
	is(sqlstate($s->call_sql, role => 'developer'), 'none', "$type: the developer runs his sync");
	$node->run($db, qq{
		CREATE FUNCTION app_$type.alter_student() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
		  DROP VIEW IF EXISTS app_$type.person_app_school;
		  DROP TRIGGER IF EXISTS forget_fingerprint ON app_$type.student;
		  ALTER TABLE app_$type.student ALTER source_id TYPE $type;
		  RETURN NULL;
		END \$\$;
		CREATE TRIGGER alter_student AFTER UPDATE ON app_$type.school
		  FOR EACH STATEMENT EXECUTE FUNCTION app_$type.alter_student()}, role => 'developer');
	my $d = $s->{district};
	$d->set('school', ($d->ids('school'))[0], name => 'Renamed');
	$d->set('student', $_, given => 'Renamed') for $d->ids('student', 0, 10);
	$s->write;
	my (undef, $err) = $node->try($db, $s->call_sql, role => 'developer');
	my $error = SisTest::parse_error($err);
	is($error->{sqlstate}, '42804', "$type: $title, is refused") or diag($err);
	like($error->{message} // '', qr/^a column of the roster has changed its type during the run$/, "$type: and why");
	is($node->value($db, 'SELECT 1'), '1', "$type: the server stands");
	is($node->value($db, "SELECT count(*) FROM sis_sync.change c JOIN sis_sync.run r ON r.id = c.run_id
		WHERE r.sync = 'app_$type'"), 0, "$type: nothing misread is in the log");
	is($node->value($db, "SELECT data_type FROM information_schema.columns
		WHERE table_schema = 'app_$type' AND table_name = 'student' AND column_name = 'source_id'"),
		'text', "$type: and the table is as it was");
}


$node->stop;
done_testing();
