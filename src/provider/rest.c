/*
 * rest.c
 *		Pages of JSON from a REST service: what Clever and OneRoster share.
 *
 * How it works: calls stand in one list, in the order in which they were
 * added.  As many as there are connections are under way.  A body that has
 * come whole is skimmed for what stands beside its records, so that the next
 * page can be asked for; then its records are read, some at a time, and in
 * between the network is served.  A page that was read waits, where it has to
 * be in order, for those before it; then the provider sees its end and may add
 * more calls, and its records are committed.  A call that
 * failed in a way that may pass goes back to waiting, and begins anew at its
 * time; what it had put into its page is thrown away.
 */
#include "postgres.h"

#include "base/fingerprint.h"
#include "base/progress.h"
#include "base/url.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "provider/rest.h"

/* The first pause before another try is half a second, then it doubles. */
#define MAX_ATTEMPTS		5
#define FIRST_PAUSE			500 /* milliseconds */

/* Who asks to wait, and does not say how long, or less: at least a second. */
#define MIN_RATE_PAUSE		1000

/* 10,000 sections of 100 students are 30 MB. */
#define MAX_BODY			(INT64CONST(256) * 1024 * 1024)

/* What is read of the body of a refusal. */
#define MAX_REFUSAL			(64 * 1024)

/* Pages that wait for those before them, for each connection. */
#define MAX_HELD			2

/* So many records are read before the network is looked at: some 2 ms. */
#define SLICE				256

typedef enum Stage
{
	STAGE_WAITING,				/* in the queue, or for its next try */
	STAGE_RUNNING,
	STAGE_READING,				/* the body is here, and its records are read */
	STAGE_HELD					/* ended well, waits for its turn */
} Stage;

struct SisRestState
{
	dlist_node	node;
	SisRestCall *call;
	Stage		stage;
	TimestampTz not_before;		/* of the next try */
	int			attempts;		/* failed ones */
	MemoryContext attempt;		/* all of the current try */
	SisHttp    *http;
	StringInfoData body;
};

struct SisRest
{
	MemoryContext cxt;
	MemoryContext home;			/* the creator's, where failures live */
	const SisRestService *service;
	SisSession *session;
	SisRecordSpool *spool;
	SisFailure *failure;
	dlist_head	calls;
	TimestampTz not_before;		/* the service has asked for a pause */
	TimestampTz started;
};

int
sis_rest_number(const SisSource *source, const char *option, int fallback)
{
	const char *value = sis_source_option(source, option);

	/* the validator has seen that it is one */
	return value != NULL ? (int) strtol(value, NULL, 10) : fallback;
}

SisRest *
sis_rest_create(const SisSource *source, const SisRestService *service,
				SisRecordSpool *spool, SisFailure *failure)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "sis_sync REST",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	SisRest    *rest = palloc0(sizeof(SisRest));

	rest->cxt = cxt;
	rest->home = old;
	rest->service = service;
	rest->session = sis_session_open(source);
	rest->spool = spool;
	rest->failure = failure;
	rest->started = GetCurrentTimestamp();
	dlist_init(&rest->calls);
	MemoryContextSwitchTo(old);
	return rest;
}

void
sis_rest_close(SisRest *rest)
{
	MemoryContextDelete(rest->cxt);
}

void
sis_rest_set_spool(SisRest *rest, SisRecordSpool *spool)
{
	rest->spool = spool;
}

int
sis_rest_max_connections(const SisRest *rest)
{
	return sis_session_max_connections(rest->session);
}

SisRestCall *
sis_rest_call(SisRest *rest)
{
	MemoryContext cxt = AllocSetContextCreate(rest->cxt, "sis_sync REST call",
											  ALLOCSET_SMALL_SIZES);
	SisRestCall *call = MemoryContextAllocZero(cxt, sizeof(SisRestCall));

	call->cxt = cxt;
	call->rest = rest;
	call->first = 1;
	call->state = MemoryContextAllocZero(cxt, sizeof(struct SisRestState));
	call->state->call = call;
	return call;
}

void
sis_rest_add(SisRestCall *call)
{
	dlist_push_tail(&call->rest->calls, &call->state->node);
}

void
sis_rest_add_first(SisRestCall *call)
{
	dlist_push_head(&call->rest->calls, &call->state->node);
}

