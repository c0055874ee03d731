"""Sessions: a model, compiled once, that reads a prompt and writes on, call by call.

    session = Session(model, row_seeds(seed, num_samples), temperature=0.8)
    state = session.read(ids)
    tokens, state = session.write(64, state)

Where a text stands is its `SessionState`. Every call takes one and returns the next; the session itself keeps none.
"""
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from charlm.generation.decoding import Generated, generate, prefill, prefill_and_generate
from charlm.generation.prompts import encode_prompt
from charlm.network.model import LanguageModel
from charlm.network.runtime import memory_bytes
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError

WRITE_TOKENS = 64  # that a compiled call writes at most
COPIES = 5  # of logits and state of each text while it is written, as measured with 20,000 texts of two models
TEXT_BYTES = 1000  # what Python takes for a text, beside its characters
READ_TOKENS = 2048  # of a long prompt in one call, so that Ctrl-C need not wait for all of it


class SessionState(NamedTuple):
  """Where the B texts of a session stand."""
  logits: tf.Tensor  # [B, V] of the next token
  network_state: Any  # the network's, as in `LanguageModel.initial_state`
  written: int  # tokens written so far


def check_memory(model: LanguageModel, rows: int, length: int) -> None:
  """Refuses more texts than the memory holds: asking for them would get the process killed without a word.

  Args:
    model: what writes.
    rows: texts, of --num_samples.
    length: tokens of each.

  Raises:
    UserError: they need more memory than can be used.
  """
  numbers = model.vocab_size + sum(part.shape[-1] for part in tf.nest.flatten(model.initial_state(1)))
  needed = rows * (4 * COPIES * numbers + TEXT_BYTES + length)
  memory = memory_bytes()
  if needed > memory:
    raise UserError(f'--num_samples={rows}: expected fewer texts side by side: {rows:,} take {needed / 2**30:,.0f} '
                    f'GiB, {memory / 2**30:,.1f} can be used here')


class Session:
  """A model, compiled to read a prompt and to write B texts that go on from it.

  The weights are read when the session is made; later changes of them do not reach it.
  """

  def __init__(self, model: LanguageModel, seeds: np.ndarray, **options: Any):
    """Reads the weights. The first calls of `read` and `write` compile.

    Args:
      model: what writes.
      seeds: [B] int64, each text's own.
      options: temperature, top_k, top_p, numbers as in `decoding.generate`.
    """
    advance = model.stepper()
    self._rows, self._initial = len(seeds), model.initial_state(1)

    @tf.function(jit_compile=True, autograph=False)
    def read(tokens: tf.Tensor, length: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
      return prefill(advance, tokens, length[None], state)

    @tf.function(jit_compile=True, autograph=False)
    def write(logits: tf.Tensor, state: Any, length: tf.Tensor, start: tf.Tensor) -> Generated:
      return generate(advance, logits, state, length=length, seed=seeds, start=start, max_length=WRITE_TOKENS,
                      **options)

    self._read, self._write = read, write

  def read(self, ids: np.ndarray, state: SessionState | None = None) -> SessionState:
    """Reads text.

    Args:
      ids: [N] int32, N at least 1.
      state: where the text stood before, which only a session of one text can take; None starts afresh.

    Returns:
      The state of B texts that go on from there.

    Raises:
      RunError: the model's weights are not finite.
    """
    assert state is None or self._rows == 1, self._rows
    network_state = state.network_state if state else self._initial
    for start in range(0, len(ids), READ_TOKENS):
      part = ids[start:start + READ_TOKENS]
      padded = np.pad(part, (0, READ_TOKENS - len(part)))[None]
      logits, network_state = self._read(tf.constant(padded, tf.int32), tf.constant(len(part)), network_state)
    if not np.isfinite(logits).all():
      raise RunError('the weights of this model are not finite, so that it cannot write; the best weights or '
                     'an earlier checkpoint may be sound')
    logits, network_state = tf.nest.map_structure(lambda s: tf.repeat(s, self._rows, 0), (logits, network_state))
    return SessionState(logits, network_state, state.written if state else 0)

  def write(self, length: int, state: SessionState) -> tuple[np.ndarray, SessionState]:
    """Writes `length` tokens in each text -> tokens [B, length] int32, the state after them."""
    parts = []
    for first in range(0, length, WRITE_TOKENS):
      count = min(WRITE_TOKENS, length - first)
      part = self._write(state.logits, state.network_state, tf.constant(count), tf.constant(state.written, tf.int64))
      parts.append(part.tokens.numpy()[:, :count])
      state = SessionState(part.logits, part.state, state.written + count)
    return np.concatenate(parts, 1), state


class TimedSession:
  """A session that knows how fast it writes. The first call, which compiles, does not count."""

  def __init__(self, session: Session):
    self.read, self._session = session.read, session
    self._times: list[tuple[int, float]] = []  # of each call: tokens, seconds

  def write(self, length: int, state: SessionState) -> tuple[np.ndarray, SessionState]:
    """As `Session.write`."""
    began = time.perf_counter()
    tokens, state = self._session.write(length, state)
    self._times.append((tokens.size, time.perf_counter() - began))
    return tokens, state

  def summary(self) -> str:
    """Says how many tokens were written, and how many per second."""
    tokens, seconds = (sum(column) for column in zip(*(self._times[1:] or [(0, 0)]), strict=True))
    speed = f', {tokens / seconds:,.0f} per second' if seconds else ''
    return f'{sum(n for n, _ in self._times):,} tokens{speed}'


def sample_writer(tokenizer: Tokenizer, **options: Any) -> Callable[[LanguageModel], bytes]:
  """Makes the function that writes a sample while a model is trained.

  Args:
    tokenizer: the model's.
    options: as in `decoding.generate`.

  Returns:
    A function: model -> bytes, a text that starts afresh. It is compiled once and reads the weights anew in each call,
    so it must be given the same model each time.
  """
  prompt = encode_prompt(tokenizer, b'')[None]

  @tf.function(autograph=False)
  def write(model: LanguageModel) -> tf.Tensor:
    return prefill_and_generate(model.portable().stepper(), prompt, tf.constant([prompt.size]), model.initial_state(1),
                                **options).tokens

  return lambda model: tokenizer.decode(write(model)[0])
