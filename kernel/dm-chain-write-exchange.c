// SPDX-License-Identifier: GPL-2.0
/*
 * The message "replace": neighbouring sealed layers were merged into one file, which takes their
 * place while I/O runs, or were added to the layer below them. The index of the merged file says of
 * each part that the old layers have where the new one has it. Both mean the same data, so a reader
 * may find either, and a crash needs no undo: the chain file names the old layers until no entry
 * does.
 */

#include "dm-chain-writer.h"

#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dm-chain-extent.h"
#include "dm-chain-inflate.h"

#define BATCH 256 /* pieces of the disk, before the writer has its turn again */
#define INDEX_BYTES (4ull << 20) /* memory for the index of the merged file */

enum exchange_phase {
	CHECKING, /* whether the merged file has all that the old layers have */
	EXCHANGING,
	LANDING, /* no entry names an old layer: they go */
	DONE,
	FAILED,
};

struct chain_exchange {
	struct chain *chain;
	struct work_struct work; /* on the writer's queue, so never beside it */
	struct delayed_work land;
	struct chain_file file; /* of the merged file alone */
	struct chain_index *index; /* its index */
	unsigned long *old; /* bit for each id that goes */
	unsigned int first, last; /* ids, neighbours and all between them */
	unsigned int count; /* of layers that go, data files included */
	unsigned int merged; /* id */
	bool below; /* the merged file is the layer below them */
	enum exchange_phase phase;
	u64 at; /* sector of the disk */
};

static void free_sources(struct chain_exchange *x)
{
	if (x->index)
		chain_index_close(x->index);
	x->index = NULL;
	chain_file_close(&x->file);
	kvfree(x->old);
	x->old = NULL;
}

static bool is_old(const struct chain_exchange *x, u64 entry)
{
	switch (chain_entry_kind(entry)) {
	case CHAIN_ZERO:
	case CHAIN_DATA:
	case CHAIN_COMPRESSED:
		return test_bit(chain_entry_layer(entry), x->old);
	default:
		return false;
	}
}

/* Gives the @sectors of the disk from @at on, a multiple of subblocks, to the merged file. */
static int put(struct chain_exchange *x, u64 at, u64 sectors, const struct chain_extent *with)
{
	struct chain *c = x->chain;
	unsigned int sub = c->file.geometry.subblock_shift - SECTOR_SHIFT;
	unsigned int shift = c->file.geometry.cluster_shift - SECTOR_SHIFT;
	u64 pos = chain_entry_pos(with->entry), done, n;
	int r = 0;

	for (done = 0; done < sectors && !r; done += n) {
		u64 cluster = (at + done) >> shift, within = (at + done) & ((1u << shift) - 1);
		u64 e = chain_entry(CHAIN_ZERO, x->merged, 0);
		u32 subs;

		n = min(sectors - done, (1u << shift) - within);
		/* The last subblock of the disk may be shorter than one. */
		subs = (n + (1u << sub) - 1) >> sub;
		if (chain_entry_kind(with->entry) == CHAIN_COMPRESSED) {
			r = chain_index_put_compressed(c->index, cluster, within >> sub, subs,
						       x->merged, with->offset, with->bytes);
			continue;
		}
		if (chain_entry_kind(with->entry) == CHAIN_DATA)
			e = chain_entry(CHAIN_DATA, x->merged, pos + done);
		r = chain_index_put(c->index, cluster, within >> sub, subs, e);
	}
	return r;
}

/* What one entry of the index says; see chain_index_lookup_one(). */
static int find_one(struct chain_index *index, u64 sector, u64 max, struct chain_extent *out)
{
	int r;

	do {
		r = chain_index_find(index, sector, 1, out);
	} while (!r && !chain_index_lookup_one(index, sector, min_t(u64, max, UINT_MAX / 2), out));
	return r;
}

