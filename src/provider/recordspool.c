/*
 * recordspool.c
 *		Records on their way from the network to a sink.
 *
 * How it works: a page's records are written as bytes into a spool of the
 * page's own, which is small and mostly stays in memory; a page that has come
 * whole is appended to the spool of all.  An entry is its kind, its length and
 * its fields, each in the machine's own form: nobody but this process reads
 * it.  Lists are written as the array literals that sis_record_finish() made.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "provider/recordspool.h"
#include "transport/spool.h"

/* So much of a page is collected before it is handed to its spool. */
#define WRITE_SIZE		(64 * 1024)

/* So much is read at a time; an entry may be longer. */
#define READ_SIZE		(256 * 1024)

/* No entry is longer: a value comes from a JSON value of a megabyte. */
#define MAX_ENTRY		(64 * 1024 * 1024)

typedef enum EntryKind
{
	ENTRY_ROW_READ = 1,
	ENTRY_RECORD,
	ENTRY_REJECT
} EntryKind;

typedef struct EntryHead
{
	uint32		kind;
	uint32		len;			/* of what follows */
} EntryHead;

/* The fixed part of a record; its values follow. */
typedef struct RecordHead
{
	int32		type;
	int32		part;
	int64		line;
	uint64		keep;
	uint64		too_long;
	bool		deleted;
	bool		repeats;
} RecordHead;

typedef struct RejectHead
{
	int32		types;
	int64		line;
} RejectHead;

typedef struct Page
{
	SisSink		sink;			/* must be first */
	SisRecordSpool *spool;
	MemoryContext cxt;			/* all of the page, itself included */
	SisSpool   *bytes;
	StringInfoData buf;			/* not yet in "bytes" */
	int64		nrows;
	uint64		said[SIS_N_RECORD_TYPES];	/* columns with a value */
} Page;

struct SisRecordSpool
{
	MemoryContext cxt;			/* all of the spool but itself */
	const SisWants *wants;
	SisSpool   *bytes;
	int64		nrows;
	uint64		said[SIS_N_RECORD_TYPES];
};

SisRecordSpool *
sis_recordspool_create(const SisWants *wants)
{
	SisRecordSpool *spool = palloc0(sizeof(SisRecordSpool));
	MemoryContext old;

	spool->cxt = AllocSetContextCreate(CurrentMemoryContext,
									   "sis_sync record spool",
									   ALLOCSET_DEFAULT_SIZES);
	spool->wants = wants;
	old = MemoryContextSwitchTo(spool->cxt);
	spool->bytes = sis_spool_create();
	MemoryContextSwitchTo(old);
	return spool;
}

void
sis_recordspool_free(SisRecordSpool *spool)
{
	sis_spool_free(spool->bytes);
	MemoryContextDelete(spool->cxt);
	pfree(spool);
}

int64
sis_recordspool_rows(const SisRecordSpool *spool)
{
	return spool->nrows;
}

/* ----------
 * Writing
 * ----------
 */

static void
append(StringInfo buf, const void *data, int len)
{
	appendBinaryStringInfo(buf, data, len);
}

static void
append_value(StringInfo buf, SisValue value)
{
	int32		len = value.data == NULL ? -1 : value.len;

	append(buf, &len, sizeof(len));
	if (len > 0)
		append(buf, value.data, len);
}

/* A string may be NULL. */
static void
append_string(StringInfo buf, const char *string)
{
	SisValue	value;

	value.data = string;
	value.len = string != NULL ? (int) strlen(string) + 1 : 0;
	append_value(buf, value);
}

/* Begins an entry; returns where it stands. */
static int
begin_entry(Page *page, EntryKind kind)
{
	EntryHead	head = {kind, 0};
	int			start = page->buf.len;

	append(&page->buf, &head, sizeof(head));
	return start;
}

static void
end_entry(Page *page, int start)
{
	StringInfo	buf = &page->buf;
	uint32		len = buf->len - start - sizeof(EntryHead);

	memcpy(buf->data + start + offsetof(EntryHead, len), &len, sizeof(len));
	if (buf->len < WRITE_SIZE)
		return;
	sis_spool_write(page->bytes, buf->data, buf->len);
	resetStringInfo(buf);
}

