/*
 * jsonmap.c
 *		How the values of a JSON record fill the columns of a record type.
 */
#include "postgres.h"

#include "base/value.h"
#include "utils/json.h"

#include "provider/jsonmap.h"

/* Of a number that is kept in "extra": see fits_numeric(). */
#define MAX_NUMBER		1000	/* bytes */
#define MIN_EXPONENT	(-10000)

/* A path taken apart: its keys, ended by NULL. */
typedef char **Path;

typedef struct Step
{
	Path		path;
	int			column;
	bool		is_list;		/* the column is a list */
	StringInfo	lower;			/* where it is made lower case, or NULL */
} Step;

typedef struct Extra
{
	const char *key;			/* as in sync.extra_columns */
	Path		path;
} Extra;

struct SisJsonMap
{
	SisRecordType type;
	int			nsteps;
	Step	   *steps;
	int			nroots;
	Path	   *roots;
	int			nextras;
	Extra	   *extras;
	StringInfoData extra;		/* the JSON of the column "extra" */
	StringInfoData word;
};

/* ----------
 * Preparing
 * ----------
 */

static Path
make_path(const char *text)
{
	int			nkeys = 1;
	Path		path;

	for (const char *p = text; *p != '\0'; p++)
		nkeys += *p == '.';
	path = palloc(sizeof(char *) * (nkeys + 1));
	for (int i = 0; i < nkeys; i++)
	{
		size_t		len = strcspn(text, ".");

		path[i] = pnstrdup(text, len);
		text += len + (text[len] == '.');
	}
	path[nkeys] = NULL;
	return path;
}

/* Keys that say when a record changed, and nothing of its content. */
static bool
is_lifecycle_name(const char *key)
{
	static const char *const names[] = {
		"created", "last_modified", "status", "dateLastModified"
	};
	const char *dot = strrchr(key, '.');

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		if (strcmp(dot != NULL ? dot + 1 : key, names[i]) == 0)
			return true;
	}
	return false;
}

SisJsonMap *
sis_jsonmap_create(SisRecordType type, int ncolumns,
				   const SisJsonColumn *columns, const char *const *roots,
				   const SisWants *wants)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	SisJsonMap *map = palloc0(sizeof(SisJsonMap));

	map->type = type;
	map->nsteps = ncolumns;
	map->steps = palloc0(sizeof(Step) * ncolumns);
	for (int i = 0; i < ncolumns; i++)
	{
		Step	   *step = &map->steps[i];

		step->path = make_path(columns[i].path);
		step->column = sis_record_column(type, columns[i].column);
		step->is_list = desc->columns[step->column].kind == SIS_KIND_LIST;
		step->lower = columns[i].lower ? makeStringInfo() : NULL;
	}

	while (roots != NULL && roots[map->nroots] != NULL)
		map->nroots++;
	map->roots = palloc(sizeof(Path) * Max(map->nroots, 1));
	for (int i = 0; i < map->nroots; i++)
		map->roots[i] = make_path(roots[i]);

	map->extras = palloc(sizeof(Extra) * Max(wants->nextra_columns, 1));
	for (int i = 0; i < wants->nextra_columns; i++)
	{
		const char *key = wants->extra_columns[i];

		if (sis_is_password_name(key) || is_lifecycle_name(key))
			continue;
		map->extras[map->nextras].key = key;
		map->extras[map->nextras++].path = make_path(key);
	}
	initStringInfo(&map->extra);
	initStringInfo(&map->word);
	return map;
}

/* ----------
 * Columns
 * ----------
 */

static void
fill_value(SisRecord *record, const Step *step, SisValue value)
{
	if (!step->is_list && record->values[step->column].data != NULL)
		return;
	if (step->lower != NULL)
	{
		resetStringInfo(step->lower);
		for (int i = 0; i < value.len; i++)
			appendStringInfoCharMacro(step->lower,
									  pg_ascii_tolower((unsigned char) value.data[i]));
		value.data = step->lower->data;
	}
	if (step->is_list)
		sis_record_add(record, step->column, value.data, value.len);
	else
		sis_record_set(record, step->column, value.data, value.len);
}

