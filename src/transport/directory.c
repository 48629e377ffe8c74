/*
 * directory.c
 *		The files of a folder on the database host, as bytes.
 *
 * The files of a set belong together, and a set is often being replaced while
 * somebody reads it.  So the size and the time of change that the listing saw
 * are what each file is held to, when it is opened and again after its last
 * byte: either the whole set is as listed, or the read fails.
 *
 * A symbolic link is refused.  Whoever may put files into the folder could
 * otherwise have the server open any file of its own.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "transport/directory.h"
#include "transport/filename.h"

struct SisFileReader
{
	const SisDirectoryFile *file;
	SisFailure *failure;
	int			fd;				/* -1: not open */
	int64		nread;
	MemoryContextCallback callback;
};

/* "No such file or directory." */
static char *
system_detail(int errnum)
{
	return psprintf("%s.", strerror(errnum));
}

static void
set_state(SisDirectoryFile *file, const struct stat *st)
{
	file->size = st->st_size;
	file->mtime = st->st_mtime;
#ifdef __APPLE__
	file->mtime_nsec = st->st_mtimespec.tv_nsec;
#else
	file->mtime_nsec = st->st_mtim.tv_nsec;
#endif
}

static void
set_file(SisDirectoryFile *file, const char *name, const struct stat *st)
{
	file->name = pstrdup(name);
	file->is_link = S_ISLNK(st->st_mode);
	set_state(file, st);
}

static bool
is_as_listed(const SisDirectoryFile *listed, const struct stat *st)
{
	SisDirectoryFile now;

	set_state(&now, st);
	return now.size == listed->size && now.mtime == listed->mtime &&
		now.mtime_nsec == listed->mtime_nsec;
}

static bool
fail_changed(SisFailure *failure, const SisDirectoryFile *file)
{
	return sis_fail(failure, SIS_ERR_INCOMPLETE, NULL,
					"Its size or its time of change is not what it was when the folder was listed.",
					"Run the sync again when the upload has ended.",
					"file \"%s\" changed while it was read", file->name);
}

static int
compare_files(const void *a, const void *b)
{
	return strcmp(((const SisDirectoryFile *) a)->name,
				  ((const SisDirectoryFile *) b)->name);
}

/* Lists a zip file that was named itself: it is all there is. */
static SisDirectory *
list_zip(const char *path, SisFailure *failure)
{
	SisDirectory *directory = palloc0(sizeof(SisDirectory));
	const char *slash = strrchr(path, '/');
	struct stat st;

	directory->path = pnstrdup(path, slash - path);
	directory->files = palloc(sizeof(SisDirectoryFile));
	if (lstat(path, &st) != 0)
	{
		sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
				 system_detail(errno), NULL,
				 "could not open file \"%s\"", path);
		return NULL;
	}
	set_file(&directory->files[0], slash + 1, &st);
	directory->nfiles = 1;
	return directory;
}

/* 1 when path is a folder, 0 when it is a zip file, -1 on failure. */
static int
is_folder(const char *path, SisFailure *failure)
{
	struct stat st;

	if (stat(path, &st) != 0)
	{
		sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
				 system_detail(errno), NULL,
				 "could not open %s \"%s\"",
				 sis_has_suffix(path, SIS_ZIP_SUFFIX) ? "file" : "folder", path);
		return -1;
	}
	if (S_ISDIR(st.st_mode))
		return 1;
	if (S_ISREG(st.st_mode) && sis_has_suffix(path, SIS_ZIP_SUFFIX))
		return 0;
	sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
			 "It is neither a folder nor a zip file.",
			 "Name the folder that holds the CSV files, or a zip file of them, in the server's option \"path\".",
			 "could not open folder \"%s\"", path);
	return -1;
}

/*
 * Looks at one entry of the folder: 1 when it is a file to list, 0 when it is
 * something to pass over, -1 on failure.
 */
static int
look_at(const char *path, const char *name, SisDirectoryFile *file,
		SisFailure *failure)
{
	char	   *full = psprintf("%s/%s", path, name);
	struct stat st;

	if (lstat(full, &st) != 0)
	{
		int			errnum = errno;

		pfree(full);
		if (errnum == ENOENT)	/* gone since the folder was read */
			return 0;
		sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
				 system_detail(errnum), NULL,
				 "could not look at file \"%s\"", name);
		return -1;
	}
	pfree(full);
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return 0;
	set_file(file, name, &st);
	return 1;
}

