/*
 * fold_group.h
 *		The rows of one ID on their way into one: what fold.c reads and
 *		fold_group.c judges.
 */
#ifndef SIS_FOLD_GROUP_H
#define SIS_FOLD_GROUP_H

#include "stage.h"
#include "storage/itemptr.h"

#define SIS_FOLD_MARK_ROWS	1000

typedef struct SisFoldRow
{
	ItemPointerData tid;
	int			part;
	bool		repeats;
	bool		ended;			/* a role that ends */
	bool		deleted;
	bool		rejected;
	bool		is_part;		/* already has the status "part" */
	bool		has_stored;		/* the roster has a fingerprint of this ID */
	int64		stored;			/* it */
	bool		is_stored;		/* the roster has just this version */
	char	   *source;
	int64		line;
	uint64		keep;
	SisValue	last_modified;
	int64		fingerprint;
	SisValue	values[SIS_MAX_COLUMNS];
} SisFoldRow;

typedef struct SisFold
{
	SisStage   *stage;
	SisRecordType type;
	const SisRecordDesc *desc;
	char	   *leaf;
	int			needs_parts;
	int			school_column;	/* primary school of a person, or -1 */
	int			schools_column; /* all schools of a person, or -1 */
	int			roles_column;	/* of staff, else -1 */
	MemoryContext group_cxt;
	MemoryContext passed_cxt;	/* of a row that is not kept; reset each time */
	SisFoldRow    *rows;			/* of one ID, in group_cxt */
	int			nrows;
	int			maxrows;
	bool		is_made[SIS_MAX_COLUMNS];	/* the result's list was made here */
	Datum		part_tids[SIS_FOLD_MARK_ROWS];
	int			npart;
	Datum		duplicate_tids[SIS_FOLD_MARK_ROWS];
	int			nduplicate;
	MemoryContext mark_cxt;
	SisRecord  *result;
	bool		delta;			/* a package of changes */
	int64		nstray;			/* its roles of users that are not known */
} SisFold;

/* Judges the rows collected, and writes the one that comes of them. */
extern void sis_fold_group(SisFold *fold);

/* ----------
 * In fold.c
 * ----------
 */

/* Gives a row the status "part", or "duplicate", soon. */
extern void sis_fold_mark_part(SisFold *fold, const SisFoldRow *row);
extern void sis_fold_mark_duplicate(SisFold *fold, const SisFoldRow *row);

/* Logs a row as a reject, unless it is merely named (a term, a course). */
extern void sis_fold_log_reject(SisFold *fold, const SisFoldRow *row,
								const char *reason);

#endif
