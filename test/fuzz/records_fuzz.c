/*
 * records_fuzz.c
 *		What Clever's and OneRoster's providers make of the records of a page.
 */
#include "postgres.h"

#include "format/json.h"
#include "fuzz.h"
#include "provider/clever.h"
#include "provider/oneroster_map.h"
#include "sink.h"

static char *extra[] = {"locker", "data.x", "metadata.homeroom", "n", "roles.student.x"};

/* Reads the page, and puts each sound record as one of each list there is. */
static void
read_clever(const char *data, int len)
{
	SisSink    *sink = fuzz_sink(extra, lengthof(extra));
	SisCleverRecords *records = sis_clever_records_create(sink->wants);
	SisJson    *json = sis_json_create();
	SisJsonResult result;

	sis_json_begin(json, "data");
	sis_json_feed(json, data, len);
	sis_json_finish(json);
	while ((result = sis_json_next(json)) == SIS_JSON_RECORD)
	{
		const SisJsonNode *record = sis_json_record(json);

		for (int list = 0; list < SIS_N_CLEVER_LISTS; list++)
		{
			if (sis_json_problem(json) == SIS_JSON_OK)
				sis_clever_put(records, list, record, sink, "list",
							   sis_json_count(json));
			else
				sis_clever_reject(list, sis_json_id(json, sis_clever_id(record)),
								  sink, "list", sis_json_count(json), "bad");
		}
	}
}

static void
read_oneroster(const char *data, int len, bool v1p2)
{
	SisOneRoster roster = {.v1p2 = v1p2};
	SisSink    *sink = fuzz_sink(extra, lengthof(extra));
	SisOneRosterMap *map;
	SisRestCall call = {.collection = "users", .sink = sink};
	SisJsonResult result;

	roster.wants = sink->wants;
	map = sis_oneroster_map_create(&roster);
	call.json = sis_json_create();
	sis_json_begin(call.json, "data");
	sis_json_feed(call.json, data, len);
	sis_json_finish(call.json);
	while ((result = sis_json_next(call.json)) == SIS_JSON_RECORD)
	{
		const SisJsonNode *record = sis_json_record(call.json);

		call.line = sis_json_count(call.json);
		for (int i = 0; i < SIS_OR_N_COLLECTIONS; i++)
		{
			if (sis_json_problem(call.json) == SIS_JSON_OK)
				sis_oneroster_map_put(map, i, &call, record);
			else
				sis_oneroster_map_reject(map, i, &call,
										 sis_json_id(call.json, sis_json_member(record, "sourcedId")),
										 "bad");
		}
	}
	(void) sis_oneroster_map_district(map);
}

/* The time of a district's last sync. */
static void
read_time(const char *data, int len)
{
	char	   *text = pnstrdup(data, Min(len, 64));

	(void) sis_clever_time(text);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	const char *text = (const char *) data;

	shim_quiet = true;
	read_clever(text, (int) size);
	shim_reset();
	read_oneroster(text, (int) size, false);
	shim_reset();
	read_oneroster(text, (int) size, true);
	read_time(text, (int) size);
	shim_reset();
	return 0;
}
