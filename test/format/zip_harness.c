/*
 * zip_harness.c
 *		src/format/zip.c without a server: cases, limits, reads that fail, zip
 *		files by Perl; what zip_damage.c does to some, for so many seconds.
 *
 *	zip_harness --zips FOLDER [--seed N] [seconds]
 */
#include "postgres.h"

#include <dirent.h>
#include <locale.h>
#include <stdlib.h>

#include "miscadmin.h"

#include "format/zip.h"
#include "harness.h"
#include "shim.h"
#include "zip_harness.h"

#define USERS	.name = "users.csv", .data = "id\n1\n"
#define ORGS	.name = "orgs.csv", .data = "id\n7\n8\n"
#define USERS_OUT	"users.csv 5: id\n1\n"
#define ORGS_OUT	"orgs.csv 7: id\n7\n8\n"

#define CANNOT_USE(name)	"SI006 cannot use entry \"" name "\" of zip file \"z\": "
#define FOLDERS		"SI006 zip file \"z\" has CSV files in more than one folder: "
#define DISAGREES	"What stands before entry \"users.csv\" does not agree with the directory.\n"

const Case cases[] = {
	/* what is read */
	{"stored", {{USERS}, {ORGS}}, {0}, ORGS_OUT USERS_OUT},
	{"deflate", {{USERS, .method = DEFLATE}, {ORGS, .method = DEFLATE}}, {0},
	ORGS_OUT USERS_OUT},
	{"bzip2", {{USERS, .method = BZIP2}, {ORGS}}, {0}, ORGS_OUT USERS_OUT},
	{"data descriptors", {{USERS, .method = DEFLATE, .descriptor = true},
	{ORGS, .descriptor = true}}, {0}, ORGS_OUT USERS_OUT},
	{"zip64", {{USERS, .method = DEFLATE, .zip64 = true},
			{ORGS, .descriptor = true, .zip64 = true}}, {.zip64 = true},
	ORGS_OUT USERS_OUT},
	{"zip64 without zip64 entries", {{USERS}}, {.zip64 = true}, USERS_OUT},
	{"over 4 GB", {{USERS, .zip64 = true}, {ORGS, .method = DEFLATE, .zip64 = true}},
	{.zip64 = true, .hole = INT64CONST(5) << 30}, ORGS_OUT USERS_OUT},
	{"over 2 GB", {{USERS}, {ORGS, .method = DEFLATE}},
	{.hole = INT64CONST(3) << 30}, ORGS_OUT USERS_OUT},
	{"empty entries", {{.name = "a.csv"}, {.name = "b.csv", .method = DEFLATE},
	{.name = "c.csv", .descriptor = true}}, {0},
	"a.csv 0: b.csv 0: c.csv 0: "},
	{"one folder", {{.name = "export/"}, {.name = "export/users.csv", .data = "id\n"},
	{.name = "export/Orgs.CSV", .method = DEFLATE}}, {0},
	"Orgs.CSV 0: users.csv 3: id\n"},
	{"a folder in a folder", {{.name = "a/b/users.csv"}, {.name = "a/b/orgs.csv"}},
	{0}, "orgs.csv 0: users.csv 0: "},
	{"comment", {{USERS}}, {.comment = "made PK\001\002 tonight"}, USERS_OUT},
	{"equal but for case", {{.name = "Users.csv"}, {USERS}}, {0},
	"Users.csv 0: " USERS_OUT},
	{"the same name twice", {{USERS}, {.name = "users.csv"}}, {0},
	USERS_OUT "users.csv 0: "},
	{"passed over", {{.name = ".users.csv"}, {.name = "README.txt", .method = LZMA},
			{.name = "__MACOSX/export/._users.csv"}, {.name = "a/.b/users.csv"},
	{USERS}, {.name = ".csv"}}, {0}, USERS_OUT},
	{"names not in ASCII", {{.name = "\xE9l\xE8ves.csv"}, {.name = "\x95\x5C.csv"},
			{.name = "\xC3\xA9l\xC3\xA8ves.csv", .flags = 0x800, .method = DEFLATE},
	{.name = "\xFF\xFE/x.csv", .flags = 0x800}, {USERS}}, {0}, USERS_OUT},
	{"time in GMT", {{USERS, .extra = "UT\005\000\001\000\361\123\145", .extra_len = 9}},
	{0}, "users.csv@1700000000 5: id\n1\n"},
	{"no entries", {{0}}, {0}, ""},
	{"no entries, zip64", {{0}}, {.zip64 = true}, ""},

	/* names, links, encryption */
	{"dots", {{USERS}, {.name = "../orgs.csv"}}, {0},
	CANNOT_USE("../orgs.csv") "Its name leads out of the folder by \"..\".\n"},
	{"dots within", {{.name = "a/../orgs.csv"}}, {0},
	CANNOT_USE("a/../orgs.csv") "Its name leads out of the folder by \"..\".\n"},
	{"dots, not a CSV file", {{USERS}, {.name = "__MACOSX/../../x"}}, {0},
	CANNOT_USE("__MACOSX/../../x")},
	{"only dots", {{.name = ".."}}, {0}, CANNOT_USE("..")},
	{"dots that are a name", {{.name = "..users.csv"}, {USERS}}, {0}, USERS_OUT},
	{"absolute", {{.name = "/users.csv"}}, {0},
	CANNOT_USE("/users.csv") "Its name does not begin in the zip file's own root.\n"},
	{"drive", {{.name = "C:users.csv"}}, {0}, CANNOT_USE("C:users.csv")},
	{"backslash", {{.name = "export\\users.csv"}}, {0},
	CANNOT_USE("export\\users.csv") "Its name has a backslash.\n"},
	{"unprintable", {{.name = "../\x1b[31m\x80.csv"}}, {0},
	CANNOT_USE("../?[31m?.csv")},
	{"symbolic link", {{USERS, .attributes = 0xA1FF0000}}, {0},
	CANNOT_USE("users.csv") "It is a symbolic link.\n"},
	{"encrypted", {{USERS, .flags = 1}}, {0},
	CANNOT_USE("users.csv") "It is encrypted.\n"},
	{"strongly encrypted", {{USERS, .flags = 0x41}}, {0},
	CANNOT_USE("users.csv") "It is encrypted.\n"},
	{"two folders", {{.name = "a/users.csv"}, {.name = "b/orgs.csv"}}, {0},
	FOLDERS "One is \"a/users.csv\", another \"b/orgs.csv\".\n"},
	{"root and a folder", {{USERS}, {.name = "b/orgs.csv"}}, {0}, FOLDERS},
	{"a folder and a folder in it", {{.name = "a/users.csv"}, {.name = "a/b/orgs.csv"}},
	{0}, FOLDERS},
	{"a folder that is called a CSV file", {{USERS, .attributes = 0x41ED0000}}, {0},
	"users.csv 5: " CORRUPT "Entry \"users.csv\": it is not a file.\n"},
	{"another method", {{USERS, .method = LZMA}}, {0},
	CANNOT_USE("users.csv") "It is packed by method 14; stored, deflate and bzip2 are read.\n"},

	/* headers that do not agree */
	{"another name", {{USERS, .header_name = "usera.csv"}}, {0}, CORRUPT DISAGREES},
	{"a longer name", {{USERS, .header_name = "users.csvx"}}, {0}, CORRUPT DISAGREES},
	{"another size", {{USERS, .header_size = 1}}, {0}, CORRUPT DISAGREES},
	{"another packed size", {{USERS, .header_packed = -1}}, {0}, CORRUPT DISAGREES},
	{"another CRC", {{USERS, .header_crc = 1}}, {0}, CORRUPT DISAGREES},
	{"another method before it", {{USERS, .header_method = LZMA}}, {0},
	CORRUPT DISAGREES},
	{"encrypted, and not told", {{USERS, .header_flags = 1}}, {0},
	CORRUPT DISAGREES},
	{"another place", {{USERS, .move = 1}}, {0}, CORRUPT DISAGREES},
	{"place behind the entries", {{USERS, .move = 1000}}, {0}, CORRUPT DISAGREES},
	{"place before the file", {{USERS, .move = -1}}, {0}, CORRUPT DISAGREES},
	{"one entry twice", {{USERS}, {USERS, .same_as = 1}}, {0},
	CORRUPT "Two of its entries share the bytes at 0.\n"},
	{"fewer packed bytes", {{USERS, .more_packed = -1}}, {0},
	"users.csv 5: " CUT "Entry \"users.csv\" has 4 of the 5 bytes"},
	{"no room", {{USERS, .more_packed = 1}}, {0},
	CORRUPT "Entry \"users.csv\" has no room for its 6 bytes.\n"},
	{"more packed bytes", {{USERS, .more_packed = 1}, {ORGS}}, {0},
	CORRUPT "Two of its entries share the bytes at 44.\n"},
	{"wrong CRC", {{USERS, .method = DEFLATE, .other_crc = 1}, {ORGS}}, {0},
	ORGS_OUT "users.csv 5: " CORRUPT "Entry \"users.csv\": libarchive: ZIP bad CRC"},
	{"wrong CRC, stored", {{USERS, .other_crc = 1}}, {0},
	"users.csv 5: " CORRUPT "Entry \"users.csv\": libarchive: ZIP bad CRC"},
	{"wrong CRC, descriptor", {{USERS, .descriptor = true, .other_crc = 1}}, {0},
	"users.csv 5: " CORRUPT "Entry \"users.csv\": libarchive: ZIP bad CRC"},
	{"wrong CRC, empty", {{.name = "users.csv", .other_crc = 1}}, {0},
	CORRUPT "Entry \"users.csv\" is empty, and its CRC is another.\n"},
	{"larger than its size", {{USERS, .method = DEFLATE, .more_size = -1}}, {0},
	"users.csv 4: " CORRUPT},
	{"smaller than its size", {{USERS, .method = DEFLATE, .more_size = 1}}, {0},
	"users.csv 6: " CUT "Entry \"users.csv\" has 5 of the 6 bytes that the directory says.\n"},
	{"nothing packed", {{USERS, .more_packed = -5}}, {0},
	"users.csv 5: " CUT "Entry \"users.csv\" has 0 of the 5 bytes"},
	{"no deflate stream", {{USERS, .method = DEFLATE, .more_packed = -1}}, {0},
	"users.csv 5: " CORRUPT "Entry \"users.csv\": libarchive: "},
	{"extra fields too long", {{USERS, .extra = "UT\006\000\001\000\361\123\145", .extra_len = 9}},
	{0}, CORRUPT "Its directory cannot be read.\n"},
	{"extra fields beyond the directory", {{USERS, .claimed_extra = 1}}, {0},
	CORRUPT "Its directory cannot be read.\n"},

	/* the directory */
	{"fewer entries", {{USERS}, {ORGS}}, {.more_count = 1},
	CORRUPT "Its directory has fewer entries than its end record says.\n"},
	{"more entries", {{USERS}, {ORGS}}, {.more_count = -1},
	CORRUPT "Its directory has more entries than its end record says.\n"},
	{"more entries, zip64", {{USERS}, {ORGS}}, {.more_count = -1, .zip64 = true},
	CORRUPT "Its directory has more entries than its end record says.\n"},
	{"directory too short", {{USERS}, {ORGS}}, {.more_size = -1}, CORRUPT},
	{"directory too long", {{USERS}, {ORGS}}, {.more_size = 1},
	CUT "1 bytes before its directory are missing.\n"},
	{"directory too long, zip64", {{USERS}, {ORGS}}, {.more_size = 1, .zip64 = true},
	CORRUPT "Its directory is not where its zip64 end record says.\n"},
	{"bytes missing before it", {{USERS}, {ORGS}}, {.more_begin = 1000},
	CUT "1000 bytes before its directory are missing.\n"},
	{"bytes too many before it", {{USERS}, {ORGS}}, {.more_begin = -1}, CORRUPT},
	{"split", {{USERS}}, {.disk = 1}, CORRUPT "It is one part of several.\n"},
	{"split, zip64", {{USERS}}, {.disk = 1, .zip64 = true},
	CORRUPT "It is one part of several.\n"},
	{"entries elsewhere", {{USERS}}, {.elsewhere = 1},
	CORRUPT "It is one part of several.\n"},
	{"entries elsewhere, zip64", {{USERS}}, {.elsewhere = 1, .zip64 = true},
	CORRUPT "It is one part of several.\n"},
	{"cut comment", {{USERS}}, {.comment = "made", .claimed_comment = 8},
	CUT "It has 125 bytes instead of 133.\n"},
	{"bytes behind", {{USERS}}, {.behind = "\r\n"},
	CORRUPT "It has 2 bytes behind its end.\n"},
	{"cut end", {{USERS}}, {.cut = 1},
	CUT "It has 120 bytes, but not the directory that ends a zip file.\n"},
	{"bytes in front", {{USERS}}, {.before = "#!/bin/sh\n"}, USERS_OUT},
	{"bytes in front, not counted", {{USERS}}, {.before = "#!/bin/sh\n", .more_begin = -10},
	CORRUPT "Its directory is not where its end record says.\n"},
};
const int	ncases = lengthof(cases);

