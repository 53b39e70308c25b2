// SPDX-License-Identifier: GPL-2.0
/*
 * The active layer: log and room. Called by the writer (dm-chain-write.c); never on the hot path.
 */

#include "dm-chain-active.h"

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define DM_MSG_PREFIX "chain"

#define GROW_MIN (8ull << 20) /* bytes, by which a file grows ahead of need: half of what it has */
#define GROW_MAX (64ull << 20)
#define SEGMENT (4ull << 20) /* bytes of a new segment of the log, at least 4 clusters */
#define PAGE_BITS (PAGE_SIZE * 8)

static u64 segment_bytes(const struct chain_active *a)
{
	return max_t(u64, SEGMENT, 4ull << a->geometry.cluster_shift);
}

/* ---- Room ---- */

static void free_bit(struct chain_active *a, u64 host, bool set)
{
	u64 n = host >> a->geometry.cluster_shift;
	unsigned long *page = xa_load(&a->free, n / PAGE_BITS);

	lockdep_assert_held(&a->lock);
	if (!page && !set)
		return;
	if (!page) {
		page = (void *)get_zeroed_page(GFP_NOIO);
		if (page && xa_err(xa_store(&a->free, n / PAGE_BITS, page, GFP_NOIO))) {
			free_page((unsigned long)page);
			page = NULL;
		}
		if (!page)
			return; /* not used again until the index is rebuilt: no harm */
	}
	if (set && !__test_and_set_bit(n % PAGE_BITS, page))
		a->free_clusters++;
	else if (!set && __test_and_clear_bit(n % PAGE_BITS, page))
		a->free_clusters--;
}

u64 chain_active_room(struct chain_active *a)
{
	u64 room;

	mutex_lock(&a->lock);
	room = (a->free_clusters << a->geometry.cluster_shift) + (a->end - a->next);
	mutex_unlock(&a->lock);
	return room;
}

/* A cluster below a->next. */
static u64 get_freed(struct chain_active *a)
{
	unsigned long index, *page;

	xa_for_each(&a->free, index, page) {
		unsigned long bit = find_first_bit(page, PAGE_BITS);

		if (bit < PAGE_BITS) {
			u64 host = (index * PAGE_BITS + bit) << a->geometry.cluster_shift;

			free_bit(a, host, false);
			return host;
		}
		xa_erase(&a->free, index);
		free_page((unsigned long)page);
	}
	return 0;
}

/* @bytes at the end. */
static u64 get_next(struct chain_active *a, u64 bytes)
{
	u64 host = a->next;

	if (a->end - a->next < bytes)
		return 0;
	a->next += bytes;
	return host;
}

u64 chain_active_get(struct chain_active *a)
{
	u64 cluster = 1ull << a->geometry.cluster_shift, host = 0;

	mutex_lock(&a->lock);
	if (a->free_clusters)
		host = get_freed(a);
	mutex_unlock(&a->lock);
	/* It was given back to the file system, which may not have it any more. */
	if (host && !a->fixed) {
		int r = vfs_fallocate(a->layer->opened.file, FALLOC_FL_KEEP_SIZE, host, cluster);

		if (r && r != -EOPNOTSUPP) {
			chain_active_put(a, host);
			host = 0;
		}
	}
	if (host)
		return host;
	mutex_lock(&a->lock);
	host = get_next(a, cluster);
	mutex_unlock(&a->lock);
	return host;
}

void chain_active_put(struct chain_active *a, u64 host)
{
	mutex_lock(&a->lock);
	free_bit(a, host, true);
	mutex_unlock(&a->lock);
}

/* All of [@host, @host + @bytes) is in use. */
static void take(struct chain_active *a, u64 host, u64 bytes)
{
	u64 cluster = 1ull << a->geometry.cluster_shift, at;

	mutex_lock(&a->lock);
	for (; a->next < host; a->next += cluster)
		free_bit(a, a->next, true);
	for (at = host; at < host + bytes && at < a->next; at += cluster)
		free_bit(a, at, false);
	a->next = max(a->next, host + bytes);
	a->end = max(a->end, a->next);
	mutex_unlock(&a->lock);
}

