/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Straight to the disk: where the blocks of a sealed layer's file lie on the block device of its
 * file system, so that a bio can be sent there, without the file system and without a worker.
 *
 * A layer has a map: the file in chunks of 4 MiB, each looked up in the file system when it is
 * first read, and forgotten again, least recently used first, when memory is short. What is not
 * mapped (a hole, an unwritten block, the part of a block behind the file's end) is read through
 * the file. docs/extents.md says which files have a map, and what keeps their blocks where they
 * are.
 *
 * Readers hold only rcu_read_lock(). All else is done under extents->lock, which may be waited for
 * by messages, suspend and resume, and is never waited for by a bio.
 */
#ifndef DM_CHAIN_EXTENT_H
#define DM_CHAIN_EXTENT_H

#include "dm-chain-index.h"
#include "dm-chain-layer.h"

struct chain_extents;

/* Where on a block device to read. */
struct chain_place {
	struct block_device *bdev;
	sector_t sector;
	unsigned int sectors; /* for so many, 1..max */
};

/*
 * Maps for the layers of @ls, as far as they qualify. @index: counts their memory, which is a
 * quarter of its limit at the most. Context: process, may sleep. Returns NULL without memory.
 */
struct chain_extents *chain_extents_open(struct chain_layers *ls, struct chain_index *index);
/* No bio may be counted in. Sleeps. NULL: nothing to do. */
void chain_extents_close(struct chain_extents *ex);

/*
 * The layer @l, which had no map, may have one from now on: it is sealed, and nobody writes to it.
 * Whether it can have one is found out in the background. Context: process, may sleep. @ex may be
 * NULL.
 */
void chain_extents_try(struct chain_extents *ex, struct chain_layer_open *l);

/*
 * The layer @l has no map any more, and no bio is under way by one: it may be written to, or
 * closed. @why: a word for chain_extents_way(), static. Context: process, sleeps; @ex may be NULL.
 */
void chain_extents_drop(struct chain_extents *ex, struct chain_layer_open *l, const char *why);

/*
 * How @l is read: NULL, straight from the disk; or why it is read through the file, one word.
 * Context: process, sleeps. @ex: NULL if no layer has a map.
 */
const char *chain_extents_way(struct chain_extents *ex, const struct chain_layer_open *l);

/*
 * A bio is counted in from before the first place was looked up for it until it has ended:
 * what chain_extents_enter() returns, for chain_extents_leave(). Any context.
 */
int chain_extents_enter(struct chain_extents *ex);
void chain_extents_leave(struct chain_extents *ex, int epoch);

/*
 * Where to read what @x says (DATA of a file), as far as it lies in one piece: in @out, and true.
 * False: through the file. @opf: of the bio, which is counted in. Context: any that may submit
 * bios; never sleeps, takes no lock.
 */
bool chain_extents_find(struct chain_extents *ex, const struct chain_extent *x, blk_opf_t opf,
			struct chain_place *out);

#endif /* DM_CHAIN_EXTENT_H */
