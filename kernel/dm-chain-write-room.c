// SPDX-License-Identifier: GPL-2.0
/*
 * Room for the writer: free clusters of the active layer, its log's next segment, and growing,
 * which the commits' thread does.
 */

#include "dm-chain-writer.h"

#include <linux/sched/mm.h>
#include <linux/statfs.h>

#define RETRY_SECONDS 1 /* between attempts to get more room */

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
	    !vfs_statfs(&w->active->layer->opened.file->f_path, &st))
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

bool chain_room_log_is_short(struct chain_writer *w)
{
	if (chain_log_has_room(w->active))
		return false;
	if (!w->growing && !w->grow_failed)
		grow(w);
	note_no_space(w);
	return true;
}

u64 chain_room_get(struct chain_writer *w)
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

void chain_room_look(struct chain_writer *w)
{
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
	/* Not while it is held: it may be closed then. */
	if ((w->grow_failed || w->no_space) && !w->held)
		queue_delayed_work(w->commit_wq, &w->retry_timer, RETRY_SECONDS * HZ);
}

void chain_room_init(struct chain_writer *w)
{
	INIT_WORK(&w->grow_work, grow_worker);
	INIT_DELAYED_WORK(&w->retry_timer, retry_worker);
}
