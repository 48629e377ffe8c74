/*
 * undo_delta.c
 *		What an undo would change, out of the log: a delta as of a run.
 *
 * act, stand, reason, old_fingerprint, before and source_id as merge.c has
 * them, then what is put back: the type's columns and sis_undo_columns.
 */
#include "postgres.h"

#include "undo.h"
#include "write.h"

const SisUndoColumn sis_undo_columns[SIS_N_UNDO_COLUMNS] = {
	{"fingerprint", "bigint", false},
	{"updated_run", "bigint", false},
	{"restored_run", "bigint", false},
	{"archived_at", "timestamptz", true},
	{"archived_reason", "text", true},
	{"archived_run", "bigint", true}
};

/* ----------
 * Which records, and are they as the run left them?
 * ----------
 */

/* A boolean over a student or staff member: is he at the school? */
static char *
person_sql(const char *alias)
{
	return psprintf("(%s.school_source_id = $4 OR $4 = ANY (%s.school_source_ids))",
					alias, alias);
}

char *
sis_undo_wants_sql(const SisUndo *undo, SisRecordType type, bool logged)
{
	char *const *tables = undo->run->roster->tables;
	const char *was = logged ?
		" OR c.before ->> 'school_source_id' = $4 OR c.before -> 'school_source_ids' ? $4" : "";

	if (undo->only_type && undo->type != type)
		return "false";
	if (undo->school == NULL)
		return "true";
	switch (type)
	{
		case SIS_SCHOOL:
			return "t.source_id = $4";
		case SIS_COURSE:
		case SIS_SECTION:
			return psprintf("(t.school_source_id = $4%s)", was);
		case SIS_STUDENT:
		case SIS_STAFF:
			return psprintf("(%s%s)", person_sql("t"), was);
		case SIS_CONTACT:
			return psprintf("t.source_id IN (SELECT l.contact_source_id FROM %s l JOIN %s p "
							"ON p.sync_id = $2 AND p.source_id = l.student_source_id WHERE l.sync_id = $2 AND %s)",
							tables[SIS_STUDENT_CONTACT], tables[SIS_STUDENT],
							person_sql("p"));
		case SIS_STUDENT_CONTACT:
			return psprintf("t.student_source_id IN (SELECT p.source_id FROM %s p WHERE p.sync_id = $2 AND %s)",
							tables[SIS_STUDENT], person_sql("p"));
		case SIS_ENROLLMENT:
			return psprintf("t.section_source_id IN (SELECT p.source_id FROM %s p WHERE p.sync_id = $2 AND p.school_source_id = $4)",
							tables[SIS_SECTION]);
		case SIS_TERM:
			break;				/* the district's, no school's */
	}
	return "false";
}

/* Why a record that the log names (c) must be left as it is (t); NULL: it need not. */
const char *
sis_undo_why_left_sql(void)
{
	return "CASE WHEN t.source_id IS NULL THEN 'it is not there any more' "
		"WHEN NOT t.sis_managed THEN 'it belongs to the application' "
		"WHEN " SIS_ROW_RUN_SQL " IS DISTINCT FROM c.row_run OR (t.archived_at IS NULL) = (c.action = 'archive') "
		"THEN 'it was changed by a later run' "
		"WHEN t.fingerprint IS NULL AND c.row_fingerprint IS NOT NULL THEN 'it was edited by hand' END";
}

/* The same for a record that the run created. */
static const char *
why_created_left_sql(void)
{
	return "CASE WHEN NOT t.sis_managed THEN 'it belongs to the application' "
		"WHEN t.archived_at IS NOT NULL OR t.updated_run IS DISTINCT FROM $3 THEN 'it was changed by a later run' "
		"WHEN t.fingerprint IS NULL THEN 'it was edited by hand' END";
}

char *
sis_undo_created_sql(const SisUndo *undo, SisRecordType type)
{
	return psprintf("t.sync_id = $2 AND t.created_run = $3 AND %s IS NULL AND %s",
					why_created_left_sql(),
					sis_undo_wants_sql(undo, type, false));
}

/* ----------
 * What is put back
 * ----------
 */

/* A column's previous value, out of the log, in its own type. */
static char *
logged_value(const SisColumn *column)
{
	const char *name = column->name;

	switch (column->kind)
	{
		case SIS_KIND_LIST:
			return psprintf("CASE WHEN jsonb_typeof(c.before -> '%s') = 'array' THEN ARRAY("
							"SELECT x.item FROM jsonb_array_elements_text(c.before -> '%s') WITH ORDINALITY AS x (item, n) ORDER BY x.n) END",
							name, name);
		case SIS_KIND_JSONB:
			return psprintf("nullif(c.before -> '%s', 'null')", name);
		case SIS_KIND_TEXT:
		case SIS_KIND_DATE:
		case SIS_KIND_BOOLEAN:
			break;
	}
	return psprintf("(c.before ->> '%s')::%s", name, sis_kind_sql(column->kind));
}

