/*
 * zip_fuzz.c
 *		src/format/zip.c and zip_directory.c: any bytes at all as a zip file.
 *
 * The directory and each member are read twice, in large and in small pieces,
 * which must come to the same.  Bytes are handed out of buffers of their own
 * size, so that libarchive reads past none.
 */
#include "postgres.h"

#include <limits.h>

#include "format/zip.h"
#include "fuzz.h"
#include "harness.h"

#define MAX_TAKEN	(4 << 20)	/* bytes of one member; more is not looked at */

typedef struct Source
{
	const char *data;
	int64		size;
	int			piece;
} Source;

static int
read_at(void *arg, int64 offset, char *buf, int len)
{
	Source	   *source = arg;
	int			n = Min(len, source->piece);

	FUZZ_CHECK(offset >= 0 && len > 0, "reads %d at " INT64_FORMAT, len, offset);
	if (offset >= source->size)
		return 0;
	n = (int) Min(n, source->size - offset);
	memcpy(buf, source->data + offset, n);
	return n;
}

static void
put_failure(Buffer *out, const SisFailure *failure)
{
	FUZZ_CHECK(failure->code != SIS_OK && failure->message != NULL,
			   "it fails without a cause");
	FUZZ_CHECK(fuzz_is_text(failure->message, strlen(failure->message)) &&
			   (failure->detail == NULL ||
				fuzz_is_text(failure->detail, strlen(failure->detail))),
			   "a message is no text");
	put_format(out, "%d %s", failure->code, failure->message);
}

static void
read_member(Buffer *out, const SisZip *zip, int i, int piece)
{
	const SisZipEntry *entry = sis_zip_entry(zip, i);
	SisFailure	failure = {SIS_OK};
	void	   *reader = sis_zip_read_open(zip, i, &failure);
	int64		total = 0;
	uint64		hash = 0;
	char	   *buf;
	int			n;

	FUZZ_CHECK(entry->size >= 0 && entry->size <= SIS_ZIP_MAX_FILE, "its size");
	FUZZ_CHECK(strchr(entry->name, '/') == NULL && strlen(entry->name) > 4,
			   "name %s", entry->name);
	for (const char *p = entry->name; *p != '\0'; p++)
		FUZZ_CHECK(*p >= ' ' && *p < 0x7F, "its name is not printable");
	put_format(out, "%s " INT64_FORMAT ": ", entry->name, entry->size);
	if (reader == NULL)
	{
		put_failure(out, &failure);
		return;
	}
	buf = palloc(piece);
	while ((n = sis_zip_read(reader, buf, piece)) > 0 && total < MAX_TAKEN)
	{
		FUZZ_CHECK(n <= piece, "more bytes than there is room for");
		for (int k = 0; k < n; k++)
			hash = (hash ^ (unsigned char) buf[k]) * UINT64CONST(0x100000001B3);
		total += n;
		FUZZ_CHECK(total <= entry->size, "more bytes than the directory says");
	}
	if (n > 0)
		return;
	if (n == 0)
		FUZZ_CHECK(total == entry->size, "fewer bytes than the directory says");
	else
		put_failure(out, &failure);
	FUZZ_CHECK(sis_zip_read(reader, buf, piece) == n, "the end does not last");
	if (n == 0)
		put_format(out, UINT64_FORMAT "\n", hash);
}

static void
read_zip(Buffer *out, Source *source, int piece)
{
	SisBlob		blob = {source->size, read_at, source};
	SisFailure	failure = {SIS_OK};
	SisZip	   *zip = sis_zip_open(&blob, "z", &failure);

	out->len = 0;
	put_string(out, "");
	if (zip == NULL)
	{
		put_failure(out, &failure);
		return;
	}
	FUZZ_CHECK(sis_zip_nentries(zip) <= SIS_ZIP_MAX_ENTRIES, "entries");
	for (int i = 0; i < Min(sis_zip_nentries(zip), 16); i++)
		read_member(out, zip, i, piece);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static Buffer first;
	static Buffer second;
	Source		source = {(const char *) data, size, INT_MAX};

	shim_quiet = true;
	read_zip(&first, &source, 65536);
	shim_reset();
	source.piece = 1 + (int) (fuzz_hash(data, size) % 29);
	read_zip(&second, &source, source.piece);
	shim_reset();
	FUZZ_CHECK(first.len == second.len &&
			   memcmp(first.data, second.data, first.len) == 0,
			   "pieces of %d: expected\n%s\ngot\n%s", source.piece, first.data,
			   second.data);
	return 0;
}
