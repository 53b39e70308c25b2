// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: a folder that goes away with its object, and running a program.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace dmchain::test {

inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::string bytes(in ? std::filesystem::file_size(path) : 0, '\0');
    if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) throw std::runtime_error("cannot read " + path);
    return bytes;
}

class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "dmchain-test-XXXXXX").string();
        if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make a folder " + name);
        path_ = std::filesystem::canonical(name).string();
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    const std::string& path() const { return path_; }  // absolute, without symlinks
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

    std::string write(const std::string& name, std::string_view data) const {
        std::ofstream out(path_ + "/" + name, std::ios::binary);
        out.write(data.data(), static_cast<std::streamsize>(data.size()));
        if (!out.flush()) throw std::runtime_error("cannot write " + path_ + "/" + name);
        return path_ + "/" + name;
    }
    std::string read(const std::string& name) const { return read_file(path_ + "/" + name); }

private:
    std::string path_;
};

struct Ran {
    int status;       // exit code, or 128 + signal
    std::string out;  // standard output and standard error
};

// Runs a shell command.
inline Ran run(const std::string& command) {
    FILE* pipe = ::popen(("{ " + command + "; } 2>&1").c_str(), "r");
    if (!pipe) throw std::runtime_error("cannot run " + command);
    Ran r{0, {}};
    std::array<char, 65536> b{};
    while (std::size_t n = std::fread(b.data(), 1, b.size(), pipe)) r.out.append(b.data(), n);
    int status = ::pclose(pipe);
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return r;
}

// Runs a shell command that must succeed; throws what it printed if it does not.
inline std::string must(const std::string& command) {
    Ran r = run(command);
    if (r.status != 0) throw std::runtime_error(command + ": exit code " + std::to_string(r.status) + ": " + r.out);
    return r.out;
}

// The dmchain program under test; ctest names it.
inline std::string dmchain() {
    const char* path = std::getenv("DMCHAIN");
    if (!path) throw std::runtime_error("the environment variable DMCHAIN must name the dmchain program (ctest sets it)");
    return path;
}

}  // namespace dmchain::test
