/*
 * csv_oneroster.c
 *		The OneRoster layouts of a CSV set, 1.1 and 1.2.
 *
 * A user is a student, a member of staff or a contact by the user's role.  In
 * 1.1 users.csv has it.  In 1.2 roles.csv has it, with one row for each role
 * at each school, and that file is read first: each of its rows is put as the
 * part of the record that it brings, and the user's ID is noted in a Bloom
 * filter for that role.  A row of users.csv then goes to each type whose
 * filter may know it.  Where a filter errs, the record has a base and no role,
 * and whoever puts the parts together drops it; so memory stays the same for
 * any number of users, and nothing is lost.
 */
#include "postgres.h"

#include "lib/bloomfilter.h"
#include "utils/memutils.h"

#include "base/value.h"
#include "provider/csvset.h"
#include "provider/links.h"
#include "provider/oneroster.h"

/*
 * At two megabytes, a filter errs for one user of 10 million when it knows
 * half a million of them, and for one of 50 when it knows two million.
 */
#define FILTER_KB		2048
#define FILTER_ELEMS	(1024 * 1024)
#define FILTER_SEED		0

/* What is kept through a set. */
typedef struct OneRoster
{
	int			ndistricts;
	char	   *district_id;	/* of the first */

	bloom_filter *with_role[SIS_ROLE_UNKNOWN];	/* 1.2: users by role */

	/* columns that functions fill */
	int			student_state_id;
	int			staff_state_id;
	int			student_school;
	int			staff_school;
	SisLinks	links;
	bool		role_known;		/* of the user whose row it is */
} OneRoster;

/* What all files begin with; the first column is the ID. */
#define LIFECYCLE \
	{"status", SIS_CSV_STATUS}, \
	{"dateLastModified", SIS_CSV_MODIFIED}

/* ----------
 * orgs.csv: schools, and whose they are
 * ----------
 */

enum
{
	ORG_SOURCED_ID,
	ORG_STATUS,
	ORG_MODIFIED,
	ORG_NAME,
	ORG_TYPE,
	ORG_IDENTIFIER
};

static const SisCsvColumn org_columns[] = {
	/* header							school */
	{"sourcedId|sourceId", SIS_CSV_REQUIRED, {"source_id"}},
	LIFECYCLE,
	{"name", SIS_CSV_REQUIRED, {"name"}},
	{"type", SIS_CSV_REQUIRED, {NULL}},
	{"identifier", 0, {"sis_id school_number"}}
};

/* Districts, departments and the like are passed over. */
static int
org_types(SisCsvTable *table)
{
	SisValue	type;

	if (sis_csv_readable(table, ORG_TYPE, &type) && type.data != NULL &&
		!sis_value_is(type, "school"))
		return 0;
	return SIS_TYPE_BIT(SIS_SCHOOL);
}

static void
take_district(SisCsvTable *table, OneRoster *state)
{
	SisValue	id = sis_csv_value(table, ORG_SOURCED_ID);

	if (table->deleted || id.data == NULL)
		return;
	if (state->ndistricts++ == 0)
	{
		/* outlives the file's context, as the state does */
		state->district_id =
			MemoryContextAllocZero(GetMemoryChunkContext(state), id.len + 1);
		memcpy(state->district_id, id.data, id.len);
	}
}

static void
org_row(SisCsvTable *table)
{
	SisValue	type = sis_csv_value(table, ORG_TYPE);

	if (sis_value_is(type, "district"))
		take_district(table, table->state);
	if (table->types == 0)
		return;

	/* it may be a school; but a deleted row needs no more than its ID */
	if (type.data == NULL && !table->deleted)
	{
		sis_csv_reject(table, table->types, ORG_TYPE, "type is missing");
		return;
	}
	sis_csv_begin(table, 0);
	sis_csv_put(table);
}

/* ----------
 * academicSessions.csv, courses.csv, classes.csv, enrollments.csv
 * ----------
 */

static const SisCsvColumn session_columns[] = {
	/* header							term */
	{"sourcedId|sourceId", SIS_CSV_REQUIRED, {"source_id"}},
	LIFECYCLE,
	{"title", 0, {"name"}},
	{"type", 0, {"term_type"}},
	{"startDate", 0, {"start_date"}},
	{"endDate", 0, {"end_date"}},
	{"parentSourcedId|parentSourceId", 0, {"parent_source_id"}},
	{"schoolYear", 0, {"school_year"}}
};

