/*
 * fileset.h
 *		The CSV files of a set, wherever they are: loose in a folder or packed
 *		in a zip file, on the database host or fetched by SFTP.
 */
#ifndef SIS_FILESET_H
#define SIS_FILESET_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/source.h"
#include "pgtime.h"

typedef struct SisSetFile
{
	const char *name;			/* base name, as it is written there */
	int64		size;			/* in bytes, unpacked */
	pg_time_t	mtime;			/* of the file, or of the zip it is in */
	int			index;			/* where it is; for fileset.c */
} SisSetFile;

typedef struct SisFileSet
{
	const char *place;			/* for messages: folder "/srv/sis" */
	int			nfiles;
	SisSetFile *files;
	struct SisDirectory *directory; /* where they are; for fileset.c */
	struct SisRemoteSet *remote;
	struct SisZip *zip;
} SisFileSet;

typedef struct SisSetReader
{
	SisRead		read;
	void	   *arg;
} SisSetReader;

/*
 * Finds the files of a source of sis_directory, and fetches those of one of
 * sis_sftp; of loose files those that may be read, which alone can be opened
 * then.  NULL when it cannot, with the cause in failure.  Result in the current
 * memory context, handles included.
 */
extern SisFileSet *sis_fileset_fetch(const SisSource *source,
									 bool (*may_be_read) (const char *name),
									 SisFailure *failure);

/*
 * Opens a file of the set, as often as wanted.  False when it cannot, or when
 * it is not any more what was found, with the cause in failure.  What is
 * opened is closed with the current memory context.
 */
extern bool sis_fileset_open(const SisFileSet *set, const SisSetFile *file,
							 SisSetReader *reader, SisFailure *failure);

#endif
