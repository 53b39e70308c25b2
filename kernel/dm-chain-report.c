// SPDX-License-Identifier: GPL-2.0
/*
 * See the header. docs/target.md documents what is printed here.
 */

#include "dm-chain-report.h"

#include <linux/fs.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/string_helpers.h>

#include "dm-chain-extent.h"
#include "dm-chain-index.h"
#include "dm-chain-inflate.h"
#include "dm-chain-write.h"

#define DM_MSG_PREFIX "chain"

/* ---- Paths ---- */

#define NO_WORD " \t\n\v\f\r\\" /* what dm core splits at, and the mark itself */

void chain_decode_path(char *path)
{
	string_unescape(path, path, 0, UNESCAPE_OCTAL);
}

static void emit_path(const char *path, char *result, unsigned int maxlen, unsigned int *size)
{
	unsigned int room = maxlen - *size;
	int n = string_escape_mem(path, strlen(path), result + *size, room, ESCAPE_OCTAL, NO_WORD);

	/* Cut off, as by scnprintf(). */
	*size += min_t(unsigned int, n, room ? room - 1 : 0);
	if (room)
		result[*size] = '\0';
}

/* ---- Table and status ---- */

static unsigned int depth_of(const struct chain *c)
{
	u32 count = le32_to_cpu(c->file.super->layer_count), i, depth = 0;

	for (i = 0; i < count; i++)
		if (le16_to_cpu(c->file.layers[i].owner) == CHAIN_NO_LAYER)
			depth++;
	return depth;
}

static void emit_options(const struct chain_options *o, char *result, unsigned int maxlen,
			 unsigned int *size)
{
	unsigned int sz = *size;
	unsigned int n = 2 * (o->index_cache_given + o->replay_given + o->low_water_given) +
			 o->write.error_if_no_space + o->file_io;

	if (n)
		DMEMIT(" %u", n);
	if (o->index_cache_given)
		DMEMIT(" index_cache %llu", o->index_cache);
	if (o->replay_given)
		DMEMIT(" replay %llu", o->write.replay);
	if (o->low_water_given)
		DMEMIT(" low_water %llu", o->write.low_water);
	if (o->write.error_if_no_space)
		DMEMIT(" error_if_no_space");
	if (o->file_io)
		DMEMIT(" file_io");
	*size = sz;
}

void chain_status(struct dm_target *ti, status_type_t type, unsigned int status_flags, char *result,
		  unsigned int maxlen)
{
	struct chain *c = ti->private;
	const struct chain_geometry *g = &c->file.geometry;
	struct chain_index_stats stats = {};
	struct chain_writer_stats w = {
		.mode = c->failed ? "fail" : "ro",
		.active_id = CHAIN_NO_LAYER,
	};
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		mutex_lock(&c->control);
		if (c->writer) {
			chain_writer_stats(c, &w);
		} else if (c->writable && !c->failed) {
			/* This table has just come, and has not taken the writer over yet. */
			w.mode = "rw";
			w.active_id = le16_to_cpu(c->file.super->active);
		}
		if (c->index)
			chain_index_stats(c->index, &stats);
		DMEMIT("%u %u %u ", (1u << g->cluster_shift) >> SECTOR_SHIFT,
		       (1u << g->subblock_shift) >> SECTOR_SHIFT, c->index ? depth_of(c) : 0);
		if (w.active_id != CHAIN_NO_LAYER)
			DMEMIT("%u", w.active_id);
		else
			DMEMIT("-");
		DMEMIT(" %s %s %llu/%llu %llu %llu %llu/%llu %llu %llu %llu %llu %llu %s", w.mode,
		       w.needs_check ? "needs_check" : "-", stats.resident, stats.nodes,
		       stats.bytes, stats.limit, stats.clusters, g->clusters, w.commits,
		       w.log_bytes, stats.hits, stats.misses, chain_inflate_reads(c->inflate),
		       c->writer ? w.exchange : "-");
		if (c->writer && *w.exchange != '-')
			DMEMIT(":%llu/%llu", w.exchanged, g->sectors);
		mutex_unlock(&c->control);
		break;
	case STATUSTYPE_TABLE:
		emit_path(c->path, result, maxlen, &sz);
		emit_options(&c->options, result, maxlen, &sz);
		break;
	case STATUSTYPE_IMA:
		DMEMIT_TARGET_NAME_VERSION(ti->type);
		DMEMIT(",chain_file=%s;", c->path);
		break;
	}
}

