/*
 * rename.h
 *		Gives records other source IDs in place; CALL sis_sync.rekey().
 */
#ifndef SIS_RENAME_H
#define SIS_RENAME_H

#include "base/spi.h"
#include "runstate.h"

/*
 * The relation that sis_rename() reads: opens it under the name that it has
 * for the type (student or staff) with the rows of a SELECT on the roster of
 * (source_id, new_id).  The records are there, managed, and no record has a
 * new_id.
 */
extern SisRelation sis_rename_open(SisRecordType type, const char *sql,
								   const SisParams *params);

/*
 * Gives the students and staff of both relations their new IDs, and has their
 * links follow: the ends, and IDs that are made of them.  History, created_at
 * and all other columns stay.  Every fingerprint is turned over (~), so that
 * the next run compares the record, and an edit by hand still shows.  Logged
 * as "rekey", counted as updated.
 */
extern void sis_rename(SisRun *run);

#endif
