/*
 * stage.c
 *		Records into staging tables: values judged, rejects written down.
 *
 * How it works: the provider puts records into the sink.  Each is judged,
 * given its fingerprint and buffered; full buffers go to the heap of the
 * type's leaf by multi-insert, as COPY does.  Leaves have no indexes,
 * triggers or constraints, so writing the heap is all there is to do.  Before
 * that, IDs pass a set of fixed size (base/seen.h): one that may have been seen
 * before is a suspect, and fold.c looks at the suspects when all rows are there.
 *
 * Memory does not grow with the number of rows: buffers and filters have
 * fixed sizes, suspects are a tuplestore that spills.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "base/compat.h"
#include "base/fingerprint.h"
#include "base/progress.h"
#include "base/seen.h"
#include "base/spi.h"
#include "base/value.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fold.h"
#include "miscadmin.h"
#include "rejectlog.h"
#include "slot.h"
#include "stage.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A buffer is written when it holds so many rows or bytes: half of COPY's
 * rows, since nine buffers are filled in turn and share the cache. */
#define MAX_BUFFERED_ROWS	500
#define MAX_BUFFERED_BYTES	(256 * 1024)

/* So many notes on values of a type are logged; more of them say no more. */
#define MAX_NOTES			1000

/*
 * So many rejects of a type are logged one by one.  All of them are counted,
 * and stand in the staging tables, which no WAL is written for.
 */
#define MAX_LOGGED_REJECTS	100000

/* A leaf above this is analyzed: an estimate of no rows ruins a plan. */
#define ANALYZE_ROWS		10000

/*
 * Columns without which a record cannot be used (design, rule 4).  A person
 * needs one of its two names; every other type all that are named.
 */
#define MAX_REQUIRED		3
static const char *const required_columns[SIS_N_RECORD_TYPES][MAX_REQUIRED] = {
	[SIS_SCHOOL] = {"name"},
	[SIS_SECTION] = {"school_source_id"},
	[SIS_STUDENT] = {"family_name", "given_name"},
	[SIS_STAFF] = {"family_name", "given_name"},
	[SIS_CONTACT] = {"family_name", "given_name"},
	[SIS_STUDENT_CONTACT] = {"student_source_id", "contact_source_id"},
	[SIS_ENROLLMENT] = {"section_source_id", "person_source_id", "role"}
};

/*
 * Sizes of the sets of IDs: 26 bits for each of 5 M enrollments, 16 for each
 * of 1 M persons.  More IDs only make more suspects.
 */
static const int seen_kb[SIS_N_RECORD_TYPES] = {
	[SIS_SCHOOL] = 64, [SIS_TERM] = 64, [SIS_COURSE] = 64, [SIS_SECTION] = 512,
	[SIS_STUDENT] = 2048, [SIS_STAFF] = 1024, [SIS_CONTACT] = 2048,
	[SIS_STUDENT_CONTACT] = 4096, [SIS_ENROLLMENT] = 16384
};

typedef struct StageBuffer
{
	Relation	rel;
	TupleDesc	desc;			/* a copy: slots need not count references */
	BulkInsertState bulk;
	Oid			statuses[SIS_N_STATUSES];
	TupleTableSlot **slots;
	int			nslots_made;
	int			nused;
	Size		bytes;
	MemoryContext cxt;			/* values of buffered rows; reset when written */
	SisSeen    *seen;
	int			nids;			/* buffered rows whose ID goes to it */
	int		   *id_rows;		/* their places in slots */
	uint64	   *id_hashes;
	Tuplestorestate *suspects;
	int64		nsuspects;
} StageBuffer;

struct SisStage
{
	SisSink		sink;			/* must be first */
	int64		run_id;
	int64		sync_id;
	int			slot;
	int			this_year;
	uint64		seed;			/* of fingerprints */
	MemoryContext cxt;
	CommandId	cid;
	StageBuffer		buffers[SIS_N_RECORD_TYPES];
	SisStaged	counts[SIS_N_RECORD_TYPES];
	int			required[SIS_N_RECORD_TYPES][MAX_REQUIRED]; /* -1: no more */
	StringInfoData scratch;
	char		dates[SIS_MAX_COLUMNS][SIS_DATE_LEN + 1];
	TupleDesc	suspect_desc;
	TupleTableSlot *suspect_slot;
	int64		nnotes[SIS_N_RECORD_TYPES];
	int64		nlogged[SIS_N_RECORD_TYPES];
	SisRejectLog *rejects;
	MemoryContext row_cxt;		/* of a rejected row's JSON; reset each time */
};

