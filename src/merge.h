/*
 * merge.h
 *		Set-based comparison of staged and stored, and the writing of a delta.
 */
#ifndef SIS_MERGE_H
#define SIS_MERGE_H

#include "delta.h"
#include "runstate.h"

/*
 * Computes the delta of every type, with the relations of scope.c open, and
 * counts it into run->counts (planned figures).  Logs links to nothing as
 * rejects where log_rejects is true.
 */
extern void sis_merge_compute(SisRun *run, SisDelta *delta, bool log_rejects);

/*
 * Creates, updates and restores as the current user; writes the change log.
 * Counts what was done into run->counts.
 */
extern void sis_merge_apply(SisRun *run, SisDelta *delta);

/*
 * Archives every record in the "gone" stores that run->hold does not hold
 * back; as sis_merge_apply().
 */
extern void sis_merge_archive(SisRun *run, SisDelta *delta);

#endif
