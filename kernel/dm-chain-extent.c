// SPDX-License-Identifier: GPL-2.0
/*
 * Where the blocks of layers' files lie on the disk; see the header and docs/extents.md.
 */

#include "dm-chain-extent.h"

#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "dm-chain-compat.h"
#include "dm-chain-extent-runs.h"
#include "dm-chain-inflight.h"

#define DM_MSG_PREFIX "chain"

#define CHUNK_MASK ((1u << CHAIN_CHUNK_SHIFT) - 1)
#define WANTED_BITS 4

/*
 * A slot of a map is 0 (the chunk was not looked up yet), or says in its low bits what it is:
 *   SLOT_NONE   nothing of it is mapped
 *   SLOT_WHOLE  it lies in one piece, from the sector in the other bits on
 *   SLOT_RUNS   the other bits are the address of chain_runs; SLOT_USED: it was used since the
 *               clock's hand last passed (readers set it, rarely)
 */
#define SLOT_NONE 1ull
#define SLOT_WHOLE 2ull
#define SLOT_RUNS 3ull
#define SLOT_KIND 3ull
#define SLOT_KIND_BITS 2
#define SLOT_USED 4ull
#define SLOT_MASK 7ull

/* For the hot path: a file of a few chunks is one or two cache lines. */
struct chain_extent_map {
	struct block_device *bdev;
	u64 end; /* sectors of the file that may be mapped: whole blocks below its end */
	u16 align; /* sectors of the device's logical block, less one */
	u8 block_shift; /* log2 sectors of the file system's block */
	bool nowait;
	struct chain_extent_layer *layer;
	u64 slot[]; /* one for each chunk */
};

/* What the hot path does not need of a layer. Under extents->lock, but for broken. */
struct chain_extent_layer {
	struct list_head list; /* of extents->fresh or ->checked */
	struct chain_extents *extents;
	struct chain_layer_open *layer;
	struct chain_extent_map *map; /* NULL: read through the file */
	const char *why; /* that is so */
	bool leased;
	struct work_struct broken; /* somebody is about to move its blocks, and waits for us */
};

struct map_table {
	struct rcu_head rcu;
	unsigned int ids; /* length of the next */
	struct chain_extent_map *map[]; /* by layer id; NULL: none */
};

struct chain_extents {
	struct map_table *table; /* written under lock, read under RCU; may be exchanged */
	struct chain_inflight inflight; /* bios that have found a place here */
	u64 wanted[1 << WANTED_BITS]; /* to be looked up: layer id (from 1), chunk; 0: none */

	/* Not on the hot path from here on. */
	struct chain_index *index; /* counts our memory */
	unsigned long full_until; /* jiffies: nothing new is looked up before */
	struct work_struct work; /* looks at fresh layers and at wanted chunks */
	struct mutex lock; /* all that follows, all maps but for their readers */
	struct list_head fresh, checked; /* of struct chain_extent_layer */
	struct list_head runs; /* of struct chain_runs, as the clock's hand passes them */
	unsigned long run_count; /* length of it; read without the lock */
	u64 limit, bytes;
	struct chain_shrinker *shrinker;
};

/* ---- Lookup ---- */

/* Asks for a chunk to be looked up. What finds no room comes again with the next read. */
static void want(struct chain_extents *ex, unsigned int id, u32 chunk)
{
	u64 key = (u64)id << 32 | chunk;
	u64 *at = &ex->wanted[hash_64(key, WANTED_BITS)];

	if (!READ_ONCE(*at) && time_after_eq(jiffies, READ_ONCE(ex->full_until)) &&
	    !cmpxchg(at, 0, key))
		queue_work(system_unbound_wq, &ex->work);
}

static struct chain_runs *runs_at(u64 slot)
{
	return (void *)(unsigned long)(slot & ~SLOT_MASK);
}

