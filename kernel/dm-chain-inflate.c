// SPDX-License-Identifier: GPL-2.0
/*
 * Compressed clusters: zlib (raw deflate, as qcow2 has it) and zstd, with the kernel's libraries.
 */

#include "dm-chain-inflate.h"

#include <linux/atomic.h>
#include <linux/device-mapper.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/zlib.h>
#include <linux/zstd.h>

#include "dm-chain-inflight.h"

#define DM_MSG_PREFIX "chain"

#define BUFFERS_MAX 16
#define DEFLATE_WINDOW (-12) /* qcow2 specification, "Compressed clusters": raw, 12-bit window */

/* One inflated cluster, and the work space to make it. */
struct inflated {
	struct mutex fill; /* held by who fills it; taken without inf->lock */
	u8 *data; /* cluster_bytes; NULL: not made yet */
	void *workspace;
	unsigned int users; /* under inf->lock; 0: may be given away */
	u64 used; /* under inf->lock: when, for least recently used */
	/*
	 * The key, fixed while there are users: a layer keeps its id, and what it has, when it is
	 * opened anew; its address may be another one's by then. CHAIN_NO_LAYER: nothing.
	 */
	unsigned int id;
	u64 offset;
	bool valid; /* under fill */
};

struct chain_inflate {
	unsigned int cluster_bytes;
	unsigned int count;
	size_t workspace_bytes;
	spinlock_t lock; /* the keys, users and ages of the buffers */
	wait_queue_head_t wait; /* for a buffer without users */
	u64 clock; /* under lock */
	atomic64_t reads;
	struct inflated buffer[];
};

static int buffer_make(struct chain_inflate *inf, struct inflated *b, gfp_t gfp)
{
	u8 *data = kvmalloc(inf->cluster_bytes, gfp);
	void *workspace = kvmalloc(inf->workspace_bytes, gfp);

	if (!data || !workspace) {
		kvfree(data);
		kvfree(workspace);
		return -ENOMEM;
	}
	b->workspace = workspace;
	b->data = data;
	return 0;
}

static struct chain_inflate *inflate_create(unsigned int cluster_bytes)
{
	unsigned int count = clamp_t(unsigned int, num_online_cpus() + 1, 4, BUFFERS_MAX), i;
	struct chain_inflate *inf = kzalloc(struct_size(inf, buffer, count), GFP_KERNEL);

	if (!inf)
		return NULL;
	inf->cluster_bytes = cluster_bytes;
	inf->count = count;
	inf->workspace_bytes =
		max_t(size_t, zlib_inflate_workspacesize(), zstd_dctx_workspace_bound());
	spin_lock_init(&inf->lock);
	init_waitqueue_head(&inf->wait);
	for (i = 0; i < count; i++) {
		mutex_init(&inf->buffer[i].fill);
		inf->buffer[i].id = CHAIN_NO_LAYER;
	}
	if (buffer_make(inf, &inf->buffer[0], GFP_KERNEL)) {
		chain_inflate_destroy(inf);
		return NULL;
	}
	return inf;
}

int chain_inflate_prepare(struct chain_inflate **inf, const struct chain_layers *layers,
			  struct chain_inflight *inflight)
{
	struct chain_inflate *old = *inf, *larger;
	unsigned int i, shift = 0;

	for (i = 0; i < layers->count; i++)
		if (layers->layer[i]->has_compressed)
			shift = max_t(unsigned int, shift, layers->layer[i]->cluster_shift);
	if (!shift || (old && 1u << shift <= old->cluster_bytes))
		return 0;
	larger = inflate_create(1u << shift);
	if (!larger)
		return -ENOMEM;
	/* Pairs with the READ_ONCE() of readers: they find what was filled in above. */
	smp_store_release(inf, larger);
	if (!old)
		return 0;
	chain_inflight_drain(inflight);
	atomic64_add(atomic64_read(&old->reads), &larger->reads);
	chain_inflate_destroy(old);
	return 0;
}

void chain_inflate_destroy(struct chain_inflate *inf)
{
	unsigned int i;

	if (!inf)
		return;
	for (i = 0; i < inf->count; i++) {
		kvfree(inf->buffer[i].data);
		kvfree(inf->buffer[i].workspace);
	}
	kfree(inf);
}

u64 chain_inflate_reads(const struct chain_inflate *inf)
{
	return inf ? atomic64_read(&inf->reads) : 0;
}

/*
 * The buffer for this cluster, with one user more; NULL: all are in use. One that was never made is
 * given only if @grow. Under inf->lock.
 */
static struct inflated *buffer_choose(struct chain_inflate *inf, unsigned int id, u64 offset,
				      bool grow)
{
	struct inflated *b, *oldest = NULL;
	unsigned int i;

	for (i = 0; i < inf->count; i++) {
		b = &inf->buffer[i];
		if (b->id == id && b->offset == offset)
			goto found;
		if (b->users || (!b->data && !grow))
			continue;
		if (!oldest || b->used < oldest->used)
			oldest = b;
	}
	b = oldest;
	if (!b)
		return NULL;
	b->id = id;
	b->offset = offset;
	b->valid = false; /* without users nobody holds fill */
found:
	b->users++;
	b->used = ++inf->clock;
	return b;
}