void chain_active_take(struct chain_active *a, u64 host)
{
	take(a, host, 1ull << a->geometry.cluster_shift);
}

u64 chain_active_step(const struct chain_active *a)
{
	u64 step = max_t(u64, clamp(a->end / 2, GROW_MIN, GROW_MAX), 2 * segment_bytes(a));

	return round_up(step, 1ull << a->geometry.cluster_shift);
}

static void set_end(struct chain_active *a, u64 end)
{
	mutex_lock(&a->lock);
	a->end = end;
	mutex_unlock(&a->lock);
	WRITE_ONCE(a->layer->bytes, end);
	WRITE_ONCE(a->geometry.layer_bytes, end);
}

/* A device does not grow by itself, but somebody may have extended it. */
static int look_for_room(struct chain_active *a)
{
	u64 cluster = 1ull << a->geometry.cluster_shift;
	u64 end = round_down(bdev_nr_bytes(a->layer->dev->bdev), cluster);

	if (end <= a->end)
		return -ENOSPC;
	set_end(a, end);
	return 0;
}

int chain_active_grow(struct chain_active *a)
{
	u64 step = chain_active_step(a);
	int r;

	if (a->fixed)
		return look_for_room(a);
	/* Less, when the file system has not so much left. */
	for (;; step = round_up(step / 2, 1ull << a->geometry.cluster_shift)) {
		r = vfs_fallocate(a->layer->opened.file, 0, a->end, step);
		if (r == -EOPNOTSUPP)
			r = chain_truncate(&a->layer->opened, a->end + step);
		if ((r != -ENOSPC && r != -EDQUOT) || step == 1ull << a->geometry.cluster_shift)
			break;
	}
	if (r)
		return r == -EDQUOT ? -ENOSPC : r;
	set_end(a, a->end + step);
	return 0;
}

void chain_active_each_free(struct chain_active *a, void (*fn)(void *, u64, u64), void *data)
{
	unsigned int shift = a->geometry.cluster_shift;
	unsigned long index, *page, from, to;

	mutex_lock(&a->lock);
	xa_for_each(&a->free, index, page) {
		for (to = 0;;) {
			from = find_next_bit(page, PAGE_BITS, to);
			if (from >= PAGE_BITS)
				break;
			to = find_next_zero_bit(page, PAGE_BITS, from);
			fn(data, (index * PAGE_BITS + from) << shift, (u64)(to - from) << shift);
		}
	}
	mutex_unlock(&a->lock);
}

/* ---- Writing the log ---- */

int chain_active_flush(struct chain_active *a)
{
	if (a->layer->dev)
		return blkdev_issue_flush(a->layer->dev->bdev);
	return vfs_fsync_range(a->layer->opened.file, 0, LLONG_MAX, 1);
}

/* One bio; @bytes: whole blocks of the device. */
static int bdev_io(struct block_device *bdev, blk_opf_t opf, const void *buf, u32 bytes, u64 offset)
{
	struct bio *bio = bio_alloc(bdev, DIV_ROUND_UP(bytes, PAGE_SIZE), opf, GFP_NOIO);
	u32 at, n;
	int r;

	bio->bi_iter.bi_sector = offset >> SECTOR_SHIFT;
	for (at = 0; at < bytes; at += n) {
		const void *p = buf + at;

		n = min_t(u32, bytes - at, PAGE_SIZE - offset_in_page(p));
		__bio_add_page(bio, is_vmalloc_addr(p) ? vmalloc_to_page(p) : virt_to_page(p), n,
			       offset_in_page(p));
	}
	r = submit_bio_wait(bio);
	bio_put(bio);
	return r;
}

int chain_active_write(struct chain_active *a, const void *buf, u32 bytes, u64 offset)
{
	int r;

	if (a->layer->dev) /* with all before it, and itself, durable */
		return bdev_io(a->layer->dev->bdev,
			       REQ_OP_WRITE | REQ_SYNC | REQ_META | REQ_PREFLUSH | REQ_FUA, buf,
			       bytes, offset);
	r = chain_write_exact(a->layer->opened.file, buf, bytes, offset);
	if (!r)
		r = vfs_fsync_range(a->layer->opened.file, offset, offset + bytes - 1, 1);
	return r;
}

