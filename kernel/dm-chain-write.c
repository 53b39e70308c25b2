// SPDX-License-Identifier: GPL-2.0
/*
 * The writer. See the header for who may do what.
 *
 * A first write goes to a free cluster of the active layer (or to the one that its cluster already
 * has there); when its data is there the index is changed and a record is noted; then the bio is
 * completed. A commit makes the data durable first and the records after it, in one write of the
 * log, for all flushes that wait.
 */

#include "dm-chain-write.h"

#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/falloc.h>
#include <linux/hashtable.h>
#include <linux/mempool.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "dm-chain-active.h"
#include "dm-chain-store.h"

#define DM_MSG_PREFIX "chain"

#define FRESH_MIN 64 /* clusters that can always be under way */
#define BOUNCES 8 /* units that can be merged at a time */
#define COMMIT_SECONDS 5 /* records wait no longer for a flush */
#define RETRY_SECONDS 1 /* between attempts to get more room */
#define DIRTY_LEAVES 2048 /* of 4 KiB each: then the index is written back */

enum writer_mode { MODE_RW, MODE_RO, MODE_FAIL };

/* A cluster of the disk with units that are being written for the first time. */
struct fresh {
	struct hlist_node hash;
	u64 cluster;
	struct chain_owned owned; /* what the index says; host is set before it does */
	u32 busy; /* units under way */
	unsigned int count; /* I/Os under way */
	struct bio_list waiting; /* for busy units */
};

/* What becomes durable together. */
struct txn {
	struct chain_log_record *record; /* CHAIN_LOG_BATCH of them */
	u32 count;
	u64 *freed; /* clusters of the layer that these records free: as many */
	u32 freed_count;
	struct bio_list waiters; /* completed when it is durable */
	bool store; /* the index was packed with it */
};

/* A unit that is put together here before it is written, or a piece of zeroes. */
struct bounce {
	struct bio bio;
	struct bio_vec vec;
	u8 *data;
	bool used;
};

struct chain_writer {
	struct chain *chain;
	struct chain_active *active;
	struct chain_store *store;
	struct chain_write_options options;
	enum writer_mode mode;
	unsigned int unit_shift; /* log2 bytes */
	u64 replay_from; /* a->log_blocks when the index was last written back */
	struct chain_log_position packed; /* of the log: what the packed index says */
	bool packed_waits; /* for room in the chain file, or for memory */
	int store_error; /* of the last time that the index was to be written back */

	struct workqueue_struct *wq; /* ordered: the writer */
	struct workqueue_struct *commit_wq; /* ordered: what blocks for long */
	struct work_struct work;
	struct work_struct commit_work;
	struct work_struct grow_work;
	struct delayed_work commit_timer;
	struct delayed_work retry_timer;
	wait_queue_head_t wait; /* for quiet */

	spinlock_t lock; /* irq-safe; the next four */
	struct bio_list incoming;
	bool held; /* nothing new is started */
	bool quiet; /* held, and nothing is under way */
	bool requeue; /* suspending without flush: what waits for room goes back to dm core */
	bool draining; /* suspending: nothing waits for room */

	struct llist_head done; /* of struct chain_io: their I/O is over */
	atomic_t retry; /* there may be room or memory now */
	atomic_t try_grow; /* it may grow again */
	atomic_t grow_over; /* the attempt has ended */
	atomic_t commit_due;
	atomic_t commit_over; /* the commit that ran has ended */
	int grow_result;

	/* The writer's own. */
	struct list_head finished; /* of struct chain_io, taken from done, in order */
	struct bio_list todo;
	struct bio_list stalled; /* wait for room or memory */
	DECLARE_HASHTABLE(fresh, 8);
	mempool_t *fresh_pool;
	struct bio_set part_bios; /* not chain->split_bios: these parts may wait for a commit */
	unsigned int under_way; /* I/Os that end in done */
	struct bounce *bounce[BOUNCES];
	struct txn txn[2];
	struct txn *open; /* collects records; the other one is being committed, or empty */
	bool committing;
	bool freeing; /* the commit that runs gives clusters back */
	bool growing;
	bool grow_failed; /* until the timer says to try again */
	bool no_space;
	bool low;
	bool needs_check, told; /* told: the chain file says so */
	u64 commits;
};

static void chain_writer_kick(struct chain_writer *w)
{
	queue_work(w->wq, &w->work);
}

static u32 unit_sectors(const struct chain_writer *w)
{
	return 1u << (w->unit_shift - SECTOR_SHIFT);
}

static u32 cluster_sectors(const struct chain_writer *w)
{
	return 1u << (w->chain->file.geometry.cluster_shift - SECTOR_SHIFT);
}

/* ---- Going down the ladder ---- */

static const char *const mode_names[] = { "rw", "ro", "fail" };

static void degrade(struct chain_writer *w, enum writer_mode mode, const char *why, int r)
{
	if (w->mode >= mode)
		return;
	DMERR("%s: %s: error %d: the device is %s now", w->chain->file.path, why, r,
	      mode == MODE_RO ? "read-only" : "failed");
	WRITE_ONCE(w->mode, mode);
	WRITE_ONCE(w->chain->active_id, CHAIN_NO_LAYER);
	w->needs_check = true;
	dm_table_event(w->chain->ti->table);
}

/* ---- Records ---- */

static bool txn_full(const struct txn *t)
{
	return t->count == CHAIN_LOG_BATCH;
}

static void add_record(struct chain_writer *w, u64 cluster, const struct chain_owned *o)
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

/* ---- Room ---- */

static void note_low_water(struct chain_writer *w, bool low)
{
	if (low && !w->low) {
		DMWARN("%s: less than %llu bytes are left for the active layer",
		       w->chain->file.path, w->options.low_water);
		dm_table_event(w->chain->ti->table);
	}
	w->low = low;
}

