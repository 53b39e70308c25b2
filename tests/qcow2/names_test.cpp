// SPDX-License-Identifier: GPL-2.0-or-later
// Names that can be read in two ways, and declarations that contradict each other: dmchain reads what QEMU reads, or refuses
// and says both. Each case is shown to QEMU, too: what dmchain accepts QEMU must accept, with the same bytes.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>
#include <vector>

#include "qcow2/reader.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using namespace std::string_literals;

constexpr std::uint64_t disk = 128 << 10;

// The folder in which all cases are. Sectors of raw files are numbered, so that no part of one is like another.
class Store {
public:
    Store() {
        raw("raw", 0, disk / 512);
        raw("cut", 0, disk / 512, 100);  // ends within a sector
        raw("other.data", 1000, disk / 512);
        raw("file:raw", 2000, disk / 512);
        raw("nbd:raw", 3000, disk / 512);
        shell("qemu-img convert -f raw -O qcow2 raw base.qcow2");
        shell("qemu-img convert -f raw -O qcow2 other.data other.qcow2");
        shell("qemu-img create -q -f qcow2 -b other.qcow2 -F qcow2 over.qcow2");
        shell("qemu-io -f qcow2 -c 'write -q -P 7 0 64k' over.qcow2");
        shell("qemu-img create -q -f qcow2 -o data_file=own.data data.qcow2 128k");
        shell("qemu-io -f qcow2 -c 'write -q -P 8 0 128k' data.qcow2");
        folder.write("shifted", std::string(4096, 's') + folder.read("base.qcow2"));
    }

    Folder folder;

    // @top: the image on top, which has no data of its own.
    void write(Maker& top) const {
        top.put64(top.l1(), 0);
        folder.write("top.qcow2", top.bytes);
    }
    // What QEMU reads; nothing if it refuses.
    std::optional<std::string> qemu() const {
        const Ran ran = run("cd " + folder.path() + " && qemu-img convert -f qcow2 -O raw top.qcow2 out");
        if (ran.status != 0) return std::nullopt;
        return folder.read("out");
    }
    std::string dmchain(const qcow2::ChainOptions& options = {}) const {
        qcow2::Chain chain(folder / "top.qcow2", options);
        qcow2::Reader reader(chain);
        std::string found(chain.virtual_size(), '?');
        reader.read(found.data(), found.size(), 0);
        return found;
    }
    // Reads as QEMU reads it, or, if there is an @error, refuses with it. $T: the image on top.
    void check(std::string error = "") const {
        for (std::size_t at; (at = error.find("$T")) != std::string::npos;) error.replace(at, 2, folder / "top.qcow2");
        try {
            const std::string found = dmchain();
            CHECK(error == "");
            const std::optional<std::string> expected = qemu();
            REQUIRE(expected);
            CHECK(found == *expected);
        } catch (const Error& e) {
            CHECK(std::string(e.what()) == error);
        }
    }

private:
    void shell(const std::string& command) const { must("cd " + folder.path() + " && " + command); }
    void raw(const std::string& name, unsigned first, std::uint64_t sectors, std::size_t less = 0) const {
        std::string bytes;
        for (unsigned i = 0; i < sectors; i++) bytes += fmt::format("{:0512}", first + i);
        bytes.resize(bytes.size() - less);
        folder.write(name, bytes);
    }
};

const Store& store() {
    static const Store all;
    return all;
}

struct Name {
    std::string name;
    std::string declared;
    std::string error{};  // ends the message; $N: the name as the message has it
};

void check_names(const std::vector<Name>& names) {
    for (const Name& n : names) {
        CAPTURE(n.name);
        CAPTURE(n.declared);
        Maker top({.backing = n.name, .backing_format = n.declared, .clusters = disk >> 12});
        store().write(top);
        std::string error = n.error;
        if (const std::size_t at = error.find("$N"); at != std::string::npos) error.replace(at, 2, "json: name '" + n.name + "'");
        store().check(error.empty() ? "" : "$T: " + error);
    }
}

std::string json(const std::string& options) { return "json:{" + options + "}"; }

