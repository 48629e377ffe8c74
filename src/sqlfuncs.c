/*
 * sqlfuncs.c
 *		SQL entry points of a run: read arguments, check the context, call run.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "base/compat.h"
#include "base/spi.h"
#include "due.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "run.h"
#include "utils/builtins.h"

SIS_FUNCTION(sis_stage);
Datum
sis_stage(PG_FUNCTION_ARGS)
{
	char	   *sync = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		run_id;

	sis_connect(0);
	run_id = sis_run_stage(sync);
	SPI_finish();
	PG_RETURN_INT64(run_id);
}

static void
do_step(void (*step) (int64), int64 run_id)
{
	sis_connect(0);
	step(run_id);
	SPI_finish();
}

SIS_FUNCTION(sis_verify);
Datum
sis_verify(PG_FUNCTION_ARGS)
{
	do_step(sis_run_verify, PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

SIS_FUNCTION(sis_apply);
Datum
sis_apply(PG_FUNCTION_ARGS)
{
	do_step(sis_run_apply, PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

SIS_FUNCTION(sis_archive);
Datum
sis_archive(PG_FUNCTION_ARGS)
{
	do_step(sis_run_archive, PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

SIS_FUNCTION(sis_run_atomic);
Datum
sis_run_atomic(PG_FUNCTION_ARGS)
{
	char	   *sync = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		run_id;

	sis_connect(0);
	run_id = sis_run_all(sync);
	SPI_finish();
	PG_RETURN_INT64(run_id);
}

/*
 * A run commits; where that is impossible it says so before doing anything.
 * instead: what does the same in one transaction, or NULL.
 */
static void
check_can_commit(FunctionCallInfo fcinfo, const char *procedure,
				 const char *instead)
{
	bool		atomic = fcinfo->context == NULL ||
		!IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot run a sync on a standby"),
				 errhint("Run it on the primary; sis_sync.run_atomic() cannot run here either.")));
	if (atomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block", procedure),
				 errdetail("It commits between its phases, and so needs to be a statement of its own."),
				 instead == NULL ?
				 errhint("CALL it outside BEGIN, functions and exception blocks.") :
				 errhint("CALL it outside BEGIN, functions and exception blocks, or use %s, which does all in one transaction.",
						 instead)));
}

SIS_FUNCTION(sis_run);
Datum
sis_run(PG_FUNCTION_ARGS)
{
	char	   *sync;
	bool		dry_run;

	check_can_commit(fcinfo, "sis_sync.run()",
					 "SELECT sis_sync.run_atomic(...)");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of a sync must not be null")));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("dry_run must not be null")));
	dry_run = PG_GETARG_BOOL(1);
	sis_connect(SPI_OPT_NONATOMIC);
	sync = text_to_cstring(PG_GETARG_TEXT_PP(0));
	sis_run_committing(sync, dry_run);
	SPI_finish();
	PG_RETURN_VOID();
}

SIS_FUNCTION(sis_run_due);
Datum
sis_run_due(PG_FUNCTION_ARGS)
{
	int			max_runs = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);

	check_can_commit(fcinfo, "sis_sync.run_due()", NULL);
	if (!PG_ARGISNULL(0) && max_runs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_runs must be at least 1"),
				 errhint("Leave it out to run every sync that is due.")));
	sis_due_run(max_runs);
	PG_RETURN_VOID();
}
