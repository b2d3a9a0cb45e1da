// What the files of a command are called: one as it was asked for, several by numbers that no file
// has yet.
#pragma once

#include <cstdint>
#include <string>

namespace flagdit {

class Names {
 public:
  // With %d or %04d in the name, a folder in its place, or several pictures, all are numbered, from
  // 1 or from above the highest number that is taken. Throws Error(output) for a name that is no
  // PNG's, or a folder that is not there.
  Names(const std::string& path, bool several);

  // Of the next picture, which is there to be written now. A number is kept from others that number
  // their pictures alike: an empty file has it. Throws Error(output) if the file system refuses.
  std::string take();
  // Gives a name back that was taken, if nothing was written under it.
  void give_back(const std::string& path) const;
  // Of the file beside it that ends in this, such as .json.
  static std::string beside(const std::string& path, const std::string& ending);

 private:
  std::string filled(int64_t number) const;

  std::string before_, after_;
  int width_ = 0;
  bool numbered_ = false;
  int64_t next_ = 1;
};

// Whether two paths are one file, now or once they are written.
bool same_file(const std::string& one, const std::string& other);
// Throws Error(output) for a file that cannot be written, since its folder is not there, or it is a
// folder itself.
void check_file(const std::string& path);

}  // namespace flagdit
