/*
 * clever.c
 *		Clever's Data API, v3.0 and v3.1: a district's lists, page by page.
 *
 * How it works: the district's own record is read first, which tells whether
 * the token is good and of which district it is.  Then come the lists, side by
 * side; each is a chain of pages, every one naming the next.  A chain is no
 * snapshot: what is shared with us while we read may be missed.  So the
 * district's last_sync is read again at the end, and when it has moved, all is
 * read once more.
 *
 * Of a link to the next page only the cursor is taken, and the rest of the
 * address is made anew: the token goes nowhere but to base_url.
 */
#include "postgres.h"

#include "base/progress.h"
#include "base/url.h"
#include "base/value.h"
#include "utils/timestamp.h"

#include "provider/clever.h"
#include "provider/jsonmap.h"
#include "provider/rest.h"

#define DEFAULT_BASE_URL	"https://api.clever.com"
#define DEFAULT_TOKEN_URL	"https://clever.com/oauth/tokens"
#define DEFAULT_VERSION		"v3.1"

/* The most that Clever allows; beyond it answers 413. */
#define DEFAULT_PAGE_SIZE	10000

/* How often a district that is synced while we read is read from the start. */
#define MAX_PULLS			3

/* The role parameter is documented for /users; each list is its own chain. */
static const char *const list_names[SIS_N_CLEVER_LISTS] = {
	[SIS_CLEVER_STUDENTS] = "users?role=student",
	[SIS_CLEVER_CONTACTS] = "users?role=contact",
	[SIS_CLEVER_SECTIONS] = "sections",
	[SIS_CLEVER_TEACHERS] = "users?role=teacher",
	[SIS_CLEVER_STAFF] = "users?role=staff",
	[SIS_CLEVER_ADMINS] = "users?role=district_admin",
	[SIS_CLEVER_COURSES] = "courses",
	[SIS_CLEVER_TERMS] = "terms",
	[SIS_CLEVER_SCHOOLS] = "schools"
};

/* A list's chain of pages. */
typedef struct Chain
{
	SisClever  *clever;
	SisCleverList list;
	int64		nrecords;		/* in the pages so far */
	char	   *cursor;			/* of the last page; "" for the first */
} Chain;

/* What a call is about. */
typedef struct Page
{
	SisClever  *clever;
	Chain	   *chain;			/* NULL: the district */
	bool		is_known;		/* next_page() has been here */
	int64		nrecords;
	char	   *next;			/* cursor of the next page, or NULL */
} Page;

SisClever *
sis_clever_of(const SisRestCall *call)
{
	return ((Page *) call->arg)->clever;
}

/* ----------
 * The district
 * ----------
 */

static char *
text_of(const SisJsonNode *node, const char *key)
{
	SisValue	value = sis_json_find(node, key);

	return value.data != NULL ? pnstrdup(value.data, value.len) : pstrdup("");
}

static void
district_record(SisRestCall *call, const SisJsonNode *item)
{
	SisClever  *clever = sis_clever_of(call);
	const SisJsonNode *data = sis_json_member(item, "data");
	MemoryContext old = MemoryContextSwitchTo(clever->cxt);

	clever->asked.nrecords++;
	clever->asked.id = text_of(data, "id");
	clever->asked.last_sync = text_of(data, "last_sync");
	clever->asked.state = text_of(data, "state");
	MemoryContextSwitchTo(old);
}

/* A page that comes a second time is counted once. */
static bool
district_begins(SisRestCall *call)
{
	memset(&sis_clever_of(call)->asked, 0, sizeof(SisCleverDistrict));
	return true;
}

static bool
district_end(SisRestCall *call)
{
	SisClever  *clever = sis_clever_of(call);
	const SisCleverDistrict *asked = &clever->asked;

	if (asked->nrecords == 0)
		return sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL,
						"The list of districts that the token may read is empty.",
						"Check at Clever that the district is still connected to the application.",
						"the token is of no district");
	if (asked->nrecords > 1 || asked->id[0] == '\0')
		return sis_fail(clever->failure, SIS_ERR_MALFORMED, NULL,
						psprintf("%d districts came; a token is of one, which has an ID.",
								 asked->nrecords),
						"Check the server's option \"base_url\".",
						"\"%s\" does not answer as Clever's Data API does",
						sis_url_host(call->url));
	if (clever->district_id != NULL &&
		strcmp(asked->id, clever->district_id) != 0)
		return sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL,
						psprintf("The token is of district \"%s\".",
								 sis_printable(asked->id)),
						"Check the server's option \"district_id\", or set the token of that district with ALTER USER MAPPING.",
						"the token is not of district \"%s\"",
						sis_printable(clever->district_id));
	return true;
}

static void
district_reject(SisRestCall *call, const SisJsonNode *record,
				const char *reason)
{
	district_record(call, NULL);
}

