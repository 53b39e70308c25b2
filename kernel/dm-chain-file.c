// SPDX-License-Identifier: GPL-2.0
/*
 * Opens the chain file: superblock and layer table. Called by the constructor only.
 */

#include "dm-chain-file.h"

#include <linux/device-mapper.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define DM_MSG_PREFIX "chain"

/* A piece of a file to be read or written. */
struct file_piece {
	struct work_struct work;
	struct file *file;
	void *buf;
	size_t bytes;
	loff_t offset;
	bool write;
	int error;
};

/* Reads or writes what is left of the piece. Returns -EINTR only to a process that was killed. */
static int move_piece(struct file_piece *p)
{
	while (p->bytes) {
		ssize_t n = p->write ? kernel_write(p->file, p->buf, p->bytes, &p->offset) :
				       kernel_read(p->file, p->buf, p->bytes, &p->offset);

		if (n == -EINTR && !fatal_signal_pending(current))
			continue;
		if (n <= 0)
			return n ? n : -EIO;
		p->buf += n;
		p->bytes -= n;
	}
	return 0;
}

static void piece_worker(struct work_struct *work)
{
	struct file_piece *p = container_of(work, struct file_piece, work);
	unsigned int noio = memalloc_noio_save();

	p->error = move_piece(p);
	memalloc_noio_restore(noio);
}

/*
 * File systems read and write nothing for a process that was killed. It is in the midst of an
 * activation or of a message, which has to end in one way or the other: a worker, which nobody
 * kills, does it.
 */
static int move_exact(struct file_piece *p)
{
	int r = move_piece(p);

	if (r != -EINTR || !fatal_signal_pending(current))
		return r;
	INIT_WORK_ONSTACK(&p->work, piece_worker);
	queue_work(system_unbound_wq, &p->work);
	flush_work(&p->work);
	destroy_work_on_stack(&p->work);
	return p->error;
}

int chain_read_exact(struct file *file, void *buf, size_t bytes, loff_t offset)
{
	struct file_piece p = { .file = file, .buf = buf, .bytes = bytes, .offset = offset };

	return move_exact(&p);
}

int chain_write_exact(struct file *file, const void *buf, size_t bytes, loff_t offset)
{
	struct file_piece p = {
		.file = file, .buf = (void *)buf, .bytes = bytes, .offset = offset, .write = true,
	};

	return move_exact(&p);
}

void chain_log_fault(const struct chain_file *cf, u64 base, const struct chain_fault *f)
{
	DMERR_LIMIT("%s: at byte %llu: %s is %llu, expected %s%s%llu", cf->path, base + f->at,
		    f->what, f->found, f->bound, *f->bound ? " " : "", f->expected);
}

static int chain_file_read_layers(struct chain_file *cf, char **error)
{
	const struct chain_super *s = cf->super;
	u32 count = le32_to_cpu(s->layer_count), i, ids = 0;
	size_t bytes = count * sizeof(struct chain_layer) + le32_to_cpu(s->string_bytes);
	struct chain_fault fault;
	int r;

	cf->layers = kvmalloc(bytes, GFP_KERNEL);
	if (!cf->layers) {
		*error = "Cannot allocate the layer table";
		return -ENOMEM;
	}
	r = chain_read_exact(cf->opened.file, cf->layers, bytes, le64_to_cpu(s->layer_offset));
	if (r) {
		*error = "Cannot read the layer table";
		return r;
	}
	if (!chain_check_layers(s, cf->layers, &fault)) {
		chain_log_fault(cf, le64_to_cpu(s->layer_offset), &fault);
		*error = "Chain file has a damaged layer table";
		return -EINVAL;
	}
	cf->strings = (const char *)(cf->layers + count);

	for (i = 0; i < count; i++)
		ids = max_t(u32, ids, le16_to_cpu(cf->layers[i].id) + 1);
	cf->room = ids;
	cf->layer_bytes = kvcalloc(ids, sizeof(u64), GFP_KERNEL);
	if (!cf->layer_bytes) {
		*error = "Cannot allocate the layer table";
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		u32 id = le16_to_cpu(cf->layers[i].id);

		if (cf->layer_bytes[id]) {
			DMERR("%s: layer id %u is given twice", cf->path, id);
			*error = "Chain file gives a layer id twice";
			return -EINVAL;
		}
		cf->layer_bytes[id] = le64_to_cpu(cf->layers[i].bytes);
		/* It has grown since: what lies past its end is found out by reading it. */
		if (le32_to_cpu(cf->layers[i].flags) & CHAIN_LAYER_UNSEALED)
			cf->layer_bytes[id] = CHAIN_MAX_POS << SECTOR_SHIFT;
	}
	if (chain_file_active(cf) &&
	    (le16_to_cpu(s->active) >= ids || !cf->layer_bytes[le16_to_cpu(s->active)])) {
		DMERR("%s: the active layer's id is %u: there is no such layer", cf->path,
		      le16_to_cpu(s->active));
		*error = "Chain file names an active layer that it does not have";
		return -EINVAL;
	}
	cf->geometry.ids = ids;
	cf->geometry.layer_bytes = cf->layer_bytes;
	return 0;
}

