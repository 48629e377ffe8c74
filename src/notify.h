/*
 * notify.h
 *		NOTIFY sis_sync: a run has ended.
 */
#ifndef SIS_NOTIFY_H
#define SIS_NOTIFY_H

#include "runstate.h"

/*
 * Sends one JSON object on channel "sis_sync" about a run whose end is logged;
 * nothing about one that has not ended.  Listeners get it when the current
 * transaction commits.  Needs an SPI connection.
 */
extern void sis_notify_end(int64 run_id);

/* The same of the runs that this one has found interrupted. */
extern void sis_notify_interrupted(const SisRun *run);

/*
 * Tells of it in a transaction of its own, between two of CALL run(): the queue
 * of notifications may be full, and the commit that fails by that must not be
 * the run's.  Raises nothing but a cancel; a WARNING tells of other errors.
 */
extern void sis_notify_committing(int64 run_id);

#endif
