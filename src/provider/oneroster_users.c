/*
 * oneroster_users.c
 *		What a user of a OneRoster service is: student, staff or contact.
 *
 * A user has one role (1.1) or a list of roles, each at a school (1.2), and is
 * a record of each type that a role makes.  Shapes are taken as they come,
 * whatever the version.
 */
#include "postgres.h"

#include "base/textlist.h"
#include "base/value.h"
#include "provider/oneroster.h"
#include "provider/oneroster_map.h"

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
	int			roles;			/* SIS_ROLE_BITs */
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
	roles->roles |= SIS_ROLE_BIT(role);
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
	SisValue	primary = sis_oneroster_ref(sis_json_member(node, "primaryOrg"));
	int			nschools = 0;
	int			nnames = 0;

	if (primary.data == NULL)
		primary = sis_json_find(node, "primaryOrgSourcedId");
	for (int i = 0; i < n; i++)
	{
		const SisJsonNode *item = sis_json_item(roles->list, i);
		SisValue	name = sis_json_find(item, "role");
		SisValue	org = sis_oneroster_ref(sis_json_member(item, "org"));

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
			sis_value_is(sis_json_find(item, "roleType"), "primary"))
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
	id = sis_oneroster_ref(node);
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
		const SisJsonNode *item = sis_json_item(ids, i);

		if (sis_oneroster_is_state(sis_json_find(item, "type")))
			return sis_json_find(item, "identifier");
	}
	return none;
}

static void
put_link(SisOneRosterMap *map, SisRestCall *call, const SisJsonNode *node,
		 SisValue student, SisValue contact, const char *relationship)
{
	SisRecord  *record = map->record;

	sis_record_reset(record, SIS_STUDENT_CONTACT, call->collection,
					 call->line);
	record->last_modified = sis_json_find(node, "dateLastModified");
	sis_link_oneroster_contact(&map->links, record, student, contact,
							   relationship);
	sis_oneroster_put(call, record);
}

/* The list, whatever the service calls it. */
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
names_any(const SisJsonNode *agents)
{
	int			n = sis_json_length(agents);

	for (int i = 0; i < n; i++)
	{
		if (sis_oneroster_ref(sis_json_item(agents, i)).data != NULL)
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
		  const SisJsonNode *agents, SisRecordType type,
		  const char *relationship)
{
	int			n = sis_json_length(agents);
	SisValue	self = sis_json_find(node, "sourcedId");

	for (int i = 0; i < n; i++)
	{
		SisValue	agent = sis_oneroster_ref(sis_json_item(agents, i));

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
	SisRecord  *record = sis_oneroster_begin(map, type, call, node);

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
	sis_oneroster_put(call, record);
}

/* Rejects a user, and the links named by it, whose IDs are not known. */
static void
reject_user(SisRestCall *call, SisValue id, int types, const char *key,
			const char *reason, bool has_links)
{
	SisValue	none = {NULL, 0};

	sis_oneroster_reject(call, types, id, key, reason);
	if (has_links)
		sis_oneroster_reject(call, SIS_TYPE_BIT(SIS_STUDENT_CONTACT), none,
							 "agents", "the user was rejected");
}

void
sis_oneroster_put_user(SisOneRosterMap *map, SisRestCall *call,
					   const SisJsonNode *node)
{
	static const SisRecordType persons[] = {
		SIS_STUDENT, SIS_STAFF, SIS_CONTACT
	};
	SisValue	id = sis_json_find(node, "sourcedId");
	const SisJsonNode *agents = agents_of(node);
	bool		has_links = names_any(agents);
	bool		deleted = sis_oneroster_is_deleted(node);
	Roles		roles;

	map->has_agents |= agents != NULL;
	read_roles(map, node, &roles);
	/* a deleted user needs no more than the ID: deleted as any of them */
	if (deleted && roles.list == NULL && roles.single.data == NULL)
		roles.problem = NULL;
	if (roles.types == 0 || roles.problem != NULL)
		roles.types = SIS_PERSON_TYPES;

	call->sink->row_read(call->sink, roles.types);
	if (has_links)
		call->sink->row_read(call->sink, SIS_TYPE_BIT(SIS_STUDENT_CONTACT));
	if (roles.problem != NULL)
		reject_user(call, id, roles.types, "role", roles.problem, has_links);
	else if (id.data == NULL)
		reject_user(call, id, roles.types, "sourcedId", "the ID is missing",
					has_links);
	else
	{
		for (int i = 0; i < (int) lengthof(persons); i++)
		{
			SisRecordType type = persons[i];

			if ((roles.types & SIS_TYPE_BIT(type)) == 0)
				continue;
			put_person(map, type, call, node, &roles);
			if (type != SIS_STAFF && !deleted)
				put_links(map, call, node, agents, type,
						  sis_oneroster_relationship(roles.roles));
		}
	}
}
