// SPDX-License-Identifier: GPL-2.0
/*
 * Discard and write-zeroes: records alone where a unit is zeroed as a whole, a write like others
 * where only a part is.
 */

#include "dm-chain-writer.h"

/*
 * Makes the first piece of @bio zero, as far as one cluster. Returns STARTED when that is done or
 * under way and @bio is shorter by it (*@all: it was all).
 */
static enum started zero_piece(struct chain_writer *w, struct bio *bio, bool *all)
{
	u64 sector = bio->bi_iter.bi_sector, cluster = sector / cluster_sectors(w);
	u32 within = sector & (cluster_sectors(w) - 1), us = unit_sectors(w);
	u32 n = min(bio_sectors(bio), cluster_sectors(w) - within);
	u32 unit = within / us, skew = within & (us - 1), units, mask;
	struct fresh *f = chain_fresh_find(w, cluster);
	struct chain_extent x;
	struct chain_owned owned;
	int r;

	if (!f) {
		r = chain_index_find(w->chain->index, sector, bio_sectors(bio), &x);
		if (r)
			goto failed;
		if (chain_entry_kind(x.entry) == CHAIN_HOLE ||
		    chain_entry_kind(x.entry) == CHAIN_ZERO) {
			n = x.sectors;
			goto skip;
		}
	}
	units = skew ? 1 : max(1u, n / us);
	mask = unit_mask(unit, units);
	if (f && f->busy & mask) {
		bio_list_add(&f->waiting, bio);
		return WAITS;
	}
	if (f) {
		owned = f->owned;
	} else {
		r = chain_index_owned(w->chain->index, cluster, w->active->layer->id, w->unit_shift,
				      &owned);
		if (r)
			goto failed;
	}
	if (skew || n < us) {
		struct chain_io *io;
		struct bounce *b;

		n = min(n, us - skew);
		/* The last unit of the disk is whole if all that is there of it is meant. */
		if (!skew && sector + n == w->chain->file.geometry.sectors)
			goto whole;
		if (bio_op(bio) == REQ_OP_DISCARD)
			goto skip;
		if (!(owned.bitmap & mask))
			return chain_write_piece(w, bio, all); /* merges as a write would */
		b = chain_bounce_get(w);
		if (!b)
			return STALLED;
		*all = n == bio_sectors(bio);
		io = chain_write_part(w, bio, n);
		if (!io)
			return STALLED;
		io->epoch = chain_inflight_enter(&w->chain->inflight);
		chain_bounce_write(w, io, b, 0, skew, owned.host + ((u64)unit << w->unit_shift),
				   false);
		return STARTED;
	}
	n = units * us;
whole:
	if (chain_txn_full(w) || chain_room_log_is_short(w))
		return STALLED;
	WRITE_ONCE(w->chain->uncommitted, true);
	r = chain_index_set(w->chain->index, cluster, w->active->layer->id, w->unit_shift, 0, mask);
	if (r)
		goto failed;
	owned.bitmap &= ~(u64)mask;
	owned.bitmap |= (u64)mask << 32;
	if (f)
		f->owned = owned;
	else if (owned.host && !(owned.bitmap & U32_MAX))
		chain_txn_free(w, owned.host);
	chain_txn_record(w, cluster, &owned);
skip:
	*all = n == bio_sectors(bio);
	bio_advance(bio, n << SECTOR_SHIFT);
	return STARTED;

failed:
	chain_end_bio(bio, r);
	*all = true;
	return WAITS;
}

void chain_zero_bio(struct chain_writer *w, struct bio *bio)
{
	enum started s;
	bool all = false;

	for (;;) {
		/* A piece that became a bio's own I/O ends it by itself. */
		s = zero_piece(w, bio, &all);
		if (s != STARTED || all)
			break;
	}
	if (s == STALLED)
		bio_list_add(&w->stalled, bio);
	if (s != STARTED || bio->bi_iter.bi_size)
		return;
	if (bio->bi_opf & REQ_FUA)
		chain_txn_wait(w, bio);
	else
		bio_endio(bio);
}
