// SPDX-License-Identifier: GPL-2.0
/*
 * The index in memory. See the header for the shape of the tree and the rules.
 */

#include "dm-chain-index.h"

#include <linux/device-mapper.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "dm-chain-index-priv.h"

#define DM_MSG_PREFIX "chain"

/* ---- Lookup ---- */

static inline void mark_used(u64 *slot, u64 seen)
{
	/* The one write of a reader, once in a round of the clock; a lost race is no loss. */
	if (unlikely(!(seen & SLOT_USED)))
		cmpxchg_relaxed(slot, seen, seen | SLOT_USED);
}

/* The run that @child lies in: its entry for @child and how many children remain in it. */
static u64 runs_entry(const struct chain_index *ix, const struct runs *r, u32 child, u64 *rest)
{
	u32 lo = 0, hi = r->count;

	while (hi - lo > 1) {
		u32 mid = (lo + hi) / 2;

		if (r->start[mid] <= child)
			lo = mid;
		else
			hi = mid;
	}
	*rest = (hi < r->count ? r->start[hi] : CHAIN_FANOUT) - child;
	return chain_entry_advance(READ_ONCE(r->entry[lo]), (u64)(child - r->start[lo])
								    << ix->cluster_sector_shift);
}

/*
 * The entry of @cluster as of its first sector; *@rest: clusters, from this one on, that the entry
 * is known to go on for. NODE: the child that is missing. Under rcu_read_lock().
 */
static __always_inline u64 walk(struct chain_index *ix, u64 cluster, u64 *rest)
{
	u64 *at = &READ_ONCE(ix->root)[cluster >> (2 * CHAIN_FANOUT_SHIFT)];
	u64 slot = READ_ONCE(*at);
	u64 mask = (1ull << (2 * CHAIN_FANOUT_SHIFT)) - 1;
	struct middle *m;

	if (unlikely(chain_entry_kind(slot) != CHAIN_RESIDENT))
		goto whole;
	mark_used(at, slot);
	m = slot_ptr(slot);
	at = &m->slot[(cluster >> CHAIN_FANOUT_SHIFT) & (CHAIN_FANOUT - 1)];
	slot = READ_ONCE(*at);
	mask = CHAIN_FANOUT - 1;
	if (unlikely(chain_entry_kind(slot) != CHAIN_RESIDENT))
		goto whole;
	mark_used(at, slot);
	if (unlikely(slot & SLOT_RUNS))
		return runs_entry(ix, slot_ptr(slot), cluster & mask, rest);
	*rest = 1;
	return READ_ONCE(((u64 *)slot_ptr(slot))[cluster & mask]);

whole:
	*rest = mask + 1 - (cluster & mask);
	return chain_entry_advance(slot, (cluster & mask) << ix->cluster_sector_shift);
}

static inline bool reads_zero(u64 e)
{
	return chain_entry_kind(e) == CHAIN_HOLE || chain_entry_kind(e) == CHAIN_ZERO;
}

/* Whether @next, @sectors after @e, goes on where @e was: for a reader, all zeroes are alike. */
static inline bool goes_on(u64 e, u64 sectors, u64 next)
{
	if (chain_entry_kind(e) == CHAIN_DATA)
		return next == chain_entry_advance(e, sectors);
	return reads_zero(e) && reads_zero(next);
}

static void extent_packed(struct chain_extent *out, const struct packed *p)
{
	out->entry = chain_entry(CHAIN_COMPRESSED, p->layer, 0);
	out->offset = p->offset;
	out->bytes = p->bytes;
}

/* Sector @within of the fine cluster @e; extents end with the cluster. */
static void lookup_fine(const struct chain_index *ix, u64 e, u32 within, u32 max,
			struct chain_extent *out)
{
	const u64 *sub = entry_ptr(e);
	u32 shift = ix->subblock_sector_shift;
	u32 count = 1u << (ix->cluster_sector_shift - shift);
	u32 i = within >> shift;
	u32 sectors = (1u << shift) - (within & ((1u << shift) - 1));
	u64 first = READ_ONCE(sub[i]);

	if (chain_entry_kind(first) == CHAIN_COMPRESSED) {
		extent_packed(out, entry_ptr(first));
		out->sectors = min(sectors, max);
		return;
	}
	out->entry = chain_entry_advance(first, within & ((1u << shift) - 1));
	while (sectors < max && ++i < count && goes_on(out->entry, sectors, READ_ONCE(sub[i])))
		sectors += 1u << shift;
	out->sectors = min(sectors, max);
}

