/*
 * oneroster_rest.c
 *		OneRoster services over REST, and ClassLink, which is one of them.
 *
 * How it works: a pull asks for the seven top-level lists side by side, page
 * by page (oneroster_pages.c).  It has to be a picture of one moment: when
 * anything shows that the service's data changed meanwhile, all of it is
 * thrown away and pulled again, a few times.
 */
#include "postgres.h"

#include "base/progress.h"
#include "base/url.h"
#include "utils/memutils.h"

#include "provider/oneroster_rest.h"

#define MAX_PULLS			3

/* Larger ones save little: what counts is the number of requests at once. */
#define DEFAULT_PAGE_SIZE	5000

#define CLASSLINK_PROXY		"https://oneroster-proxy.apis.classlink.com"

#define PATH_V1P1			"/ims/oneroster/v1p1"
#define PATH_V1P2			"/ims/oneroster/rostering/v1p2"

/*
 * What there is to ask for, in the order of SisOneRosterCollection: the long
 * lists first, so that their pages can fill the connections.
 */
static const struct
{
	const char *name;
	SisRecordType types[4];
	int			ntypes;
}			collections[SIS_OR_N_COLLECTIONS] = {
	{"enrollments", {SIS_ENROLLMENT}, 1},
	{"users", {SIS_STUDENT, SIS_STAFF, SIS_CONTACT, SIS_STUDENT_CONTACT}, 4},
	{"demographics", {SIS_STUDENT}, 0},
	{"classes", {SIS_SECTION}, 1},
	{"courses", {SIS_COURSE}, 1},
	{"orgs", {SIS_SCHOOL}, 1},
	{"academicSessions", {SIS_TERM}, 1}
};

static const SisRestService oneroster_service = {
	"OneRoster", sis_oneroster_authorize, sis_oneroster_refused
};

static const SisRestService classlink_service = {
	"ClassLink", sis_oneroster_authorize, sis_oneroster_refused
};

/* ----------
 * The service's address and version
 * ----------
 */

static bool
is_classlink(const SisSource *source)
{
	return strcmp(source->wrapper, "sis_classlink") == 0;
}

static bool
ends_in(const char *text, const char *end)
{
	size_t		len = strlen(text);
	size_t		endlen = strlen(end);

	return len >= endlen && strcmp(text + len - endlen, end) == 0;
}

/* The address as it was set, or ClassLink's own, without a "/" at its end. */
static char *
root_address(const SisSource *source)
{
	const char *url = sis_source_option(source, "base_url");
	const char *application = sis_source_option(source, "application_id");
	char	   *root;
	size_t		len;

	if (url == NULL && application != NULL)
		url = CLASSLINK_PROXY;
	if (url == NULL)
		return NULL;
	root = pstrdup(url);
	for (len = strlen(root); len > 0 && root[len - 1] == '/'; len--)
		root[len - 1] = '\0';

	/* the ID is escaped already where it has to be */
	return application != NULL ? psprintf("%s/%s", root, application) : root;
}

/* The address of a version's lists below a root. */
static char *
address_of(const char *root, bool v1p2)
{
	if (ends_in(root, "/ims/oneroster"))
		return psprintf("%s%s", root, v1p2 ? "/rostering/v1p2" : "/v1p1");
	return psprintf("%s%s", root, v1p2 ? PATH_V1P2 : PATH_V1P1);
}

/*
 * Sets the address and the version as far as the options tell them.  Where
 * they leave the version open, roster->base stays the root, and it is for
 * probe() to find out.
 */