static void
spool_row_read(SisSink *sink, int types)
{
	Page	   *page = (Page *) sink;
	int			start = begin_entry(page, ENTRY_ROW_READ);

	append(&page->buf, &types, sizeof(types));
	end_entry(page, start);
	page->nrows++;
}

static void
spool_put(SisSink *sink, SisRecord *record)
{
	Page	   *page = (Page *) sink;
	int			ncolumns = sis_record_desc(record->type)->ncolumns;
	int			start = begin_entry(page, ENTRY_RECORD);
	RecordHead	head;

	memset(&head, 0, sizeof(head));
	head.type = record->type;
	head.part = record->part;
	head.line = record->line;
	head.keep = record->keep;
	head.too_long = record->too_long;
	head.deleted = record->deleted;
	head.repeats = record->repeats;
	append(&page->buf, &head, sizeof(head));
	append_string(&page->buf, record->source);
	append_value(&page->buf, record->last_modified);
	for (int i = 0; i < ncolumns; i++)
	{
		append_value(&page->buf, record->values[i]);
		if (record->values[i].data != NULL)
			page->said[record->type] |= SIS_COLUMN_BIT(i);
	}
	end_entry(page, start);
}

static void
spool_reject(SisSink *sink, const SisReject *reject)
{
	Page	   *page = (Page *) sink;
	int			start = begin_entry(page, ENTRY_REJECT);
	RejectHead	head;

	memset(&head, 0, sizeof(head));
	head.types = reject->types;
	head.line = reject->line;
	append(&page->buf, &head, sizeof(head));
	append_string(&page->buf, reject->source);
	append_value(&page->buf, reject->source_id);
	append_string(&page->buf, reject->column);
	append_string(&page->buf, reject->reason);
	append_string(&page->buf, reject->row);
	end_entry(page, start);
}

SisSink *
sis_recordspool_page(SisRecordSpool *spool)
{
	MemoryContext cxt = AllocSetContextCreate(spool->cxt,
											  "sis_sync record page",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Page	   *page = palloc0(sizeof(Page));

	page->sink.put = spool_put;
	page->sink.reject = spool_reject;
	page->sink.row_read = spool_row_read;
	page->sink.wants = spool->wants;
	page->spool = spool;
	page->cxt = cxt;
	page->bytes = sis_spool_create();
	initStringInfo(&page->buf);
	MemoryContextSwitchTo(old);
	return &page->sink;
}

void
sis_recordspool_discard(SisSink *sink)
{
	Page	   *page = (Page *) sink;

	sis_spool_free(page->bytes);
	MemoryContextDelete(page->cxt);
}

void
sis_recordspool_commit(SisSink *sink)
{
	Page	   *page = (Page *) sink;
	SisRecordSpool *spool = page->spool;
	SisBlob		blob = sis_spool_blob(page->bytes);
	char	   *block = MemoryContextAlloc(page->cxt, WRITE_SIZE);
	int64		at = 0;

	while (at < blob.size)
	{
		int			n = blob.read_at(blob.arg, at, block, WRITE_SIZE);

		if (n <= 0)
			elog(ERROR, "could not read a page of records back");
		sis_spool_write(spool->bytes, block, n);
		at += n;
		CHECK_FOR_INTERRUPTS();
	}
	if (page->buf.len > 0)
		sis_spool_write(spool->bytes, page->buf.data, page->buf.len);
	spool->nrows += page->nrows;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		spool->said[type] |= page->said[type];
	sis_recordspool_discard(sink);
}

void
sis_recordspool_say(SisRecordSpool *spool, SisRecordType type, uint64 columns)
{
	spool->said[type] |= columns;
}

/* ----------
 * Reading
 * ----------
 */

typedef struct Reader
{
	SisBlob		blob;
	int64		at;				/* of the next byte to read */
	char	   *buf;
	int			size;
	int			pos;
	int			len;
	List	   *sources;		/* their names, which records point to */
} Reader;

/* Makes so many bytes stand at buf + pos. */
static void
need(Reader *reader, int n)
{
	if (reader->len - reader->pos >= n)
		return;
	memmove(reader->buf, reader->buf + reader->pos, reader->len - reader->pos);
	reader->len -= reader->pos;
	reader->pos = 0;
	if (n > MAX_ENTRY)
		elog(ERROR, "unexpected entry of %d bytes in a record spool", n);
	if (n > reader->size)
	{
		reader->buf = repalloc(reader->buf, n);
		reader->size = n;
	}
	while (reader->len < n)
	{
		int			got = reader->blob.read_at(reader->blob.arg, reader->at,
											   reader->buf + reader->len,
											   reader->size - reader->len);

		if (got <= 0)
			elog(ERROR, "a record spool ends too early");
		reader->at += got;
		reader->len += got;
	}
}

static void
take(const char **p, void *to, int len)
{
	memcpy(to, *p, len);
	*p += len;
}

static SisValue
take_value(const char **p)
{
	SisValue	value = {NULL, 0};
	int32		len;

	take(p, &len, sizeof(len));
	if (len < 0)
		return value;
	value.data = *p;
	value.len = len;
	*p += len;
	return value;
}

static const char *
take_string(const char **p)
{
	return take_value(p).data;
}

/* A name that stays: a page's records all point to one. */
static const char *
lasting_name(Reader *reader, const char *name)
{
	ListCell   *lc;
	char	   *copy;

	foreach(lc, reader->sources)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return lfirst(lc);
	}
	copy = pstrdup(name);
	reader->sources = lappend(reader->sources, copy);
	return copy;
}

