// SPDX-License-Identifier: GPL-2.0
/*
 * The worker's side of reading. See docs/target.md for why files are never read in the submitter's
 * context: it may hold locks of a file system, and a file system below may wait for I/O that
 * submit_bio_noacct() holds back until the submitter returns.
 */

#include "dm-chain-io.h"
#include "dm-chain-write.h"

#include <linux/blkdev.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>

#include "dm-chain-compat.h"

#define DM_MSG_PREFIX "chain"

/* A bio that was mapped leaves chain->inflight in the target's end_io, after all its parts. */
static void chain_io_end(struct chain_io *io, int r)
{
	if (io->done)
		io->done(io, r);
	else
		chain_end_bio(io->bio, r);
}

/* Part of a write in place. Any context. */
static void part_written(struct chain_io *io, int r)
{
	chain_inflight_leave(&io->chain->inflight, io->epoch);
	chain_end_bio(io->bio, r);
}

/* Zeroes @bio from byte @from on. Any context. */
static void zero_tail(struct bio *bio, unsigned int from)
{
	struct bvec_iter iter, start = bio->bi_iter;
	struct bio_vec bv;

	bio_advance_iter(bio, &start, from);
	__bio_for_each_segment(bv, bio, iter, start)
		memzero_bvec(&bv);
}

/* ---- Data in a file ---- */

/*
 * @r bytes came, or an error. Past the end of a file that ends within a sector or a cluster there
 * are zeroes. Context: process, or interrupt (direct I/O).
 */
static void chain_file_done(struct chain_io *io, long r)
{
	const char *what = bio_op(io->bio) == REQ_OP_READ ? "reading" : "writing";
	u64 end = READ_ONCE(io->layer->bytes);

	if (r >= 0 && r < io->bytes) {
		if (bio_op(io->bio) == REQ_OP_READ && io->offset < end &&
		    io->offset + io->bytes > end && io->offset + r >= end) {
			zero_tail(io->bio, r);
		} else {
			DMERR_LIMIT("layer %u: at byte %llu: %s: %ld bytes instead of %u",
				    io->layer->id, io->offset, what, r, io->bytes);
			r = -EIO;
		}
	} else if (r < 0) {
		DMERR_LIMIT("layer %u: at byte %llu: %s %u bytes: error %ld", io->layer->id,
			    io->offset, what, io->bytes, r);
	}
	chain_io_end(io, r < 0 ? r : 0);
}

static void chain_file_complete(struct kiocb *iocb, long r)
{
	chain_file_done(container_of(iocb, struct chain_io, iocb), r);
}

static unsigned int bio_bvecs(struct bio *bio)
{
	struct bvec_iter iter;
	struct bio_vec bv;
	unsigned int n = 0;

	bio_for_each_bvec(bv, bio, iter)
		n++;
	return n;
}

static ssize_t chain_file_call(struct chain_io *io, struct iov_iter *iter)
{
	const struct file_operations *op = io->layer->file->f_op;

	if (iov_iter_rw(iter) == READ)
		return op->read_iter(&io->iocb, iter);
	return op->write_iter(&io->iocb, iter);
}

void chain_file_io(struct chain_io *io, struct bio *bio, u64 pos)
{
	const struct chain_layer_open *l = io->layer;
	struct iov_iter iter, again;
	ssize_t r;
	bool direct;

	io->offset = pos;
	io->bytes = bio->bi_iter.bi_size;
	iov_iter_bvec(&iter, bio_op(bio) == REQ_OP_READ ? ITER_DEST : ITER_SOURCE,
		      __bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter), bio_bvecs(bio), io->bytes);
	iter.iov_offset = bio->bi_iter.bi_bvec_done;
	again = iter;

	direct = l->dio_offset_align && IS_ALIGNED(pos | io->bytes, l->dio_offset_align) &&
		 IS_ALIGNED(iov_iter_alignment(&iter), l->dio_mem_align);

	init_sync_kiocb(&io->iocb, l->file);
	io->iocb.ki_pos = pos;
	if (direct) {
		io->iocb.ki_flags |= IOCB_DIRECT;
		io->iocb.ki_complete = chain_file_complete;
	}
	r = chain_file_call(io, &iter);
	if (direct && (r == -EINVAL || r == -EOPNOTSUPP)) {
		/* It says that it can, but not here: through the page cache, then. */
		io->iocb.ki_flags &= ~IOCB_DIRECT;
		io->iocb.ki_complete = NULL;
		io->iocb.ki_pos = pos;
		r = chain_file_call(io, &again);
	}
	if (r != -EIOCBQUEUED)
		chain_file_complete(&io->iocb, r);
}