static void
append_put_back(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", CASE WHEN c.before ? '%s' THEN %s ELSE t.%s END AS %s",
						 desc->columns[i].name, logged_value(&desc->columns[i]),
						 desc->columns[i].name, desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(sql, ", CASE WHEN c.before ? 'app_school' THEN c.before ->> 'app_school' ELSE t.app_school END AS app_school");
	for (int i = 0; i < SIS_N_UNDO_COLUMNS; i++)
		appendStringInfo(sql, ", CASE WHEN c.before ? '%s' THEN (c.before ->> '%s')::%s ELSE t.%s END AS %s",
						 sis_undo_columns[i].name, sis_undo_columns[i].name,
						 sis_undo_columns[i].type, sis_undo_columns[i].name,
						 sis_undo_columns[i].name);
}

/* NULLs in the place of append_put_back(), where nothing is put back. */
static void
append_nothing(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", NULL::%s", sis_kind_sql(desc->columns[i].kind));
	if (type == SIS_SCHOOL)
		appendStringInfoString(sql, ", NULL::text");
	for (int i = 0; i < SIS_N_UNDO_COLUMNS; i++)
		appendStringInfo(sql, ", NULL::%s", sis_undo_columns[i].type);
}

static void
append_member(StringInfo sql, const char *condition, const char *column)
{
	appendStringInfo(sql, ", CASE WHEN %s THEN '\"%s\": ' || coalesce(to_json(t.%s)::text, 'null') END",
					 condition, column, column);
}

/* The row as it is now, in those of its columns that are put back. */
static void
append_before(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	appendStringInfoString(sql, "'{' || concat_ws(', '");
	for (int i = 0; i < SIS_N_UNDO_COLUMNS; i++)
		append_member(sql, !sis_undo_columns[i].of_archive ? "true" :
					  "t.archived_at IS NOT NULL OR c.action = 'restore'",
					  sis_undo_columns[i].name);
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		append_member(sql, psprintf("c.before ? '%s'", desc->columns[i].name),
					  desc->columns[i].name);
	if (type == SIS_SCHOOL)
		append_member(sql, "c.before ? 'app_school'", "app_school");
	appendStringInfoString(sql, ") || '}' AS before");
}

/* ----------
 * Ends of links
 * ----------
 */

/* The IDs of a type that leave by the undo. */
static char *
leaving_sql(const SisUndo *undo, SisRecordType type)
{
	return psprintf("SELECT g.source_id FROM gone_%s g UNION ALL SELECT t.source_id FROM %s t WHERE %s",
					sis_record_desc(type)->name,
					undo->run->roster->tables[type],
					sis_undo_created_sql(undo, type));
}

/* The IDs of a type that will be there when the undo is done. */
static char *
there_sql(const SisUndo *undo, SisRecordType type)
{
	return psprintf("SELECT t.source_id FROM %s t WHERE t.sync_id = $2 AND t.archived_at IS NULL "
					"AND NOT EXISTS (SELECT 1 FROM gone_%s g WHERE g.source_id = t.source_id) AND (%s) IS NOT TRUE",
					undo->run->roster->tables[type],
					sis_record_desc(type)->name,
					sis_undo_created_sql(undo, type));
}

/* A boolean over a link: is that end of it there?  (never NULL) */
static char *
end1_there_sql(const SisUndo *undo, SisRecordType type, const char *alias)
{
	if (type == SIS_ENROLLMENT)
		return psprintf("(%s.section_source_id IN (%s)) IS TRUE", alias,
						there_sql(undo, SIS_SECTION));
	return psprintf("(%s.student_source_id IN (%s)) IS TRUE", alias,
					there_sql(undo, SIS_STUDENT));
}

static char *
end2_there_sql(const SisUndo *undo, SisRecordType type, const char *alias)
{
	if (type == SIS_ENROLLMENT)
		return psprintf("(%s.person_source_id IN (%s UNION ALL %s)) IS TRUE", alias,
						there_sql(undo, SIS_STUDENT), there_sql(undo, SIS_STAFF));
	return psprintf("(%s.contact_source_id IN (%s)) IS TRUE", alias,
					there_sql(undo, SIS_CONTACT));
}

static char *
lacks_end_sql(const SisUndo *undo, SisRecordType type, const char *alias)
{
	if (!sis_record_desc(type)->is_link)
		return "false";
	return psprintf("NOT (%s AND %s)", end1_there_sql(undo, type, alias),
					end2_there_sql(undo, type, alias));
}

/* ----------
 * The parts of the delta
 * ----------
 */

/* What is put back, as a subquery k has it. */
static void
append_columns(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", k.%s", desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(sql, ", k.app_school");
	for (int i = 0; i < SIS_N_UNDO_COLUMNS; i++)
		appendStringInfo(sql, ", k.%s", sis_undo_columns[i].name);
}