static void put_record(SisSink *sink, SisRecord *record);
static void put_reject(SisSink *sink, const SisReject *reject);
static void count_row(SisSink *sink, int types);

/* ----------
 * Opening
 * ----------
 */

static void
open_buffer(SisStage *stage, SisRecordType type)
{
	StageBuffer	   *buffer = &stage->buffers[type];
	char	   *leaf = strchr(sis_stage_leaf(type, stage->slot), '.') + 1;
	Oid			nspid = get_namespace_oid("sis_sync", false);
	int			natts = sis_record_desc(type)->ncolumns + SIS_STAGE_NOWN;

	buffer->rel = table_open(get_relname_relid(leaf, nspid), RowExclusiveLock);
	if (RelationGetDescr(buffer->rel)->natts != natts)
		elog(ERROR, "staging table \"%s\" has %d columns, not %d", leaf,
			 RelationGetDescr(buffer->rel)->natts, natts);
	buffer->desc = CreateTupleDescCopy(RelationGetDescr(buffer->rel));
	for (int i = 0; i < SIS_N_STATUSES; i++)
		buffer->statuses[i] = sis_status_oid((SisStageStatus) i,
											 RelationGetDescr(buffer->rel));
	buffer->bulk = GetBulkInsertState();
	buffer->slots = palloc0(sizeof(TupleTableSlot *) * MAX_BUFFERED_ROWS);
	buffer->id_rows = palloc(sizeof(int) * MAX_BUFFERED_ROWS);
	buffer->id_hashes = palloc(sizeof(uint64) * MAX_BUFFERED_ROWS);
	buffer->cxt = AllocSetContextCreate(stage->cxt, "sis_sync staged rows",
										ALLOCSET_DEFAULT_SIZES);
}

/* What decides a record's content beside its values. */
static uint64
fingerprint_seed(const SisSync *sync)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%d %d", SIS_FINGERPRINT_VERSION,
					 sync->wants.include_demographics);
	for (int i = 0; i < sync->wants.nextra_columns; i++)
		appendBinaryStringInfo(&buf, sync->wants.extra_columns[i],
							   strlen(sync->wants.extra_columns[i]) + 1);
	return sis_hash64(buf.data, buf.len, 0);
}

SisStage *
sis_stage_open(int64 run_id, int slot, const SisSync *sync,
			   SisFailure *failure)
{
	SisStage   *stage = palloc0(sizeof(SisStage));

	stage->run_id = run_id;
	stage->sync_id = sync->id;
	stage->slot = slot;
	stage->this_year = sync->this_year;
	stage->seed = fingerprint_seed(sync);
	stage->cxt = CurrentMemoryContext;
	stage->cid = GetCurrentCommandId(true);
	initStringInfo(&stage->scratch);
	stage->rejects = sis_rejectlog_create(run_id);
	stage->row_cxt = AllocSetContextCreate(stage->cxt, "sis_sync rejected row",
										   ALLOCSET_SMALL_SIZES);
	stage->suspect_desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(stage->suspect_desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(stage->suspect_desc, 1, C_COLLATION_OID);
	stage->suspect_slot = MakeSingleTupleTableSlot(stage->suspect_desc,
												   &TTSOpsVirtual);

	stage->sink.put = put_record;
	stage->sink.reject = put_reject;
	stage->sink.row_read = count_row;
	stage->sink.failure = failure;
	stage->sink.wants = &sync->wants;
	initStringInfo(&stage->sink.note);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		stage->sink.offer[type] = SIS_OFFER_MISSING;
		stage->sink.needs_parts[type] = SIS_PART_BASE;
		open_buffer(stage, (SisRecordType) type);
		for (int i = 0; i < MAX_REQUIRED; i++)
			stage->required[type][i] = required_columns[type][i] == NULL ? -1 :
				sis_record_column((SisRecordType) type,
								  required_columns[type][i]);
	}
	return stage;
}

SisSink *
sis_stage_sink(SisStage *stage)
{
	return &stage->sink;
}

const SisStaged *
sis_stage_counts(const SisStage *stage, SisRecordType type)
{
	return &stage->counts[type];
}

SisStaged *
sis_stage_counts_for_update(SisStage *stage, SisRecordType type)
{
	return &stage->counts[type];
}

