/*
 * emptied.c
 *		Columns that were filled and come empty (sync.keep_emptied_columns).
 *
 * How it works: a column that a source does not have is marked in the "keep"
 * of each staged row, so that the stored value stays (design, rule 3).  The
 * same is done here, after staging, with a column that is there and empty in
 * every row.  The fingerprint of such a row must be another one than that of a
 * row with the value, and than that of a row whose emptiness is accepted: a
 * number made of the column's name is mixed into it.  So the first such night
 * compares values and finds them equal, later nights find equal fingerprints,
 * and a change in any other column shows as always.
 *
 * emptied_column remembers the columns that are kept: new records have no
 * value in them, and one day the column would no longer be filled in most.
 */
#include "postgres.h"

#include "base/fingerprint.h"
#include "base/spi.h"
#include "emptied.h"
#include "slot.h"
#include "stage.h"
#include "utils/builtins.h"

/* Of fewer records, or of a column filled in fewer of them, nothing is kept. */
#define MIN_RECORDS		20
#define MIN_PERCENT		90

static bool
is_wanted(const SisRun *run)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	return sis_exec_as_owner("SELECT 1 FROM sis_sync.sync WHERE name = $1 AND keep_emptied_columns",
							 &params, SPI_OK_SELECT) > 0;
}

/*
 * Where a record belongs is for other guards to judge, and "extra" follows a
 * setting.
 */
static bool
may_be_kept(const SisColumn *column)
{
	return strstr(column->name, "source_id") == NULL &&
		column->kind != SIS_KIND_JSONB;
}

/*
 * Which columns have no value in any row received, though the rows have them:
 * empty, and how many rows that is: received.  Those with a value: filled.
 */
static void
look_at_staged(const SisRun *run, SisRecordType type, int64 *received,
			   uint64 *empty, uint64 *filled)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	SisParams	params = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT count(*)");
	for (int i = 0; i < desc->ncolumns; i++)
		appendStringInfo(&sql, ", count(%s), count(*) FILTER (WHERE keep & %lld = 0)",
						 desc->columns[i].name, (long long) SIS_COLUMN_BIT(i));
	appendStringInfo(&sql, " FROM %s WHERE run_id = $1 AND status = 'active' AND line <> %d",
					 sis_stage_leaf(type, run->slot), SIS_CARRIED_LINE);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner(sql.data, &params, SPI_OK_SELECT);
	*received = sis_value_int8(0, 1);
	*empty = *filled = 0;
	for (int i = 0; i < desc->ncolumns; i++)
	{
		if (!may_be_kept(&desc->columns[i]))
			continue;
		if (sis_value_int8(0, 2 + 2 * i) > 0)
			*filled |= SIS_COLUMN_BIT(i);
		else if (sis_value_int8(0, 3 + 2 * i) > 0)
			*empty |= SIS_COLUMN_BIT(i);
	}
}

/* Which of these columns are filled in most records on record. */
static uint64
look_at_stored(const SisRun *run, SisRecordType type, uint64 columns)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	SisParams	params = {0};
	StringInfoData sql;
	int64		stored;
	uint64		found = 0;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT count(*)");
	for (int i = 0; i < desc->ncolumns; i++)
	{
		if (columns & SIS_COLUMN_BIT(i))
			appendStringInfo(&sql, ", count(t.%s)", desc->columns[i].name);
		else
			appendStringInfoString(&sql, ", 0");
	}
	appendStringInfo(&sql, " FROM %s t WHERE t.sync_id = $1 AND t.sis_managed AND t.archived_at IS NULL",
					 run->roster->tables[type]);
	sis_param_int8(&params, run->sync->id);
	sis_exec_on_roster(sql.data, &params);
	stored = sis_value_int8(0, 1);
	for (int i = 0; i < desc->ncolumns && stored >= MIN_RECORDS; i++)
	{
		if (sis_value_int8(0, 2 + i) * 100 > stored * MIN_PERCENT)
			found |= SIS_COLUMN_BIT(i);
	}
	return found;
}