bool		show_times = true;

/* ----------
 * A zip file and what comes out of it
 * ----------
 */

static int
read_source(void *arg, int64 offset, char *buf, int len)
{
	Source	   *source = arg;
	int64		size = source->len + source->hole;
	int64		n = Min(len, size - offset);
	int64		data_at = offset;

	source->nreads++;
	if (source->nreads == source->throw_at)
		shim_throw();
	if (source->nreads == source->cancel_at)
		InterruptPending = true;
	if (source->nreads == source->fail_at)
		return -1;
	if (source->end_at > 0 && source->nreads >= source->end_at)
		return 0;
	if (offset < 0 || len <= 0)
		abort();
	if (source->chunk > 0)
	{
		int64		chunk = 1 + random_below(source->chunk);

		n = Min(n, chunk);
	}

	if (offset >= source->hole_at + source->hole)
		data_at = offset - source->hole;
	else if (offset >= source->hole_at)
	{
		n = Min(n, source->hole_at + source->hole - offset);
		memset(buf, 0, n);
		return (int) n;
	}
	else
		n = Min(n, source->hole_at - offset);
	if (n > 0)
		memcpy(buf, source->data + data_at, n);
	return (int) Max(n, 0);
}

static void
put_failure(Buffer *out, const SisFailure *failure)
{
	int			code = failure->code;

	if (failure->code == SIS_OK)
		put_string(out, "no failure");
	else
		put_format(out, "SI%03d %s: %s\n", code, failure->message,
				   failure->detail ? failure->detail : "");
}

