/*
 * erased.h
 *		Removes records wherever they stand: roster, staging, log.
 */
#ifndef SIS_ERASED_H
#define SIS_ERASED_H

#include "base/spi.h"
#include "runstate.h"

/*
 * The records to remove, as relation "erased": a SELECT of record_type and
 * source_id.  IDs that they had before, or would have got (rekey), are added.
 */
extern SisRelation sis_erased_open(const SisRun *run, const char *sql,
								   const SisParams *params);

/*
 * For that SELECT: the links of the persons in "person" (record_type,
 * source_id), stored and staged; $1 is sync_id.
 */
extern char *sis_erased_links_sql(const SisRun *run);

typedef struct SisErasedRows
{
	int64		roster;
	int64		staged;
	int64		logged;
} SisErasedRows;

/*
 * Removes them: from the roster as the caller, whose rights and triggers
 * apply, from staging and log as the extension's owner.  ERROR when the
 * roster keeps one.
 */
extern SisErasedRows sis_erased_remove(const SisRun *run);

#endif
