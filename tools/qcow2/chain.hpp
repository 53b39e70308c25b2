// SPDX-License-Identifier: GPL-2.0-or-later
// A chain of images, opened: the image on top and all it stands on. The index builder, inspect, check
// and the reader start here. Everything is const after construction; any number of threads may map. As long as it is
// open all its files are locked as QEMU locks what it reads (io/qemu_lock.hpp).
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/error.hpp"
#include "io/file.hpp"
#include "qcow2/image.hpp"
#include "qcow2/names.hpp"

namespace dmchain::qcow2 {

// One image of the chain, qcow2 or raw.
class Layer {
public:
    // @begin, @bytes: the part of the file that the layer is; multiples of 512.
    Layer(File raw, std::uint64_t begin, std::uint64_t bytes) : raw_(std::move(raw)), raw_begin_(begin), raw_bytes_(bytes) {}
    explicit Layer(std::unique_ptr<Image> image) : image_(std::move(image)) {}

    Format format() const { return image_ ? Format::qcow2 : Format::raw; }
    // path() absolute and resolved, identity(), fd(): of the image itself.
    const File& file() const { return image_ ? image_->file() : *raw_; }
    // The external data file, or nullptr. If there is one, extents of Kind::data lie in it.
    const File* data_file() const { return image_ ? image_->data_file() : nullptr; }
    const Image* image() const { return image_.get(); }  // nullptr: raw

    Compression compression() const { return image_ ? image_->header().compression : Compression::zlib; }
    std::uint32_t cluster_bits() const { return image_ ? image_->header().cluster_bits : 0; }  // 0: raw
    // Bytes: every extent but the last begins and ends at a multiple of this, in the disk and in the file. Of a whole raw
    // file: 2 MiB, as there is only one.
    std::uint32_t unit() const {
        return image_ ? image_->unit() : std::uint32_t{1} << std::countr_zero((std::uint64_t{2} << 20) | raw_begin_);
    }
    // Where in the file a raw layer begins, bytes.
    std::uint64_t raw_begin() const { return raw_begin_; }
    // Bytes, a multiple of 512. qcow2: the header's size rounded down; raw: the file's rounded up, or a part of it, as in QEMU.
    //
    // A layer ends what lies below it: the layer above sees zeroes from here on, even where a longer image
    // further down has data. And a layer that is longer than the one on top is seen up to that one's size.
    std::uint64_t virtual_size() const { return image_ ? image_->virtual_size() : raw_bytes_; }

    // As Image::map(); a raw layer is one data extent.
    void map(std::uint64_t begin, std::uint64_t end, Scratch& scratch, Sink sink) const;

private:
    std::unique_ptr<Image> image_;
    std::optional<File> raw_;
    std::uint64_t raw_begin_ = 0;
    std::uint64_t raw_bytes_ = 0;
};

struct ChainOptions {
    std::vector<std::string> allow{};       // folders besides the top image's own; see policy.hpp
    std::vector<std::string> beneath{};     // images that the top was made on: what lies beside them may be named, too
    bool assume_raw = false;                // a backing file without declared format and magic is raw
    bool in_use = false;                    // layers that dm-chain has not sealed are read by their log, not refused
    bool ignore_corrupt = false;            // images that are marked corrupt are read, not refused
    std::size_t depth = SIZE_MAX;           // images, from the top: those below are left out, as if they had nothing
    std::optional<std::string> snapshot{};  // id or name of an internal snapshot of the top image
    // Whether images that another process writes are read all the same, with a line in warnings(). Not set: they are
    // refused, and the command has no such option.
    std::optional<bool> force_share{};
    // A file of the chain that another one stands in for, which holds the same as it and what is between: a merged one that has
    // not got its name yet.
    std::optional<std::pair<std::string, std::string>> instead{};
    bool hold = false;     // as long as it is open, no other command adds to its sealed images or takes parts of them away
    std::string locked{};  // path of an image that the caller writes, and has locked
};

class Chain {
public:
    static constexpr std::size_t max_files = 16384;  // CHAIN_MAX_LAYERS: data files count

    // Opens @top, which must be qcow2, and all below. Throws damaged() or failed() for the first thing that
    // is wrong.
    Chain(const std::string& top, const ChainOptions& options);
    // For checking. With @faults in collect mode, faults in tables are collected, and what makes it impossible
    // to go further down is kept in stopped(): layers() then has only what is above. It is thrown if that is
    // the top image.
    Chain(const std::string& top, const ChainOptions& options, Faults& faults);

    // Leaves out the layers above number @top, as if that was the one that was opened.
    void end_at(std::size_t top) { layers_.resize(top + 1); }

    const std::optional<Error>& stopped() const { return stopped_; }
    const std::vector<std::string>& warnings() const { return warnings_; }  // lines; only with force_share

    // Layers @first to @last, as if there was nothing below and above. They stay open as long as one of the chains is there that
    // have them.
    Chain part(std::size_t first, std::size_t last) const;

    const std::vector<std::shared_ptr<const Layer>>& layers() const { return layers_; }  // base first, never empty
    const Layer& top() const { return *layers_.back(); }
    std::uint64_t virtual_size() const { return top().virtual_size(); }  // bytes, a multiple of 512

    // Bytes, a power of two from 512 to 2 MiB: the owner of the data changes only at multiples of it (but for the
    // end of the disk). Takes in the layers' units, and the sizes of layers shorter than the disk.
    std::uint32_t unit() const { return unit(layers_.size() - 1, virtual_size()); }
    // The same of layers up to number @point, for a disk of @size bytes.
    std::uint32_t unit(std::size_t point, std::uint64_t size) const;

private:
    Chain() = default;
    void hold() const;

    std::vector<std::shared_ptr<const Layer>> layers_;
    std::optional<Error> stopped_;
    std::vector<std::string> warnings_;
};

// The part of @file that the windows, the outermost first, leave of it; as in QEMU a file is whole sectors. @above: the image
// that gives them. Throws failed() for one that does not lie in the file.
Window part_of(const File& file, const std::vector<Window>& windows, const std::string& above);

const char* name_of(Format format);
const char* name_of(Compression compression);

}  // namespace dmchain::qcow2
