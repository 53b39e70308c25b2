// SPDX-License-Identifier: GPL-2.0
/*
 * The worker's side of reading, and reading for others.
 */

#include "dm-chain-io.h"

#include <linux/blkdev.h>
#include <linux/sched/mm.h>

#include "dm-chain-bio.h"
#include "dm-chain-index.h"
#include "dm-chain-inflate.h"

static void chain_inflate_work(struct work_struct *work)
{
	struct chain_io *io = container_of(work, struct chain_io, work);
	unsigned int noio = memalloc_noio_save();
	u64 byte = (u64)io->bio->bi_iter.bi_sector << SECTOR_SHIFT;

	chain_io_end(io,
		     chain_inflate_read(READ_ONCE(io->chain->inflate), io->layer, io->offset,
					io->bytes,
					byte & ((1ull << io->layer->cluster_shift) - 1), io->bio));
	memalloc_noio_restore(noio);
}

/* Starts the read of all of io->bio, which @x describes. */
static void start_read(struct chain_io *io, const struct chain_extent *x)
{
	struct chain *c = io->chain;
	unsigned int id = chain_entry_layer(x->entry);
	u64 pos = chain_entry_pos(x->entry);

	switch (chain_entry_kind(x->entry)) {
	case CHAIN_HOLE:
	case CHAIN_ZERO:
		zero_fill_bio(io->bio);
		chain_io_end(io, 0);
		return;
	case CHAIN_DATA:
		chain_layer_io(io, id, pos << SECTOR_SHIFT);
		return;
	case CHAIN_COMPRESSED:
		io->layer = c->layers.by_id[id];
		io->offset = x->offset;
		io->bytes = x->bytes;
		INIT_WORK(&io->work, chain_inflate_work);
		queue_work(c->inflate_wq, &io->work);
		return;
	default:
		chain_io_end(io, -EIO);
	}
}

/* Splits the bio where its data lies apart, and starts each part; the last is the bio itself. */
static void read_bio(struct chain_io *io)
{
	struct chain_extent x = io->found;
	struct bio *bio = io->bio;

	for (;; x.sectors = 0) {
		struct chain_io *now = io;
		int r = 0;

		if (!x.sectors)
			r = chain_index_find(io->chain->index, bio->bi_iter.bi_sector,
					     bio_sectors(bio), &x);
		if (r) {
			chain_io_end(io, r);
			return;
		}
		if (x.sectors < bio_sectors(bio))
			now = chain_io_split(io, x.sectors, NULL);
		start_read(now, &x);
		if (now == io)
			return;
	}
}

void chain_read_queue(struct chain *c, struct bio *bio, const struct chain_extent *found)
{
	chain_io_queue(c, bio, found, read_bio);
}

int chain_read_sync(struct chain *c, sector_t sector, u32 sectors, void *buf)
{
	struct chain_extent x;
	struct bio_vec vec;
	struct bio bio;
	int r = 0, idx;

	idx = chain_inflight_enter(&c->inflight);
	for (; sectors;
	     sector += x.sectors, sectors -= x.sectors, buf += x.sectors << SECTOR_SHIFT) {
		const struct chain_layer_open *l;
		u64 pos;

		r = chain_index_find(c->index, sector, sectors, &x);
		if (r)
			break;
		l = c->layers.by_id[chain_entry_layer(x.entry)];
		pos = chain_entry_pos(x.entry);
		switch (chain_entry_kind(x.entry)) {
		case CHAIN_HOLE:
		case CHAIN_ZERO:
			memset(buf, 0, x.sectors << SECTOR_SHIFT);
			continue;
		case CHAIN_DATA:
		case CHAIN_COMPRESSED:
			break;
		default:
			r = -EIO;
			goto out;
		}
		if (chain_entry_kind(x.entry) == CHAIN_DATA && !l->dev) {
			u64 bytes = (u64)x.sectors << SECTOR_SHIFT, at = pos << SECTOR_SHIFT;
			u64 there = min(bytes, READ_ONCE(l->bytes) - min(at, READ_ONCE(l->bytes)));

			memset(buf + there, 0, bytes - there);
			r = chain_read_exact(l->opened.file, buf, there, at);
			if (r)
				break;
			continue;
		}
		bio_init(&bio, l->dev ? l->dev->bdev : NULL, &vec, 1, REQ_OP_READ);
		__bio_add_page(&bio, virt_to_page(buf), x.sectors << SECTOR_SHIFT,
			       offset_in_page(buf));
		if (chain_entry_kind(x.entry) == CHAIN_DATA) {
			bio.bi_iter.bi_sector = pos;
			r = submit_bio_wait(&bio);
		} else {
			u64 byte = (u64)sector << SECTOR_SHIFT;

			r = chain_inflate_read(READ_ONCE(c->inflate), l, x.offset, x.bytes,
					       byte & ((1ull << l->cluster_shift) - 1), &bio);
		}
		bio_uninit(&bio);
		if (r)
			break;
	}
out:
	chain_inflight_leave(&c->inflight, idx);
	return r;
}
