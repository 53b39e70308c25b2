/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reads that need more than a remap: from files, compressed clusters, and what the index does not
 * have in memory. A worker does them; the bio waits, the submitter does not.
 */
#ifndef DM_CHAIN_IO_H
#define DM_CHAIN_IO_H

#include "dm-chain.h"

/*
 * Takes over the read @bio, which was mapped and whose sectors are of the virtual disk. @found:
 * what chain_index_lookup() said of it, or NULL; with a writer, it entered c->inflight before that.
 * Context: any that may queue work.
 */
void chain_read_queue(struct chain *c, struct bio *bio, const struct chain_extent *found);

/*
 * Reads @sectors (within one cluster) from @sector of the disk on into @buf, and waits. Context:
 * process, may sleep, no-I/O allocation scope; @buf from kmalloc(). Returns 0 or an error.
 */
int chain_read_sync(struct chain *c, sector_t sector, u32 sectors, void *buf);

#endif /* DM_CHAIN_IO_H */
