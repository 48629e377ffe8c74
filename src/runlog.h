/*
 * runlog.h
 *		The run log: run, run_count, sync_state.  All as the extension's owner.
 */
#ifndef SIS_RUNLOG_H
#define SIS_RUNLOG_H

#include "runstate.h"

/*
 * Marks runs of the sync that are still "running" as interrupted (the caller
 * holds the sync's lock, so their backends are gone) and starts a new one.
 */
extern void sis_runlog_start(SisRun *run, int64 of_run);

/* What is on record of a run, for those who look back at it. */
typedef struct SisPastRun
{
	char	   *kind;			/* "sync", "undo", "rekey", "retire", "erase" */
	char	   *status;
	char	   *phase;
	char	   *error_code;		/* or NULL */
	int64		of_run;			/* 0: none */
	int64		undone_by;		/* 0: none */
	int64		newest;			/* the sync's newest run */
	int64		later;			/* the newest run after it that wrote to the
								 * roster, or found IDs re-keyed; 0: none */
	int64		erased;			/* rows of it in change, removed since */
	char	   *purged_at;		/* when all of them were, or NULL */
	bool		holds;			/* records of it stand in pending_archive */
} SisPastRun;

/*
 * Reads a run back; 42704 when there is none of that number.  Who may know of
 * it is the caller's to check.
 */
extern SisRun *sis_runlog_read(int64 run_id, SisPastRun *past);

/*
 * 42501 unless the current user may know of the run: by USAGE on its sync's
 * server, or by SELECT on the run log.
 */
extern void sis_runlog_check_reader(const SisRun *run);

/*
 * 55000 unless the run is its sync's last word: not dry, and no later run has
 * written to the roster or found IDs re-keyed.
 */
extern void sis_runlog_check_last_word(const SisRun *run,
									   const SisPastRun *past);

/* Reads a run back for a later step; ERROR 55000 unless it is in one of the
 * phases, running, and its sync's newest. */
extern SisRun *sis_runlog_load(int64 run_id, const char *phase);

extern void sis_runlog_phase(int64 run_id, const char *phase);

/* Writes what staging found: counts, district, age of the source. */
extern void sis_runlog_staged(const SisRun *run);

/* Writes run_count anew from run->counts, and the note. */
extern void sis_runlog_counts(const SisRun *run);

extern void sis_runlog_succeeded(const SisRun *run);

/* edata's message, detail and hint are ours or PostgreSQL's own. */
extern void sis_runlog_failed(int64 run_id, const ErrorData *edata);

#endif