static void grow_worker(struct work_struct *work)
{
	struct chain_writer *w = container_of(work, struct chain_writer, grow_work);
	unsigned int noio = memalloc_noio_save();
	struct kstatfs st;

	if (chain_log_has_room(w->active)) {
		w->grow_result = chain_active_grow(w->active);
	} else {
		/* In the commits' thread: nobody appends meanwhile. */
		chain_log_prepare(w->active);
		w->grow_result = chain_log_has_room(w->active) ? 0 : -ENOSPC;
	}
	if (!w->active->fixed && w->options.low_water &&
	    !vfs_statfs(&w->active->layer->file->f_path, &st))
		note_low_water(w, (u64)st.f_bavail * st.f_bsize < w->options.low_water);
	memalloc_noio_restore(noio);
	atomic_set(&w->grow_over, 1);
	chain_writer_kick(w);
}

static void retry_worker(struct work_struct *work)
{
	struct chain_writer *w =
		container_of(to_delayed_work(work), struct chain_writer, retry_timer);

	atomic_set(&w->try_grow, 1);
	chain_writer_kick(w);
}

static void grow(struct chain_writer *w)
{
	w->growing = true;
	queue_work(w->commit_wq, &w->grow_work);
}

/* There was no room for something, and nobody is looking for more. */
static void note_no_space(struct chain_writer *w)
{
	if (w->growing || w->no_space)
		return;
	w->no_space = true;
	DMERR("%s: no room in the active layer: writes that need some %s", w->chain->file.path,
	      w->options.error_if_no_space ? "fail" : "wait");
	dm_table_event(w->chain->ti->table);
}

/*
 * Whether what needs a record has to wait, because the log could not take all that may come. A full
 * log would make the device read-only.
 */
static bool log_is_short(struct chain_writer *w)
{
	if (chain_log_has_room(w->active))
		return false;
	if (!w->growing && !w->grow_failed)
		grow(w);
	note_no_space(w);
	return true;
}

/* A free cluster, and more room in time. 0: none now. */
static u64 get_cluster(struct chain_writer *w)
{
	u64 host = chain_active_get(w->active);
	u64 left = chain_active_room(w->active);

	if (w->active->fixed)
		note_low_water(w, left < w->options.low_water);
	if ((w->active->fixed ? !host : left < chain_active_step(w->active) / 2) && !w->growing &&
	    !w->grow_failed)
		grow(w);
	if (host) {
		w->no_space = false;
		return host;
	}
	note_no_space(w);
	return 0;
}

/* ---- Clusters under way ---- */

static struct fresh *find_fresh(struct chain_writer *w, u64 cluster)
{
	struct fresh *f;

	hash_for_each_possible(w->fresh, f, hash, cluster)
		if (f->cluster == cluster)
			return f;
	return NULL;
}

static void free_host(struct chain_writer *w, u64 host, bool recorded)
{
	/* What no record names was never anybody's. */
	if (!recorded)
		chain_active_put(w->active, host);
	else if (w->open->freed_count < CHAIN_LOG_BATCH)
		w->open->freed[w->open->freed_count++] = host;
}

static void drop_fresh(struct chain_writer *w, struct fresh *f)
{
	if (!(f->owned.bitmap & U32_MAX) && f->owned.host) {
		/* Its first write failed, or all of it was discarded meanwhile. */
		free_host(w, f->owned.host, true);
		f->owned.host = 0;
	}
	hash_del(&f->hash);
	bio_list_merge_head(&w->todo, &f->waiting);
	mempool_free(f, w->fresh_pool);
}

/* ---- Starting I/O ---- */

/* Any context: the I/O of @io is over. */
static void write_done(struct chain_io *io, int r)
{
	struct chain_writer *w = io->chain->writer;

	io->result = r;
	if (io->epoch >= 0) {
		chain_inflight_leave(&io->chain->inflight, io->epoch);
		io->epoch = -1;
	}
	if (llist_add(&io->node, &w->done))
		chain_writer_kick(w);
}

static struct bounce *get_bounce(struct chain_writer *w)
{
	unsigned int i;

	for (i = 0; i < BOUNCES; i++)
		if (!w->bounce[i]->used)
			return w->bounce[i];
	return NULL;
}

/*
 * The first @sectors of @bio as a bio of their own, or @bio itself if that is all and nothing was
 * split off before; NULL without memory. A bio with parts does no I/O of its own: its end would
 * wait for theirs, theirs may wait for a commit, and a commit may wait for I/O in flight. If the
 * last part is taken, @bio ends with its parts.
 */
static struct chain_io *split_part(struct chain_writer *w, struct bio *bio, u32 sectors)
{
	bool last = sectors == bio_sectors(bio);
	struct chain *c = w->chain;
	struct chain_io *io;
	struct bio *part;

	if (last && !bio_flagged(bio, BIO_CHAIN)) {
		io = chain_io_of(bio);
		io->bio = bio;
	} else {
		if (last)
			part = bio_alloc_clone(bio->bi_bdev, bio, GFP_NOWAIT | __GFP_NOWARN,
					       &w->part_bios);
		else
			part = bio_split(bio, sectors, GFP_NOWAIT | __GFP_NOWARN, &w->part_bios);
		if (IS_ERR_OR_NULL(part))
			return NULL;
		bio_chain(part, bio);
		if (last)
			bio_endio(bio);
		io = chain_io_split_of(part);
		io->bio = part;
	}
	io->chain = c;
	io->epoch = -1;
	io->fresh = NULL;
	io->mask = 0;
	io->bounce = NULL;
	io->done = write_done;
	io->result = 0;
	io->fua = io->bio->bi_opf & REQ_FUA;
	return io;
}

/* Writes the data of @bio, which belongs to @io, at byte @pos of the active layer. */
static void submit_write(struct chain_writer *w, struct chain_io *io, struct bio *bio, u64 pos)
{
	struct chain_layer_open *l = w->active->layer;

	w->under_way++;
	if (!l->dev) {
		io->layer = l;
		chain_file_io(io, bio, pos);
		return;
	}
	chain_io_submit(io, bio, l->dev->bdev, pos);
}

/*
 * Writes @sectors of @io->bio, from sector @within of the unit at byte @pos of the layer on, by way
 * of a bounce. @merge: the whole unit is written, the rest of it from what it was before; @unit:
 * its first sector of the disk.
 */
