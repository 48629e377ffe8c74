/*
 * spool.c
 *		What was fetched, in memory or in an encrypted temporary file.
 *
 * A file that is fetched may hold passwords and names that no mapping keeps,
 * and those must not reach a disk where somebody can read them.  So what does
 * not stay in memory is encrypted on its way into a temporary file: AES-256 in
 * counter mode, under a random key that only this backend's memory holds, and
 * that is wiped at the end.  Counter mode lets any place be read without the
 * ones before it.
 *
 * The file belongs to the spool's memory context and not to a transaction, since
 * only then can a reset callback close it whatever has happened to the
 * transaction by then.  It counts against temp_file_limit, and PostgreSQL removes
 * what a crash left.  For such a file temp_tablespaces is not looked at, so that
 * no catalog is read while a source is being fetched.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "transport/spool.h"

/* So much stays in memory; beyond it, so much is encrypted in one go. */
#define MEMORY_SIZE		(1024 * 1024)
#define CHUNK_SIZE		(64 * 1024)

#define KEY_SIZE		32
#define BLOCK_SIZE		16

/* A place in the key stream. */
typedef struct Cipher
{
	EVP_CIPHER_CTX *ctx;
	int64		offset;			/* of the next byte */
} Cipher;

struct SisSpool
{
	MemoryContext context;
	int64		size;
	char	   *memory;			/* the first bytes, or the last ones to go into
								 * the file, as they came */
	int			memory_size;
	int			nmemory;
	File		file;			/* 0: all is in memory */
	int64		nfile;			/* bytes in it */
	unsigned char key[KEY_SIZE];
	Cipher		writer;
	Cipher		reader;
	MemoryContextCallback callback;
};

/* NB: must not ereport. */
static void
clean_up(void *arg)
{
	SisSpool   *spool = arg;

	if (spool->file > 0)
		FileClose(spool->file);
	spool->file = 0;

	EVP_CIPHER_CTX_free(spool->writer.ctx);
	EVP_CIPHER_CTX_free(spool->reader.ctx);
	spool->writer.ctx = spool->reader.ctx = NULL;
	OPENSSL_cleanse(spool->key, KEY_SIZE);
}

SisSpool *
sis_spool_create(void)
{
	SisSpool   *spool = palloc0(sizeof(SisSpool));

	spool->context = CurrentMemoryContext;
	spool->callback.func = clean_up;
	spool->callback.arg = spool;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &spool->callback);
	return spool;
}

/* ----------
 * Encryption
 * ----------
 */

static void
check_cipher(bool good)
{
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not encrypt a temporary file")));
}

/* Goes to a place in the key stream. */
static void
seek_cipher(const SisSpool *spool, Cipher *cipher, int64 offset)
{
	unsigned char counter[BLOCK_SIZE] = {0};
	unsigned char skipped[BLOCK_SIZE] = {0};
	uint64		block = (uint64) offset / BLOCK_SIZE;
	int			within = (int) (offset % BLOCK_SIZE);
	int			len;

	if (cipher->ctx != NULL && cipher->offset == offset)
		return;
	if (cipher->ctx == NULL)
	{
		cipher->ctx = EVP_CIPHER_CTX_new();
		check_cipher(cipher->ctx != NULL);
	}
	for (int i = 0; i < 8; i++)
		counter[BLOCK_SIZE - 1 - i] = (unsigned char) (block >> (8 * i));
	check_cipher(EVP_EncryptInit_ex(cipher->ctx, EVP_aes_256_ctr(), NULL,
									spool->key, counter) == 1);
	if (within > 0)
		check_cipher(EVP_EncryptUpdate(cipher->ctx, skipped, &len, skipped,
									   within) == 1);
	cipher->offset = offset;
}

/* The same operation in both directions. */
static void
apply_cipher(Cipher *cipher, char *data, int len)
{
	int			done;

	check_cipher(EVP_EncryptUpdate(cipher->ctx, (unsigned char *) data, &done,
								   (unsigned char *) data, len) == 1);
	cipher->offset += len;
}

/* ----------
 * Writing
 * ----------
 */

static void
begin_file(SisSpool *spool)
{
	/* a key for each file: no place of a key stream is ever used twice */
	if (!pg_strong_random(spool->key, KEY_SIZE))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	spool->file = OpenTemporaryFile(true);
	spool->nfile = 0;
}

/* Moves what is in memory into the file. */
static void
flush_memory(SisSpool *spool)
{
	if (spool->file == 0)
		begin_file(spool);
	seek_cipher(spool, &spool->writer, spool->nfile);
	apply_cipher(&spool->writer, spool->memory, spool->nmemory);
	if ((int) FileWrite(spool->file, spool->memory, spool->nmemory,
						(off_t) spool->nfile,
						WAIT_EVENT_BUFFILE_WRITE) != spool->nmemory)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write to a temporary file: %m")));
	spool->nfile += spool->nmemory;
	spool->nmemory = 0;
}

/* Room for one more byte at least. */
static void
make_room(SisSpool *spool)
{
	if (spool->nmemory < spool->memory_size &&
		(spool->file == 0 || spool->nmemory < CHUNK_SIZE))
		return;
	if (spool->file == 0 && spool->memory_size < MEMORY_SIZE)
	{
		int			size = Max(spool->memory_size * 2, 8192);

		if (spool->memory == NULL)
			spool->memory = MemoryContextAlloc(spool->context, size);
		else
			spool->memory = repalloc(spool->memory, size);
		spool->memory_size = size;
		return;
	}
	flush_memory(spool);
}

void
sis_spool_write(void *arg, const char *data, int len)
{
	SisSpool   *spool = arg;

	while (len > 0)
	{
		int			room;

		make_room(spool);
		room = (spool->file == 0 ? spool->memory_size : CHUNK_SIZE) -
			spool->nmemory;
		room = Min(room, len);
		memcpy(spool->memory + spool->nmemory, data, room);
		spool->nmemory += room;
		spool->size += room;
		data += room;
		len -= room;
	}
}

/* ----------
 * Reading
 * ----------
 */

static int
read_at(void *arg, int64 offset, char *buf, int len)
{
	SisSpool   *spool = arg;
	int64		n;

	if (offset < 0 || offset >= spool->size || len <= 0)
		return 0;
	if (offset >= spool->nfile)
	{
		n = Min(len, spool->size - offset);
		memcpy(buf, spool->memory + (offset - spool->nfile), n);
		return (int) n;
	}

	CHECK_FOR_INTERRUPTS();
	n = FileRead(spool->file, buf, (int) Min(len, spool->nfile - offset),
				 (off_t) offset, WAIT_EVENT_BUFFILE_READ);
	if (n < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read from a temporary file: %m")));
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not read from a temporary file: it ends too early")));
	seek_cipher(spool, &spool->reader, offset);
	apply_cipher(&spool->reader, buf, (int) n);
	return (int) n;
}

int64
sis_spool_size(const SisSpool *spool)
{
	return spool->size;
}

SisBlob
sis_spool_blob(SisSpool *spool)
{
	SisBlob		blob;

	blob.size = spool->size;
	blob.read_at = read_at;
	blob.arg = spool;
	return blob;
}

/* ----------
 * The end
 * ----------
 */

void
sis_spool_free(SisSpool *spool)
{
	clean_up(spool);
	spool->size = spool->nfile = spool->nmemory = 0;
	if (spool->memory != NULL)
		pfree(spool->memory);
	spool->memory = NULL;
	spool->memory_size = 0;
}
