// SPDX-License-Identifier: GPL-2.0-or-later
// genchain: makes chains of qcow2 files for the tests and the benchmarks, the same for the same seed
// (and folder, which absolute backing names contain). See --help.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "chains.hpp"

int main(int argc, char** argv) {
    gen::RandomOptions o;
    o.size = 16 << 20;
    std::string out, raw, from, record;
    std::vector<std::string> features;
    unsigned deep = 0, cluster_bits = 16;
    bool sparse = false;
    gen::u64 in_order = 0, count = 4000;
    CLI::App app{"Makes a chain of qcow2 files, of which OUT/top.qcow2 is the active layer"};
    const auto bytes = CLI::AsSizeValue(false);
    app.add_option("--out", out, "Folder for the files; made if it is not there")->required();
    app.add_option("--seed", o.seed, "Which chain: the same number gives the same one");
    app.add_option("--depth", o.depth, "Layers (default: by the seed, 1 to 40)")->check(CLI::Range(1, 5000));
    auto* size = app.add_option("--size", o.size,
                                "Size of the virtual disk; of random chains the most it may be "
                                "(default: 16M; 4G with --deep, 2T with --sparse-2t)")
                     ->transform(bytes);
    app.add_option("--features", features, "Only these features (default: all; 'list' shows them)")->delimiter(',');
    app.add_option("--raw", raw, "Also write what the virtual disk must read as to this file");
    app.add_option("--cluster-bits", cluster_bits, "With --deep, --sparse-2t, --in-order: log2 of the cluster size")
        ->check(CLI::Range(9, 21));
    auto* modes = app.add_option_group("other chains than random ones")->require_option(0, 1);
    modes->add_option("--deep", deep, "So many layers, each cluster of the disk in one of them at random")
        ->check(CLI::Range(1, 5000));
    modes->add_flag("--sparse-2t", sparse, "A huge disk with data scattered over it");
    modes
        ->add_option("--in-order", in_order,
                     "One full image of this size, written from start to end; its data "
                     "clusters are holes in the file")
        ->transform(bytes);
    auto* recording = modes->add_option("--record", record,
                                        "Runs this shell command --depth times, with the number of the step, "
                                        "to change the raw file --from: a layer for each step");
    auto* source = app.add_option("--from", from, "With --deep: take the disk's content from this raw file");
    app.add_option("--count", count, "With --sparse-2t: clusters with data");
    recording->needs(source);
    CLI11_PARSE(app, argc, argv);
    try {
        o.features = {features.begin(), features.end()};
        if (features.empty()) o.features = gen::all_features();
        for (const auto& f : o.features) {
            if (gen::all_features().count(f)) continue;
            if (f != "list") std::cerr << "genchain: no such feature: " << f << "; there are:\n";
            for (const auto& name : gen::all_features()) std::cout << name << "\n";
            return f == "list" ? 0 : 2;
        }
        if (o.size < 512 || o.size % 512) throw std::runtime_error("--size must be a multiple of 512, at least 512");
        std::filesystem::create_directories(out);
        out = std::filesystem::canonical(out).string();
        const bool sized = size->count() > 0;
        if (deep)
            gen::deep_chain(out, raw, o.seed, deep, sized || !from.empty() ? o.size : gen::u64{4} << 30, cluster_bits, from);
        else if (!record.empty())
            gen::recorded_chain(out, from, o.depth ? o.depth : 40, record, cluster_bits);
        else if (sparse)
            gen::sparse_chain(out, raw, o.seed, o.depth ? o.depth : 5, sized ? o.size : gen::u64{2} << 40, cluster_bits, count);
        else if (in_order)
            gen::in_order_image(out, in_order, cluster_bits);
        else
            gen::random_chain(out, raw, o);
    } catch (const std::exception& e) {
        std::cerr << "genchain: " << e.what() << "\n";
        return 1;
    }
}
