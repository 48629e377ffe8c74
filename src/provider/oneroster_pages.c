/*
 * oneroster_pages.c
 *		The pages of one OneRoster list, so that no row is lost between them.
 *
 * How it works: the first page tells how many rows there are, and how many the
 * service is willing to send at once; the other pages are then asked for side
 * by side.  Where no total is sent, one page follows the other until one has
 * nothing new; Link headers are wrong too often to be an end.
 *
 * Rows that join or leave while pages are fetched shift all that follow, and a
 * row may slip through between two pages without any count being wrong.
 * Therefore each page begins with the last row of the one before: that row
 * must be the same on both.  What does not fit together is written into
 * roster->drift, and the whole pull is thrown away.
 */
#include "postgres.h"

#include "base/progress.h"
#include "base/seen.h"
#include "base/textlist.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "provider/jsonmap.h"
#include "provider/oneroster_rest.h"

/*
 * Memory of a set of IDs: 26 bits for each of 5 M.  It is made only for lists
 * that are not sorted.
 */
#define SEEN_KB			16384

/*
 * So many pages of a list for each connection are asked for ahead, so that a
 * slow one does not keep connections idle.
 */
#define PAGES_AHEAD		2

/* More IDs than this twice are no accident: no need to look at each. */
#define MAX_SUSPECTS	100000

static bool page_next(SisRestCall *call);
static bool page_end(SisRestCall *call);
static void page_record(SisRestCall *call, const SisJsonNode *record);
static void page_reject(SisRestCall *call, const SisJsonNode *record,
						const char *reason);

/* Says why the pull is no picture of one moment; the first cause stays. */
static void
set_drift(SisOneRoster *roster, char *sentence)
{
	if (roster->drift == NULL)
		roster->drift = sentence;
}

/* Rows of a page that the page before has as well. */
static int
overlap_of(const SisOneRosterPage *page)
{
	return page->overlaps ? 1 : 0;
}

/* ----------
 * Asking for pages
 * ----------
 */

SisOneRosterList *
sis_oneroster_list_create(SisOneRoster *roster,
						  SisOneRosterCollection collection, const char *name)
{
	SisOneRosterList *list = palloc0(sizeof(SisOneRosterList));

	list->roster = roster;
	list->collection = collection;
	list->name = name;
	list->total = -1;
	list->size = roster->page_size;
	return list;
}

char *
sis_oneroster_url(const SisOneRoster *roster, const char *name, int64 offset,
				  int limit)
{
	return psprintf("%s/%s?limit=%d&offset=" INT64_FORMAT
					"&sort=sourcedId&orderBy=asc",
					roster->base, name, limit, offset);
}

static void
ask(SisOneRosterList *list, int64 offset, int limit, bool overlaps)
{
	SisOneRoster *roster = list->roster;
	MemoryContext old = MemoryContextSwitchTo(roster->pull_cxt);
	SisOneRosterPage *page = palloc0(sizeof(SisOneRosterPage));
	SisRestCall *call = sis_rest_call(roster->rest);

	page->list = list;
	page->offset = offset;
	page->limit = limit;
	page->overlaps = overlaps;
	initStringInfo(&page->first_id);
	initStringInfo(&page->last_id);
	call->collection = list->name;
	call->url = sis_oneroster_url(roster, list->name, offset, limit);
	call->array = list->name;
	call->first = offset + 1;
	call->in_order = true;
	call->arg = page;
	call->next = page_next;
	call->record = page_record;
	call->reject = page_reject;
	call->end = page_end;
	list->nopen++;
	sis_rest_add(call);
	MemoryContextSwitchTo(old);
}

void
sis_oneroster_list_start(SisOneRosterList *list)
{
	list->planned = list->size;
	ask(list, 0, list->size, false);
}

/*
 * Asks for what follows row number "from" (so many are known).  A page of one
 * row has no room for the one before.
 */
static void
ask_from(SisOneRosterList *list, int64 from, int limit)
{
	bool		overlaps = limit > 1;

	ask(list, overlaps ? from - 1 : from, limit, overlaps);
	list->planned = Max(list->planned,
						from + limit - (overlaps ? 1 : 0));
}