int
sis_stage_slot(const SisStage *stage)
{
	return stage->slot;
}

int64
sis_stage_run_id(const SisStage *stage)
{
	return stage->run_id;
}

void
sis_stage_log_reject(SisStage *stage, SisRecordType type, const char *source,
					 int64 line, const char *source_id, int source_id_len,
					 const char *column, const char *reason, const char *row,
					 bool loaded)
{
	SisLoggedReject reject = {
		sis_record_desc(type)->name, source, line, source_id, source_id_len,
		column, reason, row, loaded
	};

	if (!loaded && stage->nlogged[type]++ >= MAX_LOGGED_REJECTS)
	{
		if (stage->nlogged[type] == MAX_LOGGED_REJECTS + 1)
			appendStringInfo(&stage->sink.note,
							 "%sOf the rejects of type %s the first %d are logged one by one.",
							 stage->sink.note.len > 0 ? " " : "",
							 reject.record_type, MAX_LOGGED_REJECTS);
		return;
	}
	sis_rejectlog_add(stage->rejects, &reject);
}

/* ----------
 * Rows into the heap
 * ----------
 */

static void
add_suspect(SisStage *stage, StageBuffer *buffer, Datum id)
{
	if (buffer->suspects == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(stage->cxt);

		buffer->suspects = tuplestore_begin_heap(false, false, 1024);
		MemoryContextSwitchTo(old);
	}
	ExecClearTuple(stage->suspect_slot);
	stage->suspect_slot->tts_values[0] = id;
	stage->suspect_slot->tts_isnull[0] = false;
	ExecStoreVirtualTuple(stage->suspect_slot);
	tuplestore_puttupleslot(buffer->suspects, stage->suspect_slot);
	ExecClearTuple(stage->suspect_slot);
	buffer->nsuspects++;
}

/* IDs of buffered rows that may have been here before go to the suspects. */
static void
look_for_ids(SisStage *stage, SisRecordType type)
{
	StageBuffer	   *buffer = &stage->buffers[type];
	bool		old[MAX_BUFFERED_ROWS];

	if (buffer->nids == 0)
		return;
	if (buffer->seen == NULL)
	{
		MemoryContext cxt = MemoryContextSwitchTo(stage->cxt);

		buffer->seen = sis_seen_create(seen_kb[type]);
		MemoryContextSwitchTo(cxt);
	}
	sis_seen_add(buffer->seen, buffer->id_hashes, buffer->nids, old);
	for (int i = 0; i < buffer->nids; i++)
	{
		bool		isnull;

		if (old[i])
			add_suspect(stage, buffer,
						slot_getattr(buffer->slots[buffer->id_rows[i]],
									 SIS_STAGE_NOWN + SIS_COL_SOURCE_ID + 1,
									 &isnull));
	}
	buffer->nids = 0;
}

static void
flush_buffer(SisStage *stage, SisRecordType type)
{
	StageBuffer	   *buffer = &stage->buffers[type];
	MemoryContext old;

	if (buffer->nused == 0)
		return;
	look_for_ids(stage, type);
	/* it leaves behind eight bytes a row */
	old = MemoryContextSwitchTo(buffer->cxt);
	table_multi_insert(buffer->rel, buffer->slots, buffer->nused,
					   stage->cid, TABLE_INSERT_SKIP_FSM, buffer->bulk);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < buffer->nused; i++)
		ExecClearTuple(buffer->slots[i]);
	MemoryContextReset(buffer->cxt);
	buffer->nused = 0;
	buffer->bytes = 0;
	CHECK_FOR_INTERRUPTS();
}

void
sis_stage_flush(SisStage *stage)
{
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		flush_buffer(stage, (SisRecordType) type);
	sis_rejectlog_flush(stage->rejects);
}

void
sis_stage_flush_visibly(SisStage *stage)
{
	sis_stage_flush(stage);
	CommandCounterIncrement();
	stage->cid = GetCurrentCommandId(true);
}

static bool
is_person(SisRecordType type)
{
	return type == SIS_STUDENT || type == SIS_STAFF || type == SIS_CONTACT;
}

/* Has the ID of the row that is written next looked for among those before. */
static void
look_for_id(SisStage *stage, SisRecordType type, SisValue id)
{
	StageBuffer	   *buffer = &stage->buffers[type];

	buffer->id_rows[buffer->nids] = buffer->nused;
	buffer->id_hashes[buffer->nids++] = sis_seen_hash(id.data, id.len);
}

