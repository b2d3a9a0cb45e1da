// Files that somebody else may have written: opened
// once, regular, and bounded before they are read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "flagdit/manifest.h"

namespace flagdit::bundle {

// Bytes of this process, in pages of their own: the system has them back when they are dropped.
class Held {
 public:
  // Throws Error(backend) if there is no memory. what: for the message.
  Held(const std::string& what, size_t size);
  ~Held();
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char* data_;
  size_t size_;
};
using Content = std::shared_ptr<const Held>;

bool is_directory(const std::string& path);
bool is_file(const std::string& path);
std::string absolute(const std::string& path);

// All bytes of a file. Throws Error(bundle) if it cannot be read, is no regular file (a pipe would
// wait, a device never end), or is larger than `limit`.
std::string read(const std::string& path, int64_t limit);

// Whether a digest that a file was found to have before counts (flagdit/file_record.h), or is only
// written anew.
enum class Records { used, renewed };

// The bytes of a file, held: whatever becomes of the file, they
// stay what was verified. Throws Error(bundle) if they are not what
// is expected, or more than `limit`; Error(backend) without memory.
Content verified(const std::string& path, const FileSpec& expected, int64_t limit = INT64_MAX,
                 Records records = Records::used);

struct Part {
  int64_t offset, length;  // bytes
};

// Those parts of a file that is known to be what is expected, at their places; the rest is zeros that
// take no memory. Null if it is not known: without all of it there is no telling. parts: within the
// file; they may overlap. Throws as `verified` does.
Content known_parts(const std::string& path, const FileSpec& expected, std::vector<Part> parts);

// Throws Error(bundle) unless there is a regular file
// of the size that is expected. Reads nothing of it.
void check_size(const std::string& path, const FileSpec& expected);

// Throws Error(bundle) unless the file is what is expected, to the last byte. Takes a megabyte. read:
// told of every block. Returns whether it was read, and not known.
bool check(const std::string& path, const FileSpec& expected, Records records = Records::used,
           const std::function<void(int64_t)>& read = {});

}  // namespace flagdit::bundle
