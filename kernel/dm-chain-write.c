// SPDX-License-Identifier: GPL-2.0
/*
 * The writer, opened and closed. See dm-chain-writer.h for its parts.
 */

#include "dm-chain-writer.h"

#include <linux/slab.h>

static int init_parts(struct chain_writer *w)
{
	int r;

	chain_thread_init(w);
	chain_room_init(w);
	r = chain_commit_init(w);
	return r ? r : chain_first_init(w);
}

int chain_writer_init(struct chain *c)
{
	c->write_wq = alloc_ordered_workqueue("dm-chain-write", WQ_MEM_RECLAIM);
	c->commit_wq = alloc_ordered_workqueue("dm-chain-commit", WQ_MEM_RECLAIM);
	return c->write_wq && c->commit_wq ? 0 : -ENOMEM;
}

void chain_writer_exit(struct chain *c)
{
	if (c->write_wq)
		destroy_workqueue(c->write_wq);
	if (c->commit_wq)
		destroy_workqueue(c->commit_wq);
}

/* Whether the active layer has the log that the layer table notes. */
static bool is_the_recorded(const struct chain *c, const struct chain_active *a)
{
	static const u8 not_noted[8];
	unsigned int i;

	for (i = 0; i < c->layers.count; i++) {
		const u8 *log = c->file.layers[i].log;

		if (c->layers.layer[i] != a->layer || !memcmp(log, not_noted, sizeof(not_noted)) ||
		    !memcmp(log, a->uuid, sizeof(not_noted)))
			continue;
		DMERR("%s: the log of its active layer is %*phN, expected %*phN: recover the chain",
		      c->file.path, 8, a->uuid, 8, log);
		return false;
	}
	return true;
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
	w->wq = c->write_wq;
	w->commit_wq = c->commit_wq;
	w->options = *o;
	r = init_parts(w);
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
	if (!chain_unit_fits(c, a, c->file.path)) {
		*error = "The active layer was made for another chain";
		r = -EINVAL;
		goto bad;
	}
	if (!is_the_recorded(c, a)) {
		*error = "The active layer is another one than when the index was built";
		r = -ESTALE;
		goto bad;
	}
	/* First who has it: whoever it is has written to its log. */
	r = chain_owner_allows(a, c->file.path, error);
	if (!r)
		r = chain_active_check(a, c->file.path, error);
	if (r)
		goto bad;
	w->unit_shift = a->geometry.unit_shift;
	w->store = chain_store_open(&c->file, a);
	if (!w->store) {
		r = -ENOMEM;
		goto bad;
	}
	r = chain_writer_replay(w, error);
	if (r)
		goto bad;
	*error = "Cannot write the owner of the active layer";
	r = chain_owner_take(w->active, super->uuid, c->ti);
	if (r)
		goto bad;
	return 0;

bad:
	chain_writer_close(c);
	return r;
}

int chain_writer_leave(struct chain *c)
{
	struct chain_active *a = c->writer->active;

	if (c->writer->read_only)
		return -EROFS;
	return chain_claimed_twice(&a->layer->opened) ? 0 : chain_owner_release(a);
}

void chain_writer_close(struct chain *c)
{
	struct chain_writer *w = c->writer;

	if (!w)
		return;
	chain_exchange_close(w);
	cancel_delayed_work_sync(&w->commit_timer);
	cancel_delayed_work_sync(&w->retry_timer);
	drain_workqueue(w->commit_wq);
	drain_workqueue(w->wq);
	drain_workqueue(w->commit_wq);
	if (w->store)
		chain_store_close(w->store);
	if (w->active)
		chain_active_close(w->active);
	chain_commit_exit(w);
	chain_first_exit(w);
	kfree(w);
	c->writer = NULL;
}

void chain_writer_stats(struct chain *c, struct chain_writer_stats *s)
{
	struct chain_writer *w = c->writer;

	s->mode = w->read_only ? "ro" : w->no_space ? "out_of_space" : "rw";
	if (c->released)
		s->mode = "released";
	s->needs_check = w->read_only;
	s->commits = w->commits;
	chain_exchange_stats(w, s);
	s->log_bytes = w->active->log_blocks * CHAIN_LOG_BLOCK;
	s->active_id = w->active->layer->id;
}