/* The columns of a type in emptied_column, those accepted or the others. */
static uint64
remembered(const SisRun *run, SisRecordType type, bool accepted)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	SisParams	params = {0};
	uint64		n;
	uint64		columns = 0;

	sis_param_text(&params, run->sync->name);
	sis_param_text(&params, desc->name);
	sis_param_bool(&params, accepted);
	n = sis_exec_as_owner("SELECT column_name FROM sis_sync.emptied_column "
						  "WHERE sync = $1 AND record_type = $2 AND accepted = $3",
						  &params, SPI_OK_SELECT);
	for (uint64 row = 0; row < n; row++)
	{
		for (int i = 0; i < desc->ncolumns; i++)
		{
			if (strcmp(sis_value(row, 1), desc->columns[i].name) == 0)
				columns |= SIS_COLUMN_BIT(i);
		}
	}
	return columns;
}

/* A dry run remembers nothing. */
static void
remember(const SisRun *run, SisRecordType type, const char *column, bool kept)
{
	SisParams	params = {0};

	if (run->dry_run)
		return;
	sis_param_text(&params, run->sync->name);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_param_text(&params, column);
	sis_param_int8(&params, run->id);
	if (kept)
		sis_exec_as_owner("INSERT INTO sis_sync.emptied_column (sync, record_type, column_name, since_run) "
						  "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
						  &params, SPI_OK_INSERT);
	else
		sis_exec_as_owner("DELETE FROM sis_sync.emptied_column WHERE sync = $1 AND record_type = $2 AND column_name = $3",
						  &params, SPI_OK_DELETE);
}

static void
keep_column(SisRun *run, SisRecordType type, int i, int64 received)
{
	const char *column = sis_record_desc(type)->columns[i].name;
	const char *name = sis_record_desc(type)->name;
	SisParams	params = {0};

	sis_param_int8(&params, run->id);
	sis_param_int8(&params, (int64) sis_hash64(column, strlen(column), 0));
	sis_exec_as_owner(psprintf("UPDATE %s SET keep = keep | %lld, fingerprint = fingerprint # $2 "
							   "WHERE run_id = $1 AND status = 'active' AND line <> %d AND keep & %lld = 0",
							   sis_stage_leaf(type, run->slot),
							   (long long) SIS_COLUMN_BIT(i), SIS_CARRIED_LINE,
							   (long long) SIS_COLUMN_BIT(i)),
					  &params, SPI_OK_UPDATE);
	sis_param_text(&params, name);
	sis_param_text(&params, column);
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.reject (run_id, record_type, source, column_name, reason, loaded) "
							   "SELECT $1, $3, coalesce(min(s.source), ''), $4, 'empty in every row, the values on record are kept', $2 IS NOT NULL "
							   "FROM %s s WHERE s.run_id = $1 AND s.status = 'active' AND s.line <> %d",
							   sis_stage_leaf(type, run->slot), SIS_CARRIED_LINE),
					  &params, SPI_OK_INSERT);
	sis_run_note(run, "Column %s of type %s is empty in all %lld rows, and its values on record are kept; to have them emptied, "
				 "UPDATE sis_sync.emptied_column SET accepted = true WHERE sync = %s AND record_type = '%s' AND column_name = '%s'.",
				 column, name, (long long) received,
				 quote_literal_cstr(run->sync->name), name, column);
	remember(run, type, column, true);
}

static void
keep_type(SisRun *run, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	uint64		known = remembered(run, type, false);
	uint64		accepted = remembered(run, type, true);
	int64		received;
	uint64		empty,
				filled,
				keep;

	look_at_staged(run, type, &received, &empty, &filled);
	empty &= ~accepted;
	keep = empty & known;
	if (received >= MIN_RECORDS && (empty & ~known) != 0)
		keep |= look_at_stored(run, type, empty & ~known);
	for (int i = 0; i < desc->ncolumns; i++)
	{
		if (keep & SIS_COLUMN_BIT(i))
			keep_column(run, type, i, received);
		else if ((known | accepted) & filled & SIS_COLUMN_BIT(i))
			remember(run, type, desc->columns[i].name, false);
	}
}

void
sis_emptied_keep(SisRun *run)
{
	if (!is_wanted(run))
		return;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		keep_type(run, (SisRecordType) type);
}
