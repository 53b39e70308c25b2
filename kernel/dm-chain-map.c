// SPDX-License-Identifier: GPL-2.0
/*
 * The hot path; see the header.
 */

#include "dm-chain-map.h"

#include <linux/blkdev.h>

#include "dm-chain-bio.h"
#include "dm-chain-extent.h"
#include "dm-chain-index.h"
#include "dm-chain-io.h"
#include "dm-chain-write.h"

/* ---- Writes ---- */

/*
 * The hot path of a chain with an active layer: what that layer has is written in place. All else
 * goes to the writer.
 */
static int chain_map_write(struct chain *c, struct bio *bio, struct chain_io *io)
{
	struct chain_extent x;
	struct block_device *bdev;
	int idx;

	if (bio_op(bio) != REQ_OP_WRITE || bio->bi_opf & REQ_PREFLUSH)
		goto writer;
	idx = chain_inflight_enter(&c->inflight);
	if (!chain_index_lookup(c->index, bio->bi_iter.bi_sector, bio_sectors(bio), &x) ||
	    chain_entry_kind(x.entry) != CHAIN_DATA ||
	    chain_entry_layer(x.entry) != READ_ONCE(c->active_id))
		goto unlock;
	bdev = READ_ONCE(c->layers.bdev)[chain_entry_layer(x.entry)];
	if (bio->bi_opf & REQ_FUA) {
		/* Durable is more than the data if the log does not say yet where that is. */
		smp_rmb(); /* the index was read: pairs with the writer, which sets this before */
		if (!bdev || READ_ONCE(c->uncommitted))
			goto unlock;
	}
	io->epoch = idx;
	if (!bdev) {
		chain_overwrite_queue(c, bio, &x);
		return DM_MAPIO_SUBMITTED;
	}
	if (x.sectors < bio_sectors(bio))
		dm_accept_partial_bio(bio, x.sectors);
	bio_set_dev(bio, bdev);
	bio->bi_iter.bi_sector = chain_entry_pos(x.entry);
	return DM_MAPIO_REMAPPED;

unlock:
	chain_inflight_leave(&c->inflight, idx);
writer:
	chain_write_queue(c, bio);
	return DM_MAPIO_SUBMITTED;
}

/* ---- Reads ---- */

/*
 * Where on a disk data in a file lie that @x describes, if that is known. The bio is counted in
 * then. Not inline: with it chain_map() would save more registers for layers on devices, too.
 */
static noinline bool chain_find_straight(struct chain *c, struct chain_io *io, blk_opf_t opf,
					 const struct chain_extent *x, struct chain_place *place)
{
	bool counted = io->extents_epoch >= 0;

	if (!c->extents)
		return false;
	if (!counted)
		io->extents_epoch = chain_extents_enter(c->extents);
	if (chain_extents_find(c->extents, x, opf, place))
		return true;
	if (!counted) {
		chain_extents_leave(c->extents, io->extents_epoch);
		io->extents_epoch = -1;
	}
	return false;
}

/* The same of data in any layer; false: a worker's. */
static __always_inline bool chain_place_of(struct chain *c, struct chain_io *io, blk_opf_t opf,
					   const struct chain_extent *x, struct chain_place *place)
{
	place->bdev = READ_ONCE(c->layers.bdev)[chain_entry_layer(x->entry)];
	if (!place->bdev)
		return chain_find_straight(c, io, opf, x, place);
	place->sector = chain_entry_pos(x->entry);
	place->sectors = x->sectors;
	return true;
}

/* The same of up to @max sectors of the disk from @sector on. */
static bool chain_find_place(struct chain *c, struct chain_io *io, blk_opf_t opf, sector_t sector,
			     unsigned int max, struct chain_place *place)
{
	struct chain_extent x;

	return chain_index_lookup(c->index, sector, max, &x) &&
	       chain_entry_kind(x.entry) == CHAIN_DATA && chain_place_of(c, io, opf, &x, place);
}

