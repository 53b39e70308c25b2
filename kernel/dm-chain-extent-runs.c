// SPDX-License-Identifier: GPL-2.0
/*
 * Where the blocks of a chunk of a file lie; see the header.
 */

#include "dm-chain-extent-runs.h"

#include <linux/err.h>
#include <linux/sched.h>
#include <linux/slab.h>

static u32 *places_of(const struct chain_runs *r)
{
	return (u32 *)(r->first + round_up(r->count + r->holes, 2));
}

static size_t runs_bytes(u32 count, u32 holes)
{
	return offsetof(struct chain_runs, first[round_up(count + holes, 2)]) + count * sizeof(u32);
}

/* How many of the @count numbers at @sorted are @block at the most. */
static u32 up_to(const u16 *sorted, u32 count, u32 block)
{
	u32 lo = 0;

	while (lo < count) {
		u32 mid = (lo + count) / 2;

		if (sorted[mid] <= block)
			lo = mid + 1;
		else
			count = mid;
	}
	return lo;
}

u64 chain_runs_find(const struct chain_runs *r, u32 block, u32 blocks, u32 *rest)
{
	const u16 *first = r->first, *hole = first + r->count;
	u32 i = up_to(first, r->count, block), end = i < r->count ? first[i] : blocks, h;

	*rest = end - block;
	if (!i--)
		return 0; /* before the first run */
	h = up_to(hole, r->holes, first[i]);
	if (h < r->holes && hole[h] < end) {
		if (block >= hole[h])
			return 0;
		*rest = hole[h] - block;
	}
	return r->base + places_of(r)[i] + block - first[i];
}

/* ---- Looking up ---- */

/* Runs as they are found. */
struct gathered {
	struct found_run {
		u64 place; /* block on the disk; 0: not mapped */
		u16 first; /* block in the chunk */
	} one, *run; /* the first; all: &one, or allocated */
	u32 count, room;
};

static bool gather(struct gathered *g, u16 first, u64 place)
{
	if (g->count == g->room) {
		u32 room = max(2 * g->room, 32u);
		struct found_run *more = krealloc_array(g->run == &g->one ? NULL : g->run, room,
							sizeof(*more), GFP_KERNEL);

		if (!more)
			return false;
		if (g->run == &g->one)
			more[0] = g->one;
		g->run = more;
		g->room = room;
	}
	g->run[g->count].place = place;
	g->run[g->count++].first = first;
	return true;
}

/* What @g has, packed; list and slot are not set. Returns NULL without memory. */
static struct chain_runs *pack_runs(const struct gathered *g)
{
	u64 base = U64_MAX;
	u32 i, count = 0, *place;
	struct chain_runs *r;
	u16 *hole;

	for (i = 0; i < g->count; i++) {
		if (!g->run[i].place)
			continue;
		base = min(base, g->run[i].place);
		count++;
	}
	r = kmalloc(max(runs_bytes(count, g->count - count), sizeof(*r)), GFP_KERNEL);
	if (!r)
		return NULL;
	r->base = base;
	r->count = count;
	r->holes = g->count - count;
	hole = r->first + count;
	place = places_of(r);
	for (i = 0, count = 0; i < g->count; i++) {
		if (g->run[i].place) {
			r->first[count] = g->run[i].first;
			place[count++] = g->run[i].place - base;
		} else {
			*hole++ = g->run[i].first;
		}
	}
	return r;
}

u64 chain_runs_place(struct inode *inode, u64 block, u64 end)
{
	sector_t place = block;

	if (bmap(inode, &place) || place >= end)
		return 0;
	return place;
}

struct chain_runs *chain_runs_look_up(struct inode *inode, u64 first, u32 count, u64 end,
				      u64 *place)
{
	struct gathered g = { .run = &g.one, .room = 1 };
	struct chain_runs *r = NULL;
	u64 at, next = 0, near = 0;
	u32 i;

	for (i = 0; i < count; i++) {
		at = chain_runs_place(inode, first + i, end);
		/* Of places that 32 bits cannot tell apart only those near the first are mapped. */
		if (at && !near)
			near = at;
		if (at && (at > near ? at - near : near - at) > S32_MAX)
			at = 0;
		if ((!i || at != next) && !gather(&g, i, at)) {
			r = ERR_PTR(-ENOMEM);
			goto out;
		}
		next = at ? at + 1 : 0;
		if (!(i & 63))
			cond_resched();
	}
	*place = g.one.place;
	if (g.count > 1)
		r = pack_runs(&g) ?: ERR_PTR(-ENOMEM);
out:
	if (g.run != &g.one)
		kfree(g.run);
	return r;
}
