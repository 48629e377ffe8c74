/*
 * clever_auth.c
 *		Who we are to Clever, and what its refusals mean.
 *
 * Somebody who is refused learns why: a bad token, one that has been revoked, a
 * token that may not read rosters, a client or a district that Clever does not
 * know.
 */
#include "postgres.h"

#include "base/url.h"
#include "base/value.h"
#include "common/base64.h"
#include "utils/builtins.h"

#include "provider/clever.h"
#include "provider/jsonmap.h"

/* ----------
 * Credentials
 * ----------
 */

/* A header ends at a line end, and so must what we put into one. */
static bool
fits_header(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7F)
			return false;
	}
	return true;
}

bool
sis_clever_load_credentials(SisClever *clever)
{
	const SisSource *source = clever->source;
	const char *name = quote_identifier(source->server);

	clever->token = sis_source_secret(source, "token");
	clever->client_id = sis_source_secret(source, "client_id");
	clever->client_secret = sis_source_secret(source, "client_secret");
	if (clever->token != NULL)
	{
		clever->client_id = NULL;
		if (!fits_header(clever->token))
			return sis_fail(clever->failure, SIS_ERR_NOT_CONFIGURED, NULL,
							NULL,
							psprintf("Set it with ALTER USER MAPPING FOR ... SERVER %s OPTIONS (SET token '...').",
									 name),
							"the token of server \"%s\" has characters that no token has",
							source->server);
		return true;
	}
	if (clever->client_id == NULL || clever->client_secret == NULL)
		return sis_fail(clever->failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
						psprintf("Set one with ALTER USER MAPPING FOR ... SERVER %s OPTIONS (ADD token '...'), or the others with (ADD client_id '...', ADD client_secret '...').",
								 name),
						"the user mapping of server \"%s\" has neither a token nor a client ID and secret",
						source->server);
	if (clever->district_id == NULL)
		return sis_fail(clever->failure, SIS_ERR_NOT_CONFIGURED, NULL,
						"By a client ID and secret a token is asked for, and tokens are of one district.",
						psprintf("Set it with ALTER SERVER %s OPTIONS (ADD district_id '...').",
								 name),
						"server \"%s\" has no option \"district_id\"",
						source->server);
	return true;
}

static bool
basic_authorization(SisRestCall *call, List **headers)
{
	const SisClever *clever = call->arg;
	char	   *pair = psprintf("%s:%s", clever->client_id,
								clever->client_secret);
	int			len = (int) strlen(pair);
	int			size = pg_b64_enc_len(len);
	char	   *encoded = palloc(size + 1);

	len = pg_b64_encode((const void *) pair, len, encoded, size);
	if (len < 0)
		elog(ERROR, "could not encode credentials");
	encoded[len] = '\0';
	*headers = lappend(*headers, psprintf("Authorization: Basic %s", encoded));
	return true;
}

/* Of several districts that use the application, the row of ours. */
static void
token_record(SisRestCall *call, const SisJsonNode *row)
{
	SisClever  *clever = call->arg;
	SisValue	owner = sis_json_find(row, "owner.id");
	SisValue	token = sis_json_find(row, "access_token");
	MemoryContext old;

	if (token.data == NULL || owner.len != (int) strlen(clever->district_id) ||
		memcmp(owner.data, clever->district_id, owner.len) != 0)
		return;
	old = MemoryContextSwitchTo(clever->cxt);
	clever->token = pnstrdup(token.data, token.len);
	MemoryContextSwitchTo(old);
}

static void
pass_over(SisRestCall *call, const SisJsonNode *record, const char *reason)
{
}

static bool
token_end(SisRestCall *call)
{
	SisClever  *clever = call->arg;

	if (clever->token != NULL && fits_header(clever->token))
		return true;
	return sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL,
					"Clever accepts the client ID and secret, and has no token of this application for that district.",
					"Check the server's option \"district_id\", and at Clever that the district is still connected to the application.",
					"Clever does not know district \"%s\"",
					sis_printable(clever->district_id));
}

static SisRestVerdict
token_refused(SisRestCall *call)
{
	SisClever  *clever = call->arg;
	char	   *host = sis_url_host(call->url);

	if (call->status == 400 || call->status == 401 || call->status == 403)
		sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL,
				 psprintf("The tokens endpoint at \"%s\" answered with status %d.",
						  host, call->status),
				 "Compare client_id and client_secret with the application's settings at Clever, and set them with ALTER USER MAPPING.",
				 "Clever refused the client ID or its secret");
	else
		sis_fail(clever->failure, SIS_ERR_UNAVAILABLE, NULL, NULL,
				 "Check the server's option \"token_url\".",
				 "could not get a token from \"%s\": status %d", host,
				 call->status);
	return SIS_REST_FAIL;
}

