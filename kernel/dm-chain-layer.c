// SPDX-License-Identifier: GPL-2.0
/*
 * Opening layers, and making sure that they are what the index was built from and stay so.
 * Called by the constructor and the destructor only.
 */

#include "dm-chain-layer.h"
#include "dm-chain-log.h"

#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/stat.h>

#include "dm-chain-compat.h"

#define DM_MSG_PREFIX "chain"

/* Alignment that direct I/O on @l->file needs; none is known: that of the device it lies on. */
static void chain_layer_dio(struct chain_layer_open *l)
{
	struct super_block *sb = file_inode(l->file)->i_sb;
	struct kstat stat;

	if (!(l->file->f_mode & FMODE_CAN_ODIRECT))
		return;
	l->dio_mem_align = SECTOR_SIZE;
	l->dio_offset_align = sb->s_bdev ? bdev_logical_block_size(sb->s_bdev) : PAGE_SIZE;
	if (vfs_getattr(&l->file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT))
		return;
	if (!(stat.result_mask & STATX_DIOALIGN))
		return;
	l->dio_mem_align = stat.dio_mem_align;
	l->dio_offset_align = stat.dio_offset_align;
}

static int chain_layer_open_file(struct chain_layer_open *l, const struct chain_layer *rec,
				 const char *path, char **error)
{
	struct inode *inode = file_inode(l->file);
	struct timespec64 mtime = chain_inode_mtime(inode);
	int r;

	if (!S_ISREG(inode->i_mode)) {
		DMERR("layer %u (%s): not a regular file", l->id, path);
		*error = "A layer is not the regular file it was";
		return -EINVAL;
	}
	if (inode->i_ino != le64_to_cpu(rec->inode)) {
		DMERR("layer %u (%s): inode %lu, the index was built from %llu: create it anew",
		      l->id, path, inode->i_ino, le64_to_cpu(rec->inode));
		*error = "A layer is another file than when the index was built";
		return -ESTALE;
	}
	if (l->unsealed) {
		l->bytes = i_size_read(inode);
		chain_layer_dio(l);
		return 0;
	}
	r = deny_write_access(l->file);
	if (r) {
		DMERR("layer %u (%s): open for writing elsewhere", l->id, path);
		*error = "A layer is open for writing elsewhere";
		return r;
	}
	l->write_denied = true;

	/* From here on nobody can change it: what is compared now stays true. */
	if (i_size_read(inode) != l->bytes) {
		DMERR("layer %u (%s): %lld bytes, the index was built from %llu: create it anew",
		      l->id, path, i_size_read(inode), l->bytes);
		*error = "A layer has another size than when the index was built";
		return -ESTALE;
	}
	if (mtime.tv_sec != le64_to_cpu(rec->mtime_sec) ||
	    mtime.tv_nsec != le32_to_cpu(rec->mtime_nsec)) {
		DMERR("layer %u (%s): modified at %lld.%09ld, index has %lld.%09u: create it anew",
		      l->id, path, mtime.tv_sec, mtime.tv_nsec, le64_to_cpu(rec->mtime_sec),
		      le32_to_cpu(rec->mtime_nsec));
		*error = "A layer was modified after the index was built";
		return -ESTALE;
	}
	chain_layer_dio(l);
	/* Direct reads look for cached pages first, if there are any; nobody else needs them. */
	if (l->dio_offset_align)
		invalidate_mapping_pages(inode->i_mapping, 0, -1);
	return 0;
}

/* dm core of Linux 6.1 takes a device into its own table, and then I/O to it never ends. */
static int chain_layer_get_device(struct chain_layer_open *l, struct dm_target *ti, bool write,
				  const char *path)
{
	dev_t self = disk_devt(dm_disk(dm_table_get_md(ti->table)));

	if (file_inode(l->file)->i_rdev == self) {
		DMERR("%s: is the device that this table is for", path);
		return -ELOOP;
	}
	return dm_get_device(ti, path, CHAIN_OPEN_READ | (write ? CHAIN_OPEN_WRITE : 0), &l->dev);
}

