// SPDX-License-Identifier: GPL-2.0-or-later
// See rados_library.hpp.
#include "replica/rados_library.hpp"

#include <dlfcn.h>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::replica {

namespace {

RadosLibrary load() {
    void* const library = ::dlopen("librados.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) throw failed("Ceph's library cannot be loaded ({}): install the package librados2", escaped(::dlerror()));
    RadosLibrary out;
    const auto find = [&](auto& function, const char* name) {
        void* const symbol = ::dlsym(library, name);
        if (!symbol) throw failed("Ceph's library has no {}: it is too old", name);
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    };
#define DMCHAIN_RADOS(function) find(out.function, "rados_" #function);
#include "replica/rados_functions.inc"
#undef DMCHAIN_RADOS
    return out;
}

}  // namespace

const RadosLibrary& RadosLibrary::get() {
    static const RadosLibrary library = load();
    return library;
}

}  // namespace dmchain::replica