static const SisCsvColumn course_columns[] = {
	/* header							course */
	{"sourcedId|sourceId", SIS_CSV_REQUIRED, {"source_id"}},
	LIFECYCLE,
	{"title", 0, {"name"}},
	{"courseCode", 0, {"course_code"}},
	{"orgSourcedId|orgSourceId", 0, {"school_source_id"}},
	{"grades|grade", SIS_CSV_SPLIT, {"grades"}},
	{"subjects", SIS_CSV_SPLIT, {"subjects"}}
};

static const SisCsvColumn class_columns[] = {
	/* header							section */
	{"sourcedId|sourceId", SIS_CSV_REQUIRED, {"source_id"}},
	LIFECYCLE,
	{"title", 0, {"name"}},
	{"classCode", 0, {"section_code"}},
	{"classType", 0, {"section_type"}},
	{"courseSourcedId|courseSourceId", 0, {"course_source_id"}},
	{"schoolSourcedId|schoolSourceId", SIS_CSV_REQUIRED, {"school_source_id"}},
	{"termSourcedIds|termSourcedId|termSourceIds|termSourceId", SIS_CSV_SPLIT,
	{"term_source_ids"}},
	{"grades|grade", SIS_CSV_SPLIT, {"grades"}},
	{"subjects", SIS_CSV_SPLIT, {"subjects"}},
	{"periods", SIS_CSV_SPLIT, {"periods"}},
	{"location", 0, {"location"}}
};

static const SisCsvColumn enrollment_columns[] = {
	/* header							enrollment */
	{"sourcedId|sourceId", SIS_CSV_REQUIRED, {"source_id"}},
	LIFECYCLE,
	{"classSourcedId|classSourceId", SIS_CSV_REQUIRED, {"section_source_id"}},
	{"schoolSourcedId|schoolSourceId", 0, {"school_source_id"}},
	{"userSourcedId|userSourceId|userId", SIS_CSV_REQUIRED,
	{"person_source_id"}},
	{"role", SIS_CSV_REQUIRED | SIS_CSV_LOWER, {"role"}},
	{"primary", 0, {"is_primary"}},
	{"beginDate", 0, {"begin_date"}},
	{"endDate", 0, {"end_date"}}
};

/* ----------
 * users.csv
 * ----------
 */

enum
{
	USER_SOURCED_ID,
	USER_STATUS,
	USER_MODIFIED,
	USER_IDS,
	USER_AGENTS,
	USER_ROLE,					/* 1.1 */
	USER_PRIMARY_ORG = USER_ROLE,	/* 1.2 */
	USER_GIVEN_NAME = USER_PRIMARY_ORG + 3, /* 1.2 */
	USER_FAMILY_NAME			/* 1.2 */
};

#define USER_HEAD \
	/* header							student, staff, contact */ \
	{"sourcedId|sourceId", SIS_CSV_REQUIRED, \
	{"source_id", "source_id", "source_id"}}, \
	LIFECYCLE, \
	{"userIds", 0, {"*state_id", "*state_id"}}, \
	{"agentSourcedIds|agents|agentSourceIds", SIS_CSV_SPLIT | SIS_CSV_NAMES, \
	{NULL, NULL, NULL, "*contact_source_id"}}

#define USER_TAIL \
	{"enabledUser", 0, {"enabled", "enabled"}}, \
	{"username", 0, {"username", "username", "username"}}, \
	{"givenName", SIS_CSV_ONE_OF, \
	{"given_name", "given_name", "given_name"}}, \
	{"familyName", SIS_CSV_ONE_OF, \
	{"family_name", "family_name", "family_name"}}, \
	{"middleName", 0, {"middle_name", "middle_name"}}, \
	{"preferredGivenName", 0, {"preferred_given_name"}}, \
	{"preferredFamilyName", 0, {"preferred_family_name"}}, \
	{"identifier", 0, \
	{"sis_id student_number", "sis_id staff_number", "sis_id"}}, \
	{"email", 0, {"email", "email", "email"}}, \
	{"phone", 0, {"phone", "phone", "phones"}}, \
	{"sms", 0, {"phone", "phone", "phones"}}, \
	{"grades|grade", SIS_CSV_SPLIT, {"grade"}}

