// SPDX-License-Identifier: GPL-2.0-or-later
// Chains of odd images: each layer with features, sizes and an order of its own. Keeps what the disk
// must read as, layer by layer.
#include <filesystem>
#include <iostream>

#include "chains.hpp"
#include "image.hpp"

namespace gen {

namespace fs = std::filesystem;

const std::set<std::string>& all_features() {
    static const std::set<std::string> names = {
        "v2",     "extended-l2", "zlib",      "zstd",    "zero",  "data-file", "raw-base", "absolute", "json",     "subfolder",
        "resize", "names",       "snapshots", "bitmaps", "dirty", "refcounts", "layout",   "headers",  "clusters",
    };
    return names;
}

namespace {

// Data for a cluster, of several kinds; `squeezable` leaves out what does not compress.
void fill(std::vector<u8>& to, Prng& random, unsigned layer, u64 guest, bool squeezable) {
    switch (random.below(squeezable ? 3 : 5)) {
    case 0: {
        const std::string text = "layer " + std::to_string(layer) + " offset " + std::to_string(guest) + "\n";
        for (std::size_t i = 0; i < to.size(); i++) to[i] = static_cast<u8>(text[i % text.size()]);
        // Differs from sector to sector, so that a shift within the cluster shows.
        for (std::size_t i = 0; i + 4 <= to.size(); i += 512) {
            const u32 sector = static_cast<u32>((guest + i) / 512);
            std::memcpy(&to[i], &sector, 4);
        }
        break;
    }
    case 1:
        fill_random(to, random.next());
        for (auto& b : to) b = "01234567"[b & 7];
        break;
    case 2:  // mostly zero
        std::fill(to.begin(), to.end(), u8{0});
        for (u64 n = random.below(1 + to.size() / 256); n; n--) to[random.below(to.size())] = static_cast<u8>(random.next());
        break;
    default: fill_random(to, random.next());
    }
}

struct Layer {
    std::string path;  // absolute
    std::string format;
    u64 size;
};

class Maker {
public:
    Maker(std::string out, const RandomOptions& o) : out_(std::move(out)), o_(o), random_(o.seed) {}

    void make() {
        const unsigned depth = o_.depth ? o_.depth : static_cast<unsigned>(random_.between(1, 40));
        usual_size_ = some_size();
        unsigned first = 0;
        if (depth > 1 && has("raw-base", 35)) {
            raw_base();
            first = 1;
        }
        for (unsigned n = first; n < depth; n++) layer(n, n + 1 == depth);
    }
    const std::vector<u8>& content() const { return content_; }

private:
    bool has(const char* feature, unsigned percent) { return o_.features.count(feature) && random_.chance(percent); }

    u64 some_size() {
        u64 size = random_.between(1, o_.size / 512) * 512;
        if (random_.chance(60)) size = std::max<u64>(size / 65536, 1) * 65536;
        return size;
    }

    void raw_base() {
        u64 size = has("resize", 50) ? some_size() : usual_size_;
        // QEMU reads the last, partial sector of a raw file as filled up with zeroes.
        if (has("resize", 50)) size -= random_.below(512);
        const std::string path = out_ + "/base.raw";
        File f(path);
        f.resize(size);
        content_.assign((size + 511) / 512 * 512, 0);
        std::vector<u8> piece;
        for (u64 at = 0; at < size; at += piece.size()) {
            piece.assign(std::min<u64>(size - at, random_.between(1, 128) * 512), 0);
            if (random_.chance(40)) continue;
            fill(piece, random_, 0, at, false);
            f.write_sparse(at, piece);
            std::copy(piece.begin(), piece.end(), content_.begin() + static_cast<std::ptrdiff_t>(at));
        }
        below_ = {path, "raw", size};
        std::cout << "base.raw: raw, " << size << " bytes\n";
    }

    std::string layer_name(unsigned n, bool top) {
        if (top) return "top.qcow2";
        std::string name = "layer-" + std::to_string(n) + ".qcow2";
        if (has("names", 15)) name = "läyer  " + std::to_string(n) + ", 'old'.img";
        if (has("subfolder", 20)) {
            fs::create_directories(out_ + "/sub folder");
            name = "sub folder/" + name;
        }
        return name;
    }

