// SPDX-License-Identifier: GPL-2.0-or-later
// See folder.hpp. In a folder are:
//   dmchain-store            says what it is
//   pieces/ab/abcd...        a piece, by its digest; with ".zst" behind it: compressed
//   snapshots/NAME           the manifest of a snapshot
//   layers/ID-ID             the manifest of a layer
//   incoming/                pieces that are not durable yet
#include "replica/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "chain/output.hpp"
#include "io/error.hpp"
#include "io/file.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "io/write_all.hpp"

namespace dmchain::replica {

namespace fs = std::filesystem;

namespace {

std::string reason() { return std::strerror(errno); }

void make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
        throw failed("{}: cannot make the folder: {}", escaped(path), reason());
}

bool is_empty(const std::string& path) {
    // A file system's own folder does not count, nor do those that were made before the mark was.
    for (const auto& entry : fs::directory_iterator(path)) {
        const std::string name = entry.path().filename().string();
        const bool ours = name == "pieces" || name == "snapshots" || name == "layers";
        const bool made = ours && fs::is_directory(entry) && fs::is_empty(entry);
        if (name != "lost+found" && !made) return false;
    }
    return true;
}

}  // namespace

Folder::Folder(const std::string& path) : Place(absolute_name(path)) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd_ < 0) throw failed("{}: cannot open the folder: {}", escaped(path), reason());
    struct stat st {};
    const bool known = ::fstat(fd_, &st) == 0;
    const std::string why = reason();
    if (!known) {
        ::close(fd_);
        throw failed("{}: cannot stat: {}", escaped(path), why);
    }
    device_ = st.st_dev;
    inode_ = st.st_ino;
}

Folder::~Folder() {
    std::error_code ignored;
    if (!incoming_.empty()) fs::remove_all(incoming_, ignored);
    if (fd_ >= 0) ::close(fd_);
}

bool Folder::is_store() const {
    std::error_code none;
    return fs::exists(name() + "/" + mark, none);
}

void Folder::begin_writing() {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0)
        throw failed("{}: another dmchain works on it: wait until it is done", escaped(name()));
    const bool empty = !is_store();
    if (empty && !is_empty(name()))
        throw failed("{}: is no store of dmchain, and not empty: name a store, or an empty folder", escaped(name()));
    std::error_code ignored;
    fs::remove_all(name() + "/incoming", ignored);
    make_folder(name() + "/pieces");
    make_folder(name() + "/snapshots");
    make_folder(name() + "/layers");
    if (!empty) return;
    // Last: a folder that has it has the others.
    chain::Output out(name() + "/" + mark);
    out.write(mark_text.data(), mark_text.size(), 0);
    out.commit(false);
}

void Folder::begin_reading() {
    require_store();
    if (::flock(fd_, LOCK_SH | LOCK_NB) != 0)
        throw failed("{}: another dmchain works on it: wait until it is done", escaped(name()));
}

std::string Folder::piece_path(const Digest& digest, bool packed) const {
    const std::string piece = piece_name(digest, packed);
    return fmt::format("{}/pieces/{}/{}", name(), piece.substr(0, 2), piece);
}

std::string Folder::file_name(const std::string& of, Kind kind) const { return name() + "/" + prefix_of(kind) + of; }

