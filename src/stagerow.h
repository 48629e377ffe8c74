/*
 * stagerow.h
 *		What a row of a staging table has, and how one is formed.
 */
#ifndef SIS_STAGEROW_H
#define SIS_STAGEROW_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "base/record.h"

/*
 * What every staging row has beside the columns of its type, in this order:
 * what has a fixed width stands first, and without gaps.  enum SisStageOwn
 * names the positions (from 0).
 */
#define SIS_STAGE_OWN_COLUMNS_SQL \
	"run_id bigint NOT NULL, sync_id bigint NOT NULL, line bigint NOT NULL, " \
	"fingerprint bigint NOT NULL, keep integer NOT NULL, " \
	"status sis_sync.stage_status NOT NULL, slot smallint NOT NULL, " \
	"part smallint NOT NULL, source text NOT NULL, last_modified text"

enum SisStageOwn
{
	SIS_STAGE_RUN_ID,
	SIS_STAGE_SYNC_ID,
	SIS_STAGE_LINE,
	SIS_STAGE_FINGERPRINT,
	SIS_STAGE_KEEP,
	SIS_STAGE_STATUS,
	SIS_STAGE_SLOT,
	SIS_STAGE_PART,
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
	Oid			status;
	int16		slot;
	int16		part;			/* SIS_PART_*, SIS_PART_REPEATS, SIS_PART_ENDED */
} SisStageFixed;

/* provider rows of one ID may be folded; kept beside SIS_PART_* in "part" */
#define SIS_PART_REPEATS	8

/* a role (1.2) that a package of changes ends; there as well */
#define SIS_PART_ENDED		16

/* What became of a staged row: the values of sis_sync.stage_status. */
typedef enum SisStageStatus
{
	SIS_STATUS_ACTIVE,			/* a record of tonight */
	SIS_STATUS_DELETED,			/* a record the source calls deleted */
	SIS_STATUS_REJECTED,		/* not taken; a stored record of its ID is
								 * protected */
	SIS_STATUS_DUPLICATE,		/* the same as, or lost to, another row */
	SIS_STATUS_PART				/* brought part of a record, now in a row of
								 * its own */
} SisStageStatus;

#define SIS_N_STATUSES	(SIS_STATUS_PART + 1)

/* "active"; and what stands for it in a row of that staging table. */
extern const char *sis_status_name(SisStageStatus status);
extern Oid	sis_status_oid(SisStageStatus status, TupleDesc leaf);

/*
 * The staging row of a record, for the heap, in the current memory context.
 * Its source, last_modified and values come from the record.
 */
extern HeapTuple sis_stage_row(const SisStageFixed *fixed,
							   const SisRecord *record);

#endif
