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

/*
 * Adds an ID.  False: it was not there before.  True: it may have been; at 26
 * bits an ID one in thirty thousand new ones is taken for an old one.
 */
extern bool sis_seen_add(SisSeen *seen, const char *id, int len);

#endif