static void
put_entry(Buffer *out, const SisZip *zip, int i, SisFailure *failure)
{
	const SisZipEntry *entry = sis_zip_entry(zip, i);
	void	   *reader = sis_zip_read_open(zip, i, failure);
	static Buffer data;			/* static: a read may throw */
	char		buf[8192];
	int			n = -1;

	data.len = 0;
	put_string(out, entry->name);
	if (show_times && entry->mtime != MTIME)
		put_format(out, "@" INT64_FORMAT, entry->mtime);
	put_format(out, " " INT64_FORMAT ": ", entry->size);
	while (reader != NULL &&
		   (n = sis_zip_read(reader, buf, 1 + random_below(sizeof(buf)))) > 0)
	{
		put(&data, buf, n);
		if ((int64) data.len > entry->size)
			abort();
	}
	if (reader != NULL && sis_zip_read(reader, buf, 1) != n)
		put_string(out, "the end does not last\n");
	if (n < 0)
		put_failure(out, failure);
	else if ((int64) data.len != entry->size)
		put_string(out, "short\n");
	else if (data.len > SHOWN)
		put_format(out, "%08x\n", crc_of(data.data, data.len));
	else
		put(out, data.data, data.len);
}

/* Opens a zip file, reads all its entries, and writes down what came out. */
const char *
read_zip(Buffer *out, Source *source)
{
	SisBlob		blob = {source->len + source->hole, read_source, source};
	SisFailure	failure = {0};
	SisZip	   *zip;

	out->len = 0;
	put_string(out, " ");
	out->len = 0;
	out->data[0] = '\0';
	source->nreads = 0;
	PG_TRY();
	{
		zip = sis_zip_open(&blob, "z", &failure);
		if (zip == NULL)
			put_failure(out, &failure);
		for (int i = 0; zip != NULL && i < sis_zip_nentries(zip); i++)
		{
			SisFailure	entry_failure = {0};

			put_entry(out, zip, i, &entry_failure);
		}
	}
	PG_CATCH();
	{
		put_string(out, "thrown");
	}
	PG_END_TRY();
	InterruptPending = false;
	shim_reset();
	return out->data;
}

