/*
 * shim.c
 *		The few backend functions that src/format needs, without a server.
 *
 * Declared by PostgreSQL's own headers, so that a changed signature is
 * noticed.  Each chunk of a memory context is a malloc of its own: the address
 * sanitizer sees every byte past an end and every use after a reset, and the
 * leak check whatever a context callback forgot.  UTF-8 is verified by
 * PostgreSQL's own code, from libpgcommon.
 */
#include "postgres.h"

#include <stdlib.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "shim.h"

typedef struct Context Context;

typedef struct Chunk
{
	struct Chunk *prev;
	struct Chunk *next;
	void	   *unused;			/* for the alignment */
	Context    *context;		/* last: up to 15, GetMemoryChunkContext() looks
								 * there */
} Chunk;

struct Context
{
	MemoryContextData header;	/* its parent, children and callbacks */
	Chunk		chunks;			/* the ring's beginning */
};

static Context top = {
	.header = {.type = T_AllocSetContext},
	.chunks = {&top.chunks, &top.chunks, NULL, &top}
};

MemoryContext CurrentMemoryContext = &top.header;
MemoryContext TopMemoryContext = &top.header;
volatile sig_atomic_t InterruptPending = false;
sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;

bool		shim_quiet = false;

static void give_up(const char *what) __attribute__((noreturn));

static void
give_up(const char *what)
{
	fputs(what, stderr);
	fputc('\n', stderr);
	abort();
}

static void *
chunk_link(Chunk *chunk, Context *context)
{
	if (chunk == NULL)
		give_up("out of memory");
	chunk->context = context;
	chunk->prev = &context->chunks;
	chunk->next = context->chunks.next;
	chunk->prev->next = chunk;
	chunk->next->prev = chunk;
	return chunk + 1;
}

static Chunk *
chunk_unlink(void *pointer)
{
	Chunk	   *chunk = (Chunk *) pointer - 1;

	chunk->prev->next = chunk->next;
	chunk->next->prev = chunk->prev;
	return chunk;
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return chunk_link(malloc(sizeof(Chunk) + size), (Context *) context);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return chunk_link(calloc(1, sizeof(Chunk) + size), (Context *) context);
}

void *
palloc(Size size)
{
	return MemoryContextAlloc(CurrentMemoryContext, size);
}

void *
palloc0(Size size)
{
	return MemoryContextAllocZero(CurrentMemoryContext, size);
}

void *
repalloc(void *pointer, Size size)
{
	Chunk	   *chunk = chunk_unlink(pointer);
	Context    *context = chunk->context;

	return chunk_link(realloc(chunk, sizeof(Chunk) + size), context);
}

void
pfree(void *pointer)
{
	free(chunk_unlink(pointer));
}

#if PG_VERSION_NUM >= 160000
MemoryContext
GetMemoryChunkContext(void *pointer)
{
	return &((Chunk *) pointer - 1)->context->header;
}
#endif

void
MemoryContextRegisterResetCallback(MemoryContext context,
								   MemoryContextCallback *cb)
{
	cb->next = context->reset_cbs;
	context->reset_cbs = cb;
}

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name,
							  Size minContextSize, Size initBlockSize,
							  Size maxBlockSize)
{
	Context    *context = calloc(1, sizeof(Context));

	if (context == NULL)
		give_up("out of memory");
	context->header.type = T_AllocSetContext;
	context->header.parent = parent;
	context->header.nextchild = parent->firstchild;
	parent->firstchild = &context->header;
	context->chunks.prev = context->chunks.next = &context->chunks;
	return &context->header;
}

void
MemoryContextReset(MemoryContext context)
{
	Chunk	   *chunks = &((Context *) context)->chunks;

	while (context->firstchild != NULL)
		MemoryContextDelete(context->firstchild);
	while (context->reset_cbs != NULL)
	{
		MemoryContextCallback *cb = context->reset_cbs;

		context->reset_cbs = cb->next;
		cb->func(cb->arg);
	}
	while (chunks->next != chunks)
		pfree(chunks->next + 1);
}

void
MemoryContextDelete(MemoryContext context)
{
	MemoryContext *link = &context->parent->firstchild;

	MemoryContextReset(context);
	while (*link != context)
		link = &(*link)->nextchild;
	*link = context->nextchild;
	free(context);
}

void
shim_reset(void)
{
	CurrentMemoryContext = &top.header;
	MemoryContextReset(&top.header);
}

char *
pstrdup(const char *in)
{
	return pnstrdup(in, strlen(in));
}

char *
pnstrdup(const char *in, Size len)
{
	char	   *out;

	len = strnlen(in, len);
	out = palloc(len + 1);
	memcpy(out, in, len);
	out[len] = '\0';
	return out;
}

/* Somebody has cancelled. */
void
ProcessInterrupts(void)
{
	InterruptPending = false;
	shim_throw();
}

/* Errors are told apart by nothing: one is thrown, or it is not. */
void
shim_throw(void)
{
	if (PG_exception_stack == NULL)
		give_up(": raised an error");
	siglongjmp(*PG_exception_stack, 1);
}

void
pg_re_throw(void)
{
	shim_throw();
}

ErrorData *
CopyErrorData(void)
{
	return palloc0(sizeof(ErrorData));
}

void
FlushErrorState(void)
{
}

void
ReThrowError(ErrorData *edata)
{
	shim_throw();
}

bool
errstart(int elevel, const char *domain)
{
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return true;
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	if (!shim_quiet)
		fputs(fmt, stderr);
	return 0;
}

int
errmsg_internal(const char *fmt,...)
{
	if (!shim_quiet)
		fputs(fmt, stderr);
	return 0;
}

int
errdetail(const char *fmt,...)
{
	return 0;
}

int
errdetail_internal(const char *fmt,...)
{
	return 0;
}

int
errhint(const char *fmt,...)
{
	return 0;
}

int
err_generic_string(int field, const char *str)
{
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	shim_throw();
}

void
ExceptionalCondition(const char *conditionName,
#if PG_VERSION_NUM < 160000
					 const char *errorType,
#endif
					 const char *fileName, int lineNumber)
{
	give_up(conditionName);
}

/* WIN1252 to UTF-8, as the server does it: stops at what has no meaning. */
int
pg_do_encoding_conversion_buf(Oid proc, int src_encoding, int dest_encoding,
							  unsigned char *src, int srclen,
							  unsigned char *dst, int dstlen, bool noError)
{
	static const pg_wchar c1[32] = {
		0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
		0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017D, 0,
		0, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
		0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0, 0x017E, 0x0178
	};
	int			n;

	/* the same cap as in mbutils.c */
	if (srclen >= (dstlen - 1) / MAX_CONVERSION_GROWTH)
		srclen = Max(0, (dstlen - 1) / MAX_CONVERSION_GROWTH);
	for (n = 0; n < srclen; n++)
	{
		pg_wchar	c = src[n];

		if (c >= 0x80 && c < 0xA0)
			c = c1[c - 0x80];
		if (c == 0)
			break;
		unicode_to_utf8(c, dst);
		dst += pg_utf_mblen(dst);
	}
	*dst = '\0';
	return n;
}
