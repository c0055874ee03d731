"""Learns a tokenizer from a text, or from a sample of it where it is large."""
import sys

from data_pipeline.corpus.account import size_words
from data_pipeline.corpus.sample import sample
from data_pipeline.corpus.text import Text
from data_pipeline.text_reader import TextReader
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.registry import TOKENIZERS, train_tokenizer
from data_pipeline.tokenizers.sentencepiece import SAMPLE_BYTES
from flags.data import DataConfig

SAMPLED_BYTES = 10 * SAMPLE_BYTES  # a text of more is not read as a whole where the tokenizer takes a sample anyway


def learn_tokenizer(text: Text, config: DataConfig, *, progress: bool = True) -> Tokenizer:
  """The tokenizer that `config` describes.

  Args:
    text: the training text.
    config: the kind and size of the tokenizer.
    progress: whether to show on standard error how much of a large text is read, and to say where a sample is.

  Raises:
    UserError: the text cannot be read, is not UTF-8, or has too little in it for that size.
  """
  if TOKENIZERS[config.tokenizer].has_vocab_size and text.num_bytes > SAMPLED_BYTES:
    if progress:
      print(f'notice: the {config.tokenizer} tokenizer learns from {size_words(SAMPLE_BYTES)}, from all along the '
            f'{size_words(text.num_bytes)} of text', file=sys.stderr)
    return train_tokenizer(config.tokenizer, sample(text, SAMPLE_BYTES), config.vocab_size, config.on_invalid)
  with TextReader(text, spec=config.corpus, action='learning tokens of train', progress=progress) as blocks:
    return train_tokenizer(config.tokenizer, blocks, config.vocab_size, config.on_invalid)
