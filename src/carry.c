/*
 * carry.c
 *		The stored records that a package of changes does not name.
 *
 * A package of changes (CSV delta, design, rule 10) names a few records, and
 * all that a run judges - scope, ends of links, schools, thresholds - is about
 * the whole list.  So the list is made whole again in the staging tables: what
 * is stored and not named stands there as it is stored, with the line
 * SIS_CARRIED_LINE.  Everything after that is the same as on a night with
 * whole files, and comes to the same result.
 *
 * What a package says of records that it does not name:
 *	- a user named in another role tonight is no longer what he was (1.1: a
 *	  user has one role);
 *	- a link that the row which listed it does not list any more has gone;
 *	- a deletion that was held back still waits, and one who has moved to a
 *	  school that is not set up is still there.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/spi.h"
#include "carry.h"
#include "miscadmin.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define FETCH_ROWS	1000

/* What stands in the staging rows as their source. */
#define CARRIED_SOURCE	"roster"

/* columns of the cursor before those of the record type */
enum
{
	COL_DELETED = 1,
	COL_MOVED,
	COL_HAS_BASE,
	COL_HAS_PART,
	COL_HAS_EXTRA,
	COL_FINGERPRINT,
	COL_FIRST
};

typedef struct Carry
{
	SisStage   *stage;
	const SisRun *run;
	SisRecordType type;
	const SisRecordDesc *desc;
	bool		by_roles;		/* a record needs its roles (1.2) */
	bool		links_by_role;	/* so do the ends of links */
	uint64		role_columns;	/* what roles bring */
	uint64		school_columns;	/* of one who moves */
	SisRecord  *record;
} Carry;

/* ----------
 * The query
 * ----------
 */

/* A stored value as a provider would have put it. */
static char *
value_sql(const Carry *carry, int i)
{
	const SisColumn *column = &carry->desc->columns[i];
	const char *value = psprintf("t.%s", column->name);

	if (carry->school_columns & SIS_COLUMN_BIT(i))
		value = psprintf("CASE WHEN p.moved THEN p.%s ELSE t.%s END",
						 column->name, column->name);
	switch (column->kind)
	{
		case SIS_KIND_DATE:
			return psprintf("to_char(%s, 'YYYY-MM-DD')", value);
		case SIS_KIND_LIST:
			return psprintf("(SELECT '{' || string_agg('\"' || replace(replace(x.item, '\\', '\\\\'), '\"', '\\\"') || '\"', ',' ORDER BY x.n) || '}' "
							"FROM unnest(%s) WITH ORDINALITY AS x (item, n))",
							value);
		case SIS_KIND_TEXT:
		case SIS_KIND_BOOLEAN:
		case SIS_KIND_JSONB:
			break;
	}
	return psprintf("(%s)::text", value);
}

/* The IDs of a type that tonight's rows name as active. */
static char *
named_sql(const Carry *carry, SisRecordType type)
{
	return psprintf("SELECT source_id FROM %s WHERE run_id = $1 AND status IN ('active', 'part') "
					"AND part & 7 = %d AND line <> %d",
					sis_stage_leaf(type, carry->run->slot), SIS_PART_BASE,
					SIS_CARRIED_LINE);
}

/* Joins to alias t, and a boolean over them: has it gone without being named? */
static const char *
gone_sql(const Carry *carry, const char **joins)
{
	SisRecordType other1 = carry->type == SIS_STUDENT ? SIS_STAFF : SIS_STUDENT;
	SisRecordType other2 = carry->type == SIS_CONTACT ? SIS_STAFF : SIS_CONTACT;

	*joins = "";
	switch (carry->type)
	{
		case SIS_STUDENT:
		case SIS_STAFF:
		case SIS_CONTACT:
			if (carry->by_roles)
				break;
			*joins = psprintf(" LEFT JOIN (%s UNION %s) o ON o.source_id = t.source_id",
							  named_sql(carry, other1),
							  named_sql(carry, other2));
			return "o.source_id IS NOT NULL";
		case SIS_STUDENT_CONTACT:
			*joins = psprintf(" LEFT JOIN (%s) e1 ON e1.source_id = t.student_source_id"
							  " LEFT JOIN (%s) e2 ON e2.source_id = t.contact_source_id",
							  named_sql(carry, SIS_STUDENT),
							  named_sql(carry, SIS_CONTACT));

			/*
			 * A relationship comes from the contact's own row, and from
			 * nowhere else: so it tells whose row had the link.  Not in 1.2,
			 * where the roles that make it may come apart from the row.
			 */
			return psprintf("CASE WHEN e1.source_id IS NOT NULL AND e2.source_id IS NOT NULL THEN true "
							"WHEN e1.source_id IS NOT NULL THEN t.relationship IS NULL AND %s "
							"WHEN e2.source_id IS NOT NULL THEN t.relationship IS NOT NULL ELSE false END",
							carry->links_by_role ? "false" : "true");
		default:
			break;
	}
	return "false";
}

