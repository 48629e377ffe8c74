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
 * one ID are collected and judged together (fold_group.c).  What was united is written as a
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
#include "fold_group.h"
#include "miscadmin.h"
#include "slot.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define FETCH_ROWS		1000

/* No person has so many schools, roles or contacts; a hostile file may. */
#define MAX_ROWS_OF_ID	1000

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

/* ----------
 * Marking rows
 * ----------
 */

static void
flush_marks(SisFold *fold, SisStageStatus status, Datum *tids, int *n)
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
flush_all_marks(SisFold *fold)
{
	flush_marks(fold, SIS_STATUS_PART, fold->part_tids, &fold->npart);
	flush_marks(fold, SIS_STATUS_DUPLICATE, fold->duplicate_tids, &fold->nduplicate);
	MemoryContextReset(fold->mark_cxt);
}

static Datum
copy_tid(SisFold *fold, const SisFoldRow *row)
{
	ItemPointer tid = MemoryContextAlloc(fold->mark_cxt, sizeof(ItemPointerData));

	*tid = row->tid;
	return PointerGetDatum(tid);
}

void
sis_fold_mark_part(SisFold *fold, const SisFoldRow *row)
{
	if (row->is_part)
		return;
	fold->part_tids[fold->npart++] = copy_tid(fold, row);
	if (fold->npart == SIS_FOLD_MARK_ROWS)
		flush_all_marks(fold);
}

void
sis_fold_mark_duplicate(SisFold *fold, const SisFoldRow *row)
{
	fold->duplicate_tids[fold->nduplicate++] = copy_tid(fold, row);
	if (fold->nduplicate == SIS_FOLD_MARK_ROWS)
		flush_all_marks(fold);
}

/*
 * Terms and courses that section rows merely name are no records of their own:
 * spellings differ, and nobody is at fault.
 */
static bool
is_merely_named(const SisFold *fold, const SisFoldRow *row)
{
	return row->repeats && (fold->type == SIS_TERM || fold->type == SIS_COURSE);
}

void
sis_fold_log_reject(SisFold *fold, const SisFoldRow *row, const char *reason)
{
	SisValue	id = row->values[SIS_COL_SOURCE_ID];

	if (is_merely_named(fold, row))
		return;
	sis_stage_log_reject(fold->stage, fold->type, row->source, row->line,
						 id.data, id.len, NULL, reason, NULL, false);
	sis_stage_counts_for_update(fold->stage, fold->type)->rejected++;
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
read_row(const SisFold *fold, HeapTuple source, TupleDesc desc, SisFoldRow *row)
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
add_row(SisFold *fold, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(fold->group_cxt);

	if (fold->nrows == fold->maxrows)
	{
		fold->maxrows = fold->maxrows == 0 ? 8 : fold->maxrows * 2;
		fold->rows = fold->rows == NULL ?
			palloc(sizeof(SisFoldRow) * fold->maxrows) :
			repalloc(fold->rows, sizeof(SisFoldRow) * fold->maxrows);
	}
	read_row(fold, tuple, desc, &fold->rows[fold->nrows++]);
	MemoryContextSwitchTo(old);
}

/* Deals with a row that is not added to its group. */
static void
pass_over(SisFold *fold, HeapTuple tuple, TupleDesc desc, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(fold->passed_cxt);
	SisFoldRow		row;

	read_row(fold, tuple, desc, &row);
	if (row.part == SIS_PART_BASE)
	{
		if (reason != NULL)
			sis_fold_log_reject(fold, &row, reason);
		sis_fold_mark_duplicate(fold, &row);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(fold->passed_cxt);
}

/*
 * Is it the group's last row once more?  A layout may repeat a row any number
 * of times (a term in each section), and they come one after the other.
 */
static bool
is_repeated_again(const SisFold *fold, HeapTuple tuple, TupleDesc desc)
{
	const SisFoldRow *last = &fold->rows[fold->nrows - 1];
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
reset_group(SisFold *fold)
{
	MemoryContextReset(fold->group_cxt);
	fold->rows = NULL;
	fold->nrows = 0;
	fold->maxrows = 0;
}

static char *
cursor_sql(const SisFold *fold, const char *roster_table, bool whole)
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
read_groups(SisFold *fold, Portal portal)
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
				sis_fold_group(fold);
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

		sis_fold_group(fold);
		MemoryContextSwitchTo(old);
	}
}

/* Of the suspects, those whose ID really stands in more than one row. */
static SisRelation
find_repeated(SisFold *fold)
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
	SisFold	   *fold = palloc0(sizeof(SisFold));
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
