// SPDX-License-Identifier: GPL-2.0
/*
 * A bio generator: what I/O costs inside the kernel, which a program cannot see (on User Mode Linux
 * a system call costs more than the whole path below it).
 *
 *	echo "DEVICE BIOS BYTES SEED DEPTH SIZE [read|write|flush [THREADS]]" >
 *		/sys/module/dmchain_biogen/parameters/run
 *	cat /sys/module/dmchain_biogen/parameters/run
 *
 * submits BIOS reads (or writes) of SIZE bytes (4096 to 4 MiB, a power of two) in the first BYTES
 * bytes of DEVICE, at most DEPTH at a time, and shows the nanoseconds for each. SEED draws the
 * places, multiples of SIZE; 0: one after the other. With "flush" DEPTH threads write, and each
 * waits for its write, flushes, and waits, before it goes on. THREADS (1 without it) share the
 * reads or writes, each on a processor of its own, with DEPTH of them at a time. Places are drawn
 * and memory is allocated before the clock starts.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define DEPTH_MAX 256
#define THREADS_MAX 16
#define PIECE_MAX 65536 /* bytes of contiguous memory */
#define PIECES_MAX ((4u << 20) / PIECE_MAX)

struct slot {
	struct bio bio;
	struct bio_vec vec[PIECES_MAX];
	struct page *page[PIECES_MAX];
	struct completion done;
	bool under_way;
};

struct job {
	struct block_device *bdev;
	enum req_op op;
	bool flush;
	u32 *place; /* in units of size */
	u32 count, depth, threads;
	u32 size, pieces, order; /* bytes; a piece is PAGE_SIZE << order */
	struct slot *slot; /* depth for each thread */
};

static DEFINE_MUTEX(lock); /* one run at a time; covers result */
static char result[64] = "-\n";

static void biogen_end(struct bio *bio)
{
	complete(bio->bi_private);
}

static int biogen_wait(struct slot *s)
{
	int r;

	wait_for_completion(&s->done);
	r = blk_status_to_errno(s->bio.bi_status);
	bio_uninit(&s->bio);
	s->under_way = false;
	return r;
}

static void biogen_bio(const struct job *j, struct slot *s, u32 place)
{
	u32 p;

	bio_init(&s->bio, j->bdev, s->vec, j->pieces,
		 j->op == REQ_OP_READ ? REQ_OP_READ : REQ_OP_WRITE | REQ_SYNC | REQ_IDLE);
	for (p = 0; p < j->pieces; p++)
		__bio_add_page(&s->bio, s->page[p], PAGE_SIZE << j->order, 0);
	s->bio.bi_iter.bi_sector = (sector_t)place * (j->size >> SECTOR_SHIFT);
}

struct flusher {
	struct work_struct work;
	const struct job *job;
	u32 number;
	int result;
};

/* One of the writers: its share of the places, each made durable before the next. */
static void biogen_flusher(struct work_struct *work)
{
	struct flusher *f = container_of(work, struct flusher, work);
	const struct job *j = f->job;
	struct slot *s = &j->slot[f->number];
	u32 i;
	int r;

	for (i = f->number; i < j->count; i += j->depth) {
		biogen_bio(j, s, j->place[i]);
		r = submit_bio_wait(&s->bio);
		bio_uninit(&s->bio);
		if (!r)
			r = blkdev_issue_flush(j->bdev);
		f->result = r ? r : f->result;
	}
}

/* The same for "flush". */
static s64 biogen_flushes(const struct job *j)
{
	struct workqueue_struct *wq = alloc_workqueue("biogen", WQ_UNBOUND, DEPTH_MAX);
	struct flusher *f = kcalloc(j->depth, sizeof(*f), GFP_KERNEL);
	s64 ns = -ENOMEM;
	int error = 0;
	ktime_t start;
	u32 i;

	if (!wq || !f)
		goto out;
	start = ktime_get();
	for (i = 0; i < j->depth; i++) {
		f[i].job = j;
		f[i].number = i;
		INIT_WORK(&f[i].work, biogen_flusher);
		queue_work(wq, &f[i].work);
	}
	flush_workqueue(wq);
	ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	for (i = 0; i < j->depth; i++)
		error = f[i].result ? f[i].result : error;
out:
	kfree(f);
	if (wq)
		destroy_workqueue(wq);
	return error ? error : ns;
}

/* Submits them all and waits for them; returns the nanoseconds, or the last error. */
static s64 biogen_batch(const struct job *j)
{
	ktime_t start = ktime_get();
	int error = 0, r;
	u32 i;
	s64 ns;

	for (i = 0; i < j->count; i++) {
		struct slot *s = &j->slot[i % j->depth];

		if (s->under_way) {
			r = biogen_wait(s);
			error = r ? r : error;
		}
		reinit_completion(&s->done);
		biogen_bio(j, s, j->place[i]);
		s->bio.bi_private = &s->done;
		s->bio.bi_end_io = biogen_end;
		s->under_way = true;
		submit_bio(&s->bio);
	}
	for (i = 0; i < j->depth; i++) {
		if (!j->slot[i].under_way)
			continue;
		r = biogen_wait(&j->slot[i]);
		error = r ? r : error;
	}
	ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	return error ? error : ns;
}

struct part {
	struct work_struct work;
	struct job job; /* its share of the whole one */
	s64 ns;
};

static void biogen_part(struct work_struct *work)
{
	struct part *p = container_of(work, struct part, work);

	p->ns = biogen_batch(&p->job);
}

