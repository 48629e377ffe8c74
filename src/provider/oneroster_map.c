/*
 * oneroster_map.c
 *		What the records of a OneRoster service mean, 1.1 and 1.2.
 *
 * The same as csv_oneroster.c makes of files, so that a district that moves
 * from files to the service finds the records it had.  Shapes are taken as
 * they come, whatever the version: references as objects or as plain IDs
 * ("class", "classSourcedId"), one role or several.
 */
#include "postgres.h"

#include "base/textlist.h"
#include "utils/memutils.h"

#include "provider/jsonmap.h"
#include "provider/oneroster.h"
#include "provider/oneroster_rest.h"

struct SisOneRosterMap
{
	bool		v1p2;
	bool		include_demographics;
	SisJsonMap *maps[SIS_N_RECORD_TYPES];
	SisJsonMap *demographics;
	SisRecord  *record;			/* the one that is filled again and again */
	MemoryContext row_cxt;		/* of one record */
	int			ndistricts;
	char	   *district_id;	/* of the first */
	bool		has_agents;

	/* columns that functions fill */
	int			school_column[SIS_N_RECORD_TYPES];
	int			schools_column[SIS_N_RECORD_TYPES];
	int			state_id_column[SIS_N_RECORD_TYPES];
	int			roles_column;
	int			link_student;
	int			link_contact;
	int			link_relationship;
	uint64		demographic_columns;
	StringInfoData link_id;
};

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
	initStringInfo(&map->link_id);

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
	map->link_student = sis_record_column(SIS_STUDENT_CONTACT,
										  "student_source_id");
	map->link_contact = sis_record_column(SIS_STUDENT_CONTACT,
										  "contact_source_id");
	map->link_relationship = sis_record_column(SIS_STUDENT_CONTACT,
											   "relationship");
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

static bool
is_word(SisValue value, const char *word)
{
	return value.len == (int) strlen(word) &&
		pg_strncasecmp(value.data, word, value.len) == 0;
}

static bool
is_deleted(const SisJsonNode *node)
{
	SisValue	status = sis_json_find(node, "status");

	return status.data != NULL && (is_word(status, "tobedeleted") ||
								   is_word(status, "inactive"));
}

/* The ID in a reference, or the plain ID. */
static SisValue
ref_id(const SisJsonNode *node)
{
	SisValue	value = sis_json_value(node);

	return value.data != NULL ? sis_trim(value.data, value.len) :
		sis_json_find(node, "sourcedId");
}

static void
reject(SisRestCall *call, int types, SisValue id, const char *column,
	   const char *reason)
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

/* Begins the record of that type. */
static SisRecord *
begin(SisOneRosterMap *map, SisRecordType type, SisRestCall *call,
	  const SisJsonNode *node)
{
	SisRecord  *record = map->record;

	sis_jsonmap_fill(map->maps[type], record, node, call->collection,
					 call->line);
	record->deleted = is_deleted(node);
	record->last_modified = sis_json_find(node, "dateLastModified");
	return record;
}

static void
put(SisRestCall *call, SisRecord *record)
{
	sis_record_finish(record);
	call->sink->put(call->sink, record);
}

static void
put_plain(SisOneRosterMap *map, SisRecordType type, SisRestCall *call,
		  const SisJsonNode *node)
{
	call->sink->row_read(call->sink, SIS_TYPE_BIT(type));
	put(call, begin(map, type, call, node));
}

/* ----------
 * orgs and demographics
 * ----------
 */

static void
take_district(SisOneRosterMap *map, const SisJsonNode *node)
{
	SisValue	id = sis_json_find(node, "sourcedId");

	if (id.data == NULL || is_deleted(node))
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

	if (type.data != NULL && is_word(type, "district"))
		take_district(map, node);
	if (type.data != NULL && !is_word(type, "school"))
		return;
	call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_SCHOOL));

	/* it may be a school; but a deleted one needs no more than its ID */
	if (type.data == NULL && !is_deleted(node))
		reject(call, SIS_TYPE_BIT(SIS_SCHOOL), sis_json_find(node, "sourcedId"),
			   "type", "type is missing");
	else
		put(call, begin(map, SIS_SCHOOL, call, node));
}

