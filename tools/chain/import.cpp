// SPDX-License-Identifier: GPL-2.0-or-later
// See import.hpp. In order, each step durable before the next: the note that the stream is being applied, the data, the note that
// it was.
#include "chain/import.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "chain/output.hpp"
#include "chain/point_id.hpp"
#include "io/file.hpp"
#include "io/no_room.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/header.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr int note_version = 1;
constexpr std::uint64_t most_note_bytes = 64 << 10;

std::string text_or_empty(const std::optional<qcow2::LayerId>& id) { return id ? text_of(*id) : std::string(); }

struct Note {
    bool applying = false;
    std::string from, to;  // ids of snapshots; "": none
    std::string stream;    // id of the stream
    std::uint64_t bytes = 0;
    // Of a file, when it was complete: whoever wrote to it since changed that.
    std::int64_t mtime_sec = 0;
    std::uint32_t mtime_nsec = 0;
};

void write_note(const std::string& path, const Note& n) {
    Json j = {{"version", note_version}, {"state", n.applying ? "applying" : "holds"}, {"snapshot", n.to}, {"stream", n.stream}};
    if (n.applying)
        j["from"] = n.from;
    else
        j.update({{"bytes", n.bytes}, {"mtime_sec", n.mtime_sec}, {"mtime_nsec", n.mtime_nsec}});
    const std::string text = j.dump(1) + "\n";
    Output out(path);
    out.write(text.data(), text.size(), 0);
    out.commit(true);
}

std::optional<Note> read_note(const std::string& path) {
    std::error_code none;
    if (!fs::exists(path, none)) return std::nullopt;
    const File file(path);
    std::string text(std::min(file.size(), most_note_bytes), '\0');
    file.read(text.data(), text.size(), 0);
    try {
        const Json j = Json::parse(text);
        if (j.at("version") != note_version) throw Json::other_error::create(0, "version", nullptr);
        Note n;
        n.applying = j.at("state") == "applying";
        n.to = j.at("snapshot");
        n.stream = j.at("stream");
        if (n.applying) {
            n.from = j.at("from");
        } else {
            n.bytes = j.at("bytes");
            n.mtime_sec = j.at("mtime_sec");
            n.mtime_nsec = j.at("mtime_nsec");
        }
        return n;
    } catch (const Json::exception&) {
        throw failed("{}: is no note of 'dmchain import' that this version knows: look at it, and name another with --note",
                     escaped(path));
    }
}

bool is_there(const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) == 0) return true;
    if (errno != ENOENT) throw failed("{}: cannot stat: {}", escaped(path), std::strerror(errno));
    return false;
}

std::string snapshot(const std::string& id) { return id.empty() ? "a state that is no snapshot" : "the snapshot " + id; }

class Import {
public:
    Import(StreamReader& stream, const std::string& target, const ImportHow& how)
        : stream_(stream), info_(stream.info()), target_(target), name_(escaped(target)), how_(how) {}

    Imported run() {
        const bool there = is_there(target_);
        if (there) who_ = identity_of(target_);
        if (!there && info_.base) throw failed("{}: there is no such file, expected a copy of the base of the stream", name_);
        const std::optional<Note> note = read_note(how_.note);
        if (!how_.force) {
            out_.held = note && holds(*note);
            if (!out_.held) require_fit(note);
        }
        if (there && who_.block_device && who_.bytes < info_.bytes)
            throw failed("{}: the device has {} bytes, expected at least {}", name_, who_.bytes, info_.bytes);
        if (how_.dry_run) return out_;
        if (out_.held) {
            // Whoever writes the stream into a pipe comes to its end, too.
            while (stream_.next()) continue;
            return out_;
        }
        Writable to = there ? Writable::open(target_) : Writable::create(target_);
        try {
            write(to);
        } catch (const NoRoom&) {
            // A new one begins again.
            if (!there) {
                ::unlink(target_.c_str());
                ::unlink(how_.note.c_str());
            }
            throw;
        }
        return out_;
    }

private:
    void write(Writable& to) {
        Note now{true, text_or_empty(info_.base), text_or_empty(info_.to), text_of(info_.id)};
        write_note(how_.note, now);
        apply(to);
        now.applying = false;
        now.bytes = info_.bytes;
        if (!to.is_device()) {
            const Identity is = identity_of(target_);
            now.mtime_sec = is.mtime_sec;
            now.mtime_nsec = is.mtime_nsec;
        }
        write_note(how_.note, now);
    }

