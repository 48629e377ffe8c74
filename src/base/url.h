/*
 * url.h
 *		Parts of a URL, as text.
 */
#ifndef SIS_URL_H
#define SIS_URL_H

/*
 * "api.clever.com", or "127.0.0.1:8443": all of a URL that may ever be
 * printed.  Fit to be printed, whatever the URL holds.  In the current memory
 * context, as all that this file returns.
 */
extern char *sis_url_host(const char *url);

/* Do two URLs name the same scheme, host and port? */
extern bool sis_url_same_origin(const char *a, const char *b);

/* Percent-encodes all but letters, digits, "-", ".", "_" and "~". */
extern char *sis_url_encode(const char *text);

/*
 * The decoded value of a parameter of a URL's query; NULL when it is not
 * there, or is no text.
 */
extern char *sis_url_parameter(const char *url, const char *name);

#endif