/* Under rcu_read_lock(). */
static bool find(struct chain_extents *ex, unsigned int id, u64 pos, blk_opf_t opf,
		 struct chain_place *out)
{
	const struct map_table *table = READ_ONCE(ex->table);
	struct chain_extent_map *m = id < table->ids ? READ_ONCE(table->map[id]) : NULL;
	u32 within = pos & CHUNK_MASK, rest, shift;
	u64 *at, slot, block;

	if (!m || pos >= m->end || (opf & REQ_NOWAIT && !m->nowait))
		return false;
	at = &m->slot[pos >> CHAIN_CHUNK_SHIFT];
	slot = READ_ONCE(*at);
	switch (slot & SLOT_KIND) {
	case SLOT_WHOLE:
		out->sector = (slot >> SLOT_KIND_BITS) + within;
		rest = CHUNK_MASK + 1 - within;
		break;
	case SLOT_RUNS:
		if (unlikely(!(slot & SLOT_USED)))
			cmpxchg_relaxed(at, slot, slot | SLOT_USED);
		shift = m->block_shift;
		block = chain_runs_find(runs_at(slot), within >> shift, (CHUNK_MASK + 1) >> shift,
					&rest);
		if (!block)
			return false;
		within &= (1u << shift) - 1;
		out->sector = (block << shift) + within;
		rest = (rest << shift) - within;
		break;
	case SLOT_NONE:
		return false;
	default:
		want(ex, id, pos >> CHAIN_CHUNK_SHIFT);
		return false;
	}
	out->bdev = m->bdev;
	out->sectors = min3((u64)out->sectors, (u64)rest, m->end - pos);
	return !((pos | out->sectors) & m->align);
}

bool chain_extents_find(struct chain_extents *ex, const struct chain_extent *x, blk_opf_t opf,
			struct chain_place *out)
{
	bool found;

	out->sectors = x->sectors;
	rcu_read_lock();
	found = find(ex, chain_entry_layer(x->entry), chain_entry_pos(x->entry), opf, out);
	rcu_read_unlock();
	return found;
}

int chain_extents_enter(struct chain_extents *ex)
{
	return chain_inflight_enter(&ex->inflight);
}

void chain_extents_leave(struct chain_extents *ex, int epoch)
{
	chain_inflight_leave(&ex->inflight, epoch);
}

/* ---- Memory ---- */

static void count_bytes(struct chain_extents *ex, long bytes)
{
	ex->bytes += bytes;
	chain_index_charge(ex->index, bytes);
}

/* Forgets @r, which must not be used by its slot's readers beyond their RCU section. */
static void forget_runs(struct chain_extents *ex, struct chain_runs *r)
{
	WRITE_ONCE(*r->slot, 0);
	list_del(&r->list);
	WRITE_ONCE(ex->run_count, ex->run_count - 1);
	count_bytes(ex, -(long)ksize(r));
	kfree_rcu(r, rcu);
}

/* Passes the clock's hand over up to @steps chunks, and forgets up to @want. Returns how many. */
static unsigned long evict(struct chain_extents *ex, unsigned long want, unsigned long steps)
{
	unsigned long n = 0;

	lockdep_assert_held(&ex->lock);
	while (n < want && steps-- && !list_empty(&ex->runs)) {
		struct chain_runs *r = list_first_entry(&ex->runs, struct chain_runs, list);
		u64 slot = READ_ONCE(*r->slot);

		if (slot & SLOT_USED) {
			cmpxchg_relaxed(r->slot, slot, slot & ~SLOT_USED);
			list_move_tail(&r->list, &ex->runs);
		} else {
			forget_runs(ex, r);
			n++;
		}
	}
	return n;
}

/* Whether there is room for @bytes more. What is in use is not given up for something new. */
static bool make_room(struct chain_extents *ex, size_t bytes)
{
	while (ex->bytes + bytes > ex->limit) {
		if (evict(ex, 16, 256))
			continue;
		WRITE_ONCE(ex->full_until, jiffies + HZ / 10);
		return false;
	}
	return true;
}

static unsigned long extents_shrink_count(struct shrinker *s, struct shrink_control *sc)
{
	struct chain_extents *ex = chain_shrinker_private(s);

	return READ_ONCE(ex->run_count) ?: SHRINK_EMPTY;
}

