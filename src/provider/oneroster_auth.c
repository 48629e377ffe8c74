/*
 * oneroster_auth.c
 *		Who asks a OneRoster service: a signature, or a token.
 *
 * Secrets come from the user mapping and go into header lines and the signing
 * of requests; nothing here puts one into a message.
 */
#include "postgres.h"

#include "base/url.h"
#include "common/base64.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "provider/oneroster_rest.h"

/* A token is renewed so long before its end: a request takes a while. */
#define TOKEN_MARGIN	60		/* seconds, at most half of its life */
#define MAX_TOKEN_LIFE	(30 * 24 * 3600)
#define MAX_TOKEN_BYTES	16384

#define SCOPE_V1P1 "https://purl.imsglobal.org/spec/or/v1p1/scope/"
#define SCOPE_V1P2 "https://purl.imsglobal.org/spec/or/v1p2/scope/"

/* ----------
 * Reading the options
 * ----------
 */

static bool
missing_secret(SisOneRoster *roster, const char *name, const char *auth)
{
	return sis_fail(roster->failure, SIS_ERR_NOT_CONFIGURED, NULL,
					psprintf("The server's way of signing in is %s.", auth),
					psprintf("Set it with ALTER USER MAPPING FOR ... SERVER %s OPTIONS (ADD %s '...').",
							 quote_identifier(roster->source->server), name),
					"the user mapping of server \"%s\" has no %s",
					roster->source->server, name);
}

static bool
set_oauth1(SisOneRoster *roster)
{
	const char *method = sis_source_option(roster->source,
										   "signature_method");

	roster->auth = SIS_OR_OAUTH1;
	roster->hash = method != NULL && strcmp(method, "HMAC-SHA1") == 0 ?
		SIS_OAUTH_SHA1 : SIS_OAUTH_SHA256;
	return true;
}

static bool
set_oauth2(SisOneRoster *roster)
{
	roster->auth = SIS_OR_OAUTH2;
	if (sis_source_option(roster->source, "token_url") == NULL)
		return sis_fail(roster->failure, SIS_ERR_NOT_CONFIGURED, NULL,
						"Where tokens are issued cannot be told from the address of the service.",
						psprintf("Set it with ALTER SERVER %s OPTIONS (ADD token_url '...').",
								 quote_identifier(roster->source->server)),
						"server \"%s\" has no token_url",
						roster->source->server);
	return true;
}

static bool
is_token(const char *token)
{
	size_t		len = strlen(token);

	for (size_t i = 0; i < len; i++)
	{
		if (token[i] <= ' ' || token[i] > '~')
			return false;
	}
	return len > 0 && len <= MAX_TOKEN_BYTES;
}

static bool
set_bearer(SisOneRoster *roster)
{
	const char *token = sis_source_secret(roster->source, "token");

	roster->auth = SIS_OR_BEARER;
	if (token == NULL)
		return missing_secret(roster, "token", "bearer");
	if (!is_token(token))
		return sis_fail(roster->failure, SIS_ERR_NOT_CONFIGURED, NULL,
						"A token has no spaces and no line breaks.",
						"Set it again without them.",
						"the token of server \"%s\" cannot be one",
						roster->source->server);
	roster->token = pstrdup(token);
	roster->token_number = 1;
	return true;
}

/* The way that was named, else the one that the secrets are good for. */
static const char *
way_of(const SisOneRoster *roster)
{
	const char *way = sis_source_option(roster->source, "auth");

	if (way != NULL)
		return way;
	if (sis_source_secret(roster->source, "token") != NULL &&
		roster->client_id == NULL)
		return "bearer";
	return sis_source_option(roster->source, "token_url") != NULL ?
		"oauth2" : "oauth1";
}

bool
sis_oneroster_auth_set(SisOneRoster *roster)
{
	const char *way;

	roster->client_id = sis_source_secret(roster->source, "client_id");
	roster->client_secret = sis_source_secret(roster->source, "client_secret");
	way = way_of(roster);
	if (strcmp(way, "bearer") == 0)
		return set_bearer(roster);
	if (roster->client_id == NULL)
		return missing_secret(roster, "client_id", way);
	if (roster->client_secret == NULL)
		return missing_secret(roster, "client_secret", way);
	return strcmp(way, "oauth1") == 0 ? set_oauth1(roster) :
		set_oauth2(roster);
}

/* ----------
 * Tokens of OAuth 2
 * ----------
 */