static void
put_demographics(SisOneRosterMap *map, SisRestCall *call,
				 const SisJsonNode *node)
{
	SisRecord  *record = map->record;

	call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_STUDENT));
	if (is_deleted(node))
		return;					/* they have gone, not the student */
	sis_jsonmap_fill(map->demographics, record, node, call->collection,
					 call->line);
	record->part = SIS_PART_EXTRA;
	record->last_modified = sis_json_find(node, "dateLastModified");
	record->keep = (SIS_COLUMN_BIT(sis_record_desc(SIS_STUDENT)->ncolumns) - 1) &
		~map->demographic_columns & ~SIS_COLUMN_BIT(SIS_COL_SOURCE_ID);
	put(call, record);
}

/* ----------
 * Users: roles and schools
 * ----------
 */

/* What a user's record says of roles. */
typedef struct Roles
{
	const SisJsonNode *list;	/* roles[], where that is what counts */
	SisValue	single;			/* else the one role */
	int			types;			/* SIS_TYPE_BITs; 0: see problem */
	const char *problem;
	bool		is_contact[SIS_ROLE_UNKNOWN];	/* as which kind of contact */
} Roles;

static void
add_role(Roles *roles, SisValue name)
{
	SisUserRole role = sis_oneroster_role(name);

	if (role == SIS_ROLE_UNKNOWN)
	{
		roles->problem = name.data != NULL ? "unknown role" :
			"role is missing";
		return;
	}
	roles->types |= sis_oneroster_types(role);
	roles->is_contact[role] = sis_oneroster_relationship(role) != NULL;
}

/*
 * 1.2 has a list, 1.1 one role; a service of 1.1 may send both, and some say
 * another version than they speak.
 */
static void
read_roles(const SisOneRosterMap *map, const SisJsonNode *node, Roles *roles)
{
	const SisJsonNode *list = sis_json_member(node, "roles");
	int			n = sis_json_length(list);

	memset(roles, 0, sizeof(Roles));
	roles->single = sis_json_find(node, "role");
	if (n > 0 && (map->v1p2 || roles->single.data == NULL))
	{
		roles->list = list;
		for (int i = 0; i < n; i++)
			add_role(roles, sis_json_find(sis_json_item(list, i), "role"));
	}
	else
		add_role(roles, roles->single);
}

/* What a contact is to students; NULL when there are two answers. */
static const char *
relationship_of(const Roles *roles)
{
	const char *result = NULL;

	for (int role = 0; role < SIS_ROLE_UNKNOWN; role++)
	{
		if (!roles->is_contact[role])
			continue;
		if (result != NULL)
			return NULL;
		result = sis_oneroster_relationship((SisUserRole) role);
	}
	return result;
}

static int
compare_items(const void *a, const void *b)
{
	return sis_compare_values(*(const SisValue *) a, *(const SisValue *) b);
}

/* Adds items to a list column in the order that files of 1.2 end up in. */
static void
add_sorted(SisRecord *record, int column, SisValue *items, int n)
{
	qsort(items, n, sizeof(SisValue), compare_items);
	for (int i = 0; i < n; i++)
		sis_record_add(record, column, items[i].data, items[i].len);
}

static SisValue
lower_case(SisValue text)
{
	SisValue	result = {NULL, 0};

	if (text.data != NULL)
	{
		char	   *copy = pnstrdup(text.data, text.len);

		for (int i = 0; i < text.len; i++)
			copy[i] = (char) pg_ascii_tolower((unsigned char) copy[i]);
		result.data = copy;
		result.len = text.len;
	}
	return result;
}

