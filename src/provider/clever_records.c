/*
 * clever_records.c
 *		What Clever's list items mean: records of the nine types.
 *
 * An item is wrapped once more: {"data": {…}, "uri": "…"}.  A value that is
 * missing, null or "" is not known: all three are no value.
 *
 * Clever has no enrollments and no contact links: a section lists its people,
 * a contact lists its students (links.h).
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "base/textlist.h"
#include "provider/clever.h"
#include "provider/jsonmap.h"
#include "provider/links.h"

struct SisCleverRecords
{
	SisJsonMap *schools;
	SisJsonMap *terms;
	SisJsonMap *courses;
	SisJsonMap *sections;
	SisJsonMap *students;
	SisJsonMap *staff;
	SisJsonMap *contacts;
	SisRecord  *record;
	SisLinks	links;

	/* columns that functions fill */
	int			staff_roles;
	int			enrollment_section;
	int			enrollment_school;
};

/* ----------
 * Maps
 * ----------
 */

static const SisJsonColumn school_columns[] = {
	{"id", "source_id"},
	{"sis_id", "sis_id"},
	{"name", "name"},
	{"school_number", "school_number"},
	{"state_id", "state_id"},
	{"nces_id", "nces_id"},
	{"low_grade", "low_grade"},
	{"high_grade", "high_grade"},
	{"phone", "phone"},
	{"location.address", "address"},
	{"location.city", "city"},
	{"location.state", "state"},
	{"location.zip", "zip"},
	{"principal.name", "principal_name"},
	{"principal.email", "principal_email"}
};

static const SisJsonColumn term_columns[] = {
	{"id", "source_id"},
	{"name", "name"},
	{"start_date", "start_date"},
	{"end_date", "end_date"}
};

static const SisJsonColumn course_columns[] = {
	{"id", "source_id"},
	{"name", "name"},
	{"number", "course_code"}
};

static const SisJsonColumn section_columns[] = {
	{"id", "source_id"},
	{"sis_id", "sis_id"},
	{"name", "name"},
	{"section_number", "section_code"},
	{"course", "course_source_id"},
	{"school", "school_source_id"},
	{"term_id", "term_source_ids"},
	{"grade", "grades"},
	{"subject", "subjects"},
	{"period", "periods"}
};

/* birth_date and gender are on the person, and so not demographics here */
static const SisJsonColumn student_columns[] = {
	{"id", "source_id"},
	{"roles.student.sis_id", "sis_id"},
	{"name.first", "given_name"},
	{"name.middle", "middle_name"},
	{"name.last", "family_name"},
	{"roles.student.preferred_name.first", "preferred_given_name"},
	{"roles.student.preferred_name.last", "preferred_family_name"},
	{"roles.student.student_number", "student_number"},
	{"roles.student.state_id", "state_id"},
	{"roles.student.credentials.district_username", "username"},
	{"email", "email"},
	{"roles.student.email", "email"},
	{"roles.student.grade", "grade"},
	{"roles.student.dob", "birth_date"},
	{"roles.student.gender", "gender"},
	{"roles.student.school", "school_source_id"},
	{"roles.student.schools", "school_source_id"},
	{"roles.student.school", "school_source_ids"},
	{"roles.student.schools", "school_source_ids"}
};

/* An employee may have several of the roles: the first that knows wins. */
static const SisJsonColumn staff_columns[] = {
	{"id", "source_id"},
	{"roles.teacher.sis_id", "sis_id"},
	{"roles.staff.staff_id", "sis_id"},
	{"name.first", "given_name"},
	{"name.middle", "middle_name"},
	{"name.last", "family_name"},
	{"roles.teacher.teacher_number", "staff_number"},
	{"roles.teacher.state_id", "state_id"},
	{"roles.teacher.credentials.district_username", "username"},
	{"roles.staff.credentials.district_username", "username"},
	{"email", "email"},
	{"roles.teacher.title", "title"},
	{"roles.staff.title", "title"},
	{"roles.district_admin.title", "title"},
	{"roles.staff.roles", "roles", true},
	{"roles.teacher.school", "school_source_id"},
	{"roles.teacher.schools", "school_source_id"},
	{"roles.staff.schools", "school_source_id"},
	{"roles.teacher.school", "school_source_ids"},
	{"roles.teacher.schools", "school_source_ids"},
	{"roles.staff.schools", "school_source_ids"}
};

