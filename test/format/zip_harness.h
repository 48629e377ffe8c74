/*
 * zip_harness.h
 *		What the parts of the zip reader's harness share: where a zip file is
 *		read from, and what comes out of it.
 *
 * What comes out of a zip file is written as text:
 *
 *	NAME SIZE: DATA				an entry; data of more than 100 bytes: their CRC;
 *								a time other than MTIME follows the name: @TIME
 *	SQLSTATE MESSAGE: DETAIL	a failure; after "NAME SIZE: " that of an entry
 *	thrown
 */
#ifndef ZIP_HARNESS_H
#define ZIP_HARNESS_H

#include "harness.h"
#include "zip_build.h"

#define SHOWN		100

#define CORRUPT		"SI006 zip file \"z\" is corrupt: "
#define CUT			"SI007 zip file \"z\" is cut short: "

typedef struct Source
{
	const char *data;
	int64		len;
	int64		hole_at;		/* bytes of the file that are not in data */
	int64		hole;
	int			chunk;			/* at most so many bytes a read; 0: any */
	int			nreads;
	int			fail_at;		/* the read that fails; 0: none */
	int			throw_at;
	int			cancel_at;		/* the read during which somebody cancels */
	int			end_at;			/* the read from which on there is nothing */
} Source;

typedef struct Case
{
	const char *name;
	Item		items[MAX_ITEMS];
	Ending		ending;
	const char *expected;		/* the beginning of the outcome */
} Case;

extern const Case cases[];
extern const int ncases;

/* Are times other than MTIME written down? */
extern bool show_times;

extern Source source_of(const Buffer *zip);

/*
 * Opens a zip file, reads all its entries, and writes down what came out, into
 * a reused buffer.
 */
extern const char *read_zip(Buffer *out, Source *source);

/* True when text begins so; an empty beginning is an empty text. */
extern bool begins(const char *text, const char *expected);

/* A sound zip file of each kind of entry; large: one entry of some size, too. */
extern Buffer sample(bool large);

/* zip_damage.c: cuts, holes, changed bytes, and mutations for so many seconds. */
extern void run_damage(double limit);

#endif
