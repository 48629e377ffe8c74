/*
 * transfer.c
 *		Transfers of libcurl, side by side, under the limits of one fetch.
 *
 * How it works: libcurl's callback copies what comes into a buffer of fixed
 * size, and pauses the transfer while it is full.  Out of libcurl, the buffers
 * of all transfers are handed on to their targets, which may throw.  So memory
 * is constant, however fast the other side sends.
 *
 * Limits on time: libcurl knows the one for connecting.  The session's deadline
 * is wait.c's.  A transfer that has begun and then brings no byte for a minute
 * is given up here, since libcurl notices late, or not at all.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <openssl/x509.h>

#include "base/compat.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "transport/transfer.h"
#include "transport/wait.h"
#include "utils/timestamp.h"

#define DEFAULT_CONNECT_TIMEOUT	30
#define DEFAULT_TIMEOUT			600
#define DEFAULT_CONNECTIONS		4
#define MAX_CONNECTIONS			16
#define STALL_SECONDS			60

/*
 * libcurl hands on up to 16 kB at a time.  It asks an SFTP server for four
 * times its own buffer ahead: a megabyte keeps a line of 50 ms busy at 20 MB/s.
 */
#define BUFFER_SIZE				(256 * 1024)

#define MAX_TEXT				200

struct SisSession
{
	SisWait    *wait;
	int			connect_timeout;	/* seconds */
	int			timeout;		/* seconds */
	int			max_connections;
	const char *ca_file;		/* NULL: the system's */
	bool		is_over;		/* the deadline is past */
	TimestampTz turned;			/* when we last let libcurl go on */
	dlist_head	transfers;		/* under way */
};

struct SisTransfer
{
	dlist_node	node;
	SisSession *session;
	SisHandle	handle;
	const char *host;
	int			port;
	SisTarget	target;
	int64		received;		/* bytes of the body */
	char	   *buffer;
	int			nbuffer;
	bool		is_paused;
	bool		is_too_large;
	bool		is_listed;		/* in session->transfers */
	bool		has_begun;		/* connected and logged in, when last looked */
	TimestampTz started;
	TimestampTz progress;		/* when the last byte came, for the stall */
	SisEnd		end;
	char		text[CURL_ERROR_SIZE];
	MemoryContextCallback callback;
};

void
sis_write_string(void *string, const char *data, int len)
{
	appendBinaryStringInfo(string, data, len);
}

/* ----------
 * Sessions
 * ----------
 */

/* The validators have seen it: it is a number within its bounds. */
static int
number_option(const SisSource *source, const char *name, int by_default)
{
	const char *value = sis_source_option(source, name);

	return value != NULL ? (int) strtol(value, NULL, 10) : by_default;
}

SisSession *
sis_session_open(const SisSource *source)
{
	SisSession *session = palloc0(sizeof(SisSession));

	session->connect_timeout = number_option(source, "connect_timeout",
											 DEFAULT_CONNECT_TIMEOUT);
	session->timeout = number_option(source, "timeout", DEFAULT_TIMEOUT);
	session->max_connections = number_option(source, "max_connections",
											 DEFAULT_CONNECTIONS);
	session->max_connections = Min(session->max_connections, MAX_CONNECTIONS);
	session->ca_file = sis_source_option(source, "ca_file");
	dlist_init(&session->transfers);
	session->wait = sis_wait_create(TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
																session->timeout * INT64CONST(1000)),
									session->max_connections);
	return session;
}

void
sis_session_close(SisSession *session)
{
	sis_wait_destroy(session->wait);
}

int
sis_session_max_connections(const SisSession *session)
{
	return session->max_connections;
}

/* ----------
 * Callbacks of libcurl.  NB: must not ereport.
 * ----------
 */

