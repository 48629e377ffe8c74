/*
 * merge.c
 *		Set-based comparison of staged and stored, and the writing of a delta.
 *
 * How it works: per type one full join on the key compares fingerprints and
 * yields only what differs (see delta.c).  Values are cast there, in the
 * delta alone.  The statements that write read a store, name one sync_id,
 * and repeat what the comparison rested on (sis_managed, the old fingerprint),
 * so that a row that somebody changed since is left for the next night.
 */
#include "postgres.h"

#include "attempt.h"
#include "base/progress.h"
#include "hold.h"
#include "merge.h"
#include "miscadmin.h"
#include "scope.h"
#include "slot.h"
#include "utils/builtins.h"
#include "write.h"

/* ----------
 * The delta query
 * ----------
 */

/* A staged column as the roster's type; read_values() made it castable. */
static char *
staged_value(const SisColumn *column, const char *prefix)
{
	if (column->kind == SIS_KIND_TEXT)
		return psprintf("%s%s", prefix, column->name);
	return psprintf("%s%s::%s", prefix, column->name,
					sis_kind_sql(column->kind));
}

/* What the record will have: the stored value where the source is silent. */
static char *
new_value(SisRecordType type, int column)
{
	const SisColumn *col = &sis_record_desc(type)->columns[column];

	if (column == SIS_COL_SOURCE_ID)
		return "j.source_id";
	return psprintf("CASE WHEN j.kept & %lld <> 0 THEN j.t_%s ELSE %s END",
					(long long) SIS_COLUMN_BIT(column), col->name,
					staged_value(col, "j.s_"));
}

/* Same value?  Under one collation, whatever the roster's column has. */
static char *
differs(SisRecordType type, int column)
{
	const SisColumn *col = &sis_record_desc(type)->columns[column];
	const char *collate = col->kind == SIS_KIND_TEXT ||
		col->kind == SIS_KIND_LIST ? " COLLATE \"C\"" : "";

	return psprintf("(j.kept & %lld = 0 AND (j.t_%s)%s IS DISTINCT FROM (%s)%s)",
					(long long) SIS_COLUMN_BIT(column), col->name, collate,
					staged_value(col, "j.s_"), collate);
}

static void
append_before(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	appendStringInfoString(sql, "CASE WHEN j.act IN ('u', 'r') THEN '{' || concat_ws(', ', "
						   "'\"fingerprint\": ' || coalesce(j.old_fingerprint::text, 'null'), "
						   "'\"updated_run\": ' || coalesce(j.updated_run::text, 'null'), "
						   "CASE WHEN j.act = 'r' THEN concat_ws(', ', "
						   "'\"archived_at\": ' || to_json(j.archived_at), "
						   "'\"archived_reason\": ' || coalesce(to_json(j.archived_reason)::text, 'null'), "
						   "'\"archived_run\": ' || coalesce(j.archived_run::text, 'null'), "
						   "'\"restored_run\": ' || coalesce(j.restored_run::text, 'null')) END");
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", CASE WHEN %s THEN '\"%s\": ' || coalesce(to_json(j.t_%s)::text, 'null') END",
						 differs(type, i), desc->columns[i].name,
						 desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(sql, ", CASE WHEN j.t_app_school IS DISTINCT FROM j.s_app_school "
							   "THEN '\"app_school\": ' || coalesce(to_json(j.t_app_school)::text, 'null') END");
	appendStringInfoString(sql, ") || '}' WHEN j.act IN ('g', 'e') THEN '{\"archived_at\": null, \"fingerprint\": ' || coalesce(j.old_fingerprint::text, 'null') || '}' END AS before");
}

/* "any column differs", for records whose fingerprints do. */
static void
append_differs(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	appendStringInfoChar(sql, '(');
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, "%s%s", i > SIS_COL_SIS_ID ? " OR " : "",
						 differs(type, i));
	if (type == SIS_SCHOOL)
		appendStringInfoString(sql, " OR j.t_app_school IS DISTINCT FROM j.s_app_school");
	appendStringInfoChar(sql, ')');
}

/*
 * The action of a joined pair s, t; NULL when nothing is to be done or said.
 * The first branch is the one that almost every pair takes.
 */
