// SPDX-License-Identifier: GPL-2.0-or-later
// The id of a snapshot: the same in a layer's log, when it is sealed, when it is the top of what is merged; another when the
// layer goes on.
#include "chain/point_id.hpp"

#include <doctest/doctest.h>

#include "chain/merge.hpp"
#include "qcow2/active.hpp"
#include "qcow2/header_bytes.hpp"
#include "qcow2/log_writer.hpp"
#include "qcow2/seal.hpp"
#include "qcow2/unseal.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using namespace chain;

constexpr std::uint64_t cluster = 65536, disk = 64 * cluster;

// A layer that has the cluster @number.
void make_layer(const std::string& path, const std::string& backing, std::uint64_t number) {
    qcow2::make_active(path, {disk, 16, 12, backing});
    Writable to = Writable::open(path);
    const qcow2::Log empty(File(path), 16);
    const std::uint64_t host = empty.end();
    to.write(std::string(cluster, 'x').data(), cluster, host);
    qcow2::LogWriter log(to, empty.id(), cluster + CHAIN_LOG_BLOCK);
    const chain_log_record r = {htole64(number), htole64(host), htole64(0xffff)};
    log.add(CHAIN_LOG_RECORDS, &r, sizeof r, 1);
}

qcow2::LayerId id_of(const std::string& path, std::size_t layer = 0) {
    qcow2::ChainOptions o;
    o.in_use = true;
    const qcow2::Chain c(path, o);
    return point_id(*c.layers()[c.layers().size() - 1 - layer]);
}

}  // namespace

TEST_CASE("a layer keeps its id when it is sealed, and gets another when it goes on") {
    const Folder folder;
    folder.write("base.qcow2", Maker({.cluster_bits = 16, .clusters = 64}).bytes);
    const std::string path = folder / "layer.qcow2";
    make_layer(path, "base.qcow2", 3);
    const qcow2::LayerId id = id_of(path);
    const std::string active = read_file(path).substr(0, qcow2::header_block);
    qcow2::seal(path, {});
    CHECK(id_of(path) == id);
    // So that a power cut leaves one or the other.
    CHECK(read_file(path).substr(512, qcow2::header_block - 512) == active.substr(512));
    qcow2::unseal(path, 16, 12);
    const qcow2::LayerId second = id_of(path);
    CHECK(second != id);
    qcow2::seal(path, {});
    CHECK(id_of(path) == second);
    // A program that writes to it and does not know the bit clears it.
    std::string bytes = read_file(path);
    bytes[88] = 0;
    folder.write("layer.qcow2", bytes);
    CHECK(id_of(path) != second);
}

TEST_CASE("what is merged has the id of the layer on top") {
    const Folder folder;
    folder.write("base.qcow2", Maker({.cluster_bits = 16, .clusters = 64}).bytes);
    make_layer(folder / "a.qcow2", "base.qcow2", 3);
    make_layer(folder / "b.qcow2", "a.qcow2", 4);
    qcow2::seal(folder / "a.qcow2", {});
    qcow2::seal(folder / "b.qcow2", {});
    {
        qcow2::ChainOptions o;
        o.depth = 2;
        const qcow2::Chain range(folder / "b.qcow2", o);
        merge(range, measure(range), {folder / "merged.qcow2", "base.qcow2"}, [](std::uint64_t) {});
    }
    CHECK(id_of(folder / "merged.qcow2") == id_of(folder / "b.qcow2"));
    CHECK(id_of(folder / "b.qcow2") != id_of(folder / "a.qcow2"));
    // A layer of another program: merged, it has the id that its file had.
    {
        qcow2::ChainOptions o;
        o.depth = 1;
        const qcow2::Chain range(folder / "base.qcow2", o);
        merge(range, measure(range), {folder / "foreign.qcow2"}, [](std::uint64_t) {});
        MergeTo flat{folder / "flat.qcow2"};
        flat.flat = true;
        merge(range, measure(range, true), flat, [](std::uint64_t) {});
    }
    CHECK(id_of(folder / "foreign.qcow2") == id_of(folder / "base.qcow2"));
    CHECK(id_of(folder / "flat.qcow2") != id_of(folder / "base.qcow2"));
    std::filesystem::rename(folder / "base.qcow2", folder / "moved.qcow2");
    CHECK(id_of(folder / "foreign.qcow2") == id_of(folder / "moved.qcow2"));
    std::filesystem::last_write_time(folder / "moved.qcow2", std::filesystem::file_time_type::clock::now());
    CHECK(id_of(folder / "foreign.qcow2") != id_of(folder / "moved.qcow2"));
}

}  // namespace dmchain::test
