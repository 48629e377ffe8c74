/*
 * textlist.c
 *		Lists of texts as array literals, compared and changed in place of
 *		their arrays.
 */
#include "postgres.h"

#include "base/textlist.h"

#define NO_VALUE	((SisValue) {NULL, 0})

bool
sis_same_value(SisValue a, SisValue b)
{
	/* no value, which has no data, is the same as no value */
	return a.len == b.len &&
		(a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int
sis_compare_values(SisValue a, SisValue b)
{
	int			len = Min(a.len, b.len);
	int			cmp = len > 0 ? memcmp(a.data, b.data, len) : 0;

	return cmp != 0 ? cmp : a.len - b.len;
}

static int
compare_items(const void *a, const void *b)
{
	return sis_compare_values(*(const SisValue *) a, *(const SisValue *) b);
}

/* The items of lists; to be freed with free_items(). */
typedef struct Items
{
	int			n;
	SisValue   *items;
	char	   *text;			/* of all items, one after the other */
} Items;

/*
 * Adds the items of an array literal as sis_list_append() writes it: every
 * item in double quotes.
 */
static void
add_items(Items *to, SisValue list, char *text)
{
	const char *p = list.data;
	const char *end;

	if (list.data == NULL)
		return;
	end = p + list.len;
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
		to->items[to->n].data = item;
		to->items[to->n++].len = len;
	}
}

static int
max_items(SisValue list)
{
	int			n = 1;

	for (int i = 0; i < list.len; i++)
		n += list.data[i] == ',';
	return n;
}

/* Of one list, or of two. */
static Items
read_items(SisValue a, SisValue b)
{
	Items		read = {0};

	read.items = palloc(sizeof(SisValue) * (max_items(a) + max_items(b)));
	read.text = palloc(a.len + b.len);
	add_items(&read, a, read.text);
	add_items(&read, b, read.text + a.len);
	return read;
}

static void
free_items(Items *read)
{
	pfree(read->items);
	pfree(read->text);
}

SisValue
sis_list_unite(SisValue a, SisValue b)
{
	Items		read = read_items(a, b);
	StringInfoData buf;
	SisValue	list;

	qsort(read.items, read.n, sizeof(SisValue), compare_items);
	initStringInfo(&buf);
	for (int i = 0; i < read.n; i++)
	{
		if (i > 0 && sis_same_value(read.items[i], read.items[i - 1]))
			continue;
		sis_list_append(&buf, read.items[i]);
	}
	free_items(&read);
	appendStringInfoChar(&buf, '}');
	list.data = buf.data;
	list.len = buf.len;
	return list;
}

bool
sis_list_has(SisValue list, SisValue item)
{
	Items		read;
	bool		found = false;

	if (list.data == NULL || item.data == NULL)
		return false;
	read = read_items(list, NO_VALUE);
	for (int i = 0; i < read.n && !found; i++)
		found = sis_same_value(read.items[i], item);
	free_items(&read);
	return found;
}

SisValue
sis_list_without(SisValue list, SisValue item)
{
	Items		read = read_items(list, NO_VALUE);
	StringInfoData buf;
	SisValue	rest = NO_VALUE;

	initStringInfo(&buf);
	for (int i = 0; i < read.n; i++)
	{
		if (!sis_same_value(read.items[i], item))
			sis_list_append(&buf, read.items[i]);
	}
	free_items(&read);
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
	Items		read;

	if (list.data == NULL)
		return NO_VALUE;
	read = read_items(list, NO_VALUE);
	/* the item lies in what was read */
	if (read.n == 1)
		return read.items[0];
	free_items(&read);
	return NO_VALUE;
}
