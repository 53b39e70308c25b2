// SPDX-License-Identifier: GPL-2.0-or-later
// Writes one qcow2 file (docs/interop/qcow2.txt of QEMU), with all the freedom that the format leaves:
// which host clusters are used in which order, where the tables lie, what is shared. Written for
// the tests alone and independent of tools/qcow2, so that both must agree. Assumes images that
// fit into memory as tables, and up to some GiB as data. Used by random_chain.cpp.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "file.hpp"
#include "prng.hpp"

namespace gen {

enum class Compression { none, zlib, zstd };
enum class DataFile { none, own, raw };
enum class Placement { in_order, shuffled, gaps };

struct ImageOptions {
    unsigned version = 3;
    unsigned cluster_bits = 16;
    u64 size = 0;  // bytes, a multiple of 512
    bool extended_l2 = false;
    Compression compression = Compression::none;
    unsigned refcount_order = 4;
    DataFile data_file = DataFile::none;
    std::string data_name;  // as the header has it
    std::string backing_name, backing_format;
    bool dirty = false;
    bool lazy_refcounts = false;
    bool feature_table = false;
    bool unknown_extension = false;
    bool unknown_compatible_bit = false;
    bool long_header = false;  // more header fields than are defined
    Placement placement = Placement::in_order;
    unsigned spare_l1 = 0;  // entries of the L1 table beyond the end of the disk
};

// One set of L1 and L2 tables: the active one, or a snapshot's.
struct Tables {
    struct Entry {
        u64 word = 0;    // without the COPIED flag
        u64 bitmap = 0;  // of extended L2 entries
    };
    struct L2 {
        u64 host = 0;  // byte offset
        std::vector<Entry> entries;
    };
    std::vector<std::shared_ptr<L2>> l2;
};

class Image {
public:
    Image(const std::string& path, const std::string& data_path, ImageOptions, Prng);

    u64 cluster_bytes() const { return u64{1} << o_.cluster_bits; }
    u64 clusters() const { return (o_.size + cluster_bytes() - 1) >> o_.cluster_bits; }
    static bool fits(const ImageOptions&);  // the header, its extensions and the backing name

    // Each defines the guest cluster `n`, once. `data` is a whole cluster, also at the end of the disk.
    void data(u64 n, std::span<const u8> data);
    void zero(u64 n);
    void zero_allocated(u64 n, std::span<const u8> garbage);
    void subclusters(u64 n, u32 allocated, u32 zeroes, std::span<const u8> data);  // extended L2
    // False, and nothing done, if the data does not become shorter.
    bool compressed(u64 n, std::span<const u8> data);

    // What is defined so far becomes a snapshot of its own, and the disk starts empty again ...
    void snapshot_and_start_again(const std::string& name);
    // ... or stays, shared with the snapshot.
    void snapshot(const std::string& name);
    void bitmap(const std::string& name, unsigned granularity_bits);

    void finish();  // writes all metadata

private:
    struct Snapshot {
        std::string name;
        Tables tables;
        u64 l1_host = 0;
    };
    struct Bitmap {
        std::string name;
        unsigned granularity_bits;
        u64 table_host;
        u32 table_entries;
    };

    u64 allocate(u64 clusters);  // byte offset
    u64 allocate_data(u64 n);
    Tables::Entry& entry(u64 n);
    u64 max_refs() const;
    std::pair<u64, u64> stream_clusters(u64 word) const;  // first and last host cluster
    void share(const Tables&);
    void write_tables(const Tables&, u64 l1_host);
    void write_refcounts();
    u64 write_snapshots();
    std::pair<u64, u64> write_bitmaps();
    static std::vector<u8> header(const ImageOptions&, u64 bitmaps, u64 directory, u64 directory_bytes);
    std::vector<u8> compress(std::span<const u8>);

    ImageOptions o_;
    Prng random_;
    File file_;
    std::unique_ptr<File> data_file_;
    Tables active_;
    std::vector<Snapshot> snapshots_;
    std::vector<Bitmap> bitmaps_;
    std::vector<u32> refs_;               // by host cluster
    std::vector<u64> pool_;               // host clusters to choose from
    u64 next_ = 1;                        // first host cluster that nobody has thought of
    u64 stream_at_ = 0, stream_end_ = 0;  // room for compressed data, bytes
    u64 refcount_table_ = 0, refcount_table_clusters_ = 0;
};

}  // namespace gen