Source
source_of(const Buffer *zip)
{
	Source		source = {zip->data, zip->len};

	return source;
}

bool
begins(const char *text, const char *expected)
{
	return *expected == '\0' ? *text == '\0' :
		strncmp(text, expected, strlen(expected)) == 0;
}

static void
check_outcome(const char *name, const char *outcome, const char *expected)
{
	bool		ok = begins(outcome, expected);

	check(ok, "%s", name);
	if (!ok)
		printf("\texpected %s\n\tgot      %s\n", expected, outcome);
}

/* ----------
 * Cases
 * ----------
 */

static void
run_cases(const char *locale)
{
	Buffer		out = {0};

	if (setlocale(LC_ALL, locale) == NULL)
		abort();
	for (int i = 0; i < lengthof(cases); i++)
	{
		const Case *c = &cases[i];
		Buffer		zip = build_zip(c->items, &c->ending);

		for (int chunk = 0; chunk <= 7; chunk += 7)
		{
			Source		source = source_of(&zip);

			source.chunk = chunk;
			source.hole = c->ending.hole;
			check_outcome(c->name, read_zip(&out, &source), c->expected);
		}
		free(zip.data);
	}
	free(out.data);
}

static void
run_text(const char *name, const char *data, int len, const char *expected)
{
	char	   *copy = malloc(len + 1);
	Source		source = {copy, len};
	Buffer		out = {0};

	memcpy(copy, data, len);
	check_outcome(name, read_zip(&out, &source), expected);
	free(copy);
	free(out.data);
}