#define MAX_PIECES 16 /* of a bio, that are sent on at once */

/*
 * Sends on what is longer than the piece at @first: as many pieces as there are places known and
 * bios to be had without waiting, the last one by the bio itself, which waits for the others. The
 * rest comes again. Left to dm core alone, each piece would take it another bio for all that
 * follows.
 */
static noinline void chain_map_pieces(struct chain *c, struct bio *bio, struct chain_io *io,
				      const struct chain_place *first)
{
	struct bio *part[MAX_PIECES - 1];
	struct chain_place place[MAX_PIECES];
	unsigned int i, n = 0, sectors = first->sectors;

	place[0] = *first;
	while (n < MAX_PIECES - 1 && sectors < bio_sectors(bio) &&
	       chain_find_place(c, io, bio->bi_opf, bio->bi_iter.bi_sector + sectors,
				bio_sectors(bio) - sectors, &place[n + 1])) {
		part[n] = bio_alloc_clone(bio->bi_bdev, bio, GFP_NOWAIT | __GFP_NOWARN,
					  &c->split_bios);
		if (!part[n])
			break;
		sectors += place[++n].sectors;
	}
	if (sectors < bio_sectors(bio))
		dm_accept_partial_bio(bio, sectors);
	for (i = 0; i < n; i++) {
		unsigned int bytes = place[i].sectors << SECTOR_SHIFT;

		/* Only the bio itself can be polled for. */
		part[i]->bi_opf &= ~REQ_POLLED;
		part[i]->bi_iter = bio->bi_iter;
		part[i]->bi_iter.bi_size = bytes;
		part[i]->bi_iter.bi_sector = place[i].sector;
		bio_set_dev(part[i], place[i].bdev);
		bio_advance(bio, bytes);
		bio_chain(part[i], bio);
		submit_bio_noacct(part[i]);
	}
	bio_set_dev(bio, place[n].bdev);
	bio->bi_iter.bi_sector = place[n].sector;
}

int chain_map(struct dm_target *ti, struct bio *bio)
{
	struct chain *c = ti->private;
	struct chain_io *io = chain_io_of(bio);
	struct chain_place place;
	struct chain_extent x;

	bio->bi_iter.bi_sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	io->epoch = -1;
	io->extents_epoch = -1;
	if (unlikely(bio_op(bio) != REQ_OP_READ || !bio_sectors(bio))) {
		if (!c->writer)
			return DM_MAPIO_KILL;
		return chain_map_write(c, bio, io);
	}
	if (c->writer)
		io->epoch = chain_inflight_enter(&c->inflight);

	if (unlikely(!chain_index_lookup(c->index, bio->bi_iter.bi_sector, bio_sectors(bio), &x))) {
		chain_read_queue(c, bio, NULL);
		return DM_MAPIO_SUBMITTED;
	}

	switch (chain_entry_kind(x.entry)) {
	case CHAIN_DATA:
		if (!chain_place_of(c, io, bio->bi_opf, &x, &place))
			break;
		if (place.sectors < bio_sectors(bio)) {
			chain_map_pieces(c, bio, io, &place);
			return DM_MAPIO_REMAPPED;
		}
		bio_set_dev(bio, place.bdev);
		bio->bi_iter.bi_sector = place.sector;
		return DM_MAPIO_REMAPPED;
	case CHAIN_HOLE:
	case CHAIN_ZERO:
		if (x.sectors < bio_sectors(bio))
			dm_accept_partial_bio(bio, x.sectors);
		zero_fill_bio(bio);
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	default:
		break;
	}
	chain_read_queue(c, bio, &x);
	return DM_MAPIO_SUBMITTED;
}

int chain_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct chain *c = ti->private;
	struct chain_io *io = chain_io_of(bio);

	if (io->epoch >= 0)
		chain_inflight_leave(&c->inflight, io->epoch);
	if (io->extents_epoch >= 0)
		chain_extents_leave(c->extents, io->extents_epoch);
	return DM_ENDIO_DONE;
}
