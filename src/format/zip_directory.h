/*
 * zip_directory.h
 *		What the two parts of the zip reader share: zip_directory.c finds the
 *		entries, zip.c unpacks them.
 */
#ifndef SIS_ZIP_DIRECTORY_H
#define SIS_ZIP_DIRECTORY_H

#include "format/zip.h"

typedef struct SisZipMember
{
	SisZipEntry entry;
	char	   *path;			/* with its folder, fit for messages */
	int64		data;			/* where its bytes begin in the zip file */
	int64		packed;			/* how many they are */
} SisZipMember;

struct SisZip
{
	SisBlob		blob;
	char	   *place;
	int			nmembers;
	SisZipMember *members;
};

/*
 * Fills members from the zip's directory.  False on failure, with the cause
 * in failure.  Result in the current memory context.
 */
extern bool sis_zip_directory_read(SisZip *zip, SisFailure *failure);

/* Writes down that the zip file is corrupt, or cut short; always false. */
extern bool sis_zip_fail_corrupt(const SisZip *zip, SisFailure *failure,
								 const char *detail);
extern bool sis_zip_fail_cut(const SisZip *zip, SisFailure *failure,
							 const char *detail);

/* Writes down that reading failed, unless the reader has; always false. */
extern bool sis_zip_fail_read(const SisZip *zip, SisFailure *failure);

#endif
