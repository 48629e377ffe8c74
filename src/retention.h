/*
 * retention.h
 *		What is kept no longer: previous values, rejected rows, staged rows.
 */
#ifndef SIS_RETENTION_H
#define SIS_RETENTION_H

#include "datatype/timestamp.h"

/*
 * Removes what the settings keep no longer (sync.keep_values, keep_staged), of
 * every sync: some runs at a time, so that it never takes long.  What another
 * session is just removing is left to it.
 *
 * Not to be done is a WARNING, no failure of the run at whose end it stands: it
 * is done in a subtransaction, and waits for a lock for half a second.  Returns
 * NULL, or the error when it was cancelled, for the caller to raise.
 */
extern ErrorData *sis_retention(void);

/* 22023 when an age is negative: nothing is older than what is to come. */
extern void sis_check_age(const Interval *older_than);

#endif
