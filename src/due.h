/*
 * due.h
 *		Runs the syncs that are due, one after another.
 */
#ifndef SIS_DUE_H
#define SIS_DUE_H

/*
 * CALL sis_sync.run_due(): runs each sync that is due now (view
 * sis_sync.due), that the caller may run, and that no other session is
 * running; at most max_runs of them (0: no limit).  A failure is a WARNING
 * and does not stop the others; a cancel does.  Commits; called without an
 * SPI connection, where SPI may commit.
 */
extern void sis_due_run(int max_runs);

#endif
