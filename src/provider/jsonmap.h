/*
 * jsonmap.h
 *		How the values of a JSON record fill the columns of a record type.
 *
 * A map is written down as a table of paths and columns, and prepared once
 * for each pull.
 */
#ifndef SIS_JSONMAP_H
#define SIS_JSONMAP_H

#include "format/json.h"
#include "provider/provider.h"

typedef struct SisJsonColumn
{
	/*
	 * Keys from the record inwards, separated by ".": "name.first".  On its
	 * way through an array a path goes through each item: "orgs.sourcedId".
	 */
	const char *path;

	/*
	 * The column it fills.  Of several paths to one column the first with a
	 * value wins; a list takes the values of all.
	 */
	const char *column;
	bool		lower;			/* kept in lower case */
} SisJsonColumn;

typedef struct SisJsonMap SisJsonMap;

/*
 * Prepares a map, in the current memory context.  What sync.extra_columns
 * names is looked for, as a path, in the record, then under each of the paths
 * in "roots" (ended by NULL; or NULL): "roles.student".  Only single values
 * and lists of them are kept, nothing that is called a
 * password, and none of the keys that say when a record changed.
 */
extern SisJsonMap *sis_jsonmap_create(SisRecordType type, int ncolumns,
									  const SisJsonColumn *columns,
									  const char *const *roots,
									  const SisWants *wants);

/*
 * Begins a record of the map's type, and fills it.  Its values are those of
 * the node: it is to be put before the node goes.
 */
extern void sis_jsonmap_fill(SisJsonMap *map, SisRecord *record,
							 const SisJsonNode *node,
							 const char *source, int64 line);

/* The first single value on a path from a node on, trimmed. */
extern SisValue sis_json_find(const SisJsonNode *node, const char *path);

#endif
