// SPDX-License-Identifier: GPL-2.0
/*
 * The device-mapper target "chain": a whole chain of qcow2 snapshots as one flat block device.
 * Constructor, suspend and resume, messages. docs/target.md documents the table line and the
 * status.
 */

#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dm-chain-bio.h"
#include "dm-chain-compat.h"
#include "dm-chain-extent.h"
#include "dm-chain-report.h"
#include "dm-chain-index.h"
#include "dm-chain-inflate.h"
#include "dm-chain-map.h"
#include "dm-chain-write.h"

#define DM_MSG_PREFIX "chain"

#define REPLAY_DEFAULT (16ull << 20) /* bytes of log: half a million records */
#define LOW_WATER_DEFAULT 0x40000000ull /* bytes */
#define MAX_ZERO_SECTORS 0x20000u /* 64 MiB: one discard or write-zeroes */
#define INDEX_CACHE_DEFAULT (256ull << 20) /* bytes: a full 2 TiB disk in random order, nearly */

/* ---- Constructor: <chain file> [<#opts> [<option> [<value>]]...] ---- */

static int chain_number(struct dm_arg_set *as, unsigned int *n, u64 *value, bool *given)
{
	if (!*n)
		return -EINVAL;
	(*n)--;
	if (kstrtoull(dm_shift_arg(as), 10, value))
		return -EINVAL;
	*given = true;
	return 0;
}

