/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The active layer: the log in which the target records what it wrote, and how it lies in the file.
 *
 * An active layer is a qcow2 file (or a block device that holds one) whose header carries the incompatible
 * feature bit CHAIN_QCOW2_IN_USE. Its L1 table, L2 tables and refcounts do not exist yet: what it holds is
 * said by its log alone, until sealing writes them around the data. docs/format.md has the same byte by
 * byte. Fields of the log are little-endian (those of the qcow2 header are big-endian, as qcow2 wants them).
 *
 *	cluster 0	qcow2 header, extensions, backing file name
 *	cluster 1..	first segment of the log: the head in its first block, then log blocks
 *	after it	data clusters and further segments of the log, in any order
 *
 * Clusters are those of the index: 1 << cluster_shift bytes. A *unit* is the smallest piece that the layer
 * can own by itself: the larger of the index's subblock and 1/32 of a cluster.
 */
#ifndef DM_CHAIN_LOG_H
#define DM_CHAIN_LOG_H

#include "dm-chain-check.h"

/* Bit of qcow2's incompatible_features, and what its feature-name table calls it (46 bytes at the most). */
#define CHAIN_QCOW2_IN_USE_BIT	63
#define CHAIN_QCOW2_IN_USE	(1ull << CHAIN_QCOW2_IN_USE_BIT)
#define CHAIN_QCOW2_IN_USE_NAME	"dm-chain active layer (run: dmchain seal)"

#define CHAIN_LOG_BLOCK		4096	/* bytes; blocks lie at multiples of it */
#define CHAIN_LOG_MAGIC		"DMCHLOG\n"
#define CHAIN_LOG_VERSION	1
#define CHAIN_LOG_MIN_SEGMENT	(4 * CHAIN_LOG_BLOCK)	/* bytes */
#define CHAIN_LOG_MAX_UNITS	32	/* of a cluster */

/*
 * Who may write the layer, in a sector of its own, so that a write of it is whole or not there. All zeroes:
 * nobody yet. Another machine than @machine refuses an OWNED layer; the same machine goes on with it, also
 * after a crash. A target that is removed, or suspended and told to, leaves it RELEASED: whoever comes next
 * may have it.
 */
struct chain_log_owner {
	__u8 magic[8];		/* CHAIN_LOG_OWNER_MAGIC */
	__le32 crc;		/* CRC-32C of the sector with this field 0 */
	__u8 state;		/* enum chain_log_owner_state */
	__u8 reserved0[3];
	__le64 time;		/* when it was taken or released, seconds since 1970, UTC */
	__u8 machine[16];	/* of the host: /etc/machine-id */
	__u8 boot[16];		/* of the host: /proc/sys/kernel/random/boot_id; 0: not known */
	__u8 chain[16];		/* uuid of the chain file */
	__u8 host[64];		/* its name, NUL-terminated */
	__u8 device[128];	/* name of the device-mapper device, NUL-terminated */
	__u8 reserved[512 - 264];
};
#define CHAIN_LOG_OWNER_MAGIC	"DMCHOWN\n"
CHAIN_STATIC_ASSERT(sizeof(struct chain_log_owner) == 512, "owner of a layer");

enum chain_log_owner_state { CHAIN_LAYER_OWNED = 1, CHAIN_LAYER_RELEASED = 2 };

/* The first block of the first segment, at byte 1 << cluster_shift. But for the owner it never changes. */
struct chain_log_head {
	__u8 magic[8];
	__le32 version;
	__le32 crc;		/* CRC-32C of the whole block with this field 0, and the owner, too */
	__u8 uuid[16];		/* of this layer; its first 8 bytes stand in every block of the log */
	__le64 sectors;		/* virtual size when the layer was made */
	__le64 segment_bytes;	/* of the first segment, this block included; a multiple of the cluster */
	__u8 cluster_shift;	/* log2 bytes: that of the chain's index */
	__u8 unit_shift;	/* log2 bytes */
	__u8 reserved[CHAIN_LOG_BLOCK - 512 - 50];
	struct chain_log_owner owner;
};
CHAIN_STATIC_ASSERT(sizeof(struct chain_log_head) == CHAIN_LOG_BLOCK, "log head");

