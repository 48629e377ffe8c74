/*
 * directory.h
 *		The files of a folder on the database host, as bytes.
 */
#ifndef SIS_DIRECTORY_H
#define SIS_DIRECTORY_H

#include "base/bytes.h"
#include "base/error.h"
#include "pgtime.h"

typedef struct SisDirectoryFile
{
	char	   *name;			/* as it stands in the folder */
	bool		is_link;		/* symbolic; cannot be opened */
	int64		size;
	pg_time_t	mtime;			/* seconds, and nanoseconds beyond them */
	int64		mtime_nsec;
} SisDirectoryFile;

typedef struct SisDirectory
{
	char	   *path;			/* of the folder */
	int			nfiles;
	SisDirectoryFile *files;	/* in byte order of their names */
} SisDirectory;

typedef struct SisFileReader SisFileReader;

/*
 * Lists the *.csv and *.zip files (in any case) of a folder, if they are not
 * too many; dotfiles, subfolders and all other files are passed over.  When path
 * is a file itself, the list holds just that.  NULL when it cannot, with the
 * cause in failure.
 * Result in the current memory context.
 */
extern SisDirectory *sis_directory_list(const char *path,
										SisFailure *failure);

/*
 * Opens one of them.  NULL when it cannot, or when it is not the file any
 * more that was listed.  The descriptor is closed with the current memory
 * context, on whatever way out.
 */
extern SisFileReader *sis_directory_open(const SisDirectory *directory,
										 const SisDirectoryFile *file,
										 SisFailure *failure);

/*
 * Reads up to len bytes; 0 at the end, -1 on failure.  A file whose size or
 * time of change is at its end not what was listed is a failure.  The
 * argument is the SisFileReader, so that this serves as a callback.
 */
extern int	sis_directory_read(void *reader, char *buf, int len);

/* The same file for reading anywhere, and held to the same. */
extern SisBlob sis_directory_blob(SisFileReader *reader);

#endif