/* The same by several threads at a time. */
static s64 biogen_threads(const struct job *j)
{
	struct workqueue_struct *wq = alloc_workqueue("biogen", WQ_CPU_INTENSIVE, 1);
	struct part *part = kcalloc(j->threads, sizeof(*part), GFP_KERNEL);
	u32 each = j->count / j->threads, t;
	s64 ns = -ENOMEM, error = 0;
	ktime_t start;

	if (!wq || !part)
		goto out;
	cpus_read_lock();
	start = ktime_get();
	for (t = 0; t < j->threads; t++) {
		part[t].job = *j;
		part[t].job.place += t * each;
		part[t].job.count = each;
		part[t].job.slot += t * j->depth;
		INIT_WORK(&part[t].work, biogen_part);
		queue_work_on(cpumask_nth(t % num_online_cpus(), cpu_online_mask), wq,
			      &part[t].work);
	}
	flush_workqueue(wq);
	ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	cpus_read_unlock();
	for (t = 0; t < j->threads; t++)
		error = min(part[t].ns, error);
out:
	kfree(part);
	if (wq)
		destroy_workqueue(wq);
	return error ? error : ns;
}

static int biogen_alloc(struct job *j)
{
	u32 slots = j->depth * j->threads, i, p;

	j->place = kvmalloc_array(j->count, sizeof(*j->place), GFP_KERNEL);
	j->slot = kvcalloc(slots, sizeof(*j->slot), GFP_KERNEL);
	if (!j->place || !j->slot)
		return -ENOMEM;
	for (i = 0; i < slots; i++) {
		init_completion(&j->slot[i].done);
		for (p = 0; p < j->pieces; p++) {
			j->slot[i].page[p] = alloc_pages(GFP_KERNEL | __GFP_COMP, j->order);
			if (!j->slot[i].page[p])
				return -ENOMEM;
		}
	}
	return 0;
}

static void biogen_free(struct job *j)
{
	u32 i, p;

	for (i = 0; j->slot && i < j->depth * j->threads; i++)
		for (p = 0; p < j->pieces; p++)
			if (j->slot[i].page[p])
				__free_pages(j->slot[i].page[p], j->order);
	kvfree(j->slot);
	kvfree(j->place);
}

static int biogen_run(struct job *j, const char *path, u64 bytes, u32 seed)
{
	u32 places = div_u64(bytes, j->size), i;
	struct rnd_state rnd;
	struct file *file;
	s64 ns;
	int r;

	file = filp_open(path, (j->op == REQ_OP_READ ? O_RDONLY : O_RDWR) | O_LARGEFILE, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	r = -ENOTBLK;
	if (!S_ISBLK(file_inode(file)->i_mode))
		goto out;
	r = -ERANGE;
	if (bytes > i_size_read(file->f_mapping->host) || !places)
		goto out;
	r = biogen_alloc(j);
	if (r)
		goto out;
	prandom_seed_state(&rnd, seed);
	for (i = 0; i < j->count; i++)
		j->place[i] = (seed ? prandom_u32_state(&rnd) : i) % places;
	j->bdev = I_BDEV(file->f_mapping->host);
	if (j->flush)
		ns = biogen_flushes(j);
	else if (j->threads > 1)
		ns = biogen_threads(j);
	else
		ns = biogen_batch(j);
	r = min_t(s64, ns, 0);
	if (!r)
		snprintf(result, sizeof(result), "%llu.%02llu\n", div_u64(ns, j->count),
			 div_u64(ns * 100, j->count) % 100);
out:
	biogen_free(j);
	fput(file);
	return r;
}

static int run_set(const char *text, const struct kernel_param *kp)
{
	unsigned int seed;
	struct job j = { .threads = 1 };
	unsigned long long bytes;
	char path[128], op[8] = "read";
	int r;

	if (sscanf(text, "%127s %u %llu %u %u %u %7s %u", path, &j.count, &bytes, &seed, &j.depth,
		   &j.size, op, &j.threads) < 6 ||
	    !j.count || !j.depth || j.depth > DEPTH_MAX || bytes >> PAGE_SHIFT > U32_MAX ||
	    !j.threads || j.threads > THREADS_MAX || j.count % j.threads ||
	    j.size < PAGE_SIZE || j.size > PIECES_MAX * PIECE_MAX || !is_power_of_2(j.size))
		return -EINVAL;
	j.flush = !strcmp(op, "flush");
	j.op = strcmp(op, "read") ? REQ_OP_WRITE : REQ_OP_READ;
	if (j.op == REQ_OP_WRITE && !j.flush && strcmp(op, "write"))
		return -EINVAL;
	if (j.flush && j.threads > 1)
		return -EINVAL;
	j.order = ilog2(min_t(u32, j.size, PIECE_MAX)) - PAGE_SHIFT;
	j.pieces = j.size / (PAGE_SIZE << j.order);
	mutex_lock(&lock);
	r = biogen_run(&j, path, bytes, seed);
	mutex_unlock(&lock);
	return r;
}

static int run_get(char *buffer, const struct kernel_param *kp)
{
	int n;

	mutex_lock(&lock);
	n = scnprintf(buffer, PAGE_SIZE, "%s", result);
	mutex_unlock(&lock);
	return n;
}

static const struct kernel_param_ops run_ops = { .set = run_set, .get = run_get };
module_param_cb(run, &run_ops, NULL, 0600);
MODULE_PARM_DESC(run, "DEVICE BIOS BYTES SEED DEPTH SIZE [OP [THREADS]]: runs; reads as ns each");

MODULE_DESCRIPTION("bio generator of dm-chain's benchmarks");
MODULE_AUTHOR("dm-chain developers");
MODULE_LICENSE("GPL");
