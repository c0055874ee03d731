"""Tasks: what is done with each piece of a corpus, by whichever process. Their results are small files of JSON.

A task writes its result when it is done, whole or not at all. So work that was stopped goes on with the tasks that have
no result, and what is put together from the results is the same whoever did the work.
"""
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_pipeline import atomic
from data_pipeline.beam.cuts import Piece
from data_pipeline.corpus.text import reading
from data_pipeline.shards import Layout, ShardWriter
from data_pipeline.text_reader import TextReader
from data_pipeline.token_files import token_dtype, write_tokens
from data_pipeline.tokenizers.char import characters_of
from data_pipeline.tokenizers.registry import load_tokenizer
from flags.errors import RunError, UserError

FORMAT = 1  # part of every key: raise it when results change
ERRORS = {'UserError': UserError, 'RunError': RunError}


@dataclasses.dataclass(frozen=True)
class Task:
  """Something to do."""
  folder: str  # where its result goes
  name: str  # of the file
  key: str  # a digest of all that the result depends on
  do: Callable[..., dict[str, Any]]  # (folder, name, *arguments) -> the result
  arguments: tuple[Any, ...]
  num_bytes: int  # of text, about

  @property
  def result_path(self) -> pathlib.Path:
    return pathlib.Path(self.folder, f'{self.name}.json')

  def result(self) -> dict[str, Any] | None:
    """What the task has written; None if it is not done, or was done with something else. Raises OSError."""
    try:
      written = json.loads(self.result_path.read_text())
      whole = all(os.path.getsize(os.path.join(self.folder, name)) == size
                  for name, size in written['result'].get('files', {}).items())
    except (FileNotFoundError, ValueError):
      return None
    return written['result'] if whole and written['key'] == self.key else None


def failures(folder: str) -> list[pathlib.Path]:
  """The files that say why tasks have failed."""
  return sorted(pathlib.Path(folder).glob('*.failed'))


def perform(task: Task) -> None:
  """Does a task, unless it is done or another one has failed. A failure is a file, too."""
  if task.result() is not None or failures(task.folder):
    return
  try:
    atomic.write(task.result_path, json.dumps({
      'key': task.key, 'result': task.do(task.folder, task.name, *task.arguments)}).encode())
  except (UserError, RunError, OSError) as error:
    kind = 'UserError' if isinstance(error, UserError) else 'RunError'
    what = str(error) if isinstance(error, (UserError, RunError)) else (
      f'{task.folder} cannot be written ({error.strerror or error})')
    atomic.write(task.result_path.with_suffix('.failed'), json.dumps({'kind': kind, 'what': what}).encode())


def results(tasks: Sequence[Task], run: Callable[[Sequence[Task]], None]) -> list[dict[str, Any]]:
  """The results of tasks: those that are missing are done by `run`, which calls `perform`.

  Raises:
    UserError, RunError: a task has failed, or was not done.
  """
  missing = [task for task in tasks if task.result() is None]
  for task in missing:  # of other text, perhaps
    task.result_path.unlink(missing_ok=True)
  if missing:
    run(missing)
  for path in failures(tasks[0].folder) if tasks else ():
    failure = json.loads(path.read_text())
    raise ERRORS[failure['kind']](failure['what'])
  found = [task.result() for task in tasks]
  if None in found:
    raise RunError(f'{tasks[found.index(None)].name} was not done: a process that worked at it has ended. Run the same '
                   'command again; it goes on')
  return [result for result in found if result is not None]


def measure(folder: str, name: str, spec: str, source: str, read: Callable[[], Any],
            documents: bool) -> dict[str, Any]:
  """Reads what can only be read from its start: its size, and where its blocks start if they are documents."""
  size, ends_line, starts = 0, False, []
  with reading(spec, source):
    for block in read():
      starts.append(size)
      size, ends_line = size + len(block), block.endswith(b'\n') if block else ends_line
  if documents:
    with atomic.file(pathlib.Path(folder, f'{name}.npy')) as file:
      np.save(file, np.array(starts, np.int64))
    return {'size': size, 'ends_line': ends_line, 'files': _sizes(folder, f'{name}.npy')}
  return {'size': size, 'ends_line': ends_line}


def characters(folder: str, name: str, spec: str, piece: Piece, on_invalid: str) -> dict[str, Any]:
  """The characters that a piece has."""
  with TextReader(piece.text, spec=spec, action='', progress=False) as reader:
    return {'characters': characters_of(reader, on_invalid)}


def tokenize(folder: str, name: str, spec: str, piece: Piece, separator: bytes | None,
             on_invalid: str) -> dict[str, Any]:
  """Writes the shard of a piece. separator: None where documents do not matter.

  Returns:
    The counts of the shard, and digests of it and of its text.
  """
  tokenizer = load_tokenizer(folder)
  starts = None if separator is None else piece.text.document_starts(separator, goes_on=not piece.last)
  reader = _HashingReader(piece.text, spec=spec, action='', progress=False)
  with atomic.file(pathlib.Path(folder, f'{name}.tokens')) as file:
    writer = ShardWriter(file, Layout(token_dtype(tokenizer.vocab_size).name, starts is not None), piece.first)
    facts = write_tokens(writer, reader, starts, tokenizer, on_invalid)
    writer.close()
  if starts is not None:
    reader.digest.update(starts.data)
  return {**facts, 'num_starts': writer.num_starts if starts is not None else 0, 'digest': writer.digest,
          'text': reader.digest.hexdigest(), 'files': _sizes(folder, f'{name}.tokens')}


def _sizes(folder: str, name: str) -> dict[str, int]:
  """What a task has written beside its result, so that it is known to be there."""
  return {name: os.path.getsize(os.path.join(folder, name))}


class _HashingReader(TextReader):
  """A TextReader that makes a digest of what it reads."""

  def __iter__(self) -> Any:
    self.digest = hashlib.sha256()
    for block in super().__iter__():
      self.digest.update(block)
      yield block
