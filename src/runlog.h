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
extern int64 sis_runlog_start(const SisSync *sync, bool dry_run);

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