static bool
set_address(SisOneRoster *roster)
{
	const SisSource *source = roster->source;
	const char *version = sis_source_option(source, "version");
	char	   *root = root_address(source);

	if (root == NULL)
		return sis_fail(roster->failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
						is_classlink(source) ?
						"Set base_url to the address of the district's roster server, or application_id to that of ClassLink's proxy." :
						"Set it to the address of the service, up to v1p1 or v1p2.",
						"server \"%s\" has no base_url", source->server);
	if (strpbrk(root, "?#") != NULL)
		return sis_fail(roster->failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
						"Leave out all from the first \"?\" or \"#\".",
						"the address of server \"%s\" has a query or fragment",
						source->server);
	roster->base = root;
	roster->v1p2 = version != NULL && strcmp(version, "1.2") == 0;
	if (ends_in(root, "/v1p1") || ends_in(root, "/v1p2"))
	{
		/* a version that was set counts: some say one and send the other */
		if (version == NULL)
			roster->v1p2 = ends_in(root, "/v1p2");
	}
	else if (version != NULL || is_classlink(source))
		roster->base = address_of(root, roster->v1p2);
	else
		roster->probing = true;
	return true;
}

static bool
probe_end(SisRestCall *call)
{
	return true;
}

/* Asks for one row of one version's schools; false when that fails. */
static bool
try_version(SisOneRoster *roster, const char *root, bool v1p2)
{
	SisOneRosterPage *page = palloc0(sizeof(SisOneRosterPage));
	SisOneRosterList *list = palloc0(sizeof(SisOneRosterList));
	SisRestCall *call = sis_rest_call(roster->rest);

	roster->v1p2 = v1p2;
	roster->base = address_of(root, v1p2);
	roster->probed = true;
	list->roster = roster;
	list->collection = SIS_OR_ORGS;
	page->list = list;
	call->collection = collections[SIS_OR_ORGS].name;
	call->url = sis_oneroster_url(roster, call->collection, 0, 1);
	call->array = call->collection;
	call->arg = page;
	call->end = probe_end;
	sis_rest_add(call);
	return sis_rest_run(roster->rest);
}

/* Finds out which version the service has, the newer one first. */
static bool
probe(SisOneRoster *roster)
{
	char	   *root = roster->base;

	if (!try_version(roster, root, true))
		return false;
	if (!roster->probed && !try_version(roster, root, false))
		return false;
	roster->probing = false;
	if (!roster->probed)
		return sis_fail(roster->failure, SIS_ERR_UNAVAILABLE, NULL,
						psprintf("Neither %s nor %s is there.", PATH_V1P2,
								 PATH_V1P1),
						"Set the server's option \"base_url\" to the whole address, up to v1p1 or v1p2.",
						"could not find a OneRoster service at \"%s\"",
						sis_url_host(root));
	return true;
}

/* ----------
 * Pulling the lists
 * ----------
 */

static bool
is_wanted(const SisOneRoster *roster, SisOneRosterCollection collection)
{
	return collection != SIS_OR_DEMOGRAPHICS ||
		roster->wants->include_demographics;
}

static void
begin_pull(SisOneRoster *roster)
{
	MemoryContext old = MemoryContextSwitchTo(roster->cxt);

	roster->pull_cxt = AllocSetContextCreate(roster->cxt,
											 "sis_sync OneRoster pull",
											 ALLOCSET_DEFAULT_SIZES);
	roster->spool = sis_recordspool_create(roster->wants);
	sis_rest_set_spool(roster->rest, roster->spool);
	roster->perm_rev = NULL;
	roster->drift = NULL;
	MemoryContextSwitchTo(roster->pull_cxt);
	roster->map = sis_oneroster_map_create(roster);

	/* what a sync does not want any more does not stay */
	if (!roster->wants->include_demographics)
		sis_recordspool_say(roster->spool, SIS_STUDENT,
							sis_oneroster_map_demographics(roster->map));
	for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
	{
		SisOneRosterCollection collection = (SisOneRosterCollection) i;

		if (is_wanted(roster, collection))
			roster->lists[i] = sis_oneroster_list_create(roster, collection,
														 collections[i].name);
	}
	MemoryContextSwitchTo(old);
}

static void
forget_pull(SisOneRoster *roster)
{
	sis_recordspool_free(roster->spool);
	MemoryContextDelete(roster->pull_cxt);
	memset(roster->lists, 0, sizeof(roster->lists));
}

/*
 * Pulls all lists once.  False when that failed; roster->drift is set when it
 * went well and the result cannot be used.
 */
