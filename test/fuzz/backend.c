/*
 * backend.c
 *		The backend functions that src/provider needs, without a server; beside
 *		what test/format/shim has for src/format.
 */
#include "postgres.h"

#include <time.h>

#include "lib/bloomfilter.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* one of 64 hashes each: it may say "seen" too often, as the real one may */
struct bloom_filter
{
	uint64		seen;
};

bloom_filter *
bloom_create(int64 total_elems, int bloom_work_mem, uint64 seed)
{
	return palloc0(sizeof(bloom_filter));
}

static uint64
bloom_bit(const unsigned char *elem, size_t len)
{
	uint64		hash = 5381;

	while (len-- > 0)
		hash = hash * 33 + *elem++;
	return UINT64CONST(1) << (hash & 63);
}

void
bloom_add_element(bloom_filter *filter, unsigned char *elem, size_t len)
{
	filter->seen |= bloom_bit(elem, len);
}

bool
bloom_lacks_element(bloom_filter *filter, unsigned char *elem, size_t len)
{
	return (filter->seen & bloom_bit(elem, len)) == 0;
}

List *
lappend(List *list, void *datum)
{
	if (list == NIL)
	{
		list = palloc0(sizeof(List));
		list->type = T_List;
	}
	if (list->length == list->max_length)
	{
		ListCell   *cells = palloc((2 * list->length + 4) * sizeof(ListCell));

		if (list->length > 0)
			memcpy(cells, list->elements, list->length * sizeof(ListCell));
		list->max_length = 2 * list->length + 4;
		list->elements = cells;
	}
	list->elements[list->length++].ptr_value = datum;
	return list;
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	Size		len = strlen(string) + 1;

	return memcpy(MemoryContextAlloc(context, len), string, len);
}

/* As in json.c. */
void
escape_json(StringInfo buf, const char *str)
{
	appendStringInfoCharMacro(buf, '"');
	for (const char *p = str; *p; p++)
	{
		if (*p == '"' || *p == '\\')
			appendStringInfo(buf, "\\%c", *p);
		else if ((unsigned char) *p < ' ')
			appendStringInfo(buf, "\\u%04x", (int) *p);
		else
			appendStringInfoCharMacro(buf, *p);
	}
	appendStringInfoCharMacro(buf, '"');
}

int
pg_mbcliplen(const char *mbstr, int len, int limit)
{
	int			clipped = 0;

	while (clipped < len && mbstr[clipped] != '\0')
	{
		int			l = pg_utf_mblen((const unsigned char *) mbstr + clipped);

		if (clipped + l > Min(limit, len))
			break;
		clipped += l;
	}
	return clipped;
}

bool
pg_verify_mbstr(int encoding, const char *mbstr, int len, bool noError)
{
	return pg_encoding_verifymbstr(encoding, mbstr, len) == len;
}

TimestampTz
time_t_to_timestamptz(pg_time_t tm)
{
	return (tm - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) *
		USECS_PER_SEC;
}

/* Days since 4714-11-24 BC, for years of four digits. */
int
date2j(int year, int month, int day)
{
	int			a = (14 - month) / 12;
	int			y = year + 4800 - a;
	int			m = month + 12 * a - 3;

	return day + (153 * m + 2) / 5 + 365 * y + y / 4 - y / 100 + y / 400 - 32045;
}