/*
 * Archived records that have not been deleted themselves, but with an end or
 * for want of one, and may return: tonight's rows name that end.
 */
static const char *
returning_sql(const Carry *carry)
{
	const char *ends;

	switch (carry->type)
	{
		case SIS_ENROLLMENT:
			ends = psprintf("t.section_source_id IN (%s) OR t.person_source_id IN (%s UNION %s)",
							named_sql(carry, SIS_SECTION),
							named_sql(carry, SIS_STUDENT),
							named_sql(carry, SIS_STAFF));
			break;
		case SIS_STUDENT_CONTACT:
			ends = psprintf("t.student_source_id IN (%s) OR t.contact_source_id IN (%s)",
							named_sql(carry, SIS_STUDENT),
							named_sql(carry, SIS_CONTACT));
			break;
		case SIS_CONTACT:
			ends = psprintf("t.source_id IN (SELECT contact_source_id FROM %s WHERE run_id = $1)",
							sis_stage_leaf(SIS_STUDENT_CONTACT, carry->run->slot));
			break;
		default:
			return "";
	}
	return psprintf(" OR (t.archived_reason IN ('goes with its end', 'left scope') AND (%s))",
					ends);
}

static char *
stored_sql(const Carry *carry)
{
	const char *joins;
	const char *gone = gone_sql(carry, &joins);
	StringInfoData sql;

	initStringInfo(&sql);
	/* one who has a role again has come back */
	appendStringInfo(&sql, "SELECT (p.source_id IS NOT NULL AND NOT p.moved AND n.back IS NOT TRUE) OR %s, "
					 "coalesce(p.moved, false), n.base, n.part, n.extra, coalesce(t.fingerprint, 0)",
					 gone);
	for (int i = 0; i < carry->desc->ncolumns; i++)
		appendStringInfo(&sql, ", %s", value_sql(carry, i));

	/*
	 * The application's own are named by whole files as well: schools must be
	 * found, and links hold persons in scope.
	 */
	appendStringInfo(&sql, " FROM %s t LEFT JOIN (SELECT source_id, bool_or(part & 7 = %d) AS base, %s AS part, "
					 "bool_or(part & 7 = %d) AS extra, bool_or(part & %d = %d) AS back FROM %s WHERE run_id = $1 GROUP BY source_id) n ON n.source_id = t.source_id "
					 "LEFT JOIN sis_sync.pending_delete p ON p.sync = $3 AND p.record_type = '%s' AND p.source_id = t.source_id%s "
					 "WHERE t.sync_id = $2 AND (t.archived_at IS NULL%s) AND (t.sis_managed OR %s) AND (%s)",
					 carry->run->roster->tables[carry->type],
					 SIS_PART_BASE,
					 carry->by_roles ?
					 psprintf("bool_or(part & 7 <> %d)", SIS_PART_BASE) : "false",
					 SIS_PART_EXTRA, 7 | SIS_PART_ENDED, SIS_PART_ROLE,
					 sis_stage_leaf(carry->type, carry->run->slot),
					 carry->desc->name, joins, returning_sql(carry),
					 carry->type == SIS_SCHOOL ? "true" : "t.created_run IS NOT NULL",
					 carry->by_roles ? "true" : "n.base IS NOT TRUE");
	return sql.data;
}

