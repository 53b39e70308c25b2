// SPDX-License-Identifier: GPL-2.0-or-later
#include "io/lasting.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "support/folder.hpp"

using namespace dmchain;
using test::Folder;

TEST_CASE("absolute names keep symlinks, and lose . and .. where that leads to the same file") {
    Folder folder;
    std::filesystem::create_directories(folder / "a/b");
    std::filesystem::create_directory_symlink(folder / "a/b", folder / "link");
    std::ofstream(folder / "a/file").close();
    CHECK(absolute_name(folder / "a/./b/../file") == folder / "a/file");
    CHECK(absolute_name(folder / "a//b/") == folder / "a/b/");
    CHECK(absolute_name(folder / "link/x") == folder / "link/x");
    // The folder above the link's target, not the one that has the link.
    CHECK(absolute_name(folder / "link/../file") == folder / "link/../file");
    CHECK(std::filesystem::exists(absolute_name(folder / "link/../file")));
    // What is not there yet.
    CHECK(absolute_name(folder / "a/../new") == folder / "new");
    CHECK(absolute_name(folder / "link/../new") == folder / "link/../new");
    CHECK(lasting_name(folder / "link/x") == folder / "link/x");
}