/* Context: memory reclaim; must not wait for the lock, nor for a grace period. */
static unsigned long extents_shrink_scan(struct shrinker *s, struct shrink_control *sc)
{
	struct chain_extents *ex = chain_shrinker_private(s);
	unsigned long n;

	if (!mutex_trylock(&ex->lock))
		return SHRINK_STOP;
	n = evict(ex, sc->nr_to_scan, 2 * sc->nr_to_scan);
	mutex_unlock(&ex->lock);
	return n;
}

/* ---- Looking up a chunk ---- */

static void look_up_chunk(struct chain_extents *ex, unsigned int id, u32 chunk)
{
	struct chain_extent_map *m = id < ex->table->ids ? ex->table->map[id] : NULL;
	u32 per_chunk;
	struct chain_runs *r;
	u64 *slot, first, place;

	if (!m || chunk > (m->end - 1) >> CHAIN_CHUNK_SHIFT || m->slot[chunk])
		return;
	slot = &m->slot[chunk];
	per_chunk = 1u << (CHAIN_CHUNK_SHIFT - m->block_shift);
	first = (u64)chunk * per_chunk;
	r = chain_runs_look_up(file_inode(m->layer->layer->opened.file), first,
			       min_t(u64, per_chunk, (m->end >> m->block_shift) - first),
			       bdev_nr_sectors(m->bdev) >> m->block_shift, &place);
	if (IS_ERR(r))
		return;
	if (!r) {
		WRITE_ONCE(*slot, place ? place << m->block_shift << SLOT_KIND_BITS | SLOT_WHOLE :
					  SLOT_NONE);
		return;
	}
	if (!make_room(ex, ksize(r))) {
		kfree(r);
		return;
	}
	r->slot = slot;
	list_add_tail(&r->list, &ex->runs);
	WRITE_ONCE(ex->run_count, ex->run_count + 1);
	count_bytes(ex, ksize(r));
	/* Readers follow it by address dependency. */
	smp_store_release(slot, (u64)(unsigned long)r | SLOT_RUNS | SLOT_USED);
}

/* ---- The lease ---- */

/*
 * Files that can share blocks may get others at any time, although nobody can write to them:
 * whoever deduplicates need not even have them open for writing. But before that, XFS asks whoever
 * has a lease on the file's layout (such as nfsd, which has clients that know the blocks) to give
 * it up, and waits.
 */
static bool layout_break(struct chain_lease *lease)
{
	struct chain_extent_layer *ly = chain_lease_owner(lease);

	lease->fl_break_time = 0; /* it ends when we say so */
	queue_work(system_unbound_wq, &ly->broken);
	return false;
}

static int layout_change(struct chain_lease *lease, int arg, struct list_head *dispose)
{
	return lease_modify(lease, arg, dispose);
}

static const struct chain_lease_operations layout_ops = {
	.lm_break = layout_break,
	.lm_change = layout_change,
};

/* Context: a kernel thread, which may have a lease on anybody's file. */
static bool take_lease(struct chain_extent_layer *ly)
{
	struct file *file = ly->layer->opened.file;
	struct chain_lease *lease = chain_lease_alloc(file, ly);

	if (!lease)
		return false;
	lease->fl_lmops = &layout_ops;
	ly->leased = !vfs_setlease(file, F_RDLCK, &lease, NULL);
	if (lease)
		chain_lease_free(lease);
	return ly->leased;
}

/* After this nobody calls layout_break(). Context as above. */
static void give_lease_back(struct chain_extent_layer *ly)
{
	void *owner = ly;

	if (ly->leased)
		vfs_setlease(ly->layer->opened.file, F_UNLCK, NULL, &owner);
	ly->leased = false;
}

/* ---- The maps of layers ---- */