bool chain_index_lookup(struct chain_index *ix, sector_t sector, unsigned int max,
			struct chain_extent *out)
{
	u32 shift = ix->cluster_sector_shift;
	u64 cluster = sector >> shift;
	u32 within = sector & ((1u << shift) - 1);
	u64 rest, sectors, e;
	bool found = true;

	rcu_read_lock();
	e = walk(ix, cluster, &rest);
	sectors = (rest << shift) - within;
	if (likely(chain_entry_kind(e) <= CHAIN_DATA)) {
		e = chain_entry_advance(e, within);
		out->entry = e;
		while (unlikely(sectors < max)) {
			cluster += rest;
			if (!goes_on(e, sectors, walk(ix, cluster, &rest)))
				break;
			sectors += rest << shift;
		}
		out->sectors = min_t(u64, sectors, max);
	} else if (chain_entry_kind(e) == CHAIN_FINE) {
		lookup_fine(ix, e, within, max, out);
	} else if (chain_entry_kind(e) == CHAIN_COMPRESSED) {
		extent_packed(out, entry_ptr(e));
		out->sectors = min_t(u64, sectors, max);
	} else {
		out->entry = CHAIN_NONE;
		found = false;
	}
	rcu_read_unlock();
	if (likely(found))
		this_cpu_inc(ix->cpu->hits);
	return found;
}

bool chain_index_lookup_one(struct chain_index *ix, sector_t sector, unsigned int max,
			    struct chain_extent *out)
{
	u32 within = sector & ((1u << ix->cluster_sector_shift) - 1);
	u32 sub = 1u << ix->subblock_sector_shift;
	bool found, fine;
	u64 rest;

	rcu_read_lock();
	fine = chain_entry_kind(walk(ix, sector >> ix->cluster_sector_shift, &rest)) == CHAIN_FINE;
	rest = fine ? sub - (within & (sub - 1)) : (rest << ix->cluster_sector_shift) - within;
	found = chain_index_lookup(ix, sector, min_t(u64, rest, max), out);
	rcu_read_unlock();
	return found;
}

/* ---- Nodes in memory ---- */

static size_t runs_bytes(u32 count)
{
	return sizeof(struct runs) + count * (sizeof(u64) + sizeof(u16));
}

/* Frees what the entries of a leaf point to; returns how many bytes that was. */
size_t chain_free_entries(const struct chain_index *ix, const u64 *e, u32 count)
{
	u32 sub = 1u << (ix->cluster_sector_shift - ix->subblock_sector_shift);
	size_t bytes = 0;
	u32 i;

	for (i = 0; i < count; i++) {
		if (chain_entry_kind(e[i]) == CHAIN_FINE)
			bytes += chain_free_entries(ix, entry_ptr(e[i]), sub);
		else if (chain_entry_kind(e[i]) != CHAIN_COMPRESSED)
			continue;
		bytes += ksize(entry_ptr(e[i]));
		kfree(entry_ptr(e[i]));
	}
	return bytes;
}

/* Frees a leaf or a middle node without children. Any context. */
static void free_node(struct chain_index *ix, u64 slot, unsigned int level)
{
	void *p = slot_ptr(slot);
	size_t bytes = ksize(p);

	if (level == 0 && (slot & SLOT_RUNS)) {
		struct runs *r = p;

		bytes += chain_free_entries(ix, r->entry, r->count);
	} else if (level == 0) {
		bytes += chain_free_entries(ix, p, CHAIN_FANOUT);
	}
	kfree(p);
	atomic64_sub(bytes, &ix->bytes);
	atomic64_dec(&ix->resident);
}

