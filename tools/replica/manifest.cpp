// SPDX-License-Identifier: GPL-2.0-or-later
// See manifest.hpp.
#include "replica/manifest.hpp"

#include <endian.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::replica {

namespace {

using Json = nlohmann::json;

constexpr char magic[] = "DMCSNAP\n";
// What is no stream needs the second version; who knows only the first one would make a stream of it.
constexpr std::uint32_t version = 1, version_of_forms = 2;
// What has, or is, a layer needs the third: who does not know them would take the layers' pieces away.
constexpr std::uint32_t version_of_layers = 3;
constexpr std::size_t most_layers = 65536;
constexpr std::uint64_t most_offset = std::uint64_t{1} << 60;  // bytes, far past any file

struct HeaderBytes {
    char magic[8];
    std::uint32_t version;
    std::uint32_t info_bytes;
    std::uint64_t pieces;
    std::uint64_t runs;
};
static_assert(sizeof(HeaderBytes) == 32);

struct PieceBytes {
    unsigned char digest[32];
    std::uint64_t folders;
    std::uint64_t disk;
    std::uint32_t bytes;
    std::uint32_t zero;
};
static_assert(sizeof(PieceBytes) == 56);

struct RunBytes {
    std::uint8_t kind;
    std::uint8_t class_of;
    std::uint16_t zero;
    std::uint32_t block;
    std::uint64_t page;
    std::uint64_t pages;
    std::uint32_t piece;
    std::uint32_t at;
};
static_assert(sizeof(RunBytes) == 32);

Json info_of(const Manifest& m) {
    Json j = {{"name", m.name},      {"created", m.created},         {"machine", m.machine},
              {"kernel", m.kernel},  {"ram_section", m.ram_section}, {"blocks", Json::array()},
              {"folders", m.folders}};
    if (m.form != guest::Form::stream) j["form"] = name_of(m.form);
    for (const auto& b : m.blocks) {
        Json block = {{"name", b.name}, {"bytes", b.bytes}};
        if (m.form == guest::Form::mapped_ram) block.update({{"pages_at", b.pages_at}, {"bitmap_at", b.bitmap_at}});
        j["blocks"].push_back(std::move(block));
    }
    if (m.disk) j["disk"] = {{"snapshot", m.disk->snapshot}, {"id", m.disk->id}};
    if (!m.layers.empty()) j["layers"] = m.layers;
    if (m.layer) {
        j["layer"] = {{"id", m.layer->id}, {"below", m.layer->below}, {"bytes", m.layer->bytes}, {"file", m.layer->file}};
        if (const auto& l = m.layer->label)
            j["layer"]["label"] = {{"time", l->time}, {"name", l->name}, {"note", l->note}, {"pruned", l->pruned}};
    }
    return j;
}

DiskLayer layer_of(const Json& j) {
    DiskLayer layer{j.at("id"), j.at("below"), j.at("bytes"), j.at("file"), {}};
    if (j.contains("label")) {
        const Json& l = j["label"];
        layer.label = qcow2::Label{l.at("time"), l.at("name"), l.at("note"), l.at("pruned")};
    }
    return layer;
}

void read_info(const Json& j, const std::string& from, Manifest& m) {
    j.at("name").get_to(m.name);
    j.at("created").get_to(m.created);
    j.at("machine").get_to(m.machine);
    j.at("kernel").get_to(m.kernel);
    j.at("ram_section").get_to(m.ram_section);
    j.at("folders").get_to(m.folders);
    if (j.contains("form")) {
        const auto form = guest::form_of(j["form"]);
        if (!form || *form == guest::Form::core)
            throw damaged("{}: is in the form {}, which is not known", from, j["form"].dump());
        m.form = *form;
    }
    const bool mapped = m.form == guest::Form::mapped_ram;
    for (const Json& b : j.at("blocks"))
        m.blocks.push_back(
            {b.at("name"), b.at("bytes"), mapped ? b.at("pages_at") : Json(0), mapped ? b.at("bitmap_at") : Json(0)});
    if (j.contains("disk")) m.disk = Disk{j["disk"].at("snapshot"), j["disk"].at("id")};
    if (j.contains("layers")) j["layers"].get_to(m.layers);
    if (j.contains("layer")) m.layer = layer_of(j["layer"]);
}

void append(std::vector<unsigned char>& out, const void* data, std::size_t bytes) {
    const auto* const p = static_cast<const unsigned char*>(data);
    out.insert(out.end(), p, p + bytes);
}

class Checker {
public:
    Checker(const Manifest& m, const std::string& from) : m_(m), from_(from) {}

