"""A corpus -> token files, which are kept in a cache between runs.

  --cache_dir/
    tokenizers/KEY/  tokenizer.json (tokenizer.model)          KEY: a digest of the text, the kind, the size
    tokens/KEY/      tokens.json, train.tokens, valid.tokens   KEY: a digest of the text and the tokenizer
                     train.starts, valid.starts                where documents matter (--document_reset)

A folder of token files appears whole or not at all. What the files hold is told in `token_files.py`.
"""
import hashlib
import json
import pathlib
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipeline import atomic
from data_pipeline.corpus.spec import fingerprint, open_corpus
from data_pipeline.corpus.text import Text
from data_pipeline.text_reader import TextReader
from data_pipeline.token_files import TokenFile, read_token_files, write_token_files
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.registry import TOKENIZERS, load_tokenizer, train_tokenizer
from flags.data import DataConfig
from flags.errors import UserError
from flags.paths import cache_root

FORMAT = 3  # part of every key: raise it when the files change


def prepare(config: DataConfig, tokenizer: Tokenizer | None = None, *,
            progress: bool = True) -> tuple[Tokenizer, dict[str, TokenFile]]:
  """The token files of a corpus, made now or found in the cache.

  Args:
    config: the corpus, its splits, the tokenizer and the cache.
    tokenizer: one to use; None: the one that `config` describes, trained on the train split or found in the cache.
    progress: whether to say on standard error what the corpus has, and to show a bar while a large one is read.

  Returns:
    tokenizer, {'train': TokenFile, 'valid': TokenFile, 'test': TokenFile} without empty splits.

  Raises:
    UserError: the corpus, the tokenizer or the cache cannot be used.
  """
  splits = open_corpus(config.corpus, data_dir=config.data_dir, text_feature=config.text_feature,
                       valid_fraction=config.valid_fraction, test_fraction=config.test_fraction,
                       tell=_tell if progress else lambda line: None)
  starts = {split: text.document_starts(config.separator) for split, text in splits.items()
            } if config.document_reset else None
  content = fingerprint(splits, starts)
  root = cache_root(config.cache_dir)
  try:
    if tokenizer is None:
      tokenizer = _find_or_train(root, content, splits['train'], config, progress)
    on_invalid = '' if tokenizer.reads_any_bytes else config.on_invalid
    folder = root / 'tokens' / _key(content, tokenizer.fingerprint, on_invalid)
    files = read_token_files(folder, splits)
    files = files or _make_token_files(folder, splits, starts, content, tokenizer, config, progress)
  except OSError as error:
    raise UserError(f'--cache_dir={config.cache_dir}: expected a folder to keep tokens in, but {root} cannot be '
                    f'used ({error.strerror or error})') from error
  return tokenizer, files


def _tell(line: str) -> None:
  print(line, file=sys.stderr)


def _key(*facts: Any) -> str:
  return hashlib.sha256(json.dumps([FORMAT, *facts]).encode()).hexdigest()[:32]


def _find_or_train(root: pathlib.Path, content: str, text: Text, config: DataConfig, progress: bool) -> Tokenizer:
  """The tokenizer that `config` describes, for the training text `text`."""
  def train() -> Tokenizer:
    with TextReader(text, spec=config.corpus, action='learning tokens of train', progress=progress) as blocks:
      return train_tokenizer(config.tokenizer, blocks, config.vocab_size, config.on_invalid)

  kind = TOKENIZERS[config.tokenizer]
  if not kind.is_trained:
    return train()
  size = config.vocab_size if kind.has_vocab_size else 0
  folder = root / 'tokenizers' / _key(content, config.tokenizer, size, config.on_invalid)
  try:
    return load_tokenizer(folder)
  except UserError:  # missing or damaged
    tokenizer = train()
    tokenizer.save(folder)
    return tokenizer


def _make_token_files(folder: pathlib.Path, splits: Mapping[str, Text], starts: Mapping[str, np.ndarray] | None,
                      content: str, tokenizer: Tokenizer, config: DataConfig,
                      progress: bool) -> dict[str, TokenFile]:
  """Writes the token files into `folder`. If two processes do so at once, the first to finish wins."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  readers = {split: TextReader(text, spec=config.corpus, action=f'tokenizing {split}', progress=progress)
             for split, text in splits.items()}
  try:
    with atomic.folder(folder) as temporary:
      write_token_files(temporary, readers, starts, tokenizer, content=content, on_invalid=config.on_invalid)
      if folder.exists() and read_token_files(folder, splits) is None:
        shutil.rmtree(folder, ignore_errors=True)  # damaged, and in the way
  except OSError:
    if read_token_files(folder, splits) is None:
      raise
  files = read_token_files(folder, splits)
  assert files, folder
  return files


def warn_of_unknown(corpus_spec: str, files: Iterable[TokenFile]) -> None:
  """Says on standard error how many characters the tokenizer does not know, for each of these files that has any.

  Args:
    corpus_spec: of --corpus, to name the text by.
    files: of that corpus; where they are several, the warning names the split.
  """
  files = [*files]
  for file in files:
    if file.num_unknown:
      where = f' of its {pathlib.Path(file.path).stem} split' if len(files) > 1 else ''
      print(f'warning: --corpus={corpus_spec}: {file.num_unknown:,} of {file.num_tokens:,} characters{where} '
            f'({file.num_unknown / file.num_tokens:.2%}) are unknown to this model, first {file.first_unknown!r}',
            file=sys.stderr)
