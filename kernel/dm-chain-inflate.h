/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Compressed clusters: reads and inflates them, and keeps the last few, so that a sequential reader
 * inflates each cluster once.
 */
#ifndef DM_CHAIN_INFLATE_H
#define DM_CHAIN_INFLATE_H

#include <linux/bio.h>

#include "dm-chain-layer.h"

struct chain_inflate;

/*
 * For clusters of up to @cluster_bytes (a power of two). One buffer is made now, so that reads can
 * always go on; more when they are needed and there is memory. May sleep. Returns NULL without
 * memory.
 */
struct chain_inflate *chain_inflate_create(unsigned int cluster_bytes);
void chain_inflate_destroy(struct chain_inflate *inf);

/*
 * Fills @bio, which lies within one compressed cluster of @l, from byte @within of that cluster.
 * The cluster's stream begins at byte @offset of the layer and has at most @bytes bytes. Context:
 * process, sleeps. Returns 0, or a negative errno (-EIO for a stream that does not give a whole
 * cluster).
 */
int chain_inflate_read(struct chain_inflate *inf, const struct chain_layer_open *l, u64 offset,
		       u32 bytes, u32 within, struct bio *bio);

/* How many clusters were asked for, in the cache or not. */
u64 chain_inflate_reads(const struct chain_inflate *inf);

#endif /* DM_CHAIN_INFLATE_H */
