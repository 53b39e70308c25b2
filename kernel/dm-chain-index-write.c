// SPDX-License-Identifier: GPL-2.0
/*
 * Changing the index in memory, and packing what was changed for the chain file. Called by the
 * writer (dm-chain-write*.c) and by what stores the index (dm-chain-store.c); not on the hot path.
 */

#include <linux/bitmap.h>
#include <linux/device-mapper.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "dm-chain-index-priv.h"

#define DM_MSG_PREFIX "chain"

static u32 subblocks(const struct chain_index *ix)
{
	return 1u << (ix->cluster_sector_shift - ix->subblock_sector_shift);
}

static u64 cluster_count(const struct chain_index *ix)
{
	return ix->cf->geometry.clusters;
}

int chain_index_make_writable(struct chain_index *ix)
{
	u64 leaves = (u64)ix->root_count << CHAIN_FANOUT_SHIFT;

	if (ix->dirty)
		return 0;
	ix->storing = kvcalloc(BITS_TO_LONGS(leaves), sizeof(long), GFP_KERNEL);
	ix->dirty_middle = kvcalloc(BITS_TO_LONGS(ix->root_count), sizeof(long), GFP_KERNEL);
	ix->dirty = kvcalloc(BITS_TO_LONGS(leaves), sizeof(long), GFP_KERNEL);
	if (!ix->storing || !ix->dirty_middle || !ix->dirty)
		return -ENOMEM; /* chain_index_close() frees */
	return 0;
}

u64 chain_index_dirty(const struct chain_index *ix)
{
	return READ_ONCE(ix->dirty_leaves);
}

/* Readers find in *@at what @e points to, which was filled in before. */
static void publish(u64 *at, u64 e)
{
	/* They follow it by address dependency. */
	smp_store_release(at, e);
}

/* ---- Making a leaf an array in memory ---- */

/*
 * Gives the slot @at, whose entry stands for all of its range, a child of its own. @first: cluster;
 * @level: of the child. Children past the end of the disk are HOLE.
 */
static int split_slot(struct chain_index *ix, u64 *at, unsigned int level, u64 first)
{
	unsigned int shift = chain_level_shift(level);
	u64 whole = *at, *child;
	u32 i;

	chain_index_make_room(ix, level ? sizeof(struct middle) : CHAIN_FANOUT * sizeof(u64));
	child = kmalloc(level ? sizeof(struct middle) : CHAIN_FANOUT * sizeof(u64),
			GFP_NOIO | __GFP_ZERO);
	if (!child)
		return -ENOMEM;
	for (i = 0; i < CHAIN_FANOUT; i++) {
		u64 ahead = (u64)i << shift;

		child[i] = first + ahead < cluster_count(ix) ?
				   chain_entry_advance(whole, ahead << ix->cluster_sector_shift) :
				   CHAIN_HOLE;
	}
	atomic64_add(ksize(child), &ix->bytes);
	atomic64_inc(&ix->resident);
	publish(at, ptr_entry(child, CHAIN_RESIDENT) | SLOT_USED);
	return 0;
}

/* Makes the leaf of runs at @at an array. */
static int spread_runs(struct chain_index *ix, u64 *at)
{
	struct runs *r = slot_ptr(*at);
	u32 shift = ix->cluster_sector_shift, i, j;
	u64 *array;

	array = kmalloc_array(CHAIN_FANOUT, sizeof(u64), GFP_NOIO);
	if (!array)
		return -ENOMEM;
	for (i = j = 0; i < r->count; i++) {
		u32 end = i + 1 < r->count ? r->start[i + 1] : CHAIN_FANOUT;
		u32 start = j;

		for (; j < end; j++)
			array[j] = chain_entry_advance(r->entry[i], (u64)(j - start) << shift);
	}
	atomic64_add((s64)ksize(array) - (s64)ksize(r), &ix->bytes);
	publish(at, ptr_entry(array, CHAIN_RESIDENT) | SLOT_USED);
	/* What its entries point to is the array's now. */
	chain_kfree_rcu(r);
	return 0;
}

