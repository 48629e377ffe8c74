/*
 * undo.c
 *		CALL sis_sync.undo(): puts back what a run did.
 *
 * How it works: an undo is a run of its own, whose delta comes from the log.
 * What the run created is told by created_run and archived; of whatever else
 * it did the previous values stand in sis_sync.change, and are put back.  The
 * undo logs what it writes in the same form, so it can be undone likewise;
 * only what it archives of the run's creates is told by archived_run.
 *
 * A record is put back only as the run left it.  Another run in the place
 * where the row names its last one (change.row_run), or a fingerprint that an
 * edit by hand has cleared, means that it was changed since: then it is left,
 * and listed in sis_sync.skipped.  The undo puts back which run the row named
 * before, so that the run before can be undone after it.
 *
 * Ends come back before their links, and links leave before their ends; a
 * link whose end leaves goes with it, whoever made it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/spi.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "notify.h"
#include "rename.h"
#include "retire.h"
#include "run.h"
#include "runlog.h"
#include "undo.h"
#include "utils/builtins.h"
#include "write.h"

/* ----------
 * Writing
 * ----------
 */

static void
append_assignments(StringInfo sql, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	appendStringInfoString(sql, "updated_at = now()");
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
		appendStringInfo(sql, ", %s = d.%s", desc->columns[i].name,
						 desc->columns[i].name);
	if (type == SIS_SCHOOL)
		appendStringInfoString(sql, ", app_school = d.app_school");
	for (int i = 0; i < SIS_N_UNDO_COLUMNS; i++)
	{
		const SisUndoColumn *column = &sis_undo_columns[i];

		if (!column->of_archive)
			appendStringInfo(sql, ", %s = d.%s", column->name, column->name);
	}
}

/* Puts back the records of one act: u, r or b. */
static int64
put_back(const SisUndo *undo, SisDelta *delta, SisRecordType type, char act)
{
	SisDeltaStore store = act == SIS_ACT_BACK ? SIS_DELTA_GONE : SIS_DELTA_CHANGES;
	SisParams	params = {0};
	StringInfoData sql;

	if (delta->types[type].by_act[(int) act] == 0)
		return 0;
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s t SET ", undo->run->roster->tables[type]);
	append_assignments(&sql, type);
	appendStringInfoString(&sql, act == SIS_ACT_BACK ?
						   ", archived_at = d.archived_at, archived_reason = d.archived_reason, archived_run = d.archived_run" :
						   ", archived_at = NULL, archived_reason = NULL, archived_run = NULL");
	appendStringInfo(&sql, " FROM %s d WHERE d.act = '%c' AND t.sync_id = $1 AND t.source_id = d.source_id "
					 "AND t.sis_managed AND %s AND t.fingerprint IS NOT DISTINCT FROM d.old_fingerprint "
					 "RETURNING t.source_id, d.reason, d.before, " SIS_ROW_AS_LEFT,
					 sis_delta_store_name(store, type), act,
					 act == SIS_ACT_RESTORE ? "t.archived_at IS NOT NULL" : "t.archived_at IS NULL");
	sis_param_int8(&params, undo->run->sync->id);
	return sis_write_logged(undo->run, type,
							act == SIS_ACT_BACK ? "archive" :
							act == SIS_ACT_RESTORE ? "restore" : "update",
							sql.data, &params);
}

static void
log_kept(const SisUndo *undo, SisRecordType type, const char *sql)
{
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	SisRelation kept;
	SisParams	params = {0};

	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	kept = sis_relation_open("kept", desc, sql, &undo->params);
	sis_param_int8(&params, undo->run->id);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_exec_as_owner("INSERT INTO sis_sync.skipped (run_id, record_type, source_id, reason) "
					  "SELECT $1, $2, d.source_id, 'a trigger, or somebody just now, kept it from being written' "
					  "FROM kept d ON CONFLICT DO NOTHING",
					  &params, SPI_OK_INSERT);
	sis_relation_close(&kept);
}

/*
 * Archives what the run had created.  As creates are, this is told by the row
 * alone (archived_run), and the rows by a condition: a load may have created
 * millions, and to put them into a store and join it costs as much again.
 */
