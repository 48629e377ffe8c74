/*
 * oneroster_refusal.c
 *		What it means when a OneRoster service refuses a request.
 *
 * Services say why in several shapes, or not at all; what they say is quoted,
 * cut short, unless it holds a secret of ours.
 */
#include "postgres.h"

#include "base/url.h"
#include "base/value.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"

#include "provider/oneroster_rest.h"

/* Clocks further apart than this are worth a word: most allow five minutes. */
#define CLOCK_TOLERANCE	60

/* ----------
 * The service's words
 * ----------
 */

/*
 * A secret in an answer must not become part of a message, be it encoded or
 * in a header line of ours that is repeated.
 */
static bool
holds_secret(const SisOneRoster *roster, const char *text)
{
	static const char *const marks[] = {"basic ", "bearer ", "oauth_"};
	const char *secrets[] = {
		roster->client_id, roster->client_secret, roster->token
	};
	char	   *lower = asc_tolower(text, strlen(text));

	for (int i = 0; i < (int) lengthof(marks); i++)
	{
		if (strstr(lower, marks[i]) != NULL)
			return true;
	}
	for (int i = 0; i < (int) lengthof(secrets); i++)
	{
		if (secrets[i] != NULL &&
			(strstr(text, secrets[i]) != NULL ||
			 strstr(text, sis_url_encode(secrets[i])) != NULL))
			return true;
	}
	return false;
}

/* A single value as text fit for a message; NULL when there is none. */
static char *
words_at(const SisOneRoster *roster, const SisJsonNode *node)
{
	SisValue	value = sis_json_value(node);
	char	   *text;

	value = sis_trim(value.data, value.len);
	if (value.data == NULL)
		return NULL;
	text = pnstrdup(value.data, value.len);
	return holds_secret(roster, text) ? NULL : sis_printable(text);
}

/* A member of the answer, or of the status object that it wraps. */
static const SisJsonNode *
find(const SisRestCall *call, const char *key)
{
	static const char *const wrappers[] = {
		"imsx_StatusInfo", "imsx_statusInfo", "statusInfoSet"
	};
	const SisJsonNode *found = sis_json_beside(call->json, key);

	for (int i = 0; i < (int) lengthof(wrappers) && found == NULL; i++)
	{
		const SisJsonNode *wrapper = sis_json_beside(call->json, wrappers[i]);

		if (sis_json_kind(wrapper) == SIS_JSON_ARRAY)
			wrapper = sis_json_item(wrapper, 0);
		found = sis_json_member(wrapper, key);
	}
	return found;
}

static char *
description_of(const SisOneRoster *roster, const SisRestCall *call)
{
	static const char *const keys[] = {
		"imsx_description", "error_description", "message", "detail", "title"
	};
	char	   *text = NULL;

	for (int i = 0; i < (int) lengthof(keys) && text == NULL; i++)
		text = words_at(roster, find(call, keys[i]));
	return text;
}

static char *
code_of(const SisOneRoster *roster, const SisRestCall *call)
{
	const SisJsonNode *fields =
		sis_json_member(find(call, "imsx_CodeMinor"),
						"imsx_codeMinorField");
	char	   *text;

	text = words_at(roster, sis_json_member(sis_json_item(fields, 0),
											"imsx_codeMinorFieldValue"));
	if (text == NULL)
		text = words_at(roster, find(call, "imsx_codeMinor"));
	if (text == NULL)
		text = words_at(roster, find(call, "error"));
	return text;
}

/* What the service says, as a sentence. */
static char *
service_words(const SisOneRoster *roster, const SisRestCall *call)
{
	char	   *description = description_of(roster, call);
	char	   *code = code_of(roster, call);

	if (description != NULL && code != NULL)
		return psprintf("It says \"%s\" (%s).", description, code);
	if (description != NULL || code != NULL)
		return psprintf("It says \"%s\".", description ? description : code);
	return pstrdup("It gives no reason that could be read.");
}

/*
 * How far the service's clock is ahead of ours, in seconds; 0 when they agree
 * or it does not say.
 */
static int64
clock_difference(const SisRestCall *call)
{
	pg_time_t	theirs = sis_rest_date(call);
	int64		difference;

	if (theirs == 0)
		return 0;
	difference = theirs - timestamptz_to_time_t(GetCurrentTimestamp());
	return llabs(difference) > CLOCK_TOLERANCE ? difference : 0;
}

/* ----------
 * Refusals of credentials
 * ----------
 */

static bool
fail_credentials(SisOneRoster *roster, SisRestCall *call, const char *how,
				 const char *hint)
{
	return sis_fail(roster->failure, SIS_ERR_CREDENTIALS, NULL,
					psprintf("%s %s", how, service_words(roster, call)), hint,
					"%s refuses \"%s\": status %d",
					sis_url_host(call->url), call->collection, call->status);
}