static int bounce_write(struct chain_writer *w, struct chain_io *io, struct bounce *b, u64 unit,
			u32 within, u64 pos, bool merge)
{
	struct chain *c = w->chain;
	u32 sectors = bio_sectors(io->bio), n = merge ? unit_sectors(w) : sectors;
	u32 at = merge ? within : 0;
	int r;

	if (merge) {
		u32 there = min_t(u64, n, c->file.geometry.sectors - unit);

		memset(b->data, 0, n << SECTOR_SHIFT);
		r = chain_read_sync(c, unit, there, b->data);
		if (r)
			return r;
	}
	if (bio_op(io->bio) == REQ_OP_WRITE) {
		struct bvec_iter iter;
		struct bio_vec bv;
		u8 *p = b->data + (at << SECTOR_SHIFT);

		bio_for_each_segment(bv, io->bio, iter) {
			memcpy_from_bvec(p, &bv);
			p += bv.bv_len;
		}
	} else {
		memset(b->data + (at << SECTOR_SHIFT), 0, sectors << SECTOR_SHIFT);
	}
	b->used = true;
	io->bounce = b;
	bio_init(&b->bio, NULL, &b->vec, 1, REQ_OP_WRITE);
	__bio_add_page(&b->bio, virt_to_page(b->data), n << SECTOR_SHIFT, offset_in_page(b->data));
	submit_write(w, io, &b->bio, merge ? pos : pos + ((u64)within << SECTOR_SHIFT));
	return 0;
}

/* ---- Writes ---- */

/* How many units from @unit on, at most @max, have (@want) or have not their bit in @bits. */
static u32 run_of(u32 bits, u32 unit, u32 max, bool want)
{
	u32 n = 0;

	while (n < max && !!(bits & 1u << (unit + n)) == want)
		n++;
	return n;
}

static u32 mask_of(u32 unit, u32 count)
{
	return (count == 32 ? U32_MAX : (1u << count) - 1) << unit;
}

enum started { STARTED, WAITS, STALLED };

/* Starts the write of the first piece of @bio that is alike; *@all: that was all of it. */
static enum started start_piece(struct chain_writer *w, struct bio *bio, bool *all)
{
	u64 sector = bio->bi_iter.bi_sector, cluster = sector / cluster_sectors(w);
	u32 within = sector & (cluster_sectors(w) - 1), us = unit_sectors(w);
	u32 n = min(bio_sectors(bio), cluster_sectors(w) - within);
	u32 unit = within / us, skew = within & (us - 1);
	struct fresh *f = find_fresh(w, cluster);
	struct bounce *b = NULL;
	struct chain_owned owned;
	struct chain_io *io;
	bool whole;
	u64 host;
	int r;

	if (f) {
		owned = f->owned;
	} else {
		r = chain_index_owned(w->chain->index, cluster, w->active->layer->id, w->unit_shift,
				      &owned);
		if (r) {
			chain_end_bio(bio, r);
			*all = true;
			return STARTED;
		}
	}
	if (owned.bitmap & 1u << unit) {
		/* It has become the layer's own since it was looked up. */
		n = min(n,
			run_of(owned.bitmap, unit, DIV_ROUND_UP(skew + n, us), true) * us - skew);
		*all = n == bio_sectors(bio);
		io = split_part(w, bio, n);
		if (!io)
			return STALLED;
		io->epoch = chain_inflight_enter(&w->chain->inflight);
		submit_write(w, io, io->bio, owned.host + ((u64)within << SECTOR_SHIFT));
		return STARTED;
	}
	if (f && f->busy & 1u << unit) {
		bio_list_add(&f->waiting, bio);
		*all = true;
		return WAITS;
	}
	if (log_is_short(w))
		return STALLED;
	whole = !skew && n >= us;
	if (whole) {
		u32 busy = owned.bitmap | (f ? f->busy : 0);

		n = run_of(busy, unit, n / us, false) * us;
	} else {
		n = min(n, us - skew);
		b = get_bounce(w);
		if (!b)
			return STALLED;
	}
	if (!f) {
		f = mempool_alloc(w->fresh_pool, GFP_NOWAIT | __GFP_NOWARN);
		if (!f)
			return STALLED;
		if (!owned.host)
			owned.host = get_cluster(w);
		if (!owned.host) {
			mempool_free(f, w->fresh_pool);
			return STALLED;
		}
		memset(f, 0, sizeof(*f));
		f->cluster = cluster;
		f->owned = owned;
		bio_list_init(&f->waiting);
		hash_add(w->fresh, &f->hash, cluster);
	}
	*all = n == bio_sectors(bio);
	io = split_part(w, bio, n);
	if (!io) {
		if (!f->count)
			drop_fresh(w, f);
		return STALLED;
	}
	host = f->owned.host;
	io->fresh = f;
	io->cluster = cluster;
	io->mask = mask_of(unit, whole ? n / us : 1);
	f->busy |= io->mask;
	f->count++;
	if (whole) {
		submit_write(w, io, io->bio, host + ((u64)within << SECTOR_SHIFT));
		return STARTED;
	}
	r = bounce_write(w, io, b, sector - skew, skew, host + ((u64)unit << w->unit_shift), true);
	if (r) {
		w->under_way++;
		write_done(io, r);
	}
	return STARTED;
}

static void write_bio(struct chain_writer *w, struct bio *bio)
{
	enum started s;
	bool all = false;

	do {
		s = start_piece(w, bio, &all);
	} while (s == STARTED && !all);
	if (s == STALLED)
		bio_list_add(&w->stalled, bio);
}

/* ---- Discard and write-zeroes ---- */

/*
 * Makes the first piece of @bio zero, as far as one cluster. Returns STARTED when that is done or
 * under way and @bio is shorter by it (*@all: it was all).
 */
static enum started zero_piece(struct chain_writer *w, struct bio *bio, bool *all)
{
	u64 sector = bio->bi_iter.bi_sector, cluster = sector / cluster_sectors(w);
	u32 within = sector & (cluster_sectors(w) - 1), us = unit_sectors(w);
	u32 n = min(bio_sectors(bio), cluster_sectors(w) - within);
	u32 unit = within / us, skew = within & (us - 1), units, mask;
	struct fresh *f = find_fresh(w, cluster);
	struct chain_extent x;
	struct chain_owned owned;
	int r;

