/*
 * approve.h
 *		What a run held back, and who let it go (sis_sync.approve).
 */
#ifndef SIS_APPROVE_H
#define SIS_APPROVE_H

#include "runstate.h"

/*
 * Writes the registered "gone" store of a type into pending_archive, under
 * the run, or what run->hold holds back of it: these and no others are what
 * approve() then lets go.
 */
extern void sis_approval_hold(const SisRun *run, SisRecordType type);

/*
 * Looks for approvals that the run may use: the sync's newest of records held
 * back, and its newest of updates, neither spent nor lapsed.  Sets
 * run->approved_run and run->approved_updates_run.
 */
extern void sis_approval_find(SisRun *run);

/*
 * A boolean over an alias with a source_id: does the run's approval name the
 * record?  "false" without one.  param is the number of the parameter with
 * run->approved_run, such as "$6".
 */
extern const char *sis_approval_names_sql(const SisRun *run,
										  SisRecordType type,
										  const char *alias,
										  const char *param);

/* The run has archived: its approval, if it had one, counts no more. */
extern void sis_approval_spend(SisRun *run);

/* The same for one of updates: the run has made them. */
extern void sis_approval_spend_updates(SisRun *run);

#endif