/*
 * A chain file knows its layers by their absolute names. In a copy, or one that was restored from a
 * backup, these are the original's.
 */
static bool chain_file_is_copy(const struct chain_file *cf)
{
	u64 inode = le64_to_cpu(cf->super->self_inode);

	return inode && (!cf->opened.inode || file_inode(cf->opened.file)->i_ino != inode);
}

int chain_file_open(struct chain_file *cf, struct dm_target *ti, const char *path, bool write,
		    char **error)
{
	struct chain_geometry *g = &cf->geometry;
	struct chain_fault fault;
	struct inode *inode;
	loff_t size;
	int copy, r;

	memset(cf, 0, sizeof(*cf));
	cf->path = kstrdup(path, GFP_KERNEL);
	cf->super = kmalloc(CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES, GFP_KERNEL);
	if (!cf->path || !cf->super) {
		*error = "Cannot allocate the superblock";
		r = -ENOMEM;
		goto bad;
	}
	r = chain_open(&cf->opened, path);
	if (r) {
		DMERR("%s: cannot open the chain file: error %d", path, r);
		*error = "Cannot open the chain file";
		goto bad;
	}
	inode = file_inode(cf->opened.file);
	if (!S_ISREG(inode->i_mode) && !S_ISBLK(inode->i_mode)) {
		DMERR("%s: neither a regular file nor a block device", path);
		*error = "Chain file is neither a regular file nor a block device";
		r = -EINVAL;
		goto bad;
	}
	r = chain_claim(&cf->opened, ti, write ? CHAIN_USE_WRITE : CHAIN_USE_READ, "chain file",
			path, error);
	if (r)
		goto bad;
	size = i_size_read(cf->opened.file->f_mapping->host);
	if (size < CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES) {
		DMERR("%s: %lld bytes, a superblock needs %d", path, size,
		      CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES);
		*error = "Chain file is too short for a superblock";
		r = -EINVAL;
		goto bad;
	}
	r = chain_read_exact(cf->opened.file, cf->super, CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES, 0);
	if (r) {
		*error = "Cannot read the superblock";
		goto bad;
	}
	copy = chain_check_supers(cf->super, size, &fault);
	if (copy < 0) {
		chain_log_fault(cf, 0, &fault);
		*error = "Not a chain file, or its superblock is damaged";
		r = -EINVAL;
		goto bad;
	}
	cf->copy = copy;
	if (copy)
		memcpy(cf->super, cf->super + 1, sizeof(*cf->super));
	g->sectors = le64_to_cpu(cf->super->sectors);
	g->cluster_shift = cf->super->cluster_shift;
	g->subblock_shift = cf->super->subblock_shift;
	g->clusters = chain_clusters(g->sectors, g->cluster_shift);
	g->file_bytes = le64_to_cpu(cf->super->file_bytes);

	r = chain_file_read_layers(cf, error);
	if (r)
		goto bad;
	if (write && chain_file_is_copy(cf)) {
		DMERR("%s: is a copy of a chain file, or was restored: run dmchain activate", path);
		*error = "The chain file is a copy: let dmchain activate it";
		r = -ESTALE;
		goto bad;
	}
	return 0;

bad:
	chain_file_close(cf);
	return r;
}

