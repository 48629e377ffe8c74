/*
 * zip_build.c
 *		Builds zip files byte by byte, right ones and wrong ones.
 *
 * libarchive only packs the data: as a gzip file without its head and tail, or
 * as they come.
 */
#include "postgres.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>

#include "zip_build.h"

#define DOS_DATE	(44 << 9 | 11 << 5 | 15)
#define DOS_TIME	(12 << 11 | 5 << 5 | 3)

static void
put16(Buffer *buf, int n)
{
	char		bytes[2] = {(char) n, (char) (n >> 8)};

	put(buf, bytes, 2);
}

static void
put32(Buffer *buf, uint32 n)
{
	put16(buf, n & 0xFFFF);
	put16(buf, n >> 16);
}

static void
put64(Buffer *buf, uint64 n)
{
	put32(buf, (uint32) n);
	put32(buf, (uint32) (n >> 32));
}

uint32
crc_of(const char *data, size_t len)
{
	static uint32 table[256];
	uint32		crc = 0xFFFFFFFF;

	for (uint32 i = 0; table[255] == 0 && i < 256; i++)
	{
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320 : 0);
	}
	for (size_t i = 0; i < len; i++)
		crc = crc >> 8 ^ table[(crc ^ (unsigned char) data[i]) & 255];
	return ~crc;
}

static la_ssize_t
take_packed(struct archive *archive, void *out, const void *data, size_t len)
{
	put(out, data, len);
	return len;
}

void
pack(Buffer *out, int method, const char *data, size_t len)
{
	struct archive *archive = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	Buffer		packed = {0};
	int			result = archive_write_set_format_raw(archive);

	if (method == DEFLATE)
		result |= archive_write_add_filter_gzip(archive);
	else if (method == BZIP2)
		result |= archive_write_add_filter_bzip2(archive);
	result |= archive_write_set_bytes_in_last_block(archive, 1);
	result |= archive_write_open(archive, &packed, NULL, take_packed, NULL);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_pathname(entry, "data");
	result |= archive_write_header(archive, entry);
	if (len > 0 && archive_write_data(archive, data, len) != (la_ssize_t) len)
		result = ARCHIVE_FATAL;
	result |= archive_write_close(archive);
	if (result != ARCHIVE_OK)
		abort();
	archive_entry_free(entry);
	archive_write_free(archive);

	if (method == DEFLATE)
		put(out, packed.data + 10, packed.len - 18);
	else
		put(out, packed.data, packed.len);
	free(packed.data);
}

static void
put_descriptor(Builder *builder, const Item *item, uint32 crc, int64 packed,
			   int64 size)
{
	put(&builder->zip, "PK\007\010", 4);
	put32(&builder->zip, crc);
	if (item->zip64)
	{
		put64(&builder->zip, packed);
		put64(&builder->zip, size);
	}
	else
	{
		put32(&builder->zip, packed);
		put32(&builder->zip, size);
	}
}

/* The header and the data; the place in the directory is the header's. */
static void
put_local(Builder *builder, const Item *item, uint32 crc, int64 size,
		  const Buffer *packed)
{
	Buffer	   *zip = &builder->zip;
	const char *name = item->header_name ? item->header_name : item->name;
	int64		packed_size = packed->len + item->more_packed;

	size += item->header_size;
	packed_size += item->header_packed;
	crc += item->header_crc;
	put(zip, "PK\003\004", 4);
	put16(zip, item->zip64 ? 45 : 20);
	put16(zip, item->flags | item->header_flags | (item->descriptor ? 8 : 0));
	put16(zip, item->method + item->header_method);
	put16(zip, DOS_TIME);
	put16(zip, DOS_DATE);
	put32(zip, item->descriptor ? 0 : crc);
	put32(zip, item->zip64 ? 0xFFFFFFFF : item->descriptor ? 0 : packed_size);
	put32(zip, item->zip64 ? 0xFFFFFFFF : item->descriptor ? 0 : size);
	put16(zip, strlen(name));
	put16(zip, item->zip64 ? 20 : 0);
	put_string(zip, name);
	if (item->zip64)
	{
		put16(zip, 1);
		put16(zip, 16);
		put64(zip, item->descriptor ? 0 : size);
		put64(zip, item->descriptor ? 0 : packed_size);
	}
	put(zip, packed->data, packed->len);
	if (item->descriptor)
		put_descriptor(builder, item, crc, packed_size, size);
}

