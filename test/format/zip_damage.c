/*
 * zip_damage.c
 *		Zip files cut at every length, with pieces missing, with every byte
 *		changed, and mutated at random: no crash, no leak, and no data but
 *		the true ones.
 */
#include "postgres.h"

#include <stdlib.h>

#include "zip_harness.h"

/* ----------
 * Cut and changed
 * ----------
 */

/* Cut at every length, a zip file fails, and nothing of it is read. */
static void
run_cut(bool large)
{
	Buffer		zip = sample(large);
	Buffer		out = {0};

	for (size_t i = 0; i < 50 + (large ? 0 : zip.len); i++)
	{
		size_t		len = i < 50 ? zip.len * i / 50 : i - 50;
		char	   *copy = malloc(len + 1);
		Source		source = {copy, len};
		const char *text;

		memcpy(copy, zip.data, len);
		text = read_zip(&out, &source);
		check(begins(text, len > 0 ? CUT : "SI007 zip file \"z\" is empty: "),
			  "cut to %zu bytes: %s", len, text);
		free(copy);
	}
	free(zip.data);
	free(out.data);
}

/* A piece taken out of its middle, or zeroed. */
static void
run_holes(void)
{
	Buffer		zip = sample(true);
	Buffer		out = {0};

	for (int i = 0; i < 200; i++)
	{
		size_t		n = 1 + random_below(5000);
		size_t		at = random_below(zip.len - n);
		char	   *copy = malloc(zip.len);
		Source		source = {copy, zip.len - n};
		const char *text;

		memcpy(copy, zip.data, at);
		memcpy(copy + at, zip.data + at + n, zip.len - n - at);
		text = read_zip(&out, &source);
		check(begins(text, "SI00"), "%zu bytes missing at %zu: %s", n, at, text);

		memcpy(copy, zip.data, zip.len);
		memset(copy + at, 0, n);
		source.len = zip.len;
		text = read_zip(&out, &source);
		check(strstr(text, "SI00") != NULL, "%zu zeros at %zu: %s", n, at, text);
		free(copy);
	}
	free(zip.data);
	free(out.data);
}

/*
 * Whatever one byte is changed to: a failure, or the same data under the same
 * names.  (A byte may say nothing, or be part of a comment.)
 */
static void
run_flips(void)
{
	Buffer		zip = sample(false);
	Source		source = source_of(&zip);
	Buffer		out = {0};
	char	   *whole = strdup(read_zip(&out, &source));
	int			failures = 0;

	for (size_t at = 0; at < zip.len; at++)
	{
		char		old = zip.data[at];

		for (int i = 0; i < 12; i++)
		{
			const char *text;

			if (i < 8)
				zip.data[at] = old ^ (1 << i);
			else
				zip.data[at] = i == 8 ? 0 : i == 9 ? (char) 0xFF : random_below(256);
			source = source_of(&zip);
			text = read_zip(&out, &source);
			if (strstr(text, "SI00") != NULL)
				failures++;
			else
				check(strcmp(text, whole) == 0, "byte %zu changed to %d: %s",
					  at, zip.data[at], text);
		}
		zip.data[at] = old;
	}
	check(failures > (int) zip.len * 6, "changed bytes are noticed");
	printf("%d of %d changes of a byte failed\n", failures, (int) zip.len * 12);
	free(whole);
	free(zip.data);
	free(out.data);
}

/* ----------
 * Mutations
 * ----------
 */

static const char *const pieces[] = {
	"PK\003\004", "PK\001\002", "PK\005\006", "PK\006\006", "PK\006\007",
	"PK\007\010", "\xFF\xFF\xFF\xFF", "\xFF\xFF", "..", "/", "\x01",
};