/* ---- Data on a device, for the writer ---- */

static void chain_io_endio(struct bio *bio)
{
	struct chain_io *io = bio->bi_private;

	if (bio == io->bio) {
		bio->bi_end_io = io->saved_end_io;
		bio->bi_private = io->saved_private;
	}
	io->done(io, blk_status_to_errno(bio->bi_status));
}

void chain_io_submit(struct chain_io *io, struct bio *bio, struct block_device *bdev, u64 pos)
{
	io->saved_end_io = bio->bi_end_io;
	io->saved_private = bio->bi_private;
	bio->bi_end_io = chain_io_endio;
	bio->bi_private = io;
	bio_set_dev(bio, bdev);
	bio->bi_iter.bi_sector = pos >> SECTOR_SHIFT;
	bio->bi_opf &= ~(REQ_FUA | REQ_PREFLUSH);
	submit_bio_noacct(bio);
}

int chain_read_sync(struct chain *c, sector_t sector, u32 sectors, void *buf)
{
	struct chain_extent x;
	struct bio_vec vec;
	struct bio bio;
	int r = 0, idx;

	idx = chain_inflight_enter(&c->inflight);
	for (; sectors;
	     sector += x.sectors, sectors -= x.sectors, buf += x.sectors << SECTOR_SHIFT) {
		const struct chain_layer_open *l;
		u64 pos;

		r = chain_index_find(c->index, sector, sectors, &x);
		if (r)
			break;
		l = c->layers.by_id[chain_entry_layer(x.entry)];
		pos = chain_entry_pos(x.entry);
		switch (chain_entry_kind(x.entry)) {
		case CHAIN_HOLE:
		case CHAIN_ZERO:
			memset(buf, 0, x.sectors << SECTOR_SHIFT);
			continue;
		case CHAIN_DATA:
		case CHAIN_COMPRESSED:
			break;
		default:
			r = -EIO;
			goto out;
		}
		if (chain_entry_kind(x.entry) == CHAIN_DATA && !l->dev) {
			u64 bytes = (u64)x.sectors << SECTOR_SHIFT, at = pos << SECTOR_SHIFT;
			u64 there = min(bytes, READ_ONCE(l->bytes) - min(at, READ_ONCE(l->bytes)));

			memset(buf + there, 0, bytes - there);
			r = chain_read_exact(l->file, buf, there, at);
			if (r)
				break;
			continue;
		}
		bio_init(&bio, l->dev ? l->dev->bdev : NULL, &vec, 1, REQ_OP_READ);
		__bio_add_page(&bio, virt_to_page(buf), x.sectors << SECTOR_SHIFT,
			       offset_in_page(buf));
		if (chain_entry_kind(x.entry) == CHAIN_DATA) {
			bio.bi_iter.bi_sector = pos;
			r = submit_bio_wait(&bio);
		} else {
			u64 byte = (u64)sector << SECTOR_SHIFT;

			r = chain_inflate_read(c->inflate, l, x.offset, x.bytes,
					       byte & ((1ull << l->cluster_shift) - 1), &bio);
		}
		bio_uninit(&bio);
		if (r)
			break;
	}
out:
	chain_inflight_leave(&c->inflight, idx);
	return r;
}

/* ---- The worker ---- */

static void chain_inflate_work(struct work_struct *work)
{
	struct chain_io *io = container_of(work, struct chain_io, work);
	unsigned int noio = memalloc_noio_save();
	u64 byte = (u64)io->bio->bi_iter.bi_sector << SECTOR_SHIFT;

	chain_io_end(io,
		     chain_inflate_read(io->chain->inflate, io->layer, io->offset, io->bytes,
					byte & ((1ull << io->layer->cluster_shift) - 1), io->bio));
	memalloc_noio_restore(noio);
}

/* Starts the read of all of io->bio, which @x describes. */
static void chain_io_start(struct chain_io *io, const struct chain_extent *x)
{
	struct chain *c = io->chain;
	unsigned int id = chain_entry_layer(x->entry);
	u64 pos = chain_entry_pos(x->entry);

	switch (chain_entry_kind(x->entry)) {
	case CHAIN_HOLE:
	case CHAIN_ZERO:
		zero_fill_bio(io->bio);
		chain_io_end(io, 0);
		return;
	case CHAIN_DATA:
		if (c->layers.bdev[id] && io->done) {
			chain_io_submit(io, io->bio, c->layers.bdev[id], pos << SECTOR_SHIFT);
			return;
		}
		if (c->layers.bdev[id]) {
			bio_set_dev(io->bio, c->layers.bdev[id]);
			io->bio->bi_iter.bi_sector = pos;
			submit_bio_noacct(io->bio);
			return;
		}
		io->layer = c->layers.by_id[id];
		chain_file_io(io, io->bio, pos << SECTOR_SHIFT);
		return;
	case CHAIN_COMPRESSED:
		io->layer = c->layers.by_id[id];
		io->offset = x->offset;
		io->bytes = x->bytes;
		INIT_WORK(&io->work, chain_inflate_work);
		queue_work(c->inflate_wq, &io->work);
		return;
	default:
		chain_io_end(io, -EIO);
	}
}

