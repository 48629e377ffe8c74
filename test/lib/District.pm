# District.pm
#	Sample school districts, made from a seed: no real person, no real school.
#
# A district is held in memory as records of ten kinds, changed between nights
# and written in one of three layouts:
#
#	my $d = District->new(seed => 1, schools => 2, students => 501);
#	$d->write($dir, layout => 'oneroster11');
#	$d->remove('student', $d->ids('student', 0, 50));
#	$d->write($dir, layout => 'oneroster11');
#
# The same seed and numbers make the same bytes on the same day (terms run
# around today), on any machine.  What a record is called depends on its serial
# number only, so that a record that joins or leaves does not change the others.
package District;

use strict;
use warnings;
use File::Path qw(make_path);

my @GIVEN = qw(
  Abril Anselm Asa Beatrix Bram Calla Cato Dagny Dario Edda Elio Esme Fenna
  Flora Gideon Greta Hale Ines Ivo Juno Kai Leif Lior Maren Milo Nadia Noor
  Odette Orla Otis Petra Quill Rafe Rhea Silas Sunniva Tamsin Teo Una Vito
  Wren Xanthe Yara Zev
  Adélie Björn Chloë Éloi Iñigo José Łucja Søren Zoë Ngọc);
my @FAMILY = (
	qw(
	  Abernethy Alderwick Ashgrove Bellweather Birkenau Bramblecote Calloway
	  Cattermole Cresswold Dunmore Eastlake Elderfield Fairweather Farrowby
	  Fenwright Galbraith Gorsewood Hartwell Hawksmoor Holloway Inglefield
	  Jessamine Kestrel Kirkbride Larkspur Lindqvist Lockridge Marchbanks
	  Merriwether Nightingale Northcote Oakhanger Ollerton Pemberton Pinewater
	  Quayle Ravensdale Redfern Saltmarsh Silverlode Stonebridge Tamworth
	  Thistlewood Underhill Vandermeer Wainwright Westerly Whitlock Yarrow
	  Zellweger),
	"D'Arcy", "O'Malley", 'de la Cruz', 'Núñez', 'Müller', 'Škoda', 'Holt, Jr.',
	'Oduya-Berg', 'Phạm');
my @PLACE = qw(
  Amber Birch Cedar Clover Dogwood Elm Fern Garnet Harbor Hazel Heron Ivy
  Juniper Lark Linden Maple Meadow Oriole Pebble Pine Quarry River Sage Spruce
  Tern Valley Willow Wren);
my @SUBJECT = (
	'Mathematics', 'English Language Arts', 'Science', 'Social Studies',
	'Art', 'Music', 'Physical Education', 'Spanish');
my @GRADE = qw(KG 01 02 03 04 05 06 07 08 09 10 11 12);

# In the order in which they are written.
my @KINDS = qw(
  school term course section student staff contact link enrollment);

# ----------
# Making a district
# ----------

