/*
 * zip_directory.c
 *		The directory of a zip file: where its entries are, and whether they
 *		can be trusted.
 *
 * A zip file says everything twice: a header stands before each entry, and the
 * directory at the end of the file repeats them all.  libarchive believes a
 * bit of both: it takes names and sizes from the headers, drops one of two
 * entries with the same place without a word, counts none, and holds them all
 * in memory before it shows the first.  So the directory is read here first,
 * and libarchive is asked only for the bytes of an entry.
 *
 * Nothing is forgiven that a sound zip file does not need.  The directory must
 * end where its end record begins and have as many entries as that counts, the
 * record must end the file, the headers must agree with the directory, and no
 * entry may share a byte with another.  A file that was cut, overwritten by a
 * shorter one, or made to unpack one piece many times fails one of these.  As
 * libarchive is bound by the same records, it finds the same entries.
 *
 * Numbers are little-endian.  The records (PKWARE's APPNOTE, 4.3):
 *
 *	header			PK 3 4	30 bytes, name, extra fields; then the data
 *	directory entry	PK 1 2	46 bytes, name, extra fields, comment
 *	zip64 end		PK 6 6	56 bytes and more
 *	zip64 locator	PK 6 7	20 bytes
 *	end				PK 5 6	22 bytes, comment
 */
#include "postgres.h"

#include <sys/stat.h>
#include <time.h>

#include "miscadmin.h"

#include "format/zip_directory.h"

#define HEADER_SIZE		30
#define ENTRY_SIZE		46
#define END64_SIZE		56
#define LOCATOR_SIZE	20
#define END_SIZE		22

/* libarchive looks for the end record here and no further. */
#define TAIL_SIZE		(16 * 1024)

#define FLAG_ENCRYPTED	(0x0001 | 0x0040 | 0x2000)

#define EXTRA_ZIP64		0x0001
#define EXTRA_TIME		0x5455

#define MAX_NAME		255		/* of a file, as file systems have it */
#define MAX_SHOWN		100		/* bytes of a name in a message */

#define HINT_UPLOAD		"Run the sync again when the upload has ended."
#define HINT_MAKE		"Have the zip file made and uploaded again."
#define HINT_PLAIN		"Put the CSV files themselves into the zip file, without a password, at its root or all in one folder."

/* What an entry of the directory says. */
typedef struct Record
{
	int			flags;
	int			method;
	uint32		crc;
	int64		size;
	int64		packed;
	int64		mtime;
	int64		header;			/* where its header begins */
	uint32		attributes;
	const char *name;			/* not terminated */
	int			namelen;
} Record;

/* Bytes of the zip file that belong to one entry. */
typedef struct Extent
{
	int64		begin;
	int64		end;
} Extent;

typedef struct Scan
{
	SisZip	   *zip;
	SisFailure *failure;
	int64		begin;			/* of the directory */
	int64		end;
	int64		nentries;
	Extent	   *extents;
	char	   *text;			/* name and extra fields of an entry */
	char	   *header_name;	/* the name in its header */
	int			folder;			/* of the CSV files: bytes of the first one's
								 * path up to its base name */
	int64		total;			/* bytes, unpacked */
} Scan;

typedef enum NameKind
{
	NAME_CSV,
	NAME_OTHER,					/* passed over */
	NAME_REFUSED				/* see why */
} NameKind;

/* ----------
 * Failures
 * ----------
 */

bool
sis_zip_fail_corrupt(const SisZip *zip, SisFailure *failure,
					 const char *detail)
{
	return sis_fail(failure, SIS_ERR_MALFORMED, NULL, detail, HINT_MAKE,
					"zip file \"%s\" is corrupt", zip->place);
}

bool
sis_zip_fail_cut(const SisZip *zip, SisFailure *failure, const char *detail)
{
	return sis_fail(failure, SIS_ERR_INCOMPLETE, NULL, detail, HINT_UPLOAD,
					"zip file \"%s\" is cut short", zip->place);
}

