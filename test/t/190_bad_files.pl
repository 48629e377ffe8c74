# Whatever a district uploads, however it comes: it loads whole, or rejects the
# row and loads the rest, or fails by name; and nothing is archived because of
# it.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/../lib";
use District;
use Encode qw(decode encode);
use File::Path qw(remove_tree);
use SampleSync;
use SisTest;
use Sshd;
use Zip;

my $node = SisTest->new->start;
my $db = $node->fresh_db('files');
my $STUDENTS = 200;
my $d = District->new(schools => 2, students => $STUDENTS, sections => 12,
	staff => 10, contacts => 40, enroll => 2);
my $good = $node->dir('good');
my $work = $node->dir('work');

# One student in two schools, one with values that must come through as text.
my %odd = (
	given => "=1+1 \\ O'Brien \"Quote\"",
	family => "Пётр 😀 e\x{301} \x{200F}א, Jr.",
	middle => "two\nlines",
	username => '1.23E+15',
	number => '007');
$d->set('student', 'stu-000150', map { $_ => encode('UTF-8', $odd{$_}) } keys %odd);
$d->set('student', 'stu-000151', schools => [ $d->ids('school', 0, 2) ]);
$d->set('student', 'stu-000152', grade => 'KG');
$d->write($good);

# ----------
# The ways it comes
# ----------
my $sshd = Sshd->new($node->dir('sshd'));
my $key = Sshd::key($node->dir('keys'), 'night', 'ed25519');
$sshd->authorize($key);
$sshd->start;

# Puts the files of a folder where a sync finds them.
my %deliver = (
	folder => sub { my ($s) = @_; clear($s->dir); copy($work, $s->dir); },
	zip => sub {
		my ($s) = @_;
		clear($s->dir);
		Zip::pack_folder($s->dir . '/export.zip', $work, prefix => 'export/');
	});
$deliver{sftp} = $deliver{folder};
$deliver{'sftp-zip'} = $deliver{zip};

my %sync;
for my $way (sort keys %deliver)
{
	my $s = SampleSync->new($node, $db, "by-$way", district => $d,
		set => { include_demographics => 'true' });

	by_sftp($s) if $way =~ /^sftp/;
	copy($good, $work);
	$deliver{$way}->($s);
	$s->run_succeeds('first load');
	$s->counts_are('first load', student => { created => $STUDENTS, rejected => 0 });
	$sync{$way} = $s;
}

# Has a sync read its folder by SFTP.
sub by_sftp
{
	my ($s) = @_;
	my $name = $s->{name};

	$node->run($db, qq{UPDATE sis_sync.sync SET server = '$name-host' WHERE name = '$name'});
	$node->run($db, sprintf q{CREATE SERVER "%s-host" FOREIGN DATA WRAPPER sis_sftp OPTIONS (host '127.0.0.1', port '%d', path '%s', host_key_sha256 '%s')},
		$name, $sshd->port, $s->dir, $sshd->fingerprint('ed25519'));
	$node->run($db, sprintf q{CREATE USER MAPPING FOR PUBLIC SERVER "%s-host" OPTIONS (username '%s', private_key '%s')},
		$name, $sshd->user, $key->{private});
	return;
}

sub clear { my ($dir) = @_; unlink grep { -f } glob "$dir/*"; return; }

sub copy
{
	my ($from, $to) = @_;

	clear($to);
	system('cp', glob("$from/*"), $to) == 0 or die "cp failed\n";
	return;
}

# ----------
# Editing files, as bytes
# ----------
sub slurp { return Zip::bytes("$work/$_[0].csv"); }

sub spew
{
	my ($file, $bytes) = @_;

	open my $out, '>:raw', "$work/$file" or die "$file: $!";
	print $out $bytes;
	close $out or die "$file: $!";
	return;
}

# edit(sub { … $_ … }, 'users'): changes the bytes of files, all by default.
sub edit
{
	my ($how, @files) = @_;

	return sub {
		for my $file (@files ? @files : map { m{(\w+)\.csv$} } glob "$work/*.csv")
		{
			local $_ = slurp($file);
			$how->();
			spew("$file.csv", $_);
		}
	};
}

# Changes the row of one ID, without its line end.
sub row
{
	my ($file, $id, $how) = @_;

	return edit(sub { s/^(\Q$id\E,[^\n]*)$/local $_ = $1; $how->(); $_/me or die "no $id"; }, $file);
}

sub set_field
{
	my ($file, $id, $place, $value) = @_;

	return row($file, $id, sub { $_ = District::with($place => $value)->($_); });
}

