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
	u64 clusters; /* of the disk that are not HOLE */
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
 * The same, but for one entry of the tree, which says all: zeroes of two layers are two answers.
 */
bool chain_index_lookup_one(struct chain_index *index, sector_t sector, unsigned int max,
			    struct chain_extent *out);

/*
 * As chain_index_lookup(), but reads from the chain file what is missing. Context: process, may
 * sleep; the caller is in a no-I/O allocation scope. Returns 0, -EIO for a damaged or unreadable
 * node, -ENOMEM.
 */
int chain_index_find(struct chain_index *index, sector_t sector, unsigned int max,
		     struct chain_extent *out);

void chain_index_stats(struct chain_index *index, struct chain_index_stats *stats);

/*
 * Others keep @bytes more (or fewer) of what the limit is for. Any context. The index makes room
 * for it when it next needs some itself.
 */
void chain_index_charge(struct chain_index *index, long bytes);
/* Bytes that may be charged, all in all. */
u64 chain_index_share(const struct chain_index *index);

/*
 * ---- Changing it: only with an active layer. One thread changes and packs; readers go on. ----
 *
 * What is changed stays in memory until it is packed and stored.
 */

/* Makes the index ready to be changed. Returns 0 or -ENOMEM. */
int chain_index_make_writable(struct chain_index *index);

/* What one layer itself says of a cluster, in units; as in a record of the log. */
struct chain_owned {
	u64 host; /* bytes in the layer; 0: nothing stored */
	u64 bitmap; /* bit i: unit i lies at host + i * unit; bit 32 + i: it reads zeroes */
	u64 hole; /* bit i: no layer has anything of unit i */
};

/*
 * What @layer says of @cluster. Unit: 1 << @unit_shift bytes. Context: process, may sleep, no-I/O
 * allocation scope. Returns 0, -EIO, -ENOMEM.
 */
int chain_index_owned(struct chain_index *index, u64 cluster, unsigned int layer,
		      unsigned int unit_shift, struct chain_owned *out);

/*
 * States that the units in @mask of @cluster are stored in @layer at @host (0: read zeroes, because
 * @layer says so). Readers see the old or the new entry of each subblock. Context as above. Returns
 * 0, or an error, and then nothing is changed.
 */
int chain_index_set(struct chain_index *index, u64 cluster, unsigned int layer,
		    unsigned int unit_shift, u64 host, u32 mask);

/*
 * States that the @count subblocks of @cluster from @first on are what @entry says, which is that
 * of the first of them: DATA or ZERO. Context and result as above.
 */
int chain_index_put(struct chain_index *index, u64 cluster, u32 first, u32 count, u64 entry);

/*
 * The same of a compressed cluster of @layer, whose stream begins at byte @offset there and has at
 * most @bytes bytes. On -ENOMEM some of the subblocks may be stated already.
 */
int chain_index_put_compressed(struct chain_index *index, u64 cluster, u32 first, u32 count,
			       unsigned int layer, u64 offset, u32 bytes);

/*
 * The disk is about to have @clusters, more than now: what is behind its end is HOLE. The caller
 * raises the geometry's numbers after that. Context as above. Returns 0, or an error, and then
 * nothing is changed.
 */
int chain_index_extend(struct chain_index *index, u64 clusters);

/* How many leaves wait to be packed. */
u64 chain_index_dirty(const struct chain_index *index);

/* A node on its way to the chain file. */
struct chain_packed_node {
	struct list_head list;
	u64 offset; /* bytes in the chain file */
	u32 bytes; /* a power of two, at least 512 */
	struct chain_node *node;
};

struct chain_packer {
	struct list_head nodes; /* of struct chain_packed_node */
	u64 root; /* the new root's entry */
	u64 generation; /* to be written into the nodes */
	u64 (*place)(struct chain_packer *p, u32 bytes); /* room in the chain file: its offset */
	void (*unplace)(struct chain_packer *p, u64 entry); /* a NODE entry that no longer counts */
};

/*
 * Packs all that was changed since the last time, root included, as it is now. Until
 * chain_index_stored() the nodes stay in memory. On -ENOMEM what was packed so far stands in @p and
 * counts as dirty no longer: nothing may be stored before another call, which goes on, returns 0.
 */
int chain_index_pack(struct chain_index *index, struct chain_packer *p);

/* What the last chain_index_pack() packed is in the chain file now. */
void chain_index_stored(struct chain_index *index);

#endif /* DM_CHAIN_INDEX_H */
