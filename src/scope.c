/*
 * scope.c
 *		What is in scope tonight, and which ends of links are there (rule 2).
 *
 * How it works: links and scope depend on each other (a student may be in
 * scope by an enrollment, an enrollment is by its section), so a few small
 * relations of IDs are computed in this order, each from those before it, and
 * joined by the statements of merge.c and guard.c:
 *
 *	stored_section			stored sections: bit 1 frozen, bit 2 ended
 *	resolved_section		every section known: is it there tonight?
 *	scope_person			persons by an enrollment in such a section
 *	stored_scope_person		the same among stored enrollments
 *	resolved_student, resolved_person
 *	frozen_student			stored students none of whose schools is set up
 *	scope_contact
 *	stored_contact			stored contacts: 1 when a student is not frozen
 *	resolved_contact
 *
 * With all schools in scope, those about scope stay empty and are not joined.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "scope.h"
#include "slot.h"
#include "stage.h"
#include "utils/builtins.h"
#include "utils/date.h"

#define MAX_SCOPE_RELATIONS 10

struct SisScope
{
	SisParams	params;
	int			n;
	TupleDesc	desc;			/* source_id, state */
	SisRelation relations[MAX_SCOPE_RELATIONS];
};

static bool
all_schools(const SisRun *run)
{
	return run->nschools < 0;
}

void
sis_scope_params(const SisRun *run, SisParams *params)
{
	memset(params, 0, sizeof(SisParams));
	sis_param_int8(params, run->id);
	sis_param_int8(params, run->sync->id);
	sis_param_text_array(params, run->schools, Max(run->nschools, 0));
	sis_param(params, DATEOID,
			  DirectFunctionCall1(date_in, CStringGetDatum(run->sync->today)),
			  false);
	sis_param_text(params, run->sync->name);
}

static void
append_columns(StringInfo sql, SisRecordType type, const char *alias)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", %s.%s", alias, desc->columns[i].name);
}

/*
 * archive() judges in a transaction after apply(), and must come to the verdict
 * that run() comes to: an end, a school or a section mistyped tonight frees no
 * record.  With what the run created, the full join finds no more to do than it
 * did for apply().
 */
static char *
before_sql(const SisRun *run, SisRecordType type, bool with_created)
{
	const char *changed = "t.updated_run = $1 AND t.created_run IS DISTINCT FROM $1";
	const char *table = run->roster->tables[type];

	if (!run->applied)
		return pstrdup(table);
	return psprintf("(SELECT t.* FROM %s t WHERE t.sync_id = $2 AND (%s%s) IS NOT TRUE "
					"UNION ALL SELECT b.* FROM %s t LEFT JOIN sis_sync.change c ON c.run_id = $1 "
					"AND c.record_type = '%s' AND c.source_id = t.source_id, "
					"LATERAL jsonb_populate_record(t, coalesce(c.before, '{}')) b WHERE t.sync_id = $2 AND %s)",
					table, changed, with_created ? "" : " OR t.created_run = $1",
					table, sis_record_desc(type)->name, changed);
}

char *
sis_scope_before_sql(const SisRun *run, SisRecordType type)
{
	return before_sql(run, type, false);
}

/* ----------
 * Staged rows
 * ----------
 */

/* A boolean over alias s: is an active staged row in scope? */
static const char *
in_scope_sql(const SisRun *run, SisRecordType type)
{
	if (all_schools(run))
		return "true";
	switch (type)
	{
		case SIS_SCHOOL:
			return "s.source_id = ANY ($3)";
		case SIS_SECTION:
			return "s.school_source_id = ANY ($3)";
		case SIS_STUDENT:
		case SIS_STAFF:
			return "(s.school_source_id = ANY ($3) OR s.school_source_ids::text[] && $3 "
				"OR sp.source_id IS NOT NULL)";
		case SIS_CONTACT:
			return "sc.source_id IS NOT NULL";
		case SIS_TERM:
		case SIS_COURSE:
		case SIS_STUDENT_CONTACT:
		case SIS_ENROLLMENT:
			break;
	}
	return "true";
}

