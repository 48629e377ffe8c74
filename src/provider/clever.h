/*
 * clever.h
 *		What the parts of the Clever provider share.
 */
#ifndef SIS_CLEVER_H
#define SIS_CLEVER_H

#include "format/json.h"
#include "provider/provider.h"

/*
 * The lists of the Data API that a roster is made of.  Users have one list for
 * each role: they are fetched side by side.
 */
typedef enum SisCleverList
{
	SIS_CLEVER_STUDENTS,
	SIS_CLEVER_CONTACTS,
	SIS_CLEVER_SECTIONS,
	SIS_CLEVER_TEACHERS,
	SIS_CLEVER_STAFF,
	SIS_CLEVER_ADMINS,
	SIS_CLEVER_COURSES,
	SIS_CLEVER_TERMS,
	SIS_CLEVER_SCHOOLS
} SisCleverList;

#define SIS_N_CLEVER_LISTS	(SIS_CLEVER_SCHOOLS + 1)

typedef struct SisCleverRecords SisCleverRecords;

/* Prepares what turns list items into records, in the current memory context. */
extern SisCleverRecords *sis_clever_records_create(const SisWants *wants);

/* Puts the records of one item of a list, whose name is source. */
extern void sis_clever_put(SisCleverRecords *records, SisCleverList list,
						   const SisJsonNode *item, SisSink *sink,
						   const char *source, int64 line);

/* Rejects an item; id's data is NULL when it cannot be read. */
extern void sis_clever_reject(SisCleverList list, SisValue id, SisSink *sink,
							  const char *source, int64 line,
							  const char *reason);

/* The node of an item's ID. */
extern const SisJsonNode *sis_clever_id(const SisJsonNode *item);

/* A time as Clever writes it, "2026-09-11T07:10:44.512Z"; 0: it is none. */
extern TimestampTz sis_clever_time(const char *text);

#endif
