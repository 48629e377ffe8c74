/*
 * fileset.c
 *		The CSV files of a set, wherever they are.
 *
 * What lies in the source decides: loose CSV files are read as they are, a
 * single zip file is unpacked while it is read.  Where it could be meant in
 * two ways, nothing is guessed: yesterday's files beside tonight's zip would
 * otherwise be synced for months without a word.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "format/zip.h"
#include "provider/fileset.h"
#include "transport/directory.h"
#include "transport/filename.h"
#include "transport/sftp.h"

#define MAX_LISTED	20			/* files named in a detail */

/* A file as it was found, before it is decided what the set is. */
typedef struct Found
{
	const char *name;
	int64		size;
	pg_time_t	mtime;
} Found;

static char *
list_names(const Found *found, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "There are: ");
	for (int i = 0; i < Min(n, MAX_LISTED); i++)
		appendStringInfo(&buf, "%s\"%s\"", i > 0 ? ", " : "", found[i].name);
	if (n > MAX_LISTED)
		appendStringInfo(&buf, " and %d more", n - MAX_LISTED);
	appendStringInfoChar(&buf, '.');
	return buf.data;
}

/*
 * Takes the CSV files of what was found as the set.  *zip is the place of the
 * zip file that holds it instead, or -1.  False when it could be both.
 */
static bool
choose(SisFileSet *set, const Found *found, int n, int *zip,
	   SisFailure *failure)
{
	int			nzips = 0;

	*zip = -1;
	set->files = palloc(Max(n, 1) * sizeof(SisSetFile));
	for (int i = 0; i < n; i++)
	{
		if (sis_has_suffix(found[i].name, SIS_ZIP_SUFFIX))
		{
			*zip = i;
			nzips++;
		}
		else
		{
			SisSetFile *file = &set->files[set->nfiles++];

			file->name = found[i].name;
			file->size = found[i].size;
			file->mtime = found[i].mtime;
			file->index = i;
		}
	}
	if (nzips > 0 && set->nfiles > 0)
		return sis_fail(failure, SIS_ERR_MALFORMED, NULL,
						list_names(found, n),
						"Take out what is not meant, or name the zip file itself in the server's option \"path\".",
						"%s holds CSV files and zip files", set->place);
	if (nzips > 1)
		return sis_fail(failure, SIS_ERR_MALFORMED, NULL,
						list_names(found, n),
						"Take out what is not meant, or name the zip file itself in the server's option \"path\".",
						"%s holds %d zip files", set->place, nzips);
	return true;
}

/* Takes the files of a zip file as the set. */
static bool
open_zip(SisFileSet *set, const Found *found, const SisBlob *blob,
		 SisFailure *failure)
{
	set->place = psprintf("zip file \"%s\"", found->name);
	set->zip = sis_zip_open(blob, found->name, failure);
	if (set->zip == NULL)
		return false;
	set->nfiles = sis_zip_nentries(set->zip);
	set->files = palloc(Max(set->nfiles, 1) * sizeof(SisSetFile));
	for (int i = 0; i < set->nfiles; i++)
	{
		const SisZipEntry *entry = sis_zip_entry(set->zip, i);

		set->files[i].name = entry->name;
		set->files[i].size = entry->size;

		/* the time in a zip has no time zone: that of the file counts */
		set->files[i].mtime = found->mtime;
		set->files[i].index = i;
	}
	return true;
}

static bool
find_in_directory(SisFileSet *set, const char *path, SisFailure *failure)
{
	SisDirectory *directory = sis_directory_list(path, failure);
	Found	   *found;
	SisFileReader *reader;
	SisBlob		blob;
	int			zip;

	if (directory == NULL)
		return false;
	set->directory = directory;
	set->place = psprintf("folder \"%s\"", directory->path);
	found = palloc(Max(directory->nfiles, 1) * sizeof(Found));
	for (int i = 0; i < directory->nfiles; i++)
	{
		found[i].name = directory->files[i].name;
		found[i].size = directory->files[i].size;
		found[i].mtime = directory->files[i].mtime;
	}
	if (!choose(set, found, directory->nfiles, &zip, failure))
		return false;
	if (zip < 0)
		return true;
	reader = sis_directory_open(directory, &directory->files[zip], failure);
	if (reader == NULL)
		return false;
	blob = sis_directory_blob(reader);
	return open_zip(set, &found[zip], &blob, failure);
}

static bool
fetch_by_sftp(SisFileSet *set, const SisSource *source,
			  bool (*may_be_read) (const char *name), SisFailure *failure)
{
	SisRemoteSet *remote = sis_sftp_fetch(source, may_be_read, failure);
	Found	   *found;
	int			zip;

	if (remote == NULL)
		return false;
	set->remote = remote;
	set->place = psprintf("folder \"%s\"", remote->place);
	found = palloc(Max(remote->nfiles, 1) * sizeof(Found));
	for (int i = 0; i < remote->nfiles; i++)
	{
		found[i].name = remote->files[i].name;
		found[i].size = remote->files[i].size;
		found[i].mtime = remote->files[i].mtime;
	}
	return choose(set, found, remote->nfiles, &zip, failure) &&
		(zip < 0 ||
		 open_zip(set, &found[zip], &remote->files[zip].blob, failure));
}

SisFileSet *
sis_fileset_fetch(const SisSource *source,
				  bool (*may_be_read) (const char *name), SisFailure *failure)
{
	SisFileSet *set = palloc0(sizeof(SisFileSet));
	const char *path = sis_source_option(source, "path");

	if (path == NULL)
	{
		sis_fail(failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
				 "Name the folder that holds the CSV files: ALTER SERVER ... OPTIONS (ADD path '...').",
				 "server \"%s\" has no option \"path\"", source->server);
		return NULL;
	}
	if (strcmp(source->wrapper, "sis_sftp") == 0 ?
		fetch_by_sftp(set, source, may_be_read, failure) :
		find_in_directory(set, path, failure))
		return set;
	return NULL;
}

/* ----------
 * Reading a file
 * ----------
 */

/* A file of known bytes, from its beginning to its end. */
typedef struct BlobReader
{
	const SisBlob *blob;
	int64		offset;
} BlobReader;

static int
read_blob(void *arg, char *buf, int len)
{
	BlobReader *reader = arg;
	int			n = reader->blob->read_at(reader->blob->arg, reader->offset,
										  buf, len);

	if (n > 0)
		reader->offset += n;
	return n;
}

bool
sis_fileset_open(const SisFileSet *set, const SisSetFile *file,
				 SisSetReader *reader, SisFailure *failure)
{
	if (set->zip != NULL)
	{
		reader->read = sis_zip_read;
		reader->arg = sis_zip_read_open(set->zip, file->index, failure);
	}
	else if (set->remote != NULL)
	{
		BlobReader *blob = palloc0(sizeof(BlobReader));

		blob->blob = &set->remote->files[file->index].blob;
		reader->read = read_blob;
		reader->arg = blob;
	}
	else
	{
		reader->read = sis_directory_read;
		reader->arg = sis_directory_open(set->directory,
										 &set->directory->files[file->index],
										 failure);
	}
	return reader->arg != NULL;
}
