/*
 * http.h
 *		One HTTPS request and its response.
 *
 * Requests run side by side: start as many as
 * sis_session_max_connections() allows, wait for the first, work on it while
 * the others go on, and start the next.
 *
 * Redirects are not followed: the response has status 3xx and its Location.
 */
#ifndef SIS_HTTP_H
#define SIS_HTTP_H

#include "pgtime.h"
#include "transport/transfer.h"

typedef struct SisHttpRequest
{
	const char *method;			/* "GET" or "POST" */
	const char *url;			/* https://…, or http:// on a loopback address */
	const char *const *headers; /* "Name: value", ended by NULL; or NULL */
	const char *body;			/* of a POST */
	int			body_len;
	SisTarget	target;			/* where the response's body goes, whatever its
								 * status: sis_write_string, sis_spool_write… */
} SisHttpRequest;

typedef struct SisHttp SisHttp;

/*
 * Sends the request.  All that it names is copied, but for the target's
 * argument.  In the current memory context, and ended with it: some 300 kB, so
 * give each request a context that is deleted after it.  Failures show in
 * sis_http_wait(); throws only on misuse and when out of memory.
 */
extern SisHttp *sis_http_start(SisSession *session,
							   const SisHttpRequest *request);

/*
 * Waits for the whole response.  True when it came, whatever its status; false
 * when there is none, or when it was cut or too large.
 */
extern bool sis_http_wait(SisHttp *http);

/* Has the whole response come, or failed to?  sis_http_wait() does not wait. */
extern bool sis_http_ended(const SisHttp *http);

/* 200, …; 0 when no status line came. */
extern int	sis_http_status(const SisHttp *http);

/*
 * The value of a header of the response, without spaces around it: the first
 * one of that name (in any case); NULL when there is none.  In the current
 * memory context.
 */
extern char *sis_http_header(const SisHttp *http, const char *name);

/*
 * When the response was made by the server's own clock (its header Date), in
 * seconds since 1970; 0 when it does not say.
 */
extern pg_time_t sis_http_date(const SisHttp *http);

/*
 * True when another try may bring more: a failure to connect or to receive, a
 * cut body, or the status 408, 429, 500, 502, 503 or 504.  How long to wait is
 * the caller's to say, from Retry-After and sis_session_sleep().
 */
extern bool sis_http_worth_retry(const SisHttp *http);

/*
 * Writes down why sis_http_wait() returned false, as SI004 (SI006 for too
 * large a body), naming host and port, never the path or the query.  Always
 * returns false.
 */
extern bool sis_http_fail(const SisHttp *http, SisFailure *failure);

/* Frees it, and ends it when it is still under way. */
extern void sis_http_close(SisHttp *http);

#endif
