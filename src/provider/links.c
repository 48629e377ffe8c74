/*
 * links.c
 *		Records that join two others, as files and services make them.
 */
#include "postgres.h"

#include "provider/links.h"

void
sis_links_init(SisLinks *links)
{
	links->student = sis_record_column(SIS_STUDENT_CONTACT,
									   "student_source_id");
	links->contact = sis_record_column(SIS_STUDENT_CONTACT,
									   "contact_source_id");
	links->relationship = sis_record_column(SIS_STUDENT_CONTACT,
											"relationship");
	links->contact_type = sis_record_column(SIS_STUDENT_CONTACT,
											"contact_type");
	links->person = sis_record_column(SIS_ENROLLMENT, "person_source_id");
	links->role = sis_record_column(SIS_ENROLLMENT, "role");
	links->is_primary = sis_record_column(SIS_ENROLLMENT, "is_primary");
	initStringInfo(&links->id);
}

static void
set(SisRecord *record, int column, SisValue value)
{
	sis_record_set(record, column, value.data, value.len);
}

static void
set_word(SisRecord *record, int column, const char *word)
{
	sis_record_set(record, column, word, (int) strlen(word));
}

static void
set_ends(SisLinks *links, SisRecord *record, SisValue student,
		 SisValue contact)
{
	set(record, links->student, student);
	set(record, links->contact, contact);
}

void
sis_link_oneroster_contact(SisLinks *links, SisRecord *record,
						   SisValue student, SisValue contact,
						   const char *relationship)
{
	SisValue	ends[2];

	ends[0] = student;
	ends[1] = contact;
	set(record, SIS_COL_SOURCE_ID, sis_made_id(&links->id, ends, 2));
	set_ends(links, record, student, contact);
	if (relationship != NULL)
		set_word(record, links->relationship, relationship);
	else
		record->keep |= SIS_COLUMN_BIT(links->relationship);

	/* a student names the contact, and the contact the student */
	record->repeats = true;
}

void
sis_link_clever_contact(SisLinks *links, SisRecord *record, SisValue student,
						SisValue contact, SisValue relationship, SisValue type)
{
	SisValue	parts[3];

	parts[0] = student;
	parts[1] = contact;
	parts[2] = type;
	if (student.data != NULL && contact.data != NULL)
		set(record, SIS_COL_SOURCE_ID, sis_made_id(&links->id, parts, 3));
	set_ends(links, record, student, contact);
	set(record, links->relationship, relationship);
	set(record, links->contact_type, type);

	/* one for each appearance in the district's own data */
	record->repeats = true;
}

SisValue
sis_link_clever_enrollment_id(SisLinks *links, SisValue section,
							  SisValue person, const char *role)
{
	SisValue	parts[3];

	parts[0] = section;
	parts[1] = person;
	parts[2].data = role;
	parts[2].len = (int) strlen(role);
	return sis_made_id(&links->id, parts, 3);
}

void
sis_link_clever_enrollment(SisLinks *links, SisRecord *record,
						   SisValue section, SisValue person, const char *role,
						   const char *is_primary)
{
	if (section.data != NULL && person.data != NULL)
		set(record, SIS_COL_SOURCE_ID,
			sis_link_clever_enrollment_id(links, section, person, role));
	set(record, links->person, person);
	set_word(record, links->role, role);
	if (is_primary != NULL)
		set_word(record, links->is_primary, is_primary);
}