/* Links that may be some, and are: their ends are a student and a contact. */
static char *
links_sql(const Carry *carry)
{
	static const SisRecordType ends[] = {SIS_STUDENT, SIS_CONTACT};
	char	   *known[lengthof(ends)];
	StringInfoData sql;

	for (int i = 0; i < (int) lengthof(ends); i++)
		known[i] = psprintf("SELECT source_id FROM %s WHERE sync_id = $2 AND archived_at IS NULL "
							"UNION SELECT source_id FROM %s WHERE run_id = $1 AND part & %d = %d",
							carry->run->roster->tables[ends[i]],
							sis_stage_leaf(ends[i], carry->run->slot),
							7 | SIS_PART_ENDED, SIS_PART_ROLE);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT s.source, s.line, s.keep");
	for (int i = 0; i < carry->desc->ncolumns; i++)
		appendStringInfo(&sql, ", s.%s", carry->desc->columns[i].name);
	appendStringInfo(&sql, " FROM %s s JOIN (%s) e1 ON e1.source_id = s.student_source_id "
					 "JOIN (%s) e2 ON e2.source_id = s.contact_source_id "
					 "WHERE s.run_id = $1 AND s.part & 7 = %d",
					 sis_stage_leaf(SIS_STUDENT_CONTACT, carry->run->slot),
					 known[0], known[1], SIS_PART_MAYBE);
	return sql.data;
}

/* ----------
 * The rows
 * ----------
 */

static bool
bool_value(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, column, desc, &isnull);

	return !isnull && DatumGetBool(datum);
}

static void
take_value(SisRecord *record, int column, HeapTuple tuple, TupleDesc desc,
		   int attr)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, attr, desc, &isnull);

	if (!isnull)
	{
		text	   *value = DatumGetTextPP(datum);

		record->values[column].data = VARDATA_ANY(value);
		record->values[column].len = VARSIZE_ANY_EXHDR(value);
	}
}

/* Fills the record with the stored values of some columns; keeps the others. */
static void
fill_record(Carry *carry, HeapTuple tuple, TupleDesc desc, int part,
			uint64 columns)
{
	SisRecord  *record = carry->record;

	sis_record_reset(record, carry->type, CARRIED_SOURCE, SIS_CARRIED_LINE);
	record->part = part;
	for (int i = 0; i < carry->desc->ncolumns; i++)
	{
		if (i != SIS_COL_SOURCE_ID && (columns & SIS_COLUMN_BIT(i)) == 0)
			record->keep |= SIS_COLUMN_BIT(i);
		else
			take_value(record, i, tuple, desc, COL_FIRST + i);
	}
}

static void
carry_row(Carry *carry, HeapTuple tuple, TupleDesc desc)
{
	uint64		all = SIS_COLUMN_BIT(carry->desc->ncolumns) - 1;
	bool		deleted = bool_value(tuple, desc, COL_DELETED);
	bool		moved = bool_value(tuple, desc, COL_MOVED);
	bool		has_base = bool_value(tuple, desc, COL_HAS_BASE);
	bool		has_part = bool_value(tuple, desc, COL_HAS_PART);
	bool		isnull;
	int64		fingerprint =
		DatumGetInt64(heap_getattr(tuple, COL_FINGERPRINT, desc, &isnull));

	/* its roles beside what tonight's rows say: fold.c makes one of both */
	if (has_base || (has_part && !deleted))
	{
		fill_record(carry, tuple, desc, SIS_PART_ROLE, carry->role_columns);
		sis_stage_write(carry->stage, carry->record, SIS_STATUS_PART, 0);
	}
	if (has_base)
		return;
	if (has_part && !deleted)
	{
		fill_record(carry, tuple, desc, SIS_PART_BASE,
					all & ~carry->role_columns);
		/* demographics come in the place of those stored */
		if (bool_value(tuple, desc, COL_HAS_EXTRA))
			carry->record->keep = all & ~SIS_COLUMN_BIT(SIS_COL_SOURCE_ID);
		sis_stage_write(carry->stage, carry->record, SIS_STATUS_PART, 0);
		return;
	}
	fill_record(carry, tuple, desc, SIS_PART_BASE, all);

	/* nothing is known of it but what is stored: nothing may change */
	carry->record->keep = all & ~SIS_COLUMN_BIT(SIS_COL_SOURCE_ID);
	if (moved && !deleted)
	{
		carry->record->keep &= ~carry->school_columns;
		fingerprint = sis_stage_fingerprint(carry->stage, carry->record);
	}
	sis_stage_write(carry->stage, carry->record,
					deleted ? SIS_STATUS_DELETED : SIS_STATUS_ACTIVE, fingerprint);
	if (!deleted)
		sis_stage_counts_for_update(carry->stage, carry->type)->active++;
}