/* The array of @cluster's leaf: 1. 0: some node above is not in memory. Under index->lock. */
static int resident_leaf(struct chain_index *ix, u64 cluster, u64 **leaf)
{
	u32 top = cluster >> (2 * CHAIN_FANOUT_SHIFT);
	u64 *at = &ix->root[top];
	struct middle *m;
	int r;

	if (chain_entry_kind(*at) == CHAIN_NODE)
		return 0;
	if (chain_entry_kind(*at) != CHAIN_RESIDENT) {
		/* Held, so that making room for the leaf does not drop it again. */
		r = split_slot(ix, at, 1, (u64)top << (2 * CHAIN_FANOUT_SHIFT));
		if (r)
			return r;
		ix->side[top].place = 0;
		ix->side[top].children = 0;
		set_bit(top, ix->dirty_middle);
	}
	m = slot_ptr(*at);
	at = &m->slot[(cluster >> CHAIN_FANOUT_SHIFT) & (CHAIN_FANOUT - 1)];
	if (chain_entry_kind(*at) == CHAIN_NODE)
		return 0;
	if (chain_entry_kind(*at) != CHAIN_RESIDENT) {
		ix->side[top].children++;
		r = split_slot(ix, at, 0, cluster & ~(u64)(CHAIN_FANOUT - 1));
		if (r) {
			ix->side[top].children--;
			return r;
		}
		m->place[at - m->slot] = 0;
		/* It has no place in the chain file: not to be dropped before it has one. */
		if (!test_and_set_bit(cluster >> CHAIN_FANOUT_SHIFT, ix->dirty))
			ix->dirty_leaves++;
		set_bit(top, ix->dirty_middle);
	} else if (*at & SLOT_RUNS) {
		r = spread_runs(ix, at);
		if (r)
			return r;
	}
	*leaf = slot_ptr(*at);
	return 1;
}

/* The same, but reads what is missing. On success index->lock is held. */
static int lock_leaf(struct chain_index *ix, u64 cluster, u64 **leaf)
{
	struct chain_extent x;
	int r;

	for (;;) {
		mutex_lock(&ix->lock);
		r = resident_leaf(ix, cluster, leaf);
		if (r > 0)
			return 0;
		mutex_unlock(&ix->lock);
		if (!r)
			r = chain_index_find(ix, cluster << ix->cluster_sector_shift, 1, &x);
		if (r)
			return r;
		cond_resched();
	}
}

/* ---- Reading and changing one cluster ---- */

/* log2 of the subblocks in a unit of 2^@unit_shift bytes. */
static u32 unit_subblock_shift(const struct chain_index *ix, unsigned int unit_shift)
{
	return unit_shift - SECTOR_SHIFT - ix->subblock_sector_shift;
}

/* Notes what @e, @ahead sectors into the cluster, says of the units @bits. */
static void note_owned(struct chain_owned *out, u64 e, u64 bits, u64 ahead, unsigned int layer)
{
	if (chain_entry_kind(e) != CHAIN_HOLE)
		out->hole &= ~bits;
	if (chain_entry_kind(e) > CHAIN_DATA || chain_entry_layer(e) != layer)
		return;
	if (chain_entry_kind(e) == CHAIN_ZERO) {
		out->bitmap |= bits << 32;
	} else if (chain_entry_kind(e) == CHAIN_DATA) {
		out->bitmap |= bits;
		out->host = (chain_entry_pos(e) - ahead) << SECTOR_SHIFT;
	}
}

int chain_index_owned(struct chain_index *ix, u64 cluster, unsigned int layer,
		      unsigned int unit_shift, struct chain_owned *out)
{
	u32 shift = unit_subblock_shift(ix, unit_shift), i;
	u64 all = (1ull << (subblocks(ix) >> shift)) - 1, *leaf, e;
	int r;

	memset(out, 0, sizeof(*out));
	r = lock_leaf(ix, cluster, &leaf);
	if (r)
		return r;
	e = leaf[cluster & (CHAIN_FANOUT - 1)];
	out->hole = all;
	if (chain_entry_kind(e) == CHAIN_FINE) {
		const u64 *fine = entry_ptr(e);

		for (i = 0; i < subblocks(ix); i++)
			note_owned(out, fine[i], 1ull << (i >> shift),
				   (u64)i << ix->subblock_sector_shift, layer);
	} else {
		note_owned(out, e, all, 0, layer);
	}
	mutex_unlock(&ix->lock);
	return 0;
}

/* Frees what @e, no longer reachable, points to. */
static void retire(struct chain_index *ix, u64 e)
{
	u32 i;

	if (chain_entry_kind(e) == CHAIN_FINE) {
		for (i = 0; i < subblocks(ix); i++)
			retire(ix, ((u64 *)entry_ptr(e))[i]);
	} else if (chain_entry_kind(e) != CHAIN_COMPRESSED) {
		return;
	}
	atomic64_sub(ksize(entry_ptr(e)), &ix->bytes);
	chain_kfree_rcu(entry_ptr(e));
}