/* Copies entry @e of the checked node @n; FINE and COMPRESSED get memory of their own. */
static int unpack_entry(const struct chain_index *ix, const struct chain_node *n, u64 e, u64 *out,
			size_t *bytes)
{
	const __le64 *aux =
		(const void *)n + chain_node_aux_at(n->form, le16_to_cpu(n->count_minus_1) + 1);
	u64 pos = chain_entry_pos(e);

	if (chain_entry_kind(e) == CHAIN_COMPRESSED) {
		const struct chain_compressed *c = (const void *)(aux + pos);
		struct packed *p = kmalloc(sizeof(*p), GFP_NOIO);

		if (!p)
			return -ENOMEM;
		p->offset = le64_to_cpu(c->offset);
		p->bytes = le32_to_cpu(c->bytes);
		p->layer = le16_to_cpu(c->layer);
		*bytes += ksize(p);
		*out = ptr_entry(p, CHAIN_COMPRESSED);
		return 0;
	}
	if (chain_entry_kind(e) == CHAIN_FINE) {
		u32 sub = 1u << (ix->cluster_sector_shift - ix->subblock_sector_shift), i;
		u64 *fine = kmalloc_array(sub, sizeof(*fine), GFP_NOIO);
		int r;

		if (!fine)
			return -ENOMEM;
		*bytes += ksize(fine);
		for (i = 0; i < sub; i++) {
			r = unpack_entry(ix, n, le64_to_cpu(aux[pos + i]), &fine[i], bytes);
			if (r) {
				*bytes -= chain_free_entries(ix, fine, i) + ksize(fine);
				kfree(fine);
				return r;
			}
		}
		*out = ptr_entry(fine, CHAIN_FINE);
		return 0;
	}
	*out = e;
	return 0;
}

/* The child at which run @i of @n begins; for @i = count, the end. */
static u32 run_start(const struct chain_node *n, u32 i, u32 children)
{
	u32 count = le16_to_cpu(n->count_minus_1) + 1;
	const __le16 *start = (const void *)(n + 1) + count * sizeof(u64);

	return i < count ? le16_to_cpu(start[i]) : children;
}

/* Entries of the checked node @n, runs spread out, into @out. @span: sectors of one child. */
static int unpack_array(const struct chain_index *ix, const struct chain_node *n, u32 children,
			u64 span, u64 *out, size_t *bytes)
{
	const __le64 *e = (const void *)(n + 1);
	u32 count = le16_to_cpu(n->count_minus_1) + 1, i, j, end;
	int r;

	for (i = j = 0; i < count; i++) {
		u64 first;

		r = unpack_entry(ix, n, le64_to_cpu(e[i]), &first, bytes);
		if (r) {
			*bytes -= chain_free_entries(ix, out, j);
			return r;
		}
		out[j++] = first;
		if (n->form == CHAIN_FORM_ARRAY)
			continue;
		end = run_start(n, i + 1, children);
		for (; j < end; j++)
			out[j] = chain_entry_advance(out[j - 1], span);
	}
	return 0;
}

/* Makes a leaf of the checked node @n. On success *@slot points to it and *@bytes is its memory. */
static int unpack_leaf(const struct chain_index *ix, const struct chain_node *n, u64 *slot,
		       size_t *bytes)
{
	u32 count = le16_to_cpu(n->count_minus_1) + 1, i;
	const __le64 *e = (const void *)(n + 1);
	u64 *array;
	int r = 0;

	BUILD_BUG_ON(ARCH_KMALLOC_MINALIGN < 8);
	*bytes = 0;
	if (n->form == CHAIN_FORM_RUNS && count <= RUNS_MAX) {
		/* A power of two is aligned to itself: the slot's low bits are free. */
		size_t size = max_t(size_t, roundup_pow_of_two(runs_bytes(count)), SLOT_ALIGN);
		struct runs *p = kmalloc(size, GFP_NOIO);

		if (!p)
			return -ENOMEM;
		p->count = count;
		p->start = (u16 *)(p->entry + count);
		for (i = 0; i < count && !r; i++) {
			p->start[i] = run_start(n, i, CHAIN_FANOUT);
			r = unpack_entry(ix, n, le64_to_cpu(e[i]), &p->entry[i], bytes);
		}
		if (r) {
			chain_free_entries(ix, p->entry, i - 1);
			kfree(p);
			return r;
		}
		*bytes += ksize(p);
		*slot = ptr_entry(p, CHAIN_RESIDENT) | SLOT_RUNS | SLOT_USED;
		return 0;
	}
	array = kmalloc(CHAIN_FANOUT * sizeof(u64), GFP_NOIO);
	if (!array)
		return -ENOMEM;
	r = unpack_array(ix, n, CHAIN_FANOUT, 1ull << ix->cluster_sector_shift, array, bytes);
	if (r) {
		kfree(array);
		return r;
	}
	*bytes += ksize(array);
	*slot = ptr_entry(array, CHAIN_RESIDENT) | SLOT_USED;
	return 0;
}

