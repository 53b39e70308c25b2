/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What reading and writing need of a bio: a worker to go on in, parts of it, its data in a file or
 * on a device, its end.
 */
#ifndef DM_CHAIN_BIO_H
#define DM_CHAIN_BIO_H

#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/llist.h>
#include <linux/workqueue.h>

#include "dm-chain-index.h"
#include "dm-chain.h"

/*
 * What a bio needs on its way through a worker. For a bio from dm core it is the per-bio data, for
 * a part that was split off it stands in front of it.
 */
struct chain_io {
	struct chain *chain;
	struct bio *bio;
	struct llist_node node; /* in pending */
	struct llist_head *pending; /* one of chain->pending */
	void (*start)(struct chain_io *io); /* by the worker that takes it from there */
	struct chain_extent found; /* what the bio begins with; 0 sectors: unknown */
	struct work_struct work;
	struct kiocb iocb;
	const struct chain_layer_open *layer;
	u64 offset; /* compressed: the stream, bytes in the layer */
	u32 bytes; /* compressed: its length at the most; data: bytes asked for */
	int epoch; /* what chain_inflight_enter() gave; -1: not entered */
	int extents_epoch; /* what chain_extents_enter() gave; -1: not entered */
	void (*done)(struct chain_io *io, int r); /* instead of ending the bio. Any context */
	bio_end_io_t *saved_end_io; /* of the bio, while it is on its way to a device */
	void *saved_private;

	/* For the writer. */
	int result;
	bool fua; /* durable before it is completed */
	u32 mask; /* units that are being written for the first time */
	u64 cluster;
	struct fresh *fresh;
	struct bounce *bounce;
	struct list_head list;
};

#define CHAIN_SPLIT_BIOS 64 /* kept in reserve: so many parts can always be under way */

struct chain_split {
	struct chain_io io;
	struct bio bio; /* last: its inline vectors follow */
};

/* Ends @bio, without losing the error that a part which was split off may have left in it. */
static inline void chain_end_bio(struct bio *bio, int r)
{
	if (r)
		bio->bi_status = errno_to_blk_status(r);
	bio_endio(bio);
}

static inline struct chain_io *chain_io_of(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct chain_io));
}

/* Of a part that was split off: its bio is of a set with room for the above in front. */
static inline struct chain_io *chain_io_split_of(struct bio *part)
{
	return &container_of(part, struct chain_split, bio)->io;
}

/*
 * The end of what @io was to do. A bio that was mapped leaves chain->inflight in the target's
 * end_io, after all its parts. Any context.
 */
static inline void chain_io_end(struct chain_io *io, int r)
{
	if (io->done)
		io->done(io, r);
	else
		chain_end_bio(io->bio, r);
}

/* The queues, and the bios for parts. */
int chain_bio_init(struct chain *c);
void chain_bio_exit(struct chain *c);

/*
 * Takes over @bio, which was mapped: a worker calls @start. That has a no-I/O allocation scope and
 * a plug. @found: what a lookup said that will still be true then, or NULL. Context: any that may
 * queue work.
 */
void chain_io_queue(struct chain *c, struct bio *bio, const struct chain_extent *found,
		    void (*start)(struct chain_io *io));

/*
 * The first @sectors of io->bio as a bio of their own, which io->bio waits for. @done as in struct
 * chain_io. Context: process, no-I/O allocation scope; waits until there is a bio.
 */
struct chain_io *chain_io_split(struct chain_io *io, u32 sectors,
				void (*done)(struct chain_io *io, int r));

/*
 * Reads or writes all of @bio, as its operation says, at byte @pos of the file io->layer; then
 * io->done, or the end of io->bio. Context: process, may sleep, no-I/O allocation scope.
 */
void chain_file_io(struct chain_io *io, struct bio *bio, u64 pos);

/*
 * The same with a device, for an @io with io->done; @bio may be io->bio. Flags that make it durable
 * are taken off.
 */
void chain_device_io(struct chain_io *io, struct bio *bio, struct block_device *bdev, u64 pos);

/* The same with io->bio at byte @pos of the layer @id, whatever that is. */
void chain_layer_io(struct chain_io *io, unsigned int id, u64 pos);

#endif /* DM_CHAIN_BIO_H */
