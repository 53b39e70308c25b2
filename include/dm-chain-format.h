/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chain file: what kernel/ and tools/ both read and write.
 *
 * All fields are little-endian. "Sector" is 512 bytes; offsets are in bytes from the start of
 * the chain file unless a name says sectors. docs/format.md has the same byte by byte, with the
 * reasons. dm-chain-check.h has the validators that both sides run on everything read from here.
 */
#ifndef DM_CHAIN_FORMAT_H
#define DM_CHAIN_FORMAT_H

#include <linux/types.h>

#ifdef __cplusplus
#define CHAIN_STATIC_ASSERT(e, m) static_assert(e, m)
#else
#define CHAIN_STATIC_ASSERT(e, m) _Static_assert(e, m)
#endif

#define CHAIN_MAGIC		"DMCHAIN\n"	/* 8 bytes, no NUL */
#define CHAIN_VERSION		1
#define CHAIN_SUPER_BYTES	4096	/* a superblock; two copies, at bytes 0 and 4096 */
#define CHAIN_SUPER_COPIES	2
#define CHAIN_SECTOR_SHIFT	9

#define CHAIN_FANOUT_SHIFT	9
#define CHAIN_FANOUT		512	/* entries in a leaf and in a middle node */
#define CHAIN_LEVELS		3	/* leaf 0, middle 1, root 2 */
#define CHAIN_MAX_ROOT		65536	/* slots of the root: 1 PiB at 64 KiB clusters */

#define CHAIN_MIN_SUBBLOCK_SHIFT	9
#define CHAIN_MAX_SUBBLOCK_SHIFT	12
#define CHAIN_MIN_CLUSTER_SHIFT		12
#define CHAIN_MAX_CLUSTER_SHIFT		21

#define CHAIN_MAX_LAYERS	16384	/* records in the layer table, data files included */
#define CHAIN_MAX_PATH		4095	/* bytes of a layer's path, without the NUL */
#define CHAIN_MAX_LAYER_ID	0xfffe
#define CHAIN_NO_LAYER		0xffff
#define CHAIN_MAX_NODE_BYTES	(4u << 20)	/* one node of the index, auxiliary words included */
#define CHAIN_MAX_LAYER_CLUSTER	(2u << 20)	/* bytes; qcow2's own limit */

/*
 * An entry of the index: what a cluster (leaf), a subblock (fine), or a whole child's range
 * (middle, root) is. 64 bits:
 *
 *   63        48 47                              3 2    0
 *   [ layer id  | sector in the layer (45 bits)   | kind ]
 *
 * HOLE        no layer has it: reads zeroes. layer and sector 0.
 * ZERO        the layer says it reads zeroes. sector 0.
 * DATA        at this sector of the layer, the whole range of the entry contiguously. In a middle
 *             node or the root, one DATA entry stands for a child whose clusters all follow
 *             one another in one layer; HOLE and ZERO likewise.
 * COMPRESSED  (leaf, fine) sector = index of a struct chain_compressed in the node's auxiliary
 * words. FINE        (leaf) sector = index, in the node's auxiliary words, of one entry for each
 * subblock. NODE        (middle, root) child node: sector = its place in the chain file, in
 * sectors; layer =
 *             its length in sectors (1..8192: CHAIN_MAX_NODE_BYTES).
 */
#define CHAIN_KIND_BITS		3
#define CHAIN_KIND_MASK		7ull
#define CHAIN_POS_BITS		45
#define CHAIN_POS_MASK		((1ull << CHAIN_POS_BITS) - 1)
#define CHAIN_LAYER_SHIFT	48

/* So that no sum of a position and a place in the disk leaves its 45 bits. */
#define CHAIN_MAX_POS		(1ull << 44)	/* sectors: 8 PiB into a layer */
#define CHAIN_MAX_SECTORS	(1ull << 43)	/* virtual disk: 4 PiB */

enum chain_kind {
	CHAIN_NONE = 0,		/* never on disk */
	CHAIN_HOLE = 1,
	CHAIN_ZERO = 2,
	CHAIN_DATA = 3,
	CHAIN_COMPRESSED = 4,
	CHAIN_FINE = 5,
	CHAIN_NODE = 6,
	CHAIN_RESIDENT = 7,	/* only in memory (kernel): a pointer */
};

static inline __u64 chain_entry(enum chain_kind kind, unsigned int layer, __u64 pos)
{
	return ((__u64)layer << CHAIN_LAYER_SHIFT) | (pos << CHAIN_KIND_BITS) | (__u64)kind;
}

