/*
 * harness.c
 *		What the harnesses of src/format share: arguments, counting checks,
 *		random numbers, buffers, time.
 */
#include "postgres.h"

#include <stdlib.h>
#include <time.h>

#include "harness.h"

static int	passed = 0;
static int	failed = 0;
static uint64 random_state;

void
put(Buffer *buf, const char *data, size_t len)
{
	if (len == 0)
		return;
	if (buf->len + len + 1 > buf->size)
	{
		buf->size = 2 * (buf->len + len + 1);
		buf->data = realloc(buf->data, buf->size);
		if (buf->data == NULL)
			abort();
	}
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
put_string(Buffer *buf, const char *string)
{
	put(buf, string, strlen(string));
}

void
put_format(Buffer *buf, const char *format,...)
{
	char		text[1024];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put_string(buf, text);
}

double
begin_checks(int argc, char **argv, double amount)
{
	uint64		seed = (uint64) time(NULL);

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 10);
		else
			amount = strtod(argv[i], NULL);
	}

	/* an input may end the harness: nothing may be left in a buffer then */
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed " UINT64_FORMAT "\n", seed);
	random_state = seed * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	return amount;
}

void
check(bool ok, const char *format,...)
{
	va_list		args;

	if (ok)
	{
		passed++;
		return;
	}
	failed++;
	printf("FAILED: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

int
finish_checks(void)
{
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0 ? 1 : 0;
}

uint32
random_below(uint32 n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32) ((random_state * UINT64CONST(2685821657736338717)) >> 32) % n;
}

double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}