static int chain_layer_open_device(struct chain_layer_open *l, struct dm_target *ti, bool write,
				   const struct chain_file *cf, const char *path, char **error)
{
	u64 bytes;
	int r;

	if (!S_ISBLK(file_inode(l->file)->i_mode)) {
		DMERR("layer %u (%s): not a block device", l->id, path);
		*error = "A layer is not the block device it was";
		return -EINVAL;
	}
	r = chain_layer_get_device(l, ti, write, path);
	if (r) {
		DMERR("layer %u (%s): cannot get the device: error %d", l->id, path, r);
		*error = "Cannot get a layer's device";
		return r;
	}
	bytes = bdev_nr_bytes(l->dev->bdev);
	/* One that is written may be extended meanwhile. */
	if (l->unsealed && bytes > l->bytes)
		l->bytes = bytes;
	if (bytes != l->bytes) {
		DMERR("layer %u (%s): %llu bytes, the index was built from %llu: create it anew",
		      l->id, path, bytes, l->bytes);
		*error = "A layer has another size than when the index was built";
		return -ESTALE;
	}
	if (bdev_logical_block_size(l->dev->bdev) > 1u << cf->geometry.subblock_shift) {
		DMERR("layer %u (%s): logical blocks of %u bytes, the index has subblocks of %u",
		      l->id, path, bdev_logical_block_size(l->dev->bdev),
		      1u << cf->geometry.subblock_shift);
		*error = "A layer's device has larger blocks than the index's subblocks";
		return -EINVAL;
	}
	return 0;
}

static int chain_layer_check_head(const struct chain_layer_open *l, const struct chain_layer *rec,
				  const char *path, char **error)
{
	size_t bytes = min_t(u64, l->bytes, 4096);
	u32 crc;
	u8 *buf;
	int r;

	if (!(le32_to_cpu(rec->flags) & CHAIN_LAYER_HAS_HEAD_CRC))
		return 0;
	buf = kmalloc(4096, GFP_KERNEL);
	if (!buf) {
		*error = "Cannot allocate a buffer";
		return -ENOMEM;
	}
	r = chain_read_exact(l->file, buf, bytes, 0);
	crc = chain_crc32c_more(0, buf, bytes);
	kfree(buf);
	if (r) {
		DMERR("layer %u (%s): cannot read its first %zu bytes: error %d", l->id, path,
		      bytes, r);
		*error = "Cannot read a layer";
		return r;
	}
	if (crc != le32_to_cpu(rec->head_crc)) {
		DMERR("layer %u (%s): first bytes are %08x, index has %08x: create it anew", l->id,
		      path, crc, le32_to_cpu(rec->head_crc));
		*error = "A layer was modified after the index was built";
		return -ESTALE;
	}
	return 0;
}

static int chain_layer_open_one(struct chain_layer_open *l, struct dm_target *ti,
				const struct chain_file *cf, const struct chain_layer *rec,
				char **error)
{
	const char *path = cf->strings + le32_to_cpu(rec->path_offset);
	struct file *file;
	bool write;
	int r;

	l->id = le16_to_cpu(rec->id);
	l->bytes = le64_to_cpu(rec->bytes);
	l->cluster_shift = rec->cluster_shift;
	l->compression = rec->compression;
	l->has_compressed = le32_to_cpu(rec->flags) & CHAIN_LAYER_HAS_COMPRESSED;

	l->unsealed = le32_to_cpu(rec->flags) & CHAIN_LAYER_UNSEALED;

	/* O_NONBLOCK: a FIFO in a layer's place is refused, not waited for. */
	write = chain_file_active(cf) && l->id == le16_to_cpu(cf->super->active);
	file = filp_open(path, (write ? O_RDWR : O_RDONLY) | O_LARGEFILE | O_NOATIME | O_NONBLOCK,
			 0);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		DMERR("layer %u (%s): cannot open it: error %d", l->id, path, r);
		*error = "Cannot open a layer";
		return r;
	}
	l->file = file;
	if (rec->type == CHAIN_LAYER_DEVICE)
		r = chain_layer_open_device(l, ti, write, cf, path, error);
	else
		r = chain_layer_open_file(l, rec, path, error);
	return r ? r : chain_layer_check_head(l, rec, path, error);
}

