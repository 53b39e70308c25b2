// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: ELF cores of machines, as QEMU writes them, or wrong ones.
#pragma once

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace dmchain::test {

class CoreMaker {
public:
    CoreMaker& note(const std::string& text) { return add(PT_NOTE, 0, text); }
    // @pages: of 4096 bytes @fill, at the physical address @address.
    CoreMaker& memory(std::uint64_t address, std::size_t pages, char fill) {
        return add(PT_LOAD, address, std::string(pages * 4096, fill));
    }

    std::string bytes() const {
        Elf64_Ehdr h{};
        std::memcpy(h.e_ident, ELFMAG, SELFMAG);
        h.e_ident[EI_CLASS] = ELFCLASS64;
        h.e_ident[EI_DATA] = ELFDATA2LSB;
        h.e_ident[EI_VERSION] = EV_CURRENT;
        h.e_type = ET_CORE;
        h.e_machine = EM_X86_64;
        h.e_version = EV_CURRENT;
        h.e_phoff = sizeof h;
        h.e_ehsize = sizeof h;
        h.e_phentsize = sizeof(Elf64_Phdr);
        h.e_phnum = static_cast<Elf64_Half>(segments_.size());
        std::string out(reinterpret_cast<const char*>(&h), sizeof h);
        const std::uint64_t data = sizeof h + segments_.size() * sizeof(Elf64_Phdr);
        for (Elf64_Phdr s : segments_) {
            s.p_offset += data;
            out.append(reinterpret_cast<const char*>(&s), sizeof s);
        }
        return out + data_;
    }

private:
    CoreMaker& add(Elf64_Word type, std::uint64_t address, const std::string& content) {
        Elf64_Phdr s{};
        s.p_type = type;
        s.p_paddr = address;
        s.p_filesz = s.p_memsz = content.size();
        s.p_offset = data_.size();
        segments_.push_back(s);
        data_ += content;
        return *this;
    }

    std::vector<Elf64_Phdr> segments_;
    std::string data_;
};

}  // namespace dmchain::test