	if (!f) {
		r = chain_index_find(w->chain->index, sector, bio_sectors(bio), &x);
		if (r)
			goto failed;
		if (chain_entry_kind(x.entry) == CHAIN_HOLE ||
		    chain_entry_kind(x.entry) == CHAIN_ZERO) {
			n = x.sectors;
			goto skip;
		}
	}
	units = skew ? 1 : max(1u, n / us);
	mask = mask_of(unit, units);
	if (f && f->busy & mask) {
		bio_list_add(&f->waiting, bio);
		return WAITS;
	}
	if (f) {
		owned = f->owned;
	} else {
		r = chain_index_owned(w->chain->index, cluster, w->active->layer->id, w->unit_shift,
				      &owned);
		if (r)
			goto failed;
	}
	if (skew || n < us) {
		struct chain_io *io;
		struct bounce *b;

		n = min(n, us - skew);
		/* The last unit of the disk is whole if all that is there of it is meant. */
		if (!skew && sector + n == w->chain->file.geometry.sectors)
			goto whole;
		if (bio_op(bio) == REQ_OP_DISCARD)
			goto skip;
		if (!(owned.bitmap & mask))
			return start_piece(w, bio, all); /* merges as a write would */
		b = get_bounce(w);
		if (!b)
			return STALLED;
		*all = n == bio_sectors(bio);
		io = split_part(w, bio, n);
		if (!io)
			return STALLED;
		io->epoch = chain_inflight_enter(&w->chain->inflight);
		bounce_write(w, io, b, 0, skew, owned.host + ((u64)unit << w->unit_shift), false);
		return STARTED;
	}
	n = units * us;
whole:
	if (txn_full(w->open) || log_is_short(w))
		return STALLED;
	WRITE_ONCE(w->chain->uncommitted, true);
	r = chain_index_set(w->chain->index, cluster, w->active->layer->id, w->unit_shift, 0, mask);
	if (r)
		goto failed;
	owned.bitmap &= ~(u64)mask;
	owned.bitmap |= (u64)mask << 32;
	if (f)
		f->owned = owned;
	else if (owned.host && !(owned.bitmap & U32_MAX))
		free_host(w, owned.host, true);
	add_record(w, cluster, &owned);
skip:
	*all = n == bio_sectors(bio);
	bio_advance(bio, n << SECTOR_SHIFT);
	return STARTED;

failed:
	chain_end_bio(bio, r);
	*all = true;
	return WAITS;
}

static void zero_bio(struct chain_writer *w, struct bio *bio)
{
	enum started s;
	bool all = false;

	for (;;) {
		/* A piece that became a bio's own I/O ends it by itself. */
		s = zero_piece(w, bio, &all);
		if (s != STARTED || all)
			break;
	}
	if (s == STALLED)
		bio_list_add(&w->stalled, bio);
	if (s != STARTED || bio->bi_iter.bi_size)
		return;
	if (bio->bi_opf & REQ_FUA)
		bio_list_add(&w->open->waiters, bio);
	else
		bio_endio(bio);
}

/* ---- The end of a write ---- */

static void finish(struct chain_writer *w, struct chain_io *io)
{
	struct fresh *f = io->fresh;
	int r = io->result;

	w->under_way--;
	if (io->bounce)
		io->bounce->used = false;
	if (f) {
		if (!r) {
			/*
			 * Before the index says so: who finds it there knows that it is not
			 * durable.
			 */
			WRITE_ONCE(w->chain->uncommitted, true);
			r = chain_index_set(w->chain->index, f->cluster, w->active->layer->id,
					    w->unit_shift, f->owned.host, io->mask);
		}
		if (!r) {
			f->owned.bitmap |= io->mask;
			f->owned.bitmap &= ~((u64)io->mask << 32);
			add_record(w, f->cluster, &f->owned);
		}
		f->busy &= ~io->mask;
		f->count--;
		bio_list_merge_head(&w->todo, &f->waiting);
		bio_list_init(&f->waiting);
		if (!f->count)
			drop_fresh(w, f);
	}
	if (!r && io->fua)
		bio_list_add(&w->open->waiters, io->bio);
	else
		chain_end_bio(io->bio, r);
}