SisDirectory *
sis_directory_list(const char *path, SisFailure *failure)
{
	SisDirectory *directory;
	DIR		   *dir;
	struct dirent *entry;
	int			room = 32;
	int			found = is_folder(path, failure);

	if (found < 0)
		return NULL;
	if (found == 0)
		return list_zip(path, failure);

	dir = AllocateDir(path);
	if (dir == NULL)
	{
		int			errnum = errno;

		sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
				 system_detail(errnum), NULL,
				 "could not open folder \"%s\"", path);
		return NULL;
	}

	directory = palloc0(sizeof(SisDirectory));
	directory->path = pstrdup(path);
	directory->files = palloc(room * sizeof(SisDirectoryFile));

	while ((entry = ReadDir(dir, path)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!sis_is_name_of_set(entry->d_name))
			continue;
		if (directory->nfiles == SIS_MAX_SET_FILES)
		{
			sis_fail(failure, SIS_ERR_MALFORMED, NULL,
					 psprintf("At most %d are taken.", SIS_MAX_SET_FILES),
					 "Take out those that are not of tonight's set.",
					 "folder \"%s\" holds too many CSV files", path);
			found = -1;
			break;
		}
		if (directory->nfiles == room)
		{
			room *= 2;
			directory->files = repalloc(directory->files,
										room * sizeof(SisDirectoryFile));
		}
		found = look_at(path, entry->d_name,
						&directory->files[directory->nfiles], failure);
		if (found < 0)
			break;
		directory->nfiles += found;
	}
	FreeDir(dir);
	if (found < 0)
		return NULL;

	qsort(directory->files, directory->nfiles, sizeof(SisDirectoryFile),
		  compare_files);
	return directory;
}

/* Closes the descriptor, on each way out.  NB: must not ereport. */
static void
close_reader(void *arg)
{
	SisFileReader *reader = arg;

	if (reader->fd < 0)
		return;
	close(reader->fd);
	reader->fd = -1;
	ReleaseExternalFD();
}

/* Opens the reader's descriptor; errno tells why it could not. */
static bool
acquire_fd(SisFileReader *reader, const char *full)
{
	int			fd;
	int			errnum;

	if (!AcquireExternalFD())
		return false;

	/* O_NONBLOCK: a FIFO put in the file's place must not hang the backend */
	fd = open(full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | PG_BINARY);
	if (fd < 0)
	{
		errnum = errno;
		ReleaseExternalFD();
		errno = errnum;
		return false;
	}
	reader->fd = fd;
	return true;
}

SisFileReader *
sis_directory_open(const SisDirectory *directory,
				   const SisDirectoryFile *file, SisFailure *failure)
{
	SisFileReader *reader = palloc0(sizeof(SisFileReader));
	char	   *full = psprintf("%s/%s", directory->path, file->name);
	struct stat st;

	if (file->is_link)
	{
		sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
				 "It is a symbolic link, and those are not followed.",
				 "Put the file itself into the folder.",
				 "cannot open file \"%s\"", file->name);
		return NULL;
	}

	reader->file = file;
	reader->failure = failure;
	reader->fd = -1;
	reader->callback.func = close_reader;
	reader->callback.arg = reader;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &reader->callback);

	if (!acquire_fd(reader, full) || fstat(reader->fd, &st) != 0)
	{
		int			errnum = errno;

		/* listed a moment ago */
		if (errnum == ENOENT || errnum == ELOOP)
			fail_changed(failure, file);
		else
			sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
					 system_detail(errnum), NULL,
					 "could not open file \"%s\"", file->name);
		return NULL;
	}
	if (!S_ISREG(st.st_mode) || !is_as_listed(file, &st))
	{
		fail_changed(failure, file);
		return NULL;
	}
	return reader;
}

/*
 * The whole file is held to what was listed at each read: who reads here and
 * there has no last byte.
 */
static int
read_at(void *arg, int64 offset, char *buf, int len)
{
	SisFileReader *reader = arg;
	struct stat st;
	ssize_t		n;

	do
	{
		CHECK_FOR_INTERRUPTS();
		n = pread(reader->fd, buf, len, offset);
	} while (n < 0 && errno == EINTR);

	if (n < 0 || fstat(reader->fd, &st) != 0)
	{
		sis_fail(reader->failure, SIS_ERR_UNAVAILABLE, NULL,
				 system_detail(errno), NULL,
				 "could not read file \"%s\"", reader->file->name);
		return -1;
	}
	if (!is_as_listed(reader->file, &st))
	{
		fail_changed(reader->failure, reader->file);
		return -1;
	}
	return (int) n;
}

SisBlob
sis_directory_blob(SisFileReader *reader)
{
	SisBlob		blob = {reader->file->size, read_at, reader};

	return blob;
}

int
sis_directory_read(void *arg, char *buf, int len)
{
	SisFileReader *reader = arg;
	struct stat st;
	ssize_t		n;

	do
	{
		CHECK_FOR_INTERRUPTS();
		n = read(reader->fd, buf, len);
	} while (n < 0 && errno == EINTR);

	if (n < 0 || (n == 0 && fstat(reader->fd, &st) != 0))
	{
		int			errnum = errno;

		sis_fail(reader->failure, SIS_ERR_UNAVAILABLE, NULL,
				 system_detail(errnum), NULL,
				 "could not read file \"%s\"", reader->file->name);
		return -1;
	}

	/* a file that grows is not read to an end that may never come */
	reader->nread += n;
	if (reader->nread > reader->file->size ||
		(n == 0 && (reader->nread != reader->file->size ||
					!is_as_listed(reader->file, &st))))
	{
		fail_changed(reader->failure, reader->file);
		return -1;
	}
	return (int) n;
}