static void
run_no_zips(void)
{
	char		zeros[100000] = {0};

	run_text("zero bytes", "", 0, "SI007 zip file \"z\" is empty: ");
	run_text("one byte", "P", 1, CUT);
	run_text("another byte", "x", 1, "SI006 file \"z\" is not a zip file: ");
	run_text("HTML", "<!DOCTYPE html>\n<p>no</p>\n", 26,
			 "SI006 file \"z\" is not a zip file: It has 26 bytes, and neither");
	run_text("zeros", zeros, sizeof(zeros),
			 "SI006 file \"z\" is not a zip file: ");
	run_text("end record without a directory", "PK\005\006\0\0\0\0\1\0\1\0\0\0\0\0\0\0\0\0\0\0", 22,
			 CORRUPT "Its directory has fewer entries than its end record says.\n");
	run_text("end record, cut", "PK\005\006\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 21,
			 "SI006 file \"z\" is not a zip file: ");
}

/* Entries of every size around those of the buffers. */
static void
run_sizes(void)
{
	static const int methods[] = {STORED, DEFLATE, BZIP2};
	static const int sizes[] = {1, 65535, 65536, 65537, 262143, 262144, 262145, 3000000};
	static char data[3000000];
	Buffer		out = {0};

	for (int i = 0; i < (int) sizeof(data); i++)
		data[i] = 'a' + random_below(20);
	for (int m = 0; m < lengthof(methods); m++)
	{
		for (int s = 0; s < lengthof(sizes); s++)
		{
			Item		item = {.name = "users.csv", .method = methods[m]};
			Ending		ending = {0};
			Builder		builder = {{0}};
			Source		source;
			char		expected[100];

			build_item(&builder, &item, data, sizes[s]);
			build_item(&builder, &item, data, sizes[s]);
			build_end(&builder, &ending);
			source = source_of(&builder.zip);
			if (sizes[s] <= SHOWN)
				snprintf(expected, sizeof(expected), "users.csv 1: %c", data[0]);
			else
				snprintf(expected, sizeof(expected), "users.csv %d: %08x\nusers.csv",
						 sizes[s], crc_of(data, sizes[s]));
			check_outcome("sizes", read_zip(&out, &source), expected);
			free(builder.zip.data);
		}
	}
	free(out.data);
}

