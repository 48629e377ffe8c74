/*
 * http.c
 *		One HTTPS request and its response.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "base/compat.h"
#include "transport/http.h"

/* Of the headers of one response; more is a failure. */
#define MAX_HEADERS		(64 * 1024)

struct SisHttp
{
	SisTransfer *transfer;
	struct curl_slist *request_headers; /* ours, not libcurl's, to allocate */
	char	   *headers;		/* the lines of the response, as they came */
	int			nheaders;
	bool		headers_too_large;
};

/* NB: must not ereport. */
static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	SisHttp    *http = arg;

	n *= size;
	/* a response may come after an informational one, such as 100 */
	if (n >= 5 && memcmp(data, "HTTP/", 5) == 0)
		http->nheaders = 0;
	if (n > (size_t) (MAX_HEADERS - http->nheaders))
	{
		http->headers_too_large = true;
		return 0;
	}
	memcpy(http->headers + http->nheaders, data, n);
	http->nheaders += (int) n;
	return n;
}

/* The list is read by libcurl only, so it can live in our memory. */
static struct curl_slist *
copy_headers(const char *const *headers)
{
	struct curl_slist *first = NULL;
	struct curl_slist **end = &first;

	for (; headers != NULL && *headers != NULL; headers++)
	{
		*end = palloc0(sizeof(struct curl_slist));
		(*end)->data = pstrdup(*headers);
		end = &(*end)->next;
	}
	return first;
}

/* The host of the URL, as messages name it, and its port. */
static char *
url_host(const char *url, int *port, bool *is_plain)
{
	const char *start = strstr(url, "://");
	const char *colon;
	size_t		len;

	*is_plain = strncmp(url, "https://", 8) != 0;
	*port = *is_plain ? 80 : 443;
	start = start != NULL ? start + 3 : url;
	len = strcspn(start, "/?#");
	for (colon = start + len; colon > start && colon[-1] != ':' &&
		 colon[-1] != ']'; colon--)
		;
	if (colon > start && colon[-1] == ':')
	{
		*port = (int) strtol(colon, NULL, 10);
		len = (size_t) (colon - 1 - start);
	}
	return pnstrdup(start, len);
}

static void
set_options(SisHttp *http, const SisHttpRequest *request, bool is_plain)
{
	SisTransfer *transfer = http->transfer;

	sis_transfer_set(transfer, CURLOPT_URL, request->url);
	sis_transfer_set(transfer, CURLOPT_PROTOCOLS_STR,
					 is_plain ? "http" : "https");
	sis_transfer_set(transfer, CURLOPT_USERAGENT,
					 "sis_sync/" SIS_SYNC_VERSION);
	sis_transfer_set(transfer, CURLOPT_ACCEPT_ENCODING, "");
	sis_transfer_set(transfer, CURLOPT_HEADERFUNCTION, on_header);
	sis_transfer_set(transfer, CURLOPT_HEADERDATA, http);
	sis_transfer_set(transfer, CURLOPT_HTTPHEADER, http->request_headers);
	if (strcmp(request->method, "POST") == 0)
	{
		sis_transfer_set(transfer, CURLOPT_POSTFIELDSIZE_LARGE,
						 (curl_off_t) request->body_len);
		sis_transfer_set(transfer, CURLOPT_COPYPOSTFIELDS,
						 request->body != NULL ? request->body : "");
	}
	else if (strcmp(request->method, "GET") == 0)
		sis_transfer_set(transfer, CURLOPT_HTTPGET, 1L);
	else
		elog(ERROR, "no such method: %s", request->method);
	if (is_plain)
		sis_transfer_loopback_only(transfer);
}

SisHttp *
sis_http_start(SisSession *session, const SisHttpRequest *request)
{
	SisHttp    *http = palloc0(sizeof(SisHttp));
	bool		is_plain;
	int			port;
	char	   *host = url_host(request->url, &port, &is_plain);

	http->headers = palloc(MAX_HEADERS);
	http->request_headers = copy_headers(request->headers);
	http->transfer = sis_transfer_create(session, host, port, false,
										 &request->target);
	set_options(http, request, is_plain);
	sis_transfer_start(http->transfer);
	return http;
}

bool
sis_http_wait(SisHttp *http)
{
	return sis_transfer_wait(http->transfer);
}

bool
sis_http_ended(const SisHttp *http)
{
	return sis_transfer_end(http->transfer) != SIS_END_NONE;
}

int
sis_http_status(const SisHttp *http)
{
	long		status = 0;

	curl_easy_getinfo(sis_transfer_handle(http->transfer),
					  CURLINFO_RESPONSE_CODE, &status);
	return (int) status;
}

char *
sis_http_header(const SisHttp *http, const char *name)
{
	const char *line = http->headers;
	const char *end = http->headers + http->nheaders;
	size_t		namelen = strlen(name);

	while (line < end)
	{
		const char *newline = memchr(line, '\n', end - line);
		const char *stop = newline != NULL ? newline : end;

		if ((size_t) (stop - line) > namelen && line[namelen] == ':' &&
			pg_strncasecmp(line, name, namelen) == 0)
		{
			line += namelen + 1;
			while (line < stop && (*line == ' ' || *line == '\t'))
				line++;
			while (stop > line && (stop[-1] == ' ' || stop[-1] == '\t' ||
								   stop[-1] == '\r'))
				stop--;
			return pnstrdup(line, stop - line);
		}
		line = stop + 1;
	}
	return NULL;
}

pg_time_t
sis_http_date(const SisHttp *http)
{
	char	   *text = sis_http_header(http, "date");
	time_t		date = text != NULL ? curl_getdate(text, NULL) : -1;

	return date > 0 ? (pg_time_t) date : 0;
}

bool
sis_http_worth_retry(const SisHttp *http)
{
	if (sis_transfer_end(http->transfer) != SIS_END_DONE)
		return !http->headers_too_large &&
			sis_transfer_worth_retry(http->transfer);
	switch (sis_http_status(http))
	{
		case 408:
		case 429:
		case 500:
		case 502:
		case 503:
		case 504:
			return true;
		default:
			return false;
	}
}

bool
sis_http_fail(const SisHttp *http, SisFailure *failure)
{
	if (http->headers_too_large)
		return sis_fail(failure, SIS_ERR_MALFORMED, NULL,
						psprintf("At most %d bytes of headers are taken.",
								 MAX_HEADERS), NULL,
						"the headers of a response are too large");
	return sis_transfer_fail(http->transfer, failure);
}

void
sis_http_close(SisHttp *http)
{
	sis_transfer_close(http->transfer);
	if (http->headers != NULL)
		pfree(http->headers);
	http->headers = NULL;
	http->nheaders = 0;
}