std::uint64_t Folder::size_of(const Piece& piece) const {
    for (const bool packed : {false, true}) {
        struct stat st {};
        if (::stat(piece_path(piece.digest, packed).c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
        const auto bytes = static_cast<std::uint64_t>(st.st_size);
        if (packed ? bytes < piece.bytes : bytes == piece.bytes) return bytes;
    }
    return 0;
}

std::optional<std::vector<unsigned char>> Folder::read_piece(const Digest& digest, bool packed, std::uint64_t most) const {
    const std::string path = piece_path(digest, packed);
    std::error_code none;
    if (!fs::exists(path, none)) return std::nullopt;
    const File file(path);
    std::vector<unsigned char> bytes(std::min(file.size(), most + 1));
    file.read(bytes.data(), bytes.size(), 0);
    return bytes;
}

std::uint64_t Folder::put(const Piece& piece, const std::vector<unsigned char>& data, const std::vector<unsigned char>& packed) {
    if (waiting_.contains(piece.digest)) return 0;
    std::vector<unsigned char> there;
    if (read(piece, there) == Found::right) return 0;
    const std::vector<unsigned char>& bytes = packed.empty() ? data : packed;
    if (incoming_.empty()) {
        make_folder(name() + "/incoming");
        incoming_ = name() + "/incoming";
    }
    const std::string path = incoming_ + "/" + text_of(piece.digest);
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) throw failed("{}: cannot create: {}", escaped(path), reason());
    const bool done = write_all(fd, bytes.data(), bytes.size()) == bytes.size();
    const std::string why = reason();
    // It goes to the disk while the next piece is made; settle() waits for it, and sees the errors.
    ::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    ::close(fd);
    if (!done) throw failed("{}: cannot write: {}", escaped(path), why);
    waiting_.emplace(piece.digest, !packed.empty());
    return bytes.size();
}

void Folder::sync() const {
    if (::syncfs(fd_) != 0) throw failed("{}: cannot sync: {}", escaped(name()), reason());
}

void Folder::settle() {
    if (incoming_.empty()) return;
    sync();
    for (const auto& [d, packed] : waiting_) {
        const std::string to = piece_path(d, packed), from = incoming_ + "/" + text_of(d);
        make_folder(fs::path(to).parent_path().string());
        if (::rename(from.c_str(), to.c_str()) != 0)
            throw failed("{}: cannot rename to {}: {}", escaped(from), escaped(to), reason());
        // What is there in the other form is damaged.
        ::unlink(piece_path(d, !packed).c_str());
    }
    sync();
    waiting_.clear();
    ::rmdir(incoming_.c_str());
    incoming_.clear();
}

void Folder::each_piece(const std::function<void(const Digest&, std::uint64_t)>& use) const {
    std::error_code none;
    for (const auto& sub : fs::directory_iterator(name() + "/pieces", none)) {
        if (!sub.is_directory()) continue;
        for (const auto& entry : fs::directory_iterator(sub)) {
            const auto is = parse_piece_name(entry.path().filename().string());
            if (is && entry.is_regular_file(none) && entry.path() == piece_path(is->digest, is->packed))
                use(is->digest, entry.file_size(none));
        }
    }
}

void Folder::remove_piece(const Digest& digest) const {
    for (const bool packed : {false, true}) {
        const std::string path = piece_path(digest, packed);
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw failed("{}: cannot remove: {}", escaped(path), reason());
    }
}

void Folder::settle_removals() const { sync(); }

std::vector<std::string> Folder::manifests(Kind kind) const {
    std::vector<std::string> out;
    std::error_code error;
    const fs::directory_iterator files(file_name("", kind), error);
    // Who was made before there were layers has no folder for them; an empty folder has none at all.
    const bool none = error == std::errc::no_such_file_or_directory && (kind == Kind::layer || !is_store());
    if (error && !none) throw failed("{}: cannot be listed: {}", escaped(file_name("", kind)), error.message());
    for (const auto& entry : files)
        if (is_name(entry.path().filename().string())) out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
}

bool Folder::has_file(const std::string& name, Kind kind) const {
    std::error_code none;
    return fs::exists(file_name(name, kind), none);
}

std::vector<unsigned char> Folder::read_file(const std::string& name, Kind kind) const {
    const File file(file_name(name, kind));
    if (file.size() > most_manifest)
        throw damaged("{}: has {} bytes, expected at most {}", escaped(file.path()), file.size(), most_manifest);
    std::vector<unsigned char> bytes(file.size());
    file.read(bytes.data(), bytes.size(), 0);
    return bytes;
}

void Folder::put_file(const std::string& name, const std::vector<unsigned char>& bytes, bool replace, Kind kind) const {
    chain::Output out(file_name(name, kind));
    out.write(bytes.data(), bytes.size(), 0);
    out.commit(replace);
}

void Folder::remove_file(const std::string& name, Kind kind) const {
    const std::string path = file_name(name, kind);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw failed("{}: cannot remove: {}", escaped(path), reason());
    sync_folder_of(path);
}

}  // namespace dmchain::replica