static u64 copy_packed(struct chain_index *ix, u64 e)
{
	struct packed *p = kmemdup(entry_ptr(e), sizeof(*p), GFP_NOIO);

	if (!p)
		return CHAIN_NONE;
	atomic64_add(ksize(p), &ix->bytes);
	return ptr_entry(p, CHAIN_COMPRESSED);
}

/* What @e says of the subblock that is @ahead sectors further. NONE without memory. */
static u64 copy_entry(struct chain_index *ix, u64 e, u64 ahead)
{
	if (chain_entry_kind(e) == CHAIN_COMPRESSED)
		return copy_packed(ix, e);
	return chain_entry_advance(e, ahead);
}

/*
 * An array of the subblocks of the plain or compressed entry @e, of @cluster. Those past the end of
 * the disk name nothing: the layer may end there, too. NULL without memory.
 */
static u64 *make_fine(struct chain_index *ix, u64 cluster, u64 e)
{
	u64 left = ix->cf->geometry.sectors - (cluster << ix->cluster_sector_shift);
	u32 subs = subblocks(ix), i;
	u64 *fine = kmalloc_array(subs, sizeof(*fine), GFP_NOIO);

	if (!fine)
		return NULL;
	for (i = 0; i < subs; i++) {
		if ((u64)i << ix->subblock_sector_shift >= left) {
			fine[i] = CHAIN_HOLE;
			continue;
		}
		fine[i] = copy_entry(ix, e, (u64)i << ix->subblock_sector_shift);
		if (!fine[i]) {
			atomic64_sub(chain_free_entries(ix, fine, i), &ix->bytes);
			kfree(fine);
			return NULL;
		}
	}
	atomic64_add(ksize(fine), &ix->bytes);
	return fine;
}

/* Whether @e, @ahead sectors behind @first in its cluster, goes on with what that says. */
static bool goes_on(u64 first, u64 e, u64 ahead)
{
	const struct packed *a, *b;

	if (chain_entry_kind(first) != CHAIN_COMPRESSED)
		return e == chain_entry_advance(first, ahead);
	if (chain_entry_kind(e) != CHAIN_COMPRESSED)
		return false;
	a = entry_ptr(first);
	b = entry_ptr(e);
	return a->layer == b->layer && a->offset == b->offset && a->bytes == b->bytes;
}

/*
 * The one entry that says the same as all of @fine, a copy of its own if it is compressed; NONE:
 * there is none, or no memory.
 */
static u64 joined(struct chain_index *ix, const u64 *fine)
{
	u32 subs = subblocks(ix), i;

	if (chain_entry_kind(fine[0]) > CHAIN_DATA && chain_entry_kind(fine[0]) != CHAIN_COMPRESSED)
		return CHAIN_NONE;
	for (i = 1; i < subs; i++)
		if (!goes_on(fine[0], fine[i], (u64)i << ix->subblock_sector_shift))
			return CHAIN_NONE;
	return copy_entry(ix, fine[0], 0);
}

/*
 * Of the @count subblocks of @cluster from @first on those whose unit, of 2^@shift subblocks, is in
 * @mask become @entry, which is that of subblock @first; if it is compressed, a copy of it.
 * Without memory for that some of them may be what they were.
 */
static int change(struct chain_index *ix, u64 cluster, u64 entry, u32 shift, u32 mask, u32 first,
		  u32 count, bool whole)
{
	u64 *leaf, *at, *fine, old, was, e;
	u32 i;
	int r;

	r = lock_leaf(ix, cluster, &leaf);
	if (r)
		return r;
	at = &leaf[cluster & (CHAIN_FANOUT - 1)];
	old = *at;
	if (whole) {
		e = copy_entry(ix, entry, 0);
		if (e == CHAIN_NONE) {
			mutex_unlock(&ix->lock);
			return -ENOMEM;
		}
		publish(at, e);
		retire(ix, old);
		goto changed;
	}
	fine = chain_entry_kind(old) == CHAIN_FINE ? entry_ptr(old) :
						    make_fine(ix, cluster, old);
	if (!fine) {
		mutex_unlock(&ix->lock);
		return -ENOMEM;
	}
	for (i = first; i < first + count; i++) {
		if (!(mask & 1u << (i >> shift)))
			continue;
		was = fine[i];
		e = copy_entry(ix, entry, (u64)(i - first) << ix->subblock_sector_shift);
		if (e == CHAIN_NONE) {
			r = -ENOMEM;
			break;
		}
		publish(&fine[i], e);
		retire(ix, was);
	}
	if (chain_entry_kind(old) != CHAIN_FINE) {
		publish(at, ptr_entry(fine, CHAIN_FINE));
		retire(ix, old);
	}
	e = joined(ix, fine);
	if (e != CHAIN_NONE) {
		publish(at, e);
		retire(ix, ptr_entry(fine, CHAIN_FINE));
	}
changed:
	if (chain_entry_kind(old) == CHAIN_HOLE && chain_entry_kind(entry) != CHAIN_HOLE)
		atomic64_inc(&ix->clusters);
	if (!test_and_set_bit(cluster >> CHAIN_FANOUT_SHIFT, ix->dirty))
		ix->dirty_leaves++;
	set_bit(cluster >> (2 * CHAIN_FANOUT_SHIFT), ix->dirty_middle);
	mutex_unlock(&ix->lock);
	return r;
}

