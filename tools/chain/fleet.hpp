// SPDX-License-Identifier: GPL-2.0-or-later
// The images and chain files below some folders, and how they stand on each other. Every file is opened once for this, and
// only headers are read. For survey and gc; fleet_usage.hpp reads the tables.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chain/chain_file.hpp"
#include "io/file.hpp"
#include "qcow2/header.hpp"
#include "qcow2/names.hpp"

namespace dmchain::chain {

struct FleetOptions {
    std::vector<std::string> folders{};  // what is below them may be named by images, too
    std::vector<std::string> allow{};    // as in qcow2::ChainOptions
    bool assume_raw = false;
    unsigned threads = 0;  // 0: one for each processor
};

struct FleetFile {
    enum class Is { other, image, chain_file };

    std::string path;  // absolute, symlinks resolved; of a file with several names the first
    Identity identity{};
    std::uint64_t disk_bytes = 0;                   // that it takes in its file system
    Is is = Is::other;                              // by what it begins with; an image: qcow2
    bool below = true;                              // it was found below the folders; false: an image names it
    bool backing = false;                           // an image stands on it
    bool data = false;                              // it is the external data file of an image
    std::optional<std::size_t> lister{};            // a chain file that lists it as a layer: its number in Fleet::files
    bool written = false;                           // another program has it open for writing
    std::string damage{};                           // why it cannot be read: a line; "": it can
    std::shared_ptr<const qcow2::Header> header{};  // of an image without damage

    bool named() const { return backing || data || lister; }
    bool in_use() const { return header && header->in_use(); }
};

// A file as a layer: two names by which images stand on it can lead to different layers below, as relative names start from
// the folder of the name.
struct FleetLayer {
    std::size_t file;
    qcow2::Format format;
    std::string folder;                    // of the name by which it is opened
    std::vector<qcow2::Window> windows{};  // of a raw one
    std::string data_file{};               // path of its external data file, if what names the layer says that
    std::optional<std::size_t> data{};     // its external data file
    bool alone = false;                    // its own backing file does not count
    std::optional<std::size_t> below{};    // the layer it stands on
    std::string broken{};                  // why what is below it cannot be had: a line
};

// A chain file, or what looks like one.
struct FleetChainFile {
    std::size_t file;
    std::size_t layers = 0;
    std::size_t missing = 0;      // of these, those that are not there
    std::string first_missing{};  // path
    bool beside = true;           // those were in the folder of the chain file
};

// What an operation may have left, by its name.
struct FleetLeftover {
    enum class Kind { merging, merging_chain, named, note, moving, move_note, temporary };

    std::string path;
    Identity identity{};
    Kind kind;
    std::string of;          // the path without what the operation put behind it
    std::string named_by{};  // an image or a chain file that names it by this path; "": none does
};

// A top image with all that it stands on.
struct FleetChain {
    std::size_t top;         // layer
    std::size_t layers = 0;  // as far as they can be found
    std::string broken{};    // why it cannot be read: a line; "": it can
};

struct Fleet {
    std::vector<std::string> folders;  // absolute, symlinks resolved
    std::vector<FleetFile> files;
    std::vector<FleetLayer> layers;
    std::vector<FleetChainFile> chain_files;
    std::vector<FleetLeftover> leftovers;  // by path
    std::vector<FleetChain> chains;
    std::vector<std::string> damage;  // what could not be read: one line each

    // The file with this identity; nullptr: it is none of the fleet's.
    const FleetFile* find(const Identity& who) const;
    // The one with this path; nullptr: there is none.
    FleetLeftover* leftover(const std::string& path);
    const FleetLeftover* leftover(const std::string& path) const { return const_cast<Fleet*>(this)->leftover(path); }
};

// Throws failed() for a folder that is not there. What else cannot be read is in the fleet's damage.
Fleet scan_fleet(const FleetOptions& options);

// What the name of a file says about an operation that may have left it.
std::optional<FleetLeftover> leftover_by_name(const std::string& path);

}  // namespace dmchain::chain
