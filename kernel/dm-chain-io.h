/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reads that need more than a remap: from files, compressed clusters, and what the index does not
 * have in memory. A worker does them; the bio waits, the submitter does not.
 */
#ifndef DM_CHAIN_IO_H
#define DM_CHAIN_IO_H

#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/llist.h>
#include <linux/workqueue.h>

#include "dm-chain-index.h"
#include "dm-chain-inflight.h"
#include "dm-chain-inflate.h"
#include "dm-chain-layer.h"

struct chain_write_options {
	u64 low_water; /* bytes: an event when there is less for the active layer to grow */
	u64 replay; /* bytes of log, at the most, that an activation has to read */
	bool error_if_no_space; /* instead of waiting */
};

/* Of the table line: as given, or the default. */
struct chain_options {
	u64 index_cache; /* bytes */
	struct chain_write_options write;
	bool index_cache_given, replay_given, low_water_given;
};

/* One target: what "dmsetup create" made. */
struct chain {
	struct dm_target *ti;
	struct chain_index *index;
	struct chain_layers layers;
	struct chain_inflate *inflate; /* NULL: no layer has compressed clusters */
	struct chain_writer *writer; /* NULL: read-only */
	unsigned int active_id; /* whose data may be written in place, or CHAIN_NO_LAYER */
	bool uncommitted; /* the index says what the log does not say durably yet */
	struct chain_inflight inflight; /* with a writer: all I/O to a place that was looked up */

	/* Not on the hot path from here on. */
	struct chain_file file;
	char *path; /* of the chain file */
	struct chain_options options;
	bool layers_changed; /* the layer table in the chain file is not up to date */
	struct mutex control; /* writable: messages, status, suspend and resume */
	struct llist_head __percpu *pending; /* of struct chain_io; see chain_io_queue() */
	struct workqueue_struct *wq; /* bound: works run one after the other until one blocks */
	struct workqueue_struct *inflate_wq; /* unbound: inflating is work for any processor */
	struct bio_set split_bios; /* with a struct chain_io in front */
};

/*
 * What a bio needs on its way through a worker. For a bio from dm core it is the per-bio data, for
 * a part that was split off it stands in front of it.
 */
struct chain_io {
	struct chain *chain;
	struct bio *bio;
	struct llist_node node; /* in pending */
	struct llist_head *pending; /* one of chain->pending */
	struct work_struct work;
	struct kiocb iocb;
	const struct chain_layer_open *layer;
	u64 offset; /* compressed: the stream, bytes in the layer */
	u32 bytes; /* compressed: its length at the most; data: bytes asked for */
	int epoch; /* what chain_inflight_enter() gave; -1: not entered */

	/* For the writer. */
	void (*done)(struct chain_io *io, int r); /* instead of ending the bio. Any context */
	int result;
	bool fua; /* durable before it is completed */
	u32 mask; /* units that are being written for the first time */
	u64 cluster;
	struct fresh *fresh;
	struct bounce *bounce;
	struct list_head list;
	bio_end_io_t *saved_end_io;
	void *saved_private;
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

int chain_io_init(struct chain *c);
void chain_io_exit(struct chain *c);

/* Takes over @bio, whose sectors are of the virtual disk. Context: any that may queue work. */
void chain_io_queue(struct chain *c, struct bio *bio);

/*
 * Reads or writes all of @bio, as its operation says, at byte @pos of the file io->layer; then
 * io->done, or the end of io->bio. Context: process, may sleep, no-I/O allocation scope.
 */
void chain_file_io(struct chain_io *io, struct bio *bio, u64 pos);

/* The same with a device; @bio may be io->bio. Flags that make it durable are taken off. */
void chain_io_submit(struct chain_io *io, struct bio *bio, struct block_device *bdev, u64 pos);

/*
 * Reads @sectors (within one cluster) from @sector of the disk on into @buf, and waits. Context as
 * above; @buf from kmalloc(). Returns 0 or an error.
 */
int chain_read_sync(struct chain *c, sector_t sector, u32 sectors, void *buf);

#endif /* DM_CHAIN_IO_H */
