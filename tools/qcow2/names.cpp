// SPDX-License-Identifier: GPL-2.0-or-later
// See names.hpp. json: names are QEMU's blockdev options; nested objects and dotted keys mean the same.
#include "qcow2/names.hpp"

#include <map>
#include <nlohmann/json.hpp>

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

class JsonName {
public:
    JsonName(const std::string& image, const std::string& name) : image_(image), name_(name) {
        if (name.size() > 65536) throw wrong("is too long, expected at most 65536 bytes");
        // A depth limit of our own: the parser's stack is not to be chosen by the image.
        Json options = Json::parse(
            name.begin() + 5, name.end(),
            [](int depth, Json::parse_event_t, Json&) {
                if (depth > 16) throw std::runtime_error("nested too deeply");
                return true;
            },
            false);
        if (!options.is_object()) throw wrong("is no JSON object");
        flatten("", options);
    }

    NamedFile result(const std::optional<std::string>& declared) {
        NamedFile out;
        std::optional<std::string> driver = take("driver");
        std::string file = "file.";
        if (driver == "file" || driver == "host_device") {  // the protocol alone: the bytes as they are
            file = "";
            out.format = Format::raw;
        } else if (driver) {
            out.format = parse_format(image_, *driver);
        } else if (declared) {
            out.format = parse_format(image_, *declared);
        }
        out.path = filename(file);
        if (out.format != Format::raw && has("data-file.filename")) out.data_file = filename("data-file.");
        refuse_rest();
        if (out.path.empty()) throw wrong("names no file, expected file.filename");
        return out;
    }

private:
    Error wrong(const std::string& what) const {
        return failed("{}: json: name {} {}", image_, in_quotes(name_.substr(0, 200)), what);
    }

    void flatten(const std::string& prefix, const Json& object) {
        for (const auto& [key, value] : object.items()) {
            if (value.is_object())
                flatten(prefix + key + ".", value);
            else if (value.is_string())
                values_[prefix + key] = value.get<std::string>();
            else
                values_[prefix + key] = value.dump(-1, ' ', true, Json::error_handler_t::replace);
        }
    }

    bool has(const std::string& key) const { return values_.contains(key); }

    std::optional<std::string> take(const std::string& key) {
        auto node = values_.extract(key);
        if (node.empty()) return std::nullopt;
        return node.mapped();
    }

    std::string filename(const std::string& prefix) {
        std::string driver = take(prefix + "driver").value_or("file");
        if (driver != "file" && driver != "host_device")
            throw wrong("uses the driver " + in_quotes(driver) + ", expected file or host_device");
        std::string name = take(prefix + "filename").value_or("");
        if (name.starts_with("file:")) name = name.substr(5);
        if (!protocol_of(name).empty() && !prefix.empty()) throw wrong("names " + in_quotes(name) + ", expected a file");
        return name;
    }

    // Options that say how to do I/O change no data; all others might.
    void refuse_rest() const {
        static const char* const harmless[] = {"cache.direct",
                                               "cache.no-flush",
                                               "aio",
                                               "locking",
                                               "node-name",
                                               "read-only",
                                               "auto-read-only",
                                               "discard",
                                               "detect-zeroes",
                                               "lazy-refcounts",
                                               "cache-size",
                                               "l2-cache-size",
                                               "refcount-cache-size",
                                               "cache-clean-interval",
                                               "l2-cache-entry-size",
                                               "overlap-check",
                                               "force-share",
                                               "pass-discard-request",
                                               "pass-discard-snapshot",
                                               "pass-discard-other",
                                               "aio-max-batch",
                                               "pr-manager",
                                               "drop-cache"};
        for (const auto& [key, value] : values_) {
            bool known = false;
            for (const char* h : harmless)
                for (const char* prefix : {"", "file.", "data-file."}) known = known || key == std::string(prefix) + h;
            if (!known) throw wrong("has the option " + in_quotes(key) + ", which is not supported");
        }
    }

    const std::string& image_;
    const std::string& name_;
    std::map<std::string, std::string> values_;
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

}  // namespace dmchain::qcow2
