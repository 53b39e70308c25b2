/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The shapes of the index in memory, for the files that make it up: dm-chain-index.c (looking up,
 * loading, dropping) and dm-chain-index-write.c (changing, packing). Nobody else includes this.
 */
#ifndef DM_CHAIN_INDEX_PRIV_H
#define DM_CHAIN_INDEX_PRIV_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>

#include "dm-chain-compat.h"
#include "dm-chain-index.h"

#ifndef CONFIG_64BIT
#error "dm-chain needs a 64-bit kernel: index entries are read and written in one access"
#endif

/*
 * A slot whose child is in memory: the child's address, and in the bits that its alignment leaves
 * free
 *   0..2  CHAIN_RESIDENT
 *   3     the child was used since the clock's hand last passed (readers set it, rarely)
 *   4     the child leaf is a struct runs, not an array
 * In an entry of a leaf in memory, FINE and COMPRESSED hold addresses in the same way (of an array
 * of entries, of a struct packed) instead of the indexes that they hold on disk.
 */
#define SLOT_USED 8ull
#define SLOT_RUNS 16ull
#define SLOT_ALIGN 32
#define SLOT_MASK 31ull

#define MIN_CACHE (64u << 10) /* bytes beyond the root: one path and something to evict */
#define VICTIMS 64
#define LOAD_LOCKS 16

struct middle {
	u64 slot[CHAIN_FANOUT];
	u64 place[CHAIN_FANOUT]; /* of children in memory: their NODE entry, to go back to */
};

/* What the lookup does not need of a slot of the root; under index->lock. */
struct root_side {
	u64 place; /* of a middle node in memory: its NODE entry */
	u32 children; /* of it that are in memory, and searches that hold it */
};

/* A leaf of few runs: run i begins at child start[i] with entry[i]. */
struct runs {
	u16 count;
	u16 *start;
	u64 entry[];
};

#define RUNS_MAX 180 /* more do not pay: an array is 4096 bytes, this 1824 */

struct packed {
	u64 offset;
	u32 bytes;
	u16 layer;
};

/* Nodes cut off from the tree, waiting for readers to leave. */
struct victims {
	struct rcu_head rcu;
	struct chain_index *index;
	unsigned int count;
	u64 slot[VICTIMS]; /* CHAIN_RESIDENT slots; a middle node is marked by its level */
	u8 level[VICTIMS];
	bool busy; /* under index->lock to set; cleared when the grace period is over */
};

struct chain_index_cpu {
	u64 hits;
};

struct chain_index {
	u64 *root; /* root_count slots; written under lock, read under RCU; may be exchanged */
	u32 root_count;
	u8 cluster_sector_shift; /* log2 sectors */
	u8 subblock_sector_shift;
	struct chain_index_cpu __percpu *cpu;

	/* Not on the hot path from here on. */
	const struct chain_file *cf;
	struct root_side *side; /* root_count */
	u64 limit;
	u64 fixed; /* bytes: the root and this */
	atomic64_t bytes;
	atomic64_t resident;
	atomic64_t misses;
	u64 nodes;

	struct mutex lock; /* every change of the tree; taken inside a load lock */
	u64 hand; /* the clock's: number of a leaf; under lock */
	u64 stored; /* how often; under lock to change */
	struct victims victims; /* of a reader that makes room; under lock */
	struct victims shrunk; /* of the shrinker */
	struct mutex load[LOAD_LOCKS]; /* by leaf: one reader of a node, the others wait */
	struct chain_shrinker *shrinker;

	/* Only with an active layer; under lock. */
	unsigned long *dirty; /* by leaf: changed since it was packed. NULL: nobody writes */
	unsigned long *storing; /* by leaf: packed, not in the chain file yet */
	unsigned long *dirty_middle; /* by root slot: changed, or not stored yet */
	u64 dirty_leaves;
	atomic64_t clusters; /* that are not HOLE */
};

static inline void *slot_ptr(u64 slot)
{
	return (void *)(unsigned long)(slot & ~SLOT_MASK);
}

static inline void *entry_ptr(u64 e)
{
	return (void *)(unsigned long)(e & ~CHAIN_KIND_MASK);
}

static inline u64 ptr_entry(const void *p, enum chain_kind kind)
{
	return (u64)(unsigned long)p | kind;
}

/* Frees what the entries of a leaf point to; returns how many bytes that was. */
size_t chain_free_entries(const struct chain_index *ix, const u64 *e, u32 count);

/*
 * Room for @bytes below the limit, as far as there is anything to drop. Under index->lock; sleeps.
 */
void chain_index_make_room(struct chain_index *ix, size_t bytes);

#endif /* DM_CHAIN_INDEX_PRIV_H */
