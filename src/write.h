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
extern uint64 sis_write(const SisRun *run, SisRecordType type, const char *sql,
						const SisParams *params, int expected);

/*
 * The same for an UPDATE of one table by a condition, which takes the rows in
 * the order of their keys, as sis_write_lock() does: along the primary key.
 */
extern uint64 sis_write_in_key_order(const SisRun *run, SisRecordType type,
									 const char *sql, const SisParams *params);

/*
 * Runs an UPDATE that returns, of each row it wrote, source_id, reason,
 * before (a JSON text), and SIS_ROW_AS_LEFT, and logs these under the action:
 * what a trigger or somebody else kept from being written is not logged.
 * Returns the number of rows.
 */
#define SIS_ROW_AS_LEFT \
	SIS_ROW_RUN_SQL ", t.fingerprint"

/* The run that a row t names as its last. */
#define SIS_ROW_RUN_SQL \
	"CASE WHEN t.archived_at IS NULL THEN t.updated_run ELSE t.archived_run END"

extern int64 sis_write_logged(const SisRun *run, SisRecordType type,
							  const char *action, const char *sql,
							  const SisParams *params);

/*
 * "t is there" and "t is archived", so that the planner guesses nothing: of a
 * table that was never analyzed it takes hardly any row to be there, and would
 * scan a store once for each of them.
 */
#define SIS_ROW_IS_LIVE_SQL \
	"CASE WHEN t.archived_at IS NULL THEN true ELSE false END"
#define SIS_ROW_IS_ARCHIVED_SQL \
	"CASE WHEN t.archived_at IS NULL THEN false ELSE true END"

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
 * detail withheld; they would fire at the commit.  Not for a transaction block
 * of the caller's: when to check is his to say.
 */
extern void sis_write_check_constraints(const SisRun *run);

#endif
