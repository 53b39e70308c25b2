// SPDX-License-Identifier: GPL-2.0-or-later
// See pool.hpp. In a pool are the objects
//   dmchain-store                   says what it is; it is locked by who works on the store
//   pieces/abcd...[.zst]            as in a folder (folder.cpp)
//   snapshots/NAME, layers/ID-ID    manifests
// What was acknowledged is durable, so that nothing needs another name before.
#include "replica/pool.hpp"

#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/rados_library.hpp"

namespace dmchain::replica {

namespace {

using Clock = std::chrono::steady_clock;

constexpr char name_space[] = "dmchain", lock_name[] = "dmchain", pieces[] = "pieces/";
constexpr char timeout[] = "30";     // seconds
constexpr time_t lock_seconds = 60;  // for which a lock holds without its owner
constexpr auto renew_after = std::chrono::seconds(15);
constexpr std::size_t most_under_way = 16;
constexpr std::uint64_t most_object = std::uint64_t{64} << 20;  // bytes; what an OSD takes at once, and has as one object

std::string reason(int error) { return std::strerror(-error); }
// The copy is lost: its disks do not answer, or have been given up.
bool is_lost(int error) { return error == -ENOENT || error == -ETIMEDOUT; }

}  // namespace

class Pool::Cluster {
public:
    Cluster() : rados_(RadosLibrary::get()) {
        const int made = rados_.create(&cluster_, nullptr);
        if (made < 0) throw failed("Ceph cannot be used: {}", reason(made));
        try {
            connect();
        } catch (...) {
            rados_.shutdown(cluster_);
            throw;
        }
    }
    ~Cluster() { rados_.shutdown(cluster_); }
    Cluster(const Cluster&) = delete;

    const RadosLibrary& library() const { return rados_; }
    rados_t handle() const { return cluster_; }

    // What the monitors answer; nullopt: they refuse.
    std::optional<nlohmann::json> ask(const nlohmann::json& question) const {
        const std::string text = question.dump();
        const char* const command = text.c_str();
        const char* commands[] = {command};
        char *out = nullptr, *said = nullptr;
        std::size_t bytes = 0, said_bytes = 0;
        const int error = rados_.mon_command(cluster_, commands, 1, nullptr, 0, &out, &bytes, &said, &said_bytes);
        const std::string answer(out ? out : "", bytes);
        if (out) rados_.buffer_free(out);
        if (said) rados_.buffer_free(said);
        if (error < 0) return std::nullopt;
        return nlohmann::json::parse(answer, nullptr, false);
    }

private:
    void connect() {
        int error = rados_.conf_read_file(cluster_, nullptr);
        if (error < 0)
            throw failed(
                "Ceph's configuration cannot be read ({}): expected /etc/ceph/ceph.conf, or the file that CEPH_CONF names",
                reason(error));
        rados_.conf_parse_env(cluster_, nullptr);
        for (const char* option : {"rados_osd_op_timeout", "rados_mon_op_timeout"}) {
            char value[32] = "";
            // Without one, who asks a disk that is dead waits for ever.
            if (rados_.conf_get(cluster_, option, value, sizeof value) == 0 && std::strtod(value, nullptr) == 0)
                rados_.conf_set(cluster_, option, timeout);
        }
        error = rados_.connect(cluster_);
        if (error < 0) throw failed("the Ceph cluster cannot be reached: {}", reason(error));
    }

    const RadosLibrary& rados_;
    rados_t cluster_ = nullptr;
};

// The objects of a pool.
class Pool::Objects {
public:
    Objects(std::shared_ptr<const Cluster> cluster, const std::string& pool, const std::string& name)
        : cluster_(std::move(cluster)), rados_(cluster_->library()), pool_(pool), name_(name) {
        const int error = rados_.ioctx_create(cluster_->handle(), pool.c_str(), &io_);
        if (error == -ENOENT) throw failed("{}: there is no such pool", escaped(name_));
        if (error < 0) throw failed("{}: cannot be opened: {}", escaped(name_), reason(error));
        rados_.ioctx_set_namespace(io_, name_space);
    }
    ~Objects() {
        while (!writes_.empty()) wait();
        if (locked_ != Locked::no) rados_.unlock(io_, mark, lock_name, cookie_.c_str());
        rados_.ioctx_destroy(io_);
    }
    Objects(const Objects&) = delete;

