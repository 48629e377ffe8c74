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
 *	- a deletion that was held back still waits.
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
	COL_HAS_BASE,
	COL_HAS_ROLE,
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
	uint64		role_columns;	/* what roles bring */
	SisRecord  *record;
} Carry;

/* ----------
 * The query
 * ----------
 */

/* A stored value as a provider would have put it. */
static char *
value_sql(const SisColumn *column)
{
	switch (column->kind)
	{
		case SIS_KIND_DATE:
			return psprintf("to_char(t.%s, 'YYYY-MM-DD')", column->name);
		case SIS_KIND_LIST:
			return psprintf("(SELECT '{' || string_agg('\"' || replace(replace(x.item, '\\', '\\\\'), '\"', '\\\"') || '\"', ',' ORDER BY x.n) || '}' "
							"FROM unnest(t.%s) WITH ORDINALITY AS x (item, n))",
							column->name);
		case SIS_KIND_TEXT:
		case SIS_KIND_BOOLEAN:
		case SIS_KIND_JSONB:
			break;
	}
	return psprintf("t.%s::text", column->name);
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

			/* a relationship comes from the contact's own row, and from
			 * nowhere else: so it tells whose row had the link */
			return "CASE WHEN e1.source_id IS NOT NULL AND e2.source_id IS NOT NULL THEN true "
				"WHEN e1.source_id IS NOT NULL THEN t.relationship IS NULL "
				"WHEN e2.source_id IS NOT NULL THEN t.relationship IS NOT NULL ELSE false END";
		default:
			break;
	}
	return "false";
}

static char *
stored_sql(const Carry *carry)
{
	const char *joins;
	const char *gone = gone_sql(carry, &joins);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT p.source_id IS NOT NULL OR %s, n.base, n.role, coalesce(t.fingerprint, 0)",
					 gone);
	for (int i = 0; i < carry->desc->ncolumns; i++)
		appendStringInfo(&sql, ", %s", value_sql(&carry->desc->columns[i]));
	appendStringInfo(&sql, " FROM %s t LEFT JOIN (SELECT source_id, bool_or(part & 7 = %d) AS base, bool_or(part & 7 = %d) AS role "
					 "FROM %s WHERE run_id = $1 GROUP BY source_id) n ON n.source_id = t.source_id "
					 "LEFT JOIN sis_sync.pending_delete p ON p.sync = $3 AND p.record_type = '%s' AND p.source_id = t.source_id%s "
					 "WHERE t.sync_id = $2 AND t.archived_at IS NULL AND t.sis_managed AND (%s)",
					 carry->run->roster->tables[carry->type],
					 SIS_PART_BASE, SIS_PART_ROLE,
					 sis_stage_leaf(carry->type, carry->run->slot),
					 carry->desc->name, joins,
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
	bool		has_base = bool_value(tuple, desc, COL_HAS_BASE);
	bool		has_role = bool_value(tuple, desc, COL_HAS_ROLE);
	bool		isnull;
	int64		fingerprint =
		DatumGetInt64(heap_getattr(tuple, COL_FINGERPRINT, desc, &isnull));

	/* its roles beside what tonight's rows say: fold.c makes one of both */
	if (has_base || (has_role && !deleted))
	{
		fill_record(carry, tuple, desc, SIS_PART_ROLE, carry->role_columns);
		sis_stage_write(carry->stage, carry->record, SIS_STATUS_PART, 0);
	}
	if (has_base)
		return;
	if (has_role && !deleted)
	{
		fill_record(carry, tuple, desc, SIS_PART_BASE,
					all & ~carry->role_columns);
		sis_stage_write(carry->stage, carry->record, SIS_STATUS_PART, 0);
		return;
	}
	fill_record(carry, tuple, desc, SIS_PART_BASE, all);

	/* nothing is known of it but what is stored: nothing may change */
	carry->record->keep = all & ~SIS_COLUMN_BIT(SIS_COL_SOURCE_ID);
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
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		if (sink->offer[t] != SIS_OFFER_DELTA)
			continue;
		carry.type = (SisRecordType) t;
		carry.desc = sis_record_desc(carry.type);
		carry.by_roles = (sink->needs_parts[t] & SIS_PART_ROLE) != 0;
		carry.role_columns = role_columns(carry.type);

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

void
sis_carry_remember(const SisRun *run, const SisDelta *delta)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, run->id);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const char *name = sis_record_desc((SisRecordType) t)->name;
		SisOffer	offer = run->counts[t].offer;

		/* a list made whole names again all that still waits; what follows
		 * from other records (a link of one that leaves) follows again */
		if (sis_offer_is_whole(offer))
			sis_exec_as_owner(psprintf("DELETE FROM sis_sync.pending_delete WHERE sync = $1 AND record_type = '%s'",
									   name), &params, SPI_OK_DELETE);
		if (offer == SIS_OFFER_DELTA &&
			delta->types[t].rows[SIS_DELTA_GONE] > 0)
			sis_exec_as_owner(psprintf("INSERT INTO sis_sync.pending_delete (sync, record_type, source_id, run_id) "
									   "SELECT $1, '%s', d.source_id, $2 FROM gone_%s d WHERE d.stand = '%c'%s",
									   name, name, SIS_STAND_DELETED,
									   sis_record_desc((SisRecordType) t)->is_link ? "" :
									   psprintf(" OR (d.stand = '%c' AND d.line <> %d)",
												SIS_STAND_OUT,
												SIS_CARRIED_LINE)),
							  &params, SPI_OK_INSERT);
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
