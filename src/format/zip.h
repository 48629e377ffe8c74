/*
 * zip.h
 *		The CSV files of a zip file, as bytes.
 *
 * Knows neither SQL nor files: the zip's bytes come from a SisBlob.  Memory is
 * bounded by the number of entries, never by their size.
 */
#ifndef SIS_ZIP_H
#define SIS_ZIP_H

#include "base/bytes.h"
#include "base/error.h"

/* More than the records of the largest districts ask for, by far. */
#define SIS_ZIP_MAX_ENTRIES		10000
#define SIS_ZIP_MAX_FILE		(INT64CONST(16) << 30)	/* bytes, unpacked */
#define SIS_ZIP_MAX_TOTAL		(INT64CONST(64) << 30)

/*
 * Rosters are packed 5:1 to 20:1, the most that deflate can do is 1032:1.
 * Small files may be packed as they like.
 */
#define SIS_ZIP_MAX_RATIO		200
#define SIS_ZIP_RATIO_FROM		(INT64CONST(64) << 20)	/* bytes, unpacked */

typedef struct SisZip SisZip;

typedef struct SisZipEntry
{
	char	   *name;			/* base name, "users.csv"; printable ASCII */
	int64		size;			/* bytes, unpacked, as the directory says */
	int64		mtime;			/* seconds since 1970; in GMT, or where the zip
								 * does not tell, as its writer's clock said */
} SisZipEntry;

/*
 * Reads and judges the directory of a zip file, and what stands before each
 * entry: only what the data themselves hold is not known yet.  place is the
 * file's name for messages.  NULL on failure, with the cause in failure: SI007
 * for a file that is empty or cut short, SI006 for one that is no zip, corrupt,
 * over a limit, or has names, links or encryption that are not accepted, or CSV
 * files in several folders.  May throw what read_at throws.
 *
 * The result lives in the current memory context; blob->arg must outlive it.
 */
extern SisZip *sis_zip_open(const SisBlob *blob, const char *place,
							SisFailure *failure);

/*
 * The *.csv files (in any case) in byte order of their names; two may have the
 * same name.  Dotfiles, __MACOSX and all other files are passed over, and so
 * are names with other than printable ASCII characters.
 */
extern int	sis_zip_nentries(const SisZip *zip);
extern const SisZipEntry *sis_zip_entry(const SisZip *zip, int i);

/*
 * Opens one of them for sis_zip_read(): any number of times, in any order,
 * several at once.  NULL on failure.  All memory, libarchive's included, goes
 * with the current memory context, before which the zip must not go.
 */
extern void *sis_zip_read_open(const SisZip *zip, int i, SisFailure *failure);

/*
 * A SisRead.  Only 0 says that the bytes before it were whole and right; a
 * failure stays one.
 */
extern int	sis_zip_read(void *reader, char *buf, int len);

#endif
