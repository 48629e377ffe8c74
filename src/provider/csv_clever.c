/*
 * csv_clever.c
 *		The layout of a CSV set that districts upload to Clever.
 *
 * It has no files for terms, courses, contacts and who teaches what: these
 * stand as columns in the rows of sections and students, and their IDs are
 * made of what names them.  A student with two contacts or two schools, and a
 * member of staff at two schools, has two rows; such records are put once for
 * each row, to be united.
 */
#include "postgres.h"

#include "base/textlist.h"
#include "provider/csvset.h"
#include "provider/links.h"

#define MAX_TEACHERS	10
#define MAX_CONTACTS	10		/* on one row */

/* What is kept through a set: columns and buffers that functions fill. */
typedef struct Clever
{
	int			staff_roles;
	int			section_course;
	int			section_terms;
	int			section_name;
	int			contact_name;
	int			contact_email;
	int			contact_phones;
	SisLinks	links;
	StringInfoData term_id;
	StringInfoData course_id;
	StringInfoData contact_id;
} Clever;

static void
set(SisRecord *record, int column, SisValue value)
{
	sis_record_set(record, column, value.data, value.len);
}

/* Puts the record of a row that the layout may repeat. */
static void
put_repeated(SisCsvTable *table)
{
	table->record->repeats = true;
	sis_csv_put(table);
}

/* ----------
 * schools.csv
 * ----------
 */

static const SisCsvColumn school_columns[] = {
	/* header							school */
	{"School_id", SIS_CSV_REQUIRED, {"source_id sis_id"}},
	{"School_name", SIS_CSV_REQUIRED, {"name"}},
	{"School_number", 0, {"school_number"}},
	{"State_id", 0, {"state_id"}},
	{"Nces_id", 0, {"nces_id"}},
	{"Low_grade", 0, {"low_grade"}},
	{"High_grade", 0, {"high_grade"}},
	{"Principal", 0, {"principal_name"}},
	{"Principal_email", 0, {"principal_email"}},
	{"School_address", 0, {"address"}},
	{"School_city", 0, {"city"}},
	{"School_state", 0, {"state"}},
	{"School_zip", 0, {"zip"}},
	{"School_phone", 0, {"phone"}}
};

/* ----------
 * students.csv: students and their contacts
 * ----------
 */

/* The columns of a contact; on one row there may be several of them. */
enum
{
	CONTACT_NAME,
	CONTACT_RELATIONSHIP,
	CONTACT_TYPE,
	CONTACT_PHONE,
	CONTACT_EMAIL,
	CONTACT_SIS_ID,
	N_CONTACT_COLUMNS
};

enum
{
	STUDENT_ID,
	STUDENT_CONTACTS,
	STUDENT_REST = STUDENT_CONTACTS + MAX_CONTACTS * N_CONTACT_COLUMNS
};

#define CONTACT_COLUMNS(name, relationship, type, phone, email, sis_id) \
	/* header							student, contact, student_contact */ \
	{name, SIS_CSV_NAMES, {NULL, "*family_name", "*contact_source_id"}}, \
	{relationship, 0, {NULL, NULL, "*relationship"}}, \
	{type, 0, {NULL, NULL, "*contact_type"}}, \
	{phone, 0, {NULL, "*phones"}}, \
	{email, 0, {NULL, "*email"}}, \
	{sis_id, 0, {NULL, "*sis_id"}}

#define NUMBERED(part, n)	"Contact_" #part "_" #n "|Contact_" #n "_" #part

#define NUMBERED_CONTACT(n) \
	CONTACT_COLUMNS(NUMBERED(name, n), NUMBERED(relationship, n), \
					NUMBERED(type, n), NUMBERED(phone, n), \
					NUMBERED(email, n), NUMBERED(sis_id, n))