static bool
ask_district(SisClever *clever)
{
	SisRestCall *call = sis_rest_call(clever->rest);
	Page	   *page = MemoryContextAllocZero(call->cxt, sizeof(Page));

	page->clever = clever;
	call->collection = "districts";
	call->url = psprintf("%s/%s/districts", clever->base_url, clever->version);
	call->array = "data";
	call->arg = page;
	call->next = district_begins;
	call->record = district_record;
	call->reject = district_reject;
	call->end = district_end;
	sis_rest_add(call);
	return sis_rest_run(clever->rest);
}

/* ----------
 * Lists
 * ----------
 */

static void add_page(Chain *chain);

static void
list_record(SisRestCall *call, const SisJsonNode *item)
{
	const Page *page = call->arg;

	sis_clever_put(page->clever->records, page->chain->list, item, call->sink,
				   call->collection, call->line);
}

static void
list_reject(SisRestCall *call, const SisJsonNode *item, const char *reason)
{
	const Page *page = call->arg;

	sis_clever_reject(page->chain->list,
					  sis_json_id(call->json, sis_clever_id(item)),
					  call->sink, call->collection, call->line, reason);
}

/* The link to the next page; NULL: this is the last one. */
static char *
next_link(const SisRestCall *call)
{
	const SisJsonNode *links = sis_json_beside(call->json, "links");
	int			n = sis_json_length(links);

	for (int i = 0; i < n; i++)
	{
		const SisJsonNode *link = sis_json_item(links, i);
		SisValue	rel = sis_json_find(link, "rel");

		if (rel.len == 4 && memcmp(rel.data, "next", 4) == 0)
			return text_of(link, "uri");
	}
	return NULL;
}

/*
 * Takes the cursor from a link to the next page, which must be a page of the
 * same service.  Cursors are IDs, and lists are in the order of IDs: one that
 * does not come after the last would lead round in circles.
 */
static bool
take_cursor(SisRestCall *call, const char *link, char **cursor)
{
	const Page *page = call->arg;
	SisClever  *clever = page->clever;
	bool		is_relative = link[0] == '/' && link[1] != '/' &&
		link[1] != '\\';

	if (!is_relative && !sis_url_same_origin(link, clever->base_url))
		return sis_fail(clever->failure, SIS_ERR_UNAVAILABLE, NULL,
						psprintf("The link points to \"%s\", and is not followed.",
								 sis_url_host(link)), NULL,
						"the next page of \"%s\" is at another host",
						call->collection);
	*cursor = sis_url_parameter(link, "starting_after");
	if (*cursor == NULL ||
		(!page->is_known && strcmp(*cursor, page->chain->cursor) <= 0))
		return sis_fail(clever->failure, SIS_ERR_INCOMPLETE, NULL,
						psprintf("After %lld records the link to the next page %s.",
								 (long long) (page->chain->nrecords + call->nrecords),
								 *cursor == NULL ? "has no cursor" :
								 "does not lead on"),
						"Run the sync again later.",
						"the pages of \"%s\" have no end", call->collection);
	return true;
}

/* A page that comes a second time must lead to where it led before. */
static bool
is_same_page(const Page *page, const SisRestCall *call, const char *cursor)
{
	if (page->nrecords != call->nrecords)
		return false;
	if (page->next == NULL || cursor == NULL)
		return page->next == NULL && cursor == NULL;
	return strcmp(page->next, cursor) == 0;
}

/* Asks for the page behind this one, if there is one. */
static bool
next_page(SisRestCall *call)
{
	Page	   *page = call->arg;
	Chain	   *chain = page->chain;
	char	   *link = next_link(call);
	char	   *cursor = NULL;

	if (link != NULL && call->nrecords > 0 &&
		!take_cursor(call, link, &cursor))
		return false;
	if (page->is_known)
		return is_same_page(page, call, cursor) ||
			sis_fail(chain->clever->failure, SIS_ERR_INCOMPLETE, NULL,
					 "A page that was asked for twice came with other records.",
					 "Run the sync again later.",
					 "the pages of \"%s\" do not hold still",
					 call->collection);
	page->is_known = true;
	page->nrecords = call->nrecords;
	chain->nrecords += call->nrecords;
	if (cursor == NULL)
		return true;
	page->next = MemoryContextStrdup(call->cxt, cursor);
	chain->cursor = MemoryContextStrdup(chain->clever->cxt, cursor);
	add_page(chain);
	return true;
}

/* Asks for the page at the chain's cursor. */
static void
add_page(Chain *chain)
{
	SisClever  *clever = chain->clever;
	SisRestCall *call = sis_rest_call(clever->rest);
	Page	   *page = MemoryContextAllocZero(call->cxt, sizeof(Page));
	const char *name = list_names[chain->list];
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	page->clever = clever;
	page->chain = chain;
	call->collection = name;
	call->url = psprintf("%s/%s/%s%climit=%d%s%s", clever->base_url,
						 clever->version, name,
						 strchr(name, '?') != NULL ? '&' : '?',
						 clever->page_size,
						 chain->cursor[0] != '\0' ? "&starting_after=" : "",
						 sis_url_encode(chain->cursor));
	MemoryContextSwitchTo(old);
	call->array = "data";
	call->first = chain->nrecords + 1;
	call->arg = page;
	call->next = next_page;
	call->record = list_record;
	call->reject = list_reject;

	/* a chain that has begun goes on: the longest must never wait */
	if (chain->cursor[0] != '\0')
		sis_rest_add_first(call);
	else
		sis_rest_add(call);
}