/* The next piece of the disk that is alike in both indexes. */
static int step(struct chain_exchange *x)
{
	struct chain *c = x->chain;
	unsigned int sub = (1u << c->file.geometry.subblock_shift) >> SECTOR_SHIFT;
	u64 end = c->file.geometry.sectors;
	struct chain_extent own, with;
	u64 n;
	int r;

	r = find_one(c->index, x->at, end - x->at, &own);
	if (r)
		return r;
	n = own.sectors;
	if (!is_old(x, own.entry))
		goto next;
	with.entry = CHAIN_HOLE;
	if (x->at < x->file.geometry.sectors) {
		n = min(n, x->file.geometry.sectors - x->at);
		r = find_one(x->index, x->at, n, &with);
		if (r)
			return r;
		n = with.sectors;
	}
	if (chain_entry_kind(with.entry) == CHAIN_HOLE) {
		DMERR("%s: sector %llu: layer %u has it, the merged file has not", x->file.path,
		      x->at, chain_entry_layer(own.entry));
		return -EUCLEAN;
	}
	if (n & (sub - 1) && x->at + n != end) {
		DMERR("%s: sector %llu: a piece of %llu sectors, expected a multiple of %u",
		      x->file.path, x->at, n, sub);
		return -EUCLEAN;
	}
	if (x->phase == EXCHANGING) {
		/* A piece for the batch is a leaf's range at the most. */
		n = min_t(u64, n,
			  (u64)CHAIN_FANOUT << (c->file.geometry.cluster_shift - SECTOR_SHIFT));
		r = put(x, x->at, n, &with);
	}
next:
	if (!r)
		x->at += n;
	return r;
}

/*
 * A cluster that is written in part has an entry for each of its subblocks, also for those past
 * the end of the disk, which no step comes to: they name nothing from now on.
 */
static int clear_tail(struct chain_exchange *x)
{
	struct chain *c = x->chain;
	const struct chain_geometry *g = &c->file.geometry;
	unsigned int subs = 1u << (g->cluster_shift - g->subblock_shift), first;
	u64 within = (g->sectors << SECTOR_SHIFT) & ((1ull << g->cluster_shift) - 1);

	first = (within + (1u << g->subblock_shift) - 1) >> g->subblock_shift;
	if (!within || first == subs)
		return 0;
	return chain_index_put(c->index, g->sectors >> (g->cluster_shift - SECTOR_SHIFT), first,
			       subs - first, CHAIN_HOLE);
}

static void fail(struct chain_exchange *x, int r)
{
	DMERR("%s: the exchange of layers %u to %u for %u ends: error %d", x->chain->path, x->first,
	      x->last, x->merged, r);
	WRITE_ONCE(x->phase, FAILED);
	x->chain->writer->background = NULL;
}

static void exchange_worker(struct work_struct *work)
{
	struct chain_exchange *x = container_of(work, struct chain_exchange, work);
	struct chain *c = x->chain;
	struct chain_writer *w = c->writer;
	unsigned int noio, i;
	bool held;
	int r = 0;

	/* Who holds the writer has waited for its turn, and so for this. */
	spin_lock_irq(&w->lock);
	held = w->held;
	spin_unlock_irq(&w->lock);
	if (held || x->phase > EXCHANGING)
		return;
	if (w->read_only) {
		fail(x, -EROFS);
		return;
	}
	/* What was changed is written back first. */
	if (chain_commit_index_full(w)) {
		if (w->packed_waits) /* for room in the chain file */
			queue_delayed_work(w->commit_wq, &w->retry_timer, HZ);
		else
			chain_writer_kick(w);
		return;
	}
	noio = memalloc_noio_save();
	for (i = 0; i < BATCH && !r && x->at < c->file.geometry.sectors; i++)
		r = step(x);
	if (!r && x->phase == EXCHANGING && x->at >= c->file.geometry.sectors)
		r = clear_tail(x);
	memalloc_noio_restore(noio);
	if (r == -ENOMEM) {
		queue_delayed_work(w->commit_wq, &w->retry_timer, HZ / 5);
		return;
	}
	if (r) {
		fail(x, r);
		return;
	}
	if (x->at >= c->file.geometry.sectors) {
		WRITE_ONCE(x->at, 0);
		WRITE_ONCE(x->phase, x->phase + 1);
	}
	if (x->phase == LANDING) {
		w->background = NULL;
		queue_delayed_work(system_long_wq, &x->land, 0);
		return;
	}
	queue_work(w->wq, &x->work);
}

/* ---- The end ---- */

/* Takes the old layers out. c->control is taken, the writer is held. */
static int land(struct chain_exchange *x, struct chain_layer_open ***old, unsigned int *from)
{
	struct chain *c = x->chain;
	struct chain_writer *w = c->writer;
	int r;

	*from = chain_layers_place(&c->layers, x->first);
	r = w->packed_waits ? w->store_error : chain_commit_held(w, true, 0, NULL, 0);
	if (!r)
		r = w->store_error;
	if (!r)
		r = chain_layers_remove(&c->layers, *from, x->count, old);
	if (r)
		return r;
	chain_file_remove_layers(&c->file, *from, x->count);
	c->layers_changed = true;
	r = chain_commit_held(w, true, 0, NULL, 0);
	return r ? r : w->store_error;
}

