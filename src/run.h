/*
 * run.h
 *		The phases of a run.
 */
#ifndef SIS_RUN_H
#define SIS_RUN_H

#include "runstate.h"

/*
 * Begins a run of another kind in the caller's transaction: holds the sync
 * (SI008 when another run is in progress) and logs the run.
 */
extern SisRun *sis_run_hold(const char *sync, SisRunKind kind, int64 of_run);

/* The same, and opens the roster for writing. */
extern SisRun *sis_run_begin(const char *sync, SisRunKind kind, int64 of_run);

/* ----------
 * The steps (design, section 2), in the caller's transaction.  Each raises
 * the errors the design names and aborts with them.
 * ----------
 */
extern int64 sis_run_stage(const char *sync);
extern void sis_run_verify(int64 run_id);
extern void sis_run_apply(int64 run_id);
extern void sis_run_archive(int64 run_id);
extern int64 sis_run_all(const char *sync);

/*
 * CALL sis_sync.run(): commits between its phases; needs a non-atomic SPI
 * connection.  Ends in the named error when the run failed.
 */
extern void sis_run_committing(const char *sync, bool dry_run);

/* A sync's turn in run_due(). */
typedef struct SisTurn
{
	/* asked once the sync is locked: is it to run? */
	bool		(*is_due) (const SisSync *sync, const struct SisTurn *turn);
	TimestampTz	as_of;			/* for is_due() */
	int64		run_id;			/* out: the run begun, even if it fails; 0: none */
} SisTurn;

/* The same when it is the sync's turn; else nothing happens. */
extern void sis_run_turn(const char *sync, SisTurn *turn);

#endif
