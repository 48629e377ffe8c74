/*
 * record.h
 *		The nine record types and their columns, and the values of one record.
 *
 * The columns of a record type are written down once, in record.c.  Roster
 * tables, staging tables, statements and providers all work from there.
 */
#ifndef SIS_RECORD_H
#define SIS_RECORD_H

#include "lib/stringinfo.h"

/* In the order in which they are created: an end stands before its links. */
typedef enum SisRecordType
{
	SIS_SCHOOL,
	SIS_TERM,
	SIS_COURSE,
	SIS_SECTION,
	SIS_STUDENT,
	SIS_STAFF,
	SIS_CONTACT,
	SIS_STUDENT_CONTACT,
	SIS_ENROLLMENT
} SisRecordType;

#define SIS_N_RECORD_TYPES	(SIS_ENROLLMENT + 1)
#define SIS_TYPE_BIT(type)	(1 << (type))
#define SIS_MAX_COLUMNS		24

/* Longer values, and longer lists, are a mistake of the source; and IDs that
 * long do not fit an index. */
#define SIS_MAX_VALUE_BYTES	2000
#define SIS_MAX_ITEMS		500
#define SIS_COLUMN_BIT(column)	(UINT64CONST(1) << (column))

/* Changed whenever a fingerprint of an unchanged record would change. */
#define SIS_FINGERPRINT_VERSION	1

typedef enum SisColumnKind
{
	SIS_KIND_TEXT,
	SIS_KIND_DATE,
	SIS_KIND_BOOLEAN,
	SIS_KIND_LIST,				/* text[] */
	SIS_KIND_JSONB
} SisColumnKind;

typedef struct SisColumn
{
	const char *name;			/* of the column, in staging and roster */
	SisColumnKind kind;
} SisColumn;

typedef struct SisRecordDesc
{
	const char *name;			/* of the type, and of its tables */
	bool		has_school_guard;	/* design, rule 1: checked in each school */
	bool		is_link;		/* joins two records; goes with either end */
	bool		governed;		/* deletion_threshold applies (rule 1) */
	int			ncolumns;		/* source_id and sis_id first, extra last */
	const SisColumn *columns;
} SisRecordDesc;

/* Columns that every type has, at the same place in each. */
#define SIS_COL_SOURCE_ID	0
#define SIS_COL_SIS_ID		1

extern const SisRecordDesc *sis_record_desc(SisRecordType type);

/* The index of a column of a type; elog(ERROR) when there is no such column. */
extern int	sis_record_column(SisRecordType type, const char *name);

/* The SQL type of a kind: "text", "date", "boolean", "text[]", "jsonb". */
extern const char *sis_kind_sql(SisColumnKind kind);

/* The type of that name; false when there is none. */
extern bool sis_record_type_by_name(const char *name, SisRecordType *type);

/* ----------
 * One record on its way from a provider into a staging table.
 *
 * Values are not copied: what is set must stay valid until the record has
 * been put.  A value is trimmed; blank is NULL.  Lists are collected item by
 * item (text and text[] both accept an item; a text column keeps the first).
 * ----------
 */
typedef struct SisValue
{
	const char *data;			/* UTF-8, not terminated; NULL: no value */
	int			len;
} SisValue;

/* Which part of a record a row brings, where a layout spreads it. */
#define SIS_PART_BASE	1		/* the record itself */
#define SIS_PART_ROLE	2		/* a role of the person (OneRoster 1.2 roles) */
#define SIS_PART_EXTRA	4		/* more columns for it (demographics) */
#define SIS_PART_MAYBE	5		/* a link, if its ends are what it takes them
								 * for (changes of a user whose role is not
								 * among them) */

typedef struct SisRecord
{
	SisRecordType type;
	const char *source;			/* file or collection it came from */
	int64		line;			/* first line of its row, from 1 */
	int			part;			/* SIS_PART_* */
	bool		deleted;		/* status tobedeleted or inactive */
	bool		repeats;		/* the layout repeats rows of one ID: fold */
	uint64		keep;			/* columns the source has no word on: the
								 * stored value stays (SIS_COLUMN_BIT) */
	uint64		too_long;		/* columns whose list is beyond the limits */
	SisValue	last_modified;	/* dateLastModified as received */
	int			nitems[SIS_MAX_COLUMNS];
	SisValue	values[SIS_MAX_COLUMNS];
	StringInfoData lists[SIS_MAX_COLUMNS];	/* array literals being built */
} SisRecord;

/* Makes a record whose buffers live in the current memory context. */
extern SisRecord *sis_record_create(void);

/* Empties it for the next row of that type. */
extern void sis_record_reset(SisRecord *record, SisRecordType type,
							 const char *source, int64 line);

/* Appends an item to a list column; an item already there is not repeated. */
extern void sis_record_add(SisRecord *record, int column,
						   const char *data, int len);

/* Appends an item to an array literal that lacks its closing brace. */
extern void sis_list_append(StringInfo list, SisValue item);

/* Ends the lists: the values of list columns become array literals. */
extern void sis_record_finish(SisRecord *record);

/*
 * An ID made from what the record joins or names (never from row order):
 * the parts joined by "/", with "/" and "\" in a part escaped by "\", so
 * that different parts never make the same ID.  A part with NULL data counts
 * as empty.  The result points into buf, which is reset first.
 */
extern SisValue sis_made_id(StringInfo buf, const SisValue *parts, int nparts);

/* sis_trim() of what begins or ends with something that may be white space. */
extern SisValue sis_trim_ends(const char *data, int len);

/* Trims white space (ASCII, and the no-break space) off both ends. */
static inline SisValue
sis_trim(const char *data, int len)
{
	SisValue	value = {data, len};

	/* neither ASCII white space nor a part of a longer character */
	if (len > 0 && (signed char) data[0] > ' ' &&
		(signed char) data[len - 1] > ' ')
		return value;
	return sis_trim_ends(data, len);
}

/* Sets a text, date or boolean column (date and boolean as received). */
static inline void
sis_record_set(SisRecord *record, int column, const char *data, int len)
{
	record->values[column] = sis_trim(data, len);
}

#endif
