/*
 * sftp.c
 *		The files of a folder, or a zip file, on an SFTP site.
 *
 * How it works: look at names, sizes and times of change; download; look
 * again.  What is not as it was the first time is downloaded again, a few
 * times, since a set is often being replaced while somebody reads it.  So
 * either all files are as one look saw them, or the fetch fails.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "base/compat.h"
#include "base/progress.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "transport/filename.h"
#include "transport/sftp.h"
#include "transport/spool.h"
#include "transport/ssh.h"
#include "utils/memutils.h"

#define MAX_LISTING		(4 * 1024 * 1024)	/* bytes: some 30,000 files */
#define MAX_NAME		255		/* of a file, as file systems have it */
#define MAX_DOWNLOADS	100		/* each may take a megabyte of memory */
#define MAX_FILE_SIZE	(INT64CONST(64) * 1024 * 1024 * 1024)
#define MAX_ATTEMPTS	3
#define ATTEMPT_PAUSE	1000	/* milliseconds */

typedef struct File
{
	char	   *name;
	bool		is_wanted;		/* to be downloaded */
	int64		size;
	pg_time_t	mtime;
	SisSpool   *spool;			/* NULL: not downloaded yet */
} File;

typedef struct FileList
{
	int			nfiles;
	File	   *files;			/* in byte order of their names */
} FileList;

typedef struct Sftp
{
	SisSsh	   *ssh;
	const char *folder;			/* without a slash at its end */
	const char *zip;			/* its one file, or NULL: look what is there */
	bool		(*may_be_read) (const char *name);
	SisFailure *failure;
} Sftp;

typedef enum Outcome
{
	FETCHED,
	NOT_THERE,					/* the host knows no such path */
	FAILED						/* written down in failure */
} Outcome;

/* ----------
 * Names
 * ----------
 */

/* A name that the host gave must not lead out of its folder either. */
static bool
is_candidate(const char *name)
{
	return sis_is_name_of_set(name) && strlen(name) <= MAX_NAME &&
		strpbrk(name, "/\\") == NULL;
}

static char *
path_of(const Sftp *sftp, const char *name)
{
	return psprintf("%s/%s", sftp->folder, name);
}

static int
compare_files(const void *a, const void *b)
{
	return strcmp(((const File *) a)->name, ((const File *) b)->name);
}

/* ----------
 * One transfer
 * ----------
 */

typedef enum Want
{
	WANT_NAMES,					/* of a folder's entries */
	WANT_LINES,					/* the same as "ls -l" shows them */
	WANT_STATE,					/* a file's size and time of change */
	WANT_BYTES					/* of a file */
} Want;

/* A target that wipes the private key when the first bytes are here. */
typedef struct Receiver
{
	SisSsh	   *ssh;
	bool		has_begun;
	SisTarget	target;
} Receiver;

static void
receive(void *arg, const char *data, int len)
{
	Receiver   *receiver = arg;

	if (!receiver->has_begun)
		sis_ssh_logged_in(receiver->ssh);
	receiver->has_begun = true;
	receiver->target.write(receiver->target.arg, data, len);
}

static Outcome
judge(const Sftp *sftp, const SisTransfer *transfer, const char *path)
{
	const char *what = path[strlen(path) - 1] == '/' ? "folder" : "file";
	const char *text = sis_transfer_text(transfer);
	int			code = sis_transfer_code(transfer);

	if (sis_transfer_end(transfer) == SIS_END_DONE)
		return FETCHED;
	if (sis_transfer_end(transfer) != SIS_END_FAILED)
		sis_ssh_fail(sftp->ssh, transfer, sftp->failure);
	else if (code == CURLE_REMOTE_FILE_NOT_FOUND)
		return NOT_THERE;
	else if (code == CURLE_REMOTE_ACCESS_DENIED ||
			 (code == CURLE_SSH && sis_ssh_knows_host(sftp->ssh)))
		sis_fail(sftp->failure, SIS_ERR_UNAVAILABLE, NULL,
				 psprintf("libcurl: %s.", text[0] != '\0' ? text :
						  curl_easy_strerror((CURLcode) code)),
				 code == CURLE_REMOTE_ACCESS_DENIED ?
				 "The user of the user mapping needs the right to read it." : NULL,
				 "could not read %s \"%s\" of host \"%s\"",
				 what, path, sis_ssh_host(sftp->ssh));
	else
		sis_ssh_fail(sftp->ssh, transfer, sftp->failure);
	return FAILED;
}