int chain_active_read(struct chain_active *a, void *buf, u32 bytes, u64 offset)
{
	if (a->layer->dev)
		return bdev_io(a->layer->dev->bdev, REQ_OP_READ | REQ_META, buf, bytes, offset);
	return chain_read_exact(a->layer->opened.file, buf, bytes, offset);
}

static int write_blocks(struct chain_active *a, u32 blocks, u64 offset, bool first)
{
	u32 bytes = blocks * CHAIN_LOG_BLOCK;
	int r;

	if (!blocks)
		return 0;
	/* The first write of a commit waits for the data, in the device's cache too. */
	r = first && !a->layer->dev ? chain_active_flush(a) : 0;
	return r ? r : chain_active_write(a, a->buffer, bytes, offset);
}

static struct chain_log_block *start_block(struct chain_active *a, u32 n, enum chain_log_type type)
{
	struct chain_log_block *b = (void *)(a->buffer + n * CHAIN_LOG_BLOCK);

	memset(b, 0, sizeof(*b));
	b->magic = cpu_to_le32(CHAIN_LOG_BLOCK_MAGIC);
	memcpy(b->salt, a->geometry.salt, sizeof(b->salt));
	b->sequence = cpu_to_le64(a->log.sequence++);
	b->epoch = cpu_to_le32(a->epoch);
	b->type = type;
	a->log.next += CHAIN_LOG_BLOCK;
	a->log_blocks++;
	return b;
}

static void end_block(struct chain_log_block *b)
{
	b->crc = cpu_to_le32(chain_crc32c_more(0, (u8 *)b + 8, CHAIN_LOG_BLOCK - 8));
}

/* Room for the next segment, before the one in use is full. */
static int get_spare(struct chain_active *a)
{
	int r = 0;

	if (a->spare)
		return 0;
	mutex_lock(&a->lock);
	a->spare = get_next(a, segment_bytes(a));
	mutex_unlock(&a->lock);
	if (a->spare)
		return 0;
	r = chain_active_grow(a);
	if (r)
		return r;
	mutex_lock(&a->lock);
	a->spare = get_next(a, segment_bytes(a));
	mutex_unlock(&a->lock);
	return a->spare ? 0 : -ENOSPC;
}

bool chain_log_has_room(const struct chain_active *a)
{
	const struct chain_log_position *log = &a->log;
	u64 end = READ_ONCE(log->segment) + READ_ONCE(log->segment_bytes);

	return READ_ONCE(a->spare) || end - READ_ONCE(log->next) >= log->segment_bytes / 4;
}

void chain_log_prepare(struct chain_active *a)
{
	u64 left = a->log.segment + a->log.segment_bytes - a->log.next, at;
	u32 n = CHAIN_LOG_BUFFER * CHAIN_LOG_BLOCK;

	if (a->spare || left > a->log.segment_bytes / 2 || get_spare(a) || a->layer->dev)
		return;
	memset(a->buffer, 0, n);
	for (at = 0; at < segment_bytes(a); at += n)
		if (chain_write_exact(a->layer->opened.file, a->buffer, n, a->spare + at))
			return; /* the log's own write will tell */
}

int chain_log_append(struct chain_active *a, const struct chain_log_record *records, u32 count,
		     enum chain_log_type last, const void *body, u32 body_bytes)
{
	struct chain_log_position *log = &a->log;
	u64 start = log->next;
	bool first = true;
	u32 n = 0;
	int r;

