/*
 * delta.c
 *		What a run would change: one delta per record type, in tuplestores.
 *
 * How it works: merge.c writes one SELECT per type, a full join of what is
 * staged and what is stored that yields a row for everything that differs.
 * A receiver of our own looks at the first column of each row, counts it and
 * puts it into the store of its action.  Guards judge the counts before any
 * statement writes, and each statement reads just the rows it is about.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/textlist.h"
#include "delta.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

typedef struct DeltaReceiver
{
	DestReceiver pub;
	SisDelta   *delta;
	SisTypeDelta *type;
	TupleDesc  *desc;			/* where that of the rows goes */
	int			last_len;		/* of the last create's ID */
	char		last_id[SIS_MAX_VALUE_BYTES];
} DeltaReceiver;

static const char *const store_names[] = {
	[SIS_DELTA_CREATES] = "creates",
	[SIS_DELTA_CHANGES] = "changes",
	[SIS_DELTA_GONE] = "gone",
	[SIS_DELTA_LOST] = "lost"
};

SisDelta *
sis_delta_create(void)
{
	SisDelta   *delta = palloc0(sizeof(SisDelta));

	delta->cxt = CurrentMemoryContext;
	delta->owner = CurrentResourceOwner;
	return delta;
}

/* At most a handful are large at once; together they take about work_mem. */
static Tuplestorestate *
make_store(SisDelta *delta)
{
	MemoryContext old = MemoryContextSwitchTo(delta->cxt);
	ResourceOwner owner = CurrentResourceOwner;
	Tuplestorestate *store;

	CurrentResourceOwner = delta->owner;
	store = tuplestore_begin_heap(false, false, Max(work_mem / 8, 64));
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);
	return store;
}

/* Stores are made when the first row comes: most types change in few ways. */
static Tuplestorestate *
get_store(SisDelta *delta, SisTypeDelta *type, SisDeltaStore which)
{
	if (type->stores[which] == NULL)
		type->stores[which] = make_store(delta);
	return type->stores[which];
}

void
sis_delta_clear(SisDelta *delta)
{
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisTypeDelta *type = &delta->types[t];

		for (int i = 0; i < SIS_N_DELTA_STORES; i++)
		{
			if (type->stores[i] != NULL)
				tuplestore_end(type->stores[i]);
		}
		if (type->pairs != NULL)
			tuplestore_end(type->pairs);
		memset(type, 0, sizeof(SisTypeDelta));
	}
}

void
sis_delta_destroy(SisDelta *delta)
{
	sis_delta_clear(delta);
	pfree(delta);
}

/* ----------
 * The receiver
 * ----------
 */

/* A link that is not taken and goes into the log of rejects. */
static bool
is_reject(int stand)
{
	return stand == SIS_STAND_LOST || stand == SIS_STAND_LAGGING;
}

/* Many sources send records in the order of their IDs: sorting is for others. */
static void
check_order(DeltaReceiver *receiver, Datum id)
{
	text	   *t = DatumGetTextPP(id);
	SisValue	last = {receiver->last_id, receiver->last_len};
	SisValue	this = {VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)};

	if (receiver->type->unsorted)
		return;
	receiver->type->unsorted = this.len > SIS_MAX_VALUE_BYTES ||
		sis_compare_values(last, this) > 0;
	if (receiver->type->unsorted)
		return;
	memcpy(receiver->last_id, this.data, this.len);
	receiver->last_len = this.len;
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	DeltaReceiver *receiver = (DeltaReceiver *) self;
	SisTypeDelta *type = receiver->type;
	bool		isnull;
	int			act,
				stand;

	slot_getsomeattrs(slot, 2);
	if (slot->tts_isnull[0])
		return true;
	act = DatumGetChar(slot->tts_values[0]) & 0x7F;
	isnull = slot->tts_isnull[1];
	stand = isnull ? 0 : DatumGetChar(slot->tts_values[1]) & 0x7F;
	type->by_act[act]++;
	type->by_stand[stand]++;

	switch (act)
	{
		case SIS_ACT_CREATE:
			check_order(receiver, slot_getattr(slot, SIS_DELTA_SOURCE_ID + 1,
											   &isnull));
			tuplestore_puttupleslot(get_store(receiver->delta, type,
											  SIS_DELTA_CREATES), slot);
			type->rows[SIS_DELTA_CREATES]++;
			break;
		case SIS_ACT_UPDATE:
		case SIS_ACT_REFRESH:
		case SIS_ACT_RESTORE:
			tuplestore_puttupleslot(get_store(receiver->delta, type,
											  SIS_DELTA_CHANGES), slot);
			type->rows[SIS_DELTA_CHANGES]++;
			break;
		case SIS_ACT_GONE:
		case SIS_ACT_ENDED:
		case SIS_ACT_BACK:
			tuplestore_puttupleslot(get_store(receiver->delta, type,
											  SIS_DELTA_GONE), slot);
			type->rows[SIS_DELTA_GONE]++;
			break;
		default:
			break;				/* only counted */
	}
	if (is_reject(stand))
	{
		tuplestore_puttupleslot(get_store(receiver->delta, type,
										  SIS_DELTA_LOST), slot);
		type->rows[SIS_DELTA_LOST]++;
	}
	return true;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	DeltaReceiver *receiver = (DeltaReceiver *) self;
	MemoryContext old = MemoryContextSwitchTo(receiver->delta->cxt);

	*receiver->desc = CreateTupleDescCopy(desc);
	MemoryContextSwitchTo(old);
}

