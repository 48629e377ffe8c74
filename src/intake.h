/*
 * intake.h
 *		A run's second phase: what the source sends, into the staging tables.
 */
#ifndef SIS_INTAKE_H
#define SIS_INTAKE_H

#include "provider/provider.h"
#include "runstate.h"

/* The provider of a source; SI009 when its wrapper is none of ours. */
extern const SisProvider *sis_intake_provider(const SisSource *source);

/*
 * Fetches and stages the source, into the run's slot.  A failure of the source
 * is in *failure afterwards, in the current memory context, and what came
 * before it is staged and counted all the same.
 */
extern void sis_intake(SisRun *run, const SisSource *source,
					   SisFailure *failure);

#endif