    std::string name_of(const std::string& object) const { return name_ + "/" + object; }

    // Bytes, or an error of Ceph.
    std::int64_t size(const std::string& object) const {
        std::uint64_t bytes = 0;
        time_t when = 0;
        const int error = in_time(object, [&] { return rados_.stat(io_, object.c_str(), &bytes, &when); });
        return error < 0 ? error : static_cast<std::int64_t>(bytes);
    }
    // At most so many bytes; or an error.
    int read(const std::string& object, std::uint64_t most, std::vector<unsigned char>& to) {
        renew();
        to.resize(most);
        const int n =
            in_time(object, [&] { return rados_.read(io_, object.c_str(), reinterpret_cast<char*>(to.data()), to.size(), 0); });
        to.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
        return n;
    }
    void write(const std::string& object, const void* data, std::size_t bytes) {
        renew();
        const int error = rados_.write_full(io_, object.c_str(), static_cast<const char*>(data), bytes);
        if (error < 0) throw failed("{}: cannot write: {}", escaped(name_of(object)), reason(error));
    }
    void begin_write(const std::string& object, const std::vector<unsigned char>& data) {
        renew();
        while (writes_.size() >= most_under_way) finish_one();
        rados_completion_t done = nullptr;
        if (rados_.aio_create_completion2(nullptr, nullptr, &done) < 0) throw failed("{}: out of memory", escaped(name_));
        writes_.emplace_back(done, object);
        const int error =
            rados_.aio_write_full(io_, object.c_str(), done, reinterpret_cast<const char*>(data.data()), data.size());
        if (error < 0) {
            rados_.aio_release(done);
            writes_.pop_back();
            throw failed("{}: cannot write: {}", escaped(name_of(object)), reason(error));
        }
    }
    void finish_writes() {
        while (!writes_.empty()) finish_one();
    }
    bool is_under_way(const std::string& object) const {
        return std::any_of(writes_.begin(), writes_.end(), [&](const auto& w) { return w.second == object; });
    }
    void remove(const std::string& object) const {
        const int error = in_time(object, [&] { return rados_.remove(io_, object.c_str()); });
        if (error < 0 && !is_lost(error)) throw failed("{}: cannot remove: {}", escaped(name_of(object)), reason(error));
    }
    // Calls use(name) for all. Throws failed() if some cannot be listed.
    template <typename Use>
    void list(const Use& use) const {
        rados_list_ctx_t at = nullptr;
        int error = rados_.nobjects_list_open(io_, &at);
        std::vector<std::string> names;
        const char *object = nullptr, *key = nullptr, *space = nullptr;
        if (error == 0) {
            while ((error = rados_.nobjects_list_next(at, &object, &key, &space)) == 0) names.emplace_back(object);
            rados_.nobjects_list_close(at);
        }
        if (error != -ENOENT) throw failed("{}: its objects cannot be listed: {}", escaped(name_), reason(error));
        for (const std::string& name : names) use(name);
    }

    enum class Locked { no, shared, exclusive };
    void lock(Locked how) {
        locked_ = how;
        const int error = take_lock();
        if (error >= 0) return;
        locked_ = Locked::no;
        // Nobody else can lock what does not answer.
        if (error == -ETIMEDOUT && how == Locked::shared) return;
        if (error == -EBUSY || error == -EEXIST)
            throw failed("{}: another dmchain works on it: wait until it is done, or {} seconds if it was cut off",
                         escaped(name_), lock_seconds);
        throw failed("{}: cannot lock {}: {}", escaped(name_), mark, reason(error));
    }

private:
    // A disk that is dead makes each question to it take the whole time, and there may be many: so once one did, it is first asked
    // which disks an object is on.
    template <typename Ask>
    int in_time(const std::string& object, const Ask& ask) const {
        if (some_dead() && is_dead(place_of(object))) return -ETIMEDOUT;
        const int answer = ask();
        if (answer == -ETIMEDOUT) {
            const std::string group = place_of(object).value("pgid", std::string());
            const std::lock_guard hold(dead_lock_);
            dead_.insert(group);
        }
        return answer;
    }
    // Its placement group ("pgid") and disks ("acting_primary"); an empty object: nobody knows.
    nlohmann::json place_of(const std::string& object) const {
        const auto answer = cluster_->ask(
            {{"prefix", "osd map"}, {"pool", pool_}, {"object", object}, {"nspace", name_space}, {"format", "json"}});
        return answer && answer->is_object() ? *answer : nlohmann::json::object();
    }
    bool some_dead() const {
        const std::lock_guard hold(dead_lock_);
        return !dead_.empty();
    }
    bool is_dead(const nlohmann::json& place) const {
        const std::lock_guard hold(dead_lock_);
        return place.value("acting_primary", 0) < 0 || dead_.contains(place.value("pgid", std::string()));
    }