static const SisCsvColumn user_columns_v1p1[] = {
	USER_HEAD,
	{"role", SIS_CSV_REQUIRED | SIS_CSV_LOWER, {NULL, "roles"}},
	{"orgSourcedIds|orgSourcedId|orgSourceIds", SIS_CSV_SPLIT,
		{"school_source_id school_source_ids",
	"school_source_id school_source_ids"}},
	USER_TAIL
};

static const SisCsvColumn user_columns_v1p2[] = {
	USER_HEAD,
	{"primaryOrgSourcedId", 0, {"school_source_id", "school_source_id"}},
	USER_TAIL
};

/* Begins the record of a user, with what the matrix leaves to code. */
static SisRecord *
begin_user(SisCsvTable *table, SisRecordType type)
{
	OneRoster  *state = table->state;
	SisRecord  *record;
	SisValue	ids = sis_csv_value(table, USER_IDS);
	SisValue	id;

	record = sis_csv_begin(table, sis_csv_type_index(table->file, type));
	if (ids.data != NULL && type != SIS_CONTACT)
	{
		id = sis_oneroster_state_id(ids);
		sis_record_set(record, type == SIS_STUDENT ? state->student_state_id :
					   state->staff_state_id, id.data, id.len);
	}
	return record;
}

static void
put_link(SisCsvTable *table, SisValue student, SisValue contact,
		 const char *relationship)
{
	OneRoster  *state = table->state;
	SisRecord  *record;

	record = sis_csv_begin(table, sis_csv_type_index(table->file,
													 SIS_STUDENT_CONTACT));
	sis_link_oneroster_contact(&state->links, record, student, contact,
							   relationship);
	if (!state->role_known)
		record->part = SIS_PART_MAYBE;
	sis_csv_put(table);
}

/*
 * The links of a student to each agent, or of a contact to each student.  Only
 * the contact's own row tells what the contact is to them.
 */
static void
put_links(SisCsvTable *table, SisRecordType type, const char *relationship)
{
	SisValue	self = sis_csv_value(table, USER_SOURCED_ID);
	SisValue	agents = sis_csv_value(table, USER_AGENTS);
	const char *p = agents.data;
	const char *end;

	if (table->deleted || agents.data == NULL)
		return;
	if (self.data == NULL)
	{
		sis_csv_reject(table, SIS_TYPE_BIT(SIS_STUDENT_CONTACT),
					   USER_SOURCED_ID, "the user's ID is missing");
		return;
	}
	end = agents.data + agents.len;
	while (p < end)
	{
		const char *comma = memchr(p, ',', end - p);
		const char *item_end = comma ? comma : end;
		SisValue	agent = sis_trim(p, (int) (item_end - p));

		p = item_end + 1;
		if (agent.data == NULL)
			continue;
		if (type == SIS_STUDENT)
			put_link(table, self, agent, NULL);
		else
			put_link(table, agent, self, relationship);
	}
}

/* demographics.csv brings these where it is read: users.csv has no word. */
static void
keep_demographics(SisCsvTable *table)
{
	int			k = sis_csv_type_index(table->file, SIS_STUDENT);

	if (table->sink->wants->include_demographics)
		table->plans[k].keep |=
			SIS_COLUMN_BIT(sis_record_column(SIS_STUDENT, "birth_date")) |
			SIS_COLUMN_BIT(sis_record_column(SIS_STUDENT, "gender"));
}

/* ----------
 * users.csv of 1.1
 * ----------
 */

static int
user_types_v1p1(SisCsvTable *table)
{
	SisValue	role;

	if (!sis_csv_readable(table, USER_ROLE, &role))
		return SIS_PERSON_TYPES;
	return sis_oneroster_types(sis_oneroster_role(role));
}

