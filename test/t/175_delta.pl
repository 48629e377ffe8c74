# Packages of changes (OneRoster CSV delta): the same result as whole files of
# the same night, and deletions that are held back are not lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Delta;
use District;
use SampleSync;
use SisTest;

my $node = SisTest->new->start;
my $db = $node->fresh_db('delta');

# Two syncs of one district: one reads whole files, the other their changes.
sub pair
{
	my ($name, $d, %opt) = @_;
	my %write = (layout => $opt{layout} // 'oneroster11');
	my ($whole, $delta) = map {
		SampleSync->new($node, $db, "$name-$_", district => $d,
			write => \%write, schools => $opt{schools}, set => $opt{set} // {})
	} qw(whole delta);

	$_->succeeds('first load') for $whole, $delta;
	return ($whole, $delta);
}

# Writes the district whole for the one, its changes for the other.
my $n = 0;

sub write_night
{
	my ($whole, $delta, %opt) = @_;
	my $old = $node->dir('old' . ++$n);

	system('cp', '-a', glob($whole->dir . '/*.csv'), $old) == 0 or die 'cp';
	$whole->write;
	Delta::write($old, $whole->dir, $delta->dir, %opt);
	return;
}

# What the sync's rows hold, whenever and by which run they were written.
sub content
{
	my ($s) = @_;
	my %rows;

	for my $type (@SampleSync::TYPES)
	{
		$rows{$type} = $s->rows("SELECT t.source_id, to_jsonb(t) - 'sync_id' - 'created_at' - 'updated_at'"
			  . " - 'archived_at' - 'created_run' - 'updated_run' - 'archived_run' - 'restored_run'"
			  . " - 'fingerprint' - 'archived_reason' || jsonb_build_object('live', t.archived_at IS NULL)"
			  . " FROM <roster>.$type t WHERE sync_id = <id> ORDER BY 1");
	}
	return \%rows;
}

sub same_night
{
	my ($title, $whole, $delta) = @_;
	my @columns = qw(created updated restored archived to_archive in_force
	  allowed);

	$whole->run_succeeds("$title: whole files");
	$delta->run_succeeds("$title: changes");
	my ($w, $c) = map {
		$node->counts($db, $_->last_run->{id})
	} $whole, $delta;
	for my $type (@SampleSync::TYPES)
	{
		is_deeply({ map { $_ => $c->{$type}{$_} } @columns },
			{ map { $_ => $w->{$type}{$_} } @columns }, "$title: $type");
	}
	is_deeply(content($delta), content($whole), "$title: the same roster");
	return;
}

# ----------
# Night after night
# ----------
for my $layout (qw(oneroster11 oneroster12))
{
	my $d = District->new(schools => 3, students => 300, sections => 30,
		staff => 20, contacts => 120, enroll => 3);
	my ($whole, $delta) = pair($layout, $d, layout => $layout,
		set => { include_demographics => 'true' });

	$d->set('student', $_, given => 'Renamed', birth => '2011-03-04')
	  for $d->ids('student', 0, 8);
	$d->remove('student', $d->ids('student', 20, 6));
	$d->remove('staff', $d->ids('staff', 3, 1));
	$d->add('student', schools => [ $d->ids('school', 0, 1) ]) for 1 .. 4;
	$d->drop('enrollment', $d->ids('enrollment', 100, 11));
	write_night($whole, $delta);
	same_night("$layout: a busy night", $whole, $delta);

	write_night($whole, $delta, leave_out => [qw(orgs courses enrollments)]);
	same_night("$layout: nothing changed, files absent", $whole, $delta);

	# a contact's last link, one of two links, a link that is new
	my @links = @{ $d->{link} };
	my %of;
	push @{ $of{ $_->{student} } }, $_ for @links;
	my ($two) = grep { @{ $of{$_} } > 1 } sort keys %of;
	my ($one) = grep { @{ $of{$_} } == 1 } sort keys %of;

	# in 1.2 the student's row alone takes no link away: see carry.c
	$d->drop('link', map { $_->{id} } $two ? $of{$two}[0] : (), $of{$one}[0])
	  if $layout eq 'oneroster11';
	$d->add('link', student => $d->ids('student', 150, 1),
		contact => $of{$one}[0]{contact});
	write_night($whole, $delta);
	same_night("$layout: links of contacts", $whole, $delta);

	# a student moves, a teacher gets a second school
	my ($s1, $s2) = $d->ids('school', 0, 2);
	my ($mover) = grep { $d->get('student', $_)->{schools}[0] eq $s1 }
	  $d->ids('student', 30, 200);

	# a role that changes its school in place is one more role (1.2: what it
	# was is not stored), until whole files come
	$d->move([$s2], $mover) if $layout eq 'oneroster11';
	my ($teacher) = grep { @{ $d->get('staff', $_)->{schools} } == 1
		  && $d->get('staff', $_)->{schools}[0] eq $s1 } $d->ids('staff', 0, 15);
	$d->set('staff', $teacher, schools => [ $s1, $s2 ]);
	write_night($whole, $delta);
	same_night("$layout: schools change", $whole, $delta);
	$d->set('staff', $teacher, schools => [$s1]);
	write_night($whole, $delta);
	same_night("$layout: and change back", $whole, $delta);
}

# Some schools only: those who move out of scope leave, and come back.
{
	my $d = District->new(schools => 2, students => 200, sections => 20,
		staff => 10, contacts => 60, enroll => 2);
	my ($a, $b) = $d->ids('school', 0, 2);
	my ($whole, $delta) = pair('scope', $d, set => { deletion_threshold => 30 },
		schools => [ $d->get('school', $a)->{number} ]);
	my @movers = (grep { $d->get('student', $_)->{schools}[0] eq $a }
		$d->ids('student'))[ 0 .. 4 ];

	$d->move([$b], @movers);
	write_night($whole, $delta);
	same_night('some move out', $whole, $delta);
	$d->move([$a], @movers);
	write_night($whole, $delta);
	same_night('and come back', $whole, $delta);
}

# A user whose role changes is no longer what he was.
{
	my $d = District->new(schools => 1, students => 60, sections => 4,
		staff => 10, contacts => 0, enroll => 1);
	my ($whole, $delta) = pair('role', $d);
	my ($id) = $d->ids('student', 5, 1);
	my $as_staff = sub {
		(my $line = $_[0]) =~ s/,"?student"?,/,teacher,/;
		return $line;
	};

	my $old = $node->dir('role-old');
	system('cp', '-a', glob($whole->dir . '/*.csv'), $old);
	$whole->write(change => { "users/$id" => $as_staff });
	Delta::write($old, $whole->dir, $delta->dir);
	same_night('a student becomes a teacher', $whole, $delta);
	is($delta->value("SELECT count(*) FROM <roster>.staff WHERE sync_id = <id> AND source_id = '$id'"),
		1, 'he is staff now');
}

# ----------
# Deletions held back
# ----------
{
	my $d = District->new(schools => 1, students => 500, sections => 10,
		staff => 10, contacts => 0, enroll => 2);
	my ($whole, $delta) = pair('held', $d);
	my @gone = $d->ids('student', 0, 60);
	my $first = $node->dir('held-first');
	my $error;

	$d->write($first);

	$d->remove('student', @gone);
	write_night($whole, $delta);
	$error = $delta->run_ends_in('SI001', 'night 1 deletes 60');
	like($error->{message}, qr/\b60 of 500\b.*\ballows 50\b/, 'night 1: 60 of 500');
	is($delta->value("SELECT count(*) FROM sis_sync.pending_archive WHERE run_id = <run> AND record_type = 'student'"),
		60, 'night 1: 60 are held');

	write_night($whole, $delta, leave_out => ['orgs']);
	$error = $delta->run_ends_in('SI001', 'night 2: an empty delta without orgs');
	like($error->{message}, qr/\b60 of 500\b.*\ballows 50\b/, 'night 2: the same');
	is($delta->list("SELECT source_id FROM sis_sync.pending_archive WHERE run_id = <run> AND record_type = 'student'"),
		join(' ', sort @gone), 'night 2: the same 60');

	# one of them is seen active again, and one more goes
	my $back = $gone[0];
	my ($more) = $d->ids('student', 0, 1);
	$d->remove('student', $more);
	write_night($whole, $delta, leave_out => ['orgs']);
	my (undef, $were) = Delta::read_file("$first/users.csv");
	open my $out, '>>:raw', $delta->dir . '/users.csv' or die "users.csv: $!";
	print $out "$were->{$back}\n";
	close $out or die "users.csv: $!";
	$error = $delta->run_ends_in('SI001', 'night 3: one is back, another goes');
	is($delta->list("SELECT source_id FROM sis_sync.pending_archive WHERE run_id = <run> AND record_type = 'student'"),
		join(' ', sort $more, @gone[ 1 .. 59 ]), 'night 3: these are held');

	$node->run($db, "INSERT INTO sis_sync.sync_threshold (sync, record_type, percent) VALUES ('held-delta', 'student', 20)");
	write_night($whole, $delta, leave_out => ['orgs']);
	$delta->run_succeeds('night 4: the threshold is raised');
	# his two enrollments were deleted by name, and have not come back
	$delta->counts_are('night 4', student => { archived => 60, to_archive => 60 },
		enrollment => { archived => 122 });
	is($delta->value("SELECT count(*) FROM sis_sync.pending_delete WHERE sync = 'held-delta'"),
		0, 'nothing waits any more');
	is($delta->value("SELECT archived_at IS NULL FROM <roster>.student WHERE sync_id = <id> AND source_id = '$back'"),
		't', 'the one who came back is there');
	write_night($whole, $delta, leave_out => ['orgs']);
	$delta->run_succeeds('night 5: nothing');
	$delta->counts_are('night 5', student => { archived => 0, in_force => 440, to_archive => 0 });
}

# The four steps in four transactions: archive() fails, and the deletions wait.
{
	my $d = District->new(schools => 1, students => 100, sections => 4,
		staff => 4, contacts => 0, enroll => 1);
	my ($whole, $delta) = pair('steps', $d);

	$d->remove('student', $d->ids('student', 0, 20));
	write_night($whole, $delta);
	my $run = $node->value($db, "SELECT sis_sync.stage('steps-delta')");
	$node->run($db, "SELECT sis_sync.$_($run)") for qw(verify apply);
	my (undef, $err, $code) = $node->try($db, "SELECT sis_sync.archive($run)");
	like($err, qr/20 of 100/, 'four steps: archive() raises');
	write_night($whole, $delta);
	my $error = $delta->run_ends_in('SI001', 'the next night');
	like($error->{message}, qr/20 of 100/, 'the same 20 are held');
}

# ----------
# What is no good package
# ----------
{
	my $d = District->new(schools => 1, students => 60, sections => 4,
		staff => 4, contacts => 0, enroll => 1);
	my $s = SampleSync->new($node, $db, 'fresh', district => $d);
	my $whole = $node->dir('fresh-whole');

	$d->write($whole);
	$d->add('student', schools => [ $d->ids('school', 0, 1) ]);
	$d->write("$whole-2");
	Delta::write($whole, "$whole-2", $s->dir);
	my $error = $s->run_ends_in('SI007', 'changes before anything whole');
	like($error->{message}, qr/never had whole files/, 'says so');
	is($s->value('SELECT count(*) FROM <roster>.student WHERE sync_id = <id>'),
		0, 'and changes nothing');

	$s->succeeds('whole files');
	Delta::write($whole, "$whole-2", $s->dir);
	unlink $s->dir . '/users.csv';
	$s->run_ends_in('SI007', 'a file of changes is missing');
	Delta::write($whole, "$whole-2", $s->dir);
	$s->do("INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ('fresh', 'nowhere')");
	$s->run_ends_in('SI003', 'a package of changes fails');
	my $failed = $s->last_run->{id};
	$s->do("DELETE FROM sis_sync.sync_school WHERE sync = 'fresh'");
	$s->run_succeeds('the next one does not');
	like($s->last_run->{note}, qr/1 package\(s\) of changes failed .* in run $failed:/, 'and says that one is missing');
	Delta::write($whole, "$whole-2", $s->dir);
	open my $out, '>', $s->dir . '/users.csv';
	close $out;
	$s->run_ends_in('SI007', 'a file of changes has no bytes');
	Delta::write($whole, "$whole-2", $s->dir, leave_out => [qw(users orgs classes enrollments)]);
	$s->run_succeeds('no file of people at all');
	$s->counts_are('nothing happens', student => { archived => 0, created => 0, in_force => 61 });
}

done_testing();
