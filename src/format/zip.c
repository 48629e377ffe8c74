/*
 * zip.c
 *		The CSV files of a zip file, as bytes (unpacked by libarchive).
 *
 * How it works.  zip_directory.c has judged the zip file and knows where the
 * data of each entry begin.  A reader is an archive of libarchive's own, which
 * is led from header to header until it stands at that place; then it gives
 * the data block by block, and compares their CRC at the end.
 *
 * Only libarchive's seekable reader is used.  The other one needs no directory
 * and would take a zip file that was cut short for a whole one.
 *
 * An entry gives what its directory says and not a byte more, so that no
 * header can make a small size of a large one; how much that may be is limited
 * by size and by ratio.
 *
 * libarchive's memory is freed with the memory context.  No error may jump
 * through libarchive: what its callback throws is kept, and thrown again when
 * libarchive has returned.
 */
#include "postgres.h"

#include <archive.h>
#include <archive_entry.h>

#include "common/int.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "format/zip_directory.h"

#define BLOCK_SIZE		(64 * 1024)

/*
 * A decoder takes a few blocks before it gives bytes (bzip2: 900 kB); one that
 * takes this many never will.
 */
#define MAX_EMPTY		1000

typedef struct ZipReader
{
	const SisZip *zip;
	const SisZipMember *member;
	SisFailure *failure;
	struct archive *archive;	/* freed by callback */
	MemoryContextCallback callback;

	/* For libarchive's callbacks. */
	char	   *block;
	int64		pos;
	ErrorData  *thrown;			/* by read_at; to throw again */
	bool		read_failed;
	bool		read_short;		/* the zip file ended before its size */

	/* What is unpacked and not yet taken; libarchive's until its next call. */
	const char *data;
	size_t		left;
	int64		given;
	int			nempty;			/* blocks without a byte, one after another */
	bool		ended;
	bool		failed;
} ZipReader;

SisZip *
sis_zip_open(const SisBlob *blob, const char *place, SisFailure *failure)
{
	SisZip	   *zip = palloc0(sizeof(SisZip));

	zip->blob = *blob;
	zip->place = pstrdup(place);
	return sis_zip_directory_read(zip, failure) ? zip : NULL;
}

int
sis_zip_nentries(const SisZip *zip)
{
	return zip->nmembers;
}

const SisZipEntry *
sis_zip_entry(const SisZip *zip, int i)
{
	return &zip->members[i].entry;
}

/* ----------
 * libarchive's callbacks.  NB: nothing may be thrown out of them.
 * ----------
 */

