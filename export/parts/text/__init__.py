"""Text encoders of the transformers library: what has to hold, their graphs, their tokenizers."""