    // How the layer at `path` names the one below it.
    void name_backing(ImageOptions& o, const std::string& path) {
        if (below_.path.empty()) return;
        o.backing_format = below_.format;
        o.backing_name = fs::relative(below_.path, fs::path(path).parent_path()).string();
        const std::string relative = o.backing_name;
        if (has("absolute", 25)) {
            o.backing_name = below_.path;
        } else if (has("json", 25)) {
            if (random_.chance(50))
                o.backing_name = "json:{\"driver\":\"" + below_.format + "\",\"file\":{\"driver\":\"file\",\"filename\":\"" +
                                 below_.path + "\"}}";
            else
                o.backing_name = "json:{\"file.filename\": \"" + below_.path + "\", \"driver\": \"" + below_.format +
                                 "\", \"file.driver\": \"file\"}";
        } else if (has("names", 20)) {
            o.backing_name = "./" + relative;
        }
        // Without a declared format QEMU has to look, and finds qcow2.
        if (below_.format == "qcow2" && has("names", 15)) o.backing_format.clear();
        if (!Image::fits(o)) o.backing_name = relative;
    }

    ImageOptions plan(unsigned n, bool top, const std::string& path) {
        ImageOptions o;
        o.cluster_bits = has("clusters", 70) ? static_cast<unsigned>(random_.between(9, 21)) : 16;
        o.version = has("v2", 20) ? 2 : 3;
        o.size = usual_size_;
        if (has("resize", 30)) usual_size_ = o.size = some_size();
        if (!top && has("resize", 2)) o.size = 0;
        o.extended_l2 = o.version == 3 && o.cluster_bits >= 14 && has("extended-l2", 50);
        if (has("zlib", 40))
            o.compression = Compression::zlib;
        else if (o.version == 3 && has("zstd", 50))
            o.compression = Compression::zstd;
        if (o.version == 3 && has("refcounts", 40)) o.refcount_order = static_cast<unsigned>(random_.below(7));
        if (o.version == 3 && has("data-file", 20)) {
            o.compression = Compression::none;
            // QEMU makes no raw data file with a backing file beside it.
            o.data_file = below_.path.empty() && random_.chance(60) ? DataFile::raw : DataFile::own;
            // QEMU 7.2 takes a relative name from its own current folder, not from the image's: whoever
            // compares with it runs it in the chain's folder.
            const std::string name = "data-" + std::to_string(n) + ".raw";
            const std::string folder = fs::path(path).parent_path().string();
            o.data_name = folder == out_ && random_.chance(50) ? name : folder + "/" + name;
        }
        if (o.version == 3) {
            o.lazy_refcounts = has("dirty", 30);
            o.dirty = o.lazy_refcounts && random_.chance(50);
            o.long_header = has("headers", 20);
            o.feature_table = has("headers", 60);
            o.unknown_compatible_bit = has("headers", 10);
        }
        o.unknown_extension = has("headers", 30);
        if (o_.features.count("layout")) {
            o.placement = static_cast<Placement>(random_.below(3));
            o.spare_l1 = random_.chance(20) ? static_cast<unsigned>(random_.between(1, 100)) : 0;
        }
        name_backing(o, path);
        if (!Image::fits(o)) o.feature_table = false;
        if (!Image::fits(o)) o.unknown_extension = o.long_header = false;
        if (!Image::fits(o)) throw std::runtime_error(path + ": its backing name does not fit into its header");
        return o;
    }

    // Guest clusters in runs of one kind; `keep` false for what only a snapshot will have.
    void write_clusters(Image& image, const ImageOptions& o, unsigned n, bool keep) {
        const u64 bytes = image.cluster_bytes(), clusters = image.clusters();
        const unsigned share = random_.chance(15) ? 100 : static_cast<unsigned>(random_.between(2, 70));
        const u64 longest = random_.chance(30) ? 200 : 8;
        std::vector<u64> order;  // runs are written in any order, so that hosts' runs differ from guests'
        for (u64 at = 0; at < clusters;) {
            const u64 run = std::min(random_.between(1, longest), clusters - at);
            if (random_.chance(share)) order.push_back(at << 16 | run);
            at += run;
        }
        if (o_.features.count("layout") && random_.chance(50)) random_.shuffle(order);
        std::vector<u8> data(bytes);
        for (const u64 run : order) {
            const u64 kind = random_.below(10);
            for (u64 i = 0; i < (run & 0xffff); i++) {
                cluster_of_kind(image, o, n, kind, (run >> 16) + i, data, keep);
            }
        }
    }

