/*
 * write.c
 *		Statements that write to a roster: as the caller, and logged.
 */
#include "postgres.h"

#include "base/progress.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "write.h"

/* Where fewer rows of a sync are expected, what joins them has no nested loop. */
#define MIN_EXPECTED_ROWS	1000

/* A trigger on a roster table must not start a run inside of this one. */
static bool writing = false;

bool
sis_is_writing(void)
{
	return writing;
}

typedef struct Writing
{
	const SisRun *run;
	const char *record_type;
} Writing;

/*
 * PostgreSQL's detail of a violated constraint shows the row, a person's
 * data; neither a client nor a log may get that from us.
 */
static void
explain_error(void *arg)
{
	const Writing *what = arg;
	int			category = ERRCODE_TO_CATEGORY(geterrcode());

	/* "invalid input syntax for …" repeats the value */
	if (category == ERRCODE_DATA_EXCEPTION)
		errmsg("a value cannot be written to the roster");
	if (category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
	{
		if (what->run->kind == SIS_RUN_SYNC)
			errdetail("The row's values are withheld; look for it in sis_sync.stage_%s.",
					  what->record_type);
		else
			errdetail("The row's values are withheld.");
	}
	if (geterrcode() == ERRCODE_FOREIGN_KEY_VIOLATION &&
		what->run->kind == SIS_RUN_ERASE)
		errhint("A foreign key that refers to a roster needs ON DELETE CASCADE, or its rows are deleted before.");
	else if (geterrcode() == ERRCODE_FOREIGN_KEY_VIOLATION &&
			 what->run->kind != SIS_RUN_SYNC)
		errhint("A foreign key that refers to the source_id of a roster needs ON UPDATE CASCADE.");
	sis_roster_lock_hint();
	errcontext("writing records of type %s", what->record_type);
}

/*
 * A sync whose records came after the last ANALYZE of the table is taken to
 * have hardly any: its first night, or a new district among others.  A store
 * would then be scanned once for each of them, which takes hours where a hash
 * join takes a second.
 */
static bool
has_few_records(const SisRun *run, SisRecordType type)
{
	return sis_expected_rows(psprintf("SELECT FROM %s WHERE sync_id = " INT64_FORMAT,
									  run->roster->tables[type], run->sync->id)) <
		MIN_EXPECTED_ROWS;
}

/*
 * With dest, what the statement returns goes there.  The settings that are
 * off were so while it was planned; SPI_OK_UTILITY has no parameters and none.
 */
static uint64
write_roster(const SisRun *run, SisRecordType type, const char *sql,
			 const SisParams *params, DestReceiver *dest, int expected,
			 const char *const *off, int noff)
{
	Writing		what = {run, sis_record_desc(type)->name};
	ErrorContextCallback context;
	volatile uint64 n = 0;

	context.callback = explain_error;
	context.arg = &what;
	context.previous = error_context_stack;
	error_context_stack = &context;
	writing = true;
	sis_progress_type(type);
	PG_TRY();
	{
		n = expected == SPI_OK_UTILITY ? sis_exec(sql, NULL, expected) :
			sis_exec_planned(sql, params, dest, expected, off, noff);
	}
	PG_FINALLY();
	{
		writing = false;
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	if (expected != SPI_OK_SELECT && expected != SPI_OK_UTILITY)
		sis_progress_rows((int64) n);
	return n;
}

/* A statement that may join the roster with a store. */
static uint64
write_joining(const SisRun *run, SisRecordType type, const char *sql,
			  const SisParams *params, DestReceiver *dest, int expected)
{
	static const char *const off[] = {"enable_nestloop"};
	bool		joins = expected != SPI_OK_UTILITY && expected != SPI_OK_INSERT;

	return write_roster(run, type, sql, params, dest, expected, off,
						joins && has_few_records(run, type) ? 1 : 0);
}

uint64
sis_write(const SisRun *run, SisRecordType type, const char *sql,
		  const SisParams *params, int expected)
{
	return write_joining(run, type, sql, params, NULL, expected);
}

uint64
sis_write_in_key_order(const SisRun *run, SisRecordType type, const char *sql,
					   const SisParams *params)
{
	static const char *const off[] = {"enable_seqscan", "enable_bitmapscan"};

	return write_roster(run, type, sql, params, NULL, SPI_OK_UPDATE, off,
						lengthof(off));
}

int64
sis_write_logged(const SisRun *run, SisRecordType type, const char *action,
				 const char *sql, const SisParams *params)
{
	DestReceiver *dest;
	SisRelation written;
	SisParams	log = {0};
	TupleDesc	desc;
	int64		n;

	written.name = "written";
	written.store = tuplestore_begin_heap(false, false, Max(work_mem / 8, 64));
	desc = CreateTemplateTupleDesc(5);
	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(desc, 2, "reason", TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 3, "before", TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 4, "row_run", INT8OID, -1, 0);
	TupleDescInitEntry(desc, 5, "row_fingerprint", INT8OID, -1, 0);
	dest = sis_store_receiver(written.store, CurrentMemoryContext, desc);
	n = (int64) write_joining(run, type, sql, params, dest,
							  SPI_OK_UPDATE_RETURNING);
	dest->rDestroy(dest);
	sis_register_store(written.name, written.store, desc, (double) n);
	sis_param_int8(&log, run->id);
	sis_param_text(&log, sis_record_desc(type)->name);
	sis_param_text(&log, action);
	sis_exec_as_owner("INSERT INTO sis_sync.change (run_id, record_type, source_id, action, reason, before, row_run, row_fingerprint) "
					  "SELECT $1, $2, w.source_id, $3, w.reason, w.before::jsonb, w.row_run, w.row_fingerprint FROM written w",
					  &log, SPI_OK_INSERT);
	sis_relation_close(&written);
	return n;
}

void
sis_write_lock(const SisRun *run, SisRecordType type, const char *store)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->sync->id);
	/* OFFSET 0: else every row of the store is sorted and kept whole */
	(void) sis_write(run, type,
					 psprintf("SELECT count(*) FROM (SELECT 1 FROM (SELECT source_id FROM %s OFFSET 0) d JOIN %s t "
							  "ON t.sync_id = $1 AND t.source_id = d.source_id "
							  "ORDER BY t.source_id FOR NO KEY UPDATE OF t) x",
							  quote_identifier(store), run->roster->tables[type]),
					 &params, SPI_OK_SELECT);
}

void
sis_write_check_constraints(const SisRun *run)
{
	(void) sis_write(run, SIS_ENROLLMENT, "SET CONSTRAINTS ALL IMMEDIATE", NULL,
					 SPI_OK_UTILITY);
}
