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
#include "support/image_content.hpp"
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

    bool compress = false;

    Stored store(const std::string& name, const std::string& bytes) {
        return store(name, guest::read_image(guest::Source(File(folder.write("stream-" + name, bytes)))));
    }
    Stored store(const std::string& name, const guest::Image& image) {
        const guest::Candidates none;
        const Policy policy;
        const guest::PageMap map = guest::classify(image, none);
        Store places = open_store(all);
        for (Place& f : places) f.begin_writing();
        const Plan plan = make_plan(image, map, policy, std::nullopt);
        std::uint64_t told = 0;
        const std::function<void(std::uint64_t)> progress = [&](std::uint64_t n) { told += n; };
        PieceWriter writer(places, compress, progress);
        Manifest m = new_manifest(name, places);
        store_memory(image, map, plan, policy, writer, m);
        const Stored s = writer.finish(m, {});
        CHECK(told == plan.stored_bytes());
        return s;
    }
    // The file, or what was said. @state: what comes into that file.
    std::string restore(const std::string& name, const std::string& from, std::string* state = nullptr) const {
        try {
            const Store places = open_store(from);
            const Source source = find_manifest(places, name);
            std::string out, none;
            replica::restore(source.manifest, places, {}, {test::put_into(out), test::put_into(state ? *state : none)}, false,
                             [](std::uint64_t) {});
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
    const guest::Image s = guest::read_image(guest::Source(File(folder.write("a", a)))),
                       t = guest::read_image(guest::Source(File(folder.write("b", b))));
    if (s.others.size() != t.others.size()) return false;
    for (std::size_t i = 0; i < s.others.size(); i++) {
        const auto of = [&](const std::string& bytes, const guest::Range& r) { return bytes.substr(r.begin, r.end - r.begin); };
        if (of(a, s.others[i]) != of(b, t.others[i])) return false;
    }
    return test::content(s) == test::content(t);
}

inline const std::string small = StreamMaker::small().bytes;

}  // namespace dmchain::replica