/* Puts a link that has turned out to be one. */
static void
take_link(Carry *carry, HeapTuple tuple, TupleDesc desc)
{
	SisSink    *sink = sis_stage_sink(carry->stage);
	SisRecord  *record = carry->record;
	bool		isnull;
	char	   *source = TextDatumGetCString(heap_getattr(tuple, 1, desc, &isnull));

	sis_record_reset(record, carry->type, source,
					 DatumGetInt64(heap_getattr(tuple, 2, desc, &isnull)));
	record->part = SIS_PART_BASE;
	record->keep = (uint64) DatumGetInt32(heap_getattr(tuple, 3, desc, &isnull));
	record->repeats = true;
	for (int i = 0; i < carry->desc->ncolumns; i++)
		take_value(record, i, tuple, desc, 4 + i);
	sink->put(sink, record);
}

static uint64
role_columns(SisRecordType type)
{
	switch (type)
	{
		case SIS_STAFF:
			return SIS_COLUMN_BIT(sis_record_column(type, "school_source_id")) |
				SIS_COLUMN_BIT(sis_record_column(type, "school_source_ids")) |
				SIS_COLUMN_BIT(sis_record_column(type, "roles"));
		case SIS_STUDENT:
			return SIS_COLUMN_BIT(sis_record_column(type, "school_source_id")) |
				SIS_COLUMN_BIT(sis_record_column(type, "school_source_ids"));
		default:
			return 0;
	}
}

static uint64
school_columns(SisRecordType type)
{
	switch (type)
	{
		case SIS_SECTION:
			return SIS_COLUMN_BIT(sis_record_column(type, "school_source_id"));
		case SIS_STUDENT:
		case SIS_STAFF:
			return SIS_COLUMN_BIT(sis_record_column(type, "school_source_id")) |
				SIS_COLUMN_BIT(sis_record_column(type, "school_source_ids"));
		default:
			return 0;
	}
}

/* Hands each row of a query to a function. */
static void
for_each_row(Carry *carry, const char *sql,
			 void (*take) (Carry *, HeapTuple, TupleDesc))
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext,
												"sis_sync carried rows",
												ALLOCSET_DEFAULT_SIZES);
	SisParams	params = {0};
	Portal		portal;

	sis_param_int8(&params, carry->run->id);
	sis_param_int8(&params, carry->run->sync->id);
	sis_param_text(&params, carry->run->sync->name);
	portal = sis_cursor_on_roster(sql, &params);
	for (;;)
	{
		MemoryContext old;
		SPITupleTable *table;

		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		table = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(batch);
		for (uint64 i = 0; i < table->numvals; i++)
			take(carry, table->vals[i], table->tupdesc);
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
		SPI_freetuptable(table);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(batch);
}

void
sis_carry_stored(SisStage *stage, const SisRun *run)
{
	const SisSink *sink = sis_stage_sink(stage);
	Carry		carry = {0};

	carry.stage = stage;
	carry.run = run;
	carry.record = sis_record_create();
	carry.links_by_role =
		(sink->needs_parts[SIS_CONTACT] & SIS_PART_ROLE) != 0;
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		if (sink->offer[t] != SIS_OFFER_DELTA)
			continue;
		carry.type = (SisRecordType) t;
		carry.desc = sis_record_desc(carry.type);
		carry.by_roles = (sink->needs_parts[t] & SIS_PART_ROLE) != 0;
		carry.role_columns = role_columns(carry.type);
		carry.school_columns = school_columns(carry.type);

		/* tonight's rows, and those of the ends carried before, must be seen */
		sis_stage_flush_visibly(stage);
		if (carry.type == SIS_STUDENT_CONTACT)
		{
			for_each_row(&carry, links_sql(&carry), take_link);
			sis_stage_flush_visibly(stage);
		}
		for_each_row(&carry, stored_sql(&carry), carry_row);
	}
}

