// SPDX-License-Identifier: GPL-2.0-or-later
// See garbage.hpp. What proves that something is nobody's:
// - no device has it open, no other process has it locked, no image and no chain file below the folders names it; and
// - a temporary file: whoever makes one holds a lock on it for as long as that takes (chain/output.hpp);
// - a merge: its note tells what it needs to begin again or to go on, and that is gone; an image that is not finished, which
//   no program takes for one, and whose log holds nothing; a second name of an image;
// - a move: the same, of the file that is copied; a note of which all is done;
// - a layer that no device went on in (spare.hpp), which whoever made it does not hold any more;
// - a chain file: it is an index of layers that lay beside it, and none of them is there any more.
// Whatever may hold what a guest wrote is left alone.
#include "device/garbage.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "device/live.hpp"
#include "device/merge_note.hpp"
#include "device/move.hpp"
#include "device/spare.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "qcow2/log.hpp"
#include "qcow2/names.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;
using chain::FleetFile;
using chain::FleetLeftover;
using Kind = FleetLeftover::Kind;

namespace {

int open_to_look(const std::string& path, int how = O_RDONLY) {
    const int fd = ::open(path.c_str(), how | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) throw failed("{}: cannot open: {}", escaped(path), std::strerror(errno));
    return fd;
}

// Who has the file open as @fd: "", or the end of a sentence. Takes its lock, which is gone when it is closed.
std::string holder(int fd) {
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? "another process has it locked"
                   : fmt::format("its file system has no locks ({}), so that nobody can tell", std::strerror(errno));
    const auto conflict = lock_image(fd, ImageUse::write);
    return conflict ? conflict->found : std::string();
}

// Whether nobody else has the file open, the kernel included. From then on whoever opens it waits until it is closed here.
bool have_alone(int fd) {
    ::fcntl(fd, F_SETSIG, SIGURG);  // that somebody waits, which is passed over
    return ::fcntl(fd, F_SETLEASE, F_WRLCK) == 0 || errno != EAGAIN;
}

bool begins_with_zeroes(const File& file) {
    std::array<char, CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES> head{};
    file.read_padded(head.data(), head.size(), 0);
    return std::all_of(head.begin(), head.end(), [](char c) { return c == 0; });
}

// An image that dm-chain has not finished, and whose log holds nothing: no program can read anything from it.
bool holds_nothing(const FleetFile& f) {
    if (!f.in_use()) return false;
    try {
        const qcow2::Log log(File(f.path), f.header->cluster_bits);
        return log.clusters().empty() && !log.successor();
    } catch (const Error&) {
        return false;
    }
}

class Judge {
public:
    explicit Judge(const chain::Fleet& fleet) : fleet_(fleet) {
        for (const dm::Device& d : dm::list_if_any()) devices_.push_back(look_at(d.name));
    }

    std::vector<Verdict> run() {
        std::map<std::string, std::vector<const FleetLeftover*>> merges, moves;
        for (const FleetLeftover& l : fleet_.leftovers) {
            if (l.kind == Kind::temporary)
                temporary(l);
            else
                (l.kind == Kind::moving || l.kind == Kind::move_note ? moves : merges)[l.of].push_back(&l);
        }
        for (const auto& [of, parts] : merges) merge(of, parts);
        for (const auto& [to, parts] : moves) move(to, parts);
        for (const chain::FleetChainFile& c : fleet_.chain_files) chain_file(c);
        for (const FleetFile& f : fleet_.files)
            if (f.below && f.in_use() && !f.named() && !fleet_.leftover(f.path)) unsealed(f);
        // Notes last: they tell what the rest is.
        const auto key = [](const Verdict& v) {
            return std::pair(v.path.ends_with(".compact") || v.path.ends_with(note_ending), std::string_view(v.path));
        };
        std::sort(out_.begin(), out_.end(), [&](const Verdict& x, const Verdict& y) { return key(x) < key(y); });
        return std::move(out_);
    }

private:
    void say(const std::string& path, const Identity& who, bool garbage, std::string why, bool spare = false) {
        out_.push_back({path, who, garbage, std::move(why), spare});
    }
    void leave(const FleetLeftover& l, std::string why) { say(l.path, l.identity, false, std::move(why)); }

