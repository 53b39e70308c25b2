/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Validators of the chain file, run by kernel/ at load and by tools/ after every read.
 *
 * Nothing here allocates, sleeps or touches anything but its arguments. Each function returns
 * true, or false with @fault filled in: what is wrong, at which byte, what was found and what was
 * expected. Before including this, the user declares
 *	__u32 chain_crc32c_more(__u32 crc, const void *data, size_t bytes);
 * CRC-32C as in RFC 3720 B.4 (initial value and final inversion ~0); @crc is the result for what
 * came before, 0 at the start. The same function serves whoever writes these structures.
 */
#ifndef DM_CHAIN_CHECK_H
#define DM_CHAIN_CHECK_H

#include "dm-chain-format.h"

#ifdef __KERNEL__
#include <linux/string.h>
#include <asm/byteorder.h>
#define chain_le16(x)	le16_to_cpu(x)
#define chain_le32(x)	le32_to_cpu(x)
#define chain_le64(x)	le64_to_cpu(x)
#else
#include <endian.h>
#include <string.h>
#define chain_le16(x)	le16toh(x)
#define chain_le32(x)	le32toh(x)
#define chain_le64(x)	le64toh(x)
#endif

struct chain_fault {
	const char *what;	/* "node checksum", "layer id of an entry", ... */
	__u64 at;		/* byte offset, from the start of the buffer that was checked */
	__u64 found;
	__u64 expected;		/* a value, or the bound that was passed; see bound */
	const char *bound;	/* "" (equal), "at most", "at least", "a multiple of", "one of (mask)" */
};

/*
 * What the entries of a node are checked against; filled from a checked superblock and layer
 * table.
 */
struct chain_geometry {
	__u64 sectors;			/* virtual disk */
	__u64 clusters;			/* of the virtual disk, the last one possibly partial */
	__u64 file_bytes;		/* chain file */
	unsigned int cluster_shift;	/* log2 bytes */
	unsigned int subblock_shift;
	unsigned int ids;		/* length of layer_bytes: highest id + 1 */
	const __u64 *layer_bytes;	/* by layer id: size of the layer; 0: no such layer */
};

static inline bool chain_fault_set(struct chain_fault *f, const char *what, __u64 at, __u64 found,
				   const char *bound, __u64 expected)
{
	f->what = what;
	f->at = at;
	f->found = found;
	f->bound = bound;
	f->expected = expected;
	return false;
}

/* Clusters that one entry of a node of @level covers, as a power of two: 0, 9, 18. */
static inline unsigned int chain_level_shift(unsigned int level)
{
	return level * CHAIN_FANOUT_SHIFT;
}

static inline __u64 chain_clusters(__u64 sectors, unsigned int cluster_shift)
{
	unsigned int s = cluster_shift - CHAIN_SECTOR_SHIFT;

	return (sectors + (1ull << s) - 1) >> s;
}

static inline __u64 chain_root_count(__u64 clusters)
{
	unsigned int s = chain_level_shift(CHAIN_LEVELS - 1);

	return (clusters + (1ull << s) - 1) >> s;
}

/* Where the parts of a node lie, in bytes from its start; from a checked header. */
static inline __u32 chain_node_aux_at(unsigned int form, unsigned int count)
{
	__u32 at = sizeof(struct chain_node) + count * 8;

	if (form == CHAIN_FORM_RUNS)
		at += (count * 2 + 7) & ~7u;
	return at;
}

