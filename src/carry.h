/*
 * carry.h
 *		The stored records that a package of changes does not name.
 */
#ifndef SIS_CARRY_H
#define SIS_CARRY_H

#include "delta.h"
#include "runstate.h"
#include "stage.h"

/*
 * Adds the stored records of each type offered as SIS_OFFER_DELTA to the
 * staging tables, unless tonight's rows name them: as active, or as deleted
 * where a deletion waits.  From there on the run has a whole list.  Comes
 * between the provider and sis_stage_close(); reads the roster as the caller.
 */
extern void sis_carry_stored(SisStage *stage, const SisRun *run);

/*
 * Writes down the deletions that tonight's changes name, until they are
 * carried out or the records are seen active: the next package does not name
 * them again (design, rule 10).  The delta's stores are registered, and hold
 * all that is gone.
 */
extern void sis_carry_remember(const SisRun *run, const SisDelta *delta);

/*
 * The same for what whole files do not hold any more, when a trip keeps it
 * from being archived: a package of changes may come next.
 */
extern void sis_carry_remember_held(const SisRun *run, const SisDelta *delta);

/* Forgets those that have been carried out. */
extern void sis_carry_forget(const SisRun *run, const SisDelta *delta);

#endif