    // An import that was cut off when all was done is run again: the copy holds where the stream ends.
    bool holds(const Note& note) const {
        return !note.applying && info_.to && note.to == text_of(*info_.to) && note.bytes == info_.bytes &&
               (who_.block_device || (who_.bytes == note.bytes && is_as_noted(note)));
    }

    // Nobody wrote to the file since.
    bool is_as_noted(const Note& note) const { return who_.mtime_sec == note.mtime_sec && who_.mtime_nsec == note.mtime_nsec; }

    void require_fit(const std::optional<Note>& note) {
        const std::string from = text_or_empty(info_.base), to = text_or_empty(info_.to);
        const char* const anyway = "or apply it all the same with --force";
        if (note && note->applying) {
            // A snapshot never changes: another stream between the same two does the same.
            if (note->stream != text_of(info_.id) && (to.empty() || note->from != from || note->to != to))
                throw failed("{}: another import, from {} to {}, was cut off: run that one again, {}", name_,
                             note->from.empty() ? "nothing" : note->from, snapshot(note->to), anyway);
            out_.resumed = true;
            return;
        }
        if (!info_.base) {
            if (who_.bytes || who_.block_device)
                throw failed("{}: {}: the stream makes the whole disk: name a file that is not there, {}", name_,
                             note ? "holds " + snapshot(note->to) : "is there already", anyway);
            return;
        }
        if (!note)
            throw failed(
                "{}: there is no note {} that says what it holds, expected one for the snapshot {}: import a whole "
                "stream (--since none) first, {}",
                name_, in_quotes(how_.note), from, anyway);
        if (note->to != from)
            throw failed("{}: holds {}, the stream begins at the snapshot {}: export one since the first, {}", name_,
                         snapshot(note->to), from, anyway);
        if (note->bytes != info_.base_bytes || (!who_.block_device && who_.bytes != info_.base_bytes))
            throw failed("{}: has {} bytes, the note {}, and the base of the stream {}: it is not what was imported", name_,
                         who_.bytes, note->bytes, info_.base_bytes);
        if (!who_.block_device && !is_as_noted(*note))
            throw failed("{}: was written to since the last import: import a whole stream (--since none), {}", name_, anyway);
    }

    void apply(Writable& to) {
        // Larger first; what is smaller in the end loses its end when all is there.
        if (!to.is_device() && to.size() < info_.bytes) to.resize(info_.bytes);
        while (const auto r = stream_.next()) {
            if (r->data) {
                to.write(r->data, r->bytes, r->start);
                out_.data_bytes += r->bytes;
                if (how_.progress) how_.progress(r->bytes);
            } else {
                to.make_zero(r->start, r->bytes);
                out_.zero_bytes += r->bytes;
            }
        }
        if (!to.is_device() && to.size() > info_.bytes) to.resize(info_.bytes);
        to.sync();
        if (!to.is_device()) sync_folder_of(target_);
    }

    StreamReader& stream_;
    const StreamInfo& info_;
    const std::string target_, name_;
    const ImportHow& how_;
    Identity who_;  // all 0: there is nothing
    Imported out_;
};

}  // namespace

std::string note_of_import(const std::string& target) { return target + ".dmchain-import"; }

Imported import(StreamReader& stream, const std::string& target, const ImportHow& how) {
    return Import(stream, target, how).run();
}

}  // namespace dmchain::chain
