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
struct chain_inflight;

/*
 * Makes *@inf ready for the compressed clusters of @layers, and leaves what is large enough as it
 * is. One buffer is made now, so that reads can always go on; more when they are needed and there
 * is memory. Whoever reads with *@inf meanwhile has entered @inflight, and is waited for. May
 * sleep. Returns 0 or -ENOMEM, and then nothing is changed.
 */
int chain_inflate_prepare(struct chain_inflate **inf, const struct chain_layers *layers,
			  struct chain_inflight *inflight);
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
