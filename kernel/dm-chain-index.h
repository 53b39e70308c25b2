/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The index in memory: which layer holds a sector of the virtual disk, and where.
 *
 * A radix tree of three levels over the clusters of the disk. A slot of the root covers 2^18
 * clusters, a slot of a middle node 2^9, an entry of a leaf one. Where a slot's whole range is
 * contiguous in one layer (or a hole, or zero) the slot itself is the entry and there is no child.
 * Children are read from the chain file when they are first needed, and dropped again, least
 * recently used first (approximately: clock), to stay below the limit or when the kernel asks.
 *
 * Readers hold only rcu_read_lock(). Every change of the tree is made under index->lock, and what
 * was reachable is freed after a grace period.
 */
#ifndef DM_CHAIN_INDEX_H
#define DM_CHAIN_INDEX_H

#include "dm-chain-file.h"

struct chain_index;

/* What the index says of a range of sectors that begins at the sector asked for. */
struct chain_extent {
	/*
	 * HOLE, ZERO: reads zeroes. DATA: layer and position of just this sector. COMPRESSED:
	 * layer; offset, bytes below. NONE: not in memory, see chain_index_find().
	 */
	u64 entry;
	unsigned int sectors; /* for so many sectors, 1..max */
	u32 bytes; /* COMPRESSED: upper bound of the stream's length */
	u64 offset; /* COMPRESSED: bytes, where the stream begins in the layer */
};

struct chain_index_stats {
	u64 bytes; /* of memory, what waits for its grace period included */
	u64 limit; /* bytes */
	u64 resident; /* nodes in memory */
	u64 nodes; /* nodes in the chain file */
	u64 hits; /* lookups answered from memory */
	u64 misses; /* nodes read from the chain file */
};

/*
 * @cf must stay open until chain_index_close(). @limit: bytes of memory for the index. Context:
 * process, may sleep. Returns the index or an ERR_PTR, with *@error set.
 */
struct chain_index *chain_index_open(const struct chain_file *cf, u64 limit, char **error);
/* No reader may be left. May sleep. */
void chain_index_close(struct chain_index *index);

/*
 * Looks up @sector, which must lie in the disk, and what follows it up to @max sectors (>= 1,
 * within the disk). Context: any that can take rcu_read_lock(); never sleeps, takes no lock.
 * Returns true, or false where the answer is not in memory.
 */
bool chain_index_lookup(struct chain_index *index, sector_t sector, unsigned int max,
			struct chain_extent *out);

/*
 * The same, but reads from the chain file what is missing. Context: process, may sleep; the caller
 * is in a no-I/O allocation scope. Returns 0, -EIO for a damaged or unreadable node, -ENOMEM.
 */
int chain_index_find(struct chain_index *index, sector_t sector, unsigned int max,
		     struct chain_extent *out);

void chain_index_stats(struct chain_index *index, struct chain_index_stats *stats);

#endif /* DM_CHAIN_INDEX_H */