static char *
action_sql(const SisRun *run, SisRecordType type)
{
	bool		holds = !run->sync->restore_returning &&
		(type == SIS_SECTION || type == SIS_ENROLLMENT);

	return psprintf("CASE WHEN s.stand = 'a' AND t.fingerprint = s.fingerprint AND t.archived_at IS NULL "
					"AND t.sis_managed AND t.fingerprint_version = %d%s THEN NULL "
					"WHEN t.source_id IS NULL THEN CASE WHEN s.stand = 'a' THEN 'c' "
					"WHEN s.stand IN ('o', 'l', 'n') THEN 'o' END "
					"WHEN NOT t.sis_managed THEN CASE WHEN s.stand = 'a' THEN 'm' "
					"WHEN s.stand IN ('o', 'l', 'n') THEN 'o' END "
					"WHEN s.stand = 'r' THEN NULL "
					"WHEN s.stand = 'a' THEN CASE WHEN t.archived_at IS NULL THEN 'u' ELSE '%c' END "
					"WHEN t.archived_at IS NOT NULL THEN CASE WHEN s.stand IN ('o', 'l', 'n', 'e') THEN 'o' END "
					"WHEN t.frozen THEN 'z' WHEN t.ended THEN 'e' ELSE 'g' END",
					SIS_FINGERPRINT_VERSION,
					type == SIS_SCHOOL ?
					" AND t.app_school IS NOT DISTINCT FROM s.app_school" : "",
					holds ? SIS_ACT_HOLD : SIS_ACT_RESTORE);
}

/*
 * Staged and stored rows side by side, as s and t.  A full join of whole rows
 * would drag every column of millions of equal rows through its hash table,
 * so keys and fingerprints are joined first, and only the pairs that differ
 * are looked up.  Both subqueries end in a WHERE clause; what is added there
 * leaves out the other rows before they are joined with the ends of links.
 */
static char *
from_sql(const SisRun *run, SisRecordType type)
{
	char	   *staged = sis_scope_staged_sql(run, type, true);
	char	   *stored = sis_scope_stored_sql(run, type, true);

	return psprintf("pairs p LEFT JOIN (%s AND s.ctid IN (SELECT tid FROM pairs)) s ON s.tid = p.tid "
					"LEFT JOIN (%s AND t.source_id IN (SELECT source_id FROM pairs)) t ON t.source_id = p.source_id",
					staged, stored);
}

/*
 * Keys of what differs, or might: act and stand may turn out otherwise.  Of
 * a school the fingerprint does not tell all, since app_school is not in it.
 */
static char *
pairs_sql(const SisRun *run, SisRecordType type)
{
	return psprintf("SELECT (CASE WHEN %s AND s.stand = 'a' AND t.fingerprint = s.fingerprint AND t.archived_at IS NULL "
					"AND t.sis_managed AND t.fingerprint_version = %d THEN NULL "
					"WHEN t.source_id IS NULL THEN CASE WHEN s.stand = 'a' THEN 'c' "
					"WHEN s.stand IN ('o', 'l', 'n') THEN 'o' END "
					"WHEN NOT t.sis_managed THEN CASE WHEN s.stand = 'a' THEN 'm' "
					"WHEN s.stand IN ('o', 'l', 'n') THEN 'o' END "
					"WHEN s.stand = 'r' THEN NULL "
					"WHEN s.stand IS DISTINCT FROM 'a' AND t.archived_at IS NOT NULL THEN "
					"CASE WHEN s.stand IN ('o', 'l', 'n', 'e') THEN 'o' END "
					"ELSE 'u' END)::\"char\" AS act, s.stand, s.tid, coalesce(s.source_id, t.source_id) AS source_id, "
					"t.in_force FROM (%s) s FULL JOIN (%s) t ON t.source_id = s.source_id",
					type == SIS_SCHOOL ? "false" : "true",
					SIS_FINGERPRINT_VERSION,
					sis_scope_staged_sql(run, type, false),
					sis_scope_stored_sql(run, type, false));
}