static const SisCsvColumn student_columns[] = {
	{"Student_id", SIS_CSV_REQUIRED,
	{"source_id sis_id", NULL, "*student_source_id"}},
	CONTACT_COLUMNS("Contact_name|Contact_name_1|Contact_1_name",
					"Contact_relationship|Contact_relationship_1|Contact_1_relationship",
					"Contact_type|Contact_type_1|Contact_1_type",
					"Contact_phone|Contact_phone_1|Contact_1_phone",
					"Contact_email|Contact_email_1|Contact_1_email",
					"Contact_sis_id|Contact_sis_id_1|Contact_1_sis_id"),
	NUMBERED_CONTACT(2),
	NUMBERED_CONTACT(3),
	NUMBERED_CONTACT(4),
	NUMBERED_CONTACT(5),
	NUMBERED_CONTACT(6),
	NUMBERED_CONTACT(7),
	NUMBERED_CONTACT(8),
	NUMBERED_CONTACT(9),
	NUMBERED_CONTACT(10),
	{"School_id", 0, {"school_source_id school_source_ids"}},
	{"Student_number", 0, {"student_number"}},
	{"State_id", 0, {"state_id"}},
	{"First_name", SIS_CSV_ONE_OF, {"given_name"}},
	{"Last_name", SIS_CSV_ONE_OF, {"family_name"}},
	{"Middle_name", 0, {"middle_name"}},
	{"Grade", 0, {"grade"}},
	{"Gender", 0, {"gender"}},
	{"DOB", 0, {"birth_date"}},
	{"Student_email", 0, {"email"}},
	{"Username", 0, {"username"}}
};

StaticAssertDecl(lengthof(student_columns) > STUDENT_REST,
				 "the columns of contacts follow the student's ID");

static SisValue
contact_value(const SisCsvTable *table, int n, int part)
{
	return sis_csv_value(table,
						 STUDENT_CONTACTS + n * N_CONTACT_COLUMNS + part);
}

/*
 * Puts a contact and the link to the student.  As in Clever's API the whole
 * name is the family name: nobody can tell where to part it.  Without an ID
 * of the district's, a contact is the student's person of that name.
 */
static void
put_contact(SisCsvTable *table, int n)
{
	Clever	   *state = table->state;
	SisValue	student = sis_csv_value(table, STUDENT_ID);
	SisValue	name = contact_value(table, n, CONTACT_NAME);
	SisValue	sis_id = contact_value(table, n, CONTACT_SIS_ID);
	SisValue	phone = contact_value(table, n, CONTACT_PHONE);
	SisValue	contact = sis_id;
	SisValue	parts[2];
	SisRecord  *record;

	if (contact.data == NULL)
	{
		parts[0] = student;
		parts[1] = name;
		contact = sis_made_id(&state->contact_id, parts, 2);
	}

	record = sis_csv_begin(table, sis_csv_type_index(table->file,
													 SIS_CONTACT));
	set(record, SIS_COL_SOURCE_ID, contact);
	set(record, SIS_COL_SIS_ID, sis_id);
	set(record, state->contact_name, name);
	set(record, state->contact_email,
		contact_value(table, n, CONTACT_EMAIL));
	sis_record_add(record, state->contact_phones, phone.data, phone.len);
	put_repeated(table);

	record = sis_csv_begin(table, sis_csv_type_index(table->file,
													 SIS_STUDENT_CONTACT));
	sis_link_clever_contact(&state->links, record, student, contact,
							contact_value(table, n, CONTACT_RELATIONSHIP),
							contact_value(table, n, CONTACT_TYPE));
	sis_csv_put(table);
}

static void
student_row(SisCsvTable *table)
{
	sis_csv_begin(table, 0);
	put_repeated(table);

	for (int n = 0; n < MAX_CONTACTS; n++)
	{
		if (contact_value(table, n, CONTACT_NAME).data == NULL)
			continue;
		if (sis_csv_value(table, STUDENT_ID).data == NULL)
		{
			sis_csv_reject(table, SIS_TYPE_BIT(SIS_CONTACT) |
						   SIS_TYPE_BIT(SIS_STUDENT_CONTACT), STUDENT_ID,
						   "the student's ID is missing");
			return;
		}
		put_contact(table, n);
	}
}

