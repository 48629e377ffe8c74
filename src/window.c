/*
 * window.c
 *		What a run does less, and says of it, on a day that lies in a window.
 *
 * Which window a day lies in says sis_sync.mode_on().  What waits for the end
 * of a window is neither a failure nor lost: gone records are gone tomorrow as
 * well (those that a package of changes names stand in pending_delete), and an
 * approval is spent by a run that archives.
 */
#include "postgres.h"

#include "base/spi.h"
#include "utils/builtins.h"
#include "window.h"

static char *
window_of(const SisSync *sync)
{
	return psprintf("the window \"%s\"%s%s", sis_mode_name(sync->mode),
					sync->mode_until ? ", until " : "",
					sync->mode_until ? sync->mode_until : "");
}

void
sis_window_log_frozen(SisRun *run)
{
	SisParams	params = {0};

	sis_run_note(run, "Nothing was fetched or changed: today lies in %s.",
				 window_of(run->sync));
	sis_param_int8(&params, run->id);
	sis_param_text(&params, run->note.data);
	sis_exec_as_owner("UPDATE sis_sync.run SET status = 'succeeded', note = $2, "
					  "finished_at = clock_timestamp() WHERE id = $1",
					  &params, SPI_OK_UPDATE);
}

void
sis_window_check_not_frozen(const SisSync *sync)
{
	if (sync->mode != SIS_MODE_FROZEN)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sync \"%s\" is frozen", sync->name),
			 errdetail("Today lies in %s.", window_of(sync)),
			 errhint("See SELECT * FROM sis_sync.sync_window WHERE sync = %s.",
					 quote_literal_cstr(sync->name))));
}

void
sis_window_leave_updates(SisRun *run)
{
	int64		waiting = 0;
	bool		is_delta = false;

	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		SisCounts  *counts = &run->counts[type];

		waiting += counts->to_update;
		counts->updated = 0;
		is_delta = is_delta || counts->offer == SIS_OFFER_DELTA;
	}
	if (waiting > 0)
		sis_run_note(run, "%lld updates were not made: today lies in %s.%s",
					 (long long) waiting, window_of(run->sync),
					 !is_delta ? "" :
					 " A package of changes is not sent again: have whole files exported when it is over.");
}

void
sis_window_note_gone(SisRun *run, const SisDelta *delta)
{
	int64		waiting = 0;

	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		waiting += delta->types[type].rows[SIS_DELTA_GONE];
	if (waiting > 0)
		sis_run_note(run, "%lld records that are gone were not archived: today lies in %s.",
					 (long long) waiting, window_of(run->sync));
}
