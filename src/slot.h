/*
 * slot.h
 *		The sixteen staging slots: taking one for a run, emptying, pinning.
 */
#ifndef SIS_SLOT_H
#define SIS_SLOT_H

#include "base/record.h"
#include "base/spi.h"

#define SIS_N_SLOTS		16

/* "sis_sync.stage_student_07" */
extern char *sis_stage_leaf(SisRecordType type, int slot);

/* How many rows of the run stand in the leaf, and how many are active. */
extern void sis_stage_leaf_count(SisRecordType type, int slot, int64 run_id,
								 int64 *rows, int64 *active);

/*
 * Takes a slot for the run and empties it: a free one, else one with an old
 * run's rows that nobody waits for, else a pinned one, oldest first.  The
 * slot is locked until sis_locks_release() (session) or the end of the
 * transaction.  53300 when sixteen runs are under way.
 */
extern int	sis_slot_take(int64 run_id, const char *sync, bool session);

/* The slot of the run's rows; -1 when another run has taken it since. */
extern int	sis_slot_of(int64 run_id);

/* Keeps the rows to be looked at, or leaves them to the next taker. */
extern void sis_slot_pin(int64 run_id, bool pinned);

/*
 * Empties the slots of which a condition holds (SQL over alias p, a row of
 * stage_slot), and gives them back; those in use are passed over.
 */
extern void sis_slots_clear(const char *condition, const SisParams *params);

/* Locks a slot again for a later step of the run; false if somebody has it. */
extern bool sis_slot_lock(int slot, bool session);

/*
 * The same beside others who only look at its rows, for the transaction, or
 * until it is given back: whoever may look must not keep runs from the slots.
 */
extern bool sis_slot_share(int slot);
extern void sis_slot_unshare(int slot);

/* ----------
 * One run per sync at a time (design, rule 5).  The lock tags are advisory
 * ones with field 3, which no SQL function can take.  A session holds at most
 * one sync and one slot; they outlive commits and errors until released.
 * ----------
 */
/* False also when a CALL of this very session holds it. */
extern bool sis_sync_lock(int64 sync_id, bool session);

/* The backend of another session that holds it; 0: none. */
extern int	sis_sync_lock_holder(int64 sync_id);

/*
 * Takes both locks, held by the session, for the transaction as well: a
 * trigger that calls pg_advisory_unlock_all() cannot drop those.
 */
extern void sis_locks_for_transaction(int64 sync_id, int slot);

/* Releases what this session holds; needs no transaction, never throws. */
extern void sis_locks_release(void);

#endif