static size_t
on_data(char *data, size_t size, size_t n, void *arg)
{
	SisTransfer *transfer = arg;

	n *= size;
	if (transfer->received + (int64) n > transfer->target.max_size)
	{
		transfer->is_too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (n > (size_t) (BUFFER_SIZE - transfer->nbuffer))
	{
		transfer->is_paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	memcpy(transfer->buffer + transfer->nbuffer, data, n);
	transfer->nbuffer += (int) n;
	transfer->received += (int64) n;
	return n;
}

/* ----------
 * Making and freeing
 * ----------
 */

/* On each way out.  NB: must not ereport. */
static void
clean_up(void *arg)
{
	SisTransfer *transfer = arg;

	/* freed by its session already, which may be gone: look at nothing else */
	if (transfer->handle.wait == NULL)
		return;
	if (transfer->is_listed)
		dlist_delete(&transfer->node);
	transfer->is_listed = false;
	sis_wait_free(&transfer->handle);
}

void *
sis_transfer_handle(SisTransfer *transfer)
{
	return transfer->handle.easy;
}

void
sis_transfer_check_set(int code, const char *option)
{
	if (code == CURLE_OUT_OF_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("libcurl could not allocate memory.")));
	if (code != CURLE_OK)
		elog(ERROR, "libcurl refuses option %s: %s", option,
			 curl_easy_strerror((CURLcode) code));
}

/* Nothing comes from the environment, nothing is kept for later. */
static void
set_common_options(SisTransfer *transfer)
{
	const SisSession *session = transfer->session;

	sis_transfer_set(transfer, CURLOPT_ERRORBUFFER, transfer->text);
	sis_transfer_set(transfer, CURLOPT_WRITEFUNCTION, on_data);
	sis_transfer_set(transfer, CURLOPT_WRITEDATA, transfer);
	sis_transfer_set(transfer, CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE);
	sis_transfer_set(transfer, CURLOPT_CONNECTTIMEOUT_MS,
					 session->connect_timeout * 1000L);
	sis_transfer_set(transfer, CURLOPT_TCP_KEEPALIVE, 1L);
	sis_transfer_set(transfer, CURLOPT_PROXY, "");
	sis_transfer_set(transfer, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	sis_transfer_set(transfer, CURLOPT_FOLLOWLOCATION, 0L);
	sis_transfer_set(transfer, CURLOPT_SSL_VERIFYPEER, 1L);
	sis_transfer_set(transfer, CURLOPT_SSL_VERIFYHOST, 2L);
	sis_transfer_set(transfer, CURLOPT_SSLVERSION,
					 (long) CURL_SSLVERSION_TLSv1_2);
	if (session->ca_file != NULL)
		sis_transfer_set(transfer, CURLOPT_CAINFO, session->ca_file);
}

SisTransfer *
sis_transfer_create(SisSession *session, const char *host, int port,
					bool is_sftp, const SisTarget *target)
{
	SisTransfer *transfer = palloc0(sizeof(SisTransfer));

	transfer->session = session;
	transfer->host = pstrdup(host);
	transfer->port = port;
	transfer->target = *target;
	transfer->buffer = palloc(BUFFER_SIZE);
	transfer->callback.func = clean_up;
	transfer->callback.arg = transfer;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &transfer->callback);
	transfer->handle.is_sftp = is_sftp;
	sis_wait_make(session->wait, &transfer->handle);
	set_common_options(transfer);
	return transfer;
}

void
sis_transfer_loopback_only(SisTransfer *transfer)
{
	transfer->handle.loopback_only = true;
}

void
sis_transfer_start(SisTransfer *transfer)
{
	transfer->started = transfer->progress = GetCurrentTimestamp();
	sis_wait_start(&transfer->handle);
	dlist_push_tail(&transfer->session->transfers, &transfer->node);
	transfer->is_listed = true;
}

void
sis_transfer_close(SisTransfer *transfer)
{
	clean_up(transfer);
	if (transfer->buffer != NULL)
		pfree(transfer->buffer);
	transfer->buffer = NULL;
}

/* ----------
 * Going on
 * ----------
 */

/*
 * When a transfer that has begun is to be given up.  The time it takes to
 * connect has a limit of its own.
 */
static TimestampTz
stalls_at(SisTransfer *transfer)
{
	curl_off_t	begun = 0;
	TimestampTz last = transfer->progress;

	curl_easy_getinfo(transfer->handle.easy, CURLINFO_PRETRANSFER_TIME_T,
					  &begun);
	transfer->has_begun = begun > 0;
	last = Max(last, transfer->started + begun);
	if (begun == 0)
		last = Max(last, GetCurrentTimestamp());
	return TimestampTzPlusMilliseconds(last, STALL_SECONDS * 1000);
}

static void
finish(SisTransfer *transfer, SisEnd end)
{
	transfer->end = end;
	dlist_delete(&transfer->node);
	transfer->is_listed = false;
}

/*
 * While a transfer is paused, libcurl keeps what it goes on to unpack, 64 MB of
 * it at most.  More than that ends as if memory were out (8.5), as too large
 * (8.14), or as if what is written were refused (8.23), which only we could say.
 */
static bool
is_bomb(const SisTransfer *transfer)
{
	return sis_curl_is_too_large(transfer->handle.result) ||
		transfer->handle.result == CURLE_WRITE_ERROR ||
		(transfer->handle.result == CURLE_OUT_OF_MEMORY &&
		 transfer->is_paused);
}

/* Hands on what has come.  The target may throw. */
static void
drain(SisTransfer *transfer)
{
	int			n = transfer->nbuffer;

	if (n == 0)
		return;
	transfer->nbuffer = 0;
	transfer->progress = GetCurrentTimestamp();
	if (transfer->target.write != NULL)
		transfer->target.write(transfer->target.arg, transfer->buffer, n);
}

static void
look_after(SisTransfer *transfer, bool is_over)
{
	drain(transfer);
	if (transfer->handle.ended)
	{
		if (transfer->is_too_large || is_bomb(transfer))
			finish(transfer, SIS_END_TOO_LARGE);
		else if (transfer->handle.result == CURLE_ABORTED_BY_CALLBACK)
			finish(transfer, SIS_END_DEADLINE);
		else if (transfer->handle.result == CURLE_OPERATION_TIMEDOUT &&
				 transfer->has_begun)
			finish(transfer, SIS_END_STALLED);	/* libssh2 1.11 has our limit */
		else
			finish(transfer, transfer->handle.result == CURLE_OK ?
				   SIS_END_DONE : SIS_END_FAILED);
	}
	else if (is_over)
		finish(transfer, SIS_END_DEADLINE);
	else if (stalls_at(transfer) <= GetCurrentTimestamp())
		finish(transfer, SIS_END_STALLED);
	else if (transfer->is_paused)
	{
		transfer->is_paused = false;
		sis_wait_resume(&transfer->handle);
	}
}

/*
 * Waits until something happens, at the longest until that time (0: no such
 * limit).  False when the deadline is past.
 */
static bool
turn(SisSession *session, TimestampTz until)
{
	dlist_mutable_iter iter;
	TimestampTz away = GetCurrentTimestamp() - session->turned;

	dlist_foreach_modify(iter, &session->transfers)
	{
		SisTransfer *transfer = dlist_container(SisTransfer, node, iter.cur);
		TimestampTz stall;

		/* nothing could come while the caller did something else */
		if (transfer->progress < session->turned)
			transfer->progress += away;
		stall = stalls_at(transfer);
		until = until == 0 ? stall : Min(until, stall);
	}
	if (!sis_wait_turn(session->wait, until))
		session->is_over = true;
	dlist_foreach_modify(iter, &session->transfers)
		look_after(dlist_container(SisTransfer, node, iter.cur),
				   session->is_over);
	session->turned = GetCurrentTimestamp();
	return !session->is_over;
}

bool
sis_session_sleep(SisSession *session, int64 milliseconds)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													milliseconds);

	if (until >= sis_wait_deadline(session->wait))
		return false;
	while (GetCurrentTimestamp() < until)
	{
		if (!turn(session, until))
			return false;
	}
	return true;
}