static bool
fail_oauth1(SisOneRoster *roster, SisRestCall *call)
{
	int64		ahead = clock_difference(call);
	bool		sha1 = roster->hash == SIS_OAUTH_SHA1;

	if (ahead != 0)
		return fail_credentials(roster, call,
								psprintf("The request was signed at a time that is %lld seconds %s the clock of the service.",
										 llabs(ahead),
										 ahead > 0 ? "behind" : "ahead of"),
								"Set the clock of the database host: a signature holds for some minutes only.");
	return fail_credentials(roster, call,
							sha1 ? "The request was signed by HMAC-SHA1." :
							"The request was signed by HMAC-SHA256.",
							sha1 ?
							"Check client_id and client_secret of the user mapping; if they are right, the service may want the server's option signature_method to be HMAC-SHA256." :
							"Check client_id and client_secret of the user mapping; if they are right, the service may want the server's option signature_method to be HMAC-SHA1.");
}

static bool
fail_unauthorized(SisOneRoster *roster, SisRestCall *call)
{
	switch (roster->auth)
	{
		case SIS_OR_OAUTH1:
			return fail_oauth1(roster, call);
		case SIS_OR_OAUTH2:
			return fail_credentials(roster, call,
									"The token endpoint issued a token, and a new one when that was refused; the service takes neither.",
									"Check that the server's options \"token_url\" and \"base_url\" belong together, and \"scope\".");
		case SIS_OR_BEARER:
			break;
	}
	return fail_credentials(roster, call,
							"The token of the user mapping is not valid, or no longer.",
							roster->application_id != NULL ?
							"Copy the token anew from ClassLink's console, and check that the server's option \"application_id\" is of the same district." :
							"Get a new token and set it with ALTER USER MAPPING.");
}

static bool
fail_forbidden(SisOneRoster *roster, SisRestCall *call, bool demographics)
{
	if (demographics)
		return fail_credentials(roster, call,
								"The account may not read demographics.",
								"Have the district share them, or set include_demographics to false in sis_sync.sync.");
	return fail_credentials(roster, call,
							psprintf("The account may not read the list \"%s\".",
									 call->collection),
							roster->auth == SIS_OR_OAUTH2 ?
							"Have the district share it, or check the server's option \"scope\"." :
							"Have the district share it with the application.");
}

/* ----------
 * Refusals of pages
 * ----------
 */

static bool
fail_other(SisOneRoster *roster, SisRestCall *call)
{
	return sis_fail(roster->failure, SIS_ERR_UNAVAILABLE, NULL,
					service_words(roster, call),
					call->status == 404 ?
					"Check the server's option \"base_url\": it is the address up to v1p1 or v1p2." :
					"Check the server's options \"base_url\" and \"page_size\".",
					"could not read \"%s\" from \"%s\": status %d",
					call->collection, sis_url_host(call->url), call->status);
}

static bool
is_required(SisOneRosterCollection collection)
{
	return collection == SIS_OR_ORGS || collection == SIS_OR_USERS;
}

/* A path that is not there. */
static SisRestVerdict
refuse_missing(SisOneRoster *roster, SisRestCall *call,
			   SisOneRosterList *list, const SisOneRosterPage *page)
{
	if (roster->probing)
	{
		roster->probed = false;
		return SIS_REST_SKIP;
	}
	if (!is_required(list->collection) && page->offset == 0)
	{
		list->absent = true;
		return SIS_REST_SKIP;
	}
	if (roster->application_id != NULL)
		(void) fail_credentials(roster, call,
								"No application of that ID is known there.",
								"Check the server's options \"application_id\" and \"base_url\".");
	else
		(void) fail_other(roster, call);
	return SIS_REST_FAIL;
}

SisRestVerdict
sis_oneroster_refused(SisRestCall *call)
{
	SisOneRosterPage *page = call->arg;
	SisOneRosterList *list = page->list;
	SisOneRoster *roster = list->roster;

	switch (call->status)
	{
		case 401:
			/* libcurl repeats what was lost with a connection, nonce and all */
			if (roster->auth == SIS_OR_OAUTH1 && call->nagain == 0)
				return SIS_REST_AGAIN;
			if (roster->auth == SIS_OR_OAUTH2 && call->nagain == 0)
				return sis_oneroster_renew_token(roster, page->token_number) ?
					SIS_REST_AGAIN : SIS_REST_FAIL;
			(void) fail_unauthorized(roster, call);
			break;
		case 403:
			(void) fail_forbidden(roster, call,
								  list->collection == SIS_OR_DEMOGRAPHICS);
			break;
		case 404:
			return refuse_missing(roster, call, list, page);
		default:
			(void) fail_other(roster, call);
			break;
	}
	return SIS_REST_FAIL;
}

/* ----------
 * Refusals of tokens
 * ----------
 */

SisRestVerdict
sis_oneroster_token_refused(SisRestCall *call)
{
	SisOneRoster *roster = call->arg;
	char	   *code = code_of(roster, call);

	if (call->status == 404)
		(void) sis_fail(roster->failure, SIS_ERR_UNAVAILABLE, NULL, NULL,
						"Check the server's option \"token_url\".",
						"could not get a token from \"%s\": status %d",
						sis_url_host(call->url), call->status);
	else if (code != NULL && strcmp(code, "invalid_scope") == 0)
		(void) fail_credentials(roster, call,
								"The client may not have what was asked for.",
								"Set the server's option \"scope\" to what the district has granted.");
	else
		(void) fail_credentials(roster, call,
								"The token endpoint does not know the client, or not by that secret.",
								"Check client_id and client_secret of the user mapping, and the server's option \"token_url\".");
	return SIS_REST_FAIL;
}
