// SPDX-License-Identifier: GPL-2.0
/*
 * Writing the index back. Nothing that the superblock in force names is ever written over: new
 * nodes go to places that are free under both copies, and what they replace becomes free when the
 * superblock is durable. Called by the writer (dm-chain-write.c), one call at a time.
 */

#include "dm-chain-store.h"

#include <linux/device-mapper.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/slab.h>

#define DM_MSG_PREFIX "chain"

/* Places are powers of two: sectors 1 to 8192, and larger ones for tables. */
#define CLASSES 40

struct places {
	u64 *offset; /* sectors */
	u32 count, room;
};

struct chain_store {
	struct chain_file *cf;
	u64 end; /* bytes: of the chain file as used */
	struct places free[CLASSES];
	struct places replaced; /* free once the superblock is durable: class in the low 8 bits */
	struct chain_packer packer;
	u64 table; /* bytes: where the layer table is, as the superblock has it ... */
	u32 table_bytes;
	u64 list; /* ... and the free list */
	u32 list_bytes;
	bool root_replaced; /* by what is packed; said once */
	struct chain_super disk; /* as last written: what cf->super has may run ahead of it */
};

static bool push(struct places *p, u64 value)
{
	if (p->count == p->room) {
		u32 room = max(64u, p->room * 2);
		u64 *more = kvmalloc_array(room, sizeof(u64), GFP_KERNEL);

		if (!more)
			return false; /* room that is not used again: no harm */
		if (p->count)
			memcpy(more, p->offset, p->count * sizeof(u64));
		kvfree(p->offset);
		p->offset = more;
		p->room = room;
	}
	p->offset[p->count++] = value;
	return true;
}

static unsigned int class_of(u64 bytes)
{
	return ilog2(max_t(u64, bytes, SECTOR_SIZE)) - SECTOR_SHIFT;
}

/* Room of @bytes, a power of two: its byte. */
static u64 get_place(struct chain_store *s, u64 bytes)
{
	struct places *p = &s->free[class_of(bytes)];
	u64 at;

	if (p->count)
		return p->offset[--p->count] << SECTOR_SHIFT;
	at = s->end;
	s->end += bytes;
	return at;
}

/* @bytes at @offset no longer count once the next superblock is durable. */
static void replaced(struct chain_store *s, u64 offset, u64 bytes)
{
	if (offset && bytes >= SECTOR_SIZE)
		push(&s->replaced, (offset >> SECTOR_SHIFT) << 8 | class_of(bytes));
}

static u64 packer_place(struct chain_packer *p, u32 bytes)
{
	return get_place(container_of(p, struct chain_store, packer), bytes);
}

static void packer_unplace(struct chain_packer *p, u64 entry)
{
	replaced(container_of(p, struct chain_store, packer),
		 chain_entry_pos(entry) << SECTOR_SHIFT,
		 (u64)chain_entry_layer(entry) << SECTOR_SHIFT);
}

static void drop_nodes(struct chain_store *s)
{
	struct chain_packed_node *n, *next;

	list_for_each_entry_safe(n, next, &s->packer.nodes, list) {
		list_del(&n->list);
		kvfree(n->node);
		kfree(n);
	}
}

int chain_store_pack(struct chain_store *s, struct chain_index *index)
{
	s->packer.generation = le64_to_cpu(s->cf->super->generation) + 1;
	return chain_index_pack(index, &s->packer);
}

/* ---- The free list ---- */

struct free_list {
	struct chain_free *entry;
	u32 count, room;
};

static void add_free(void *data, u64 offset, u64 bytes)
{
	struct free_list *l = data;

	if (l->count == l->room)
		return;
	l->entry[l->count].offset = cpu_to_le64(offset);
	l->entry[l->count++].bytes = cpu_to_le64(bytes);
}

