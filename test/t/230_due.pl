# run_due: when a sync is due, and that what happens to one of many stops no
# other: failures, hangs, cancels, rights, locked settings.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('due');

# ----------
# When a sync is due: what the view says of settings and a log
# ----------
# Settings: run_every, next_run_at, timezone.  Runs: how they ended ("-": not
# at all), start and end; "dry" and "undo" are runs that do not count.
my $day = [ '1 day', '2026-03-02 05:00' ];
my @cases = (
	[ 'no run yet', $day, [], '2026-03-02 05:00' ],
	[ 'no time yet', [ '1 day', undef ], [], '-infinity' ],
	[ 'a time set anew', $day, [ [ 'ok', '2026-03-01 05:00', '2026-03-01 05:03' ] ], '2026-03-02 05:00' ],
	[ 'paused', [ '1 day', 'infinity' ], [ [ 'ok', '2026-03-01 05:00', '2026-03-01 05:03' ] ], 'infinity' ],
	[ 'a success', $day, [ [ 'ok', '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-03 05:00' ],
	[ 'one that began before', $day, [ [ 'ok', '2026-03-02 04:59', '2026-03-02 05:02' ] ], '2026-03-02 05:00' ],
	[ 'one that took long', [ '1 hour', '2026-03-02 05:00' ], [ [ 'ok', '2026-03-02 05:00', '2026-03-02 06:30' ] ], '2026-03-02 07:00' ],
	[ 'long overdue', [ '1 day', '2026-01-01 05:00' ], [ [ 'ok', '2026-03-02 09:00', '2026-03-02 09:01' ] ], '2026-03-03 05:00' ],
	[ 'by six hours', [ '6 hours', '2026-03-02 05:00' ], [ [ 'ok', '2026-03-03 01:20', '2026-03-03 01:30' ] ], '2026-03-03 05:00' ],
	[ 'by months', [ '1 month', '2026-01-31 05:00' ], [ [ 'ok', '2026-05-10 01:00', '2026-05-10 01:30' ] ], '2026-05-31 05:00' ],
	[ 'by months, for years', [ '1 month', '2016-01-15 05:00' ], [ [ 'ok', '2026-05-10 01:00', '2026-05-10 01:30' ] ], '2026-05-15 05:00' ],
	# summer time begins on 8 March: 05:00 is 10:00 GMT before, 09:00 after
	[ 'summer time', [ '1 day', '2026-03-07 10:00', 'America/New_York' ], [ [ 'ok', '2026-03-07 10:00', '2026-03-07 10:02' ] ], '2026-03-08 09:00' ],
	[ 'the exact end', $day, [ [ 'ok', '2026-03-03 04:00', '2026-03-03 05:00' ] ], '2026-03-04 05:00' ],

	[ 'one failure', $day, [ [ 'SI004', '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-02 05:08' ],
	[ 'two failures', $day, [ [ 'SI007', '2026-03-02 05:00', '2026-03-02 05:03' ], [ 'SI004', '2026-03-02 05:08', '2026-03-02 05:10' ] ], '2026-03-02 05:20' ],
	[ 'four failures', $day, [ map { [ 'SI005', "2026-03-02 $_", "2026-03-02 $_" ] } qw(05:00 05:05 05:15 05:35) ], '2026-03-02 06:15' ],
	[ 'eight failures', $day, [ map { [ '57014', "2026-03-02 $_", "2026-03-02 $_" ] } qw(05:00 05:05 05:15 05:35 06:15 07:35 10:15 22:00) ], '2026-03-03 05:00' ],
	[ 'a failure, run often', [ '2 minutes', '2026-03-02 05:00' ], [ [ 'SI004', '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-02 05:04' ],
	[ 'a failure, and a success before it', $day, [ [ 'SI004', '2026-03-01 05:00', '2026-03-01 05:03' ], [ 'ok', '2026-03-01 05:08', '2026-03-01 05:10' ], [ 'SI004', '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-02 05:08' ],
	[ 'a failure, and a dry run after it', $day, [ [ 'SI004', '2026-03-02 05:00', '2026-03-02 05:03' ], [ 'dry', '2026-03-02 05:04', '2026-03-02 05:05' ] ], '2026-03-02 05:08' ],
	[ 'only an undo', $day, [ [ 'undo', '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-02 05:00' ],
	[ 'a failure before it was due', $day, [ [ 'SI004', '2026-03-02 04:00', '2026-03-02 04:03' ] ], '2026-03-02 05:00' ],
	[ 'a success by hand after failures', $day, [ [ 'SI004', '2026-03-02 05:00', '2026-03-02 05:03' ], [ 'ok', '2026-03-02 05:04', '2026-03-02 05:05' ] ], '2026-03-03 05:00' ],
	(map { [ "$_ waits for people", $day, [ [ $_, '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-03 05:00' ] }
		  qw(SI001 SI002 SI003 SI009 SI011 42501 42P01)),
	(map { [ "$_ may mend itself", $day, [ [ $_, '2026-03-02 05:00', '2026-03-02 05:03' ] ], '2026-03-02 05:08' ] }
		  qw(SI004 SI005 SI006 SI007 SI010 53300 55P03)),

	[ 'broken off', $day, [ [ '-', '2026-03-02 05:01' ] ], '2026-03-02 05:01' ],
	[ 'broken off twice', $day, [ [ '-', '2026-03-02 05:01', '2026-03-02 05:06' ], [ '-', '2026-03-02 05:06' ] ], '2026-03-02 05:11' ],
	[ 'broken off thrice', $day, [ [ '-', '2026-03-02 05:01', '2026-03-02 05:06' ], [ '-', '2026-03-02 05:06', '2026-03-02 05:11' ], [ '-', '2026-03-02 05:11' ] ], '2026-03-02 05:21' ],
	[ 'broken off after a failure', $day, [ [ 'SI004', '2026-03-02 05:00', '2026-03-02 05:03' ], [ '-', '2026-03-02 05:08' ] ], '2026-03-02 05:13' ],
	[ 'a failure after it broke off', $day, [ [ '-', '2026-03-02 05:01', '2026-03-02 05:02' ], [ 'SI004', '2026-03-02 05:02', '2026-03-02 05:03' ] ], '2026-03-02 05:13' ]);

sub literal
{
	my ($value) = @_;

	return defined $value ? "'$value'" : 'NULL';
}

$node->run($db, 'CREATE TABLE public.cases (n int PRIMARY KEY, title text, wanted timestamptz)');
for my $n (0 .. $#cases)
{
	my ($title, $settings, $runs, $wanted) = @{ $cases[$n] };
	my ($every, $next, $zone) = @$settings;

	$node->run($db, join ";\n", q{SET timezone = 'UTC'},
		"INSERT INTO public.cases VALUES ($n, '$title', '$wanted')",
		"INSERT INTO sis_sync.sync (name, server, timezone, run_every, next_run_at) VALUES ('case $n', 'none', '"
		  . ($zone // 'UTC') . "', '$every', " . literal($next) . ')',
		map {
			my ($end, $from, $to) = @$_;
			my $status = $end =~ /^(ok|undo)$/ ? 'succeeded' : $end ne '-' ? 'failed' : $to ? 'interrupted' : 'running';

			sprintf q{INSERT INTO sis_sync.run (sync, status, error_code, dry_run, kind, started_at, finished_at)
				VALUES ('case %d', '%s', %s, %s, '%s', %s, %s)}, $n, $status,
			  literal($end =~ /^[0-9A-Z]{5}$/ ? $end : undef), $end eq 'dry' ? 'true' : 'false',
			  $end eq 'undo' ? 'undo' : 'sync', literal($from), literal($to)
		} @$runs);
}
is($node->value($db, 'SELECT count(*) FROM sis_sync.due'), scalar @cases, 'the view has every sync');
is_deeply($node->rows($db, q{SET timezone = 'UTC';
	SELECT title, due_at FROM public.cases JOIN sis_sync.due ON sync = 'case ' || n
	WHERE due_at IS DISTINCT FROM wanted ORDER BY n}), [], 'each is due when it should be');
$node->run($db, q{DELETE FROM sis_sync.sync});

# ----------
# A queue
# ----------
my $dir = $node->dir('folder');
District->new(students => 40, sections => 4, staff => 4, contacts => 10, enroll => 2)->write($dir);
$node->run($db, "CREATE SERVER folder FOREIGN DATA WRAPPER sis_directory OPTIONS (path '$dir')");
$node->run($db, q{CREATE SERVER nowhere FOREIGN DATA WRAPPER sis_directory OPTIONS (path '/nowhere')});

# Syncs of the folder, each due so many hours ago.
sub queue
{
	my (%due) = @_;

	$node->run($db, "UPDATE sis_sync.sync SET run_every = NULL;\n" . join ";\n", map {
		"INSERT INTO sis_sync.sync (name, server, all_schools, run_every, next_run_at)"
		  . " VALUES ('$_', 'folder', true, '1 day', now() - interval '$due{$_} hours')"
	} sort keys %due);
	return $node->value($db, 'SELECT coalesce(max(id), 0) FROM sis_sync.run');
}

# The runs since: "name how, ..."
sub since
{
	my ($run) = @_;

	return join ', ', map { "$_->[0] $_->[1]" } @{ $node->rows($db,
		"SELECT sync, coalesce(error_code, status) FROM sis_sync.run WHERE id > $run ORDER BY id") };
}

# What a call prints besides its end; it must go well.
sub run_due
{
	my ($arguments, %opt) = @_;
	my ($out, $err, $code) = $node->try($db, "SET client_min_messages = warning; CALL sis_sync.run_due($arguments)", %opt);

	is($code, 0, "run_due($arguments) ends well") or diag($err);
	return $err;
}

my $last = queue(a => 3, b => 30, c => 1, later => -1);
is(run_due('1'), '', 'a call that runs one');
is(since($last), 'b succeeded', 'takes what is due for longest');
is(run_due(''), '', 'a call that runs all');
is(since($last), 'b succeeded, a succeeded, c succeeded', 'takes the rest, in order, and not what is due later');
run_due('');
is(since($last), 'b succeeded, a succeeded, c succeeded', 'and none of them twice');
is($node->value($db, q{SELECT string_agg(sync || ' ' || (due_at = next_run_at) || ' '
	|| round(extract(epoch FROM next_run_at - now()) / 3600), ', ' ORDER BY sync) FROM sis_sync.due}),
	'a true 21, b true 18, c true 23, later true 1', 'the next time keeps the time of day');

$last = queue(hand => 3);
$node->run($db, q{CALL sis_sync.run('hand', dry_run => true)});
is($node->value($db, q{SELECT due_at <= now() FROM sis_sync.due}), 't', 'a dry run by hand: still due');
$node->run($db, q{CALL sis_sync.run('hand')});
is($node->value($db, q{SELECT round(extract(epoch FROM due_at - now()) / 3600) FROM sis_sync.due}), 21, 'a run by hand: due tomorrow');
is($node->value($db, q{SELECT round(extract(epoch FROM next_run_at - now()) / 3600) FROM sis_sync.sync WHERE name = 'hand'}), -3, 'it does not move next_run_at');
run_due('');
is(since($last), 'hand succeeded, hand succeeded', 'nothing is left to do');
$node->run($db, q{UPDATE sis_sync.sync SET next_run_at = NULL WHERE name = 'hand'});
run_due('');
is(since($last), 'hand succeeded, hand succeeded, hand succeeded', 'next_run_at set to NULL: now');
is($node->value($db, q{SELECT round(extract(epoch FROM next_run_at - now()) / 3600) FROM sis_sync.sync WHERE name = 'hand'}), 24, 'and from now on at this time');

# Summer time begins at its next regular time, which is then an hour later on the
# clock, once: next_run_at stays where it is until the day after.
$last = queue(spring => 1);
my ($day_of_year, $hour, $regular) = split /\|/, $node->value($db, q{SELECT to_char(t, 'FMDDD|FMHH24|YYYY-MM-DD HH24:MI')
	FROM (SELECT date_trunc('hour', now() AT TIME ZONE 'UTC') + interval '6 hours 15 minutes' AS t) x});
my $leap = $node->value($db, "SELECT to_char('$regular'::timestamp, 'YYYY-12-31')::date - to_char('$regular'::timestamp, 'YYYY-01-01')::date");
my $zone = sprintf 'AAA0BBB-1,%d/%d,%d/0', $day_of_year - 1, $hour, ($day_of_year + 59) % $leap;
$node->run($db, "UPDATE sis_sync.sync SET timezone = '$zone', next_run_at = '$regular+00'::timestamptz - interval '2 days' WHERE name = 'spring'");
run_due('');
is(since($last), 'spring succeeded', 'before summer time begins');
my $spring = q{SELECT to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM sis_sync.due WHERE sync = 'spring'};
is($node->value($db, $spring), $regular, 'due when the clock has just gone forward');
$node->run($db, "INSERT INTO sis_sync.run (sync, status, started_at, finished_at) VALUES ('spring', 'succeeded', '$regular+00', '$regular+00')");
is($node->value($db, $spring), $node->value($db, "SELECT to_char('$regular'::timestamp + interval '23 hours', 'YYYY-MM-DD HH24:MI')"),
	'and at the old time on the clock the day after');

# ----------
# Failures
# ----------
$last = queue('0 good' => 9, '1 no folder' => 8, '2 no schools' => 7, '3 no server' => 6, '4 trigger' => 5,
	'5 log' => 4, '6 roster' => 3, '7 good' => 2);
$node->run($db, q{
	UPDATE sis_sync.sync SET server = 'nowhere' WHERE name = '1 no folder';
	UPDATE sis_sync.sync SET all_schools = false WHERE name = '2 no schools';
	UPDATE sis_sync.sync SET server = 'gone' WHERE name = '3 no server';
	UPDATE sis_sync.sync SET target_schema = 'gone' WHERE name = '6 roster';
	-- at the end of the transaction that writes the roster
	CREATE FUNCTION public.complain() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  PERFORM FROM sis_sync.sync WHERE id = NEW.sync_id AND name = '4 trigger';
	  IF FOUND THEN RAISE 'not this one'; END IF;
	  RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER complain AFTER INSERT ON roster.school DEFERRABLE INITIALLY DEFERRED
	  FOR EACH ROW EXECUTE FUNCTION public.complain();
	-- where no run can be begun, and one that has done all cannot be ended
	CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  RAISE 'the log is shut';
	END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON sis_sync.run
	  FOR EACH ROW WHEN (NEW.sync = '5 log') EXECUTE FUNCTION public.refuse();
	CREATE TRIGGER refuse_end BEFORE UPDATE ON sis_sync.run
	  FOR EACH ROW WHEN (NEW.sync = '0 good' AND NEW.status = 'succeeded') EXECUTE FUNCTION public.refuse()});
my $err = run_due('');
is(since($last), '0 good P0001, 1 no folder SI004, 2 no schools SI009, 3 no server SI009, 4 trigger P0001,'
	  . ' 6 roster SI009, 7 good succeeded', 'failures stop nobody');
is_deeply([ map { s/run \d+/run N/r } $err =~ /^WARNING:  (.*?)(?: does not exist| has no schools)?$/mg ], [
		'P0001: run N of sync "0 good" failed (P0001): the log is shut',
		'SI004: run N of sync "1 no folder" failed (Source Unavailable): could not open folder "/nowhere"',
		'SI009: run N of sync "2 no schools" failed (Not Configured): sync "2 no schools"',
		'SI009: run N of sync "3 no server" failed (Not Configured): server "gone"',
		'P0001: run N of sync "4 trigger" failed (P0001): not this one',
		'P0001: sync "5 log" could not be run: the log is shut',
		'SI009: run N of sync "6 roster" failed (Not Configured): roster "gone" cannot be used: there is no such schema' ],
	'a warning of each, with sync, run and reason') or diag($err);
like($err, qr/HINT:  See SELECT sis_sync\.explain_failure\(\d+\)\./, 'and where to read on');
is($node->value($db, q{SELECT string_agg(left(sync, 1) || ' ' || CASE WHEN due_at <= now() THEN 'now'
	WHEN due_at < now() + interval '6 minutes' THEN 'soon' ELSE 'later' END, ', ' ORDER BY sync) FROM sis_sync.due}),
	'0 soon, 1 soon, 2 later, 3 later, 4 soon, 5 now, 6 later, 7 later', 'what may mend itself is tried again soon');
is($node->value($db, q{SELECT count(*) FROM roster.school t JOIN sis_sync.sync s ON s.id = t.sync_id
	WHERE s.name ~ '^[0-6]'}), 0, 'nothing of them is in the roster');
is($node->value($db, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no lock is left');
$node->run($db, 'DROP TRIGGER refuse ON sis_sync.run; DROP TRIGGER refuse_end ON sis_sync.run; DROP TRIGGER complain ON roster.school');
$last = $node->value($db, 'SELECT max(id) FROM sis_sync.run');
is(run_due(''), '', 'once mended');
is(since($last), '5 log succeeded', 'the one still due goes well');

# A session that had failures goes on as one that had none.
$last = queue('more bad' => 2, 'more good' => 1);
$node->run($db, q{UPDATE sis_sync.sync SET server = 'nowhere' WHERE name = 'more bad'});
my $s = $node->session($db);
$s->query('SET default_transaction_isolation = serializable; SET default_transaction_read_only = on');
is($s->query('CALL sis_sync.run_due()')->{error}, undef, 'in a session that is read-only by default');
is(since($last), 'more bad SI004, more good succeeded', 'all are run');
is($node->value($db, q{SELECT next_run_at > now() FROM sis_sync.sync WHERE name = 'more good'}), 't', 'and moved');
$s->close;

# ----------
# Others at work
# ----------
$last = queue('w1' => 3, 'w2' => 2, 'w3' => 1);
$s = $node->session($db);
$s->query(q{BEGIN; SELECT sis_sync.stage('w1')});
my $editor = $node->session($db);
$editor->query(q{BEGIN; UPDATE sis_sync.sync SET deletion_threshold = 11 WHERE name = 'w2'});
is(run_due('', timeout => 60), '', 'another session runs one, and somebody edits another');
is(since($last), 'w2 succeeded, w3 succeeded', 'the first is left to it, the second is run');
$editor->query('COMMIT');
$s->query('ROLLBACK');
run_due('');
is(since($last), 'w2 succeeded, w3 succeeded, w1 succeeded', 'the second is not run again, the first is');
is($node->value($db, q{SELECT bool_and(due_at > now()) FROM sis_sync.due}), 't', 'none is due any more');
$editor->query(q{BEGIN; UPDATE sis_sync.sync SET next_run_at = NULL WHERE name = 'w2'; COMMIT;
	BEGIN; UPDATE sis_sync.sync SET deletion_threshold = 12 WHERE name = 'w2'});
run_due('', timeout => 60);
is(since($last), 'w2 succeeded, w3 succeeded, w1 succeeded', 'one without a time waits for who edits it');
$editor->query('COMMIT');
run_due('');
is(since($last), 'w2 succeeded, w3 succeeded, w1 succeeded, w2 succeeded', 'and is run then');

# One hangs in a trigger, as if its rows were locked for hours.
$last = queue('h1' => 3, 'h2' => 2, 'h3' => 1);
$node->run($db, q{
	CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  PERFORM FROM sis_sync.sync WHERE id = NEW.sync_id AND name = 'h1';
	  IF FOUND THEN PERFORM pg_advisory_xact_lock(1); END IF;
	  RETURN NULL;
	END $$;
	CREATE TRIGGER hang AFTER INSERT ON roster.school FOR EACH ROW EXECUTE FUNCTION public.hang()});
$editor->query('SELECT pg_advisory_lock(1)');
my $waits = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted};
for my $how ('terminate', 'cancel', 'timeout')
{
	my $worker = $node->session($db);

	$worker->query(q{SET statement_timeout = '3s'}) if $how eq 'timeout';
	$worker->send('CALL sis_sync.run_due()');
	$node->wait_until($db, $waits);
	run_due('', timeout => 60) if $how eq 'terminate';
	is(since($last), 'h1 running, h2 succeeded, h3 succeeded', 'the others are run by another worker')
	  if $how eq 'terminate';
	$node->value($db, "SELECT pg_${how}_backend(" . $worker->pid . ')') if $how ne 'timeout';
	my $error = $worker->wait->{error};
	is($error->{sqlstate}, $how eq 'terminate' ? '57P01' : '57014', "$how: the call ends") or diag(explain($error));
	$worker->close if $how ne 'terminate';
	$node->wait_until($db, q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	is($node->value($db, q{SELECT due_at <= now() FROM sis_sync.due WHERE sync = 'h1'}),
		$how eq 'terminate' ? 't' : 'f', $how eq 'terminate' ? 'the one that hung is due at once' : 'the one that hung waits');
	$node->run($db, q{UPDATE sis_sync.sync SET next_run_at = now() WHERE name = 'h1'}) if $how eq 'cancel';
}
is(since($last), 'h1 interrupted, h2 succeeded, h3 succeeded, h1 57014, h1 57014', 'the log tells how it went');
$editor->close;
$node->run($db, 'DROP TRIGGER hang ON roster.school');

# ----------
# Rights, and where it cannot run
# ----------
$last = queue('mine' => 2, 'theirs' => 3);
$node->run($db, q{
	CREATE ROLE worker LOGIN;
	CREATE SERVER private FOREIGN DATA WRAPPER sis_directory OPTIONS (path '} . $dir . q{');
	UPDATE sis_sync.sync SET server = 'private' WHERE name = 'theirs';
	GRANT USAGE ON SCHEMA sis_sync, roster TO worker;
	GRANT USAGE ON FOREIGN SERVER folder TO worker;
	GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA roster TO worker});
is($node->fails($db, 'CALL sis_sync.run_due()', role => 'worker')->{sqlstate}, '42501', 'EXECUTE is granted to nobody');
$node->run($db, 'GRANT EXECUTE ON PROCEDURE sis_sync.run_due(integer) TO worker');
is(run_due('', role => 'worker'), '', 'a role that may run one of two syncs');
is(since($last), 'mine succeeded', 'runs that one');
is($node->value($db, q{SELECT run_by FROM sis_sync.run ORDER BY id DESC LIMIT 1}), 'worker', 'as itself');
is(run_due(''), '', 'a role that may run the other');
is(since($last), 'mine succeeded, theirs succeeded', 'runs the other');

my $error = $node->fails($db, "BEGIN;\nCALL sis_sync.run_due()");
is($error->{sqlstate}, '25001', 'in a transaction block');
like($error->{message}, qr/^sis_sync\.run_due\(\) cannot run inside a transaction block$/, 'the message');
is($node->fails($db, "CALL sis_sync.run_due($_)")->{sqlstate}, '22023', "run_due($_)") for 0, -1;
run_due('NULL');

done_testing;
