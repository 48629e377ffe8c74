/*
 * provider.c
 *		The list of providers.
 */
#include "postgres.h"

#include "nodes/pg_list.h"

#include "provider/provider.h"

static const SisProvider providers[] = {
	{"sis_directory", sis_csvset_fetch, sis_csvset_read},
	{"sis_sftp", sis_csvset_fetch, sis_csvset_read},
	{"sis_clever", sis_clever_fetch, sis_clever_read},
	{"sis_oneroster", sis_oneroster_fetch, sis_oneroster_read},
	{"sis_classlink", sis_oneroster_fetch, sis_oneroster_read}
};

const SisProvider *
sis_provider_for(const char *wrapper)
{
	for (int i = 0; i < (int) lengthof(providers); i++)
	{
		if (strcmp(providers[i].wrapper, wrapper) == 0)
			return &providers[i];
	}
	return NULL;
}