    void store(u64 guest, std::span<const u8> data, bool keep) {
        if (!keep || guest >= content_.size()) return;
        const u64 here = std::min<u64>(data.size(), content_.size() - guest);
        std::copy_n(data.begin(), here, content_.begin() + static_cast<std::ptrdiff_t>(guest));
    }

    void cluster_of_kind(Image& image, const ImageOptions& o, unsigned n, u64 kind, u64 cluster, std::vector<u8>& data,
                         bool keep) {
        const u64 guest = cluster * data.size();
        const bool zeroes = o.version == 3 && o_.features.count("zero");
        if (o.compression != Compression::none && kind < 4) {
            fill(data, random_, n, guest, true);
            if (!image.compressed(cluster, data)) image.data(cluster, data);
            store(guest, data, keep);
        } else if (zeroes && kind == 4) {
            image.zero(cluster);
            store(guest, std::vector<u8>(data.size()), keep);
        } else if (zeroes && kind == 5 && o.data_file != DataFile::raw) {
            fill(data, random_, n, guest, false);
            image.zero_allocated(cluster, data);
            store(guest, std::vector<u8>(data.size()), keep);
        } else if (o.extended_l2 && kind < 9) {
            fill(data, random_, n, guest, false);
            u32 allocated = static_cast<u32>(random_.next());
            if (random_.chance(30)) allocated = u32{0xffffffff} << random_.below(32);
            u32 zero = zeroes ? static_cast<u32>(random_.next()) & ~allocated : 0;
            if (random_.chance(10)) allocated = 0;
            const u64 sub = data.size() / 32;
            if (o.data_file == DataFile::raw) {
                // The data file is to read as the disk does.
                allocated |= zero;
                zero = 0;
                for (u64 s = 0; s < 32; s++)
                    if (!(allocated >> s & 1)) std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(s * sub), sub, u8{0});
            }
            image.subclusters(cluster, allocated, zero, data);
            for (u64 s = 0; s < 32; s++) {
                if (allocated >> s & 1) store(guest + s * sub, std::span(data).subspan(s * sub, sub), keep);
                if (zero >> s & 1) store(guest + s * sub, std::vector<u8>(sub), keep);
            }
        } else {
            fill(data, random_, n, guest, false);
            image.data(cluster, data);
            store(guest, data, keep);
        }
    }

    void layer(unsigned n, bool top) {
        const std::string name = layer_name(n, top), path = out_ + "/" + name;
        const ImageOptions o = plan(n, top, path);
        const std::string data_path = (fs::path(path).parent_path() / o.data_name).string();  // or data_name
        Image image(path, data_path, o, Prng(random_.next()));
        // What lies beyond the end of a shorter layer is gone for those above it.
        content_.resize(o.size);
        const bool snapshots = o.data_file == DataFile::none && has("snapshots", 20);
        if (snapshots && random_.chance(60)) {
            write_clusters(image, o, n + 1000, false);
            image.snapshot_and_start_again("before");
        }
        write_clusters(image, o, n, true);
        if (snapshots && o.refcount_order >= 3) image.snapshot("the same, shared");
        if (o.version == 3 && o.data_file == DataFile::none && !o.dirty && has("bitmaps", 20)) {
            image.bitmap("bitmap-0", 16);
            if (random_.chance(50)) image.bitmap("fine", 9);
        }
        image.finish();
        std::cout << name << ": v" << o.version << ", " << o.size << " bytes, clusters 2^" << o.cluster_bits
                  << (o.extended_l2 ? ", extended L2" : "")
                  << (o.compression == Compression::zlib   ? ", zlib"
                      : o.compression == Compression::zstd ? ", zstd"
                                                           : "")
                  << (o.data_file == DataFile::raw   ? ", raw data file"
                      : o.data_file == DataFile::own ? ", data file"
                                                     : "")
                  << ", refcounts 2^" << o.refcount_order << " bits" << (o.dirty ? ", dirty" : "")
                  << (snapshots ? ", snapshots" : "") << (o.backing_name.empty() ? "" : ", on " + o.backing_name) << "\n";
        below_ = {path, "qcow2", o.size};
    }

    const std::string out_;
    const RandomOptions& o_;
    Prng random_;
    u64 usual_size_ = 0;
    Layer below_{};
    std::vector<u8> content_;
};

}  // namespace

void random_chain(const std::string& out, const std::string& raw, const RandomOptions& o) {
    Maker maker(out, o);
    maker.make();
    if (raw.empty()) return;
    File f(raw);
    f.write_sparse(0, maker.content());
    f.resize(maker.content().size());
}

}  // namespace gen