static bool
pull(SisOneRoster *roster)
{
	for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
	{
		if (roster->lists[i] != NULL)
			sis_oneroster_list_start(roster->lists[i]);
	}
	if (!sis_rest_run(roster->rest))
		return false;
	for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
	{
		if (roster->lists[i] != NULL && roster->drift == NULL)
			sis_oneroster_list_check(roster->lists[i]);
	}
	return true;
}

/* A service that shows nothing at all is one that shares nothing any more. */
static bool
check_shared(SisOneRoster *roster)
{
	for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
	{
		if (roster->lists[i] != NULL &&
			sis_oneroster_list_rows(roster->lists[i]) > 0)
			return true;
	}
	return sis_fail(roster->failure, SIS_ERR_CREDENTIALS, NULL,
					"The credentials are accepted, and every list is empty.",
					"The district may have stopped sharing its data with the application: have it look.",
					"\"%s\" shares no data", sis_url_host(roster->base));
}

static bool
pull_until_steady(SisOneRoster *roster)
{
	for (int n = 1;; n++)
	{
		begin_pull(roster);
		sis_progress_step(SIS_STEP_FETCH);
		if (!pull(roster))
			return false;
		if (roster->drift == NULL)
			return check_shared(roster);
		if (n == MAX_PULLS)
			return sis_fail(roster->failure, SIS_ERR_INCOMPLETE, NULL,
							psprintf("%s It was pulled %d times.",
									 roster->drift, n),
							"The district's data may have been changing: run the sync again later.",
							"the lists of \"%s\" do not fit together",
							sis_url_host(roster->base));
		forget_pull(roster);
	}
}

void *
sis_oneroster_fetch(const SisSource *source, const SisWants *wants,
					SisFailure *failure)
{
	SisOneRoster *roster = palloc0(sizeof(SisOneRoster));

	roster->source = source;
	roster->wants = wants;
	roster->failure = failure;
	roster->cxt = CurrentMemoryContext;
	roster->page_size = sis_rest_number(source, "page_size",
										DEFAULT_PAGE_SIZE);
	roster->application_id = sis_source_option(source, "application_id");
	if (!set_address(roster) || !sis_oneroster_auth_set(roster))
		return NULL;
	roster->rest = sis_rest_create(source, is_classlink(source) ?
								   &classlink_service : &oneroster_service,
								   NULL, failure);
	if ((roster->probing && !probe(roster)) || !pull_until_steady(roster))
		return NULL;
	sis_rest_close(roster->rest);
	return roster;
}

/* ----------
 * Handing it on
 * ----------
 */

static void
set_offers(SisOneRoster *roster, SisSink *sink)
{
	for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
	{
		for (int t = 0; t < collections[i].ntypes; t++)
			sink->offer[collections[i].types[t]] =
				roster->lists[i]->absent ? SIS_OFFER_ABSENT : SIS_OFFER_FULL;
	}
	/* who may not see who belongs to whom sees users without a word on it */
	if (!sis_oneroster_map_has_agents(roster->map))
		sink->offer[SIS_STUDENT_CONTACT] = SIS_OFFER_MISSING;
}

/* A limit that the service has lowered is worth a look: it costs requests. */
static void
note_limits(SisOneRoster *roster, SisSink *sink)
{
	int			size = roster->page_size;

	for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
	{
		const SisOneRosterList *list = roster->lists[i];

		if (list != NULL && list_length(list->pages) > 1)
			size = Min(size, list->size);
	}
	if (size < roster->page_size)
		appendStringInfo(&sink->note,
						 "The service sends %d rows a page where page_size asks for %d.",
						 size, roster->page_size);
}

bool
sis_oneroster_read(void *fetched, SisSink *sink)
{
	SisOneRoster *roster = fetched;
	const char *district = sis_oneroster_map_district(roster->map);

	set_offers(roster, sink);
	note_limits(roster, sink);
	sink->district_id = district != NULL ? pstrdup(district) : NULL;
	sis_progress_expect_rows(sis_recordspool_rows(roster->spool));
	sis_recordspool_replay(roster->spool, sink);
	return true;
}
