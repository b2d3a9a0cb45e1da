// Texts: a bundle's tokenizer.
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <string>

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
                      "Which prompts a model takes: its tokenizer says that, without the encoder.")
      .def(nb::init<Tokenizer, int64_t>(), "tokenizer"_a, "max_tokens"_a,
           "max_tokens: that the encoder takes. Raises the error of a bundle if an empty text has "
           "more.")
      .def(
          "check",
          [](const Prompts& self, nb::handle prompt, const std::string& name) {
            self.read(to_text(prompt), name);
          },
          "prompt"_a, "name"_a = "prompt",
          nb::sig("def check(self, prompt: str, name: str = 'prompt') -> None"),
          "Refuse a prompt that is blank, no Unicode, or too long; `name` says which it is.")
      .def(
          "tokens",
          [](const Prompts& self, nb::handle prompt) {
            const std::string text = to_text(prompt);
            return text.empty() ? self.none() : self.read(text);
          },
          "prompt"_a, nb::sig("def tokens(self, prompt: str) -> list[int]"),
          "Token ids of a prompt; of an empty text those that guidance leads away from.");
}

}  // namespace flagdit::python
