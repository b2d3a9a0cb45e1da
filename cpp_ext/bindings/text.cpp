// Texts: a bundle's tokenizer.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/tokenizer.h"
#include "options.h"

namespace flagdit::python {

using namespace nb::literals;

// In UTF-8; what Python made of bytes that are no UTF-8 becomes those bytes again.
std::string to_text(nb::handle text) {
  for (const char* errors : {"surrogateescape", "surrogatepass"}) {
    PyObject* const bytes = PyUnicode_AsEncodedString(text.ptr(), "utf-8", errors);
    if (bytes == nullptr) {
      PyErr_Clear();
      continue;
    }
    const nb::object owner = nb::steal(bytes);
    return {PyBytes_AsString(bytes), static_cast<size_t>(PyBytes_Size(bytes))};
  }
  throw nb::type_error("a text is no text");
}

namespace {

void init_prompts(Prompts* self, const Tokenizer& tokenizer, int64_t max_tokens,
                  const std::string& positive, const std::optional<std::string>& negative,
                  std::optional<int64_t> padding, bool truncate) {
  new (self)
      Prompts(tokenizer, {max_tokens, positive, negative.value_or(positive), padding, truncate});
}

Branch branch_of(bool negative) { return negative ? Branch::unconditional : Branch::conditional; }

}  // namespace

void register_text(nb::module_& m) {
  nb::class_<Tokenizer>(
      m, "Tokenizer",
      "A tokenizer.json: the ids of Hugging Face's tokenizers. What it does not know is refused.")
      .def_static(
          "read",
          [](const std::string& name, const nb::bytes& content) {
            return Tokenizer::read(name, {content.c_str(), content.size()});
          },
          "name"_a, "content"_a,
          "Of the content of the file `name`. Raises the error of a bundle if it is none.")
      .def(
          "encode",
          [](const Tokenizer& tokenizer, const std::string& text) {
            return tokenizer.encode(text);
          },
          "text"_a)
      .def(
          "encode",
          [](const Tokenizer& tokenizer, const nb::bytes& text) {
            return tokenizer.encode({text.c_str(), text.size()});
          },
          "text"_a, "Token ids of a text, with the marks of its beginning and end.")
      .def_prop_ro("longest", &Tokenizer::longest, "Characters of a text that may be given to it.");
  nb::class_<Prompts>(m, "Prompts",
                      "Which prompts a model takes: the tokenizers of its encoders say that.")
      .def("__init__", &init_prompts, "tokenizer"_a, "max_tokens"_a, nb::kw_only(),
           "template"_a = "{}", "negative"_a = nb::none(), "padding"_a = nb::none(),
           "truncate"_a = false,
           "Of one encoder. max_tokens: that it takes. template, negative: what a prompt and the "
           "text of the unconditional branch are put into, at {}; none is the same. padding: the "
           "token that fills up to max_tokens. truncate: cut what is longer. Raises the error of a "
           "bundle if an empty text has more tokens, or none.")
      .def_static(
          "of",
          [](const std::vector<Prompts>& each) {
            std::vector<Prompts::Reader> readers;
            for (const Prompts& one : each)
              readers.insert(readers.end(), one.readers().begin(), one.readers().end());
            return Prompts(std::move(readers));
          },
          "each"_a, "Of several encoders, one after the other.")
      .def(
          "check",
          [](const Prompts& self, nb::handle prompt, const std::string& name, bool negative) {
            self.check(to_text(prompt), branch_of(negative), name);
          },
          "prompt"_a, "name"_a = "prompt", nb::kw_only(), "negative"_a = false,
          nb::sig("def check(self, prompt: str, name: str = 'prompt', *, negative: bool = False) "
                  "-> None"),
          "Refuse a prompt that is blank, no Unicode, or too long; `name` says which it is.")
      .def(
          "tokens",
          [](const Prompts& self, nb::handle prompt, bool negative) {
            return self.tokens(to_text(prompt), branch_of(negative)).front();
          },
          "prompt"_a, nb::kw_only(), "negative"_a = false,
          nb::sig("def tokens(self, prompt: str, *, negative: bool = False) -> list[int]"),
          "Token ids of a prompt for the first encoder; of an empty text those that guidance leads "
          "away from. negative: of the unconditional branch.")
      .def(
          "all_tokens",
          [](const Prompts& self, nb::handle prompt, bool negative) {
            return self.tokens(to_text(prompt), branch_of(negative));
          },
          "prompt"_a, nb::kw_only(), "negative"_a = false,
          nb::sig("def all_tokens(self, prompt: str, *, negative: bool = False) -> "
                  "list[list[int]]"),
          "The same for each encoder.");
}

}  // namespace flagdit::python
