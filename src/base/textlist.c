/*
 * textlist.c
 *		Lists of texts as array literals, compared and changed in place of
 *		their arrays.
 */
#include "postgres.h"

#include "base/textlist.h"

bool
sis_same_value(SisValue a, SisValue b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

int
sis_compare_values(SisValue a, SisValue b)
{
	int			cmp = memcmp(a.data, b.data, Min(a.len, b.len));

	return cmp != 0 ? cmp : a.len - b.len;
}

static int
compare_items(const void *a, const void *b)
{
	return sis_compare_values(*(const SisValue *) a, *(const SisValue *) b);
}

/*
 * Reads the items of an array literal as sis_list_append() writes it: every
 * item in double quotes.
 */
static int
read_items(SisValue list, SisValue *items, int n)
{
	const char *p = list.data;
	const char *end = list.data + list.len;
	char	   *text = palloc(list.len);	/* of all items, one after the other */

	while (p < end)
	{
		char	   *item = text;
		int			len = 0;

		while (p < end && *p != '"')
			p++;
		if (p == end)
			break;
		for (p++; p < end && *p != '"'; p++)
		{
			if (*p == '\\' && p + 1 < end)
				p++;
			item[len++] = *p;
		}
		text += len;
		p++;
		items[n].data = item;
		items[n].len = len;
		n++;
	}
	return n;
}

static int
max_items(SisValue list)
{
	int			n = 1;

	for (int i = 0; i < list.len; i++)
		n += list.data[i] == ',';
	return n;
}

SisValue
sis_list_unite(SisValue a, SisValue b)
{
	SisValue   *items = palloc(sizeof(SisValue) * (max_items(a) + max_items(b)));
	int			n = read_items(b, items, read_items(a, items, 0));
	StringInfoData buf;
	SisValue	list;

	qsort(items, n, sizeof(SisValue), compare_items);
	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && sis_same_value(items[i], items[i - 1]))
			continue;
		sis_list_append(&buf, items[i]);
	}
	appendStringInfoChar(&buf, '}');
	list.data = buf.data;
	list.len = buf.len;
	return list;
}

bool
sis_list_has(SisValue list, SisValue item)
{
	SisValue   *items;
	int			n;

	if (list.data == NULL || item.data == NULL)
		return false;
	items = palloc(sizeof(SisValue) * max_items(list));
	n = read_items(list, items, 0);
	for (int i = 0; i < n; i++)
	{
		if (sis_same_value(items[i], item))
			return true;
	}
	return false;
}

SisValue
sis_list_without(SisValue list, SisValue item)
{
	SisValue   *items = palloc(sizeof(SisValue) * max_items(list));
	int			n = read_items(list, items, 0);
	StringInfoData buf;
	SisValue	rest = {NULL, 0};

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		if (!sis_same_value(items[i], item))
			sis_list_append(&buf, items[i]);
	}
	if (buf.len == 0)
		return rest;
	appendStringInfoChar(&buf, '}');
	rest.data = buf.data;
	rest.len = buf.len;
	return rest;
}

SisValue
sis_list_only(SisValue list)
{
	SisValue	none = {NULL, 0};
	SisValue   *items;

	if (list.data == NULL)
		return none;
	items = palloc(sizeof(SisValue) * max_items(list));
	return read_items(list, items, 0) == 1 ? items[0] : none;
}