static int
count_transfers(const SisSession *session)
{
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, unconstify(dlist_head *, &session->transfers))
		n++;
	return n;
}

bool
sis_session_wait(SisSession *session, TimestampTz until)
{
	int			before = count_transfers(session);

	while (count_transfers(session) == before &&
		   GetCurrentTimestamp() < until)
	{
		if (!turn(session, until))
			return false;
	}
	return true;
}

int64
sis_session_remaining(const SisSession *session)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										   sis_wait_deadline(session->wait));
}

void
sis_session_turn(SisSession *session)
{
	(void) turn(session, GetCurrentTimestamp());
}

bool
sis_transfer_wait(SisTransfer *transfer)
{
	while (transfer->end == SIS_END_NONE)
		(void) turn(transfer->session, 0);
	return transfer->end == SIS_END_DONE;
}

/* ----------
 * How it ended
 * ----------
 */

SisEnd
sis_transfer_end(const SisTransfer *transfer)
{
	return transfer->end;
}

int
sis_transfer_code(const SisTransfer *transfer)
{
	return (int) transfer->handle.result;
}

char *
sis_transfer_text(const SisTransfer *transfer)
{
	char	   *text = pnstrdup(transfer->text, MAX_TEXT);

	/* part of it may have come from the other side */
	for (char *p = text; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return text;
}

bool
sis_transfer_worth_retry(const SisTransfer *transfer)
{
	if (transfer->end == SIS_END_STALLED)
		return true;
	if (transfer->end != SIS_END_FAILED || transfer->session->is_over)
		return false;
	switch (transfer->handle.result)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
			return !transfer->handle.refused_address;
		case CURLE_OPERATION_TIMEDOUT:
		case CURLE_PARTIAL_FILE:
		case CURLE_GOT_NOTHING:
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
		case CURLE_SSL_CONNECT_ERROR:
			return true;
		default:
			return false;
	}
}

/* Says whether the time ran out before or after the connection was made. */
static const char *
timeout_reason(const SisTransfer *transfer)
{
	curl_off_t	connected = 0;

	curl_easy_getinfo(transfer->handle.easy, CURLINFO_CONNECT_TIME_T,
					  &connected);
	return connected == 0 ? "no connection" : "no answer";
}

