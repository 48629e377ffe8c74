/*
 * oauth.c
 *		Signatures of OAuth 1.0a (RFC 5849), two-legged, by HMAC.
 *
 * How it works: the method, the address without its query, and all parameters
 * (those of the query, decoded, and the oauth_ ones), encoded and sorted,
 * make the base string (section 3.4.1), and its HMAC is the signature.
 */
#include "postgres.h"

#include <time.h>

#include "base/url.h"
#include "common/base64.h"
#include "common/hmac.h"
#include "common/sha1.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"

#include "transport/oauth.h"

#define NONCE_BYTES		16
#define MAX_PARAMS		64		/* of one request: we send seven */

/* A parameter as it stands in the base string. */
typedef struct Pair
{
	char	   *name;			/* encoded */
	char	   *value;
} Pair;

static const char *const hash_names[] = {
	[SIS_OAUTH_SHA256] = "HMAC-SHA256",
	[SIS_OAUTH_SHA1] = "HMAC-SHA1"
};

/* ----------
 * The base string
 * ----------
 */

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Text of a query, decoded and encoded again in the one way that counts. */
static char *
recode(const char *text, size_t len)
{
	StringInfoData plain;

	initStringInfo(&plain);
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] == '+')
			appendStringInfoChar(&plain, ' ');
		else if (text[i] == '%' && i + 2 < len &&
				 hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0)
		{
			appendStringInfoChar(&plain,
								 (char) (hex_value(text[i + 1]) * 16 +
										 hex_value(text[i + 2])));
			i += 2;
		}
		else
			appendStringInfoChar(&plain, text[i]);
	}
	return sis_url_encode(plain.data);
}

static int
compare_pairs(const void *a, const void *b)
{
	const Pair *x = a;
	const Pair *y = b;
	int			order = strcmp(x->name, y->name);

	return order != 0 ? order : strcmp(x->value, y->value);
}

static void
add_pair(Pair *pairs, int *npairs, char *name, char *value)
{
	if (*npairs == MAX_PARAMS)
		elog(ERROR, "too many parameters to sign");
	pairs[*npairs].name = name;
	pairs[*npairs].value = value;
	(*npairs)++;
}

static void
add_query(Pair *pairs, int *npairs, const char *query)
{
	while (*query != '\0' && *query != '#')
	{
		size_t		len = strcspn(query, "&#");
		const char *equals = memchr(query, '=', len);
		size_t		namelen = equals ? (size_t) (equals - query) : len;

		if (len > 0)
			add_pair(pairs, npairs, recode(query, namelen),
					 recode(equals ? equals + 1 : query,
							equals ? len - namelen - 1 : 0));
		query += len;
		if (*query == '&')
			query++;
	}
}

/*
 * The address without query and fragment: scheme and host in lower case, and
 * no port where it is the scheme's own (section 3.4.1.2).
 */
static char *
base_address(const char *url)
{
	StringInfoData buf;
	const char *host = strstr(url, "://");
	size_t		len;
	size_t		path;

	if (host == NULL)
		elog(ERROR, "cannot sign a request without an absolute address");
	host += 3;
	len = strcspn(host, "/?#");
	initStringInfo(&buf);
	for (const char *p = url; p < host + len; p++)
		appendStringInfoChar(&buf, (char) pg_ascii_tolower((unsigned char) *p));
	if (strncmp(buf.data, "https://", 8) == 0 && len > 4 &&
		strncmp(host + len - 4, ":443", 4) == 0)
		buf.len -= 4;
	else if (strncmp(buf.data, "http://", 7) == 0 && len > 3 &&
			 strncmp(host + len - 3, ":80", 3) == 0)
		buf.len -= 3;
	buf.data[buf.len] = '\0';

	path = strcspn(host + len, "?#");
	if (path == 0)
		appendStringInfoChar(&buf, '/');
	appendBinaryStringInfo(&buf, host + len, (int) path);
	return buf.data;
}

static char *
base_string(const char *method, const char *url, const SisOAuthParam *params,
			int nparams)
{
	Pair		pairs[MAX_PARAMS];
	int			npairs = 0;
	const char *query = strchr(url, '?');
	char	   *address = base_address(url);
	StringInfoData list;

	for (int i = 0; i < nparams; i++)
		add_pair(pairs, &npairs, sis_url_encode(params[i].name),
				 sis_url_encode(params[i].value));
	if (query != NULL)
		add_query(pairs, &npairs, query + 1);
	qsort(pairs, npairs, sizeof(Pair), compare_pairs);

	initStringInfo(&list);
	for (int i = 0; i < npairs; i++)
		appendStringInfo(&list, "%s%s=%s", i > 0 ? "&" : "", pairs[i].name,
						 pairs[i].value);
	return psprintf("%s&%s&%s", method, sis_url_encode(address),
					sis_url_encode(list.data));
}

/* ----------
 * Signing
 * ----------
 */

char *
sis_oauth_sign(SisOAuthHash hash, const char *signing_key, const char *method,
			   const char *url, const SisOAuthParam *params, int nparams)
{
	bool		sha1 = hash == SIS_OAUTH_SHA1;
	size_t		maclen = sha1 ? SHA1_DIGEST_LENGTH : PG_SHA256_DIGEST_LENGTH;
	uint8		mac[PG_SHA256_DIGEST_LENGTH];
	char	   *base = base_string(method, url, params, nparams);
	int			size = pg_b64_enc_len((int) maclen);
	char	   *signature = palloc(size + 1);
	pg_hmac_ctx *ctx;
	bool		done;
	int			len;

	/* nothing between create and free may throw */
	ctx = pg_hmac_create(sha1 ? PG_SHA1 : PG_SHA256);
	done = ctx != NULL &&
		pg_hmac_init(ctx, (const uint8 *) signing_key, strlen(signing_key)) == 0 &&
		pg_hmac_update(ctx, (const uint8 *) base, strlen(base)) == 0 &&
		pg_hmac_final(ctx, mac, maclen) == 0;
	pg_hmac_free(ctx);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("could not sign a request by %s", hash_names[hash])));

	/* its argument is of another type from PostgreSQL 18 on */
	len = pg_b64_encode((const void *) mac, (int) maclen, signature, size);
	if (len < 0)
		elog(ERROR, "could not encode a signature");
	signature[len] = '\0';
	return signature;
}

static char *
make_nonce(void)
{
	uint8		random[NONCE_BYTES];
	StringInfoData buf;

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a nonce")));
	initStringInfo(&buf);
	for (int i = 0; i < NONCE_BYTES; i++)
		appendStringInfo(&buf, "%02x", random[i]);
	return buf.data;
}

char *
sis_oauth_header(SisOAuthHash hash, const char *key, const char *secret,
				 const char *url)
{
	SisOAuthParam params[] = {
		{"oauth_consumer_key", key},
		{"oauth_nonce", make_nonce()},
		{"oauth_signature_method", hash_names[hash]},
		{"oauth_timestamp", psprintf(INT64_FORMAT, (int64) time(NULL))},
		{"oauth_version", "1.0"}
	};
	char	   *signing_key = psprintf("%s&", sis_url_encode(secret));
	char	   *signature = sis_oauth_sign(hash, signing_key, "GET", url, params,
										   lengthof(params));
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "OAuth ");
	for (int i = 0; i < (int) lengthof(params); i++)
		appendStringInfo(&buf, "%s=\"%s\", ", params[i].name,
						 sis_url_encode(params[i].value));
	appendStringInfo(&buf, "oauth_signature=\"%s\"",
					 sis_url_encode(signature));
	return buf.data;
}
