// SPDX-License-Identifier: GPL-2.0-or-later
#include "chain/sample.hpp"

#include <endian.h>
#include <fmt/format.h>

#include <cstddef>
#include <filesystem>
#include <fstream>

#include "chain/writer.hpp"
#include "io/file.hpp"

namespace dmchain::test {

namespace {

constexpr std::uint64_t disk_bytes = 20ull << 30;
constexpr std::uint64_t layer_bytes = 32ull << 30;
constexpr std::uint64_t cluster = 1u << 16;

void add_layer(chain::LayerTable& t, const std::string& path, bool qcow2) {
    std::ofstream(path).close();
    std::filesystem::resize_file(path, layer_bytes);
    const File file(path);
    chain_layer r{};
    r.id = htole16(static_cast<std::uint16_t>(t.records.size() + 1));
    r.format = qcow2 ? CHAIN_FORMAT_QCOW2 : CHAIN_FORMAT_RAW;
    r.cluster_shift = qcow2 ? 16 : 0;
    r.owner = htole16(CHAIN_NO_LAYER);
    r.bytes = htole64(file.size());
    r.inode = htole64(file.identity().inode);
    r.mtime_sec = htole64(static_cast<std::uint64_t>(file.identity().mtime_sec));
    r.mtime_nsec = htole32(file.identity().mtime_nsec);
    r.path_offset = htole32(static_cast<std::uint32_t>(t.strings.size()));
    r.path_bytes = htole16(static_cast<std::uint16_t>(file.path().size()));
    t.strings.append(file.path()).push_back('\0');
    t.records.push_back(r);
}

void fill(chain::Window& w) {
    using qcow2::Kind;
    for (std::uint64_t c = w.first(); c < w.first() + w.used(); c++) {
        const std::uint64_t leaf = c / CHAIN_FANOUT;
        if (c >= CHAIN_FANOUT * CHAIN_FANOUT) break;  // the second half of the disk: nothing
        if (leaf == 0)
            w.apply({c * cluster, cluster, Kind::data, ((c * 7) % 512) * cluster, 0}, 1 + c % 2);
        else if (leaf == 1 && c % CHAIN_FANOUT == 3)
            w.apply({c * cluster, cluster, Kind::compressed, 1000, 2000}, 2);
        else if (leaf == 1 && c % CHAIN_FANOUT == 5)
            w.apply({c * cluster, 4096, Kind::data, 5 * cluster, 0}, 2);
        else if (leaf >= 2)
            w.apply({c * cluster, cluster, Kind::data, (c ^ (leaf == 2)) * cluster, 0}, 1 + leaf % 2);
    }
    w.settle();
}

}  // namespace

Sample::Sample(const std::string& folder) {
    const chain::Geometry geometry{disk_bytes, 16, 12};
    const std::string path = folder + "/good.chain";
    chain::LayerTable table;
    add_layer(table, folder + "/base.raw", false);
    add_layer(table, folder + "/top.qcow2", true);
    chain::Writer writer(path, geometry, table);
    chain::Window window(geometry);
    std::vector<std::byte> buffer;
    for (std::uint64_t i = 0; i < writer.windows(); i++) {
        window.clear(i * chain::Window::cells);
        fill(window);
        writer.add(window, buffer);
    }
    writer.finish();

    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
    const auto at = [&](std::uint64_t entry) { return chain_entry_pos(le64toh(get<std::uint64_t>(entry))) << 9; };
    layers = chain::layers_at;
    root = at(offsetof(chain_super, root));
    middle = at(root + sizeof(chain_node));
    array = at(middle + sizeof(chain_node));
    runs = at(middle + sizeof(chain_node) + 8);
    runs_aux =
        runs + chain_node_aux_at(CHAIN_FORM_RUNS, le16toh(get<std::uint16_t>(runs + offsetof(chain_node, count_minus_1))) + 1u);
}

void Sample::make_active() {
    put(offsetof(chain_super, active), htole16(2));
    put(offsetof(chain_super, log_segment), htole64(cluster));
    put(offsetof(chain_super, log_segment_bytes), htole64(1u << 20));
    put(offsetof(chain_super, log_next), htole64(cluster + 4096));
    put(offsetof(chain_super, log_sequence), htole64(1));
    put(offsetof(chain_super, alloc_next), htole64(layer_bytes));
    put(offsetof(chain_super, next_id), htole32(3));
    put(layers + sizeof(chain_layer) + offsetof(chain_layer, flags), htole32(CHAIN_LAYER_UNSEALED));
    seal_layers();
}

void Sample::seal_super() {
    put<std::uint32_t>(offsetof(chain_super, crc), 0);
    put(offsetof(chain_super, crc), htole32(chain_crc32c_more(0, bytes.data(), sizeof(chain_super))));
}

void Sample::seal_layers() {
    const std::size_t n = le32toh(get<std::uint32_t>(offsetof(chain_super, layer_count))) * sizeof(chain_layer) +
                          le32toh(get<std::uint32_t>(offsetof(chain_super, string_bytes)));
    put(offsetof(chain_super, layer_crc), htole32(chain_crc32c_more(0, bytes.data() + layers, n)));
    seal_super();
}

void Sample::seal_node(std::uint64_t at) {
    const auto n = get<chain_node>(at);
    const std::uint32_t length = chain_node_aux_at(n.form, le16toh(n.count_minus_1) + 1u) + 8 * le32toh(n.aux_words);
    put(at + 4, htole32(chain_crc32c_more(0, bytes.data() + at + 8, length - 8)));
}

const std::vector<ChainDamage>& chain_damages() {
    using S = Sample;
    using std::uint64_t;
    // A value of type T at superblock field, checksum right; what the message says of it.
    static const std::vector<ChainDamage> all = [] {
        std::vector<ChainDamage> v;
        const auto text = [](std::string s) { return [s](const S&) { return s; }; };
#define SUPER(name, type, field, value, expect)                        \
    v.push_back({name, Met::load,                                      \
                 [](S& s) {                                            \
                     s.put<type>(offsetof(chain_super, field), value); \
                     s.seal_super();                                   \
                 },                                                    \
                 text(fmt::format("at byte {}: {}", offsetof(chain_super, field), expect))})
        v.push_back({"magic", Met::load, [](S& s) { s.put<char>(0, 'X'); },
                     text("at byte 0: magic is 742611533296782680, expected 742611533296782660")});
        SUPER("version", std::uint32_t, version, htole32(7), "format version is 7, expected 1");
        v.push_back({"super-checksum", Met::load, [](S& s) { s.put<char>(4000, 1); },
                     [](const S& s) {
                         S good = s;
                         good.seal_super();
                         return fmt::format("at byte 12: superblock checksum is {}, expected {}", s.get<std::uint32_t>(12),
                                            good.get<std::uint32_t>(12));
                     }});
        SUPER("incompatible", uint64_t, incompatible, htole64(4), "incompatible feature bits is 4, expected 0");
        SUPER("cluster-small", std::uint8_t, cluster_shift, 11, "cluster_shift is 11, expected at least 12");
        SUPER("cluster-large", std::uint8_t, cluster_shift, 22, "cluster_shift is 22, expected at most 21");
        SUPER("subblock-small", std::uint8_t, subblock_shift, 8, "subblock_shift is 8, expected at least 9");
        SUPER("subblock-large", std::uint8_t, subblock_shift, 13, "subblock_shift is 13, expected at most 12");
        SUPER("sectors", uint64_t, sectors, htole64(uint64_t{1} << 62),
              "virtual size in sectors is 4611686018427387904, expected at most 2199023255552");
        SUPER("no-layers", std::uint32_t, layer_count, 0, "number of layers is 0, expected at least 1");
        SUPER("many-layers", std::uint32_t, layer_count, htole32(20000), "number of layers is 20000, expected at most 16384");
        SUPER("strings", std::uint32_t, string_bytes, htole32(0xffffffff),
              "bytes of layer paths is 4294967295, expected at most 67108864");
        SUPER("layers-early", uint64_t, layer_offset, htole64(512), "offset of the layer table is 512, expected at least 8192");
        SUPER("layers-unaligned", uint64_t, layer_offset, htole64(8193),
              "offset of the layer table is 8193, expected a multiple of 512");
        v.push_back({"layers-late", Met::load,
                     [](S& s) {
                         s.put<uint64_t>(offsetof(chain_super, layer_offset), htole64(uint64_t{1} << 40));
                         s.seal_super();
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: end of the layer table is {}, expected at most {}",
                                            offsetof(chain_super, layer_offset),
                                            (uint64_t{1} << 40) + 2 * sizeof(chain_layer) +
                                                le32toh(s.get<std::uint32_t>(offsetof(chain_super, string_bytes))),
                                            s.bytes.size());
                     }});
        v.push_back({"truncated", Met::load, [](S& s) { s.bytes.resize(s.bytes.size() - 512); },
                     [](const S& s) {
                         return fmt::format("at byte {}: length of the chain file is {}, expected at least {}",
                                            offsetof(chain_super, file_bytes), s.bytes.size(), s.bytes.size() + 512);
                     }});

        // The active layer and its log.
#define ACTIVE(name, type, field, value, expect)                       \
    v.push_back({name, Met::load,                                      \
                 [](S& s) {                                            \
                     s.make_active();                                  \
                     s.put<type>(offsetof(chain_super, field), value); \
                     s.seal_super();                                   \
                 },                                                    \
                 text(fmt::format("at byte {}: {}", offsetof(chain_super, field), expect))})
        ACTIVE("log-none", uint64_t, log_segment, 0, "offset of the log's segment is 0, expected a multiple of 65536");
        ACTIVE("log-unaligned", uint64_t, log_segment, htole64(70000),
               "offset of the log's segment is 70000, expected a multiple of 65536");
        ACTIVE("log-empty", uint64_t, log_segment_bytes, 0, "bytes of the log's segment is 0, expected a multiple of 65536");
        ACTIVE("log-length", uint64_t, log_segment_bytes, htole64(4096),
               "bytes of the log's segment is 4096, expected a multiple of 65536");
        ACTIVE("log-next-before", uint64_t, log_next, htole64(4096),
               "offset of the log's next block is 4096, expected at least 65536");
        ACTIVE("log-next-unaligned", uint64_t, log_next, htole64(70000),
               "offset of the log's next block is 70000, expected at least 65536");
        ACTIVE("log-next-behind", uint64_t, log_next, htole64(65536 + (1 << 20) + 4096),
               "offset of the log's next block is 1118208, expected at most 1114112");
        ACTIVE("alloc-unaligned", uint64_t, alloc_next, htole64(5000000),
               "end of the active layer's clusters is 5000000, expected a multiple of 65536");
        ACTIVE("next-id", std::uint32_t, next_id, htole32(65536), "id of the next layer is 65536, expected at most 65535");
        ACTIVE("free-many", std::uint32_t, free_count, htole32(65537),
               "entries of the free list is 65537, expected at most 65536");
#undef ACTIVE
        v.push_back({"free-outside", Met::load,
                     [](S& s) {
                         s.make_active();
                         s.put<std::uint32_t>(offsetof(chain_super, free_count), htole32(1));
                         s.put<uint64_t>(offsetof(chain_super, free_offset), htole64(s.bytes.size()));
                         s.seal_super();
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: end of the free list is {}, expected at most {}",
                                            offsetof(chain_super, free_offset), s.bytes.size() + 16, s.bytes.size());
                     }});

#define LAYER(name, type, field, value, expect)                                                 \
    v.push_back(                                                                                \
        {name, Met::load,                                                                       \
         [](S& s) {                                                                             \
             s.put<type>(s.layers + sizeof(chain_layer) + offsetof(chain_layer, field), value); \
             s.seal_layers();                                                                   \
         },                                                                                     \
         text(fmt::format("at byte {}: {}", chain::layers_at + sizeof(chain_layer) + offsetof(chain_layer, field), expect))})
        v.push_back({"layers-checksum", Met::load, [](S& s) { s.put<char>(s.layers + 7, 1); },
                     [](const S& s) {
                         S sealed = s;
                         sealed.seal_layers();
                         return fmt::format("at byte 8192: layer table checksum is {}, expected {}",
                                            sealed.get<std::uint32_t>(offsetof(chain_super, layer_crc)),
                                            s.get<std::uint32_t>(offsetof(chain_super, layer_crc)));
                     }});
        LAYER("layer-id-none", std::uint16_t, id, 0, "layer id is 0, expected at most 65534");
        LAYER("layer-id-last", std::uint16_t, id, 0xffff, "layer id is 65535, expected at most 65534");
        LAYER("layer-type", std::uint8_t, type, 2, "layer type is 2, expected at most 1");
        LAYER("layer-format", std::uint8_t, format, 2, "layer format is 2, expected at most 1");
        LAYER("layer-compression", std::uint8_t, compression, 2, "layer compression is 2, expected at most 1");
        LAYER("layer-cluster", std::uint8_t, cluster_shift, 22, "layer cluster_shift is 22, expected at most 21");
        LAYER("layer-flags", std::uint32_t, flags, htole32(16), "layer flags is 16, expected one of (mask) 15");
        LAYER("layer-growing", std::uint32_t, flags, htole32(12), "layer flags is 12, expected at most 7");
        LAYER("layer-size", uint64_t, bytes, ~uint64_t{0},
              "layer size is 18446744073709551615, expected at most 9223372036854775807");
        LAYER("layer-path-empty", std::uint16_t, path_bytes, 0, "length of a layer's path is 0, expected at most 4095");
        v.push_back({"layer-path-outside", Met::load,
                     [](S& s) {
                         s.put<std::uint32_t>(s.layers + offsetof(chain_layer, path_offset), htole32(100000));
                         s.seal_layers();
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: end of a layer's path is {}, expected at most {}",
                                            chain::layers_at + offsetof(chain_layer, path_offset),
                                            100001 + le16toh(s.get<std::uint16_t>(s.layers + offsetof(chain_layer, path_bytes))),
                                            le32toh(s.get<std::uint32_t>(offsetof(chain_super, string_bytes))));
                     }});
        v.push_back({"layer-path-relative", Met::load,
                     [](S& s) {
                         s.put<char>(s.layers + 2 * sizeof(chain_layer), 'x');
                         s.seal_layers();
                     },
                     text(fmt::format("at byte {}: first byte of a layer's path is 120, expected 47",
                                      chain::layers_at + offsetof(chain_layer, path_offset)))});
        v.push_back({"layer-id-twice", Met::load,
                     [](S& s) {
                         s.put<std::uint16_t>(s.layers + sizeof(chain_layer), htole16(1));
                         s.seal_layers();
                     },
                     text("layer id 1 is given twice")});

        // The root: met when the index is opened.
        v.push_back(
            {"root-kind", Met::load,
             [](S& s) {
                 s.put<uint64_t>(offsetof(chain_super, root), htole64(CHAIN_FINE));
                 s.seal_super();
             },
             text(fmt::format("at byte {}: kind of an entry is 5, expected one of (mask) 78", offsetof(chain_super, root)))});
        v.push_back({"root-outside", Met::load,
                     [](S& s) {
                         s.put<uint64_t>(offsetof(chain_super, root), htole64(chain_entry(CHAIN_NODE, 1, 1u << 30)));
                         s.seal_super();
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: end of a child node is {}, expected at most {}",
                                            offsetof(chain_super, root), ((1ull << 30) + 1) * 512, s.bytes.size());
                     }});
        v.push_back(
            {"root-magic", Met::load, [](S& s) { s.put<std::uint32_t>(s.root, 0); },
             [](const S& s) { return fmt::format("at byte {}: node magic is 0, expected {}", s.root, CHAIN_NODE_MAGIC); }});
        v.push_back({"root-entry", Met::load,
                     [](S& s) {
                         s.put<uint64_t>(s.root + sizeof(chain_node), htole64(CHAIN_FINE));
                         s.seal_node(s.root);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: kind of an entry is 5, expected one of (mask) 78",
                                            s.root + sizeof(chain_node));
                     }});
        v.push_back({"root-of-other-level", Met::load,
                     [](S& s) {
                         s.put<uint64_t>(offsetof(chain_super, root), s.get<uint64_t>(s.root + sizeof(chain_node)));
                         s.seal_super();
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: entries of a node is {}, expected 2",
                                            s.middle + offsetof(chain_node, count_minus_1),
                                            le16toh(s.get<std::uint16_t>(s.middle + offsetof(chain_node, count_minus_1))) + 1);
                     }});

        // Below: met when what lies there is read. @node, place within it, value, what the message says.
