/*
 * fold_group.c
 *		Judges the rows of one ID: which wins, which are parts of one record,
 *		what comes of them.
 */
#include "postgres.h"

#include "base/textlist.h"
#include "fold_group.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* ----------
 * Comparing and uniting
 * ----------
 */

/* Does a win over b?  Independent of the order of rows. */
static bool
wins(const SisFoldRow *a, const SisFoldRow *b)
{
	if (a->is_stored != b->is_stored)
		return a->is_stored;
	if (a->last_modified.data != NULL && b->last_modified.data != NULL)
	{
		int			cmp = sis_compare_values(a->last_modified, b->last_modified);

		if (cmp != 0)
			return cmp > 0;
	}
	if (a->deleted != b->deleted)
		return b->deleted;
	if (a->fingerprint != b->fingerprint)
		return a->fingerprint < b->fingerprint;
	return a->line < b->line;
}

/* Could two rows be one record that the layout repeats? */
static bool
compatible(const SisFold *fold, const SisRecord *result, const SisFoldRow *row)
{
	for (int i = 0; i < fold->desc->ncolumns; i++)
	{
		if (fold->desc->columns[i].kind == SIS_KIND_LIST ||
			fold->desc->columns[i].kind == SIS_KIND_JSONB ||
			i == fold->school_column)
			continue;
		if (result->values[i].data != NULL && row->values[i].data != NULL &&
			!sis_same_value(result->values[i], row->values[i]))
			return false;
	}
	return true;
}

/* Puts another list into the result, made by sis_list_*(). */
static void
replace_list(SisFold *fold, int column, SisValue list)
{
	SisValue   *mine = &fold->result->values[column];

	if (fold->is_made[column])
		pfree((char *) mine->data);
	fold->is_made[column] = list.data != NULL;
	*mine = list;
}

/* Adds what a row has to the result; true when that changed anything. */
static bool
unite(SisFold *fold, SisRecord *result, const SisFoldRow *row)
{
	bool		changed = false;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < fold->desc->ncolumns; i++)
	{
		SisValue   *mine = &result->values[i];
		const SisValue *theirs = &row->values[i];

		if ((row->keep & SIS_COLUMN_BIT(i)) == 0 &&
			(result->keep & SIS_COLUMN_BIT(i)) != 0)
		{
			/* a carried record has the stored value in its place */
			result->keep &= ~SIS_COLUMN_BIT(i);
			replace_list(fold, i, (SisValue) {NULL, 0});
			changed = true;
		}
		if (theirs->data == NULL || i == SIS_COL_SOURCE_ID)
			continue;
		/* no row says which school is the primary one: always the same */
		if (mine->data == NULL ||
			(i == fold->school_column && row->part == SIS_PART_BASE &&
			 sis_compare_values(*theirs, *mine) < 0))
		{
			*mine = *theirs;
			changed = true;
		}
		else if (fold->desc->columns[i].kind == SIS_KIND_LIST &&
				 !sis_same_value(*mine, *theirs))
		{
			replace_list(fold, i, sis_list_unite(*mine, *theirs));
			changed = true;
		}
	}
	return changed;
}

/* ----------
 * The rows of one ID
 * ----------
 */

static const SisFoldRow *
choose_winner(const SisFold *fold)
{
	const SisFoldRow *winner = NULL;

	for (int i = 0; i < fold->nrows; i++)
	{
		const SisFoldRow *row = &fold->rows[i];

		if (row->part != SIS_PART_BASE || row->rejected)
			continue;
		if (winner == NULL || wins(row, winner))
			winner = row;
	}
	return winner;
}

/* No row of the record itself was accepted. */
static void
fold_without_base(SisFold *fold)
{
	bool		protected = false;

	for (int i = 0; i < fold->nrows; i++)
	{
		if (!fold->rows[i].rejected)
			continue;
		if (protected)
			sis_fold_mark_duplicate(fold, &fold->rows[i]);
		protected = true;
	}
	for (int i = 0; !protected && i < fold->nrows; i++)
	{
		if (fold->rows[i].part != SIS_PART_ROLE || fold->rows[i].ended)
			continue;

		/* a package need not name the user, who may be of a school that is
		 * not set up: nothing is wrong with the row */
		if (fold->delta)
			fold->nstray++;
		else
			sis_fold_log_reject(fold, &fold->rows[i], "role of an unknown user");
	}
}

static void
fold_bases(SisFold *fold, const SisFoldRow *winner, bool *changed)
{
	for (int i = 0; i < fold->nrows; i++)
	{
		const SisFoldRow *row = &fold->rows[i];

		if (row == winner || row->part != SIS_PART_BASE)
			continue;
		if (row->rejected ||
			(row->fingerprint == winner->fingerprint &&
			 row->deleted == winner->deleted))
			sis_fold_mark_duplicate(fold, row);
		else if (winner->repeats && row->repeats && !winner->deleted &&
				 !row->deleted && compatible(fold, fold->result, row))
		{
			if (unite(fold, fold->result, row))
				*changed = true;
			sis_fold_mark_part(fold, row);
		}
		else
		{
			sis_fold_log_reject(fold, row, "another row has the same ID");
			sis_fold_mark_duplicate(fold, row);
		}
	}
}