const std::string base = R"("file":{"driver":"file","filename":"base.qcow2"})";
const std::string raw = R"("file":{"driver":"file","filename":"raw"})";
const std::string over = R"("file":{"driver":"file","filename":"over.qcow2"})";
const std::string data = R"("file":{"driver":"file","filename":"data.qcow2"})";

}  // namespace

TEST_CASE("names: the driver of a json: name and the format that the header declares") {
    const auto two = [](const std::string& driver, const std::string& format) {
        return "$N says the driver '" + driver + "' for its backing file, and the image declares the format '" + format +
               "', expected both to say the same; choose one with \"qemu-img rebase -u\"";
    };
    check_names({
        {json(R"("driver":"qcow2",)" + base), ""},
        {json(R"("driver":"qcow2",)" + base), "qcow2"},
        {json(R"("driver":"qcow2",)" + base), "raw", two("qcow2", "raw")},  // QEMU: the bytes of the image
        {json(R"("driver":"raw",)" + base), ""},
        {json(R"("driver":"raw",)" + base), "raw"},
        {json(R"("driver":"raw",)" + base), "qcow2", two("raw", "qcow2")},  // QEMU: the disk in the image
        {json(R"("driver":"raw",)" + base), "file", two("raw", "file")},    // QEMU refuses it
        {json(base), ""},
        {json(base), "qcow2"},
        {json(base), "raw"},
        {json(base), "file", "$N has the option 'file.driver', which is not supported"},
        {json(R"("driver":"file","filename":"base.qcow2")"), ""},
        {json(R"("driver":"file","filename":"base.qcow2")"), "file"},
        {json(R"("driver":"file","filename":"base.qcow2")"), "raw", two("file", "raw")},  // QEMU refuses both
        {json(R"("driver":"file","filename":"base.qcow2")"), "qcow2", two("file", "qcow2")},
        {json(R"("filename":"base.qcow2")"), "file"},
        {json(R"("filename":"base.qcow2")"), "raw", "$N has the option 'filename', which is not supported"},
        {json(R"("driver":"qcow2","filename":"base.qcow2")"), "", "$N has the option 'filename', which is not supported"},
        {json(R"("driver":null,)" + base), ""},
        {json(R"("driver":"RAW",)" + base), "", "declares the format 'RAW' for its backing file, expected qcow2 or raw"},
        {json(R"("driver":7,)" + base), "", "$N gives 'driver' as 7, expected a string"},
        {"base.qcow2", "file"},
        {"base.qcow2", "raw"},
    });
}

TEST_CASE("names: a key given twice") {
    check_names({
        // In two spellings: QEMU takes the nested one.
        {json(R"("driver":"qcow2","file.filename":"other.qcow2",)" + base), "",
         "$N gives 'file.filename' as \"base.qcow2\" and as \"other.qcow2\", expected one value"},
        {json(R"("driver":"qcow2",)" + base + R"(,"file.filename":"other.qcow2")"), "",
         "$N gives 'file.filename' as \"base.qcow2\" and as \"other.qcow2\", expected one value"},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file.filename":"other.data","data-file":{"filename":"raw"})"), "",
         "$N gives 'data-file.filename' as \"raw\" and as \"other.data\", expected one value"},
        {json(R"("driver":"qcow2","file.driver":"file",)" + base), ""},
        // In one object: QEMU refuses it.
        {json(R"("driver":"qcow2","driver":"raw",)" + base), "", "$N gives 'driver' twice in one object, expected it once"},
        {json(R"("driver":"raw","driver":"raw",)" + base), "", "$N gives 'driver' twice in one object, expected it once"},
        {json(R"("driver":"qcow2","dr\u0069ver":"raw",)" + base), "",
         "json: name '" + json(R"("driver":"qcow2","dr\\u0069ver":"raw",)" + base) +
             "' gives 'driver' twice in one object, expected it once"},
        {json(R"("driver":"qcow2",)" + base + "," + base), "", "$N gives 'file' twice in one object, expected it once"},
        {json(R"("file":{"filename":"base.qcow2","filename":"other.qcow2"})"), "",
         "$N gives 'filename' twice in one object, expected it once"},
        {json(R"("file":null,"file.filename":"base.qcow2")"), "", "$N has the option 'file', which is not supported"},
    });
}