#define NODE(name, node, type, at, value, expect)       \
    v.push_back({name, Met::read,                       \
                 [](S& s) {                             \
                     s.put<type>(s.node + (at), value); \
                     s.seal_node(s.node);               \
                 },                                     \
                 [](const S& s) { return fmt::format("at byte {}: {}", s.node + (at), expect); }})
        constexpr std::size_t head = sizeof(chain_node);
        v.push_back({"node-checksum", Met::read, [](S& s) { s.put<char>(s.array + 1000, 1); },
                     [](const S& s) {
                         S sealed = s;
                         sealed.seal_node(s.array);
                         return fmt::format("at byte {}: node checksum is {}, expected {}", s.array + 4,
                                            s.get<std::uint32_t>(s.array + 4), sealed.get<std::uint32_t>(s.array + 4));
                     }});
        NODE("node-magic", array, std::uint32_t, 0, 1, "node magic is 1, expected 1313033540");
        NODE("node-level", array, std::uint8_t, offsetof(chain_node, level), 1, "node level is 1, expected 0");
        v.push_back({"node-form", Met::read, [](S& s) { s.put<std::uint8_t>(s.array + offsetof(chain_node, form), 2); },
                     [](const S& s) {
                         return fmt::format("at byte {}: node form is 2, expected at most 1",
                                            s.array + offsetof(chain_node, form));
                     }});
        v.push_back({"node-array-short", Met::read,
                     [](S& s) { s.put<std::uint16_t>(s.array + offsetof(chain_node, count_minus_1), htole16(99)); },
                     [](const S& s) {
                         return fmt::format("at byte {}: entries of a node is 100, expected 512",
                                            s.array + offsetof(chain_node, count_minus_1));
                     }});
        v.push_back({"node-aux-outside", Met::read,
                     [](S& s) { s.put<std::uint32_t>(s.array + offsetof(chain_node, aux_words), htole32(1u << 30)); },
                     [](const S& s) {
                         return fmt::format("at byte {}: length of a node is {}, expected at most 4608",
                                            s.array + offsetof(chain_node, aux_words), 32 + 4096 + (8ull << 30));
                     }});
        NODE("node-first", array, uint64_t, offsetof(chain_node, first), htole64(512),
             "first cluster of a node is 512, expected 0");
        NODE("entry-none", array, uint64_t, head, 0, "kind of an entry is 0, expected one of (mask) 62");
        NODE("entry-node-in-leaf", array, uint64_t, head, htole64(chain_entry(CHAIN_NODE, 1, 8)),
             "kind of an entry is 6, expected one of (mask) 62");
        NODE("entry-pointer", array, uint64_t, head, htole64(0xffff888000000000ull | CHAIN_RESIDENT),
             "kind of an entry is 7, expected one of (mask) 62");
        NODE("entry-hole", array, uint64_t, head, htole64(chain_entry(CHAIN_HOLE, 0, 1)), "hole entry is 9, expected 1");
        NODE("entry-zero", array, uint64_t, head, htole64(chain_entry(CHAIN_ZERO, 1, 1)),
             "position of a zero entry is 1, expected 0");
        NODE("entry-zero-layer", array, uint64_t, head, htole64(chain_entry(CHAIN_ZERO, 9, 0)),
             "layer id of an entry is 9, expected at most 2");
        NODE("entry-layer", array, uint64_t, head, htole64(chain_entry(CHAIN_DATA, 9, 0)),
             "layer id of an entry is 9, expected at most 2");
        NODE("entry-no-layer", array, uint64_t, head, htole64(chain_entry(CHAIN_DATA, 0, 0)),
             "layer id of an entry is 0, expected at most 2");
        NODE("entry-outside", array, uint64_t, head, htole64(chain_entry(CHAIN_DATA, 1, layer_bytes >> 9)),
             fmt::format("position of a data entry in its layer is {}, expected at most {}", layer_bytes, layer_bytes - 1));
        NODE("entry-fine-no-aux", array, uint64_t, head, htole64(chain_entry(CHAIN_FINE, 0, 0)),
             "auxiliary index of a fine entry is 0, expected at most 0");
        NODE("middle-compressed", middle, uint64_t, head, htole64(chain_entry(CHAIN_COMPRESSED, 0, 0)),
             "kind of an entry is 4, expected one of (mask) 78");
        NODE("middle-child-empty", middle, uint64_t, head, htole64(chain_entry(CHAIN_NODE, 0, 8)),
             "sectors of a child node is 0, expected at least 1");
        NODE("middle-child-large", middle, uint64_t, head, htole64(chain_entry(CHAIN_NODE, 60000, 8)),
             "sectors of a child node is 60000, expected at most 8192");
        v.push_back({"middle-child-outside", Met::read,
                     [](S& s) {
                         s.put<uint64_t>(s.middle + sizeof(chain_node), htole64(chain_entry(CHAIN_NODE, 9, 1ull << 44)));
                         s.seal_node(s.middle);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: end of a child node is {}, expected at most {}",
                                            s.middle + sizeof(chain_node), ((1ull << 44) + 9) * 512, s.bytes.size());
                     }});
        // Leaf 1: runs 0 (holes), 3 (compressed), 4 (hole), 5 (fine), 6 (holes).
        NODE("run-first", runs, std::uint16_t, head + 5 * 8, htole16(1), "start of the first run is 1, expected 0");
        NODE("run-order", runs, std::uint16_t, head + 5 * 8 + 2, htole16(4), "start of a run is 4, expected at most 3");
        NODE("run-past-end", runs, std::uint16_t, head + 5 * 8 + 8, htole16(600), "start of a run is 600, expected at most 511");
        v.push_back({"run-of-compressed", Met::read,
                     [](S& s) {
                         s.put<std::uint16_t>(s.runs + head + 5 * 8 + 4, htole16(5));
                         s.put<std::uint16_t>(s.runs + head + 5 * 8 + 6, htole16(6));
                         s.put<std::uint16_t>(s.runs + head + 5 * 8 + 8, htole16(7));
                         s.seal_node(s.runs);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: length of a run of this kind is 2, expected 1",
                                            s.runs + head + 5 * 8 + 2);
                     }});
        NODE("compressed-aux", runs, uint64_t, head + 8, htole64(chain_entry(CHAIN_COMPRESSED, 0, 1000)),
             "auxiliary index of a compressed entry is 1000, expected at most 16");
        NODE("fine-aux", runs, uint64_t, head + 3 * 8, htole64(chain_entry(CHAIN_FINE, 0, 3)),
             "auxiliary index of a fine entry is 3, expected at most 2");