    int take_lock() {
        struct timeval seconds {
            lock_seconds, 0
        };
        renewed_ = Clock::now();
        if (locked_ == Locked::exclusive)
            return rados_.lock_exclusive(io_, mark, lock_name, cookie_.c_str(), "dmchain", &seconds,
                                         LIBRADOS_LOCK_FLAG_MAY_RENEW);
        return rados_.lock_shared(io_, mark, lock_name, cookie_.c_str(), "", "dmchain", &seconds, LIBRADOS_LOCK_FLAG_MAY_RENEW);
    }
    void renew() {
        if (locked_ == Locked::no || Clock::now() - renewed_ < renew_after) return;
        const int error = take_lock();
        if (error < 0 && locked_ == Locked::exclusive)
            throw failed("{}: its lock is lost: {}; run the command again", escaped(name_), reason(error));
    }
    // Returns what became of the oldest write.
    int wait() {
        rados_completion_t done = writes_.front().first;
        rados_.aio_wait_for_complete(done);
        const int error = rados_.aio_get_return_value(done);
        rados_.aio_release(done);
        writes_.pop_front();
        return error;
    }
    void finish_one() {
        const std::string object = writes_.front().second;
        const int error = wait();
        if (error < 0) throw failed("{}: cannot write: {}", escaped(name_of(object)), reason(error));
    }

    const std::shared_ptr<const Cluster> cluster_;
    const RadosLibrary& rados_;
    const std::string pool_, name_;
    mutable std::mutex dead_lock_;        // covers dead_
    mutable std::set<std::string> dead_;  // placement groups that did not answer in time
    rados_ioctx_t io_ = nullptr;
    std::deque<std::pair<rados_completion_t, std::string>> writes_;  // under way
    Locked locked_ = Locked::no;
    Clock::time_point renewed_;
    const std::string cookie_ = fmt::format("{}-{}", ::getpid(), std::chrono::system_clock::now().time_since_epoch().count());
};

Pool::Pool(std::shared_ptr<const Cluster> cluster, const std::string& name)
    : Place("rados:" + name), objects_(std::make_unique<Objects>(cluster, name, "rados:" + name)) {
    nlohmann::json question = {{"prefix", "osd pool get"}, {"pool", name}, {"var", "size"}, {"format", "json"}};
    const auto size = cluster->ask(question);
    question["var"] = "erasure_code_profile";
    if (cluster->ask(question)) throw failed("{}: is erasure coded: name pools that keep copies", escaped(this->name()));
    if (!size || !size->is_object() || !size->contains("size") || !(*size)["size"].is_number_unsigned())
        throw failed("{}: the cluster does not say how many copies it keeps", escaped(this->name()));
    copies_ = (*size)["size"];
}

Pool::~Pool() = default;

bool Pool::is_store() const {
    const std::int64_t bytes = objects_->size(mark);
    if (bytes > 0 || bytes == -ETIMEDOUT) return true;
    // Where copies are not kept several times, the mark may be what was lost.
    bool others = false;
    try {
        objects_->list([&](const std::string& object) { others = others || object != mark; });
    } catch (const Error&) {
        return true;
    }
    return others;
}

void Pool::begin_writing() {
    objects_->lock(Objects::Locked::exclusive);  // makes the object, empty
    if (objects_->size(mark) <= 0) objects_->write(mark, mark_text.data(), mark_text.size());
}

void Pool::begin_reading() {
    require_store();
    objects_->lock(Objects::Locked::shared);
}

std::uint64_t Pool::size_of(const Piece& piece) const {
    for (const bool packed : {false, true}) {
        const std::int64_t size = objects_->size(pieces + piece_name(piece.digest, packed));
        if (size == -ETIMEDOUT) return 0;  // nor will the other one answer
        const auto bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 0));
        if (packed ? bytes < piece.bytes : bytes == piece.bytes) return bytes;
    }
    return 0;
}

