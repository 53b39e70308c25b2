// SPDX-License-Identifier: GPL-2.0-or-later
// See unseal.hpp. The log is written where sealing left nothing: the place of the first segment stays free, and more
// goes to the end. When it is durable, one write of the header makes it count, and the tables become free room.
#include "qcow2/unseal.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/active.hpp"
#include "qcow2/header_bytes.hpp"
#include "qcow2/image.hpp"
#include "qcow2/log_writer.hpp"

#include "dm-chain-log.h"

namespace dmchain::qcow2 {
namespace {

// Room that the log has left when it begins again, blocks.
constexpr std::uint64_t spare_blocks = 16;

class Records {
public:
    Records(const Image& image, std::uint32_t unit_bits)
        : image_(image), bits_(image.header().cluster_bits), unit_bits_(unit_bits) {}

    std::vector<chain_log_record> all() {
        Scratch scratch;
        image_.map(0, image_.virtual_size(), scratch, [this](const Extent& e) { add(e); });
        for (chain_log_record& r : records_) r = {htole64(r.cluster), htole64(r.host), htole64(r.bitmap)};
        return std::move(records_);
    }

private:
    void add(const Extent& e) {
        const std::uint64_t cluster = std::uint64_t{1} << bits_, unit = std::uint64_t{1} << unit_bits_;
        const std::uint64_t end =
            std::min((e.guest + e.bytes + unit - 1) & ~(unit - 1), (image_.virtual_size() + unit - 1) & ~(unit - 1));
        if (e.kind == Kind::compressed)
            throw failed("{}: has compressed clusters: it cannot become active again: writes need a new layer on top",
                         escaped(image_.file().path()));
        if (e.guest % unit != 0 || (e.guest + e.bytes) % unit != 0) {
            // The end of the disk may lie within a unit; nothing else may.
            if (e.guest % unit != 0 || e.guest + e.bytes != image_.virtual_size())
                throw failed(
                    "{}: has data at disk offset {:#x} that is not in whole units of {} bytes: it cannot become active again",
                    escaped(image_.file().path()), e.guest, unit);
        }
        for (std::uint64_t at = e.guest; at < end; at += unit) {
            const std::uint64_t number = at >> bits_, i = (at & (cluster - 1)) >> unit_bits_;
            if (records_.empty() || records_.back().cluster != number) records_.push_back({number, 0, 0});
            chain_log_record& r = records_.back();
            if (e.kind == Kind::zero) {
                r.bitmap |= std::uint64_t{1} << (32 + i);
                continue;
            }
            const std::uint64_t host = e.host + (at - e.guest) - (i << unit_bits_);
            if ((r.bitmap & 0xffffffff && r.host != host) || host % cluster != 0)
                throw failed("{}: has parts of the cluster for disk offset {:#x} in two places: it cannot become active again",
                             escaped(image_.file().path()), number << bits_);
            r.host = host;
            r.bitmap |= std::uint64_t{1} << i;
        }
    }

    const Image& image_;
    const std::uint32_t bits_, unit_bits_;
    std::vector<chain_log_record> records_;  // in this machine's byte order until all() returns
};

}  // namespace

void require_sealed(const std::string& path, const Header& h, std::uint32_t cluster_bits, std::uint32_t unit_bits) {
    if (h.in_use()) throw failed("{}: is in use already: 'dmchain recover' goes on with it", escaped(path));
    if (!h.sealed_unit_bits)
        throw failed(
            "{}: was not sealed by dm-chain, or was written to by another program since: writes need a new layer on top; "
            "leave out --in-place",
            escaped(path));
    if (h.label && !h.label->name.empty())
        throw failed("{}: is the snapshot {}: writes would change it, and need a new layer on top; leave out --in-place",
                     escaped(path), in_quotes(h.label->name));
    if (h.cluster_bits != cluster_bits || *h.sealed_unit_bits != unit_bits)
        throw failed(
            "{}: has clusters of {} bytes and units of {}, the chain needs {} and {}: writes need a new layer on top; leave "
            "out --in-place",
            escaped(path), 1u << h.cluster_bits, 1u << std::min(*h.sealed_unit_bits, 31u), 1u << cluster_bits, 1u << unit_bits);
}

void unseal(const std::string& path, std::uint32_t cluster_bits, std::uint32_t unit_bits) {
    Writable to = Writable::open(path);
    Header h = read_header(File(path), true);
    require_sealed(path, h, cluster_bits, unit_bits);
    Faults faults;
    const Image image(File(path), h, std::nullopt, std::nullopt, faults);
    const std::vector<chain_log_record> records = Records(image, unit_bits).all();

    const std::uint64_t cluster = h.cluster_size();
    const std::uint64_t segment = std::max<std::uint64_t>(first_segment_bytes, 4 * cluster);
    const auto in_segment = [&](std::uint64_t begin, std::uint64_t end) { return begin < cluster + segment && end > cluster; };
    bool taken = false;
    for (const Region& r : image.regions().all()) taken |= in_segment(r.begin, r.end);
    for (const chain_log_record& r : records) taken |= r.host && in_segment(le64toh(r.host), le64toh(r.host) + cluster);
    if (taken)
        throw failed("{}: has no room for a log in its first clusters: it cannot become active again; leave out --in-place",
                     escaped(path));

    const std::uint64_t room = segment / CHAIN_LOG_BLOCK - 1;  // blocks
    const std::uint64_t need = (records.size() + CHAIN_LOG_MAX_RECORDS - 1) / CHAIN_LOG_MAX_RECORDS;
    const std::uint64_t in_first = need + spare_blocks <= room ? need : room - 1;
    LogWriter log(to, write_empty_log(to, cluster_bits, unit_bits, image.virtual_size() >> 9, segment),
                  cluster + CHAIN_LOG_BLOCK);
    std::uint64_t done = 0;
    for (std::uint64_t i = 0; i < need; i++) {
        if (i == in_first) {
            const std::uint64_t bytes = ((need - i + spare_blocks) * CHAIN_LOG_BLOCK + cluster - 1) & ~(cluster - 1);
            const std::uint64_t at = (to.size() + cluster - 1) & ~(cluster - 1);
            if (to.is_device())
                throw failed("{}: the device has no room for the log of {} clusters: leave out --in-place", escaped(path),
                             records.size());
            to.resize(at + bytes);
            log.go_on_at(at, bytes);
        }
        const auto n = static_cast<std::uint16_t>(std::min<std::uint64_t>(CHAIN_LOG_MAX_RECORDS, records.size() - done));
        log.add(CHAIN_LOG_RECORDS, &records[done], n * sizeof(chain_log_record), n);
        done += n;
    }
    to.sync();
    h.incompatible = incompatible_in_use;
    h.sealed_id.reset();  // what it holds will be something else
    h.size = image.virtual_size();
    h.label.reset();
    h.l1_offset = h.l1_entries = 0;
    h.refcount_table_offset = h.refcount_table_clusters = 0;
    const auto header = header_bytes(h, path);
    to.write(header.data(), header.size(), 0);
    to.sync();
}

}  // namespace dmchain::qcow2
