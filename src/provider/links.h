/*
 * links.h
 *		Records that join two others, as files and services make them.
 *
 * Their IDs are made of what they join.  Whether a link comes in a file or
 * from a service, its record is filled here, so that both make the same of it.
 */
#ifndef SIS_LINKS_H
#define SIS_LINKS_H

#include "base/record.h"

typedef struct SisLinks
{
	/* columns of student_contact */
	int			student;
	int			contact;
	int			relationship;
	int			contact_type;

	/* columns of enrollment */
	int			person;
	int			role;
	int			is_primary;

	StringInfoData id;			/* of whatever was filled last */
} SisLinks;

/* The ID's buffer lives in the current memory context. */
extern void sis_links_init(SisLinks *links);

/*
 * All of these fill a record that has been begun.  Its ID points into links,
 * and so has to be put before the next one is filled.
 */

/*
 * OneRoster: a student's contact.  Only the contact's own row tells what the
 * contact is to the student: relationship NULL keeps what is stored.
 */
extern void sis_link_oneroster_contact(SisLinks *links, SisRecord *record,
									   SisValue student, SisValue contact,
									   const char *relationship);

/*
 * Clever: a student's contact, and a person in a section.  Without both ends
 * there is no ID that could be made, and a made-up one would protect no stored
 * record: such a record becomes a reject.  is_primary may be NULL.
 */
extern void sis_link_clever_contact(SisLinks *links, SisRecord *record,
									SisValue student, SisValue contact,
									SisValue relationship, SisValue type);
extern void sis_link_clever_enrollment(SisLinks *links, SisRecord *record,
									   SisValue section, SisValue person,
									   const char *role,
									   const char *is_primary);

/* The ID that sis_link_clever_enrollment() makes; in links. */
extern SisValue sis_link_clever_enrollment_id(SisLinks *links,
											  SisValue section,
											  SisValue person,
											  const char *role);

#endif
