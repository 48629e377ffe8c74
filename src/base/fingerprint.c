/*
 * fingerprint.c
 *		64 bits that change when a record's content changes.
 */
#include "postgres.h"

#include "base/fingerprint.h"
#include "port/pg_bswap.h"

#define PRIME1	UINT64CONST(0x9E3779B185EBCA87)
#define PRIME2	UINT64CONST(0xC2B2AE3D27D4EB4F)
#define PRIME3	UINT64CONST(0x165667B19E3779F9)
#define PRIME4	UINT64CONST(0x85EBCA77C2B2AE63)
#define PRIME5	UINT64CONST(0x27D4EB2F165667C5)

/* marker bytes of a column */
#define MARK_NULL	0
#define MARK_VALUE	1
#define MARK_KEEP	2

static inline uint64
rotate(uint64 x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static inline uint64
read64(const unsigned char *p)
{
	uint64		x;

	memcpy(&x, p, 8);
#ifdef WORDS_BIGENDIAN
	x = pg_bswap64(x);
#endif
	return x;
}

static inline uint32
read32(const unsigned char *p)
{
	uint32		x;

	memcpy(&x, p, 4);
#ifdef WORDS_BIGENDIAN
	x = pg_bswap32(x);
#endif
	return x;
}

static inline uint64
lane(uint64 acc, uint64 input)
{
	return rotate(acc + input * PRIME2, 31) * PRIME1;
}

static inline uint64
merge_lane(uint64 acc, uint64 value)
{
	return (acc ^ lane(0, value)) * PRIME1 + PRIME4;
}

uint64
sis_hash64(const void *data, size_t len, uint64 seed)
{
	const unsigned char *p = data;
	const unsigned char *end = p + len;
	uint64		acc;

	if (len >= 32)
	{
		uint64		v1 = seed + PRIME1 + PRIME2;
		uint64		v2 = seed + PRIME2;
		uint64		v3 = seed;
		uint64		v4 = seed - PRIME1;

		for (; end - p >= 32; p += 32)
		{
			v1 = lane(v1, read64(p));
			v2 = lane(v2, read64(p + 8));
			v3 = lane(v3, read64(p + 16));
			v4 = lane(v4, read64(p + 24));
		}
		acc = rotate(v1, 1) + rotate(v2, 7) + rotate(v3, 12) + rotate(v4, 18);
		acc = merge_lane(acc, v1);
		acc = merge_lane(acc, v2);
		acc = merge_lane(acc, v3);
		acc = merge_lane(acc, v4);
	}
	else
		acc = seed + PRIME5;

	acc += len;
	for (; end - p >= 8; p += 8)
		acc = rotate(acc ^ lane(0, read64(p)), 27) * PRIME1 + PRIME4;
	if (end - p >= 4)
	{
		acc = rotate(acc ^ (read32(p) * PRIME1), 23) * PRIME2 + PRIME3;
		p += 4;
	}
	for (; p < end; p++)
		acc = rotate(acc ^ (*p * PRIME5), 11) * PRIME1;

	acc = (acc ^ (acc >> 33)) * PRIME2;
	acc = (acc ^ (acc >> 29)) * PRIME3;
	return acc ^ (acc >> 32);
}

int64
sis_fingerprint(const SisRecord *record, uint64 seed, StringInfo buf)
{
	int			ncolumns = sis_record_desc(record->type)->ncolumns;
	size_t		needed = 0;
	char	   *p;

	for (int i = 0; i < ncolumns; i++)
		needed += 5 + record->values[i].len;
	resetStringInfo(buf);
	enlargeStringInfo(buf, needed);

	p = buf->data;
	for (int i = 0; i < ncolumns; i++)
	{
		const SisValue *value = &record->values[i];

		if (record->keep & SIS_COLUMN_BIT(i))
			*p++ = MARK_KEEP;
		else if (value->data == NULL)
			*p++ = MARK_NULL;
		else
		{
			*p++ = MARK_VALUE;
			*p++ = (char) (value->len & 0xFF);
			*p++ = (char) ((value->len >> 8) & 0xFF);
			*p++ = (char) ((value->len >> 16) & 0xFF);
			*p++ = (char) ((value->len >> 24) & 0xFF);
			memcpy(p, value->data, value->len);
			p += value->len;
		}
	}
	return (int64) sis_hash64(buf->data, p - buf->data, seed);
}
