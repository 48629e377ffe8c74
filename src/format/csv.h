/*
 * csv.h
 *		CSV text to rows of strings (RFC 4180, by libcsv), one row at a time.
 *
 * Knows neither SQL nor files: bytes come from a callback.  Memory is bounded
 * by the longest row, never by the file.
 */
#ifndef SIS_CSV_H
#define SIS_CSV_H

#include "base/bytes.h"

typedef struct SisCsv SisCsv;

typedef struct SisCsvField
{
	const char *data;			/* trimmed; valid until the next call */
	int			len;
	bool		quoted;
} SisCsvField;

typedef enum SisCsvResult
{
	SIS_CSV_ROW,				/* a row: fields and line are set */
	SIS_CSV_BAD_ROW,			/* a row that cannot be used: see problem.  Its
								 * fields are set where they could be told
								 * apart (nfields 0: they could not) */
	SIS_CSV_END,				/* no more rows */
	SIS_CSV_FAILED				/* the file as a whole cannot be read: problem */
} SisCsvResult;

typedef enum SisCsvProblem
{
	SIS_CSV_OK,
	/* of a row */
	SIS_CSV_BAD_BYTES,			/* not UTF-8 (or not in the named encoding,
								 * or UTF-8 in a WIN1252 text) */
	SIS_CSV_NUL,				/* a zero byte */
	SIS_CSV_BAD_QUOTE,			/* text beside a quoted field, on one line */
	/* of the file */
	SIS_CSV_UNCLOSED_QUOTE,		/* a quote opened at "line" is never closed, or
								 * is closed in the wrong place lines later */
	SIS_CSV_CUT,				/* the text ends inside the quoted field that
								 * opened in the row at "line" */
	SIS_CSV_TOO_LONG,			/* a row is longer than SIS_CSV_MAX_ROW */
	SIS_CSV_UTF16,				/* the file is UTF-16 or UTF-32 */
	SIS_CSV_HTML,				/* the file is a web page */
	SIS_CSV_READ_ERROR			/* the read callback failed; it knows why */
} SisCsvProblem;

#define SIS_CSV_MAX_ROW		(1024 * 1024)	/* bytes; the widest real row seen
											 * is under 4 kB */

/*
 * Opens a CSV text.  encoding is a PostgreSQL encoding ID: PG_UTF8 or
 * PG_WIN1252.  A UTF-8 byte order mark is skipped, and makes the text UTF-8
 * whatever encoding says.  All memory, libcsv's included, goes with the
 * current memory context.
 */
extern SisCsv *sis_csv_open(SisRead read, void *arg, int encoding);

/* Reads the next row.  Blank and all-blank rows are passed over. */
extern SisCsvResult sis_csv_next(SisCsv *csv);

extern int	sis_csv_nfields(const SisCsv *csv);
extern const SisCsvField *sis_csv_fields(const SisCsv *csv);

/* First line of the current row, from 1 (the header's line is 1). */
extern int64 sis_csv_line(const SisCsv *csv);
extern SisCsvProblem sis_csv_problem(const SisCsv *csv);

/* Did the text end where the current row does, with no line end behind it? */
extern bool sis_csv_ends_here(const SisCsv *csv);

#endif
