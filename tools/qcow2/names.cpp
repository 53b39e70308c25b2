// SPDX-License-Identifier: GPL-2.0-or-later
// See names.hpp. json: names are QEMU's blockdev options; nested objects and dotted keys mean the same.
#include "qcow2/names.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::qcow2 {
namespace {

using Json = nlohmann::json;

// The part of a name before the first ':' that stands before any '/': QEMU takes it for a protocol.
std::string protocol_of(const std::string& name) {
    std::size_t p = name.find_first_of(":/");
    return p != std::string::npos && name[p] == ':' ? name.substr(0, p) : std::string();
}

// Options of QEMU's block drivers that say how to do I/O, and not on which data: they are ignored, whatever their value.
// docs/man/dmchain.1 has them, too.
constexpr const char* ignored[] = {
    // A name for QEMU's monitor.
    "node-name",
    // Who may write or share: dmchain only reads what lies below the top, and looks itself at who writes.
    "read-only", "auto-read-only", "force-share", "locking", "active",
    // How the host is asked: caches, threads, helpers.
    "cache.direct", "cache.no-flush", "aio", "aio-max-batch", "drop-cache", "x-check-cache-dropped", "pr-manager",
    // How large QEMU's caches of tables are.
    "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval",
    // What happens to discarded and zeroed clusters when QEMU writes.
    "discard", "detect-zeroes", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "discard-no-unref",
    // What QEMU does with refcounts, and compares before it writes.
    "lazy-refcounts", "overlap-check", "overlap-check.template", "overlap-check.main-header", "overlap-check.active-l1",
    "overlap-check.active-l2", "overlap-check.refcount-table", "overlap-check.refcount-block", "overlap-check.snapshot-table",
    "overlap-check.inactive-l1", "overlap-check.inactive-l2", "overlap-check.bitmap-directory"};

bool is_ignored(std::string_view option) {
    for (bool nested = true; nested;) {
        nested = false;
        for (const std::string_view node : {"file.", "data-file."})
            if (option.starts_with(node)) option.remove_prefix(node.size()), nested = true;
    }
    return std::find(std::begin(ignored), std::end(ignored), option) != std::end(ignored);
}

class JsonName {
public:
    JsonName(const std::string& image, const std::string& name) : image_(image), name_(name) {
        if (name.size() > 65536) throw wrong("is too long, expected at most 65536 bytes");
        std::vector<std::set<std::string>> keys;  // of the objects that are open
        Json options = Json::parse(
            name.begin() + 5, name.end(),
            [&](int depth, Json::parse_event_t event, Json& parsed) {
                // A depth limit of our own: the parser's stack is not to be chosen by the image.
                if (depth > 16) throw wrong("is nested too deeply");
                if (event == Json::parse_event_t::object_start) keys.emplace_back();
                if (event == Json::parse_event_t::object_end) keys.pop_back();
                if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
                    throw wrong("gives " + in_quotes(parsed.get<std::string>()) + " twice in one object, expected it once");
                return true;
            },
            false);
        if (!options.is_object()) throw wrong("is no JSON object");
        flatten("", options);
    }

    NamedFile result(const std::optional<std::string>& declared) {
        NamedFile out;
        std::optional<std::string> driver = take_string("driver");
        if (driver && declared && !declared->empty() && *driver != *declared)
            throw failed(
                "{}: json: name {} says the driver {} for its backing file, and the image declares the format {}, "
                "expected both to say the same; choose one with \"qemu-img rebase -u\"",
                image_, in_quotes(name_.substr(0, 200)), in_quotes(*driver), in_quotes(*declared));
        if (!driver && declared && !declared->empty()) driver = declared;
        if (driver) out.format = parse_format(image_, *driver);
        out.alone = take_null("backing");
        if (driver == "file" || driver == "host_device") {  // the protocol alone: the bytes as they are
            out.path = filename("");
        } else {
            out.windows = {window("")};
            out.path = node("file.", out.windows);
            if (out.format != Format::raw && has("data-file.")) {
                std::vector<Window> windows;
                out.data_file = node("data-file.", windows);
                if (!windows.empty()) throw wrong("gives a part of a file as the data file, which is not supported");
                if (out.data_file->empty()) throw wrong("names no data file, expected data-file.filename");
            }
        }
        std::erase_if(out.windows, is_whole);
        refuse_rest();
        if (out.path.empty()) throw wrong("names no file, expected file.filename");
        if (!out.windows.empty() && out.format != Format::raw)
            throw wrong("gives a part of a file that is not declared raw, which is not supported");
        return out;
    }

private:
    Error wrong(const std::string& what) const {
        return failed("{}: json: name {} {}", image_, in_quotes(name_.substr(0, 200)), what);
    }

    static bool is_whole(const Window& w) { return w.offset == 0 && !w.size; }

