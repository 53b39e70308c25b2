// SPDX-License-Identifier: GPL-2.0-or-later
// See chain.hpp.
#include "qcow2/chain.hpp"

#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <bit>
#include <filesystem>
#include <map>
#include <tuple>

#include "io/error.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "qcow2/policy.hpp"

namespace dmchain::qcow2 {
namespace {

std::string absolute(const std::string& folder, const std::string& name) {
    return name.starts_with('/') ? name : folder + "/" + name;
}

// Opens one image after the other, from the top down.
class Opener {
public:
    Opener(const ChainOptions& options, Faults& faults, std::vector<std::string>& warnings)
        : options_(options), faults_(faults), warnings_(warnings), policy_(options.allow) {}

    // Adds the layers to @layers, top first; on an error they are those above the one at fault.
    void open(const std::string& named, std::vector<std::shared_ptr<const Layer>>& layers) {
        if (options_.instead) instead_ = identity_of(options_.instead->first);
        const std::string top = instead_ && instead_->same_file(identity_of(named)) ? options_.instead->second : named;
        std::optional<File> next(top);
        std::string above;  // path of the image above
        std::size_t depth = 0;
        top_ = top;
        policy_.own(top);
        for (const std::string& image : options_.beneath) {
            policy_.own(image);
            policy_.add(image);
        }
        remember(*next);
        lock(*next);
        NamedFile name{.path = top, .format = Format::qcow2};
        while (next) {
            Format format = name.format ? *name.format : probe(*next, above);
            if (format == Format::raw) {
                const Window part = part_of(*next, name.windows, above);
                layers.push_back(std::make_shared<const Layer>(std::move(*next), part.offset, *part.size));
                return;
            }
            // The top may be a wrong file; below it one that is no image is damage.
            if (!above.empty() && !has_magic(*next))
                throw damaged("{}: its backing file {} is declared qcow2, but does not begin like a qcow2 image", escaped(above),
                              in_quotes(next->path()));
            faults_.next_file();
            Header header = read_header(*next, options_.in_use, true);
            if (header.corrupt() && !options_.ignore_corrupt) faults_.add("{}", marked_corrupt(*next).what());
            // As in QEMU, relative names start from the folder of the name by which the image was opened.
            const std::string folder = folder_of(name.path);
            const std::optional<std::string> backing = header.backing_name;
            const std::optional<std::string> declared = header.backing_format;
            std::optional<File> data_file = open_data_file(next->path(), folder, header, name);
            const bool is_top = above.empty();
            above = next->path();
            if (!counting_)
                layers.push_back(std::make_shared<const Layer>(
                    std::make_unique<Image>(std::move(*next), std::move(header), std::move(data_file),
                                            is_top ? options_.snapshot : std::nullopt, faults_)));
            next.reset();
            if (!backing || name.alone || ++depth == options_.depth) return;
            name = parse_file_name(escaped(above), *backing, declared);
            name.path = absolute(folder, name.path);
            if (name.data_file) name.data_file = absolute(folder, *name.data_file);
            std::error_code none;
            if (instead_ && std::filesystem::exists(name.path, none) && instead_->same_file(identity_of(name.path))) {
                name.path = options_.instead->second;
                name.format = Format::qcow2;
            }
            next.emplace(open_named(above, "backing file", name.path));
        }
    }

private:
    std::optional<File> open_data_file(const std::string& image, const std::string& folder, const Header& header,
                                       const NamedFile& name) {
        if (!header.has_data_file()) {
            if (!name.data_file) return std::nullopt;
            throw failed("{}: has no external data file, expected one where the image above names {} for it", escaped(image),
                         in_quotes(*name.data_file));
        }
        if (name.data_file) return open_named(image, "data file", *name.data_file);
        if (!header.data_file_name || header.data_file_name->empty())
            throw damaged("{}: has an external data file, but does not name it", escaped(image));
        return open_named(image, "data file", absolute(folder, parse_data_file_name(escaped(image), *header.data_file_name)));
    }

    File open_named(const std::string& image, const char* what, const std::string& path) {
        std::optional<Place> place;
        std::optional<File> opened;
        auto use = [&](auto& to, const auto& from) {
            try {
                to.emplace(from);
            } catch (const Error& e) {
                throw failed("{}: its {} cannot be used: {}", escaped(image), what, e.what());
            }
        };
        use(place, path);
        if (!policy_.allows(*place))
            throw failed("{}: its {} {} {}", escaped(image), what, in_quotes(place->path()), policy_.refusal(*place));
        use(opened, *place);
        File& file = *opened;
        if (files_.size() >= Chain::max_files)
            throw failed("{}: its {} would be file {} of the chain, expected at most {}", escaped(image), what, files_.size() + 1,
                         Chain::max_files);
        if (!counting_) make_room();
        const std::string* before = remember(file);
        if (before)
            throw damaged("{}: its {} {} is in the chain already (named by {}), expected a chain without loops", escaped(image),
                          what, in_quotes(file.path()), before->empty() ? "the command" : *before);
        named_by_.push_back(escaped(image));
        lock(file);
        return std::move(file);
    }

