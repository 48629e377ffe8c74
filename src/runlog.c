/*
 * runlog.c
 *		The run log: run, run_count, sync_state.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "runlog.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* run_count's columns and where they come from. */
typedef struct CountColumn
{
	const char *name;
	size_t		offset;
} CountColumn;

#define COUNT(name)	{ #name, offsetof(SisCounts, name) }

static const CountColumn count_columns[] = {
	COUNT(rows_read), COUNT(received), COUNT(out_of_scope), COUNT(rejected),
	COUNT(unreadable), COUNT(created), COUNT(updated), COUNT(unchanged),
	COUNT(restored), COUNT(manual), COUNT(frozen), COUNT(to_update),
	COUNT(to_archive), COUNT(archived), COUNT(in_force), COUNT(allowed),
	COUNT(staged_rows)
};

static const char *const offer_names[] = {
	[SIS_OFFER_MISSING] = "missing",
	[SIS_OFFER_ABSENT] = "absent",
	[SIS_OFFER_FULL] = "full",
	[SIS_OFFER_DELTA] = "delta"
};

static int64 *
count_field(SisCounts *counts, int column)
{
	return (int64 *) ((char *) counts + count_columns[column].offset);
}

static const char *const kind_names[] = {
	[SIS_RUN_SYNC] = "sync",
	[SIS_RUN_UNDO] = "undo",
	[SIS_RUN_REKEY] = "rekey",
	[SIS_RUN_RETIRE] = "retire",
	[SIS_RUN_ERASE] = "erase"
};

void
sis_runlog_start(SisRun *run, int64 of_run)
{
	SisParams	params = {0};
	uint64		n;

	sis_param_text(&params, run->sync->name);
	n = sis_exec_as_owner("UPDATE sis_sync.run SET status = 'interrupted', finished_at = clock_timestamp(), "
						  "message = coalesce(message, 'the run did not end: its session is gone') "
						  "WHERE sync = $1 AND status = 'running' RETURNING id",
						  &params, SPI_OK_UPDATE_RETURNING);
	run->interrupted = palloc(sizeof(int64) * Max(n, 1));
	for (run->ninterrupted = 0; run->ninterrupted < (int) n; run->ninterrupted++)
		run->interrupted[run->ninterrupted] = sis_value_int8(run->ninterrupted, 1);
	sis_param_bool(&params, run->dry_run);
	sis_param_text(&params, GetUserNameFromId(GetUserId(), false));
	sis_param_text(&params, kind_names[run->kind]);
	sis_param_int8(&params, of_run);
	sis_exec_as_owner("INSERT INTO sis_sync.run (sync, dry_run, run_by, kind, of_run) "
					  "VALUES ($1, $2, $3, $4, nullif($5, 0)) RETURNING id",
					  &params, SPI_OK_INSERT_RETURNING);
	run->id = sis_value_int8(0, 1);
}

static void
load_counts(SisRun *run)
{
	SisParams	params = {0};
	StringInfoData sql;
	uint64		n;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT record_type, offered");
	for (int c = 0; c < (int) lengthof(count_columns); c++)
		appendStringInfo(&sql, ", %s", count_columns[c].name);
	appendStringInfoString(&sql, " FROM sis_sync.run_count WHERE run_id = $1");
	sis_param_int8(&params, run->id);
	n = sis_exec_as_owner(sql.data, &params, SPI_OK_SELECT);
	for (uint64 row = 0; row < n; row++)
	{
		SisRecordType type;
		char	   *offered = sis_value(row, 2);

		if (!sis_record_type_by_name(sis_value(row, 1), &type))
			continue;
		for (int o = 0; o < (int) lengthof(offer_names); o++)
		{
			if (strcmp(offered, offer_names[o]) == 0)
				run->counts[type].offer = (SisOffer) o;
		}
		for (int c = 0; c < (int) lengthof(count_columns); c++)
			*count_field(&run->counts[type], c) = sis_value_int8(row, c + 3);
	}
}

static void
wrong_phase(int64 run_id, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("run %lld is not ready for this step", (long long) run_id),
			 errdetail_internal("%s", detail),
			 errhint("The steps are stage, verify, apply, archive, in this order and on the sync's newest run; begin again with sis_sync.stage().")));
}