    void flatten(const std::string& prefix, const Json& object) {
        for (const auto& [key, value] : object.items()) {
            const std::string name = prefix + key;
            if (name.find('\0') != std::string::npos ||
                (value.is_string() && value.get_ref<const std::string&>().find('\0') != std::string::npos))
                throw wrong("has a zero byte in " + in_quotes(name) + ", expected none");
            if (value.is_object()) {
                flatten(name + ".", value);
                continue;
            }
            const auto [before, is_new] = values_.emplace(name, value);
            if (!is_new && before->second != value)
                throw wrong(fmt::format("gives {} as {} and as {}, expected one value", in_quotes(name), text(before->second),
                                        text(value)));
        }
    }

    static std::string text(const Json& value) {
        return escaped(value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 200));
    }

    // Whether there is an option below this node.
    bool has(const std::string& prefix) const {
        const auto first = values_.lower_bound(prefix);
        return first != values_.end() && first->first.starts_with(prefix);
    }

    // null means the same as nothing to QEMU, but for "backing".
    std::optional<Json> take(const std::string& key) {
        auto node = values_.extract(key);
        if (node.empty() || node.mapped().is_null()) return std::nullopt;
        return node.mapped();
    }

    bool take_null(const std::string& key) {
        const auto at = values_.find(key);
        return at != values_.end() && at->second.is_null() && values_.erase(key);
    }

    std::optional<std::string> take_string(const std::string& key) {
        const std::optional<Json> value = take(key);
        if (!value) return std::nullopt;
        if (!value->is_string()) throw wrong(fmt::format("gives {} as {}, expected a string", in_quotes(key), text(*value)));
        return value->get<std::string>();
    }

    // Bytes. QEMU takes numbers in strings, too, and there also suffixes and hexadecimal ones.
    std::optional<std::uint64_t> take_bytes(const std::string& key) {
        const std::optional<Json> value = take(key);
        if (!value) return std::nullopt;
        std::uint64_t bytes = 0;
        bool sound = value->is_number_unsigned();
        if (sound) {
            bytes = value->get<std::uint64_t>();
        } else if (value->is_string()) {
            const auto& digits = value->get_ref<const std::string&>();
            const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bytes);
            sound = error == std::errc() && end == digits.data() + digits.size() && std::to_string(bytes) == digits;
        }
        if (!sound || bytes % 512 != 0)
            throw wrong(fmt::format("gives {} as {}, expected bytes, a multiple of 512", in_quotes(key), text(*value)));
        return bytes;
    }

    Window window(const std::string& prefix) {
        Window w;
        w.offset = take_bytes(prefix + "offset").value_or(0);
        w.size = take_bytes(prefix + "size");
        return w;
    }

    // The file at the end of nodes with the driver raw, whose windows go to @windows.
    std::string node(std::string prefix, std::vector<Window>& windows) {
        std::string driver;
        while ((driver = take_string(prefix + "driver").value_or("file")) == "raw") {
            windows.push_back(window(prefix));
            prefix += "file.";
        }
        std::erase_if(windows, is_whole);
        if (driver != "file" && driver != "host_device")
            throw wrong("uses the driver " + in_quotes(driver) + ", expected file, host_device or raw");
        return filename(prefix);
    }

    // As it is: QEMU looks for no protocol in it.
    std::string filename(const std::string& prefix) { return take_string(prefix + "filename").value_or(""); }

    void refuse_rest() const {
        for (const auto& [key, value] : values_)
            if (!is_ignored(key)) throw wrong("has the option " + in_quotes(key) + ", which is not supported");
    }

    const std::string& image_;
    const std::string& name_;
    std::map<std::string, Json> values_;  // by the dotted key
};

}  // namespace

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Format parse_format(const std::string& image, const std::string& format) {
    if (format == "qcow2") return Format::qcow2;
    if (format == "raw" || format == "file" || format == "host_device") return Format::raw;
    throw failed("{}: declares the format {} for its backing file, expected qcow2 or raw", image, in_quotes(format));
}

NamedFile parse_file_name(const std::string& image, const std::string& name, const std::optional<std::string>& declared) {
    if (name.find('\0') != std::string::npos)
        throw failed("{}: names the file {}, expected no zero bytes", image, in_quotes(name));
    if (name.starts_with("json:")) {
        try {
            return JsonName(image, name).result(declared);
        } catch (const Error&) {
            throw;
        } catch (const std::exception& e) {
            throw failed("{}: json: name {} cannot be read: {}", image, in_quotes(name.substr(0, 200)), escaped(e.what()));
        }
    }
    NamedFile out;
    std::string protocol = protocol_of(name);
    if (!protocol.empty() && protocol != "file")
        throw failed("{}: names {}, which is not a file (protocol {}); expected a path, file: or json: name", image,
                     in_quotes(name), in_quotes(protocol));
    out.path = protocol.empty() ? name : name.substr(5);
    if (out.path.empty()) throw failed("{}: names a file with an empty name", image);
    if (declared && !declared->empty()) out.format = parse_format(image, *declared);
    return out;
}

std::string parse_data_file_name(const std::string& image, const std::string& name) {
    const std::string protocol = protocol_of(name);
    if (!protocol.empty())
        throw failed(
            "{}: names the data file {}: QEMU takes this for a path, and older versions for the protocol {}; expected a path "
            "without (\"./\" in front makes it one)",
            image, in_quotes(name), in_quotes(protocol));
    return name;
}

}  // namespace dmchain::qcow2
