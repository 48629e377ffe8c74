/*
 * options_fuzz.c
 *		The checks of option values in src/base/option.c.
 *
 * An address that is taken is one that libcurl reads as we do: https to any
 * host, http to this machine only, and no user in it.
 */
#include "postgres.h"

#include <curl/curl.h>

/* the checks are its own */
#include "base/option.c"

#include "fuzz.h"

bool
has_privs_of_role(Oid member, Oid role)
{
	return true;
}

Oid
GetUserId(void)
{
	return InvalidOid;
}

int
errhidestmt(bool hide)
{
	return 0;
}

static bool
is_taken(const Option *option, const char *value)
{
	volatile bool taken = true;

	PG_TRY();
	{
		check_value(option, value);
	}
	PG_CATCH();
	{
		taken = false;
	}
	PG_END_TRY();
	return taken;
}

static void
look_at_url(const char *value)
{
	CURLU	   *url = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *user = NULL;
	struct in_addr in;

	/* what libcurl refuses leads nowhere */
	if (curl_url_set(url, CURLUPART_URL, value, 0) == CURLUE_OK)
	{
		curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
		curl_url_get(url, CURLUPART_HOST, &host, 0);
		FUZZ_CHECK(curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_NO_USER,
				   "a user in %s", value);
		FUZZ_CHECK(strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0,
				   "scheme of %s", value);
		FUZZ_CHECK(strcmp(scheme, "https") == 0 ||
				   pg_strcasecmp(host, "localhost") == 0 ||
				   strcmp(host, "[::1]") == 0 ||
				   (inet_pton(AF_INET, host, &in) == 1 &&
					ntohl(in.s_addr) >> 24 == 127), "%s leads to %s", value, host);
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	curl_url_cleanup(url);
}

static void
look_at_taken(const Option *option, const char *value)
{
	char	   *end;
	long		number;

	switch (option->check)
	{
		case CHECK_URL:
			look_at_url(value);
			break;
		case CHECK_NUMBER:
			number = strtol(value, &end, 10);
			FUZZ_CHECK(*end == '\0' && number >= option->min && number <= option->max,
					   "%s", value);
			break;
		case CHECK_WORD:
			FUZZ_CHECK(strchr(value, ' ') == NULL && strstr(option->words, value) != NULL,
					   "%s", value);
			break;
		case CHECK_SERVER_PATH:
			FUZZ_CHECK(value[0] == '/', "%s", value);
			break;
		default:
			FUZZ_CHECK(value[0] != '\0', "an empty value");
	}
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char	   *value = pnstrdup((const char *) data, size);

	shim_quiet = true;
	for (int i = 0; i < lengthof(options); i++)
	{
		if (is_taken(&options[i], value))
			look_at_taken(&options[i], value);
	}
	/* addresses of this machine, and what looks like one */
	if (is_taken(&options[8], psprintf("http://%s", value)))
		look_at_url(psprintf("http://%s", value));
	shim_reset();
	return 0;
}
