/*
 * roster.h
 *		The application's roster tables: making them, and opening them for a run.
 */
#ifndef SIS_ROSTER_H
#define SIS_ROSTER_H

#include "base/record.h"
#include "storage/lockdefs.h"

typedef struct SisRoster
{
	char	   *schema;			/* as in sync.target_schema */
	char	   *tables[SIS_N_RECORD_TYPES]; /* qualified and quoted */
} SisRoster;

/*
 * Locks the nine tables until the end of the transaction, checks that they
 * have the columns this version needs, and that the current user may SELECT,
 * INSERT and UPDATE them without row security hiding rows.
 * Errors: SI009 for the layout, 42501 for the rights.
 */
extern SisRoster *sis_roster_open(const char *schema, LOCKMODE mode);

/*
 * For an error context callback around what waits for locks on a roster: says
 * what to do when lock_timeout has ended the wait.
 */
extern void sis_roster_lock_hint(void);

/* The same for one who only looks: SELECT is enough. */
extern SisRoster *sis_roster_open_to_read(const char *schema);

/* Does an opened roster hold such a record of the sync?  condition is SQL. */
extern bool sis_roster_has(const SisRoster *roster, SisRecordType type,
						   int64 sync_id, const char *condition);

/*
 * The source_id of a stored school, found by the district's own ID, else by
 * the source's, as in sync_school; 22023 unless there is exactly one.
 */
extern char *sis_roster_find_school(const SisRoster *roster, int64 sync_id,
									const char *school);

#endif
