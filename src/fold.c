/*
 * fold.c
 *		Makes one staged row of the rows of one ID.
 *
 * Rows of one ID come for three reasons: the layout repeats them (Clever's
 * schools and contacts) or spreads a record over files (OneRoster 1.2 roles,
 * demographics): then they are united; or the export is wrong: then one wins,
 * and the others are rejects.  Which one wins does not depend on the order of
 * rows, so that the next night does not undo what this one did (rule 4).
 *
 * How it works: a cursor delivers the rows in the order of their IDs; rows of
 * one ID are collected and judged together.  What was united is written as a
 * row of its own; the rows it came from stay, with another status.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/compat.h"
#include "base/spi.h"
#include "base/textlist.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fold.h"
#include "miscadmin.h"
#include "slot.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define FETCH_ROWS		1000

/* No person has so many schools, roles or contacts; a hostile file may. */
#define MAX_ROWS_OF_ID	1000
#define MARK_ROWS		1000

#define IN_REPEATED_SQL "source_id IN (SELECT source_id FROM repeated)"

/* columns of the cursor before those of the record type */
enum
{
	COL_TID = 1,
	COL_PART,
	COL_STATUS,
	COL_SOURCE,
	COL_LINE,
	COL_KEEP,
	COL_LAST_MODIFIED,
	COL_FINGERPRINT,
	COL_STORED,
	COL_FIRST
};

typedef struct FoldRow
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
} FoldRow;

typedef struct Fold
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
	FoldRow    *rows;			/* of one ID, in group_cxt */
	int			nrows;
	int			maxrows;
	bool		is_made[SIS_MAX_COLUMNS];	/* the result's list was made here */
	Datum		part_tids[MARK_ROWS];
	int			npart;
	Datum		duplicate_tids[MARK_ROWS];
	int			nduplicate;
	MemoryContext mark_cxt;
	SisRecord  *result;
	bool		delta;			/* a package of changes */
	int64		nstray;			/* its roles of users that are not known */
} Fold;

/* ----------
 * Marking rows
 * ----------
 */

static void
flush_marks(Fold *fold, SisStageStatus status, Datum *tids, int *n)
{
	SisParams	params = {0};
	MemoryContext old;

	if (*n == 0)
		return;
	old = MemoryContextSwitchTo(fold->mark_cxt);
	sis_param(&params, TIDARRAYOID,
			  PointerGetDatum(construct_array(tids, *n, TIDOID,
											  sizeof(ItemPointerData), false,
											  TYPALIGN_SHORT)), false);
	sis_exec_as_owner(psprintf("UPDATE %s SET status = '%s' WHERE ctid = ANY ($1)",
							   fold->leaf, sis_status_name(status)), &params, SPI_OK_UPDATE);
	MemoryContextSwitchTo(old);
	*n = 0;
}

static void
flush_all_marks(Fold *fold)
{
	flush_marks(fold, SIS_STATUS_PART, fold->part_tids, &fold->npart);
	flush_marks(fold, SIS_STATUS_DUPLICATE, fold->duplicate_tids, &fold->nduplicate);
	MemoryContextReset(fold->mark_cxt);
}

static Datum
copy_tid(Fold *fold, const FoldRow *row)
{
	ItemPointer tid = MemoryContextAlloc(fold->mark_cxt, sizeof(ItemPointerData));

	*tid = row->tid;
	return PointerGetDatum(tid);
}

static void
mark_part(Fold *fold, const FoldRow *row)
{
	if (row->is_part)
		return;
	fold->part_tids[fold->npart++] = copy_tid(fold, row);
	if (fold->npart == MARK_ROWS)
		flush_all_marks(fold);
}

static void
mark_duplicate(Fold *fold, const FoldRow *row)
{
	fold->duplicate_tids[fold->nduplicate++] = copy_tid(fold, row);
	if (fold->nduplicate == MARK_ROWS)
		flush_all_marks(fold);
}

/*
 * Terms and courses that section rows merely name are no records of their own:
 * spellings differ, and nobody is at fault.
 */
static bool
is_merely_named(const Fold *fold, const FoldRow *row)
{
	return row->repeats && (fold->type == SIS_TERM || fold->type == SIS_COURSE);
}

