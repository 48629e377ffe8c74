/*
 * slot.c
 *		The sixteen staging slots, and the lock of a sync.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "base/compat.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "slot.h"
#include "stagerow.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

/* A leaf below this size is emptied by DELETE, which waits for nobody. */
#define SMALL_LEAF_BLOCKS	128

/* How long to wait for somebody who looks at a leaf before using DELETE. */
#define TRUNCATE_WAIT_MS	1000
#define TRUNCATE_POLL_MS	50

/* kinds of lock, in field 1 of the tag; field 4 (3) keeps SQL out */
#define LOCK_SYNC	1
#define LOCK_SLOT	2
#define LOCK_FIELD4	3

/* Session locks held: tags of the sync and of its slot. */
static LOCKTAG held[2];
static int	nheld = 0;

static bool
try_lock_mode(uint32 kind, uint32 key, LOCKMODE mode, bool session)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, kind, key, LOCK_FIELD4);
	if (LockAcquire(&tag, mode, session, true) ==
		LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (session)
	{
		Assert(nheld < (int) lengthof(held));
		held[nheld++] = tag;
	}
	return true;
}

static bool
try_lock(uint32 kind, uint32 key, bool session)
{
	return try_lock_mode(kind, key, ExclusiveLock, session);
}

void
sis_locks_for_transaction(int64 sync_id, int slot)
{
	if (!try_lock(LOCK_SYNC, (uint32) sync_id, false) ||
		!try_lock(LOCK_SLOT, (uint32) slot, false))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the run's locks were taken by another session"),
				 errhint("Does a trigger call pg_advisory_unlock_all()? It drops the locks of a run.")));
}

void
sis_locks_release(void)
{
	while (nheld > 0)
		(void) LockRelease(&held[--nheld], ExclusiveLock, true);
}

bool
sis_sync_lock(int64 sync_id, bool session)
{
	/* locks are re-entrant: a trigger must not run the sync inside its run */
	if (nheld > 0)
		return false;
	return try_lock(LOCK_SYNC, (uint32) sync_id, session);
}

int
sis_sync_lock_holder(int64 sync_id)
{
	SisParams	params = {0};

	sis_param_int8(&params, LOCK_SYNC);
	sis_param_int8(&params, (int64) (uint32) sync_id);
	sis_param_int8(&params, LOCK_FIELD4);
	if (sis_exec_as_owner("SELECT l.pid::int8 FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
						  "WHERE l.locktype = 'advisory' AND d.datname = current_database() "
						  "AND l.classid::int8 = $1 AND l.objid::int8 = $2 AND l.objsubid = $3 "
						  "AND l.granted AND l.pid <> pg_backend_pid() LIMIT 1",
						  &params, SPI_OK_SELECT) == 0)
		return 0;
	return (int) sis_value_int8(0, 1);
}

bool
sis_slot_lock(int slot, bool session)
{
	return try_lock(LOCK_SLOT, (uint32) slot, session);
}

bool
sis_slot_share(int slot)
{
	return try_lock_mode(LOCK_SLOT, (uint32) slot, ShareLock, false);
}

void
sis_slot_unshare(int slot)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_SLOT, (uint32) slot, LOCK_FIELD4);
	(void) LockRelease(&tag, ShareLock, false);
}

char *
sis_stage_leaf(SisRecordType type, int slot)
{
	return psprintf("sis_sync.stage_%s_%02d", sis_record_desc(type)->name,
					slot);
}