static char *
delta_sql(const SisRun *run, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	char	   *action = action_sql(run, type);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT (CASE WHEN j.act = 'u' AND NOT ");
	append_differs(&sql, type);
	appendStringInfoString(&sql, " THEN 'f' ELSE j.act END)::\"char\" AS act, j.stand, "
						   "CASE WHEN j.act NOT IN ('g', 'e') THEN NULL "
						   "WHEN j.act = 'e' THEN 'ended' "
						   "WHEN j.stand = 'd' THEN 'deleted in the source' "
						   "WHEN j.stand = 'o' THEN 'left scope' "
						   "WHEN j.stand IN ('l', 'n', 'e') THEN 'goes with its end' "
						   "ELSE 'not in the feed' END AS reason, "
						   "j.old_fingerprint, j.fingerprint, j.source, j.line, ");
	append_before(&sql, type);
	for (int i = 0; i < desc->ncolumns; i++)
		appendStringInfo(&sql, ", %s AS %s", new_value(type, i),
						 desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(&sql, ", CASE WHEN j.kept = -1 THEN j.t_app_school ELSE j.s_app_school END AS app_school");

	/* OFFSET 0 keeps the action from being computed once per column */
	appendStringInfo(&sql, " FROM (SELECT %s AS act, s.stand, coalesce(s.source_id, t.source_id) AS source_id, "
					 "t.fingerprint AS old_fingerprint, s.fingerprint, s.source, s.line, "
					 "CASE WHEN s.stand = 'a' THEN s.keep ELSE -1 END AS kept, "
					 "t.archived_at, t.archived_reason, t.archived_run, t.updated_run, t.restored_run", action);
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(&sql, ", s.%s AS s_%s, t.%s AS t_%s",
						 desc->columns[i].name, desc->columns[i].name,
						 desc->columns[i].name, desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(&sql, ", s.app_school AS s_app_school, t.app_school AS t_app_school");
	appendStringInfo(&sql, " FROM %s WHERE %s IS NOT NULL OFFSET 0) j",
					 from_sql(run, type), action);
	return sql.data;
}

/*
 * The same where nothing is stored: there is nothing to compare with.  Rows
 * with nothing to be done (act NULL) are not left out by a condition, which
 * would be taken to leave out most, and have workers send a shuffled rest.
 */
static char *
first_sql(const SisRun *run, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT (CASE WHEN j.stand = 'a' THEN 'c' WHEN j.stand IN ('o', 'l', 'n') THEN 'o' END)::\"char\" AS act, j.stand, "
						   "NULL::text AS reason, NULL::bigint AS old_fingerprint, j.fingerprint, j.source, j.line, "
						   "NULL::text AS before, j.source_id");
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(&sql, ", CASE WHEN j.keep & %lld = 0 THEN %s END AS %s",
						 (long long) SIS_COLUMN_BIT(i),
						 staged_value(&desc->columns[i], "j."),
						 desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(&sql, ", j.app_school");
	appendStringInfo(&sql, " FROM (%s) j",
					 sis_scope_staged_sql(run, type, true));
	return sql.data;
}

/* ----------
 * Counting
 * ----------
 */

static void
count_delta(SisCounts *counts, const SisTypeDelta *delta)
{
	const int64 *act = delta->by_act;
	const int64 *stand = delta->by_stand;

	counts->out_of_scope = stand[SIS_STAND_OUT];
	counts->created = act[SIS_ACT_CREATE];
	counts->updated = counts->to_update = act[SIS_ACT_UPDATE];
	counts->refreshed = act[SIS_ACT_REFRESH];
	counts->restored = act[SIS_ACT_RESTORE];
	counts->manual = act[SIS_ACT_MANUAL];
	counts->frozen = act[SIS_ACT_FROZEN];
	counts->unchanged = counts->active - counts->out_of_scope -
		stand[SIS_STAND_LOST] - stand[SIS_STAND_LAGGING] -
		stand[SIS_STAND_CARRIED] - counts->created - counts->updated - counts->restored - counts->manual;
}

static void
log_lost_links(SisRun *run, SisDelta *delta, SisRecordType type)
{
	SisParams	params = {0};

	if (delta->types[type].rows[SIS_DELTA_LOST] == 0)
		return;
	sis_param_int8(&params, run->id);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.reject (run_id, record_type, source, line, source_id, reason) "
							   "SELECT $1, $2, d.source, d.line, d.source_id, CASE d.stand WHEN 'n' THEN %s ELSE %s END "
							   "FROM lost_%s d",
							   type == SIS_ENROLLMENT ?
							   "'its section or person is unknown'" :
							   "'its student or contact is unknown'",
							   type == SIS_ENROLLMENT ?
							   "'its section or person is no longer in the source'" :
							   "'its student or contact is no longer in the source'",
							   sis_record_desc(type)->name),
					  &params, SPI_OK_INSERT);
}

static void
compute_type(SisRun *run, SisDelta *delta, SisRecordType type,
			 const SisParams *params)
{
	bool		first = !sis_roster_has(run->roster, type, run->sync->id, "true");

	delta->types[type].compared = true;
	delta->types[type].first = first;
	if (first)
	{
		if (sis_record_desc(type)->is_link)
			sis_scope_check_links(run, type);
		sis_delta_fill(delta, type, first_sql(run, type), params, false);
	}
	else if (sis_delta_find_pairs(delta, type, pairs_sql(run, type), params))
		sis_delta_fill(delta, type, delta_sql(run, type), params, true);
	else
		return;					/* nothing differs */
	sis_delta_register(delta, type);
}

void
sis_merge_compute(SisRun *run, SisDelta *delta, bool log_rejects)
{
	SisParams	params;

	sis_scope_params(run, &params);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		sis_progress_expect_rows(run->counts[type].staged_rows);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;
		int64		staged = run->counts[type].staged_rows;

		/* a type that the source does not offer is left alone; its links
		 * still go with their ends (guard.c keeps only those) */
		if (!sis_offer_is_whole(run->counts[type].offer) &&
			!sis_record_desc(type)->is_link)
			continue;
		sis_progress_type(type);
		compute_type(run, delta, type, &params);
		sis_progress_rows(staged);
		count_delta(&run->counts[type], &delta->types[type]);
		/* of a package of changes, what was carried has not been received */
		if (run->counts[type].offer == SIS_OFFER_DELTA &&
			run->counts[type].out_of_scope > 0)
			run->counts[type].out_of_scope = sis_scope_count_out(run, type);
		if (log_rejects)
		{
			run->counts[type].rejected += delta->types[type].rows[SIS_DELTA_LOST];
			log_lost_links(run, delta, type);
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/* ----------
 * Writing
 * ----------
 */

static void
append_names(StringInfo sql, SisRecordType type, const char *prefix)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	for (int i = 0; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", %s%s", prefix, desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfo(sql, ", %sapp_school", prefix);
}

typedef struct Create
{
	const SisRun *run;
	SisRecordType type;
	const char *sql;
	const SisParams *params;
	int64		created;
} Create;

static void
create(void *arg)
{
	Create	   *it = arg;

	it->created = (int64) sis_write(it->run, it->type, it->sql, it->params,
									SPI_OK_INSERT);
}

/* Writes records unless one of them is there; then nothing is written. */
static bool
try_create(Create *it)
{
	ErrorData  *error = sis_attempt_here(create, it);

	if (error != NULL && error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
		ReThrowError(error);
	return error == NULL;
}

static int64
create_records(SisRun *run, SisRecordType type, const SisTypeDelta *delta)
{
	SisParams	params = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (sync_id", run->roster->tables[type]);
	append_names(&sql, type, "");
	appendStringInfoString(&sql, ", created_run, updated_run, fingerprint, fingerprint_version) SELECT $2");
	append_names(&sql, type, "d.");
	appendStringInfo(&sql, ", $1, $1, d.fingerprint, %d FROM creates_%s d%s",
					 SIS_FINGERPRINT_VERSION, sis_record_desc(type)->name,
					 delta->unsorted ? " ORDER BY d.source_id" : "");
	sis_param_int8(&params, run->id);
	sis_param_int8(&params, run->sync->id);

	/*
	 * Where nothing was stored a moment ago there will hardly be anything now,
	 * and ON CONFLICT takes a fourth of the time of a first load.
	 */
	if (delta->first)
	{
		Create		it = {run, type, sql.data, &params, 0};

		if (try_create(&it))
			return it.created;
	}
	appendStringInfoString(&sql, " ON CONFLICT (sync_id, source_id) DO NOTHING");
	return (int64) sis_write(run, type, sql.data, &params, SPI_OK_INSERT);
}

static int64
update_records(SisRun *run, SisRecordType type, char act)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	SisParams	params = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s t SET fingerprint = d.fingerprint, fingerprint_version = %d",
					 run->roster->tables[type], SIS_FINGERPRINT_VERSION);
	if (act != SIS_ACT_REFRESH)
	{
		for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
			appendStringInfo(&sql, ", %s = d.%s", desc->columns[i].name,
							 desc->columns[i].name);
		if (type == SIS_SCHOOL)
			appendStringInfoString(&sql, ", app_school = d.app_school");
		appendStringInfoString(&sql, ", updated_at = now(), updated_run = $1");
	}
	if (act == SIS_ACT_RESTORE)
		appendStringInfoString(&sql, ", archived_at = NULL, archived_reason = NULL, "
							   "archived_run = NULL, restored_run = $1");
	appendStringInfo(&sql, " FROM changes_%s d WHERE d.act = '%c' AND t.sync_id = $2 "
					 "AND t.source_id = d.source_id AND t.sis_managed "
					 "AND t.fingerprint IS NOT DISTINCT FROM d.old_fingerprint "
					 "AND %s",
					 desc->name, act,
					 act == SIS_ACT_RESTORE ? SIS_ROW_IS_ARCHIVED_SQL : SIS_ROW_IS_LIVE_SQL);
	sis_param_int8(&params, run->id);
	sis_param_int8(&params, run->sync->id);
	if (act == SIS_ACT_REFRESH)
		return (int64) sis_write(run, type, sql.data, &params, SPI_OK_UPDATE);
	appendStringInfoString(&sql, " RETURNING t.source_id, d.reason, d.before, " SIS_ROW_AS_LEFT);
	return sis_write_logged(run, type,
							act == SIS_ACT_RESTORE ? "restore" : "update",
							sql.data, &params);
}

void
sis_merge_apply(SisRun *run, SisDelta *delta)
{
	sis_progress_step(SIS_STEP_APPLY);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		sis_progress_expect_rows(delta->types[type].rows[SIS_DELTA_CREATES] +
								 delta->types[type].rows[SIS_DELTA_CHANGES]);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;
		SisCounts  *counts = &run->counts[type];

		if (delta->types[type].rows[SIS_DELTA_CREATES] > 0)
			counts->created = create_records(run, type, &delta->types[type]);
		if (delta->types[type].rows[SIS_DELTA_CHANGES] == 0)
			continue;
		sis_write_lock(run, type, sis_delta_store_name(SIS_DELTA_CHANGES, type));
		if (counts->updated > 0)
			counts->updated = update_records(run, type, SIS_ACT_UPDATE);
		if (counts->refreshed > 0)
			counts->refreshed = update_records(run, type, SIS_ACT_REFRESH);
		if (counts->restored > 0)
			counts->restored = update_records(run, type, SIS_ACT_RESTORE);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Links before their ends: an application's foreign key may point either way. */
void
sis_merge_archive(SisRun *run, SisDelta *delta)
{
	sis_progress_step(SIS_STEP_ARCHIVE);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		sis_progress_expect_rows(delta->types[type].rows[SIS_DELTA_GONE]);
	for (int t = SIS_N_RECORD_TYPES - 1; t >= 0; t--)
	{
		SisRecordType type = (SisRecordType) t;
		SisParams	params = {0};

		if (delta->types[type].rows[SIS_DELTA_GONE] == 0)
			continue;
		sis_write_lock(run, type, sis_delta_store_name(SIS_DELTA_GONE, type));
		sis_param_int8(&params, run->id);
		sis_param_int8(&params, run->sync->id);
		run->counts[type].archived =
			sis_write_logged(run, type, "archive",
							 psprintf("UPDATE %s t SET archived_at = now(), archived_reason = d.reason, "
									  "archived_run = $1 FROM gone_%s d WHERE t.sync_id = $2 "
									  "AND t.source_id = d.source_id AND t.sis_managed AND " SIS_ROW_IS_LIVE_SQL
									  " AND t.fingerprint IS NOT DISTINCT FROM d.old_fingerprint%s "
									  "RETURNING t.source_id, d.reason, d.before, " SIS_ROW_AS_LEFT,
									  run->roster->tables[type],
									  sis_record_desc(type)->name,
									  run->hold == NULL ? "" :
									  psprintf(" AND NOT %s", sis_hold_names_sql(type, "d.source_id"))),
							 &params);
		CHECK_FOR_INTERRUPTS();
	}
}