static int chain_parse_options(struct chain *c, struct dm_arg_set *as)
{
	static const struct dm_arg args[] = {
		{ 0, 8, "Invalid number of options" },
	};
	struct chain_options *o = &c->options;
	struct dm_target *ti = c->ti;
	unsigned int n;
	int r;

	o->index_cache = INDEX_CACHE_DEFAULT;
	o->write.replay = REPLAY_DEFAULT;
	o->write.low_water = LOW_WATER_DEFAULT;
	if (!as->argc)
		return 0;
	r = dm_read_arg_group(args, as, &n, &ti->error);
	if (r)
		return r;
	while (n) {
		const char *name = dm_shift_arg(as);

		n--;
		if (!strcasecmp(name, "index_cache") && n) {
			if (chain_number(as, &n, &o->index_cache, &o->index_cache_given)) {
				ti->error = "index_cache needs a number of bytes";
				return -EINVAL;
			}
		} else if (!strcasecmp(name, "replay") && n) {
			if (chain_number(as, &n, &o->write.replay, &o->replay_given)) {
				ti->error = "replay needs a number of bytes";
				return -EINVAL;
			}
		} else if (!strcasecmp(name, "low_water") && n) {
			if (chain_number(as, &n, &o->write.low_water, &o->low_water_given)) {
				ti->error = "low_water needs a number of bytes";
				return -EINVAL;
			}
		} else if (!strcasecmp(name, "error_if_no_space")) {
			o->write.error_if_no_space = true;
		} else if (!strcasecmp(name, "file_io")) {
			o->file_io = true;
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

/* Closes what chain_load() opened. No bio may be left. */
static void chain_unload(struct chain *c)
{
	chain_writer_close(c);
	chain_extents_close(c->extents);
	if (c->inflate)
		chain_inflate_destroy(c->inflate);
	if (c->index)
		chain_index_close(c->index);
	chain_layers_close(&c->layers, c->ti);
	chain_file_close(&c->file);
	c->extents = NULL;
	c->inflate = NULL;
	c->index = NULL;
}

/* Opens the chain file, what it names, and for writing the log. On failure nothing is left open. */
static int chain_load(struct chain *c, char **error)
{
	bool write = dm_table_get_mode(c->ti->table) & CHAIN_OPEN_WRITE;
	unsigned int i;
	int r;

	r = chain_file_open(&c->file, c->ti, c->path, write, error);
	if (r)
		return r;
	if (write != chain_file_active(&c->file)) {
		*error = write ? "The chain has no active layer: load the table read-only" :
				 "The chain has an active layer: load the table read-write";
		r = -EROFS;
		goto bad;
	}
	if (c->ti->len > c->file.geometry.sectors) {
		DMERR("%s: the table's length is %llu sectors, the disk has %llu", c->path,
		      (unsigned long long)c->ti->len, c->file.geometry.sectors);
		*error = "Target is longer than the virtual disk";
		r = -EINVAL;
		goto bad;
	}
	r = chain_layers_open(&c->layers, c->ti, &c->file, error);
	if (r)
		goto bad;
	c->index = chain_index_open(&c->file, c->options.index_cache, error);
	if (IS_ERR(c->index)) {
		r = PTR_ERR(c->index);
		c->index = NULL;
		goto bad;
	}
	r = chain_inflate_prepare(&c->inflate, &c->layers, &c->inflight);
	if (r) {
		*error = "Cannot allocate buffers";
		goto bad;
	}
	if (!c->options.file_io)
		c->extents = chain_extents_open(&c->layers, c->index);
	for (i = 0; i < c->layers.count; i++)
		chain_layer_uncache(c->layers.layer[i]);
	return 0;

bad:
	chain_unload(c);
	return r;
}

static void chain_free(struct chain *c)
{
	chain_bio_exit(c);
	chain_unload(c);
	chain_writer_exit(c);
	chain_inflight_exit(&c->inflight);
	kfree(c->path);
	kfree(c);
}

static int chain_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	struct chain *c;
	int r;

	if (!argc) {
		ti->error = "No chain file given";
		return -EINVAL;
	}
	c = kzalloc(sizeof(*c), GFP_KERNEL);
	if (!c || chain_inflight_init(&c->inflight)) {
		kfree(c);
		ti->error = "Cannot allocate the target";
		return -ENOMEM;
	}
	c->ti = ti;
	c->active_id = CHAIN_NO_LAYER;
	mutex_init(&c->control);
	c->path = kstrdup(dm_shift_arg(&as), GFP_KERNEL);
	r = c->path ? 0 : -ENOMEM;
	if (!r)
		chain_decode_path(c->path);
	if (!r)
		r = chain_bio_init(c);
	if (r) {
		ti->error = "Cannot allocate workers and buffers";
		goto bad;
	}
	r = chain_parse_options(c, &as);
	if (!r)
		r = chain_load(c, &ti->error);
	if (r)
		goto bad;
	ti->per_io_data_size = sizeof(struct chain_io);
	ti->private = c;
	c->writable = chain_file_active(&c->file);
	if (c->writable) {
		r = chain_writer_init(c);
		if (r) {
			ti->error = "Cannot allocate the writer's threads";
			goto bad;
		}
		ti->num_flush_bios = 1;
		ti->num_discard_bios = 1;
		ti->num_write_zeroes_bios = 1;
		ti->flush_supported = true;
		ti->discards_supported = true;
	}
	return 0;

bad:
	chain_free(c);
	return r;
}

static void chain_dtr(struct dm_target *ti)
{
	struct chain *c = ti->private;

	if (c->writer)
		chain_writer_leave(c);
	chain_free(c);
}

/* ---- Suspend, resume and messages: one at a time ---- */

/*
 * Whoever needs memory must not wait for this device: it is suspended, or its writer is held. The
 * result is for chain_leave_control().
 */
static unsigned int chain_take_control(struct chain *c)
{
	mutex_lock(&c->control);
	return memalloc_noio_save();
}

static void chain_leave_control(struct chain *c, unsigned int noio)
{
	memalloc_noio_restore(noio);
	mutex_unlock(&c->control);
}

static void chain_presuspend(struct dm_target *ti)
{
	struct chain *c = ti->private;

	if (c->writer)
		chain_writer_presuspend(c, dm_noflush_suspending(ti));
}

static void chain_presuspend_undo(struct dm_target *ti)
{
	struct chain *c = ti->private;

	if (c->writer)
		chain_writer_presuspend_undo(c);
}

/* All bios are done. From here on the chain file says all, and another table may take over. */
static void chain_postsuspend(struct dm_target *ti)
{
	struct chain *c = ti->private;
	unsigned int noio;

	if (!c->writer)
		return;
	noio = chain_take_control(c);
	chain_writer_stop(c); /* what fails is logged, and degrades the chain */
	c->stopped = true;
	chain_leave_control(c, noio);
}

/*
 * Before the first bio. The table may have been loaded while another one was still writing, or
 * another machine may have written since this one was released: then all is opened again. If that
 * fails the device stays suspended, and the next resume tries it once more.
 */
static int chain_preresume(struct dm_target *ti)
{
	struct chain *c = ti->private;
	unsigned int noio;
	char *error = "";
	int r;

	if (!c->writable)
		return 0;
	noio = chain_take_control(c);
	r = c->failed || c->released ? 1 : chain_file_changed(&c->file);
	if (r > 0) {
		if (c->writer)
			DMINFO("%s: changed while it was suspended: opening it again", c->path);
		c->released = false;
		chain_unload(c);
		r = chain_load(c, &error);
	}
	c->stopped = false;
	if (!r && !c->writer)
		r = chain_writer_open(c, &c->options.write, &error);
	c->failed = r;
	chain_leave_control(c, noio);
	if (r)
		DMERR("%s: cannot resume: %s", c->path, error);
	return r;
}

static void chain_resume(struct dm_target *ti)
{
	struct chain *c = ti->private;

	if (c->writer)
		chain_writer_resume(c);
}

/* ---- Messages ---- */

/* The device is suspended, and another machine may have the chain until it is resumed. */
static int chain_release(struct chain *c)
{
	int r;

	if (!c->stopped) {
		DMERR("%s: it is not suspended: suspend the device before releasing it", c->path);
		return -EBUSY;
	}
	r = chain_writer_leave(c);
	c->released = !r;
	return r;
}

static int chain_message(struct dm_target *ti, unsigned int argc, char **argv, char *result,
			 unsigned int maxlen)
{
	struct chain *c = ti->private;
	unsigned int id, last, noio;
	u64 sectors;
	int r = -EINVAL;

	noio = chain_take_control(c);
	if (argc == 1 && !strcasecmp(argv[0], "layers")) {
		r = chain_report_layers(c, result, maxlen);
	} else if (!c->writable) {
		DMERR("%s: it is read-only: no such message", c->path);
		r = -EROFS;
	} else if (c->writer && argc == 1 && !strcasecmp(argv[0], "release")) {
		r = chain_release(c);
	} else if (!c->writer || dm_suspended(ti)) {
		/* Also while the table that has just come has not taken the writer over yet. */
		DMERR("%s: it is suspended: no such message", c->path);
		r = -EBUSY;
	} else if (argc == 1 && !strcasecmp(argv[0], "commit")) {
		r = chain_writer_commit(c, true);
	} else if (argc == 2 && !strcasecmp(argv[0], "snapshot")) {
		r = chain_writer_snapshot(c, argv[1]);
	} else if (argc == 2 && !strcasecmp(argv[0], "sealed") && !kstrtouint(argv[1], 10, &id)) {
		r = chain_writer_sealed(c, id);
	} else if (argc == 2 && !strcasecmp(argv[0], "growing") && !kstrtouint(argv[1], 10, &id)) {
		r = chain_writer_grow_layer(c, id, true);
	} else if (argc == 2 && !strcasecmp(argv[0], "grown") && !kstrtouint(argv[1], 10, &id)) {
		r = chain_writer_grow_layer(c, id, false);
	} else if (argc == 4 && !strcasecmp(argv[0], "replace") && !kstrtouint(argv[1], 10, &id) &&
		   !kstrtouint(argv[2], 10, &last)) {
		r = chain_writer_replace(c, id, last, argv[3]);
	} else if (argc == 3 && !strcasecmp(argv[0], "moved") && !kstrtouint(argv[1], 10, &id)) {
		r = chain_writer_moved(c, id, argv[2]);
	} else if (argc == 3 && !strcasecmp(argv[0], "copied") && !kstrtouint(argv[1], 10, &id)) {
		r = chain_writer_copied(c, id, argv[2]);
	} else if (argc == 2 && !strcasecmp(argv[0], "resize") &&
		   !kstrtoull(argv[1], 10, &sectors)) {
		r = chain_writer_resize(c, sectors);
	} else {
		DMERR("%s: unknown message %s, or not its arguments", c->path, argv[0]);
	}
	chain_leave_control(c, noio);
	return r;
}

/* ---- Limits ---- */

static int chain_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct chain *c = ti->private;
	/* A snapshot may add a layer now; the array that it replaces is kept until we leave. */
	int r = 0, idx = chain_inflight_enter(&c->inflight);
	unsigned int count = smp_load_acquire(&c->layers.count), i; /* the array has no fewer */

	for (i = 0; i < count && !r; i++) {
		struct dm_dev *dev = READ_ONCE(c->layers.layer)[i]->dev;

		if (dev)
			r = fn(ti, dev, 0, bdev_nr_sectors(dev->bdev), data);
	}
	chain_inflight_leave(&c->inflight, idx);
	return r;
}

static void chain_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct chain *c = ti->private;
	unsigned int i;

	/* Direct I/O on a layer's file wants its memory aligned. */
	for (i = 0; i < c->layers.count; i++)
		if (!c->layers.layer[i]->dev && c->layers.layer[i]->dio_mem_align)
			limits->dma_alignment = max_t(unsigned int, limits->dma_alignment,
						      c->layers.layer[i]->dio_mem_align - 1);
	limits->io_opt = 1u << c->file.geometry.cluster_shift;
	if (!c->writable)
		return;
	/* A first write of less copies the rest of the unit. */
	limits->physical_block_size = max_t(unsigned int, limits->physical_block_size,
					    1u << c->file.geometry.subblock_shift);
	limits->io_min = limits->physical_block_size;
	chain_limit_write_zeroes(limits, MAX_ZERO_SECTORS);
	limits->discard_granularity = limits->physical_block_size;
	chain_limit_discard(limits, MAX_ZERO_SECTORS);
}

static struct target_type chain_target = {
	.name = "chain",
	.version = { 1, 0, 0 },
	.features = DM_TARGET_NOWAIT,
	.module = THIS_MODULE,
	.ctr = chain_ctr,
	.dtr = chain_dtr,
	.map = chain_map,
	.end_io = chain_end_io,
	.presuspend = chain_presuspend,
	.presuspend_undo = chain_presuspend_undo,
	.postsuspend = chain_postsuspend,
	.preresume = chain_preresume,
	.resume = chain_resume,
	.message = chain_message,
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
	rcu_barrier(); /* free_victims_rcu() may be about to return */
}
module_exit(chain_exit);

MODULE_DESCRIPTION(DM_NAME " target for chains of qcow2 snapshots");
MODULE_AUTHOR("dm-chain developers");
MODULE_LICENSE("GPL");