static void
ask_ahead(SisOneRosterList *list)
{
	int			window = PAGES_AHEAD *
		sis_rest_max_connections(list->roster->rest);

	while (list->planned < list->total && list->nopen < window)
		ask_from(list, list->planned, list->size);
}

/* ----------
 * The rows of a page
 * ----------
 */

static void
keep_id(StringInfo buf, SisValue id)
{
	resetStringInfo(buf);
	if (id.data != NULL)
		appendBinaryStringInfo(buf, id.data, id.len);
}

/* Is an ID greater, by its bytes, than the one kept? */
static bool
is_greater(SisValue id, const StringInfoData *than)
{
	SisValue	other = {than->data, than->len};

	return id.data != NULL && than->len > 0 &&
		sis_compare_values(id, other) > 0;
}

/* Counts a row; false for the one that the page before had as well. */
static bool
count_row(SisOneRosterPage *page, SisValue id)
{
	page->count++;
	if (page->count == 1)
		keep_id(&page->first_id, id);
	else if (page->is_sorted && !is_greater(id, &page->last_id))
		page->is_sorted = false;
	keep_id(&page->last_id, id);
	return page->count > 1 || !page->overlaps;
}

static void
page_record(SisRestCall *call, const SisJsonNode *record)
{
	SisOneRosterPage *page = call->arg;
	SisOneRosterList *list = page->list;

	if (count_row(page, sis_json_find(record, "sourcedId")))
		sis_oneroster_map_put(list->roster->map, list->collection, call,
							  record);
}

static void
page_reject(SisRestCall *call, const SisJsonNode *record, const char *reason)
{
	SisOneRosterPage *page = call->arg;
	SisOneRosterList *list = page->list;
	SisValue	id = sis_json_id(call->json,
								 sis_json_member(record, "sourcedId"));

	if (count_row(page, id))
		sis_oneroster_map_reject(list->roster->map, list->collection, call,
								 id, reason);
}

/* ----------
 * A page that has come
 * ----------
 */

/* The number in X-Total-Count; -1 when there is none that can be read. */
static int64
total_of(const SisRestCall *call)
{
	char	   *text = sis_rest_header(call, "X-Total-Count");
	int64		total = 0;

	if (text == NULL || text[0] == '\0' || strlen(text) > 12)
		return -1;
	for (const char *p = text; *p != '\0'; p++)
	{
		if (*p < '0' || *p > '9')
			return -1;
		total = total * 10 + (*p - '0');
	}
	return total;
}

/* ClassLink's revision of all data must be the same throughout. */
static void
check_revision(SisOneRoster *roster, const SisRestCall *call)
{
	char	   *revision = sis_rest_header(call, "x-perm-rev");

	if (revision == NULL || revision[0] == '\0')
		return;
	if (roster->perm_rev == NULL)
		roster->perm_rev = MemoryContextStrdup(roster->pull_cxt, revision);
	else if (strcmp(roster->perm_rev, revision) != 0)
		set_drift(roster,
				  pstrdup("The revision of its data (x-perm-rev) changed between two pages."));
}

