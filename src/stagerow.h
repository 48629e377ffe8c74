/*
 * stagerow.h
 *		What a row of a staging table has, and how one is formed.
 */
#ifndef SIS_STAGEROW_H
#define SIS_STAGEROW_H

#include "access/htup.h"
#include "base/record.h"

/*
 * What every staging row has beside the columns of its type, in this order:
 * what has a fixed width stands first, and without gaps.  enum SisStageOwn
 * names the positions (from 0).
 */
#define SIS_STAGE_OWN_COLUMNS_SQL \
	"run_id bigint NOT NULL, sync_id bigint NOT NULL, line bigint NOT NULL, " \
	"fingerprint bigint NOT NULL, keep integer NOT NULL, slot smallint NOT NULL, " \
	"part smallint NOT NULL, status text NOT NULL, source text NOT NULL, " \
	"last_modified text"

enum SisStageOwn
{
	SIS_STAGE_RUN_ID,
	SIS_STAGE_SYNC_ID,
	SIS_STAGE_LINE,
	SIS_STAGE_FINGERPRINT,
	SIS_STAGE_KEEP,
	SIS_STAGE_SLOT,
	SIS_STAGE_PART,
	SIS_STAGE_STATUS,
	SIS_STAGE_SOURCE,
	SIS_STAGE_LAST_MODIFIED,
	SIS_STAGE_NOWN
};

/* The columns of fixed width, as they lie in a row. */
typedef struct SisStageFixed
{
	int64		run_id;
	int64		sync_id;
	int64		line;
	int64		fingerprint;
	int32		keep;			/* SisRecord.keep */
	int16		slot;
	int16		part;			/* SIS_PART_*, SIS_PART_REPEATS, SIS_PART_ENDED */
} SisStageFixed;

/* provider rows of one ID may be folded; kept beside SIS_PART_* in "part" */
#define SIS_PART_REPEATS	8

/* a role (1.2) that a package of changes ends; there as well */
#define SIS_PART_ENDED		16

/*
 * status: what became of a staged row.
 *	active		a record of tonight
 *	deleted		a record the source calls deleted
 *	rejected	not taken; a stored record of its ID is protected
 *	duplicate	the same as, or lost to, another row of its ID
 *	part		brought part of a record, now in a row of its own
 */

/*
 * The staging row of a record, for the heap, in the current memory context.
 * Its source, last_modified and values come from the record.
 */
extern HeapTuple sis_stage_row(const SisStageFixed *fixed, const char *status,
							   const SisRecord *record);

#endif
