/*
 * oneroster_map.c
 *		What the records of a OneRoster service mean, 1.1 and 1.2.
 *
 * The same as csv_oneroster.c makes of files, so that a district that moves
 * from files to the service finds the records it had.  References are taken as
 * objects and as plain IDs ("class", "classSourcedId").
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/value.h"
#include "provider/oneroster.h"
#include "provider/oneroster_map.h"

/* ----------
 * Paths and columns
 * ----------
 */

/* A reference is an object, a plain ID, or has a key of its own. */
#define REF(key, column) \
	{key ".sourcedId", column}, {key, column}, {key "SourcedId", column}

static const SisJsonColumn org_columns[] = {
	{"sourcedId", "source_id"},
	{"name", "name"},
	{"identifier", "sis_id"},
	{"identifier", "school_number"}
};

static const SisJsonColumn session_columns[] = {
	{"sourcedId", "source_id"},
	{"title", "name"},
	{"type", "term_type"},
	{"startDate", "start_date"},
	{"endDate", "end_date"},
	REF("parent", "parent_source_id"),
	{"schoolYear", "school_year"}
};

static const SisJsonColumn course_columns[] = {
	{"sourcedId", "source_id"},
	{"title", "name"},
	{"courseCode", "course_code"},
	REF("org", "school_source_id"),
	{"grades", "grades"},
	{"grade", "grades"},
	{"subjects", "subjects"}
};

static const SisJsonColumn class_columns[] = {
	{"sourcedId", "source_id"},
	{"title", "name"},
	{"classCode", "section_code"},
	{"classType", "section_type"},
	REF("course", "course_source_id"),
	REF("school", "school_source_id"),
	REF("terms", "term_source_ids"),
	{"termSourcedIds", "term_source_ids"},
	{"termSourcedId", "term_source_ids"},
	{"grades", "grades"},
	{"grade", "grades"},
	{"subjects", "subjects"},
	{"periods", "periods"},
	{"location", "location"}
};

static const SisJsonColumn enrollment_columns[] = {
	{"sourcedId", "source_id"},
	REF("class", "section_source_id"),
	REF("school", "school_source_id"),
	REF("user", "person_source_id"),
	{"role", "role", true},
	{"primary", "is_primary"},
	{"beginDate", "begin_date"},
	{"endDate", "end_date"}
};

#define PERSON_COLUMNS \
	{"sourcedId", "source_id"}, \
	{"identifier", "sis_id"}, \
	{"username", "username"}, \
	{"givenName", "given_name"}, \
	{"familyName", "family_name"}, \
	{"email", "email"}

static const SisJsonColumn student_columns[] = {
	PERSON_COLUMNS,
	{"identifier", "student_number"},
	{"middleName", "middle_name"},
	{"preferredFirstName", "preferred_given_name"},
	{"preferredGivenName", "preferred_given_name"},
	{"preferredLastName", "preferred_family_name"},
	{"preferredFamilyName", "preferred_family_name"},
	{"phone", "phone"},
	{"sms", "phone"},
	{"grades", "grade"},
	{"grade", "grade"},
	{"enabledUser", "enabled"}
};

static const SisJsonColumn staff_columns[] = {
	PERSON_COLUMNS,
	{"identifier", "staff_number"},
	{"middleName", "middle_name"},
	{"phone", "phone"},
	{"sms", "phone"},
	{"enabledUser", "enabled"}
};

static const SisJsonColumn contact_columns[] = {
	PERSON_COLUMNS,
	{"phone", "phones"},
	{"sms", "phones"}
};

static const SisJsonColumn demographic_columns[] = {
	{"sourcedId", "source_id"},
	{"birthDate", "birth_date"},
	{"birthdate", "birth_date"},
	{"sex", "gender"},
	{"gender", "gender"}
};

#define COLUMNS(array)	lengthof(array), array

static void
add_map(SisOneRosterMap *map, const SisWants *wants, SisRecordType type,
		int ncolumns, const SisJsonColumn *columns)
{
	map->maps[type] = sis_jsonmap_create(type, ncolumns, columns, NULL, wants);
}