void
sis_stage_write(SisStage *stage, SisRecord *record, SisStageStatus status,
				int64 fingerprint)
{
	StageBuffer	   *buffer = &stage->buffers[record->type];
	TupleTableSlot *slot = buffer->slots[buffer->nused];
	SisStageFixed fixed;
	MemoryContext old;
	HeapTuple	row;

	if (slot == NULL)
	{
		old = MemoryContextSwitchTo(stage->cxt);
		slot = MakeSingleTupleTableSlot(buffer->desc, &TTSOpsHeapTuple);
		buffer->slots[buffer->nused] = slot;
		MemoryContextSwitchTo(old);
	}
	fixed.run_id = stage->run_id;
	fixed.sync_id = stage->sync_id;
	fixed.line = record->line;
	fixed.fingerprint = fingerprint;
	fixed.keep = (int32) record->keep;
	fixed.status = buffer->statuses[status];
	fixed.slot = stage->slot;
	fixed.part = record->part | (record->repeats ? SIS_PART_REPEATS : 0) |
		(record->deleted && record->part != SIS_PART_BASE ? SIS_PART_ENDED : 0);

	old = MemoryContextSwitchTo(buffer->cxt);
	row = sis_stage_row(&fixed, record);
	MemoryContextSwitchTo(old);

	/* owned by the slot, or the heap would take a copy of it */
	ExecStoreHeapTuple(row, slot, true);
	buffer->nused++;
	buffer->bytes += row->t_len;
	stage->counts[record->type].staged_rows++;
	if (buffer->nused == MAX_BUFFERED_ROWS ||
		buffer->bytes >= MAX_BUFFERED_BYTES)
		flush_buffer(stage, record->type);
}

int64
sis_stage_fingerprint(SisStage *stage, const SisRecord *record)
{
	return sis_fingerprint(record, stage->seed, &stage->scratch);
}

/* ----------
 * The sink
 * ----------
 */

static void
count_row(SisSink *sink, int types)
{
	SisStage   *stage = (SisStage *) sink;

	sis_progress_row(types);
	for (int type = 0; types != 0; type++, types >>= 1)
	{
		if (types & 1)
		{
			stage->counts[type].rows_read++;
			break;				/* a row is read once, whatever it may be */
		}
	}
}

/*
 * A rejected row also stands in the staging tables: to be found there, and,
 * where its ID can be read, to protect the stored record of that ID.
 */
static void
stage_rejected(SisStage *stage, SisRecordType type, const char *source,
			   int64 line, SisValue id)
{
	SisRecord	record;

	memset(&record, 0, offsetof(SisRecord, lists));
	record.type = type;
	record.source = source;
	record.line = line;
	record.part = SIS_PART_BASE;
	record.values[SIS_COL_SOURCE_ID] = id;
	if (id.data == NULL)
		stage->counts[type].unreadable++;
	else
		look_for_id(stage, type, id);
	sis_stage_write(stage, &record, SIS_STATUS_REJECTED, 0);
}

static void
put_reject(SisSink *sink, const SisReject *reject)
{
	SisStage   *stage = (SisStage *) sink;
	SisValue	id = reject->source_id;
	bool		logged = false;

	if (id.len > SIS_MAX_VALUE_BYTES)
		id.data = NULL, id.len = 0;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		if ((reject->types & SIS_TYPE_BIT(type)) == 0)
			continue;
		if (!logged)
		{
			sis_stage_log_reject(stage, (SisRecordType) type, reject->source,
								 reject->line, id.data, id.len,
								 reject->column, reject->reason, reject->row,
								 false);
			stage->counts[type].rejected++;
			logged = true;
		}
		stage_rejected(stage, (SisRecordType) type, reject->source,
					   reject->line, id);
	}
}

/* The column whose absence makes the record useless, or NULL. */
static const char *
missing_required(const SisStage *stage, const SisRecord *record)
{
	const int  *required = stage->required[record->type];
	const char *missing = NULL;

	for (int i = 0; i < MAX_REQUIRED && required[i] >= 0; i++)
	{
		if (record->values[required[i]].data != NULL)
		{
			if (is_person(record->type))
				return NULL;
		}
		else if (missing == NULL)
			missing = required_columns[record->type][i];
	}
	return missing;
}

