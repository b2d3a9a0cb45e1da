#include "onnx_file.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <stdexcept>
#include <utility>

#include "../printable.h"
#include "../text/unicode.h"
#include "flagdit/error.h"
#include "flagdit/readers.h"
#include "protobuf.h"

namespace flagdit::bundle {
namespace {

constexpr int kDepth = 64;  // messages in messages: graphs of flagdit.export have 5
constexpr size_t kMaxRank = 16;

enum Kind { model, training, graph, function, node, attribute, sparse, tensor };

// Of each message, the fields that tensors may be in, and the messages that these hold.
int part_of(Kind kind, uint64_t field) {
  switch (kind) {
    case model:
      return field == 7 ? graph : field == 20 ? training : field == 25 ? function : -1;
    case training:
      return field == 1 || field == 2 ? graph : -1;
    case graph:
      return field == 1 ? node : field == 5 ? tensor : field == 15 ? sparse : -1;
    case function:
      return field == 7 ? node : field == 11 ? attribute : -1;
    case node:
      return field == 5 ? attribute : -1;
    case attribute:
      if (field == 5 || field == 10) return tensor;
      if (field == 6 || field == 11) return graph;
      return field == 22 || field == 23 ? sparse : -1;
    case sparse:
      return field == 1 || field == 2 ? tensor : -1;
    default:
      return -1;
  }
}

// Bytes of an element, by the number of its type; 0: none of a file.
int64_t bytes_of(uint64_t type) {
  static constexpr int64_t bytes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0, 0, 2};
  return type < std::size(bytes) ? bytes[type] : 0;
}

std::string text_of(std::string_view bytes) {
  try {
    text::decode(bytes);
  } catch (const std::invalid_argument&) {
    throw Malformed("a name is not UTF-8");
  }
  return std::string(bytes);
}

struct Tensor {
  std::vector<uint64_t> dims;
  uint64_t type = 0;
  std::string name;
  bool away = false;
  std::map<std::string, std::string> entries;
};

void read_entry(std::string_view data, Tensor& tensor) {
  std::string found[2];
  Field field;
  for (Message message(data); message.next(field);) {
    if ((field.number == 1 || field.number == 2) && !field.is_number)
      found[field.number - 1] = text_of(field.bytes);
  }
  if (!tensor.entries.emplace(found[0], found[1]).second) {
    throw Malformed("the tensor " + in_quotes(tensor.name) + " has two " + in_quotes(found[0]));
  }
}

Tensor read_tensor(std::string_view data) {
  Tensor tensor;
  Field field;
  for (Message message(data); message.next(field);) {
    if (field.number == 1 && field.is_number) {
      tensor.dims.push_back(field.value);
    } else if (field.number == 1) {
      for (Message packed(field.bytes); packed.more();) tensor.dims.push_back(packed.varint());
    } else if (field.number == 2 && field.is_number) {
      tensor.type = field.value;
    } else if (field.number == 8 && !field.is_number) {
      tensor.name = text_of(field.bytes);
    } else if (field.number == 13 && !field.is_number) {
      read_entry(field.bytes, tensor);
    } else if (field.number == 14 && field.is_number) {
      tensor.away = tensor.away || (field.value & 0xFFFFFFFF) != 0;  // an enum has 32 bits
    }
  }
  return tensor;
}

int64_t number_of(const Tensor& tensor, const std::string& text) {
  const bool digits =
      !text.empty() && text.size() < 19 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits) {
    throw Malformed("the tensor " + in_quotes(tensor.name) + " is at " + in_quotes(text) +
                    ", which is no place in a file");
  }
  return std::stoll(text);
}

bool has_bytes(const Tensor& tensor, int64_t length) {
  int64_t bytes = bytes_of(tensor.type);
  const bool empty = std::find(tensor.dims.begin(), tensor.dims.end(), 0) != tensor.dims.end();
  if (bytes == 0 || empty) return bytes != 0 && length == 0;
  for (const uint64_t size : tensor.dims) {
    if (size > static_cast<uint64_t>(INT64_MAX / bytes)) return false;
    bytes *= static_cast<int64_t>(size);
  }
  return bytes == length;
}

