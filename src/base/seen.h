/*
 * seen.h
 *		Which IDs may have been seen before, in memory of a fixed size.
 *
 * A Bloom filter whose bits for one ID all lie in one cache line, so that an
 * ID costs one memory access (PostgreSQL's lib/bloomfilter.h spreads them over
 * the whole set: nine accesses, a fifth of the time of staging).
 */
#ifndef SIS_SEEN_H
#define SIS_SEEN_H

typedef struct SisSeen SisSeen;

/* An empty set of kb kilobytes (a power of two), in the current context. */
extern SisSeen *sis_seen_create(int kb);

/* What the set knows an ID by. */
extern uint64 sis_seen_hash(const char *id, int len);

/*
 * Adds n IDs by their hashes.  old[i] false: it was not there before.  True:
 * it may have been; at 26 bits an ID one in thirty thousand new ones is taken
 * for an old one.  Many at once are several times as fast as one by one, since
 * the lines of those to come are fetched meanwhile.
 */
extern void sis_seen_add(SisSeen *seen, const uint64 *hashes, int n, bool *old);

#endif