/* The whole name of a contact is in "last". */
static const SisJsonColumn contact_columns[] = {
	{"id", "source_id"},
	{"roles.contact.sis_id", "sis_id"},
	{"name.first", "given_name"},
	{"name.last", "family_name"},
	{"email", "email"},
	{"roles.contact.phone", "phones"}
};

static const char *const ext_roots[] = {"ext", NULL};
static const char *const student_roots[] = {
	"roles.student", "roles.student.ext", NULL
};
static const char *const staff_roots[] = {
	"roles.teacher", "roles.teacher.ext", "roles.staff", "roles.staff.ext",
	"roles.district_admin", NULL
};
static const char *const contact_roots[] = {"roles.contact", NULL};

#define CREATE_MAP(type, columns, roots) \
	sis_jsonmap_create(type, lengthof(columns), columns, roots, wants)

SisCleverRecords *
sis_clever_records_create(const SisWants *wants)
{
	SisCleverRecords *records = palloc0(sizeof(SisCleverRecords));

	records->schools = CREATE_MAP(SIS_SCHOOL, school_columns, ext_roots);
	records->terms = CREATE_MAP(SIS_TERM, term_columns, NULL);
	records->courses = CREATE_MAP(SIS_COURSE, course_columns, NULL);
	records->sections = CREATE_MAP(SIS_SECTION, section_columns, ext_roots);
	records->students = CREATE_MAP(SIS_STUDENT, student_columns,
								   student_roots);
	records->staff = CREATE_MAP(SIS_STAFF, staff_columns, staff_roots);
	records->contacts = CREATE_MAP(SIS_CONTACT, contact_columns,
								   contact_roots);
	records->record = sis_record_create();
	sis_links_init(&records->links);

	records->staff_roles = sis_record_column(SIS_STAFF, "roles");
	records->enrollment_section = sis_record_column(SIS_ENROLLMENT,
													"section_source_id");
	records->enrollment_school = sis_record_column(SIS_ENROLLMENT,
												   "school_source_id");
	return records;
}

/* ----------
 * Putting
 * ----------
 */

static void
set(SisRecord *record, int column, SisValue value)
{
	sis_record_set(record, column, value.data, value.len);
}

static void
put(SisCleverRecords *records, SisSink *sink)
{
	sis_record_finish(records->record);
	sink->put(sink, records->record);
}

/* Begins a record that an item names beside its own. */
static SisRecord *
begin_named(SisCleverRecords *records, SisRecordType type, SisSink *sink,
			const char *source, int64 line)
{
	sink->row_read(sink, SIS_TYPE_BIT(type));
	sis_record_reset(records->record, type, source, line);
	return records->record;
}

static void
put_enrollment(SisCleverRecords *records, const SisJsonNode *section,
			   SisValue person, const char *role, const char *is_primary,
			   SisSink *sink, const char *source, int64 line)
{
	SisValue	id = sis_json_find(section, "id");
	SisRecord  *record = begin_named(records, SIS_ENROLLMENT, sink, source,
									 line);

	sis_link_clever_enrollment(&records->links, record, id, person, role,
							   is_primary);
	set(record, records->enrollment_section, id);
	set(record, records->enrollment_school, sis_json_find(section, "school"));
	put(records, sink);
}

static SisValue
item_value(const SisJsonNode *array, int i)
{
	SisValue	value = sis_json_value(sis_json_item(array, i));

	return sis_trim(value.data, value.len);
}

/*
 * Teachers: "teacher" is the primary one, and stands among "teachers".  Where
 * it is missing, the first one is.
 */
static void
put_teachers(SisCleverRecords *records, const SisJsonNode *section,
			 SisSink *sink, const char *source, int64 line)
{
	const SisJsonNode *teachers = sis_json_member(section, "teachers");
	SisValue	primary = sis_json_find(section, "teacher");
	int			n = sis_json_length(teachers);

	if (primary.data == NULL && n > 0)
		primary = item_value(teachers, 0);
	if (primary.data != NULL)
		put_enrollment(records, section, primary, "teacher", "true", sink,
					   source, line);
	for (int i = 0; i < n; i++)
	{
		SisValue	teacher = item_value(teachers, i);

		if (teacher.data == NULL || !sis_same_value(teacher, primary))
			put_enrollment(records, section, teacher, "teacher", "false",
						   sink, source, line);
	}
}