static bool in_place(const struct chain *c, const struct chain_extent *x)
{
	return chain_entry_kind(x->entry) == CHAIN_DATA &&
	       chain_entry_layer(x->entry) == READ_ONCE(c->active_id);
}

/*
 * Splits the bio where its data lies apart, and starts each part. The last part is the bio itself.
 * What is left of a write from the first piece on that cannot be written in place goes to the
 * writer.
 */
static void chain_io_split(struct chain_io *io)
{
	struct chain *c = io->chain;
	struct bio *bio = io->bio;
	bool write = bio_op(bio) == REQ_OP_WRITE;
	struct chain_extent x;
	int idx = -1, r;

	for (;;) {
		struct chain_io *now = io;
		struct bio *part;

		/*
		 * Reads hold it since they were mapped; a write might have to wait for the writer.
		 */
		if (write)
			idx = chain_inflight_enter(&c->inflight);
		r = chain_index_find(c->index, bio->bi_iter.bi_sector, bio_sectors(bio), &x);
		if (write && (r || !in_place(c, &x))) {
			chain_inflight_leave(&c->inflight, idx);
			if (!r) {
				chain_write_queue(c, bio);
				return;
			}
		}
		if (r) {
			chain_io_end(io, r);
			return;
		}
		if (x.sectors < bio_sectors(bio)) {
			part = bio_split(bio, x.sectors, GFP_NOIO, &c->split_bios);
			bio_chain(part, bio);
			now = chain_io_split_of(part);
			now->chain = c;
			now->bio = part;
			now->done = write ? part_written : NULL;
			now->epoch = -1;
		}
		if (write)
			now->epoch = idx;
		chain_io_start(now, &x);
		if (now == io)
			return;
	}
}

static void chain_io_work(struct work_struct *work)
{
	struct chain_io *io = container_of(work, struct chain_io, work), *next;
	struct llist_node *batch = llist_reverse_order(llist_del_all(io->pending));
	unsigned int noio = memalloc_noio_save();
	struct blk_plug plug;

	/* The work is part of the batch: it may be gone as soon as its bio has been started. */
	blk_start_plug(&plug);
	llist_for_each_entry_safe(io, next, batch, node)
		chain_io_split(io);
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
}

/*
 * Bios that come while a worker is on its way are one batch, under one plug: whoever finds the list
 * empty queues its own work, which takes all that is there then. While that worker blocks, the
 * next to find the list empty gets another one.
 */
void chain_io_queue(struct chain *c, struct bio *bio)
{
	struct chain_io *io = chain_io_of(bio);

	io->chain = c;
	io->bio = bio;
	io->done = NULL;
	io->pending = raw_cpu_ptr(c->pending);
	INIT_WORK(&io->work, chain_io_work);
	if (llist_add(&io->node, io->pending))
		queue_work(c->wq, &io->work);
}

int chain_io_init(struct chain *c)
{
	int r, cpu;

	r = bioset_init(&c->split_bios, CHAIN_SPLIT_BIOS, offsetof(struct chain_split, bio), 0);
	if (r)
		return r;
	c->pending = alloc_percpu(struct llist_head);
	c->wq = alloc_workqueue("dm-chain", WQ_MEM_RECLAIM, 0);
	c->inflate_wq = alloc_workqueue("dm-chain-inflate", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!c->pending || !c->wq || !c->inflate_wq) {
		chain_io_exit(c);
		return -ENOMEM;
	}
	for_each_possible_cpu(cpu)
		init_llist_head(per_cpu_ptr(c->pending, cpu));
	return 0;
}

void chain_io_exit(struct chain *c)
{
	if (c->inflate_wq)
		destroy_workqueue(c->inflate_wq);
	if (c->wq)
		destroy_workqueue(c->wq);
	free_percpu(c->pending);
	c->wq = NULL;
	c->inflate_wq = NULL;
	c->pending = NULL;
	bioset_exit(&c->split_bios);
}
