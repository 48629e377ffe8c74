/*
 * textlist.h
 *		Lists of texts as array literals, as sis_list_append() writes them:
 *		every item in double quotes.  Results are in the current memory context.
 */
#ifndef SIS_TEXTLIST_H
#define SIS_TEXTLIST_H

#include "base/record.h"

extern bool sis_same_value(SisValue a, SisValue b);

/* By bytes: < 0, 0 or > 0. */
extern int	sis_compare_values(SisValue a, SisValue b);

/* The items of both, sorted, each once. */
extern SisValue sis_list_unite(SisValue a, SisValue b);

/* False for a list or an item without data. */
extern bool sis_list_has(SisValue list, SisValue item);

/* The list without an item; data NULL when nothing is left. */
extern SisValue sis_list_without(SisValue list, SisValue item);

/* The item of a list of one; data NULL for any other list. */
extern SisValue sis_list_only(SisValue list);

#endif
