// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: a program that runs beside the test until its object goes away.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace dmchain::test {

class Process {
public:
    explicit Process(const std::vector<std::string>& command) : pid_(::fork()) {
        if (pid_ < 0) throw std::runtime_error("cannot start " + command[0]);
        if (pid_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // also if the test is killed
        std::vector<char*> words;
        for (const std::string& w : command) words.push_back(const_cast<char*>(w.c_str()));
        words.push_back(nullptr);
        const int null = ::open("/dev/null", O_RDWR);
        ::dup2(null, 0);
        ::dup2(null, 1);
        ::execvp(words[0], words.data());
        ::_exit(127);
    }
    ~Process() { stop(); }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    pid_t pid() const { return pid_; }
    void stop() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

    // Waits until it holds the lock of an open file that ends with @byte of the file.
    void wait_for_lock(unsigned byte) const {
        namespace fs = std::filesystem;
        for (int turn = 0; turn < 300; turn++) {
            std::error_code none;
            for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid_) + "/fdinfo", none)) {
                std::ifstream in(entry.path());
                for (std::string line; std::getline(in, line);)
                    if (line.find("OFDLCK") != std::string::npos && line.ends_with(" " + std::to_string(byte))) return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        throw std::runtime_error("process " + std::to_string(pid_) + " took no lock of byte " + std::to_string(byte));
    }

private:
    pid_t pid_;
};

}  // namespace dmchain::test