/* Superblock of a file of @actual bytes. */
static inline bool chain_check_super(const struct chain_super *s, __u64 actual, struct chain_fault *f)
{
#define AT(field) offsetof(struct chain_super, field)
	static const __u8 zero[4] = { 0 };
	__u64 sectors, file_bytes, layers, end;
	__u32 crc;
	__u64 magic, want;

	memcpy(&magic, s->magic, 8);
	memcpy(&want, CHAIN_MAGIC, 8);
	if (magic != want)
		return chain_fault_set(f, "magic", 0, magic, "", want);
	if (chain_le32(s->version) != CHAIN_VERSION)
		return chain_fault_set(f, "format version", AT(version), chain_le32(s->version), "",
				       CHAIN_VERSION);
	crc = chain_crc32c_more(0, s, AT(crc));
	crc = chain_crc32c_more(crc, zero, 4);
	crc = chain_crc32c_more(crc, (const char *)s + AT(crc) + 4, sizeof(*s) - AT(crc) - 4);
	if (chain_le32(s->crc) != crc)
		return chain_fault_set(f, "superblock checksum", AT(crc), chain_le32(s->crc), "", crc);
	if (s->incompatible)
		return chain_fault_set(f, "incompatible feature bits", AT(incompatible),
				       chain_le64(s->incompatible), "", 0);
	if (s->cluster_shift < CHAIN_MIN_CLUSTER_SHIFT)
		return chain_fault_set(f, "cluster_shift", AT(cluster_shift), s->cluster_shift,
				       "at least", CHAIN_MIN_CLUSTER_SHIFT);
	if (s->cluster_shift > CHAIN_MAX_CLUSTER_SHIFT)
		return chain_fault_set(f, "cluster_shift", AT(cluster_shift), s->cluster_shift,
				       "at most", CHAIN_MAX_CLUSTER_SHIFT);
	if (s->subblock_shift < CHAIN_MIN_SUBBLOCK_SHIFT)
		return chain_fault_set(f, "subblock_shift", AT(subblock_shift), s->subblock_shift,
				       "at least", CHAIN_MIN_SUBBLOCK_SHIFT);
	if (s->subblock_shift > CHAIN_MAX_SUBBLOCK_SHIFT)
		return chain_fault_set(f, "subblock_shift", AT(subblock_shift), s->subblock_shift,
				       "at most", CHAIN_MAX_SUBBLOCK_SHIFT);
	sectors = chain_le64(s->sectors);
	end = (__u64)CHAIN_MAX_ROOT << (chain_level_shift(CHAIN_LEVELS - 1) + s->cluster_shift -
					CHAIN_SECTOR_SHIFT);
	if (end > CHAIN_MAX_SECTORS)
		end = CHAIN_MAX_SECTORS;
	if (sectors > end)
		return chain_fault_set(f, "virtual size in sectors", AT(sectors), sectors, "at most", end);
	file_bytes = chain_le64(s->file_bytes);
	if (file_bytes > actual)
		return chain_fault_set(f, "length of the chain file", AT(file_bytes), actual, "at least",
				       file_bytes);
	if (chain_le32(s->layer_count) < 1)
		return chain_fault_set(f, "number of layers", AT(layer_count), 0, "at least", 1);
	if (chain_le32(s->layer_count) > CHAIN_MAX_LAYERS)
		return chain_fault_set(f, "number of layers", AT(layer_count),
				       chain_le32(s->layer_count), "at most", CHAIN_MAX_LAYERS);
	if (chain_le32(s->string_bytes) > CHAIN_MAX_LAYERS * (CHAIN_MAX_PATH + 1))
		return chain_fault_set(f, "bytes of layer paths", AT(string_bytes),
				       chain_le32(s->string_bytes), "at most",
				       CHAIN_MAX_LAYERS * (CHAIN_MAX_PATH + 1));
	layers = chain_le64(s->layer_offset);
	if (layers < CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES)
		return chain_fault_set(f, "offset of the layer table", AT(layer_offset), layers,
				       "at least", CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES);
	if (layers & 511)
		return chain_fault_set(f, "offset of the layer table", AT(layer_offset), layers,
				       "a multiple of", 512);
	end = (__u64)chain_le32(s->layer_count) * sizeof(struct chain_layer) +
	      chain_le32(s->string_bytes);
	if (layers > file_bytes || end > file_bytes - layers)
		return chain_fault_set(f, "end of the layer table", AT(layer_offset), layers + end,
				       "at most", file_bytes);
	if (chain_le16(s->active) == CHAIN_NO_LAYER)
		return true;

	end = (1ull << s->cluster_shift) - 1;
	layers = chain_le64(s->log_segment);
	if (!layers || layers & end)
		return chain_fault_set(f, "offset of the log's segment", AT(log_segment), layers,
				       "a multiple of", end + 1);
	sectors = chain_le64(s->log_segment_bytes);
	if (!sectors || sectors & end || sectors >> 62 || layers >> 62)
		return chain_fault_set(f, "bytes of the log's segment", AT(log_segment_bytes), sectors,
				       "a multiple of", end + 1);
	if (chain_le64(s->log_next) < layers || chain_le64(s->log_next) & 4095)
		return chain_fault_set(f, "offset of the log's next block", AT(log_next),
				       chain_le64(s->log_next), "at least", layers);
	if (chain_le64(s->log_next) > layers + sectors)
		return chain_fault_set(f, "offset of the log's next block", AT(log_next),
				       chain_le64(s->log_next), "at most", layers + sectors);
	if (chain_le64(s->alloc_next) & end || chain_le64(s->alloc_next) >> 62)
		return chain_fault_set(f, "end of the active layer's clusters", AT(alloc_next),
				       chain_le64(s->alloc_next), "a multiple of", end + 1);
	if (chain_le32(s->next_id) > CHAIN_NO_LAYER)
		return chain_fault_set(f, "id of the next layer", AT(next_id), chain_le32(s->next_id),
				       "at most", CHAIN_NO_LAYER);
	if (chain_le32(s->free_count) > CHAIN_MAX_FREE)
		return chain_fault_set(f, "entries of the free list", AT(free_count),
				       chain_le32(s->free_count), "at most", CHAIN_MAX_FREE);
	layers = chain_le64(s->free_offset);
	end = (__u64)chain_le32(s->free_count) * sizeof(struct chain_free);
	if (end && (layers & 511 || layers > file_bytes || end > file_bytes - layers))
		return chain_fault_set(f, "end of the free list", AT(free_offset), layers + end,
				       "at most", file_bytes);
	return true;
#undef AT
}