char *
sis_rest_header(const SisRestCall *call, const char *name)
{
	return sis_http_header(call->state->http, name);
}

pg_time_t
sis_rest_date(const SisRestCall *call)
{
	return sis_http_date(call->state->http);
}

/* ----------
 * Bodies
 * ----------
 */

/* A SisWrite. */
static void
take_bytes(void *arg, const char *data, int len)
{
	SisRestCall *call = arg;
	StringInfo	body = &call->state->body;

	call->status = sis_http_status(call->state->http);
	if (call->status != 200)
		len = Min(len, MAX_REFUSAL - body->len);
	sis_progress_bytes(len);
	appendBinaryStringInfo(body, data, len);
}

/* Begins to read the body, as a page of that array. */
static void
begin_page(SisRestCall *call, const char *array, bool skim)
{
	sis_json_begin(call->json, array);
	if (skim)
		sis_json_skim(call->json);
	sis_json_feed(call->json, call->state->body.data, call->state->body.len);
	sis_json_finish(call->json);
}

/* Reads the body of a refusal as one JSON object, if it is one. */
static void
read_refusal(SisRestCall *call)
{
	begin_page(call, NULL, false);
	if (sis_json_next(call->json) != SIS_JSON_END)
		sis_json_begin(call->json, NULL);
}

/* ----------
 * One try
 * ----------
 */

static void
drop_page(SisRestCall *call)
{
	if (call->sink != NULL)
		sis_recordspool_discard(call->sink);
	call->sink = NULL;
}

static void
end_attempt(SisRestCall *call)
{
	struct SisRestState *state = call->state;

	drop_page(call);
	if (state->attempt == NULL)
		return;
	if (state->http != NULL)
		sis_http_close(state->http);
	state->http = NULL;
	call->json = NULL;
	MemoryContextDelete(state->attempt);
	state->attempt = NULL;
}

static bool
authorized_headers(SisRestCall *call, const char ***headers)
{
	const SisRestService *service = call->rest->service;
	List	   *list = NIL;
	ListCell   *lc;
	int			n = 0;

	if (service->authorize != NULL && !service->authorize(call, &list))
		return false;
	list = lappend(list, "Accept: application/json");
	if (call->content_type != NULL)
		list = lappend(list, psprintf("Content-Type: %s", call->content_type));
	*headers = palloc(sizeof(char *) * (list_length(list) + 1));
	foreach(lc, list)
		(*headers)[n++] = lfirst(lc);
	(*headers)[n] = NULL;
	return true;
}

/* Begins a try.  False when the provider cannot sign it. */
static bool
start(SisRestCall *call)
{
	SisRest    *rest = call->rest;
	struct SisRestState *state = call->state;
	SisHttpRequest request = {0};
	const char **headers;
	MemoryContext old;

	state->attempt = AllocSetContextCreate(call->cxt, "sis_sync REST attempt",
										   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(state->attempt);
	initStringInfo(&state->body);
	call->json = sis_json_create();
	call->status = 0;
	call->nrecords = 0;
	if (rest->spool != NULL)
		call->sink = sis_recordspool_page(rest->spool);

	if (!authorized_headers(call, &headers))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	request.method = call->post != NULL ? "POST" : "GET";
	request.url = call->url;
	request.headers = headers;
	request.body = call->post;
	request.body_len = call->post != NULL ? (int) strlen(call->post) : 0;
	request.target.write = take_bytes;
	request.target.arg = call;
	request.target.max_size = MAX_BODY;
	state->http = sis_http_start(rest->session, &request);
	state->stage = STAGE_RUNNING;
	MemoryContextSwitchTo(old);
	return true;
}

/* ----------
 * What went wrong, and whether another try may help
 * ----------
 */

static const char *
again_later(void)
{
	return "Run the sync again later.";
}

/* Writes down a failure of a call that was tried so often. */
static bool
fail_call(SisRestCall *call, const SisFailure *cause)
{
	int			attempts = call->state->attempts;
	const char *detail = cause->detail;

	if (attempts > 1)
		detail = psprintf("%s%sIt was tried %d times.",
						  detail != NULL ? detail : "",
						  detail != NULL ? " " : "", attempts);
	return sis_fail(call->rest->failure, cause->code, NULL, detail,
					cause->hint, "%s", cause->message);
}

/* Up to a fifth more, so that many databases do not come back as one. */
static int64
with_jitter(int64 milliseconds)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		random = sis_hash64(&now, sizeof(now), MyProcPid);

	return milliseconds +
		(int64) (random % (uint64) (milliseconds / 5 + 1));
}

