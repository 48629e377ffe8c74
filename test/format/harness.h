/*
 * harness.h
 *		What the harnesses of src/format share: arguments, counting checks,
 *		random numbers, buffers, time.
 */
#ifndef HARNESS_H
#define HARNESS_H

typedef struct Buffer
{
	char	   *data;			/* always a zero behind len; NULL while empty */
	size_t		len;
	size_t		size;
} Buffer;

extern void put(Buffer *buf, const char *data, size_t len);
extern void put_string(Buffer *buf, const char *string);
extern void put_format(Buffer *buf, const char *format,...) pg_attribute_printf(2, 3);

/*
 * Reads "[--seed N] [AMOUNT]", says and sets the seed.  Returns how much is to be
 * tried: AMOUNT, else the default.
 */
extern double begin_checks(int argc, char **argv, double amount);

/* Counts a check, and names it when it fails. */
extern void check(bool ok, const char *format,...) pg_attribute_printf(2, 3);

/* Prints "N passed, M failed"; the exit code. */
extern int	finish_checks(void);

/* xorshift64*: the same numbers everywhere for one seed. */
extern uint32 random_below(uint32 n);

extern double seconds(void);

#endif
