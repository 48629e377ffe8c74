/*
 * fuzz.h
 *		What the fuzzers share.
 *
 * A fuzzer defines LLVMFuzzerTestOneInput(): one input, judged and forgotten.
 * What must hold of all inputs is said by FUZZ_CHECK, which aborts.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "shim.h"

#define FUZZ_CHECK(condition, ...) \
	do { \
		if (!(condition)) \
			fuzz_broken(__FILE__, __LINE__, #condition, __VA_ARGS__); \
	} while (0)

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

extern void fuzz_broken(const char *file, int line, const char *condition,
						const char *format,...)
			pg_attribute_printf(4, 5) __attribute__((noreturn));

/*
 * A number for an input that is the same each time: for the choices that are
 * not in its bytes.
 */
extern uint64 fuzz_hash(const uint8 *data, size_t size);

/* Is a text UTF-8 without zero bytes?  By the standard's table, not by ours. */
extern bool fuzz_is_text(const char *data, size_t len);

/*
 * The code point of the character at p and its length; length 0 when there is
 * no valid one.
 */
extern uint32 fuzz_character(const unsigned char *p, const unsigned char *end,
							 int *len);

/* What PostgreSQL's own JSON parser sees in a text. */
typedef struct FuzzJson
{
	int			depth;
	bool		large;			/* a number that may not fit 64 bits, nor a double */
	bool		beyond_numeric; /* a number that numeric cannot hold */
} FuzzJson;

/* Does it take the text? */
extern bool fuzz_parse_json(const char *data, size_t len, FuzzJson *found);

/* And would jsonb? */
extern bool fuzz_is_jsonb(const char *data, size_t len);

#endif
