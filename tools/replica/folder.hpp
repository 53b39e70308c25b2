// SPDX-License-Identifier: GPL-2.0-or-later
// A folder as a place of a store: a failure domain.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "replica/place.hpp"

namespace dmchain::replica {

class Folder : public Place {
public:
    // Of a folder that is there.
    explicit Folder(const std::string& path);
    ~Folder() override;
    Folder(Folder&&) = delete;

    bool same_folder(const Folder& o) const { return device_ == o.device_ && inode_ == o.inode_; }

    bool is_store() const override;
    void begin_writing() override;
    void begin_reading() override;
    std::uint64_t size_of(const Piece& piece) const override;
    std::uint64_t put(const Piece& piece, const std::vector<unsigned char>& data,
                      const std::vector<unsigned char>& packed) override;
    void settle() override;
    void each_piece(const std::function<void(const Digest& digest, std::uint64_t bytes)>& use) const override;
    void remove_piece(const Digest& digest) const override;
    void settle_removals() const override;
    using Place::manifests;
    std::vector<std::string> manifests(Kind kind) const override;

private:
    std::optional<std::vector<unsigned char>> read_piece(const Digest& digest, bool packed, std::uint64_t most) const override;
    bool has_file(const std::string& name, Kind kind) const override;
    std::vector<unsigned char> read_file(const std::string& name, Kind kind) const override;
    void put_file(const std::string& name, const std::vector<unsigned char>& bytes, bool replace, Kind kind) const override;
    void remove_file(const std::string& name, Kind kind) const override;
    std::string file_name(const std::string& name, Kind kind) const override;
    std::string piece_path(const Digest& digest, bool packed) const;
    void sync() const;

    int fd_ = -1;  // of the folder
    std::uint64_t device_ = 0, inode_ = 0;
    std::string incoming_;            // "": nothing was put yet
    std::map<Digest, bool> waiting_;  // there; whether they are compressed
};

}  // namespace dmchain::replica