/* ----------
 * teachers.csv and staff.csv
 * ----------
 */

static const SisCsvColumn teacher_columns[] = {
	/* header							staff */
	{"Teacher_id", SIS_CSV_REQUIRED, {"source_id sis_id"}},
	{"School_id", 0, {"school_source_id school_source_ids"}},
	{"Teacher_number", 0, {"staff_number"}},
	{"State_teacher_id", 0, {"state_id"}},
	{"Teacher_email", 0, {"email"}},
	{"First_name", SIS_CSV_ONE_OF, {"given_name"}},
	{"Last_name", SIS_CSV_ONE_OF, {"family_name"}},
	{"Middle_name", 0, {"middle_name"}},
	{"Title", 0, {"title"}},
	{"Username", 0, {"username"}}
};

static const SisCsvColumn staff_columns[] = {
	/* header							staff */
	{"Staff_id", SIS_CSV_REQUIRED, {"source_id sis_id"}},
	{"School_id", 0, {"school_source_id school_source_ids"}},
	{"Staff_email", 0, {"email"}},
	{"First_name", SIS_CSV_ONE_OF, {"given_name"}},
	{"Last_name", SIS_CSV_ONE_OF, {"family_name"}},
	{"Title", 0, {"title"}},
	{"Username", 0, {"username"}},
	{"Role", SIS_CSV_LOWER, {"roles"}}
};

static void
put_staff(SisCsvTable *table, const char *role)
{
	Clever	   *state = table->state;
	SisRecord  *record = sis_csv_begin(table, 0);

	/* the file itself says that, whether it has a column Role or not */
	sis_record_add(record, state->staff_roles, role, strlen(role));
	record->keep &= ~SIS_COLUMN_BIT(state->staff_roles);
	put_repeated(table);
}

static void
teacher_row(SisCsvTable *table)
{
	put_staff(table, "teacher");
}

static void
staff_row(SisCsvTable *table)
{
	put_staff(table, "staff");
}

/* ----------
 * sections.csv: sections, their terms, courses and teachers
 * ----------
 */

enum
{
	SECTION_ID,
	SECTION_SCHOOL,
	SECTION_COURSE_NUMBER,
	SECTION_COURSE_NAME,
	SECTION_TERM_NAME,
	SECTION_TERM_START,
	SECTION_TERM_END,
	SECTION_TEACHERS,
	SECTION_REST = SECTION_TEACHERS + MAX_TEACHERS
};

#define TEACHER(header) \
	{header, SIS_CSV_NAMES, {NULL, NULL, NULL, "*person_source_id"}}
