// SPDX-License-Identifier: GPL-2.0
/*
 * A bio generator: what a bio costs inside the kernel, which a program cannot see (on User Mode Linux
 * a system call costs more than the whole path below it).
 *
 *	echo "DEVICE BIOS BYTES SEED" > /sys/module/dmchain_biogen/parameters/run
 *	cat /sys/module/dmchain_biogen/parameters/run
 *
 * submits BIOS reads of 4 KiB at random 4 KiB places of the first BYTES bytes of DEVICE, one after
 * the other, and shows the nanoseconds for each. Everything but the submission is done outside
 * the time: places are drawn before, the bio and its page are used again. Meant for devices that complete
 * at once (null_blk with submit_queues=1, queue_mode=0, irqmode=0).
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/slab.h>

static DEFINE_MUTEX(lock);	/* one run at a time; covers result */
static char result[64] = "-\n";

static void biogen_end(struct bio *bio)
{
	complete(bio->bi_private);
}

/* Submits one read for each of the @count places and waits for it; returns nanoseconds for all. */
static s64 biogen_reads(struct block_device *bdev, struct page *page, const u32 *place, u32 count,
			int *error)
{
	struct completion done;
	struct bio_vec vec;
	struct bio bio;
	ktime_t start;
	u32 i;

	init_completion(&done);
	start = ktime_get();
	for (i = 0; i < count; i++) {
		bio_init(&bio, bdev, &vec, 1, REQ_OP_READ);
		__bio_add_page(&bio, page, PAGE_SIZE, 0);
		bio.bi_iter.bi_sector = (sector_t)place[i] << (PAGE_SHIFT - SECTOR_SHIFT);
		bio.bi_private = &done;
		bio.bi_end_io = biogen_end;
		reinit_completion(&done);
		submit_bio(&bio);
		wait_for_completion(&done);
		if (bio.bi_status)
			*error = blk_status_to_errno(bio.bi_status);
		bio_uninit(&bio);
	}
	return ktime_to_ns(ktime_sub(ktime_get(), start));
}

static int biogen_run(const char *path, u32 count, u64 bytes, u32 seed)
{
	struct rnd_state rnd;
	struct page *page;
	struct file *file;
	int error = 0;
	u32 *place, i;
	s64 ns;

	file = filp_open(path, O_RDONLY | O_LARGEFILE, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	place = kvmalloc_array(count, sizeof(*place), GFP_KERNEL);
	page = alloc_page(GFP_KERNEL);
	if (!S_ISBLK(file_inode(file)->i_mode)) {
		error = -ENOTBLK;
	} else if (!place || !page) {
		error = -ENOMEM;
	} else if (bytes > i_size_read(file->f_mapping->host)) {
		error = -ERANGE;
	} else {
		prandom_seed_state(&rnd, seed);
		for (i = 0; i < count; i++)
			place[i] = prandom_u32_state(&rnd) % (u32)(bytes >> PAGE_SHIFT);
		ns = biogen_reads(I_BDEV(file->f_mapping->host), page, place, count, &error);
		snprintf(result, sizeof(result), "%llu.%02llu\n", div_u64(ns, count),
			 div_u64(ns * 100, count) % 100);
	}
	if (page)
		__free_page(page);
	kvfree(place);
	fput(file);
	return error;
}

static int run_set(const char *text, const struct kernel_param *kp)
{
	unsigned int count, seed;
	unsigned long long bytes;
	char path[128];
	int r;

	if (sscanf(text, "%127s %u %llu %u", path, &count, &bytes, &seed) != 4 || !count ||
	    bytes < PAGE_SIZE || bytes >> PAGE_SHIFT > U32_MAX)
		return -EINVAL;
	mutex_lock(&lock);
	r = biogen_run(path, count, bytes, seed);
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
MODULE_PARM_DESC(run, "DEVICE BIOS BYTES SEED: starts a run; reads as ns for each bio");

MODULE_DESCRIPTION("bio generator of dm-chain's benchmarks");
MODULE_AUTHOR("dm-chain developers");
MODULE_LICENSE("GPL");