static inline enum chain_kind chain_entry_kind(__u64 e)
{
	return (enum chain_kind)(e & CHAIN_KIND_MASK);
}

static inline unsigned int chain_entry_layer(__u64 e)
{
	return (unsigned int)(e >> CHAIN_LAYER_SHIFT);
}

static inline __u64 chain_entry_pos(__u64 e)
{
	return (e >> CHAIN_KIND_BITS) & CHAIN_POS_MASK;
}

/* The entry @sectors further on in the same contiguous range: HOLE and ZERO stay what they are. */
static inline __u64 chain_entry_advance(__u64 e, __u64 sectors)
{
	return chain_entry_kind(e) == CHAIN_DATA ? e + (sectors << CHAIN_KIND_BITS) : e;
}

/*
 * A compressed cluster of a layer. The layer's cluster is aligned to its size in the virtual disk
 * (qcow2 overlays map equal offsets), so the place within the inflated cluster is the virtual
 * offset modulo the layer's cluster size.
 */
struct chain_compressed {
	__le64 offset;		/* bytes, in the layer's file; any alignment */
	__le32 bytes;		/* upper bound of the stream's length */
	__le16 layer;
	__le16 reserved;	/* 0 */
};
#define CHAIN_COMPRESSED_WORDS	2
CHAIN_STATIC_ASSERT(sizeof(struct chain_compressed) == 16, "two words");

/*
 * A node of the index, at a multiple of 512 bytes, zero-padded to one. After the header:
 *   ARRAY: count entries, one for each child (leaf, middle: 512; root: one for each 2^18 clusters)
 *   RUNS:  count entries, then count __le16: the child at which each run starts (the first at 0,
 *          rising), zero-padded to 8 bytes. Runs are of HOLE, ZERO or DATA (which advances child by
 * child),
 *          or of one child.
 * then aux_words 64-bit words. Children that lie past the end of the disk are HOLE.
 */
struct chain_node {
	__le32 magic;		/* CHAIN_NODE_MAGIC */
	__le32 crc;		/* CRC-32C of bytes 8.. to the end of the auxiliary words */
	__u8 level;
	__u8 form;		/* enum chain_form */
	__le16 count_minus_1;
	__le32 aux_words;
	__le64 first;		/* number of the first cluster it covers */
	__le64 generation;
};
#define CHAIN_NODE_MAGIC	0x4e434d44u	/* "DMCN" */
CHAIN_STATIC_ASSERT(sizeof(struct chain_node) == 32, "node header");

enum chain_form {
	CHAIN_FORM_ARRAY = 0,
	CHAIN_FORM_RUNS = 1,
};

/*
 * A record of the layer table: one file or block device that the target opens. Records stand in
 * the order of the chain, base first. A qcow2 layer with an external data file has two: the
 * image (whose entries name the other) and, right after it, the data file with owner = the
 * image's id.
 */
struct chain_layer {
	__le16 id;		/* 1..CHAIN_MAX_LAYER_ID, unique */
	__u8 type;		/* enum chain_layer_type */
	__u8 format;		/* enum chain_layer_format */
	__u8 compression;	/* enum chain_compression: of its compressed clusters */
	__u8 cluster_shift;	/* log2 bytes of the layer's own clusters, 9..21; 0 for raw */
	__le16 owner;		/* id of the image whose data file this is, or CHAIN_NO_LAYER */
	__le32 flags;		/* CHAIN_LAYER_* */
	__le32 head_crc;	/* CRC-32C of the first 4096 bytes (or all, if fewer); see HAS_HEAD_CRC; of */
				/* a sealed file: 0, or what tells a copy of it with the same size and time */
	__le64 bytes;		/* size of the file or device */
	__le64 inode;		/* identity of a file: inode number ... */
	__le64 mtime_sec;	/* ... and time of its last change; 0 for a device */
	__le32 mtime_nsec;
	__le32 path_offset;	/* in the string area of the layer table, bytes */
	__le16 path_bytes;	/* without the NUL that follows it; an absolute path */
	__le16 reserved0;
	__le32 volume;		/* a volume of LVM: CRC-32C of its id; otherwise 0 */
	__u8 log[8];		/* UNSEALED: first half of its log's uuid; 0: not noted */
};
CHAIN_STATIC_ASSERT(sizeof(struct chain_layer) == 64, "layer record");

