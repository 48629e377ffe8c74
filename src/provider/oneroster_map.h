/*
 * oneroster_map.h
 *		What oneroster_map.c and oneroster_users.c share.
 */
#ifndef SIS_ONEROSTER_MAP_H
#define SIS_ONEROSTER_MAP_H

#include "provider/jsonmap.h"
#include "provider/links.h"
#include "provider/oneroster_rest.h"

struct SisOneRosterMap
{
	bool		v1p2;
	bool		include_demographics;
	SisJsonMap *maps[SIS_N_RECORD_TYPES];
	SisJsonMap *demographics;
	SisRecord  *record;			/* the one that is filled again and again */
	MemoryContext row_cxt;		/* of one record */
	int			ndistricts;
	char	   *district_id;	/* of the first */
	bool		has_agents;
	SisLinks	links;

	/* columns that functions fill */
	int			school_column[SIS_N_RECORD_TYPES];
	int			schools_column[SIS_N_RECORD_TYPES];
	int			state_id_column[SIS_N_RECORD_TYPES];
	int			roles_column;
	uint64		demographic_columns;
};

/* The ID in a reference, or the plain ID. */
static inline SisValue
sis_oneroster_ref(const SisJsonNode *node)
{
	SisValue	value = sis_json_value(node);

	return value.data != NULL ? sis_trim(value.data, value.len) :
		sis_json_find(node, "sourcedId");
}

extern bool sis_oneroster_is_deleted(const SisJsonNode *node);

/* Begins the record of that type, and fills it by its map. */
extern SisRecord *sis_oneroster_begin(SisOneRosterMap *map,
									  SisRecordType type, SisRestCall *call,
									  const SisJsonNode *node);
extern void sis_oneroster_put(SisRestCall *call, SisRecord *record);

/* Rejects the current record of the page as one of these types. */
extern void sis_oneroster_reject(SisRestCall *call, int types, SisValue id,
								 const char *column, const char *reason);

/* oneroster_users.c */
extern void sis_oneroster_put_user(SisOneRosterMap *map, SisRestCall *call,
								   const SisJsonNode *node);

#endif
