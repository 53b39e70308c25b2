// SPDX-License-Identifier: GPL-2.0
/*
 * Layers that come and go: a snapshot puts a new one on top, a frozen one is sealed. And a disk
 * that grows.
 */

#include "dm-chain-writer.h"

#include <linux/blkdev.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dm-chain-extent.h"

/* ---- A new layer ---- */

void chain_layers_free_old(struct chain *c, struct chain_layers_old *old, u64 *bytes)
{
	unsigned int i;

	chain_inflight_drain(&c->inflight);
	for (i = 0; i < ARRAY_SIZE(old->array); i++)
		kvfree(old->array[i]);
	kvfree(bytes);
}

/* A unit is made of whole subblocks of the index: both may have been chosen at different times. */
bool chain_unit_fits(const struct chain *c, const struct chain_active *a, const char *path)
{
	unsigned int shift = a->geometry.unit_shift;

	if (shift >= c->file.geometry.subblock_shift && shift <= chain_largest_unit(c))
		return true;
	DMERR("%s: units of %u bytes, expected %u to %u", path, 1u << shift,
	      1u << c->file.geometry.subblock_shift, 1u << chain_largest_unit(c));
	return false;
}

/* Whoever uses the device was told its blocks, which stay as they are while it is there. */
static bool blocks_fit(const struct chain *c, const struct chain_layer_open *l, const char *path)
{
	struct gendisk *disk = dm_disk(dm_table_get_md(c->ti->table));
	unsigned int has = queue_logical_block_size(disk->queue);

	if (!l->dev || bdev_logical_block_size(l->dev->bdev) <= has)
		return true;
	DMERR("%s: logical blocks of %u bytes, the device %s has %u", path,
	      bdev_logical_block_size(l->dev->bdev), dm_table_device_name(c->ti->table), has);
	return false;
}

void chain_new_layer_drop(struct chain *c, struct chain_new_layer *n)
{
	if (n->active)
		chain_active_close(n->active);
	if (n->open)
		chain_layer_drop(n->open, c->ti);
	n->active = NULL;
	n->open = NULL;
}

int chain_new_layer_open(struct chain *c, const char *path, struct chain_new_layer *n, char **error)
{
	u32 id = le32_to_cpu(c->file.super->next_id);
	int r;

	memset(n, 0, sizeof(*n));
	if (id > CHAIN_MAX_LAYER_ID) {
		*error = "All layer ids are given: recover the chain";
		return -EMFILE;
	}
	if (le32_to_cpu(c->file.super->layer_count) == CHAIN_MAX_LAYERS) {
		*error = "The chain has as many layers as it can: compact it";
		return -EMFILE;
	}
	n->open = chain_layer_open_active(c->ti, path, id, &n->rec, error);
	if (IS_ERR(n->open)) {
		r = PTR_ERR(n->open);
		n->open = NULL;
		return r;
	}
	n->rec.cluster_shift = c->file.geometry.cluster_shift;
	n->active = chain_active_open(n->open, path, c->file.geometry.cluster_shift, NULL, 0,
				      c->file.geometry.clusters, error);
	if (IS_ERR(n->active)) {
		r = PTR_ERR(n->active);
		n->active = NULL;
		goto bad;
	}
	memcpy(n->rec.log, n->active->uuid, sizeof(n->rec.log));
	if (n->open->dev &&
	    bdev_logical_block_size(n->open->dev->bdev) > 1u << c->file.geometry.subblock_shift) {
		DMERR("%s: logical blocks of %u bytes, the index has subblocks of %u", path,
		      bdev_logical_block_size(n->open->dev->bdev),
		      1u << c->file.geometry.subblock_shift);
		*error = "The new layer's device has larger blocks than the index's subblocks";
		r = -EINVAL;
		goto bad;
	}
	if (!blocks_fit(c, n->open, path)) {
		*error = "The new layer's device has larger blocks than this device";
		r = -EINVAL;
		goto bad;
	}
	if (!chain_unit_fits(c, n->active, path)) {
		*error = "The new layer was made for another chain";
		r = -EINVAL;
		goto bad;
	}
	r = chain_owner_allows(n->active, path, error);
	if (!r)
		r = chain_active_check(n->active, path, error);
	if (r)
		goto bad;
	return 0;

bad:
	chain_new_layer_drop(c, n);
	return r;
}