TEST_CASE("names: file names in a json: name are paths as they stand there") {
    check_names({
        {json(R"("driver":"raw","file":{"driver":"file","filename":"file:raw"})"), ""},
        {json(R"("driver":"raw","file.filename":"nbd:raw")"), ""},
        {json(R"("driver":"file","filename":"file:raw")"), ""},
        {json(R"("driver":"raw","file.filename":5)"), "", "$N gives 'file.filename' as 5, expected a string"},
        {json(R"("driver":"raw","file.filename":null)"), "", "$N names no file, expected file.filename"},
        {json(R"("driver":"raw","file.filename":"raw\u0000x")"), "",
         "json: name 'json:{\"driver\":\"raw\",\"file.filename\":\"raw\\\\u0000x\"}' has a zero byte in 'file.filename', "
         "expected none"},
        {"file:raw", "raw"},
    });
}

TEST_CASE("names: a part of a file, and drivers raw over each other") {
    const auto nested = [](const std::string& outer, const std::string& inner, const std::string& file) {
        return json(R"("driver":"raw",)" + outer + R"("file":{"driver":"raw",)" + inner + R"("file":{"filename":")" + file +
                    R"("}})");
    };
    const auto wrong = [](const std::string& key, const std::string& value) {
        return "$N gives '" + key + "' as " + value + ", expected bytes, a multiple of 512";
    };
    const auto outside = [](const std::string& size, const std::string& offset, const std::string& bytes) {
        return fmt::format("names {} bytes at {} of a part of '{}', expected them within its {} bytes", size, offset,
                           store().folder / "raw", bytes);
    };
    std::vector<Name> names = {
        {nested("", R"("offset":1024,)", "raw"), ""},
        {nested(R"("offset":512,)", R"("offset":1024,"size":8192,)", "raw"), "raw"},
        {nested(R"("offset":512,"size":1024,)", R"("offset":4096,)", "cut"), ""},
        {nested(R"("offset":8192,)", R"("size":8192,)", "raw"), ""},
        {nested(R"("offset":8704,)", R"("size":8192,)", "raw"), "",
         "names the bytes at 8704 of a part of '" + store().folder.path() + "/raw', expected them within its 8192 bytes"},
        {json(R"("driver":"raw","file":{"driver":"raw","file":{"driver":"raw","size":4096,"file":{"filename":"raw"}}})"), "raw"},
        {json(R"("offset":512,)" + raw), "raw"},
        {json(R"("driver":"raw","file.offset":512,"file.driver":"raw","file.file.filename":"raw")"), ""},
        // qcow2 in raw is the image; in a part of a file it is not supported.
        {json(R"("driver":"qcow2","file":{"driver":"raw",)" + base + "}"), "qcow2"},
        {json(R"("driver":"qcow2","file":{"driver":"raw","offset":4096,"file":{"filename":"shifted"}})"), "",
         "$N gives a part of a file that is not declared raw, which is not supported"},
        {json(R"("driver":"qcow2","offset":512,)" + base), "",
         "$N gives a part of a file that is not declared raw, which is not supported"},
        {json(R"("offset":512,)" + base), "", "$N gives a part of a file that is not declared raw, which is not supported"},
        // Not declared: QEMU finds out by what it finds in the part.
        {json(R"("file":{"driver":"raw","offset":4096,"file":{"filename":"shifted"}})"), "",
         "$N gives a part of a file that is not declared raw, which is not supported"},
        {json(R"("driver":"raw","file":{"driver":"qcow2",)" + base + "}"), "",
         "$N uses the driver 'qcow2', expected file, host_device or raw"},
    };
    for (const char* part : {R"("offset":512)", R"("offset":"512")", R"("offset":0,"size":512)", R"("size":"65536")",
                             R"("size":0)", R"("offset":131072)", R"("offset":131072,"size":0)", R"("offset":66048,"size":65024)",
                             R"("offset":null,"size":null)", R"("size":131072)"})
        names.push_back({json(R"("driver":"raw",)"s + part + "," + raw), "raw"});
    for (const char* part : {R"("offset":130560)", R"("offset":512,"size":130560)", R"("size":131072)"})
        names.push_back({json(R"("driver":"raw",)"s + part + R"(,"file":{"filename":"cut"})"), "raw"});
    for (const char* value :
         {"513", "-512", "512.0", "true", R"("1k")", R"("0x200")", R"("0512")", R"("")", "[512]", "18446744073709551616"})
        for (const char* key : {"offset", "size"})
            names.push_back({json(fmt::format(R"("driver":"raw","{}":{},)", key, value) + raw), "raw",
                             wrong(key, value == "18446744073709551616"s ? "1.8446744073709552e+19" : value)});
    names.push_back({json(R"("driver":"raw","offset":131584,)" + raw), "raw", outside("the", "131584", "131072")});
    names.push_back({json(R"("driver":"raw","size":131584,)" + raw), "raw", outside("131584", "0", "131072")});
    names.push_back({json(R"("driver":"raw","offset":512,"size":131072,)" + raw), "raw", outside("131072", "512", "131072")});
    names.push_back({json(R"("driver":"raw","offset":18446744073709551104,)" + raw), "raw",
                     outside("the", "18446744073709551104", "131072")});
    check_names(names);

    // What the index builder asks: where it begins in the file, and how it ends.
    Maker top(
        {.backing = json(R"("driver":"raw","offset":1536,"size":7168,)" + raw), .backing_format = "raw", .clusters = disk >> 12});
    store().write(top);
    const qcow2::Chain chain(store().folder / "top.qcow2", {});
    const qcow2::Layer& layer = *chain.layers()[0];
    CHECK(layer.virtual_size() == 7168);
    CHECK(layer.unit() == 512);
    CHECK(chain.unit() == 512);
    qcow2::Scratch scratch;
    std::string found;
    layer.map(1024, disk, scratch,
              [&](const qcow2::Extent& e) { found += fmt::format("{}+{} at {};", e.guest, e.bytes, e.host); });
    CHECK(found == "1024+6144 at 2560;");
}

