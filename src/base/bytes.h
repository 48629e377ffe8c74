/*
 * bytes.h
 *		How bytes are handed from one room to another.
 */
#ifndef SIS_BYTES_H
#define SIS_BYTES_H

/*
 * Reads up to len bytes into buf, in order; 0 at the end, -1 on failure (the
 * reader knows why).  May throw.
 */
typedef int (*SisRead) (void *arg, char *buf, int len);

/*
 * Bytes of a known size, read anywhere: up to len bytes at offset; 0 at the
 * end, -1 on failure.  May throw.
 */
typedef struct SisBlob
{
	int64		size;
	int			(*read_at) (void *arg, int64 offset, char *buf, int len);
	void	   *arg;
} SisBlob;

#endif