/*
 * Runs one transfer of that path; "file" gets the state if that is wanted, and
 * has it if its bytes are.
 */
static Outcome
transfer_path(const Sftp *sftp, const char *path, Want want,
			  const SisTarget *target, File *file)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(old, "sis_sync transfer",
											  ALLOCSET_SMALL_SIZES);
	Receiver	receiver = {sftp->ssh, false, *target};
	SisTarget	through = {target->write ? receive : NULL, &receiver,
	target->max_size};
	SisTransfer *transfer;
	Outcome		outcome;
	curl_off_t	size = -1;
	curl_off_t	mtime = -1;

	MemoryContextSwitchTo(cxt);
	transfer = sis_ssh_transfer(sftp->ssh, path, &through);
	if (want == WANT_NAMES)
		sis_transfer_set(transfer, CURLOPT_DIRLISTONLY, 1L);
	if (want == WANT_STATE)
	{
		sis_transfer_set(transfer, CURLOPT_NOBODY, 1L);
		sis_transfer_set(transfer, CURLOPT_FILETIME, 1L);
	}
	/*
	 * It may be empty.  Nothing at all on a connection that was used before,
	 * libcurl takes for its end; some releases (8.14) fail when they try anew.
	 */
	if (want == WANT_BYTES && file->size < 0)
		sis_transfer_set(transfer, CURLOPT_FRESH_CONNECT, 1L);
	sis_transfer_start(transfer);
	MemoryContextSwitchTo(old);
	(void) sis_transfer_wait(transfer);
	sis_ssh_logged_in(sftp->ssh);

	outcome = judge(sftp, transfer, path);
	if (outcome == FETCHED && want == WANT_STATE)
	{
		curl_easy_getinfo(sis_transfer_handle(transfer),
						  CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
		curl_easy_getinfo(sis_transfer_handle(transfer),
						  CURLINFO_FILETIME_T, &mtime);
		file->size = size;
		file->mtime = mtime;
	}
	MemoryContextDelete(cxt);
	return outcome;
}

/* ----------
 * Looking
 * ----------
 */

/* False, with the cause in failure, when it is not there or cannot be read. */
static bool
list_folder(const Sftp *sftp, Want want, StringInfo listing)
{
	SisTarget	target = {sis_write_string, listing, MAX_LISTING};
	char	   *path = psprintf("%s/", sftp->folder);

	initStringInfo(listing);
	switch (transfer_path(sftp, path, want, &target, NULL))
	{
		case FETCHED:
			return true;
		case NOT_THERE:
			return sis_fail(sftp->failure, SIS_ERR_UNAVAILABLE, NULL,
							"There is no folder of that name.",
							"Name the folder, or the zip file, in the server's option \"path\".",
							"could not open folder \"%s\" of host \"%s\"",
							path, sis_ssh_host(sftp->ssh));
		default:
			return false;
	}
}

/*
 * Whether one of these lines is that of a folder of that name.  Where the name
 * begins cannot be told: a folder "old users.csv" hides no file "users.csv".
 */
static bool
is_folder(const char *lines, const char *name)
{
	size_t		len = strlen(name);
	bool		found = false;

	while (*lines != '\0')
	{
		size_t		n = strcspn(lines, "\r\n");

		if (n > len + 1 && lines[n - len - 1] == ' ' &&
			strncmp(lines + n - len, name, len) == 0)
		{
			if (*lines != 'd')
				return false;
			found = true;
		}
		lines += n;
		lines += strspn(lines, "\r\n");
	}
	return found;
}

/* Says which files are to be downloaded; false when they are too many. */
static bool
choose_wanted(const Sftp *sftp, FileList *list, int ncsv)
{
	int			nwanted = 0;

	for (int i = 0; i < list->nfiles; i++)
	{
		File	   *file = &list->files[i];

		file->is_wanted = list->nfiles == 1 ||
			(ncsv == list->nfiles && sftp->may_be_read(file->name));
		nwanted += file->is_wanted ? 1 : 0;
	}
	return nwanted <= MAX_DOWNLOADS;
}

