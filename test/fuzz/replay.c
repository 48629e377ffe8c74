/*
 * replay.c
 *		Runs the inputs in files through a fuzzer, without the fuzzing: main()
 *		for compilers that bring no libFuzzer.
 *
 *	replay FOLDER...
 */
#include "postgres.h"

#include <dirent.h>
#include <stdlib.h>

#include "fuzz.h"
#include "harness.h"

static void
replay(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	uint8	   *data;
	long		size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 ||
		(size = ftell(file)) < 0)
	{
		perror(path);
		exit(1);
	}
	rewind(file);
	/* of its own size, so that reading past its end is seen */
	data = malloc(size > 0 ? size : 1);
	if (data == NULL || fread(data, 1, size, file) != (size_t) size)
		abort();
	fclose(file);
	fprintf(stderr, "\r%s ", path);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	check(true, "%s", path);
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		DIR		   *folder = opendir(argv[i]);
		struct dirent *entry;

		if (folder == NULL)
		{
			perror(argv[i]);
			return 1;
		}
		while ((entry = readdir(folder)) != NULL)
		{
			char		path[MAXPGPATH];

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			replay(path);
		}
		closedir(folder);
	}
	fputc('\n', stderr);
	return finish_checks();
}