SisRun *
sis_runlog_read(int64 run_id, SisPastRun *past)
{
	SisRun	   *run = palloc0(sizeof(SisRun));
	SisParams	params = {0};
	char	   *sync,
			   *note;

	sis_check_version();
	sis_param_int8(&params, run_id);
	if (sis_exec_as_owner("SELECT r.sync, r.status, r.phase, r.dry_run, r.district_id, r.options_hash, "
						  "r.source_as_of, r.note, r.kind, r.error_code, r.of_run, r.undone_by, "
						  "(SELECT max(n.id) FROM sis_sync.run n WHERE n.sync = r.sync), "
						  "(SELECT max(n.id) FROM sis_sync.run n WHERE n.sync = r.sync AND n.id > r.id AND NOT n.dry_run AND n.kind <> 'erase' "
						  "AND (n.phase IN ('applied', 'archive', 'done') OR n.error_code = 'SI011')), "
						  "EXISTS (SELECT 1 FROM sis_sync.pending_archive p WHERE p.run_id = r.id), "
						  "r.erased, to_char(r.purged_at, 'YYYY-MM-DD HH24:MI TZ') "
						  "FROM sis_sync.run r WHERE r.id = $1",
						  &params, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("run %lld does not exist", (long long) run_id),
				 errhint("The runs on record are in sis_sync.run; one whose transaction was rolled back, such as a failed sis_sync.run_atomic(), is not, nor is one that sis_sync.purge() has removed.")));
	run->id = run_id;
	sync = sis_value(0, 1);
	past->status = sis_value(0, 2);
	past->phase = sis_value(0, 3);
	run->dry_run = sis_value_bool(0, 4);
	run->district_id = sis_value(0, 5);
	run->options_hash = sis_value_int8(0, 6);
	run->source_as_of = sis_value_int8(0, 7);	/* a timestamptz is an int8 */
	note = sis_value(0, 8);
	past->kind = sis_value(0, 9);
	past->error_code = sis_value(0, 10);
	past->of_run = sis_value_int8(0, 11);
	past->undone_by = sis_value_int8(0, 12);
	past->newest = sis_value_int8(0, 13);
	past->later = sis_value_int8(0, 14);
	past->holds = sis_value_bool(0, 15);
	past->erased = sis_value_int8(0, 16);
	past->purged_at = sis_value(0, 17);
	run->sync = sis_sync_load(sync);
	initStringInfo(&run->note);
	if (note != NULL)
		appendStringInfoString(&run->note, note);
	load_counts(run);
	return run;
}

void
sis_runlog_check_reader(const SisRun *run)
{
	Oid			relid = get_relname_relid("run", get_namespace_oid("sis_sync", false));

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		sis_source_check_usage(run->sync->server);
}

void
sis_runlog_check_last_word(const SisRun *run, const SisPastRun *past)
{
	if (run->dry_run)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld was a dry run", (long long) run->id),
				 errdetail("What is decided must rest on a run that counts: the data of a later one may differ."),
				 errhint("CALL sis_sync.run(%s), and decide on that run.",
						 quote_literal_cstr(run->sync->name))));
	if (past->later != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld is not the last word on sync \"%s\"",
						(long long) run->id, run->sync->name),
				 errdetail("Run %lld came after it.", (long long) past->later),
				 errhint("See SELECT * FROM sis_sync.run WHERE id = %lld, and decide on the newest run.",
						 (long long) past->later)));
}

SisRun *
sis_runlog_load(int64 run_id, const char *phase)
{
	SisPastRun	past;
	SisRun	   *run = sis_runlog_read(run_id, &past);

	/* how a run stands is told only to those who may run its sync */
	sis_source_check_usage(run->sync->server);
	if (strcmp(past.status, "running") != 0)
		wrong_phase(run_id, psprintf("Its status is \"%s\".", past.status));
	if (run->dry_run)
		wrong_phase(run_id, "It is a dry run.");
	if (past.newest != run_id)
		wrong_phase(run_id, psprintf("The newest run of the sync is %lld.",
									 (long long) past.newest));
	if (strcmp(past.phase, phase) != 0)
		wrong_phase(run_id, psprintf("It is in phase \"%s\", not \"%s\".",
									 past.phase, phase));
	return run;
}

void
sis_runlog_phase(int64 run_id, const char *phase)
{
	SisParams	params = {0};

	sis_param_int8(&params, run_id);
	sis_param_text(&params, phase);
	sis_exec_as_owner("UPDATE sis_sync.run SET phase = $2 WHERE id = $1",
					  &params, SPI_OK_UPDATE);
}