static void
put_section(SisCleverRecords *records, const SisJsonNode *section,
			SisSink *sink, const char *source, int64 line)
{
	const SisJsonNode *students = sis_json_member(section, "students");
	int			n = sis_json_length(students);

	sis_jsonmap_fill(records->sections, records->record, section, source,
					 line);
	put(records, sink);
	put_teachers(records, section, sink, source, line);
	for (int i = 0; i < n; i++)
		put_enrollment(records, section, item_value(students, i), "student",
					   NULL, sink, source, line);
}

static void
put_contact(SisCleverRecords *records, const SisJsonNode *user,
			SisSink *sink, const char *source, int64 line)
{
	const SisJsonNode *role = sis_json_member(sis_json_member(user, "roles"),
											  "contact");
	const SisJsonNode *links = sis_json_member(role, "student_relationships");
	SisValue	contact = sis_json_find(user, "id");
	int			n = sis_json_length(links);

	sis_jsonmap_fill(records->contacts, records->record, user, source, line);
	put(records, sink);
	for (int i = 0; i < n; i++)
	{
		const SisJsonNode *link = sis_json_item(links, i);
		SisRecord  *record = begin_named(records, SIS_STUDENT_CONTACT, sink,
										 source, line);

		sis_link_clever_contact(&records->links, record,
								sis_json_find(link, "student"), contact,
								sis_json_find(link, "relationship"),
								sis_json_find(link, "type"));
		put(records, sink);
	}
}

static bool
has_role(const SisJsonNode *user, const char *role)
{
	return sis_json_member(sis_json_member(user, "roles"), role) != NULL;
}

/* In the order of their lists. */
static const char *const staff_roles[] = {"teacher", "staff", "district_admin"};

/*
 * An employee stands in the list of each role.  The record is made of all the
 * roles, once, from the first of the lists.
 */
static bool
is_elsewhere(SisCleverList list, const SisJsonNode *user)
{
	for (int i = 0; i < (int) list - SIS_CLEVER_TEACHERS &&
		 i < (int) lengthof(staff_roles); i++)
	{
		if (has_role(user, staff_roles[i]))
			return true;
	}
	return false;
}

static void
put_staff(SisCleverRecords *records, const SisJsonNode *user, SisSink *sink,
		  const char *source, int64 line)
{
	SisRecord  *record = records->record;

	sis_jsonmap_fill(records->staff, record, user, source, line);
	for (int i = 0; i < (int) lengthof(staff_roles); i++)
	{
		if (has_role(user, staff_roles[i]))
			sis_record_add(record, records->staff_roles, staff_roles[i],
						   (int) strlen(staff_roles[i]));
	}
	/* a list that shows only its own role of a user brings it once each */
	record->repeats = true;
	put(records, sink);
}

/* The type that an item of a list is a record of. */
static SisRecordType
type_of(SisCleverList list)
{
	switch (list)
	{
		case SIS_CLEVER_STUDENTS:
			return SIS_STUDENT;
		case SIS_CLEVER_CONTACTS:
			return SIS_CONTACT;
		case SIS_CLEVER_SECTIONS:
			return SIS_SECTION;
		case SIS_CLEVER_TEACHERS:
		case SIS_CLEVER_STAFF:
		case SIS_CLEVER_ADMINS:
			return SIS_STAFF;
		case SIS_CLEVER_COURSES:
			return SIS_COURSE;
		case SIS_CLEVER_TERMS:
			return SIS_TERM;
		case SIS_CLEVER_SCHOOLS:
			break;
	}
	return SIS_SCHOOL;
}

/* The role that a list of users is of; NULL: it is no such list. */
static const char *
role_of(SisCleverList list)
{
	switch (list)
	{
		case SIS_CLEVER_STUDENTS:
			return "student";
		case SIS_CLEVER_CONTACTS:
			return "contact";
		case SIS_CLEVER_TEACHERS:
			return "teacher";
		case SIS_CLEVER_STAFF:
			return "staff";
		case SIS_CLEVER_ADMINS:
			return "district_admin";
		default:
			return NULL;
	}
}

