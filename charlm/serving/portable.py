"""What the exports for programs without TensorFlow have in common: a new folder, and what lies beside the weights.

    EXPORT_DIR/charlm.json                        facts about the model
    EXPORT_DIR/vocab.json                         the bytes of each token, [[10], [32], ...]
    EXPORT_DIR/tokenizer.json, tokenizer.model    as in the workdir
"""
import contextlib
import dataclasses
import errno
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.generation.prompts import encode_prompt
from charlm.network.backend.xla import XlaBackend
from charlm.network.model import LanguageModel
from data_pipeline import atomic
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError

PROBE = 24  # tokens that an export is checked with
TOLERANCE = 1e-3  # of log-probabilities


@contextlib.contextmanager
def new_folder(export_dir: str) -> Iterator[pathlib.Path]:
  """A context that yields a folder to fill, which becomes `export_dir` at the end, whole or not at all.

  Raises:
    UserError: there is something of that name already, or it cannot be made there.
    RunError: it could not be written.
  """
  target = pathlib.Path(os.path.abspath(export_dir))
  there = UserError(f'--export_dir={export_dir}: is there already; expected a new folder, as an export is never '
                    'written over')
  if os.path.lexists(target):
    raise there
  try:
    atomic.make_folder(target.parent)
    if not os.access(target.parent, os.W_OK | os.X_OK):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
  except OSError as error:
    raise UserError(f'--export_dir={export_dir}: expected a folder that can be made ({error.strerror})') from error
  try:
    with atomic.folder(target) as folder:
      yield folder
  except OSError as error:
    if os.path.lexists(target):  # another export was quicker
      raise there from None
    raise RunError(f'{export_dir}: the model could not be written ({error.strerror or error})') from error


def write_beside(folder: pathlib.Path, tokenizer: Tokenizer, facts: dict[str, Any]) -> None:
  """Writes the tokenizer and the facts. Raises OSError."""
  tokenizer.save(folder)
  own = {'tokenizer': tokenizer.kind, 'vocab_size': tokenizer.vocab_size,
         'empty_prompt': encode_prompt(tokenizer, b'').tolist()}
  (folder / 'charlm.json').write_text(json.dumps({**own, **facts}, indent=2) + '\n')
  (folder / 'vocab.json').write_text(json.dumps([list(piece) for piece in tokenizer.pieces]) + '\n')


def in_float32(model: LanguageModel) -> LanguageModel:
  """The same weights, computed in float32 by TensorFlow's own operations, whatever --compute_dtype is."""
  other = model.with_backend(XlaBackend())
  other.config = dataclasses.replace(model.config, compute_dtype='float32')
  return other


def check(model: LanguageModel, step: Any, state: Any) -> None:
  """Compares what was written with the model in memory, on a few tokens from all over the vocabulary.

  Args:
    model: in memory.
    step: (token, state) -> logits [V] or log-probabilities, and the state: what was written, as its user calls it.
    state: where text begins.

  Raises:
    RunError: they differ, or the weights are not finite.
  """
  tokens = np.linspace(0, model.vocab_size - 1, PROBE).astype(np.int32)
  outputs, _ = model(tokens[None], model.initial_state(1))
  expected = tf.nn.log_softmax(outputs.logits[0]).numpy()
  if not np.isfinite(expected).all():
    raise RunError('the weights of this model are not finite, so that it cannot be exported; --weights=best or an '
                   'earlier checkpoint may be sound')
  for token, wanted in zip(tokens.tolist(), expected, strict=True):
    logits, state = step(token, state)
    found = tf.nn.log_softmax(logits).numpy()
    if not np.allclose(found, wanted, TOLERANCE, TOLERANCE):
      raise RunError(f'the model that was written differs from the model in memory: log-probabilities by up to '
                     f'{np.abs(found - wanted).max():.2g} after token {token}')