/*
 * Which of the superblock's copies (two, one after the other, of a file of @actual bytes) counts: 0 or 1.
 * -1: neither, and @f says what is wrong with the first.
 */
static inline int chain_check_supers(const struct chain_super *copies, __u64 actual, struct chain_fault *f)
{
	struct chain_fault second;
	bool sound = chain_check_super(copies, actual, f);

	if (!chain_check_super(copies + 1, actual, &second))
		return sound ? 0 : -1;
	return sound && chain_le64(copies[0].generation) > chain_le64(copies[1].generation) ? 0 : 1;
}

/*
 * The layer table that @s (checked) describes; @table holds all of it. Offsets in @f count from the
 * table's start. Paths are checked to be absolute, NUL-terminated and inside the string area.
 */
static inline bool chain_check_layers(const struct chain_super *s, const void *table,
				      struct chain_fault *f)
{
#define AT(field) (i * sizeof(*l) + offsetof(struct chain_layer, field))
	const struct chain_layer *l = (const struct chain_layer *)table;
	__u32 count = chain_le32(s->layer_count), strings = chain_le32(s->string_bytes), crc, i;
	const char *text = (const char *)(l + count);

	crc = chain_crc32c_more(0, table, count * sizeof(*l) + strings);
	if (crc != chain_le32(s->layer_crc))
		return chain_fault_set(f, "layer table checksum", 0, crc, "", chain_le32(s->layer_crc));
	for (i = 0; i < count; i++, l++) {
		__u32 id = chain_le16(l->id), at = chain_le32(l->path_offset);
		__u32 n = chain_le16(l->path_bytes);

		if (id < 1 || id > CHAIN_MAX_LAYER_ID)
			return chain_fault_set(f, "layer id", AT(id), id, "at most", CHAIN_MAX_LAYER_ID);
		if (l->type > CHAIN_LAYER_DEVICE)
			return chain_fault_set(f, "layer type", AT(type), l->type, "at most",
					       CHAIN_LAYER_DEVICE);
		if (l->format > CHAIN_FORMAT_QCOW2)
			return chain_fault_set(f, "layer format", AT(format), l->format, "at most",
					       CHAIN_FORMAT_QCOW2);
		if (l->compression > CHAIN_ZSTD)
			return chain_fault_set(f, "layer compression", AT(compression), l->compression,
					       "at most", CHAIN_ZSTD);
		if (l->format == CHAIN_FORMAT_QCOW2 &&
		    (l->cluster_shift < 9 || l->cluster_shift > 21))
			return chain_fault_set(f, "layer cluster_shift", AT(cluster_shift),
					       l->cluster_shift, "at most", 21);
		if (chain_le32(l->flags) & ~CHAIN_LAYER_FLAGS)
			return chain_fault_set(f, "layer flags", AT(flags), chain_le32(l->flags),
					       "one of (mask)", CHAIN_LAYER_FLAGS);
		/* Only what is sealed, and a file, can be added to. */
		if (chain_le32(l->flags) & CHAIN_LAYER_GROWING &&
		    (l->type || chain_le32(l->flags) & CHAIN_LAYER_UNSEALED))
			return chain_fault_set(f, "layer flags", AT(flags), chain_le32(l->flags),
					       "at most", CHAIN_LAYER_GROWING - 1);
		if (chain_le64(l->bytes) >> 63)
			return chain_fault_set(f, "layer size", AT(bytes), chain_le64(l->bytes),
					       "at most", ~0ull >> 1);
		if (n < 1 || n > CHAIN_MAX_PATH)
			return chain_fault_set(f, "length of a layer's path", AT(path_bytes), n,
					       "at most", CHAIN_MAX_PATH);
		if (at >= strings || n >= strings - at)
			return chain_fault_set(f, "end of a layer's path", AT(path_offset),
					       (__u64)at + n + 1, "at most", strings);
		if (text[at] != '/' || text[at + n] != '\0' || memchr(text + at, 0, n))
			return chain_fault_set(f, "first byte of a layer's path", AT(path_offset),
					       (__u8)text[at], "", '/');
	}
	i = chain_le32(s->home_offset);
	if (s->home_bytes &&
	    (i >= strings || chain_le16(s->home_bytes) >= strings - i || text[i] != '/' ||
	     text[i + chain_le16(s->home_bytes)] != '\0'))
		return chain_fault_set(f, "end of the chain file's own path",
				       count * sizeof(struct chain_layer),
				       (__u64)i + chain_le16(s->home_bytes) + 1, "at most", strings);
	return true;
#undef AT
}