void
sis_runlog_staged(const SisRun *run)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->id);
	sis_param_text(&params, run->district_id);
	sis_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(run->source_as_of),
			  run->source_as_of == 0);
	sis_param_int8(&params, run->options_hash);
	sis_exec_as_owner("UPDATE sis_sync.run SET phase = 'staged', district_id = $2, source_as_of = $3, "
					  "options_hash = $4 WHERE id = $1",
					  &params, SPI_OK_UPDATE);
	sis_runlog_counts(run);
}

void
sis_runlog_counts(const SisRun *run)
{
	SisParams	params = {0};
	StringInfoData sql;
	char	   *names[SIS_N_RECORD_TYPES];
	char	   *offers[SIS_N_RECORD_TYPES];

	initStringInfo(&sql);
	sis_param_int8(&params, run->id);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		names[type] = (char *) sis_record_desc((SisRecordType) type)->name;
		offers[type] = (char *) offer_names[run->counts[type].offer];
	}
	sis_param_text_array(&params, names, SIS_N_RECORD_TYPES);
	sis_param_text_array(&params, offers, SIS_N_RECORD_TYPES);
	appendStringInfoString(&sql, "INSERT INTO sis_sync.run_count (run_id, record_type, offered");
	for (int c = 0; c < (int) lengthof(count_columns); c++)
		appendStringInfo(&sql, ", %s", count_columns[c].name);
	appendStringInfoString(&sql, ") SELECT $1, u.* FROM unnest($2, $3");
	for (int c = 0; c < (int) lengthof(count_columns); c++)
	{
		int64		values[SIS_N_RECORD_TYPES];

		for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
			values[type] = *count_field((SisCounts *) &run->counts[type], c);
		sis_param_int8_array(&params, values, SIS_N_RECORD_TYPES);
		appendStringInfo(&sql, ", $%d", params.n);
	}
	appendStringInfoString(&sql, ") AS u ON CONFLICT (run_id, record_type) DO UPDATE SET offered = excluded.offered");
	for (int c = 0; c < (int) lengthof(count_columns); c++)
		appendStringInfo(&sql, ", %s = excluded.%s", count_columns[c].name,
						 count_columns[c].name);
	sis_exec_as_owner(sql.data, &params, SPI_OK_INSERT);

	if (run->note.len > 0)
	{
		SisParams	note = {0};

		sis_param_int8(&note, run->id);
		sis_param_text(&note, run->note.data);
		sis_exec_as_owner("UPDATE sis_sync.run SET note = $2 WHERE id = $1",
						  &note, SPI_OK_UPDATE);
	}
}

void
sis_runlog_succeeded(const SisRun *run)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->id);
	sis_exec_as_owner("UPDATE sis_sync.run SET status = 'succeeded', phase = 'done', message = NULL, "
					  "finished_at = clock_timestamp() WHERE id = $1",
					  &params, SPI_OK_UPDATE);
	sis_slot_pin(run->id, run->dry_run);
}

void
sis_runlog_failed(int64 run_id, const ErrorData *edata)
{
	SisParams	params = {0};

	sis_param_int8(&params, run_id);
	sis_param_text(&params, sis_error_reason(edata->sqlerrcode));
	sis_param_text(&params, unpack_sql_state(edata->sqlerrcode));
	sis_param_text(&params, edata->message);
	sis_param_text(&params, edata->detail);
	sis_param_text(&params, edata->hint);
	sis_exec_as_owner("UPDATE sis_sync.run SET status = 'failed', finished_at = clock_timestamp(), "
					  "reason = $2, error_code = $3, message = $4, detail = $5, hint = $6 WHERE id = $1",
					  &params, SPI_OK_UPDATE);
}

bool
sis_run_note(SisRun *run, const char *fmt,...)
{
	StringInfoData sentence;
	bool		is_new;

	initStringInfo(&sentence);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&sentence, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sentence, needed);
	}

	/* each of the later steps judges anew and finds the same */
	is_new = strstr(run->note.data, sentence.data) == NULL;
	if (is_new)
		appendStringInfo(&run->note, "%s%s", run->note.len > 0 ? " " : "",
						 sentence.data);
	pfree(sentence.data);
	return is_new;
}