/* Takes the map away; @quiet: there are no readers. Context: a kernel thread. */
static void take_map(struct chain_extents *ex, struct chain_extent_layer *ly, bool quiet)
{
	struct chain_extent_map *m = ly->map;
	u64 i, chunks;

	lockdep_assert_held(&ex->lock);
	if (!m) {
		give_lease_back(ly);
		return;
	}
	WRITE_ONCE(ex->table->map[ly->layer->id], NULL);
	if (!quiet) {
		/* Whoever looks up from here on finds no map; whoever did before is counted in. */
		synchronize_rcu_expedited();
		chain_inflight_drain(&ex->inflight);
	}
	ly->map = NULL;
	give_lease_back(ly);
	chunks = DIV_ROUND_UP_ULL(m->end, CHUNK_MASK + 1);
	for (i = 0; i < chunks; i++)
		if ((m->slot[i] & SLOT_KIND) == SLOT_RUNS)
			forget_runs(ex, runs_at(m->slot[i]));
	count_bytes(ex, -(long)struct_size(m, slot, chunks));
	kvfree(m);
}

static void broken_work(struct work_struct *work)
{
	struct chain_extent_layer *ly = container_of(work, struct chain_extent_layer, broken);
	struct chain_extents *ex = ly->extents;

	mutex_lock(&ex->lock);
	if (ly->map) {
		DMINFO("layer %u: somebody shares its blocks: it is read through the file",
		       ly->layer->id);
		ly->why = "shared";
	}
	take_map(ex, ly, false);
	mutex_unlock(&ex->lock);
}

/* Why the file of @l cannot have a map, as far as can be said without asking its file system. */
static const char *unfit(const struct chain_layer_open *l)
{
	const struct inode *inode = file_inode(l->opened.file);
	const struct super_block *sb = inode->i_sb;

	/* Others may move blocks of a file that nobody writes to, or have several devices. */
	if (strcmp(sb->s_type->name, "ext4") && strcmp(sb->s_type->name, "xfs"))
		return "filesystem";
	if (!sb->s_bdev || l->opened.inode != inode)
		return "filesystem";
	if (!l->opened.denied)
		return "writable";
	if (IS_SWAPFILE(inode))
		return "swap";
	if (IS_ENCRYPTED(inode))
		return "encrypted";
	if (IS_VERITY(inode))
		return "verity";
	if (IS_DAX(inode))
		return "dax";
	/* Inline data, and data that goes through the journal: ext4 says so in this way. */
	if (!l->dio_offset_align)
		return "no_direct_io";
	if (inode->i_blkbits < SECTOR_SHIFT || inode->i_blkbits > CHAIN_CHUNK_SHIFT + SECTOR_SHIFT)
		return "block_size";
	/* What every mapped device asks of the memory of its bios, at the least. */
	if (bdev_dma_alignment(sb->s_bdev) > SECTOR_SIZE - 1)
		return "alignment";
	if (min_t(u64, l->bytes, i_size_read(inode)) >> inode->i_blkbits == 0)
		return "empty";
	return NULL;
}

/* Whether the file system tells where the first of the file's data lies. */
static bool tells(const struct chain_extent_map *m, struct file *file)
{
	loff_t at = vfs_llseek(file, 0, SEEK_DATA);

	if (at < 0 || at >> SECTOR_SHIFT >= m->end)
		return true; /* nothing but holes */
	return chain_runs_place(file_inode(file), at >> file_inode(file)->i_blkbits,
				bdev_nr_sectors(m->bdev) >> m->block_shift);
}