std::optional<std::vector<unsigned char>> Pool::read_piece(const Digest& digest, bool packed, std::uint64_t most) const {
    std::vector<unsigned char> bytes;
    const int error = objects_->read(pieces + piece_name(digest, packed), most + 1, bytes);
    if (is_lost(error)) return std::nullopt;
    if (error < 0)
        throw damaged("{}: cannot be read: {}", escaped(objects_->name_of(pieces + piece_name(digest, packed))), reason(error));
    return bytes;
}

std::uint64_t Pool::put(const Piece& piece, const std::vector<unsigned char>& data, const std::vector<unsigned char>& packed) {
    const std::string object = pieces + piece_name(piece.digest, !packed.empty());
    // What Ceph has, it keeps whole.
    if (has(piece) || objects_->is_under_way(object)) return 0;
    const std::vector<unsigned char>& bytes = packed.empty() ? data : packed;
    objects_->begin_write(object, bytes);
    return bytes.size();
}

void Pool::settle() { objects_->finish_writes(); }

void Pool::each_piece(const std::function<void(const Digest&, std::uint64_t)>& use) const {
    objects_->list([&](const std::string& object) {
        if (!object.starts_with(pieces)) return;
        const auto is = parse_piece_name(object.substr(std::strlen(pieces)));
        const std::int64_t bytes = objects_->size(object);
        if (is && bytes >= 0) use(is->digest, static_cast<std::uint64_t>(bytes));
    });
}

void Pool::remove_piece(const Digest& digest) const {
    for (const bool packed : {false, true}) objects_->remove(pieces + piece_name(digest, packed));
}

std::vector<std::string> Pool::manifests(Kind kind) const {
    const std::string prefix = prefix_of(kind);
    std::vector<std::string> out;
    objects_->list([&](const std::string& object) {
        if (object.starts_with(prefix) && is_name(object.substr(prefix.size()))) out.push_back(object.substr(prefix.size()));
    });
    std::sort(out.begin(), out.end());
    return out;
}

bool Pool::has_file(const std::string& name, Kind kind) const {
    const std::int64_t size = objects_->size(prefix_of(kind) + name);
    return size >= 0 || size == -ETIMEDOUT;
}

std::vector<unsigned char> Pool::read_file(const std::string& name, Kind kind) const {
    std::vector<unsigned char> bytes;
    const int error = objects_->read(prefix_of(kind) + name, most_object + 1, bytes);
    if (error < 0) throw damaged("{}: cannot be read: {}", escaped(file_name(name, kind)), reason(error));
    return bytes;
}

void Pool::put_file(const std::string& name, const std::vector<unsigned char>& bytes, bool replace, Kind kind) const {
    if (!replace && has_file(name, kind)) throw failed("{}: is there already", escaped(file_name(name, kind)));
    if (bytes.size() > most_object)
        throw failed("{}: has {} bytes, expected at most {}: store it in folders", escaped(file_name(name, kind)), bytes.size(),
                     most_object);
    objects_->write(prefix_of(kind) + name, bytes.data(), bytes.size());
}

void Pool::remove_file(const std::string& name, Kind kind) const { objects_->remove(prefix_of(kind) + name); }

std::string Pool::file_name(const std::string& name, Kind kind) const { return objects_->name_of(prefix_of(kind) + name); }

Store::Places open_pools(const std::vector<std::string>& names) {
    const auto cluster = std::make_shared<const Pool::Cluster>();
    Store::Places out;
    for (std::size_t i = 0; i < names.size(); i++) {
        if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
            names.begin() + static_cast<std::ptrdiff_t>(i))
            throw failed("rados:{}: is named twice", escaped(names[i]));
        out.push_back(std::make_unique<Pool>(cluster, names[i]));
    }
    return out;
}

}  // namespace dmchain::replica