const SisJsonNode *
sis_clever_id(const SisJsonNode *item)
{
	return sis_json_member(sis_json_member(item, "data"), "id");
}

static void
put_plain(SisCleverRecords *records, SisJsonMap *map, const SisJsonNode *data,
		  SisSink *sink, const char *source, int64 line)
{
	sis_jsonmap_fill(map, records->record, data, source, line);
	put(records, sink);
}

void
sis_clever_put(SisCleverRecords *records, SisCleverList list,
			   const SisJsonNode *item, SisSink *sink, const char *source,
			   int64 line)
{
	const SisJsonNode *data = sis_json_member(item, "data");
	const char *role = role_of(list);

	if (role != NULL && !has_role(data, role))
	{
		sis_clever_reject(list, sis_json_find(data, "id"), sink, source, line,
						  "the role is missing");
		return;
	}
	if (type_of(list) == SIS_STAFF && is_elsewhere(list, data))
		return;
	sink->row_read(sink, SIS_TYPE_BIT(type_of(list)));
	switch (list)
	{
		case SIS_CLEVER_STUDENTS:
			put_plain(records, records->students, data, sink, source, line);
			break;
		case SIS_CLEVER_CONTACTS:
			put_contact(records, data, sink, source, line);
			break;
		case SIS_CLEVER_SECTIONS:
			put_section(records, data, sink, source, line);
			break;
		case SIS_CLEVER_TEACHERS:
		case SIS_CLEVER_STAFF:
		case SIS_CLEVER_ADMINS:
			put_staff(records, data, sink, source, line);
			break;
		case SIS_CLEVER_COURSES:
			put_plain(records, records->courses, data, sink, source, line);
			break;
		case SIS_CLEVER_TERMS:
			put_plain(records, records->terms, data, sink, source, line);
			break;
		case SIS_CLEVER_SCHOOLS:
			put_plain(records, records->schools, data, sink, source, line);
			break;
	}
}

/*
 * What an item names beside its own record has no ID that could be read, so
 * that those types archive nothing tonight.
 */
void
sis_clever_reject(SisCleverList list, SisValue id, SisSink *sink,
				  const char *source, int64 line, const char *reason)
{
	SisReject	reject = {0};

	reject.types = SIS_TYPE_BIT(type_of(list));
	reject.source = source;
	reject.line = line;
	reject.source_id = id;
	reject.reason = reason;
	sink->row_read(sink, reject.types);
	sink->reject(sink, &reject);

	if (list != SIS_CLEVER_SECTIONS && list != SIS_CLEVER_CONTACTS)
		return;
	reject.types = SIS_TYPE_BIT(list == SIS_CLEVER_SECTIONS ?
								SIS_ENROLLMENT : SIS_STUDENT_CONTACT);
	reject.source_id.data = NULL;
	reject.source_id.len = 0;
	sink->row_read(sink, reject.types);
	sink->reject(sink, &reject);
}

static bool
read_digits(const char *text, int n, int *value)
{
	*value = 0;
	for (int i = 0; i < n; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		*value = *value * 10 + (text[i] - '0');
	}
	return true;
}

TimestampTz
sis_clever_time(const char *text)
{
	int			year,
				month,
				day,
				hour,
				minute,
				second,
				millisecond = 0;
	int64		seconds;

	if (strlen(text) < 20 || text[strlen(text) - 1] != 'Z' ||
		!read_digits(text, 4, &year) || !read_digits(text + 5, 2, &month) ||
		!read_digits(text + 8, 2, &day) || !read_digits(text + 11, 2, &hour) ||
		!read_digits(text + 14, 2, &minute) ||
		!read_digits(text + 17, 2, &second) || month < 1 || month > 12 ||
		day < 1 || day > 31)
		return 0;
	if (text[19] == '.' && !read_digits(text + 20, 3, &millisecond))
		millisecond = 0;
	seconds = (int64) (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) *
		SECS_PER_DAY + hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + second;
	return seconds * USECS_PER_SEC + millisecond * INT64CONST(1000);
}