/* What will be free when the superblock that is about to be written counts. */
static int write_free_list(struct chain_store *s, struct chain_active *a, struct chain_super *super)
{
	struct free_list l = {};
	u32 i, c, bytes, place;
	u64 total = s->replaced.count;
	int r = 0;

	for (c = 0; c < CLASSES; c++)
		total += s->free[c].count;
	/* Room for itself comes out of the same lists: take that first. */
	mutex_lock(&a->lock);
	total += min_t(u64, a->free_clusters, CHAIN_MAX_FREE);
	mutex_unlock(&a->lock);
	place = roundup_pow_of_two(min_t(u64, total + 2, CHAIN_MAX_FREE) * sizeof(*l.entry));
	place = max_t(u32, place, SECTOR_SIZE);
	l.room = place / sizeof(*l.entry);
	l.entry = kvmalloc_array(l.room, sizeof(*l.entry), GFP_KERNEL);
	if (!l.entry)
		return -ENOMEM;
	replaced(s, s->list, s->list_bytes);
	s->list = get_place(s, place);
	s->list_bytes = place;
	for (i = 0; i < s->replaced.count; i++)
		add_free(&l, (s->replaced.offset[i] >> 8 << SECTOR_SHIFT) | 1,
			 1ull << (SECTOR_SHIFT + (s->replaced.offset[i] & 255)));
	for (c = 0; c < CLASSES; c++)
		for (i = 0; i < s->free[c].count; i++)
			add_free(&l, (s->free[c].offset[i] << SECTOR_SHIFT) | 1,
				 1ull << (SECTOR_SHIFT + c));
	chain_active_each_free(a, add_free, &l);
	bytes = l.count * sizeof(*l.entry);
	super->free_offset = cpu_to_le64(s->list);
	super->free_count = cpu_to_le32(l.count);
	super->free_crc = cpu_to_le32(chain_crc32c_more(0, l.entry, bytes));
	if (bytes)
		r = chain_write_exact(s->cf->opened.file, l.entry, bytes, s->list);
	kvfree(l.entry);
	return r;
}

static void read_free_list(struct chain_store *s, struct chain_active *a)
{
	const struct chain_super *super = s->cf->super;
	u32 count = le32_to_cpu(super->free_count), i;
	u64 cluster = 1ull << a->geometry.cluster_shift;
	struct chain_free *entry;

	if (!count)
		return;
	s->list = le64_to_cpu(super->free_offset);
	s->list_bytes = max_t(u32, roundup_pow_of_two(count * sizeof(*entry)), SECTOR_SIZE);
	entry = kvmalloc_array(count, sizeof(*entry), GFP_KERNEL);
	if (!entry ||
	    chain_read_exact(s->cf->opened.file, entry, count * sizeof(*entry), s->list) ||
	    chain_crc32c_more(0, entry, count * sizeof(*entry)) != le32_to_cpu(super->free_crc)) {
		DMWARN("%s: cannot read its free list: that room is not used again", s->cf->path);
		goto out;
	}
	for (i = 0; i < count; i++) {
		u64 offset = le64_to_cpu(entry[i].offset), bytes = le64_to_cpu(entry[i].bytes), at;

		if (offset & 1) {
			offset &= ~1ull;
			if (offset + bytes <= s->end && bytes >= SECTOR_SIZE)
				push(&s->free[min_t(u32, class_of(bytes), CLASSES - 1)],
				     offset >> SECTOR_SHIFT);
			continue;
		}
		if (offset + bytes > a->next || (offset | bytes) & (cluster - 1))
			continue;
		for (at = offset; at < offset + bytes; at += cluster)
			chain_active_put(a, at);
	}
out:
	kvfree(entry);
}

/* ---- Writing ---- */

static int write_table(struct chain_store *s, struct chain_super *super)
{
	u32 bytes = le32_to_cpu(super->layer_count) * sizeof(struct chain_layer) +
		    le32_to_cpu(super->string_bytes);

	replaced(s, s->table, s->table_bytes);
	s->table_bytes = roundup_pow_of_two(bytes);
	s->table = get_place(s, max_t(u32, s->table_bytes, SECTOR_SIZE));
	super->layer_offset = cpu_to_le64(s->table);
	super->layer_crc = cpu_to_le32(chain_crc32c_more(0, s->cf->layers, bytes));
	return chain_write_exact(s->cf->opened.file, s->cf->layers, bytes, s->table);
}

static int write_super(struct chain_store *s, struct chain_super *super)
{
	unsigned int copy = !s->cf->copy;
	u64 at = copy * CHAIN_SUPER_BYTES;
	int r;

	super->crc = 0;
	super->crc = cpu_to_le32(chain_crc32c_more(0, super, sizeof(*super)));
	r = chain_write_exact(s->cf->opened.file, super, sizeof(*super), at);
	if (!r)
		r = vfs_fsync(s->cf->opened.file, 1);
	if (r)
		return r;
	s->cf->copy = copy;
	s->disk = *super;
	return 0;
}