int chain_index_set(struct chain_index *ix, u64 cluster, unsigned int layer,
		    unsigned int unit_shift, u64 host, u32 mask)
{
	u32 subs = subblocks(ix), shift = unit_subblock_shift(ix, unit_shift);
	u32 all = (1ull << (subs >> shift)) - 1;
	u64 entry = host ? chain_entry(CHAIN_DATA, layer, host >> SECTOR_SHIFT) :
			   chain_entry(CHAIN_ZERO, layer, 0);

	return change(ix, cluster, entry, shift, mask, 0, subs, mask == all);
}

int chain_index_put(struct chain_index *ix, u64 cluster, u32 first, u32 count, u64 entry)
{
	u32 shift = ix->cluster_sector_shift - ix->subblock_sector_shift;

	return change(ix, cluster, entry, shift, 1, first, count, count == subblocks(ix));
}

int chain_index_put_compressed(struct chain_index *ix, u64 cluster, u32 first, u32 count,
			       unsigned int layer, u64 offset, u32 bytes)
{
	struct packed p = { .offset = offset, .bytes = bytes, .layer = layer };

	return chain_index_put(ix, cluster, first, count, ptr_entry(&p, CHAIN_COMPRESSED));
}

/* ---- A longer disk ---- */

/* A longer copy of the bits at @*at. */
static unsigned long *longer(const unsigned long *bits, u64 now, u64 then)
{
	unsigned long *more = kvcalloc(BITS_TO_LONGS(then), sizeof(long), GFP_KERNEL);

	if (more)
		bitmap_copy(more, bits, now);
	return more;
}

static int extend_root(struct chain_index *ix, u32 count)
{
	u64 leaves = (u64)ix->root_count << CHAIN_FANOUT_SHIFT;
	u64 then = (u64)count << CHAIN_FANOUT_SHIFT;
	unsigned long *dirty = longer(ix->dirty, leaves, then);
	unsigned long *storing = longer(ix->storing, leaves, then);
	unsigned long *middle = longer(ix->dirty_middle, ix->root_count, count);
	struct root_side *side = kvcalloc(count, sizeof(*side), GFP_KERNEL);
	u64 *root = kvcalloc(count, sizeof(*root), GFP_KERNEL), *old = ix->root;
	u64 more = (u64)(count - ix->root_count) * (sizeof(*root) + sizeof(*side));
	u32 i;

	if (!dirty || !storing || !middle || !side || !root) {
		kvfree(dirty);
		kvfree(storing);
		kvfree(middle);
		kvfree(side);
		kvfree(root);
		return -ENOMEM;
	}
	swap(ix->dirty, dirty);
	swap(ix->storing, storing);
	swap(ix->dirty_middle, middle);
	memcpy(side, ix->side, ix->root_count * sizeof(*side));
	swap(ix->side, side);
	for (i = 0; i < count; i++)
		root[i] = i < ix->root_count ? READ_ONCE(old[i]) : CHAIN_HOLE;
	smp_store_release(&ix->root, root); /* readers follow it by address dependency */
	ix->root_count = count;
	ix->fixed += more;
	atomic64_add(more, &ix->bytes);
	/* Who found a slot of the old root marks it as used there: no loss. */
	synchronize_rcu_expedited();
	kvfree(old);
	kvfree(side);
	kvfree(dirty);
	kvfree(storing);
	kvfree(middle);
	return 0;
}