/* Takes the files of a set out of what the host listed. */
static bool
pick_files(const Sftp *sftp, char *names, const char *lines, FileList *list)
{
	int			room = 32;
	int			ncandidates = 0;
	int			ncsv = 0;

	list->nfiles = 0;
	list->files = palloc(room * sizeof(File));
	while (*names != '\0')
	{
		size_t		n = strcspn(names, "\r\n");
		char	   *next = names + n + strspn(names + n, "\r\n");
		File	   *file;

		CHECK_FOR_INTERRUPTS();
		names[n] = '\0';
		if (is_candidate(names) && ncandidates++ < SIS_MAX_SET_FILES &&
			!is_folder(lines, names))
		{
			if (list->nfiles == room)
			{
				room *= 2;
				list->files = repalloc(list->files, room * sizeof(File));
			}
			file = &list->files[list->nfiles++];
			memset(file, 0, sizeof(File));
			file->name = pstrdup(names);
			ncsv += sis_has_suffix(names, SIS_CSV_SUFFIX) ? 1 : 0;
		}
		names = next;
	}
	if (ncandidates > SIS_MAX_SET_FILES || !choose_wanted(sftp, list, ncsv))
		return sis_fail(sftp->failure, SIS_ERR_MALFORMED, NULL,
						psprintf("At most %d are taken, and %d of a name to be read.",
								 SIS_MAX_SET_FILES, MAX_DOWNLOADS),
						"Take out those that are not of tonight's set.",
						"folder \"%s\" of host \"%s\" holds too many CSV files",
						sftp->folder, sis_ssh_host(sftp->ssh));
	qsort(list->files, list->nfiles, sizeof(File), compare_files);
	return true;
}

/*
 * Asks for the states of the files that are wanted.  One that has gone since
 * it was listed, or is a link to nothing, leaves the list.
 */
static bool
ask_states(const Sftp *sftp, FileList *list)
{
	SisTarget	nothing = {NULL};
	int			kept = 0;

	for (int i = 0; i < list->nfiles; i++)
	{
		File	   *file = &list->files[i];
		Outcome		outcome = FETCHED;

		file->size = file->mtime = -1;
		if (file->is_wanted)
			outcome = transfer_path(sftp, path_of(sftp, file->name), WANT_STATE,
									&nothing, file);
		if (outcome == FAILED)
			return false;
		if (outcome == FETCHED)
			list->files[kept++] = *file;
	}
	list->nfiles = kept;
	return true;
}

static bool
look(const Sftp *sftp, FileList *list)
{
	StringInfoData names;
	StringInfoData lines;

	if (sftp->zip != NULL)
	{
		list->files = palloc0(sizeof(File));
		list->files[0].name = pstrdup(sftp->zip);
		list->files[0].is_wanted = true;
		list->nfiles = 1;
	}
	else
	{
		if (!list_folder(sftp, WANT_NAMES, &names) ||
			!list_folder(sftp, WANT_LINES, &lines) ||
			!pick_files(sftp, names.data, lines.data, list))
			return false;
		pfree(names.data);
		pfree(lines.data);
	}
	if (!ask_states(sftp, list))
		return false;
	if (sftp->zip != NULL && list->nfiles == 0)
		return sis_fail(sftp->failure, SIS_ERR_UNAVAILABLE, NULL,
						"There is no file of that name.",
						"Name the zip file, or the folder, in the server's option \"path\".",
						"could not open file \"%s\" of host \"%s\"",
						path_of(sftp, sftp->zip), sis_ssh_host(sftp->ssh));
	return true;
}

/* ----------
 * Downloading
 * ----------
 */

static File *
find_file(const FileList *list, const char *name)
{
	File		key = {(char *) name};

	return bsearch(&key, list->files, list->nfiles, sizeof(File),
				   compare_files);
}

/*
 * Moves what has been downloaded, and is still what it was, from the old list
 * to the new one; frees the rest.  Returns the first name that is not as it
 * was; NULL when there is none.
 */
static const char *
keep_unchanged(FileList *old, FileList *new)
{
	const char *changed = NULL;

	for (int i = 0; i < old->nfiles; i++)
	{
		File	   *before = &old->files[i];
		File	   *now = find_file(new, before->name);

		if (now != NULL && now->is_wanted == before->is_wanted &&
			now->size == before->size && now->mtime == before->mtime &&
			(before->spool == NULL || now->size < 0 ||
			 sis_spool_size(before->spool) == now->size))
		{
			now->spool = before->spool;
			continue;
		}
		if (before->spool != NULL)
			sis_spool_free(before->spool);
		changed = changed != NULL ? changed : before->name;
	}
	for (int i = 0; i < new->nfiles && changed == NULL; i++)
	{
		if (find_file(old, new->files[i].name) == NULL)
			changed = new->files[i].name;
	}
	return changed;
}

