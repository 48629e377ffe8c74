/*
 * progress.c
 *		What other sessions can see of a run while it goes on.
 *
 * How it works: PostgreSQL shows twenty numbers of a command in each backend,
 * for the kinds of command that it knows.  A run shows itself as a COPY FROM,
 * so that pg_stat_progress_copy tells bytes and rows as well, and puts what is
 * its own where no COPY has a number; sis_sync.run_progress() reads them all.
 * Another command inside of the run (ANALYZE, a COPY in a trigger) and the
 * abort of a subtransaction end what is shown: so the numbers are kept here,
 * and all of them are shown anew then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/compat.h"
#include "base/progress.h"
#include "commands/progress.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

/* Where our own numbers stand; see run_progress() in the install script. */
#define PARAM_RUN_ID		10
#define PARAM_STEP			11
#define PARAM_TYPE			12	/* SisRecordType + 1; 0: none */
#define PARAM_ROWS_TOTAL	13
#define PARAM_STARTED_AT	14

/* Single rows are shown when so many have come: a page or a buffer of them. */
#define SHOW_ROWS			256

typedef struct Progress
{
	bool		active;
	bool		commits;
	int64		run_id;
	TimestampTz started_at;
	SisStep		step;
	int			type;			/* as in PARAM_TYPE */
	int64		bytes;
	int64		bytes_total;
	int64		rows;
	int64		rows_total;
} Progress;

static Progress progress;

static void
show(void)
{
	static const int params[] = {
		PROGRESS_COPY_BYTES_PROCESSED, PROGRESS_COPY_BYTES_TOTAL,
		PROGRESS_COPY_TUPLES_PROCESSED, PROGRESS_COPY_COMMAND,
		PROGRESS_COPY_TYPE, PARAM_RUN_ID, PARAM_STEP, PARAM_TYPE,
		PARAM_ROWS_TOTAL, PARAM_STARTED_AT
	};
	const int64 values[] = {
		progress.bytes, progress.bytes_total, progress.rows,
		PROGRESS_COPY_COMMAND_FROM, PROGRESS_COPY_TYPE_CALLBACK,
		progress.run_id, progress.step, progress.type, progress.rows_total,
		progress.started_at
	};

	StaticAssertStmt(lengthof(params) == lengthof(values),
					 "each number has its place");
	if (!progress.active || MyBEEntry == NULL)
		return;
	if (MyBEEntry->st_progress_command != PROGRESS_COMMAND_COPY)
		pgstat_progress_start_command(PROGRESS_COMMAND_COPY, InvalidOid);
	pgstat_progress_update_multi_param(lengthof(params), params, values);
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT ||
		(!progress.commits &&
		 (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)))
		sis_progress_end();
}

void
sis_progress_begin(int64 run_id, bool commits)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_end_of_transaction, NULL);
	registered = true;
	memset(&progress, 0, sizeof(progress));
	progress.active = true;
	progress.commits = commits;
	progress.run_id = run_id;
	progress.started_at = GetCurrentTimestamp();
}

void
sis_progress_end(void)
{
	if (!progress.active)
		return;
	progress.active = false;
	pgstat_progress_end_command();
}

void
sis_progress_step(SisStep step)
{
	progress.step = step;
	progress.type = 0;
	progress.bytes = progress.bytes_total = 0;
	progress.rows = progress.rows_total = 0;
	show();
}

void
sis_progress_type(SisRecordType type)
{
	progress.type = (int) type + 1;
	show();
}

void
sis_progress_bytes(int64 n)
{
	progress.bytes += n;
	show();
}

void
sis_progress_rows(int64 n)
{
	progress.rows += n;
	show();
}

void
sis_progress_row(int types)
{
	if (++progress.rows % SHOW_ROWS != 0)
		return;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		if (types & SIS_TYPE_BIT(type))
		{
			progress.type = type + 1;
			break;
		}
	}
	show();
}

void
sis_progress_expect_bytes(int64 n)
{
	progress.bytes_total += n;
	show();
}

void
sis_progress_expect_rows(int64 n)
{
	progress.rows_total += n;
	show();
}