/* ---- Commit ---- */

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
			vfs_fallocate(l->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
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
		degrade(w, MODE_RO, "cannot write the index back", r);
	if (r)
		return;
	w->chain->layers_changed = false;
	w->replay_from = w->active->log_blocks;
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

	if (w->mode == MODE_RW) {
		if (t->count || last)
			r = chain_log_append(a, t->record, t->count, last, body, bytes);
		else
			r = chain_active_flush(a);
		if (r)
			degrade(w, MODE_RO, "cannot write the log", r);
	}
	end_waiters(t, r);
	w->commits++;
	if (!r && t->store)
		w->packed = a->log;
	if (!r && (t->store || w->packed_waits))
		write_back(w);
	if (w->needs_check && !w->told) {
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

static void commit_timer_worker(struct work_struct *work)
{
	struct chain_writer *w =
		container_of(to_delayed_work(work), struct chain_writer, commit_timer);

	atomic_set(&w->commit_due, 1);
	chain_writer_kick(w);
}

/* Whether the index is to be written back with this commit. */
static bool store_due(const struct chain_writer *w)
{
	u64 limit = w->chain->options.index_cache / 4 / (CHAIN_FANOUT * sizeof(u64));

	return chain_index_dirty(w->chain->index) > clamp_t(u64, limit, 4, DIRTY_LEAVES) ||
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

static void take_commit_over(struct chain_writer *w)
{
	if (!atomic_xchg(&w->commit_over, 0))
		return;
	w->committing = false;
	if (w->freeing)
		w->no_space = false; /* until somebody finds that it is not enough */
	w->freeing = false;
	if (!w->open->count && w->mode == MODE_RW)
		WRITE_ONCE(w->chain->uncommitted, false);
	atomic_set(&w->retry, 1);
}

static void maybe_commit(struct chain_writer *w)
{
	struct txn *t = w->open;

	if (w->committing || w->held)
		return;
	if (!bio_list_empty(&t->waiters) || t->count > CHAIN_LOG_BATCH / 2 ||
	    t->freed_count > CHAIN_LOG_BATCH / 2 ||
	    (t->freed_count && !bio_list_empty(&w->stalled)) ||
	    (t->count && atomic_xchg(&w->commit_due, 0))) {
		w->committing = true;
		w->freeing = t->freed_count;
		close_txn(w, store_due(w));
		queue_work(w->commit_wq, &w->commit_work);
	} else if (t->count) {
		queue_delayed_work(w->commit_wq, &w->commit_timer, COMMIT_SECONDS * HZ);
	}
}

/* ---- The thread ---- */

static void start_bio(struct chain_writer *w, struct bio *bio)
{
	if (w->mode != MODE_RW) {
		chain_end_bio(bio, -EIO);
		return;
	}
	switch (bio_op(bio)) {
	case REQ_OP_WRITE:
		if (!bio_sectors(bio))
			bio_list_add(&w->open->waiters, bio);
		else
			write_bio(w, bio);
		return;
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		zero_bio(w, bio);
		return;
	default:
		chain_end_bio(bio, -EOPNOTSUPP);
	}
}

/*
 * Whether what waits for room is not to wait any longer. What was discarded is room after the next
 * commit, which maybe_commit() does not put off then.
 */
static bool give_up(struct chain_writer *w)
{
	if (!w->no_space)
		return false;
	if (READ_ONCE(w->draining))
		return true;
	return w->options.error_if_no_space && !w->open->freed_count && !w->freeing;
}

/* What waited for room or memory may try again, or may wait no longer. */
static void retry_stalled(struct chain_writer *w)
{
	struct bio *bio;

	if (atomic_xchg(&w->grow_over, 0)) {
		w->growing = false;
		w->grow_failed = w->grow_result;
		if (!w->grow_failed)
			w->no_space = false;
		atomic_set(&w->retry, 1);
	}
	if (atomic_xchg(&w->try_grow, 0)) {
		w->grow_failed = false;
		/* Also if nobody waits: the next one who needs room is to find it. */
		if (w->no_space && !w->growing && !w->held)
			grow(w);
		atomic_set(&w->retry, 1);
	}
	if (w->grow_failed || w->no_space)
		queue_delayed_work(w->commit_wq, &w->retry_timer, RETRY_SECONDS * HZ);
	if (bio_list_empty(&w->stalled))
		return;
	if (give_up(w)) {
		while ((bio = bio_list_pop(&w->stalled))) {
			bio->bi_status = READ_ONCE(w->requeue) ? BLK_STS_DM_REQUEUE : BLK_STS_NOSPC;
			bio_endio(bio);
		}
	} else if (atomic_xchg(&w->retry, 0)) {
		bio_list_merge_head(&w->todo, &w->stalled);
		bio_list_init(&w->stalled);
	}
}

static bool take_finished(struct chain_writer *w)
{
	struct llist_node *list = llist_reverse_order(llist_del_all(&w->done));
	struct chain_io *io, *next;
	bool some = false;

	llist_for_each_entry_safe(io, next, list, node)
		list_add_tail(&io->list, &w->finished);
	while (!list_empty(&w->finished) && !txn_full(w->open)) {
		io = list_first_entry(&w->finished, struct chain_io, list);
		list_del(&io->list);
		finish(w, io);
		some = true;
	}
	if (some && !w->no_space)
		atomic_set(&w->retry, 1);
	return some;
}

static void writer_worker(struct work_struct *work)
{
	struct chain_writer *w = container_of(work, struct chain_writer, work);
	unsigned int noio = memalloc_noio_save();
	struct blk_plug plug;
	struct bio *bio;
	bool some;

	blk_start_plug(&plug);
	do {
		some = take_finished(w);
		take_commit_over(w);
		retry_stalled(w);
		spin_lock_irq(&w->lock);
		if (!w->held) {
			bio_list_merge(&w->todo, &w->incoming);
			bio_list_init(&w->incoming);
		}
		some |= !w->held && !bio_list_empty(&w->todo);
		spin_unlock_irq(&w->lock);
		while (some && !w->held && !txn_full(w->open) && (bio = bio_list_pop(&w->todo)))
			start_bio(w, bio);
		maybe_commit(w);
	} while (some && !txn_full(w->open));
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);

	spin_lock_irq(&w->lock);
	w->quiet = w->held && !w->under_way && !w->committing && !w->growing;
	spin_unlock_irq(&w->lock);
	if (w->quiet)
		wake_up(&w->wait);
}

void chain_write_queue(struct chain *c, struct bio *bio)
{
	struct chain_writer *w = c->writer;
	unsigned long flags;

	spin_lock_irqsave(&w->lock, flags);
	bio_list_add(&w->incoming, bio);
	spin_unlock_irqrestore(&w->lock, flags);
	chain_writer_kick(w);
}

/* ---- Holding the writer: messages and suspend; one at a time ---- */

/*
 * Nothing is under way when this returns, and nothing starts before release(). Waits for I/O in
 * flight.
 */
static void hold(struct chain_writer *w)
{
	struct chain *c = w->chain;

	WRITE_ONCE(c->active_id, CHAIN_NO_LAYER); /* overwrites come to the writer, too */
	spin_lock_irq(&w->lock);
	w->held = true;
	w->quiet = false;
	spin_unlock_irq(&w->lock);
	chain_writer_kick(w);
	wait_event(w->wait, READ_ONCE(w->quiet));
	chain_inflight_drain(&c->inflight);
}

static void release(struct chain_writer *w)
{
	struct chain *c = w->chain;

	if (w->mode == MODE_RW)
		WRITE_ONCE(c->active_id, w->active->layer->id);
	spin_lock_irq(&w->lock);
	w->held = false;
	w->quiet = false;
	spin_unlock_irq(&w->lock);
	atomic_set(&w->retry, 1);
	chain_writer_kick(w);
}

static int commit_held(struct chain_writer *w, bool store, enum chain_log_type last,
		       const void *body, u32 bytes)
{
	unsigned int noio = memalloc_noio_save();
	int r = commit(w, close_txn(w, store), last, body, bytes);

	memalloc_noio_restore(noio);
	if (!r)
		WRITE_ONCE(w->chain->uncommitted, false);
	return r;
}

int chain_writer_commit(struct chain *c, bool store)
{
	struct chain_writer *w = c->writer;
	int r;

	hold(w);
	if (w->packed_waits) /* first what is old, then what is new */
		commit_held(w, false, 0, NULL, 0);
	r = commit_held(w, store, 0, NULL, 0);
	if (!r && store)
		r = w->store_error;
	release(w);
	return r;
}

void chain_writer_presuspend(struct chain *c, bool requeue)
{
	struct chain_writer *w = c->writer;

	WRITE_ONCE(w->requeue, requeue);
	WRITE_ONCE(w->draining, true);
	chain_writer_kick(w);
}

int chain_writer_stop(struct chain *c)
{
	struct chain_writer *w = c->writer;

	hold(w);
	cancel_delayed_work_sync(&w->commit_timer);
	cancel_delayed_work_sync(&w->retry_timer);
	return commit_held(w, w->mode == MODE_RW, 0, NULL, 0);
}

void chain_writer_resume(struct chain *c)
{
	struct chain_writer *w = c->writer;

	WRITE_ONCE(w->requeue, false);
	WRITE_ONCE(w->draining, false);
	if (w->held)
		release(w);
}

/* ---- Layers come and go ---- */

static void free_old(struct chain *c, struct chain_layers_old *old, u64 *bytes)
{
	unsigned int i;

	chain_inflight_drain(&c->inflight);
	for (i = 0; i < ARRAY_SIZE(old->array); i++)
		kvfree(old->array[i]);
	kvfree(bytes);
}

/* log2 bytes of the largest unit that a layer of this chain may have. */
static unsigned int largest_unit(const struct chain *c)
{
	return chain_unit_shift(c->file.geometry.cluster_shift, CHAIN_MAX_SUBBLOCK_SHIFT);
}

/* A unit is made of whole subblocks of the index: both may have been chosen at different times. */
static bool unit_fits(const struct chain *c, const struct chain_active *a, const char *path)
{
	unsigned int shift = a->geometry.unit_shift;

	if (shift >= c->file.geometry.subblock_shift && shift <= largest_unit(c))
		return true;
	DMERR("%s: units of %u bytes, expected %u to %u", path, 1u << shift,
	      1u << c->file.geometry.subblock_shift, 1u << largest_unit(c));
	return false;
}

/* A layer that is opened, but not part of the chain yet. */
struct new_layer {
	struct chain_layer_open *open;
	struct chain_active *active;
	struct chain_layer rec;
};

/* Drops what is left of it; may be called again. */
static void drop_new_layer(struct chain *c, struct new_layer *n)
{
	if (n->active)
		chain_active_close(n->active);
	if (n->open)
		chain_layer_drop(n->open, c->ti);
	n->active = NULL;
	n->open = NULL;
}

/*
 * Opens the layer at @path, which must be an active one that fits this chain. Changes nothing.
 */
static int open_layer(struct chain *c, const char *path, struct new_layer *n, char **error)
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
	if (!unit_fits(c, n->active, path)) {
		*error = "The new layer was made for another chain";
		r = -EINVAL;
		goto bad;
	}
	return 0;

bad:
	drop_new_layer(c, n);
	return r;
}

/*
 * Puts @n on top of the layers. Nothing may be under way that looks at the layer table: the writer
 * is held, or has not begun. Returns 0 or -ENOMEM.
 */
static int install_layer(struct chain *c, struct new_layer *n, const char *path)
{
	struct chain_layers_old old = {};
	u64 *bytes = NULL;
	int r;

	r = chain_layers_add(&c->layers, n->open, &old);
	if (!r) {
		r = chain_file_add_layer(&c->file, &n->rec, path, &bytes);
		if (r)
			c->layers.count--;
	}
	free_old(c, &old, bytes);
	if (r)
		return r;
	c->file.super->next_id = cpu_to_le32(n->open->id + 1);
	c->layers_changed = true;
	return 0;
}

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
	r = chain_read_exact(a->layer->file, b, sizeof(*b), a->log.next);
	if (r)
		return r;
	if (chain_check_log_block(&a->geometry, b, 1, 0, &fault) || fault.what) {
		DMERR("%s: its log is not empty: another device has used it", path);
		return -EBUSY;
	}
	return 0;
}