# Options, all with a default: seed, schools, terms, courses, sections,
# students, staff, contacts (numbers); enroll (sections of each student, at
# most those of his school), teachers (false: sections have no teacher),
# term_start and term_end (YYYY-MM-DD).
sub new
{
	my ($class, %opt) = @_;
	my $self = bless {
		seed => $opt{seed} // 1,
		serial => {},
		index => { map { $_ => {} } @KINDS },
		map { $_ => [] } @KINDS
	}, $class;
	my ($year) = ($opt{term_end} // today(200)) =~ /^(\d{4})/;

	$self->{year} = $year;
	$self->{term_start} = $opt{term_start} // today(-100);
	$self->{term_end} = $opt{term_end} // today(200);
	$self->{district} = {
		id => sprintf('dist-%04d', $self->{seed}),
		number => sprintf('%05d', 90000 + $self->{seed}),
		name => $self->pick('district', 0, \@PLACE) . ' County Schools',
	};
	$self->add('school') for 1 .. $opt{schools} // 1;
	$self->add('term') for 1 .. $opt{terms} // 1;
	$self->add('course') for 1 .. $opt{courses} // 8;
	$self->spread('staff', $opt{staff} // 10);
	$self->spread('section', $opt{sections} // 10);
	$self->spread('student', $opt{students} // 100);
	$self->contacts_for($opt{contacts} // 0);
	$self->teach if $opt{teachers} // 1;
	$self->enroll_all($opt{enroll} // 4);
	return $self;
}

# A small district with what makes rows repeat: a teacher and a student at two
# schools, a second teacher in a section, two contacts of one student and a
# contact of two.
sub with_repeats
{
	my ($class) = @_;
	my $self = $class->new(seed => 7, schools => 2, students => 60, staff => 8,
		sections => 16, contacts => 60, enroll => 3);

	$self->set('staff', 'stf-00001', schools => [ 'sch-001', 'sch-002' ]);
	$self->set('student', 'stu-000001', schools => [ 'sch-001', 'sch-002' ]);
	$self->enroll('sec-00001', 'stf-00003', 'teacher', primary => 'false');
	$self->add('link', student => 'stu-000001', contact => 'con-000002');
	return $self;
}

# The date so many days from now, in UTC.
sub today
{
	my ($days) = @_;
	my @t = gmtime(time + 86400 * ($days // 0));

	return sprintf '%04d-%02d-%02d', $t[5] + 1900, $t[4] + 1, $t[3];
}

# A number from the seed, a kind and a serial number (FNV-1a, 32 bits).
sub number
{
	my ($self, $what, $serial) = @_;
	my $hash = 2166136261;

	for my $byte (unpack 'C*', "$self->{seed}/$what/$serial")
	{
		$hash = (($hash ^ $byte) * 16777619) & 0xFFFFFFFF;
	}
	return $hash ^ ($hash >> 15);
}

sub pick
{
	my ($self, $what, $serial, $list) = @_;

	return $list->[ $self->number($what, $serial) % @$list ];
}

# Adds a record; what is not given is made up.  Returns its ID.
sub add
{
	my ($self, $kind, %given) = @_;
	my $serial = ++$self->{serial}{$kind};
	my $make = "make_$kind";
	my $record = { %{ $self->$make($serial) }, %given };

	die "$kind $record->{id} is there already"
	  if exists $self->{index}{$kind}{ $record->{id} };
	push @{ $self->{$kind} }, $record;
	$self->{index}{$kind}{ $record->{id} } = $record;
	return $record->{id};
}

sub make_school
{
	my ($self, $n) = @_;

	return {
		id => sprintf('sch-%03d', $n),
		number => sprintf('%04d', 100 + $n),
		name => sprintf('%s %s School %d',
			$self->pick('school', $n, \@PLACE),
			(qw(Elementary Middle High))[ $n % 3 ], $n),
		state_id => sprintf('ST%05d', 30000 + $n),
		nces_id => sprintf('%012d', 990000100000 + $n),
		low_grade => 'Kindergarten',
		high_grade => '12',
		principal => $self->person_name('principal', $n),
		address => "$n Schoolhouse Lane",
		city => 'Lindenfield',
		state => 'VT',
		zip => sprintf('%05d', 5000 + $n),
		phone => sprintf('802-555-%04d', $n),
	};
}

sub make_term
{
	my ($self, $n) = @_;

	return {
		id => sprintf('term-%02d', $n),
		name => "Term $n",
		type => 'term',
		start => $self->{term_start},
		end => $self->{term_end},
		parent => undef,
		year => $self->{year},
	};
}

sub make_course
{
	my ($self, $n) = @_;
	my $subject = $SUBJECT[ $n % @SUBJECT ];
	my $grade = $GRADE[ $n % @GRADE ];

	return {
		id => sprintf('crs-%03d', $n),
		name => "$subject $grade",
		code => sprintf('C%04d', $n),
		grades => [$grade],
		subjects => [$subject],
	};
}

sub make_section
{
	my ($self, $n) = @_;
	my $course = $self->{course}[ $n % @{ $self->{course} } ];

	return {
		id => sprintf('sec-%05d', $n),
		code => sprintf('%05d-%s', $n, (qw(A B C D))[ $n % 4 ]),
		name => "$course->{name}, section $n",
		type => 'scheduled',
		course => $course->{id},
		school => $self->{school}[0]{id},
		terms => [ $self->{term}[0]{id} ],
		grades => $course->{grades},
		subjects => $course->{subjects},
		periods => [ 1 + $n % 7 ],
		location => sprintf('Room %d', 100 + $n % 50),
	};
}

sub make_student
{
	my ($self, $n) = @_;
	my $id = sprintf 'stu-%06d', $n;
	my $age = 5 + $n % 13;

	return {
		id => $id,
		number => sprintf('%07d', 12000 + $n),
		given => $self->pick('student given', $n, \@GIVEN),
		middle => $n % 3 ? '' : $self->pick('student middle', $n, \@GIVEN),
		family => $self->pick('student family', $n, \@FAMILY),
		preferred_given => '',
		preferred_family => '',
		username => "s$n",
		email => "s$n\@students.example.org",
		phone => '',
		grade => $GRADE[ $age - 5 ],
		birth => sprintf('%04d-%02d-%02d',
			$self->{year} - $age - 1, 1 + $n % 12, 1 + $n % 28),
		gender => (qw(female male))[ $self->number('gender', $n) % 2 ],
		schools => [ $self->{school}[0]{id} ],
		enabled => 'true',
	};
}

sub make_staff
{
	my ($self, $n) = @_;

	return {
		id => sprintf('stf-%05d', $n),
		number => sprintf('%05d', 4000 + $n),
		given => $self->pick('staff given', $n, \@GIVEN),
		middle => '',
		family => $self->pick('staff family', $n, \@FAMILY),
		username => "t$n",
		email => "t$n\@staff.example.org",
		phone => sprintf('802-555-%04d', 1000 + $n % 9000),
		title => 'Teacher',
		role => 'teacher',
		schools => [ $self->{school}[0]{id} ],
		enabled => 'true',
	};
}

sub make_contact
{
	my ($self, $n) = @_;

	return {
		id => sprintf('con-%06d', $n),
		given => $self->pick('contact given', $n, \@GIVEN),
		family => $self->pick('contact family', $n, \@FAMILY),
		username => "p$n",
		email => "p$n\@home.example.org",
		phone => sprintf('802555%04d', $n % 10000),
		role => (qw(parent guardian))[ $n % 2 ],
	};
}

sub make_link
{
	my ($self, $n) = @_;

	return {
		id => "link-$n",
		relationship => (qw(Mother Father Grandmother Guardian))[ $n % 4 ],
		type => 'Parent/Guardian',
	};
}

sub make_enrollment
{
	my ($self, $n) = @_;

	return {
		id => sprintf('enr-%07d', $n),
		role => 'student',
		primary => '',
		begin => '',
		end => '',
	};
}

sub person_name
{
	my ($self, $what, $n) = @_;

	return $self->pick("$what given", $n, \@GIVEN) . ' '
	  . $self->pick("$what family", $n, \@FAMILY);
}

# So many students, staff or sections, one school after the other in turn.
sub spread
{
	my ($self, $kind, $count) = @_;
	my @schools = map { $_->{id} } @{ $self->{school} };

	for my $i (0 .. $count - 1)
	{
		my $school = $schools[ $i % @schools ];

		$self->add($kind,
			$kind eq 'section' ? (school => $school) : (schools => [$school]));
	}
	return;
}

# So many contacts, for the students in turn, one each.
sub contacts_for
{
	my ($self, $count) = @_;
	my @students = $self->ids('student');

	for my $i (0 .. $count - 1)
	{
		my $contact = $self->add('contact');

		$self->add('link', student => $students[ $i % @students ],
			contact => $contact);
	}
	return;
}

# Gives each section without a teacher one of its school's staff.
sub teach
{
	my ($self) = @_;
	my (%staff, %next, %has);

	push @{ $staff{ $_->{schools}[0] } }, $_->{id} for @{ $self->{staff} };
	for my $e (@{ $self->{enrollment} })
	{
		$has{ $e->{section} } = 1 if $e->{role} eq 'teacher';
	}
	for my $section (@{ $self->{section} })
	{
		my $of = $staff{ $section->{school} } or next;

		next if $has{ $section->{id} };
		$self->enroll($section->{id}, $of->[ $next{ $section->{school} }++ % @$of ],
			'teacher', primary => 'true');
	}
	return;
}

# Enrolls each student in so many sections of the first of his schools.
sub enroll_all
{
	my ($self, $count) = @_;
	my (%sections, %at);

	push @{ $sections{ $_->{school} } }, $_->{id} for @{ $self->{section} };
	for my $student (@{ $self->{student} })
	{
		my $of = $sections{ $student->{schools}[0] } or next;
		my $first = $at{ $student->{schools}[0] }++;

		for my $i (0 .. ($count < @$of ? $count : @$of) - 1)
		{
			$self->enroll($of->[ ($first + $i) % @$of ], $student->{id});
		}
	}
	return;
}

sub enroll
{
	my ($self, $section, $person, $role, %given) = @_;

	return $self->add('enrollment', section => $section, person => $person,
		role => $role // 'student', %given);
}

# ----------
# Looking, and changing between nights
# ----------

# The IDs of a kind; with two more arguments, so many from a position on.
sub ids
{
	my ($self, $kind, $first, $count) = @_;
	my $list = $self->{$kind};

	return map { $_->{id} } @$list unless defined $first;
	return map { $list->[$_]{id} } $first .. $first + $count - 1;
}

sub get
{
	my ($self, $kind, $id) = @_;

	return $self->{index}{$kind}{$id} // die "no $kind $id";
}

sub count
{
	my ($self, $kind) = @_;

	return scalar @{ $self->{$kind} };
}

# Changes fields of a record.
sub set
{
	my ($self, $kind, $id, %fields) = @_;
	my $record = $self->get($kind, $id);

	@$record{ keys %fields } = values %fields;
	return $record;
}

# Drops records, and nothing but them.
sub drop
{
	my ($self, $kind, @ids) = @_;
	my %gone = map { $_ => 1 } @ids;

	delete $self->{index}{$kind}{$_} // die "no $kind $_" for keys %gone;
	@{ $self->{$kind} } = grep { !$gone{ $_->{id} } } @{ $self->{$kind} };
	return scalar keys %gone;
}

# Removes records with their enrollments and contact links; a contact goes
# with its last link.
sub remove
{
	my ($self, $kind, @ids) = @_;
	my %gone = map { $_ => 1 } @ids;
	my $end = { section => 'section', student => 'person', staff => 'person' }
	  ->{$kind};

	$self->drop($kind, @ids);
	if (defined $end)
	{
		$self->drop('enrollment', map { $_->{id} }
			  grep { $gone{ $_->{$end} } } @{ $self->{enrollment} });
	}
	if ($kind eq 'student' || $kind eq 'contact')
	{
		$self->drop('link', map { $_->{id} }
			  grep { $gone{ $_->{$kind} } } @{ $self->{link} });
	}
	if ($kind eq 'student')
	{
		my %linked = map { $_->{contact} => 1 } @{ $self->{link} };

		$self->drop('contact', map { $_->{id} }
			  grep { !$linked{ $_->{id} } } @{ $self->{contact} });
	}
	return;
}

# Moves students to other schools (the first one is the primary school), out
# of the sections of the schools they leave.
sub move
{
	my ($self, $schools, @ids) = @_;
	my %moves = map { $_ => 1 } @ids;
	my %at = map { $_ => 1 } @$schools;

	$self->set('student', $_, schools => [@$schools]) for @ids;
	$self->drop('enrollment', map { $_->{id} } grep {
		$moves{ $_->{person} }
		  && !$at{ $self->get('section', $_->{section})->{school} }
	} @{ $self->{enrollment} });
	return;
}

# Gives all enrollments new IDs, as an export that numbers its rows does.
sub renumber_enrollments
{
	my ($self) = @_;
	my $index = $self->{index}{enrollment} = {};

	for my $e (@{ $self->{enrollment} })
	{
		$e->{id} = $self->make_enrollment(++$self->{serial}{enrollment})->{id};
		$index->{ $e->{id} } = $e;
	}
	return;
}

# Gives records of a kind new IDs, as a source that was set up anew does: $new
# makes them of the old ones.  Who names them follows.  Without IDs: all.
sub rekey
{
	my ($self, $kind, $new, @ids) = @_;
	my %new = map { $_ => $new->($_) } @ids ? @ids : $self->ids($kind);
	my $index = $self->{index}{$kind};

	while (my ($old, $id) = each %new)
	{
		my $record = delete $index->{$old} // die "no $kind $old";

		$record->{id} = $id;
		$index->{$id} = $record;
	}
	for my $by ([ enrollment => $kind eq 'section' ? 'section' : 'person' ],
		[ link => $kind ])
	{
		my ($of, $field) = @$by;

		for my $record (@{ $self->{$of} })
		{
			my $id = $record->{$field} // next;

			$record->{$field} = $new{$id} // $id;
		}
	}
	return;
}

# Puts a new section, in that term, in the place of each one, with the same
# people in it: a change of terms.
sub replace_sections
{
	my ($self, $term) = @_;
	my %new;

	for my $old (map { {%$_} } @{ $self->{section} })
	{
		my $id = $old->{id};

		delete @$old{qw(id code)};
		$new{$id} = $self->add('section', %$old, terms => [$term]);
	}
	$self->drop('section', keys %new);
	$self->renumber_enrollments;
	$_->{section} = $new{ $_->{section} } for @{ $self->{enrollment} };
	return \%new;
}

# An independent copy.
sub copy
{
	my ($self) = @_;
	my $new = bless { %$self, serial => { %{ $self->{serial} } },
		district => { %{ $self->{district} } }, index => {} }, ref $self;

	for my $kind (@KINDS)
	{
		$new->{$kind} = [ map { {%$_} } @{ $self->{$kind} } ];
		$new->{index}{$kind} = { map { $_->{id} => $_ } @{ $new->{$kind} } };
	}
	return $new;
}

# ----------
# Writing
#
# Options of write():
#	layout		oneroster11 (default), oneroster12, clever
#	manifest	false: none (OneRoster; default: one)
#	modes		{ file => 'absent' | 'bulk' | … } in the manifest
#	leave_out	[ file, … ] not written; the manifest calls them absent unless
#				modes says otherwise
#	contacts	Clever: 'rows' (default), 'columns', or undef for none
#	clever_ids	Clever: false leaves Contact_sis_id out
#	columns		{ file => [ header, … ] } only these columns, in that order
#	eol, bom, quote		"\n", false; true quotes every value
#	reverse		rows in the opposite order
#	change		{ "file/ID" => sub { line → line or lines } } damages a row: it
#				gets its bytes without the end of the line
#	header		{ file => sub { line → line } }
#	append		{ file => [ bytes, … ] } more lines
#	enrollments	so many, streamed, in place of those in memory
#	mtime		of every file, in seconds since 1970
# Returns { file => { ID => line number } }, the header being line 1.
# ----------

sub write    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, $dir, %opt) = @_;
	my $layout = $opt{layout} //= 'oneroster11';
	my $method = $layout eq 'clever' ? 'clever_files' : 'oneroster_files';
	my %without = map { $_ => 1 } @{ $opt{leave_out} // [] };
	my (%lines, @written);

	make_path($dir);
	unlink glob "$dir/*.csv";
	for my $file ($self->$method(\%opt))
	{
		my ($name, $header, $rows) = @$file;

		next if $without{$name};
		$lines{$name} = $self->write_file($dir, $name, $header, $rows, \%opt);
		push @written, $name;
	}
	$self->write_manifest($dir, \@written, \%opt)
	  if $layout ne 'clever' && ($opt{manifest} // 1);
	if (defined $opt{mtime})
	{
		utime $opt{mtime}, $opt{mtime}, glob "$dir/*.csv";
	}
	return \%lines;
}

sub csv
{
	my ($quote, @values) = @_;

	return join ',', map {
		my $v = ref $_ ? join(',', @$_) : $_ // '';

		if ($quote || $v =~ /[",\r\n]/)
		{
			$v =~ s/"/""/g;
			$v = "\"$v\"";
		}
		$v;
	} @values;
}

# A change of a row for write(): puts values at places, counted from 0.
sub with
{
	my (%values) = @_;

	return sub {
		my ($line) = @_;
		my @fields;

		while ($line =~ /\G(?:"((?:[^"]|"")*)"|([^,]*))(,|$)/g)
		{
			my ($quoted, $plain, $more) = ($1, $2, $3);

			push @fields, defined $quoted ? $quoted =~ s/""/"/gr : $plain;
			last if $more eq '';
		}
		@fields[ keys %values ] = values %values;
		return csv(0, @fields);
	};
}

# Rows are [ ID, value, … ], or a sub that returns some lines more.
sub write_file
{
	my ($self, $dir, $name, $header, $rows, $opt) = @_;
	my $eol = $opt->{eol} // "\n";
	my $only = $opt->{columns}{$name};
	my (%line, @places);
	my $at = 1;

	if ($only)
	{
		my %place = map { $header->[$_] => $_ + 1 } 0 .. $#$header;

		@places = map { $place{$_} // die "no column $_ in $name" } @$only;
		$header = $only;
	}
	open my $out, '>:raw', "$dir/$name.csv" or die "$dir/$name.csv: $!";
	my $text = csv($opt->{quote}, @$header);
	$text = $opt->{header}{$name}->($text) if $opt->{header}{$name};
	print $out "\xEF\xBB\xBF" if $opt->{bom};
	print $out $text, $eol;
	$at += 1 + ($text =~ tr/\n//);

	my $emit = sub {
		my ($id, @values) = @{ $_[0] };

		@values = @{ $_[0] }[@places] if $only;

		my @texts = csv($opt->{quote}, @values);
		my $change = $opt->{change}{"$name/$id"};

		@texts = $change->(@texts) if $change;
		for my $text (@texts)
		{
			$line{$id} //= $at;
			$at += 1 + ($text =~ tr/\n//);
			print $out $text, $eol;
		}
	};

	if (ref $rows eq 'CODE')
	{
		while (my @some = $rows->())
		{
			print $out join($eol, @some), $eol;
		}
	}
	else
	{
		$emit->($_) for $opt->{reverse} ? reverse @$rows : @$rows;
	}
	for my $text (@{ $opt->{append}{$name} // [] })
	{
		print $out $text, $eol;
	}
	close $out or die "$dir/$name.csv: $!";
	return \%line;
}

sub write_manifest
{
	my ($self, $dir, $written, $opt) = @_;
	my $eol = $opt->{eol} // "\n";
	my %there = map { $_ => 1 } @$written;
	my @catalog = qw(academicSessions categories classes classResources courses
	  courseResources demographics enrollments lineItems orgs resources results
	  users);
	my $version = $opt->{layout} eq 'oneroster12' ? '1.2' : '1.1';

	push @catalog, qw(roles userProfiles userResources scoreScales
	  lineItemScoreScales resultScoreScales lineItemLearningObjectiveIds
	  resultLearningObjectiveIds)
	  if $version eq '1.2';
	open my $out, '>:raw', "$dir/manifest.csv" or die "$dir/manifest.csv: $!";
	print $out "\xEF\xBB\xBF" if $opt->{bom};
	print $out csv($opt->{quote}, @$_), $eol
	  for [qw(propertyName value)], [ 'manifest.version', '1.0' ],
	  [ 'oneroster.version', $version ], map {
		[ "file.$_", $opt->{modes}{$_} // ($there{$_} ? 'bulk' : 'absent') ]
	  } @catalog;
	print $out csv($opt->{quote}, 'source.systemName', 'Sample SIS'), $eol;
	close $out or die "$dir/manifest.csv: $!";
	return;
}

sub lead
{
	my ($record) = @_;

	return ($record->{id}, $record->{id}, $record->{status} // '',
		$record->{modified} // '');
}

# Lines of enrollments, a thousand at a time: none is held in memory.  No pair
# of section and student comes twice.
sub enrollment_stream
{
	my ($self, $count) = @_;
	my @students = $self->ids('student');
	my @sections = map { "$_->{id},$_->{school}" } @{ $self->{section} };
	my $n = 0;

	die "too few sections" if $count > @students * @sections;
	return sub {
		my @lines;

		while ($n < $count && @lines < 1000)
		{
			my $student = $n % @students;
			my $round = int($n / @students);
			my $section = $sections[ ($student + $round) % @sections ];

			push @lines, sprintf 'enr-%08d,,,%s,%s,student,,,', ++$n, $section,
			  $students[$student];
		}
		return @lines;
	};
}

sub oneroster_files
{
	my ($self, $opt) = @_;
	my $v12 = $opt->{layout} eq 'oneroster12';
	my $district = $self->{district};
	my @lead = qw(sourcedId status dateLastModified);
	my (%agents, %school_of, %contact_schools, @users, @roles, @demographics);

	for my $link (@{ $self->{link} })
	{
		push @{ $agents{ $link->{student} } }, $link->{contact};
		$contact_schools{ $link->{contact} }
		  { $self->{index}{student}{ $link->{student} }{schools}[0] // next } = 1;
	}
	$school_of{ $_->{id} } = $_->{school} for @{ $self->{section} };

	for my $kind (qw(student staff contact))
	{
		for my $p (@{ $self->{$kind} })
		{
			my $role = $kind eq 'student' ? 'student' : $p->{role};

			$role =~ s/^administrator$/siteAdministrator/ if $v12;

			my @at =
			    $kind eq 'contact' ? sort keys %{ $contact_schools{ $p->{id} } }
			  : @{ $p->{schools} };

			@at = ($district->{id}) unless @at;
			push @users,
			  [
				lead($p),
				$p->{enabled} // 'true',
				$v12 ? () : ([@at], $role),
				$p->{username},
				defined $p->{number} ? "{SIS:$p->{number}}" : '',
				@$p{qw(given family middle)},
				$p->{number},
				$p->{email},
				'',
				$p->{phone},
				$agents{ $p->{id} } // '',
				$p->{grade},
				$opt->{password} // '',
				$v12
				? ('', $p->{preferred_given}, '', $p->{preferred_family}, $at[0],
					'')
				: ()
			  ];
			for my $i ($v12 ? 0 .. $#at : ())
			{
				my $id = "$p->{id}-r$i";

				push @roles,
				  [
					$id, $id, $p->{status} // '', $p->{modified} // '',
					$p->{id}, $i ? 'secondary' : 'primary', $role, '', '',
					$at[$i], ''
				  ];
			}
			push @demographics,
			  [ lead($p), $p->{birth}, $p->{gender}, ('') x 11 ]
			  if $kind eq 'student';
		}
	}

	my $enrollments =
	  defined $opt->{enrollments}
	  ? $self->enrollment_stream($opt->{enrollments})
	  : [
		map {
			[
				lead($_), $_->{section},
				$school_of{ $_->{section} } // $_->{school},
				@$_{qw(person role primary begin end)}
			]
		} @{ $self->{enrollment} }
	  ];

	return (
		[
			'orgs',
			[ @lead, qw(name type identifier parentSourcedId) ],
			[
				[ lead($district), @$district{qw(name)}, 'district',
					$district->{number}, '' ],
				map {
					[ lead($_), $_->{name}, $_->{type} // 'school',
						$_->{number}, $district->{id} ]
				} @{ $self->{school} }
			]
		],
		[
			'academicSessions',
			[
				@lead, qw(title type startDate endDate parentSourcedId schoolYear)
			],
			[
				map { [ lead($_), @$_{qw(name type start end parent year)} ] }
				  @{ $self->{term} }
			]
		],
		[
			'courses',
			[
				@lead, qw(schoolYearSourcedId title courseCode grades orgSourcedId
				  subjects subjectCodes)
			],
			[
				map {
					[
						lead($_), '', @$_{qw(name code grades)},
						$_->{school} // $district->{id}, $_->{subjects}, ''
					]
				} @{ $self->{course} }
			]
		],
		[
			'classes',
			[
				@lead, qw(title grades courseSourcedId classCode classType location
				  schoolSourcedId termSourcedIds subjects subjectCodes periods)
			],
			[
				map {
					[
						lead($_),
						@$_{qw(name grades course code type location school terms
							  subjects)},
						'', $_->{periods}
					]
				} @{ $self->{section} }
			]
		],
		[
			'users',
			[
				@lead, 'enabledUser', $v12 ? () : qw(orgSourcedIds role),
				qw(username userIds givenName familyName middleName identifier
				  email sms phone agentSourcedIds grades password),
				$v12
				? qw(userMasterIdentifier preferredGivenName preferredMiddleName
				  preferredFamilyName primaryOrgSourcedId pronouns)
				: ()
			],
			\@users
		],
		$v12
		? [
			'roles',
			[
				@lead, qw(userSourcedId roleType role beginDate endDate
				  orgSourcedId userProfileSourcedId)
			],
			\@roles
		  ]
		: (),
		[
			'enrollments',
			[
				@lead, qw(classSourcedId schoolSourcedId userSourcedId role primary
				  beginDate endDate)
			],
			$enrollments
		],
		[
			'demographics',
			[
				@lead, qw(birthDate sex americanIndianOrAlaskaNative asian
				  blackOrAfricanAmerican nativeHawaiianOrOtherPacificIslander white
				  demographicRaceTwoOrMoreRaces hispanicOrLatinoEthnicity
				  countryOfBirthCode stateOfBirthAbbreviation cityOfBirth
				  publicSchoolResidenceStatus)
			],
			\@demographics
		]);
}

# MM/DD/YYYY, as the exports write it.
sub us_date
{
	my ($date) = @_;

	return ($date // '') =~ /^(\d+)-(\d+)-(\d+)$/ ? "$2/$3/$1" : $date;
}

sub clever_files
{
	my ($self, $opt) = @_;
	my $contacts = exists $opt->{contacts} ? $opt->{contacts} : 'rows';
	my @contact_columns =
	  qw(Contact_relationship Contact_type Contact_name Contact_phone
	  Contact_phone_type Contact_email Contact_sis_id);
	my (%contacts_of, %teachers, %sections_of, @students, $most);

	$most = 0;
	for my $link (@{ $self->{link} })
	{
		my $c = $self->get('contact', $link->{contact});
		my $of = $contacts_of{ $link->{student} } //= [];

		push @$of,
		  [
			@$link{qw(relationship type)}, "$c->{given} $c->{family}",
			$c->{phone}, 'Cell', $c->{email},
			($opt->{clever_ids} // 1) ? $c->{id} : ''
		  ];
		$most = @$of if @$of > $most;
	}
	for my $e (@{ $self->{enrollment} })
	{
		next if $e->{role} ne 'teacher';
		if ($e->{primary} eq 'true')
		{
			unshift @{ $teachers{ $e->{section} } }, $e->{person};
		}
		else
		{
			push @{ $teachers{ $e->{section} } }, $e->{person};
		}
	}

	my @header = (
		qw(School_id Student_id Student_number State_id Last_name Middle_name
		  First_name Grade Gender DOB Student_email Username),
		$contacts ? @contact_columns : ());
	if (($contacts // '') eq 'columns')
	{
		for my $i (2 .. $most)
		{
			push @header, map { "${_}_$i" } @contact_columns;
		}
	}
	for my $s (@{ $self->{student} })
	{
		my @of = @{ $contacts_of{ $s->{id} } // [] };

		for my $school (@{ $s->{schools} })
		{
			my @base = (
				$s->{id}, $school, @$s{qw(id number state_id family middle given)},
				$s->{grade}, $s->{gender} ? uc substr($s->{gender}, 0, 1) : '',
				us_date($s->{birth}), @$s{qw(email username)});

			if (!$contacts)
			{
				push @students, \@base;
			}
			elsif ($contacts eq 'columns')
			{
				push @students,
				  [ @base, (map { @$_ } @of), ('') x (7 * (($most || 1) - @of)) ];
			}
			else
			{
				push @students, [ @base, @$_ ] for @of ? @of : [ ('') x 7 ];
			}
		}
	}

	my (@teachers, @staff);
	for my $s (@{ $self->{staff} })
	{
		for my $school (@{ $s->{schools} })
		{
			if ($s->{role} eq 'teacher')
			{
				push @teachers,
				  [
					$s->{id}, $school, @$s{qw(id number state_id email family
						  middle given title username)}
				  ];
			}
			else
			{
				push @staff,
				  [
					$s->{id}, $school, @$s{qw(id email given family)}, 'Office',
					@$s{qw(title username)}, ''
				  ];
			}
		}
	}

	return (
		[
			'schools',
			[
				qw(School_id School_name School_number State_id Nces_id Low_grade
				  High_grade Principal Principal_email School_address School_city
				  School_state School_zip School_phone)
			],
			[
				map {
					[
						$_->{id}, @$_{qw(id name number state_id nces_id low_grade
							  high_grade principal)},
						"principal\@" . lc($_->{id}) . '.example.org',
						@$_{qw(address city state zip phone)}
					]
				} @{ $self->{school} }
			]
		],
		[ 'students', \@header, \@students ],
		[
			'teachers',
			[
				qw(School_id Teacher_id Teacher_number State_teacher_id
				  Teacher_email Last_name Middle_name First_name Title Username)
			],
			\@teachers
		],
		[
			'staff',
			[
				qw(School_id Staff_id Staff_email First_name Last_name Department
				  Title Username Role)
			],
			\@staff
		],
		[
			'sections',
			[
				qw(School_id Section_id Teacher_id Teacher_2_id Teacher_3_id Name
				  Section_number Grade Course_name Course_number Period Subject
				  Term_name Term_start Term_end)
			],
			[
				map {
					my $course = $self->get('course', $_->{course});
					my $term = $self->get('term', $_->{terms}[0]);
					my @t = @{ $teachers{ $_->{id} } // [] };

					[
						$_->{id}, $_->{school}, $_->{id}, @t[ 0 .. 2 ],
						@$_{qw(name code)}, $_->{grades}[0],
						@$course{qw(name code)}, $_->{periods}[0],
						$_->{subjects}[0], $term->{name},
						us_date($term->{start}), us_date($term->{end})
					]
				} @{ $self->{section} }
			]
		],
		[
			'enrollments',
			[qw(School_id Section_id Student_id)],
			[
				map {
					[
						$_->{id}, $self->get('section', $_->{section})->{school},
						@$_{qw(section person)}
					]
				  } grep { $_->{role} eq 'student' } @{ $self->{enrollment} }
			]
		]);
}

1;