/* ----------
 * Deletions that wait
 * ----------
 */

/*
 * Those of a type that are gone by themselves.  What follows from other
 * records (a link of one that leaves, a contact without links) follows again.
 */
static void
remember_type(const SisRun *run, SisRecordType type, bool absent)
{
	const char *name = sis_record_desc(type)->name;
	uint64		schools = school_columns(type);
	SisParams	params = {0};
	StringInfoData where;

	initStringInfo(&where);
	appendStringInfo(&where, "d.stand = '%c'", SIS_STAND_DELETED);
	if (absent)
		appendStringInfoString(&where, " OR d.stand IS NULL");
	if (schools != 0)
		appendStringInfo(&where, " OR (d.stand = '%c' AND d.line <> %d)",
						 SIS_STAND_OUT, SIS_CARRIED_LINE);
	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.pending_delete (sync, record_type, source_id, run_id, moved, school_source_id, school_source_ids) "
							   "SELECT $1, '%s', d.source_id, $2, coalesce(d.stand = '%c', false), %s, %s FROM gone_%s d%s WHERE %s "
							   "ON CONFLICT (sync, record_type, source_id) DO UPDATE SET run_id = excluded.run_id, "
							   "moved = excluded.moved, school_source_id = excluded.school_source_id, "
							   "school_source_ids = excluded.school_source_ids",
							   name, SIS_STAND_OUT,
							   schools != 0 ? "s.school_source_id" : "NULL",
							   schools != 0 && type != SIS_SECTION ?
							   "s.school_source_ids::text[]" : "NULL",
							   name,
							   schools == 0 ? "" :
							   psprintf(" LEFT JOIN %s s ON s.run_id = $2 AND s.status = 'active' AND s.source_id = d.source_id",
										sis_stage_leaf(type, run->slot)),
							   where.data),
					  &params, SPI_OK_INSERT);
}

void
sis_carry_remember(const SisRun *run, const SisDelta *delta)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const char *name = sis_record_desc((SisRecordType) t)->name;
		SisOffer	offer = run->counts[t].offer;
		bool		gone = delta->types[t].rows[SIS_DELTA_GONE] > 0;

		/* a list made whole again names all that still waits */
		if (sis_offer_is_whole(offer))
			sis_exec_as_owner(psprintf("DELETE FROM sis_sync.pending_delete p WHERE p.sync = $1 AND p.record_type = '%s'%s",
									   name,
									   offer != SIS_OFFER_DELTA || !gone ? "" :
									   psprintf(" AND NOT EXISTS (SELECT 1 FROM gone_%s d WHERE d.source_id = p.source_id)",
												name)),
							  &params, SPI_OK_DELETE);
		if (offer == SIS_OFFER_DELTA && gone)
			remember_type(run, (SisRecordType) t, false);
	}
}

void
sis_carry_remember_held(const SisRun *run, const SisDelta *delta)
{
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		/* one that is not there may be the row whose ID cannot be read */
		if (run->counts[t].offer == SIS_OFFER_FULL &&
			run->counts[t].unreadable == 0 &&
			delta->types[t].rows[SIS_DELTA_GONE] > 0)
			remember_type(run, (SisRecordType) t, true);
	}
}

void
sis_carry_forget(const SisRun *run, const SisDelta *delta)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const char *name = sis_record_desc((SisRecordType) t)->name;
		int64		gone = delta->types[t].rows[SIS_DELTA_GONE];

		/* one that somebody changed in between waits for the next night */
		if (run->counts[t].offer == SIS_OFFER_DELTA && gone > 0 &&
			run->counts[t].archived == gone)
			sis_exec_as_owner(psprintf("DELETE FROM sis_sync.pending_delete p USING gone_%s d "
									   "WHERE p.sync = $1 AND p.record_type = '%s' AND p.source_id = d.source_id",
									   name, name), &params, SPI_OK_DELETE);
	}
}
