// SPDX-License-Identifier: GPL-2.0-or-later
// Stores with small streams in them, for the tests of tools/replica.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "io/error.hpp"
#include "replica/replicate.hpp"
#include "replica/restore.hpp"
#include "support/folder.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::replica {

namespace fs = std::filesystem;
using test::StreamMaker;

// Three folders, and streams stored in them.
struct Stores {
    test::Folder folder;
    std::string all = "dir:" + folder.path() + "/a," + folder.path() + "/b," + folder.path() + "/c";

    Stores() {
        for (const char* name : {"a", "b", "c"}) fs::create_directory(folder / name);
    }

    Stored store(const std::string& name, const std::string& bytes, const Policy& policy = {}) {
        guest::Candidates none;
        const guest::Stream stream(File(folder.write("stream-" + name, bytes)));
        const guest::PageMap map = guest::classify(stream, none);
        std::vector<Folder> folders = open_folders(all);
        for (Folder& f : folders) f.begin_writing();
        const Plan plan = make_plan(stream, map, policy, std::nullopt);
        std::uint64_t told = 0;
        const Stored s =
            replica::store(stream, map, plan, policy, name, std::nullopt, folders, [&](std::uint64_t n) { told += n; });
        CHECK(told == plan.stored_bytes());
        return s;
    }
    // The stream, or what was said.
    std::string restore(const std::string& name, const std::string& from) const {
        try {
            const std::vector<Folder> folders = open_folders(from);
            const Source source = find_manifest(folders, name);
            std::string out;
            replica::restore(
                source.manifest, folders, {},
                [&](const void* data, std::size_t n) { out.append(static_cast<const char*>(data), n); }, [](std::uint64_t) {});
            return out;
        } catch (const Error& e) {
            return e.what();
        }
    }
    std::string restore(const std::string& name) const { return restore(name, all); }
    std::vector<std::string> pieces(const std::string& in) const {
        std::vector<std::string> out;
        for (const auto& e : fs::recursive_directory_iterator(folder / in + "/pieces"))
            if (e.is_regular_file()) out.push_back(e.path().string());
        return out;
    }
};

inline void flip(const std::string& path) {
    std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
    const char c = static_cast<char>(f.get() ^ 1);
    f.seekp(0);
    f.put(c);
}

// Two streams have the same memory and devices.
inline bool same(const std::string& a, const std::string& b) {
    test::Folder folder;
    const guest::Stream s(File(folder.write("a", a))), t(File(folder.write("b", b)));
    if (a.substr(0, s.head_bytes()) != b.substr(0, t.head_bytes()) || a.substr(s.tail_offset()) != b.substr(t.tail_offset()))
        return false;
    std::vector<unsigned char> x(guest::page_bytes), y(guest::page_bytes);
    for (std::size_t i = 0; i < s.blocks().size(); i++)
        for (std::uint64_t p = 0; p < s.blocks()[i].pages(); p++) {
            const bool there = s.read_page(i, p, x.data());
            if (t.read_page(i, p, y.data()) != there || x != y) return false;
        }
    return true;
}

inline const std::string small = StreamMaker::small().bytes;

}  // namespace dmchain::replica