SisOneRosterMap *
sis_oneroster_map_create(const SisOneRoster *roster)
{
	static const SisRecordType persons[] = {SIS_STUDENT, SIS_STAFF};
	SisOneRosterMap *map = palloc0(sizeof(SisOneRosterMap));
	const SisWants *wants = roster->wants;

	map->v1p2 = roster->v1p2;
	map->include_demographics = wants->include_demographics;
	map->record = sis_record_create();
	map->row_cxt = AllocSetContextCreate(CurrentMemoryContext,
										 "sis_sync OneRoster record",
										 ALLOCSET_DEFAULT_SIZES);
	sis_links_init(&map->links);

	add_map(map, wants, SIS_SCHOOL, COLUMNS(org_columns));
	add_map(map, wants, SIS_TERM, COLUMNS(session_columns));
	add_map(map, wants, SIS_COURSE, COLUMNS(course_columns));
	add_map(map, wants, SIS_SECTION, COLUMNS(class_columns));
	add_map(map, wants, SIS_STUDENT, COLUMNS(student_columns));
	add_map(map, wants, SIS_STAFF, COLUMNS(staff_columns));
	add_map(map, wants, SIS_CONTACT, COLUMNS(contact_columns));
	add_map(map, wants, SIS_ENROLLMENT, COLUMNS(enrollment_columns));
	map->demographics = sis_jsonmap_create(SIS_STUDENT,
										   COLUMNS(demographic_columns), NULL,
										   wants);

	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		SisRecordType type = persons[i];

		map->school_column[type] = sis_record_column(type, "school_source_id");
		map->schools_column[type] = sis_record_column(type,
													  "school_source_ids");
		map->state_id_column[type] = sis_record_column(type, "state_id");
	}
	map->roles_column = sis_record_column(SIS_STAFF, "roles");
	map->demographic_columns =
		SIS_COLUMN_BIT(sis_record_column(SIS_STUDENT, "birth_date")) |
		SIS_COLUMN_BIT(sis_record_column(SIS_STUDENT, "gender"));
	return map;
}

const char *
sis_oneroster_map_district(const SisOneRosterMap *map)
{
	return map->ndistricts == 1 ? map->district_id : NULL;
}

uint64
sis_oneroster_map_demographics(const SisOneRosterMap *map)
{
	return map->demographic_columns;
}

bool
sis_oneroster_map_has_agents(const SisOneRosterMap *map)
{
	return map->has_agents;
}

/* ----------
 * Records in general
 * ----------
 */

bool
sis_oneroster_is_deleted(const SisJsonNode *node)
{
	SisValue	status = sis_json_find(node, "status");

	return sis_value_is(status, "tobedeleted") ||
		sis_value_is(status, "inactive");
}

void
sis_oneroster_reject(SisRestCall *call, int types, SisValue id,
					 const char *column, const char *reason)
{
	SisReject	reject = {0};

	reject.types = types;
	reject.source = call->collection;
	reject.line = call->line;
	reject.source_id = id;
	reject.column = column;
	reject.reason = reason;
	call->sink->reject(call->sink, &reject);
}

SisRecord *
sis_oneroster_begin(SisOneRosterMap *map, SisRecordType type,
					SisRestCall *call, const SisJsonNode *node)
{
	SisRecord  *record = map->record;

	sis_jsonmap_fill(map->maps[type], record, node, call->collection,
					 call->line);
	record->deleted = sis_oneroster_is_deleted(node);
	record->last_modified = sis_json_find(node, "dateLastModified");
	return record;
}

void
sis_oneroster_put(SisRestCall *call, SisRecord *record)
{
	sis_record_finish(record);
	call->sink->put(call->sink, record);
}

static void
put_plain(SisOneRosterMap *map, SisRecordType type, SisRestCall *call,
		  const SisJsonNode *node)
{
	call->sink->row_read(call->sink, SIS_TYPE_BIT(type));
	sis_oneroster_put(call, sis_oneroster_begin(map, type, call, node));
}

/* ----------
 * orgs and demographics
 * ----------
 */

static void
take_district(SisOneRosterMap *map, const SisJsonNode *node)
{
	SisValue	id = sis_json_find(node, "sourcedId");

	if (id.data == NULL || sis_oneroster_is_deleted(node))
		return;
	/* a page may come a second time */
	if (map->ndistricts > 0 && id.len == (int) strlen(map->district_id) &&
		memcmp(id.data, map->district_id, id.len) == 0)
		return;
	if (map->ndistricts++ == 0)
		map->district_id = MemoryContextStrdup(GetMemoryChunkContext(map),
											   pnstrdup(id.data, id.len));
}