static void
log_reject(Fold *fold, const FoldRow *row, const char *reason)
{
	SisValue	id = row->values[SIS_COL_SOURCE_ID];

	if (is_merely_named(fold, row))
		return;
	sis_stage_log_reject(fold->stage, fold->type, row->source, row->line,
						 id.data, id.len, NULL, reason, NULL, false);
	sis_stage_counts_for_update(fold->stage, fold->type)->rejected++;
}

/* ----------
 * Comparing and uniting
 * ----------
 */

/* Does a win over b?  Independent of the order of rows. */
static bool
wins(const FoldRow *a, const FoldRow *b)
{
	if (a->is_stored != b->is_stored)
		return a->is_stored;
	if (a->last_modified.data != NULL && b->last_modified.data != NULL)
	{
		int			cmp = sis_compare_values(a->last_modified, b->last_modified);

		if (cmp != 0)
			return cmp > 0;
	}
	if (a->deleted != b->deleted)
		return b->deleted;
	if (a->fingerprint != b->fingerprint)
		return a->fingerprint < b->fingerprint;
	return a->line < b->line;
}

/* Could two rows be one record that the layout repeats? */
static bool
compatible(const Fold *fold, const SisRecord *result, const FoldRow *row)
{
	for (int i = 0; i < fold->desc->ncolumns; i++)
	{
		if (fold->desc->columns[i].kind == SIS_KIND_LIST ||
			fold->desc->columns[i].kind == SIS_KIND_JSONB ||
			i == fold->school_column)
			continue;
		if (result->values[i].data != NULL && row->values[i].data != NULL &&
			!sis_same_value(result->values[i], row->values[i]))
			return false;
	}
	return true;
}

/* Puts another list into the result, made by sis_list_*(). */
static void
replace_list(Fold *fold, int column, SisValue list)
{
	SisValue   *mine = &fold->result->values[column];

	if (fold->is_made[column])
		pfree((char *) mine->data);
	fold->is_made[column] = list.data != NULL;
	*mine = list;
}

/* Adds what a row has to the result; true when that changed anything. */
static bool
unite(Fold *fold, SisRecord *result, const FoldRow *row)
{
	bool		changed = false;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < fold->desc->ncolumns; i++)
	{
		SisValue   *mine = &result->values[i];
		const SisValue *theirs = &row->values[i];

		if ((row->keep & SIS_COLUMN_BIT(i)) == 0 &&
			(result->keep & SIS_COLUMN_BIT(i)) != 0)
		{
			/* a carried record has the stored value in its place */
			result->keep &= ~SIS_COLUMN_BIT(i);
			replace_list(fold, i, (SisValue) {NULL, 0});
			changed = true;
		}
		if (theirs->data == NULL || i == SIS_COL_SOURCE_ID)
			continue;
		/* no row says which school is the primary one: always the same */
		if (mine->data == NULL ||
			(i == fold->school_column && row->part == SIS_PART_BASE &&
			 sis_compare_values(*theirs, *mine) < 0))
		{
			*mine = *theirs;
			changed = true;
		}
		else if (fold->desc->columns[i].kind == SIS_KIND_LIST &&
				 !sis_same_value(*mine, *theirs))
		{
			replace_list(fold, i, sis_list_unite(*mine, *theirs));
			changed = true;
		}
	}
	return changed;
}

/* ----------
 * The rows of one ID
 * ----------
 */

static const FoldRow *
choose_winner(const Fold *fold)
{
	const FoldRow *winner = NULL;

	for (int i = 0; i < fold->nrows; i++)
	{
		const FoldRow *row = &fold->rows[i];

		if (row->part != SIS_PART_BASE || row->rejected)
			continue;
		if (winner == NULL || wins(row, winner))
			winner = row;
	}
	return winner;
}

/* No row of the record itself was accepted. */
static void
fold_without_base(Fold *fold)
{
	bool		protected = false;

	for (int i = 0; i < fold->nrows; i++)
	{
		if (!fold->rows[i].rejected)
			continue;
		if (protected)
			mark_duplicate(fold, &fold->rows[i]);
		protected = true;
	}
	for (int i = 0; !protected && i < fold->nrows; i++)
	{
		if (fold->rows[i].part != SIS_PART_ROLE || fold->rows[i].ended)
			continue;

		/* a package need not name the user, who may be of a school that is
		 * not set up: nothing is wrong with the row */
		if (fold->delta)
			fold->nstray++;
		else
			log_reject(fold, &fold->rows[i], "role of an unknown user");
	}
}