static void
user_row_v1p1(SisCsvTable *table)
{
	OneRoster  *state = table->state;
	SisValue	value = sis_csv_value(table, USER_ROLE);
	SisUserRole	role = sis_oneroster_role(value);

	/* a deleted row needs no more than its ID: it is deleted as any of them */
	if (role == SIS_ROLE_UNKNOWN && (value.data != NULL || !table->deleted))
	{
		sis_csv_reject(table, SIS_PERSON_TYPES, USER_ROLE,
					   value.data != NULL ? "unknown role" :
					   "role is missing");
		return;
	}
	state->role_known = true;
	for (int k = 0; k < table->file->nprimary; k++)
	{
		SisRecordType type = table->file->types[k];

		if ((table->types & SIS_TYPE_BIT(type)) == 0)
			continue;
		begin_user(table, type);
		sis_csv_put(table);
		if (type != SIS_STAFF)
			put_links(table, type, sis_oneroster_relationship(SIS_ROLE_BIT(role)));
	}
}

/* ----------
 * roles.csv and users.csv of 1.2
 * ----------
 */

enum
{
	ROLE_USER,
	ROLE_STATUS,
	ROLE_MODIFIED,
	ROLE_TYPE,
	ROLE_ROLE,
	ROLE_ORG
};

static const SisCsvColumn role_columns[] = {
	/* header							student, staff, contact */
	{"userSourcedId|userSourceId|userId", SIS_CSV_REQUIRED,
	{"source_id", "source_id", "source_id"}},
	LIFECYCLE,
	{"roleType", 0, {NULL}},
	{"role", SIS_CSV_REQUIRED | SIS_CSV_LOWER, {NULL, "roles"}},
	{"orgSourcedId|orgSourceId", 0,
		{"school_source_ids *school_source_id",
	"school_source_ids *school_source_id"}}
};

static int
role_types(SisCsvTable *table)
{
	SisValue	role;

	if (!sis_csv_readable(table, ROLE_ROLE, &role))
		return SIS_PERSON_TYPES;
	return sis_oneroster_types(sis_oneroster_role(role));
}

static void
role_row(SisCsvTable *table)
{
	OneRoster  *state = table->state;
	SisValue	value = sis_csv_value(table, ROLE_ROLE);
	SisValue	user = sis_csv_value(table, ROLE_USER);
	SisValue	org = sis_csv_value(table, ROLE_ORG);
	SisUserRole	role = sis_oneroster_role(value);
	SisRecord  *record;

	if (table->deleted && !table->delta)
		return;					/* the role has gone, not the user */
	if (role == SIS_ROLE_UNKNOWN)
	{
		sis_csv_reject(table, SIS_PERSON_TYPES, ROLE_ROLE,
					   value.data != NULL ? "unknown role" :
					   "role is missing");
		return;
	}
	for (int k = 0; k < table->file->ntypes; k++)
	{
		SisRecordType type = table->file->types[k];

		if ((table->types & SIS_TYPE_BIT(type)) == 0)
			continue;
		record = sis_csv_begin(table, k);
		record->repeats = true;
		if (type != SIS_CONTACT && org.data != NULL &&
			sis_value_is(sis_csv_value(table, ROLE_TYPE), "primary"))
		{
			int			column = type == SIS_STUDENT ?
				state->student_school : state->staff_school;

			sis_record_set(record, column, org.data, org.len);
			record->keep &= ~SIS_COLUMN_BIT(column);
		}
		sis_csv_put(table);
	}
	if (user.data != NULL && !table->deleted)
		bloom_add_element(state->with_role[role],
						  (unsigned char *) user.data, user.len);
}

/* The school of a row that is no primary role stays what another row says. */
static void
begin_roles(SisCsvTable *table)
{
	OneRoster  *state = table->state;

	for (int k = 0; k < table->file->ntypes; k++)
	{
		SisRecordType type = table->file->types[k];

		if (type == SIS_STUDENT)
			table->plans[k].keep |= SIS_COLUMN_BIT(state->student_school);
		else if (type == SIS_STAFF)
			table->plans[k].keep |= SIS_COLUMN_BIT(state->staff_school);
	}
}