/* The schools and roles of a list of roles, as far as they are of the type. */
static void
set_listed_roles(SisOneRosterMap *map, SisRecord *record,
				 const SisJsonNode *node, const Roles *roles)
{
	int			column = map->school_column[record->type];
	int			n = sis_json_length(roles->list);
	SisValue   *schools = palloc(sizeof(SisValue) * n);
	SisValue   *names = palloc(sizeof(SisValue) * n);
	SisValue	primary = ref_id(sis_json_member(node, "primaryOrg"));
	int			nschools = 0;
	int			nnames = 0;

	if (primary.data == NULL)
		primary = sis_json_find(node, "primaryOrgSourcedId");
	for (int i = 0; i < n; i++)
	{
		const SisJsonNode *item = sis_json_item(roles->list, i);
		SisValue	name = sis_json_find(item, "role");
		SisValue	org = ref_id(sis_json_member(item, "org"));

		if ((sis_oneroster_types(sis_oneroster_role(name)) &
			 SIS_TYPE_BIT(record->type)) == 0)
			continue;
		names[nnames++] = lower_case(name);
		if (org.data == NULL)
			org = sis_json_find(item, "orgSourcedId");
		if (org.data == NULL)
			continue;
		schools[nschools++] = org;
		if (primary.data == NULL &&
			is_word(sis_json_find(item, "roleType"), "primary"))
			primary = org;
	}
	add_sorted(record, map->schools_column[record->type], schools, nschools);
	if (record->type == SIS_STAFF)
		add_sorted(record, map->roles_column, names, nnames);
	if (primary.data != NULL)
		sis_record_set(record, column, primary.data, primary.len);
	else
		record->keep |= SIS_COLUMN_BIT(column);
}

static void
add_school(SisOneRosterMap *map, SisRecord *record, const SisJsonNode *node)
{
	int			n = sis_json_length(node);
	SisValue	id;

	for (int i = 0; i < n; i++)
		add_school(map, record, sis_json_item(node, i));
	if (sis_json_kind(node) == SIS_JSON_ARRAY)
		return;
	id = ref_id(node);
	sis_record_add(record, map->school_column[record->type], id.data, id.len);
	sis_record_add(record, map->schools_column[record->type], id.data, id.len);
}

/* The schools of 1.1, and the one role. */
static void
set_single_role(SisOneRosterMap *map, SisRecord *record,
				const SisJsonNode *node, const Roles *roles)
{
	static const char *const keys[] = {
		"orgs", "orgSourcedIds", "orgSourcedId"
	};

	for (int i = 0; i < (int) lengthof(keys); i++)
		add_school(map, record, sis_json_member(node, keys[i]));
	if (record->type == SIS_STAFF && roles->single.data != NULL)
	{
		SisValue	name = lower_case(roles->single);

		sis_record_add(record, map->roles_column, name.data, name.len);
	}
}

/* ----------
 * Users: the state's ID, and links
 * ----------
 */

static SisValue
state_id_of(const SisJsonNode *node)
{
	const SisJsonNode *ids = sis_json_member(node, "userIds");
	int			n = sis_json_length(ids);
	SisValue	none = {NULL, 0};

	for (int i = 0; i < n; i++)
	{
		SisValue	type = sis_json_find(sis_json_item(ids, i), "type");

		for (int p = 0; p + 5 <= type.len; p++)
		{
			if (pg_strncasecmp(type.data + p, "state", 5) == 0)
				return sis_json_find(sis_json_item(ids, i), "identifier");
		}
	}
	return none;
}

static void
put_link(SisOneRosterMap *map, SisRestCall *call, const SisJsonNode *node,
		 SisValue student, SisValue contact, const char *relationship)
{
	SisRecord  *record = map->record;
	SisValue	ends[2];

	sis_record_reset(record, SIS_STUDENT_CONTACT, call->collection,
					 call->line);
	record->last_modified = sis_json_find(node, "dateLastModified");
	ends[0] = student;
	ends[1] = contact;
	sis_made_id(&map->link_id, ends, 2);
	sis_record_set(record, SIS_COL_SOURCE_ID, map->link_id.data,
				   map->link_id.len);
	sis_record_set(record, map->link_student, student.data, student.len);
	sis_record_set(record, map->link_contact, contact.data, contact.len);
	if (relationship != NULL)
		sis_record_set(record, map->link_relationship, relationship,
					   (int) strlen(relationship));
	else
		record->keep |= SIS_COLUMN_BIT(map->link_relationship);

	/* a student names the contact, and the contact the student */
	record->repeats = true;
	put(call, record);
}

