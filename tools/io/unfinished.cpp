// SPDX-License-Identifier: GPL-2.0-or-later
// See unfinished.hpp.
#include "io/unfinished.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain {

namespace {

constexpr std::size_t most = 8;
std::array<std::atomic<const char*>, most> paths;  // nullptr: the place is free
static_assert(std::atomic<const char*>::is_always_lock_free);

// Calls nothing but what signal-safety(7) allows.
void remove_all_and_end(int signal) {
    for (const auto& p : paths)
        if (const char* path = p) ::unlink(path);
    ::raise(signal);  // SA_RESETHAND: as if there were no handler
}

void watch_signals() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction now {};
        ::sigaction(signal, nullptr, &now);
        if (now.sa_handler != SIG_DFL) continue;
        struct sigaction handler {};
        handler.sa_handler = remove_all_and_end;
        handler.sa_flags = static_cast<int>(SA_RESETHAND);
        ::sigaction(signal, &handler, nullptr);
    }
}

}  // namespace

Unfinished::Unfinished(const std::string& path) : path_(absolute_name(path)) {
    watch_signals();
    for (place_ = 0; place_ < most; place_++) {
        const char* none = nullptr;
        if (paths[place_].compare_exchange_strong(none, path_.c_str())) return;
    }
    throw failed("{}: more than {} files in the making", escaped(path), most);
}

Unfinished::~Unfinished() { paths[place_] = nullptr; }

}  // namespace dmchain
