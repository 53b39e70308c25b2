// SPDX-License-Identifier: GPL-2.0-or-later
// QEMU's image locks. What a process does with an image, and what it lets others do, QEMU's drivers for files and host
// devices (block/file-posix.c) say by read locks of single bytes of the image, held by the open file. dmchain says the
// same of itself and heeds what others say: so two programs, of either kind, do not write to one image, nor does one read
// what the other writes. Used by whatever opens an image: qcow2::Chain, Writable.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/file.hpp"

namespace dmchain {

enum class ImageUse {
    read,   // nobody may write to it or resize it
    write,  // nobody may write to it either, or read it without saying that others may write
    share,  // read, whatever others do with it
};

// Another process that stands in the way.
struct ImageConflict {
    std::string found;   // "is open for writing in qemu-io (process 4711)"
    std::string advice;  // "stop it first"
};

// Takes the locks for @use of the image open as @fd, whose open file holds them until its last descriptor is closed. If
// that is refused by what another process does, no locks are left, and the answer says which one; but for
// ImageUse::share, which is never refused and only says what `read` would have met. Where the file system has no
// such locks there are none, and no conflicts, as with QEMU's "locking=auto". A job of another dmchain that is in the way is
// waited for, some seconds. Two open files of one process are in each other's way as those of two processes are.
std::optional<ImageConflict> lock_image(int fd, ImageUse use);
// Whether another process has the image open for writing. Takes no lock, and does not look for who it is.
bool is_written(int fd);
// As lock_image(), but a conflict is thrown, as failed(); @path is what the message calls the image.
void require_image_lock(int fd, const std::string& path, ImageUse use);

// Throws failed() if another program has one of the images open in any way, by its locks, naming both. What 'dmchain hold' has
// open for a device does not count.
void require_no_user(const std::vector<const File*>& images);

// The name by which 'dmchain hold' is known among processes. It follows its device within a second or so, and those that
// seal its layers wait for that.
inline constexpr const char* keeper_process = "dmchain-hold";

}  // namespace dmchain
