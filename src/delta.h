/*
 * delta.h
 *		What a run would change: one delta per record type, in tuplestores.
 */
#ifndef SIS_DELTA_H
#define SIS_DELTA_H

#include "base/record.h"
#include "base/spi.h"

/* What happens to a record; the first column of a delta. */
#define SIS_ACT_CREATE		'c'
#define SIS_ACT_UPDATE		'u'
#define SIS_ACT_REFRESH		'f'	/* content is equal, only the fingerprint not */
#define SIS_ACT_RESTORE		'r'
#define SIS_ACT_HOLD		'h'	/* returned, but restore_returning is false */
#define SIS_ACT_MANUAL		'm'	/* belongs to the application */
#define SIS_ACT_FROZEN		'z'	/* no school of it is set up any more */
#define SIS_ACT_GONE		'g'	/* counts in A */
#define SIS_ACT_ENDED		'e'	/* gone after its end: archived freely */
#define SIS_ACT_SKIP		'o'	/* received and not taken */
#define SIS_ACT_BACK		'b'	/* undo: archived again, as it was */

/* The first column of a delta that is the record's own (from 0): source_id. */
#define SIS_DELTA_SOURCE_ID	8

/* How a staged row stands; the second column of a delta. */
#define SIS_STAND_IN		'a'	/* active and in scope */
#define SIS_STAND_OUT		'o'	/* active, out of scope */
#define SIS_STAND_DELETED	'd'
#define SIS_STAND_REJECTED	'r'
#define SIS_STAND_LAGGING	'l'	/* a link to an end that is leaving */
#define SIS_STAND_LOST		'n'	/* a link to nothing */
#define SIS_STAND_CARRIED	'e'	/* a stored link, not named, without an end */

/* The stores of a type, and the names by which statements know them. */
typedef enum SisDeltaStore
{
	SIS_DELTA_CREATES,			/* "creates_student": c */
	SIS_DELTA_CHANGES,			/* "changes_student": u, f, r */
	SIS_DELTA_GONE,				/* "gone_student": g, e, b */
	SIS_DELTA_LOST				/* "lost_enrollment": links without an end */
} SisDeltaStore;

#define SIS_N_DELTA_STORES	(SIS_DELTA_LOST + 1)

typedef struct SisTypeDelta
{
	Tuplestorestate *stores[SIS_N_DELTA_STORES];
	int64		rows[SIS_N_DELTA_STORES];
	TupleDesc	desc;			/* NULL: not computed */
	Tuplestorestate *pairs;
	TupleDesc	pairs_desc;
	bool		registered;
	bool		compared;
	bool		first;			/* nothing of the type was stored */
	bool		unsorted;		/* creates are not in the order of their IDs */
	int64		in_force;		/* N; counted while comparing */
	int64		by_act[128];
	int64		by_stand[128];
} SisTypeDelta;

typedef struct SisDelta
{
	MemoryContext cxt;
	ResourceOwner owner;
	SisTypeDelta types[SIS_N_RECORD_TYPES];
} SisDelta;

/*
 * Makes empty stores.  They belong to the resource owner that is current
 * now, so a subtransaction that fills them may end before they are read.
 */
extern SisDelta *sis_delta_create(void);

/* Empties the stores, to be filled again. */
extern void sis_delta_clear(SisDelta *delta);
extern void sis_delta_destroy(SisDelta *delta);

/*
 * Compares the records of a type, by a SELECT of act (NULL: equal), stand,
 * tid, source_id and in_force.  Counts N and the records that are only
 * counted, and keeps the other pairs that may differ.  False when there are
 * none to look up.
 */
extern bool sis_delta_find_pairs(SisDelta *delta, SisRecordType type,
								 const char *sql, const SisParams *params);

/*
 * Runs the delta query of a type (merge.c) into its stores; with by_pairs it
 * reads those found before, as "pairs".
 */
extern void sis_delta_fill(SisDelta *delta, SisRecordType type,
						   const char *sql, const SisParams *params,
						   bool by_pairs);

/* Makes the stores of a type known to statements; and unknown again. */
extern void sis_delta_register(SisDelta *delta, SisRecordType type);
extern void sis_delta_unregister(SisDelta *delta, SisRecordType type);

/* By which name statements know a store: "gone_student". */
extern char *sis_delta_store_name(SisDeltaStore which, SisRecordType type);

/*
 * Replaces the rows of a registered "gone" store by those that the SELECT
 * keeps of them.
 */
extern void sis_delta_keep_gone(SisDelta *delta, SisRecordType type,
								const char *sql, const SisParams *params);

#endif