/* roles.csv brings these: users.csv has no word. */
static void
begin_users_v1p2(SisCsvTable *table)
{
	int			student = sis_csv_type_index(table->file, SIS_STUDENT);
	int			staff = sis_csv_type_index(table->file, SIS_STAFF);

	keep_demographics(table);
	table->plans[student].keep |=
		SIS_COLUMN_BIT(sis_record_column(SIS_STUDENT, "school_source_ids"));
	table->plans[staff].keep |=
		SIS_COLUMN_BIT(sis_record_column(SIS_STAFF, "school_source_ids")) |
		SIS_COLUMN_BIT(sis_record_column(SIS_STAFF, "roles"));
}

static bool
may_have_role(const OneRoster *state, SisValue user, SisUserRole role)
{
	return user.data != NULL &&
		!bloom_lacks_element(state->with_role[role],
							 (unsigned char *) user.data, user.len);
}

/* Does a role that was read make the user one of that type? */
static bool
has_role_of(const OneRoster *state, SisValue user, SisRecordType type)
{
	for (int role = 0; role < SIS_ROLE_UNKNOWN; role++)
	{
		if (sis_oneroster_types((SisUserRole) role) == SIS_TYPE_BIT(type) &&
			may_have_role(state, user, (SisUserRole) role))
			return true;
	}
	return false;
}

static int
user_types_v1p2(SisCsvTable *table)
{
	OneRoster  *state = table->state;
	SisValue	user;
	int			types = 0;

	/* a blank ID is a defect that is judged elsewhere; of a changed user, the
	 * roles that have not changed are not here */
	if (!sis_csv_readable(table, USER_SOURCED_ID, &user) ||
		user.data == NULL || table->delta)
		return SIS_PERSON_TYPES;
	for (int k = 0; k < table->file->nprimary; k++)
	{
		if (has_role_of(state, user, table->file->types[k]))
			types |= SIS_TYPE_BIT(table->file->types[k]);
	}
	return types;
}

/* What the user is to the students. */
static const char *
contact_relationship(const OneRoster *state, SisValue user)
{
	int			roles = 0;

	for (int role = SIS_ROLE_PARENT; role <= SIS_ROLE_RELATIVE; role++)
	{
		if (may_have_role(state, user, (SisUserRole) role))
			roles |= SIS_ROLE_BIT(role);
	}
	return sis_oneroster_relationship(roles);
}

static void
user_row_v1p2(SisCsvTable *table)
{
	OneRoster  *state = table->state;
	SisValue	user = sis_csv_value(table, USER_SOURCED_ID);

	if (user.data == NULL)
	{
		sis_csv_reject(table, SIS_PERSON_TYPES, USER_SOURCED_ID,
					   "the ID is missing");
		return;
	}

	/* what a changed user is need not be known here: it is one reject */
	if (table->delta && !table->deleted &&
		sis_csv_value(table, USER_GIVEN_NAME).data == NULL &&
		sis_csv_value(table, USER_FAMILY_NAME).data == NULL)
	{
		sis_csv_reject(table, SIS_PERSON_TYPES, USER_FAMILY_NAME,
					   "a required value is missing");
		return;
	}
	for (int k = 0; k < table->file->nprimary; k++)
	{
		SisRecordType type = table->file->types[k];
		SisRecord  *record;

		state->role_known = has_role_of(state, user, type);

		if ((table->types & SIS_TYPE_BIT(type)) == 0)
			continue;
		record = begin_user(table, type);
		if (type != SIS_CONTACT &&
			sis_csv_value(table, USER_PRIMARY_ORG).data == NULL)
			record->keep |= SIS_COLUMN_BIT(type == SIS_STUDENT ?
										   state->student_school :
										   state->staff_school);
		sis_csv_put(table);
		if (type != SIS_STAFF)
			put_links(table, type, type == SIS_CONTACT ?
					  contact_relationship(state, user) : NULL);
	}
}

/* ----------
 * demographics.csv
 * ----------
 */

static const SisCsvColumn demographic_columns[] = {
	/* header							student */
	{"sourcedId|userSourcedId|sourceId", SIS_CSV_REQUIRED, {"source_id"}},
	LIFECYCLE,
	{"birthDate", 0, {"birth_date"}},
	{"sex|gender", 0, {"gender"}}
};

static void
demographic_row(SisCsvTable *table)
{
	if (table->deleted)
		return;					/* they have gone, not the student */
	sis_csv_begin(table, 0);
	sis_csv_put(table);
}

