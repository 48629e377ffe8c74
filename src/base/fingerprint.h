/*
 * fingerprint.h
 *		64 bits that change when a record's content changes.
 *
 * The algorithm is frozen: a changed bit would make every stored record look
 * updated.  It is XXH64 (Yann Collet's public specification, version 0.1.1,
 * section "XXH64 algorithm description") over, per column, one marker byte
 * and, for a value, its length as four bytes, low byte first, and its UTF-8
 * bytes.  test/format checks it against the specification's test vectors.
 */
#ifndef SIS_FINGERPRINT_H
#define SIS_FINGERPRINT_H

#include "base/record.h"

/* XXH64 of len bytes. */
extern uint64 sis_hash64(const void *data, size_t len, uint64 seed);

/*
 * The fingerprint of a finished record.  seed stands for what else decides
 * the content: the record description's version and the sync's options.
 * buf is scratch space, reset first.
 */
extern int64 sis_fingerprint(const SisRecord *record, uint64 seed,
							 StringInfo buf);

#endif
