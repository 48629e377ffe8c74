/*
 * wait.h
 *		Where libcurl's sockets meet latch, deadline and interrupts.
 *
 * One libcurl multi handle, driven by the events of its sockets.  For
 * transfer.c only.
 */
#ifndef SIS_WAIT_H
#define SIS_WAIT_H

#include <curl/curl.h>

#include "datatype/timestamp.h"
#include "lib/ilist.h"

typedef struct SisWait SisWait;

/* A libcurl easy handle in the care of a SisWait; a part of its owner. */
typedef struct SisHandle
{
	dlist_node	node;
	SisWait    *wait;			/* NULL: freed, or not yet made */
	CURL	   *easy;
	bool		running;		/* added to the multi handle */
	bool		is_sftp;		/* its sockets must be shut down before libcurl
								 * can let go of it in mid-file */
	bool		loopback_only;
	bool		refused_address;	/* told to connect elsewhere */
	bool		ended;			/* result is set */
	CURLcode	result;
} SisHandle;

/*
 * In the current memory context.  On whatever way out of it all sockets are
 * shut down, then all handles freed: that takes no time, also in mid-file.
 */
extern SisWait *sis_wait_create(TimestampTz deadline, int max_connections);

/* Does now what the end of the memory context would do. */
extern void sis_wait_destroy(SisWait *wait);

/* Makes an easy handle with the options set that waiting depends on. */
extern void sis_wait_make(SisWait *wait, SisHandle *handle);

/* Begins its transfer. */
extern void sis_wait_start(SisHandle *handle);

/* Frees an easy handle, if there is one.  Does not throw. */
extern void sis_wait_free(SisHandle *handle);

/* Goes on after a callback returned CURL_WRITEFUNC_PAUSE. */
extern void sis_wait_resume(SisHandle *handle);

/*
 * Waits until something happens, or that time (0: no such limit), or the
 * deadline, and lets libcurl act on it; then "ended" is set in the handles
 * whose transfers are over.  False when the deadline is past.
 */
extern bool sis_wait_turn(SisWait *wait, TimestampTz until);

extern TimestampTz sis_wait_deadline(const SisWait *wait);

#endif
