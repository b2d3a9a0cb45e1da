// Messages of protobuf, field by field, as far as reading an ONNX file takes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace flagdit::bundle {

struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] inline void damaged() { throw Malformed("no ONNX file, or a damaged one"); }

struct Field {
  uint64_t number;
  bool is_number;
  uint64_t value;
  std::string_view bytes;
};

class Message {
 public:
  explicit Message(std::string_view data) : data_(data) {}

  bool next(Field& field) {
    if (at_ >= data_.size()) return false;
    const uint64_t key = varint(), wire = key & 7;
    field = {key >> 3, wire == 0, 0, {}};
    if (wire == 0) {
      field.value = varint();
      return true;
    }
    uint64_t size = wire == 1 ? 8 : wire == 5 ? 4 : 0;
    if (wire == 2) size = varint();
    if ((size == 0 && wire != 2) || field.number == 0 || key >> 32 != 0 ||
        size > data_.size() - at_)
      damaged();
    field.bytes = data_.substr(at_, size);
    at_ += size;
    return true;
  }

  bool more() const { return at_ < data_.size(); }

  // A number of 64 bits without a sign.
  uint64_t varint() {
    uint64_t value = 0;
    for (int place = 0; place < 10 && at_ < data_.size(); ++place) {
      const auto byte = static_cast<unsigned char>(data_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << (7 * place);
      if (byte < 0x80) return value;
    }
    damaged();
  }

 private:
  std::string_view data_;
  size_t at_ = 0;
};

}  // namespace flagdit::bundle
