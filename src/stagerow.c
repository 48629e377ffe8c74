/*
 * stagerow.c
 *		What a row of a staging table has, and how one is formed.
 *
 * Every row has the same columns of fixed width and then texts alone, so it is
 * written from left to right with each value copied once.  heap_form_tuple()
 * would want every value as a datum first, measure it, and copy it again: a
 * tenth of the time of staging.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/compat.h"
#include "catalog/pg_enum.h"
#include "stagerow.h"
#include "utils/syscache.h"

/* bytes of the columns of fixed width */
#define FIXED_SIZE	44

StaticAssertDecl(offsetof(SisStageFixed, part) + sizeof(int16) == FIXED_SIZE,
				 "a gap in SisStageFixed");
StaticAssertDecl(SIS_MAX_COLUMNS < 32, "keep has a bit for each column");

const char *
sis_status_name(SisStageStatus status)
{
	static const char *const names[SIS_N_STATUSES] = {
		"active", "deleted", "rejected", "duplicate", "part"
	};

	return names[status];
}

Oid
sis_status_oid(SisStageStatus status, TupleDesc leaf)
{
	Oid			type = TupleDescAttr(leaf, SIS_STAGE_STATUS)->atttypid;
	Oid			oid = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
									  ObjectIdGetDatum(type),
									  CStringGetDatum(sis_status_name(status)));

	if (!OidIsValid(oid))
		elog(ERROR, "staging rows have no status \"%s\"",
			 sis_status_name(status));
	return oid;
}

/* What a text takes; one with a long header may need to be aligned. */
static inline Size
text_room(int len)
{
	if (len + VARHDRSZ_SHORT <= VARATT_SHORT_MAX)
		return len + VARHDRSZ_SHORT;
	return ALIGNOF_INT - 1 + VARHDRSZ + len;
}

/* Writes a text at p; returns where the next one goes. */
static inline char *
put_text(char *p, const char *data, int len)
{
	if (len + VARHDRSZ_SHORT <= VARATT_SHORT_MAX)
	{
		SET_VARSIZE_SHORT(p, len + VARHDRSZ_SHORT);
		p += VARHDRSZ_SHORT;
	}
	else
	{
		/* zeros before it say that its header is a long one */
		while (p != (char *) INTALIGN(p))
			*p++ = 0;
		SET_VARSIZE(p, len + VARHDRSZ);
		p += VARHDRSZ;
	}
	memcpy(p, data, len);
	return p + len;
}

HeapTuple
sis_stage_row(const SisStageFixed *fixed, const SisRecord *record)
{
	int			ncolumns = sis_record_desc(record->type)->ncolumns;
	int			natts = SIS_STAGE_NOWN + ncolumns;
	int			header = MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(natts));
	int			source_len = strlen(record->source);
	SisValue	modified = record->last_modified;
	uint64		present = (UINT64CONST(1) << SIS_STAGE_LAST_MODIFIED) - 1;
	Size		room = header + FIXED_SIZE;
	HeapTuple	tuple;
	HeapTupleHeader row;
	char	   *p;

	room += text_room(source_len) + text_room(modified.len);
	for (int i = 0; i < ncolumns; i++)
		room += text_room(record->values[i].len);

	tuple = palloc(HEAPTUPLESIZE + room);
	row = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	memset(row, 0, header);
	p = (char *) row + header;
	memcpy(p, fixed, FIXED_SIZE);
	p = put_text(p + FIXED_SIZE, record->source, source_len);
	if (modified.data != NULL)
	{
		present |= UINT64CONST(1) << SIS_STAGE_LAST_MODIFIED;
		p = put_text(p, modified.data, modified.len);
	}
	for (int i = 0; i < ncolumns; i++)
	{
		const SisValue *value = &record->values[i];

		if (value->data != NULL)
		{
			present |= UINT64CONST(1) << (SIS_STAGE_NOWN + i);
			p = put_text(p, value->data, value->len);
		}
	}

	for (int i = 0; i < BITMAPLEN(natts); i++)
		row->t_bits[i] = (bits8) (present >> (8 * i));
	row->t_hoff = header;
	row->t_infomask = HEAP_HASNULL | HEAP_HASVARWIDTH;
	HeapTupleHeaderSetNatts(row, natts);
	tuple->t_len = p - (char *) row;
	tuple->t_data = row;
	tuple->t_tableOid = InvalidOid;
	ItemPointerSetInvalid(&tuple->t_self);
	return tuple;
}