static int64
archive_created(const SisUndo *undo, SisRecordType type)
{
	const char *table = undo->run->roster->tables[type];
	char	   *created = sis_undo_created_sql(undo, type);
	int64		n;

	if (undo->of->counts[type].created == 0)
		return 0;
	n = (int64) sis_write_in_key_order(undo->run, type,
									   psprintf("UPDATE %s t SET archived_at = now(), archived_reason = $5, archived_run = $1 WHERE %s",
												table, created),
									   &undo->params);
	if (n < undo->of->counts[type].created)
		log_kept(undo, type, psprintf("SELECT t.source_id FROM %s t WHERE %s",
									  table, created));
	return n;
}

/* Archives the links of what leaves; nobody asks who else has touched them. */
static int64
archive_following(const SisUndo *undo, SisRecordType type)
{
	TupleDesc	desc = CreateTemplateTupleDesc(2);
	SisRelation following;
	SisParams	params = {0};
	int64		n;

	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(desc, 2, "before", TEXTOID, -1, 0);
	following = sis_relation_open("following", desc,
								  sis_undo_following_sql(undo, type),
								  &undo->params);
	sis_write_lock(undo->run, type, following.name);
	sis_param_int8(&params, undo->run->sync->id);
	sis_param_int8(&params, undo->run->id);
	n = sis_write_logged(undo->run, type, "archive",
						 psprintf("UPDATE %s t SET archived_at = now(), archived_reason = 'goes with its end', archived_run = $2 "
								  "FROM following d WHERE t.sync_id = $1 AND t.source_id = d.source_id "
								  "AND t.sis_managed AND t.archived_at IS NULL "
								  "RETURNING t.source_id, t.archived_reason, d.before, " SIS_ROW_AS_LEFT,
								  undo->run->roster->tables[type]),
						 &params);
	sis_relation_close(&following);
	return n;
}

static void
log_lost(const SisUndo *undo, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	SisParams	params = {0};

	sis_param_int8(&params, undo->run->id);
	sis_param_text(&params, name);
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.skipped (run_id, record_type, source_id, reason) "
							   "SELECT $1, $2, d.source_id, d.reason FROM lost_%s d ON CONFLICT DO NOTHING",
							   name), &params, SPI_OK_INSERT);
}

/* What stood in a store, and was not written. */
static void
log_unwritten(const SisUndo *undo, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;

	log_kept(undo, type,
			 psprintf("SELECT d.source_id FROM (SELECT source_id FROM changes_%s UNION SELECT source_id FROM gone_%s) d "
					  "WHERE NOT EXISTS (SELECT 1 FROM sis_sync.change c WHERE c.run_id = $1 "
					  "AND c.record_type = '%s' AND c.source_id = d.source_id)",
					  name, name, name));
}

/* Ends come back before their links ... */
static void
put_back_type(const SisUndo *undo, SisDelta *delta, SisRecordType type)
{
	SisCounts  *counts = &undo->run->counts[type];

	sis_undo_fill(undo, delta, type);
	if (delta->types[type].rows[SIS_DELTA_LOST] > 0)
		log_lost(undo, type);
	if (delta->types[type].rows[SIS_DELTA_CHANGES] == 0)
		return;
	sis_write_lock(undo->run, type, sis_delta_store_name(SIS_DELTA_CHANGES, type));
	counts->updated = put_back(undo, delta, type, SIS_ACT_UPDATE);
	counts->restored = put_back(undo, delta, type, SIS_ACT_RESTORE);
}

/* ... and links leave before their ends. */
static void
archive_type(const SisUndo *undo, SisDelta *delta, SisRecordType type)
{
	const SisTypeDelta *td = &delta->types[type];
	SisCounts  *counts = &undo->run->counts[type];

	if (td->rows[SIS_DELTA_GONE] > 0)
	{
		sis_write_lock(undo->run, type, sis_delta_store_name(SIS_DELTA_GONE, type));
		counts->archived = put_back(undo, delta, type, SIS_ACT_BACK);
	}
	if (td->rows[SIS_DELTA_CHANGES] + td->rows[SIS_DELTA_GONE] >
		counts->updated + counts->restored + counts->archived)
		log_unwritten(undo, type);
	counts->archived += archive_created(undo, type);
	/* last: a link that was archived before may follow an end as well */
	if (sis_record_desc(type)->is_link)
		counts->archived += archive_following(undo, type);
}

static void
put_back_all(const SisUndo *undo)
{
	SisDelta   *delta = sis_delta_create();

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		put_back_type(undo, delta, (SisRecordType) t);
		CHECK_FOR_INTERRUPTS();
	}
	for (int t = SIS_N_RECORD_TYPES - 1; t >= 0; t--)
	{
		archive_type(undo, delta, (SisRecordType) t);
		CHECK_FOR_INTERRUPTS();
	}
	if (!IsTransactionBlock())
		sis_write_check_constraints(undo->run);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		sis_delta_unregister(delta, (SisRecordType) t);
	sis_delta_destroy(delta);
}