/*
 * What the layer says of one cluster from now on: replaces what earlier records said of it. As in an
 * extended L2 entry of qcow2: bit i of @bitmap: unit i lies at host + i * unit; bit 32 + i: unit i reads
 * zeroes; neither: the layers below show through. Never both.
 */
struct chain_log_record {
	__le64 cluster;		/* of the virtual disk */
	__le64 host;		/* bytes in the layer, a multiple of the cluster; 0: no bit below 32 is set */
	__le64 bitmap;
};
CHAIN_STATIC_ASSERT(sizeof(struct chain_log_record) == 24, "log record");

enum chain_log_type {
	CHAIN_LOG_RECORDS = 1,	/* count records; 0 is allowed (a commit that only ends an epoch) */
	CHAIN_LOG_NEXT = 2,	/* the log goes on in another segment: struct chain_log_next */
	CHAIN_LOG_RESIZE = 3,	/* the disk has another size: __le64 sectors */
	CHAIN_LOG_CLOSE = 4,	/* the layer is frozen, another took over: struct chain_log_close */
};

/*
 * A block of the log. It is valid if magic, crc and salt are right, sequence is one more than in the block
 * before it (1 for the first one, in block 1 of the first segment), and epoch is not smaller than in the
 * block before it. The first block that is not valid is the end of the log. Every activation that finds
 * blocks in the log goes on with a larger epoch: what a cut left behind the end can never become valid.
 */
struct chain_log_block {
	__le32 magic;		/* CHAIN_LOG_BLOCK_MAGIC */
	__le32 crc;		/* CRC-32C of bytes 8..4095 */
	__u8 salt[8];		/* first half of the head's uuid */
	__le64 sequence;
	__le32 epoch;
	__u8 type;		/* enum chain_log_type */
	__u8 reserved;		/* 0 */
	__le16 count;		/* records */
	__u8 body[CHAIN_LOG_BLOCK - 32];
};
#define CHAIN_LOG_BLOCK_MAGIC	0x4c4d4344u	/* "DCML" */
#define CHAIN_LOG_MAX_RECORDS	169		/* of one block */
CHAIN_STATIC_ASSERT(sizeof(struct chain_log_block) == CHAIN_LOG_BLOCK, "log block");
CHAIN_STATIC_ASSERT(CHAIN_LOG_MAX_RECORDS * 24 <= CHAIN_LOG_BLOCK - 32, "records of a block");

/* NEXT: always the last block that a segment has; block 0 of the next segment follows it. */
struct chain_log_next {
	__le64 offset;		/* bytes in the layer, a multiple of the cluster */
	__le64 bytes;		/* a multiple of the cluster */
};

/* CLOSE: nothing follows. */
struct chain_log_close {
	__u8 uuid[16];		/* of the successor's log */
	__le16 path_bytes;	/* of its absolute path, which follows, without a NUL */
	__u8 path[CHAIN_LOG_BLOCK - 32 - 18];
};
#define CHAIN_LOG_MAX_PATH	(CHAIN_LOG_BLOCK - 32 - 18)

/* What a log's blocks are checked against. */
struct chain_log_geometry {
	__u64 layer_bytes;	/* size of the file or device now */
	__u64 clusters;		/* of the virtual disk; RESIZE changes it */
	unsigned int cluster_shift;
	unsigned int unit_shift;
	__u8 salt[8];
};

static inline unsigned int chain_unit_shift(unsigned int cluster_shift, unsigned int subblock_shift)
{
	unsigned int least = cluster_shift - 5;	/* CHAIN_LOG_MAX_UNITS */

	return subblock_shift > least ? subblock_shift : least;
}

static inline __u32 chain_log_head_crc(const struct chain_log_head *h)
{
	static const __u8 zero[512] = { 0 };
	const char *p = (const char *)h;
	__u32 at = offsetof(struct chain_log_head, crc), owner = offsetof(struct chain_log_head, owner);
	__u32 crc = chain_crc32c_more(0, p, at);

	crc = chain_crc32c_more(crc, zero, 4);
	crc = chain_crc32c_more(crc, p + at + 4, owner - at - 4);
	return chain_crc32c_more(crc, zero, sizeof(zero));
}