static const char *
staged_joins(const SisRun *run, SisRecordType type)
{
	switch (type)
	{
		case SIS_STUDENT:
		case SIS_STAFF:
			return all_schools(run) ? "" :
				" LEFT JOIN scope_person sp ON sp.source_id = s.source_id";
		case SIS_CONTACT:
			return all_schools(run) ? "" :
				" LEFT JOIN scope_contact sc ON sc.source_id = s.source_id";
		case SIS_STUDENT_CONTACT:
			return " LEFT JOIN resolved_student e1 ON e1.source_id = s.student_source_id"
				" LEFT JOIN resolved_contact e2 ON e2.source_id = s.contact_source_id";
		case SIS_ENROLLMENT:
			return " LEFT JOIN resolved_section e1 ON e1.source_id = s.section_source_id"
				" LEFT JOIN resolved_person e2 ON e2.source_id = s.person_source_id";
		default:
			return "";
	}
}

/*
 * Where only some schools are set up, nobody of the others is on record, and a
 * package of changes names links without their ends: an end that is not known
 * is of another school there, for all that can be known.
 */
static const char *
unknown_stand(const SisRun *run, SisRecordType type)
{
	SisRecordType end1 = type == SIS_ENROLLMENT ? SIS_SECTION : SIS_STUDENT;
	SisRecordType end2 = type == SIS_ENROLLMENT ? SIS_STUDENT : SIS_CONTACT;
	bool		delta1 = run->counts[end1].offer == SIS_OFFER_DELTA;
	bool		delta2 = run->counts[end2].offer == SIS_OFFER_DELTA;

	if (all_schools(run) || (!delta1 && !delta2))
		return "'n'";
	return psprintf("CASE WHEN %s THEN 'n' ELSE 'o' END",
					delta1 && delta2 ? "false" :
					delta1 ? "e2.state IS NULL" : "e1.state IS NULL");
}

char *
sis_scope_staged_sql(const SisRun *run, SisRecordType type, bool wide)
{
	bool		link = sis_record_desc(type)->is_link;
	bool		ends = link && (wide || run->ends_missing) &&
		(run->links_whole & SIS_TYPE_BIT(type)) == 0;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT s.source_id, s.fingerprint, "
						   "(CASE s.status WHEN 'rejected' THEN 'r' WHEN 'deleted' THEN 'd' ELSE ");
	if (link && !ends)
		appendStringInfoString(&sql, "'a'");
	else if (link)
		appendStringInfo(&sql,
						 "CASE WHEN e1.state = %d AND e2.state = %d THEN 'a' "
						 "WHEN e1.state = %d OR e2.state = %d THEN 'o' "
						 "WHEN s.line = %d THEN 'e' "
						 "WHEN e1.state IS NULL OR e2.state IS NULL THEN %s ELSE 'l' END",
						 SIS_END_THERE, SIS_END_THERE, SIS_END_OUT, SIS_END_OUT,
						 SIS_CARRIED_LINE, unknown_stand(run, type));
	else
		appendStringInfo(&sql, "CASE WHEN %s THEN 'a' ELSE 'o' END",
						 in_scope_sql(run, type));
	appendStringInfoString(&sql, " END)::\"char\" AS stand, s.ctid AS tid");
	if (wide)
	{
		appendStringInfoString(&sql, ", s.keep, s.source, s.line");
		append_columns(&sql, type, "s");
	}

	/* the application's school comes from sync_school, not from the source */
	if (type == SIS_SCHOOL && wide)
		appendStringInfo(&sql, ", (SELECT min(c.app_school) FROM sis_sync.sync_school c "
							   "WHERE c.sync = $5 AND (btrim(c.school_id) = btrim(s.sis_id) "
							   "OR (btrim(c.school_id) = s.source_id AND NOT EXISTS (SELECT 1 FROM %s o "
							   "WHERE o.run_id = $1 AND o.status = 'active' AND btrim(o.sis_id) = btrim(c.school_id))))) AS app_school",
						 sis_stage_leaf(SIS_SCHOOL, run->slot));
	appendStringInfo(&sql, " FROM %s s%s WHERE s.run_id = $1 AND s.source_id IS NOT NULL "
					 "AND s.status IN ('active', 'deleted', 'rejected')",
					 sis_stage_leaf(type, run->slot),
					 link && !ends ? "" : staged_joins(run, type));
	return sql.data;
}

