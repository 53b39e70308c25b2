// SPDX-License-Identifier: GPL-2.0
/*
 * The writer's thread, the work of an ordered queue: it takes what came and what is over, starts
 * what can be started, and sees to commits. And holding it.
 */

#include "dm-chain-writer.h"

#include <linux/blkdev.h>
#include <linux/sched/mm.h>

static void start_bio(struct chain_writer *w, struct bio *bio)
{
	if (READ_ONCE(w->read_only)) {
		chain_end_bio(bio, -EIO);
		return;
	}
	switch (bio_op(bio)) {
	case REQ_OP_WRITE:
		if (!bio_sectors(bio))
			chain_txn_wait(w, bio);
		else
			chain_write_bio(w, bio);
		return;
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		chain_zero_bio(w, bio);
		return;
	default:
		chain_end_bio(bio, -EOPNOTSUPP);
	}
}

/*
 * Whether what waits for room is not to wait any longer. What was discarded is room after the next
 * commit, which chain_commit_maybe() does not put off then.
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
	while (!list_empty(&w->finished) && !chain_txn_full(w)) {
		io = list_first_entry(&w->finished, struct chain_io, list);
		list_del(&io->list);
		chain_write_finish(w, io);
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
		chain_commit_look(w);
		chain_room_look(w);
		retry_stalled(w);
		spin_lock_irq(&w->lock);
		if (!w->held) {
			bio_list_merge(&w->todo, &w->incoming);
			bio_list_init(&w->incoming);
		}
		some |= !w->held && !bio_list_empty(&w->todo);
		spin_unlock_irq(&w->lock);
		/* A running commit looks by itself. */
		if (some && !w->committing)
			chain_commit_ours(w);
		while (some && !w->held && !chain_txn_full(w) && (bio = bio_list_pop(&w->todo)))
			start_bio(w, bio);
		chain_commit_maybe(w);
	} while (some && !chain_txn_full(w));
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);

	spin_lock_irq(&w->lock);
	w->quiet = w->held && !w->under_way && !w->committing && !w->growing;
	spin_unlock_irq(&w->lock);
	if (w->quiet)
		wake_up(&w->wait);
	else if (w->background && !w->committing)
		queue_work(w->wq, w->background);
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

void chain_thread_init(struct chain_writer *w)
{
	w->held = true;
	spin_lock_init(&w->lock);
	init_waitqueue_head(&w->wait);
	init_llist_head(&w->done);
	INIT_LIST_HEAD(&w->finished);
	INIT_WORK(&w->work, writer_worker);
}

/* ---- Holding it: messages and suspend; one at a time ---- */

void chain_writer_hold(struct chain_writer *w)
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

void chain_writer_release(struct chain_writer *w)
{
	struct chain *c = w->chain;

	if (!w->read_only)
		WRITE_ONCE(c->active_id, w->active->layer->id);
	spin_lock_irq(&w->lock);
	w->held = false;
	w->quiet = false;
	spin_unlock_irq(&w->lock);
	atomic_set(&w->retry, 1);
	chain_writer_kick(w);
}

int chain_writer_commit(struct chain *c, bool store)
{
	struct chain_writer *w = c->writer;
	int r;

	chain_writer_hold(w);
	if (w->packed_waits) /* first what is old, then what is new */
		chain_commit_held(w, false, 0, NULL, 0);
	r = chain_commit_held(w, store, 0, NULL, 0);
	if (!r && store)
		r = w->store_error;
	chain_writer_release(w);
	return r;
}

void chain_writer_presuspend(struct chain *c, bool requeue)
{
	struct chain_writer *w = c->writer;

	WRITE_ONCE(w->requeue, requeue);
	WRITE_ONCE(w->draining, true);
	chain_writer_kick(w);
}

void chain_writer_presuspend_undo(struct chain *c)
{
	struct chain_writer *w = c->writer;

	/* A message may hold it just now, and releases it when it is done. */
	WRITE_ONCE(w->requeue, false);
	WRITE_ONCE(w->draining, false);
	atomic_set(&w->retry, 1);
	chain_writer_kick(w);
}

int chain_writer_stop(struct chain *c)
{
	struct chain_writer *w = c->writer;

	chain_writer_hold(w);
	cancel_delayed_work_sync(&w->commit_timer);
	cancel_delayed_work_sync(&w->retry_timer);
	return chain_commit_held(w, !w->read_only, 0, NULL, 0);
}

void chain_writer_resume(struct chain *c)
{
	struct chain_writer *w = c->writer;

	WRITE_ONCE(w->requeue, false);
	WRITE_ONCE(w->draining, false);
	if (w->held)
		chain_writer_release(w);
}