TEST_CASE("names: backing null") {
    check_names({
        {json(R"("driver":"qcow2",)" + over), ""},
        {json(R"("driver":"qcow2","backing":null,)" + over), ""},
        {json(R"("driver":"qcow2","backing":null,)" + over), "qcow2"},
        {json(R"("backing":null,)" + over), ""},
        {json(R"("driver":"qcow2","backing":null,)" + base), "qcow2"},
        {json(R"("driver":"raw","backing":null,)" + over), "raw"},
        {json(R"("driver":"file","backing":null,"filename":"raw")"), ""},
        {json(R"("driver":"qcow2","backing":"x",)" + over), "", "$N has the option 'backing', which is not supported"},
        {json(R"("driver":"qcow2","backing":{"driver":"qcow2",)" + base + "}," + over), "",
         "$N has the option 'backing.driver', which is not supported"},
        {json(R"("driver":"qcow2","backing.driver":"raw",)" + over), "",
         "$N has the option 'backing.driver', which is not supported"},
    });
}

TEST_CASE("names: the data file in a json: name counts, not that of the header") {
    check_names({
        {json(R"("driver":"qcow2",)" + data), ""},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file":{"driver":"file","filename":"other.data"})"), "qcow2"},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file.filename":"other.data")"), ""},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file":{"driver":"raw","file":{"filename":"other.data"}})"), ""},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file":{"driver":"raw","offset":512,"file":{"filename":"other.data"}})"),
         "", "$N gives a part of a file as the data file, which is not supported"},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file":{"driver":"qcow2","file":{"filename":"base.qcow2"}})"), "",
         "$N uses the driver 'qcow2', expected file, host_device or raw"},
        {json(R"("driver":"qcow2",)" + data + R"(,"data-file":"x")"), "",
         "$N has the option 'data-file', which is not supported"},
        {json(R"("driver":"raw",)" + data + R"(,"data-file.filename":"other.data")"), "",
         "$N has the option 'data-file.filename', which is not supported"},
    });
    check_names({{json(R"("driver":"qcow2",)" + data + R"(,"data-file.locking":"off")"), "",
                  "$N names no data file, expected data-file.filename"}});
    // An image that has none.
    Maker top({.backing = json(R"("driver":"qcow2",)" + base + R"(,"data-file.filename":"other.data")"),
               .backing_format = "qcow2",
               .clusters = disk >> 12});
    store().write(top);
    CHECK_FALSE(store().qemu());
    CHECK_THROWS_WITH_AS(store().dmchain(),
                         fmt::format("{0}/base.qcow2: has no external data file, expected one where the image above names "
                                     "'{0}/other.data' for it",
                                     store().folder.path())
                             .c_str(),
                         Error);
}

