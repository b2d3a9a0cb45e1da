#include "flagdit/file_record.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>

#include "records_folder.h"

#ifdef __linux__
#include <sys/vfs.h>
#endif

namespace flagdit {
namespace {

int64_t system_time() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

std::string folder_in(const char* variable, const std::string& below) {
  const char* path = std::getenv(variable);
  return path == nullptr || path[0] != '/' ? "" : path + below;
}

#ifdef __linux__
// File systems of a disk of this machine: their inodes stay, and their times are of its own clock.
bool on_a_disk(int file) {
  struct statfs about{};
  if (::fstatfs(file, &about) != 0) return false;
  switch (static_cast<uint32_t>(about.f_type)) {
    case 0xEF53:      // ext2, ext3, ext4
    case 0x58465342:  // xfs
    case 0x9123683E:  // btrfs
    case 0x2FC12FC1:  // zfs
    case 0xCA451A4E:  // bcachefs
    case 0xF2F52010:  // f2fs
    case 0x794C7630:  // overlayfs, of containers
    case 0x73717368:  // squashfs
    case 0xE0F5E1E2:  // erofs
      return true;
    default:
      return false;
  }
}

int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }
#endif

}  // namespace

std::string records_folder() {
  if (std::getenv("FLAGDIT_NO_RECORDS") != nullptr) return "";
  const std::string cache = folder_in("XDG_CACHE_HOME", "");
  const std::string base = cache.empty() ? folder_in("HOME", "/.cache") : cache;
  return base.empty() ? "" : base + "/flagdit/digests";
}

#ifdef __linux__
std::optional<FileRecord::State> FileRecord::state_of(int file) {
  struct stat about{};
  if (::fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) return {};
  return State{about.st_dev, about.st_ino, about.st_size, nanoseconds(about.st_mtim),
               nanoseconds(about.st_ctim)};
}
#else
std::optional<FileRecord::State> FileRecord::state_of(int) { return {}; }
bool on_a_disk(int) { return false; }
#endif

FileRecord::FileRecord(int file, std::optional<int64_t> now)
    : file_(file), now_(now ? *now : system_time()), state_(state_of(file)) {
  if (state_ && (state_->bytes < kSmallestRecord || !on_a_disk(file))) state_.reset();
}

std::string FileRecord::name() const {
  return std::to_string(state_->device) + "-" + std::to_string(state_->inode);
}

std::string FileRecord::text(const std::string& sha256) const {
  std::string text = "flagdit 1 " + name();
  for (const int64_t number : {state_->bytes, state_->modified, state_->changed})
    text += " " + std::to_string(number);
  return text + " " + sha256 + "\n";
}

bool FileRecord::unchanged() const {
  const auto now = state_of(file_);
  return state_ && now && now->device == state_->device && now->inode == state_->inode &&
         now->bytes == state_->bytes && now->modified == state_->modified &&
         now->changed == state_->changed;
}

bool FileRecord::holds(const std::string& sha256) const {
  if (!state_) return false;
  const std::string folder = records_folder();
  return !folder.empty() && bundle::RecordsFolder(folder).reads(name(), text(sha256)) &&
         unchanged();
}

void FileRecord::keep(const std::string& sha256) const {
  if (!state_ || !unchanged()) return;
  if (now_ - state_->modified < kSettled || now_ - state_->changed < kSettled) return;
  const std::string folder = records_folder();
  if (folder.empty() || !bundle::make_records_folder(folder)) return;
  bundle::RecordsFolder(folder).write(name(), text(sha256), kMostRecords);
}

}  // namespace flagdit
