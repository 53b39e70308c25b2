// SPDX-License-Identifier: GPL-2.0-or-later
// Which files images may name: what is an image's own, what the user allows, and what a refusal tells to do.
#include "qcow2/policy.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "io/mapped_device.hpp"
#include "qcow2/chain.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using qcow2::Chain;
using qcow2::ChainOptions;
using qcow2::Policy;

std::string error_of(const std::string& top, const ChainOptions& options = {}) {
    try {
        Chain chain(top, options);
    } catch (const Error& e) {
        return fmt::format("{} {}", static_cast<int>(e.code()), e.what());
    }
    return "none";
}

std::string over(const std::string& backing, const std::string& format = "qcow2") {
    return Maker({.backing = backing, .backing_format = format}).bytes;
}

// The end of a refusal.
std::string outside(const std::string& allow, const std::string& configuration = "/etc/dmchain.conf") {
    return fmt::format(
        "is outside the folder of the image on top; if you trust it, use \"--allow {0}\", or the line \"allow = "
        "{0}\" in {1}",
        allow, configuration);
}

// Sets DMCHAIN_CONF for its lifetime.
struct Configuration {
    explicit Configuration(const std::string& path) { ::setenv("DMCHAIN_CONF", path.c_str(), 1); }
    ~Configuration() { ::unsetenv("DMCHAIN_CONF"); }
};

// Device-mapper devices that only a made-up sysfs and nodes in a folder know of. They cannot be opened.
class Mapped {
public:
    Mapped() { sysfs = folder_ / "sys"; }
    ~Mapped() { sysfs = "/sys"; }
    // Returns the node, which has a folder of its own.
    std::string add(const std::string& name, const std::string& uuid) {
        const unsigned number = next_++;
        const std::string at = fmt::format("sys/dev/block/253:{}/dm", number);
        std::filesystem::create_directories(folder_ / at);
        folder_.write(at + "/name", name + "\n");
        folder_.write(at + "/uuid", uuid + "\n");
        const std::string node = folder_ / fmt::format("{}/dm", number);
        std::filesystem::create_directory(folder_ / fmt::format("{}", number));
        REQUIRE(::mknod(node.c_str(), S_IFBLK | 0600, makedev(253, number)) == 0);
        return node;
    }

private:
    Folder folder_;
    unsigned next_ = 500;
};

std::string of_volume(char group, char volume) { return "LVM-" + std::string(32, group) + std::string(32, volume); }

// A folder of /dev, as LVM has it for a group.
class DeviceFolder {
public:
    DeviceFolder() {
        char name[] = "/dev/dmchain-test-XXXXXX";
        REQUIRE(::mkdtemp(name));
        path = name;
        REQUIRE(::chmod(name, 0755) == 0);
    }
    ~DeviceFolder() { std::filesystem::remove_all(path); }
    std::string path;
    std::string link(const std::string& name, const std::string& to) const {
        REQUIRE(::symlink(to.c_str(), (path + "/" + name).c_str()) == 0);
        return path + "/" + name;
    }
};

}  // namespace