	if (WARN_ON_ONCE(count > CHAIN_LOG_BATCH))
		return -EINVAL;
	do {
		struct chain_log_block *b;
		u32 some = min_t(u32, count, CHAIN_LOG_MAX_RECORDS);

		if (log->next + CHAIN_LOG_BLOCK >= log->segment + log->segment_bytes) {
			struct chain_log_next *next;

			r = get_spare(a);
			if (r)
				return r;
			b = start_block(a, n++, CHAIN_LOG_NEXT);
			next = (void *)b->body;
			next->offset = cpu_to_le64(a->spare);
			next->bytes = cpu_to_le64(segment_bytes(a));
			end_block(b);
			r = write_blocks(a, n, start, first);
			if (r)
				return r;
			first = false;
			n = 0;
			start = a->spare;
			log->segment = start;
			log->segment_bytes = segment_bytes(a);
			log->next = start;
			a->spare = 0;
			continue;
		}
		if (count || !last) {
			b = start_block(a, n++, CHAIN_LOG_RECORDS);
			b->count = cpu_to_le16(some);
			memcpy(b->body, records, some * sizeof(*records));
			records += some;
			count -= some;
		} else {
			b = start_block(a, n++, last);
			memcpy(b->body, body, body_bytes);
			last = 0;
		}
		end_block(b);
	} while (count || last);
	log->epoch = a->epoch;
	return write_blocks(a, n, start, first);
}

/* ---- Reading the log ---- */

int chain_log_replay(struct chain_active *a, const char *path,
		     int (*fn)(void *, const struct chain_log_block *), void *data)
{
	struct chain_log_position *log = &a->log;
	struct chain_log_block *b = (void *)a->buffer;
	struct chain_fault fault;
	u64 seen = 0; /* bytes of the buffer's blocks: from byte @from of the layer */
	u64 from = 0;
	int r;

	while (log->next < log->segment + log->segment_bytes) {
		if (log->next < from || log->next >= from + seen) {
			from = log->next;
			seen = min_t(u64, CHAIN_LOG_BUFFER * CHAIN_LOG_BLOCK,
				     log->segment + log->segment_bytes - from);
			r = chain_active_read(a, a->buffer, seen, from);
			if (r) {
				DMERR("%s: at byte %llu: cannot read the log: error %d", path, from,
				      r);
				return r;
			}
		}
		b = (void *)(a->buffer + (log->next - from));
		if (!chain_check_log_block(&a->geometry, b, log->sequence, log->epoch, &fault)) {
			if (!fault.what)
				break;
			DMERR("%s: at byte %llu: %s is %llu, expected %s%s%llu", path,
			      log->next + fault.at, fault.what, fault.found, fault.bound,
			      *fault.bound ? " " : "", fault.expected);
			return -EIO;
		}
		log->sequence++;
		log->epoch = le32_to_cpu(b->epoch);
		log->next += CHAIN_LOG_BLOCK;
		if (b->type == CHAIN_LOG_NEXT) {
			const struct chain_log_next *next = (const void *)b->body;

			log->segment = le64_to_cpu(next->offset);
			log->segment_bytes = le64_to_cpu(next->bytes);
			log->next = log->segment;
			take(a, log->segment, log->segment_bytes);
			continue;
		}
		r = fn(data, b);
		if (r)
			return r;
	}
	a->epoch = log->epoch + 1;
	return 0;
}

/* ---- Opening and closing ---- */