/* ----------
 * Limits
 * ----------
 */

static void
run_many(int n, const char *expected_end)
{
	Builder		builder = {{0}};
	Ending		ending = {.zip64 = n > 65000};
	Buffer		out = {0};
	Source		source;
	const char *text;
	bool		ok;

	for (int i = 0; i < n; i++)
	{
		char		name[20];
		Item		item = {.name = name};

		snprintf(name, sizeof(name), i == n - 1 ? "users.csv" : "%d.txt", i);
		build_item(&builder, &item, "id\n1\n", 5);
	}
	build_end(&builder, &ending);
	source = source_of(&builder.zip);
	text = read_zip(&out, &source);
	ok = begins(text, expected_end);
	check(ok, "%d entries: %s", n, ok ? "" : text);
	free(builder.zip.data);
	free(out.data);
}

/* Nothing but zeros: 1,000 times smaller when packed. */
static void
run_zeros(int64 size, int method, int claim, const char *expected)
{
	char	   *zeros = calloc(1, size);
	Item		item = {.name = "users.csv", .method = method, .more_size = claim};
	Ending		ending = {0};
	Builder		builder = {{0}};
	Buffer		out = {0};
	Source		source;
	char		name[100];

	build_item(&builder, &item, zeros, size);
	build_end(&builder, &ending);
	source = source_of(&builder.zip);
	snprintf(name, sizeof(name), INT64_FORMAT " zeros, method %d, claim %d",
			 size, method, claim);
	check_outcome(name, read_zip(&out, &source), expected);
	free(zeros);
	free(builder.zip.data);
	free(out.data);
}

/* A directory that says too much already, of entries that nobody reads. */
static void
run_large(int n, int64 size, const char *expected)
{
	Builder		builder = {{0}};
	Ending		ending = {.zip64 = true};
	Buffer		out = {0};
	Source		source;
	SisBlob		blob;
	SisFailure	failure = {0};

	for (int i = 0; i < n; i++)
	{
		char		name[20];
		Item		item = {.name = name, .zip64 = true, .descriptor = true};
		char		wide[8];
		size_t		at = builder.directory.len;

		snprintf(name, sizeof(name), "%d.csv", i);
		build_item(&builder, &item, "id\n1\n", 5);
		for (int b = 0; b < 8; b++)
			wide[b] = (char) (size >> (8 * b));
		memcpy(builder.directory.data + at + 46 + strlen(name) + 4, wide, 8);
	}
	build_end(&builder, &ending);
	source = source_of(&builder.zip);
	blob = (SisBlob) {source.len, read_source, &source};
	if (sis_zip_open(&blob, "z", &failure) == NULL)
		put_failure(&out, &failure);
	else
		put_string(&out, "opened");
	check_outcome("large", out.data, expected);
	shim_reset();
	free(builder.zip.data);
	free(out.data);
}