/* One entry of the node in @buf, at byte @at. @fine: it is an entry of a fine cluster. */
static inline bool chain_check_entry(const struct chain_geometry *g, const struct chain_node *n,
				     __u64 e, __u32 at, bool fine, struct chain_fault *f)
{
	__u32 level = n->level;
	__u32 words = chain_le32(n->aux_words);
	__u32 aux = chain_node_aux_at(n->form, chain_le16(n->count_minus_1) + 1u);
	unsigned int layer = chain_entry_layer(e);
	__u64 pos = chain_entry_pos(e);
	const struct chain_compressed *c;
	__u64 bytes;

	switch (chain_entry_kind(e)) {
	case CHAIN_HOLE:
		if (layer || pos)
			return chain_fault_set(f, "hole entry", at, e, "", CHAIN_HOLE);
		return true;
	case CHAIN_ZERO:
		if (pos)
			return chain_fault_set(f, "position of a zero entry", at, pos, "", 0);
		if (layer >= g->ids || !g->layer_bytes[layer])
			return chain_fault_set(f, "layer id of an entry", at, layer, "at most",
					       g->ids - 1);
		return true;
	case CHAIN_DATA:
		if (layer >= g->ids || !g->layer_bytes[layer])
			return chain_fault_set(f, "layer id of an entry", at, layer, "at most",
					       g->ids - 1);
		bytes = g->layer_bytes[layer];
		if (bytes > CHAIN_MAX_POS << CHAIN_SECTOR_SHIFT)
			bytes = CHAIN_MAX_POS << CHAIN_SECTOR_SHIFT;
		if (pos << CHAIN_SECTOR_SHIFT >= bytes)
			return chain_fault_set(f, "position of a data entry in its layer", at,
					       pos << CHAIN_SECTOR_SHIFT, "at most", bytes - 1);
		return true;
	case CHAIN_COMPRESSED:
		if (level)
			break;
		if (words < CHAIN_COMPRESSED_WORDS || pos > words - CHAIN_COMPRESSED_WORDS)
			return chain_fault_set(f, "auxiliary index of a compressed entry", at, pos,
					       "at most", (__u64)words - CHAIN_COMPRESSED_WORDS);
		c = (const struct chain_compressed *)((const char *)n + aux + pos * 8);
		layer = chain_le16(c->layer);
		at = aux + (__u32)pos * 8;
		if (layer >= g->ids || !g->layer_bytes[layer])
			return chain_fault_set(f, "layer id of a compressed cluster", at, layer,
					       "at most", g->ids - 1);
		if (chain_le64(c->offset) >= g->layer_bytes[layer])
			return chain_fault_set(f, "offset of a compressed cluster", at,
					       chain_le64(c->offset), "at most",
					       g->layer_bytes[layer] - 1);
		if (chain_le32(c->bytes) < 1 || chain_le32(c->bytes) > 2 * CHAIN_MAX_LAYER_CLUSTER)
			return chain_fault_set(f, "length of a compressed cluster", at,
					       chain_le32(c->bytes), "at most",
					       2 * CHAIN_MAX_LAYER_CLUSTER);
		return true;
	case CHAIN_FINE:
		if (level || fine)
			break;
		bytes = 1ull << (g->cluster_shift - g->subblock_shift);
		if (words < bytes || pos > words - bytes)
			return chain_fault_set(f, "auxiliary index of a fine entry", at, pos, "at most",
					       words < bytes ? 0 : words - bytes);
		return true;
	case CHAIN_NODE:
		if (!level)
			break;
		if (!layer)
			return chain_fault_set(f, "sectors of a child node", at, layer, "at least", 1);
		if (layer > CHAIN_MAX_NODE_BYTES >> CHAIN_SECTOR_SHIFT)
			return chain_fault_set(f, "sectors of a child node", at, layer, "at most",
					       CHAIN_MAX_NODE_BYTES >> CHAIN_SECTOR_SHIFT);
		if (((pos + layer) << CHAIN_SECTOR_SHIFT) > g->file_bytes)
			return chain_fault_set(f, "end of a child node", at,
					       (pos + layer) << CHAIN_SECTOR_SHIFT, "at most",
					       g->file_bytes);
		return true;
	default:
		break;
	}
	return chain_fault_set(f, "kind of an entry", at, chain_entry_kind(e), "one of (mask)",
			       level ? 0x4e : fine ? 0x1e : 0x3e);
}