TEST_CASE("policy: files outside the top image's folder need leave, symlinks resolved") {
    Folder here;
    Folder there;
    there.write("base.qcow2", Maker().bytes);
    const std::string direct = here.write("top.qcow2", over(there / "base.qcow2"));
    const std::string refused =
        fmt::format("1 {0}/top.qcow2: its backing file '{1}/base.qcow2' {2}", here.path(), there.path(), outside(there.path()));
    CHECK(error_of(direct) == refused);
    CHECK(error_of(direct, {.allow = {there.path()}}) == "none");
    CHECK(error_of(direct, {.allow = {there / "base.qcow2"}}) == "none");
    CHECK(error_of(direct, {.allow = {here.path()}}) == refused);
    CHECK(error_of(direct, {.allow = {"/nowhere"}}) == "1 /nowhere: cannot open: No such file or directory");

    SUBCASE("a link in the folder that leads out of it") {
        REQUIRE(::symlink((there / "base.qcow2").c_str(), (here / "inside.qcow2").c_str()) == 0);
        here.write("top.qcow2", over("inside.qcow2"));
        CHECK(error_of(direct) == refused);
        CHECK(error_of(direct, {.allow = {there.path()}}) == "none");
    }
    SUBCASE("dots that lead out of it") {
        here.write("top.qcow2", over("../" + there.path().substr(there.path().rfind('/') + 1) + "/base.qcow2"));
        CHECK(error_of(direct) == refused);
    }
    SUBCASE("a folder whose name only begins like an allowed one") {
        const std::string longer = there.path() + "x";
        std::filesystem::create_directory(longer);
        std::filesystem::rename(there / "base.qcow2", longer + "/base.qcow2");
        here.write("top.qcow2", over(longer + "/base.qcow2"));
        CHECK(error_of(direct, {.allow = {there.path()}}).starts_with("1 "));
        CHECK(error_of(direct, {.allow = {longer}}) == "none");
        std::filesystem::remove_all(longer);
    }
    SUBCASE("a layer elsewhere that names its neighbour: the rule goes by the top's folder") {
        there.write("deep.qcow2", over("base.qcow2"));
        here.write("top.qcow2", over(there / "deep.qcow2"));
        CHECK(error_of(direct, {.allow = {there / "deep.qcow2"}}) ==
              fmt::format("1 {0}/deep.qcow2: its backing file '{0}/base.qcow2' {1}", there.path(), outside(there.path())));
        CHECK(error_of(direct, {.allow = {there.path()}}) == "none");
    }
    SUBCASE("a data file") {
        there.write("data.raw", std::string(65536, 'd'));
        here.write("top.qcow2", Maker({.data_file = there / "data.raw"}).bytes);
        CHECK(error_of(direct) ==
              fmt::format("1 {0}/top.qcow2: its data file '{1}/data.raw' {2}", here.path(), there.path(), outside(there.path())));
        CHECK(error_of(direct, {.allow = {there.path()}}) == "none");
    }
    SUBCASE("the configuration file") {
        Configuration set(here.write("conf", "# who may be named\n\n  allow=/nowhere\nallow = " + there.path() + "  # images\n"));
        CHECK(error_of(direct) == "none");
        here.write("conf", "allow = /nowhere\n");
        CHECK(error_of(direct) == fmt::format("1 {0}/top.qcow2: its backing file '{1}/base.qcow2' {2}", here.path(), there.path(),
                                              outside(there.path(), here / "conf")));
        here.write("conf", "allow = /\n");
        CHECK(error_of(direct) == "none");
        for (const char* wrong : {"allow = there", "deny = /x", "allow", "/srv", "allow = None"}) {
            here.write("conf", std::string("\n") + wrong + "\n");
            CHECK(error_of(direct) ==
                  fmt::format("1 {}/conf: line 2 is '{}', expected \"allow = /path\" or \"allow = none\"", here.path(), wrong));
        }
        Configuration gone(here / "none");
        CHECK(error_of(direct) ==
              fmt::format("1 {}/none: cannot read the configuration: No such file or directory", here.path()));
    }
}

TEST_CASE("policy: the folder of the name as given and that of the file it leads to are both the image's own") {
    Folder here, there;
    there.write("base.qcow2", Maker().bytes);
    there.write("top.qcow2", over("base.qcow2"));
    REQUIRE(::symlink((there / "top.qcow2").c_str(), (here / "link.qcow2").c_str()) == 0);
    // Relative names start at the link, as in QEMU.
    CHECK(error_of(here / "link.qcow2") ==
          fmt::format("1 {1}/top.qcow2: its backing file cannot be used: {0}/base.qcow2: cannot open: No such file or directory",
                      here.path(), there.path()));
    REQUIRE(::symlink((there / "base.qcow2").c_str(), (here / "base.qcow2").c_str()) == 0);
    CHECK(error_of(here / "link.qcow2") == "none");
    // The link's own folder.
    std::filesystem::remove(here / "base.qcow2");
    here.write("base.qcow2", Maker().bytes);
    CHECK(error_of(here / "link.qcow2") == "none");
    there.write("top.qcow2", over(here / "base.qcow2"));
    CHECK(error_of(here / "link.qcow2") == "none");
    CHECK(error_of(there / "top.qcow2").starts_with("1 "));
    // A link to the folder, and a way back out of what it leads to: not the folder that the text of the name says.
    Folder third;
    third.write("base.qcow2", Maker().bytes);
    std::filesystem::create_directory(there / "deep");
    REQUIRE(::symlink((there / "deep").c_str(), (third / "door").c_str()) == 0);
    there.write("top.qcow2", over(third / "base.qcow2"));
    CHECK(error_of(third / "door/../top.qcow2") == fmt::format("1 {0}/top.qcow2: its backing file '{1}/base.qcow2' {2}",
                                                               there.path(), third.path(), outside(third.path())));
}