static int unpack_middle(const struct chain_index *ix, const struct chain_node *n, u64 *slot,
			 size_t *bytes)
{
	struct middle *m;
	int r;

	BUILD_BUG_ON_NOT_POWER_OF_2(sizeof(*m));
	m = kmalloc(sizeof(*m), GFP_NOIO);
	if (!m)
		return -ENOMEM;
	r = unpack_array(ix, n, CHAIN_FANOUT, CHAIN_FANOUT << ix->cluster_sector_shift, m->slot,
			 bytes);
	if (r) {
		kfree(m);
		return r;
	}
	*bytes = ksize(m);
	*slot = ptr_entry(m, CHAIN_RESIDENT) | SLOT_USED;
	return 0;
}

/* Reads the node at @place and checks it. The caller kvfree()s the result. */
static struct chain_node *read_node(const struct chain_file *cf, u64 place, unsigned int level,
				    u64 first)
{
	size_t bytes = chain_entry_layer(place) << SECTOR_SHIFT;
	u64 offset = chain_entry_pos(place) << SECTOR_SHIFT;
	struct chain_fault fault;
	struct chain_node *n;
	int r;

	n = kvmalloc(bytes, GFP_KERNEL);
	if (!n)
		return ERR_PTR(-ENOMEM);
	r = chain_read_exact(cf->opened.file, n, bytes, offset);
	if (r) {
		DMERR_LIMIT("%s: at byte %llu: cannot read %zu bytes of the index: error %d",
			    cf->path, offset, bytes, r);
		goto bad;
	}
	if (!chain_check_node(&cf->geometry, n, bytes, level, first, &fault)) {
		chain_log_fault(cf, offset, &fault);
		r = -EIO;
		goto bad;
	}
	return n;

bad:
	kvfree(n);
	return ERR_PTR(r);
}

/* ---- Eviction ---- */

static void cut_off(struct victims *v, u64 *slot, u64 place, unsigned int level)
{
	/* Readers may set SLOT_USED at any time: the exchange takes whatever stands there. */
	v->slot[v->count] = xchg(slot, place);
	v->level[v->count++] = level;
}

/*
 * Passes the clock's hand over leaf @leaf; takes the leaf, or a middle node that has none in
 * memory. Returns the number of the leaf to go on with.
 */
static u64 pass_hand(struct chain_index *ix, u64 leaf, struct victims *v)
{
	u32 top = leaf >> CHAIN_FANOUT_SHIFT, i = leaf & (CHAIN_FANOUT - 1);
	u64 slot = READ_ONCE(ix->root[top]);
	struct middle *m;

	if (chain_entry_kind(slot) != CHAIN_RESIDENT)
		return (u64)(top + 1) << CHAIN_FANOUT_SHIFT;
	m = slot_ptr(slot);
	if (!ix->side[top].children) {
		if (ix->dirty && test_bit(top, ix->dirty_middle))
			return (u64)(top + 1) << CHAIN_FANOUT_SHIFT;
		if (slot & SLOT_USED)
			cmpxchg_relaxed(&ix->root[top], slot, slot & ~SLOT_USED);
		else
			cut_off(v, &ix->root[top], ix->side[top].place, 1);
		return (u64)(top + 1) << CHAIN_FANOUT_SHIFT;
	}
	if (ix->dirty && (test_bit(leaf, ix->dirty) || test_bit(leaf, ix->storing)))
		return leaf + 1;
	slot = READ_ONCE(m->slot[i]);
	if (chain_entry_kind(slot) == CHAIN_RESIDENT) {
		if (slot & SLOT_USED) {
			cmpxchg_relaxed(&m->slot[i], slot, slot & ~SLOT_USED);
		} else {
			cut_off(v, &m->slot[i], m->place[i], 0);
			ix->side[top].children--;
		}
	}
	return leaf + 1;
}

/* Cuts off up to @want nodes; two rounds at the most. Under index->lock, @v empty. */
static void evict(struct chain_index *ix, unsigned int want, struct victims *v)
{
	u64 end = (u64)ix->root_count << CHAIN_FANOUT_SHIFT;
	u64 steps = 2 * end + CHAIN_FANOUT, next;

	lockdep_assert_held(&ix->lock);
	while (v->count < want && steps) {
		next = pass_hand(ix, ix->hand, v);
		steps -= min(steps, next - ix->hand);
		ix->hand = next < end ? next : 0;
	}
}

