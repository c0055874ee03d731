"""A corpus to a folder of tokens that appears whole or not at all.

The work is done in a folder beside it, .NAME.making: first what can only be read from its start is measured, then the
corpus is cut into pieces, the tokenizer is made, and each piece is tokenized. What is done there is found again by the
same command, as long as the text is the same.
"""
import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data_pipeline import atomic
from data_pipeline.beam import tasks
from data_pipeline.beam.cuts import Piece, pieces
from data_pipeline.beam.tasks import Task
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.corpus.spool import Source
from data_pipeline.corpus.text import ONE, Part, Text, changed
from data_pipeline.learning import learn_tokenizer
from data_pipeline.manifest import MANIFEST, Manifest, ShardedTokens
from data_pipeline.shards import Shard
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from data_pipeline.tokenizers.registry import load_tokenizer
from flags.data import DataConfig
from flags.errors import RunError, UserError
from flags.prepare import PrepareConfig

Run = Callable[[str, Sequence[Task]], None]  # has tasks done; the first argument is what that is called
SUMMED = 'num_tokens', 'num_bytes', 'num_characters', 'num_unknown', 'num_starts'
OF_FIRST = 'dtype', 'first_token_bytes', 'first_token_characters'
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}


def make(config: PrepareConfig, run: Run) -> Manifest:
  """Prepares a corpus.

  Args:
    config: the flags.
    run: has tasks done, such as a `pipeline.Runner`.

  Returns:
    What was made.

  Raises:
    UserError: the corpus cannot be read or tokenized, or the folder cannot be made.
    RunError: a file cannot be written, or a process has failed.
  """
  target = pathlib.Path(os.path.abspath(config.tokens_dir))
  _check_new(config.tokens_dir, target)
  try:
    atomic.make_folder(target.parent)
    with _locked(config.tokens_dir, target.with_name(f'.{target.name}.making')) as folder:
      manifest = _Work(config, run, folder).manifest()
      shards = {shard.name for split in manifest.splits.values() for shard in split.shards}
      for path in folder.iterdir():
        if path.name not in shards and not path.name.startswith('tokenizer.'):
          path.unlink()
      atomic.write(folder / MANIFEST, manifest.to_json())
      atomic.rename_folder(folder, target)
  except OSError as error:
    raise RunError(f'--tokens_dir={config.tokens_dir}: cannot be written ({error.strerror or error}). Once this is '
                   'mended, run the same command again; it goes on') from error
  return manifest


def _check_new(named: str, target: pathlib.Path) -> None:
  """Raises UserError where there is something at `target` already, other than an empty folder."""
  if (target / MANIFEST).exists():
    raise UserError(f'--tokens_dir={named}: holds prepared tokens already; expected a new folder')
  if target.exists() and not (target.is_dir() and not any(target.iterdir())):
    raise UserError(f'--tokens_dir={named}: is {"not empty" if target.is_dir() else "a file"}; expected a new folder')


