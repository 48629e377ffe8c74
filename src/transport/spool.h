/*
 * spool.h
 *		What was fetched, in memory or in an encrypted temporary file.
 */
#ifndef SIS_SPOOL_H
#define SIS_SPOOL_H

#include "base/bytes.h"

typedef struct SisSpool SisSpool;

/* An empty spool in the current memory context, and gone with it. */
extern SisSpool *sis_spool_create(void);

/*
 * Appends bytes.  Throws when the disk is full (53100) or temp_file_limit is
 * exceeded (53400).  Takes the spool as void so that it serves as a SisWrite.
 */
extern void sis_spool_write(void *spool, const char *data, int len);

extern int64 sis_spool_size(const SisSpool *spool);

/* The bytes written so far; valid as long as the spool, until it is changed. */
extern SisBlob sis_spool_blob(SisSpool *spool);

/* Frees the spool and its file at once. */
extern void sis_spool_free(SisSpool *spool);

#endif