int chain_layers_open(struct chain_layers *ls, struct dm_target *ti, const struct chain_file *cf,
		      char **error)
{
	u32 count = le32_to_cpu(cf->super->layer_count), i;
	int r;

	memset(ls, 0, sizeof(*ls));
	ls->ids = cf->geometry.ids;
	ls->room = count;
	ls->layer = kvcalloc(count, sizeof(*ls->layer), GFP_KERNEL);
	ls->by_id = kvcalloc(ls->ids, sizeof(*ls->by_id), GFP_KERNEL);
	ls->bdev = kvcalloc(ls->ids, sizeof(*ls->bdev), GFP_KERNEL);
	if (!ls->layer || !ls->by_id || !ls->bdev) {
		*error = "Cannot allocate the layers";
		r = -ENOMEM;
		goto bad;
	}
	for (i = 0; i < count; i++) {
		struct chain_layer_open *l = kzalloc(sizeof(*l), GFP_KERNEL);

		if (!l) {
			*error = "Cannot allocate the layers";
			r = -ENOMEM;
			goto bad;
		}
		ls->layer[ls->count++] = l;
		r = chain_layer_open_one(l, ti, cf, &cf->layers[i], error);
		if (r)
			goto bad;
		ls->by_id[l->id] = l;
		ls->bdev[l->id] = l->dev ? l->dev->bdev : NULL;
	}
	return 0;

bad:
	chain_layers_close(ls, ti);
	return r;
}

void chain_layer_drop(struct chain_layer_open *l, struct dm_target *ti)
{
	if (l->dev)
		dm_put_device(ti, l->dev);
	if (l->write_denied)
		allow_write_access(l->file);
	if (l->file)
		fput(l->file);
	kfree(l);
}

void chain_layers_close(struct chain_layers *ls, struct dm_target *ti)
{
	unsigned int i;

	for (i = 0; i < ls->count; i++)
		chain_layer_drop(ls->layer[i], ti);
	kvfree(ls->bdev);
	kvfree(ls->by_id);
	kvfree(ls->layer);
	memset(ls, 0, sizeof(*ls));
}

struct chain_layer_open *chain_layer_open_active(struct dm_target *ti, const char *path,
						 unsigned int id, struct chain_layer *rec,
						 char **error)
{
	struct chain_layer_open *l = kzalloc(sizeof(*l), GFP_KERNEL);
	struct inode *inode;
	int r;

	*error = "Cannot allocate the layer";
	if (!l)
		return ERR_PTR(-ENOMEM);
	l->id = id;
	l->unsealed = true;
	l->file = filp_open(path, O_RDWR | O_LARGEFILE | O_NOATIME | O_NONBLOCK, 0);
	if (IS_ERR(l->file)) {
		r = PTR_ERR(l->file);
		l->file = NULL;
		DMERR("%s: cannot open it for writing: error %d", path, r);
		*error = "Cannot open the new layer";
		goto bad;
	}
	inode = file_inode(l->file);
	if (S_ISBLK(inode->i_mode)) {
		r = chain_layer_get_device(l, ti, true, path);
		if (r) {
			DMERR("%s: cannot get the device: error %d", path, r);
			*error = "Cannot get the new layer's device";
			goto bad;
		}
		l->bytes = bdev_nr_bytes(l->dev->bdev);
	} else if (S_ISREG(inode->i_mode)) {
		l->bytes = i_size_read(inode);
		chain_layer_dio(l);
	} else {
		DMERR("%s: neither a regular file nor a block device", path);
		*error = "The new layer is neither a regular file nor a block device";
		r = -EINVAL;
		goto bad;
	}
	memset(rec, 0, sizeof(*rec));
	rec->id = cpu_to_le16(id);
	rec->type = l->dev ? CHAIN_LAYER_DEVICE : CHAIN_LAYER_FILE;
	rec->format = CHAIN_FORMAT_QCOW2;
	rec->owner = cpu_to_le16(CHAIN_NO_LAYER);
	rec->flags = cpu_to_le32(CHAIN_LAYER_UNSEALED);
	rec->bytes = cpu_to_le64(l->bytes);
	if (!l->dev)
		rec->inode = cpu_to_le64(inode->i_ino);
	return l;

bad:
	chain_layer_drop(l, ti);
	return ERR_PTR(r);
}