/* ----------
 * IDs that the run changed
 * ----------
 */

static SisRelation
open_old_ids(const SisUndo *undo, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	const char *table = undo->run->roster->tables[type];
	SisRelation pairs;

	pairs = sis_rename_open(type,
							psprintf("SELECT c.source_id, c.before ->> 'source_id' FROM sis_sync.change c "
									 "JOIN %s t ON t.sync_id = $2 AND t.source_id = c.source_id "
									 "LEFT JOIN %s n ON n.sync_id = $2 AND n.source_id = c.before ->> 'source_id' "
									 "WHERE c.run_id = $3 AND c.record_type = '%s' AND c.action = 'rekey' "
									 "AND n.source_id IS NULL AND %s IS NULL AND %s",
									 table, table, name, sis_undo_why_left_sql(),
									 sis_undo_wants_sql(undo, type, true)),
							&undo->params);
	if ((!undo->only_type || undo->type == type) && undo->school == NULL)
	{
		SisParams	params = {0};

		sis_param_int8(&params, undo->run->id);
		sis_param_int8(&params, undo->of->id);
		sis_exec_as_owner(psprintf("INSERT INTO sis_sync.skipped (run_id, record_type, source_id, reason) "
								   "SELECT $1, '%s', c.source_id, 'it was changed since, or its old ID is taken' "
								   "FROM sis_sync.change c LEFT JOIN rename_%s d ON d.source_id = c.source_id "
								   "WHERE c.run_id = $2 AND c.record_type = '%s' AND c.action = 'rekey' AND d.source_id IS NULL",
								   name, name, name),
						  &params, SPI_OK_INSERT);
	}
	return pairs;
}

static void
rename_back(const SisUndo *undo)
{
	SisRelation students = open_old_ids(undo, SIS_STUDENT);
	SisRelation staff = open_old_ids(undo, SIS_STAFF);

	sis_rename(undo->run);
	sis_relation_close(&staff);
	sis_relation_close(&students);
}

static bool
has_renamed(int64 run_id)
{
	SisParams	params = {0};

	sis_param_int8(&params, run_id);
	return sis_exec_as_owner("SELECT 1 FROM sis_sync.change WHERE run_id = $1 AND action = 'rekey' LIMIT 1",
							 &params, SPI_OK_SELECT) > 0;
}

/* ----------
 * CALL sis_sync.undo()
 * ----------
 */

static bool
changed_something(const SisRun *of)
{
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const SisCounts *counts = &of->counts[t];

		if (counts->updated + counts->restored + counts->archived > 0)
			return true;
	}
	return false;
}

static void
check_can_be_undone(const SisRun *of, const SisPastRun *past)
{
	if (strcmp(past->kind, "erase") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld has erased records", (long long) of->id),
				 errdetail("What is erased is nowhere on record, and cannot be put back.")));
	/* what it has only created is told by the roster's rows */
	if (past->purged_at != NULL && changed_something(of))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("what run %lld changed is on record no longer", (long long) of->id),
				 errdetail("The previous values were removed at %s. Nothing was put back.",
						   past->purged_at),
				 errhint("How long they are kept is set in sis_sync.sync.keep_values.")));
	if (of->dry_run)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld was a dry run", (long long) of->id),
				 errdetail("It has changed nothing.")));
	if (past->undone_by != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld has been undone already", (long long) of->id),
				 errdetail("Run %lld did so.", (long long) past->undone_by),
				 errhint("What it did comes back with CALL sis_sync.undo(%lld).",
						 (long long) past->undone_by)));
}

static void
find_type(SisUndo *undo, const char *name)
{
	StringInfoData valid;

	if (sis_record_type_by_name(name, &undo->type))
		return;
	initStringInfo(&valid);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		appendStringInfo(&valid, "%s%s", t > 0 ? ", " : "",
						 sis_record_desc((SisRecordType) t)->name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("record type \"%s\" does not exist", name),
			 errhint("Record types are %s.", valid.data)));
}

