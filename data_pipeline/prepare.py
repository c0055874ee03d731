"""A corpus -> token files, which are kept in a cache between runs.

  --cache_dir/
    tokenizers/KEY/  tokenizer.json (tokenizer.model)          KEY: a digest of the text, the kind, the size
    tokens/KEY/      tokens.json, train.tokens, valid.tokens   KEY: a digest of the text and the tokenizer
                     train.starts, valid.starts                where documents matter (--document_reset)

A folder of token files appears whole or not at all. What the files hold is told in `token_files.py`.
"""
import atexit
import functools
import glob
import hashlib
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from data_pipeline import atomic, prepared
from data_pipeline.corpus.spec import fingerprint, open_corpus
from data_pipeline.corpus.text import Text
from data_pipeline.learning import learn_tokenizer
from data_pipeline.manifest import Manifest
from data_pipeline.text_reader import TextReader
from data_pipeline.token_files import TokenFile, read_token_files, write_token_files
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.registry import TOKENIZERS, load_tokenizer
from flags.data import DataConfig, is_path
from flags.errors import UserError
from flags.paths import NoHome, cache_root

FORMAT = 3  # part of every key: raise it when the files change


class Source(NamedTuple):
  """A corpus that is open."""
  config: DataConfig
  splits: dict[str, Text]  # those with text
  starts: dict[str, np.ndarray] | None  # {split: where documents start}; None where they do not matter
  content: str  # the digest of all splits
  account: str  # how much text there is, and what was left out, in words
  prepared: Manifest | None = None  # of --corpus=tokens:DIR, where there is no text any more
  decided: Mapping[str, Any] = {}  # flags that prepared tokens decide, {name: value}


def prepare(config: DataConfig, tokenizer: Tokenizer | None = None, *,
            progress: bool = True) -> tuple[Tokenizer, dict[str, TokenFile]]:
  """The token files of a corpus, made now or found in the cache. Args, result and errors as of `tokenize`.

  config: the corpus, its splits, the tokenizer and the cache.
  """
  return tokenize(open_source(config), tokenizer, progress=progress)


def open_source(config: DataConfig) -> Source:
  """Opens the corpus of a configuration. Raises UserError where it cannot be read."""
  if prepared.is_prepared(config.corpus):
    manifest, decided = prepared.open_prepared(config)
    return Source(config, {}, None, manifest.content, manifest.account(), manifest, decided)
  account: list[str] = []
  splits = open_corpus(config.corpus, data_dir=config.data_dir, text_feature=config.text_feature,
                       valid_fraction=config.valid_fraction, test_fraction=config.test_fraction, tell=account.append)
  starts = {split: text.document_starts(config.separator) for split, text in splits.items()
            } if config.document_reset else None
  return Source(config, splits, starts, fingerprint(splits, starts), '\n'.join(account))


def find(content: str, candidates: Iterable[DataConfig], *, named: str, remedy: str) -> Source:
  """Finds a text by its digest.

  Args:
    content: the digest.
    candidates: configurations of the run that had the text, each with a place where it may be.
    named: the flag that asks for the text, for the message.
    remedy: what to do where it is not found, for the message.

  Raises:
    UserError: none of the candidates has this text; names each of them.
  """
  seen = []
  for config in candidates:
    try:
      source = open_source(config)
    except UserError as error:
      gone = is_path(config.corpus) and not glob.has_magic(config.corpus) and not os.path.exists(config.corpus)
      seen.append(f'{config.corpus} is not there' if gone else str(error))
      continue
    if source.content == content:
      return source
    python = '' if is_path(config.corpus) or config.corpus.startswith('tfds:') else (
        f' in this Python, {platform.python_version()}')
    seen.append(f'{config.corpus} is another text{python} ({source.content[:8]}...)')
  raise UserError(f'{named}: expected the text that the model was trained on ({content[:8]}...), but '
                  f'{", and ".join(seen)}. {remedy}')


def tokenize(source: Source, tokenizer: Tokenizer | None = None, *, spare: bool = False,
             progress: bool = True) -> tuple[Tokenizer, dict[str, TokenFile]]:
  """The token files of an open corpus, made now or found in the cache.

  Args:
    source: the corpus; its configuration names the tokenizer and the cache.
    tokenizer: one to use; None: the one that is described, trained on the train split or found in the cache.
    spare: whether a temporary folder will do where the cache cannot be used; it is gone when the process ends.
    progress: whether to say on standard error what the corpus has, and to show a bar while a large one is read.

  Returns:
    tokenizer, {'train': TokenFile, 'valid': TokenFile, 'test': TokenFile} without empty splits.

  Raises:
    UserError: the corpus, the tokenizer or the cache cannot be used.
  """
  config = source.config
  if progress:
    print(source.account, file=sys.stderr)
  if source.prepared:
    return (prepared.tokenizer_of(source.prepared, config.corpus, tokenizer),
            {**prepared.files_of(source.prepared, config.document_reset)})
  root: str | pathlib.Path = config.cache_dir
  try:
    root = cache_root(config.cache_dir)
    return _from_cache(root, source, tokenizer, progress)
  except NoHome as error:
    if not spare:
      raise
    problem = str(error)
  except OSError as error:
    problem = f'{root} cannot be used ({error.strerror or error})'
    if not spare:
      raise UserError(f'--cache_dir={config.cache_dir}: expected a folder to keep tokens in, but {problem}') from error
  print(f'notice: the cache: {problem}: tokens are kept in a temporary folder', file=sys.stderr)
  try:
    return _from_cache(_spare_root(), source, tokenizer, progress)
  except OSError as error:
    raise UserError(f'--cache_dir={config.cache_dir}: expected a folder to keep tokens in, but {problem}, nor can a '
                    f'temporary one be ({error.strerror or error})') from error


def _from_cache(root: pathlib.Path, source: Source, tokenizer: Tokenizer | None,
                progress: bool) -> tuple[Tokenizer, dict[str, TokenFile]]:
  """As `tokenize`, in the cache at `root`. Raises OSError where that cannot be used."""
  config, splits = source.config, source.splits
  if tokenizer is None:
    tokenizer = _find_or_train(root, source.content, splits['train'], config, progress)
  on_invalid = '' if tokenizer.reads_any_bytes else config.on_invalid
  folder = root / 'tokens' / _key(source.content, tokenizer.fingerprint, on_invalid)
  files = read_token_files(folder, splits)
  return tokenizer, files or _make_token_files(folder, splits, source.starts, source.content, tokenizer, config,
                                               progress)


@functools.cache
def _spare_root() -> pathlib.Path:
  """A folder that is gone when the process ends: where temporary files go, or in memory if none can be there."""
  try:
    folder = tempfile.mkdtemp(prefix='charlm-')
  except OSError:
    folder = tempfile.mkdtemp(prefix='charlm-', dir='/dev/shm')
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return pathlib.Path(folder)


def _key(*facts: Any) -> str:
  return hashlib.sha256(json.dumps([FORMAT, *facts]).encode()).hexdigest()[:32]


def _find_or_train(root: pathlib.Path, content: str, text: Text, config: DataConfig, progress: bool) -> Tokenizer:
  """The tokenizer that `config` describes, for the training text `text`."""
  def train() -> Tokenizer:
    return learn_tokenizer(text, config, progress=progress)

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
  atomic.make_folder(folder.parent)
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
