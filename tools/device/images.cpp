// SPDX-License-Identifier: GPL-2.0-or-later
// See images.hpp.
#include "device/images.hpp"

#include <sys/stat.h>

#include "chain/points.hpp"
#include "device/point.hpp"
#include "io/text.hpp"

namespace dmchain::device {

std::uint64_t bytes_on_disk(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? static_cast<std::uint64_t>(st.st_blocks) * 512 : 0;
}

namespace {

std::string more_than_a_disk(const qcow2::Header& h) {
    const auto lost = [](const char* what, const char* command) {
        return fmt::format("has {}, which would be lost: such layers stay as they are; 'qemu-img {}' removes them", what,
                           command);
    };
    if (h.snapshots) return lost("internal snapshots", "snapshot -d");
    return h.bitmaps ? lost("persistent bitmaps", "bitmap --remove") : "";
}

}  // namespace

std::vector<ChainImage> images_of(const Subject& subject, const qcow2::Chain& chain) {
    std::vector<ChainImage> out;
    for (const auto& l : chain.layers()) {
        ChainImage i;
        i.path = l->file().name();
        i.identity = l->file().identity();
        if (l->image() && l->image()->log()) i.state = is_active(*l) ? ChainImage::State::active : ChainImage::State::frozen;
        i.raw = !l->image();
        i.is_part = i.raw && (l->raw_begin() || l->virtual_size() < l->file().size());
        i.has_data_file = l->data_file();
        if (l->image()) i.holds_more = more_than_a_disk(l->image()->header());
        i.virtual_size = l->virtual_size();
        i.file_used = bytes_on_disk(i.path);
        i.label = chain::label_of(*l);
        out.push_back(std::move(i));
    }
    if (!subject.device) return out;
    std::size_t n = 0;
    for (const dm::OpenLayer& l : subject.device->layers) {
        if (l.state == "data") continue;
        if (n == out.size() || !l.is(out[n].identity))
            throw failed("{}: the headers name {} there, the device {} has {}", escaped(subject.top),
                         n < out.size() ? in_quotes(out[n].path) : "nothing", escaped(subject.name), in_quotes(l.path));
        // The device knows best: a layer may have been frozen or sealed since.
        out[n].state = l.state == "sealed"    ? ChainImage::State::sealed
                       : l.state == "frozen"  ? ChainImage::State::frozen
                       : l.state == "growing" ? ChainImage::State::growing
                                              : ChainImage::State::active;
        out[n++].id = l.id;
    }
    if (n != out.size())
        throw failed("{}: the headers name {} layers, the device {} has {}", escaped(subject.top), out.size(),
                     escaped(subject.name), n);
    return out;
}

std::size_t topmost_sealed(const std::vector<ChainImage>& images, const std::string& name) {
    std::size_t i = images.size();
    while (i > 0 && images[i - 1].state != ChainImage::State::sealed) i--;
    if (!i) throw failed("{}: has no sealed layer: take a snapshot first", escaped(name));
    return i - 1;
}

std::size_t find_image(const std::vector<ChainImage>& images, const std::string& text) {
    std::vector<chain::Point> points;
    for (const ChainImage& i : images) points.push_back({i.path, i.identity, i.label});
    return chain::find_point(points, text);
}

}  // namespace dmchain::device
