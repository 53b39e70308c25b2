// SPDX-License-Identifier: GPL-2.0
/*
 * Replay: what the log says since the index was last written back.
 */

#include "dm-chain-writer.h"

#include <linux/slab.h>

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
		return chain_writer_extend(rp->chain, le64_to_cpup((const __le64 *)b->body));
	case CHAIN_LOG_CLOSE:
		memcpy(&rp->close, b->body, sizeof(rp->close));
		rp->closed = true;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

int chain_writer_replay(struct chain_writer *w, char **error)
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
		struct chain_new_layer n;
		char *path;

		rp->active = w->active;
		r = chain_log_replay(w->active, c->file.path, replay_block, rp);
		blocks += w->active->log.sequence - sequence;
		if (r || !rp->closed)
			break;
		path = kstrndup(rp->close.path, le16_to_cpu(rp->close.path_bytes), GFP_KERNEL);
		r = path ? chain_new_layer_open(c, path, &n, error) : -ENOMEM;
		if (!r && memcmp(n.active->uuid, rp->close.uuid, sizeof(rp->close.uuid))) {
			DMERR("%s: another layer than the one that the log names", path);
			*error = "The layer that follows is another one";
			r = -ESTALE;
		}
		if (!r)
			r = chain_new_layer_install(c, &n, path);
		kfree(path);
		if (r) {
			chain_new_layer_drop(c, &n);
			break;
		}
		chain_new_layer_switch(w, &n);
		rp->closed = false;
	}
	if (!r && blocks)
		DMINFO("%s: read %llu blocks of the log", c->file.path, blocks);
	kfree(rp);
	return r;
}
