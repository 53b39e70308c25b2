// SPDX-License-Identifier: GPL-2.0
/*
 * The device-mapper target "chain": a whole chain of qcow2 snapshots as one flat block device.
 * Constructor, map function, status. docs/target.md documents the table line and the status.
 */

#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "dm-chain-compat.h"
#include "dm-chain-io.h"

#define DM_MSG_PREFIX "chain"

#define INDEX_CACHE_DEFAULT (256ull << 20) /* bytes: a full 2 TiB disk in random order, nearly */

/*
 * The hot path: a mapped cluster of a layer on a block device, a hole or a zero cluster is answered
 * here, without a lock. May run in any context that may submit bios.
 */
static int chain_map(struct dm_target *ti, struct bio *bio)
{
	struct chain *c = ti->private;
	struct chain_extent x;
	struct block_device *bdev;

	bio->bi_iter.bi_sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	if (unlikely(bio_op(bio) != REQ_OP_READ || !bio_sectors(bio)))
		return DM_MAPIO_KILL;

	if (unlikely(!chain_index_lookup(c->index, bio->bi_iter.bi_sector, bio_sectors(bio), &x)))
		goto queue;

	switch (chain_entry_kind(x.entry)) {
	case CHAIN_DATA:
		bdev = c->layers.bdev[chain_entry_layer(x.entry)];
		if (!bdev)
			goto queue;
		if (x.sectors < bio_sectors(bio))
			dm_accept_partial_bio(bio, x.sectors);
		bio_set_dev(bio, bdev);
		bio->bi_iter.bi_sector = chain_entry_pos(x.entry);
		return DM_MAPIO_REMAPPED;
	case CHAIN_HOLE:
	case CHAIN_ZERO:
		if (x.sectors < bio_sectors(bio))
			dm_accept_partial_bio(bio, x.sectors);
		zero_fill_bio(bio);
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	default:
		break;
	}
queue:
	chain_io_queue(c, bio);
	return DM_MAPIO_SUBMITTED;
}

/* ---- Constructor: <chain file> [<#opts> [index_cache <bytes>]] ---- */

static int chain_parse_options(struct chain *c, struct dm_arg_set *as)
{
	static const struct dm_arg args[] = {
		{ 0, 2, "Invalid number of options" },
	};
	struct dm_target *ti = c->ti;
	unsigned int n;
	int r;

	c->index_cache = INDEX_CACHE_DEFAULT;
	if (!as->argc)
		return 0;
	r = dm_read_arg_group(args, as, &n, &ti->error);
	if (r)
		return r;
	while (n) {
		const char *name = dm_shift_arg(as);

		n--;
		if (!strcasecmp(name, "index_cache") && n) {
			n--;
			if (kstrtoull(dm_shift_arg(as), 10, &c->index_cache)) {
				ti->error = "index_cache needs a number of bytes";
				return -EINVAL;
			}
			c->index_cache_given = true;
		} else {
			ti->error = "Unknown option, or its value is missing";
			return -EINVAL;
		}
	}
	if (as->argc) {
		ti->error = "More words than the number of options says";
		return -EINVAL;
	}
	return 0;
}

static void chain_free(struct chain *c)
{
	chain_io_exit(c);
	chain_inflate_destroy(c->inflate);
	if (c->index)
		chain_index_close(c->index);
	chain_layers_close(&c->layers, c->ti);
	chain_file_close(&c->file);
	kfree(c);
}

static int chain_open_inflate(struct chain *c)
{
	unsigned int i, shift = 0;

	for (i = 0; i < c->layers.count; i++)
		if (c->layers.layer[i].has_compressed)
			shift = max_t(unsigned int, shift, c->layers.layer[i].cluster_shift);
	if (!shift)
		return 0;
	c->inflate = chain_inflate_create(1u << shift);
	return c->inflate ? 0 : -ENOMEM;
}