int chain_file_changed(const struct chain_file *cf)
{
	struct chain_super *now = kmalloc(CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES, GFP_KERNEL);
	struct chain_fault fault;
	int r, copy;

	if (!now)
		return -ENOMEM;
	r = chain_read_exact(cf->opened.file, now, CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES, 0);
	if (!r) {
		copy = chain_check_supers(now, i_size_read(cf->opened.file->f_mapping->host),
					  &fault);
		r = copy < 0 || now[copy].generation != cf->super->generation;
	}
	kfree(now);
	return r;
}

/* A layer table in which record @at, which is @insert unless that is NULL, has the @path. */
static int copy_table(struct chain_file *cf, u32 at, const struct chain_layer *insert,
		      const char *path)
{
	u32 count = le32_to_cpu(cf->super->layer_count);
	u32 strings = le32_to_cpu(cf->super->string_bytes);
	u32 more = insert ? 1 : 0;
	size_t n = strlen(path);
	struct chain_layer *table;
	char *text;

	table = kvmalloc((count + more) * sizeof(*table) + strings + n + 1, GFP_KERNEL);
	if (!table)
		return -ENOMEM;
	memcpy(table, cf->layers, at * sizeof(*table));
	memcpy(table + at + more, cf->layers + at, (count - at) * sizeof(*table));
	if (insert)
		table[at] = *insert;
	table[at].path_offset = cpu_to_le32(strings);
	table[at].path_bytes = cpu_to_le16(n);
	text = (char *)(table + count + more);
	memcpy(text, cf->strings, strings);
	memcpy(text + strings, path, n + 1);
	kvfree(cf->layers);
	cf->layers = table;
	cf->strings = text;
	cf->super->layer_count = cpu_to_le32(count + more);
	cf->super->string_bytes = cpu_to_le32(strings + n + 1);
	return 0;
}

int chain_file_add_layer(struct chain_file *cf, const struct chain_layer *rec, u32 at,
			 const char *path, u64 **old)
{
	unsigned int id = le16_to_cpu(rec->id);
	int r;

	*old = NULL;
	if (id >= cf->room) {
		unsigned int room = id + 256;
		u64 *bytes = kvcalloc(room, sizeof(u64), GFP_KERNEL);

		if (!bytes)
			return -ENOMEM;
		memcpy(bytes, cf->layer_bytes, cf->geometry.ids * sizeof(u64));
		*old = cf->layer_bytes;
		cf->layer_bytes = bytes;
		cf->room = room;
		WRITE_ONCE(cf->geometry.layer_bytes, bytes);
	}
	r = copy_table(cf, at, rec, path);
	if (r)
		return r;
	cf->layer_bytes[id] = le64_to_cpu(rec->bytes);
	if (le32_to_cpu(rec->flags) & CHAIN_LAYER_UNSEALED)
		cf->layer_bytes[id] = CHAIN_MAX_POS << SECTOR_SHIFT;
	/*
	 * Only then may an entry name it: pairs with nothing, entries come later by way of the
	 * writer.
	 */
	smp_store_release(&cf->geometry.ids, max(cf->geometry.ids, id + 1));
	return 0;
}

int chain_file_name_layer(struct chain_file *cf, u32 at, const char *path)
{
	return copy_table(cf, at, NULL, path);
}

void chain_file_remove_layers(struct chain_file *cf, u32 first, u32 count)
{
	u32 all = le32_to_cpu(cf->super->layer_count),
	    strings = le32_to_cpu(cf->super->string_bytes);
	char *text = (char *)(cf->layers + all - count);

	memmove(cf->layers + first, cf->layers + first + count,
		(all - first - count) * sizeof(*cf->layers));
	/* The strings follow the records. Those of what went stay until the file is rebuilt. */
	memmove(text, cf->strings, strings);
	cf->strings = text;
	cf->super->layer_count = cpu_to_le32(all - count);
}

void chain_file_close(struct chain_file *cf)
{
	chain_close(&cf->opened);
	kvfree(cf->layer_bytes);
	kvfree(cf->layers);
	kfree(cf->super);
	kfree(cf->path);
	memset(cf, 0, sizeof(*cf));
}
