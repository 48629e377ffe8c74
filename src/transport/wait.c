/*
 * wait.c
 *		Where libcurl's sockets meet latch, deadline and interrupts.
 *
 * How it works: libcurl says by two callbacks which sockets it wants watched
 * and when it wants to be called; we wait for these in a WaitEventSet that
 * also has the backend's latch and the postmaster's death, and tell libcurl
 * what happened.  It never blocks, so a cancel, a timeout or a shutdown is
 * served at once.
 *
 * Two things about libcurl to know:
 *
 * - It resolves names in threads of its own, which inherit the signal mask.
 *   PostgreSQL's signal handlers must not run in them, so all signals are
 *   blocked while libcurl runs.  Nothing may throw in between: no callback
 *   allocates or reports.
 *
 * - Removing an SFTP transfer in mid-file closes its remote file first, and
 *   waits for the answer for minutes.  With its socket shut down there is
 *   nothing to wait for.
 *
 * - At the end of each SFTP file it does the same, in a loop that knows no
 *   limit and does not return to us.  All it does there is to tell how far it
 *   is, so that is where we look whether it should still wait.  Between two
 *   tellings it turns round and round (7.88), or sleeps for a second (8.23),
 *   which only a signal ends: so from the first telling on they are let in, and
 *   shut out again should it come to resolving a name.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "base/compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "transport/wait.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * 16 connections, each trying two addresses at once, and for each the pipe
 * from a resolver thread: less than 64.
 */
#define MAX_SOCKETS		64
#define MAX_EVENTS		16

/*
 * Tellings in one call of libcurl: a few, when all goes well.  After this many
 * it is waiting, and need not do so by turning round and round.
 */
#define MANY_TELLINGS	100
#define TELLING_PAUSE	1000	/* microseconds */

/*
 * Some releases (8.14 is one) want to be called again at once, each time, while
 * an SFTP file is on its way, whether or not anything has come.  After this
 * many calls on which no socket had anything to say, they have to wait a little.
 */
#define MANY_HASTES		20
#define HASTE_PAUSE		10		/* milliseconds */

typedef struct Watched
{
	curl_socket_t fd;
	uint32		events;			/* WL_SOCKET_… */
} Watched;

struct SisWait
{
	CURLM	   *multi;
	TimestampTz deadline;
	TimestampTz timer;			/* when libcurl wants to be called; 0: never */
	int			nhastes;		/* turns at once, since a socket was ready */
	WaitEventSet *set;
	bool		set_is_stale;	/* not what "watched" says */
	int			nwatched;
	Watched		watched[MAX_SOCKETS];
	int			nsockets;
	curl_socket_t sockets[MAX_SOCKETS]; /* opened by libcurl */
	dlist_head	handles;
	sigset_t	signals;		/* blocked outside of libcurl */
	int			ntellings;		/* of an SFTP transfer, in this call of libcurl */
	MemoryContextCallback callback;
};

/* ----------
 * Callbacks of libcurl.  NB: must not ereport.
 * ----------
 */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socketp)
{
	SisWait    *wait = arg;
	uint32		events = 0;
	int			i;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;

	for (i = 0; i < wait->nwatched && wait->watched[i].fd != fd; i++)
		;
	/* even with equal events: the number may have gone to another socket */
	wait->set_is_stale = true;
	if (events == 0)
	{
		if (i < wait->nwatched)
			wait->watched[i] = wait->watched[--wait->nwatched];
		return 0;
	}
	if (i == MAX_SOCKETS)
		return -1;
	if (i == wait->nwatched)
		wait->nwatched++;
	wait->watched[i].fd = fd;
	wait->watched[i].events = events;
	return 0;
}

static int
on_timer(CURLM *multi, long milliseconds, void *arg)
{
	SisWait    *wait = arg;

	wait->timer = milliseconds < 0 ? 0 :
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
	return 0;
}

static bool
is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) address;

		return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
	}
	if (address->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) address;

		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
	}
	return false;
}

/* Sockets count among the backend's descriptors, and can be shut down. */
static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	SisHandle  *handle = arg;
	SisWait    *wait = handle->wait;
	curl_socket_t fd;

	if (handle->loopback_only && !is_loopback(&address->addr))
	{
		handle->refused_address = true;
		return CURL_SOCKET_BAD;
	}
	if (wait->nsockets == MAX_SOCKETS || !AcquireExternalFD())
		return CURL_SOCKET_BAD;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
				address->protocol);
	if (fd < 0)
	{
		ReleaseExternalFD();
		return CURL_SOCKET_BAD;
	}
	wait->sockets[wait->nsockets++] = fd;
	return fd;
}

static int
on_close(void *arg, curl_socket_t fd)
{
	SisWait    *wait = arg;

	for (int i = 0; i < wait->nsockets; i++)
	{
		if (wait->sockets[i] == fd)
		{
			wait->sockets[i] = wait->sockets[--wait->nsockets];
			ReleaseExternalFD();
			break;
		}
	}
	return close(fd);
}