static bool
same_id(const StringInfoData *a, const StringInfoData *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

static void
report_shift(const SisOneRosterPage *page)
{
	set_drift(page->list->roster,
			  psprintf("The page of \"%s\" at offset " INT64_FORMAT
					   " does not begin with the row that the page before ended with.",
					   page->list->name, page->offset));
}

/* A page of a list whose total is known. */
static void
take_counted(SisOneRosterList *list, SisOneRosterPage *page)
{
	int64		got = page->offset + page->nrows;
	int64		end = Min(page->offset + page->limit, list->total);
	bool		is_first = page->offset == 0 && !page->overlaps;

	if (got == end)
	{
		/* some send the number of rows of the page: is that really all? */
		if (is_first && page->nrows == page->limit && got == list->total)
			ask_from(list, got, list->size);
	}
	else if (got < end && page->nrows <= overlap_of(page))
		set_drift(list->roster,
				  psprintf("The list \"%s\" ends after " INT64_FORMAT " of "
						   INT64_FORMAT " rows.", list->name, got, list->total));
	else if (is_first)
	{
		/* that many is what the service sends at once */
		list->size = page->nrows;
		list->planned = got;
	}
	else if (got < end)
		ask_from(list, got, (int) (end - got) + 1);
	else
		set_drift(list->roster,
				  psprintf("A page of \"%s\" has more rows than were asked for.",
						   list->name));
	if (list->roster->drift == NULL)
		ask_ahead(list);
}

/*
 * A page has come, and is about to be read.  What follows it is asked for, but
 * for a pull that is to be thrown away; and once only, should the page come a
 * second time.
 */
static bool
page_next(SisRestCall *call)
{
	SisOneRosterPage *page = call->arg;
	SisOneRosterList *list = page->list;
	SisOneRoster *roster = list->roster;
	MemoryContext old = MemoryContextSwitchTo(roster->pull_cxt);
	int64		total = total_of(call);
	bool		came_before = page->has_come;

	page->count = 0;
	page->is_sorted = true;
	page->nrows = (int) call->nrecords;
	page->has_come = true;
	check_revision(roster, call);
	if (page->offset == 0 && !page->overlaps && !came_before)
	{
		list->total = total;
		if (total > 0)
			sis_progress_expect_rows(total);
	}
	if (total >= 0 && list->total >= 0 && total != list->total)
		set_drift(roster,
				  psprintf("The number of rows of \"%s\" changed between two pages.",
						   list->name));
	if (roster->drift == NULL && !came_before)
	{
		if (list->total >= 0)
			take_counted(list, page);
		else if (page->nrows > overlap_of(page))
			ask_from(list, page->offset + page->nrows, roster->page_size);
	}
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * In a list whose total is not known: a page that does not go on from the one
 * before ends the pull, which would have no end where a service pays no heed
 * to offsets.
 */
static void
check_goes_on(SisOneRosterList *list, const SisOneRosterPage *page)
{
	const SisOneRosterPage *before = list->pages == NIL ? NULL :
		llast(list->pages);

	if (before == NULL)
		return;
	if (page->overlaps && !same_id(&before->last_id, &page->first_id))
		report_shift(page);
	/* a short page that others follow: the service sends no more at once */
	if (page->nrows > overlap_of(page) && before->nrows < before->limit)
		list->size = before->nrows;
}

static bool
page_end(SisRestCall *call)
{
	SisOneRosterPage *page = call->arg;
	SisOneRosterList *list = page->list;
	SisOneRoster *roster = list->roster;
	MemoryContext old = MemoryContextSwitchTo(roster->pull_cxt);

	if (list->total < 0)
		check_goes_on(list, page);
	list->nopen--;
	list->pages = lappend(list->pages, page);
	if (roster->drift == NULL && list->total >= 0)
		ask_ahead(list);
	MemoryContextSwitchTo(old);
	return true;
}

/* ----------
 * The list as a whole
 * ----------
 */

int64
sis_oneroster_list_rows(const SisOneRosterList *list)
{
	int64		rows = 0;
	ListCell   *lc;

	foreach(lc, list->pages)
	{
		const SisOneRosterPage *page = lfirst(lc);

		rows += Max(page->nrows - overlap_of(page), 0);
	}
	return rows;
}

static int
compare_pages(const ListCell *a, const ListCell *b)
{
	const SisOneRosterPage *x = lfirst(a);
	const SisOneRosterPage *y = lfirst(b);

	return x->offset < y->offset ? -1 : x->offset > y->offset ? 1 : 0;
}

/*
 * Do the pages follow one another?  Returns whether all IDs are in order too:
 * then none of them comes twice.
 */
static bool
check_order(SisOneRosterList *list)
{
	const SisOneRosterPage *before = NULL;
	bool		is_sorted = true;
	ListCell   *lc;

	list_sort(list->pages, compare_pages);
	foreach(lc, list->pages)
	{
		const SisOneRosterPage *page = lfirst(lc);

		if (page->overlaps && before != NULL &&
			!same_id(&before->last_id, &page->first_id))
			report_shift(page);
		if (!page->is_sorted || (before != NULL && !page->overlaps))
			is_sorted = false;
		before = page;
	}
	return is_sorted;
}

/* An ID that may have come twice; its hash is the key. */
typedef struct Suspect
{
	uint64		hash;
	int64		line;			/* 0: not found yet */
} Suspect;

/* A sink that looks for IDs that come twice among the records of a list. */
typedef struct Search
{
	SisSink		sink;			/* must be first */
	SisOneRosterList *list;
	SisSeen    *seen;			/* first time through; else NULL */
	HTAB	   *suspects;
	int64		repeats;		/* IDs that stand on two pages */
} Search;

/* The page that a row of the list came with. */
static int
page_of(const SisOneRosterList *list, int64 line)
{
	int			low = 0;
	int			high = list_length(list->pages) - 1;

	while (low < high)
	{
		int			middle = (low + high + 1) / 2;
		const SisOneRosterPage *page = list_nth(list->pages, middle);

		if (page->offset + overlap_of(page) < line)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

static void
look_at(Search *search, const char *source, SisValue id, int64 line)
{
	SisOneRosterList *list = search->list;
	Suspect    *suspect;
	uint64		hash;

	if (strcmp(source, list->name) != 0 || id.data == NULL)
		return;
	hash = sis_seen_hash(id.data, id.len);
	if (search->seen != NULL)
	{
		bool		old;

		sis_seen_add(search->seen, &hash, 1, &old);
		if (old &&
			hash_get_num_entries(search->suspects) < MAX_SUSPECTS)
		{
			suspect = hash_search(search->suspects, &hash, HASH_ENTER, NULL);
			suspect->line = 0;
		}
		return;
	}
	suspect = hash_search(search->suspects, &hash, HASH_FIND, NULL);
	if (suspect == NULL)
		return;
	if (suspect->line == 0)
		suspect->line = line;
	else if (page_of(list, suspect->line) != page_of(list, line))
		search->repeats++;
}

static void
look_at_record(SisSink *sink, SisRecord *record)
{
	/* links have IDs of their own */
	if (!sis_record_desc(record->type)->is_link ||
		record->type == SIS_ENROLLMENT)
		look_at((Search *) sink, record->source,
				record->values[SIS_COL_SOURCE_ID], record->line);
}

static void
look_at_reject(SisSink *sink, const SisReject *reject)
{
	look_at((Search *) sink, reject->source, reject->source_id, reject->line);
}

static void
pass_over(SisSink *sink, int types)
{
}

/*
 * Looks for IDs that stand on two pages.  One that stands twice on one page is
 * a fault of the data and not of the paging.  The set of IDs errs now and
 * then, so the records are gone through twice.
 */
static void
check_repeats(SisOneRosterList *list)
{
	Search		search = {0};
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(Suspect);
	ctl.hcxt = CurrentMemoryContext;
	search.suspects = hash_create("sis_sync suspects", 128, &ctl,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	search.list = list;
	search.sink.put = look_at_record;
	search.sink.reject = look_at_reject;
	search.sink.row_read = pass_over;
	search.sink.failure = list->roster->failure;
	search.sink.wants = list->roster->wants;
	search.seen = sis_seen_create(SEEN_KB);
	sis_recordspool_replay(list->roster->spool, &search.sink);
	search.seen = NULL;
	if (hash_get_num_entries(search.suspects) > 0)
		sis_recordspool_replay(list->roster->spool, &search.sink);
	if (search.repeats > 0)
		set_drift(list->roster,
				  psprintf("IDs stand on two pages of \"%s\": " INT64_FORMAT ".",
						   list->name, search.repeats));
}

void
sis_oneroster_list_check(SisOneRosterList *list)
{
	SisOneRoster *roster = list->roster;
	MemoryContext cxt = AllocSetContextCreate(roster->pull_cxt,
											  "sis_sync OneRoster check",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(roster->pull_cxt);
	bool		is_sorted = check_order(list);

	if (list->total >= 0 && sis_oneroster_list_rows(list) != list->total)
		set_drift(roster,
				  psprintf("The list \"%s\" has " INT64_FORMAT
						   " rows, and its pages " INT64_FORMAT ".",
						   list->name, list->total,
						   sis_oneroster_list_rows(list)));
	MemoryContextSwitchTo(cxt);
	if (roster->drift == NULL && !is_sorted && list_length(list->pages) > 1)
		check_repeats(list);
	MemoryContextSwitchTo(old);
	/* what was found there is still to be read */
	if (roster->drift == NULL)
		MemoryContextDelete(cxt);
}
