/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The writer's state, for the files dm-chain-write*.c that make it up; nobody else includes this.
 * In the order in which they know each other, each only those before it:
 *
 *   -room    free clusters and room for the log; growing
 *   -commit  records, transactions, what makes them durable; read-only after a failure
 *   -first   first writes: pieces, bounces, clusters under way
 *   -zero    discard and write-zeroes
 *   -thread  who runs all that, and holding it
 *   -place   overwrites of a layer in a file: only what they cannot do goes to the thread
 *   -layers  layers that come and go, a disk that grows
 *   -exchange  merged layers: one takes the place of many
 *   -replay  the log, when the writer is opened
 *   (none)   opening, closing, what the target may ask
 */
#ifndef DM_CHAIN_WRITER_H
#define DM_CHAIN_WRITER_H

#include <linux/hashtable.h>
#include <linux/mempool.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "dm-chain-active.h"
#include "dm-chain-bio.h"
#include "dm-chain-index.h"
#include "dm-chain-owner.h"
#include "dm-chain-store.h"
#include "dm-chain-write.h"

#define DM_MSG_PREFIX "chain"

#define BOUNCES 8 /* units that can be merged at a time */
#define DIRTY_LEAVES 2048 /* of 4 KiB each: then the index is written back */

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
	bool read_only; /* something could not be written: for good; the chain needs a check */
	bool told; /* the chain file says so */
	unsigned int unit_shift; /* log2 bytes */
	u64 replay_from; /* a->log_blocks when the index was last written back */
	struct chain_log_position packed; /* of the log: what the packed index says */
	bool packed_waits; /* for room in the chain file, or for memory */
	int store_error; /* of the last time that the index was to be written back */

	struct workqueue_struct *wq; /* of the chain. Ordered: the writer */
	struct workqueue_struct *commit_wq; /* the same: what blocks for long */
	struct work_struct work;
	struct work_struct commit_work;
	struct work_struct grow_work;
	struct delayed_work commit_timer;
	struct delayed_work retry_timer;
	wait_queue_head_t wait; /* for quiet */

	spinlock_t lock; /* irq-safe; the next three */
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
	u64 commits;
	struct work_struct *background; /* runs on wq whenever the writer is not held, or NULL */

	struct chain_exchange *exchange; /* the last one; under chain->control */
};

/* Any context. */
static inline void chain_writer_kick(struct chain_writer *w)
{
	queue_work(w->wq, &w->work);
}

static inline u32 unit_sectors(const struct chain_writer *w)
{
	return 1u << (w->unit_shift - SECTOR_SHIFT);
}

static inline u32 cluster_sectors(const struct chain_writer *w)
{
	return 1u << (w->chain->file.geometry.cluster_shift - SECTOR_SHIFT);
}

/* @count units of a cluster from @unit on. */
static inline u32 unit_mask(u32 unit, u32 count)
{
	return (count == 32 ? U32_MAX : (1u << count) - 1) << unit;
}

/* log2 bytes of the largest unit that a layer of this chain may have. */
static inline unsigned int chain_largest_unit(const struct chain *c)
{
	return chain_unit_shift(c->file.geometry.cluster_shift, CHAIN_MAX_SUBBLOCK_SHIFT);
}

/*
 * Unless it says otherwise, all that follows runs in the writer's thread (dm-chain-write-thread.c),
 * or while the writer is held or not open yet: in a no-I/O allocation scope, and may sleep.
 */

/* ---- Room ---- */

void chain_room_init(struct chain_writer *w);

/* A free cluster, and more room in time. 0: none now. */
u64 chain_room_get(struct chain_writer *w);

/*
 * Whether what needs a record has to wait, because the log could not take all that may come. A full
 * log would make the device read-only.
 */
bool chain_room_log_is_short(struct chain_writer *w);

/* Takes note of what came of an attempt to grow, and makes the next one when it is time. */
void chain_room_look(struct chain_writer *w);

/* ---- Commit ---- */

int chain_commit_init(struct chain_writer *w);
void chain_commit_exit(struct chain_writer *w);

/* Nothing more is written, since @why failed with @r. Also from the commit work. */
void chain_writer_degrade(struct chain_writer *w, const char *why, int r);

/* True: nothing that makes a record, or frees a cluster, may be started. */
static inline bool chain_txn_full(const struct chain_writer *w)
{
	return w->open->count == CHAIN_LOG_BATCH || w->open->freed_count == CHAIN_LOG_BATCH;
}

/* Notes down that the layer says @o of @cluster: durable with the next commit. */
void chain_txn_record(struct chain_writer *w, u64 cluster, const struct chain_owned *o);

/* The cluster at byte @host of the layer is free when the records so far are durable. */
void chain_txn_free(struct chain_writer *w, u64 host);

/* Completes @bio when all that was noted down so far is durable. */
static inline void chain_txn_wait(struct chain_writer *w, struct bio *bio)
{
	bio_list_add(&w->open->waiters, bio);
}

/* Starts a commit if somebody waits for it or it is time, and none is running. */
void chain_commit_maybe(struct chain_writer *w);