static void land_worker(struct work_struct *work)
{
	struct chain_exchange *x = container_of(to_delayed_work(work), struct chain_exchange, land);
	struct chain *c = x->chain;
	struct chain_layer_open **old = NULL;
	unsigned int from, i, noio;
	int r;

	/* Whoever suspends or closes the device waits for this work, with c->control. */
	if (!mutex_trylock(&c->control))
		goto again;
	if (c->stopped) {
		mutex_unlock(&c->control);
		goto again;
	}
	noio = memalloc_noio_save();
	chain_writer_hold(c->writer);
	r = land(x, &old, &from);
	chain_writer_release(c->writer);
	if (old) {
		chain_inflight_drain(&c->inflight);
		for (i = from; i < from + x->count; i++) {
			chain_extents_drop(c->extents, old[i], NULL);
			chain_layer_drop(old[i], c->ti);
		}
		kvfree(old);
	}
	if (r)
		fail(x, r);
	else
		WRITE_ONCE(x->phase, DONE);
	free_sources(x);
	memalloc_noio_restore(noio);
	mutex_unlock(&c->control);
	return;

again:
	queue_delayed_work(system_long_wq, &x->land, HZ / 5);
}

/* ---- The beginning ---- */

/* Marks the ids that go. All between the two must be sealed. */
static int mark_old(struct chain_exchange *x)
{
	struct chain *c = x->chain;
	unsigned int from = chain_layers_place(&c->layers, x->first);
	unsigned int to = chain_layers_place(&c->layers, x->last), i;

	if (from >= c->layers.count || to >= c->layers.count || to < from) {
		DMERR("%s: replace %u %u: expected two layers of the chain, the lower one first",
		      c->path, x->first, x->last);
		return -EINVAL;
	}
	/* The data file of the last one goes with it. */
	while (to + 1 < c->layers.count && le16_to_cpu(c->file.layers[to + 1].owner) == x->last)
		to++;
	x->old = kvcalloc(BITS_TO_LONGS(CHAIN_NO_LAYER + 1), sizeof(long), GFP_KERNEL);
	if (!x->old)
		return -ENOMEM;
	for (i = from; i <= to; i++) {
		if (c->layers.layer[i]->unsealed || c->layers.layer[i]->growing) {
			DMERR("%s: replace %u %u: layer %u is %s", c->path, x->first, x->last,
			      c->layers.layer[i]->id,
			      c->layers.layer[i]->growing ? "growing" : "not sealed");
			return -EBUSY;
		}
		set_bit(c->layers.layer[i]->id, x->old);
	}
	x->count = to + 1 - from;
	return to;
}

static bool is_layer(const struct chain *c, unsigned int at, const struct chain_layer *rec,
		     const struct chain_layer_open *merged)
{
	const struct chain_layer *has = &c->file.layers[at];
	const struct chain_opened *o = &c->layers.layer[at]->opened;

	return has->inode == rec->inode && !memcmp(&has->mtime_sec, &rec->mtime_sec, 12) &&
	       o->inode == merged->opened.inode && o->dev == merged->opened.dev;
}

/*
 * Opens the merged file, and puts it above the last of those that it replaces, unless an exchange
 * that was cut off has done so. The writer is held.
 */
static int add_merged(struct chain_exchange *x, struct chain_layers *alone, unsigned int at)
{
	struct chain *c = x->chain;
	struct chain_layer rec = x->file.layers[0];
	const char *path = x->file.strings + le32_to_cpu(rec.path_offset);
	struct chain_layers_old old = {};
	struct chain_layer_open *l;
	u64 *bytes = NULL;
	int r;

	if (x->below) {
		x->merged = c->layers.layer[at - x->count - 1]->id;
		return 0;
	}
	if (at < c->layers.count && is_layer(c, at, &rec, alone->layer[0])) {
		x->merged = c->layers.layer[at]->id;
		return 0;
	}
	x->merged = le32_to_cpu(c->file.super->next_id);
	if (x->merged > CHAIN_MAX_LAYER_ID || c->layers.count == CHAIN_MAX_LAYERS) {
		DMERR("%s: it has given all ids of layers: recover the chain", c->path);
		return -EMFILE;
	}
	rec.id = cpu_to_le16(x->merged);
	r = chain_file_add_layer(&c->file, &rec, at, path, &bytes);
	if (!r) {
		chain_layer_take(alone, &l);
		l->id = x->merged;
		r = chain_layers_add(&c->layers, l, at, &old);
		if (r) {
			chain_layer_drop(l, c->ti);
			chain_file_remove_layers(&c->file, at, 1);
		}
	}
	chain_layers_free_old(c, &old, bytes);
	if (r)
		return r;
	chain_extents_try(c->extents, l);
	c->file.super->next_id = cpu_to_le32(x->merged + 1);
	c->layers_changed = true;
	return 0;
}

