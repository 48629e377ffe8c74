/*
 * csvset.h
 *		What the parts of the CSV-set provider share: how a layout describes
 *		its files, and how rows become records.
 *
 * A layout (csv_oneroster.c, csv_clever.c) is a list of files, in the order
 * in which they are read.  A file is a matrix: its columns downwards, the
 * record types that its rows feed across.  What a matrix cannot say is done by
 * the file's functions.  csv_header.c works out what a file's header decides,
 * csv_table.c turns its rows into records; csvset.c finds the files of a set
 * and drives them one after the other.
 */
#ifndef SIS_CSVSET_H
#define SIS_CSVSET_H

#include "nodes/pg_list.h"

#include "format/csv.h"
#include "provider/provider.h"

#define SIS_CSV_MAX_TYPES	4

/* SisCsvColumn.flags */
#define SIS_CSV_REQUIRED	1	/* without it the file cannot be read */
#define SIS_CSV_ONE_OF		2	/* one of the columns so marked is required */
#define SIS_CSV_SPLIT		4	/* several values, separated by commas */
#define SIS_CSV_LOWER		8	/* kept in lower case */
#define SIS_CSV_STATUS		16	/* tobedeleted or inactive: deleted */
#define SIS_CSV_MODIFIED	32	/* dateLastModified */
#define SIS_CSV_NAMES		64	/* a row feeds the types beyond nprimary only
								 * where such a column of theirs has a value */

typedef struct SisCsvColumn
{
	/*
	 * The header as the layout writes it, then "|" and what else it is called
	 * in the wild: the first one that is there is taken.
	 */
	const char *header;
	int			flags;

	/*
	 * For each type of the file, the columns it fills, separated by spaces.
	 * Of several headers that fill one column, the first with a value wins.
	 * With a "*" before it, a column is filled by the file's row function.
	 */
	const char *to[SIS_CSV_MAX_TYPES];
} SisCsvColumn;

typedef struct SisCsvTable SisCsvTable;

typedef struct SisCsvFile
{
	const char *name;			/* "users.csv" */
	bool		required;		/* no set is complete without it */
	bool		demographics;	/* read only when the sync wants them */
	int			part;			/* SIS_PART_*: only BASE offers a type */

	/*
	 * What its rows feed.  A row is a record of one or more of the first
	 * nprimary types, with that row's ID; the other types are named by it
	 * beside (the terms of Clever's sections.csv).
	 */
	int			nprimary;
	int			ntypes;
	SisRecordType types[SIS_CSV_MAX_TYPES];

	int			ncolumns;
	const SisCsvColumn *columns;	/* the row's ID stands in the first */

	/* All may be NULL. */

	/* Called once when the header is known: may change the plans' keep. */
	void		(*begin) (SisCsvTable *table);

	/*
	 * The primary types that a row belongs to, as SIS_TYPE_BITs; several when
	 * that cannot be told.  Called for defective rows too: it looks at them
	 * by sis_csv_readable().  NULL: all of them.
	 */
	int			(*types_of) (SisCsvTable *table);

	/* The ID of a row, where it is made; false when it cannot be read. */
	bool		(*id_of) (SisCsvTable *table, SisValue *id);

	/* Puts the records of a sound row.  NULL: one of the first type. */
	void		(*row) (SisCsvTable *table);
} SisCsvFile;

typedef struct SisCsvLayout
{
	const char *name;			/* as in the server's option */
	bool		loose_headers;	/* "_", "-" and " " are the same */
	int			nfiles;
	const SisCsvFile *files;
	void	   *(*start) (SisSink *sink);	/* what it keeps through a set */
	void		(*finish) (void *state, SisSink *sink);
} SisCsvLayout;

extern const SisCsvLayout sis_csv_oneroster_v1p1;
extern const SisCsvLayout sis_csv_oneroster_v1p2;
extern const SisCsvLayout sis_csv_clever;

/* ----------
 * csv_header.c and csv_table.c: one file
 * ----------
 */

