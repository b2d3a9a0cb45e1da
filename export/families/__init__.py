"""The families of models that can be exported, a folder each; `registry` lists them."""