static bool
fail_time(const SisTransfer *transfer, SisFailure *failure)
{
	const SisSession *session = transfer->session;

	switch (transfer->end)
	{
		case SIS_END_STALLED:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
							psprintf("No byte came for %d seconds, after %lld bytes.",
									 STALL_SECONDS,
									 (long long) transfer->received),
							"Run the sync again later.",
							"lost the connection to \"%s\" port %d: the transfer stalled",
							transfer->host, transfer->port);
		case SIS_END_DEADLINE:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
							psprintf("The whole fetch may take %d seconds; %lld bytes of this transfer had come.",
									 session->timeout,
									 (long long) transfer->received),
							"Set the server's option \"timeout\" higher if the source needs longer.",
							"could not fetch from \"%s\" port %d within the timeout",
							transfer->host, transfer->port);
		default:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
							psprintf("The server's option \"connect_timeout\" allows %d seconds.",
									 session->connect_timeout),
							"Check host, port and firewall; if the other side is slow, set \"connect_timeout\" higher.",
							"could not connect to \"%s\" port %d: %s in time",
							transfer->host, transfer->port,
							timeout_reason(transfer));
	}
}

/* Which check of the certificate failed. */
static const char *
certificate_reason(const SisTransfer *transfer)
{
	long		verdict = X509_V_OK;

	/* OpenSSL checks the chain; the name is checked by libcurl, who says so */
	if (strstr(transfer->text, "subject name") != NULL)
		return "it is for another host";
	curl_easy_getinfo(transfer->handle.easy, CURLINFO_SSL_VERIFYRESULT,
					  &verdict);
	return verdict != X509_V_OK ?
		X509_verify_cert_error_string(verdict) : "it was refused";
}

static bool
fail_certificate(const SisTransfer *transfer, SisFailure *failure)
{
	return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
					psprintf("libcurl: %s.", sis_transfer_text(transfer)),
					"Certificates are always verified; a private authority's certificate is named in the server's option \"ca_file\".",
					"could not verify the certificate of \"%s\" port %d: %s",
					transfer->host, transfer->port,
					certificate_reason(transfer));
}

static bool
fail_code(const SisTransfer *transfer, SisFailure *failure)
{
	const char *text = sis_transfer_text(transfer);
	CURLcode	code = transfer->handle.result;

	if (text[0] == '\0')
		text = curl_easy_strerror(code);
	text = psprintf("libcurl: %s.", text);
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, text,
							"Check the name of the host, and the database host's name service.",
							"could not find the address of \"%s\"",
							transfer->host);
		case CURLE_COULDNT_CONNECT:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, text,
							"Check host, port and firewall.",
							"could not connect to \"%s\" port %d",
							transfer->host, transfer->port);
		case CURLE_SSL_CACERT_BADFILE:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, text,
							"The server's option \"ca_file\" names a file of certificates in PEM format that the database server can read.",
							"could not read the certificate authorities to verify \"%s\" port %d",
							transfer->host, transfer->port);
		case CURLE_SSL_CONNECT_ERROR:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, text, NULL,
							"could not agree on TLS with \"%s\" port %d",
							transfer->host, transfer->port);
		case CURLE_PARTIAL_FILE:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, text,
							"Run the sync again later.",
							"lost the connection to \"%s\" port %d: the transfer was cut short",
							transfer->host, transfer->port);
		case CURLE_LOGIN_DENIED:
			return sis_fail(failure, SIS_ERR_CREDENTIALS, NULL, text, NULL,
							"\"%s\" port %d refused the login",
							transfer->host, transfer->port);
		default:
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, text, NULL,
							"could not fetch from \"%s\" port %d",
							transfer->host, transfer->port);
	}
}

bool
sis_transfer_fail(const SisTransfer *transfer, SisFailure *failure)
{
	if (transfer->end == SIS_END_TOO_LARGE)
		return sis_fail(failure, SIS_ERR_MALFORMED, NULL,
						psprintf("At most %lld bytes are taken.",
								 (long long) transfer->target.max_size),
						NULL,
						"the answer of \"%s\" port %d is too large",
						transfer->host, transfer->port);
	if (transfer->end == SIS_END_STALLED ||
		transfer->end == SIS_END_DEADLINE ||
		transfer->handle.result == CURLE_OPERATION_TIMEDOUT)
		return fail_time(transfer, failure);
	if (transfer->handle.refused_address)
		return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
						"Without encryption, only addresses of this machine are connected to.",
						"Use an address that begins with https://.",
						"the address of \"%s\" is not one of this machine",
						transfer->host);
	if (transfer->handle.result == CURLE_PEER_FAILED_VERIFICATION)
		return fail_certificate(transfer, failure);
	return fail_code(transfer, failure);
}
