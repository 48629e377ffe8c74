/*
 * csvset_fuzz.c
 *		A set of CSV files as src/provider reads it: the manifest, the headers,
 *		the rows, in all layouts.
 *
 * The input is several files in one text: "== users.csv" on a line begins one.
 */
#include "postgres.h"

#include "fuzz.h"
#include "provider/csvset.h"
#include "provider/fileset.h"
#include "sink.h"

#define MAX_FILES	24

typedef struct File
{
	char		name[40];
	const char *data;
	int			len;
} File;

typedef struct Reader
{
	const char *data;
	int			left;
} Reader;

static File files[MAX_FILES];
static SisSetFile set_files[MAX_FILES];
static SisFileSet set = {.place = "folder \"z\"", .files = set_files};
static const char *layout;
static const char *encoding;

/* ----------
 * What the provider asks for
 * ----------
 */

SisFileSet *
sis_fileset_fetch(const SisSource *source, bool (*may_be_read) (const char *),
				  SisFailure *failure)
{
	return &set;
}

static int
read_file(void *arg, char *buf, int len)
{
	Reader	   *reader = arg;
	int			n = Min(len, reader->left);

	if (n > 0)
		memcpy(buf, reader->data, n);
	reader->data += n;
	reader->left -= n;
	return n;
}

bool
sis_fileset_open(const SisFileSet *of, const SisSetFile *file,
				 SisSetReader *reader, SisFailure *failure)
{
	Reader	   *arg = palloc(sizeof(Reader));

	arg->data = files[file->index].data;
	arg->left = files[file->index].len;
	reader->read = read_file;
	reader->arg = arg;
	return true;
}

const char *
sis_source_option(const SisSource *source, const char *name)
{
	return strcmp(name, "layout") == 0 ? layout :
		strcmp(name, "encoding") == 0 ? encoding : NULL;
}

/* ---------- */

/* The next "== " at the beginning of a line; end when there is none. */
static const char *
next_file(const char *p, const char *end, const char *begin)
{
	for (; p + 3 <= end; p++)
	{
		if (memcmp(p, "== ", 3) == 0 && (p == begin || p[-1] == '\n'))
			return p;
	}
	return end;
}

/* File names come from folders and zip files: bounded, without bad bytes. */
static void
take_apart(const char *begin, const char *end)
{
	const char *p = next_file(begin, end, begin);

	set.nfiles = 0;
	while (p < end && set.nfiles < MAX_FILES)
	{
		File	   *file = &files[set.nfiles];
		SisSetFile *set_file = &set_files[set.nfiles];
		const char *name = p + 3;
		const char *newline = memchr(name, '\n', end - name);
		int			len;

		if (newline == NULL)
			break;
		len = Min((int) (newline - name), (int) sizeof(file->name) - 1);
		memcpy(file->name, name, len);
		file->name[len] = '\0';
		p = next_file(newline + 1, end, begin);
		if (len == 0 || !fuzz_is_text(file->name, len))
			continue;
		file->data = newline + 1;
		file->len = (int) (p - file->data);
		set_file->name = file->name;
		set_file->size = file->len;
		set_file->mtime = 1700000000;
		set_file->index = set.nfiles++;
	}
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const char *const layouts[] = {NULL, "oneroster", "clever"};
	char	   *extra[] = {"locker", "sourcedId", "metadata.x", "password", "Name"};
	const char *text = (const char *) data;

	shim_quiet = true;
	take_apart(text, text + size);
	for (int i = 0; i < lengthof(layouts); i++)
	{
		SisSink    *sink = fuzz_sink(extra, lengthof(extra));
		SisFailure	failure = {SIS_OK};
		void	   *fetched;
		bool		ok;

		layout = layouts[i];
		encoding = i == 1 ? "WIN1252" : NULL;
		fetched = sis_csvset_fetch(NULL, sink->wants, &failure);
		ok = sis_csvset_read(fetched, sink);
		FUZZ_CHECK(ok == (sink->failure->code == SIS_OK), "%s",
				   ok ? sink->failure->message : "it fails without a cause");
		for (int k = 0; k < 3 && !ok; k++)
		{
			const char *said = k == 0 ? sink->failure->message :
				k == 1 ? sink->failure->detail : sink->failure->hint;

			/* file names are the set's own, as they are */
			FUZZ_CHECK(said == NULL || fuzz_is_text(said, strlen(said)),
					   "a message is no text");
		}
		FUZZ_CHECK(fuzz_sink_count() <= 4 * (int) size + 4,
				   "more records than bytes");
		shim_reset();
	}
	return 0;
}