/* Whether the file of which @x->file is the index can take part. */
static int check_merged(struct chain_exchange *x, const struct chain_layers *alone)
{
	const struct chain *c = x->chain;

	if (alone->count != 1 || alone->layer[0]->unsealed) {
		DMERR("%s: %u layers, expected the index of one sealed layer alone", x->file.path,
		      alone->count);
		return -EINVAL;
	}
	if (x->file.geometry.subblock_shift < c->file.geometry.subblock_shift) {
		DMERR("%s: subblocks of %u bytes, the chain has %u", x->file.path,
		      1u << x->file.geometry.subblock_shift, 1u << c->file.geometry.subblock_shift);
		return -EINVAL;
	}
	return 0;
}

static int open_merged(struct chain_exchange *x, const char *path, struct chain_layers *alone,
		       char **error)
{
	int r;

	r = chain_file_open(&x->file, x->chain->ti, path, false, error);
	if (r)
		return r;
	r = chain_layers_open(alone, x->chain->ti, &x->file, error);
	if (r)
		return r;
	x->index = chain_index_open(&x->file, INDEX_BYTES, error);
	if (!IS_ERR(x->index))
		return 0;
	r = PTR_ERR(x->index);
	x->index = NULL;
	return r;
}

int chain_writer_replace(struct chain *c, unsigned int first, unsigned int last, const char *path)
{
	struct chain_writer *w = c->writer;
	struct chain_layers alone = {};
	struct chain_exchange *x;
	char *error = "";
	int r, to, from;

	if (w->read_only)
		return -EROFS;
	if (w->exchange && w->exchange->phase < DONE) {
		DMERR("%s: an exchange of layers is running: wait for its end", c->path);
		return -EBUSY;
	}
	chain_exchange_close(w);
	x = kzalloc(sizeof(*x), GFP_KERNEL);
	if (!x)
		return -ENOMEM;
	x->chain = c;
	x->first = first;
	x->last = last;
	INIT_WORK(&x->work, exchange_worker);
	INIT_DELAYED_WORK(&x->land, land_worker);
	to = mark_old(x);
	r = to < 0 ? to : open_merged(x, path, &alone, &error);
	if (r && *error)
		DMERR("%s: replace: %s", path, error);
	from = to + 1 - x->count;
	x->below = !r && alone.count == 1 && from > 0 && !c->layers.layer[from - 1]->growing &&
		   is_layer(c, from - 1, &x->file.layers[0], alone.layer[0]);
	if (!r)
		r = check_merged(x, &alone);
	if (!r)
		r = chain_inflate_prepare(&c->inflate, &alone, &c->inflight);
	if (r)
		goto out;
	chain_writer_hold(w);
	r = w->packed_waits ? w->store_error : add_merged(x, &alone, to + 1);
	if (!r) {
		w->exchange = x;
		w->background = &x->work;
	}
	chain_writer_release(w); /* and so it begins */
out:
	chain_layers_close(&alone, c->ti);
	if (r) {
		free_sources(x);
		kfree(x);
	}
	return r;
}

void chain_exchange_close(struct chain_writer *w)
{
	struct chain_exchange *x = w->exchange;

	if (!x)
		return;
	w->background = NULL;
	cancel_work_sync(&x->work);
	cancel_delayed_work_sync(&x->land);
	free_sources(x);
	kfree(x);
	w->exchange = NULL;
}

void chain_exchange_stats(const struct chain_writer *w, struct chain_writer_stats *s)
{
	static const char *const name[] = {
		[CHECKING] = "checking", [EXCHANGING] = "exchanging", [LANDING] = "landing",
		[DONE] = "done",	 [FAILED] = "failed",
	};

	s->exchange = w->exchange ? name[READ_ONCE(w->exchange->phase)] : "-";
	s->exchanged = w->exchange ? READ_ONCE(w->exchange->at) : 0;
}
