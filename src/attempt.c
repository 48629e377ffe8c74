/*
 * attempt.c
 *		Transactions of a procedure that commits, and work in them that may fail.
 */
#include "postgres.h"

#include "access/xact.h"
#include "attempt.h"
#include "base/spi.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

static void
set_transaction(void)
{
	(void) set_config_option("transaction_isolation", "read committed",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	(void) set_config_option("transaction_read_only", "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

void
sis_commit(void)
{
	SPI_commit();
	set_transaction();
}

ErrorData *
sis_attempt_commit(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		/* SPI has aborted the transaction and begun the next */
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	set_transaction();
	return error;
}

ErrorData *
sis_attempt_here(void (*work) (void *), void *arg)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(cxt);
		work(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return error;
}

typedef struct Work
{
	void		(*work) (void *arg);
	void	   *arg;
} Work;

/* With a connection of its own: an error forgets its named relations. */
static void
work_connected(void *arg)
{
	Work	   *work = arg;
	MemoryContext cxt = CurrentMemoryContext;

	sis_connect(0);
	MemoryContextSwitchTo(cxt);
	work->work(work->arg);
	SPI_finish();
}

ErrorData *
sis_attempt(void (*work) (void *), void *arg)
{
	Work		connected = {work, arg};

	return sis_attempt_here(work_connected, &connected);
}