    // The device that has the file open, or nullptr.
    const Live* device_of(const Identity& who) const {
        for (const Live& d : devices_) {
            if (d.chain.is(who)) return &d;
            for (const dm::OpenLayer& l : d.layers)
                if (l.is(who)) return &d;
        }
        return nullptr;
    }

    // Why somebody needs the file: "", or what to say.
    std::string user_of_file(const std::string& path, const Identity& who) const {
        if (const Live* d = device_of(who)) return fmt::format("the device {} has it open", escaped(d->name));
        if (const FleetLeftover* l = fleet_.leftover(path); l && !l->named_by.empty()) return l->named_by + " names it";
        // Of a file with several names this is about the one that was found first.
        if (const FleetFile* f = fleet_.find(who); f && f->named() && f->path == path) return "an image or a chain file names it";
        try {
            const File file(open_to_look(path), path);
            if (!file.identity().same_file(who)) return "became another file while it was looked at";
            return holder(file.fd());
        } catch (const Error& e) {
            return e.what();
        }
    }

    // @why it is garbage, if nobody needs it.
    bool condemn(const FleetLeftover& l, const std::string& why) {
        const std::string user = user_of_file(l.path, l.identity);
        say(l.path, l.identity, user.empty(), user.empty() ? why : user);
        return user.empty();
    }

    void temporary(const FleetLeftover& l) {
        bool ours = false;
        try {
            const File file(l.path);
            ours = chain::is_chain_file(file) || begins_with_zeroes(file) || (l.of.ends_with(".compact") && is_note(l.path)) ||
                   (l.of.ends_with(note_ending) && is_move_note(l.path));
        } catch (const Error& e) {
            return leave(l, e.what());
        }
        if (!ours) return leave(l, "is not what dmchain writes under such a name");
        condemn(l, "a file in the making, whose process is gone");
    }

    void leave_all(const std::vector<const FleetLeftover*>& parts, const std::string& why) {
        for (const FleetLeftover* p : parts) leave(*p, why);
    }
    void condemn_all(const std::vector<const FleetLeftover*>& parts, const std::string& why) {
        for (const FleetLeftover* p : parts) condemn(*p, why);
    }

    // The one of that kind; nullptr: there is none.
    static const FleetLeftover* find(const std::vector<const FleetLeftover*>& parts, Kind kind) {
        const auto found = std::find_if(parts.begin(), parts.end(), [&](const FleetLeftover* p) { return p->kind == kind; });
        return found == parts.end() ? nullptr : *found;
    }

    void merge(const std::string& of, const std::vector<const FleetLeftover*>& parts) {
        if (!find(parts, Kind::note)) return without_note(of, parts);
        std::optional<MergeNote> n;
        try {
            n = read_note(of);
        } catch (const Error& e) {
            return leave_all(parts, e.what());
        }
        if (!n) return leave_all(parts, "is gone since");
        if (const Live* d = device_at(paths_of(*n)))
            return leave_all(parts,
                             fmt::format("a merge of the device {0}: run 'dmchain compact {0}' to go on, or 'dmchain compact {0} "
                                         "--abort'",
                                         escaped(d->name)));
        KnownFile merging = n->merged, named = n->merged;
        merging.path = n->merging();
        named.path = n->path;
        const bool old_there = std::all_of(n->old.begin(), n->old.end(), [](const KnownFile& k) { return k.is_there(); });
        if (old_there || (n->copied && (merging.is_there() || named.is_there())))
            return leave_all(parts, fmt::format("a merge of {} that can go on: run 'dmchain compact' with the image on top of "
                                                "its chain, or with --abort, too",
                                                in_quotes(of)));
        if (n->copied)
            return leave_all(parts,
                             fmt::format("a merge of which neither the layers nor the merged file are what they were: look at {}",
                                         in_quotes(of)));
        for (const FleetLeftover* p : parts) {
            if (p->kind == Kind::merging && !fleet_.find(p->identity)->in_use())
                leave(*p, "a complete copy of layers that are not there any more");
            else if (p->kind == Kind::named)
                second_name(*p);
            else
                condemn(*p, "of a merge that cannot go on: its layers are not what they were");
        }
    }

    static std::vector<std::string> paths_of(const MergeNote& n) {
        std::vector<std::string> paths;
        for (const KnownFile& k : n.old) paths.push_back(k.path);
        for (const char* end : {"", ".merging", ".merging.chain"}) paths.push_back(n.path + end);
        return paths;
    }

