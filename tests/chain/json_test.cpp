// SPDX-License-Identifier: GPL-2.0-or-later
// What the commands print with --json is what docs/json.md says: every key is there, of its type, and no other is. Of the
// commands that need no device; tests/man and tests/target have the others.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "support/active_maker.hpp"
#include "support/folder.hpp"
#include "support/stream_maker.hpp"
#include "qcow2/active.hpp"

namespace dmchain::test {
namespace {

using Json = nlohmann::json;

struct Key {
    std::string type;
    bool optional;
};

std::string trimmed(std::string s) {
    s.erase(0, s.find_first_not_of(' '));
    s.erase(s.find_last_not_of(' ') + 1);
    return s;
}

// The table below the heading that names @command. Keys are paths: "layers[].path".
std::map<std::string, Key> documented(const std::string& command) {
    std::istringstream in(read_file((std::filesystem::path(__FILE__).parent_path() / "../../docs/json.md").string()));
    std::map<std::string, Key> keys;
    bool here = false;
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("## ")) here = (", " + line.substr(3) + ",").find(" " + command + ",") != std::string::npos;
        if (!here || !line.starts_with("| `")) continue;
        std::istringstream cells(line.substr(1));
        std::string key, type, meaning;
        std::getline(cells, key, '|');
        std::getline(cells, type, '|');
        std::getline(cells, meaning);
        key = trimmed(key);
        keys[key.substr(1, key.size() - 2)] = {trimmed(type), trimmed(meaning).starts_with("optional")};
    }
    return keys;
}

bool is_of(const Json& value, const std::string& type) {
    if (type.ends_with(" or null")) return value.is_null() || is_of(value, type.substr(0, type.size() - 8));
    if (type == "path") return value.is_string() && value.get<std::string>().starts_with("/");
    if (type == "text") return value.is_string();
    if (type == "number") return value.is_number_unsigned();
    if (type == "true or false") return value.is_boolean();
    return type == "list" && value.is_array();
}

class Comparison {
public:
    explicit Comparison(const std::string& command) : keys_(documented(command)) { REQUIRE_FALSE(keys_.empty()); }

    // An object whose keys begin with @prefix.
    void object(const Json& j, const std::string& prefix = "") {
        for (const auto& item : j.items()) {
            const std::string key = prefix + item.key();
            const Json& value = item.value();
            CAPTURE(key);
            const auto k = keys_.find(key);
            REQUIRE(k != keys_.end());
            CAPTURE(value);
            CHECK(is_of(value, k->second.type));
            seen_.insert(key);
            if (!value.is_array()) continue;
            for (const Json& element : value)
                if (element.is_object()) object(element, key + "[].");
        }
        for (const auto& documented_key : keys_) {
            const std::string& key = documented_key.first;
            if (documented_key.second.optional || !key.starts_with(prefix)) continue;
            if (key.find('[', prefix.size()) != std::string::npos) continue;
            CAPTURE(key);
            CHECK(j.contains(key.substr(prefix.size())));
        }
    }
    // Keys that no object had, though one of each kind was there.
    std::string missing() const {
        std::string out;
        for (const auto& [key, k] : keys_)
            if (!seen_.contains(key)) out += key + " ";
        return out;
    }

private:
    std::map<std::string, Key> keys_;
    std::set<std::string> seen_;
};

Json printed(const std::string& arguments) { return Json::parse(run(dmchain() + " " + arguments).out); }

}  // namespace