int chain_new_layer_install(struct chain *c, struct chain_new_layer *n, const char *path)
{
	struct chain_layers_old old = {};
	u64 *bytes = NULL;
	int r;

	r = chain_layers_add(&c->layers, n->open, c->layers.count, &old);
	if (!r) {
		r = chain_file_add_layer(&c->file, &n->rec, c->layers.count - 1, path, &bytes);
		if (r)
			c->layers.count--;
	}
	chain_layers_free_old(c, &old, bytes);
	if (r)
		return r;
	c->file.super->next_id = cpu_to_le32(n->open->id + 1);
	c->layers_changed = true;
	return 0;
}

void chain_new_layer_switch(struct chain_writer *w, struct chain_new_layer *n)
{
	struct chain_active *frozen = w->active;

	w->active = n->active;
	n->active = NULL;
	n->open = NULL;
	w->unit_shift = w->active->geometry.unit_shift;
	w->no_space = false;
	w->grow_failed = false; /* that was the other one */
	w->replay_from = 0;
	chain_claim_frozen(&frozen->layer->opened);
	chain_active_close(frozen);
}

/* ---- Snapshot ---- */

/* A new layer must be of this size, and its log empty: nobody has used it yet. */
static int check_unused(struct chain *c, struct chain_active *a, const char *path)
{
	struct chain_log_block *b = (void *)a->buffer;
	struct chain_fault fault;
	int r;

	if (a->sectors != c->file.geometry.sectors) {
		DMERR("%s: made for a disk of %llu sectors, this one has %llu", path, a->sectors,
		      c->file.geometry.sectors);
		return -EINVAL;
	}
	r = chain_active_read(a, b, sizeof(*b), a->log.next);
	if (r)
		return r;
	if (chain_check_log_block(&a->geometry, b, 1, 0, &fault) || fault.what) {
		DMERR("%s: its log is not empty: another device has used it", path);
		return -EBUSY;
	}
	return 0;
}

/* Closes the log of the active layer and goes on in @n. The writer is held. */
static int switch_layer(struct chain *c, struct chain_new_layer *n, const char *path,
			struct chain_log_close *close)
{
	struct chain_writer *w = c->writer;
	int r;

	memcpy(close->uuid, n->active->uuid, sizeof(close->uuid));
	close->path_bytes = cpu_to_le16(strlen(path));
	memcpy(close->path, path, strlen(path));
	r = chain_new_layer_install(c, n, path);
	if (r)
		return r;
	r = chain_commit_held(w, false, CHAIN_LOG_CLOSE, close,
			      offsetof(struct chain_log_close, path) + strlen(path));
	n->open = NULL; /* it stays; if the log failed, nothing is written any more */
	if (r)
		return r;
	chain_new_layer_switch(w, n);
	return 0;
}

int chain_writer_snapshot(struct chain *c, const char *path)
{
	struct chain_writer *w = c->writer;
	struct chain_log_close *close;
	struct chain_new_layer n;
	char *error = "";
	int r;

	if (path[0] != '/' || strlen(path) > CHAIN_LOG_MAX_PATH) {
		DMERR("snapshot %s: the path must be absolute and at most %zu bytes long", path,
		      (size_t)CHAIN_LOG_MAX_PATH);
		return -EINVAL;
	}
	if (w->read_only) {
		DMERR("snapshot %s: the device is read-only", path);
		return -EROFS;
	}
	close = kzalloc(sizeof(*close), GFP_KERNEL);
	if (!close)
		return -ENOMEM;
	r = chain_new_layer_open(c, path, &n, &error);
	if (r)
		DMERR("snapshot %s: %s", path, error);
	else
		r = check_unused(c, n.active, path);
	if (!r)
		r = chain_owner_take(n.active, c->file.super->uuid, c->ti);
	if (!r) {
		chain_writer_hold(w);
		if (w->packed_waits) {
			/* What was packed belongs to this layer's log. */
			r = w->store_error;
			DMERR("snapshot %s: the index cannot be written back: error %d", path, r);
		} else {
			r = switch_layer(c, &n, path, close);
		}
		chain_writer_release(w);
	}
	chain_new_layer_drop(c, &n);
	kfree(close);
	return r;
}

/* ---- Sealed ---- */

struct sealed_work {
	struct work_struct work;
	struct chain *chain;
	unsigned int layer; /* from the base */
	int result;
};