    // The one that has one of the files; nullptr: none has.
    const Live* device_at(const std::vector<std::string>& paths) const {
        std::error_code none;
        for (const std::string& path : paths)
            if (fs::is_regular_file(path, none))
                if (const Live* d = device_of(identity_of(path))) return d;
        // Those that somebody removed, too.
        for (const Live& d : devices_)
            for (const std::string& path : paths) {
                if (d.chain.path == path) return &d;
                for (const dm::OpenLayer& l : d.layers)
                    if (l.path == path || l.now == path) return &d;
            }
        return nullptr;
    }

    void without_note(const std::string& of, const std::vector<const FleetLeftover*>& parts) {
        bool merging = false;
        for (const FleetLeftover* p : parts) {
            if (p->kind != Kind::merging) continue;
            merging = true;
            const FleetFile* f = fleet_.find(p->identity);
            std::error_code none;
            if (fs::equivalent(of, p->path, none))
                second_name(*p);
            else if (holds_nothing(*f))
                merging = !condemn(*p, "a copy that was not finished, and that no note tells how to go on with");
            else
                leave(*p, "an image, and no note tells of a merge: look at it");
        }
        for (const FleetLeftover* p : parts) {
            if (p->kind == Kind::named) second_name(*p);
            if (p->kind == Kind::merging_chain && merging)
                leave(*p, fmt::format("belongs to {}", in_quotes(of + ".merging")));
            else if (p->kind == Kind::merging_chain)
                merging_chain(*p);
        }
    }

    void move(const std::string& to, const std::vector<const FleetLeftover*>& parts) {
        const FleetLeftover* note = find(parts, Kind::move_note);
        if (!note) return leave_all(parts, "a copy, and no note tells of a move: look at it");
        std::error_code none;
        // Somebody who likes such names.
        if (parts.size() == 1 && !fs::exists(to, none) && !is_move_note(note->path)) return;
        std::optional<MovePlan> p;
        try {
            p = read_move(to);
        } catch (const Error& e) {
            return leave_all(parts, e.what());
        }
        if (!p) return leave_all(parts, "is gone since");
        KnownFile unnamed = p->copy;
        unnamed.path = p->moving();
        const bool copy_there = p->copy.is_there(), complete = copy_there || unnamed.is_there();
        if (p->copied && copy_there && !fs::exists(p->from.path, none) && stands_on(p->above, p->to))
            return condemn_all({note}, "of a move that is done");
        if (p->from.is_there() || (p->copied && copy_there)) {
            const Live* d = device_at({p->from.path, p->to, p->above});
            return leave_all(
                parts, fmt::format("a move of {0} that can go on: run 'dmchain move {1} {2} {3}'{4}{5}", in_quotes(p->from.path),
                                   d ? escaped(d->name) : "TOP", escaped(p->from.path), escaped(p->to),
                                   d ? "" : " with the image on top of its chain", p->copied ? "" : ", or with --abort, too"));
        }
        if (complete)
            return leave_all(
                parts,
                fmt::format("of a move of {}, which is not what it was: the copy may be all that is left of it: look at it",
                            in_quotes(p->from.path)));
        if (!fs::exists(p->from.path, none))
            return leave_all(parts, fmt::format("a move of {}, which is not there: is all mounted?", in_quotes(p->from.path)));
        condemn_all(parts, "of a move that cannot go on: the layer is not what it was");
    }

    // Whether the header of the image says so.
    static bool stands_on(const std::string& image, const std::string& path) {
        try {
            const File file(image);
            const auto below = path_below(file, qcow2::read_header(file, true, true));
            std::error_code none;
            return below && fs::equivalent(*below, path, none);
        } catch (const Error&) {
            return false;
        }
    }

    void merging_chain(const FleetLeftover& l) {
        try {
            const chain::ChainFile file{File(l.path)};
            if (file.layers().size() != 1 ||
                fs::path(file.path(file.layers().front())).filename() != fs::path(l.of).filename().string() + ".merging")
                return leave(l, "is no chain file of a merge");
        } catch (const Error& e) {
            return leave(l, e.what());
        }
        condemn(l, "the index of a merged file that is gone");
    }

