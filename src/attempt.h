/*
 * attempt.h
 *		Transactions of a procedure that commits, and work in them that may fail.
 *
 * Those that commit need a non-atomic SPI connection.
 */
#ifndef SIS_ATTEMPT_H
#define SIS_ATTEMPT_H

#include "postgres.h"

/* Commits; the next transaction is as a run needs it, whatever the session has. */
extern void sis_commit(void);

/*
 * The same, where the commit may fail: NULL when it went well, else the error,
 * with the next transaction begun all the same.
 */
extern ErrorData *sis_attempt_commit(void);

/*
 * Does work in an internal subtransaction.  NULL when it went well, else the
 * error, with the transaction around it still usable.
 */
extern ErrorData *sis_attempt(void (*work) (void *arg), void *arg);

/* The same in the SPI connection that is open, with its named relations. */
extern ErrorData *sis_attempt_here(void (*work) (void *arg), void *arg);

#endif