TEST_CASE("policy: a folder of instances beside one of bases needs the one line that the refusal tells") {
    Folder folder;
    std::filesystem::create_directories(folder / "instances/7");
    std::filesystem::create_directories(folder / "instances/_base");
    folder.write("instances/_base/abc", std::string(65536, 'r'));
    folder.write("instances/7/disk", over(folder / "instances/_base/abc", "raw"));
    Configuration set(folder.write("conf", ""));
    const std::string error = error_of(folder / "instances/7/disk");
    const std::string line = "allow = " + folder.path() + "/instances/_base";
    CHECK(error.ends_with("use \"--allow " + (folder / "instances/_base") + "\", or the line \"" + line + "\" in " +
                          (folder / "conf")));
    folder.write("conf", line + "\n");
    CHECK(error_of(folder / "instances/7/disk") == "none");
    // A line cannot say every name: then none is told.
    std::filesystem::create_directories(folder / "a # b");
    folder.write("a # b/base", std::string(65536, 'r'));
    folder.write("instances/7/disk", over(folder / "a # b/base", "raw"));
    CHECK(error_of(folder / "instances/7/disk").ends_with("use \"--allow " + (folder / "a # b") + "\""));
}

TEST_CASE("policy: neither / nor /dev is an own folder, nor a folder of /dev that of a device") {
    const std::string in_root = fmt::format("/dmchain-test-{}", ::getpid());
    const std::string in_dev = "/dev" + in_root;
    for (const std::string& name : {in_root, in_dev}) {
        std::ofstream(name) << "x";
        Policy policy({});
        policy.own(name);
        CHECK_FALSE(policy.allows(Place("/etc/passwd")));
        CHECK_FALSE(policy.allows(Place("/dev/null")));
        CHECK(policy.refusal(Place(name)) == outside(name));
        std::filesystem::remove(name);
    }
    Mapped mapped;
    DeviceFolder nodes;
    Policy policy({});
    policy.own(nodes.link("a", mapped.add("vg-a", "")));
    std::ofstream(nodes.path + "/file") << "x";
    CHECK_FALSE(policy.allows(Place(nodes.path + "/file")));
}

TEST_CASE("policy: volumes of one volume group are neighbours") {
    Mapped mapped;
    const std::string a = mapped.add("vg-a", of_volume('v', 'a'));
    const Place b(mapped.add("vg-b", of_volume('v', 'b')));
    const Place other(mapped.add("wg-b", of_volume('w', 'b')));
    const Place inner(mapped.add("vg-pool_tdata", of_volume('v', 'p') + "-tdata"));
    const Place crypt(mapped.add("crypt", "CRYPT-" + of_volume('v', 'c').substr(6)));
    const Place plain(mapped.add("plain", ""));
    DeviceFolder links;
    Folder elsewhere;
    REQUIRE(::symlink(a.c_str(), (elsewhere / "disk").c_str()) == 0);
    for (const std::string& name : {a, links.link("a", a), elsewhere / "disk"}) {
        CAPTURE(name);
        Policy policy({});
        CHECK_FALSE(policy.allows(b));
        policy.own(name);
        CHECK(policy.allows(b));
        for (const Place* p : {&other, &inner, &crypt, &plain}) CHECK_FALSE(policy.allows(*p));
        CHECK_FALSE(policy.allows(Place("/etc/passwd")));
        CHECK_FALSE(policy.allows(Place("/dev/null")));
    }
    // The name that a refusal tells lasts: not that of the node.
    CHECK(Policy({}).refusal(other) == outside("/dev/mapper/wg-b"));
    // A file has no group, whatever volume it lies on.
    Policy policy({});
    policy.own(elsewhere.write("file", "x"));
    CHECK_FALSE(policy.allows(b));
}

