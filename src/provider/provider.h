/*
 * provider.h
 *		All that a provider and the rest of the house share.
 *
 * A provider turns what a source sends into records.  It gets a source (its
 * options, already validated) and a sink, and calls the sink for each record.
 * It knows neither SQL nor tables; what becomes of a record is not its
 * business.
 */
#ifndef SIS_PROVIDER_H
#define SIS_PROVIDER_H

#include "base/error.h"
#include "base/record.h"
#include "base/source.h"
#include "datatype/timestamp.h"

typedef struct SisSink SisSink;

/* What a sync wants beside the records themselves. */
typedef struct SisWants
{
	bool		include_demographics;
	int			nextra_columns;
	char	  **extra_columns;	/* source names of columns to keep in extra */
} SisWants;

/* A row that cannot be taken for a defect of its own. */
typedef struct SisReject
{
	int			types;			/* SIS_TYPE_BITs of what it might have been:
								 * stored records of that ID are protected */
	const char *source;			/* file or collection */
	int64		line;			/* from 1 */
	SisValue	source_id;		/* data NULL: its ID cannot be read, and its
								 * types archive nothing tonight */
	const char *column;			/* the source's name of the column, or NULL */
	const char *reason;			/* lower case, no full stop, no values */
	const char *row;			/* mapped columns as a JSON object, or NULL */
} SisReject;

/* What a source says about a record type as a whole. */
typedef enum SisOffer
{
	SIS_OFFER_MISSING,			/* nothing said, and not there: incomplete
								 * when records of it are in the roster */
	SIS_OFFER_ABSENT,			/* said to be absent: left alone */
	SIS_OFFER_FULL,				/* what is not in it is gone */
	SIS_OFFER_DELTA				/* what is not in it has not changed */
} SisOffer;

/* Is all there is of the type in the staging tables?  (carry.c sees to it) */
static inline bool
sis_offer_is_whole(SisOffer offer)
{
	return offer == SIS_OFFER_FULL || offer == SIS_OFFER_DELTA;
}

struct SisSink
{
	/*
	 * Takes a record, after sis_record_finish().  It judges the values: a
	 * required one missing makes it a reject, an optional one that cannot be
	 * read a note.  May throw (cancel, disk full), never for bad data.
	 */
	void		(*put) (SisSink *sink, SisRecord *record);

	/* Takes a row that the provider or the format found defective. */
	void		(*reject) (SisSink *sink, const SisReject *reject);

	/* Counts a row read from the source for these types, before put/reject. */
	void		(*row_read) (SisSink *sink, int types);

	SisOffer	offer[SIS_N_RECORD_TYPES];	/* set by the provider */
	int			needs_parts[SIS_N_RECORD_TYPES];	/* SIS_PART_BASE unless the
													 * layout spreads records */
	char	   *district_id;	/* set by the provider, NULL if it has none */
	TimestampTz as_of;			/* newest state seen; 0: not known */
	StringInfoData note;		/* sentences for run.note, by the provider */
	SisFailure *failure;		/* where sis_fail() goes */
	const SisWants *wants;
};

typedef struct SisProvider
{
	const char *wrapper;		/* name of the foreign-data wrapper */

	/*
	 * Brings what the source has to this machine.  It may take as long as the
	 * source does, and is called at the head of a transaction: it must neither
	 * read a table nor take a snapshot, so that nobody waits for it.  NULL
	 * when it failed, with the cause in failure.  source and wants stay valid
	 * until the result has been read.  All it allocates is in the current
	 * memory context, handles included (reset callbacks), which the caller
	 * deletes.
	 */
	void	   *(*fetch) (const SisSource *source, const SisWants *wants,
						  SisFailure *failure);

	/*
	 * Puts what was fetched into the sink.  False when it failed, with the
	 * cause in sink->failure.  Memory as above.
	 */
	bool		(*read) (void *fetched, SisSink *sink);
} SisProvider;

extern void *sis_csvset_fetch(const SisSource *source, const SisWants *wants,
							  SisFailure *failure);
extern bool sis_csvset_read(void *fetched, SisSink *sink);
extern void *sis_oneroster_fetch(const SisSource *source,
								 const SisWants *wants, SisFailure *failure);
extern bool sis_oneroster_read(void *fetched, SisSink *sink);

extern void *sis_clever_fetch(const SisSource *source, const SisWants *wants,
							  SisFailure *failure);
extern bool sis_clever_read(void *fetched, SisSink *sink);

/* The provider for a wrapper; NULL when its turn has not come. */
extern const SisProvider *sis_provider_for(const char *wrapper);

#endif
