// SPDX-License-Identifier: GPL-2.0-or-later
// See replicate.hpp. A piece has pages of one stretch of memory of 1 MiB that have as many copies: what has not changed since
// another snapshot makes the same pieces again, and is not stored again.
#include "replica/replicate.hpp"

#include <algorithm>
#include <set>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::replica {

namespace {

using guest::page_bytes;

constexpr std::uint64_t piece_pages = most_piece / page_bytes;

class Storing {
public:
    Storing(const guest::Image& image, PieceWriter& pieces, Manifest& manifest)
        : image_(image), pieces_(pieces), manifest_(manifest) {}

    // Returns the number of the piece.
    std::uint32_t keep(const std::vector<unsigned char>& data, unsigned copies, std::uint64_t disk = Piece::no_disk) {
        manifest_.pieces.push_back(pieces_.put(data, digest_of(data.data(), data.size()), copies, disk));
        return static_cast<std::uint32_t>(manifest_.pieces.size() - 1);
    }

    void bytes(Run::Kind kind, const guest::Range& range, unsigned copies) {
        std::vector<unsigned char> data;
        for (std::uint64_t from = range.begin; from < range.end; from += data.size()) {
            data.resize(std::min<std::uint64_t>(range.end - from, most_piece));
            image_.source.read(data.data(), data.size(), from);
            Run r;
            r.kind = kind;
            if (image_.form == guest::Form::mapped_ram) r.page = from;
            r.piece = keep(data, copies);
            manifest_.runs.push_back(r);
        }
    }

    // The pages of the disk, as pieces that follow each other there. Their runs are added with those of the other pages.
    void disk(const std::vector<Backed>& backed, unsigned copies) {
        std::vector<unsigned char> data;
        for (std::size_t i = 0; i < backed.size();) {
            data.clear();
            std::size_t end = i;
            const auto number = static_cast<std::uint32_t>(manifest_.pieces.size());
            for (; end < backed.size(); end++) {
                const std::uint64_t at = backed[end].disk - backed[i].disk;
                if (at > data.size() || at >= most_piece) break;
                // Several pages may be the same block.
                if (at == data.size()) {
                    data.resize(data.size() + page_bytes);
                    image_.read_page(backed[end].block, backed[end].page, &data[at]);
                }
                on_disk_.push_back({backed[end].block, backed[end].page, number, static_cast<std::uint32_t>(at / page_bytes)});
            }
            keep(data, copies, backed[i].disk);
            i = end;
        }
        std::sort(on_disk_.begin(), on_disk_.end(),
                  [](const OnDisk& a, const OnDisk& b) { return std::pair(a.block, a.page) < std::pair(b.block, b.page); });
    }

    void block(std::uint32_t b, const std::vector<std::uint8_t>& plan, const std::vector<guest::Class>& classes) {
        for (std::uint64_t first = 0; first < plan.size(); first += piece_pages) {
            const std::uint64_t end = std::min<std::uint64_t>(plan.size(), first + piece_pages);
            std::array<std::uint32_t, Policy::most + 1> piece{}, next{};
            for (unsigned copies = 1; copies <= Policy::most; copies++) {
                std::vector<unsigned char> data;
                for (std::uint64_t p = first; p < end; p++) {
                    if (plan[p] != copies) continue;
                    data.resize(data.size() + page_bytes);
                    image_.read_page(b, p, &data[data.size() - page_bytes]);
                }
                if (!data.empty()) piece[copies] = keep(data, copies);
            }
            for (std::uint64_t p = first; p < end; p++) {
                Run r;
                r.block = b;
                r.page = p;
                r.pages = 1;
                r.class_of = classes[p];
                if (plan[p] == Plan::none) {
                    if (image_.blocks[b].where[p] == guest::RamBlock::absent) continue;
                    r.kind = Run::Kind::unused;
                } else if (plan[p] == Plan::on_disk) {
                    const OnDisk& d = on_disk_[next_on_disk_++];
                    r.kind = Run::Kind::piece;
                    r.piece = d.piece;
                    r.at = d.at;
                } else if (plan[p] != Plan::zero) {
                    r.kind = Run::Kind::piece;
                    r.piece = piece[plan[p]];
                    r.at = next[plan[p]]++;
                }
                append(manifest_.runs, r);
            }
        }
    }

private:
    struct OnDisk {
        std::uint32_t block;
        std::uint64_t page;
        std::uint32_t piece, at;
    };