/* Closes the log of the active layer and goes on in @n. The writer is held. */
static int switch_layer(struct chain *c, struct new_layer *n, const char *path,
			struct chain_log_close *close)
{
	struct chain_writer *w = c->writer;
	struct chain_active *frozen = w->active;
	int r;

	memcpy(close->uuid, n->active->uuid, sizeof(close->uuid));
	close->path_bytes = cpu_to_le16(strlen(path));
	memcpy(close->path, path, strlen(path));
	r = install_layer(c, n, path);
	if (r)
		return r;
	r = commit_held(w, false, CHAIN_LOG_CLOSE, close,
			offsetof(struct chain_log_close, path) + strlen(path));
	n->open = NULL; /* it stays; if the log failed, nothing is written any more */
	if (r)
		return r;
	w->active = n->active;
	n->active = NULL;
	w->unit_shift = w->active->geometry.unit_shift;
	w->no_space = false;
	w->replay_from = 0;
	chain_active_close(frozen);
	return 0;
}

int chain_writer_snapshot(struct chain *c, const char *path)
{
	struct chain_writer *w = c->writer;
	struct chain_log_close *close;
	struct new_layer n;
	char *error = "";
	int r;

	if (path[0] != '/' || strlen(path) > CHAIN_LOG_MAX_PATH) {
		DMERR("snapshot %s: the path must be absolute and at most %zu bytes long", path,
		      (size_t)CHAIN_LOG_MAX_PATH);
		return -EINVAL;
	}
	if (w->mode != MODE_RW) {
		DMERR("snapshot %s: the device is read-only", path);
		return -EROFS;
	}
	close = kzalloc(sizeof(*close), GFP_KERNEL);
	if (!close)
		return -ENOMEM;
	r = open_layer(c, path, &n, &error);
	if (r)
		DMERR("snapshot %s: %s", path, error);
	else
		r = check_unused(c, n.active, path);
	if (!r) {
		hold(w);
		if (w->packed_waits) {
			/* What was packed belongs to this layer's log. */
			r = w->store_error;
			DMERR("snapshot %s: the index cannot be written back: error %d", path, r);
		} else {
			r = switch_layer(c, &n, path, close);
		}
		release(w);
	}
	drop_new_layer(c, &n);
	kfree(close);
	return r;
}

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

	s->result = chain_layer_sealed(l, c->file.strings + le32_to_cpu(rec->path_offset), rec,
				       &c->inflight);
	if (!s->result)
		c->file.layer_bytes[l->id] = l->bytes;
}

