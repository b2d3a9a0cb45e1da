// Texts: a bundle's tokenizer.
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "arrays.h"
#include "flagdit/tokenizer.h"

namespace flagdit::python {

using namespace nb::literals;

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
}

}  // namespace flagdit::python
