// SPDX-License-Identifier: GPL-2.0
/*
 * First writes. A bio goes in pieces to a free cluster of the active layer, or to the one that its
 * cluster of the disk already has there; what is smaller than a unit is merged with what was there
 * before, in a bounce. When the data is there the index is changed, a record is noted, and the bio
 * completed.
 */

#include "dm-chain-writer.h"

#include <linux/blkdev.h>
#include <linux/slab.h>

#include "dm-chain-io.h"

#define FRESH_MIN 64 /* clusters that can always be under way */

/* ---- Clusters under way ---- */

struct fresh *chain_fresh_find(struct chain_writer *w, u64 cluster)
{
	struct fresh *f;

	hash_for_each_possible(w->fresh, f, hash, cluster)
		if (f->cluster == cluster)
			return f;
	return NULL;
}

static void drop_fresh(struct chain_writer *w, struct fresh *f)
{
	if (!(f->owned.bitmap & U32_MAX) && f->owned.host) {
		/* Its first write failed, or all of it was discarded meanwhile. */
		chain_txn_free(w, f->owned.host);
		f->owned.host = 0;
	}
	hash_del(&f->hash);
	bio_list_merge_head(&w->todo, &f->waiting);
	mempool_free(f, w->fresh_pool);
}

/* ---- Starting I/O ---- */

/* Any context: the I/O of @io is over. */
static void write_done(struct chain_io *io, int r)
{
	struct chain_writer *w = io->chain->writer;

	io->result = r;
	if (io->epoch >= 0) {
		chain_inflight_leave(&io->chain->inflight, io->epoch);
		io->epoch = -1;
	}
	if (llist_add(&io->node, &w->done))
		chain_writer_kick(w);
}

struct bounce *chain_bounce_get(struct chain_writer *w)
{
	unsigned int i;

	for (i = 0; i < BOUNCES; i++)
		if (!w->bounce[i]->used)
			return w->bounce[i];
	return NULL;
}

struct chain_io *chain_write_part(struct chain_writer *w, struct bio *bio, u32 sectors)
{
	bool last = sectors == bio_sectors(bio);
	struct chain *c = w->chain;
	struct chain_io *io;
	struct bio *part;

	if (last && !bio_flagged(bio, BIO_CHAIN)) {
		io = chain_io_of(bio);
		io->bio = bio;
	} else {
		if (last)
			part = bio_alloc_clone(bio->bi_bdev, bio, GFP_NOWAIT | __GFP_NOWARN,
					       &w->part_bios);
		else
			part = bio_split(bio, sectors, GFP_NOWAIT | __GFP_NOWARN, &w->part_bios);
		if (IS_ERR_OR_NULL(part))
			return NULL;
		bio_chain(part, bio);
		if (last)
			bio_endio(bio);
		io = chain_io_split_of(part);
		io->bio = part;
	}
	io->chain = c;
	io->epoch = -1;
	io->fresh = NULL;
	io->mask = 0;
	io->bounce = NULL;
	io->done = write_done;
	io->result = 0;
	io->fua = io->bio->bi_opf & REQ_FUA;
	return io;
}

/* Writes the data of @bio, which belongs to @io, at byte @pos of the active layer. */
static void submit_write(struct chain_writer *w, struct chain_io *io, struct bio *bio, u64 pos)
{
	struct chain_layer_open *l = w->active->layer;

	w->under_way++;
	if (!l->dev) {
		io->layer = l;
		chain_file_io(io, bio, pos);
		return;
	}
	chain_device_io(io, bio, l->dev->bdev, pos);
}

int chain_bounce_write(struct chain_writer *w, struct chain_io *io, struct bounce *b, u64 unit,
		       u32 within, u64 pos, bool merge)
{
	struct chain *c = w->chain;
	u32 sectors = bio_sectors(io->bio), n = merge ? unit_sectors(w) : sectors;
	u32 at = merge ? within : 0;
	int r;

	if (merge) {
		u32 there = min_t(u64, n, c->file.geometry.sectors - unit);

		memset(b->data, 0, n << SECTOR_SHIFT);
		r = chain_read_sync(c, unit, there, b->data);
		if (r)
			return r;
	}
	if (bio_op(io->bio) == REQ_OP_WRITE) {
		struct bvec_iter iter;
		struct bio_vec bv;
		u8 *p = b->data + (at << SECTOR_SHIFT);

		bio_for_each_segment(bv, io->bio, iter) {
			memcpy_from_bvec(p, &bv);
			p += bv.bv_len;
		}
	} else {
		memset(b->data + (at << SECTOR_SHIFT), 0, sectors << SECTOR_SHIFT);
	}
	b->used = true;
	io->bounce = b;
	bio_init(&b->bio, NULL, &b->vec, 1, REQ_OP_WRITE);
	__bio_add_page(&b->bio, virt_to_page(b->data), n << SECTOR_SHIFT, offset_in_page(b->data));
	submit_write(w, io, &b->bio, merge ? pos : pos + ((u64)within << SECTOR_SHIFT));
	return 0;
}

/* ---- Pieces ---- */

/* How many units from @unit on, at most @max, have (@want) or have not their bit in @bits. */
static u32 run_of(u32 bits, u32 unit, u32 max, bool want)
{
	u32 n = 0;

	while (n < max && !!(bits & 1u << (unit + n)) == want)
		n++;
	return n;
}

enum started chain_write_piece(struct chain_writer *w, struct bio *bio, bool *all)
{
	u64 sector = bio->bi_iter.bi_sector, cluster = sector / cluster_sectors(w);
	u32 within = sector & (cluster_sectors(w) - 1), us = unit_sectors(w);
	u32 n = min(bio_sectors(bio), cluster_sectors(w) - within);
	u32 unit = within / us, skew = within & (us - 1);
	struct fresh *f = chain_fresh_find(w, cluster);
	struct bounce *b = NULL;
	struct chain_owned owned;
	struct chain_io *io;
	bool whole;
	u64 host;
	int r;

