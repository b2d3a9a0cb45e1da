// Tables of structs that kernels read, in the GPU's memory.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace flagdit {

// A copy, made when it returns: once a run. what: of whom it is, for messages.
std::shared_ptr<const void> upload_cuda(const void* table, size_t bytes, const std::string& what);

template <typename T>
std::shared_ptr<const void> upload_cuda(const std::vector<T>& table, const std::string& what) {
  return upload_cuda(table.data(), table.size() * sizeof(T), what);
}

}  // namespace flagdit