/* ----------
 * The layouts
 * ----------
 */

#define COLUMNS(array)	lengthof(array), array

#define ORGS \
	{"orgs.csv", true, false, SIS_PART_BASE, 1, 1, {SIS_SCHOOL}, \
	COLUMNS(org_columns), NULL, org_types, NULL, org_row}
#define SESSIONS \
	{"academicSessions.csv", false, false, SIS_PART_BASE, 1, 1, {SIS_TERM}, \
	COLUMNS(session_columns)}
#define COURSES \
	{"courses.csv", false, false, SIS_PART_BASE, 1, 1, {SIS_COURSE}, \
	COLUMNS(course_columns)}
#define CLASSES \
	{"classes.csv", false, false, SIS_PART_BASE, 1, 1, {SIS_SECTION}, \
	COLUMNS(class_columns)}
#define DEMOGRAPHICS \
	{"demographics.csv", false, true, SIS_PART_EXTRA, 1, 1, {SIS_STUDENT}, \
	COLUMNS(demographic_columns), NULL, NULL, NULL, demographic_row}
#define ENROLLMENTS \
	{"enrollments.csv", false, false, SIS_PART_BASE, 1, 1, {SIS_ENROLLMENT}, \
	COLUMNS(enrollment_columns)}
#define USER_RECORDS \
	3, 4, {SIS_STUDENT, SIS_STAFF, SIS_CONTACT, SIS_STUDENT_CONTACT}

static const SisCsvFile files_v1p1[] = {
	ORGS, SESSIONS, COURSES, CLASSES,
	{"users.csv", true, false, SIS_PART_BASE, USER_RECORDS,
		COLUMNS(user_columns_v1p1), keep_demographics, user_types_v1p1, NULL,
	user_row_v1p1},
	DEMOGRAPHICS, ENROLLMENTS
};

static const SisCsvFile files_v1p2[] = {
	ORGS, SESSIONS, COURSES, CLASSES,
	{"roles.csv", true, false, SIS_PART_ROLE, 3, 3,
		{SIS_STUDENT, SIS_STAFF, SIS_CONTACT},
	COLUMNS(role_columns), begin_roles, role_types, NULL, role_row},
	{"users.csv", true, false, SIS_PART_BASE, USER_RECORDS,
		COLUMNS(user_columns_v1p2), begin_users_v1p2, user_types_v1p2, NULL,
	user_row_v1p2},
	DEMOGRAPHICS, ENROLLMENTS
};

static void *
start(SisSink *sink)
{
	OneRoster  *state = palloc0(sizeof(OneRoster));

	state->student_state_id = sis_record_column(SIS_STUDENT, "state_id");
	state->staff_state_id = sis_record_column(SIS_STAFF, "state_id");
	state->student_school = sis_record_column(SIS_STUDENT, "school_source_id");
	state->staff_school = sis_record_column(SIS_STAFF, "school_source_id");
	sis_links_init(&state->links);
	return state;
}

static void *
start_v1p2(SisSink *sink)
{
	OneRoster  *state = start(sink);

	for (int role = 0; role < SIS_ROLE_UNKNOWN; role++)
		state->with_role[role] = bloom_create(FILTER_ELEMS, FILTER_KB,
											  FILTER_SEED);
	sink->needs_parts[SIS_STUDENT] = SIS_PART_BASE | SIS_PART_ROLE;
	sink->needs_parts[SIS_STAFF] = SIS_PART_BASE | SIS_PART_ROLE;
	sink->needs_parts[SIS_CONTACT] = SIS_PART_BASE | SIS_PART_ROLE;
	return state;
}

/* A set of several districts has no identity of its own. */
static void
finish(void *arg, SisSink *sink)
{
	OneRoster  *state = arg;

	sink->district_id = state->ndistricts == 1 ? state->district_id : NULL;
}

const SisCsvLayout sis_csv_oneroster_v1p1 = {
	"oneroster", false, lengthof(files_v1p1), files_v1p1, start, finish
};

const SisCsvLayout sis_csv_oneroster_v1p2 = {
	"oneroster", false, lengthof(files_v1p2), files_v1p2, start_v1p2, finish
};