static void free_victims(struct chain_index *ix, struct victims *v)
{
	while (v->count) {
		v->count--;
		free_node(ix, v->slot[v->count], v->level[v->count]);
	}
}

static void free_victims_rcu(struct rcu_head *rcu)
{
	struct victims *v = container_of(rcu, struct victims, rcu);

	free_victims(v->index, v);
	smp_store_release(&v->busy, false); /* pairs with the shrinker's load: it is empty */
}

/*
 * Room for @bytes below the limit, as far as there is anything to drop. Under index->lock;
 * sleeps.
 */
void chain_index_make_room(struct chain_index *ix, size_t bytes)
{
	struct victims *v = &ix->victims;

	while (atomic64_read(&ix->bytes) + bytes > ix->limit) {
		/* A sixteenth of what is there at a time: grace periods are not free. */
		u64 want = atomic64_read(&ix->resident) / 16 + 1;

		evict(ix, min_t(u64, want, VICTIMS), v);
		if (!v->count)
			return;
		synchronize_rcu_expedited();
		free_victims(ix, v);
	}
}

static unsigned long chain_index_shrink_count(struct shrinker *s, struct shrink_control *sc)
{
	struct chain_index *ix = chain_shrinker_private(s);
	u64 n = atomic64_read(&ix->resident);

	return n > 1 ? n - 1 : SHRINK_EMPTY; /* all but the root */
}

/* Context: memory reclaim; must not wait for the lock, nor for a grace period. */
static unsigned long chain_index_shrink_scan(struct shrinker *s, struct shrink_control *sc)
{
	struct chain_index *ix = chain_shrinker_private(s);
	struct victims *v = &ix->shrunk;
	unsigned long n = SHRINK_STOP;

	if (!mutex_trylock(&ix->lock))
		return SHRINK_STOP;
	if (!smp_load_acquire(&v->busy)) { /* pairs with free_victims_rcu() */
		evict(ix, min_t(u64, sc->nr_to_scan, VICTIMS), v);
		n = v->count;
		if (n) {
			v->busy = true;
			call_rcu(&v->rcu, free_victims_rcu);
		}
	}
	mutex_unlock(&ix->lock);
	return n;
}

/* ---- Loading ---- */

/*
 * The slot above @cluster whose child is on disk only, and that child's @level; NULL: there is
 * none. Under index->lock, or under rcu_read_lock() for the value alone.
 */
static u64 *missing_slot(struct chain_index *ix, u64 cluster, unsigned int *level)
{
	u64 *slot = &READ_ONCE(ix->root)[cluster >> (2 * CHAIN_FANOUT_SHIFT)];
	u64 value = READ_ONCE(*slot);

	*level = 1;
	if (chain_entry_kind(value) == CHAIN_RESIDENT) {
		struct middle *m = slot_ptr(value);

		*level = 0;
		slot = &m->slot[(cluster >> CHAIN_FANOUT_SHIFT) & (CHAIN_FANOUT - 1)];
		value = READ_ONCE(*slot);
	}
	return chain_entry_kind(value) == CHAIN_NODE ? slot : NULL;
}

/*
 * What chain_index_find() looks for, and the middle node that it holds: one that was read on
 * the way to a leaf counts a child more until the leaf is there, so that nobody drops it before.
 */
struct search {
	sector_t sector;
	unsigned int max;
	struct chain_extent *out;
	u32 top; /* slot of the root that the sector lies below */
	bool held;
	u64 stored; /* ix->stored, before the place was looked up that is being read */
};

/*
 * Whether what was read at @place is what the slot above @cluster means, or meant. A place is free
 * when a store is over, and has another node at the end of the next one, which may well be the same
 * slot's. Returns the slot, or NULL. Under index->lock.
 */
static u64 *still_there(struct chain_index *ix, struct search *s, unsigned int level, u64 place)
{
	unsigned int now;
	u64 *slot = missing_slot(ix, s->sector >> ix->cluster_sector_shift, &now);

	return slot && now == level && *slot == place && ix->stored - s->stored < 2 ? slot : NULL;
}

/*
 * Reads the node of @level above the sector, which the chain file has at @place, and hangs it in.
 * Looks up again before anybody can drop it: returns 1 if that was the answer, 0 if not yet, or
 * an error.
 */