@contextlib.contextmanager
def _locked(named: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder to work in, and keeps other processes out of it. Raises UserError where one is there already.

  Where the body of the context raises UserError, and the folder was made for it, nothing of it is left.
  """
  new = not folder.exists()
  folder.mkdir(exist_ok=True)
  handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UserError(f'--tokens_dir={named}: another charlm-prepare is at work there; expected a folder of its own'
                      ) from error
    except OSError as error:
      if error.errno not in NO_LOCKS:
        raise
    atomic.sweep(folder, at_once=True)
    for path in tasks.failures(str(folder)):
      path.unlink()
    yield folder
  except UserError:
    if new:
      shutil.rmtree(folder, ignore_errors=True)
    raise
  finally:
    os.close(handle)


class _Work:
  """What is done in the folder."""

  def __init__(self, config: PrepareConfig, run: Run, folder: pathlib.Path):
    self.config, self.run, self.folder = config, run, folder

  def manifest(self) -> Manifest:
    """Does all that is not done yet, but for the manifest itself."""
    config = self.config
    splits = open_corpus(config.corpus, data_dir=config.data_dir, text_feature=config.text_feature,
                         valid_fraction=config.valid_fraction, test_fraction=config.test_fraction, keep=self.measured,
                         tell=functools.partial(print, file=sys.stderr))
    cut = pieces(splits, config.separator or b'')
    texts = [piece.text.identity() for piece in cut]
    tokenizer = self._tokenizer(cut, splits['train'])
    on_invalid = 'error' if tokenizer.reads_any_bytes else config.on_invalid
    numbers = [sum(other.split == piece.split for other in cut[:i]) for i, piece in enumerate(cut)]
    names = [f'{piece.split}-{number:05d}' for piece, number in zip(cut, numbers, strict=True)]
    results = self._results('tokenizing', [
      self._task(name, tasks.tokenize, [text, tokenizer.fingerprint], config.corpus, piece, config.separator,
                 on_invalid)
      for name, piece, text in zip(names, cut, texts, strict=True)])
    if texts != [piece.text.identity() for piece in cut]:
      raise UserError(f'--corpus={config.corpus}: the text has changed while it was read; start again once it is whole')
    content = hashlib.sha256(json.dumps([(piece.split, result['text']) for piece, result in zip(
      cut, results, strict=True)]).encode()).hexdigest()
    made = {'tokenizer': tokenizer.kind, 'on_invalid': on_invalid, 'valid_fraction': config.valid_fraction,
            'vocab_size': tokenizer.vocab_size if tokenizer.has_vocab_size else DataConfig.vocab_size,
            **{name: getattr(config, name) for name in ('test_fraction', 'document_reset', 'document_separator')}}
    return Manifest(made, tokenizer.fingerprint, tokenizer.vocab_size, content, {
      split: self._split(split, content, [(f'{name}.tokens', result) for name, piece, result in zip(
        names, cut, results, strict=True) if piece.split == split]) for split in splits})

  def measured(self, spec: str, sources: Sequence[Source], *, documents: bool = False) -> list[Part]:
    """As `spooled`, but nothing is copied: a part is read from its start each time."""
    todo = [self._task(f'measure-{i:05d}', tasks.measure, [source.name, changed(source.path)], spec, source.name,
                       source.read, documents) for i, source in enumerate(sources)]
    results = self._results('measuring', todo)
    starts = [np.load(self.folder / f'{task.name}.npy') if documents else ONE for task in todo]
    return [Part(source.name, result['size'], functools.partial(_skip, source.read), documents=own, path=source.path,
                 seeks=False, ends_line=result['ends_line'])
            for source, result, own in zip(sources, results, starts, strict=True)]

  def _tokenizer(self, cut: Sequence[Piece], text: Text) -> Tokenizer:
    """The tokenizer that the flags describe, which is saved in the folder. text: of the training split."""
    config = self.config
    if config.tokenizer_from:
      tokenizer = load_tokenizer(config.tokenizer_from)
    elif config.tokenizer == CharTokenizer.kind:
      todo = [self._task(f'characters-{i:05d}', tasks.characters, [piece.text.identity(), config.on_invalid],
                         config.corpus, piece, config.on_invalid)
              for i, piece in enumerate(cut) if piece.split == 'train']
      found = {character for result in self._results('learning tokens', todo) for character in result['characters']}
      tokenizer = CharTokenizer(''.join(sorted(found)))
    else:
      tokenizer = learn_tokenizer(text, DataConfig(corpus=config.corpus, tokenizer=config.tokenizer,
                                                   vocab_size=config.vocab_size, on_invalid=config.on_invalid))
    for path in self.folder.glob('tokenizer.*'):
      path.unlink()
    tokenizer.save(self.folder)
    return tokenizer

  def _task(self, name: str, do: Callable[..., dict[str, Any]], facts: Any, *arguments: Any) -> Task:
    """facts: what the result depends on, as JSON, beside the flags."""
    flags = [self.config.corpus, self.config.document_reset, self.config.document_separator, self.config.on_invalid]
    key = hashlib.sha256(json.dumps([tasks.FORMAT, flags, facts]).encode()).hexdigest()
    piece = next((argument for argument in arguments if isinstance(argument, Piece)), None)
    return Task(str(self.folder), name, key, do, arguments, piece.text.num_bytes if piece else 1)

  def _results(self, action: str, todo: Sequence[Task]) -> list[dict[str, Any]]:
    return tasks.results(todo, functools.partial(self.run, action))

  def _split(self, split: str, content: str, made: Sequence[tuple[str, dict[str, Any]]]) -> ShardedTokens:
    """A split, from the names of its shards and what is known of each."""
    results = [result for _, result in made]
    shards = tuple(Shard(name, result['num_tokens'], result['digest']) for name, result in made)
    return ShardedTokens(path=str(self.folder / split), folder=str(self.folder), content=content, shards=shards,
                         documents=self.config.document_reset,
                         first_unknown=next((r['first_unknown'] for r in results if r['num_unknown']), ''),
                         **{name: results[0][name] for name in OF_FIRST},
                         **{name: sum(result[name] for result in results) for name in SUMMED})


def _skip(read: Callable[[], Any], start: int) -> Iterator[bytes]:
  """The blocks of what `read` returns, without the first `start` bytes."""
  for block in read():
    if start < len(block):
      yield block[start:]
    start = max(0, start - len(block))