static inline __u32 chain_log_owner_crc(const struct chain_log_owner *o)
{
	static const __u8 zero[4] = { 0 };
	const char *p = (const char *)o;
	__u32 at = offsetof(struct chain_log_owner, crc), crc = chain_crc32c_more(0, p, at);

	crc = chain_crc32c_more(crc, zero, 4);
	return chain_crc32c_more(crc, p + at + 4, sizeof(*o) - at - 4);
}

/* Whether @o says nothing: a layer that nobody has used yet, or one of before there were owners. */
static inline bool chain_log_owner_none(const struct chain_log_owner *o)
{
	const __u8 *p = (const __u8 *)o;
	unsigned int i;

	for (i = 0; i < sizeof(*o); i++)
		if (p[i])
			return false;
	return true;
}

/* Whether @o says who has the layer, or had it. */
static inline bool chain_log_owner_sound(const struct chain_log_owner *o)
{
	return !memcmp(o->magic, CHAIN_LOG_OWNER_MAGIC, 8) && chain_le32(o->crc) == chain_log_owner_crc(o) &&
	       !o->host[sizeof(o->host) - 1] && !o->device[sizeof(o->device) - 1];
}

/* The head, as read from byte 1 << @cluster_shift of a layer of @layer_bytes. */
static inline bool chain_check_log_head(const struct chain_log_head *h, unsigned int cluster_shift,
					__u64 layer_bytes, struct chain_fault *f)
{
#define AT(field) offsetof(struct chain_log_head, field)
	__u64 cluster = 1ull << cluster_shift, segment = chain_le64(h->segment_bytes);
	__u64 magic, want;
	__u32 crc;

	memcpy(&magic, h->magic, 8);
	memcpy(&want, CHAIN_LOG_MAGIC, 8);
	if (magic != want)
		return chain_fault_set(f, "magic of the log", 0, magic, "", want);
	if (chain_le32(h->version) != CHAIN_LOG_VERSION)
		return chain_fault_set(f, "version of the log", AT(version), chain_le32(h->version), "",
				       CHAIN_LOG_VERSION);
	crc = chain_log_head_crc(h);
	if (chain_le32(h->crc) != crc)
		return chain_fault_set(f, "checksum of the log's head", AT(crc), chain_le32(h->crc), "",
				       crc);
	if (h->cluster_shift != cluster_shift)
		return chain_fault_set(f, "cluster_shift of the log", AT(cluster_shift), h->cluster_shift,
				       "", cluster_shift);
	if (h->unit_shift > cluster_shift)
		return chain_fault_set(f, "unit_shift of the log", AT(unit_shift), h->unit_shift,
				       "at most", cluster_shift);
	if (h->unit_shift + 5u < cluster_shift || h->unit_shift < CHAIN_MIN_SUBBLOCK_SHIFT)
		return chain_fault_set(f, "unit_shift of the log", AT(unit_shift), h->unit_shift,
				       "at least", cluster_shift - 5);
	if (chain_le64(h->sectors) > CHAIN_MAX_SECTORS)
		return chain_fault_set(f, "virtual size in sectors", AT(sectors), chain_le64(h->sectors),
				       "at most", CHAIN_MAX_SECTORS);
	if (segment & (cluster - 1) || segment < CHAIN_LOG_MIN_SEGMENT)
		return chain_fault_set(f, "bytes of the log's first segment", AT(segment_bytes), segment,
				       "a multiple of", cluster);
	if (segment > layer_bytes || cluster > layer_bytes - segment)
		return chain_fault_set(f, "end of the log's first segment", AT(segment_bytes),
				       cluster + segment, "at most", layer_bytes);
	return true;
#undef AT
}

/*
 * Whether @b is the block that must stand at this place. False with f->what NULL: it is not: the log
 * ends here. False with f->what set: it is, its checksum is right, but it says what cannot be.
 */
static inline bool chain_check_log_block(const struct chain_log_geometry *g,
					 const struct chain_log_block *b, __u64 sequence, __u32 epoch,
					 struct chain_fault *f)
{
#define AT(field) offsetof(struct chain_log_block, field)
	const struct chain_log_record *r = (const struct chain_log_record *)b->body;
	const struct chain_log_next *next = (const struct chain_log_next *)b->body;
	const struct chain_log_close *close = (const struct chain_log_close *)b->body;
	__u64 cluster = 1ull << g->cluster_shift, units = cluster >> g->unit_shift, mask;
	__u32 i;