int64
sis_scope_count_out(const SisRun *run, SisRecordType type)
{
	SisParams	params;

	sis_scope_params(run, &params);
	sis_exec_on_roster(psprintf("SELECT count(*) FROM (%s) s WHERE s.stand = '%c' AND s.line <> %d",
								sis_scope_staged_sql(run, type, true),
								SIS_STAND_OUT, SIS_CARRIED_LINE),
					   &params);
	return sis_value_int8(0, 1);
}

/* ----------
 * Stored rows
 * ----------
 */

/* A boolean over alias t: is none of its schools set up any more? */
static const char *
frozen_sql(const SisRun *run, SisRecordType type)
{
	if (all_schools(run))
		return "false";
	switch (type)
	{
		case SIS_SCHOOL:
			return "(t.source_id = ANY ($3)) IS NOT TRUE";
		case SIS_SECTION:
		case SIS_ENROLLMENT:
			return run->sections_past ?
				"coalesce(x.state & 1 <> 0, false)" : "false";
		case SIS_STUDENT:
		case SIS_STAFF:
			return "(t.school_source_id = ANY ($3) OR t.school_source_ids && $3 "
				"OR sp.source_id IS NOT NULL) IS NOT TRUE";
		case SIS_CONTACT:
			return "coalesce(sc.state = 0, false)";
		case SIS_STUDENT_CONTACT:
			return "(fs.source_id IS NOT NULL)";
		case SIS_TERM:
		case SIS_COURSE:
			break;
	}
	return "false";
}

static const char *
stored_joins(const SisRun *run, SisRecordType type)
{
	if (type == SIS_SECTION || type == SIS_ENROLLMENT)
		return !run->sections_past ? "" : type == SIS_SECTION ?
			" LEFT JOIN stored_section x ON x.source_id = t.source_id" :
			" LEFT JOIN stored_section x ON x.source_id = t.section_source_id";
	if (all_schools(run))
		return "";
	switch (type)
	{
		case SIS_STUDENT:
		case SIS_STAFF:
			return " LEFT JOIN stored_scope_person sp ON sp.source_id = t.source_id";
		case SIS_CONTACT:
			return " LEFT JOIN stored_contact sc ON sc.source_id = t.source_id";
		case SIS_STUDENT_CONTACT:
			return " LEFT JOIN frozen_student fs ON fs.source_id = t.student_source_id";
		default:
			return "";
	}
}

static const char *
ended_sql(const SisRun *run, SisRecordType type)
{
	const char *section = run->sections_past ?
		"coalesce(x.state & 2 <> 0, false)" : "false";

	if (type == SIS_SECTION)
		return section;
	if (type == SIS_ENROLLMENT)
		return psprintf("coalesce(t.end_date < $4, %s)", section);
	return "false";
}

char *
sis_scope_stored_sql(const SisRun *run, SisRecordType type, bool wide)
{
	const char *frozen = frozen_sql(run, type);
	const char *ended = ended_sql(run, type);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT t.source_id, t.fingerprint, t.fingerprint_version, t.sis_managed, "
					 "t.archived_at, (t.sis_managed AND t.archived_at IS NULL AND NOT %s AND NOT %s%s) AS in_force",
					 frozen, ended,
	/* N is counted before the run's own creates */
					 !run->applied ? "" : " AND (t.created_run = $1) IS NOT TRUE");
	if (wide)
	{
		appendStringInfo(&sql, ", t.archived_reason, t.archived_run, t.updated_run, t.restored_run, %s AS frozen, %s AS ended",
						 frozen, ended);
		append_columns(&sql, type, "t");
	}
	if (wide && type == SIS_SCHOOL)
		appendStringInfoString(&sql, ", t.app_school");
	appendStringInfo(&sql, " FROM %s t%s WHERE t.sync_id = $2",
					 before_sql(run, type, true), stored_joins(run, type));
	return sql.data;
}

/* ----------
 * The relations of IDs
 * ----------
 */

static TupleDesc
relation_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(2);

	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(desc, 2, "state", INT4OID, -1, 0);
	return desc;
}

static void
add_relation(SisScope *scope, const char *name, const char *sql)
{
	Assert(scope->n < MAX_SCOPE_RELATIONS);
	scope->relations[scope->n++] = sis_relation_open(name, scope->desc, sql,
													 &scope->params);
}