	if (f) {
		owned = f->owned;
	} else {
		r = chain_index_owned(w->chain->index, cluster, w->active->layer->id, w->unit_shift,
				      &owned);
		if (r) {
			chain_end_bio(bio, r);
			*all = true;
			return WAITS; /* for nothing: it may be gone */
		}
	}
	if (owned.bitmap & 1u << unit) {
		/* It has become the layer's own since it was looked up. */
		n = min(n,
			run_of(owned.bitmap, unit, DIV_ROUND_UP(skew + n, us), true) * us - skew);
		*all = n == bio_sectors(bio);
		io = chain_write_part(w, bio, n);
		if (!io)
			return STALLED;
		io->epoch = chain_inflight_enter(&w->chain->inflight);
		submit_write(w, io, io->bio, owned.host + ((u64)within << SECTOR_SHIFT));
		return STARTED;
	}
	if (f && f->busy & 1u << unit) {
		bio_list_add(&f->waiting, bio);
		*all = true;
		return WAITS;
	}
	if (chain_room_log_is_short(w))
		return STALLED;
	whole = !skew && n >= us;
	if (whole) {
		u32 busy = owned.bitmap | (f ? f->busy : 0);

		n = run_of(busy, unit, n / us, false) * us;
	} else {
		n = min(n, us - skew);
		b = chain_bounce_get(w);
		if (!b)
			return STALLED;
	}
	if (!f) {
		f = mempool_alloc(w->fresh_pool, GFP_NOWAIT | __GFP_NOWARN);
		if (!f)
			return STALLED;
		if (!owned.host)
			owned.host = chain_room_get(w);
		if (!owned.host) {
			mempool_free(f, w->fresh_pool);
			return STALLED;
		}
		memset(f, 0, sizeof(*f));
		f->cluster = cluster;
		f->owned = owned;
		bio_list_init(&f->waiting);
		hash_add(w->fresh, &f->hash, cluster);
	}
	*all = n == bio_sectors(bio);
	io = chain_write_part(w, bio, n);
	if (!io) {
		if (!f->count)
			drop_fresh(w, f);
		return STALLED;
	}
	host = f->owned.host;
	io->fresh = f;
	io->cluster = cluster;
	io->mask = unit_mask(unit, whole ? n / us : 1);
	f->busy |= io->mask;
	f->count++;
	if (whole) {
		submit_write(w, io, io->bio, host + ((u64)within << SECTOR_SHIFT));
		return STARTED;
	}
	r = chain_bounce_write(w, io, b, sector - skew, skew, host + ((u64)unit << w->unit_shift),
			       true);
	if (r) {
		w->under_way++;
		write_done(io, r);
	}
	return STARTED;
}

void chain_write_bio(struct chain_writer *w, struct bio *bio)
{
	enum started s;
	bool all = false;

	do {
		s = chain_write_piece(w, bio, &all);
	} while (s == STARTED && !all);
	if (s == STALLED)
		bio_list_add(&w->stalled, bio);
}

/* ---- The end of a write ---- */

void chain_write_finish(struct chain_writer *w, struct chain_io *io)
{
	struct fresh *f = io->fresh;
	int r = io->result;

	w->under_way--;
	if (io->bounce)
		io->bounce->used = false;
	if (f) {
		if (!r) {
			/*
			 * Before the index says so: who finds it there knows that it is not
			 * durable.
			 */
			WRITE_ONCE(w->chain->uncommitted, true);
			r = chain_index_set(w->chain->index, f->cluster, w->active->layer->id,
					    w->unit_shift, f->owned.host, io->mask);
		}
		if (!r) {
			f->owned.bitmap |= io->mask;
			f->owned.bitmap &= ~((u64)io->mask << 32);
			chain_txn_record(w, f->cluster, &f->owned);
		}
		f->busy &= ~io->mask;
		f->count--;
		bio_list_merge_head(&w->todo, &f->waiting);
		bio_list_init(&f->waiting);
		if (!f->count)
			drop_fresh(w, f);
	}
	if (!r && io->fua)
		chain_txn_wait(w, io->bio);
	else
		chain_end_bio(io->bio, r);
}

/* ---- Opening and closing ---- */

int chain_first_init(struct chain_writer *w)
{
	unsigned int i;
	int r;

	hash_init(w->fresh);
	r = bioset_init(&w->part_bios, CHAIN_SPLIT_BIOS, offsetof(struct chain_split, bio), 0);
	if (r)
		return r;
	for (i = 0; i < BOUNCES; i++) {
		w->bounce[i] = kzalloc(sizeof(*w->bounce[i]), GFP_KERNEL);
		if (!w->bounce[i])
			return -ENOMEM;
		w->bounce[i]->data = kmalloc(1u << chain_largest_unit(w->chain), GFP_KERNEL);
		if (!w->bounce[i]->data)
			return -ENOMEM;
	}
	w->fresh_pool = mempool_create_kmalloc_pool(FRESH_MIN, sizeof(struct fresh));
	return w->fresh_pool ? 0 : -ENOMEM;
}

void chain_first_exit(struct chain_writer *w)
{
	unsigned int i;

	for (i = 0; i < BOUNCES; i++) {
		if (w->bounce[i])
			kfree(w->bounce[i]->data);
		kfree(w->bounce[i]);
	}
	bioset_exit(&w->part_bios);
	mempool_destroy(w->fresh_pool);
}