static void sealed_worker(struct work_struct *work)
{
	struct sealed_work *s = container_of(work, struct sealed_work, work);
	struct chain *c = s->chain;
	struct chain_layer *rec = &c->file.layers[s->layer];
	struct chain_layer_open *l = c->layers.layer[s->layer];
	unsigned int noio = memalloc_noio_save();

	s->result = chain_layer_sealed(l, c->file.strings + le32_to_cpu(rec->path_offset), rec,
				       &c->inflight);
	memalloc_noio_restore(noio);
	if (s->result)
		return;
	c->file.layer_bytes[l->id] = l->bytes;
	c->layers_changed = true; /* here, where no commit runs that says that they are stored */
}

int chain_writer_sealed(struct chain *c, unsigned int id)
{
	struct sealed_work s = { .chain = c, .layer = chain_layers_place(&c->layers, id) };

	if (s.layer == c->layers.count || !c->layers.layer[s.layer]->unsealed ||
	    id == c->writer->active->layer->id) {
		DMERR("%s: layer %u is not a frozen one that waits for sealing", c->path, id);
		return -EINVAL;
	}
	INIT_WORK_ONSTACK(&s.work, sealed_worker);
	queue_work(c->writer->commit_wq, &s.work);
	flush_work(&s.work);
	destroy_work_on_stack(&s.work);
	if (s.result)
		return s.result;
	chain_extents_try(c->extents, c->layers.layer[s.layer]);
	return chain_writer_commit(c, true);
}

/* The chain file says what the layer table is. The writer is held. */
static int store_layers(struct chain_writer *w)
{
	int r = chain_commit_held(w, true, 0, NULL, 0);

	return r ? r : w->store_error;
}

/* ---- A layer that is added to ---- */

int chain_writer_grow_layer(struct chain *c, unsigned int id, bool begin)
{
	struct chain_writer *w = c->writer;
	unsigned int i = chain_layers_place(&c->layers, id);
	struct chain_layer_open *l;
	const char *path;
	int r;

	if (i == c->layers.count || c->layers.layer[i]->unsealed || c->layers.layer[i]->dev) {
		DMERR("%s: layer %u is not a sealed one that is a file", c->path, id);
		return -EINVAL;
	}
	if (w->read_only)
		return -EROFS;
	l = c->layers.layer[i];
	if (begin && !l->growing)
		chain_extents_drop(c->extents, l, "growing");
	chain_writer_hold(w); /* and so no exchange has a turn */
	path = c->file.strings + le32_to_cpu(c->file.layers[i].path_offset);
	if (l->growing != begin) {
		r = begin ? chain_layer_growing(l, path, &c->file.layers[i]) :
			    chain_layer_grown(l, path, &c->file.layers[i]);
		if (r)
			goto out;
		c->file.layer_bytes[id] = l->bytes;
		c->layers_changed = true;
	}
	/* Also if it is so already: the chain file may not have had room the first time. */
	r = store_layers(w);
out:
	chain_writer_release(w);
	if (!l->growing) /* it is done, or could not begin */
		chain_extents_try(c->extents, l);
	return r;
}

/* ---- A copy in the place of a layer, another name ---- */

int chain_writer_copied(struct chain *c, unsigned int id, const char *path)
{
	struct chain_writer *w = c->writer;
	unsigned int i = chain_layers_place(&c->layers, id);
	struct chain_layer_open *l, *copy;
	struct chain_layer rec;
	int r;

	if (i == c->layers.count || path[0] != '/' || strlen(path) > CHAIN_MAX_PATH) {
		DMERR("%s: copied %u %s: expected the id of a layer, and an absolute path", c->path,
		      id, path);
		return -EINVAL;
	}
	l = c->layers.layer[i];
	if (l->unsealed || l->growing || l->dev ||
	    le16_to_cpu(c->file.layers[i].owner) != CHAIN_NO_LAYER) {
		DMERR("%s: layer %u is not a sealed one that is a file", c->path, id);
		return -EINVAL;
	}
	if (w->read_only)
		return -EROFS;
	rec = c->file.layers[i];
	copy = chain_layer_open_copy(l, c->ti, path, &rec);
	if (IS_ERR(copy))
		return PTR_ERR(copy);
	chain_extents_drop(c->extents, l, NULL); /* maps are by id */
	chain_writer_hold(w);
	r = chain_file_name_layer(&c->file, i, path);
	if (!r) {
		rec.path_offset = c->file.layers[i].path_offset;
		rec.path_bytes = c->file.layers[i].path_bytes;
		c->file.layers[i] = rec;
		c->layers_changed = true;
		copy = chain_layers_exchange(&c->layers, i, copy);
		r = store_layers(w);
	}
	chain_writer_release(w);
	chain_inflight_drain(&c->inflight);
	chain_layer_drop(copy, c->ti);
	chain_extents_try(c->extents, c->layers.layer[i]);
	return r;
}

