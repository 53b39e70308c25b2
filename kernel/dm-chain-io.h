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
#include "dm-chain-inflate.h"
#include "dm-chain-layer.h"

/* One target: what "dmsetup create" made. */
struct chain {
	struct dm_target *ti;
	struct chain_index *index;
	struct chain_layers layers;
	struct chain_inflate *inflate; /* NULL: no layer has compressed clusters */

	/* Not on the hot path from here on. */
	struct chain_file file;
	u64 index_cache; /* bytes, as given or the default */
	bool index_cache_given;
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
};

int chain_io_init(struct chain *c);
void chain_io_exit(struct chain *c);

/* Takes over @bio, whose sectors are of the virtual disk. Context: any that may queue work. */
void chain_io_queue(struct chain *c, struct bio *bio);

#endif /* DM_CHAIN_IO_H */