/* Waits up to a second for readers of the leaf to go. */
static bool
lock_leaf(Oid relid)
{
	for (int waited = 0;; waited += TRUNCATE_POLL_MS)
	{
		if (ConditionalLockRelationOid(relid, AccessExclusiveLock))
			return true;
		if (waited >= TRUNCATE_WAIT_MS)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TRUNCATE_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static Oid
leaf_oid(SisRecordType type, int slot)
{
	return get_relname_relid(strchr(sis_stage_leaf(type, slot), '.') + 1,
							 get_namespace_oid("sis_sync", false));
}

/* By hand, since every run counts millions: SQL takes three times as long. */
void
sis_stage_leaf_count(SisRecordType type, int slot, int64 run_id,
					 int64 *rows, int64 *active)
{
	Relation	rel = table_open(leaf_oid(type, slot), AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	Oid			is_active = sis_status_oid(SIS_STATUS_ACTIVE, RelationGetDescr(rel));

	*rows = *active = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(row, SIS_STAGE_STATUS + 1);
		if (DatumGetInt64(row->tts_values[SIS_STAGE_RUN_ID]) != run_id)
			continue;
		(*rows)++;
		if (DatumGetObjectId(row->tts_values[SIS_STAGE_STATUS]) == is_active)
			(*active)++;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(row);
	table_close(rel, NoLock);
}

static void
empty_leaf(SisRecordType type, int slot)
{
	char	   *leaf = sis_stage_leaf(type, slot);
	Oid			relid = leaf_oid(type, slot);
	Relation	rel = table_open(relid, RowExclusiveLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	if (blocks == 0)
		return;
	if (blocks > SMALL_LEAF_BLOCKS && lock_leaf(relid))
		sis_exec_as_owner(psprintf("TRUNCATE %s", leaf), NULL, SPI_OK_UTILITY);
	else
		sis_exec_as_owner(psprintf("DELETE FROM %s", leaf), NULL, SPI_OK_DELETE);
}

/* Tries the slots in the order the query gives them; -1 when all are taken. */
static int
lock_first(const char *sync, bool session)
{
	SisParams	params = {0};
	uint64		n;

	sis_param_text(&params, sync);
	n = sis_exec_as_owner("SELECT slot::int8 FROM sis_sync.stage_slot "
						  "ORDER BY (run_id IS NULL OR sync = $1) DESC, pinned, taken_at, slot",
						  &params, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		int			slot = (int) sis_value_int8(i, 1);

		if (sis_slot_lock(slot, session))
			return slot;
	}
	return -1;
}

int
sis_slot_take(int64 run_id, const char *sync, bool session)
{
	SisParams	params = {0};
	int			slot;

	/* never wait: another run may just be taking the slot of our last one */
	sis_param_text(&params, sync);
	sis_exec_as_owner("UPDATE sis_sync.stage_slot SET pinned = false WHERE slot = ANY (ARRAY("
					  "SELECT slot FROM sis_sync.stage_slot WHERE sync = $1 AND pinned FOR UPDATE SKIP LOCKED))",
					  &params, SPI_OK_UPDATE);
	slot = lock_first(sync, session);
	if (slot < 0)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("could not take a staging slot: all %d are used by runs under way",
						SIS_N_SLOTS),
				 errhint("Run the sync again when one of them has ended.")));

	memset(&params, 0, sizeof(params));
	sis_param_int8(&params, slot);
	sis_param_int8(&params, run_id);
	sis_param_text(&params, sync);
	sis_exec_as_owner("UPDATE sis_sync.stage_slot SET run_id = $2, sync = $3, "
					  "pinned = true, taken_at = clock_timestamp() WHERE slot = $1",
					  &params, SPI_OK_UPDATE);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		empty_leaf((SisRecordType) type, slot);
	return slot;
}

int
sis_slot_of(int64 run_id)
{
	SisParams	params = {0};

	sis_param_int8(&params, run_id);
	if (sis_exec_as_owner("SELECT slot::int8 FROM sis_sync.stage_slot WHERE run_id = $1",
						  &params, SPI_OK_SELECT) == 0)
		return -1;
	return (int) sis_value_int8(0, 1);
}

void
sis_slot_pin(int64 run_id, bool pinned)
{
	SisParams	params = {0};

	sis_param_int8(&params, run_id);
	sis_param_bool(&params, pinned);
	sis_exec_as_owner("UPDATE sis_sync.stage_slot SET pinned = $2 WHERE run_id = $1",
					  &params, SPI_OK_UPDATE);
}

void
sis_slots_clear(const char *condition, const SisParams *params)
{
	int			slots[SIS_N_SLOTS];
	int			n;

	n = (int) sis_exec_as_owner(psprintf("SELECT p.slot::int8 FROM sis_sync.stage_slot p "
										 "WHERE p.run_id IS NOT NULL AND %s ORDER BY p.slot",
										 condition),
								params, SPI_OK_SELECT);
	for (int i = 0; i < n; i++)
		slots[i] = (int) sis_value_int8(i, 1);
	for (int i = 0; i < n; i++)
	{
		SisParams	slot = {0};

		if (!sis_slot_lock(slots[i], false))
			continue;
		for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
			empty_leaf((SisRecordType) type, slots[i]);
		sis_param_int8(&slot, slots[i]);
		sis_exec_as_owner("UPDATE sis_sync.stage_slot SET run_id = NULL, sync = NULL, pinned = false, taken_at = NULL "
						  "WHERE slot = $1", &slot, SPI_OK_UPDATE);
	}
}