    // Of an image that keeps its other one.
    void second_name(const FleetLeftover& l) {
        for (const std::string& other : {l.of, l.of + ".merging"}) {
            std::error_code none;
            if (other == l.path || !fs::equivalent(other, l.path, none)) continue;
            condemn(l, fmt::format("a second name of {}", in_quotes(other)));
            return;
        }
        leave(l, "the only name of an image: look at it");
    }

    void chain_file(const chain::FleetChainFile& c) {
        const FleetFile& f = fleet_.files[c.file];
        if (!c.missing || !f.below) return;
        const std::string gone =
            fmt::format("of its {} {} gone, the first is {}", counted(c.layers, "layer"),
                        c.missing == 1 ? "1 is" : fmt::format("{} are", c.missing), in_quotes(c.first_missing));
        if (c.missing < c.layers) return say(f.path, f.identity, false, "a chain file: " + gone);
        if (!c.beside)
            return say(f.path, f.identity, false, "a chain file: " + gone + "; they lay in other folders: is all mounted?");
        const std::string user = user_of_file(f.path, f.identity);
        say(f.path, f.identity, user.empty(), user.empty() ? "a chain file whose layers, which lay beside it, are gone" : user);
    }

    void unsealed(const FleetFile& f) {
        if (const Live* d = device_of(f.identity))
            return say(f.path, f.identity, false, fmt::format("a layer of the device {}", escaped(d->name)));
        if (is_unused(f)) {
            const std::string user = user_of_file(f.path, f.identity);
            return say(f.path, f.identity, user.empty(),
                       user.empty() ? "a new layer that no device went on in: the command that made it was cut off" : user, true);
        }
        say(f.path, f.identity, false,
            "a layer that is not sealed, and that nothing names: it may hold what a guest wrote; 'dmchain recover' makes a chain "
            "file "
            "for it, 'dmchain seal' an image of it");
    }

    static bool is_unused(const FleetFile& f) {
        try {
            const File file(open_to_look(f.path), f.path);
            return file.identity().same_file(f.identity) && is_spare(file, *f.header);
        } catch (const Error&) {
            return false;
        }
    }

    const chain::Fleet& fleet_;
    std::vector<Live> devices_;
    std::vector<Verdict> out_;
};

}  // namespace

std::vector<Verdict> judge(const chain::Fleet& fleet) { return Judge(fleet).run(); }

void remove_garbage(const Verdict& v) {
    const File file(open_to_look(v.path, v.spare ? O_RDWR : O_RDONLY), v.path);
    const auto is_judged = [&](const Identity& i) {
        return i.same_file(v.identity) && i.bytes == v.identity.bytes && i.mtime_sec == v.identity.mtime_sec &&
               i.mtime_nsec == v.identity.mtime_nsec;
    };
    if (!is_judged(file.identity())) throw failed("{}: is another file than when it was judged: it stays", escaped(v.path));
    if (const auto use = user_of(v.identity))
        throw failed("{}: the device {} has it open: it stays", escaped(v.path), escaped(use->device.name));
    if (const std::string who = holder(file.fd()); !who.empty()) throw failed("{}: {}: it stays", escaped(v.path), who);
    if (v.spare && !(have_alone(file.fd()) && is_spare(file, qcow2::read_header(file, true))))
        throw failed("{}: another program, or the kernel, has it open: it stays", escaped(v.path));
    // By the folder that the name is in now, so that nobody can put another one in its place on the way.
    const std::string folder = qcow2::folder_of(v.path), name = v.path.substr(v.path.rfind('/') + 1);
    const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st {};
    const bool same = dir >= 0 && ::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
                      st.st_dev == v.identity.device && st.st_ino == v.identity.inode;
    const bool done = same && ::unlinkat(dir, name.c_str(), 0) == 0;
    const int why = errno;
    if (done) ::fsync(dir);
    // Whoever had found it by its name, and waits, must not take it for a layer.
    if (done && v.spare && ::fstat(file.fd(), &st) == 0 && st.st_nlink == 0 && ::ftruncate(file.fd(), 0) != 0) {}
    if (dir >= 0) ::close(dir);
    if (!same) throw failed("{}: is another file than when it was judged: it stays", escaped(v.path));
    if (!done) throw failed("{}: cannot remove it: {}", escaped(v.path), std::strerror(why));
}

}  // namespace dmchain::device
