// SPDX-License-Identifier: GPL-2.0
/*
 * Overwrites, in place, of what the active layer has in a file. On a device chain_map() sends them
 * on by itself.
 */

#include "dm-chain-write.h"

#include <linux/blkdev.h>

#include "dm-chain-bio.h"
#include "dm-chain-index.h"

/* Part of a write in place. Any context. */
static void part_written(struct chain_io *io, int r)
{
	chain_inflight_leave(&io->chain->inflight, io->epoch);
	chain_end_bio(io->bio, r);
}

static bool in_place(const struct chain *c, const struct chain_extent *x)
{
	return chain_entry_kind(x->entry) == CHAIN_DATA &&
	       chain_entry_layer(x->entry) == READ_ONCE(c->active_id);
}

/*
 * Splits the bio where its data lies apart, and starts each part. The last part is the bio itself.
 * What is left from the first piece on that cannot be written in place goes to the writer.
 */
static void overwrite_bio(struct chain_io *io)
{
	struct chain *c = io->chain;
	struct bio *bio = io->bio;
	struct chain_extent x = io->found;
	int idx = io->epoch, r;

	io->epoch = -1;
	for (;;) {
		struct chain_io *now = io;

		if (x.sectors < bio_sectors(bio))
			now = chain_io_split(io, x.sectors, part_written);
		now->epoch = idx;
		chain_layer_io(now, chain_entry_layer(x.entry),
			       (u64)chain_entry_pos(x.entry) << SECTOR_SHIFT);
		if (now == io)
			return;
		/* Entered for each piece: what is left might have to wait for the writer. */
		idx = chain_inflight_enter(&c->inflight);
		r = chain_index_find(c->index, bio->bi_iter.bi_sector, bio_sectors(bio), &x);
		if (r || !in_place(c, &x))
			break;
	}
	chain_inflight_leave(&c->inflight, idx);
	if (r)
		chain_io_end(io, r);
	else
		chain_write_queue(c, bio);
}

void chain_overwrite_queue(struct chain *c, struct bio *bio, const struct chain_extent *found)
{
	chain_io_queue(c, bio, found, overwrite_bio);
}
