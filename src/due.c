/*
 * due.c
 *		Runs the syncs that are due, one after another.
 *
 * How it works: when a sync is due stands in the view sis_sync.due, which
 * looks at sync.next_run_at and at the run log.  So the log alone decides: a
 * run that has ended well is not due again, whatever becomes of its worker
 * before it could move next_run_at, and one whose worker was killed still is.
 *
 * A worker reads the queue once, as of its start, and goes through it.  It
 * claims a sync by the sync's session lock and then looks again whether it is
 * due: meanwhile another worker may have run it.  Each run has transactions
 * of its own, so that its error is caught by rolling back one of them.
 */
#include "postgres.h"

#include "attempt.h"
#include "base/error.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "due.h"
#include "miscadmin.h"
#include "run.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The names of what is due and the caller may run, the longest due first. */
static List *
read_queue(TimestampTz as_of)
{
	MemoryContext cxt = CurrentMemoryContext;
	SisParams	params = {0};
	List	   *names = NIL;
	uint64		n;

	sis_connect(SPI_OPT_NONATOMIC);
	sis_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(as_of), false);
	sis_param(&params, OIDOID, ObjectIdGetDatum(GetUserId()), false);

	/* a server that does not exist is an error, to be logged by a run */
	n = sis_exec_as_owner("SELECT d.sync FROM sis_sync.due d JOIN sis_sync.sync s ON s.name = d.sync "
						  "LEFT JOIN pg_foreign_server f ON f.srvname = s.server "
						  "WHERE d.due_at <= $1 AND (f.oid IS NULL OR has_server_privilege($2, f.oid, 'USAGE')) "
						  "ORDER BY d.due_at, s.id",
						  &params, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = sis_value(i, 1);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		names = lappend(names, pstrdup(name));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return names;
}

/* ----------
 * One sync
 * ----------
 */

typedef struct Claim
{
	const char *sync;
	SisTurn		turn;
} Claim;

/*
 * Asked with the sync's lock held.  One that never had a time is due as of
 * now, and keeps the time of day; a row that somebody is editing is left to
 * the next call.
 */
static bool
is_due(const SisSync *sync, const SisTurn *turn)
{
	SisParams	params = {0};

	sis_param_text(&params, sync->name);
	sis_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(turn->as_of), false);
	sis_exec_as_owner("UPDATE sis_sync.sync SET next_run_at = $2 WHERE name = ("
					  "SELECT name FROM sis_sync.sync WHERE name = $1 AND next_run_at IS NULL "
					  "AND run_every IS NOT NULL FOR UPDATE SKIP LOCKED)",
					  &params, SPI_OK_UPDATE);
	return sis_exec_as_owner("SELECT 1 FROM sis_sync.due WHERE sync = $1 AND due_at <= $2 "
							 "AND next_run_at IS NOT NULL",
							 &params, SPI_OK_SELECT) > 0;
}

/*
 * Runs the sync when it is its turn.  NULL when all went well, else the error,
 * after the transaction it stood in has been rolled back.  run.c raises it
 * outside of subtransactions and statements, where that can be done.
 */
static ErrorData *
run_claimed(Claim *claim)
{
	MemoryContext cxt = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		sis_run_turn(claim->sync, &claim->turn);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		/* whoever cancels means the whole CALL */
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		SPI_rollback();
	}
	PG_END_TRY();
	return error;
}

/*
 * Moves next_run_at on, unless a failed run is to be tried again before.  That
 * is for people to read: the view knows it from the log, so that a row locked
 * by somebody can be passed over.  Nor is it moved to a time from which no step
 * back leads to where it stands: 02:30 is 03:30 on the day on which summer time
 * begins, and a month after the 31st is the 30th, but once only.
 */
static void
move_on(void *arg)
{
	Claim	   *claim = arg;
	SisParams	params = {0};

	sis_param_text(&params, claim->sync);
	sis_exec_as_owner("UPDATE sis_sync.sync s SET next_run_at = d.regular_at FROM sis_sync.due d "
					  "WHERE d.sync = s.name AND d.due_at = d.regular_at AND s.name = ("
					  "SELECT name FROM sis_sync.sync WHERE name = $1 FOR UPDATE SKIP LOCKED) "
					  "AND EXISTS (SELECT 1 FROM floor(extract(epoch FROM d.regular_at - s.next_run_at) / extract(epoch FROM s.run_every)) AS guess (k), "
					  "generate_series(-3, 3) AS near (k) WHERE (d.regular_at AT TIME ZONE s.timezone) "
					  "- s.run_every * (guess.k + near.k)::float8 = s.next_run_at AT TIME ZONE s.timezone)",
					  &params, SPI_OK_UPDATE);
}

static void
warn(const Claim *claim, const ErrorData *error)
{
	const char *reason = sis_error_reason(error->sqlerrcode);

	if (claim->turn.run_id == 0)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("sync \"%s\" could not be run: %s", claim->sync,
						error->message)));
	else
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("run %lld of sync \"%s\" failed (%s): %s",
						(long long) claim->turn.run_id, claim->sync,
						reason != NULL ? reason :
						unpack_sql_state(error->sqlerrcode),
						error->message),
				 errhint("See SELECT sis_sync.explain_failure(%lld).",
						 (long long) claim->turn.run_id)));
}

/* True when a run was begun. */
static bool
take(Claim *claim)
{
	ErrorData  *error = run_claimed(claim);
	bool		begun = claim->turn.run_id != 0;

	/* that another session is running it is as it should be */
	if (error != NULL &&
		(begun || error->sqlerrcode != sis_error_sqlstate(SIS_ERR_IN_PROGRESS)))
		warn(claim, error);
	if (!begun)
		return false;
	sis_commit();
	error = sis_attempt(move_on, claim);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not move next_run_at of sync \"%s\": %s",
						claim->sync, error->message)));
	sis_commit();
	return true;
}

void
sis_due_run(int max_runs)
{
	TimestampTz as_of = GetCurrentTimestamp();
	MemoryContext cxt,
				old;
	List	   *queue;
	ListCell   *lc;
	int			runs = 0;

	/* what outlives the runs' transactions */
	cxt = AllocSetContextCreate(PortalContext, "sis_sync queue",
								ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	queue = read_queue(as_of);
	foreach(lc, queue)
	{
		Claim		claim = {lfirst(lc), {is_due, as_of, 0}};

		if (max_runs > 0 && runs == max_runs)
			break;
		CHECK_FOR_INTERRUPTS();
		/* a connection for each, whose memory goes with it */
		sis_connect(SPI_OPT_NONATOMIC);
		if (take(&claim))
			runs++;
		SPI_finish();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}