static int load_node(struct chain_index *ix, struct search *s, unsigned int level, u64 place)
{
	u64 cluster = s->sector >> ix->cluster_sector_shift;
	u64 first = cluster >> chain_level_shift(level + 1) << chain_level_shift(level + 1);
	struct root_side *side;
	struct chain_node *n;
	size_t bytes = 0;
	u64 *slot, new;
	int r = 0;

	n = read_node(ix->cf, place, level, first);
	mutex_lock(&ix->lock);
	if (IS_ERR(n)) {
		r = still_there(ix, s, level, place) ? PTR_ERR(n) : 0;
		mutex_unlock(&ix->lock);
		return r;
	}
	side = &ix->side[s->top]; /* only now: a disk that grows exchanges the array */
	/* An upper bound: the array, and the auxiliary words with what kmalloc rounds up. */
	chain_index_make_room(ix, level ? sizeof(struct middle) :
					  (CHAIN_FANOUT + 2 * (size_t)le32_to_cpu(n->aux_words)) *
						  sizeof(u64));
	slot = still_there(ix, s, level, place);
	if (!slot)
		goto out; /* somebody else was faster, or the node above is gone */
	r = level ? unpack_middle(ix, n, &new, &bytes) : unpack_leaf(ix, n, &new, &bytes);
	if (r)
		goto out;
	atomic64_add(bytes, &ix->bytes);
	atomic64_inc(&ix->resident);
	atomic64_inc(&ix->misses);
	if (level) {
		side->place = place;
		side->children = 1;
		s->held = true;
	} else {
		struct middle *m = slot_ptr(ix->root[s->top]);

		m->place[slot - m->slot] = place;
		side->children++;
	}
	smp_store_release(slot, new); /* readers follow it by address dependency */
out:
	if (!r)
		r = chain_index_lookup(ix, s->sector, s->max, s->out);
	mutex_unlock(&ix->lock);
	kvfree(n);
	return r;
}

int chain_index_find(struct chain_index *ix, sector_t sector, unsigned int max,
		     struct chain_extent *out)
{
	u64 cluster = sector >> ix->cluster_sector_shift;
	struct search s = {
		.sector = sector,
		.max = max,
		.out = out,
		.top = cluster >> (2 * CHAIN_FANOUT_SHIFT),
	};
	struct mutex *load = &ix->load[(cluster >> CHAIN_FANOUT_SHIFT) % LOAD_LOCKS];
	int r;

	if (chain_index_lookup(ix, sector, max, out))
		return 0;
	mutex_lock(load);
	do {
		unsigned int level;
		u64 *slot, place = 0;

		s.stored = smp_load_acquire(&ix->stored); /* before the slot */
		rcu_read_lock();
		slot = missing_slot(ix, cluster, &level);
		if (slot)
			place = READ_ONCE(*slot);
		rcu_read_unlock();
		if (chain_entry_kind(place) == CHAIN_NODE)
			r = load_node(ix, &s, level, place);
		else
			r = chain_index_lookup(ix, sector, max, out);
	} while (!r);
	if (s.held) {
		mutex_lock(&ix->lock);
		ix->side[s.top].children--;
		mutex_unlock(&ix->lock);
	}
	mutex_unlock(load);
	return min(r, 0);
}

/* ---- Opening and closing ---- */

static int chain_index_open_root(struct chain_index *ix, char **error)
{
	u64 root = le64_to_cpu(ix->cf->super->root);
	u64 span = (u64)CHAIN_FANOUT * CHAIN_FANOUT << ix->cluster_sector_shift;
	struct chain_node none = {}, *n;
	struct chain_fault fault;
	size_t bytes = 0;
	int r;
	u32 i;

	if (chain_entry_kind(root) == CHAIN_HOLE) {
		for (i = 0; i < ix->root_count; i++)
			ix->root[i] = CHAIN_HOLE;
		return 0;
	}
	none.level = CHAIN_LEVELS - 1;
	if (!chain_check_entry(&ix->cf->geometry, &none, root, offsetof(struct chain_super, root),
			       false, &fault)) {
		chain_log_fault(ix->cf, 0, &fault);
		*error = "Chain file has a damaged root of the index";
		return -EINVAL;
	}
	n = read_node(ix->cf, root, CHAIN_LEVELS - 1, 0);
	if (IS_ERR(n)) {
		*error = "Chain file has a damaged root of the index";
		return PTR_ERR(n);
	}
	r = unpack_array(ix, n, ix->root_count, span, ix->root, &bytes);
	kvfree(n);
	atomic64_inc(&ix->resident);
	return r;
}