enum chain_layer_type { CHAIN_LAYER_FILE = 0, CHAIN_LAYER_DEVICE = 1 };
enum chain_layer_format { CHAIN_FORMAT_RAW = 0, CHAIN_FORMAT_QCOW2 = 1 };
enum chain_compression { CHAIN_ZLIB = 0, CHAIN_ZSTD = 1 };
#define CHAIN_LAYER_HAS_HEAD_CRC	1u	/* head_crc is to be compared at activation */
#define CHAIN_LAYER_HAS_COMPRESSED	2u	/* some entry is a compressed cluster of it */
#define CHAIN_LAYER_UNSEALED		4u	/* active, or frozen and not sealed: its log says all */
#define CHAIN_LAYER_GROWING		8u	/* sealed, and being added to: size and time do not count */
#define CHAIN_LAYER_FLAGS		15u	/* all that this version knows */

/*
 * The superblock. It is written last, when all that it names is durable, in turn at byte 0 and at byte 4096:
 * the sound copy with the larger generation counts, and a torn write leaves the other one. A file that was
 * never active has one copy, at byte 0, and zeroes in the other's place. The layer table is layer_count
 * records, then string_bytes bytes of NUL-terminated paths, contiguous.
 *
 * With an active layer the index says what the chain was when the log (dm-chain-log.h) had come to log_next;
 * what the log has from there on is applied at activation.
 */
struct chain_super {
	__u8 magic[8];
	__le32 version;
	__le32 crc;		/* CRC-32C of the first 4096 bytes with this field 0 */
	__u8 uuid[16];		/* of this chain file */
	__le64 compatible;	/* feature words; unknown bits: may be ignored ... */
	__le64 read_only;	/* ... may only be read ... */
	__le64 incompatible;	/* ... must be refused */
	__le64 generation;
	__le64 sectors;		/* size of the virtual disk, in sectors */
	__u8 cluster_shift;	/* log2 bytes */
	__u8 subblock_shift;	/* log2 bytes, <= cluster_shift */
	__le16 active;		/* id of the active layer, or CHAIN_NO_LAYER */
	__le32 layer_count;	/* records; 1..CHAIN_MAX_LAYERS */
	__le64 layer_offset;	/* bytes, a multiple of 512 */
	__le32 string_bytes;
	__le32 layer_crc;	/* CRC-32C of the layer table, strings included */
	__le64 root;		/* an entry: NODE (the root node), or HOLE for a disk that nobody wrote */
	__le64 file_bytes;	/* length of the chain file: nothing it names lies beyond */
	__le64 nodes;		/* nodes in the file, the root included (status: index pages total) */
	__le64 clusters;	/* clusters that are not HOLE (status) */
	/* Only with an active layer, otherwise 0. */
	__le64 log_segment;	/* bytes in the active layer: the log's segment at that time ... */
	__le64 log_segment_bytes;
	__le64 log_next;	/* ... the place of its next block (the segment's end: none is left) ... */
	__le64 log_sequence;	/* ... and the sequence number of that block */
	__le32 log_epoch;	/* of the block before */
	__le32 state;		/* CHAIN_STATE_* */
	__le64 alloc_next;	/* bytes in the active layer: from here on all is free */
	__le64 free_offset;	/* bytes in the chain file: free_count struct chain_free, a multiple of 512 */
	__le32 free_count;	/* 0: none, free_offset does not count */
	__le32 free_crc;	/* CRC-32C of them */
	__le32 next_id;		/* the id that the next layer gets */
	/* Where this file was built: what tells whether it was copied, moved or restored since. */
	__le32 home_offset;	/* its own absolute path then: byte in the layer table's strings ... */
	__le64 self_inode;	/* its own inode number; 0: a device, or not noted */
	__le16 home_bytes;	/* ... without the NUL that follows; 0: not noted */
	__u8 reserved[4096 - 210];
};
CHAIN_STATIC_ASSERT(sizeof(struct chain_super) == CHAIN_SUPER_BYTES, "superblock");

#define CHAIN_STATE_NEEDS_CHECK	1u	/* a write of metadata failed: recover before writing again */

/* Room that may be used again: of the active layer (bytes, below alloc_next), or of the chain file. */
struct chain_free {
	__le64 offset;		/* bytes; bit 0 set: of the chain file */
	__le64 bytes;
};
#define CHAIN_MAX_FREE	65536	/* entries; what does not fit is lost until the index is rebuilt */

#endif /* DM_CHAIN_FORMAT_H */
