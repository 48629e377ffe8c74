/*
 * transfer.h
 *		Transfers of libcurl, side by side, under the limits of one fetch.
 *
 * A session is one fetch from one server: its deadline, its connections and
 * its transfers.  http.h makes HTTPS requests in it, sftp.c reads files.
 * Whoever waits for one transfer lets the others go on as well.
 */
#ifndef SIS_TRANSFER_H
#define SIS_TRANSFER_H

#include "base/error.h"
#include "base/source.h"
#include "datatype/timestamp.h"

typedef struct SisSession SisSession;
typedef struct SisTransfer SisTransfer;

/* Takes bytes, in order.  May throw; libcurl is never on the stack then. */
typedef void (*SisWrite) (void *arg, const char *data, int len);

/* A SisWrite that appends to a StringInfo. */
extern void sis_write_string(void *string, const char *data, int len);

/* ----------
 * Sessions
 * ----------
 */

/*
 * Opens a session with the limits that the source's options set
 * (connect_timeout, timeout, max_connections, ca_file, or their defaults); the
 * deadline of everything in it counts from now.  In the current memory
 * context; connections and descriptors are gone with it, at once, on whatever
 * way out.  Takes no snapshot.  Throws 53200 or 53000 when libcurl cannot
 * start.
 */
extern SisSession *sis_session_open(const SisSource *source);

/* Ends it, and all its transfers, before its memory context does. */
extern void sis_session_close(SisSession *session);

/* So many transfers may be under way at once: 1 to 16. */
extern int	sis_session_max_connections(const SisSession *session);

/*
 * Waits so long while the transfers under way go on, open to interrupts.
 * False, at once, when the session's deadline comes first.
 */
extern bool sis_session_sleep(SisSession *session, int64 milliseconds);

/*
 * Waits until one of the transfers under way has ended, or that time.  False
 * when the session's deadline is past.
 */
extern bool sis_session_wait(SisSession *session, TimestampTz until);

/* What is left until the deadline, in milliseconds; 0 when it is past. */
extern int64 sis_session_remaining(const SisSession *session);

/*
 * Lets the transfers under way go on without waiting: for a caller who works
 * for long on what has come while more is on its way.
 */
extern void sis_session_turn(SisSession *session);

/* ----------
 * Transfers; for http.c and sftp.c
 * ----------
 */

/* Where the bytes of a transfer go, and how many it may be. */
typedef struct SisTarget
{
	SisWrite	write;			/* NULL: thrown away */
	void	   *arg;
	int64		max_size;		/* of the body, after decoding */
} SisTarget;

/* How a transfer ended. */
typedef enum SisEnd
{
	SIS_END_NONE,				/* it is under way */
	SIS_END_DONE,				/* complete */
	SIS_END_FAILED,				/* libcurl says so: sis_transfer_code() */
	SIS_END_TOO_LARGE,			/* more than max_size */
	SIS_END_STALLED,			/* no byte for too long */
	SIS_END_DEADLINE			/* the session's timeout */
} SisEnd;

/*
 * A new transfer in the current memory context, with the options set that all
 * share.  host and port are what messages name.  An SFTP transfer is one that
 * must lose its sockets before libcurl can let go of it.
 */
extern SisTransfer *sis_transfer_create(SisSession *session,
										const char *host, int port,
										bool is_sftp,
										const SisTarget *target);

/* libcurl's handle (CURL *), to set options on before the start. */
extern void *sis_transfer_handle(SisTransfer *transfer);

/*
 * Sets an option of libcurl on it.  A macro, since options have many types;
 * throws when libcurl refuses.
 */
#define sis_transfer_set(transfer, option, value) \
	sis_transfer_check_set(curl_easy_setopt(sis_transfer_handle(transfer), \
											option, value), #option)
extern void sis_transfer_check_set(int code, const char *option);

/* http only: refuses to connect to anything but this machine. */
extern void sis_transfer_loopback_only(SisTransfer *transfer);

extern void sis_transfer_start(SisTransfer *transfer);

/* Waits until it has ended; true when it is complete. */
extern bool sis_transfer_wait(SisTransfer *transfer);

extern SisEnd sis_transfer_end(const SisTransfer *transfer);
extern int	sis_transfer_code(const SisTransfer *transfer);	/* CURLcode */

/*
 * What libcurl said of the failure, printable and of bounded length; "" when
 * it said nothing.
 */
extern char *sis_transfer_text(const SisTransfer *transfer);

/*
 * True when a failure to connect, to receive or in time may have passed by the
 * next try; the session's deadline has not.
 */
extern bool sis_transfer_worth_retry(const SisTransfer *transfer);

/*
 * Writes down why the transfer failed, as SI004 (SI002 where the login was
 * denied, SI006 for too many bytes).  Always returns false.
 */
extern bool sis_transfer_fail(const SisTransfer *transfer,
							  SisFailure *failure);

/* Ends and frees it, also while it is under way. */
extern void sis_transfer_close(SisTransfer *transfer);

#endif
