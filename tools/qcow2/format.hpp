// SPDX-License-Identifier: GPL-2.0-or-later
// The numbers of the qcow2 format: names after QEMU's docs/interop/qcow2.txt, whose sections the
// comments name. Everything on disk is big-endian.
#pragma once

#include <endian.h>

#include <cstdint>
#include <cstring>

namespace dmchain::qcow2 {

inline constexpr std::uint32_t magic = 0x514649fb;  // "QFI\xfb"
inline constexpr std::uint32_t min_cluster_bits = 9;
inline constexpr std::uint32_t max_cluster_bits = 21;     // QEMU's limit
inline constexpr std::uint64_t max_l1_bytes = 32u << 20;  // QEMU's limits, also below
inline constexpr std::uint64_t max_refcount_table_bytes = 8u << 20;
inline constexpr std::uint32_t max_snapshots = 65536;
inline constexpr std::uint32_t max_backing_name = 1023;
// All snapshots' L1 tables together: far above what anybody has, far below what a crafted snapshot table could make
// us read.
inline constexpr std::uint64_t max_snapshot_l1_bytes = 1u << 30;

// Header, "incompatible_features"
inline constexpr std::uint64_t incompatible_dirty = 1u << 0;
inline constexpr std::uint64_t incompatible_corrupt = 1u << 1;
inline constexpr std::uint64_t incompatible_data_file = 1u << 2;
inline constexpr std::uint64_t incompatible_compression = 1u << 3;
inline constexpr std::uint64_t incompatible_extended_l2 = 1u << 4;
inline constexpr std::uint64_t incompatible_known = 0x1f;
inline constexpr std::uint64_t incompatible_in_use = 1ull << 63;  // CHAIN_QCOW2_IN_USE of dm-chain-log.h
// "compatible_features", "autoclear_features"
inline constexpr std::uint64_t compatible_lazy_refcounts = 1u << 0;
inline constexpr std::uint64_t autoclear_bitmaps = 1u << 0;
inline constexpr std::uint64_t autoclear_data_file_raw = 1u << 1;
// Ours: extension_sealed says what the image is. Whoever writes to it and does not know the bit clears it.
inline constexpr std::uint64_t autoclear_sealed = 1ull << 63;

// "Header extensions"
inline constexpr std::uint32_t extension_end = 0;
inline constexpr std::uint32_t extension_backing_format = 0xe2792aca;
inline constexpr std::uint32_t extension_feature_names = 0x6803f857;
inline constexpr std::uint32_t extension_bitmaps = 0x23852875;
inline constexpr std::uint32_t extension_data_file = 0x44415441;
inline constexpr std::uint32_t extension_encryption = 0x0537be77;
inline constexpr std::uint32_t extension_sealed = 0x444d4348;  // "DMCH": see docs/format.md, "Sealed layers"
inline constexpr std::uint32_t extension_label = 0x444d4c42;   // "DMLB": "Labels"

// "Cluster mapping": L1 and L2 entries
inline constexpr std::uint64_t offset_mask = 0x00fffffffffffe00;
inline constexpr std::uint64_t flag_copied = 1ull << 63;
inline constexpr std::uint64_t flag_compressed = 1ull << 62;
inline constexpr std::uint64_t flag_zero = 1;
inline constexpr std::uint64_t l1_reserved = 0x7f000000000001ff;
inline constexpr std::uint64_t l2_reserved = 0x3f000000000001fe;  // of a standard entry; bit 0: flag_zero
inline constexpr std::uint32_t subclusters = 32;                  // in a cluster, with extended L2 entries

// Bits of a cluster's @units, at most 32, as bits of its subclusters.
inline std::uint32_t subclusters_of(std::uint32_t bits, std::uint32_t units) {
    const std::uint32_t each = subclusters / units;
    const std::uint32_t one = each == 32 ? 0xffffffffu : (1u << each) - 1;
    std::uint32_t out = 0;
    for (std::uint32_t i = 0; i < units; i++)
        if (bits >> i & 1) out |= one << (i * each);
    return out;
}

// The bytes of the image that the L2 entry of a compressed cluster names, whole sectors at the end ("Compressed Clusters
// Descriptor"): the bits below 62 - (cluster_bits - 8) are the offset, those above the number of further sectors.
struct CompressedRange {
    std::uint64_t begin;
    std::uint64_t end;
};
inline CompressedRange compressed_range(std::uint64_t entry, std::uint32_t cluster_bits) {
    const unsigned bits = 62 - (cluster_bits - 8);
    const std::uint64_t begin = entry & ((std::uint64_t{1} << bits) - 1);
    const std::uint64_t more = (entry & ~(flag_copied | flag_compressed)) >> bits;
    return {begin, (begin & ~std::uint64_t{511}) + (more + 1) * 512};
}

// The other way round: the entry of a stream of @bytes at byte @begin of the image.
inline std::uint64_t compressed_entry(std::uint64_t begin, std::uint64_t bytes, std::uint32_t cluster_bits) {
    const std::uint64_t more = (begin + bytes - 1) / 512 - begin / 512;
    return flag_compressed | more << (62 - (cluster_bits - 8)) | begin;
}

inline std::uint16_t be16(const void* p) {
    std::uint16_t v;
    std::memcpy(&v, p, sizeof v);
    return be16toh(v);
}
inline std::uint32_t be32(const void* p) {
    std::uint32_t v;
    std::memcpy(&v, p, sizeof v);
    return be32toh(v);
}
inline std::uint64_t be64(const void* p) {
    std::uint64_t v;
    std::memcpy(&v, p, sizeof v);
    return be64toh(v);
}

}  // namespace dmchain::qcow2