static void
receiver_shutdown(DestReceiver *self)
{
}

/*
 * Counts the pair, and keeps it when its values must be looked at: of millions
 * of pairs most are equal.
 */
static bool
receive_pair(TupleTableSlot *slot, DestReceiver *self)
{
	DeltaReceiver *receiver = (DeltaReceiver *) self;
	SisTypeDelta *type = receiver->type;
	int			act,
				stand;

	slot_getallattrs(slot);
	if (!slot->tts_isnull[4] && DatumGetBool(slot->tts_values[4]))
		type->in_force++;
	if (slot->tts_isnull[0])
		return true;
	act = DatumGetChar(slot->tts_values[0]) & 0x7F;
	stand = slot->tts_isnull[1] ? 0 : DatumGetChar(slot->tts_values[1]) & 0x7F;
	if ((act == SIS_ACT_SKIP || act == SIS_ACT_MANUAL) && !is_reject(stand))
	{
		type->by_act[act]++;
		type->by_stand[stand]++;
	}
	else
		tuplestore_puttupleslot(type->pairs, slot);
	return true;
}

static void
init_receiver(DeltaReceiver *receiver, SisDelta *delta, SisRecordType type,
			  bool (*receive) (TupleTableSlot *, DestReceiver *),
			  TupleDesc *desc)
{
	receiver->pub.receiveSlot = receive;
	receiver->pub.rStartup = receiver_startup;
	receiver->pub.rShutdown = receiver_shutdown;
	receiver->pub.rDestroy = receiver_shutdown;
	receiver->pub.mydest = DestTuplestore;
	receiver->delta = delta;
	receiver->type = &delta->types[type];
	receiver->desc = desc;
}

bool
sis_delta_find_pairs(SisDelta *delta, SisRecordType type, const char *sql,
					 const SisParams *params)
{
	SisTypeDelta *td = &delta->types[type];
	DeltaReceiver receiver = {0};

	init_receiver(&receiver, delta, type, receive_pair, &td->pairs_desc);
	td->pairs = make_store(delta);
	sis_select_into(sql, params, &receiver.pub);
	return tuplestore_tuple_count(td->pairs) > 0;
}

void
sis_delta_fill(SisDelta *delta, SisRecordType type, const char *sql,
			   const SisParams *params, bool by_pairs)
{
	SisTypeDelta *td = &delta->types[type];
	DeltaReceiver receiver = {0};

	init_receiver(&receiver, delta, type, receive_row, &td->desc);
	if (by_pairs)
		sis_register_store("pairs", td->pairs, td->pairs_desc,
						   (double) tuplestore_tuple_count(td->pairs));
	sis_select_into(sql, params, &receiver.pub);
	if (by_pairs)
	{
		sis_unregister_store("pairs");
		tuplestore_end(td->pairs);
		td->pairs = NULL;
	}
}

char *
sis_delta_store_name(SisDeltaStore which, SisRecordType type)
{
	return psprintf("%s_%s", store_names[which], sis_record_desc(type)->name);
}

void
sis_delta_register(SisDelta *delta, SisRecordType type)
{
	SisTypeDelta *td = &delta->types[type];

	if (td->desc == NULL || td->registered)
		return;
	for (int i = 0; i < SIS_N_DELTA_STORES; i++)
		sis_register_store(sis_delta_store_name((SisDeltaStore) i, type),
						   get_store(delta, td, (SisDeltaStore) i),
						   td->desc, td->rows[i]);
	td->registered = true;
}

void
sis_delta_unregister(SisDelta *delta, SisRecordType type)
{
	SisTypeDelta *td = &delta->types[type];

	if (!td->registered)
		return;
	for (int i = 0; i < SIS_N_DELTA_STORES; i++)
		sis_unregister_store(sis_delta_store_name((SisDeltaStore) i, type));
	td->registered = false;
}

void
sis_delta_keep_gone(SisDelta *delta, SisRecordType type, const char *sql,
					const SisParams *params)
{
	SisTypeDelta *td = &delta->types[type];
	Tuplestorestate *old = td->stores[SIS_DELTA_GONE];
	Tuplestorestate *kept;
	DestReceiver *dest;

	td->stores[SIS_DELTA_GONE] = NULL;
	kept = get_store(delta, td, SIS_DELTA_GONE);
	dest = sis_store_receiver(kept, delta->cxt, td->desc);
	sis_select_into(sql, params, dest);
	dest->rDestroy(dest);

	sis_delta_unregister(delta, type);
	tuplestore_end(old);
	td->rows[SIS_DELTA_GONE] = tuplestore_tuple_count(kept);
	sis_delta_register(delta, type);
}