static void
run_limits(void)
{
	char		expected[100];

	run_many(SIS_ZIP_MAX_ENTRIES, USERS_OUT);
	run_many(SIS_ZIP_MAX_ENTRIES + 1,
			 "SI006 zip file \"z\" is too large: It has 10001 entries; 10000 are the most.\n");
	run_many(20000, "SI006 zip file \"z\" is too large: It has 20000 entries; 10000 are the most.\n");
	run_many(70000, "SI006 zip file \"z\" is too large: It has 70000 entries; 10000 are the most.\n");

	snprintf(expected, sizeof(expected), "users.csv " INT64_FORMAT ": ",
			 SIS_ZIP_RATIO_FROM);
	run_zeros(SIS_ZIP_RATIO_FROM, DEFLATE, 0, expected);
	run_zeros(SIS_ZIP_RATIO_FROM + 1, DEFLATE, 0,
			  "users.csv 67108865: SI006 zip file \"z\" unpacks to too many bytes: ");
	run_zeros(SIS_ZIP_RATIO_FROM + 1, BZIP2, 0,
			  "users.csv 67108865: SI006 zip file \"z\" unpacks to too many bytes: ");
	run_zeros(SIS_ZIP_RATIO_FROM + 1, STORED, 0, "users.csv 67108865: ");
	run_zeros(10000000, DEFLATE, -9999000,
			  "users.csv 1000: " CORRUPT "Entry \"users.csv\": ");

	run_large(4, SIS_ZIP_MAX_FILE, "opened");
	run_large(5, SIS_ZIP_MAX_FILE,
			  "SI006 zip file \"z\" is too large: Its CSV files have more than 68719476736 bytes together.\n");
	run_large(1, SIS_ZIP_MAX_FILE + 1,
			  "SI006 zip file \"z\" is too large: Its entry \"0.csv\" has 17179869185 bytes; 17179869184 are the most.\n");
	run_large(2, PG_INT64_MAX, "SI006 zip file \"z\" is too large: ");
	run_large(1, PG_INT64_MIN, CORRUPT "Its directory cannot be read.\n");
}

/* ----------
 * Readers, and reads that fail
 * ----------
 */

Buffer
sample(bool large)
{
	static char data[200000];
	Item		items[] = {
		{.name = "orgs.csv", .data = "id\n7\n8\n", .method = DEFLATE},
		{.name = "classes.csv", .data = "id,title\n1,Mathematics\n", .descriptor = true},
		{.name = "users.csv", .data = "id,name,name,name\n1,Ann,Ann,Ann\n",
			.method = DEFLATE, .descriptor = true},
		{.name = "notes.txt", .data = "made tonight"},
		{.name = "terms.csv", .data = "id,title\n1,Fall 2024\n", .method = DEFLATE, .zip64 = true},
	};
	Ending		ending = {.comment = "a roster"};
	Builder		builder = {{0}};

	for (int i = 0; i < lengthof(items); i++)
		build_item(&builder, &items[i], items[i].data, strlen(items[i].data));
	if (large)
	{
		Item		item = {.name = "enrollments.csv", .method = DEFLATE};

		for (int i = 0; i < (int) sizeof(data); i++)
			data[i] = 'a' + random_below(20);
		build_item(&builder, &item, data, sizeof(data));
	}
	build_end(&builder, &ending);
	return builder.zip;
}