    void lock(const File& file) {
        if (!options_.locked.empty() && file.identity().same_file(identity_of(options_.locked))) return;
        const bool share = options_.force_share.value_or(false);
        const auto conflict = lock_image(file.fd(), share ? ImageUse::share : ImageUse::read);
        if (!conflict) return;
        if (!share)
            throw failed("{}: {}: {}{}", escaped(file.path()), conflict->found, conflict->advice,
                         options_.force_share ? ", or use \"--force-share\" to look at it all the same" : "");
        warnings_.push_back(
            fmt::format("{}: {}: what is shown of it may be out of date or wrong", escaped(file.path()), conflict->found));
    }

    // For one file more. Throws failed() with a limit of open files that is enough for all of the chain.
    void make_room() const {
        try {
            allow_open_files(files_.size() + 1);
        } catch (const Error&) {
            Faults ignored(Faults::Mode::collect);
            std::vector<std::shared_ptr<const Layer>> none;
            std::vector<std::string> unsaid;
            Opener counter(options_, ignored, unsaid);
            counter.counting_ = true;
            counter.open(top_, none);
            allow_open_files(counter.files_.size());
            throw;
        }
    }

    // Where a file was named that is in the chain already, or nullptr if @file is new.
    const std::string* remember(const File& file) {
        const Identity& i = file.identity();
        auto key = i.block_device ? std::tuple(true, std::uint64_t{0}, i.special) : std::tuple(false, i.device, i.inode);
        auto [at, is_new] = files_.try_emplace(key, files_.size());
        if (is_new) return nullptr;
        static const std::string top;
        return at->second == 0 ? &top : &named_by_[at->second - 1];
    }

    // The format of a backing file for which the image above, @above, declares none.
    Format probe(const File& file, const std::string& above) const {
        if (has_magic(file)) return Format::qcow2;
        if (options_.assume_raw) return Format::raw;
        throw failed(
            "{}: its backing file {} has no declared format and is not qcow2; if it is a raw disk, declare it "
            "with \"qemu-img rebase -u -F raw\" or use \"--assume-raw\"",
            escaped(above), in_quotes(file.path()));
    }

    const ChainOptions& options_;
    Faults& faults_;
    std::vector<std::string>& warnings_;
    Policy policy_;
    std::optional<Identity> instead_;  // the file that another stands in for
    std::string top_;
    bool counting_ = false;                                                        // files, and keeping none of them open
    std::map<std::tuple<bool, std::uint64_t, std::uint64_t>, std::size_t> files_;  // identity -> number
    std::vector<std::string> named_by_;                                            // by number - 1: the image that names the file
};

}  // namespace

Window part_of(const File& file, const std::vector<Window>& windows, const std::string& above) {
    std::uint64_t begin = 0, bytes = (file.size() + 511) & ~std::uint64_t{511};
    for (auto w = windows.rbegin(); w != windows.rend(); w++) {
        if (w->offset > bytes || w->size.value_or(0) > bytes - w->offset)
            throw failed("{}: names {} bytes at {} of a part of {}, expected them within its {} bytes", escaped(above),
                         w->size ? std::to_string(*w->size) : "the", w->offset, in_quotes(file.path()), bytes);
        begin += w->offset;
        bytes = w->size.value_or(bytes - w->offset);
    }
    return {begin, bytes};
}

void Layer::map(std::uint64_t begin, std::uint64_t end, Scratch& scratch, Sink sink) const {
    if (image_) return image_->map(begin, end, scratch, sink);
    end = std::min(end, virtual_size());
    if (begin < end) sink(Extent{begin, end - begin, Kind::data, raw_begin_ + begin, 0});
}

Chain::Chain(const std::string& top, const ChainOptions& options) {
    allow_open_files(1);
    Faults faults;
    Opener(options, faults, warnings_).open(top, layers_);
    std::reverse(layers_.begin(), layers_.end());
    if (options.hold) hold();
}

// As Writable locks what is written.
void Chain::hold() const {
    for (const auto& l : layers_) {
        if (l->image() && l->image()->log()) continue;
        if (::flock(l->file().fd(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            throw failed("{}: another dmchain changes it: wait until it is done", escaped(l->file().path()));
    }
}

Chain::Chain(const std::string& top, const ChainOptions& options, Faults& faults) {
    allow_open_files(1);
    try {
        Opener(options, faults, warnings_).open(top, layers_);
    } catch (const Error& e) {
        if (layers_.empty()) throw;
        stopped_ = e;
    }
    std::reverse(layers_.begin(), layers_.end());
}

Chain Chain::part(std::size_t first, std::size_t last) const {
    Chain out;
    out.layers_.assign(layers_.begin() + static_cast<std::ptrdiff_t>(first),
                       layers_.begin() + static_cast<std::ptrdiff_t>(last) + 1);
    return out;
}

std::uint32_t Chain::unit(std::size_t point, std::uint64_t size) const {
    std::uint64_t all = 2u << 20;
    for (std::size_t i = 0; i <= point; i++) {
        all |= layers_[i]->unit();
        if (layers_[i]->virtual_size() < size) all |= layers_[i]->virtual_size();
    }
    return static_cast<std::uint32_t>(std::uint64_t{1} << std::countr_zero(all));
}

const char* name_of(Format format) { return format == Format::raw ? "raw" : "qcow2"; }
const char* name_of(Compression compression) { return compression == Compression::zlib ? "zlib" : "zstd"; }

}  // namespace dmchain::qcow2