int chain_writer_sealed(struct chain *c, unsigned int id)
{
	struct sealed_work s = { .chain = c };

	for (s.layer = 0; s.layer < c->layers.count; s.layer++)
		if (c->layers.layer[s.layer]->id == id)
			break;
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
	c->layers_changed = true;
	return chain_writer_commit(c, true);
}

/*
 * The disk has @sectors now, more than before: in memory. What the log needs to say of its old end
 * is noted.
 */
static int extend(struct chain *c, u64 sectors)
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

	if (w->mode != MODE_RW)
		return -EROFS;
	if (old & (unit_sectors(w) - 1)) {
		DMERR("%s: its size of %llu sectors is not a multiple of %u: resize it offline",
		      c->path, old, unit_sectors(w));
		return -EOPNOTSUPP;
	}
	if (sectors == old)
		return 0;
	hold(w);
	r = extend(c, sectors);
	if (!r && within) {
		/*
		 * What a layer has in its last cluster behind the old end must not come to light.
		 */
		u32 mask = mask_of(within, units - within);

		r = chain_index_set(c->index, cluster, w->active->layer->id, w->unit_shift, 0,
				    mask);
		if (!r)
			r = chain_index_owned(c->index, cluster, w->active->layer->id,
					      w->unit_shift, &owned);
		if (!r)
			add_record(w, cluster, &owned);
		else
			degrade(w, MODE_RO, "cannot resize", r);
	}
	if (!r)
		r = commit_held(w, true, CHAIN_LOG_RESIZE, &body, sizeof(body));
	release(w);
	return r;
}

/* ---- Opening: replay ---- */

struct replay {
	struct chain *chain;
	struct chain_active *active;
	struct chain_log_close close;
	bool closed;
};

static int replay_record(struct replay *rp, const struct chain_log_record *rec)
{
	struct chain *c = rp->chain;
	struct chain_active *a = rp->active;
	u64 cluster = le64_to_cpu(rec->cluster), host = le64_to_cpu(rec->host);
	u64 bitmap = le64_to_cpu(rec->bitmap);
	struct chain_owned was;
	int r;

	r = chain_index_owned(c->index, cluster, a->layer->id, a->geometry.unit_shift, &was);
	if (!r && bitmap & U32_MAX)
		r = chain_index_set(c->index, cluster, a->layer->id, a->geometry.unit_shift, host,
				    bitmap & U32_MAX);
	if (!r && bitmap >> 32)
		r = chain_index_set(c->index, cluster, a->layer->id, a->geometry.unit_shift, 0,
				    bitmap >> 32);
	if (r)
		return r;
	if (was.host && was.host != host)
		chain_active_put(a, was.host);
	if (host)
		chain_active_take(a, host);
	return 0;
}

/* All that the index says is in the log: it can be written back at any time. */
static int store_replayed(struct replay *rp)
{
	struct chain *c = rp->chain;
	int r = chain_store_pack(c->writer->store, c->index);

	if (!r)
		r = chain_store_write(c->writer->store, c->index, rp->active, &rp->active->log,
				      c->layers_changed);
	if (!r)
		c->layers_changed = false;
	return r;
}

