// SPDX-License-Identifier: GPL-2.0-or-later
// See policy.hpp.
#include "replica/policy.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::replica {

namespace {

std::string trimmed(const std::string& s) {
    const std::size_t first = s.find_first_not_of(" \t\r");
    return first == std::string::npos ? std::string() : s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

// What must be stored has a copy.
unsigned least(const std::string& word) {
    return word == "disk" || word == name_of(guest::Class::free) || word == name_of(guest::Class::offline) ? 0 : 1;
}

bool is_word(const std::string& word) {
    for (std::size_t c = 0; c < guest::classes; c++)
        if (word == name_of(static_cast<guest::Class>(c))) return true;
    return word == "critical" || word == "other" || word == "disk" || word == "compress";
}

}  // namespace

Policy::Policy() {
    for (std::size_t c = 0; c < guest::classes; c++) {
        const auto kind = static_cast<guest::Class>(c);
        copies[c] = is_critical(kind) ? 3 : is_unused(kind) ? 0 : 1;
    }
}

Policy::Policy(const std::string& path) : Policy() {
    std::ifstream in(path);
    if (!in) throw failed("{}: cannot read the policy: {}", escaped(path), std::strerror(errno));
    std::map<std::string, unsigned> said;
    std::string line;
    for (int number = 1; std::getline(in, line); number++) {
        line = trimmed(line.substr(0, line.find('#')));
        if (line.empty()) continue;
        const std::size_t equals = line.find('=');
        const std::string word = trimmed(line.substr(0, equals));
        const std::string value = equals == std::string::npos ? "" : trimmed(line.substr(equals + 1));
        if (!is_word(word))
            throw failed("{}: line {}: {} is neither critical, other, disk, compress, nor a class of 'dmchain guest-map'",
                         escaped(path), number, in_quotes(word));
        if (word == "compress" && value != "zstd" && value != "no")
            throw failed("{}: line {}: compress is {}, expected zstd or no", escaped(path), number, in_quotes(value));
        if (word == "compress") {
            compress = value == "zstd";
            if (!said.emplace(word, 0).second) throw failed("{}: line {}: {} is there twice", escaped(path), number, word);
            continue;
        }
        unsigned n = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
        if (value.empty() || error != std::errc() || end != value.data() + value.size() || n < least(word) || n > most)
            throw failed("{}: line {}: {} is {}, expected a number of copies from {} to {}", escaped(path), number, word,
                         in_quotes(value), least(word), most);
        if (!said.emplace(word, n).second) throw failed("{}: line {}: {} is there twice", escaped(path), number, word);
    }
    if (in.bad()) throw failed("{}: cannot read the policy", escaped(path));
    const auto get = [&](const char* word, unsigned& n) {
        if (const auto it = said.find(word); it != said.end()) n = it->second;
    };
    for (std::size_t c = 0; c < guest::classes; c++) {
        const auto kind = static_cast<guest::Class>(c);
        if (!is_unused(kind)) get(is_critical(kind) ? "critical" : "other", copies[c]);
        get(name_of(kind), copies[c]);
    }
    get("disk", disk);
}

unsigned Policy::highest() const { return std::max(disk, *std::max_element(copies.begin(), copies.end())); }

}  // namespace dmchain::replica
