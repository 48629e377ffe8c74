/*
 * filename.h
 *		Which files of a folder may be those of a set, told by their names.
 */
#ifndef SIS_FILENAME_H
#define SIS_FILENAME_H

#define SIS_CSV_SUFFIX	".csv"
#define SIS_ZIP_SUFFIX	".zip"

#define SIS_MAX_SET_FILES	10000	/* in a folder, by their names */

/* Does a name end in the suffix, in any case, and is more than it? */
static inline bool
sis_has_suffix(const char *name, const char *suffix)
{
	size_t		len = strlen(name);
	size_t		slen = strlen(suffix);

	return len > slen && pg_strcasecmp(name + len - slen, suffix) == 0;
}

/*
 * No file of a set has a name with other than printable ASCII characters, and
 * others would have to be checked before they could stand in a message.
 */
static inline bool
sis_is_name_of_set(const char *name)
{
	if (name[0] == '.')
		return false;
	for (const char *p = name; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			return false;
	}
	return sis_has_suffix(name, SIS_CSV_SUFFIX) ||
		sis_has_suffix(name, SIS_ZIP_SUFFIX);
}

#endif
