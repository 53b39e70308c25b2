// SPDX-License-Identifier: GPL-2.0
/*
 * Opening layers, and making sure that they are what the index was built from and stay so.
 * Called by the constructor and the destructor only.
 */

#include "dm-chain-layer.h"
#include "dm-chain-log.h"

#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/dm-ioctl.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/stat.h>

#include "dm-chain-compat.h"

#define DM_MSG_PREFIX "chain"

/* What to do about a layer that is not what it was. */
#define REBUILD "rebuild the chain file"

/* Alignment that direct I/O on the file needs; none is known: that of the device it lies on. */
static void chain_layer_dio(struct chain_layer_open *l)
{
	struct file *file = l->opened.file;
	struct super_block *sb = file_inode(file)->i_sb;
	struct kstat stat;

	if (!(file->f_mode & FMODE_CAN_ODIRECT))
		return;
	l->dio_mem_align = SECTOR_SIZE;
	l->dio_offset_align = sb->s_bdev ? bdev_logical_block_size(sb->s_bdev) : PAGE_SIZE;
	if (vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT))
		return;
	if (!(stat.result_mask & STATX_DIOALIGN))
		return;
	l->dio_mem_align = stat.dio_mem_align;
	l->dio_offset_align = stat.dio_offset_align;
}

static int chain_layer_open_file(struct chain_layer_open *l, const struct chain_layer *rec,
				 const char *path, char **error)
{
	struct inode *inode = file_inode(l->opened.file);
	struct timespec64 mtime = chain_inode_mtime(inode);

	if (inode->i_ino != le64_to_cpu(rec->inode)) {
		DMERR("layer %u (%s): inode %lu, the index was built from %llu: " REBUILD, l->id,
		      path, inode->i_ino, le64_to_cpu(rec->inode));
		*error = "A layer is another file than when the index was built";
		return -ESTALE;
	}
	if (l->unsealed) {
		l->bytes = i_size_read(inode);
		chain_layer_dio(l);
		return 0;
	}
	/* What was added is not named by any entry. */
	if (l->growing && i_size_read(inode) >= l->bytes) {
		chain_layer_dio(l);
		return 0;
	}
	/* Nobody can change it any more: what is compared now stays true. */
	if (i_size_read(inode) != l->bytes) {
		DMERR("layer %u (%s): %lld bytes, the index was built from %llu: " REBUILD, l->id,
		      path, i_size_read(inode), l->bytes);
		*error = "A layer has another size than when the index was built";
		return -ESTALE;
	}
	if (mtime.tv_sec != le64_to_cpu(rec->mtime_sec) ||
	    mtime.tv_nsec != le32_to_cpu(rec->mtime_nsec)) {
		DMERR("layer %u (%s): modified at %lld.%09ld, index has %lld.%09u: " REBUILD, l->id,
		      path, mtime.tv_sec, mtime.tv_nsec, le64_to_cpu(rec->mtime_sec),
		      le32_to_cpu(rec->mtime_nsec));
		*error = "A layer was modified after the index was built";
		return -ESTALE;
	}
	chain_layer_dio(l);
	return 0;
}