/*
 * A node as read from the chain file into @buf (8-byte aligned), @bytes long (a multiple of 512).
 * @level and @first are what its parent says it is. Every entry and auxiliary word that an entry
 * names is checked, so a reader may use them without looking again.
 */
static inline bool chain_check_node(const struct chain_geometry *g, const void *buf, __u32 bytes,
				    unsigned int level, __u64 first, struct chain_fault *f)
{
#define AT(field) offsetof(struct chain_node, field)
	const struct chain_node *n = (const struct chain_node *)buf;
	const __le64 *entry = (const __le64 *)(n + 1);
	__u32 count = chain_le16(n->count_minus_1) + 1u, words = chain_le32(n->aux_words);
	__u32 children = level == CHAIN_LEVELS - 1 ? (__u32)chain_root_count(g->clusters) :
						     CHAIN_FANOUT;
	__u32 sub = 1u << (g->cluster_shift - g->subblock_shift);
	__u32 aux, crc, i, j;
	__u64 e;

	if (chain_le32(n->magic) != CHAIN_NODE_MAGIC)
		return chain_fault_set(f, "node magic", 0, chain_le32(n->magic), "", CHAIN_NODE_MAGIC);
	if (n->form > CHAIN_FORM_RUNS)
		return chain_fault_set(f, "node form", AT(form), n->form, "at most", CHAIN_FORM_RUNS);
	if (n->form == CHAIN_FORM_ARRAY && count != children)
		return chain_fault_set(f, "entries of a node", AT(count_minus_1), count, "", children);
	if (count > children)
		return chain_fault_set(f, "entries of a node", AT(count_minus_1), count, "at most",
				       children);
	aux = chain_node_aux_at(n->form, count);
	if (aux > bytes || words > (bytes - aux) / 8)
		return chain_fault_set(f, "length of a node", AT(aux_words), aux + 8ull * words,
				       "at most", bytes);
	crc = chain_crc32c_more(0, (const char *)buf + 8, aux + 8 * words - 8);
	if (crc != chain_le32(n->crc))
		return chain_fault_set(f, "node checksum", AT(crc), chain_le32(n->crc), "", crc);
	if (n->level != level)
		return chain_fault_set(f, "node level", AT(level), n->level, "", level);
	if (chain_le64(n->first) != first)
		return chain_fault_set(f, "first cluster of a node", AT(first), chain_le64(n->first), "",
				       first);
	for (i = 0; i < count; i++) {
		e = chain_le64(entry[i]);
		if (!chain_check_entry(g, n, e, (__u32)sizeof(*n) + i * 8, false, f))
			return false;
		if (chain_entry_kind(e) != CHAIN_FINE)
			continue;
		for (j = 0; j < sub; j++) {
			__u32 at = aux + 8 * ((__u32)chain_entry_pos(e) + j);
			const __le64 *w = (const __le64 *)((const char *)buf + at);

			if (!chain_check_entry(g, n, chain_le64(*w), at, true, f))
				return false;
		}
	}
	if (n->form == CHAIN_FORM_RUNS) {
		const __le16 *start = (const __le16 *)(entry + count);
		__u32 next, kind;

		for (i = 0; i < count; i++) {
			__u32 at = (__u32)sizeof(*n) + count * 8 + i * 2;
			__u32 s = chain_le16(start[i]);

			if (!i && s)
				return chain_fault_set(f, "start of the first run", at, s, "", 0);
			next = i + 1 < count ? chain_le16(start[i + 1]) : children;
			if (next > children)
				return chain_fault_set(f, "start of a run", at + 2, next, "at most",
						       children - 1);
			if (next <= s)
				return chain_fault_set(f, "start of a run", at, s, "at most", next - 1);
			kind = chain_entry_kind(chain_le64(entry[i]));
			if (next - s > 1 && kind > CHAIN_DATA)
				return chain_fault_set(f, "length of a run of this kind", at, next - s, "",
						       1);
		}
	}
	return true;
#undef AT
}

#endif /* DM_CHAIN_CHECK_H */