TEST_CASE("names: options that say nothing about data are ignored, those that QEMU 7.2 does not know too") {
    const auto with = [](const std::string& option, bool in_file) {
        return in_file ? json(R"("driver":"qcow2","file":{"driver":"file",)" + option + R"(,"filename":"over.qcow2"})")
                       : json(R"("driver":"qcow2",)" + option + "," + over);
    };
    std::vector<Name> known;
    for (const char* option :
         {R"("node-name":"n1")", R"("read-only":true)", R"("auto-read-only":true)", R"("force-share":true)",
          R"("cache.direct":false)", R"("cache":{"no-flush":true})", R"("cache-size":"2M")", R"("l2-cache-size":1048576)",
          R"("l2-cache-entry-size":65536)", R"("refcount-cache-size":262144)", R"("cache-clean-interval":7)",
          R"("discard":"unmap")", R"("detect-zeroes":"on")", R"("pass-discard-request":true)", R"("pass-discard-snapshot":false)",
          R"("pass-discard-other":true)", R"("lazy-refcounts":false)", R"("overlap-check":"all")",
          R"("overlap-check":{"template":"none","bitmap-directory":true})"})
        known.push_back({with(option, false), "qcow2"});
    for (const char* option : {R"("locking":"off")", R"("aio":"threads")", R"("aio-max-batch":4)", R"("drop-cache":false)",
                               R"("x-check-cache-dropped":true)", R"("node-name":"n2")", R"("read-only":true)"})
        known.push_back({with(option, true), "qcow2"});
    check_names(known);

    Maker plain({.backing = "over.qcow2", .backing_format = "qcow2", .clusters = disk >> 12});
    store().write(plain);
    const std::string expected = store().dmchain();
    for (const std::string& name : {with(R"("discard-no-unref":true)", false), with(R"("active":false)", false),
                                    with(R"("active":true)", true), with(R"("pr-manager":"helper")", true)}) {
        CAPTURE(name);
        Maker top({.backing = name, .backing_format = "qcow2", .clusters = disk >> 12});
        store().write(top);
        CHECK(store().dmchain() == expected);
    }
    // What might say something is not.
    for (const char* option : {R"("encrypt.format":"luks")", R"("snapshot":true)", R"("data-file-raw":true)", R"("discard.x":1)"})
        check_names({{with(option, false), "qcow2",
                      "$N has the option '" + std::string(option).substr(1, std::string(option).find('"', 1) - 1) +
                          "', which is not supported"}});
}