TEST_CASE("policy: a folder of /dev that is allowed counts for what its links lead to") {
    Mapped mapped;
    const Place a(mapped.add("vg-a", ""));
    const Place b(mapped.add("vg-b", ""));
    const Place other(mapped.add("wg-b", ""));
    DeviceFolder group;
    group.link("a", a.path());
    group.link("passwd", "/etc/passwd");
    std::filesystem::create_directory(group.path + "/deeper");
    group.link("deeper/b", b.path());
    {
        Policy policy({group.path});
        CHECK(policy.allows(a));
        CHECK(policy.allows(b));
        CHECK_FALSE(policy.allows(other));
        CHECK_FALSE(policy.allows(Place("/etc/passwd")));
    }
    Folder conf;
    Configuration set(conf.write("conf", "allow = " + group.path + "\n"));
    CHECK(Policy({}).allows(a));
    // A single device is that one, by whatever node.
    CHECK(Policy({group.path + "/deeper/b"}).allows(b));
    // Where anybody may make links they count for nothing; nor do they outside /dev.
    REQUIRE(::chmod(group.path.c_str(), 01777) == 0);
    CHECK_FALSE(Policy({}).allows(a));
    Folder elsewhere;
    REQUIRE(::symlink(a.path().c_str(), (elsewhere / "a").c_str()) == 0);
    CHECK_FALSE(Policy({elsewhere.path()}).allows(a));
}

TEST_CASE("policy: none, as an option and in the configuration") {
    Folder here, there;
    here.write("base.qcow2", Maker().bytes);
    there.write("base.qcow2", Maker().bytes);
    here.write("data.raw", std::string(65536, 'd'));
    const std::string near = here.write("near.qcow2", over("base.qcow2"));
    const std::string far = here.write("far.qcow2", over(there / "base.qcow2"));
    const std::string data = here.write("data.qcow2", Maker({.data_file = "data.raw"}).bytes);
    CHECK(error_of(near) == "none");
    CHECK(error_of(data) == "none");
    const auto none = [&](const std::string& image, const char* what, const std::string& file) {
        return fmt::format("1 {}: its {} '{}' may not be named (\"allow none\"); if you trust it, use \"--allow {}\"", image,
                           what, file, file);
    };
    ChainOptions forbidden{.allow = {"none"}};
    CHECK(error_of(near, forbidden) == none(near, "backing file", here / "base.qcow2"));
    CHECK(error_of(data, forbidden) == none(data, "data file", here / "data.raw"));
    CHECK(error_of(here / "base.qcow2", forbidden) == "none");
    // What the same command names counts, the configuration does not.
    Configuration set(here.write("conf", "allow = " + there.path() + "\n"));
    CHECK(error_of(far) == "none");
    CHECK(error_of(far, forbidden) == none(far, "backing file", there / "base.qcow2"));
    CHECK(error_of(near, {.allow = {here / "base.qcow2", "none"}}) == "none");
    // As a line: for the own folder; other lines count.
    here.write("conf", "allow = none\nallow = " + there.path() + "\n");
    CHECK(error_of(far) == "none");
    CHECK(error_of(near) == none(near, "backing file", here / "base.qcow2") + ", or the line \"allow = " + (here / "base.qcow2") +
                                "\" in " + (here / "conf"));
    CHECK(error_of(near, {.allow = {here / "base.qcow2"}}) == "none");
    // A layer that dm-chain makes on top may name the image that it is made for.
    CHECK(error_of(near, {.beneath = {here / "base.qcow2"}}) == "none");
    CHECK(error_of(near, {.beneath = {there / "base.qcow2"}}).starts_with("1 "));
}

}  // namespace dmchain::test
