/*
 * retire.h
 *		A school that has closed: CALL sis_sync.retire_school().
 */
#ifndef SIS_RETIRE_H
#define SIS_RETIRE_H

#include "runstate.h"

/*
 * Makes the schools active again that a run of retire_school() had made
 * inactive, when the undo is of that run; inactive again when it is of an undo
 * of it; and so on.  Returns how many schools have changed.
 */
extern int64 sis_retire_undo(const SisRun *undo, int64 of_run);

#endif