bool
sis_clever_fetch_token(SisClever *clever)
{
	static const SisRestService service = {
		"Clever", basic_authorization, token_refused
	};
	SisRest    *rest = sis_rest_create(clever->source, &service, NULL,
									   clever->failure);
	SisRestCall *call = sis_rest_call(rest);
	bool		good;

	clever->token = NULL;
	call->collection = "oauth/tokens";
	call->url = psprintf("%s%cowner_type=district&district=%s",
						 clever->token_url,
						 strchr(clever->token_url, '?') != NULL ? '&' : '?',
						 sis_url_encode(clever->district_id));
	call->array = "data";
	call->arg = clever;
	call->record = token_record;
	call->reject = pass_over;
	call->end = token_end;
	sis_rest_add(call);
	good = sis_rest_run(rest);
	sis_rest_close(rest);
	clever->ntokens++;
	return good;
}

/* ----------
 * Refusals of the Data API
 * ----------
 */

bool
sis_clever_authorize(SisRestCall *call, List **headers)
{
	*headers = lappend(*headers, psprintf("Authorization: Bearer %s",
										  sis_clever_of(call)->token));
	return true;
}

static const char *
token_hint(const SisClever *clever)
{
	if (clever->client_id != NULL)
		return "Check at Clever that the district is still connected to the application, and that the application is active.";
	return "Copy the district's current token from Clever, and set it with ALTER USER MAPPING ... OPTIONS (SET token '...').";
}

/* A token of a person who signed in, and not of a district. */
static bool
is_user_token(const SisClever *clever)
{
	return strncmp(clever->token, "il", 2) == 0;
}

static void
token_was_refused(SisClever *clever, int status)
{
	const char *detail;

	if (is_user_token(clever))
		detail = "It begins with \"il\": it is the token of a person who signed in, and not of a district.";
	else if (clever->is_reading)
		detail = psprintf("It was good when this run began; then a page was answered with status %d: it has been reset or revoked meanwhile.",
						  status);
	else if (clever->client_id != NULL)
		detail = psprintf("Clever has just issued it, and answered the first request with status %d: the token has been revoked.",
						  status);
	else
		detail = psprintf("The first request was answered with status %d: the token is wrong, or has been reset or revoked.",
						  status);
	sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL, detail,
			 token_hint(clever), "Clever refused the token");
}

/*
 * The district answered, and its lists do not: /districts is all that an
 * application without Secure Sync may read.  Clever says so by 403, or by 404
 * and a web page; which of them is not certain, and what we know is that the
 * address is right.
 */
static void
scope_was_refused(const SisRestCall *call)
{
	SisClever  *clever = sis_clever_of(call);

	sis_fail(clever->failure, SIS_ERR_CREDENTIALS, NULL,
			 psprintf("The token is good for the district's own record, and \"%s\" was answered with status %d: the token does not reach rosters.",
					  call->collection, call->status),
			 "Check at Clever that the application has Secure Sync, and that the district has approved it.",
			 "the token may not read the district's roster");
}

SisRestVerdict
sis_clever_refused(SisRestCall *call)
{
	SisClever  *clever = sis_clever_of(call);
	char	   *host = sis_url_host(call->url);

	switch (call->status)
	{
		case 401:
			/* tokens are renewed at Clever now and then */
			if (clever->client_id != NULL && clever->ntokens == 1)
			{
				if (!sis_clever_fetch_token(clever))
					return SIS_REST_FAIL;
				return SIS_REST_AGAIN;
			}
			if (clever->client_id != NULL && clever->ntokens == 2 &&
				call->nagain == 0)
				return SIS_REST_AGAIN;	/* sent before there was a new one */
			token_was_refused(clever, call->status);
			return SIS_REST_FAIL;
		case 403:
		case 404:
			if (clever->is_reading)
				scope_was_refused(call);
			else if (call->status == 403 || is_user_token(clever))
				token_was_refused(clever, call->status);
			else
				sis_fail(clever->failure, SIS_ERR_UNAVAILABLE, NULL,
						 "It was asked for the districts of Clever's Data API.",
						 "Check the server's options \"base_url\" and \"api_version\"; base_url has no version in it.",
						 "\"%s\" does not know the Data API %s", host,
						 clever->version);
			return SIS_REST_FAIL;
		case 400:
			if (!clever->is_reading)
			{
				token_was_refused(clever, call->status);
				return SIS_REST_FAIL;
			}
			break;
		case 413:
			sis_fail(clever->failure, SIS_ERR_UNAVAILABLE, NULL,
					 psprintf("It was asked for %d records a page.",
							  clever->page_size),
					 "Set the server's option \"page_size\" to a smaller number.",
					 "\"%s\" refuses pages of that size", host);
			return SIS_REST_FAIL;
		default:
			break;
	}
	sis_fail(clever->failure, SIS_ERR_UNAVAILABLE, NULL, NULL,
			 "Check the server's options \"base_url\" and \"api_version\".",
			 "could not read \"%s\" from \"%s\": status %d", call->collection,
			 host, call->status);
	return SIS_REST_FAIL;
}
