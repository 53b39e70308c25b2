// SPDX-License-Identifier: GPL-2.0-or-later
// A place of a store: it keeps pieces by their digests, and manifests by the names of snapshots and layers. Folder and Pool are such
// places. Nothing is kept in one twice. Used by one thread at a time, but for read(), while nothing else is done with it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replica/digest.hpp"
#include "replica/manifest.hpp"

namespace dmchain::replica {

class Place {
public:
    enum class Kind { snapshot, layer };  // of a manifest

    virtual ~Place() = default;

    // As messages call it.
    const std::string& name() const { return name_; }
    // How many copies it keeps of what it is given, by itself.
    virtual unsigned copies() const { return 1; }

    virtual bool is_store() const = 0;
    // Throws failed() if it is no store.
    void require_store() const;
    // Locks it, and takes away what a run that was broken off left; what is empty becomes a store.
    virtual void begin_writing() = 0;
    // Locks it against those who write. Throws failed() if there is one.
    virtual void begin_reading() = 0;

    // Whether there is something of that name, and of that length unless it is compressed.
    bool has(const Piece& piece) const { return size_of(piece) != 0; }
    // Bytes of it as it is kept; 0: has() says no.
    virtual std::uint64_t size_of(const Piece& piece) const = 0;
    enum class Found { right, missing, damaged };
    // By any thread.
    Found read(const Piece& piece, std::vector<unsigned char>& to) const;

    // Keeps the piece, not for good until settle(): @packed, if that is not empty (compression.hpp), otherwise @data. Returns
    // the bytes written; 0: it was there already, whole.
    virtual std::uint64_t put(const Piece& piece, const std::vector<unsigned char>& data,
                              const std::vector<unsigned char>& packed) = 0;
    // What was put is there, durably.
    virtual void settle() = 0;

    // All that is called as pieces are, with the bytes that it takes.
    virtual void each_piece(const std::function<void(const Digest& digest, std::uint64_t bytes)>& use) const = 0;
    // It is gone, but not yet durably: see settle_removals().
    virtual void remove_piece(const Digest& digest) const = 0;
    virtual void settle_removals() const = 0;

    // Names of all manifests of the kind, ascending.
    virtual std::vector<std::string> manifests(Kind kind) const = 0;
    std::vector<std::string> manifests() const { return manifests(Kind::snapshot); }
    bool has_manifest(const std::string& name, Kind kind = Kind::snapshot) const { return has_file(name, kind); }
    // nullopt: there is none. Throws damaged().
    std::optional<Manifest> read_manifest(const std::string& name, Kind kind = Kind::snapshot) const;
    // Durable when this returns. After settle(), of all places. @replace: one that is there, such as a damaged one.
    void put_manifest(const std::string& name, const std::vector<unsigned char>& bytes, bool replace = false,
                      Kind kind = Kind::snapshot) const {
        put_file(name, bytes, replace, kind);
    }
    // Gone durably when this returns; also if there is none.
    void remove_manifest(const std::string& name, Kind kind = Kind::snapshot) const { remove_file(name, kind); }

protected:
    explicit Place(std::string name) : name_(std::move(name)) {}
    Place(Place&&) = default;

    static constexpr std::uint64_t most_manifest = std::uint64_t{1} << 30;
    // The file, or object, that says what the place is, and its content.
    static constexpr char mark[] = "dmchain-store";
    static constexpr std::string_view mark_text = "A store of dmchain, version 1.\n";
    // Of a piece: its digest, and ".zst" if it is compressed; and the way back, nullopt: it is none.
    static std::string piece_name(const Digest& digest, bool packed);
    struct PieceName {
        Digest digest;
        bool packed;
    };
    static std::optional<PieceName> parse_piece_name(const std::string& name);
    // "snapshots/", "layers/": before the names of manifests.
    static std::string prefix_of(Kind kind) { return kind == Kind::snapshot ? "snapshots/" : "layers/"; }
    // As it is kept; nullopt: there is none. Throws for what is there and cannot be read. At most @most bytes are read.
    virtual std::optional<std::vector<unsigned char>> read_piece(const Digest& digest, bool packed, std::uint64_t most) const = 0;

    // Manifests.
    virtual bool has_file(const std::string& name, Kind kind) const = 0;
    virtual std::vector<unsigned char> read_file(const std::string& name, Kind kind) const = 0;
    virtual void put_file(const std::string& name, const std::vector<unsigned char>& bytes, bool replace, Kind kind) const = 0;
    virtual void remove_file(const std::string& name, Kind kind) const = 0;
    // As messages call it.
    virtual std::string file_name(const std::string& name, Kind kind) const = 0;

private:
    std::string name_;
};

// Of a snapshot: letters, digits, ".", "-", "_", ":", at most 100, and no "." first.
bool is_name(const std::string& name);

}  // namespace dmchain::replica