static void
shut_sockets_down(SisWait *wait)
{
	for (int i = 0; i < wait->nsockets; i++)
		shutdown(wait->sockets[i], SHUT_RDWR);
}

/* As they are outside of libcurl. */
static void
allow_signals(const SisWait *wait)
{
	sigprocmask(SIG_SETMASK, &wait->signals, NULL);
}

/* Notes what was blocked before, unless that is NULL. */
static void
block_signals(sigset_t *before)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, before);
}

/* A thread is about to start. */
static int
on_resolve(void *resolver, void *reserved, void *arg)
{
	block_signals(NULL);
	return 0;
}

/* Ends a wait inside libcurl that is to end. */
static int
on_progress(void *arg, curl_off_t total, curl_off_t now,
			curl_off_t up_total, curl_off_t up_now)
{
	SisHandle  *handle = arg;
	SisWait    *wait = handle->wait;

	if (!handle->is_sftp)
		return 0;
	allow_signals(wait);
	if (++wait->ntellings >= MANY_TELLINGS)
		pg_usleep(TELLING_PAUSE);
	if (!QueryCancelPending && !ProcDiePending &&
		GetCurrentTimestamp() < wait->deadline)
		return 0;
	/* else libcurl would go on to say farewell */
	shut_sockets_down(wait);
	return 1;
}

/* ----------
 * Calls into libcurl
 * ----------
 */

/* Every call that may start a thread or run a callback stands between these. */
static void
enter_libcurl(SisWait *wait)
{
	wait->ntellings = 0;
	block_signals(&wait->signals);
}

static void
leave_libcurl(const SisWait *wait)
{
	allow_signals(wait);
}

static void
check_multi(CURLMcode code)
{
	if (code == CURLM_OUT_OF_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("libcurl could not allocate memory.")));
	if (code != CURLM_OK)
		elog(ERROR, "libcurl: %s", curl_multi_strerror(code));
}

static void
start_libcurl(void)
{
	static bool started = false;

	if (started)
		return;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl")));
	started = true;
}

static void
act(SisWait *wait, curl_socket_t fd, int events)
{
	CURLMcode	code;
	int			running;

	enter_libcurl(wait);
	code = curl_multi_socket_action(wait->multi, fd, events, &running);
	leave_libcurl(wait);
	check_multi(code);
}

/* The timer is good for one call: libcurl sets it again when it wants more. */
static void
act_on_timer(SisWait *wait)
{
	if (wait->timer == 0 || wait->timer > GetCurrentTimestamp())
		return;
	wait->timer = 0;
	act(wait, CURL_SOCKET_TIMEOUT, 0);
}

/* ----------
 * Making and freeing
 * ----------
 */

/* On each way out.  NB: must not ereport. */
static void
clean_up(void *arg)
{
	SisWait    *wait = arg;

	shut_sockets_down(wait);
	while (!dlist_is_empty(&wait->handles))
		sis_wait_free(dlist_head_element(SisHandle, node, &wait->handles));
	if (wait->multi != NULL)
	{
		enter_libcurl(wait);
		curl_multi_cleanup(wait->multi);
		leave_libcurl(wait);
		wait->multi = NULL;
	}
	if (wait->set != NULL)
	{
		FreeWaitEventSet(wait->set);
		wait->set = NULL;
	}
}

SisWait *
sis_wait_create(TimestampTz deadline, int max_connections)
{
	SisWait    *wait = palloc0(sizeof(SisWait));
	CURLM	   *multi;

	start_libcurl();
	wait->deadline = deadline;
	wait->set_is_stale = true;
	dlist_init(&wait->handles);
	wait->callback.func = clean_up;
	wait->callback.arg = wait;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &wait->callback);

	wait->multi = multi = curl_multi_init();
	if (multi == NULL)
		check_multi(CURLM_OUT_OF_MEMORY);
	check_multi(curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket));
	check_multi(curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, wait));
	check_multi(curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer));
	check_multi(curl_multi_setopt(multi, CURLMOPT_TIMERDATA, wait));
	check_multi(curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
								  (long) max_connections));
	check_multi(curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
								  (long) max_connections));
	return wait;
}

void
sis_wait_destroy(SisWait *wait)
{
	clean_up(wait);
}

static void
check_easy(CURLcode code)
{
	if (code != CURLE_OK)
		elog(ERROR, "libcurl: %s", curl_easy_strerror(code));
}

void
sis_wait_make(SisWait *wait, SisHandle *handle)
{
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
		check_multi(CURLM_OUT_OF_MEMORY);
	handle->easy = easy;
	handle->wait = wait;
	dlist_push_tail(&wait->handles, &handle->node);

	check_easy(curl_easy_setopt(easy, CURLOPT_PRIVATE, handle));
	check_easy(curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open));
	check_easy(curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, handle));
	/* a connection, and so this argument, outlives the handle */
	check_easy(curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close));
	check_easy(curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, wait));
	/* SIGALRM is the backend's */
	check_easy(curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L));
	/* no waiting for a resolver thread that hangs */
	check_easy(curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L));
	check_easy(curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION,
								on_resolve));
	check_easy(curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress));
	check_easy(curl_easy_setopt(easy, CURLOPT_XFERINFODATA, handle));
	check_easy(curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L));
}

