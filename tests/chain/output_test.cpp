// SPDX-License-Identifier: GPL-2.0-or-later
// Files in the making: what they leave behind, and what of a process that was killed the next one takes away.
#include "chain/output.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "io/error.hpp"
#include "support/folder.hpp"

namespace dmchain::test {
namespace {

using chain::Output;

std::set<std::string> names(const Folder& folder) {
    std::set<std::string> out;
    for (const auto& e : std::filesystem::directory_iterator(folder.path())) out.insert(e.path().filename().string());
    return out;
}

// A process that begins to write @path and waits.
class Beginner {
public:
    Beginner(const std::string& path, bool nameless) {
        int ready[2];
        REQUIRE(::pipe(ready) == 0);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            Output out(path, nameless);
            out.write("half", 4, 0);
            (void)!::write(ready[1], "r", 1);
            for (;;) ::pause();
        }
        char c = 0;
        REQUIRE(::read(ready[0], &c, 1) == 1);
        ::close(ready[0]);
        ::close(ready[1]);
    }
    ~Beginner() { kill(); }
    void kill() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        pid_ = 0;
    }

private:
    pid_t pid_;
};

}  // namespace

TEST_CASE("output: a new file and one in the place of another, or nothing") {
    for (const bool nameless : {true, false}) {
        CAPTURE(nameless);
        Folder folder;
        for (const char* text : {"first", "other"}) {
            { Output(folder / "x", nameless).write("lost", 4, 0); }
            CHECK(names(folder).size() == (text[0] == 'f' ? 0 : 1));
            Output out(folder / "x", nameless);
            out.write(text, 5, 0);
            out.commit(true);
            CHECK(names(folder) == std::set<std::string>{"x"});
            CHECK(folder.read("x") == text);
        }
        CHECK(::access((folder / "x").c_str(), W_OK) == 0);
    }
}

TEST_CASE("output: what another command made in the meantime is not replaced") {
    for (const bool nameless : {true, false}) {
        CAPTURE(nameless);
        Folder folder;
        Output out(folder / "x", nameless);
        out.write("mine", 4, 0);
        folder.write("x", "theirs");
        CHECK_THROWS_AS(out.commit(false), Error);
        CHECK(folder.read("x") == "theirs");
    }
}

TEST_CASE("output: a process that is killed leaves no temporary file") {
    Folder folder;
    Beginner beginner(folder / "x", true);
    CHECK(names(folder).empty());
    beginner.kill();
    CHECK(names(folder).empty());
}

TEST_CASE("output: what was left under a temporary name is taken away by the next one, but not another's work") {
    Folder folder;
    for (const char* other : {"x.tmp", "x.1a.tmp", "xx.1.tmp", "x.1.tmp.bak"}) folder.write(other, "");
    std::filesystem::create_directory(folder / "x.77.tmp");
    const std::set<std::string> others = names(folder);
    Beginner dead(folder / "x", false), live(folder / "x", false);
    CHECK(names(folder).size() == others.size() + 2);
    dead.kill();
    CHECK(names(folder).size() == others.size() + 2);
    {
        Output out(folder / "x");
        CHECK(names(folder).size() == others.size() + 1);
        out.commit(true);
    }
    CHECK(names(folder).size() == others.size() + 2);
    live.kill();
    { Output out(folder / "x"); }
    std::set<std::string> now = names(folder);
    CHECK(now.erase("x") == 1);
    CHECK(now == others);
}

}  // namespace dmchain::test