static void
fold_bases(Fold *fold, const FoldRow *winner, bool *changed)
{
	for (int i = 0; i < fold->nrows; i++)
	{
		const FoldRow *row = &fold->rows[i];

		if (row == winner || row->part != SIS_PART_BASE)
			continue;
		if (row->rejected ||
			(row->fingerprint == winner->fingerprint &&
			 row->deleted == winner->deleted))
			mark_duplicate(fold, row);
		else if (winner->repeats && row->repeats && !winner->deleted &&
				 !row->deleted && compatible(fold, fold->result, row))
		{
			if (unite(fold, fold->result, row))
				*changed = true;
			mark_part(fold, row);
		}
		else
		{
			log_reject(fold, row, "another row has the same ID");
			mark_duplicate(fold, row);
		}
	}
}

static void
fold_parts(Fold *fold, bool *changed, int *parts)
{
	/* what was received tonight comes before what is stored */
	static const struct
	{
		int			part;
		bool		carried;
	}			order[] = {
		{SIS_PART_ROLE, false}, {SIS_PART_ROLE, true}, {SIS_PART_EXTRA, false}
	};

	for (int p = 0; p < (int) lengthof(order); p++)
	{
		for (int i = 0; i < fold->nrows; i++)
		{
			const FoldRow *row = &fold->rows[i];

			if (row->part != order[p].part || row->ended ||
				(row->line == SIS_CARRIED_LINE) != order[p].carried)
				continue;
			if (unite(fold, fold->result, row))
				*changed = true;
			*parts |= order[p].part;
		}
	}
}

/* ----------
 * Roles that end (a package of changes)
 * ----------
 */

/* Does a role of tonight hold the person at that school? */
static bool
has_role_at(const Fold *fold, SisValue school)
{
	for (int i = 0; i < fold->nrows; i++)
	{
		const FoldRow *row = &fold->rows[i];

		if (row->part == SIS_PART_ROLE && !row->ended &&
			row->line != SIS_CARRIED_LINE &&
			sis_list_has(row->values[fold->schools_column], school))
			return true;
	}
	return false;
}

/*
 * Takes away a role that ends.  Which role a person has at which school is not
 * stored, so one of several roles is left in place until whole files come:
 * to take away too little archives nobody.  False when nothing is left of the
 * person as a record of this type.
 */
static bool
take_away_role(Fold *fold, const FoldRow *row)
{
	SisRecord  *result = fold->result;
	SisValue	school;
	SisValue   *schools;

	/* a contact goes with the last student it is a contact of */
	if (fold->schools_column < 0)
		return true;
	if (fold->roles_column >= 0)
	{
		SisValue	role = sis_list_only(result->values[fold->roles_column]);

		if (role.data == NULL ||
			!sis_list_has(row->values[fold->roles_column], role))
			return true;
	}
	school = sis_list_only(row->values[fold->schools_column]);
	if (school.data == NULL)
		return true;
	schools = &result->values[fold->schools_column];
	if (!sis_list_has(*schools, school) || has_role_at(fold, school))
		return true;
	replace_list(fold, fold->schools_column, sis_list_without(*schools, school));
	if (result->values[fold->school_column].data != NULL &&
		sis_same_value(result->values[fold->school_column], school))
		result->values[fold->school_column] = sis_list_only(*schools);
	return schools->data != NULL;
}

/* True when all roles that made the person a record of this type have ended. */
static bool
take_away_roles(Fold *fold)
{
	bool		left = true;

	for (int i = 0; i < fold->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		left &= !fold->rows[i].ended || take_away_role(fold, &fold->rows[i]);
	}
	return !left;
}

static void
begin_result(Fold *fold, const FoldRow *row)
{
	SisRecord  *result = fold->result;

	memset(fold->is_made, false, sizeof(fold->is_made));
	sis_record_reset(result, fold->type, row->source, row->line);
	result->keep = row->keep;
	result->repeats = row->repeats;
	result->last_modified = row->last_modified;
	memcpy(result->values, row->values,
		   sizeof(SisValue) * fold->desc->ncolumns);
}

