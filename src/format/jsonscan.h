/*
 * jsonscan.h
 *		Where a JSON value ends, and whether its bytes are sound; for json.c.
 */
#ifndef SIS_JSONSCAN_H
#define SIS_JSONSCAN_H

#include "format/json.h"

/* stands for what could not be read (U+FFFD); json-c writes it itself */
#define SIS_JSON_REPLACEMENT	"\xEF\xBF\xBD"

/* How far the scanner is in a value; all zero before it. */
typedef struct SisJsonScan
{
	bool		begun;
	bool		is_scalar;		/* no string and no brackets: ends at what
								 * cannot belong to it */
	bool		in_string;
	bool		in_escape;
	bool		has_escape_u;	/* \u was seen */
	int			depth;
	int			ncolons;		/* outside of strings: keys */
	bool		in_number;
	bool		is_zero;		/* so far it is a zero, or a minus and one */
	bool		at_point;		/* its point was the last byte */
	bool		bad_number;		/* one was seen that is none in JSON */
} SisJsonScan;

static inline bool
sis_json_is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/*
 * Looks for the end of the value under way.  Returns how many of the bytes
 * belong to it; *done says whether it has ended.  Numbers are looked at on the
 * way: json-c takes "1." and "01.5", which jsonb would not.
 */
extern int	sis_json_scan(SisJsonScan *scan, const char *data, int len,
						  bool *done);

/*
 * Is a whole value sound, byte by byte?  If not, *value becomes a copy in
 * clean that json-c can be given, with what is bad replaced.
 */
extern SisJsonProblem sis_json_check(const SisJsonScan *scan, SisValue *value,
									 StringInfo clean);

#endif