/* Is a stored record of the type no less there for not being received? */
static bool
keeps_absent(const SisRun *run, SisRecordType type)
{
	return !sis_offer_is_whole(run->counts[type].offer) ||
		run->counts[type].unreadable > 0;
}

/* A row whose role cannot be told is counted as a student's. */
static int64
persons_rejected(const SisRun *run)
{
	return run->counts[SIS_STUDENT].rejected + run->counts[SIS_STAFF].rejected;
}

/*
 * A boolean over a roster table: is none of the record's schools set up, and
 * nothing else there that has it in scope?  Of a contact the link's other end
 * tells.  It is asked of records alone whose row of tonight does not tell.
 */
static const char *
resolved_frozen_sql(const SisRun *run, SisRecordType type)
{
	if (all_schools(run))
		return "false";
	switch (type)
	{
		case SIS_SECTION:
			return "(school_source_id = ANY ($3)) IS NOT TRUE";
		case SIS_STUDENT:
		case SIS_STAFF:
			if (persons_rejected(run) == 0 && !keeps_absent(run, type))
				return "false";
			return "(school_source_id = ANY ($3) OR school_source_ids && $3 "
				"OR source_id IN (SELECT source_id FROM scope_person) "
				"OR source_id IN (SELECT source_id FROM stored_scope_person)) IS NOT TRUE";
		default:
			return "false";
	}
}

/*
 * state of every ID of a type that is staged or stored.  What the type keeps
 * tonight (because it is not offered, or archives nothing) is there, and so is
 * what was rejected; but neither brings a school back that is not set up.
 */
static char *
resolved_sql(const SisRun *run, SisRecordType type)
{
	bool		restores = run->sync->restore_returning || type != SIS_SECTION;

	return psprintf("SELECT coalesce(s.source_id, t.source_id) AS source_id, CASE "
					"WHEN t.live AND NOT t.sis_managed THEN %d "
					"WHEN s.stand = 'a' AND (%s) THEN %d "
					"WHEN s.stand = 'r' AND t.live AND NOT t.frozen THEN %d "
					"WHEN t.live AND %s AND (s.source_id IS NULL OR s.stand = 'd') AND NOT t.frozen THEN %d "
					"WHEN s.stand <> 'd' THEN %d ELSE %d END AS state "
					"FROM (%s) s FULL JOIN (SELECT source_id, sis_managed, archived_at IS NULL AS live, %s AS frozen "
					"FROM %s r WHERE sync_id = $2) t ON t.source_id = s.source_id",
					SIS_END_THERE,
					restores ? "true" : "t.live IS NOT FALSE", SIS_END_THERE,
					SIS_END_THERE,
					keeps_absent(run, type) ? "true" : "false", SIS_END_THERE,
					SIS_END_OUT, SIS_END_LEAVING,
					sis_scope_staged_sql(run, type, false),
					resolved_frozen_sql(run, type),
					sis_scope_before_sql(run, type));
}

/*
 * Stored links that stay though no accepted row of tonight says so: their row
 * was rejected, or their type archives nothing.  Their persons stay in scope.
 */
static char *
staying_links_sql(const SisRun *run, SisRecordType type, const char *person,
				  const char *end, const char *resolved)
{
	return psprintf("SELECT t.%s, 0 FROM %s t JOIN %s x ON x.source_id = t.%s AND x.state = %d "
					"WHERE t.sync_id = $2 AND t.archived_at IS NULL%s",
					person, sis_scope_before_sql(run, type), resolved, end,
					SIS_END_THERE,
					keeps_absent(run, type) ? "" :
					psprintf(" AND t.source_id IN (SELECT r.source_id FROM %s r "
							 "WHERE r.run_id = $1 AND r.status = 'rejected')",
							 sis_stage_leaf(type, run->slot)));
}

