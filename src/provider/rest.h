/*
 * rest.h
 *		Pages of JSON from a REST service: what Clever and OneRoster share.
 *
 * The provider says which pages there are to get, how requests are signed and
 * what a page's records mean; this is the loop around it.  Pages come side by
 * side, up to max_connections; each is parsed while others are on their way,
 * its own successor included, and its records wait in a record spool.  What may pass (a cut body, a
 * server error, a web page from some proxy) is tried again with growing
 * pauses; who answers 429 is given the time it asks for.  All waits end at the
 * source's timeout.  It knows neither Clever nor OneRoster.
 *
 * Nothing here writes a secret anywhere: messages name the collection, the
 * host and the status, and of a response's body only an ID of an error.
 */
#ifndef SIS_REST_H
#define SIS_REST_H

#include "format/json.h"
#include "lib/ilist.h"
#include "provider/recordspool.h"
#include "transport/http.h"

typedef struct SisRest SisRest;
typedef struct SisRestCall SisRestCall;

/* What becomes of a call that the service refused. */
typedef enum SisRestVerdict
{
	SIS_REST_FAIL,				/* the cause has been written down */
	SIS_REST_AGAIN,				/* try again at once, say with a new token; not
								 * twice in a row */
	SIS_REST_SKIP				/* it is no matter: the call is over, without
								 * records and without end() */
} SisRestVerdict;

/* What is the same for all calls to a service. */
typedef struct SisRestService
{
	const char *name;			/* "Clever", for messages */

	/*
	 * Appends the header lines of one attempt ("Authorization: …") to *list, a
	 * List of char *, in the current memory context.  False when it cannot,
	 * with the cause in the failure of the call's SisRest.  May be NULL.
	 */
	bool		(*authorize) (SisRestCall *call, List **headers);

	/*
	 * A status of 400 to 499, but 408 and 429.  Where the body was a JSON
	 * object, its members are beside in call->json.
	 */
	SisRestVerdict (*refused) (SisRestCall *call);
} SisRestService;

/* One page (or other response) to get. */
struct SisRestCall
{
	MemoryContext cxt;			/* goes with the call: for its strings */

	/* By the provider, before sis_rest_add(). */
	const char *collection;		/* "users": in messages, and where its records
								 * come from (SisRecord.source) */
	const char *url;			/* whole, with its query */
	const char *post;			/* body of a POST, or NULL: GET */
	const char *content_type;	/* of the body */
	const char *array;			/* member with the records; NULL: none */
	int64		first;			/* ordinal of its first record, from 1 */
	bool		in_order;		/* end() waits for that of each call of the same
								 * collection that was added before */
	void	   *arg;			/* the provider's */

	/*
	 * The page has come whole (status 200), and its records are about to be
	 * read: nrecords, the members beside its array and the headers can be
	 * looked at, and the next page added, which is then on its way meanwhile.
	 * It may be called again, should the page turn out to be unreadable and
	 * come a second time.  False as of end().  May be NULL.
	 */
	bool		(*next) (SisRestCall *call);

	/* Puts one sound record into call->sink.  NULL: they are passed over. */
	void		(*record) (SisRestCall *call, const SisJsonNode *record);

	/*
	 * Rejects a record that cannot be trusted, for a reason fit for SisReject.
	 * Of its values only sis_json_id() may be taken.
	 */
	void		(*reject) (SisRestCall *call, const SisJsonNode *record,
						   const char *reason);

	/*
	 * The page's records have been read; the members beside its array and the
	 * headers can be looked at, and further calls added.  Its records are
	 * committed when it returns true; on false the cause has been written
	 * down.  The call is freed afterwards.  May be NULL: true.
	 */
	bool		(*end) (SisRestCall *call);

	/* For the provider's functions to look at. */
	SisRest    *rest;
	SisJson    *json;
	SisSink    *sink;			/* of the page */
	int64		line;			/* ordinal of the current record */
	int64		nrecords;		/* of the page */
	int			status;			/* of the response; 0: none yet */
	int			nagain;			/* how often SIS_REST_AGAIN was said of it */

	/* rest.c's own */
	struct SisRestState *state;
};

/* ----------
 * For providers
 * ----------
 */

/*
 * Opens a session with the source.  spool is where records go; NULL: there are
 * none (a token endpoint).  In the current memory context; ended with it.
 */
extern SisRest *sis_rest_create(const SisSource *source,
								const SisRestService *service,
								SisRecordSpool *spool, SisFailure *failure);

/* Ends it, and all that is under way, at once. */
extern void sis_rest_close(SisRest *rest);

/* Where records go from now on: a pull that is started again needs a new one. */
extern void sis_rest_set_spool(SisRest *rest, SisRecordSpool *spool);

/* A new call, all zero, to be filled and added. */
extern SisRestCall *sis_rest_call(SisRest *rest);

/* Takes a call into the queue, to be made in the order of adding. */
extern void sis_rest_add(SisRestCall *call);

/* The same, before all that wait: the next page of a chain goes on at once. */
extern void sis_rest_add_first(SisRestCall *call);

/*
 * Makes all calls, those added meanwhile included.  False when one failed,
 * with the cause in the failure.
 */
extern bool sis_rest_run(SisRest *rest);

/* A header of the response, or NULL; in end() and refused(). */
extern char *sis_rest_header(const SisRestCall *call, const char *name);

/*
 * When the response was made by the service's own clock, in seconds since
 * 1970; 0 when it does not say.  In end() and refused().
 */
extern pg_time_t sis_rest_date(const SisRestCall *call);

/* How many calls may be under way at once. */
extern int	sis_rest_max_connections(const SisRest *rest);

/* A server option as a number; fallback when it is not set. */
extern int	sis_rest_number(const SisSource *source, const char *option,
							int fallback);

#endif
