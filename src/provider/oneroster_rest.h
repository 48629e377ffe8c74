/*
 * oneroster_rest.h
 *		What the parts of the OneRoster REST provider share.
 *
 * oneroster_rest.c pulls the lists of a service, oneroster_pages.c the pages
 * of a list, oneroster_auth.c says who is asking, oneroster_refusal.c what a
 * refusal means, oneroster_map.c what a record means.
 */
#ifndef SIS_ONEROSTER_REST_H
#define SIS_ONEROSTER_REST_H

#include "nodes/pg_list.h"
#include "provider/rest.h"
#include "transport/oauth.h"

typedef struct SisOneRoster SisOneRoster;
typedef struct SisOneRosterList SisOneRosterList;
typedef struct SisOneRosterMap SisOneRosterMap;

/* The top-level collections, in the order in which they are asked for. */
typedef enum SisOneRosterCollection
{
	SIS_OR_ENROLLMENTS,
	SIS_OR_USERS,
	SIS_OR_DEMOGRAPHICS,
	SIS_OR_CLASSES,
	SIS_OR_COURSES,
	SIS_OR_ORGS,
	SIS_OR_SESSIONS
} SisOneRosterCollection;

#define SIS_OR_N_COLLECTIONS	(SIS_OR_SESSIONS + 1)

typedef enum SisOneRosterAuth
{
	SIS_OR_OAUTH1,
	SIS_OR_OAUTH2,
	SIS_OR_BEARER
} SisOneRosterAuth;

struct SisOneRoster
{
	const SisSource *source;
	const SisWants *wants;
	SisFailure *failure;
	MemoryContext cxt;			/* of the fetch */

	/* The service (oneroster_rest.c). */
	char	   *base;			/* without a "/" at its end */
	bool		v1p2;
	bool		probing;		/* which version has it? */
	bool		probed;			/* false: the path asked for is not there */
	int			page_size;
	const char *application_id; /* or NULL */

	/* Who is asking (oneroster_auth.c). */
	SisOneRosterAuth auth;
	SisOAuthHash hash;
	const char *client_id;
	const char *client_secret;
	char	   *token;			/* sent as bearer; NULL: none yet */
	int			token_number;	/* 1: the first one got, … */
	TimestampTz token_end;		/* 0: not known */

	/* The pull under way. */
	SisRest    *rest;
	SisRecordSpool *spool;
	MemoryContext pull_cxt;		/* gone with it */
	SisOneRosterList *lists[SIS_OR_N_COLLECTIONS];	/* NULL: not wanted */
	SisOneRosterMap *map;
	char	   *perm_rev;		/* x-perm-rev, NULL: none yet */
	char	   *drift;			/* a sentence: why the pull is no picture of one
								 * moment; NULL: it may be */
};

/* ----------
 * oneroster_pages.c
 * ----------
 */

struct SisOneRosterList
{
	SisOneRoster *roster;
	SisOneRosterCollection collection;
	const char *name;			/* in the address, and of the array */
	bool		absent;			/* the service does not offer it */
	int64		total;			/* as the service says; -1: it does not */
	int64		planned;		/* rows that pages have been asked for */
	int			size;			/* rows of a page, as the service gives them */
	int			nopen;			/* pages under way */
	List	   *pages;			/* of those that came */
};

/* One page: what call->arg points to. */
typedef struct SisOneRosterPage
{
	SisOneRosterList *list;
	int64		offset;
	int			limit;
	bool		overlaps;		/* its first row is the last of the page before */
	bool		has_come;
	int			nrows;			/* that it brought, that one included */
	int			count;			/* of them, read so far */
	bool		is_sorted;		/* each ID is greater than the one before */
	StringInfoData first_id;	/* empty: it could not be read */
	StringInfoData last_id;
	int			token_number;	/* it was asked for with that token */
} SisOneRosterPage;

extern SisOneRosterList *sis_oneroster_list_create(SisOneRoster *roster,
												   SisOneRosterCollection collection,
												   const char *name);

/* Asks for its first page; the others follow by themselves. */
extern void sis_oneroster_list_start(SisOneRosterList *list);

/* Rows that came. */
extern int64 sis_oneroster_list_rows(const SisOneRosterList *list);

/*
 * Looks at the pages that came as a whole: do they follow one another, and
 * does each ID stand in one of them only?  Sets roster->drift where not.
 */
extern void sis_oneroster_list_check(SisOneRosterList *list);

/* The address of a page. */
extern char *sis_oneroster_url(const SisOneRoster *roster, const char *name,
							   int64 offset, int limit);

/* ----------
 * oneroster_auth.c
 * ----------
 */

/* Reads who is asking from the source's options.  False: SI009. */
extern bool sis_oneroster_auth_set(SisOneRoster *roster);

/* SisRestService.authorize for pages. */
extern bool sis_oneroster_authorize(SisRestCall *call, List **headers);

/* Gets a new token in place of the one sent with that number. */
extern bool sis_oneroster_renew_token(SisOneRoster *roster, int token_number);

/* ----------
 * oneroster_refusal.c
 * ----------
 */

/* SisRestService.refused for pages; call->arg is the page. */
extern SisRestVerdict sis_oneroster_refused(SisRestCall *call);

/* SisRestService.refused for the token endpoint; call->arg is the roster. */
extern SisRestVerdict sis_oneroster_token_refused(SisRestCall *call);

/* ----------
 * oneroster_map.c
 * ----------
 */

extern SisOneRosterMap *sis_oneroster_map_create(const SisOneRoster *roster);

/* Puts the records that one of the collection makes. */
extern void sis_oneroster_map_put(SisOneRosterMap *map,
								  SisOneRosterCollection collection,
								  SisRestCall *call,
								  const SisJsonNode *record);

/* Rejects one that cannot be trusted. */
extern void sis_oneroster_map_reject(SisOneRosterMap *map,
									 SisOneRosterCollection collection,
									 SisRestCall *call, SisValue id,
									 const char *problem);

/* The ID of the one district; NULL when there is none, or several. */
extern const char *sis_oneroster_map_district(const SisOneRosterMap *map);

/* The columns of a student that the list of demographics fills. */
extern uint64 sis_oneroster_map_demographics(const SisOneRosterMap *map);

/* Did any user's record have a word on agents, be it that there is none? */
extern bool sis_oneroster_map_has_agents(const SisOneRosterMap *map);

#endif