static void
fold_parts(SisFold *fold, bool *changed, int *parts)
{
	/* what was received tonight comes before what is stored */
	static const struct
	{
		int			part;
		bool		carried;
	}			order[] = {
		{SIS_PART_ROLE, false}, {SIS_PART_ROLE, true}, {SIS_PART_EXTRA, false}
	};

	for (int p = 0; p < (int) lengthof(order); p++)
	{
		for (int i = 0; i < fold->nrows; i++)
		{
			const SisFoldRow *row = &fold->rows[i];

			if (row->part != order[p].part || row->ended ||
				(row->line == SIS_CARRIED_LINE) != order[p].carried)
				continue;
			if (unite(fold, fold->result, row))
				*changed = true;
			*parts |= order[p].part;
		}
	}
}

/* ----------
 * Roles that end (a package of changes)
 * ----------
 */

/* Does a role of tonight hold the person at that school? */
static bool
has_role_at(const SisFold *fold, SisValue school)
{
	for (int i = 0; i < fold->nrows; i++)
	{
		const SisFoldRow *row = &fold->rows[i];

		if (row->part == SIS_PART_ROLE && !row->ended &&
			row->line != SIS_CARRIED_LINE &&
			sis_list_has(row->values[fold->schools_column], school))
			return true;
	}
	return false;
}

/*
 * Takes away a role that ends.  Which role a person has at which school is not
 * stored, so one of several roles is left in place until whole files come:
 * to take away too little archives nobody.  False when nothing is left of the
 * person as a record of this type.
 */
static bool
take_away_role(SisFold *fold, const SisFoldRow *row)
{
	SisRecord  *result = fold->result;
	SisValue	school;
	SisValue   *schools;

	/* a contact goes with the last student it is a contact of */
	if (fold->schools_column < 0)
		return true;
	if (fold->roles_column >= 0)
	{
		SisValue	role = sis_list_only(result->values[fold->roles_column]);

		if (role.data == NULL ||
			!sis_list_has(row->values[fold->roles_column], role))
			return true;
	}
	school = sis_list_only(row->values[fold->schools_column]);
	if (school.data == NULL)
		return true;
	schools = &result->values[fold->schools_column];
	if (!sis_list_has(*schools, school) || has_role_at(fold, school))
		return true;
	replace_list(fold, fold->schools_column, sis_list_without(*schools, school));
	if (result->values[fold->school_column].data != NULL &&
		sis_same_value(result->values[fold->school_column], school))
		result->values[fold->school_column] = sis_list_only(*schools);
	return schools->data != NULL;
}

/* True when all roles that made the person a record of this type have ended. */
static bool
take_away_roles(SisFold *fold)
{
	bool		left = true;

	for (int i = 0; i < fold->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		left &= !fold->rows[i].ended || take_away_role(fold, &fold->rows[i]);
	}
	return !left;
}

static void
begin_result(SisFold *fold, const SisFoldRow *row)
{
	SisRecord  *result = fold->result;

	memset(fold->is_made, false, sizeof(fold->is_made));
	sis_record_reset(result, fold->type, row->source, row->line);
	result->keep = row->keep;
	result->repeats = row->repeats;
	result->last_modified = row->last_modified;
	memcpy(result->values, row->values,
		   sizeof(SisValue) * fold->desc->ncolumns);
}

/* A carried record that tonight's rows change comes from these. */
static void
name_source(const SisFold *fold, SisRecord *result)
{
	for (int i = 0; result->line == SIS_CARRIED_LINE && i < fold->nrows; i++)
	{
		result->source = fold->rows[i].source;
		result->line = fold->rows[i].line;
	}
}

/*
 * Of a record that is spread over files the roster has the whole: which of
 * several base rows is the stored version shows with its other parts.
 */
static void
compare_whole_with_stored(SisFold *fold)
{
	int			nbases = 0;
	bool		spread = false;

	for (int i = 0; i < fold->nrows; i++)
	{
		if (fold->rows[i].part != SIS_PART_BASE)
			spread = true;
		else if (!fold->rows[i].rejected)
			nbases++;
	}
	if (!spread || nbases < 2)
		return;
	for (int i = 0; i < fold->nrows; i++)
	{
		SisFoldRow    *row = &fold->rows[i];
		bool		changed = false;
		int			parts = 0;

		if (row->part != SIS_PART_BASE || row->rejected || !row->has_stored)
			continue;
		begin_result(fold, row);
		fold_parts(fold, &changed, &parts);
		row->is_stored =
			sis_stage_fingerprint(fold->stage, fold->result) == row->stored;
	}
}

static bool
has_rejected(const SisFold *fold)
{
	for (int i = 0; i < fold->nrows; i++)
	{
		if (fold->rows[i].rejected)
			return true;
	}
	return false;
}

void
sis_fold_group(SisFold *fold)
{
	const SisFoldRow *winner;
	SisRecord  *result = fold->result;
	SisStageStatus status;
	bool		changed;
	int			parts = SIS_PART_BASE;

	if (fold->nrows == 0)
		return;
	compare_whole_with_stored(fold);
	winner = choose_winner(fold);

	/* a rejected part leaves the record incomplete: it is protected instead */
	if (winner == NULL ||
		(fold->needs_parts != SIS_PART_BASE && has_rejected(fold)))
	{
		fold_without_base(fold);
		return;
	}
	begin_result(fold, winner);
	name_source(fold, result);
	changed = winner->is_part;
	fold_bases(fold, winner, &changed);
	if (winner->deleted)
		return;
	fold_parts(fold, &changed, &parts);
	if ((parts & fold->needs_parts) != fold->needs_parts || !changed)
		return;
	sis_fold_mark_part(fold, winner);
	status = take_away_roles(fold) ? SIS_STATUS_DELETED : SIS_STATUS_ACTIVE;
	sis_stage_write(fold->stage, result, status,
					sis_stage_fingerprint(fold->stage, result));
}
