/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One target: what "dmsetup create" made.
 */
#ifndef DM_CHAIN_H
#define DM_CHAIN_H

#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "dm-chain-file.h"
#include "dm-chain-inflight.h"
#include "dm-chain-layer.h"

struct chain_extent;
struct chain_extents;
struct chain_index;
struct chain_inflate;
struct chain_writer;

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
	bool file_io; /* layers in files are read through the files */
};

struct chain {
	struct dm_target *ti;
	struct chain_index *index;
	struct chain_layers layers;
	struct chain_extents *extents; /* NULL: layers in files are read through the files */
	/* NULL: no layer has compressed clusters. Changed under control, read in flight. */
	struct chain_inflate *inflate;
	struct chain_writer *writer; /* NULL: read-only */
	unsigned int active_id; /* whose data may be written in place, or CHAIN_NO_LAYER */
	bool uncommitted; /* the index says what the log does not say durably yet */
	struct chain_inflight inflight; /* with a writer: all I/O to a place that was looked up */

	/* Not on the hot path from here on. */
	struct chain_file file;
	char *path; /* of the chain file */
	struct chain_options options;
	bool writable; /* the chain has an active layer, also if it is not open now */
	bool stopped; /* suspended, and all that was written is durable */
	bool failed; /* the last attempt to resume it did */
	bool released; /* while suspended: another machine may have written since */
	bool layers_changed; /* the layer table in the chain file is not up to date */
	struct mutex control; /* writable: messages, status, suspend and resume */
	struct llist_head __percpu *pending; /* of struct chain_io; see chain_io_queue() */
	struct workqueue_struct *wq; /* bound: works run one after the other until one blocks */
	struct workqueue_struct *inflate_wq; /* unbound: inflating is work for any processor */
	struct workqueue_struct *write_wq; /* writable: the writer's thread */
	struct workqueue_struct *commit_wq; /* writable: the writer's, for what blocks for long */
	struct bio_set split_bios; /* with a struct chain_io in front */
};

#endif /* DM_CHAIN_H */