void
sis_wait_start(SisHandle *handle)
{
	CURLMcode	code;

	enter_libcurl(handle->wait);
	code = curl_multi_add_handle(handle->wait->multi, handle->easy);
	leave_libcurl(handle->wait);
	check_multi(code);
	handle->running = true;
}

void
sis_wait_free(SisHandle *handle)
{
	if (handle->wait == NULL)
		return;
	if (handle->is_sftp && handle->running && !handle->ended)
		shut_sockets_down(handle->wait);
	enter_libcurl(handle->wait);
	if (handle->running)
		curl_multi_remove_handle(handle->wait->multi, handle->easy);
	curl_easy_cleanup(handle->easy);
	leave_libcurl(handle->wait);
	dlist_delete(&handle->node);
	handle->wait = NULL;
	handle->easy = NULL;
	handle->running = false;
}

void
sis_wait_resume(SisHandle *handle)
{
	SisWait    *wait = handle->wait;
	CURLcode	code;

	enter_libcurl(wait);
	code = curl_easy_pause(handle->easy, CURLPAUSE_CONT);
	leave_libcurl(wait);

	/* 8.23 hands on what it kept in there, and asks for nothing afterwards */
	wait->timer = GetCurrentTimestamp();
	wait->nhastes = 0;
	if (code == CURLE_OK)
		return;
	if (handle->is_sftp)
		shut_sockets_down(wait);
	handle->result = code;
	handle->ended = true;
}

/* ----------
 * Waiting
 * ----------
 */

/* A WaitEventSet cannot lose a socket, so it is made anew. */
static void
renew_set(SisWait *wait)
{
	if (wait->set != NULL)
	{
		WaitEventSet *old = wait->set;

		wait->set = NULL;
		FreeWaitEventSet(old);
	}
	wait->set = sis_wait_event_set_create(wait->nwatched + 2);
	AddWaitEventToSet(wait->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
					  NULL);
	for (int i = 0; i < wait->nwatched; i++)
		AddWaitEventToSet(wait->set, wait->watched[i].events,
						  wait->watched[i].fd, NULL, NULL);
	wait->set_is_stale = false;
}

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = sis_wait_event_new("SisSyncFetch");
	return event;
}

/* When to wake up, in milliseconds from now. */
static long
time_left(SisWait *wait, TimestampTz until)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = wait->deadline;

	wait->nhastes = wait->timer != 0 && wait->timer <= now ?
		wait->nhastes + 1 : 0;
	if (until != 0)
		next = Min(next, until);
	if (wait->timer != 0 && wait->nhastes < MANY_HASTES)
		next = Min(next, wait->timer);
	else if (wait->timer != 0)
		next = Min(next, TimestampTzPlusMilliseconds(now, HASTE_PAUSE));
	return TimestampDifferenceMilliseconds(now, next);
}

/* Marks the handles whose transfers are over. */
static void
take_results(SisWait *wait)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(wait->multi, &left)) != NULL)
	{
		void	   *handle;

		if (message->msg != CURLMSG_DONE)
			continue;
		check_easy(curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
									 &handle));
		((SisHandle *) handle)->result = message->data.result;
		((SisHandle *) handle)->ended = true;
	}
}

/* What happened on a socket, unless libcurl has let go of it by now. */
static void
act_on_socket(SisWait *wait, const WaitEvent *event)
{
	int			events = 0;

	if ((event->events & WL_SOCKET_READABLE) != 0)
		events |= CURL_CSELECT_IN;
	if ((event->events & WL_SOCKET_WRITEABLE) != 0)
		events |= CURL_CSELECT_OUT;
	for (int i = 0; i < wait->nwatched; i++)
	{
		if (wait->watched[i].fd == event->fd)
		{
			act(wait, event->fd, events);
			return;
		}
	}
}

bool
sis_wait_turn(SisWait *wait, TimestampTz until)
{
	WaitEvent	events[MAX_EVENTS];
	int			n;

	CHECK_FOR_INTERRUPTS();
	if (wait->set_is_stale)
		renew_set(wait);
	n = WaitEventSetWait(wait->set, time_left(wait, until), events, MAX_EVENTS,
						 wait_event());
	for (int i = 0; i < n; i++)
	{
		if ((events[i].events & WL_LATCH_SET) != 0)
			ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();

	for (int i = 0; i < n; i++)
	{
		if ((events[i].events & WL_SOCKET_MASK) != 0)
		{
			wait->nhastes = 0;
			act_on_socket(wait, &events[i]);
		}
	}
	act_on_timer(wait);
	take_results(wait);
	/* what ended a wait inside libcurl is no failure of the transfer */
	CHECK_FOR_INTERRUPTS();
	return GetCurrentTimestamp() < wait->deadline;
}

TimestampTz
sis_wait_deadline(const SisWait *wait)
{
	return wait->deadline;
}