/* Seconds, as in Retry-After and the like; -1: no number. */
static int64
header_seconds(const SisRestCall *call, const char *name)
{
	char	   *value = sis_rest_header(call, name);
	char	   *end;
	int64		seconds;

	if (value == NULL || value[0] < '0' || value[0] > '9')
		return -1;
	errno = 0;
	seconds = strtoll(value, &end, 10);
	return errno == 0 && (*end == '\0' || *end == '.') ? seconds : -1;
}

/*
 * For how long the service asks us to wait, in milliseconds; 0: it does not
 * say.  When its window of requests ends, which some say in each response,
 * counts for a 429 only.  A time of day is compared with the service's own
 * clock.
 */
static int64
asked_pause(const SisRestCall *call)
{
	static const char *const resets[] = {
		"x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset"
	};
	int64		seconds = header_seconds(call, "retry-after");

	for (int i = 0; call->status == 429 && seconds < 0 &&
		 i < (int) lengthof(resets); i++)
		seconds = header_seconds(call, resets[i]);
	if (seconds < 0)
		return 0;

	/* a number too large to be a pause is a time, in seconds since 1970 */
	if (seconds > 100000000)
	{
		pg_time_t	now = sis_http_date(call->state->http);

		if (now == 0)
			now = timestamptz_to_time_t(GetCurrentTimestamp());
		seconds = Max(seconds - now, 0);
	}
	return Min(seconds, 1000000) * 1000;
}

/* Puts a call off for another try.  False when there is no time for it. */
static bool
put_off(SisRestCall *call, int64 milliseconds)
{
	struct SisRestState *state = call->state;

	if (milliseconds >= sis_session_remaining(call->rest->session))
		return false;
	end_attempt(call);
	state->stage = STAGE_WAITING;
	state->not_before =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
	return true;
}

/* Another try after a pause that grows, or else the failure. */
static bool
try_again(SisRestCall *call, const SisFailure *cause)
{
	struct SisRestState *state = call->state;
	int64		pause;

	if (++state->attempts >= MAX_ATTEMPTS)
		return fail_call(call, cause);
	pause = with_jitter((int64) FIRST_PAUSE << (state->attempts - 1));
	if (call->status != 0)
		pause = Max(pause, asked_pause(call));
	return put_off(call, pause) || fail_call(call, cause);
}

/* All calls wait: the service counts them together. */
static bool
wait_for_rate(SisRestCall *call)
{
	SisRest    *rest = call->rest;
	int64		asked = Max(asked_pause(call), MIN_RATE_PAUSE);
	int64		pause = asked + with_jitter(MIN_RATE_PAUSE / 10);
	int64		left = sis_session_remaining(rest->session);
	char	   *host = sis_url_host(call->url);

	if (put_off(call, pause))
	{
		rest->not_before = Max(rest->not_before, call->state->not_before);
		return true;
	}
	return sis_fail(rest->failure, SIS_ERR_RATE_LIMITED, NULL,
					psprintf("It asks to wait for %lld seconds; the option \"timeout\" leaves %lld.",
							 (long long) (asked / 1000),
							 (long long) (left / 1000)),
					"Run the sync again later, or raise the server's option \"timeout\".",
					"%s at \"%s\" takes no more requests for now",
					rest->service->name, host);
}

/* The transfer itself failed: no response, or a part of one. */
static bool
take_lost(SisRestCall *call)
{
	struct SisRestState *state = call->state;
	SisFailure	cause = {SIS_OK};
	bool		worth = sis_http_worth_retry(state->http);

	sis_http_fail(state->http, &cause);
	/* a page that began and broke off while there was time: short data */
	if (worth && sis_http_status(state->http) == 200 && state->body.len > 0)
	{
		cause.detail = psprintf("The connection was lost after %d bytes: %s.",
								state->body.len, cause.message);
		cause.code = SIS_ERR_INCOMPLETE;
		cause.message = psprintf("a page of \"%s\" from \"%s\" was cut short",
								 call->collection, sis_url_host(call->url));
		cause.hint = again_later();
	}
	if (worth)
		return try_again(call, &cause);
	return fail_call(call, &cause);
}