int chain_index_extend(struct chain_index *ix, u64 clusters)
{
	u32 count = chain_root_count(clusters);
	u64 *leaf;
	int r;

	if (cluster_count(ix)) {
		/*
		 * An entry that stands for all of a child stands for what is behind the end, too:
		 * split it.
		 */
		r = lock_leaf(ix, cluster_count(ix) - 1, &leaf);
		if (r)
			return r;
	} else {
		mutex_lock(&ix->lock);
	}
	r = count > ix->root_count ? extend_root(ix, count) : 0;
	mutex_unlock(&ix->lock);
	return r;
}

/* ---- Packing ---- */

/* Whether @next is what follows @e one child of @span sectors further. */
static bool follows(u64 e, u64 next, u64 span)
{
	return chain_entry_kind(e) <= CHAIN_DATA && next == chain_entry_advance(e, span);
}

/* Auxiliary words that entry @e needs. */
static u32 aux_words(const struct chain_index *ix, u64 e)
{
	u32 words = 0, i;

	if (chain_entry_kind(e) == CHAIN_COMPRESSED)
		return CHAIN_COMPRESSED_WORDS;
	if (chain_entry_kind(e) != CHAIN_FINE)
		return 0;
	for (i = 0; i < subblocks(ix); i++)
		words += 1 + aux_words(ix, ((u64 *)entry_ptr(e))[i]);
	return words;
}

/* The form of @e on disk; its words go to aux[*used..]. */
static u64 pack_entry(const struct chain_index *ix, u64 e, __le64 *aux, u32 *used)
{
	u32 subs = subblocks(ix), at = *used, i;

	if (chain_entry_kind(e) == CHAIN_COMPRESSED) {
		struct chain_compressed *c = (void *)(aux + at);
		const struct packed *p = entry_ptr(e);

		c->offset = cpu_to_le64(p->offset);
		c->bytes = cpu_to_le32(p->bytes);
		c->layer = cpu_to_le16(p->layer);
		c->reserved = 0;
		*used += CHAIN_COMPRESSED_WORDS;
		return chain_entry(CHAIN_COMPRESSED, 0, at);
	}
	if (chain_entry_kind(e) == CHAIN_FINE) {
		const u64 *fine = entry_ptr(e);

		*used += subs;
		for (i = 0; i < subs; i++)
			aux[at + i] = cpu_to_le64(pack_entry(ix, fine[i], aux, used));
		return chain_entry(CHAIN_FINE, 0, at);
	}
	return e;
}

/* Packs @count entries of a node and finds it a place: the NODE entry, or NONE without memory. */
static u64 pack_node(struct chain_index *ix, struct chain_packer *p, unsigned int level, u64 first,
		     const u64 *e, u32 count)
{
	u64 span = 1ull << (chain_level_shift(level) + ix->cluster_sector_shift);
	u32 words = 0, runs = 0, used = 0, n, i, j;
	struct chain_packed_node *out;
	struct chain_node *node;
	bool as_runs;
	__le64 *entry, *aux;
	__le16 *start;
	u32 bytes;

	for (i = 0; i < count; i++) {
		words += aux_words(ix, e[i]);
		runs += !i || !follows(e[i - 1], e[i], span);
	}
	as_runs = runs <= RUNS_MAX && runs < count;
	n = as_runs ? runs : count;
	bytes = chain_node_aux_at(as_runs ? CHAIN_FORM_RUNS : CHAIN_FORM_ARRAY, n) + words * 8;
	if (bytes > CHAIN_MAX_NODE_BYTES)
		return CHAIN_NONE;
	out = kmalloc(sizeof(*out), GFP_NOIO);
	/* A power of two, so that places of freed nodes fit new ones. */
	node = kvzalloc(max_t(u32, roundup_pow_of_two(bytes), SECTOR_SIZE), GFP_KERNEL);
	if (!out || !node) {
		kfree(out);
		kvfree(node);
		return CHAIN_NONE;
	}
	node->magic = cpu_to_le32(CHAIN_NODE_MAGIC);
	node->level = level;
	node->form = as_runs ? CHAIN_FORM_RUNS : CHAIN_FORM_ARRAY;
	node->count_minus_1 = cpu_to_le16(n - 1);
	node->aux_words = cpu_to_le32(words);
	node->first = cpu_to_le64(first);
	node->generation = cpu_to_le64(p->generation);
	entry = (__le64 *)(node + 1);
	start = (__le16 *)(entry + n);
	aux = (void *)node + chain_node_aux_at(node->form, n);
	for (i = j = 0; i < count; i++) {
		if (as_runs && i && follows(e[i - 1], e[i], span))
			continue;
		if (as_runs)
			start[j] = cpu_to_le16(i);
		entry[j++] = cpu_to_le64(pack_entry(ix, e[i], aux, &used));
	}
	node->crc = cpu_to_le32(chain_crc32c_more(0, (void *)node + 8, bytes - 8));

	out->node = node;
	out->bytes = max_t(u32, roundup_pow_of_two(bytes), SECTOR_SIZE);
	out->offset = p->place(p, out->bytes);
	list_add_tail(&out->list, &p->nodes);
	return chain_entry(CHAIN_NODE, out->bytes >> SECTOR_SHIFT, out->offset >> SECTOR_SHIFT);
}