static int chain_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	const char *path;
	struct chain *c;
	int r;

	if (!argc) {
		ti->error = "No chain file given";
		return -EINVAL;
	}
	c = kzalloc(sizeof(*c), GFP_KERNEL);
	if (!c) {
		ti->error = "Cannot allocate the target";
		return -ENOMEM;
	}
	c->ti = ti;
	path = dm_shift_arg(&as);
	r = chain_parse_options(c, &as);
	if (r)
		goto bad;
	r = chain_file_open(&c->file, path, &ti->error);
	if (r)
		goto bad;
	if (dm_table_get_mode(ti->table) & CHAIN_OPEN_WRITE) {
		ti->error = "The chain has no active layer: load the table read-only";
		r = -EROFS;
		goto bad;
	}
	if (ti->len > c->file.geometry.sectors) {
		DMERR("%s: the table's length is %llu sectors, the disk has %llu", path,
		      (unsigned long long)ti->len, c->file.geometry.sectors);
		ti->error = "Target is longer than the virtual disk";
		r = -EINVAL;
		goto bad;
	}
	r = chain_layers_open(&c->layers, ti, &c->file, &ti->error);
	if (r)
		goto bad;
	c->index = chain_index_open(&c->file, c->index_cache, &ti->error);
	if (IS_ERR(c->index)) {
		r = PTR_ERR(c->index);
		c->index = NULL;
		goto bad;
	}
	r = chain_open_inflate(c);
	if (!r)
		r = chain_io_init(c);
	if (r) {
		ti->error = "Cannot allocate workers and buffers";
		goto bad;
	}
	ti->per_io_data_size = sizeof(struct chain_io);
	ti->private = c;
	return 0;

bad:
	chain_free(c);
	return r;
}

static void chain_dtr(struct dm_target *ti)
{
	chain_free(ti->private);
}

/* ---- Status and limits ---- */

static unsigned int chain_depth(const struct chain *c)
{
	u32 count = le32_to_cpu(c->file.super->layer_count), i, depth = 0;

	for (i = 0; i < count; i++)
		if (le16_to_cpu(c->file.layers[i].owner) == CHAIN_NO_LAYER)
			depth++;
	return depth;
}

static void chain_status(struct dm_target *ti, status_type_t type, unsigned int status_flags,
			 char *result, unsigned int maxlen)
{
	struct chain *c = ti->private;
	const struct chain_geometry *g = &c->file.geometry;
	struct chain_index_stats stats;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		chain_index_stats(c->index, &stats);
		DMEMIT("%u %u %u - ro - %llu/%llu %llu %llu %llu/%llu 0 0 %llu %llu %llu",
		       1u << (g->cluster_shift - SECTOR_SHIFT),
		       1u << (g->subblock_shift - SECTOR_SHIFT), chain_depth(c), stats.resident,
		       stats.nodes, stats.bytes, stats.limit, le64_to_cpu(c->file.super->clusters),
		       g->clusters, stats.hits, stats.misses, chain_inflate_reads(c->inflate));
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s", c->file.path);
		if (c->index_cache_given)
			DMEMIT(" 2 index_cache %llu", c->index_cache);
		break;
	case STATUSTYPE_IMA:
		DMEMIT_TARGET_NAME_VERSION(ti->type);
		DMEMIT(",chain_file=%s;", c->file.path);
		break;
	}
}

static int chain_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct chain *c = ti->private;
	unsigned int i;
	int r = 0;

	for (i = 0; i < c->layers.count && !r; i++) {
		struct dm_dev *dev = c->layers.layer[i].dev;

		if (dev)
			r = fn(ti, dev, 0, bdev_nr_sectors(dev->bdev), data);
	}
	return r;
}

static void chain_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct chain *c = ti->private;
	unsigned int i;

	/* Direct I/O on a layer's file wants its memory aligned. */
	for (i = 0; i < c->layers.count; i++)
		if (!c->layers.layer[i].dev && c->layers.layer[i].dio_mem_align)
			limits->dma_alignment = max_t(unsigned int, limits->dma_alignment,
						      c->layers.layer[i].dio_mem_align - 1);
	limits->io_opt = 1u << c->file.geometry.cluster_shift;
}

static struct target_type chain_target = {
	.name = "chain",
	.version = { 1, 0, 0 },
	.features = DM_TARGET_NOWAIT,
	.module = THIS_MODULE,
	.ctr = chain_ctr,
	.dtr = chain_dtr,
	.map = chain_map,
	.status = chain_status,
	.iterate_devices = chain_iterate_devices,
	.io_hints = chain_io_hints,
};

static int __init chain_init(void)
{
	return dm_register_target(&chain_target);
}
module_init(chain_init);

static void __exit chain_exit(void)
{
	dm_unregister_target(&chain_target);
}
module_exit(chain_exit);

MODULE_DESCRIPTION(DM_NAME " target for chains of qcow2 snapshots");
MODULE_AUTHOR("dm-chain developers");
MODULE_LICENSE("GPL");