/* A SisWrite into a file's spool. */
static void
save(void *spool, const char *data, int len)
{
	sis_spool_write(spool, data, len);
	sis_progress_bytes(len);
}

static bool
download(const Sftp *sftp, FileList *list)
{
	for (int i = 0; i < list->nfiles; i++)
	{
		const File *file = &list->files[i];

		if (file->is_wanted && file->spool == NULL && file->size > 0)
			sis_progress_expect_bytes(file->size);
	}
	for (int i = 0; i < list->nfiles; i++)
	{
		File	   *file = &list->files[i];
		SisTarget	target = {save, NULL, MAX_FILE_SIZE};

		if (!file->is_wanted || file->spool != NULL)
			continue;
		if (file->size > MAX_FILE_SIZE)
			return sis_fail(sftp->failure, SIS_ERR_MALFORMED, NULL,
							psprintf("It has %lld bytes; at most %lld are taken.",
									 (long long) file->size,
									 (long long) MAX_FILE_SIZE), NULL,
							"file \"%s\" is too large", file->name);
		target.arg = file->spool = sis_spool_create();
		/* one that has gone meanwhile is missing in the next look */
		if (transfer_path(sftp, path_of(sftp, file->name), WANT_BYTES,
						  &target, file) == FAILED)
			return false;
	}
	return true;
}

/* Until all files are as they were looked at before. */
static bool
download_settled(const Sftp *sftp, FileList *list)
{
	const char *changed;
	FileList	now;

	for (int attempt = 1;; attempt++)
	{
		if (!download(sftp, list) || !look(sftp, &now))
			return false;
		changed = keep_unchanged(list, &now);
		*list = now;
		if (changed == NULL)
			return true;
		if (attempt == MAX_ATTEMPTS)
			break;
		(void) sis_session_sleep(sis_ssh_session(sftp->ssh), ATTEMPT_PAUSE);
	}
	return sis_fail(sftp->failure, SIS_ERR_INCOMPLETE, NULL,
					psprintf("Its size or its time of change was not the same before and after it was read, %d times.",
							 MAX_ATTEMPTS),
					"Run the sync again when the upload has ended.",
					"file \"%s\" changed while it was read", changed);
}

/* ----------
 * The whole
 * ----------
 */

static SisRemoteSet *
make_set(const Sftp *sftp, const char *path, const FileList *list)
{
	SisRemoteSet *set = palloc0(sizeof(SisRemoteSet));

	set->place = psprintf("%s:%s", sis_ssh_host(sftp->ssh), path);
	set->is_folder = sftp->zip == NULL;
	set->nfiles = list->nfiles;
	set->files = palloc0(Max(list->nfiles, 1) * sizeof(SisRemoteFile));
	for (int i = 0; i < list->nfiles; i++)
	{
		const File *file = &list->files[i];
		SisRemoteFile *remote = &set->files[i];

		remote->name = file->name;
		remote->size = file->size;
		remote->mtime = file->mtime;
		remote->blob.size = -1;
		if (file->spool != NULL)
			remote->blob = sis_spool_blob(file->spool);
	}
	return set;
}

/* Takes the path apart into folder and zip file. */
static void
set_path(Sftp *sftp, const char *path)
{
	char	   *folder = pstrdup(path);
	size_t		len = strlen(folder);
	char	   *slash;

	while (len > 0 && folder[len - 1] == '/')
		folder[--len] = '\0';
	slash = strrchr(folder, '/');
	if (slash != NULL && sis_has_suffix(slash, SIS_ZIP_SUFFIX))
	{
		sftp->zip = slash + 1;
		*slash = '\0';
	}
	sftp->folder = folder;
}

SisRemoteSet *
sis_sftp_fetch(const SisSource *source,
			   bool (*may_be_read) (const char *name), SisFailure *failure)
{
	const char *path = sis_source_option(source, "path");
	Sftp		sftp = {NULL};
	FileList	list;
	SisRemoteSet *set;

	sftp.ssh = sis_ssh_open(source, failure);
	if (sftp.ssh == NULL)
		return NULL;
	sftp.may_be_read = may_be_read;
	sftp.failure = failure;
	set_path(&sftp, path);

	if (!look(&sftp, &list) || !download_settled(&sftp, &list))
	{
		sis_ssh_close(sftp.ssh);
		return NULL;
	}
	set = make_set(&sftp, path, &list);
	sis_ssh_close(sftp.ssh);
	return set;
}
