# Hold.pm
#	Runs of a sync that wait at a certain moment, for as long as a test likes.
#
#	my $hold = Hold->new($node, $db);
#	my $run = $hold->run($sync, 'apply');     # a session; returns when it waits
#	$hold->wait_before($sync, 'apply');       # the same without a run
#	$hold->release;
#	my $result = $run->wait;
#
# The moments, and what a run waits for there:
#	slot		for a leaf of the staging tables that somebody locks
#	fold		in the planner, by an index of the roster; only when an ID of
#				the sync's users.csv comes twice
#	verify		the same, in the comparison
#	apply		in a trigger of the application on an UPDATE
#	archive		the same, on an UPDATE that archives
#	opening		for a table of the roster, before the source is read
#	table		for a table of the roster, before it is compared and written
#	row			for a row that the run changes
# and with Hold->new($node, $db, late => 1):
#	log			in a trigger on the log, when it is to say that all went well
#	commit		in a deferred trigger of the application
#
# A prepared transaction holds the locks, and so the cluster needs
# max_prepared_transactions = 1: a shutdown ends sessions in any order, and
# must not let the run go before it ends it.
package Hold;

use strict;
use warnings;
use SisTest;

our @MOMENTS = qw(slot fold verify apply archive opening table row);

# Keys of advisory locks
my %KEY = (planner => 1, apply => 2, archive => 3, log => 4, commit => 5);

my %LOCK = (
	slot => 'LOCK TABLE sis_sync.stage_student IN SHARE MODE',
	fold => "SELECT pg_advisory_xact_lock($KEY{planner})",
	verify => "SELECT pg_advisory_xact_lock($KEY{planner})",
	apply => "SELECT pg_advisory_xact_lock($KEY{apply})",
	archive => "SELECT pg_advisory_xact_lock($KEY{archive})",
	log => "SELECT pg_advisory_xact_lock($KEY{log})",
	commit => "SELECT pg_advisory_xact_lock($KEY{commit})",
	opening => 'LOCK TABLE roster.course IN ACCESS EXCLUSIVE MODE',
	table => 'LOCK TABLE roster.course IN SHARE ROW EXCLUSIVE MODE',
	row => 'SELECT 1 FROM roster.student FOR UPDATE');

# Puts into the roster of the database what a run will wait in.
sub new
{
	my ($class, $node, $db, %opt) = @_;

	$node->run($db, qq{
		CREATE FUNCTION public.hold_planner() RETURNS boolean IMMUTABLE
		LANGUAGE plpgsql AS \$\$
		BEGIN
		  PERFORM pg_advisory_xact_lock_shared($KEY{planner});
		  RETURN true;
		END \$\$;
		CREATE INDEX hold ON roster.student (source_id) WHERE public.hold_planner();
		CREATE FUNCTION public.hold_writer() RETURNS trigger
		LANGUAGE plpgsql AS \$\$
		BEGIN
		  PERFORM pg_advisory_xact_lock_shared(tg_argv[0]::bigint);
		  RETURN new;
		END \$\$;
		CREATE TRIGGER hold_apply BEFORE UPDATE ON roster.student FOR EACH ROW
		  WHEN (new.archived_at IS NULL)
		  EXECUTE FUNCTION public.hold_writer('$KEY{apply}');
		CREATE TRIGGER hold_archive BEFORE UPDATE ON roster.student FOR EACH ROW
		  WHEN (new.archived_at IS NOT NULL)
		  EXECUTE FUNCTION public.hold_writer('$KEY{archive}')});
	$node->run($db, qq{
		CREATE TRIGGER hold_log BEFORE UPDATE ON sis_sync.run FOR EACH ROW
		  WHEN (new.status = 'succeeded')
		  EXECUTE FUNCTION public.hold_writer('$KEY{log}');
		CREATE CONSTRAINT TRIGGER hold_commit AFTER UPDATE ON roster.student
		  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		  EXECUTE FUNCTION public.hold_writer('$KEY{commit}')}) if $opt{late};
	return bless { node => $node, db => $db }, $class;
}

# Has whoever comes to that moment wait.
sub at
{
	my ($self, $moment) = @_;

	$self->{node}->run($self->{db}, "BEGIN; $LOCK{$moment}; PREPARE TRANSACTION 'hold'");
	return $self;
}

# Waits until the backend waits for a lock.
sub until_waiting
{
	my ($self, $pid) = @_;

	$self->{node}->wait_until($self->{db},
		"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
	return $self;
}

# A session in which the statement waits at that moment.  Options: before (SQL
# to run first in the session), role, sql (default: the sync's CALL).
sub run
{
	my ($self, $s, $moment, %opt) = @_;
	my $session = $self->{node}->session($self->{db},
		$opt{role} ? (role => $opt{role}) : ());

	$session->query($opt{before}) if $opt{before};
	$self->at($moment);
	$session->send($opt{sql} // $s->call_sql);
	$self->until_waiting($session->pid);
	return $session;
}

# Lets go whoever waits.
sub release
{
	my ($self) = @_;

	$self->{node}->run($self->{db}, "ROLLBACK PREPARED 'hold'");
	return $self;
}

1;