/* One field that goes into one column. */
typedef struct SisCsvStep
{
	int			field;
	int			column;
	bool		list;			/* the column is a list */
	bool		split;
	StringInfo	lower;			/* where it is made lower case, or NULL */
} SisCsvStep;

/* How a row becomes a record of one type. */
typedef struct SisCsvPlan
{
	uint64		keep;			/* columns that the file has no word on */
	int			nsteps;
	SisCsvStep *steps;
	int			nnames;
	int		   *names;			/* fields of the SIS_CSV_NAMES columns */
} SisCsvPlan;

typedef struct SisCsvExtra
{
	int			field;
	const char *key;			/* as in sync.extra_columns */
} SisCsvExtra;

struct SisCsvTable
{
	const SisCsvFile *file;
	const char *source;			/* name of the file as it is in the folder */
	SisSink    *sink;
	SisCsv	   *csv;
	void	   *state;			/* the layout's */
	int			encoding;
	int64		bad_bytes;		/* rows that are not in it; counted */
	bool		loose_headers;
	bool		delta;			/* holds changes only */

	/* The header. */
	int			nheader;
	int		   *field_of;		/* by column of the file, -1: not there */
	int			status_field;	/* -1: none */
	int			modified_field;
	SisCsvPlan	plans[SIS_CSV_MAX_TYPES];
	int			nextras;
	SisCsvExtra *extras;

	/* The row. */
	const SisCsvField *fields;
	int64		line;
	bool		sound;
	bool		aligned;		/* fields stand under their headers */
	bool		deleted;
	bool		extra_made;		/* extra holds this row's */
	int			types;			/* primary types it belongs to */
	int			beside;			/* further types it names records of */

	SisRecord  *record;			/* the one that is filled again and again */
	StringInfoData extra;		/* JSON of the columns to keep */
	StringInfoData json;		/* JSON of a rejected row */
	StringInfoData word;
	StringInfoData reason;
};

/*
 * Reads a whole file into the sink.  The caller has set file, source, sink,
 * csv, state, record, encoding, loose_headers and delta; the rest is zero.  False
 * when it failed, with the cause in sink->failure.
 */
extern bool sis_csv_table_read(SisCsvTable *table);

/*
 * Writes down, in words, why the CSV text as a whole cannot be read.  Always
 * false.
 */
extern bool sis_csv_fail(const SisCsv *csv, const char *source,
						 SisFailure *failure);

/* Reads the header, and works out all that it decides; for csv_table.c. */
extern bool sis_csv_header_read(SisCsvTable *table);

/* The length of the first of the names in SisCsvColumn.header. */
static inline int
sis_csv_name_length(const char *names)
{
	return (int) strcspn(names, "|");
}

/* The place of a type among the file's; -1 when it is not there. */
extern int	sis_csv_type_index(const SisCsvFile *file, SisRecordType type);

/* True when the header has that column of the file. */
static inline bool
sis_csv_has(const SisCsvTable *table, int column)
{
	return table->field_of[column] >= 0;
}

/* The value of a column of a sound row, trimmed; data NULL: blank or absent. */
static inline SisValue
sis_csv_value(const SisCsvTable *table, int column)
{
	int			field = table->field_of[column];
	SisValue	value = {NULL, 0};

	if (field >= 0 && table->fields[field].len > 0)
	{
		value.data = table->fields[field].data;
		value.len = table->fields[field].len;
	}
	return value;
}

/* The same of any row; false when the value cannot be told. */
extern bool sis_csv_readable(const SisCsvTable *table, int column,
							 SisValue *value);

/*
 * Begins a record of the file's type of that index, and fills it by the
 * matrix.  It is table->record; sis_csv_put() hands it on.
 */
extern SisRecord *sis_csv_begin(SisCsvTable *table, int type_index);
extern void sis_csv_put(SisCsvTable *table);

/*
 * Rejects the row as one of these types, and with it what it names besides;
 * column is the file's, or -1.
 */
extern void sis_csv_reject(SisCsvTable *table, int types, int column,
						   const char *reason);

#endif