/*
 * Whether nobody else has taken, truncated or overwritten the active layer; reads its heads, at
 * most once a second. If somebody has, the chain is read-only from here on. Not beside a running
 * commit, which does the same.
 */
bool chain_commit_ours(struct chain_writer *w);

/* Whether so much of the index was changed that it has to be written back first. */
bool chain_commit_index_full(const struct chain_writer *w);

/* Takes note of the end of a commit. */
void chain_commit_look(struct chain_writer *w);

/*
 * Makes all durable, with a block of type @last behind the records (0: none), and packs the index
 * with it if @store; by who holds the writer. Returns 0 or an error of the log;
 * w->store_error is that of the index.
 */
int chain_commit_held(struct chain_writer *w, bool store, enum chain_log_type last,
		      const void *body, u32 bytes);

/* ---- First writes ---- */

int chain_first_init(struct chain_writer *w);
void chain_first_exit(struct chain_writer *w);

enum started {
	STARTED,
	WAITS, /* for other writes, which take it along */
	STALLED, /* without room or memory */
};

/* The cluster, if it has units that are being written for the first time, or NULL. */
struct fresh *chain_fresh_find(struct chain_writer *w, u64 cluster);

/* One that is free, or NULL. */
struct bounce *chain_bounce_get(struct chain_writer *w);

/*
 * The first @sectors of @bio as a bio of their own, or @bio itself if that is all and nothing was
 * split off before; NULL without memory. A bio with parts does no I/O of its own: its end would
 * wait for theirs, theirs may wait for a commit, and a commit may wait for I/O in flight. If the
 * last part is taken, @bio ends with its parts.
 */
struct chain_io *chain_write_part(struct chain_writer *w, struct bio *bio, u32 sectors);

/*
 * Writes @sectors of @io->bio, from sector @within of the unit at byte @pos of the layer on, by way
 * of a bounce. @merge: the whole unit is written, the rest of it from what it was before; @unit:
 * its first sector of the disk.
 */
int chain_bounce_write(struct chain_writer *w, struct chain_io *io, struct bounce *b, u64 unit,
		       u32 within, u64 pos, bool merge);

/* Starts the write of the first piece of @bio that is alike; *@all: that was all of it. */
enum started chain_write_piece(struct chain_writer *w, struct bio *bio, bool *all);

/* Starts the write @bio. */
void chain_write_bio(struct chain_writer *w, struct bio *bio);

/* The I/O of @io is over. The transaction is not full. */
void chain_write_finish(struct chain_writer *w, struct chain_io *io);

/* ---- Discard and write-zeroes ---- */

void chain_zero_bio(struct chain_writer *w, struct bio *bio);

/* ---- The thread ---- */

void chain_thread_init(struct chain_writer *w);

/*
 * Nothing is under way when this returns, and nothing starts before chain_writer_release(). Waits
 * for I/O in flight. Context: process; messages and suspend, one at a time.
 */
void chain_writer_hold(struct chain_writer *w);
void chain_writer_release(struct chain_writer *w);

/* ---- Layers come and go. Context: process, may sleep. ---- */

/* A layer that is opened, but not part of the chain yet. */
struct chain_new_layer {
	struct chain_layer_open *open;
	struct chain_active *active;
	struct chain_layer rec;
};

/* Whether the units of @a fit the chain; if not, that is logged. */
bool chain_unit_fits(const struct chain *c, const struct chain_active *a, const char *path);

/*
 * Opens the layer at @path, which must be an active one that fits this chain. Changes nothing.
 */
int chain_new_layer_open(struct chain *c, const char *path, struct chain_new_layer *n,
			 char **error);

/* Drops what is left of it; may be called again. */
void chain_new_layer_drop(struct chain *c, struct chain_new_layer *n);

/*
 * Puts @n on top of the layers. Nothing may be under way that looks at the layer table: the writer
 * is held, or has not begun. Returns 0 or -ENOMEM.
 */
int chain_new_layer_install(struct chain *c, struct chain_new_layer *n, const char *path);

/* Frees what a change of the layer table replaced, when no reader has it any more. */
void chain_layers_free_old(struct chain *c, struct chain_layers_old *old, u64 *bytes);

/* From now on the writer writes to the active layer of @n, which was installed. */
void chain_new_layer_switch(struct chain_writer *w, struct chain_new_layer *n);

/*
 * The disk has @sectors now, more than before: in memory. What the log needs to say of its old end
 * is noted.
 */
int chain_writer_extend(struct chain *c, u64 sectors);

/* ---- Exchange ---- */

/*
 * Ends it where it is, if one is running. Context: process, c->control is taken, or no bio is left.
 */
void chain_exchange_close(struct chain_writer *w);
void chain_exchange_stats(const struct chain_writer *w, struct chain_writer_stats *s);

/* ---- Replay ---- */

/*
 * Brings the index up to the end of the log, and of the logs of layers that followed. Returns 0, or
 * an error, with *@error set and logged.
 */
int chain_writer_replay(struct chain_writer *w, char **error);

#endif /* DM_CHAIN_WRITER_H */
