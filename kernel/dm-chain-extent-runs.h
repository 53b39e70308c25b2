/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the blocks of a chunk of a file lie on the disk of its file system, if not in one piece.
 */
#ifndef DM_CHAIN_EXTENT_RUNS_H
#define DM_CHAIN_EXTENT_RUNS_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/types.h>

#define CHAIN_CHUNK_SHIFT 13 /* log2 sectors: 4 MiB of a file */

/*
 * A run: blocks of a chunk that lie one after the other on the disk; it ends where the next begins,
 * or a hole (what is not mapped). A run takes 6 bytes, a hole 2, so that 64 clusters in as many
 * places fit in 512 bytes.
 */
struct chain_runs {
	union {
		struct list_head list; /* of extents->runs */
		struct rcu_head rcu; /* no longer there */
	};
	u64 *slot; /* that points here */
	u64 base; /* the block on the disk that places are counted from */
	u16 count, holes;
	/*
	 * Blocks in the chunk: where runs begin, of count; where holes begin, of holes. Then, at
	 * places_of(), where runs lie. A search begins beside the fields above.
	 */
	u16 first[];
};

/*
 * Block @block of the chunk, which has @blocks: its place on the disk, or 0. *@rest: blocks that
 * are alike from it. Context: any.
 */
u64 chain_runs_find(const struct chain_runs *runs, u32 block, u32 blocks, u32 *rest);

/*
 * Asks the file system where the @count blocks of the file @inode from block @first on lie; its
 * disk has @end blocks. NULL if they lie in one piece, which begins at *@place, or none of them is
 * mapped (*@place is 0); runs, to be freed with kfree(); or ERR_PTR(-ENOMEM). Context: process,
 * sleeps.
 */
struct chain_runs *chain_runs_look_up(struct inode *inode, u64 first, u32 count, u64 end,
				      u64 *place);

/*
 * The place on the disk of block @block of the file; 0: it has none that may be read there. bmap()
 * tells only of blocks that were written: not of holes, nor of what was only allocated; and of
 * nothing in a file that shares blocks with others or lies on XFS's real-time device. Context as
 * above.
 */
u64 chain_runs_place(struct inode *inode, u64 block, u64 end);

#endif /* DM_CHAIN_EXTENT_RUNS_H */