/* Fills a column with what stands on the path from a node on. */
static void
follow(SisRecord *record, const Step *step, const SisJsonNode *node,
	   Path path)
{
	if (sis_json_kind(node) == SIS_JSON_ARRAY)
	{
		int			n = sis_json_length(node);

		for (int i = 0; i < n; i++)
			follow(record, step, sis_json_item(node, i), path);
	}
	else if (*path != NULL)
	{
		const SisJsonNode *member = sis_json_member(node, *path);

		if (member != NULL)
			follow(record, step, member, path + 1);
	}
	else
	{
		SisValue	value = sis_json_value(node);

		if (value.len > 0)
			fill_value(record, step, value);
	}
}

/* ----------
 * "extra"
 * ----------
 */

static const SisJsonNode *
find_node(const SisJsonNode *node, Path path)
{
	for (; node != NULL && *path != NULL; path++)
		node = sis_json_member(node, *path);
	return node;
}

/*
 * Does numeric, and jsonb with it, take a number?  It holds 16,383 digits
 * behind the point: 1e-99999 is JSON, and the cast of it an error.  What is
 * too large for a double the reader has refused.
 */
static bool
fits_numeric(SisValue number)
{
	const char *e = strpbrk(number.data, "eE");

	return number.len <= MAX_NUMBER &&
		(e == NULL || strtol(e + 1, NULL, 10) >= MIN_EXPONENT);
}

/* A value that may be kept as it came: single, or a list of single ones. */
static bool
is_plain(const SisJsonNode *node)
{
	SisJsonKind kind = sis_json_kind(node);
	int			n = sis_json_length(node);

	if (kind == SIS_JSON_NULL || kind == SIS_JSON_OBJECT)
		return false;
	if (kind == SIS_JSON_NUMBER && !fits_numeric(sis_json_value(node)))
		return false;
	if (kind == SIS_JSON_STRING)
		return sis_json_value(node).len > 0;
	for (int i = 0; i < n; i++)
	{
		const SisJsonNode *item = sis_json_item(node, i);

		if (sis_json_kind(item) == SIS_JSON_OBJECT ||
			sis_json_kind(item) == SIS_JSON_ARRAY ||
			(sis_json_kind(item) == SIS_JSON_NUMBER &&
			 !fits_numeric(sis_json_value(item))))
			return false;
	}
	return kind != SIS_JSON_ARRAY || n > 0;
}

static const SisJsonNode *
find_extra(const SisJsonMap *map, const SisJsonNode *node, Path path)
{
	const SisJsonNode *found = find_node(node, path);

	for (int i = 0; i < map->nroots && !is_plain(found); i++)
		found = find_node(find_node(node, map->roots[i]), path);
	return is_plain(found) ? found : NULL;
}

static void
fill_extra(SisJsonMap *map, SisRecord *record, const SisJsonNode *node)
{
	StringInfo	buf = &map->extra;

	resetStringInfo(buf);
	for (int i = 0; i < map->nextras; i++)
	{
		const SisJsonNode *found = find_extra(map, node, map->extras[i].path);

		if (found == NULL)
			continue;
		appendStringInfoString(buf, buf->len == 0 ? "{" : ", ");
		escape_json(buf, map->extras[i].key);
		appendStringInfoString(buf, ": ");
		appendStringInfoString(buf, sis_json_text(found));
	}
	if (buf->len == 0)
		return;
	appendStringInfoChar(buf, '}');
	sis_record_set(record, sis_record_desc(map->type)->ncolumns - 1,
				   buf->data, buf->len);
}

void
sis_jsonmap_fill(SisJsonMap *map, SisRecord *record, const SisJsonNode *node,
				 const char *source, int64 line)
{
	sis_record_reset(record, map->type, source, line);
	for (int i = 0; i < map->nsteps; i++)
		follow(record, &map->steps[i], node, map->steps[i].path);
	if (map->nextras > 0)
		fill_extra(map, record, node);
}

SisValue
sis_json_find(const SisJsonNode *node, const char *path)
{
	SisValue	value;

	while (node != NULL && *path != '\0')
	{
		char		key[64];
		size_t		len = strcspn(path, ".");

		while (sis_json_kind(node) == SIS_JSON_ARRAY)
			node = sis_json_item(node, 0);
		if (len >= sizeof(key))
			elog(ERROR, "key \"%s\" is too long", path);
		memcpy(key, path, len);
		key[len] = '\0';
		node = sis_json_member(node, key);
		path += len + (path[len] == '.');
	}
	value = sis_json_value(node);
	return sis_trim(value.data, value.len);
}