/* A carried record that tonight's rows change comes from these. */
static void
name_source(const Fold *fold, SisRecord *result)
{
	for (int i = 0; result->line == SIS_CARRIED_LINE && i < fold->nrows; i++)
	{
		result->source = fold->rows[i].source;
		result->line = fold->rows[i].line;
	}
}

/*
 * Of a record that is spread over files the roster has the whole: which of
 * several base rows is the stored version shows with its other parts.
 */
static void
compare_whole_with_stored(Fold *fold)
{
	int			nbases = 0;
	bool		spread = false;

	for (int i = 0; i < fold->nrows; i++)
	{
		if (fold->rows[i].part != SIS_PART_BASE)
			spread = true;
		else if (!fold->rows[i].rejected)
			nbases++;
	}
	if (!spread || nbases < 2)
		return;
	for (int i = 0; i < fold->nrows; i++)
	{
		FoldRow    *row = &fold->rows[i];
		bool		changed = false;
		int			parts = 0;

		if (row->part != SIS_PART_BASE || row->rejected || !row->has_stored)
			continue;
		begin_result(fold, row);
		fold_parts(fold, &changed, &parts);
		row->is_stored =
			sis_stage_fingerprint(fold->stage, fold->result) == row->stored;
	}
}

static bool
has_rejected(const Fold *fold)
{
	for (int i = 0; i < fold->nrows; i++)
	{
		if (fold->rows[i].rejected)
			return true;
	}
	return false;
}

static void
fold_group(Fold *fold)
{
	const FoldRow *winner;
	SisRecord  *result = fold->result;
	SisStageStatus status;
	bool		changed;
	int			parts = SIS_PART_BASE;

	if (fold->nrows == 0)
		return;
	compare_whole_with_stored(fold);
	winner = choose_winner(fold);

	/* a rejected part leaves the record incomplete: it is protected instead */
	if (winner == NULL ||
		(fold->needs_parts != SIS_PART_BASE && has_rejected(fold)))
	{
		fold_without_base(fold);
		return;
	}
	begin_result(fold, winner);
	name_source(fold, result);
	changed = winner->is_part;
	fold_bases(fold, winner, &changed);
	if (winner->deleted)
		return;
	fold_parts(fold, &changed, &parts);
	if ((parts & fold->needs_parts) != fold->needs_parts || !changed)
		return;
	mark_part(fold, winner);
	status = take_away_roles(fold) ? SIS_STATUS_DELETED : SIS_STATUS_ACTIVE;
	sis_stage_write(fold->stage, result, status,
					sis_stage_fingerprint(fold->stage, result));
}

/* ----------
 * The cursor
 * ----------
 */

static SisValue
text_value(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, column, desc, &isnull);
	SisValue	value = {NULL, 0};

	if (!isnull)
	{
		text	   *t = DatumGetTextPP(datum);

		value.data = VARDATA_ANY(t);
		value.len = VARSIZE_ANY_EXHDR(t);
	}
	return value;
}

static bool
text_equals(SisValue value, const char *word)
{
	return value.len == (int) strlen(word) &&
		memcmp(value.data, word, value.len) == 0;
}

/* Copies a row of the cursor into the current memory context. */
static void
read_row(const Fold *fold, HeapTuple source, TupleDesc desc, FoldRow *row)
{
	HeapTuple	tuple = heap_copytuple(source);
	SisValue	status;
	bool		isnull;
	int			part;

	row->tid = *(ItemPointer) DatumGetPointer(heap_getattr(tuple, COL_TID, desc, &isnull));
	part = DatumGetInt16(heap_getattr(tuple, COL_PART, desc, &isnull));
	row->part = part & ~(SIS_PART_REPEATS | SIS_PART_ENDED);
	row->repeats = (part & SIS_PART_REPEATS) != 0;
	row->ended = (part & SIS_PART_ENDED) != 0;
	status = text_value(tuple, desc, COL_STATUS);
	row->deleted = text_equals(status, "deleted");
	row->rejected = text_equals(status, "rejected");
	row->is_part = text_equals(status, "part");
	row->source = text_to_cstring(DatumGetTextPP(heap_getattr(tuple, COL_SOURCE, desc, &isnull)));
	row->line = DatumGetInt64(heap_getattr(tuple, COL_LINE, desc, &isnull));
	row->keep = (uint64) DatumGetInt32(heap_getattr(tuple, COL_KEEP, desc, &isnull));
	row->last_modified = text_value(tuple, desc, COL_LAST_MODIFIED);
	row->fingerprint = DatumGetInt64(heap_getattr(tuple, COL_FINGERPRINT, desc, &isnull));
	row->stored = DatumGetInt64(heap_getattr(tuple, COL_STORED, desc, &isnull));
	row->has_stored = !isnull;
	row->is_stored = row->has_stored && row->stored == row->fingerprint;
	for (int i = 0; i < fold->desc->ncolumns; i++)
		row->values[i] = text_value(tuple, desc, COL_FIRST + i);
}

