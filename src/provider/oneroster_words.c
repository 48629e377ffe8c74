/*
 * oneroster_words.c
 *		What OneRoster's words mean, in CSV files and over REST alike.
 */
#include "postgres.h"

#include "base/value.h"
#include "provider/oneroster.h"

SisUserRole
sis_oneroster_role(SisValue name)
{
	static const struct
	{
		const char *name;
		SisUserRole role;
	}			roles[] = {
		{"student", SIS_ROLE_STUDENT},
		{"teacher", SIS_ROLE_STAFF},
		{"parent", SIS_ROLE_PARENT},
		{"guardian", SIS_ROLE_GUARDIAN},
		{"relative", SIS_ROLE_RELATIVE},
		{"administrator", SIS_ROLE_STAFF},
		{"aide", SIS_ROLE_STAFF},
		{"proctor", SIS_ROLE_STAFF},
		/* these came with 1.2 */
		{"counselor", SIS_ROLE_STAFF},
		{"districtAdministrator", SIS_ROLE_STAFF},
		{"principal", SIS_ROLE_STAFF},
		{"siteAdministrator", SIS_ROLE_STAFF},
		{"systemAdministrator", SIS_ROLE_STAFF}
	};

	for (int i = 0; i < (int) lengthof(roles); i++)
	{
		if (sis_value_is(name, roles[i].name))
			return roles[i].role;
	}
	return SIS_ROLE_UNKNOWN;
}

int
sis_oneroster_types(SisUserRole role)
{
	switch (role)
	{
		case SIS_ROLE_STUDENT:
			return SIS_TYPE_BIT(SIS_STUDENT);
		case SIS_ROLE_STAFF:
			return SIS_TYPE_BIT(SIS_STAFF);
		case SIS_ROLE_PARENT:
		case SIS_ROLE_GUARDIAN:
		case SIS_ROLE_RELATIVE:
			return SIS_TYPE_BIT(SIS_CONTACT);
		case SIS_ROLE_UNKNOWN:
			break;
	}
	return SIS_PERSON_TYPES;
}

const char *
sis_oneroster_relationship(int roles)
{
	switch (roles & (SIS_ROLE_BIT(SIS_ROLE_PARENT) |
					 SIS_ROLE_BIT(SIS_ROLE_GUARDIAN) |
					 SIS_ROLE_BIT(SIS_ROLE_RELATIVE)))
	{
		case SIS_ROLE_BIT(SIS_ROLE_PARENT):
			return "parent";
		case SIS_ROLE_BIT(SIS_ROLE_GUARDIAN):
			return "guardian";
		case SIS_ROLE_BIT(SIS_ROLE_RELATIVE):
			return "relative";
		default:
			return NULL;
	}
}

bool
sis_oneroster_is_state(SisValue id_type)
{
	for (int i = 0; i + 5 <= id_type.len; i++)
	{
		if (pg_strncasecmp(id_type.data + i, "state", 5) == 0)
			return true;
	}
	return false;
}

SisValue
sis_oneroster_state_id(SisValue list)
{
	const char *p = list.data;
	const char *end = list.data + list.len;
	SisValue	none = {NULL, 0};

	while ((p = memchr(p, '{', end - p)) != NULL)
	{
		const char *close = memchr(p, '}', end - p);
		const char *colon;
		SisValue	id_type;

		if (close == NULL)
			break;
		colon = memchr(p, ':', close - p);
		if (colon != NULL)
		{
			id_type.data = p + 1;
			id_type.len = (int) (colon - p - 1);
			if (sis_oneroster_is_state(id_type))
				return sis_trim(colon + 1, (int) (close - colon - 1));
		}
		p = close;
	}
	return none;
}
