/*
 * progress.h
 *		What other sessions can see of a run while it goes on.
 *
 * Numbers in shared memory, as PostgreSQL's own commands show them; writing
 * them takes neither a snapshot nor a lock.  Outside a run, that is without
 * sis_progress_begin(), all of this does nothing.
 */
#ifndef SIS_PROGRESS_H
#define SIS_PROGRESS_H

#include "base/record.h"
#include "datatype/timestamp.h"

/* What a run is doing; numbered as in the view sis_sync.progress. */
typedef enum SisStep
{
	SIS_STEP_FETCH = 1,
	SIS_STEP_STAGE,
	SIS_STEP_VERIFY,
	SIS_STEP_APPLY,
	SIS_STEP_ARCHIVE,
	SIS_STEP_UNDO,
	SIS_STEP_REKEY,
	SIS_STEP_RETIRE,
	SIS_STEP_ERASE
} SisStep;

/*
 * Begins to show a run.  It ends with sis_progress_end(), when a transaction
 * is aborted, and, unless commits is true, when the transaction commits.
 */
extern void sis_progress_begin(int64 run_id, bool commits);
extern void sis_progress_end(void);

/* The next step: counts and totals begin at zero, without a record type. */
extern void sis_progress_step(SisStep step);

extern void sis_progress_type(SisRecordType type);

/* So many more have been done. */
extern void sis_progress_bytes(int64 n);
extern void sis_progress_rows(int64 n);

/* One more row, which may be of these types; shown from time to time. */
extern void sis_progress_row(int types);

/* So many more will be done in this step. */
extern void sis_progress_expect_bytes(int64 n);
extern void sis_progress_expect_rows(int64 n);

#endif
