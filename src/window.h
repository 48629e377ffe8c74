/*
 * window.h
 *		What a run does less, and says of it, on a day that lies in a window of
 *		sis_sync.sync_window.
 */
#ifndef SIS_WINDOW_H
#define SIS_WINDOW_H

#include "delta.h"
#include "runstate.h"

/*
 * Ends a run of a frozen sync, which has not begun: it leaves its phase, and
 * whatever an earlier run has staged or held back, as they are.
 */
extern void sis_window_log_frozen(SisRun *run);

/* 55000: a step has nothing to return that the next one could go on with. */
extern void sis_window_check_not_frozen(const SisSync *sync);

/* Plans no update; notes how many wait (adds_only). */
extern void sis_window_leave_updates(SisRun *run);

/* Notes how many records that are gone wait (no_archive, adds_only). */
extern void sis_window_note_gone(SisRun *run, const SisDelta *delta);

#endif