External described(const Tensor& tensor) {
  const auto has = [&](const char* name) { return tensor.entries.count(name); };
  const size_t known = has("location") + has("offset") + has("length");
  if (known != 3 || tensor.entries.size() != known + has("checksum")) {
    throw Malformed("the tensor " + in_quotes(tensor.name) +
                    " lacks location, offset or length, or has more than these");
  }
  const int64_t offset = number_of(tensor, tensor.entries.at("offset"));
  const int64_t length = number_of(tensor, tensor.entries.at("length"));
  if (tensor.dims.size() > kMaxRank) {
    throw Malformed("the tensor " + in_quotes(tensor.name) + " has " +
                    std::to_string(tensor.dims.size()) + " axes; allowed are " +
                    std::to_string(kMaxRank));
  }
  if (!has_bytes(tensor, length)) {
    throw Malformed("the tensor " + in_quotes(tensor.name) + " has not the " +
                    std::to_string(length) + " bytes that it is said to have");
  }
  return {tensor.name, tensor.entries.at("location"), offset, length};
}

void walk(std::string_view data, Kind kind, bool weights, int depth, std::vector<External>& found) {
  if (depth > kDepth)
    throw Malformed("messages are nested more than " + std::to_string(kDepth) + " deep");
  Field field;
  for (Message message(data); message.next(field);) {
    const int part = part_of(kind, field.number);
    if (part < 0 || field.is_number) continue;
    if (part != tensor) {
      walk(field.bytes, static_cast<Kind>(part), kind == model && part == graph, depth + 1, found);
      continue;
    }
    const Tensor read = read_tensor(field.bytes);
    if (!read.away && read.entries.empty()) continue;
    found.push_back(described(read));
    if (!weights) {
      throw Malformed("a tensor of a node, " + in_quotes(read.name) +
                      ", has its values in another file");
    }
  }
}

bool is_of(std::string_view node, std::string_view domain) {
  std::string_view found;
  Field field;
  for (Message message(node); message.next(field);)
    if (field.number == 7 && !field.is_number) found = field.bytes;
  return found == domain;
}

struct Readers {
  std::string_view domain;
  bool functions;
  std::map<std::string, size_t> counted;  // a node of another domain is two
};

void count(std::string_view data, Kind kind, int depth, Readers& found) {
  if (depth > kDepth)
    throw Malformed("messages are nested more than " + std::to_string(kDepth) + " deep");
  const size_t worth = kind == node && is_of(data, found.domain) ? 1 : 2;
  found.functions = found.functions || kind == function;
  Field field;
  for (Message message(data); message.next(field);) {
    if (field.is_number) continue;
    if (kind == node && field.number == 1) found.counted[std::string(field.bytes)] += worth;
    const int part = part_of(kind, field.number);
    if (part >= 0 && part != tensor && part != sparse)
      count(field.bytes, static_cast<Kind>(part), depth + 1, found);
  }
}

}  // namespace

std::vector<External> external_tensors(const std::string& file, std::string_view content) {
  try {
    std::vector<External> found;
    walk(content, model, false, 0, found);
    return found;
  } catch (const Malformed& error) {
    throw Error(Fault::bundle, file + ": " + error.what() + "; export the model again");
  }
}

std::set<std::string> check_external(const std::string& file, const std::vector<External>& tensors,
                                     const std::map<std::string, FileSpec>& files) {
  std::set<std::string> names;
  for (const External& tensor : tensors) {
    const std::string place = file + ": the values of " + in_quotes(tensor.tensor) + " are in " +
                              in_quotes(tensor.location);
    const auto found = files.find(tensor.location);
    if (found == files.end()) {
      throw Error(Fault::bundle,
                  place + ", which is no file of the bundle with a digest; export the model again");
    }
    if (tensor.offset > found->second.bytes ||
        tensor.length > found->second.bytes - tensor.offset) {
      throw Error(Fault::bundle, place + ", behind its end at " +
                                     std::to_string(found->second.bytes) +
                                     " bytes; export the model again");
    }
    names.insert(tensor.location);
  }
  return names;
}

}  // namespace flagdit::bundle

namespace flagdit {

std::set<std::string> read_once(const std::string& file, std::string_view content,
                                std::string_view domain) {
  try {
    bundle::Readers found{domain, false, {}};
    bundle::count(content, bundle::model, 0, found);
    std::set<std::string> once;
    for (const auto& [name, count] : found.counted)
      if (count == 1 && !found.functions) once.insert(name);
    return once;
  } catch (const bundle::Malformed& error) {
    throw Error(Fault::bundle, file + ": " + error.what() + "; export the model again");
  }
}

}  // namespace flagdit