/* Districts, departments and the like are no schools. */
static void
put_org(SisOneRosterMap *map, SisRestCall *call, const SisJsonNode *node)
{
	SisValue	type = sis_json_find(node, "type");

	if (sis_value_is(type, "district"))
		take_district(map, node);
	if (type.data != NULL && !sis_value_is(type, "school"))
		return;
	call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_SCHOOL));

	/* it may be a school; but a deleted one needs no more than its ID */
	if (type.data == NULL && !sis_oneroster_is_deleted(node))
		sis_oneroster_reject(call, SIS_TYPE_BIT(SIS_SCHOOL),
							 sis_json_find(node, "sourcedId"), "type",
							 "type is missing");
	else
		sis_oneroster_put(call, sis_oneroster_begin(map, SIS_SCHOOL, call, node));
}

static void
put_demographics(SisOneRosterMap *map, SisRestCall *call,
				 const SisJsonNode *node)
{
	SisRecord  *record = map->record;

	call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_STUDENT));
	if (sis_oneroster_is_deleted(node))
		return;					/* they have gone, not the student */
	sis_jsonmap_fill(map->demographics, record, node, call->collection,
					 call->line);
	record->part = SIS_PART_EXTRA;
	record->last_modified = sis_json_find(node, "dateLastModified");
	record->keep = (SIS_COLUMN_BIT(sis_record_desc(SIS_STUDENT)->ncolumns) - 1) &
		~map->demographic_columns & ~SIS_COLUMN_BIT(SIS_COL_SOURCE_ID);
	sis_oneroster_put(call, record);
}

/* ----------
 * Entry points
 * ----------
 */

/* The types whose records a collection may name. */
static int
types_of(SisOneRosterCollection collection)
{
	switch (collection)
	{
		case SIS_OR_ORGS:
			return SIS_TYPE_BIT(SIS_SCHOOL);
		case SIS_OR_SESSIONS:
			return SIS_TYPE_BIT(SIS_TERM);
		case SIS_OR_COURSES:
			return SIS_TYPE_BIT(SIS_COURSE);
		case SIS_OR_CLASSES:
			return SIS_TYPE_BIT(SIS_SECTION);
		case SIS_OR_USERS:
			return SIS_PERSON_TYPES;
		case SIS_OR_ENROLLMENTS:
			return SIS_TYPE_BIT(SIS_ENROLLMENT);
		case SIS_OR_DEMOGRAPHICS:
			break;
	}
	return SIS_TYPE_BIT(SIS_STUDENT);
}

void
sis_oneroster_map_reject(SisOneRosterMap *map,
						 SisOneRosterCollection collection,
						 SisRestCall *call, SisValue id, const char *problem)
{
	int			types = types_of(collection);
	SisValue	none = {NULL, 0};

	call->sink->row_read(call->sink, types);
	sis_oneroster_reject(call, types, id, NULL, problem);
	/* the agents that it may name cannot be read */
	if (collection == SIS_OR_USERS)
	{
		call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_STUDENT_CONTACT));
		sis_oneroster_reject(call, SIS_TYPE_BIT(SIS_STUDENT_CONTACT), none,
							 NULL, problem);
	}
}

void
sis_oneroster_map_put(SisOneRosterMap *map, SisOneRosterCollection collection,
					  SisRestCall *call, const SisJsonNode *record)
{
	SisValue	none = {NULL, 0};
	MemoryContext old;

	if (sis_json_kind(record) != SIS_JSON_OBJECT)
	{
		sis_oneroster_map_reject(map, collection, call, none, "not an object");
		return;
	}
	old = MemoryContextSwitchTo(map->row_cxt);
	switch (collection)
	{
		case SIS_OR_ORGS:
			put_org(map, call, record);
			break;
		case SIS_OR_SESSIONS:
			put_plain(map, SIS_TERM, call, record);
			break;
		case SIS_OR_COURSES:
			put_plain(map, SIS_COURSE, call, record);
			break;
		case SIS_OR_CLASSES:
			put_plain(map, SIS_SECTION, call, record);
			break;
		case SIS_OR_USERS:
			sis_oneroster_put_user(map, call, record);
			break;
		case SIS_OR_ENROLLMENTS:
			put_plain(map, SIS_ENROLLMENT, call, record);
			break;
		case SIS_OR_DEMOGRAPHICS:
			put_demographics(map, call, record);
			break;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(map->row_cxt);
}