/* The record's own mapped values, for somebody who looks at the reject. */
static char *
row_json(const SisRecord *record)
{
	const SisRecordDesc *desc = sis_record_desc(record->type);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (int i = 0; i < desc->ncolumns; i++)
	{
		const SisValue *value = &record->values[i];

		if (value->data == NULL || desc->columns[i].kind == SIS_KIND_JSONB)
			continue;
		if (buf.len > 1)
			appendStringInfoString(&buf, ", ");
		escape_json(&buf, desc->columns[i].name);
		appendStringInfoString(&buf, ": ");
		escape_json(&buf, pnstrdup(value->data, value->len));
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

static void
reject_record(SisStage *stage, const SisRecord *record, const char *column,
			  const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(stage->row_cxt);
	SisReject	reject = {0};

	reject.types = SIS_TYPE_BIT(record->type);
	reject.source = record->source;
	reject.line = record->line;
	reject.source_id = record->values[SIS_COL_SOURCE_ID];
	reject.column = column;
	reject.reason = reason;
	reject.row = row_json(record);
	MemoryContextSwitchTo(old);
	put_reject(&stage->sink, &reject);
	MemoryContextReset(stage->row_cxt);
}

static void
note_value(SisStage *stage, SisRecord *record, int column, const char *reason)
{
	SisValue	id = record->values[SIS_COL_SOURCE_ID];

	if (stage->nnotes[record->type]++ < MAX_NOTES)
		sis_stage_log_reject(stage, record->type, record->source, record->line,
							 id.data, id.len,
							 sis_record_desc(record->type)->columns[column].name,
							 reason, NULL, true);
	record->values[column].data = NULL;
	record->values[column].len = 0;
	record->keep |= SIS_COLUMN_BIT(column);
}

/*
 * A value too long is no name, address or ID, and would not fit an index:
 * of a required column it makes a reject, of another a note.  Returns the
 * required column, or NULL.
 */
static const char *
judge_lengths(SisStage *stage, SisRecord *record)
{
	const SisRecordDesc *desc = sis_record_desc(record->type);
	const int  *required = stage->required[record->type];

	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
	{
		if ((record->too_long & SIS_COLUMN_BIT(i)) == 0 &&
			(record->values[i].len <= SIS_MAX_VALUE_BYTES ||
			 desc->columns[i].kind == SIS_KIND_LIST ||
			 desc->columns[i].kind == SIS_KIND_JSONB))
			continue;
		for (int r = 0; r < MAX_REQUIRED && required[r] >= 0; r++)
		{
			if (required[r] == i)
				return desc->columns[i].name;
		}
		note_value(stage, record, i, "longer than a value may be");
	}
	return NULL;
}

/*
 * Dates and booleans become what a cast accepts; one that cannot be read is
 * noted, and the stored value stays.
 */
static void
read_values(SisStage *stage, SisRecord *record)
{
	const SisRecordDesc *desc = sis_record_desc(record->type);

	for (int i = 0; i < desc->ncolumns; i++)
	{
		SisValue   *value = &record->values[i];
		bool		yes;

		if (value->data == NULL)
			continue;
		if (desc->columns[i].kind == SIS_KIND_DATE)
		{
			bool		future = strcmp(desc->columns[i].name, "birth_date") != 0;

			if (sis_read_date(*value, stage->this_year, future, stage->dates[i]))
			{
				value->data = stage->dates[i];
				value->len = SIS_DATE_LEN;
			}
			else
				note_value(stage, record, i, "not a date");
		}
		else if (desc->columns[i].kind == SIS_KIND_BOOLEAN)
		{
			if (sis_read_boolean(*value, &yes))
			{
				value->data = yes ? "true" : "false";
				value->len = yes ? 4 : 5;
			}
			else
				note_value(stage, record, i, "neither true nor false");
		}
	}
}

static void
put_record(SisSink *sink, SisRecord *record)
{
	SisStage   *stage = (SisStage *) sink;
	SisValue	id = record->values[SIS_COL_SOURCE_ID];
	SisStageStatus status = SIS_STATUS_ACTIVE;
	const char *missing;

	if (id.data == NULL)
	{
		reject_record(stage, record, "source_id", "the ID is missing");
		return;
	}
	if (id.len > SIS_MAX_VALUE_BYTES)
	{
		reject_record(stage, record, "source_id", "the ID is longer than 2000 bytes");
		return;
	}
	if (record->part == SIS_PART_BASE && !record->deleted)
	{
		missing = missing_required(stage, record);
		if (missing != NULL)
		{
			reject_record(stage, record, missing, "a required value is missing");
			return;
		}
	}
	missing = judge_lengths(stage, record);
	if (missing != NULL)
	{
		reject_record(stage, record, missing, "a required value is too long");
		return;
	}
	read_values(stage, record);
	if (record->part != SIS_PART_BASE ||
		sink->needs_parts[record->type] != SIS_PART_BASE)
		status = SIS_STATUS_PART;
	if (record->deleted && record->part == SIS_PART_BASE)
		status = SIS_STATUS_DELETED;
	if (status != SIS_STATUS_PART)
	{
		look_for_id(stage, record->type, id);
		stage->counts[record->type].received++;
		if (!record->deleted)
			stage->counts[record->type].active++;
	}
	sis_stage_write(stage, record, status,
					sis_stage_fingerprint(stage, record));
}

/* ----------
 * Closing
 * ----------
 */

static bool
has_extra_parts(SisStage *stage, SisRecordType type)
{
	SisParams	params = {0};

	/* demographics are the only extra part, and of students only */
	if (type != SIS_STUDENT || !stage->sink.wants->include_demographics)
		return false;
	sis_param_int8(&params, stage->run_id);
	return sis_exec_as_owner(psprintf("SELECT 1 FROM %s WHERE run_id = $1 AND part = %d LIMIT 1",
									  sis_stage_leaf(type, stage->slot),
									  SIS_PART_EXTRA),
							 &params, SPI_OK_SELECT) > 0;
}

static bool
fold_type(SisStage *stage, SisRecordType type, const SisRoster *roster)
{
	StageBuffer	   *buffer = &stage->buffers[type];
	int			needs = stage->sink.needs_parts[type];
	bool		whole = needs != SIS_PART_BASE || has_extra_parts(stage, type);
	bool		folded;

	if (!whole && buffer->suspects == NULL)
		return false;
	if (buffer->suspects != NULL)
		sis_register_store("suspects", buffer->suspects, stage->suspect_desc,
						   buffer->nsuspects);
	folded = sis_fold(stage, type, stage->sync_id, roster->tables[type], needs,
					  whole);
	if (buffer->suspects != NULL)
		sis_unregister_store("suspects");
	sis_stage_flush(stage);
	return folded;
}

static void
recount(SisStage *stage, SisRecordType type)
{
	SisStaged  *counts = &stage->counts[type];
	SisParams	params = {0};

	sis_param_int8(&params, stage->run_id);
	sis_exec_as_owner(psprintf("SELECT count(*) FILTER (WHERE status IN ('active', 'deleted') AND line <> %d), count(*), "
							   "count(*) FILTER (WHERE status = 'active') "
							   "FROM %s WHERE run_id = $1",
							   SIS_CARRIED_LINE,
							   sis_stage_leaf(type, stage->slot)),
					  &params, SPI_OK_SELECT);
	counts->received = sis_value_int8(0, 1);
	counts->staged_rows = sis_value_int8(0, 2);
	counts->active = sis_value_int8(0, 3);
}

static void
close_buffer(SisStage *stage, StageBuffer *buffer)
{
	FreeBulkInsertState(buffer->bulk);
	for (int i = 0; i < MAX_BUFFERED_ROWS && buffer->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(buffer->slots[i]);
	table_finish_bulk_insert(buffer->rel, TABLE_INSERT_SKIP_FSM);
	table_close(buffer->rel, NoLock);
	if (buffer->suspects != NULL)
		tuplestore_end(buffer->suspects);
}

void
sis_stage_close(SisStage *stage, const SisRoster *roster, bool fold)
{
	sis_progress_rows(0);		/* those that have not been shown yet */
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;

		sis_stage_flush_visibly(stage);
		if (stage->counts[type].staged_rows > ANALYZE_ROWS)
			sis_exec_as_owner(psprintf("ANALYZE %s (run_id, status, source_id)",
									   sis_stage_leaf(type, stage->slot)),
							  NULL, SPI_OK_UTILITY);
		if (fold && fold_type(stage, type, roster))
		{
			CommandCounterIncrement();
			recount(stage, type);
		}
	}
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		close_buffer(stage, &stage->buffers[type]);
	ExecDropSingleTupleTableSlot(stage->suspect_slot);
}