int chain_store_write(struct chain_store *s, struct chain_index *index, struct chain_active *a,
		      const struct chain_log_position *log, bool layers)
{
	struct chain_super *super = s->cf->super;
	struct chain_index_stats stats;
	struct chain_packed_node *n;
	u32 i;
	int r = 0;

	if (!s->root_replaced && chain_entry_kind(le64_to_cpu(super->root)) == CHAIN_NODE)
		packer_unplace(&s->packer, le64_to_cpu(super->root));
	s->root_replaced = true;
	list_for_each_entry(n, &s->packer.nodes, list) {
		r = chain_write_exact(s->cf->opened.file, n->node, n->bytes, n->offset);
		if (r)
			goto bad;
	}
	if (layers)
		r = write_table(s, super);
	if (!r)
		r = write_free_list(s, a, super);
	if (r)
		goto bad;

	chain_index_stats(index, &stats);
	le64_add_cpu(&super->generation, 1);
	super->active = cpu_to_le16(a->layer->id);
	super->root = cpu_to_le64(s->packer.root);
	/* A node at the end may be padded beyond what was written. */
	super->file_bytes = cpu_to_le64(s->end);
	super->nodes = cpu_to_le64(stats.nodes);
	super->clusters = cpu_to_le64(stats.clusters);
	super->log_segment = cpu_to_le64(log->segment);
	super->log_segment_bytes = cpu_to_le64(log->segment_bytes);
	super->log_next = cpu_to_le64(log->next);
	super->log_sequence = cpu_to_le64(log->sequence);
	super->log_epoch = cpu_to_le32(log->epoch);
	mutex_lock(&a->lock);
	super->alloc_next = cpu_to_le64(a->next);
	mutex_unlock(&a->lock);
	if (i_size_read(s->cf->opened.file->f_mapping->host) < s->end) {
		/* One byte, behind all that was written: what ends in the last sector stays. */
		r = chain_write_exact(s->cf->opened.file, "", 1, s->end - 1);
		if (r)
			goto bad;
	}
	r = vfs_fsync(s->cf->opened.file, 1);
	if (!r)
		r = write_super(s, super);
	if (r)
		goto bad;

	for (i = 0; i < s->replaced.count; i++)
		push(&s->free[s->replaced.offset[i] & 255], s->replaced.offset[i] >> 8);
	s->replaced.count = 0;
	s->root_replaced = false;
	/* From here on nodes may be dropped, and read again from where they are now. */
	WRITE_ONCE(s->cf->geometry.file_bytes, s->end);
	drop_nodes(s);
	chain_index_stored(index);
	return 0;

bad:
	DMERR_LIMIT("%s: cannot write the index back: error %d", s->cf->path, r);
	return r;
}

void chain_store_needs_check(struct chain_store *s)
{
	struct chain_super *super = kmemdup(&s->disk, sizeof(*super), GFP_KERNEL);
	int r = -ENOMEM;

	s->cf->super->state |= cpu_to_le32(CHAIN_STATE_NEEDS_CHECK);
	if (super) {
		super->state |= cpu_to_le32(CHAIN_STATE_NEEDS_CHECK);
		le64_add_cpu(&super->generation, 1);
		r = write_super(s, super);
	}
	kfree(super);
	/* Nobody else has changed it: the device can be suspended and resumed, read-only. */
	s->cf->super->generation = s->disk.generation;
	if (r)
		DMERR("%s: cannot even say in it that it needs a check", s->cf->path);
}

/* ---- Opening and closing ---- */

struct chain_store *chain_store_open(struct chain_file *cf, struct chain_active *a)
{
	const struct chain_super *super = cf->super;
	struct chain_store *s = kvzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return NULL;
	s->cf = cf;
	s->disk = *super;
	s->end = round_up(le64_to_cpu(super->file_bytes), SECTOR_SIZE);
	INIT_LIST_HEAD(&s->packer.nodes);
	s->packer.place = packer_place;
	s->packer.unplace = packer_unplace;
	s->table = le64_to_cpu(super->layer_offset);
	/* As the tool wrote it: what is left of it beyond a power of two is not used again. */
	s->table_bytes =
		rounddown_pow_of_two(le32_to_cpu(super->layer_count) * sizeof(struct chain_layer) +
				     le32_to_cpu(super->string_bytes));
	read_free_list(s, a);
	return s;
}

void chain_store_close(struct chain_store *s)
{
	unsigned int c;

	drop_nodes(s);
	for (c = 0; c < CLASSES; c++)
		kvfree(s->free[c].offset);
	kvfree(s->replaced.offset);
	kvfree(s);
}