/* Adds a row to the group. */
static void
add_row(Fold *fold, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(fold->group_cxt);

	if (fold->nrows == fold->maxrows)
	{
		fold->maxrows = fold->maxrows == 0 ? 8 : fold->maxrows * 2;
		fold->rows = fold->rows == NULL ?
			palloc(sizeof(FoldRow) * fold->maxrows) :
			repalloc(fold->rows, sizeof(FoldRow) * fold->maxrows);
	}
	read_row(fold, tuple, desc, &fold->rows[fold->nrows++]);
	MemoryContextSwitchTo(old);
}

/* Deals with a row that is not added to its group. */
static void
pass_over(Fold *fold, HeapTuple tuple, TupleDesc desc, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(fold->passed_cxt);
	FoldRow		row;

	read_row(fold, tuple, desc, &row);
	if (row.part == SIS_PART_BASE)
	{
		if (reason != NULL)
			log_reject(fold, &row, reason);
		mark_duplicate(fold, &row);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(fold->passed_cxt);
}

/*
 * Is it the group's last row once more?  A layout may repeat a row any number
 * of times (a term in each section), and they come one after the other.
 */
static bool
is_repeated_again(const Fold *fold, HeapTuple tuple, TupleDesc desc)
{
	const FoldRow *last = &fold->rows[fold->nrows - 1];
	SisValue	status = text_value(tuple, desc, COL_STATUS);
	bool		isnull;

	return last->repeats && last->part == SIS_PART_BASE && !last->rejected &&
		DatumGetInt16(heap_getattr(tuple, COL_PART, desc, &isnull)) ==
		(SIS_PART_BASE | SIS_PART_REPEATS) &&
		text_equals(status, last->deleted ? "deleted" :
					last->is_part ? "part" : "active") &&
		DatumGetInt64(heap_getattr(tuple, COL_FINGERPRINT, desc, &isnull)) ==
		last->fingerprint &&
		(uint64) DatumGetInt64(heap_getattr(tuple, COL_KEEP, desc, &isnull)) ==
		last->keep &&
		sis_same_value(text_value(tuple, desc, COL_LAST_MODIFIED),
					   last->last_modified);
}

static void
reset_group(Fold *fold)
{
	MemoryContextReset(fold->group_cxt);
	fold->rows = NULL;
	fold->nrows = 0;
	fold->maxrows = 0;
}

static char *
cursor_sql(const Fold *fold, const char *roster_table, bool whole)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT s.ctid, s.part, s.status::text, s.source, s.line, s.keep, "
						   "s.last_modified, s.fingerprint, t.fingerprint");
	for (int i = 0; i < fold->desc->ncolumns; i++)
		appendStringInfo(&sql, ", s.%s", fold->desc->columns[i].name);
	appendStringInfo(&sql, " FROM (SELECT ctid, * FROM %s WHERE run_id = $1 AND source_id IS NOT NULL%s) s "
					 "LEFT JOIN (SELECT source_id, fingerprint FROM %s WHERE sync_id = $2%s) t "
					 "ON t.source_id = s.source_id ORDER BY s.source_id, s.part & 6, s.fingerprint, s.line",
					 fold->leaf, whole ? "" : " AND " IN_REPEATED_SQL,
					 roster_table, whole ? "" : " AND " IN_REPEATED_SQL);
	return sql.data;
}

