/*
 * clever.h
 *		What the parts of the Clever provider share.
 */
#ifndef SIS_CLEVER_H
#define SIS_CLEVER_H

#include "format/json.h"
#include "provider/provider.h"
#include "provider/rest.h"

/*
 * The lists of the Data API that a roster is made of.  Users have one list for
 * each role: they are fetched side by side.
 */
typedef enum SisCleverList
{
	SIS_CLEVER_STUDENTS,
	SIS_CLEVER_CONTACTS,
	SIS_CLEVER_SECTIONS,
	SIS_CLEVER_TEACHERS,
	SIS_CLEVER_STAFF,
	SIS_CLEVER_ADMINS,
	SIS_CLEVER_COURSES,
	SIS_CLEVER_TERMS,
	SIS_CLEVER_SCHOOLS
} SisCleverList;

#define SIS_N_CLEVER_LISTS	(SIS_CLEVER_SCHOOLS + 1)

typedef struct SisCleverRecords SisCleverRecords;

/* What the district's record says. */
typedef struct SisCleverDistrict
{
	int			nrecords;
	char	   *id;
	char	   *last_sync;		/* as it was sent; "" when it does not say */
	char	   *state;
} SisCleverDistrict;

/* One fetch. */
typedef struct SisClever
{
	const SisSource *source;
	const SisWants *wants;
	SisFailure *failure;
	MemoryContext cxt;

	char	   *base_url;		/* without a "/" at its end */
	const char *token_url;
	const char *version;
	const char *district_id;	/* option, or NULL */
	int			page_size;

	const char *client_id;		/* NULL: the token was given */
	const char *client_secret;
	const char *token;
	int			ntokens;		/* tokens used so far */

	SisRest    *rest;
	SisRecordSpool *spool;
	SisCleverRecords *records;
	SisCleverDistrict district;
	SisCleverDistrict asked;		/* answer to the call under way */
	bool		is_reading;		/* the token was good for the district */
} SisClever;

/* What a call to the Data API belongs to. */
extern SisClever *sis_clever_of(const SisRestCall *call);

/* ----------
 * clever_auth.c: who we are to Clever, and what its refusals mean
 * ----------
 */

/* Takes the token, or client ID and secret, from the user mapping. */
extern bool sis_clever_load_credentials(SisClever *clever);

/* Gets the district's current token from the tokens endpoint. */
extern bool sis_clever_fetch_token(SisClever *clever);

/* Of SisRestService, for the Data API. */
extern bool sis_clever_authorize(SisRestCall *call, List **headers);
extern SisRestVerdict sis_clever_refused(SisRestCall *call);

/* ----------
 * clever_records.c: what list items mean
 * ----------
 */

/* Prepares what turns list items into records, in the current memory context. */
extern SisCleverRecords *sis_clever_records_create(const SisWants *wants);

/* Puts the records of one item of a list, whose name is source. */
extern void sis_clever_put(SisCleverRecords *records, SisCleverList list,
						   const SisJsonNode *item, SisSink *sink,
						   const char *source, int64 line);

/* Rejects an item; id's data is NULL when it cannot be read. */
extern void sis_clever_reject(SisCleverList list, SisValue id, SisSink *sink,
							  const char *source, int64 line,
							  const char *reason);

/* The node of an item's ID. */
extern const SisJsonNode *sis_clever_id(const SisJsonNode *item);

/* A time as Clever writes it, "2026-09-11T07:10:44.512Z"; 0: it is none. */
extern TimestampTz sis_clever_time(const char *text);

#endif
