// SPDX-License-Identifier: GPL-2.0
/*
 * The least that a target with an index can cost: one flat array of 8 bytes a 64 KiB cluster,
 * read under RCU, each pointing to a random cluster of one device. A peer in the benchmark of the
 * cost per bio: what the target "chain" takes beyond this is its own.
 *
 *	<start> <length> chain-bare <device>
 */
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#define CLUSTER_SHIFT 7 /* log2 sectors */
#define CLUSTER_MASK ((1u << CLUSTER_SHIFT) - 1)

struct bare {
	u64 *sector; /* by cluster */
	struct dm_dev *dev;
};

static int bare_map(struct dm_target *ti, struct bio *bio)
{
	struct bare *b = ti->private;
	sector_t sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	u32 within = sector & CLUSTER_MASK;
	u64 place;

	rcu_read_lock();
	place = READ_ONCE(b->sector[sector >> CLUSTER_SHIFT]);
	rcu_read_unlock();
	if (bio_sectors(bio) > CLUSTER_MASK + 1 - within)
		dm_accept_partial_bio(bio, CLUSTER_MASK + 1 - within);
	bio_set_dev(bio, b->dev->bdev);
	bio->bi_iter.bi_sector = place + within;
	return DM_MAPIO_REMAPPED;
}

static void bare_dtr(struct dm_target *ti)
{
	struct bare *b = ti->private;

	dm_put_device(ti, b->dev);
	kvfree(b->sector);
	kfree(b);
}

static int bare_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	u64 clusters = ti->len >> CLUSTER_SHIFT, i;
	struct rnd_state rnd;
	struct bare *b;
	int r;

	if (argc != 1) {
		ti->error = "Needs one argument, the device";
		return -EINVAL;
	}
	b = kzalloc(sizeof(*b), GFP_KERNEL);
	if (!b)
		return -ENOMEM;
	r = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &b->dev);
	if (r) {
		kfree(b);
		return r;
	}
	ti->private = b;
	b->sector = kvmalloc_array(clusters, sizeof(u64), GFP_KERNEL);
	if (!b->sector) {
		bare_dtr(ti);
		return -ENOMEM;
	}
	prandom_seed_state(&rnd, 1);
	for (i = 0; i < clusters; i++)
		b->sector[i] = (u64)(prandom_u32_state(&rnd) % (u32)clusters) << CLUSTER_SHIFT;
	return 0;
}

static struct target_type bare_target = {
	.name = "chain-bare",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = bare_ctr,
	.dtr = bare_dtr,
	.map = bare_map,
};

static int __init bare_init(void)
{
	return dm_register_target(&bare_target);
}
module_init(bare_init);

static void __exit bare_exit(void)
{
	dm_unregister_target(&bare_target);
}
module_exit(bare_exit);

MODULE_DESCRIPTION("flat array target of dm-chain's benchmarks");
MODULE_AUTHOR("dm-chain developers");
MODULE_LICENSE("GPL");