/* Makes the map, empty. Returns NULL, or why there is none. Context: a kernel thread. */
static const char *make_map(struct chain_extents *ex, struct chain_extent_layer *ly)
{
	struct chain_layer_open *l = ly->layer;
	struct file *file = l->opened.file;
	struct inode *inode = file_inode(file);
	const char *why = unfit(l);
	struct chain_extent_map *m;
	size_t bytes;
	u64 end;

	if (why)
		return why;
	end = min_t(u64, l->bytes, i_size_read(inode)) >> inode->i_blkbits
							<< (inode->i_blkbits - SECTOR_SHIFT);
	bytes = struct_size(m, slot, DIV_ROUND_UP_ULL(end, CHUNK_MASK + 1));
	if (!make_room(ex, bytes))
		return "memory";
	if (file->f_op->remap_file_range && !take_lease(ly))
		return "lease";
	/* Whoever asked before we had the lease is done when we have had this. */
	inode_lock(inode);
	inode_unlock(inode);
	if (filemap_write_and_wait(inode->i_mapping))
		return "unwritten";
	m = kvzalloc(bytes, GFP_KERNEL);
	if (!m)
		return "memory";
	m->bdev = inode->i_sb->s_bdev;
	m->end = end;
	m->align = (bdev_logical_block_size(m->bdev) >> SECTOR_SHIFT) - 1;
	m->block_shift = inode->i_blkbits - SECTOR_SHIFT;
	m->nowait = bdev_nowait(m->bdev);
	m->layer = ly;
	if (!tells(m, file)) {
		kvfree(m);
		return "shared";
	}
	count_bytes(ex, bytes);
	ly->map = m;
	return NULL;
}

/* Room in the table for @id. */
static bool grow_table(struct chain_extents *ex, unsigned int id)
{
	struct map_table *old = ex->table, *new;
	unsigned int ids = id + 256;

	if (old && id < old->ids)
		return true;
	new = kvzalloc(struct_size(new, map, ids), GFP_KERNEL);
	if (!new)
		return false;
	new->ids = ids;
	if (old)
		memcpy(new->map, old->map, old->ids * sizeof(old->map[0]));
	smp_store_release(&ex->table, new); /* readers follow it by address dependency */
	if (old)
		kvfree_rcu(old, rcu);
	return true;
}

static void check_layer(struct chain_extents *ex, struct chain_extent_layer *ly)
{
	unsigned int id = ly->layer->id;

	list_move_tail(&ly->list, &ex->checked);
	ly->why = grow_table(ex, id) ? make_map(ex, ly) : "memory";
	if (ly->why)
		give_lease_back(ly);
	else
		smp_store_release(&ex->table->map[id], ly->map); /* by address dependency */
}

static void extents_work(struct work_struct *work)
{
	struct chain_extents *ex = container_of(work, struct chain_extents, work);
	unsigned int noio = memalloc_noio_save(), i;
	u64 key;

	mutex_lock(&ex->lock);
	while (!list_empty(&ex->fresh)) {
		check_layer(ex, list_first_entry(&ex->fresh, struct chain_extent_layer, list));
		mutex_unlock(&ex->lock); /* others may have waited */
		mutex_lock(&ex->lock);
	}
	mutex_unlock(&ex->lock);
	for (i = 0; i < ARRAY_SIZE(ex->wanted); i++) {
		key = READ_ONCE(ex->wanted[i]);
		if (!key)
			continue;
		mutex_lock(&ex->lock);
		look_up_chunk(ex, key >> 32, key);
		mutex_unlock(&ex->lock);
		WRITE_ONCE(ex->wanted[i], 0); /* only now may it be asked for again */
	}
	memalloc_noio_restore(noio);
}

/* ---- Layers that come and go ---- */

/* Whether @l is one to be looked at. Under extents->lock, or before anybody else knows @ex. */
static bool add_fresh(struct chain_extents *ex, struct chain_layer_open *l)
{
	struct chain_extent_layer *ly = l->extents;

	if (l->dev || l->unsealed || (ly && ly->map))
		return false;
	if (ly) {
		list_del(&ly->list);
	} else {
		ly = kzalloc(sizeof(*ly), GFP_KERNEL);
		if (!ly)
			return false;
		INIT_WORK(&ly->broken, broken_work);
		ly->extents = ex;
		ly->layer = l;
		l->extents = ly;
	}
	list_add_tail(&ly->list, &ex->fresh);
	return true;
}

void chain_extents_try(struct chain_extents *ex, struct chain_layer_open *l)
{
	if (!ex)
		return;
	mutex_lock(&ex->lock);
	if (add_fresh(ex, l))
		queue_work(system_unbound_wq, &ex->work);
	mutex_unlock(&ex->lock);
}

