/*
 * retention.c
 *		What is kept no longer: previous values, rejected rows, staged rows.
 *
 * The end of each run removes what is due, of whatever sync: one that does not
 * run any more must not keep people's data for it.  A run whose rows in change
 * are gone is marked (run.purged_at), and is not undone by half.
 */
#include "postgres.h"

#include "attempt.h"
#include "base/compat.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "retention.h"
#include "slot.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* So many runs at the end of one: a backlog takes some nights. */
#define RUNS_AT_A_TIME	50

/* How long they wait for somebody who has locked the log. */
#define LOCK_TIMEOUT	"500ms"

/* Names of the syncs whose server a role ($1) may use. */
#define MAY_USE_SYNC_SQL \
	"(SELECT s.name FROM sis_sync.sync s LEFT JOIN pg_foreign_server f ON f.srvname = s.server " \
	"WHERE f.oid IS NULL OR has_server_privilege($1, f.oid, 'USAGE'))"

void
sis_check_age(const Interval *older_than)
{
	Interval	zero = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_lt,
										 IntervalPGetDatum(older_than),
										 IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("older_than must not be negative")));
}

/*
 * Empties the log of runs that are due, of syncs k; returns how many.  Each sync
 * is looked up by itself: the runs of all that are not due yet are many, and
 * every run of every sync comes by here.
 */
static int64
forget_values(const char *condition, const SisParams *params, int limit)
{
	return (int64)
		sis_exec_as_owner(psprintf("WITH due AS (SELECT x.id FROM sis_sync.sync k, "
								   "LATERAL (SELECT r.id FROM sis_sync.run r WHERE r.sync = k.name "
								   "AND r.purged_at IS NULL AND r.status <> 'running' "
								   "AND r.started_at < now() - k.keep_values "
								   "ORDER BY r.started_at LIMIT %d FOR UPDATE SKIP LOCKED) x WHERE %s LIMIT %d), "
								   "changes AS (DELETE FROM sis_sync.change c USING due d WHERE c.run_id = d.id), "
								   "rejects AS (DELETE FROM sis_sync.reject j USING due d WHERE j.run_id = d.id) "
								   "UPDATE sis_sync.run r SET purged_at = now() FROM due d WHERE r.id = d.id",
								   limit, condition, limit),
						  params, SPI_OK_UPDATE);
}

static void
remove_what_is_due(void)
{
	(void) forget_values("true", NULL, RUNS_AT_A_TIME);
	/* nor are the rows of a sync that was dropped */
	sis_slots_clear("NOT EXISTS (SELECT 1 FROM sis_sync.sync k WHERE k.name = p.sync AND p.taken_at >= now() - k.keep_staged)",
					NULL);
}

static void
retention_phase(void *arg)
{
	int			level = NewGUCNestLevel();

	/* in a transaction of the caller's, it counts for nothing else */
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	remove_what_is_due();
	AtEOXact_GUC(false, level);
}

ErrorData *
sis_retention(void)
{
	ErrorData  *error = sis_attempt(retention_phase, NULL);

	if (error == NULL || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return error;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not remove what is kept no longer: %s",
					error->message)));
	return NULL;
}

/*
 * Removes runs that are older, but for what is still to be decided on: each
 * sync's newest run, the newest that went well and the newest that may have
 * held something back (see approve()), those that may be under way, and those
 * approved for the next run.
 */
static int64
remove_runs(const SisParams *params)
{
	return (int64)
		sis_exec_as_owner("DELETE FROM sis_sync.run r WHERE r.sync IN " MAY_USE_SYNC_SQL " "
						  "AND r.started_at < now() - $2 AND r.status <> 'running' "
						  "AND r.id NOT IN (SELECT max(n.id) FROM sis_sync.run n GROUP BY n.sync) "
						  "AND r.id NOT IN (SELECT max(n.id) FROM sis_sync.run n WHERE n.kind = 'sync' "
						  "AND n.status = 'succeeded' AND NOT n.dry_run GROUP BY n.sync) "
						  "AND r.id NOT IN (SELECT max(n.id) FROM sis_sync.run n WHERE NOT n.dry_run AND n.kind <> 'erase' "
						  "AND (n.phase IN ('applied', 'archive', 'done') OR n.error_code = 'SI011') GROUP BY n.sync) "
						  "AND NOT EXISTS (SELECT 1 FROM sis_sync.approval a WHERE a.run_id = r.id "
						  "AND a.spent_run IS NULL AND a.expires_at > now())",
						  params, SPI_OK_DELETE);
}

static int64
purge(Interval *older_than)
{
	SisParams	params = {0};
	int64		n;

	sis_param(&params, OIDOID, ObjectIdGetDatum(GetUserId()), false);
	n = forget_values("k.name IN " MAY_USE_SYNC_SQL, &params, PG_INT32_MAX);
	sis_slots_clear("EXISTS (SELECT 1 FROM sis_sync.sync k WHERE k.name = p.sync AND p.taken_at < now() - k.keep_staged "
					"AND k.name IN " MAY_USE_SYNC_SQL ")", &params);
	if (older_than == NULL)
		return n;
	sis_param(&params, INTERVALOID, IntervalPGetDatum(older_than), false);
	sis_slots_clear("p.taken_at < now() - $2 AND p.sync IN " MAY_USE_SYNC_SQL,
					&params);
	return n + remove_runs(&params);
}

SIS_FUNCTION(sis_purge);
Datum
sis_purge(PG_FUNCTION_ARGS)
{
	Interval   *older_than = PG_ARGISNULL(0) ? NULL : PG_GETARG_INTERVAL_P(0);
	int64		n;

	if (older_than != NULL)
		sis_check_age(older_than);
	sis_connect(0);
	n = purge(older_than);
	SPI_finish();
	PG_RETURN_INT64(n);
}