struct chain_index *chain_index_open(const struct chain_file *cf, u64 limit, char **error)
{
	const struct chain_geometry *g = &cf->geometry;
	struct chain_index *ix;
	unsigned int i;
	int r = -ENOMEM;

	*error = "Cannot allocate the index";
	ix = kzalloc(sizeof(*ix), GFP_KERNEL);
	if (!ix)
		return ERR_PTR(-ENOMEM);
	ix->cf = cf;
	ix->cluster_sector_shift = g->cluster_shift - SECTOR_SHIFT;
	ix->subblock_sector_shift = g->subblock_shift - SECTOR_SHIFT;
	ix->root_count = chain_root_count(g->clusters);
	ix->nodes = le64_to_cpu(cf->super->nodes);
	atomic64_set(&ix->clusters, le64_to_cpu(cf->super->clusters));
	ix->victims.index = ix;
	ix->shrunk.index = ix;
	mutex_init(&ix->lock);
	for (i = 0; i < LOAD_LOCKS; i++)
		mutex_init(&ix->load[i]);

	ix->cpu = alloc_percpu(struct chain_index_cpu);
	ix->root = kvcalloc(ix->root_count, sizeof(u64), GFP_KERNEL);
	ix->side = kvcalloc(ix->root_count, sizeof(*ix->side), GFP_KERNEL);
	if (!ix->cpu || !ix->root || !ix->side)
		goto bad;
	ix->fixed = sizeof(*ix) + (sizeof(u64) + sizeof(*ix->side)) * ix->root_count;
	atomic64_set(&ix->bytes, ix->fixed);
	ix->limit = limit;
	if (limit < ix->fixed + MIN_CACHE) {
		DMERR("%s: index_cache is %llu bytes, this disk needs at least %llu", cf->path,
		      limit, ix->fixed + MIN_CACHE);
		*error = "index_cache is too small for this disk";
		r = -EINVAL;
		goto bad;
	}
	r = chain_index_open_root(ix, error);
	if (r)
		goto bad;
	ix->shrinker = chain_shrinker_register(chain_index_shrink_count, chain_index_shrink_scan,
					       ix, "dm-chain-index");
	if (!ix->shrinker) {
		r = -ENOMEM;
		goto bad;
	}
	return ix;

bad:
	chain_index_close(ix);
	return ERR_PTR(r);
}

void chain_index_close(struct chain_index *ix)
{
	u32 i, j;

	if (ix->shrinker)
		chain_shrinker_unregister(ix->shrinker);
	if (smp_load_acquire(&ix->shrunk.busy)) /* pairs with free_victims_rcu() */
		rcu_barrier(); /* slow where others have many callbacks */
	for (i = 0; ix->root && i < ix->root_count; i++) {
		struct middle *m = slot_ptr(ix->root[i]);

		if (chain_entry_kind(ix->root[i]) != CHAIN_RESIDENT)
			continue;
		for (j = 0; j < CHAIN_FANOUT; j++)
			if (chain_entry_kind(m->slot[j]) == CHAIN_RESIDENT)
				free_node(ix, m->slot[j], 0);
		free_node(ix, ix->root[i], 1);
	}
	WARN_ON_ONCE(atomic64_read(&ix->bytes) != ix->fixed && ix->root);
	kvfree(ix->dirty_middle);
	kvfree(ix->storing);
	kvfree(ix->dirty);
	kvfree(ix->side);
	kvfree(ix->root);
	free_percpu(ix->cpu);
	kfree(ix);
}

void chain_index_stats(struct chain_index *ix, struct chain_index_stats *s)
{
	int cpu;

	s->bytes = atomic64_read(&ix->bytes);
	s->limit = ix->limit;
	s->resident = atomic64_read(&ix->resident);
	s->nodes = ix->nodes;
	s->clusters = atomic64_read(&ix->clusters);
	s->misses = atomic64_read(&ix->misses);
	s->hits = 0;
	for_each_possible_cpu(cpu)
		s->hits += READ_ONCE(per_cpu_ptr(ix->cpu, cpu)->hits);
}

void chain_index_charge(struct chain_index *ix, long bytes)
{
	atomic64_add(bytes, &ix->bytes);
}

u64 chain_index_share(const struct chain_index *ix)
{
	return (ix->limit - ix->fixed) / 4;
}
