/*
 * value.h
 *		Reading dates, booleans and words as schools write them.
 */
#ifndef SIS_VALUE_H
#define SIS_VALUE_H

#include "base/record.h"

#define SIS_DATE_LEN	10		/* "2011-02-09" */

/*
 * Reads YYYY-MM-DD (a time of day behind it is ignored) or M/D/YYYY, never
 * day-first; a two-digit year is the latest one that makes the date not lie
 * after this_year (birth dates) or, where future is true, within fifty years
 * of it.  Writes ISO form.  False when it is no date of the calendar.
 */
extern bool sis_read_date(SisValue text, int this_year, bool future,
						  char out[SIS_DATE_LEN + 1]);

/* True when a value is that word, in any case; false for NULL data. */
extern bool sis_value_is(SisValue text, const char *word);

/* true/false, t/f, yes/no, y/n, 1/0 in any case.  False when none of them. */
extern bool sis_read_boolean(SisValue text, bool *out);

/*
 * Is a column or key called something like a password?  Such a one is never
 * read, whoever names it.
 */
extern bool sis_is_password_name(const char *name);

/* Replaces control characters by "?", in place; line feeds may stay. */
extern void sis_hide_controls(char *text, int len, bool keep_lines);

/* A text of any length without them, in the current memory context. */
extern char *sis_one_line(const char *text);

/*
 * An ID from a source, fit to stand in an error: control characters become
 * "?", and it is cut after a hundred bytes.  In the current memory context.
 */
extern char *sis_printable(const char *id);

#endif
