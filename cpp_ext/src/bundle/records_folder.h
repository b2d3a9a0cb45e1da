// A folder of small files that this user alone has written, each whole or not there.
#pragma once

#include <string>

namespace flagdit::bundle {

// Makes the folder and the two above it, where they are missing: only in a folder of this user, so
// that root leaves none behind in somebody's home. Whether it is there.
bool make_records_folder(const std::string& path);

class RecordsFolder {
 public:
  // Of a folder that is this user's, and that nobody else can write to; nothing is in any other.
  explicit RecordsFolder(const std::string& path);
  ~RecordsFolder();
  RecordsFolder(const RecordsFolder&) = delete;
  RecordsFolder& operator=(const RecordsFolder&) = delete;

  // Whether a file is there, this user's alone, and holds this text. It counts as used now.
  bool reads(const std::string& name, const std::string& text) const;
  // Puts it there, if that can be done, under its name only when it is whole: two processes at once
  // leave the one or the other. Where there are more than `most` files then, half of them go, those
  // that were used least lately.
  void write(const std::string& name, const std::string& text, int most) const;

 private:
  void drop(int most) const;

  int folder_;
};

}  // namespace flagdit::bundle
