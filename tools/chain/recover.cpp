// SPDX-License-Identifier: GPL-2.0-or-later
// See recover.hpp.
#include "chain/recover.hpp"

#include <filesystem>

#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/policy.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

// Where the layer that took over is: at the path that was written down, or, if the folder has moved, beside @layer.
std::string successor_of(const std::string& layer, const qcow2::Log::Successor& s, const qcow2::Policy& policy) {
    const fs::path beside = fs::path(layer).parent_path() / fs::path(s.path).filename();
    for (const fs::path& candidate : {fs::path(s.path), beside}) {
        std::error_code none;
        if (!fs::exists(candidate, none)) continue;
        const Place place(candidate.string());
        if (!policy.allows(place))
            throw failed("{}: was frozen when {} took over, which {}", escaped(layer), in_quotes(s.path), policy.refusal(place));
        return candidate.string();
    }
    throw failed(
        "{}: was frozen when {} took over, which is not there: bring it back; if it is lost, 'dmchain seal' makes a "
        "plain qcow2 image of the state before",
        escaped(layer), in_quotes(s.path));
}

}  // namespace

Top find_top(const std::string& path, const qcow2::ChainOptions& options) {
    qcow2::Policy policy(options.allow);
    policy.own(path);
    Top top{path};
    for (;;) {
        const File file(top.path);
        const qcow2::Header header = qcow2::read_header(file, true);
        if (!header.in_use() && top.passed.empty())
            throw failed("{}: is a plain qcow2 image, no layer that is in use: 'dmchain create' makes a device of it",
                         escaped(top.path));
        if (!header.in_use())
            throw failed(
                "{}: took over from {} and is sealed: 'dmchain seal' the layers below, then make a device of it with "
                "'dmchain create'",
                escaped(top.path), escaped(top.passed.back()));
        const qcow2::Log log(file, header.cluster_bits);
        if (!log.successor()) return top;
        const std::string next = successor_of(file.path(), *log.successor(), policy);
        const File after(next);
        const qcow2::Header its = qcow2::read_header(after, true);
        if (its.in_use() && qcow2::Log(after, its.cluster_bits).id() != log.successor()->id)
            throw failed("{}: is another layer than the one that took over from {}: bring that back", escaped(next),
                         escaped(top.path));
        if (top.passed.size() == qcow2::Chain::max_files)
            throw damaged("{}: layers that took over from each other are a loop", escaped(path));
        top.passed.push_back(top.path);
        top.path = next;
    }
}

void require_closed_logs(const qcow2::Chain& chain) {
    for (std::size_t i = 0; i + 1 < chain.layers().size(); i++) {
        const qcow2::Image* image = chain.layers()[i]->image();
        if (image && image->log() && !image->log()->successor())
            throw failed(
                "{}: lies below the top of the chain, but no other layer took over from it: it may still be active; "
                "'dmchain recover' it instead, or 'dmchain seal' it first",
                escaped(image->file().path()));
    }
}

}  // namespace dmchain::chain
