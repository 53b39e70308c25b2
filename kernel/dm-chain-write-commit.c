// SPDX-License-Identifier: GPL-2.0
/*
 * Transactions: what the writer noted down becomes durable, the data first and the records after
 * it, in one write of the log, for all flushes that wait. A second thread does that, one commit at
 * a time.
 */

#include "dm-chain-writer.h"

#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#define COMMIT_SECONDS 5 /* records wait no longer for a flush */

/* ---- When something cannot be written ---- */

void chain_writer_degrade(struct chain_writer *w, const char *why, int r)
{
	if (w->read_only)
		return;
	DMERR("%s: %s: error %d: the device is read-only now", w->chain->file.path, why, r);
	WRITE_ONCE(w->read_only, true);
	WRITE_ONCE(w->chain->active_id, CHAIN_NO_LAYER);
	dm_table_event(w->chain->ti->table);
}

/* ---- What is noted down ---- */

void chain_txn_record(struct chain_writer *w, u64 cluster, const struct chain_owned *o)
{
	struct txn *t = w->open;
	struct chain_log_record *rec = t->count ? &t->record[t->count - 1] : NULL;

	/* Neighbours in time are often of one cluster: what it said last counts. */
	if (!rec || rec->cluster != cpu_to_le64(cluster))
		rec = &t->record[t->count++];
	rec->cluster = cpu_to_le64(cluster);
	rec->host = cpu_to_le64(o->bitmap & U32_MAX ? o->host : 0);
	rec->bitmap = cpu_to_le64(o->bitmap);
}

void chain_txn_free(struct chain_writer *w, u64 host)
{
	if (!WARN_ON_ONCE(w->open->freed_count == CHAIN_LOG_BATCH))
		w->open->freed[w->open->freed_count++] = host;
}

/* ---- Making it durable ---- */

/* Gives freed clusters back to the file system, then to the next who needs one. */
static void release_freed(struct chain_writer *w, struct txn *t)
{
	struct chain_layer_open *l = w->active->layer;
	u64 cluster = 1ull << w->chain->file.geometry.cluster_shift;
	u32 i;

	if (!t->freed_count)
		return;
	/* Who looked them up before they were freed may still be reading or writing there. */
	chain_inflight_drain(&w->chain->inflight);
	for (i = 0; i < t->freed_count; i++) {
		if (l->dev) {
			if (bdev_max_discard_sectors(l->dev->bdev))
				blkdev_issue_discard(l->dev->bdev, t->freed[i] >> SECTOR_SHIFT,
						     cluster >> SECTOR_SHIFT, GFP_NOIO);
		} else {
			vfs_fallocate(l->opened.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      t->freed[i], cluster);
		}
		chain_active_put(w->active, t->freed[i]);
	}
	t->freed_count = 0;
}

static void end_waiters(struct txn *t, int r)
{
	struct bio *bio;

	while ((bio = bio_list_pop(&t->waiters)))
		chain_end_bio(bio, r);
}

/*
 * Writes back what was packed. Without room in the chain file, or without memory, it is tried again
 * with the next commit.
 */
static void write_back(struct chain_writer *w)
{
	int r = chain_store_write(w->store, w->chain->index, w->active, &w->packed,
				  w->chain->layers_changed);

	w->store_error = r;
	w->packed_waits = r == -ENOSPC || r == -EDQUOT || r == -ENOMEM;
	if (r && !w->packed_waits)
		chain_writer_degrade(w, "cannot write the index back", r);
	if (r)
		return;
	w->chain->layers_changed = false;
	w->replay_from = w->active->log_blocks;
}

/*
 * Of a chain that another machine has taken nothing is written any more, not even that it needs a
 * check.
 */
bool chain_commit_ours(struct chain_writer *w)
{
	int r;

	if (w->read_only)
		return false;
	r = chain_owner_verify(w->active, w->chain->file.path);
	if (!r)
		return true;
	if (r == -EBUSY)
		w->told = true;
	chain_writer_degrade(w, "the active layer was changed by somebody else", r);
	return false;
}

/*
 * Makes @t durable, with a block of type @last behind its records, and completes who waits for it.
 * By the commit work, or by who holds the writer.
 */
static int commit(struct chain_writer *w, struct txn *t, enum chain_log_type last, const void *body,
		  u32 bytes)
{
	struct chain_active *a = w->active;
	int r = -EIO;

	if (chain_commit_ours(w)) {
		if (t->count || last)
			r = chain_log_append(a, t->record, t->count, last, body, bytes);
		else
			r = chain_active_flush(a);
		if (r)
			chain_writer_degrade(w, "cannot write the log", r);
	}
	end_waiters(t, r);
	w->commits++;
	if (!r && t->store)
		w->packed = a->log;
	if (!r && (t->store || w->packed_waits))
		write_back(w);
	if (w->read_only && !w->told) {
		w->told = true;
		chain_store_needs_check(w->store);
	}
	if (!r) {
		release_freed(w, t);
		chain_log_prepare(a);
	}
	t->freed_count = 0;
	t->count = 0;
	t->store = false;
	return r;
}