static void
read_groups(Fold *fold, Portal portal)
{
	for (;;)
	{
		SPITupleTable *table;
		TupleDesc	desc;

		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		table = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		desc = table->tupdesc;
		for (uint64 i = 0; i < table->numvals; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(fold->group_cxt);
			HeapTuple	row = table->vals[i];
			SisValue	id = text_value(row, desc, COL_FIRST + SIS_COL_SOURCE_ID);

			if (fold->nrows > 0 &&
				!sis_same_value(id, fold->rows[0].values[SIS_COL_SOURCE_ID]))
			{
				fold_group(fold);
				MemoryContextSwitchTo(old);
				reset_group(fold);
			}
			else
				MemoryContextSwitchTo(old);
			if (fold->nrows > 0 && is_repeated_again(fold, row, desc))
				pass_over(fold, row, desc, NULL);
			else if (fold->nrows == MAX_ROWS_OF_ID)
				pass_over(fold, row, desc, "too many rows have the same ID");
			else
				add_row(fold, row, desc);
		}
		SPI_freetuptable(table);
		CHECK_FOR_INTERRUPTS();
	}
	if (fold->nrows > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(fold->group_cxt);

		fold_group(fold);
		MemoryContextSwitchTo(old);
	}
}

/* Of the suspects, those whose ID really stands in more than one row. */
static SisRelation
find_repeated(Fold *fold)
{
	SisParams	params = {0};
	TupleDesc	desc = CreateTemplateTupleDesc(1);

	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	sis_param_int8(&params, sis_stage_run_id(fold->stage));
	return sis_relation_open("repeated", desc,
							 psprintf("SELECT source_id FROM %s WHERE run_id = $1 "
									  "AND source_id IN (SELECT source_id FROM suspects) "
									  "GROUP BY source_id HAVING count(*) > 1", fold->leaf),
							 &params);
}

bool
sis_fold(SisStage *stage, SisRecordType type, int64 sync_id,
		 const char *roster_table, int needs_parts, bool whole)
{
	Fold	   *fold = palloc0(sizeof(Fold));
	Portal		portal;
	SisRelation repeated = {0};
	SisParams	params = {0};
	SisSink    *sink = sis_stage_sink(stage);

	fold->stage = stage;
	fold->type = type;
	fold->delta = sink->offer[type] == SIS_OFFER_DELTA;
	fold->desc = sis_record_desc(type);
	fold->leaf = sis_stage_leaf(type, sis_stage_slot(stage));
	fold->needs_parts = needs_parts;
	fold->school_column = type == SIS_STUDENT || type == SIS_STAFF ?
		sis_record_column(type, "school_source_id") : -1;
	fold->schools_column = fold->school_column < 0 ? -1 :
		sis_record_column(type, "school_source_ids");
	fold->roles_column = type == SIS_STAFF ?
		sis_record_column(type, "roles") : -1;
	fold->group_cxt = AllocSetContextCreate(CurrentMemoryContext,
											"sis_sync rows of one ID",
											ALLOCSET_DEFAULT_SIZES);
	fold->passed_cxt = AllocSetContextCreate(CurrentMemoryContext,
											 "sis_sync passed row",
											 ALLOCSET_SMALL_SIZES);
	fold->mark_cxt = AllocSetContextCreate(CurrentMemoryContext,
										   "sis_sync marked rows",
										   ALLOCSET_DEFAULT_SIZES);
	fold->result = sis_record_create();

	if (!whole)
	{
		repeated = find_repeated(fold);
		if (tuplestore_tuple_count(repeated.store) == 0)
		{
			sis_relation_close(&repeated);
			return false;
		}
	}
	sis_param_int8(&params, sis_stage_run_id(stage));
	sis_param_int8(&params, sync_id);
	portal = sis_cursor_on_roster(cursor_sql(fold, roster_table, whole), &params);
	read_groups(fold, portal);
	SPI_cursor_close(portal);
	flush_all_marks(fold);
	if (fold->nstray > 0)
		appendStringInfo(&sink->note,
						 "%s%lld roles for type %s were passed over: the users' own rows are neither in the package nor on record.",
						 sink->note.len > 0 ? " " : "",
						 (long long) fold->nstray, fold->desc->name);
	if (!whole)
		sis_relation_close(&repeated);
	MemoryContextDelete(fold->group_cxt);
	MemoryContextDelete(fold->passed_cxt);
	MemoryContextDelete(fold->mark_cxt);
	return true;
}
