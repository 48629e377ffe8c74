/*
 * json.h
 *		One page of JSON, as bytes that come in pieces, to one record at a time.
 *
 * A page is an object with an array of records in it and small members beside
 * the array:  {"users": [{…}, {…}], "links": […]}.  The page is never held
 * whole: each record is parsed when its last byte has come, and forgotten with
 * the next call.  Knows neither SQL nor the network.
 *
 * A record that nobody can trust (bad bytes, a zero byte, a key that stands
 * twice) is delivered with its problem; text that is no JSON, or not of the
 * shape above, ends the page.
 */
#ifndef SIS_JSON_H
#define SIS_JSON_H

#include "base/record.h"

typedef struct SisJson SisJson;

/* A value in a record or beside the array; belongs to the reader. */
typedef struct SisJsonNode SisJsonNode;

#define SIS_JSON_MAX_DEPTH	32
#define SIS_JSON_MAX_VALUE	(1024 * 1024)	/* bytes of one record, or of one
											 * member beside: a section of
											 * 35,000 students */
#define SIS_JSON_MAX_RECORDS	1000000	/* of one page */
#define SIS_JSON_MAX_BESIDE	16		/* members beside the array */

typedef enum SisJsonResult
{
	SIS_JSON_RECORD,			/* sis_json_record() and its problem are set */
	SIS_JSON_MORE,				/* it has taken all bytes: feed it more */
	SIS_JSON_END,				/* the page is complete */
	SIS_JSON_FAILED				/* the page cannot be read: problem */
} SisJsonResult;

typedef enum SisJsonProblem
{
	SIS_JSON_OK,
	/* of a record */
	SIS_JSON_BAD_BYTES,			/* not UTF-8, or half a surrogate pair */
	SIS_JSON_NUL,				/* a zero byte, also as \u0000 */
	SIS_JSON_DOUBLE_KEY,		/* a key stands twice in an object */
	/* of the page */
	SIS_JSON_SYNTAX,			/* no JSON, at sis_json_offset() */
	SIS_JSON_HTML,				/* a web page */
	SIS_JSON_CUT,				/* the bytes end inside the object */
	SIS_JSON_SHAPE,				/* JSON, but no object with that array */
	SIS_JSON_TOO_DEEP,
	SIS_JSON_TOO_LONG,			/* a value beyond SIS_JSON_MAX_VALUE */
	SIS_JSON_TOO_MANY			/* records or members beside */
} SisJsonProblem;

typedef enum SisJsonKind
{
	SIS_JSON_NULL,				/* also: not there */
	SIS_JSON_BOOLEAN,
	SIS_JSON_NUMBER,
	SIS_JSON_STRING,
	SIS_JSON_ARRAY,
	SIS_JSON_OBJECT
} SisJsonKind;

/*
 * A reader for any number of pages, one after the other.  All memory, json-c's
 * included, goes with the current memory context.
 */
extern SisJson *sis_json_create(void);

/*
 * Begins a page whose records stand in the member "array"; NULL: it has none,
 * and all its members are "beside".
 */
extern void sis_json_begin(SisJson *json, const char *array);

/*
 * For a first look at the page begun: its records are counted, not delivered,
 * so that what stands behind them is known soon.
 */
extern void sis_json_skim(SisJson *json);

/*
 * Hands over the next bytes.  They must stay where they are until
 * sis_json_next() has returned MORE (or END or FAILED).
 */
extern void sis_json_feed(SisJson *json, const char *data, int len);

/* Says that there are no more bytes; sis_json_next() never returns MORE then. */
extern void sis_json_finish(SisJson *json);

extern SisJsonResult sis_json_next(SisJson *json);

/* The record; never NULL, but perhaps no object.  Valid until the next call. */
extern const SisJsonNode *sis_json_record(const SisJson *json);

/* What is wrong with the record, or with the page. */
extern SisJsonProblem sis_json_problem(const SisJson *json);

/* The problem in words: lower case, no full stop. */
extern const char *sis_json_problem_text(SisJsonProblem problem);

/*
 * A value of the current record as an ID, also where the record has a problem;
 * data NULL when it is none, or cannot be trusted.
 */
extern SisValue sis_json_id(const SisJson *json, const SisJsonNode *node);

/* Records so far in this page, the current one included. */
extern int64 sis_json_count(const SisJson *json);

/* Bytes of this page that were looked at so far. */
extern int64 sis_json_offset(const SisJson *json);

/*
 * A member beside the array, which may stand behind it: complete at END.  NULL
 * when there is none.  Valid until the next sis_json_begin().
 */
extern const SisJsonNode *sis_json_beside(const SisJson *json,
										  const char *key);

/* ----------
 * Values.  A node may be NULL throughout, and is then a null.
 * ----------
 */

extern SisJsonKind sis_json_kind(const SisJsonNode *node);

/* A member of an object; NULL when there is none, or node is no object. */
extern const SisJsonNode *sis_json_member(const SisJsonNode *node,
										  const char *key);

/* Items of an array; 0 when node is none. */
extern int	sis_json_length(const SisJsonNode *node);
extern const SisJsonNode *sis_json_item(const SisJsonNode *node, int i);

/*
 * A string, number or boolean as text; data NULL for anything else.  Strings
 * are as they were sent, blanks included.  Valid as long as the node.
 */
extern SisValue sis_json_value(const SisJsonNode *node);

/* Any value as JSON text, terminated.  Valid as long as the node. */
extern const char *sis_json_text(const SisJsonNode *node);

#endif