/* The key, whatever the service calls it. */
static const SisJsonNode *
agents_of(const SisJsonNode *node)
{
	static const char *const keys[] = {
		"agents", "agentSourcedIds", "agentSourceIds"
	};
	const SisJsonNode *agents = NULL;

	for (int i = 0; i < (int) lengthof(keys) && agents == NULL; i++)
		agents = sis_json_member(node, keys[i]);
	return agents;
}

static bool
names_agents(const SisJsonNode *node)
{
	const SisJsonNode *agents = agents_of(node);
	int			n = sis_json_length(agents);

	for (int i = 0; i < n; i++)
	{
		if (ref_id(sis_json_item(agents, i)).data != NULL)
			return true;
	}
	return false;
}

/*
 * The links of a student to each agent, or of a contact to each student.  Only
 * the contact's own record tells what the contact is to them.
 */
static void
put_links(SisOneRosterMap *map, SisRestCall *call, const SisJsonNode *node,
		  SisRecordType type, const char *relationship)
{
	const SisJsonNode *agents = agents_of(node);
	int			n = sis_json_length(agents);
	SisValue	self = sis_json_find(node, "sourcedId");

	if (is_deleted(node))
		return;
	for (int i = 0; i < n; i++)
	{
		SisValue	agent = ref_id(sis_json_item(agents, i));

		if (agent.data == NULL)
			continue;
		if (type == SIS_STUDENT)
			put_link(map, call, node, self, agent, NULL);
		else
			put_link(map, call, node, agent, self, relationship);
	}
}

/* ----------
 * Users
 * ----------
 */

static void
put_person(SisOneRosterMap *map, SisRecordType type, SisRestCall *call,
		   const SisJsonNode *node, const Roles *roles)
{
	SisRecord  *record = begin(map, type, call, node);

	if (type != SIS_CONTACT)
	{
		SisValue	state_id = state_id_of(node);

		sis_record_set(record, map->state_id_column[type], state_id.data,
					   state_id.len);
		if (roles->list != NULL)
			set_listed_roles(map, record, node, roles);
		else
			set_single_role(map, record, node, roles);
	}

	/* the list of demographics brings these where it is read */
	if (type == SIS_STUDENT && map->include_demographics)
		record->keep |= map->demographic_columns;
	put(call, record);
}

static void
put_user(SisOneRosterMap *map, SisRestCall *call, const SisJsonNode *node)
{
	static const SisRecordType persons[] = {
		SIS_STUDENT, SIS_STAFF, SIS_CONTACT
	};
	SisValue	id = sis_json_find(node, "sourcedId");
	bool		links = names_agents(node);
	Roles		roles;

	if (agents_of(node) != NULL)
		map->has_agents = true;
	read_roles(map, node, &roles);
	/* a deleted user needs no more than the ID: deleted as any of them */
	if (roles.types == 0 && roles.single.data == NULL && roles.list == NULL &&
		is_deleted(node))
	{
		roles.types = SIS_PERSON_TYPES;
		roles.problem = NULL;
	}

	call->sink->row_read(call->sink, roles.problem != NULL ?
						 SIS_PERSON_TYPES : roles.types);
	if (links)
		call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_STUDENT_CONTACT));
	if (roles.problem != NULL || id.data == NULL)
	{
		SisValue	none = {NULL, 0};

		reject(call, roles.problem != NULL ? SIS_PERSON_TYPES : roles.types,
			   id, roles.problem != NULL ? "role" : "sourcedId",
			   roles.problem != NULL ? roles.problem : "the ID is missing");
		if (links)
			reject(call, SIS_TYPE_BIT(SIS_STUDENT_CONTACT), none, "agents",
				   "the user was rejected");
		return;
	}
	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		SisRecordType type = persons[i];

		if ((roles.types & SIS_TYPE_BIT(type)) == 0)
			continue;
		put_person(map, type, call, node, &roles);
		if (type != SIS_STAFF)
			put_links(map, call, node, type,
					  type == SIS_CONTACT ? relationship_of(&roles) : NULL);
	}
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
	reject(call, types, id, NULL, problem);
	/* the agents that it may name cannot be read */
	if (collection == SIS_OR_USERS)
	{
		call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_STUDENT_CONTACT));
		reject(call, SIS_TYPE_BIT(SIS_STUDENT_CONTACT), none, NULL, problem);
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
			put_user(map, call, record);
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