static void unplace(struct chain_packer *p, u64 *place)
{
	if (*place)
		p->unplace(p, *place);
	*place = 0;
}

/* Packs the dirty leaves below slot @top of the root. */
static int pack_leaves(struct chain_index *ix, struct chain_packer *p, u32 top)
{
	u64 first = (u64)top << CHAIN_FANOUT_SHIFT, leaf = first;
	struct middle *m = slot_ptr(ix->root[top]);

	for (;; leaf++) {
		u32 i;
		u64 place;

		leaf = find_next_bit(ix->dirty, first + CHAIN_FANOUT, leaf);
		if (leaf == first + CHAIN_FANOUT)
			return 0;
		i = leaf - first;
		place = pack_node(ix, p, 0, leaf << CHAIN_FANOUT_SHIFT, slot_ptr(m->slot[i]),
				  CHAIN_FANOUT);
		if (!place)
			return -ENOMEM;
		if (!m->place[i])
			ix->nodes++;
		unplace(p, &m->place[i]);
		m->place[i] = place;
		clear_bit(leaf, ix->dirty);
		set_bit(leaf, ix->storing);
		ix->dirty_leaves--;
	}
}

static int pack_middle(struct chain_index *ix, struct chain_packer *p, u32 top, u64 *entries)
{
	struct middle *m = slot_ptr(ix->root[top]);
	u64 place;
	u32 i;

	for (i = 0; i < CHAIN_FANOUT; i++)
		entries[i] = chain_entry_kind(m->slot[i]) == CHAIN_RESIDENT ? m->place[i] :
									      m->slot[i];
	place = pack_node(ix, p, 1, (u64)top << (2 * CHAIN_FANOUT_SHIFT), entries, CHAIN_FANOUT);
	if (!place)
		return -ENOMEM;
	if (!ix->side[top].place)
		ix->nodes++;
	unplace(p, &ix->side[top].place);
	ix->side[top].place = place;
	return 0;
}

int chain_index_pack(struct chain_index *ix, struct chain_packer *p)
{
	u32 n = max_t(u32, ix->root_count, CHAIN_FANOUT), top;
	u64 *entries = kvmalloc_array(n, sizeof(u64), GFP_KERNEL);
	int r = 0;

	if (!entries)
		return -ENOMEM;
	mutex_lock(&ix->lock);
	for_each_set_bit(top, ix->dirty_middle, ix->root_count) {
		r = pack_leaves(ix, p, top);
		if (!r)
			r = pack_middle(ix, p, top, entries);
		if (r)
			goto out;
	}
	for (top = 0; top < ix->root_count; top++)
		entries[top] = chain_entry_kind(ix->root[top]) == CHAIN_RESIDENT ?
				       ix->side[top].place :
				       ix->root[top];
	p->root = pack_node(ix, p, CHAIN_LEVELS - 1, 0, entries, ix->root_count);
	if (!p->root)
		r = -ENOMEM;
out:
	mutex_unlock(&ix->lock);
	kvfree(entries);
	return r;
}

void chain_index_stored(struct chain_index *ix)
{
	u64 leaves = (u64)ix->root_count << CHAIN_FANOUT_SHIFT;
	u32 top;

	mutex_lock(&ix->lock);
	WRITE_ONCE(ix->stored, ix->stored + 1);
	bitmap_zero(ix->storing, leaves);
	for_each_set_bit(top, ix->dirty_middle, ix->root_count) {
		u64 first = (u64)top << CHAIN_FANOUT_SHIFT;

		if (find_next_bit(ix->dirty, first + CHAIN_FANOUT, first) == first + CHAIN_FANOUT)
			clear_bit(top, ix->dirty_middle);
	}
	mutex_unlock(&ix->lock);
}