void
build_item(Builder *builder, const Item *item, const char *data, size_t len)
{
	Buffer	   *directory = &builder->directory;
	Buffer		packed = {0};
	uint32		crc = crc_of(data, len) + item->other_crc;
	int64		size = len + item->more_size;
	int64		place = builder->hole + builder->zip.len;

	pack(&packed, item->method, data, len);
	if (item->same_as > 0)
		place = builder->places[item->same_as - 1];
	else
		put_local(builder, item, crc, size, &packed);
	if (builder->count < MAX_ITEMS)
		builder->places[builder->count] = place;
	builder->count++;
	place += item->move;

	put(directory, "PK\001\002", 4);
	put16(directory, 3 << 8 | 20);	/* made on Unix */
	put16(directory, item->zip64 ? 45 : 20);
	put16(directory, item->flags | (item->descriptor ? 8 : 0));
	put16(directory, item->method);
	put16(directory, DOS_TIME);
	put16(directory, DOS_DATE);
	put32(directory, crc);
	put32(directory, item->zip64 ? 0xFFFFFFFF : packed.len + item->more_packed);
	put32(directory, item->zip64 ? 0xFFFFFFFF : size);
	put16(directory, strlen(item->name));
	put16(directory, (item->zip64 ? 28 : 0) + item->extra_len +
		  item->claimed_extra);
	put16(directory, 0);
	put16(directory, 0);
	put16(directory, 0);
	put32(directory, item->attributes);
	put32(directory, item->zip64 ? 0xFFFFFFFF : place);
	put_string(directory, item->name);
	if (item->zip64)
	{
		put16(directory, 1);
		put16(directory, 24);
		put64(directory, size);
		put64(directory, packed.len + item->more_packed);
		put64(directory, place);
	}
	put(directory, item->extra, item->extra_len);
	free(packed.data);
}

void
build_end(Builder *builder, const Ending *ending)
{
	Buffer	   *zip = &builder->zip;
	int64		begin = builder->hole + zip->len + ending->more_begin;
	int64		size = builder->directory.len + ending->more_size;
	int			count = builder->count + ending->more_count;
	int			comment = ending->comment ? strlen(ending->comment) : 0;

	put(zip, builder->directory.data, builder->directory.len);
	if (ending->zip64)
	{
		int64		place = builder->hole + zip->len;

		put(zip, "PK\006\006", 4);
		put64(zip, 44);
		put16(zip, 45);
		put16(zip, 45);
		put32(zip, ending->disk);
		put32(zip, ending->disk);
		put64(zip, count);
		put64(zip, count + ending->elsewhere);
		put64(zip, size);
		put64(zip, begin);
		put(zip, "PK\006\007", 4);
		put32(zip, 0);
		put64(zip, place);
		put32(zip, 1);
	}
	put(zip, "PK\005\006", 4);
	put16(zip, ending->disk);
	put16(zip, ending->disk);
	put16(zip, ending->zip64 ? 0xFFFF : count);
	put16(zip, ending->zip64 ? 0xFFFF : count + ending->elsewhere);
	put32(zip, ending->zip64 ? 0xFFFFFFFF : size);
	put32(zip, ending->zip64 ? 0xFFFFFFFF : begin);
	put16(zip, comment + ending->claimed_comment);
	if (comment > 0)
		put_string(zip, ending->comment);
	if (ending->behind != NULL)
		put_string(zip, ending->behind);
	zip->len -= ending->cut;
	free(builder->directory.data);
}

Buffer
build_zip(const Item *items, const Ending *ending)
{
	Builder		builder = {{0}};

	if (ending->before != NULL)
		put_string(&builder.zip, ending->before);
	builder.hole = ending->hole;
	for (int i = 0; i < MAX_ITEMS && items[i].name != NULL; i++)
	{
		const char *data = items[i].data ? items[i].data : "";

		build_item(&builder, &items[i], data, strlen(data));
	}
	build_end(&builder, ending);
	return builder.zip;
}
