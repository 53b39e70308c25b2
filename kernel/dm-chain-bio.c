// SPDX-License-Identifier: GPL-2.0
/*
 * Workers for bios, and their data in files and on devices. See docs/target.md for why files are
 * never read or written in the submitter's context: it may hold locks of a file system, and a file
 * system below may wait for I/O that submit_bio_noacct() holds back until the submitter returns.
 */

#include "dm-chain-bio.h"

#include <linux/blkdev.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>

#include "dm-chain-compat.h"

#define DM_MSG_PREFIX "chain"

/* ---- Workers ---- */

static void chain_io_work(struct work_struct *work)
{
	struct chain_io *io = container_of(work, struct chain_io, work), *next;
	struct llist_node *batch = llist_reverse_order(llist_del_all(io->pending));
	unsigned int noio = memalloc_noio_save();
	struct blk_plug plug;

	/* The work is part of the batch: it may be gone as soon as its bio has been started. */
	blk_start_plug(&plug);
	llist_for_each_entry_safe(io, next, batch, node)
		io->start(io);
	blk_finish_plug(&plug);
	memalloc_noio_restore(noio);
}

/*
 * Bios that come while a worker is on its way are one batch, under one plug: whoever finds the list
 * empty queues its own work, which takes all that is there then. While that worker blocks, the
 * next to find the list empty gets another one.
 */
void chain_io_queue(struct chain *c, struct bio *bio, const struct chain_extent *found,
		    void (*start)(struct chain_io *io))
{
	struct chain_io *io = chain_io_of(bio);

	io->chain = c;
	io->bio = bio;
	io->done = NULL;
	io->start = start;
	if (found)
		io->found = *found;
	else
		io->found.sectors = 0;
	io->pending = raw_cpu_ptr(c->pending);
	INIT_WORK(&io->work, chain_io_work);
	if (llist_add(&io->node, io->pending))
		queue_work(c->wq, &io->work);
}

struct chain_io *chain_io_split(struct chain_io *io, u32 sectors,
				void (*done)(struct chain_io *io, int r))
{
	struct bio *part = bio_split(io->bio, sectors, GFP_NOIO, &io->chain->split_bios);
	struct chain_io *now = chain_io_split_of(part);

	bio_chain(part, io->bio);
	now->chain = io->chain;
	now->bio = part;
	now->done = done;
	now->epoch = -1;
	return now;
}

/* ---- Data in a file ---- */

/* Zeroes @bio from byte @from on. Any context. */
static void zero_tail(struct bio *bio, unsigned int from)
{
	struct bvec_iter iter, start = bio->bi_iter;
	struct bio_vec bv;

	bio_advance_iter(bio, &start, from);
	__bio_for_each_segment(bv, bio, iter, start)
		memzero_bvec(&bv);
}

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
	if (iocb->ki_flags & IOCB_WRITE)
		kiocb_end_write(iocb);
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
	const struct file_operations *op = io->layer->opened.file->f_op;

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

	init_sync_kiocb(&io->iocb, l->opened.file);
	io->iocb.ki_pos = pos;
	if (iov_iter_rw(&iter) == WRITE) {
		/* Who freezes the file system waits for this write, or this write for the thaw. */
		io->iocb.ki_flags |= IOCB_WRITE;
		kiocb_start_write(&io->iocb);
	}
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

/* ---- Data on a device ---- */

static void chain_device_done(struct bio *bio)
{
	struct chain_io *io = bio->bi_private;

	if (bio == io->bio) {
		bio->bi_end_io = io->saved_end_io;
		bio->bi_private = io->saved_private;
	}
	io->done(io, blk_status_to_errno(bio->bi_status));
}

void chain_device_io(struct chain_io *io, struct bio *bio, struct block_device *bdev, u64 pos)
{
	io->saved_end_io = bio->bi_end_io;
	io->saved_private = bio->bi_private;
	bio->bi_end_io = chain_device_done;
	bio->bi_private = io;
	bio_set_dev(bio, bdev);
	bio->bi_iter.bi_sector = pos >> SECTOR_SHIFT;
	bio->bi_opf &= ~(REQ_FUA | REQ_PREFLUSH);
	submit_bio_noacct(bio);
}

void chain_layer_io(struct chain_io *io, unsigned int id, u64 pos)
{
	struct chain *c = io->chain;
	struct block_device *bdev = c->layers.bdev[id];

	if (!bdev) {
		io->layer = c->layers.by_id[id];
		chain_file_io(io, io->bio, pos);
	} else if (io->done) {
		chain_device_io(io, io->bio, bdev, pos);
	} else {
		bio_set_dev(io->bio, bdev);
		io->bio->bi_iter.bi_sector = pos >> SECTOR_SHIFT;
		submit_bio_noacct(io->bio);
	}
}

/* ---- Opening and closing ---- */

int chain_bio_init(struct chain *c)
{
	int r, cpu;

	r = bioset_init(&c->split_bios, CHAIN_SPLIT_BIOS, offsetof(struct chain_split, bio), 0);
	if (r)
		return r;
	c->pending = alloc_percpu(struct llist_head);
	c->wq = alloc_workqueue("dm-chain", WQ_MEM_RECLAIM | CHAIN_WQ_BOUND, 0);
	c->inflate_wq = alloc_workqueue("dm-chain-inflate", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!c->pending || !c->wq || !c->inflate_wq) {
		chain_bio_exit(c);
		return -ENOMEM;
	}
	for_each_possible_cpu(cpu)
		init_llist_head(per_cpu_ptr(c->pending, cpu));
	return 0;
}

void chain_bio_exit(struct chain *c)
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