/* What the log says that the run did. */
static void
append_logged(StringInfo sql, const SisUndo *undo, SisRecordType type)
{
	appendStringInfoString(sql, "SELECT (CASE WHEN k.left_for IS NULL THEN k.act ELSE 'm' END)::\"char\" AS act, "
						   "(CASE WHEN k.left_for IS NOT NULL THEN 'l' END)::\"char\" AS stand, "
						   "coalesce(k.left_for, $5) AS reason, k.old_fingerprint, k.before, k.source_id");
	append_columns(sql, type);

	/* OFFSET 0 keeps what stands inside from being worked out repeatedly */
	appendStringInfo(sql, " FROM (SELECT j.*, coalesce(j.why, CASE WHEN j.act <> '%c' AND %s THEN 'one of its ends has left' END) AS left_for "
					 "FROM (SELECT CASE c.action WHEN 'update' THEN 'u' WHEN 'archive' THEN 'r' ELSE '%c' END AS act, "
					 "%s AS why, t.fingerprint AS old_fingerprint, c.source_id, ",
					 SIS_ACT_BACK, lacks_end_sql(undo, type, "j"),
					 SIS_ACT_BACK, sis_undo_why_left_sql());
	append_before(sql, type);
	append_put_back(sql, type);
	appendStringInfo(sql, " FROM sis_sync.change c LEFT JOIN %s t ON t.sync_id = $2 AND t.source_id = c.source_id "
					 "WHERE c.run_id = $3 AND c.record_type = '%s' AND c.action <> 'rekey' AND %s OFFSET 0) j OFFSET 0) k",
					 undo->run->roster->tables[type],
					 sis_record_desc(type)->name,
					 sis_undo_wants_sql(undo, type, true));
}

/* What the run created, and must be left: the rest is not put into a store. */
static void
append_created(StringInfo sql, const SisUndo *undo, SisRecordType type)
{
	const char *why = why_created_left_sql();

	appendStringInfo(sql, " UNION ALL SELECT 'm', 'l', %s, t.fingerprint, NULL, t.source_id", why);
	append_nothing(sql, type);
	appendStringInfo(sql, " FROM %s t WHERE t.sync_id = $2 AND t.created_run = $3 AND %s IS NOT NULL AND %s",
					 undo->run->roster->tables[type], why,
					 sis_undo_wants_sql(undo, type, false));
}

/*
 * The run is an undo, and has archived what another had created: that is told
 * by archived_run.
 */
static void
append_archived(StringInfo sql, const SisUndo *undo, SisRecordType type)
{
	appendStringInfoString(sql, " UNION ALL SELECT (CASE WHEN k.left_for IS NULL THEN 'r' ELSE 'm' END)::\"char\", "
						   "(CASE WHEN k.left_for IS NOT NULL THEN 'l' END)::\"char\", coalesce(k.left_for, $5), k.fingerprint, "
						   "json_build_object('archived_at', k.archived_at, 'archived_reason', k.archived_reason, "
						   "'archived_run', k.archived_run, 'fingerprint', k.fingerprint)::text, k.source_id");
	append_columns(sql, type);
	appendStringInfo(sql, " FROM (SELECT t.*, CASE WHEN NOT t.sis_managed THEN 'it belongs to the application' "
					 "WHEN t.archived_run IS DISTINCT FROM $3 THEN 'it was changed by a later run' "
					 "WHEN t.fingerprint IS NULL THEN 'it was edited by hand' "
					 "WHEN %s THEN 'one of its ends has left' END AS left_for "
					 "FROM %s t LEFT JOIN sis_sync.skipped w ON w.run_id = $3 AND w.record_type = '%s' AND w.source_id = t.source_id "
					 "WHERE t.sync_id = $2 AND t.created_run = $6 AND (t.archived_run = $3 OR t.restored_run > $3) "
					 "AND w.source_id IS NULL AND %s OFFSET 0) k",
					 lacks_end_sql(undo, type, "t"),
					 undo->run->roster->tables[type],
					 sis_record_desc(type)->name,
					 sis_undo_wants_sql(undo, type, false));
}

void
sis_undo_fill(const SisUndo *undo, SisDelta *delta, SisRecordType type)
{
	StringInfoData sql;

	initStringInfo(&sql);
	append_logged(&sql, undo, type);
	append_created(&sql, undo, type);
	if (undo->created_by != 0)
		append_archived(&sql, undo, type);
	sis_delta_fill(delta, type, sql.data, &undo->params, false);
	sis_delta_register(delta, type);
}

char *
sis_undo_following_sql(const SisUndo *undo, SisRecordType type)
{
	char	   *leaves = type == SIS_ENROLLMENT ?
		psprintf("t.section_source_id IN (%s) OR t.person_source_id IN (%s UNION ALL %s)",
				 leaving_sql(undo, SIS_SECTION), leaving_sql(undo, SIS_STUDENT),
				 leaving_sql(undo, SIS_STAFF)) :
		psprintf("t.student_source_id IN (%s) OR t.contact_source_id IN (%s)",
				 leaving_sql(undo, SIS_STUDENT), leaving_sql(undo, SIS_CONTACT));

	return psprintf("SELECT t.source_id, json_build_object('archived_at', NULL, 'fingerprint', t.fingerprint)::text "
					"FROM %s t WHERE t.sync_id = $2 AND t.sis_managed AND t.archived_at IS NULL AND (%s) AND %s",
					undo->run->roster->tables[type], leaves,
					lacks_end_sql(undo, type, "t"));
}
