/*
 * undo.h
 *		What an undo is about, and its delta out of the log.
 */
#ifndef SIS_UNDO_H
#define SIS_UNDO_H

#include "delta.h"
#include "runstate.h"

typedef struct SisUndo
{
	SisRun	   *run;			/* the undo itself */
	const SisRun *of;			/* the run that it undoes */
	int64		created_by;		/* of is an undo: the run it has undone;
								 * else 0 */
	bool		only_type;		/* of the type, and its links with it */
	SisRecordType type;
	char	   *school;			/* its source_id, or NULL */
	SisParams	params;			/* $1 run, $2 sync_id, $3 of, $4 school,
								 * $5 why, for the log, $6 created_by */
} SisUndo;

/*
 * A boolean over alias t: is it of the type and school asked for?  With
 * logged, also by what c, of sis_sync.change, says that it was.
 */
extern char *sis_undo_wants_sql(const SisUndo *undo, SisRecordType type,
								bool logged);

/* Why a record that the log names (c) must be left as it is (t); NULL: it
 * need not. */
extern const char *sis_undo_why_left_sql(void);

/* A condition on alias t: the run has created it, and it leaves by the undo. */
extern char *sis_undo_created_sql(const SisUndo *undo, SisRecordType type);

/*
 * Columns of an undo's delta that are put back beside those of the type: of
 * the row's own, with their types.
 */
typedef struct SisUndoColumn
{
	const char *name;
	const char *type;
	bool		of_archive;
} SisUndoColumn;

#define SIS_N_UNDO_COLUMNS	6
extern const SisUndoColumn sis_undo_columns[SIS_N_UNDO_COLUMNS];

/*
 * Fills the stores of a type and registers them.  changes: put back, u as a
 * record that is there, r as one that was archived; gone: b, archived again
 * as it was; lost: left as it is, for the reason given.  What the run created
 * is in no store unless it is left: sis_undo_created_sql() tells.
 * Links come after the types of their ends.
 */
extern void sis_undo_fill(const SisUndo *undo, SisDelta *delta,
						  SisRecordType type);

/*
 * A SELECT of source_id and before of the links that are there, one of whose
 * ends leaves: they go with it, whoever made them.
 */
extern char *sis_undo_following_sql(const SisUndo *undo, SisRecordType type);

#endif