static void
add_sections(SisScope *scope, const SisRun *run)
{
	/*
	 * A section has ended when all its terms are known and have; a term
	 * without an end, or one that is not stored, may still go on.  A term
	 * counts as it was before this run: an end mistyped tonight frees nothing.
	 */
	add_relation(scope, "stored_section",
				 psprintf("SELECT t.source_id, "
						  "CASE WHEN %s THEN 1 ELSE 0 END + CASE WHEN e.ended THEN 2 ELSE 0 END "
						  "FROM %s t LEFT JOIN (SELECT u.source_id, bool_and(m.end_date IS NOT NULL AND m.end_date < $4) AS ended "
						  "FROM (SELECT source_id, unnest(term_source_ids) AS term FROM %s r WHERE sync_id = $2) u "
						  "LEFT JOIN (SELECT source_id, end_date FROM %s r WHERE sync_id = $2) m ON m.source_id = u.term "
						  "GROUP BY u.source_id) e ON e.source_id = t.source_id WHERE t.sync_id = $2",
						  all_schools(run) ? "false" :
						  "(t.school_source_id = ANY ($3)) IS NOT TRUE",
						  sis_scope_before_sql(run, SIS_SECTION),
						  sis_scope_before_sql(run, SIS_SECTION),
						  sis_scope_before_sql(run, SIS_TERM)));
	add_relation(scope, "resolved_section", resolved_sql(run, SIS_SECTION));
}

static void
add_persons(SisScope *scope, const SisRun *run)
{
	if (!all_schools(run))
	{
		add_relation(scope, "scope_person",
					 psprintf("SELECT DISTINCT s.person_source_id, 0 FROM %s s JOIN resolved_section x "
							  "ON x.source_id = s.section_source_id AND x.state = %d "
							  "WHERE s.run_id = $1 AND s.status = 'active' UNION %s",
							  sis_stage_leaf(SIS_ENROLLMENT, run->slot),
							  SIS_END_THERE,
							  staying_links_sql(run, SIS_ENROLLMENT, "person_source_id",
												"section_source_id", "resolved_section")));
		add_relation(scope, "stored_scope_person",
					 psprintf("SELECT DISTINCT t.person_source_id, 0 FROM %s t JOIN stored_section x "
							  "ON x.source_id = t.section_source_id AND x.state & 1 = 0 "
							  "WHERE t.sync_id = $2 AND t.archived_at IS NULL",
							  sis_scope_before_sql(run, SIS_ENROLLMENT)));
	}
	add_relation(scope, "resolved_student", resolved_sql(run, SIS_STUDENT));
	add_relation(scope, "resolved_person",
				 psprintf("SELECT p.source_id, max(p.state) FROM (SELECT source_id, state FROM resolved_student "
						  "UNION ALL %s) p GROUP BY p.source_id",
						  resolved_sql(run, SIS_STAFF)));
}

static void
add_contacts(SisScope *scope, const SisRun *run)
{
	if (!all_schools(run))
	{
		add_relation(scope, "frozen_student",
					 psprintf("SELECT t.source_id, 0 FROM (%s) t WHERE t.frozen",
							  sis_scope_stored_sql(run, SIS_STUDENT, true)));
		add_relation(scope, "scope_contact",
					 psprintf("SELECT DISTINCT s.contact_source_id, 0 FROM %s s JOIN resolved_student x "
							  "ON x.source_id = s.student_source_id AND x.state = %d "
							  "WHERE s.run_id = $1 AND s.status = 'active' UNION %s",
							  sis_stage_leaf(SIS_STUDENT_CONTACT, run->slot),
							  SIS_END_THERE,
							  staying_links_sql(run, SIS_STUDENT_CONTACT, "contact_source_id",
												"student_source_id", "resolved_student")));
		add_relation(scope, "stored_contact",
					 psprintf("SELECT t.contact_source_id, max(CASE WHEN f.source_id IS NULL THEN 1 ELSE 0 END) "
							  "FROM %s t LEFT JOIN frozen_student f ON f.source_id = t.student_source_id "
							  "WHERE t.sync_id = $2 AND t.archived_at IS NULL GROUP BY t.contact_source_id",
							  sis_scope_before_sql(run, SIS_STUDENT_CONTACT)));
	}
	add_relation(scope, "resolved_contact", resolved_sql(run, SIS_CONTACT));
}

/* Is any ID of the relation in another state? */
static bool
any_other(const char *relation, int state)
{
	return sis_exec_as_owner(psprintf("SELECT 1 FROM %s WHERE state <> %d LIMIT 1",
									  relation, state),
							 NULL, SPI_OK_SELECT) > 0;
}

/* Staged links of a type whose end is not among those of the relation. */
static char *
endless_sql(const SisRun *run, SisRecordType type, const char *end,
			const char *resolved)
{
	return psprintf("SELECT s.source_id, 0 FROM %s s WHERE s.run_id = $1 AND s.status = 'active' "
					"AND NOT EXISTS (SELECT 1 FROM %s e WHERE e.source_id = s.%s)",
					sis_stage_leaf(type, run->slot), resolved, end);
}

