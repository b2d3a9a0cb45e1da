#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "../printable.h"
#include "flagdit/digest.h"
#include "flagdit/error.h"
#include "flagdit/file_record.h"

namespace flagdit::bundle {
namespace {

constexpr size_t kBlock = size_t{1} << 20;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(Fault::bundle, printable(path) + ": " + what);
}

class Opened {
 public:
  explicit Opened(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    struct stat about{};
    if (file_ < 0) unread();
    const bool known = ::fstat(file_, &about) == 0;
    if (!known || !S_ISREG(about.st_mode)) {
      ::close(file_);
      refuse(path, "is no regular file; only such are read");
    }
    size_ = about.st_size;
  }
  ~Opened() { ::close(file_); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  int64_t size() const { return size_; }
  FileRecord record() const { return FileRecord(file_); }

  void seek(int64_t offset) {
    if (::lseek(file_, offset, SEEK_SET) != offset) unread();
  }

  // As many bytes as there are, at most so many.
  size_t read(char* to, size_t size) {
    size_t done = 0;
    while (done < size) {
      const ssize_t count = ::read(file_, to + done, std::min(size - done, size_t{1} << 30));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) unread();
      if (count == 0) break;
      done += static_cast<size_t>(count);
    }
    return done;
  }

 private:
  [[noreturn]] void unread() const {
    refuse(path_, std::string("cannot be read (") + std::strerror(errno) + ")");
  }

  std::string path_;
  int file_;
  int64_t size_ = 0;
};

void check_size(const std::string& path, const Opened& file, const FileSpec& expected) {
  if (file.size() == expected.bytes) return;
  refuse(path, std::to_string(file.size()) + " bytes instead of " + std::to_string(expected.bytes) +
                   "; copy it again, or rebuild");
}

void check_digest(const std::string& path, const std::string& found, const FileSpec& expected) {
  if (found == expected.sha256) return;
  refuse(path, "damaged, its SHA-256 is not the manifest's; copy it again, or rebuild");
}

}  // namespace

Held::Held(const std::string& what, size_t size) : data_(nullptr), size_(size) {
  void* pages = ::mmap(nullptr, std::max<size_t>(size, 1), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    throw Error(Fault::backend, printable(what) + ": there is no memory for its " +
                                    std::to_string(size) + " bytes (" + std::strerror(errno) + ")");
  }
  data_ = static_cast<char*>(pages);
}

Held::~Held() { ::munmap(data_, std::max<size_t>(size_, 1)); }

bool is_directory(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

bool is_file(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISREG(about.st_mode);
}

std::string absolute(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  std::string found = real == nullptr ? path : real;
  std::free(real);
  return found;
}

std::string read(const std::string& path, int64_t limit) {
  Opened file(path);
  std::string content;
  if (file.size() <= limit) {
    content.resize(static_cast<size_t>(limit < INT64_MAX ? std::min(limit + 1, file.size() + 1)
                                                         : file.size()));
    content.resize(file.read(content.data(), content.size()));
  }
  if (file.size() > limit || static_cast<int64_t>(content.size()) > limit) {
    refuse(path, "larger than " + std::to_string(limit) + " bytes, so this is no " +
                     path.substr(path.find_last_of('/') + 1));
  }
  return content;
}

Content verified(const std::string& path, const FileSpec& expected, int64_t limit,
                 Records records) {
  if (expected.bytes > limit) {
    refuse(path, std::to_string(expected.bytes) + " bytes; allowed are " + std::to_string(limit));
  }
  Opened file(path);
  check_size(path, file, expected);
  const FileRecord record = file.record();
  const bool known = records == Records::used && record.holds(expected.sha256);
  auto held = std::make_shared<Held>(path, static_cast<size_t>(expected.bytes));
  Sha256 sha;  // of each block while it is in the cache
  for (size_t at = 0; at < held->size();) {
    const size_t count = file.read(held->data() + at, std::min(kBlock, held->size() - at));
    if (count == 0) refuse(path, "changed while it was read; try again");
    if (!known) sha.update(held->data() + at, count);
    at += count;
  }
  char more = 0;
  if (file.read(&more, 1) != 0) refuse(path, "changed while it was read; try again");
  if (known && record.unchanged()) return held;
  if (known) sha.update(held->data(), held->size());
  check_digest(path, sha.hex(), expected);
  record.keep(expected.sha256);
  return held;
}

Content known_parts(const std::string& path, const FileSpec& expected, std::vector<Part> parts) {
  Opened file(path);
  check_size(path, file, expected);
  const FileRecord record = file.record();
  if (!record.holds(expected.sha256)) return nullptr;
  auto held = std::make_shared<Held>(path, static_cast<size_t>(expected.bytes));
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.offset < b.offset; });
  int64_t at = 0;  // what is before it was read
  for (const Part& part : parts) {
    const int64_t first = std::max(at, part.offset), end = part.offset + part.length;
    if (first >= end) continue;
    const auto size = static_cast<size_t>(end - first);
    file.seek(first);
    if (file.read(held->data() + first, size) != size)
      refuse(path, "changed while it was read; try again");
    at = end;
  }
  return record.unchanged() ? held : nullptr;
}

void check_size(const std::string& path, const FileSpec& expected) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0 && errno == ENOENT) {
    refuse(path, "missing from the bundle; copy it again, or rebuild with flagdit build");
  }
  check_size(path, Opened(path), expected);
}

bool check(const std::string& path, const FileSpec& expected, Records records,
           const std::function<void(int64_t)>& read) {
  Opened file(path);
  check_size(path, file, expected);
  const FileRecord record = file.record();
  if (records == Records::used && record.holds(expected.sha256)) return false;
  std::string block(kBlock, '\0');
  Sha256 sha;
  int64_t size = 0;
  for (size_t count = 1; count != 0 && size <= expected.bytes;
       size += static_cast<int64_t>(count)) {
    count = file.read(block.data(), block.size());
    sha.update(block.data(), count);
    if (read) read(static_cast<int64_t>(count));
  }
  check_digest(path, size == expected.bytes ? sha.hex() : "", expected);
  record.keep(expected.sha256);
  return true;
}

}  // namespace flagdit::bundle