#undef NODE
        v.push_back({"compressed-offset", Met::read,
                     [](S& s) {
                         s.put<uint64_t>(s.runs_aux, htole64(layer_bytes));
                         s.seal_node(s.runs);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: offset of a compressed cluster is {}, expected at most {}", s.runs_aux,
                                            layer_bytes, layer_bytes - 1);
                     }});
        v.push_back({"compressed-length", Met::read,
                     [](S& s) {
                         s.put<std::uint32_t>(s.runs_aux + 8, htole32(5u << 20));
                         s.seal_node(s.runs);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: length of a compressed cluster is {}, expected at most {}", s.runs_aux,
                                            5u << 20, 4u << 20);
                     }});
        v.push_back({"compressed-layer", Met::read,
                     [](S& s) {
                         s.put<std::uint16_t>(s.runs_aux + 12, htole16(3));
                         s.seal_node(s.runs);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: layer id of a compressed cluster is 3, expected at most 2", s.runs_aux);
                     }});
        v.push_back({"fine-in-fine", Met::read,
                     [](S& s) {
                         s.put<uint64_t>(s.runs_aux + 16, htole64(chain_entry(CHAIN_FINE, 0, 0)));
                         s.seal_node(s.runs);
                     },
                     [](const S& s) {
                         return fmt::format("at byte {}: kind of an entry is 5, expected one of (mask) 30", s.runs_aux + 16);
                     }});
        return v;
    }();
    return all;
}

}  // namespace dmchain::test
