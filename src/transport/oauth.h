/*
 * oauth.h
 *		Signatures of OAuth 1.0a (RFC 5849), two-legged, by HMAC.
 */
#ifndef SIS_OAUTH_H
#define SIS_OAUTH_H

typedef enum SisOAuthHash
{
	SIS_OAUTH_SHA256,			/* HMAC-SHA256 */
	SIS_OAUTH_SHA1				/* HMAC-SHA1, the one RFC 5849 has itself */
} SisOAuthHash;

/* An oauth_ parameter, not encoded. */
typedef struct SisOAuthParam
{
	const char *name;
	const char *value;
} SisOAuthParam;

/*
 * The signature, in base64, of a request for a URL as it will be sent, its
 * query included.  params are the oauth_ parameters beside the signature.
 * signing_key is the encoded consumer secret, "&", and the encoded token
 * secret (empty when there is no token).  The result is in the current memory
 * context.  Throws when the server has no such hash (FIPS has no SHA-1).
 */
extern char *sis_oauth_sign(SisOAuthHash hash, const char *signing_key,
							const char *method, const char *url,
							const SisOAuthParam *params, int nparams);

/*
 * The value of the Authorization header for one request by GET.  Each request
 * needs its own, a repeated one too: it holds the time and a nonce.  In the
 * current memory context; the caller keeps it out of messages.
 */
extern char *sis_oauth_header(SisOAuthHash hash, const char *key,
							  const char *secret, const char *url);

#endif