/* The whole body came, with status 200, and is no page. */
static bool
take_unreadable(SisRestCall *call)
{
	SisJsonProblem problem = sis_json_problem(call->json);
	SisFailure	cause = {SIS_OK};
	char	   *host = sis_url_host(call->url);

	cause.code = problem == SIS_JSON_CUT ? SIS_ERR_INCOMPLETE :
		SIS_ERR_MALFORMED;
	cause.message = psprintf("a page of \"%s\" from \"%s\" cannot be read: %s",
							 call->collection, host,
							 sis_json_problem_text(problem));
	if (problem == SIS_JSON_SHAPE && call->array != NULL)
		cause.detail = psprintf("It takes an object with one list \"%s\".",
								call->array);
	else
		cause.detail = psprintf("The page was read up to byte %lld.",
								(long long) sis_json_offset(call->json));
	cause.hint = "Check the server's option \"base_url\"; if it is right, run the sync again later.";
	switch (problem)
	{
		case SIS_JSON_SYNTAX:
		case SIS_JSON_HTML:
		case SIS_JSON_CUT:
			return try_again(call, &cause);
		default:
			call->state->attempts++;
			return fail_call(call, &cause);
	}
}

/* A status that says that the service, or somebody before it, has failed. */
static bool
take_failed(SisRestCall *call)
{
	SisFailure	cause = {SIS_OK};
	char	   *location = sis_rest_header(call, "location");
	char	   *host = sis_url_host(call->url);

	cause.code = SIS_ERR_UNAVAILABLE;
	cause.message = psprintf("could not read \"%s\" from \"%s\": status %d",
							 call->collection, host, call->status);
	cause.hint = again_later();
	if (sis_http_worth_retry(call->state->http))
		return try_again(call, &cause);
	cause.hint = "Check the server's option \"base_url\".";
	if (location != NULL && call->status / 100 == 3)
		cause.detail = psprintf("It redirects to \"%s\"; redirects are not followed.",
								sis_url_host(location)[0] != '\0' ?
								sis_url_host(location) : host);
	return fail_call(call, &cause);
}

static bool
take_refused(SisRestCall *call)
{
	SisRest    *rest = call->rest;

	read_refusal(call);
	switch (rest->service->refused(call))
	{
		case SIS_REST_FAIL:
			break;
		case SIS_REST_AGAIN:
			call->nagain++;
			return put_off(call, 0) ||
				sis_fail(rest->failure, SIS_ERR_UNAVAILABLE, NULL, NULL,
						 "Raise the server's option \"timeout\".",
						 "the time for reading from \"%s\" is over",
						 sis_url_host(call->url));
		case SIS_REST_SKIP:
			end_attempt(call);
			dlist_delete(&call->state->node);
			MemoryContextDelete(call->cxt);
			return true;
	}
	Assert(rest->failure->code != SIS_OK);
	return false;
}

/* A transfer has ended.  False when the call has failed for good. */
static bool
take_ended(SisRestCall *call)
{
	struct SisRestState *state = call->state;

	if (!sis_http_wait(state->http))
		return take_lost(call);
	call->status = sis_http_status(state->http);
	if (call->status == 429)
		return wait_for_rate(call);
	if (call->status != 200)
		return call->status / 100 == 4 && call->status != 408 ?
			take_refused(call) : take_failed(call);
	begin_page(call, call->array, true);
	if (sis_json_next(call->json) != SIS_JSON_END)
		return take_unreadable(call);
	call->nrecords = sis_json_count(call->json);
	if (call->next != NULL && !call->next(call))
		return false;
	begin_page(call, call->array, false);
	state->stage = STAGE_READING;
	return true;
}

/* Reads some records of a page that is here. */
static bool
read_some(SisRestCall *call)
{
	for (int i = 0; i < SLICE; i++)
	{
		SisJsonResult result = sis_json_next(call->json);
		const SisJsonNode *record = sis_json_record(call->json);
		SisJsonProblem problem = sis_json_problem(call->json);

		if (result == SIS_JSON_END)
		{
			pfree(call->state->body.data);
			call->state->body.data = NULL;
			call->state->stage = STAGE_HELD;
			return true;
		}
		if (result != SIS_JSON_RECORD)
			return take_unreadable(call);
		call->line = call->first + sis_json_count(call->json) - 1;
		if (problem != SIS_JSON_OK)
			call->reject(call, record, sis_json_problem_text(problem));
		else if (call->record != NULL)
			call->record(call, record);
	}
	return true;
}

