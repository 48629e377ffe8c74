/*
 * preview.c
 *		sis_sync.preview(): what a run would do to the roster as it is.
 *
 * How it works: the rows that a dry, tripped or failed run has staged stay
 * until the sync's next run.  They are compared again, by the code of a run
 * (schools, scope, delta), and the delta is told instead of written.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/spi.h"
#include "delta.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guard.h"
#include "merge.h"
#include "miscadmin.h"
#include "runlog.h"
#include "scope.h"
#include "slot.h"

/* A text of one SELECT on a store of a type, in the columns of the result. */
static char *
store_sql(SisRecordType type, SisDeltaStore store)
{
	const char *name = sis_record_desc(type)->name;
	const char *from = sis_delta_store_name(store, type);

	switch (store)
	{
		case SIS_DELTA_CREATES:
			return psprintf("SELECT '%s', d.source_id, 'create', NULL::text, NULL::jsonb FROM %s d ORDER BY 2",
							name, from);
		case SIS_DELTA_CHANGES:
			/* of "before", what only the row itself knows is no news */
			return psprintf("SELECT '%s', d.source_id, CASE d.act WHEN '%c' THEN 'restore' ELSE 'update' END, NULL::text, "
							"(SELECT jsonb_object_agg(b.key, jsonb_build_object('old', b.value, 'new', to_jsonb(d) -> b.key)) "
							"FROM jsonb_each(d.before::jsonb) b WHERE b.key NOT IN ('fingerprint', 'updated_run', "
							"'restored_run', 'archived_at', 'archived_reason', 'archived_run')) "
							"FROM %s d WHERE d.act <> '%c' ORDER BY 2",
							name, SIS_ACT_RESTORE, from, SIS_ACT_REFRESH);
		case SIS_DELTA_GONE:
			return psprintf("SELECT '%s', d.source_id, 'archive', d.reason, NULL::jsonb FROM %s d ORDER BY 2",
							name, from);
		case SIS_DELTA_LOST:
			break;				/* never taken */
	}
	return NULL;
}

static void
tell_delta(const SisDelta *delta, Tuplestorestate *result, TupleDesc desc,
		   MemoryContext cxt)
{
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		for (int s = SIS_DELTA_CREATES; s <= SIS_DELTA_GONE; s++)
		{
			DestReceiver *dest;
			SisBridge	bridge;

			if (delta->types[t].rows[s] == 0)
				continue;
			dest = sis_store_receiver(result, cxt, desc);
			sis_owner_begin(&bridge);
			sis_exec_into(store_sql((SisRecordType) t, (SisDeltaStore) s),
						  NULL, dest, SPI_OK_SELECT);
			sis_owner_end(&bridge);
			dest->rDestroy(dest);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

static void
preview(int64 run_id, Tuplestorestate *result, TupleDesc desc, MemoryContext cxt)
{
	SisPastRun	past;
	SisRun	   *run = sis_runlog_read(run_id, &past);
	SisDelta   *delta;
	SisScope   *scope;

	sis_runlog_check_reader(run);
	if (strcmp(past.kind, "sync") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld has staged nothing", (long long) run_id),
				 errdetail("It is of the kind \"%s\".", past.kind),
				 errhint("What it did is in sis_sync.change.")));
	run->looks_only = true;
	run->roster = sis_roster_open_to_read(run->sync->target_schema);
	sis_guard_staged(run);
	sis_guard_schools(run);
	scope = sis_scope_open(run);
	delta = sis_delta_create();
	sis_merge_compute(run, delta, false);
	sis_guard_keep(run, delta);
	tell_delta(delta, result, desc, cxt);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		sis_delta_unregister(delta, (SisRecordType) t);
	sis_delta_destroy(delta);
	sis_scope_close(scope);
	sis_slot_unshare(run->slot);
}

SIS_FUNCTION(sis_preview);
Datum
sis_preview(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext cxt;
	MemoryContext old;

	if (info == NULL || !IsA(info, ReturnSetInfo) ||
		(info->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("sis_sync.preview() was called where no set of rows is accepted")));
	cxt = info->econtext->ecxt_per_query_memory;
	old = MemoryContextSwitchTo(cxt);
	if (get_call_result_type(fcinfo, NULL, &info->setDesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	info->returnMode = SFRM_Materialize;
	info->setResult = tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0,
											false, work_mem);
	MemoryContextSwitchTo(old);

	sis_connect(0);
	preview(PG_GETARG_INT64(0), info->setResult, info->setDesc, cxt);
	SPI_finish();
	return (Datum) 0;
}
