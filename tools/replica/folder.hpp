// SPDX-License-Identifier: GPL-2.0-or-later
// A folder that keeps copies: pieces by their digests, and manifests by the names of snapshots. Each folder is a failure domain:
// nothing is kept in one twice.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/file.hpp"
#include "replica/digest.hpp"
#include "replica/manifest.hpp"

namespace dmchain::replica {

class Folder {
public:
    // Of a folder that is there.
    explicit Folder(const std::string& path);
    ~Folder();
    Folder(Folder&& o) noexcept;
    Folder& operator=(Folder&&) = delete;

    const std::string& path() const { return path_; }
    bool same_folder(const Folder& o) const { return device_ == o.device_ && inode_ == o.inode_; }

    bool is_store() const;
    // Throws failed() if it is no store.
    void require_store() const;
    // Locks it, and takes away what a run that was broken off left; an empty folder becomes a store.
    void begin_writing();
    // Locks it against those who write. Throws failed() if there is one.
    void begin_reading();

    // Whether there is something of that name and length.
    bool has(const Piece& piece) const;
    enum class Found { right, missing, damaged };
    Found read(const Piece& piece, std::vector<unsigned char>& to) const;

    // Keeps the piece, under another name until settle(). Returns whether it was not there yet, whole.
    bool put(const Piece& piece, const void* data);
    // Makes all that was put durable, then gives it its names, durably.
    void settle();

    // All files that are called as pieces are.
    void each_piece(const std::function<void(const Digest& digest, std::uint64_t bytes)>& use) const;
    // It is gone, but not yet durably: see settle_removals().
    void remove_piece(const Digest& digest) const;
    void settle_removals() const;

    // Of all manifests, ascending.
    std::vector<std::string> manifests() const;
    bool has_manifest(const std::string& name) const;
    // nullopt: there is none. Throws damaged().
    std::optional<Manifest> read_manifest(const std::string& name) const;
    // Durable when this returns. After settle(), of all folders. @replace: one that is there, such as a damaged one.
    void put_manifest(const std::string& name, const std::vector<unsigned char>& bytes, bool replace = false) const;
    // Gone durably when this returns; also if there is none.
    void remove_manifest(const std::string& name) const;

private:
    std::string piece_path(const Digest& digest) const;
    std::string manifest_path(const std::string& name) const;
    void sync() const;

    std::string path_;
    int fd_ = -1;  // of the folder
    std::uint64_t device_ = 0, inode_ = 0;
    std::string incoming_;      // "": nothing was put yet
    std::set<Digest> waiting_;  // there
};

// "dir:A,B,C": each path one folder. Throws failed() for what is not written so, and for two paths of one folder.
std::vector<Folder> open_folders(const std::string& store);

// Of a snapshot: letters, digits, ".", "-", "_", ":", at most 100, and no "." first.
bool is_name(const std::string& name);

}  // namespace dmchain::replica
