// SPDX-License-Identifier: GPL-2.0
/*
 * Replay: what the log says since the index was last written back.
 */

#include "dm-chain-writer.h"

#include <linux/namei.h>
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

/* The path of the layer, with the last part of it that of @name. Returns NULL without memory. */
static char *beside(const struct chain *c, const struct chain_layer_open *l, const char *name)
{
	const char *last = strrchr(name, '/') + 1, *path = "/";
	unsigned int i;

	for (i = 0; i < c->layers.count; i++)
		if (c->layers.layer[i] == l)
			path = c->file.strings + le32_to_cpu(c->file.layers[i].path_offset);
	return kasprintf(GFP_KERNEL, "%.*s/%s", (int)(strrchr(path, '/') - path), path, last);
}

/*
 * Opens the layer that took over from the one whose log was read. Beside that one first: in a
 * folder that was copied or moved the recorded name leads to somebody else's. Its path goes to
 * *@path, to be freed.
 */
static int open_successor(struct replay *rp, struct chain_new_layer *n, char **path, char **error)
{
	char *recorded = kstrndup(rp->close.path, le16_to_cpu(rp->close.path_bytes), GFP_KERNEL);
	struct chain *c = rp->chain;
	struct path exists;
	int r = -ENOMEM;

	memset(n, 0, sizeof(*n));
	*path = recorded ? beside(c, rp->active->layer, recorded) : NULL;
	if (!*path)
		goto out;
	if (strcmp(*path, recorded)) {
		r = kern_path(*path, LOOKUP_FOLLOW, &exists);
		if (!r) {
			path_put(&exists);
			r = chain_new_layer_open(c, *path, n, error);
		}
		if (!r && !memcmp(n->active->uuid, rp->close.uuid, sizeof(rp->close.uuid)))
			goto out;
		chain_new_layer_drop(c, n);
		swap(*path, recorded);
	}
	r = chain_new_layer_open(c, *path, n, error);
	if (!r && memcmp(n->active->uuid, rp->close.uuid, sizeof(rp->close.uuid))) {
		DMERR("%s: another layer than the one that the log names", *path);
		*error = "The layer that follows is another one";
		r = -ESTALE;
	}
out:
	kfree(recorded);
	return r;
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
		r = open_successor(rp, &n, &path, error);
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
