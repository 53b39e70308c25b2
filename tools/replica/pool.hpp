// SPDX-License-Identifier: GPL-2.0-or-later
// Pools of a Ceph cluster as places of a store. A pool keeps as many copies as its size says, each on a disk of its own, so a piece is put into
// one of them: that whose size is the number of copies, or the next larger one. Objects are in the namespace "dmchain" of the pool.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "replica/store.hpp"

namespace dmchain::replica {

class Pool : public Place {
public:
    ~Pool() override;

    unsigned copies() const override { return copies_; }
    bool is_store() const override;
    void begin_writing() override;
    void begin_reading() override;
    std::uint64_t size_of(const Piece& piece) const override;
    std::uint64_t put(const Piece& piece, const std::vector<unsigned char>& data,
                      const std::vector<unsigned char>& packed) override;
    void settle() override;
    void each_piece(const std::function<void(const Digest& digest, std::uint64_t bytes)>& use) const override;
    void remove_piece(const Digest& digest) const override;
    void settle_removals() const override {}
    using Place::manifests;
    std::vector<std::string> manifests(Kind kind) const override;

    class Cluster;
    class Objects;
    // Throws failed() if there is no such pool.
    Pool(std::shared_ptr<const Cluster> cluster, const std::string& name);

private:
    std::optional<std::vector<unsigned char>> read_piece(const Digest& digest, bool packed, std::uint64_t most) const override;
    bool has_file(const std::string& name, Kind kind) const override;
    std::vector<unsigned char> read_file(const std::string& name, Kind kind) const override;
    void put_file(const std::string& name, const std::vector<unsigned char>& bytes, bool replace, Kind kind) const override;
    void remove_file(const std::string& name, Kind kind) const override;
    std::string file_name(const std::string& name, Kind kind) const override;

    unsigned copies_;
    std::unique_ptr<Objects> objects_;
};

// Of the cluster that Ceph's own configuration names (/etc/ceph/ceph.conf, $CEPH_CONF, $CEPH_ARGS). What does not answer in time counts as
// lost: 30 seconds, unless rados_osd_op_timeout says otherwise.
Store::Places open_pools(const std::vector<std::string>& names);

}  // namespace dmchain::replica
