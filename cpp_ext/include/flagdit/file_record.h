// Digests that were checked before: a large file that is as it was then need not be hashed again.
//
// One small file of the user's cache folder for each file, which says what it was like and what its
// digest was. What is said of a file is believed as long as it has the same device and inode, size,
// and times of its last change, to the nanosecond. Its second time, of the inode, nobody sets who is
// not root and turns no clock back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace flagdit {

constexpr int64_t kSmallestRecord = int64_t{1}
                                    << 20;  // bytes of a file; smaller are hashed at once

// A file that last changed less than so many nanoseconds before it was read is not remembered: it
// might change again within one tick of its clock, or in a page that is still to be written back,
// for which its time does not move (30 seconds on Linux).
constexpr int64_t kSettled = 60'000'000'000;

constexpr int kMostRecords = 512;  // beyond these, those that were used least lately go

// Where they are: in $XDG_CACHE_HOME/flagdit/digests, or ~/.cache/flagdit/digests. Empty if neither
// is known, or if $FLAGDIT_NO_RECORDS is set: nothing is remembered then.
std::string records_folder();

// What is known of an open file. Nothing of a file on a disk of the network, in memory, or on a file
// system that nobody here knows, where inodes and times may mean less. Throws nothing: where no
// record can be read or written, or somebody else could have written it, nothing is known.
class FileRecord {
 public:
  // The file is read after this, and stays open as long as this is used. now: nanoseconds since
  // 1970; the system's if it is not said.
  explicit FileRecord(int file, std::optional<int64_t> now = {});

  // Whether the file was found to have this digest before, and is as it was then.
  bool holds(const std::string& sha256) const;
  // Whether it is still as it was when this was made.
  bool unchanged() const;
  // That it has this digest: all of it was read since this was made.
  void keep(const std::string& sha256) const;

 private:
  struct State {
    uint64_t device = 0, inode = 0;
    int64_t bytes = 0, modified = 0, changed = 0;  // times in nanoseconds
  };
  static std::optional<State> state_of(int file);
  std::string name() const;
  std::string text(const std::string& sha256) const;

  int file_;
  int64_t now_;
  std::optional<State> state_;  // of a file that can be remembered
};

}  // namespace flagdit
