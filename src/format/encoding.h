/*
 * encoding.h
 *		Is a text UTF-8?  Told by the whole of it.
 */
#ifndef SIS_ENCODING_H
#define SIS_ENCODING_H

#include "base/bytes.h"

typedef struct SisEncodingLook
{
	int64		characters;		/* of several bytes, valid in UTF-8 */
	int64		strays;			/* bytes over 127 that belong to none */
} SisEncodingLook;

/*
 * Reads a text to its end and counts.  False when a read failed (the reader
 * knows why).
 */
extern bool sis_encoding_look(SisRead read, void *arg, SisEncodingLook *look);

/*
 * Does a text hold characters that make sense as UTF-8 only?  Read as
 * WIN1252 they would be such as "Ã©" and "â€™", which nobody writes.
 */
extern bool sis_has_utf8(const char *data, int len);

#endif
