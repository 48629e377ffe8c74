/*
 * schedule.c
 *		The pg_cron jobs that call run_due().
 *
 * They belong to the role that makes them, in pg_cron's table as here: a job
 * runs as that role, and so runs the syncs that the role may run.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/spi.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define JOB_NAME	"sis_sync run_due"
#define JOB_COMMAND	"CALL sis_sync.run_due()"

/* A worker that runs a sync has a staging slot. */
#define MAX_WORKERS	SIS_N_SLOTS

/* pg_cron lives in one database; from the others it cannot be reached. */
static void
check_pg_cron(void)
{
	const char *here = get_database_name(MyDatabaseId);
	const char *home;

	if (OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	home = GetConfigOption("cron.database_name", true, false);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"pg_cron\" is not installed in database \"%s\"",
					here),
			 home == NULL ?
			 errhint("Install pg_cron, add it to shared_preload_libraries, set cron.database_name = %s, restart the server and run CREATE EXTENSION pg_cron.",
					 quote_literal_cstr(here)) :
			 strcmp(home, here) == 0 ?
			 errhint("Run CREATE EXTENSION pg_cron.") :
			 errhint("It lives in database \"%s\" (cron.database_name). There, run SELECT cron.schedule_in_database(%s, '* * * * *', '" JOB_COMMAND "', %s), once for each worker, with a name of its own.",
					 home, quote_literal_cstr(psprintf("%s 1 in %s", JOB_NAME, here)),
					 quote_literal_cstr(here))));
}

/* Drops the caller's jobs of ours beyond the first few; returns their number. */
static int
drop_jobs_beyond(int workers)
{
	SisParams	params = {0};

	sis_param_int8(&params, workers);
	return (int) sis_exec("SELECT cron.unschedule(jobid) FROM cron.job "
						  "WHERE username = current_user AND database = current_database() "
						  "AND jobname ~ '^" JOB_NAME " [0-9]+$' "
						  "AND substring(jobname FROM '[0-9]+$')::int8 > $1",
						  &params, SPI_OK_SELECT);
}

static void
make_job(int worker, const char *cron)
{
	SisParams	params = {0};

	sis_param_text(&params, psprintf("%s %d", JOB_NAME, worker));
	sis_param_text(&params, cron);
	sis_param_text(&params, JOB_COMMAND);
	sis_exec("SELECT cron.schedule($1, $2, $3)", &params, SPI_OK_SELECT);
}

static void
refuse_null(bool isnull, const char *argument)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", argument)));
}

SIS_FUNCTION(sis_schedule);
Datum
sis_schedule(PG_FUNCTION_ARGS)
{
	int			workers,
				level;
	char	   *cron;

	refuse_null(PG_ARGISNULL(0), "workers");
	refuse_null(PG_ARGISNULL(1), "cron");
	workers = PG_GETARG_INT32(0);
	cron = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (workers < 1 || workers > MAX_WORKERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of workers must be between 1 and %d",
						MAX_WORKERS),
				 errhint("Two run some hundred districts a night; SELECT sis_sync.unschedule() ends them all.")));
	check_pg_cron();

	SPI_connect();
	level = sis_fix_search_path();
	(void) drop_jobs_beyond(workers);
	for (int i = 1; i <= workers; i++)
		make_job(i, cron);
	AtEOXact_GUC(false, level);
	SPI_finish();
	PG_RETURN_INT32(workers);
}

SIS_FUNCTION(sis_unschedule);
Datum
sis_unschedule(PG_FUNCTION_ARGS)
{
	int			dropped,
				level;

	check_pg_cron();
	SPI_connect();
	level = sis_fix_search_path();
	dropped = drop_jobs_beyond(0);
	AtEOXact_GUC(false, level);
	SPI_finish();
	PG_RETURN_INT32(dropped);
}
