// What the files of a command are called: one as it was asked for, several by numbers that no file
// has yet.
#pragma once

#include <cstdint>
#include <string>

namespace flagdit {

// A path with a place for a number in its name, or without.
struct Template {
  std::string before, after;
  int width = 0;  // digits of the number, at least
  bool numbered = false;

  std::string filled(int64_t number) const;
  // The highest number among the names in its folder that are like it, 0 if there is none.
  int64_t highest() const;
};

// What is written of one picture; without a report its name is empty.
struct Files {
  std::string picture, report;
};

class Names {
 public:
  // With %d or %04d in the name, a folder in its place, or several pictures, all are numbered, from
  // 1 or from above the highest number that is taken; a report has the number of its picture.
  // Throws Error(output) for a name that is no PNG's, a report's that is no JSON's, names that are
  // one file, and a folder that is not there.
  Names(const std::string& output, const std::string& report, bool several);

  // Of the next picture, which is there to be written now. A number is kept from others that number
  // their pictures alike: an empty file has it. Throws Error(output) if the file system refuses.
  Files take();
  // Gives a name back that was taken, if nothing was written under it.
  void give_back(const Files& files) const;

 private:
  Files next() const;

  Template picture_, report_;
  int64_t next_ = 1;
};

}  // namespace flagdit