    void run() {
        if (m_.folders.empty() || m_.folders.size() > most_folders) wrong(fmt::format("it names {} folders", m_.folders.size()));
        for (const auto& b : m_.blocks)
            if (b.bytes % guest::page_bytes || b.name.size() > 255 || b.name.empty() || b.bytes > most_offset ||
                b.pages_at > most_offset || b.bitmap_at > most_offset)
                wrong(fmt::format("block {} has {} bytes", in_quotes(b.name), b.bytes));
        if (m_.layer) layer(*m_.layer);
        if (m_.layers.size() > most_layers) wrong(fmt::format("it has {} layers", m_.layers.size()));
        for (const std::string& name : m_.layers)
            if (!is_layer_name(name)) wrong(fmt::format("it has a layer {}", in_quotes(name)));
        for (std::size_t i = 0; i < m_.pieces.size(); i++) piece(i);
        for (std::size_t i = 0; i < m_.runs.size(); i++) entry(i);
    }

private:
    [[noreturn]] void wrong(const std::string& what) const { throw damaged("{}: {}, which cannot be", from_, what); }

    static bool is_id(const std::string& id) {
        return id.size() == 32 && id.find_first_not_of("0123456789abcdef") == std::string::npos;
    }
    static bool is_layer_name(const std::string& name) {
        const std::string below = name.size() > 33 ? name.substr(33) : "";
        return is_id(name.substr(0, 32)) && name[32] == '-' && (below == "0" || is_id(below));
    }
    void layer(const DiskLayer& l) const {
        const bool right = is_id(l.id) && (l.below.empty() || is_id(l.below)) && l.bytes % 512 == 0 && l.bytes <= most_offset &&
                           m_.blocks.size() == 1 && m_.name == l.name() && !m_.disk && m_.layers.empty() &&
                           (l.bytes + guest::page_bytes - 1) / guest::page_bytes == m_.blocks[0].bytes / guest::page_bytes &&
                           !l.file.empty() && l.file.size() <= 255 && l.file.find('/') == std::string::npos && l.file != "." &&
                           l.file != ".." && l.file.find('\0') == std::string::npos;
        if (!right)
            wrong(fmt::format("it is the layer {} of {} bytes, file {}", in_quotes(l.name()), l.bytes, in_quotes(l.file)));
        if (l.label && (l.label->name.size() > qcow2::max_label_name || l.label->note.size() > qcow2::max_label_note))
            wrong("its label is too long");
    }

    void piece(std::size_t i) const {
        const Piece& p = m_.pieces[i];
        const std::uint64_t known = m_.folders.size() == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << m_.folders.size()) - 1;
        const bool on_disk = p.disk != Piece::no_disk;
        if (p.bytes == 0 || p.bytes > most_piece || (p.folders & ~known) || (!p.folders && !on_disk) || (on_disk && !m_.disk))
            wrong(
                fmt::format("piece {} has {} bytes, folders {:#x}, and is at {:#x} of the disk", i, p.bytes, p.folders, p.disk));
    }

    void entry(std::size_t i) {
        const Run& r = m_.runs[i];
        const bool pages = r.kind != Run::Kind::head && r.kind != Run::Kind::tail;
        const bool stored = r.kind != Run::Kind::zero && r.kind != Run::Kind::unused;
        bool right = r.kind <= Run::Kind::tail && static_cast<std::size_t>(r.class_of) < guest::classes && (pages || !m_.layer);
        right = right && (!stored || r.piece < m_.pieces.size());
        if (right && pages) {
            right = r.pages && r.block < m_.blocks.size() && !tail_ &&
                    (r.block > block_ || (r.block == block_ && r.page >= next_)) &&
                    r.page < m_.blocks[r.block].bytes / guest::page_bytes &&
                    r.pages <= m_.blocks[r.block].bytes / guest::page_bytes - r.page;
            if (right && stored) {
                const std::uint64_t n = m_.pieces[r.piece].bytes / guest::page_bytes;
                right = r.at < n && r.pages <= n - r.at;
            }
            block_ = r.block;
            next_ = r.page + r.pages;
            paged_ = true;
        } else if (right) {
            right = r.page <= most_offset;
            right = right && (r.kind == Run::Kind::tail || !paged_);
            tail_ = tail_ || r.kind == Run::Kind::tail;
            paged_ = paged_ || tail_;
        }
        if (!right)
            wrong(fmt::format("run {} is of kind {}, block {}, {} pages from {}, piece {} at {}", i,
                              static_cast<unsigned>(r.kind), r.block, r.pages, r.page, r.piece, r.at));
    }

    const Manifest& m_;
    const std::string& from_;
    std::uint32_t block_ = 0;
    std::uint64_t next_ = 0;
    bool paged_ = false, tail_ = false;
};

}  // namespace

void append(std::vector<Run>& runs, const Run& r) {
    if (!runs.empty()) {
        Run& last = runs.back();
        const bool stored = r.kind == Run::Kind::piece;
        if (last.kind == r.kind && last.class_of == r.class_of && last.block == r.block && last.page + last.pages == r.page &&
            (!stored || (last.piece == r.piece && last.at + last.pages == r.at))) {
            last.pages += r.pages;
            return;
        }
    }
    runs.push_back(r);
}