/* ---- Layers ---- */

static const char *state_of(const struct chain *c, const struct chain_layer *rec,
			    const struct chain_layer_open *l, unsigned int active)
{
	if (l->id == active)
		return "active";
	if (l->unsealed)
		return "frozen";
	if (l->growing)
		return "growing";
	return le16_to_cpu(rec->owner) == CHAIN_NO_LAYER ? "sealed" : "data";
}

/*
 * Identity as stat(2) tells it, the name by which it was opened, and the name that it has now:
 * somebody may have renamed or removed it.
 */
static int emit_opened(const struct chain_opened *o, const char *path, char *buf, char *result,
		       unsigned int maxlen, unsigned int *size)
{
	unsigned int sz = *size;
	struct kstat stat;
	const char *now;
	int r;

	if (!o->inode) {
		DMEMIT(" device %u:%u 0 ", MAJOR(o->dev), MINOR(o->dev));
		now = "-";
	} else {
		r = vfs_getattr(&o->file->f_path, &stat, STATX_BASIC_STATS, AT_STATX_DONT_SYNC);
		if (r)
			return r;
		DMEMIT(" file %u:%u %llu ", MAJOR(stat.dev), MINOR(stat.dev), stat.ino);
		now = d_unlinked(o->file->f_path.dentry) ? "-" : file_path(o->file, buf, PATH_MAX);
		if (IS_ERR(now))
			now = "-";
	}
	emit_path(path, result, maxlen, &sz);
	DMEMIT(" ");
	emit_path(now, result, maxlen, &sz);
	*size = sz;
	return 0;
}

/* How a layer is read. */
static void emit_way(const struct chain *c, const struct chain_layer_open *l, const char *state,
		     char *result, unsigned int maxlen, unsigned int *size)
{
	unsigned int sz = *size;
	const char *why;

	if (l->dev) {
		DMEMIT(" device\n");
	} else {
		if (l->unsealed)
			why = state; /* it may be written */
		else if (c->options.file_io)
			why = "file_io";
		else
			why = chain_extents_way(c->extents, l);
		if (why)
			DMEMIT(" file:%s\n", why);
		else
			DMEMIT(" extent\n");
	}
	*size = sz;
}

int chain_report_layers(const struct chain *c, char *result, unsigned int maxlen)
{
	struct chain_writer_stats w;
	unsigned int sz = 0, i;
	char *buf;
	int r;

	if (c->failed)
		return -EIO;
	if (c->writable && !c->writer) {
		/* This table has just come: what it read when it was loaded may be old. */
		DMERR("%s: it is suspended: no such message", c->path);
		return -EBUSY;
	}
	w.active_id = le16_to_cpu(c->file.super->active);
	buf = kmalloc(PATH_MAX, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	if (c->writer)
		chain_writer_stats((struct chain *)c, &w);
	DMEMIT("0 chain");
	r = emit_opened(&c->file.opened, c->path, buf, result, maxlen, &sz);
	DMEMIT(" -\n");
	for (i = 0; i < c->layers.count && !r; i++) {
		const struct chain_layer *rec = &c->file.layers[i];
		const struct chain_layer_open *l = c->layers.layer[i];
		const char *state = state_of(c, rec, l, w.active_id);

		DMEMIT("%u %s", l->id, state);
		r = emit_opened(&l->opened, c->file.strings + le32_to_cpu(rec->path_offset), buf,
				result, maxlen, &sz);
		if (!r)
			emit_way(c, l, state, result, maxlen, &sz);
	}
	kfree(buf);
	return r ? r : 1;
}