/* What only a kernel thread may do: give leases back. */
struct drop_work {
	struct work_struct work;
	struct chain_extents *ex;
	struct chain_extent_layer *ly; /* NULL: all, and there are no readers */
};

static void drop_work(struct work_struct *work)
{
	struct drop_work *d = container_of(work, struct drop_work, work);
	struct chain_extents *ex = d->ex;
	struct chain_extent_layer *ly;

	mutex_lock(&ex->lock);
	if (d->ly) {
		list_move_tail(&d->ly->list, &ex->checked);
		take_map(ex, d->ly, false);
	} else {
		list_splice_tail_init(&ex->fresh, &ex->checked);
		list_for_each_entry(ly, &ex->checked, list)
			take_map(ex, ly, true);
	}
	mutex_unlock(&ex->lock);
}

static void drop(struct chain_extents *ex, struct chain_extent_layer *ly)
{
	struct drop_work d = { .ex = ex, .ly = ly };

	INIT_WORK_ONSTACK(&d.work, drop_work);
	queue_work(system_unbound_wq, &d.work);
	flush_work(&d.work);
	destroy_work_on_stack(&d.work);
}

void chain_extents_drop(struct chain_extents *ex, struct chain_layer_open *l, const char *why)
{
	struct chain_extent_layer *ly = l->extents;

	if (!ly)
		return;
	drop(ex, ly);
	cancel_work_sync(&ly->broken);
	mutex_lock(&ex->lock);
	ly->why = why;
	if (!why) {
		list_del(&ly->list);
		l->extents = NULL;
		kfree(ly);
	}
	mutex_unlock(&ex->lock);
}

const char *chain_extents_way(struct chain_extents *ex, const struct chain_layer_open *l)
{
	const char *why = "memory";

	if (!ex || !l->extents)
		return why;
	flush_work(&ex->work); /* it may be about to look at the layer */
	mutex_lock(&ex->lock);
	why = l->extents->map ? NULL : l->extents->why;
	mutex_unlock(&ex->lock);
	return why;
}

/* ---- Opening and closing ---- */

struct chain_extents *chain_extents_open(struct chain_layers *ls, struct chain_index *index)
{
	struct chain_extents *ex = kzalloc(sizeof(*ex), GFP_KERNEL);
	unsigned int i;

	if (!ex)
		return NULL;
	ex->index = index;
	ex->full_until = jiffies;
	ex->limit = chain_index_share(index);
	mutex_init(&ex->lock);
	INIT_WORK(&ex->work, extents_work);
	INIT_LIST_HEAD(&ex->fresh);
	INIT_LIST_HEAD(&ex->checked);
	INIT_LIST_HEAD(&ex->runs);
	if (chain_inflight_init(&ex->inflight)) {
		kfree(ex);
		return NULL;
	}
	ex->shrinker = chain_shrinker_register(extents_shrink_count, extents_shrink_scan, ex,
					       "dm-chain-extents");
	if (!ex->shrinker || !grow_table(ex, ls->ids)) {
		chain_extents_close(ex);
		return NULL;
	}
	for (i = 0; i < ls->count; i++)
		add_fresh(ex, ls->layer[i]);
	queue_work(system_unbound_wq, &ex->work);
	return ex;
}

void chain_extents_close(struct chain_extents *ex)
{
	struct chain_extent_layer *ly, *next;

	if (!ex)
		return;
	cancel_work_sync(&ex->work);
	drop(ex, NULL);
	if (ex->shrinker)
		chain_shrinker_unregister(ex->shrinker);
	list_for_each_entry_safe(ly, next, &ex->checked, list) {
		cancel_work_sync(&ly->broken);
		ly->layer->extents = NULL;
		kfree(ly);
	}
	WARN_ON_ONCE(ex->bytes);
	kvfree(ex->table);
	chain_inflight_exit(&ex->inflight);
	kfree(ex);
}