# Places of columns in users.csv and demographics.csv (1.1)
my ($ORGS, $ROLE, $GIVEN, $FAMILY, $EMAIL, $GRADE) = (4, 5, 8, 9, 12, 16);
my $BIRTH = 3;

# ----------
# It loads whole: a night of it changes nothing
# ----------
my @whole = (
	[ 'as it is' => sub { } ],
	[ 'a byte order mark' => edit(sub { s/^/\xEF\xBB\xBF/ }) ],
	[ 'CR LF' => edit(sub { s/(?<!two)\n/\r\n/g }) ],
	[ 'CR' => edit(sub { s/(?<!two)\n/\r/g }) ],
	[ 'mixed line ends' => edit(sub { my $n = 0; s/(?<!two)\n/("\r\n", "\n", "\r")[ $n++ % 3 ]/ge }) ],
	[ 'no line end at the end' => edit(sub { s/\n\z// }) ],
	[ 'headers in another case' => edit(sub { s/^([^\n]*)/\U$1/ }, 'users', 'orgs', 'enrollments') ],
	[ 'padded headers and values' => edit(sub { s/^([^\n]*)/join ' , ', split \/,\/, $1/e }, 'classes') ],
	[ 'an extra column, and one without a name' => edit(sub { s/^([^\n"]+)$/$1,more,/mg if !m{"}; }, 'enrollments') ],
	[ 'blank lines and lines of commas' => edit(sub { s/\n/\n\n,,,,\n   \n/ }, 'orgs', 'enrollments') ],
	[ 'the same row twice' => edit(sub { s/^(stu-000010,[^\n]*\n)/$1$1/m }, 'users') ],
	[ 'columns in another order' => sub {
			my @lines = map { [ split /,/, $_, -1 ] } split /\n/, slurp('enrollments');
			spew('enrollments.csv', join '', map { join(',', reverse @$_) . "\n" } @lines);
		} ],
	[ 'TRUE and Student' => edit(sub { s/,true,/,TRUE,/g; s/,student,/,Student,/g }, 'users') ],
	[ 'dates as in the US' => edit(sub { s/,(\d{4})-(\d\d)-(\d\d),/sprintf ',%d\/%d\/%d,', $2, $3, $1/ge }, 'demographics', 'academicSessions') ],
	[ 'two-digit years' => edit(sub { s/,20(\d\d)-(\d\d)-(\d\d),/sprintf ',%d\/%d\/%s,', $2, $3, $1/ge }, 'demographics') ],
	[ 'a manifest with fewer rows' => edit(sub { s/^file\.(categories|results|lineItems)[^\n]*\n//mg }, 'manifest') ],
	[ 'no manifest' => sub { unlink "$work/manifest.csv" } ],
	[ 'file names in another case' => sub { rename "$work/users.csv", "$work/Users.CSV" } ],
	[ 'other files beside them' => sub { spew('.users.csv', 'x'); spew('readme.txt', 'x'); } ]);

sub night
{
	my ($title, $way, $edit) = @_;
	my $s = $sync{$way};

	copy($good, $work);
	$edit->();
	$deliver{$way}->($s);
	return $s;
}

for my $case (@whole)
{
	my ($title, $edit) = @$case;

	for my $way (sort keys %sync)
	{
		my $s = night($title, $way, $edit);
		my $digest = $s->digest;

		$s->run_succeeds($title);
		is($s->digest, $digest, "$way: $title: nothing changed");
		$s->all_counts_are("$title: rejects", 'rejected');
	}
}

# The odd values came as they are.
for my $way (sort keys %sync)
{
	my $row = $node->hashes($db, $sync{$way}->sql("SELECT given_name, family_name, middle_name, username, student_number"
			  . " FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000150'"))->[0];

	is_deeply([ @$row{qw(given_name family_name middle_name username student_number)} ],
		[ @odd{qw(given family middle username number)} ], "$way: odd values are unchanged");
	is($sync{$way}->value("SELECT cardinality(school_source_ids) FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000151'"),
		2, "$way: a person in two schools");
}

# A character of several bytes across the border of any buffer: one column of
# a file grows by a byte a night.
for my $pad (0 .. 3)
{
	my $s = $sync{folder};
	copy($good, $work);
	my $text = slurp('users');
	my @lines = split /(?<!two)\n/, $text;
	$_ .= ',' . ('x' x $pad) . encode('UTF-8', 'é' x 400) for @lines[ 1 .. $#lines ];
	$lines[0] .= ',notes';
	spew('users.csv', join("\n", @lines) . "\n");
	$deliver{folder}->($s);
	my $digest = $s->digest;
	$s->run_succeeds("$pad bytes of padding");
	is($s->digest, $digest, "$pad bytes of padding: nothing changed");
	$s->all_counts_are("$pad bytes of padding: rejects", 'rejected');
}

# ----------
# One row is rejected, the rest loads; nothing is archived
# ----------
my @rejects = (
	[ 'bytes that are not UTF-8', 'student', 1, row('users', 'stu-000010', sub { s/s10@/\xFF\xFE@/ }) ],
	[ 'a zero byte', 'student', 1, row('users', 'stu-000011', sub { s/s11@/s\x0011@/ }) ],
	[ 'a row too short', 'student', 1, row('users', 'stu-000012', sub { s/,[^,]*,[^,]*$// }) ],
	[ 'a row too long', 'student', 1, row('users', 'stu-000013', sub { s/$/,more,still more/ }) ],
	[ 'no name', 'student', 1, sub { set_field('users', 'stu-000014', $GIVEN, '')->(); set_field('users', 'stu-000014', $FAMILY, '')->(); } ],
	[ 'no ID', 'student', 1, row('users', 'stu-000015', sub { s/^[^,]*// }) ],
	[ 'two rows of one ID', 'student', 1, edit(sub { s/^(stu-000016,)([^\n]*)\n/my ($a, $b) = ($1, $2); (my $c = $b) =~ s{s16\@}{other\@}; "$a$b\n$a$c\n"/me }, 'users') ],
	[ 'an enrollment without a role', 'enrollment', 1, set_field('enrollments', 'enr-0000010', 6, '') ],
	[ 'an enrollment of nobody', 'enrollment', 1, set_field('enrollments', 'enr-0000011', 5, 'nobody') ],
	[ 'an enrollment in no section', 'enrollment', 1, set_field('enrollments', 'enr-0000012', 3, 'nowhere') ]);

for my $case (@rejects)
{
	my ($title, $type, $n, $edit) = @$case;

	for my $way (sort keys %sync)
	{
		my $s = night($title, $way, $edit);
		my $digest = $s->digest;

		$s->run_succeeds($title);
		# a link to nothing protects nothing (design, rule 4)
		my $to_nothing = $title =~ /enrollment (of|in)/;

		$s->counts_are($title, $type => { rejected => $n });
		$s->all_counts_are("$title: archived", 'archived', $to_nothing ? ($type => 1) : ());
		is($s->value("SELECT count(*) FROM sis_sync.reject WHERE run_id = <run> AND record_type = '$type'"
				  . " AND NOT loaded AND line > 1 AND reason <> '' AND source LIKE '%.csv'"),
			$n, "$way: $title: file, line and reason are logged");
		is($s->digest, $digest, "$way: $title: nothing changed")
		  unless $to_nothing;
	}
}

# Put those enrollments back.
for my $way (sort keys %sync)
{
	night('as it was', $way, sub { });
	$sync{$way}->run_succeeds('as it was');
}

# Dates: what cannot be read is noted, and the row loads.
for my $case ([ 'day first' => '31/12/2010' ], [ 'not of the calendar' => '2011-02-30' ])
{
	for my $way (sort keys %sync)
	{
		my $s = night($case->[0], $way, set_field('demographics', 'stu-000020', $BIRTH, $case->[1]));
		my $born = "SELECT birth_date FROM <roster>.student WHERE sync_id = <id> AND source_id = 'stu-000020'";
		my $before = $s->value($born);

		$s->run_succeeds("a date $case->[0]");
		is($s->value($born), $before, "$way: a date $case->[0]: the stored one stays");
		$s->all_counts_are("a date $case->[0]: updated", 'updated');
		is($s->value('SELECT count(*) FROM sis_sync.reject WHERE run_id = <run> AND loaded'),
			1, "$way: a date $case->[0]: a note");
	}
}

# ----------
# The run fails by name, and nothing changes
# ----------
sub utf16 { return edit(sub { $_ = "\xFF\xFE" . encode('UTF-16LE', decode('UTF-8', $_)) }, @_); }

my @fails = (
	[ 'a quote that is never closed', 'SI006', row('users', 'stu-000010', sub { s/,([^,]*)$/,"$1/ }) ],
	[ 'a file cut in the middle of a row', 'SI007', edit(sub { $_ = substr($_, 0, length($_) - 30) }, 'enrollments') ],
	[ 'semicolons', 'SI006', edit(sub { tr/,/;/ }, 'users') ],
	[ 'tabs', 'SI006', edit(sub { tr/,/\t/ }, 'users') ],
	[ 'UTF-16', 'SI006', utf16('users'), qr/UTF-16/ ],
	[ 'a required column is missing', 'SI006', edit(sub { s/givenName|familyName/x/g }, 'users') ],
	[ 'a required file is missing', 'SI007', sub { unlink "$work/orgs.csv", "$work/manifest.csv" }, qr/orgs\.csv/ ],
	[ 'a file that the manifest names is missing', 'SI007', sub { unlink "$work/classes.csv" }, qr/classes\.csv/ ],
	[ 'a file without bytes', 'SI007', sub { spew('users.csv', '') }, qr/users\.csv/ ],
	[ 'a file with only a header', 'SI007', edit(sub { s/\n.*/\n/s }, 'enrollments') ],
	[ 'no file at all but orgs', 'SI007', sub { unlink grep { !/orgs/ } glob "$work/*.csv" } ],
	[ 'a web page', 'SI006', sub { spew('users.csv', "<!DOCTYPE html>\n<html><body>Log in</body></html>\n") }, qr/web page|HTML/i ],
	[ 'a field of 10 MB', 'SI006', row('users', 'stu-000010', sub { s/,([^,]*)$/",\"" . ('x' x 10_000_000) . '"'/e }) ],
	[ 'too many rejects', 'SI010', edit(sub { s/s(\d+)\@/\xFF$1\@/g }, 'users') ],
	[ 'names that differ by case', 'SI006', sub { spew('Orgs.csv', slurp('orgs')) }, qr/case/ ]);

for my $case (@fails)
{
	my ($title, $state, $edit, $like) = @$case;

	for my $way (sort keys %sync)
	{
		my $s = night($title, $way, $edit);
		my $digest = $s->digest;
		my $error = $s->run_ends_in($state, $title);

		is($s->digest, $digest, "$way: $title: nothing changed");
		like($error->{text} // '', $like, "$way: $title: says so") if $like;
	}
}

# ----------
# Zip files
# ----------
my $good_zip = "$good.zip";
Zip::pack_folder($good_zip, $good);
my $zip_bytes = Zip::bytes($good_zip);

sub zip_file { my ($name, $bytes) = @_; return sub { my ($dir) = @_; open my $out, '>:raw', "$dir/$name" or die $!; print $out $bytes; close $out or die $!; }; }

my %files = map { m{([^/]+)$} ? ($1 => Zip::bytes($_)) : () } glob "$good/*.csv";
my @zips = (
	[ 'files at the root', undef, sub { Zip::pack("$_[0]/a.zip", \%files) } ],
	[ 'stored, not packed', undef, sub { Zip::pack("$_[0]/a.zip", \%files, method => IO::Compress::Zip::ZIP_CM_STORE()) } ],
	[ 'in one folder, beside what a Mac adds', undef, sub { Zip::pack("$_[0]/a.zip", { (map { ("x/$_" => $files{$_}) } keys %files), '__MACOSX/x/._users.csv' => 'x', 'x/.DS_Store' => 'x' }) } ],
	[ 'in two folders', 'SI006', sub { Zip::pack("$_[0]/a.zip", { map { (/^[a-m]/ ? "x/$_" : "y/$_") => $files{$_} } keys %files }) } ],
	[ 'cut', 'SI007', zip_file('a.zip', substr($zip_bytes, 0, length($zip_bytes) * 0.7)) ],
	[ 'corrupt', qr/^SI00[67]$/, zip_file('a.zip', do { my $b = $zip_bytes; substr($b, 200, 40) = 'x' x 40; $b }) ],
	[ 'empty', 'SI007', zip_file('a.zip', '') ],
	[ 'no zip at all', 'SI006', zip_file('a.zip', '<html>please log in</html>' x 10) ],
	[ 'names with ../', 'SI006', sub { Zip::pack("$_[0]/a.zip", { %files, '../../users.csv' => 'x' }) } ],
	# just over the 64 MB from which a zip file may not unpack to so much more
	[ 'a bomb', 'SI006', sub { Zip::pack("$_[0]/a.zip", { %files, 'users.csv' => $files{'users.csv'} . ("\n" x (64 << 20)) }) } ],
	[ 'two zip files', 'SI006', sub { $_->("$_[0]") for zip_file('a.zip', $zip_bytes), zip_file('b.zip', $zip_bytes) } ],
	[ 'a zip file beside CSV files', 'SI006', sub { zip_file('a.zip', $zip_bytes)->($_[0]); zip_file('users.csv', $files{'users.csv'})->($_[0]) } ]);

for my $way (qw(zip sftp-zip))
{
	night('as it was', $way, sub { });
	$sync{$way}->run_succeeds('as it was');
}

for my $case (@zips)
{
	my ($title, $state, $make) = @$case;

	for my $way (qw(zip sftp-zip))
	{
		my $s = $sync{$way};
		my $digest = $s->digest;

		clear($s->dir);
		$make->($s->dir);
		if (!defined $state)
		{
			$s->run_succeeds("zip: $title");
			$s->all_counts_are("zip: $title: rejects", 'rejected');
		}
		elsif (ref $state)
		{
			my $error = $s->call // {};
			like($error->{sqlstate} // '', $state, "$way: zip: $title");
		}
		else
		{
			$s->run_ends_in($state, "zip: $title");
		}
		is($s->digest, $digest, "$way: zip: $title: nothing changed");
	}
}

# The zip file may be named itself.
for my $way (qw(zip sftp-zip))
{
	my $s = $sync{$way};
	my $server = $way eq 'zip' ? $s->{name} : "$s->{name}-host";
	my $digest = $s->digest;

	clear($s->dir);
	zip_file('tonight.zip', $zip_bytes)->($s->dir);
	zip_file('other.zip', 'x')->($s->dir);
	$node->run($db, sprintf q{ALTER SERVER "%s" OPTIONS (SET path '%s/tonight.zip')}, $server, $s->dir);
	$s->run_succeeds('a zip file by its name');
	is($s->digest, $digest, "$way: by its name: nothing changed");
	unlink $s->dir . '/tonight.zip';
	my $error = $s->run_ends_in('SI004', 'a zip file that is not there');
	like($error->{text}, qr/tonight\.zip/, "$way: names it");
	$node->run($db, sprintf q{ALTER SERVER "%s" OPTIONS (SET path '%s')}, $server, $s->dir);
}

# ----------
# Windows-1252
# ----------
sub to_1252 { return edit(sub { $_ = encode('cp1252', decode('UTF-8', $_), sub { '?' }) }, 'users'); }

# What has no place in it has another name here.
for my $kind (qw(student staff contact school))
{
	for my $id ($d->ids($kind))
	{
		my $record = $d->get($kind, $id);

		for my $field (grep { /given|family|middle|name/ } keys %$record)
		{
			my $value = decode('UTF-8', $record->{$field} // '');

			$d->set($kind, $id, $field => encode('UTF-8', 'Zoë'))
			  unless defined eval { encode('cp1252', $value, Encode::FB_CROAK | Encode::LEAVE_SRC) };
		}
	}
}
$d->write($good);

for my $way (sort keys %sync)
{
	my $s = $sync{$way};
	my $server = $way =~ /sftp/ ? "$s->{name}-host" : $s->{name};
	my $digest;

	night('plain again', $way, sub { });
	$s->run_succeeds('names that have a place in Windows-1252');
	$digest = $s->digest;

	night('Windows-1252', $way, to_1252());
	my $error = $s->run_ends_in('SI010', 'Windows-1252 without the option');
	like($error->{hint}, qr/WIN1252/, "$way: the hint names the option");
	is($s->digest, $digest, "$way: nothing changed");

	$node->run($db, qq{ALTER SERVER "$server" OPTIONS (ADD encoding 'WIN1252')});
	$s->run_succeeds('Windows-1252 with the option');
	like($s->last_run->{note}, qr/"users\.csv" was read as Windows-1252/, "$way: the run says so");
	is($s->digest, $digest, "$way: the same text");
	$s->all_counts_are('Windows-1252: rejects', 'rejected');

	night('UTF-8', $way, sub { });
	$s->run_succeeds('UTF-8 with the option');
	like($s->last_run->{note}, qr/"users\.csv" was read as UTF-8/, "$way: the run says so");
	is($s->digest, $digest, "$way: never broken text");

	night('both', $way, sub { to_1252()->(); row('users', 'stu-000010', sub { s/^((?:[^,]*,){8})[^,]*/$1Zo\xC3\xAB/ })->(); });
	$s->run_succeeds('one row of UTF-8 in Windows-1252');
	$s->counts_are('one row of UTF-8 in Windows-1252', student => { rejected => 1 });
	is($s->digest, $digest, "$way: and no broken text");
	$node->run($db, qq{ALTER SERVER "$server" OPTIONS (DROP encoding)});
}

$sshd->stop;
done_testing();
