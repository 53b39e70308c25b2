/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writing the index back to the chain file: what was changed goes to free places, then one
 * superblock makes it count. A cut at any point leaves the state before or after.
 */
#ifndef DM_CHAIN_STORE_H
#define DM_CHAIN_STORE_H

#include "dm-chain-active.h"
#include "dm-chain-index.h"

struct chain_store;

/* Reads the free list. Returns NULL without memory; a damaged list only costs room. May sleep. */
struct chain_store *chain_store_open(struct chain_file *cf, struct chain_active *a);
void chain_store_close(struct chain_store *s);

/*
 * Packs what was changed in the index. The caller makes sure that the index says just what the log
 * will say up to the position that chain_store_write() gets. Returns 0, or an error: nothing may be
 * stored any more.
 */
int chain_store_pack(struct chain_store *s, struct chain_index *index);

/*
 * Writes what was packed, the layer table if @layers, and the superblock with the active layer's id
 * and @log. Context: process, sleeps, no-I/O allocation scope. Returns 0; -ENOSPC or
 * -EDQUOT: to be called again with the same @log when there is room; or an error: as above.
 */
int chain_store_write(struct chain_store *s, struct chain_index *index, struct chain_active *a,
		      const struct chain_log_position *log, bool layers);

/* Marks the chain file as needing a check, as well as that can be done. */
void chain_store_needs_check(struct chain_store *s);

#endif /* DM_CHAIN_STORE_H */