static size_t
mutate(char *data, size_t len, size_t size)
{
	int			n = 1 + random_below(8);

	while (n-- > 0 && len > 0)
	{
		/* as often near the end, where the directory is */
		size_t		span = random_below(2) == 0 ? len : Min(len, 600);
		size_t		at = len - 1 - random_below(span);
		const char *piece = pieces[random_below(lengthof(pieces))];
		size_t		from = random_below(len);
		size_t		move = 1 + random_below(64);

		move = Min(move, len - Max(at, from));
		switch (random_below(8))
		{
			case 0:
				data[at] ^= 1 << random_below(8);
				break;
			case 1:
				data[at] = random_below(256);
				break;
			case 2:
				data[at] += random_below(3) - 1;
				break;
			case 3:
				if (at + strlen(piece) <= len)
					memcpy(data + at, piece, strlen(piece));
				break;
			case 4:				/* bytes copied within */
				memmove(data + at, data + from, move);
				break;
			case 5:				/* bytes gone */
				memmove(data + at, data + at + move, len - at - move);
				len -= move;
				break;
			case 6:				/* bytes put in */
				if (len + move > size)
					break;
				memmove(data + at + move, data + at, len - at);
				len += move;
				break;
			case 7:
				if (random_below(10) == 0)
					len = at;
		}
	}
	return len;
}

/*
 * No data come out of a mutated zip file but those that were put into the
 * sound one: the CRCs are as good as it.
 */
static bool
is_known(const char *text, const char *whole)
{
	while (*text != '\0')
	{
		const char *colon = strchr(text, ':');
		const char *next;

		if (begins(text, "SI00") || begins(text, "no failure"))
			return begins(text, "SI006") || begins(text, "SI007");
		if (colon == NULL)
			return false;
		if (begins(colon, ": SI00"))
			next = strchr(colon, '\n') + 1;
		else
		{
			/* the next entry begins behind the last line of this one's data */
			const char *size = colon;
			int			n;
			char		known[400];

			while (size > text && size[-1] != ' ')
				size--;
			n = (int) strtol(size, NULL, 10);
			if (n > SHOWN)
				n = 9;
			if (strlen(colon + 2) < (size_t) n)
				return false;
			snprintf(known, sizeof(known), "%.*s", (int) (colon + 2 + n - size), size);
			if (n > 0 && strstr(whole, known) == NULL)
				return false;
			next = colon + 2 + n;
		}
		text = next;
	}
	return true;
}

static void
run_mutations(double limit)
{
	double		end = seconds() + limit;
	Buffer	   *bases = malloc((2 + ncases) * sizeof(Buffer));
	Buffer		known = {0};
	int			nbases = 0;
	Buffer		out = {0};
	int			n = 0;
	int			sound = 0;
	int			wrong = 0;

	bases[nbases++] = sample(false);
	bases[nbases++] = sample(true);
	for (int i = 0; i < ncases; i++)
	{
		if (cases[i].ending.hole == 0)
			bases[nbases++] = build_zip(cases[i].items, &cases[i].ending);
	}
	for (int i = 0; i < nbases; i++)
	{
		Source		source = source_of(&bases[i]);

		put_string(&known, read_zip(&out, &source));
	}

	for (; seconds() < end; n++)
	{
		/* the samples as often as all others together */
		int			base = random_below(2) == 0 ? random_below(8) > 0 ? 0 : 1 :
			random_below(nbases);
		size_t		size = bases[base].len + 1000;
		char	   *scratch = malloc(size);
		char	   *copy;
		size_t		len;
		Source		source = {0};
		const char *text;

		memcpy(scratch, bases[base].data, bases[base].len);
		len = mutate(scratch, bases[base].len, size);
		copy = malloc(len + 1);
		memcpy(copy, scratch, len);
		free(scratch);
		source.data = copy;
		source.len = len;
		source.chunk = random_below(4) == 0 ? 100 : 0;
		text = read_zip(&out, &source);
		sound += strstr(text, "SI00") == NULL;
		if (!is_known(text, known.data))
		{
			wrong++;
			printf("mutation %d of %d: %s\n", n, base, text);
		}
		free(copy);
	}
	printf("%d mutations, %d of them read whole\n", n, sound);

	/* one check: how many there are is the machine's affair */
	check(n > 0 && wrong == 0, "mutations: %d of %d wrong", wrong, n);
	for (int i = 0; i < nbases; i++)
		free(bases[i].data);
	free(bases);
	free(known.data);
	free(out.data);
}

void
run_damage(double limit)
{
	/* nothing checks them: a changed byte may be theirs */
	show_times = false;
	run_cut(false);
	run_cut(true);
	run_holes();
	run_flips();
	run_mutations(limit);
}
