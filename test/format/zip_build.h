/*
 * zip_build.h
 *		Builds zip files byte by byte, right ones and wrong ones.
 */
#ifndef ZIP_BUILD_H
#define ZIP_BUILD_H

#include "harness.h"

#define STORED		0
#define DEFLATE		8
#define BZIP2		12
#define LZMA		14

#define MTIME		1731672306	/* of every entry: 2024-11-15 12:05:06 */

/* An entry, and what is wrong with it: all zero is a right one. */
typedef struct Item
{
	const char *name;			/* NULL: there are no more */
	const char *data;
	int			method;
	int			flags;
	uint32		attributes;
	bool		descriptor;		/* sizes and CRC behind the data */
	bool		zip64;
	const char *header_name;	/* the name before the entry, if another */
	const char *extra;			/* fields in the directory */
	int			extra_len;
	int			same_as;		/* it is the entry of that number, from 1, again */
	int			move;			/* added to its place */
	int			more_size;		/* added to the size, here and there */
	int			more_packed;
	int			other_crc;		/* added to the CRC, here and there */
	int			claimed_extra;	/* added to the size of the extra fields */

	/* what only the header before the entry says */
	int			header_size;	/* added */
	int			header_packed;
	int			header_crc;
	int			header_flags;
	int			header_method;
} Item;

#define MAX_ITEMS	6

/* The end of a zip file, and what is wrong with it. */
typedef struct Ending
{
	bool		zip64;
	int			more_count;
	int			elsewhere;		/* entries in other parts of it */
	int			more_size;		/* of the directory */
	int			more_begin;		/* of the directory */
	int			disk;
	int			claimed_comment;	/* more than there is */
	const char *comment;
	const char *behind;			/* what follows */
	int			cut;			/* bytes cut off */
	const char *before;			/* what stands before the first entry */
	int64		hole;			/* after before: bytes that the file has and the
								 * buffer does not */
} Ending;

/* Packs data as a method does, raw. */
extern void pack(Buffer *out, int method, const char *data, size_t len);

/*
 * A builder: items are added one by one, then the end.  The entry's data are
 * those of its item, or len bytes of data.
 */
typedef struct Builder
{
	Buffer		zip;
	Buffer		directory;
	int			count;
	int64		hole;
	int64		places[MAX_ITEMS];	/* of the first entries */
} Builder;

extern void build_item(Builder *builder, const Item *item,
					   const char *data, size_t len);
extern void build_end(Builder *builder, const Ending *ending);

/* All of it; the caller frees zip.data. */
extern Buffer build_zip(const Item *items, const Ending *ending);

extern uint32 crc_of(const char *data, size_t len);

#endif