/*
 * The columns of which the service has said nothing.  "extra" is empty where
 * the sync wants nothing in it, and kept where it wants what did not come.
 */
static uint64
unsaid(const SisRecordSpool *spool, SisRecordType type)
{
	int			extra = sis_record_desc(type)->ncolumns - 1;
	uint64		all = SIS_COLUMN_BIT(extra + 1) - 1;

	if (spool->wants->nextra_columns == 0)
		all &= ~SIS_COLUMN_BIT(extra);
	return all & ~spool->said[type];
}

static void
replay_record(SisRecordSpool *spool, Reader *reader, const char *p,
			  SisRecord *record, SisSink *sink)
{
	RecordHead	head;
	int			ncolumns;

	take(&p, &head, sizeof(head));
	ncolumns = sis_record_desc((SisRecordType) head.type)->ncolumns;
	sis_record_reset(record, (SisRecordType) head.type,
					 lasting_name(reader, take_string(&p)), head.line);
	record->part = head.part;
	record->deleted = head.deleted;
	record->repeats = head.repeats;
	record->keep = head.keep | unsaid(spool, record->type);
	record->too_long = head.too_long;
	record->last_modified = take_value(&p);
	for (int i = 0; i < ncolumns; i++)
		record->values[i] = take_value(&p);
	sink->put(sink, record);
}

static void
replay_reject(Reader *reader, const char *p, SisSink *sink)
{
	SisReject	reject = {0};
	RejectHead	head;

	take(&p, &head, sizeof(head));
	reject.types = head.types;
	reject.line = head.line;
	reject.source = lasting_name(reader, take_string(&p));
	reject.source_id = take_value(&p);
	reject.column = take_string(&p);
	reject.reason = take_string(&p);
	reject.row = take_string(&p);
	sink->reject(sink, &reject);
}

void
sis_recordspool_replay(SisRecordSpool *spool, SisSink *sink)
{
	SisRecord  *record = sis_record_create();
	Reader		reader = {0};

	reader.blob = sis_spool_blob(spool->bytes);
	reader.size = READ_SIZE;
	reader.buf = palloc(reader.size);
	while (reader.at - (reader.len - reader.pos) < reader.blob.size)
	{
		EntryHead	head;
		const char *p;
		int			types;

		need(&reader, sizeof(head));
		memcpy(&head, reader.buf + reader.pos, sizeof(head));
		need(&reader, sizeof(head) + head.len);
		p = reader.buf + reader.pos + sizeof(head);
		switch ((EntryKind) head.kind)
		{
			case ENTRY_ROW_READ:
				take(&p, &types, sizeof(types));
				sink->row_read(sink, types);
				break;
			case ENTRY_RECORD:
				replay_record(spool, &reader, p, record, sink);
				break;
			case ENTRY_REJECT:
				replay_reject(&reader, p, sink);
				break;
		}
		reader.pos += sizeof(head) + head.len;
		CHECK_FOR_INTERRUPTS();
	}
}
