#include "flagdit/session.h"

#include <algorithm>

#include "flagdit/error.h"

namespace flagdit {

bool Port::starts(const char* letter) const {
  return !axes.empty() && axes.front() == Axis(std::string(letter));
}

bool Port::has(const char* letter) const {
  return std::find(axes.begin(), axes.end(), Axis(std::string(letter))) != axes.end();
}

const Port* find(const std::vector<Port>& ports, const std::string& name) {
  for (const Port& port : ports)
    if (port.name == name) return &port;
  return nullptr;
}

const Bound* find(const std::vector<Bound>& tensors, const std::string& name) {
  for (const Bound& bound : tensors)
    if (bound.name == name) return &bound;
  return nullptr;
}

namespace {

std::optional<std::string> twin_of(const std::string& tail, const char* ending) {
  constexpr const char* kTail = "_tail";
  const size_t at = tail.find(kTail);
  if (at == std::string::npos) return std::nullopt;
  return std::string(tail).replace(at, std::string(kTail).size(), ending);
}

}  // namespace

std::optional<std::string> head_of(const std::string& tail) { return twin_of(tail, "_head"); }

std::optional<std::string> text_of(const std::string& tail) { return twin_of(tail, "_text"); }

const Port* text_of(const std::vector<Port>& ports, const Port& tail) {
  const std::optional<std::string> name = tail.tail() ? text_of(tail.name) : std::nullopt;
  const Port* found = name ? find(ports, *name) : nullptr;
  return found != nullptr && found->output && found->starts("T") ? found : nullptr;
}

void Binding::run_with(const Tails&) {
  throw Error(Fault::backend, "a binding was given tails to find, and its session finds none");
}

const Port& Session::port(const std::string& wanted) const {
  const Port* port = find(ports(), wanted);
  if (port != nullptr) return *port;
  throw Error(Fault::bundle, name + ": '" + wanted + "' is missing");
}

std::string to_string(const Axis& axis) {
  const auto* letter = std::get_if<std::string>(&axis);
  return letter != nullptr ? *letter : std::to_string(std::get<int64_t>(axis));
}

std::string to_string(const std::vector<Axis>& axes) {
  std::string text = "(";
  for (const Axis& axis : axes) text += (text.size() > 1 ? ", " : "") + to_string(axis);
  return text + ")";
}

}  // namespace flagdit