std::vector<unsigned char> Manifest::pack() const {
    const std::string info = info_of(*this).dump(-1, ' ', false, Json::error_handler_t::replace);
    HeaderBytes h{};
    std::memcpy(h.magic, magic, sizeof h.magic);
    const bool has_layers = layer || !layers.empty();
    h.version = htole32(has_layers ? version_of_layers : form == guest::Form::stream ? version : version_of_forms);
    h.info_bytes = htole32(static_cast<std::uint32_t>(info.size()));
    h.pieces = htole64(pieces.size());
    h.runs = htole64(runs.size());
    std::vector<unsigned char> out;
    append(out, &h, sizeof h);
    append(out, info.data(), info.size());
    for (const Piece& p : pieces) {
        PieceBytes b{};
        std::memcpy(b.digest, p.digest.data(), sizeof b.digest);
        b.folders = htole64(p.folders);
        b.disk = htole64(p.disk);
        b.bytes = htole32(p.bytes);
        append(out, &b, sizeof b);
    }
    for (const Run& r : runs) {
        RunBytes b{};
        b.kind = static_cast<std::uint8_t>(r.kind);
        b.class_of = static_cast<std::uint8_t>(r.class_of);
        b.block = htole32(r.block);
        b.page = htole64(r.page);
        b.pages = htole64(r.pages);
        b.piece = htole32(r.piece);
        b.at = htole32(r.at);
        append(out, &b, sizeof b);
    }
    const Digest digest = digest_of(out.data(), out.size());
    append(out, digest.data(), digest.size());
    return out;
}

std::vector<bool> Manifest::cache_pieces() const {
    std::vector<bool> out(pieces.size(), !layer);
    for (std::size_t i = 0; i < pieces.size(); i++)
        if (pieces[i].disk != Piece::no_disk) out[i] = false;
    for (const Run& r : runs)
        if (r.kind == Run::Kind::head || r.kind == Run::Kind::tail ||
            (r.kind == Run::Kind::piece && r.class_of != guest::Class::file_clean))
            out[r.piece] = false;
    return out;
}

Manifest Manifest::unpack(const std::vector<unsigned char>& bytes, const std::string& from) {
    HeaderBytes h;
    Digest digest;
    if (bytes.size() < sizeof h + sizeof digest || std::memcmp(bytes.data(), magic, sizeof h.magic) != 0)
        throw damaged("{}: does not begin as a stored snapshot does", from);
    std::memcpy(&h, bytes.data(), sizeof h);
    if (le32toh(h.version) < version || le32toh(h.version) > version_of_layers)
        throw failed("{}: has version {}, expected {} to {}: another dmchain made it", from, le32toh(h.version), version,
                     version_of_layers);
    const std::size_t end = bytes.size() - sizeof digest;
    std::memcpy(digest.data(), &bytes[end], sizeof digest);
    if (digest != digest_of(bytes.data(), end))
        throw damaged("{}: its checksum is {}, expected {}", from, text_of(digest_of(bytes.data(), end)), text_of(digest));
    const std::uint64_t info_bytes = le32toh(h.info_bytes), pieces = le64toh(h.pieces), runs = le64toh(h.runs);
    const std::uint64_t most = end / sizeof(RunBytes);
    if (pieces > most || runs > most || sizeof h + info_bytes + pieces * sizeof(PieceBytes) + runs * sizeof(RunBytes) != end)
        throw damaged("{}: has {} bytes, expected {} of text, {} pieces and {} runs", from, bytes.size(), info_bytes, pieces,
                      runs);
    Manifest m;
    const unsigned char* p = &bytes[sizeof h];
    try {
        read_info(Json::parse(p, p + info_bytes), from, m);
    } catch (const Json::exception& e) {
        throw damaged("{}: its text is wrong: {}", from, escaped(e.what()));
    }
    p += info_bytes;
    for (std::uint64_t i = 0; i < pieces; i++, p += sizeof(PieceBytes)) {
        PieceBytes b;
        std::memcpy(&b, p, sizeof b);
        Piece piece;
        std::memcpy(piece.digest.data(), b.digest, sizeof b.digest);
        piece.folders = le64toh(b.folders);
        piece.disk = le64toh(b.disk);
        piece.bytes = le32toh(b.bytes);
        m.pieces.push_back(piece);
    }
    for (std::uint64_t i = 0; i < runs; i++, p += sizeof(RunBytes)) {
        RunBytes b;
        std::memcpy(&b, p, sizeof b);
        m.runs.push_back({static_cast<Run::Kind>(b.kind), static_cast<guest::Class>(b.class_of), le32toh(b.block),
                          le64toh(b.page), le64toh(b.pages), le32toh(b.piece), le32toh(b.at)});
    }
    Checker(m, from).run();
    return m;
}

}  // namespace dmchain::replica
