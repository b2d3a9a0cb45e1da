#include "view.h"

namespace flagdit::onnxruntime {
namespace {

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i > 0 ? ", " : "") + (shape[i] == kAny ? "any" : std::to_string(shape[i]));
  return out + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

void Viewed::refuse_shape(const std::string& allowed) const {
  refuse(name, "shape " + text(shape), allowed);
}

void Viewed::need_rank(size_t rank, const char* form) const {
  if (shape.size() != rank) refuse_shape(form);
}

void Viewed::need_shape(const std::vector<int64_t>& sizes, const char* form) const {
  bool fits = shape.size() == sizes.size();
  for (size_t i = 0; fits && i < sizes.size(); ++i) fits = sizes[i] == kAny || sizes[i] == shape[i];
  if (!fits) refuse_shape(form + (", here " + text(sizes)));
}

void Viewed::need_count(int64_t wanted, const char* form) const {
  if (count() != wanted) refuse_shape(form + (", here " + std::to_string(wanted) + " values"));
}

int64_t Viewed::some(size_t axis) const {
  if (shape[axis] < 1) refuse_shape("1 or more on axis " + std::to_string(axis));
  return shape[axis];
}

}  // namespace flagdit::onnxruntime