#define NUMBERED_TEACHER(n) \
	TEACHER("Teacher_" #n "_id|Teacher_id_" #n)

static const SisCsvColumn section_columns[] = {
	/* header							section, term, course, enrollment */
	{"Section_id", SIS_CSV_REQUIRED,
	{"source_id sis_id", NULL, NULL, "section_source_id"}},
	{"School_id", SIS_CSV_REQUIRED,
	{"school_source_id", NULL, NULL, "school_source_id"}},
	{"Course_number", SIS_CSV_NAMES,
	{"*course_source_id", NULL, "course_code"}},
	{"Course_name", SIS_CSV_NAMES, {"*course_source_id *name", NULL, "name"}},
	{"Term_name", SIS_CSV_NAMES, {"*term_source_ids", "name"}},
	{"Term_start", SIS_CSV_NAMES, {"*term_source_ids", "start_date"}},
	{"Term_end", SIS_CSV_NAMES, {"*term_source_ids", "end_date"}},
	TEACHER("Teacher_id|Teacher_1_id|Teacher_id_1"),
	NUMBERED_TEACHER(2),
	NUMBERED_TEACHER(3),
	NUMBERED_TEACHER(4),
	NUMBERED_TEACHER(5),
	NUMBERED_TEACHER(6),
	NUMBERED_TEACHER(7),
	NUMBERED_TEACHER(8),
	NUMBERED_TEACHER(9),
	NUMBERED_TEACHER(10),
	{"Name", 0, {"name"}},
	{"Section_number", 0, {"section_code"}},
	{"Grade", 0, {"grades"}},
	{"Subject", 0, {"subjects"}},
	{"Period", 0, {"periods"}}
};

StaticAssertDecl(lengthof(section_columns) > SECTION_REST,
				 "the teachers follow what a row names beside them");

/* The ID of the term that a row names; data NULL: it names none. */
static SisValue
term_of(SisCsvTable *table, Clever *state)
{
	SisValue	parts[3];
	SisValue	none = {NULL, 0};

	parts[0] = sis_csv_value(table, SECTION_TERM_NAME);
	parts[1] = sis_csv_value(table, SECTION_TERM_START);
	parts[2] = sis_csv_value(table, SECTION_TERM_END);
	if (parts[0].data == NULL && parts[1].data == NULL && parts[2].data == NULL)
		return none;
	return sis_made_id(&state->term_id, parts, 3);
}

static SisValue
course_of(SisCsvTable *table, Clever *state)
{
	SisValue	part = sis_csv_value(table, SECTION_COURSE_NUMBER);

	if (part.data == NULL)
		part = sis_csv_value(table, SECTION_COURSE_NAME);
	if (part.data == NULL)
		return part;
	return sis_made_id(&state->course_id, &part, 1);
}

/* Puts a record that a row names beside its own, by its matrix. */
static void
put_named(SisCsvTable *table, SisRecordType type, SisValue id)
{
	SisRecord  *record = sis_csv_begin(table,
									   sis_csv_type_index(table->file, type));

	set(record, SIS_COL_SOURCE_ID, id);
	put_repeated(table);
}

static void
put_enrollment(SisCsvTable *table, int type_index, SisValue section,
			   SisValue person, const char *role, const char *is_primary)
{
	Clever	   *state = table->state;
	SisRecord  *record = sis_csv_begin(table, type_index);

	sis_link_clever_enrollment(&state->links, record, section, person, role,
							   is_primary);
	sis_csv_put(table);
}

/* True when one of the teachers before the nth is the same. */
static bool
is_listed_before(const SisCsvTable *table, int n)
{
	SisValue	teacher = sis_csv_value(table, SECTION_TEACHERS + n);

	for (int i = 0; i < n; i++)
	{
		SisValue	other = sis_csv_value(table, SECTION_TEACHERS + i);

		if (other.data != NULL && sis_same_value(other, teacher))
			return true;
	}
	return false;
}

static void
put_teachers(SisCsvTable *table)
{
	int			k = sis_csv_type_index(table->file, SIS_ENROLLMENT);
	SisValue	section = sis_csv_value(table, SECTION_ID);

	for (int n = 0; n < MAX_TEACHERS; n++)
	{
		SisValue	teacher = sis_csv_value(table, SECTION_TEACHERS + n);

		if (teacher.data == NULL || is_listed_before(table, n))
			continue;
		if (section.data == NULL)
		{
			sis_csv_reject(table, SIS_TYPE_BIT(SIS_ENROLLMENT), SECTION_ID,
						   "the section's ID is missing");
			return;
		}
		put_enrollment(table, k, section, teacher, "teacher",
					   n == 0 ? "true" : "false");
	}
}

static void
section_row(SisCsvTable *table)
{
	Clever	   *state = table->state;
	SisValue	term = term_of(table, state);
	SisValue	course = course_of(table, state);
	SisValue	course_name = sis_csv_value(table, SECTION_COURSE_NAME);
	SisRecord  *record;

	if (term.data != NULL)
		put_named(table, SIS_TERM, term);
	if (course.data != NULL)
		put_named(table, SIS_COURSE, course);

	record = sis_csv_begin(table, 0);
	set(record, state->section_course, course);
	sis_record_add(record, state->section_terms, term.data, term.len);
	if (record->values[state->section_name].data == NULL)
		set(record, state->section_name, course_name);
	sis_csv_put(table);
	put_teachers(table);
}

/* ----------
 * enrollments.csv
 * ----------
 */

enum
{
	ENROLLMENT_SECTION,
	ENROLLMENT_STUDENT
};

static const SisCsvColumn enrollment_columns[] = {
	/* header							enrollment */
	{"Section_id", SIS_CSV_REQUIRED, {"section_source_id"}},
	{"Student_id", SIS_CSV_REQUIRED, {"*person_source_id"}},
	{"School_id", 0, {"school_source_id"}}
};

static bool
enrollment_id(SisCsvTable *table, SisValue *id)
{
	Clever	   *state = table->state;
	SisValue	section;
	SisValue	student;

	if (!sis_csv_readable(table, ENROLLMENT_SECTION, &section) ||
		!sis_csv_readable(table, ENROLLMENT_STUDENT, &student) ||
		section.data == NULL || student.data == NULL)
		return false;
	*id = sis_link_clever_enrollment_id(&state->links, section, student,
										"student");
	return true;
}

static void
enrollment_row(SisCsvTable *table)
{
	put_enrollment(table, 0, sis_csv_value(table, ENROLLMENT_SECTION),
				   sis_csv_value(table, ENROLLMENT_STUDENT), "student", NULL);
}

/* ----------
 * The layout
 * ----------
 */

#define COLUMNS(array)	lengthof(array), array

static const SisCsvFile files[] = {
	{"schools.csv", true, false, SIS_PART_BASE, 1, 1, {SIS_SCHOOL},
	COLUMNS(school_columns)},
	{"students.csv", true, false, SIS_PART_BASE, 1, 3,
		{SIS_STUDENT, SIS_CONTACT, SIS_STUDENT_CONTACT},
	COLUMNS(student_columns), NULL, NULL, NULL, student_row},
	{"teachers.csv", true, false, SIS_PART_BASE, 1, 1, {SIS_STAFF},
	COLUMNS(teacher_columns), NULL, NULL, NULL, teacher_row},
	{"staff.csv", false, false, SIS_PART_BASE, 1, 1, {SIS_STAFF},
	COLUMNS(staff_columns), NULL, NULL, NULL, staff_row},
	{"sections.csv", true, false, SIS_PART_BASE, 1, 4,
		{SIS_SECTION, SIS_TERM, SIS_COURSE, SIS_ENROLLMENT},
	COLUMNS(section_columns), NULL, NULL, NULL, section_row},
	{"enrollments.csv", true, false, SIS_PART_BASE, 1, 1, {SIS_ENROLLMENT},
	COLUMNS(enrollment_columns), NULL, NULL, enrollment_id, enrollment_row}
};

static void *
start(SisSink *sink)
{
	Clever	   *state = palloc0(sizeof(Clever));

	state->staff_roles = sis_record_column(SIS_STAFF, "roles");
	state->section_course = sis_record_column(SIS_SECTION,
											  "course_source_id");
	state->section_terms = sis_record_column(SIS_SECTION, "term_source_ids");
	state->section_name = sis_record_column(SIS_SECTION, "name");
	state->contact_name = sis_record_column(SIS_CONTACT, "family_name");
	state->contact_email = sis_record_column(SIS_CONTACT, "email");
	state->contact_phones = sis_record_column(SIS_CONTACT, "phones");
	sis_links_init(&state->links);
	initStringInfo(&state->term_id);
	initStringInfo(&state->course_id);
	initStringInfo(&state->contact_id);
	return state;
}

const SisCsvLayout sis_csv_clever = {
	"clever", true, lengthof(files), files, start, NULL
};