static struct inflated *buffer_try(struct chain_inflate *inf, unsigned int id, u64 offset,
				   bool grow)
{
	struct inflated *b;

	spin_lock(&inf->lock);
	b = buffer_choose(inf, id, offset, grow);
	spin_unlock(&inf->lock);
	return b;
}

static void buffer_put(struct chain_inflate *inf, struct inflated *b, bool forget)
{
	spin_lock(&inf->lock);
	b->users--;
	if (forget && !b->users)
		b->id = CHAIN_NO_LAYER;
	spin_unlock(&inf->lock);
	wake_up(&inf->wait);
}

static int inflate_zlib(struct inflated *b, const u8 *src, u32 bytes, u32 cluster_bytes)
{
	struct z_stream_s strm = {
		.workspace = b->workspace,
		.next_in = src,
		.avail_in = bytes,
		.next_out = b->data,
		.avail_out = cluster_bytes,
	};
	int r = zlib_inflateInit2(&strm, DEFLATE_WINDOW);

	if (r != Z_OK)
		return -EIO;
	r = zlib_inflate(&strm, Z_FINISH);
	zlib_inflateEnd(&strm);
	/* A full cluster counts, whether or not the stream says that it ends there. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && !strm.avail_out ? 0 : -EIO;
}

static int inflate_zstd(struct inflated *b, size_t workspace_bytes, const u8 *src, u32 bytes,
			u32 cluster_bytes)
{
	zstd_dctx *ctx = zstd_init_dctx(b->workspace, workspace_bytes);
	u32 done = 0;

	if (!ctx)
		return -EIO;
	/* @bytes is an upper bound: behind the frame lies whatever comes next in the file. */
	while (done < cluster_bytes) {
		size_t frame = zstd_find_frame_compressed_size(src, bytes), n;

		if (zstd_is_error(frame) || !frame || frame > bytes)
			return -EIO;
		n = zstd_decompress_dctx(ctx, b->data + done, cluster_bytes - done, src, frame);
		if (zstd_is_error(n))
			return -EIO;
		done += n;
		src += frame;
		bytes -= frame;
	}
	return 0;
}

/* Under b->fill. */
static int buffer_fill(struct chain_inflate *inf, struct inflated *b,
		       const struct chain_layer_open *l, u32 bytes)
{
	u32 cluster_bytes = 1u << l->cluster_shift;
	u8 *src;
	int r;

	bytes = min_t(u64, bytes, l->bytes - b->offset);
	src = kvmalloc(bytes, GFP_KERNEL);
	if (!src)
		return -ENOMEM;
	r = chain_read_exact(l->opened.file, src, bytes, b->offset);
	if (!r && l->compression == CHAIN_ZSTD)
		r = inflate_zstd(b, inf->workspace_bytes, src, bytes, cluster_bytes);
	else if (!r)
		r = inflate_zlib(b, src, bytes, cluster_bytes);
	kvfree(src);
	if (r)
		DMERR_LIMIT("layer %u: at byte %llu: no cluster of %u bytes inflated: error %d",
			    l->id, b->offset, cluster_bytes, r);
	b->valid = !r;
	return r;
}

static void copy_to_bio(struct bio *bio, const u8 *from)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		memcpy_to_bvec(&bv, from);
		from += bv.bv_len;
	}
}

int chain_inflate_read(struct chain_inflate *inf, const struct chain_layer_open *l, u64 offset,
		       u32 bytes, u32 within, struct bio *bio)
{
	struct inflated *b;
	int r = 0;

	if (!inf || !l->cluster_shift || 1u << l->cluster_shift > inf->cluster_bytes ||
	    within + bio->bi_iter.bi_size > 1u << l->cluster_shift || offset >= l->bytes)
		return -EIO; /* the chain file contradicts itself */
	atomic64_inc(&inf->reads);
again:
	b = buffer_try(inf, l->id, offset, true);
	if (!b)
		wait_event(inf->wait, (b = buffer_try(inf, l->id, offset, true)) != NULL);

	mutex_lock(&b->fill);
	if (!b->data && buffer_make(inf, b, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)) {
		mutex_unlock(&b->fill);
		buffer_put(inf, b, true);
		wait_event(inf->wait, (b = buffer_try(inf, l->id, offset, false)) != NULL);
		mutex_lock(&b->fill);
		if (!b->data) { /* the same cluster's user before us had no memory either */
			mutex_unlock(&b->fill);
			buffer_put(inf, b, true);
			cond_resched();
			goto again;
		}
	}
	if (!b->valid)
		r = buffer_fill(inf, b, l, bytes);
	if (!r)
		copy_to_bio(bio, b->data + within);
	mutex_unlock(&b->fill);
	buffer_put(inf, b, r);
	return r;
}