/* Reads all lists into a new spool. */
static bool
pull(SisClever *clever)
{
	Chain	   *chains = palloc0(sizeof(Chain) * SIS_N_CLEVER_LISTS);

	if (clever->spool != NULL)
		sis_recordspool_free(clever->spool);
	clever->spool = sis_recordspool_create(clever->wants);
	sis_rest_set_spool(clever->rest, clever->spool);
	for (int list = 0; list < SIS_N_CLEVER_LISTS; list++)
	{
		chains[list].clever = clever;
		chains[list].list = (SisCleverList) list;
		chains[list].cursor = "";
		add_page(&chains[list]);
	}
	if (!sis_rest_run(clever->rest))
		return false;
	if (sis_recordspool_rows(clever->spool) > 0)
		return true;
	return sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL,
					"The token is good, and each of the district's lists is empty: sharing has been switched off.",
					"Have the district's administrator share schools with the application at Clever.",
					"the district shares no data");
}

/* Reads the district as it is at one time. */
static bool
pull_whole(SisClever *clever)
{
	if (!ask_district(clever))
		return false;
	clever->is_reading = true;
	for (int i = 0; i < MAX_PULLS; i++)
	{
		clever->district = clever->asked;
		if (!pull(clever) || !ask_district(clever))
			return false;
		if (strcmp(clever->asked.id, clever->district.id) == 0 &&
			strcmp(clever->asked.last_sync, clever->district.last_sync) == 0)
		{
			clever->district = clever->asked;
			return true;
		}
	}
	return sis_fail(clever->failure, SIS_ERR_INCOMPLETE, NULL,
					psprintf("It was read %d times, and each time the district was synced into Clever meanwhile.",
							 MAX_PULLS),
					"Run the sync again later.",
					"the district's data does not hold still");
}

/* ----------
 * The provider
 * ----------
 */

void *
sis_clever_fetch(const SisSource *source, const SisWants *wants,
				 SisFailure *failure)
{
	static const SisRestService service = {
		"Clever", sis_clever_authorize, sis_clever_refused
	};
	SisClever  *clever = palloc0(sizeof(SisClever));
	const char *base_url = sis_source_option(source, "base_url");
	const char *token_url = sis_source_option(source, "token_url");
	const char *version = sis_source_option(source, "api_version");
	size_t		len;

	clever->source = source;
	clever->wants = wants;
	clever->failure = failure;
	clever->cxt = CurrentMemoryContext;
	clever->base_url = pstrdup(base_url != NULL ? base_url : DEFAULT_BASE_URL);
	for (len = strlen(clever->base_url); clever->base_url[len - 1] == '/';)
		clever->base_url[--len] = '\0';
	clever->token_url = token_url != NULL ? token_url : DEFAULT_TOKEN_URL;
	clever->version = version != NULL ? version : DEFAULT_VERSION;
	clever->district_id = sis_source_option(source, "district_id");
	clever->page_size = sis_rest_number(source, "page_size",
										DEFAULT_PAGE_SIZE);
	if (!sis_clever_load_credentials(clever))
		return NULL;

	clever->records = sis_clever_records_create(wants);
	clever->rest = sis_rest_create(source, &service, NULL, failure);
	if (clever->token == NULL && !sis_clever_fetch_token(clever))
		return NULL;
	if (!pull_whole(clever))
		return NULL;
	sis_rest_close(clever->rest);
	return clever;
}

/* Data that stands still is said to be so, and is no failure. */
static void
note_state(const SisCleverDistrict *district, SisSink *sink)
{
	if (strcmp(district->state, "paused") == 0)
		appendStringInfoString(&sink->note,
							   "Clever has paused the syncs of this district: its data stands still.");
	else if (strcmp(district->state, "error") == 0 ||
			 strcmp(district->state, "pending") == 0)
		appendStringInfo(&sink->note,
						 "Clever reports the state \"%s\" of this district: its last sync into Clever did not succeed, and the data is of %s.",
						 district->state,
						 district->last_sync[0] != '\0' ?
						 sis_printable(district->last_sync) : "an earlier one");
}

bool
sis_clever_read(void *fetched, SisSink *sink)
{
	SisClever  *clever = fetched;

	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		sink->offer[type] = SIS_OFFER_FULL;
	sink->district_id = clever->district.id;
	sink->as_of = sis_clever_time(clever->district.last_sync);
	note_state(&clever->district, sink);
	sis_progress_expect_rows(sis_recordspool_rows(clever->spool));
	sis_recordspool_replay(clever->spool, sink);
	return true;
}