bool
sis_zip_fail_read(const SisZip *zip, SisFailure *failure)
{
	return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, NULL, NULL,
					"could not read zip file \"%s\"", zip->place);
}

static bool
fail_corrupt(Scan *scan, const char *detail)
{
	return sis_zip_fail_corrupt(scan->zip, scan->failure, detail);
}

static bool
fail_cut(Scan *scan, const char *detail)
{
	return sis_zip_fail_cut(scan->zip, scan->failure, detail);
}

static bool
fail_limit(Scan *scan, char *detail)
{
	return sis_fail(scan->failure, SIS_ERR_MALFORMED, NULL, detail,
					"Put only the CSV files of the roster into the zip file.",
					"zip file \"%s\" is too large", scan->zip->place);
}

/* A name as it may stand in a message: printable, and not too long. */
static char *
shown(const char *name, int len)
{
	char	   *copy = psprintf("%.*s%s", Min(len, MAX_SHOWN), name,
								len > MAX_SHOWN ? "..." : "");

	for (char *p = copy; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return copy;
}

static bool
fail_entry(Scan *scan, const Record *record, const char *detail)
{
	return sis_fail(scan->failure, SIS_ERR_MALFORMED, NULL, detail, HINT_PLAIN,
					"cannot use entry \"%s\" of zip file \"%s\"",
					shown(record->name, record->namelen), scan->zip->place);
}

static bool
fail_disagree(Scan *scan, const Record *record)
{
	return fail_corrupt(scan,
						psprintf("What stands before entry \"%s\" does not agree with the directory.",
								 shown(record->name, record->namelen)));
}

/* ----------
 * Bytes
 * ----------
 */

static int
get16(const char *p)
{
	return (unsigned char) p[0] | (unsigned char) p[1] << 8;
}

static uint32
get32(const char *p)
{
	return (uint32) get16(p) | (uint32) get16(p + 2) << 16;
}

/* A size or place; negative when it is more than any can be. */
static int64
get64(const char *p)
{
	return (int64) (get32(p) | (uint64) get32(p + 4) << 32);
}

static bool
is_record(const char *p, int third, int fourth)
{
	return p[0] == 'P' && p[1] == 'K' && p[2] == third && p[3] == fourth;
}

/* Reads all of len bytes, which must be there. */
static bool
read_bytes(Scan *scan, int64 offset, char *buf, int len)
{
	const SisBlob *blob = &scan->zip->blob;

	while (len > 0)
	{
		int			n;

		CHECK_FOR_INTERRUPTS();
		n = blob->read_at(blob->arg, offset, buf, len);
		if (n < 0)
			return sis_zip_fail_read(scan->zip, scan->failure);
		if (n == 0)
			return fail_cut(scan,
							psprintf("It ends after %lld of %lld bytes.",
									 (long long) offset,
									 (long long) blob->size));
		offset += n;
		buf += n;
		len -= n;
	}
	return true;
}

/* ----------
 * Where the directory is
 * ----------
 */

/* There is no end record: say what this may be instead. */
static bool
fail_without_end(Scan *scan)
{
	int64		size = scan->zip->blob.size;
	char		head[4];

	if (!read_bytes(scan, 0, head, Min(size, 4)))
		return false;
	if (memcmp(head, "PK\003\004", Min(size, 4)) == 0)
		return fail_cut(scan,
						psprintf("It has %lld bytes, but not the directory that ends a zip file.",
								 (long long) size));
	return sis_fail(scan->failure, SIS_ERR_MALFORMED, NULL,
					psprintf("It has %lld bytes, and neither begins nor ends as a zip file does.",
							 (long long) size),
					"Look into the file: a page that reports an error may have been saved under its name.",
					"file \"%s\" is not a zip file", scan->zip->place);
}

/* Large zip files have a second end record with wider numbers. */
static bool
take_end64(Scan *scan, const char *locator, int64 locator_at)
{
	int64		at = get64(locator + 8);
	char		end[END64_SIZE];
	int64		size;
	int64		length;

	if (get32(locator + 4) != 0 || get32(locator + 16) != 1)
		return fail_corrupt(scan, "It is one part of several.");
	if (at < 0 || at > locator_at - END64_SIZE)
		return fail_corrupt(scan, "Its zip64 end record is not where it should be.");
	if (!read_bytes(scan, at, end, END64_SIZE))
		return false;

	size = get64(end + 4);
	if (!is_record(end, 6, 6) || size != locator_at - at - 12)
		return fail_corrupt(scan, "Its zip64 end record is not where it should be.");
	if (get32(end + 16) != 0 || get32(end + 20) != 0 ||
		get64(end + 24) != get64(end + 32))
		return fail_corrupt(scan, "It is one part of several.");

	scan->nentries = get64(end + 32);
	length = get64(end + 40);
	scan->begin = get64(end + 48);
	scan->end = at;
	if (scan->nentries < 0 || length < 0 || scan->begin < 0 ||
		length > at || scan->begin != at - length)
		return fail_corrupt(scan, "Its directory is not where its zip64 end record says.");
	return true;
}

static bool
find_directory(Scan *scan)
{
	int64		file_size = scan->zip->blob.size;
	int			tail_size = Min(file_size, TAIL_SIZE);
	int64		tail_at = file_size - tail_size;
	char	   *tail = palloc(tail_size);
	const char *end;
	int64		end_at;
	int64		end_size;
	int			i;

	if (file_size == 0)
		return sis_fail(scan->failure, SIS_ERR_INCOMPLETE, NULL,
						"A zip file without files still has an end record.",
						HINT_UPLOAD,
						"zip file \"%s\" is empty", scan->zip->place);
	if (!read_bytes(scan, tail_at, tail, tail_size))
		return false;

	for (i = tail_size - END_SIZE; i >= 0; i--)
	{
		if (is_record(tail + i, 5, 6))
			break;
	}
	if (i < 0)
		return fail_without_end(scan);
	end = tail + i;
	end_at = tail_at + i;
	end_size = END_SIZE + get16(end + 20);
	if (end_at + end_size > file_size)
		return fail_cut(scan,
						psprintf("It has %lld bytes instead of %lld.",
								 (long long) file_size,
								 (long long) (end_at + end_size)));
	if (end_at + end_size < file_size)
		return fail_corrupt(scan,
							psprintf("It has %lld bytes behind its end.",
									 (long long) (file_size - end_at - end_size)));

	if (i >= LOCATOR_SIZE && is_record(end - LOCATOR_SIZE, 6, 7))
		return take_end64(scan, end - LOCATOR_SIZE, end_at - LOCATOR_SIZE);

	if (get16(end + 4) != 0 || get16(end + 6) != 0 ||
		get16(end + 8) != get16(end + 10))
		return fail_corrupt(scan, "It is one part of several.");
	scan->nentries = get16(end + 10);
	scan->begin = get32(end + 16);
	scan->end = scan->begin + get32(end + 12);
	if (scan->end > end_at)
		return fail_cut(scan,
						psprintf("%lld bytes before its directory are missing.",
								 (long long) (scan->end - end_at)));
	if (scan->end < end_at)
		return fail_corrupt(scan, "Its directory is not where its end record says.");
	return true;
}

/* ----------
 * Entries
 * ----------
 */

/* Seconds since 1970, of the date and time that MS-DOS had. */
static int64
dos_time(int date, int time)
{
	struct tm	tm = {0};

	tm.tm_year = (date >> 9) + 80;
	tm.tm_mon = ((date >> 5) & 15) - 1;
	tm.tm_mday = date & 31;
	tm.tm_hour = time >> 11;
	tm.tm_min = (time >> 5) & 63;
	tm.tm_sec = (time & 31) * 2;
	return timegm(&tm);
}

/* Numbers that have no room in the entry itself stand in this field. */
static bool
take_zip64(Record *record, const char *data, int len)
{
	int64	   *wide[3] = {&record->size, &record->packed, &record->header};

	for (int i = 0; i < (int) lengthof(wide); i++)
	{
		if (*wide[i] != PG_UINT32_MAX)
			continue;
		if (len < 8 || (*wide[i] = get64(data)) < 0)
			return false;
		data += 8;
		len -= 8;
	}
	return true;
}

static bool
take_extra(Record *record, const char *extra, int len)
{
	int			n;

	for (; len >= 4; extra += 4 + n, len -= 4 + n)
	{
		int			id = get16(extra);
		const char *data = extra + 4;

		n = get16(extra + 2);
		if (n > len - 4)
			return false;
		if (id == EXTRA_ZIP64 && !take_zip64(record, data, n))
			return false;
		if (id == EXTRA_TIME && n >= 5 && (data[0] & 1) != 0)
			record->mtime = (int32) get32(data + 1);
	}
	return true;
}

/* Reads the entry at *at of the directory, and moves *at behind it. */
static bool
read_record(Scan *scan, int64 *at, Record *record)
{
	char		p[ENTRY_SIZE];
	int			extra_len;
	int64		size;

	if (*at > scan->end - ENTRY_SIZE)
		return fail_corrupt(scan, "Its directory has fewer entries than its end record says.");
	if (!read_bytes(scan, *at, p, ENTRY_SIZE))
		return false;
	record->namelen = get16(p + 28);
	extra_len = get16(p + 30);
	size = ENTRY_SIZE + record->namelen + extra_len + get16(p + 32);
	if (!is_record(p, 1, 2) || size > scan->end - *at ||
		record->namelen == 0)
		return fail_corrupt(scan, "Its directory cannot be read.");
	if (!read_bytes(scan, *at + ENTRY_SIZE, scan->text,
					record->namelen + extra_len))
		return false;
	*at += size;

	record->flags = get16(p + 8);
	record->method = get16(p + 10);
	record->mtime = dos_time(get16(p + 14), get16(p + 12));
	record->crc = get32(p + 16);
	record->packed = get32(p + 20);
	record->size = get32(p + 24);
	record->attributes = get32(p + 38);
	record->header = get32(p + 42);
	record->name = scan->text;
	if (!take_extra(record, scan->text + record->namelen, extra_len))
		return fail_corrupt(scan, "Its directory cannot be read.");
	return true;
}

/* A size in a header may be left to the directory, or be too small for it. */
static bool
agrees(uint32 in_header, int64 in_directory)
{
	return in_header == 0 || in_header == PG_UINT32_MAX ||
		in_header == in_directory;
}

/* Compares an entry with its header, and finds the bytes that it takes up. */
static bool
check_header(Scan *scan, const Record *record, Extent *extent)
{
	char		p[HEADER_SIZE];
	int64		left = scan->begin - record->header;

	if (left < HEADER_SIZE)
		return fail_disagree(scan, record);
	if (!read_bytes(scan, record->header, p, HEADER_SIZE))
		return false;
	left -= HEADER_SIZE + get16(p + 26) + get16(p + 28);
	if (!is_record(p, 3, 4) || left < 0 ||
		get16(p + 26) != record->namelen ||
		get16(p + 8) != record->method ||
		(get16(p + 6) & FLAG_ENCRYPTED) != (record->flags & FLAG_ENCRYPTED) ||
		(get32(p + 14) != 0 && get32(p + 14) != record->crc) ||
		!agrees(get32(p + 18), record->packed) ||
		!agrees(get32(p + 22), record->size))
		return fail_disagree(scan, record);
	if (!read_bytes(scan, record->header + HEADER_SIZE, scan->header_name,
					record->namelen))
		return false;
	if (memcmp(scan->header_name, record->name, record->namelen) != 0)
		return fail_disagree(scan, record);

	if (record->packed > left)
		return fail_corrupt(scan,
							psprintf("Entry \"%s\" has no room for its %lld bytes.",
									 shown(record->name, record->namelen),
									 (long long) record->packed));
	if (record->size == 0 && record->crc != 0)
		return fail_corrupt(scan,
							psprintf("Entry \"%s\" is empty, and its CRC is another.",
									 shown(record->name, record->namelen)));
	extent->begin = record->header;
	extent->end = scan->begin - left + record->packed;
	return true;
}

/* ----------
 * Names
 * ----------
 */

/* Printable ASCII only?  And has it a backslash? */
static bool
is_plain(const char *name, int len, bool *backslash)
{
	*backslash = false;
	for (int i = 0; i < len; i++)
	{
		if (name[i] < ' ' || name[i] > '~')
			return false;
		*backslash |= name[i] == '\\';
	}
	return true;
}

/*
 * Looks at the parts of a path between slashes: *up for "..", *hidden for a
 * dotfile, a dotfolder or what macOS adds.  Returns where the last part begins.
 */
static int
split_path(const char *name, int len, bool *up, bool *hidden)
{
	int			begin = 0;

	*up = *hidden = false;
	for (int i = 0; i <= len; i++)
	{
		const char *part = name + begin;
		int			n = i - begin;

		if (i < len && name[i] != '/')
			continue;
		if (n == 2 && memcmp(part, "..", 2) == 0)
			*up = true;
		else if (n > 1 && part[0] == '.')
			*hidden = true;
		else if (n == 8 && memcmp(part, "__MACOSX", 8) == 0)
			*hidden = true;
		if (i < len)
			begin = i + 1;
	}
	return begin;
}

/*
 * What a name is; *base is where its base name begins.
 *
 * A backslash is judged in plain names only: in others it may be half of a
 * letter, in the encoding of somebody's old Windows.
 */
static NameKind
judge_name(const char *name, int len, int *base, const char **why)
{
	bool		backslash;
	bool		plain = is_plain(name, len, &backslash);
	bool		up;
	bool		hidden;

	*base = split_path(name, len, &up, &hidden);
	*why = NULL;
	if (up)
		*why = "Its name leads out of the folder by \"..\".";
	else if (name[0] == '/' || (len > 1 && name[1] == ':'))
		*why = "Its name does not begin in the zip file's own root.";
	else if (plain && backslash)
		*why = "Its name has a backslash.";
	if (*why != NULL)
		return NAME_REFUSED;

	if (hidden || !plain || len - *base < 5 || len - *base > MAX_NAME ||
		pg_strncasecmp(name + len - 4, ".csv", 4) != 0)
		return NAME_OTHER;
	return NAME_CSV;
}

/* ----------
 * The whole
 * ----------
 */

/*
 * What libarchive unpacks reliably in a few megabytes.  LZMA, XZ and PPMd have
 * as much memory taken as the zip file asks for, up to 4 GB; its zstd fails at
 * sizes that are a multiple of 128 kB (3.6).
 */
static bool
is_accepted(int method)
{
	return method == 0 ||		/* stored */
		method == 8 ||			/* deflate */
		method == 12;			/* bzip2 */
}

/* The first one says where the others must be. */
static bool
check_folder(Scan *scan, const SisZipMember *member, int base)
{
	const SisZipMember *first = &scan->zip->members[0];

	if (scan->zip->nmembers == 0)
		scan->folder = base;
	if (scan->folder == base && memcmp(first->path, member->path, base) == 0)
		return true;
	return sis_fail(scan->failure, SIS_ERR_MALFORMED, NULL,
					psprintf("One is \"%s\", another \"%s\".",
							 shown(first->path, strlen(first->path)),
							 shown(member->path, strlen(member->path))),
					HINT_PLAIN,
					"zip file \"%s\" has CSV files in more than one folder",
					scan->zip->place);
}

static bool
take_csv(Scan *scan, const Record *record, int base, const Extent *extent)
{
	SisZip	   *zip = scan->zip;
	SisZipMember *member = &zip->members[zip->nmembers];

	if (!is_accepted(record->method))
		return fail_entry(scan, record,
						  psprintf("It is packed by method %d; stored, deflate and bzip2 are read.",
								   record->method));
	if (record->size > SIS_ZIP_MAX_FILE)
		return fail_limit(scan,
						  psprintf("Its entry \"%s\" has %lld bytes; %lld are the most.",
								   shown(record->name, record->namelen),
								   (long long) record->size,
								   (long long) SIS_ZIP_MAX_FILE));
	scan->total += record->size;
	if (scan->total > SIS_ZIP_MAX_TOTAL)
		return fail_limit(scan,
						  psprintf("Its CSV files have more than %lld bytes together.",
								   (long long) SIS_ZIP_MAX_TOTAL));

	member->path = pnstrdup(record->name, record->namelen);
	member->entry.name = member->path + base;
	member->entry.size = record->size;
	member->entry.mtime = record->mtime;
	member->packed = record->packed;
	member->data = extent->end - record->packed;
	if (!check_folder(scan, member, base))
		return false;
	zip->nmembers++;
	return true;
}

static bool
take_entry(Scan *scan, const Record *record, Extent *extent)
{
	int			base;
	const char *why;
	NameKind	kind = judge_name(record->name, record->namelen, &base, &why);

	if (kind == NAME_REFUSED)
		return fail_entry(scan, record, why);
	if (S_ISLNK(record->attributes >> 16))
		return fail_entry(scan, record, "It is a symbolic link.");
	if ((record->flags & FLAG_ENCRYPTED) != 0)
		return fail_entry(scan, record, "It is encrypted.");
	if (!check_header(scan, record, extent))
		return false;
	return kind == NAME_OTHER || take_csv(scan, record, base, extent);
}

static int
compare_extents(const void *a, const void *b)
{
	int64		x = ((const Extent *) a)->begin;
	int64		y = ((const Extent *) b)->begin;

	return x < y ? -1 : x > y;
}

/* Pieces that several entries share are how the worst of bombs are built. */
static bool
check_overlap(Scan *scan)
{
	qsort(scan->extents, scan->nentries, sizeof(Extent), compare_extents);
	for (int64 i = 1; i < scan->nentries; i++)
	{
		if (scan->extents[i].begin < scan->extents[i - 1].end)
			return fail_corrupt(scan,
								psprintf("Two of its entries share the bytes at %lld.",
										 (long long) scan->extents[i].begin));
	}
	return true;
}

static int
compare_members(const void *a, const void *b)
{
	const SisZipMember *x = a;
	const SisZipMember *y = b;
	int			order = strcmp(x->entry.name, y->entry.name);

	if (order != 0)
		return order;
	return x->data < y->data ? -1 : x->data > y->data;
}

bool
sis_zip_directory_read(SisZip *zip, SisFailure *failure)
{
	Scan		scan = {0};
	int64		at;

	scan.zip = zip;
	scan.failure = failure;
	if (!find_directory(&scan))
		return false;
	if (scan.nentries > SIS_ZIP_MAX_ENTRIES)
		return fail_limit(&scan,
						  psprintf("It has %lld entries; %d are the most.",
								   (long long) scan.nentries,
								   SIS_ZIP_MAX_ENTRIES));

	zip->members = palloc0((scan.nentries + 1) * sizeof(SisZipMember));
	scan.extents = palloc0((scan.nentries + 1) * sizeof(Extent));
	scan.text = palloc(2 * (PG_UINT16_MAX + 1));
	scan.header_name = palloc(PG_UINT16_MAX + 1);

	at = scan.begin;
	for (int64 i = 0; i < scan.nentries; i++)
	{
		Record		record;

		if (!read_record(&scan, &at, &record) ||
			!take_entry(&scan, &record, &scan.extents[i]))
			return false;
	}
	if (at != scan.end)
		return fail_corrupt(&scan, "Its directory has more entries than its end record says.");
	if (!check_overlap(&scan))
		return false;

	qsort(zip->members, zip->nmembers, sizeof(SisZipMember), compare_members);
	pfree(scan.extents);
	pfree(scan.text);
	pfree(scan.header_name);
	return true;
}