static void commit_worker(struct work_struct *work)
{
	struct chain_writer *w = container_of(work, struct chain_writer, commit_work);
	unsigned int noio = memalloc_noio_save();

	commit(w, w->open == &w->txn[0] ? &w->txn[1] : &w->txn[0], 0, NULL, 0);
	memalloc_noio_restore(noio);
	atomic_set(&w->commit_over, 1);
	chain_writer_kick(w);
}

/* ---- When ---- */

static void commit_timer_worker(struct work_struct *work)
{
	struct chain_writer *w =
		container_of(to_delayed_work(work), struct chain_writer, commit_timer);

	atomic_set(&w->commit_due, 1);
	chain_writer_kick(w);
}

bool chain_commit_index_full(const struct chain_writer *w)
{
	u64 limit = w->chain->options.index_cache / 4 / (CHAIN_FANOUT * sizeof(u64));

	return chain_index_dirty(w->chain->index) > clamp_t(u64, limit, 4, DIRTY_LEAVES);
}

/* Whether the index is to be written back with this commit. */
static bool store_due(const struct chain_writer *w)
{
	return chain_commit_index_full(w) ||
	       (w->active->log_blocks - w->replay_from) * CHAIN_LOG_BLOCK > w->options.replay;
}

/*
 * The transaction that was open; packs the index with it if @store. Another one is open then. When
 * there is no memory for that, the next commit goes on with it.
 */
static struct txn *close_txn(struct chain_writer *w, bool store)
{
	struct txn *t = w->open;

	w->open = t == &w->txn[0] ? &w->txn[1] : &w->txn[0];
	if (store && !w->packed_waits) {
		w->store_error = chain_store_pack(w->store, w->chain->index);
		t->store = !w->store_error;
	}
	return t;
}

void chain_commit_maybe(struct chain_writer *w)
{
	struct txn *t = w->open;

	if (w->committing)
		return;
	/* What is under way ends also while the writer is held, and may need room to be noted. */
	if (w->held && !(w->under_way && chain_txn_full(w)))
		return;
	if (!bio_list_empty(&t->waiters) || t->count > CHAIN_LOG_BATCH / 2 ||
	    t->freed_count > CHAIN_LOG_BATCH / 2 ||
	    (t->freed_count && !bio_list_empty(&w->stalled)) ||
	    (w->background && chain_commit_index_full(w) && !w->packed_waits) ||
	    (t->count && atomic_xchg(&w->commit_due, 0))) {
		w->committing = true;
		w->freeing = t->freed_count;
		close_txn(w, store_due(w));
		queue_work(w->commit_wq, &w->commit_work);
	} else if (t->count) {
		queue_delayed_work(w->commit_wq, &w->commit_timer, COMMIT_SECONDS * HZ);
	}
}

void chain_commit_look(struct chain_writer *w)
{
	if (!atomic_xchg(&w->commit_over, 0))
		return;
	w->committing = false;
	if (w->freeing)
		w->no_space = false; /* until somebody finds that it is not enough */
	w->freeing = false;
	if (!w->open->count && !w->read_only)
		WRITE_ONCE(w->chain->uncommitted, false);
	atomic_set(&w->retry, 1);
}

int chain_commit_held(struct chain_writer *w, bool store, enum chain_log_type last,
		      const void *body, u32 bytes)
{
	unsigned int noio = memalloc_noio_save();
	int r;

	chain_owner_look(w->active);
	r = commit(w, close_txn(w, store), last, body, bytes);

	memalloc_noio_restore(noio);
	if (!r)
		WRITE_ONCE(w->chain->uncommitted, false);
	return r;
}

/* ---- Opening and closing ---- */

int chain_commit_init(struct chain_writer *w)
{
	unsigned int i;

	INIT_WORK(&w->commit_work, commit_worker);
	INIT_DELAYED_WORK(&w->commit_timer, commit_timer_worker);
	w->open = &w->txn[0];
	for (i = 0; i < ARRAY_SIZE(w->txn); i++) {
		w->txn[i].record =
			kvmalloc_array(CHAIN_LOG_BATCH, sizeof(*w->txn[i].record), GFP_KERNEL);
		w->txn[i].freed = kvmalloc_array(CHAIN_LOG_BATCH, sizeof(u64), GFP_KERNEL);
		if (!w->txn[i].record || !w->txn[i].freed)
			return -ENOMEM;
		bio_list_init(&w->txn[i].waiters);
	}
	return 0;
}

void chain_commit_exit(struct chain_writer *w)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(w->txn); i++) {
		kvfree(w->txn[i].record);
		kvfree(w->txn[i].freed);
	}
}
