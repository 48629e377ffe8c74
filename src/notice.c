/*
 * notice.c
 *		What the session that runs a sync is told while it waits.
 *
 * A job has nobody to tell: pg_cron puts each line into the job's
 * return_message, before the error that one looks for there, or, when it runs
 * jobs by connections of its own, into the server's log.  And a call that runs
 * all that is due would say so much that nobody finds its warnings.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "notice.h"
#include "utils/guc.h"

static bool
has_listener(const SisRun *run)
{
	return !run->due && MyBackendType == B_BACKEND &&
		(application_name == NULL || strcmp(application_name, "pg_cron") != 0);
}

void
sis_notice_begun(const SisRun *run)
{
	if (has_listener(run))
		ereport(NOTICE,
				(errmsg("run %lld of sync \"%s\": reading from server \"%s\"",
						(long long) run->id, run->sync->name,
						run->sync->server)));
}

/* ": 3 school, 501 student"; empty when there are none. */
static char *
list_received(const SisRun *run)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		if (run->counts[type].received > 0)
			appendStringInfo(&list, "%s%lld %s", list.len > 0 ? ", " : ": ",
							 (long long) run->counts[type].received,
							 sis_record_desc((SisRecordType) type)->name);
	}
	return list.data;
}

void
sis_notice_staged(const SisRun *run)
{
	int64		received = 0;
	int64		rejected = 0;

	if (!has_listener(run))
		return;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		received += run->counts[type].received;
		rejected += run->counts[type].rejected;
	}
	ereport(NOTICE,
			(errmsg("run %lld: received %lld records%s; %lld rows rejected",
					(long long) run->id, (long long) received,
					list_received(run), (long long) rejected)));
}

void
sis_notice_written(const SisRun *run)
{
	SisCounts	sum = {0};

	if (!has_listener(run))
		return;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		const SisCounts *counts = &run->counts[type];

		sum.created += counts->created;
		sum.updated += counts->updated;
		sum.restored += counts->restored;
		sum.unchanged += counts->unchanged;
		sum.to_archive += counts->to_archive;
		sum.archived += counts->archived;
	}
	if (run->dry_run)
		ereport(NOTICE,
				(errmsg("run %lld: would create %lld, update %lld and restore %lld records, and archive %lld that count against the threshold; %lld are unchanged",
						(long long) run->id, (long long) sum.created,
						(long long) sum.updated, (long long) sum.restored,
						(long long) sum.to_archive, (long long) sum.unchanged)));
	else
		ereport(NOTICE,
				(errmsg("run %lld: created %lld, updated %lld, restored %lld and archived %lld records; %lld are unchanged",
						(long long) run->id, (long long) sum.created,
						(long long) sum.updated, (long long) sum.restored,
						(long long) sum.archived, (long long) sum.unchanged)));
}