static char *
basic_header(const SisOneRoster *roster)
{
	char	   *pair = psprintf("%s:%s", roster->client_id,
								roster->client_secret);
	int			size = pg_b64_enc_len((int) strlen(pair));
	char	   *encoded = palloc(size + 1);
	/* its arguments are of other types from PostgreSQL 18 on */
	int			len = pg_b64_encode((const void *) pair, (int) strlen(pair),
									encoded, size);

	if (len < 0)
		elog(ERROR, "could not encode the client's ID and secret");
	encoded[len] = '\0';
	return psprintf("Authorization: Basic %s", encoded);
}

static bool
authorize_client(SisRestCall *call, List **headers)
{
	*headers = lappend(*headers, basic_header(call->arg));
	return true;
}

/* What is asked for: the lists, and demographics only where wanted. */
static char *
token_form(const SisOneRoster *roster)
{
	const char *scope = sis_source_option(roster->source, "scope");
	const char *prefix = roster->v1p2 ? SCOPE_V1P2 : SCOPE_V1P1;

	if (scope == NULL)
		scope = psprintf(roster->wants->include_demographics ?
						 "%sroster-core.readonly %sroster-demographics.readonly" :
						 "%sroster-core.readonly", prefix, prefix);
	return psprintf("grant_type=client_credentials&scope=%s",
					sis_url_encode(scope));
}

/* Takes the token out of the answer. */
static bool
token_end(SisRestCall *call)
{
	SisOneRoster *roster = call->arg;
	SisValue	token = sis_json_value(sis_json_beside(call->json,
													   "access_token"));
	SisValue	life = sis_json_value(sis_json_beside(call->json,
													  "expires_in"));
	MemoryContext old = MemoryContextSwitchTo(roster->cxt);
	char	   *copy = token.data != NULL ? pnstrdup(token.data, token.len) :
		pstrdup("");
	long		seconds = life.data != NULL ?
		strtol(pnstrdup(life.data, Min(life.len, 20)), NULL, 10) : 0;

	MemoryContextSwitchTo(old);
	if (!is_token(copy))
		return sis_fail(roster->failure, SIS_ERR_MALFORMED, NULL, NULL,
						"Check the server's option \"token_url\".",
						"the token endpoint of %s answered without a token",
						sis_url_host(call->url));
	roster->token = copy;
	roster->token_number++;
	roster->token_end = 0;
	if (seconds > 0 && seconds <= MAX_TOKEN_LIFE)
		roster->token_end =
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										(seconds - Min(TOKEN_MARGIN,
													   seconds / 2)) * 1000);
	return true;
}

/*
 * Gets a token in a session of its own: this happens in the middle of another
 * request's turn.
 */
static bool
get_token(SisOneRoster *roster)
{
	static const SisRestService service = {
		"OneRoster", authorize_client, sis_oneroster_token_refused
	};
	MemoryContext cxt = AllocSetContextCreate(roster->cxt,
											  "sis_sync OneRoster token",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	SisRest    *rest = sis_rest_create(roster->source, &service, NULL,
									   roster->failure);
	SisRestCall *call = sis_rest_call(rest);
	bool		done;

	call->collection = "token";
	call->url = sis_source_option(roster->source, "token_url");
	call->post = token_form(roster);
	call->content_type = "application/x-www-form-urlencoded";
	call->arg = roster;
	call->end = token_end;
	sis_rest_add(call);
	done = sis_rest_run(rest);
	sis_rest_close(rest);
	MemoryContextSwitchTo(old);
	/* the cause of a failure stands in it */
	if (done)
		MemoryContextDelete(cxt);
	return done;
}

bool
sis_oneroster_renew_token(SisOneRoster *roster, int token_number)
{
	/* several pages may be refused for one token */
	return token_number != roster->token_number || get_token(roster);
}

/* ----------
 * Pages
 * ----------
 */

bool
sis_oneroster_authorize(SisRestCall *call, List **headers)
{
	SisOneRosterPage *page = call->arg;
	SisOneRoster *roster = page->list->roster;

	if (roster->auth == SIS_OR_OAUTH1)
	{
		*headers = lappend(*headers,
						   psprintf("Authorization: %s",
									sis_oauth_header(roster->hash,
													 roster->client_id,
													 roster->client_secret,
													 call->url)));
		return true;
	}
	if (roster->auth == SIS_OR_OAUTH2 &&
		(roster->token == NULL ||
		 (roster->token_end != 0 &&
		  GetCurrentTimestamp() >= roster->token_end)) &&
		!get_token(roster))
		return false;
	page->token_number = roster->token_number;
	*headers = lappend(*headers,
					   psprintf("Authorization: Bearer %s", roster->token));
	return true;
}