    const guest::Image& image_;
    PieceWriter& pieces_;
    Manifest& manifest_;
    std::vector<OnDisk> on_disk_;  // in the order of memory
    std::size_t next_on_disk_ = 0;
};

}  // namespace

std::uint64_t Plan::stored_bytes() const {
    std::uint64_t sum = other_stored_bytes;
    for (const Sum& s : classes) sum += s.stored_bytes;
    return sum;
}

Plan make_plan(const guest::Image& image, const guest::PageMap& map, const Policy& policy,
               std::optional<std::vector<Backed>> backed) {
    Plan plan;
    std::array<unsigned, guest::classes> copies = policy.copies;
    if (backed) {
        for (const auto c : {guest::Class::file_clean, guest::Class::file_mapped})
            copies[static_cast<std::size_t>(c)] = std::max(copies[static_cast<std::size_t>(c)], policy.critical());
        plan.backed = std::move(*backed);
    }
    for (std::size_t b = 0; b < map.blocks.size(); b++) {
        const auto& where = image.blocks[b].where;
        std::vector<std::uint8_t>& pages = plan.pages.emplace_back(where.size());
        for (std::size_t p = 0; p < where.size(); p++) {
            const unsigned n = copies[static_cast<std::size_t>(map.blocks[b][p])];
            if (where[p] == guest::RamBlock::absent || n == 0)
                pages[p] = Plan::none;
            else
                pages[p] = where[p] == guest::RamBlock::zero ? Plan::zero : static_cast<std::uint8_t>(n);
        }
    }
    for (const Backed& p : plan.backed) plan.pages[p.block][p.page] = Plan::on_disk;
    for (std::size_t b = 0; b < map.blocks.size(); b++)
        for (std::size_t p = 0; p < plan.pages[b].size(); p++) {
            Plan::Sum& s = plan.classes[static_cast<std::size_t>(map.blocks[b][p])];
            const std::uint64_t where = image.blocks[b].where[p];
            s.bytes += page_bytes;
            if (!guest::RamBlock::has_content(where)) s.zero_bytes += page_bytes;
            if (plan.pages[b][p] == Plan::on_disk) {
                s.disk_bytes += page_bytes;
                s.stored_bytes += policy.disk * page_bytes;
            } else if (plan.pages[b][p] <= Policy::most) {
                s.stored_bytes += plan.pages[b][p] * page_bytes;
            }
        }
    plan.other_stored_bytes = image.other_bytes() * policy.critical();
    return plan;
}

void store_memory(const guest::Image& image, const guest::PageMap& map, const Plan& plan, const Policy& policy,
                  PieceWriter& pieces, Manifest& m) {
    Storing s(image, pieces, m);
    m.machine = image.machine;
    m.kernel = map.release;
    m.form = image.form;
    m.ram_section = image.ram_section;
    for (const auto& b : image.blocks) m.blocks.push_back({b.name, b.bytes, b.pages_at, b.bitmap_at});

    const auto others = [&](Run::Kind kind, std::size_t from, std::size_t to) {
        for (; from < to; from++) s.bytes(kind, image.others[from], policy.critical());
    };
    others(Run::Kind::head, 0, image.before_pages);
    s.disk(plan.backed, policy.disk);
    for (std::size_t b = 0; b < plan.pages.size(); b++) s.block(static_cast<std::uint32_t>(b), plan.pages[b], map.blocks[b]);
    others(Run::Kind::tail, image.before_pages, image.others.size());
}

}  // namespace dmchain::replica
