/*
 * notify.c
 *		NOTIFY sis_sync: a run has ended.
 *
 * The object holds IDs, status and counts, no message and no name of a person:
 * whoever may connect to the database may listen.  A payload must be shorter
 * than 8,000 bytes.  Nine types with seven counts of nineteen digits take
 * 2,600; only the sync's name has no limit, and one that is too long is left to
 * be looked up by sync_id.
 */
#include "postgres.h"

#include "attempt.h"
#include "base/spi.h"
#include "commands/async.h"
#include "notify.h"

#define CHANNEL			"sis_sync"
#define MAX_NAME_BYTES	"500"

void
sis_notify_end(int64 run_id)
{
	SisParams	params = {0};

	sis_param_int8(&params, run_id);
	if (sis_exec_as_owner("SELECT json_build_object('run', r.id, "
						  "'sync', CASE WHEN octet_length(r.sync) <= " MAX_NAME_BYTES " THEN r.sync END, "
						  "'sync_id', s.id, 'kind', r.kind, 'dry_run', r.dry_run, 'status', r.status, "
						  "'reason', r.reason, 'error_code', r.error_code, "
						  "'counts', coalesce((SELECT json_object_agg(c.record_type, json_build_object("
						  "'received', c.received, 'rejected', c.rejected, 'created', c.created, 'updated', c.updated, "
						  "'restored', c.restored, 'to_archive', c.to_archive, 'archived', c.archived) ORDER BY c.record_type) "
						  "FROM sis_sync.run_count c WHERE c.run_id = r.id "
						  "AND greatest(c.received, c.rejected, c.created, c.updated, c.restored, c.to_archive, c.archived) > 0), '{}'))::text "
						  "FROM sis_sync.run r JOIN sis_sync.sync s ON s.name = r.sync "
						  "WHERE r.id = $1 AND r.status <> 'running'",
						  &params, SPI_OK_SELECT) > 0)
		Async_Notify(CHANNEL, sis_value(0, 1));
}

void
sis_notify_interrupted(const SisRun *run)
{
	for (int i = 0; i < run->ninterrupted; i++)
		sis_notify_end(run->interrupted[i]);
}

static void
notify_end(void *run_id)
{
	sis_notify_end(*(int64 *) run_id);
}

void
sis_notify_committing(int64 run_id)
{
	ErrorData  *error = sis_attempt(notify_end, &run_id);
	ErrorData  *of_commit = sis_attempt_commit();

	if (error == NULL)
		error = of_commit;
	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not notify of the end of run %lld: %s",
					(long long) run_id, error->message)));
}
