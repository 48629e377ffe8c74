/*
 * seen.c
 *		Which IDs may have been seen before, in memory of a fixed size.
 */
#include "postgres.h"

#include "base/fingerprint.h"
#include "base/seen.h"

#define WORDS_PER_LINE	8		/* 64 bytes, a cache line */
#define BITS_PER_LINE	(WORDS_PER_LINE * 64)
#define BITS_PER_ID		7
#define FETCH_AHEAD		16		/* lines on their way from memory */

struct SisSeen
{
	uint64		mask;			/* number of lines, less one */
	uint64	   *lines;
};

SisSeen *
sis_seen_create(int kb)
{
	SisSeen    *seen = palloc(sizeof(SisSeen));
	Size		size = (Size) kb * 1024;

	seen->mask = size / (WORDS_PER_LINE * sizeof(uint64)) - 1;
	seen->lines = palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	return seen;
}

uint64
sis_seen_hash(const char *id, int len)
{
	return sis_hash64(id, len, 0);
}

static inline uint64 *
line_of(const SisSeen *seen, uint64 hash)
{
	return seen->lines + (hash & seen->mask) * WORDS_PER_LINE;
}

static bool
add_one(uint64 *line, uint64 hash)
{
	bool		all_set = true;

	/* the line's bits must not depend on the bits that chose the line */
	hash *= UINT64CONST(0x9E3779B97F4A7C15);
	hash >>= 64 - 9 * BITS_PER_ID;
	for (int i = 0; i < BITS_PER_ID; i++, hash >>= 9)
	{
		uint64		bit = UINT64CONST(1) << (hash & 63);
		uint64	   *word = &line[hash % BITS_PER_LINE / 64];

		if ((*word & bit) == 0)
		{
			all_set = false;
			*word |= bit;
		}
	}
	return all_set;
}

void
sis_seen_add(SisSeen *seen, const uint64 *hashes, int n, bool *old)
{
	for (int i = 0; i < Min(n, FETCH_AHEAD); i++)
		__builtin_prefetch(line_of(seen, hashes[i]), 1);
	for (int i = 0; i < n; i++)
	{
		if (i + FETCH_AHEAD < n)
			__builtin_prefetch(line_of(seen, hashes[i + FETCH_AHEAD]), 1);
		old[i] = add_one(line_of(seen, hashes[i]), hashes[i]);
	}
}