/* CRC of the first bytes, as the chain file has it of devices. */
static int chain_layer_head_crc(const struct chain_layer_open *l, u32 *crc, bool *in_use)
{
	size_t bytes = min_t(u64, l->bytes, 4096);
	u8 *buf = kmalloc(4096, GFP_KERNEL);
	int r;

	if (!buf)
		return -ENOMEM;
	r = chain_read_exact(l->file, buf, bytes, 0);
	*crc = chain_crc32c_more(0, buf, bytes);
	*in_use = bytes < 80 || (be64_to_cpup((__be64 *)(buf + 72)) & CHAIN_QCOW2_IN_USE);
	kfree(buf);
	return r;
}

int chain_layer_sealed(struct chain_layer_open *l, const char *path, struct chain_layer *rec,
		       struct chain_inflight *inflight)
{
	struct inode *inode = file_inode(l->file);
	struct timespec64 mtime;
	struct file *file, *old;
	bool in_use;
	u32 crc;
	int r;

	r = chain_layer_head_crc(l, &crc, &in_use);
	if (r || in_use) {
		DMERR("layer %u (%s): %s", l->id, path,
		      r ? "cannot read its header" : "is not sealed: run dmchain seal");
		return r ? r : -EBUSY;
	}
	if (l->dev) {
		WRITE_ONCE(l->bytes, bdev_nr_bytes(l->dev->bdev));
		rec->bytes = cpu_to_le64(l->bytes);
		rec->head_crc = cpu_to_le32(crc);
		rec->flags = cpu_to_le32(CHAIN_LAYER_HAS_HEAD_CRC);
		l->unsealed = false;
		return 0;
	}
	file = filp_open(path, O_RDONLY | O_LARGEFILE | O_NOATIME | O_NONBLOCK, 0);
	if (IS_ERR(file)) {
		DMERR("layer %u (%s): cannot open it: error %ld", l->id, path, PTR_ERR(file));
		return PTR_ERR(file);
	}
	if (file_inode(file) != inode) {
		DMERR("layer %u (%s): another file than the layer", l->id, path);
		fput(file);
		return -ESTALE;
	}
	old = l->file;
	WRITE_ONCE(l->file, file);
	chain_inflight_drain(inflight);
	__fput_sync(old);
	r = deny_write_access(file);
	if (r) {
		DMERR("layer %u (%s): open for writing elsewhere", l->id, path);
		return r;
	}
	l->write_denied = true;
	l->unsealed = false;
	mtime = chain_inode_mtime(inode);
	WRITE_ONCE(l->bytes, i_size_read(inode));
	rec->bytes = cpu_to_le64(l->bytes);
	rec->mtime_sec = cpu_to_le64(mtime.tv_sec);
	rec->mtime_nsec = cpu_to_le32(mtime.tv_nsec);
	rec->flags = 0;
	return 0;
}

/* Replaces the array at @at, of @count elements of @size bytes, by one of @room. */
static int grow_array(void **at, unsigned int count, unsigned int room, size_t size, void **old)
{
	void *array = kvcalloc(room, size, GFP_KERNEL);

	if (!array)
		return -ENOMEM;
	memcpy(array, *at, count * size);
	*old = *at;
	smp_store_release(at, array); /* readers follow it by address dependency */
	return 0;
}

int chain_layers_add(struct chain_layers *ls, struct chain_layer_open *l,
		     struct chain_layers_old *old)
{
	unsigned int ids = l->id + 256;

	memset(old, 0, sizeof(*old));
	if (ls->count == ls->room) {
		if (grow_array((void **)&ls->layer, ls->count, ls->room + 256, sizeof(*ls->layer),
			       &old->array[0]))
			return -ENOMEM;
		ls->room += 256;
	}
	if (l->id >= ls->ids) {
		if (grow_array((void **)&ls->by_id, ls->ids, ids, sizeof(*ls->by_id),
			       &old->array[1]) ||
		    grow_array((void **)&ls->bdev, ls->ids, ids, sizeof(*ls->bdev), &old->array[2]))
			return -ENOMEM; /* what is longer now is no harm */
		ls->ids = ids;
	}
	ls->layer[ls->count++] = l;
	WRITE_ONCE(ls->by_id[l->id], l);
	WRITE_ONCE(ls->bdev[l->id], l->dev ? l->dev->bdev : NULL);
	return 0;
}