/*
 * Two anti-joins of a column each: joined with whole rows, both ends at once,
 * the relations (which have no statistics) would not be what is hashed.
 */
void
sis_scope_check_links(SisRun *run, SisRecordType type)
{
	bool		enrollment = type == SIS_ENROLLMENT;
	SisParams	params;
	SisRelation endless;

	if (run->ends_missing)
		return;
	sis_scope_params(run, &params);
	endless = sis_relation_open("endless", relation_desc(),
								psprintf("%s UNION ALL %s LIMIT 1",
										 enrollment ?
										 endless_sql(run, type, "section_source_id", "resolved_section") :
										 endless_sql(run, type, "student_source_id", "resolved_student"),
										 enrollment ?
										 endless_sql(run, type, "person_source_id", "resolved_person") :
										 endless_sql(run, type, "contact_source_id", "resolved_contact")),
								&params);
	if (tuplestore_tuple_count(endless.store) == 0)
		run->links_whole |= SIS_TYPE_BIT(type);
	sis_relation_close(&endless);
}

SisScope *
sis_scope_open(SisRun *run)
{
	SisScope   *scope = palloc0(sizeof(SisScope));

	sis_scope_params(run, &scope->params);
	scope->desc = relation_desc();
	run->links_whole = 0;
	add_sections(scope, run);
	add_persons(scope, run);
	add_contacts(scope, run);
	run->sections_past = any_other("stored_section", 0);
	/* who is a student no more may still be there as staff */
	run->ends_missing = any_other("resolved_section", SIS_END_THERE) ||
		any_other("resolved_student", SIS_END_THERE) ||
		any_other("resolved_person", SIS_END_THERE) ||
		any_other("resolved_contact", SIS_END_THERE);
	return scope;
}

void
sis_scope_close(SisScope *scope)
{
	for (int i = 0; i < scope->n; i++)
		sis_relation_close(&scope->relations[i]);
	pfree(scope);
}

/* ----------
 * The end of a run
 * ----------
 */

/*
 * Empties the rows of those who left scope, and leaves their IDs: they are on
 * the roster, and a preview must still tell why they would go.
 */
static void
empty_rows(SisRun *run, SisRecordType type, const char *condition,
		   const SisParams *params)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s d SET last_modified = NULL",
					 sis_stage_leaf(type, run->slot));
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
	{
		if (strstr(desc->columns[i].name, "source_id") == NULL)
			appendStringInfo(&sql, ", %s = NULL", desc->columns[i].name);
	}
	sis_exec_as_owner(psprintf("%s WHERE %s AND EXISTS (SELECT 1 FROM gone_%s g WHERE g.source_id = d.source_id)",
							   sql.data, condition, desc->name),
					  params, SPI_OK_UPDATE);
}

void
sis_scope_forget_out(SisRun *run, const SisDelta *delta)
{
	static const SisRecordType persons[] = {
		SIS_STUDENT, SIS_STAFF, SIS_CONTACT, SIS_STUDENT_CONTACT
	};
	SisParams	params;

	if (run->nschools < 0)
		return;
	sis_scope_params(run, &params);
	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		SisRecordType type = persons[i];
		bool		some_gone = delta->types[type].rows[SIS_DELTA_GONE] > 0;
		char	   *condition =
			psprintf("d.run_id = $1 AND d.source_id IS NOT NULL "
					 "AND NOT EXISTS (SELECT 1 FROM (%s) x WHERE x.source_id = d.source_id AND x.stand <> 'o')",
					 sis_scope_staged_sql(run, type, true));

		if (some_gone)
			empty_rows(run, type, condition, &params);
		run->counts[type].staged_rows -= (int64)
			sis_exec_as_owner(psprintf("DELETE FROM %s d WHERE %s%s",
									   sis_stage_leaf(type, run->slot), condition,
									   !some_gone ? "" :
									   psprintf(" AND NOT EXISTS (SELECT 1 FROM gone_%s g WHERE g.source_id = d.source_id)",
												sis_record_desc(type)->name)),
							  &params, SPI_OK_DELETE);
	}
}
