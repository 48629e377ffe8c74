/*
 * write.h
 *		Statements that write to a roster: as the caller, and logged.
 */
#ifndef SIS_WRITE_H
#define SIS_WRITE_H

#include "base/spi.h"
#include "runstate.h"

/*
 * Runs a statement that writes records of a type, as the current user and
 * with the current search_path: the application's triggers must not get more
 * rights than the caller has.  An error shows no row's values.  Returns the
 * number of rows.
 */
extern uint64 sis_write(SisRecordType type, const char *sql,
						const SisParams *params, int expected);

/*
 * Runs an UPDATE that returns, of each row it wrote, source_id, reason,
 * before (a JSON text) and row_run, and logs these under the action: what a
 * trigger or somebody else kept from being written is not logged.  Returns
 * the number of rows.
 */
extern int64 sis_write_logged(const SisRun *run, SisRecordType type,
							  const char *action, const char *sql,
							  const SisParams *params);

/*
 * Locks the records that a registered store names by source_id in the order
 * of their keys: two runs, or a run and the application, never wait for each
 * other crosswise.
 */
extern void sis_write_lock(const SisRun *run, SisRecordType type,
						   const char *store);

/* Is a statement of a run writing to a roster just now? */
extern bool sis_is_writing(void);

/*
 * Fires deferred constraints now, while an error can still be logged and its
 * detail withheld; they would fire at the commit.
 */
extern void sis_write_check_constraints(void);

#endif