	f->what = NULL;
	if (chain_le32(b->magic) != CHAIN_LOG_BLOCK_MAGIC || memcmp(b->salt, g->salt, 8) ||
	    chain_le64(b->sequence) != sequence || chain_le32(b->epoch) < epoch ||
	    chain_le32(b->crc) != chain_crc32c_more(0, (const char *)b + 8, CHAIN_LOG_BLOCK - 8))
		return false;

	switch (b->type) {
	case CHAIN_LOG_RECORDS:
		if (chain_le16(b->count) > CHAIN_LOG_MAX_RECORDS)
			return chain_fault_set(f, "records of a log block", AT(count),
					       chain_le16(b->count), "at most", CHAIN_LOG_MAX_RECORDS);
		mask = units == 32 ? 0xffffffffull : (1ull << units) - 1;
		for (i = 0; i < chain_le16(b->count); i++, r++) {
			__u64 host = chain_le64(r->host), bitmap = chain_le64(r->bitmap);
			__u32 at = AT(body) + i * (__u32)sizeof(*r);

			if (chain_le64(r->cluster) >= g->clusters)
				return chain_fault_set(f, "cluster of a log record", at,
						       chain_le64(r->cluster), "at most",
						       g->clusters - 1);
			if (bitmap & ~(mask | mask << 32))
				return chain_fault_set(f, "bitmap of a log record", at + 16, bitmap,
						       "one of (mask)", mask | mask << 32);
			if (bitmap & (bitmap >> 32) & mask)
				return chain_fault_set(f, "units both stored and zero in a log record",
						       at + 16, bitmap & (bitmap >> 32) & mask, "", 0);
			if (!(bitmap & mask) != !host)
				return chain_fault_set(f, "offset of a log record", at + 8, host,
						       host ? "" : "at least", host ? 0 : 2 * cluster);
			if (host & (cluster - 1))
				return chain_fault_set(f, "offset of a log record", at + 8, host,
						       "a multiple of", cluster);
			if (host && (host > g->layer_bytes || g->layer_bytes - host < cluster))
				return chain_fault_set(f, "offset of a log record", at + 8, host,
						       "at most", g->layer_bytes - cluster);
		}
		return true;
	case CHAIN_LOG_NEXT:
		if (!chain_le64(next->offset) || chain_le64(next->offset) & (cluster - 1))
			return chain_fault_set(f, "offset of the log's next segment", AT(body),
					       chain_le64(next->offset), "a multiple of", cluster);
		if (chain_le64(next->bytes) & (cluster - 1) ||
		    chain_le64(next->bytes) < CHAIN_LOG_MIN_SEGMENT)
			return chain_fault_set(f, "bytes of the log's next segment", AT(body) + 8,
					       chain_le64(next->bytes), "a multiple of", cluster);
		if (chain_le64(next->offset) > g->layer_bytes ||
		    chain_le64(next->bytes) > g->layer_bytes - chain_le64(next->offset))
			return chain_fault_set(f, "end of the log's next segment", AT(body) + 8,
					       chain_le64(next->offset) + chain_le64(next->bytes),
					       "at most", g->layer_bytes);
		return true;
	case CHAIN_LOG_RESIZE:
		mask = chain_le64(*(const __le64 *)b->body);
		if (mask > CHAIN_MAX_SECTORS)
			return chain_fault_set(f, "virtual size in sectors", AT(body), mask, "at most",
					       CHAIN_MAX_SECTORS);
		return true;
	case CHAIN_LOG_CLOSE:
		if (chain_le16(close->path_bytes) < 1 ||
		    chain_le16(close->path_bytes) > CHAIN_LOG_MAX_PATH)
			return chain_fault_set(f, "length of the successor's path", AT(body) + 16,
					       chain_le16(close->path_bytes), "at most",
					       CHAIN_LOG_MAX_PATH);
		if (close->path[0] != '/')
			return chain_fault_set(f, "first byte of the successor's path", AT(body) + 18,
					       close->path[0], "", '/');
		return true;
	default:
		return chain_fault_set(f, "type of a log block", AT(type), b->type, "at most",
				       CHAIN_LOG_CLOSE);
	}
#undef AT
}

#endif /* DM_CHAIN_LOG_H */
