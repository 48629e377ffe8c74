/*
 * oneroster.h
 *		What OneRoster's words mean, in CSV files and over REST alike.
 */
#ifndef SIS_ONEROSTER_H
#define SIS_ONEROSTER_H

#include "base/record.h"

/* What a user's role makes of the user (OneRoster 1.1 and 1.2). */
typedef enum SisUserRole
{
	SIS_ROLE_STUDENT,
	SIS_ROLE_STAFF,
	SIS_ROLE_PARENT,
	SIS_ROLE_GUARDIAN,
	SIS_ROLE_RELATIVE,
	SIS_ROLE_UNKNOWN
} SisUserRole;

#define SIS_ROLE_BIT(role)	(1 << (role))

/* The types that a user may be. */
#define SIS_PERSON_TYPES \
	(SIS_TYPE_BIT(SIS_STUDENT) | SIS_TYPE_BIT(SIS_STAFF) | \
	 SIS_TYPE_BIT(SIS_CONTACT))

/* The role of that name, in any case; NULL data is unknown as well. */
extern SisUserRole sis_oneroster_role(SisValue name);

/* The type of a user in that role, as SIS_TYPE_BIT; unknown: any of them. */
extern int	sis_oneroster_types(SisUserRole role);

/*
 * What a contact in those roles (SIS_ROLE_BITs) is to a student; NULL: nothing
 * can be said, or there are two answers.
 */
extern const char *sis_oneroster_relationship(int roles);

/* Does the type of one of a user's IDs call it the state's? */
extern bool sis_oneroster_is_state(SisValue id_type);

/*
 * The state's ID in a list such as "{Fed:88412},{State:0093321}"; data NULL
 * when there is none that could be told.
 */
extern SisValue sis_oneroster_state_id(SisValue list);

#endif
