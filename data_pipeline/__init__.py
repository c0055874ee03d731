"""Text in, token ids out: corpora, tokenizers, token files, and the chunks that a model is trained on."""
