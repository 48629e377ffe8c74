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
 */
extern void sis_retention(void);

/*
 * The same at the end of CALL run(), in a transaction of its own: not to be
 * done is a WARNING, no failure of the run.
 */
extern void sis_retention_after_run(void);

/* 22023 when an age is negative: nothing is older than what is to come. */
extern void sis_check_age(const Interval *older_than);

#endif