/* ----------
 * The loop
 * ----------
 */

static struct SisRestState *
state_of(dlist_node *node)
{
	return dlist_container(struct SisRestState, node, node);
}

/* Is a call of the same collection before it in the list? */
static bool
is_early(SisRest *rest, const SisRestCall *call)
{
	dlist_iter	iter;

	dlist_foreach(iter, &rest->calls)
	{
		const SisRestCall *other = state_of(iter.cur)->call;

		if (other == call)
			break;
		if (strcmp(other->collection, call->collection) == 0)
			return true;
	}
	return false;
}

static bool
deliver(SisRestCall *call)
{
	if (call->end != NULL && !call->end(call))
		return false;
	sis_progress_rows(call->nrecords);
	if (call->sink != NULL)
		sis_recordspool_commit(call->sink);
	call->sink = NULL;
	end_attempt(call);
	dlist_delete(&call->state->node);
	MemoryContextDelete(call->cxt);
	return true;
}

static int
count_calls(SisRest *rest, Stage stage)
{
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, &rest->calls)
		n += state_of(iter.cur)->stage == stage;
	return n;
}

/*
 * Starts what can be started by that time.  No more pages are asked for while
 * as many as there are connections wait to be read, or twice as many for those
 * before them: they take memory.
 */
static bool
start_calls(SisRest *rest, TimestampTz now)
{
	int			connections = sis_rest_max_connections(rest);
	int			running = count_calls(rest, STAGE_RUNNING);
	int			held = count_calls(rest, STAGE_HELD);
	dlist_iter	iter;

	if (now < rest->not_before ||
		count_calls(rest, STAGE_READING) >= connections)
		return true;
	dlist_foreach(iter, &rest->calls)
	{
		struct SisRestState *state = state_of(iter.cur);

		if (running >= connections)
			break;
		if (state->stage != STAGE_WAITING || state->not_before > now ||
			(held >= MAX_HELD * connections && is_early(rest, state->call)))
			continue;
		if (!start(state->call))
			return false;
		running++;
	}
	return true;
}

/* Reads some records of the first page that is here; false: there is none. */
static bool
read_first(SisRest *rest, bool *good)
{
	dlist_iter	iter;

	dlist_foreach(iter, &rest->calls)
	{
		struct SisRestState *state = state_of(iter.cur);

		if (state->stage == STAGE_READING)
		{
			*good = read_some(state->call);
			return true;
		}
	}
	return false;
}

/*
 * Waits until a transfer ends, or until the next call's time comes.  A call
 * whose time was up and that was not started waits for another one's end.
 */
static void
wait_for_calls(SisRest *rest, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &rest->calls)
	{
		struct SisRestState *state = state_of(iter.cur);
		TimestampTz time = Max(state->not_before, rest->not_before);

		if (state->stage == STAGE_WAITING && time > now)
			next = Min(next, time);
	}
	sis_session_wait(rest->session, next);
}

static bool
take_all_ended(SisRest *rest)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &rest->calls)
	{
		struct SisRestState *state = state_of(iter.cur);

		if (state->stage == STAGE_RUNNING && sis_http_ended(state->http) &&
			!take_ended(state->call))
			return false;
	}
	return true;
}

static bool
deliver_all(SisRest *rest)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &rest->calls)
	{
		struct SisRestState *state = state_of(iter.cur);

		if (state->stage == STAGE_HELD &&
			!(state->call->in_order && is_early(rest, state->call)) &&
			!deliver(state->call))
			return false;
	}
	return true;
}

bool
sis_rest_run(SisRest *rest)
{
	MemoryContext old = MemoryContextSwitchTo(rest->home);
	bool		good = true;

	while (good && !dlist_is_empty(&rest->calls))
	{
		TimestampTz now = GetCurrentTimestamp();

		good = start_calls(rest, now);
		if (!good)
			break;
		if (read_first(rest, &good))
			sis_session_turn(rest->session);
		else
			wait_for_calls(rest, now);
		good = good && take_all_ended(rest) && deliver_all(rest);
	}
	MemoryContextSwitchTo(old);
	return good;
}