static int replay_block(void *data, const struct chain_log_block *b)
{
	const struct chain_log_record *rec = (const void *)b->body;
	struct replay *rp = data;
	u32 i;
	int r;

	switch (b->type) {
	case CHAIN_LOG_RECORDS:
		for (i = 0; i < le16_to_cpu(b->count); i++) {
			r = replay_record(rp, &rec[i]);
			if (r)
				return r;
		}
		if (chain_index_dirty(rp->chain->index) < DIRTY_LEAVES)
			return 0;
		return store_replayed(rp);
	case CHAIN_LOG_RESIZE:
		return extend(rp->chain, le64_to_cpup((const __le64 *)b->body));
	case CHAIN_LOG_CLOSE:
		memcpy(&rp->close, b->body, sizeof(rp->close));
		rp->closed = true;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* Brings the index up to the end of the log, and of the logs of layers that followed. */
static int replay(struct chain_writer *w, char **error)
{
	struct chain *c = w->chain;
	struct replay *rp = kzalloc(sizeof(*rp), GFP_KERNEL);
	u64 blocks = 0;
	int r;

	*error = "Cannot read the log of the active layer";
	if (!rp)
		return -ENOMEM;
	rp->chain = c;
	for (;;) {
		u64 sequence = w->active->log.sequence;
		struct new_layer n;
		char *path;

		rp->active = w->active;
		r = chain_log_replay(w->active, c->file.path, replay_block, rp);
		blocks += w->active->log.sequence - sequence;
		if (r || !rp->closed)
			break;
		path = kstrndup(rp->close.path, le16_to_cpu(rp->close.path_bytes), GFP_KERNEL);
		r = path ? open_layer(c, path, &n, error) : -ENOMEM;
		if (!r && memcmp(n.active->uuid, rp->close.uuid, sizeof(rp->close.uuid))) {
			DMERR("%s: another layer than the one that the log names", path);
			*error = "The layer that follows is another one";
			r = -ESTALE;
		}
		if (!r)
			r = install_layer(c, &n, path);
		kfree(path);
		if (r) {
			drop_new_layer(c, &n);
			break;
		}
		chain_active_close(w->active);
		w->active = n.active;
		w->unit_shift = w->active->geometry.unit_shift;
		rp->closed = false;
	}
	if (!r && blocks)
		DMINFO("%s: read %llu blocks of the log", c->file.path, blocks);
	kfree(rp);
	return r;
}

static int open_buffers(struct chain_writer *w)
{
	unsigned int i;
	int r;

	r = bioset_init(&w->part_bios, CHAIN_SPLIT_BIOS, offsetof(struct chain_split, bio), 0);
	if (r)
		return r;
	for (i = 0; i < BOUNCES; i++) {
		w->bounce[i] = kzalloc(sizeof(*w->bounce[i]), GFP_KERNEL);
		if (!w->bounce[i])
			return -ENOMEM;
		w->bounce[i]->data = kmalloc(1u << largest_unit(w->chain), GFP_KERNEL);
		if (!w->bounce[i]->data)
			return -ENOMEM;
	}
	for (i = 0; i < ARRAY_SIZE(w->txn); i++) {
		w->txn[i].record =
			kvmalloc_array(CHAIN_LOG_BATCH, sizeof(*w->txn[i].record), GFP_KERNEL);
		w->txn[i].freed = kvmalloc_array(CHAIN_LOG_BATCH, sizeof(u64), GFP_KERNEL);
		if (!w->txn[i].record || !w->txn[i].freed)
			return -ENOMEM;
		bio_list_init(&w->txn[i].waiters);
	}
	w->fresh_pool = mempool_create_kmalloc_pool(FRESH_MIN, sizeof(struct fresh));
	w->wq = alloc_ordered_workqueue("dm-chain-write", WQ_MEM_RECLAIM);
	w->commit_wq = alloc_ordered_workqueue("dm-chain-commit", WQ_MEM_RECLAIM);
	return w->fresh_pool && w->wq && w->commit_wq ? 0 : -ENOMEM;
}

int chain_writer_open(struct chain *c, const struct chain_write_options *o, char **error)
{
	const struct chain_super *super = c->file.super;
	struct chain_log_position at = {
		.segment = le64_to_cpu(super->log_segment),
		.segment_bytes = le64_to_cpu(super->log_segment_bytes),
		.next = le64_to_cpu(super->log_next),
		.sequence = le64_to_cpu(super->log_sequence),
		.epoch = le32_to_cpu(super->log_epoch),
	};
	struct chain_layer_open *l = c->layers.by_id[le16_to_cpu(super->active)];
	struct chain_active *a;
	struct chain_writer *w;
	int r;

	if (le32_to_cpu(super->state) & CHAIN_STATE_NEEDS_CHECK) {
		DMERR("%s: it needs a check: run dmchain recover", c->file.path);
		*error = "The chain needs a check: recover it";
		return -EUCLEAN;
	}
	w = kzalloc(sizeof(*w), GFP_KERNEL);
	*error = "Cannot allocate the writer";
	if (!w)
		return -ENOMEM;
	c->writer = w;
	w->chain = c;
	w->options = *o;
	w->open = &w->txn[0];
	w->held = true;
	spin_lock_init(&w->lock);
	init_waitqueue_head(&w->wait);
	init_llist_head(&w->done);
	INIT_LIST_HEAD(&w->finished);
	hash_init(w->fresh);
	INIT_WORK(&w->work, writer_worker);
	INIT_WORK(&w->commit_work, commit_worker);
	INIT_WORK(&w->grow_work, grow_worker);
	INIT_DELAYED_WORK(&w->commit_timer, commit_timer_worker);
	INIT_DELAYED_WORK(&w->retry_timer, retry_worker);
	r = open_buffers(w);
	if (!r)
		r = chain_index_make_writable(c->index);
	if (r)
		goto bad;

	a = chain_active_open(l, c->file.path, c->file.geometry.cluster_shift, &at,
			      le64_to_cpu(super->alloc_next), c->file.geometry.clusters, error);
	if (IS_ERR(a)) {
		r = PTR_ERR(a);
		goto bad;
	}
	w->active = a;
	if (!unit_fits(c, a, c->file.path)) {
		*error = "The active layer was made for another chain";
		r = -EINVAL;
		goto bad;
	}
	w->unit_shift = a->geometry.unit_shift;
	w->store = chain_store_open(&c->file, a);
	if (!w->store) {
		r = -ENOMEM;
		goto bad;
	}
	r = replay(w, error);
	if (r)
		goto bad;
	return 0;

bad:
	chain_writer_close(c);
	return r;
}

void chain_writer_close(struct chain *c)
{
	struct chain_writer *w = c->writer;
	unsigned int i;

	if (!w)
		return;
	if (w->commit_wq) {
		cancel_delayed_work_sync(&w->commit_timer);
		cancel_delayed_work_sync(&w->retry_timer);
		drain_workqueue(w->commit_wq);
	}
	if (w->wq)
		destroy_workqueue(w->wq);
	if (w->commit_wq)
		destroy_workqueue(w->commit_wq);
	if (w->store)
		chain_store_close(w->store);
	if (w->active)
		chain_active_close(w->active);
	for (i = 0; i < BOUNCES; i++) {
		if (w->bounce[i])
			kfree(w->bounce[i]->data);
		kfree(w->bounce[i]);
	}
	for (i = 0; i < ARRAY_SIZE(w->txn); i++) {
		kvfree(w->txn[i].record);
		kvfree(w->txn[i].freed);
	}
	bioset_exit(&w->part_bios);
	mempool_destroy(w->fresh_pool);
	kfree(w);
	c->writer = NULL;
}

void chain_writer_stats(struct chain *c, struct chain_writer_stats *s)
{
	struct chain_writer *w = c->writer;

	s->mode = w->mode == MODE_RW && w->no_space ? "out_of_space" : mode_names[w->mode];
	s->needs_check = w->needs_check;
	s->commits = w->commits;
	s->log_bytes = w->active->log_blocks * CHAIN_LOG_BLOCK;
	s->active_id = w->active->layer->id;
}