/* An undo of an undo has its run in effect again. */
static void
mark_undone(const SisUndo *undo, const SisPastRun *past)
{
	SisParams	params = {0};

	sis_param_int8(&params, undo->of->id);
	sis_param_int8(&params, undo->run->id);
	sis_exec_as_owner("UPDATE sis_sync.run SET undone_by = $2 WHERE id = $1",
					  &params, SPI_OK_UPDATE);
	if (past->of_run != 0 && strcmp(past->kind, "undo") == 0)
	{
		memset(&params, 0, sizeof(params));
		sis_param_int8(&params, past->of_run);
		sis_param_int8(&params, undo->of->id);
		sis_exec_as_owner("UPDATE sis_sync.run SET undone_by = NULL WHERE id = $1 AND undone_by = $2",
						  &params, SPI_OK_UPDATE);
	}
}

/*
 * Says what came of it; ERROR when it came to nothing.  schools: how many have
 * become active or inactive.
 */
static void
conclude(const SisUndo *undo, const SisPastRun *past, int64 schools)
{
	SisParams	params = {0};
	int64		written = 0;
	int64		skipped;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const SisCounts *counts = &undo->run->counts[t];

		written += counts->updated + counts->restored + counts->archived;
	}
	sis_param_int8(&params, undo->run->id);
	sis_exec_as_owner("SELECT count(*) FROM sis_sync.skipped WHERE run_id = $1",
					  &params, SPI_OK_SELECT);
	skipped = sis_value_int8(0, 1);
	if (written == 0 && skipped == 0 && schools == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld did nothing%s that could be undone", (long long) undo->of->id,
						undo->only_type || undo->school != NULL ? " of that kind" : ""),
				 errhint("See SELECT * FROM sis_sync.run_count WHERE run_id = %lld.",
						 (long long) undo->of->id)));
	sis_run_note(undo->run, "Put back %lld records of run %lld.",
				 (long long) written, (long long) undo->of->id);
	if (past->erased > 0)
	{
		sis_run_note(undo->run, "%lld changes of that run had been erased, and cannot be put back.",
					 (long long) past->erased);
		ereport(NOTICE,
				(errmsg("%lld changes of run %lld have been erased since, and are not put back",
						(long long) past->erased, (long long) undo->of->id)));
	}
	if (skipped == 0)
		return;
	sis_run_note(undo->run, "Left %lld as they are: see sis_sync.skipped.",
				 (long long) skipped);
	ereport(NOTICE,
			(errmsg("%lld records were changed since run %lld, and left as they are",
					(long long) skipped, (long long) undo->of->id),
			 errhint("See SELECT * FROM sis_sync.skipped WHERE run_id = %lld.",
					 (long long) undo->run->id)));
}

static void
undo_run(int64 of_run, const char *school, const char *type)
{
	SisUndo		undo = {0};
	SisPastRun	past;
	SisRun	   *of = sis_runlog_read(of_run, &past);

	undo.only_type = type != NULL;
	if (type != NULL)
		find_type(&undo, type);
	undo.run = sis_run_begin(of->sync->name, SIS_RUN_UNDO, of_run);
	undo.of = of = sis_runlog_read(of_run, &past);	/* as it is now that it is ours */
	check_can_be_undone(of, &past);
	if (strcmp(past.kind, "undo") == 0)
		undo.created_by = past.of_run;
	if (school != NULL)
		undo.school = sis_roster_find_school(undo.run->roster, undo.run->sync->id,
											 school);
	sis_param_int8(&undo.params, undo.run->id);
	sis_param_int8(&undo.params, undo.run->sync->id);
	sis_param_int8(&undo.params, of_run);
	sis_param_text(&undo.params, undo.school);
	sis_param_text(&undo.params, psprintf("undo of run %lld", (long long) of_run));
	sis_param_int8(&undo.params, undo.created_by);

	if (has_renamed(of_run))
		rename_back(&undo);
	else
		put_back_all(&undo);
	conclude(&undo, &past,
			 type == NULL && school == NULL ? sis_retire_undo(undo.run, of_run) : 0);
	if (type == NULL && school == NULL)
		mark_undone(&undo, &past);
	sis_runlog_counts(undo.run);
	sis_runlog_succeeded(undo.run);
	sis_notify_end(undo.run->id);
	sis_progress_end();
}

static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

SIS_FUNCTION(sis_undo);
Datum
sis_undo(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the run to undo must not be null")));
	sis_connect(0);
	undo_run(PG_GETARG_INT64(0), text_argument(fcinfo, 1),
			 text_argument(fcinfo, 2));
	SPI_finish();
	PG_RETURN_VOID();
}
