#include "library.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "flagdit/error.h"

namespace flagdit {
namespace {

// libonnxruntime.so and the like, of a folder, or of the folder `capi` of Python's package.
std::vector<std::string> inside(const std::string& folder) {
  std::vector<std::string> found;
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    const bool own = name.rfind("libonnxruntime.so", 0) == 0 ||
                     (name.rfind("libonnxruntime", 0) == 0 && name.size() > 6 &&
                      name.compare(name.size() - 6, 6, ".dylib") == 0 &&
                      name.find("providers") == std::string::npos);
    if (own) found.push_back(folder + "/" + name);
  }
  ::closedir(directory);
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> candidates(const std::string& said) {
  struct stat about{};
#ifdef __APPLE__
  if (said.empty()) return {"libonnxruntime.dylib"};
#else
  if (said.empty()) return {"libonnxruntime.so.1", "libonnxruntime.so"};
#endif
  if (::stat(said.c_str(), &about) != 0 || !S_ISDIR(about.st_mode)) return {said};
  std::vector<std::string> found = inside(said);
  return found.empty() ? inside(said + "/capi") : found;
}

}  // namespace

std::unique_ptr<OnnxRuntime> find_onnxruntime(const std::string& said) {
  const char* variable = std::getenv("FLAGDIT_ONNXRUNTIME");
  const std::string place = said.empty() && variable != nullptr ? variable : said;
  std::string reason = place.empty() ? "" : place + " holds no libonnxruntime";
  for (const std::string& path : candidates(place)) {
    try {
      return std::make_unique<OnnxRuntime>(path);
    } catch (const Error& error) {
      reason = error.what();
      reason = reason.substr(0, reason.find("; "));  // what to do is said below
    }
  }
  throw Error(Fault::backend,
              reason +
                  "; install it, as with: pip install onnxruntime, and say where it is with "
                  "--onnxruntime or FLAGDIT_ONNXRUNTIME: the folder onnxruntime/capi of the "
                  "package, or the path of "
                  "libonnxruntime.so");
}

}  // namespace flagdit
