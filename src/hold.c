/*
 * hold.c
 *		What a trip in some schools holds back, while the others go on.
 *
 * With sync.hold = school, a school that has tripped keeps all that belongs to
 * it: its sections; students and staff who are listed there, be it among other
 * schools; its enrollments; the contacts of its students and the links to
 * them.  A link follows its ends: it stays with an end that is held back, and
 * goes with one that leaves, whatever its school.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "hold.h"
#include "scope.h"

struct SisHold
{
	SisRelation relations[SIS_N_RECORD_TYPES];
};

char *
sis_hold_names_sql(SisRecordType type, const char *source_id)
{
	return psprintf("EXISTS (SELECT 1 FROM hold_%s h WHERE h.source_id = %s)",
					sis_record_desc(type)->name, source_id);
}

/* A boolean over an alias with a person's columns: is a school of it held? */
static char *
at_school_sql(const char *alias)
{
	return psprintf("(%s.school_source_id = ANY ($6) OR %s.school_source_ids && $6) IS TRUE",
					alias, alias);
}

/* A boolean over alias d (gone links): does the end in that column leave? */
static char *
leaves_sql(const SisDelta *delta, SisRecordType type, const char *column)
{
	if (delta->types[type].rows[SIS_DELTA_GONE] == 0)
		return "false";
	return psprintf("EXISTS (SELECT 1 FROM gone_%s g WHERE g.source_id = d.%s "
					"AND NOT EXISTS (SELECT 1 FROM hold_%s h WHERE h.source_id = g.source_id))",
					sis_record_desc(type)->name, column,
					sis_record_desc(type)->name);
}

static char *
condition_sql(const SisRun *run, const SisDelta *delta, SisRecordType type)
{
	switch (type)
	{
		case SIS_SCHOOL:
			return "d.source_id = ANY ($6)";
		case SIS_COURSE:
		case SIS_SECTION:
			return "d.school_source_id = ANY ($6)";
		case SIS_STUDENT:
		case SIS_STAFF:
			return at_school_sql("d");
		case SIS_CONTACT:
			return psprintf("EXISTS (SELECT 1 FROM %s l JOIN %s s ON s.sync_id = $2 AND s.source_id = l.student_source_id "
							"WHERE l.sync_id = $2 AND l.archived_at IS NULL AND l.contact_source_id = d.source_id AND %s)",
							run->roster->tables[SIS_STUDENT_CONTACT],
							run->roster->tables[SIS_STUDENT],
							at_school_sql("s"));
		case SIS_STUDENT_CONTACT:
			return psprintf("(EXISTS (SELECT 1 FROM %s s WHERE s.sync_id = $2 AND s.source_id = d.student_source_id AND %s) OR %s) "
							"AND NOT %s AND NOT %s",
							run->roster->tables[SIS_STUDENT], at_school_sql("s"),
							sis_hold_names_sql(SIS_CONTACT, "d.contact_source_id"),
							leaves_sql(delta, SIS_STUDENT, "student_source_id"),
							leaves_sql(delta, SIS_CONTACT, "contact_source_id"));
		case SIS_ENROLLMENT:
			return psprintf("(EXISTS (SELECT 1 FROM %s s WHERE s.sync_id = $2 AND s.source_id = d.section_source_id "
							"AND s.school_source_id = ANY ($6)) OR %s OR %s OR %s) "
							"AND NOT %s AND NOT %s AND NOT %s",
							run->roster->tables[SIS_SECTION],
							sis_hold_names_sql(SIS_SECTION, "d.section_source_id"),
							sis_hold_names_sql(SIS_STUDENT, "d.person_source_id"),
							sis_hold_names_sql(SIS_STAFF, "d.person_source_id"),
							leaves_sql(delta, SIS_SECTION, "section_source_id"),
							leaves_sql(delta, SIS_STUDENT, "person_source_id"),
							leaves_sql(delta, SIS_STAFF, "person_source_id"));
		case SIS_TERM:
			break;
	}
	return "false";
}

SisHold *
sis_hold_open(const SisRun *run, const SisDelta *delta, char **schools,
			  int nschools)
{
	SisHold    *hold = palloc0(sizeof(SisHold));
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	SisParams	params;

	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	sis_scope_params(run, &params);
	sis_param_text_array(&params, schools, nschools);

	/* in the order of the types: ends come before their links */
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;
		const char *name = sis_record_desc(type)->name;

		hold->relations[t] =
			sis_relation_open(psprintf("hold_%s", name), desc,
							  delta->types[t].rows[SIS_DELTA_GONE] == 0 ?
							  "SELECT NULL::text WHERE false" :
							  psprintf("SELECT d.source_id FROM gone_%s d WHERE %s",
									   name, condition_sql(run, delta, type)),
							  &params);
	}
	return hold;
}

void
sis_hold_close(SisHold *hold)
{
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		sis_relation_close(&hold->relations[t]);
	pfree(hold);
}