/* dm core of Linux 6.1 takes a device into its own table, and then I/O to it never ends. */
static int chain_layer_get_device(struct chain_layer_open *l, struct dm_target *ti, bool write,
				  const char *path)
{
	dev_t self = disk_devt(dm_disk(dm_table_get_md(ti->table)));

	if (file_inode(l->opened.file)->i_rdev == self) {
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

	r = chain_layer_get_device(l, ti, write, path);
	if (r) {
		DMERR("layer %u (%s): cannot get the device: error %d", l->id, path, r);
		*error = "Cannot get a layer's device";
		return r;
	}
	bytes = bdev_nr_bytes(l->dev->bdev);
	/* One that is written may have been extended. */
	if (l->unsealed && bytes > l->bytes)
		l->bytes = bytes;
	if (bytes != l->bytes) {
		DMERR("layer %u (%s): %llu bytes, the index was built from %llu: " REBUILD, l->id,
		      path, bytes, l->bytes);
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
	r = chain_read_exact(l->opened.file, buf, bytes, 0);
	crc = chain_crc32c_more(0, buf, bytes);
	kfree(buf);
	if (r) {
		DMERR("layer %u (%s): cannot read its first %zu bytes: error %d", l->id, path,
		      bytes, r);
		*error = "Cannot read a layer";
		return r;
	}
	if (crc != le32_to_cpu(rec->head_crc)) {
		DMERR("layer %u (%s): first bytes are %08x, index has %08x: " REBUILD, l->id, path,
		      crc, le32_to_cpu(rec->head_crc));
		*error = "A layer was modified after the index was built";
		return -ESTALE;
	}
	return 0;
}

/* What a chain that is written, or not, does with a layer. */
static enum chain_use chain_layer_use(const struct chain_file *cf, const struct chain_layer *rec,
				      const char **role)
{
	if (le32_to_cpu(rec->flags) & CHAIN_LAYER_GROWING) {
		*role = "growing layer";
		return CHAIN_USE_FROZEN;
	}
	if (!(le32_to_cpu(rec->flags) & CHAIN_LAYER_UNSEALED)) {
		*role = "sealed layer";
		return CHAIN_USE_READ;
	}
	if (rec->id != cf->super->active) {
		*role = "frozen layer";
		return CHAIN_USE_FROZEN;
	}
	*role = "active layer";
	return CHAIN_USE_WRITE;
}

/* Opens what is at @path, which must be of @type, and claims it. */
static int chain_layer_claim(struct chain_layer_open *l, struct dm_target *ti,
			     enum chain_layer_type type, enum chain_use use, const char *role,
			     const char *path, char **error)
{
	umode_t mode;
	int r = chain_open(&l->opened, path);

	if (r) {
		DMERR("layer %u (%s): cannot open it: error %d", l->id, path, r);
		*error = "Cannot open a layer";
		return r;
	}
	mode = file_inode(l->opened.file)->i_mode;
	if (type == CHAIN_LAYER_DEVICE ? !S_ISBLK(mode) : !S_ISREG(mode)) {
		DMERR("layer %u (%s): not a %s", l->id, path,
		      type == CHAIN_LAYER_DEVICE ? "block device" : "regular file");
		*error = type == CHAIN_LAYER_DEVICE ? "A layer is not the block device it was" :
						      "A layer is not the regular file it was";
		return -EINVAL;
	}
	return chain_claim(&l->opened, ti, use, role, path, error);
}

static int chain_layer_open_one(struct chain_layer_open *l, struct dm_target *ti,
				const struct chain_file *cf, const struct chain_layer *rec,
				char **error)
{
	const char *path = cf->strings + le32_to_cpu(rec->path_offset), *role;
	enum chain_use use = chain_layer_use(cf, rec, &role);
	int r;

	l->id = le16_to_cpu(rec->id);
	l->bytes = le64_to_cpu(rec->bytes);
	l->cluster_shift = rec->cluster_shift;
	l->compression = rec->compression;
	l->has_compressed = le32_to_cpu(rec->flags) & CHAIN_LAYER_HAS_COMPRESSED;
	l->growing = le32_to_cpu(rec->flags) & CHAIN_LAYER_GROWING;
	l->unsealed = use != CHAIN_USE_READ && !l->growing;

	r = chain_layer_claim(l, ti, rec->type, use, role, path, error);
	if (r)
		return r;
	if (rec->type == CHAIN_LAYER_DEVICE)
		r = chain_layer_open_device(l, ti, use == CHAIN_USE_WRITE, cf, path, error);
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

void chain_layer_uncache(const struct chain_layer_open *l)
{
	if (l->dio_offset_align && !l->unsealed && !l->extents)
		invalidate_mapping_pages(file_inode(l->opened.file)->i_mapping, 0, -1);
}

void chain_layer_drop(struct chain_layer_open *l, struct dm_target *ti)
{
	if (l->dev)
		dm_put_device(ti, l->dev);
	chain_close(&l->opened);
	kfree(l);
}

int chain_layer_take(struct chain_layers *ls, struct chain_layer_open **l)
{
	if (ls->count != 1)
		return -EINVAL;
	*l = ls->layer[0];
	ls->count = 0;
	return 0;
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

/* CRC of the id of the LVM volume that the device is, as the chain file has it; 0: it is none. */
static u32 chain_layer_volume(dev_t dev)
{
	/* "LVM-", then the ids of group and volume. More has only one of LVM's inner devices. */
	const size_t prefix = 4, id = 32;
	char uuid[DM_UUID_LEN] = "";
	struct mapped_device *md = dm_get_md(dev);
	int r;

	if (!md)
		return 0;
	r = dm_copy_name_and_uuid(md, NULL, uuid);
	dm_put(md);
	if (r || strncmp(uuid, "LVM-", prefix) || strlen(uuid) != prefix + 2 * id)
		return 0;
	return chain_crc32c_more(0, uuid + prefix + id, id);
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
	r = chain_open(&l->opened, path);
	if (r) {
		DMERR("%s: cannot open it: error %d", path, r);
		*error = "Cannot open the new layer";
		goto bad;
	}
	inode = file_inode(l->opened.file);
	if (!S_ISBLK(inode->i_mode) && !S_ISREG(inode->i_mode)) {
		DMERR("%s: neither a regular file nor a block device", path);
		*error = "The new layer is neither a regular file nor a block device";
		r = -EINVAL;
		goto bad;
	}
	r = chain_claim(&l->opened, ti, CHAIN_USE_WRITE, "active layer", path, error);
	if (r)
		goto bad;
	if (S_ISBLK(inode->i_mode)) {
		r = chain_layer_get_device(l, ti, true, path);
		if (r) {
			DMERR("%s: cannot get the device: error %d", path, r);
			*error = "Cannot get the new layer's device";
			goto bad;
		}
		l->bytes = bdev_nr_bytes(l->dev->bdev);
	} else {
		l->bytes = i_size_read(inode);
		chain_layer_dio(l);
	}
	memset(rec, 0, sizeof(*rec));
	rec->id = cpu_to_le16(id);
	rec->type = l->dev ? CHAIN_LAYER_DEVICE : CHAIN_LAYER_FILE;
	rec->format = CHAIN_FORMAT_QCOW2;
	rec->owner = cpu_to_le16(CHAIN_NO_LAYER);
	rec->flags = cpu_to_le32(CHAIN_LAYER_UNSEALED);
	rec->bytes = cpu_to_le64(l->bytes);
	if (l->dev)
		rec->volume = cpu_to_le32(chain_layer_volume(l->dev->bdev->bd_dev));
	else
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
	r = chain_read_exact(l->opened.file, buf, bytes, 0);
	*crc = chain_crc32c_more(0, buf, bytes);
	*in_use = bytes < 80 || (be64_to_cpup((__be64 *)(buf + 72)) & CHAIN_QCOW2_IN_USE);
	kfree(buf);
	return r;
}

/* What the file is now, which nobody can change any more. */
static void chain_layer_note(struct chain_layer_open *l, struct chain_layer *rec, u32 head_crc)
{
	struct inode *inode = file_inode(l->opened.file);
	struct timespec64 mtime = chain_inode_mtime(inode);

	WRITE_ONCE(l->bytes, i_size_read(inode));
	rec->bytes = cpu_to_le64(l->bytes);
	rec->mtime_sec = cpu_to_le64(mtime.tv_sec);
	rec->mtime_nsec = cpu_to_le32(mtime.tv_nsec);
	rec->head_crc = cpu_to_le32(head_crc);
}

int chain_layer_sealed(struct chain_layer_open *l, const char *path, struct chain_layer *rec,
		       struct chain_inflight *inflight)
{
	struct chain_old old;
	struct file *file;
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
		r = chain_claim_sealed(&l->opened);
		WRITE_ONCE(l->bytes, bdev_nr_bytes(l->dev->bdev));
		rec->bytes = cpu_to_le64(l->bytes);
		rec->head_crc = cpu_to_le32(crc);
		rec->flags = cpu_to_le32(CHAIN_LAYER_HAS_HEAD_CRC);
		memset(rec->log, 0, sizeof(rec->log));
		l->unsealed = false;
		return r;
	}
	/* Not by its name, which may have been taken away or given to another file. */
	file = dentry_open(&l->opened.file->f_path, O_RDONLY | O_LARGEFILE | O_NOATIME,
			   current_cred());
	if (IS_ERR(file)) {
		DMERR("layer %u (%s): cannot open it: error %ld", l->id, path, PTR_ERR(file));
		return PTR_ERR(file);
	}
	chain_reopened(&l->opened, file, &old);
	chain_inflight_drain(inflight);
	chain_put_old(&old);
	r = chain_claim_sealed(&l->opened);
	if (r) {
		DMERR("layer %u (%s): open for writing elsewhere", l->id, path);
		return r;
	}
	l->unsealed = false;
	chain_layer_note(l, rec, crc);
	rec->flags = 0;
	memset(rec->log, 0, sizeof(rec->log));
	return 0;
}

int chain_layer_growing(struct chain_layer_open *l, const char *path, struct chain_layer *rec)
{
	int r = chain_claim_growing(&l->opened, path);

	if (r)
		return r;
	l->growing = true;
	rec->flags |= cpu_to_le32(CHAIN_LAYER_GROWING);
	return 0;
}

int chain_layer_grown(struct chain_layer_open *l, const char *path, struct chain_layer *rec)
{
	bool in_use;
	u32 crc;
	int r = chain_layer_head_crc(l, &crc, &in_use);

	if (r) {
		DMERR("layer %u (%s): cannot read its header: error %d", l->id, path, r);
		return r;
	}
	r = chain_claim_sealed(&l->opened);
	if (r) {
		DMERR("layer %u (%s): open for writing elsewhere", l->id, path);
		return r;
	}
	l->growing = false;
	chain_layer_note(l, rec, crc);
	rec->flags &= ~cpu_to_le32(CHAIN_LAYER_GROWING);
	chain_layer_uncache(l);
	return 0;
}

struct chain_layer_open *chain_layer_open_copy(const struct chain_layer_open *l,
					       struct dm_target *ti, const char *path,
					       struct chain_layer *rec)
{
	struct chain_layer_open *copy = kzalloc(sizeof(*copy), GFP_KERNEL);
	char *error = "";
	bool in_use;
	u32 crc;
	int r;

	if (!copy)
		return ERR_PTR(-ENOMEM);
	copy->id = l->id;
	copy->bytes = l->bytes;
	copy->cluster_shift = l->cluster_shift;
	copy->compression = l->compression;
	copy->has_compressed = l->has_compressed;
	r = chain_layer_claim(copy, ti, CHAIN_LAYER_FILE, CHAIN_USE_READ, "sealed layer", path,
			      &error);
	if (r)
		goto bad;
	if (i_size_read(file_inode(copy->opened.file)) != l->bytes) {
		DMERR("layer %u (%s): %lld bytes, the layer has %llu: it is no copy of that", l->id,
		      path, i_size_read(file_inode(copy->opened.file)), l->bytes);
		r = -ESTALE;
		goto bad;
	}
	r = chain_layer_head_crc(copy, &crc, &in_use);
	if (r) {
		DMERR("layer %u (%s): cannot read it: error %d", l->id, path, r);
		goto bad;
	}
	chain_layer_dio(copy);
	chain_layer_note(copy, rec, crc);
	rec->inode = cpu_to_le64(file_inode(copy->opened.file)->i_ino);
	return copy;

bad:
	chain_layer_drop(copy, ti);
	return ERR_PTR(r);
}

struct chain_layer_open *chain_layers_exchange(struct chain_layers *ls, unsigned int at,
					       struct chain_layer_open *l)
{
	struct chain_layer_open *old = ls->layer[at];

	WRITE_ONCE(ls->layer[at], l);
	WRITE_ONCE(ls->by_id[l->id], l);
	return old;
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

int chain_layers_add(struct chain_layers *ls, struct chain_layer_open *l, unsigned int at,
		     struct chain_layers_old *old)
{
	unsigned int ids = l->id + 256, room = max(ls->room, ls->count + 1);
	struct chain_layer_open **layer;

	memset(old, 0, sizeof(*old));
	if (l->id >= ls->ids) {
		if (grow_array((void **)&ls->by_id, ls->ids, ids, sizeof(*ls->by_id),
			       &old->array[1]) ||
		    grow_array((void **)&ls->bdev, ls->ids, ids, sizeof(*ls->bdev), &old->array[2]))
			return -ENOMEM; /* what is longer now is no harm */
		ls->ids = ids;
	}
	if (at < ls->count || ls->count == ls->room) {
		room += ls->count == ls->room ? 255 : 0;
		layer = kvcalloc(room, sizeof(*layer), GFP_KERNEL);
		if (!layer)
			return -ENOMEM;
		memcpy(layer, ls->layer, at * sizeof(*layer));
		layer[at] = l;
		memcpy(layer + at + 1, ls->layer + at, (ls->count - at) * sizeof(*layer));
		old->array[0] = ls->layer;
		smp_store_release(&ls->layer, layer); /* readers follow it by address dependency */
		ls->room = room;
	} else {
		ls->layer[at] = l;
	}
	smp_store_release(&ls->count, ls->count + 1); /* pairs with chain_iterate_devices() */
	WRITE_ONCE(ls->by_id[l->id], l);
	WRITE_ONCE(ls->bdev[l->id], l->dev ? l->dev->bdev : NULL);
	return 0;
}

int chain_layers_remove(struct chain_layers *ls, unsigned int first, unsigned int count,
			struct chain_layer_open ***old)
{
	unsigned int left = ls->count - count, i;
	struct chain_layer_open **layer = kvcalloc(ls->room, sizeof(*layer), GFP_KERNEL);

	if (!layer)
		return -ENOMEM;
	/* Whoever has read the count that it was finds layers up to that, some of them twice. */
	for (i = 0; i < ls->count; i++)
		layer[i] = ls->layer[i < first ? i : min(i + count, ls->count - 1)];
	*old = ls->layer;
	for (i = first; i < first + count; i++) {
		WRITE_ONCE(ls->by_id[(*old)[i]->id], NULL);
		WRITE_ONCE(ls->bdev[(*old)[i]->id], NULL);
	}
	smp_store_release(&ls->layer, layer); /* readers follow it by address dependency */
	smp_store_release(&ls->count, left);
	return 0;
}
