/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hot path: a bio comes, and goes on to where its data lie, or to a worker.
 */
#ifndef DM_CHAIN_MAP_H
#define DM_CHAIN_MAP_H

#include <linux/device-mapper.h>

/*
 * A mapped cluster of a layer on a block device, or of one whose place on the disk is known, a hole
 * or a zero cluster is answered here, without a lock. Context: any that may submit bios.
 */
int chain_map(struct dm_target *ti, struct bio *bio);
/* The end of any bio that was mapped. May run in an interrupt. */
int chain_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error);

#endif /* DM_CHAIN_MAP_H */
