// SPDX-License-Identifier: GPL-2.0-or-later
// Whose turn it is to change the layers of a chain. The lock dies with its process.
#pragma once

#include <string>

#include "device/subject.hpp"
#include "io/function_ref.hpp"

namespace dmchain::device {

class ChainTurn {
public:
    // Throws failed(), naming the process, if another one is at it.
    explicit ChainTurn(const Subject& subject);
    ~ChainTurn();
    ChainTurn(const ChainTurn&) = delete;
    ChainTurn& operator=(const ChainTurn&) = delete;

    // Calls @rename, which gives the file at @path the name of the image on top: the turn is that file's from before then on, and
    // the one that had the name is let go of. For a chain at rest. Throws failed() as the constructor does.
    void carry_over(const std::string& path, FunctionRef<void()> rename);

private:
    std::string name_;  // of the subject
    int fd_;
};

// For activation: throws failed() if somebody changes the chain at rest that has the image @top.
void require_no_turn(const std::string& top);

}  // namespace dmchain::device