static void
run_readers(void)
{
	Buffer		zip_file = sample(true);
	Source		source = source_of(&zip_file);
	SisBlob		blob = {source.len, read_source, &source};
	SisFailure	failure = {0};
	SisZip	   *zip = sis_zip_open(&blob, "z", &failure);
	void	   *readers[20];
	Buffer		got[20] = {{0}};
	int			open = lengthof(readers);

	check(zip != NULL && sis_zip_nentries(zip) == 5, "sample");
	check(strcmp(sis_zip_entry(zip, 0)->name, "classes.csv") == 0 &&
		  strcmp(sis_zip_entry(zip, 4)->name, "users.csv") == 0, "order of names");

	/* every entry four times, byte by byte in any order */
	for (int i = 0; i < lengthof(readers); i++)
		readers[i] = sis_zip_read_open(zip, i % 5, &failure);
	while (open > 0)
	{
		int			i = random_below(lengthof(readers));
		char		buf[2000];
		int			n;

		if (readers[i] == NULL)
			continue;
		n = sis_zip_read(readers[i], buf, sizeof(buf));
		if (n > 0)
			put(&got[i], buf, n);
		else
		{
			check(n == 0, "readers together");
			readers[i] = NULL;
			open--;
		}
	}
	for (int i = 0; i < lengthof(readers); i++)
	{
		check((int64) got[i].len == sis_zip_entry(zip, i % 5)->size &&
			  memcmp(got[i].data, got[i % 5].data, got[i].len) == 0,
			  "readers together: the same");
	}
	for (int i = 0; i < lengthof(readers); i++)
		free(got[i].data);
	shim_reset();
	free(zip_file.data);
}

static void
run_failing_reads(void)
{
	Buffer		zip = sample(true);
	Source		whole = source_of(&zip);
	Buffer		out = {0};
	int			nreads;

	read_zip(&out, &whole);
	nreads = whole.nreads;
	check(nreads > 20, "reads of the sample");
	for (int at = 1; at <= nreads; at++)
	{
		Source		source = source_of(&zip);
		const char *text;

		source.fail_at = at;
		text = read_zip(&out, &source);
		check(strstr(text, "SI004 could not read zip file \"z\": \n") != NULL,
			  "read %d fails: %s", at, text);

		source = source_of(&zip);
		source.throw_at = at;
		text = read_zip(&out, &source);
		check(strstr(text, "thrown") != NULL, "read %d throws: %s", at, text);

		source = source_of(&zip);
		source.cancel_at = at;
		text = read_zip(&out, &source);
		check(strstr(text, "thrown") != NULL && source.nreads == at,
			  "read %d is cancelled, %d done: %s", at, source.nreads, text);

		source = source_of(&zip);
		source.end_at = at;
		text = read_zip(&out, &source);
		check(strstr(text, CUT "It ends after ") != NULL,
			  "read %d has nothing more: %s", at, text);
	}
	free(zip.data);
	free(out.data);
}

/* ----------
 * Zip files by somebody else's hand
 * ----------
 */

static void
run_zip_file(const char *folder, const char *name)
{
	Buffer		path = {0};
	Buffer		zip = {0};
	Buffer		out = {0};
	Source		source;
	FILE	   *file;
	char		buf[65536];
	size_t		n;
	const char *text;

	put_format(&path, "%s/%s", folder, name);
	file = fopen(path.data, "rb");
	while (file != NULL && (n = fread(buf, 1, sizeof(buf), file)) > 0)
		put(&zip, buf, n);
	if (file != NULL)
		fclose(file);
	source = source_of(&zip);
	text = read_zip(&out, &source);
	check(begins(text, "orgs.csv@1700000000 23: sourcedId,name\n1,North\nusers.csv@1700000000 317809: ") &&
		  strstr(text, "SI00") == NULL, "%s: %s", name, text);
	free(path.data);
	free(zip.data);
	free(out.data);
}

static void
run_zip_files(const char *folder)
{
	DIR		   *dir = opendir(folder);
	struct dirent *entry;
	int			n = 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.')
			continue;
		run_zip_file(folder, entry->d_name);
		n++;
	}
	if (dir != NULL)
		closedir(dir);
	check(n >= 9, "%d zip files by Perl", n);
}

int
main(int argc, char **argv)
{
	const char *folder = ".";
	double		limit;

	if (argc > 2 && strcmp(argv[1], "--zips") == 0)
	{
		folder = argv[2];
		argc -= 2;
		argv += 2;
	}
	limit = begin_checks(argc, argv, 20);
	run_cases("C.UTF-8");
	run_cases("C");
	run_no_zips();
	run_sizes();
	run_limits();
	run_readers();
	run_failing_reads();
	run_zip_files(folder);

	run_damage(limit);
	return finish_checks();
}