TEST_CASE("json: inspect, check and index print what docs/json.md says") {
    Folder folder;
    must("cd " + folder.path() +
         " && truncate -s 64M disk.raw"
         " && printf 'label: gpt\\nsize=16M, name=\"first one\"\\nsize=8M\\n' | sfdisk -q disk.raw"
         " && truncate -s 16M fs && mkfs.ext4 -q -F -L 'my disk' fs && dd if=fs of=disk.raw bs=1M seek=1 conv=notrunc status=none"
         " && qemu-img create -q -f qcow2 -b disk.raw -F raw -o data_file=data base.qcow2"
         " && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 && qemu-img snapshot -c first top.qcow2");
    const std::string top = folder / "top.qcow2";
    Comparison inspect("inspect");
    // By a relative name: paths are absolute all the same.
    inspect.object(Json::parse(must("cd " + folder.path() + " && " + dmchain() + " inspect --json top.qcow2")));
    // Of an image that a device has: tests/target/extents.
    CHECK(inspect.missing() == "device layers[].read ");

    Comparison check("check");
    check.object(Json::parse(must("cd " + folder.path() + " && " + dmchain() + " check --json top.qcow2")));
    // A cluster whose refcount nothing explains.
    // (QEMU takes the data file's relative name from the current folder.)
    must("cd " + folder.path() + " && qemu-io -f qcow2 -c 'write -q 0 64k' top.qcow2 && qemu-img snapshot -d first top.qcow2");
    std::fstream out(top, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(0x20000 + 2 * 20);
    out.write("\0\1", 2);
    out.close();
    must("truncate -s 2M " + top);
    check.object(printed("check --json " + top));
    CHECK(check.missing() == "");

    Comparison index("index");
    index.object(printed("index --dry-run --json " + (folder / "base.qcow2")));
    index.object(printed("index --json " + (folder / "base.qcow2")));
    CHECK(index.missing() == "");
}

TEST_CASE("json: survey and gc print what docs/json.md says") {
    Folder folder;
    must("cd " + folder.path() +
         " && qemu-img create -q -f qcow2 base.qcow2 1M && qemu-io -c 'write -q 0 256k' base.qcow2"
         " && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 && qemu-io -c 'write -q 0 64k' top.qcow2"
         " && qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 broken.qcow2 1M"
         " && truncate -s 64k vm.chain.1.tmp && printf text >my.chain.2.tmp");
    Comparison survey("survey");
    survey.object(printed("survey --json " + folder.path()));
    CHECK(survey.missing() == "");
    Comparison gc("gc");
    gc.object(Json::parse(must("cd " + folder.path() + " && " + dmchain() + " gc --json --dry-run . 2>/dev/null")));
    CHECK(gc.missing() == "");
}

TEST_CASE("json: diff, export and import print what docs/json.md says") {
    Folder folder;
    must("cd " + folder.path() +
         " && qemu-img create -q -f qcow2 base.qcow2 1M"
         " && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 && qemu-io -f qcow2 -c 'write -q 64k 64k' top.qcow2");
    Comparison diff("diff");
    diff.object(Json::parse(must("cd " + folder.path() + " && " + dmchain() + " diff --json --from 0 top.qcow2")));
    CHECK(diff.missing() == "");

    const auto here = [&](const std::string& arguments) {
        return Json::parse(must("cd " + folder.path() + " && " + dmchain() + " " + arguments + " --json"));
    };
    Comparison exported("export"), imported("import");
    exported.object(here("export top.qcow2 raw"));
    exported.object(here("export top.qcow2@base.qcow2 whole --since none"));
    exported.object(here("export top.qcow2 rest --since 0"));
    CHECK(exported.missing() == "");
    imported.object(here("import whole copy --dry-run"));
    imported.object(here("import whole copy"));
    imported.object(here("import rest copy"));
    CHECK(imported.missing() == "");
}

TEST_CASE("json: guest-map prints what docs/json.md says") {
    Folder folder;
    Comparison map("guest-map");
    map.object(printed("guest-map --json " + folder.write("stream", StreamMaker::small().bytes)));
    // Of a guest that is not understood; tests/guest-memory has the others.
    CHECK(map.missing() == "kernel ");
}

TEST_CASE("json: replicate and restore print what docs/json.md says") {
    Folder folder;
    folder.write("stream", StreamMaker::small().bytes);
    must("mkdir " + folder.path() + "/a " + folder.path() + "/b " + folder.path() + "/c");
    const auto here = [&](const std::string& arguments) {
        return Json::parse(must("cd " + folder.path() + " && " + dmchain() + " " + arguments + " --json"));
    };
    Comparison replicate("replicate"), restore("restore");
    replicate.object(here("replicate --memory stream --to dir:a,b,c --name one --dry-run"));
    replicate.object(here("replicate --memory stream --to dir:a,b,c --name one"));
    must("qemu-img create -q -f qcow2 " + (folder / "base.qcow2") + " 512K");
    replicate.object(here("replicate base.qcow2 --to dir:a,b,c --name disk"));
    CHECK(replicate.missing() == "kernel ");
    restore.object(here("restore one --from dir:a,b,c --memory again"));
    restore.object(here("restore disk --from dir:a,b,c --layers layers"));
    CHECK(restore.missing() == "");
    Comparison scrub("scrub"), repair("repair"), gc("gc of a store"), snapshots("snapshots of a store");
    scrub.object(here("scrub dir:a,b,c"));
    snapshots.object(here("snapshots dir:a,b,c"));
    must("rm -r " + (folder / "b/pieces"));
    repair.object(here("repair dir:a,b,c"));
    gc.object(here("gc dir:a,b,c --dry-run --forget one"));
    CHECK(scrub.missing() + repair.missing() + gc.missing() + snapshots.missing() == "");
}

TEST_CASE("json: doctor prints what docs/json.md says") {
    Comparison doctor("doctor");
    doctor.object(printed("doctor --json"));
    CHECK(doctor.missing() == "");
}

TEST_CASE("json: recover and seal print what docs/json.md says") {
    Folder folder;
    must("qemu-img create -q -f qcow2 " + (folder / "base.qcow2") + " 512K");
    const std::string top = folder / "top.qcow2";
    qcow2::make_active(top, {512 << 10, 16, 12, "base.qcow2"});
    Comparison recover("recover");
    recover.object(printed("recover --dry-run --json " + top));
    recover.object(printed("recover --json " + top));
    CHECK(recover.missing() == "");

    Comparison seal("seal");
    for (const char* how : {"--dry-run ", "", ""})
        seal.object(Json::parse(must("cd " + folder.path() + " && " + dmchain() + " seal --json " + how + "top.qcow2")));
    CHECK(seal.missing() == "");
}

}  // namespace dmchain::test