TEST_CASE("names: declarations in the header that contradict each other, or that end with zero bytes") {
    struct Case {
        const char* what;
        MakerOptions options;
        std::function<void(Maker&)> change;
        const char* error;  // "": as QEMU reads it
    };
    constexpr std::uint32_t format = 0xe2792aca, data_file = 0x44415441, encryption = 0x0537be77;
    const MakerOptions backed{.backing = "base.qcow2", .clusters = disk >> 12};
    const MakerOptions outside{.data_file = "own.data", .clusters = disk >> 12};
    const auto name = [](Maker& m, const std::string& text) {
        m.put_text(m.get64(8), text);
        m.put32(16, text.size());
    };
    const std::vector<Case> cases = {
        {"two formats", backed, [](Maker& m) { m.put_extension(format, "raw"), m.put_extension(format, "qcow2"); },
         "$T: header extension 0xe2792aca is there twice, at offset 0x68: 'raw' and at 0x78: 'qcow2', expected it once"},
        {"one format twice", backed, [](Maker& m) { m.put_extension(format, "raw"), m.put_extension(format, "raw"); }, ""},
        {"a format and none", backed, [](Maker& m) { m.put_extension(format, "raw"), m.put_extension(format, ""); },
         "$T: header extension 0xe2792aca is there twice, at offset 0x68: 'raw' and at 0x78: '', expected it once"},
        {"two data files", outside, [](Maker& m) { m.put_extension(data_file, "other.data"); },
         "$T: header extension 0x44415441 is there twice, at offset 0x68: 'own.data' and at 0x78: 'other.data', expected it "
         "once"},
        {"one data file twice", outside, [](Maker& m) { m.put_extension(data_file, "own.data"); }, ""},
        {"a data file, but no bit for it", backed, [](Maker& m) { m.put_extension(data_file, "other.data"); }, ""},
        {"two bitmap directories",
         {.clusters = disk >> 12},
         [](Maker& m) {
             for (const char c : {'\1', '\2'}) m.put_extension(0x23852875, "\0\0\0"s + c + std::string(20, '\0'));
         },
         "$T: header extension 0x23852875 is there twice, at offset 0x68 and at 0x88, with other contents, expected it once"},
        {"encryption that the header denies", backed, [](Maker& m) { m.put_extension(encryption, std::string(16, 'x')); },
         "$T: has the header extension 0x0537be77 of an encrypted image at offset 0x68, but crypt_method at offset 32 is 0, "
         "expected "
         "both or none"},
        {"a format with zero bytes behind it", backed, [](Maker& m) { m.put_extension(format, "raw\0\0\0\0"s); }, ""},
        {"a format of zero bytes", backed, [](Maker& m) { m.put_extension(format, std::string(8, '\0')); }, ""},
        {"two formats with a zero byte between", backed, [](Maker& m) { m.put_extension(format, "raw\0qcow2"s); },
         "$T: name of the backing format at offset 0x70 is 'raw\\x00qcow2', expected nothing behind a zero byte"},
        {"a data file with zero bytes behind it", outside, [](Maker& m) { m.put_text(0x70, "raw\0\0\0\0\0"s); }, ""},
        {"two data files with a zero byte between", outside, [](Maker& m) { m.put_text(0x70, "raw\0data"s); },
         "$T: name of the data file at offset 0x70 is 'raw\\x00data', expected nothing behind a zero byte"},
        {"a backing file with zero bytes behind it", backed, [&](Maker& m) { name(m, "over.qcow2\0\0\0"s); }, ""},
        {"a backing file of zero bytes", backed, [&](Maker& m) { name(m, "\0\0"s); }, ""},
        {"two backing files with a zero byte between", backed, [&](Maker& m) { name(m, "raw\0x"s); },
         "$T: name of the backing file at offset 0xc00 is 'raw\\x00x', expected nothing behind a zero byte"},
        // To QEMU a path as it stands there; older versions looked for protocols in it.
        {"a data file by file:",
         {.data_file = "file:raw", .clusters = disk >> 12},
         [](Maker&) {},
         "$T: names the data file 'file:raw': QEMU takes this for a path, and older versions for the protocol 'file'; expected a "
         "path "
         "without (\"./\" in front makes it one)"},
        {"a data file by json:",
         {.data_file = R"(json:{"driver":"file","filename":"raw"})", .clusters = disk >> 12},
         [](Maker&) {},
         "$T: names the data file 'json:{\"driver\":\"file\",\"filename\":\"raw\"}': QEMU takes this for a path, and older "
         "versions for the "
         "protocol 'json'; expected a path without (\"./\" in front makes it one)"},
        {"a data file whose name has a colon", {.data_file = "./file:raw", .clusters = disk >> 12}, [](Maker&) {}, ""},
    };
    for (const Case& c : cases) {
        CAPTURE(std::string(c.what));
        Maker m(c.options);
        c.change(m);
        // A data file is only looked at where a cluster is in it.
        if (c.options.data_file.empty())
            store().write(m);
        else
            store().folder.write("top.qcow2", m.bytes);
        store().check(c.error);
    }
}

}  // namespace dmchain::test