int chain_writer_moved(struct chain *c, unsigned int id, const char *path)
{
	struct chain_writer *w = c->writer;
	unsigned int i = chain_layers_place(&c->layers, id);
	int r;

	if (i == c->layers.count || path[0] != '/' || strlen(path) > CHAIN_MAX_PATH) {
		DMERR("%s: moved %u %s: expected the id of a layer, and its absolute path", c->path,
		      id, path);
		return -EINVAL;
	}
	if (w->read_only)
		return -EROFS;
	r = chain_leads_to(&c->layers.layer[i]->opened, path);
	if (r < 0) {
		DMERR("%s: cannot open it: error %d", path, r);
		return r;
	}
	if (!r) {
		DMERR("%s: is not what the device has as layer %u", path, id);
		return -ESTALE;
	}
	chain_writer_hold(w);
	r = chain_file_name_layer(&c->file, i, path);
	c->layers_changed |= !r;
	if (!r)
		r = store_layers(w);
	chain_writer_release(w);
	return r;
}

/* ---- Resize ---- */

int chain_writer_extend(struct chain *c, u64 sectors)
{
	struct chain_geometry *g = &c->file.geometry;
	u64 clusters = chain_clusters(sectors, g->cluster_shift);
	int r;

	if (sectors < g->sectors || sectors > CHAIN_MAX_SECTORS ||
	    chain_root_count(clusters) > CHAIN_MAX_ROOT) {
		DMERR("%s: %llu sectors: expected %llu (it cannot shrink) to %llu", c->path,
		      sectors, g->sectors, CHAIN_MAX_SECTORS);
		return -EINVAL;
	}
	r = chain_index_extend(c->index, clusters);
	if (r)
		return r;
	g->sectors = sectors;
	WRITE_ONCE(g->clusters, clusters);
	WRITE_ONCE(c->writer->active->geometry.clusters, clusters);
	c->file.super->sectors = cpu_to_le64(sectors);
	return 0;
}

int chain_writer_resize(struct chain *c, u64 sectors)
{
	struct chain_writer *w = c->writer;
	u64 old = c->file.geometry.sectors, cluster = old / cluster_sectors(w);
	u32 units = cluster_sectors(w) / unit_sectors(w);
	u32 within = (old & (cluster_sectors(w) - 1)) / unit_sectors(w);
	__le64 body = cpu_to_le64(sectors);
	struct chain_owned owned;
	int r;

	if (w->read_only)
		return -EROFS;
	if (old & (unit_sectors(w) - 1)) {
		DMERR("%s: its size of %llu sectors is not a multiple of %u: resize it offline",
		      c->path, old, unit_sectors(w));
		return -EOPNOTSUPP;
	}
	if (sectors == old)
		return 0;
	chain_writer_hold(w);
	/*
	 * A record more may have to be noted below. And what was packed, but has no room in the
	 * chain file yet, is an index of the old size.
	 */
	r = chain_txn_full(w) || w->packed_waits ? chain_commit_held(w, false, 0, NULL, 0) : 0;
	if (!r && w->packed_waits) {
		r = w->store_error;
		DMERR("%s: resize: the index cannot be written back: error %d", c->path, r);
	}
	if (!r)
		r = chain_writer_extend(c, sectors);
	if (!r && within) {
		/*
		 * What a layer has in its last cluster behind the old end must not come to light.
		 */
		u32 mask = unit_mask(within, units - within);

		r = chain_index_set(c->index, cluster, w->active->layer->id, w->unit_shift, 0,
				    mask);
		if (!r)
			r = chain_index_owned(c->index, cluster, w->active->layer->id,
					      w->unit_shift, &owned);
		if (!r)
			chain_txn_record(w, cluster, &owned);
		else
			chain_writer_degrade(w, "cannot resize", r);
	}
	if (!r)
		r = chain_commit_held(w, true, CHAIN_LOG_RESIZE, &body, sizeof(body));
	chain_writer_release(w);
	return r;
}