static la_ssize_t
read_block(struct archive *archive, void *arg, const void **block)
{
	ZipReader  *reader = arg;
	const SisBlob *blob = &reader->zip->blob;
	MemoryContext context = CurrentMemoryContext;
	volatile int n = -1;

	if (reader->thrown != NULL || reader->read_failed)
		return ARCHIVE_FATAL;

	PG_TRY();
	{
		CHECK_FOR_INTERRUPTS();
		n = blob->read_at(blob->arg, reader->pos, reader->block, BLOCK_SIZE);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		reader->thrown = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();

	if (n < 0)
	{
		reader->read_failed = true;
		return ARCHIVE_FATAL;
	}
	reader->read_short = (n == 0 && reader->pos < blob->size);
	reader->pos += n;
	*block = reader->block;
	return n;
}

static la_int64_t
seek_block(struct archive *archive, void *arg, la_int64_t offset, int whence)
{
	ZipReader  *reader = arg;
	int64		size = reader->zip->blob.size;
	int64		base = whence == SEEK_SET ? 0 :
		whence == SEEK_CUR ? reader->pos : size;
	int64		pos;

	if (pg_add_s64_overflow(base, offset, &pos) || pos < 0 || pos > size)
		return ARCHIVE_FATAL;
	reader->pos = pos;
	return pos;
}

/* Frees what libarchive got from malloc, on each way out. */
static void
free_archive(void *arg)
{
	archive_read_free(((ZipReader *) arg)->archive);
}

/* To be called when libarchive has returned. */
static void
throw_again(ZipReader *reader)
{
	if (reader->thrown != NULL)
		ReThrowError(reader->thrown);
	CHECK_FOR_INTERRUPTS();
}

/* ----------
 * Failures
 * ----------
 */

static bool
fail_entry_corrupt(ZipReader *reader, const char *what)
{
	return sis_zip_fail_corrupt(reader->zip, reader->failure,
								psprintf("Entry \"%s\": %s.",
										 reader->member->path, what));
}

static bool
fail_entry_short(ZipReader *reader, int64 given)
{
	return sis_zip_fail_cut(reader->zip, reader->failure,
							psprintf("Entry \"%s\" has %lld of the %lld bytes that the directory says.",
									 reader->member->path, (long long) given,
									 (long long) reader->member->entry.size));
}

/* libarchive has failed: because of us, or of what it read? */
static bool
fail_libarchive(ZipReader *reader)
{
	const char *said = archive_error_string(reader->archive);

	if (reader->read_failed)
		return sis_zip_fail_read(reader->zip, reader->failure);
	if (reader->read_short)
		return sis_zip_fail_cut(reader->zip, reader->failure,
								psprintf("It ends after %lld of %lld bytes.",
										 (long long) reader->pos,
										 (long long) reader->zip->blob.size));
	if (said == NULL)
		said = "no cause given";
	/* some of its messages end their line */
	return fail_entry_corrupt(reader,
							  psprintf("libarchive: %.*s",
									   (int) strcspn(said, "\n"), said));
}

static bool
fail_bomb(ZipReader *reader)
{
	return sis_fail(reader->failure, SIS_ERR_MALFORMED, NULL,
					psprintf("Entry \"%s\" gives more than %lld bytes out of %lld; %d times as many are the most.",
							 reader->member->path, (long long) reader->given,
							 (long long) reader->member->packed,
							 SIS_ZIP_MAX_RATIO),
					"Look into the zip file: no roster can be packed so much.",
					"zip file \"%s\" unpacks to too many bytes",
					reader->zip->place);
}

/* ----------
 * Reading
 * ----------
 */

/* Gives the zip file to libarchive, and leads it to the data of the entry. */
static bool
find_data(ZipReader *reader)
{
	struct archive *archive = reader->archive;
	struct archive_entry *entry;
	int			result;

	if (archive_read_support_format_zip_seekable(archive) != ARCHIVE_OK ||
		archive_read_set_read_callback(archive, read_block) != ARCHIVE_OK ||
		archive_read_set_seek_callback(archive, seek_block) != ARCHIVE_OK ||
		archive_read_set_callback_data(archive, reader) != ARCHIVE_OK)
		return fail_libarchive(reader);

	result = archive_read_open1(archive);
	throw_again(reader);
	if (result != ARCHIVE_OK)
		return fail_libarchive(reader);

	/* it may warn of a name, which it is not asked for */
	do
	{
		result = archive_read_next_header(archive, &entry);
		throw_again(reader);
		if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
			return fail_libarchive(reader);
	} while (archive_filter_bytes(archive, 0) != reader->member->data);

	if (archive_entry_filetype(entry) != AE_IFREG)
		return fail_entry_corrupt(reader, "it is not a file");
	return true;
}

void *
sis_zip_read_open(const SisZip *zip, int i, SisFailure *failure)
{
	ZipReader  *reader = palloc0(sizeof(ZipReader));

	reader->zip = zip;
	reader->member = &zip->members[i];
	reader->failure = failure;
	reader->block = palloc(BLOCK_SIZE);
	reader->callback.func = free_archive;
	reader->callback.arg = reader;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &reader->callback);

	reader->archive = archive_read_new();
	if (reader->archive == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return find_data(reader) ? reader : NULL;
}

/*
 * Was all unpacked, only that size or CRC are not what they should be?  That is
 * a warning of libarchive's; since 3.7 a failure like others but for its text.
 */
static bool
is_unpacked(ZipReader *reader, int result)
{
	const char *said = archive_error_string(reader->archive);

	return result == ARCHIVE_WARN ||
		(result == ARCHIVE_FAILED && said != NULL &&
		 (strstr(said, "wrong size") != NULL ||
		  strstr(said, "bad CRC") != NULL));
}

/* Unpacks the next block, which may be empty, or sets ended. */
static bool
read_data(ZipReader *reader)
{
	const SisZipMember *member = reader->member;
	const void *data;
	size_t		size = 0;
	la_int64_t	offset = 0;
	int			result;

	result = archive_read_data_block(reader->archive, &data, &size, &offset);
	throw_again(reader);

	if (result == ARCHIVE_EOF)
	{
		if (reader->given != member->entry.size)
			return fail_entry_short(reader, reader->given);
		reader->ended = true;
		return true;
	}

	if (is_unpacked(reader, result) &&
		reader->given + (int64) size < member->entry.size)
		return fail_entry_short(reader, reader->given + size);
	if (result != ARCHIVE_OK)
		return fail_libarchive(reader);
	if (offset != reader->given)
		return fail_entry_corrupt(reader, "its bytes are not in order");

	reader->nempty = size == 0 ? reader->nempty + 1 : 0;
	if (reader->nempty > MAX_EMPTY)
		return fail_entry_corrupt(reader, "it gives no bytes");

	reader->data = data;
	reader->left = size;
	reader->given += size;
	if (reader->given > member->entry.size)
		return fail_entry_corrupt(reader,
								  psprintf("it has more than the %lld bytes that the directory says",
										   (long long) member->entry.size));
	if (reader->given > SIS_ZIP_RATIO_FROM &&
		reader->given / SIS_ZIP_MAX_RATIO >= member->packed)
		return fail_bomb(reader);
	return true;
}

int
sis_zip_read(void *arg, char *buf, int len)
{
	ZipReader  *reader = arg;
	int			n;

	while (!reader->failed && !reader->ended && reader->left == 0)
		reader->failed = !read_data(reader);
	if (reader->failed)
		return -1;
	if (reader->ended)
		return 0;

	n = Min(reader->left, (size_t) len);
	memcpy(buf, reader->data, n);
	reader->data += n;
	reader->left -= n;
	return n;
}
