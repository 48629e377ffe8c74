/*
 * sftp.h
 *		The files of a folder, or a zip file, on an SFTP site.
 */
#ifndef SIS_SFTP_H
#define SIS_SFTP_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/source.h"
#include "pgtime.h"

typedef struct SisRemoteFile
{
	char	   *name;			/* without its folder; printable ASCII */
	int64		size;
	pg_time_t	mtime;
	SisBlob		blob;			/* size -1: not downloaded */
} SisRemoteFile;

typedef struct SisRemoteSet
{
	char	   *place;			/* "host:/path", for messages */
	bool		is_folder;		/* else one zip file */
	int			nfiles;
	SisRemoteFile *files;		/* in byte order of their names */
} SisRemoteSet;

/*
 * Fetches what the source's path, which must be set, names: the zip file, when
 * it ends in ".zip"; else of a folder those *.csv files that may be read, or its
 * *.zip file if it is the only one (in any case).  Other *.csv files are named
 * and not downloaded, and so are all where there are both, or several *.zip
 * files.  Dotfiles, subfolders, all other files, and names with anything but
 * printable ASCII characters are passed over.  Names, sizes and times of change
 * are looked at again afterwards, so that all files are of one moment.
 *
 * NULL on failure.  The result is in the current memory context, its temporary
 * files included.  Takes no snapshot and no transaction ID.
 */
extern SisRemoteSet *sis_sftp_fetch(const SisSource *source,
									bool (*may_be_read) (const char *name),
									SisFailure *failure);

#endif