struct chain_active *chain_active_open(struct chain_layer_open *l, const char *path,
				       unsigned int cluster_shift,
				       const struct chain_log_position *at, u64 next, u64 clusters,
				       char **error)
{
	struct chain_log_head *head;
	struct chain_fault fault;
	struct chain_active *a;
	int r = -ENOMEM;
	u64 features;

	*error = "Cannot allocate the active layer";
	a = kzalloc(sizeof(*a), GFP_KERNEL);
	if (!a)
		return ERR_PTR(-ENOMEM);
	mutex_init(&a->lock);
	xa_init(&a->free);
	a->layer = l;
	a->fixed = l->dev;
	a->buffer = kvmalloc(CHAIN_LOG_BUFFER * CHAIN_LOG_BLOCK, GFP_KERNEL);
	if (!a->buffer)
		goto bad;

	*error = "Cannot read the active layer";
	r = chain_active_read(a, a->buffer, CHAIN_LOG_BLOCK, 0);
	if (r)
		goto bad_read;
	features = be64_to_cpup((__be64 *)(a->buffer + 72));
	if (memcmp(a->buffer, "QFI\xfb", 4) || !(features & CHAIN_QCOW2_IN_USE)) {
		DMERR("%s: not an active layer of a chain: its header has not the in-use bit",
		      path);
		*error = "The active layer was sealed, or is not one";
		r = -ESTALE;
		goto bad;
	}
	head = (void *)a->buffer;
	r = chain_active_read(a, head, sizeof(*head), 1ull << cluster_shift);
	if (r)
		goto bad_read;
	if (!chain_check_log_head(head, cluster_shift, l->bytes, &fault)) {
		DMERR("%s: at byte %llu: %s is %llu, expected %s%s%llu", path,
		      (1ull << cluster_shift) + fault.at, fault.what, fault.found, fault.bound,
		      *fault.bound ? " " : "", fault.expected);
		*error = "The active layer has a damaged log";
		r = -EINVAL;
		goto bad;
	}
	memcpy(a->uuid, head->uuid, sizeof(a->uuid));
	memcpy(a->geometry.salt, head->uuid, sizeof(a->geometry.salt));
	a->sectors = le64_to_cpu(head->sectors);
	a->geometry.cluster_shift = cluster_shift;
	a->geometry.unit_shift = head->unit_shift;
	a->geometry.clusters = clusters;
	a->geometry.layer_bytes = l->bytes;
	if (at) {
		a->log = *at;
	} else {
		a->log.segment = 1ull << cluster_shift;
		a->log.segment_bytes = le64_to_cpu(head->segment_bytes);
		a->log.next = a->log.segment + CHAIN_LOG_BLOCK;
		a->log.sequence = 1;
		a->log.epoch = 0;
	}
	a->epoch = a->log.epoch + 1;
	a->end = round_down(l->bytes, 1ull << cluster_shift);
	a->next = next ? next : a->log.segment + a->log.segment_bytes;
	r = chain_claim_log(&l->opened, a->uuid, path, error);
	if (r)
		goto bad;
	return a;

bad_read:
	DMERR("%s: cannot read the head of its log: error %d", path, r);
bad:
	chain_active_close(a);
	return ERR_PTR(r);
}

/*
 * The block before the place where the log goes on must be there: otherwise the chain file knows
 * more than the layer, which was overwritten, or is an older one of the same name.
 */
int chain_active_check(struct chain_active *a, const char *path, char **error)
{
	const struct chain_log_position *log = &a->log;
	struct chain_log_block *b = (void *)a->buffer;
	struct chain_fault fault;
	int r;

	if (a->end < a->next || a->end < log->segment + log->segment_bytes) {
		DMERR("%s: %llu bytes, the chain file counts on %llu: recover the chain", path,
		      a->layer->bytes, max(a->next, log->segment + log->segment_bytes));
		*error = "The active layer is shorter than it was";
		return -ESTALE;
	}
	/* The first block of a segment follows one in another segment, or none. */
	if (log->sequence <= 1 || log->next <= log->segment)
		return 0;
	r = chain_active_read(a, b, sizeof(*b), log->next - CHAIN_LOG_BLOCK);
	if (r) {
		DMERR("%s: at byte %llu: cannot read the log: error %d", path,
		      log->next - CHAIN_LOG_BLOCK, r);
		*error = "Cannot read the log of the active layer";
		return r;
	}
	if (chain_check_log_block(&a->geometry, b, log->sequence - 1, 0, &fault))
		return 0;
	DMERR("%s: at byte %llu: no block %llu of the log, where the chain file goes on", path,
	      log->next - CHAIN_LOG_BLOCK, log->sequence - 1);
	DMERR("%s: the active layer is an older one, or was overwritten: recover the chain", path);
	*error = "The active layer has less than the chain file says";
	return -ESTALE;
}

void chain_active_close(struct chain_active *a)
{
	unsigned long index;
	void *page;

	xa_for_each(&a->free, index, page)
		free_page((unsigned long)page);
	xa_destroy(&a->free);
	kfree(a->known);
	kvfree(a->buffer);
	kfree(a);
}
