"""Sessions: a model, compiled once, that reads prompts and writes on, call by call.

    session = Session(model, row_seeds(seed, num_samples), temperature=0.8)
    state = session.read([ids])
    tokens, log_probs, state = session.write(64, state)

Where the texts stand is a `SessionState`. Every call takes one and returns the next; the session itself keeps none.
"""
import copy
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from charlm.generation.constraints import Constraints
from charlm.generation.decoding import Generated, generate, prefill, prefill_and_generate
from charlm.generation.prompts import encode_prompt
from charlm.network.model import LanguageModel, Step
from charlm.network.runtime import memory_bytes, scalar
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError

WRITE_TOKENS = 64  # that a compiled call writes at most
COPIES = 5  # of logits and state of each text while it is written, as measured with 20,000 texts of two models
TEXT_BYTES = 1000  # what Python takes for a text, beside its characters
NOT_FINITE = ('the weights of this model are not finite, so that it cannot write; the best weights or an earlier '
              'checkpoint may be sound')
DTYPES = {'temperature': tf.float32, 'top_k': tf.int32, 'top_p': tf.float32, 'min_p': tf.float32}
DEFAULTS = {'top_k': 0, 'top_p': 1.0, 'min_p': 0.0}
READ_TOKENS = 2048  # of a long prompt in one call, so that Ctrl-C need not wait for all of it


class SessionState(NamedTuple):
  """Where the B texts of a session stand."""
  logits: tf.Tensor  # [B, V] of the next token
  network_state: Any  # the network's, as in `LanguageModel.initial_state`
  written: np.ndarray  # [B] int64, tokens written so far


class Written(NamedTuple):
  """What a call has written."""
  tokens: np.ndarray  # [B, length] int32
  log_probs: np.ndarray  # [B, length] float32, nats under the model itself, whatever the temperature
  state: SessionState  # after them


def take(state: SessionState, rows: Sequence[int] | np.ndarray) -> SessionState:
  """Where these of the texts stand, in this order; a text may be taken more than once."""
  logits, network_state = tf.nest.map_structure(lambda s: tf.gather(s, rows), state[:2])
  return SessionState(logits, network_state, state.written[np.asarray(rows)])


def joined(states: Sequence[SessionState]) -> SessionState:
  """Where the texts of all these stand, one after the other."""
  logits, network_state = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *(state[:2] for state in states))
  return SessionState(logits, network_state, np.concatenate([state.written for state in states]))


def text_memory(model: LanguageModel, length: int, window: int = 0) -> int:
  """The bytes that a text of `length` tokens takes while it is written. window: of a repetition penalty."""
  numbers = model.vocab_size + window + sum(part.shape[-1] for part in tf.nest.flatten(model.initial_state(1)))
  return 4 * COPIES * numbers + TEXT_BYTES + length


def check_memory(model: LanguageModel, rows: int, length: int, window: int = 0) -> None:
  """Refuses more texts than the memory holds: asking for them would get the process killed without a word.

  Args:
    model: what writes.
    rows: texts, of --num_samples where there are several.
    length: tokens of each.
    window: as in `text_memory`.

  Raises:
    UserError: they need more memory than can be used.
  """
  needed, memory = rows * text_memory(model, length, window), memory_bytes()
  if needed > memory and rows == 1:
    raise UserError(f'--length={length}: expected fewer tokens: a text of so many takes {needed / 2**30:,.1f} GiB, '
                    f'{memory / 2**30:,.1f} can be used here')
  if needed > memory:
    raise UserError(f'--num_samples={rows}: expected fewer texts side by side: {rows:,} take {needed / 2**30:,.0f} '
                    f'GiB, {memory / 2**30:,.1f} can be used here')


class Session:
  """A model, compiled to read prompts and to write texts that go on from them, each as it would be alone.

  The weights are read when the session is made; later changes of them do not reach it.
  """

  def __init__(self, model: LanguageModel, seeds: np.ndarray, *, temperature: float = 1.0,
               constraints: Constraints | None = None, **options: float):
    """Reads the weights. The first calls of `read` and `write` compile, for each number of rows.

    Args:
      model: what writes.
      seeds: [B] int64, each text's own.
      temperature: as in `decoding.generate`.
      constraints: what else decides which token is written.
      options: top_k, top_p, min_p, as in `decoding.generate`.
    """
    self._step, self._begin = model.stepper(), (tf.zeros([1, model.vocab_size]), model.initial_state(1))
    self._choose(np.asarray(seeds), DEFAULTS | {'temperature': temperature, **options})
    self._constrain(constraints)

  def _choose(self, seeds: np.ndarray, options: dict[str, float]) -> None:
    """Makes the inputs that stay the same from call to call."""
    self._seeds, self._options, most = seeds, options, self._begin[0].shape[1]
    self._inputs = tf.constant(seeds, tf.int64), {
        name: scalar(min(value, most) if name == 'top_k' else value, DTYPES[name])
        for name, value in options.items()}

  def _constrain(self, constraints: Constraints | None) -> None:
    """Makes what is to be compiled."""
    self._constraints, advance, initial = constraints, self._step, self._begin[1]
    if constraints:
      advance, initial = constraints.remember(advance, initial)
    self._initial, self._read = (self._begin[0], initial), _reader(advance)
    # For each width and whether there is a min_p: so there are few, whatever the options.
    self._writers = functools.cache(functools.partial(_writer, advance, constraints))

  def but(self, *, seeds: np.ndarray | None = None, **options: float) -> 'Session':
    """The same model with other seeds, as many as there are to be rows, and other options, which are inputs, too.

    Something new is compiled for another number of rows, for min_p beside none, and where top_k grows to another power
    of two.
    """
    other = copy.copy(self)
    other._choose(self._seeds if seeds is None else np.asarray(seeds), self._options | options)
    return other

  def constrained(self, constraints: Constraints) -> 'Session':
    """The same model with other constraints, for which it is compiled."""
    other = copy.copy(self)
    other._constrain(constraints)
    return other

  def writer(self) -> Callable[..., Generated]:
    """What writes with these options."""
    vocab_size = self._begin[0].shape[1]
    top_k = min(int(self._options['top_k']), vocab_size) or vocab_size
    width = min(1 << (top_k - 1).bit_length(), vocab_size) if self._options['top_p'] < 1 or top_k < vocab_size else 0
    return self._writers(width, self._options['min_p'] > 0)

  def begin(self, rows: int) -> SessionState:
    """Where text begins. It must be read from before anything is written: the logits mean nothing."""
    logits, network_state = tf.nest.map_structure(lambda s: tf.repeat(s, rows, 0), self._initial)
    return SessionState(logits, network_state, np.zeros(rows, np.int64))

  def parts(self, state: SessionState) -> list[tf.Tensor]:
    """Logits [B, V] and the parts of the network's state [B, H], without what constraints remember."""
    network_state = state.network_state.network if self._constraints else state.network_state
    return [state.logits, *tf.nest.flatten(network_state)]

  def resumed(self, parts: Sequence[tf.Tensor], written: np.ndarray, recent: Sequence[np.ndarray]) -> SessionState:
    """The inverse of `parts`. recent: of each text, the ids of its last tokens [n], which constraints look back on."""
    network_state = tf.nest.pack_sequence_as(self._begin[1], parts[1:])
    if self._constraints:
      network_state = self._constraints.recalled(network_state, recent)
    return SessionState(parts[0], network_state, written)

  def read(self, prompts: Sequence[np.ndarray], state: SessionState | None = None) -> SessionState:
    """Reads texts, side by side.

    Args:
      prompts: for each text ids [N] int32; the lengths may differ. Beside a state they may be 0, which leaves a text as
        it is.
      state: where the texts stood before; None starts afresh.

    Returns:
      Where they stand then.

    Raises:
      RunError: the model's weights are not finite.
    """
    rows, lengths = len(prompts), np.array([len(ids) for ids in prompts])
    assert state or lengths.all(), lengths
    logits, network_state, written = state or self.begin(rows)
    for start in range(0, lengths.max(), READ_TOKENS):
      parts = [ids[start:start + READ_TOKENS] for ids in prompts]
      tokens = np.zeros([rows, READ_TOKENS], np.int32)
      for row, part in zip(tokens, parts, strict=True):
        row[:len(part)] = part
      logits, network_state = self._read(tf.constant(tokens), tf.constant([len(part) for part in parts]), logits,
                                         network_state)
    if not np.isfinite(logits).all():
      raise RunError(NOT_FINITE)
    return SessionState(logits, network_state, written)

  def write(self, length: int, state: SessionState) -> Written:
    """Writes `length` tokens in each text. A state of one text may be given for all B."""
    parts, rows = [], len(self._seeds)
    state = state if len(state.written) == rows else take(state, [0] * rows)
    write = self.writer()
    for first in range(0, length, WRITE_TOKENS):
      count = min(WRITE_TOKENS, length - first)
      part = write(state.logits, state.network_state, scalar(count, tf.int32),
                   tf.constant(state.written, tf.int64), *self._inputs)
      parts.append([part.tokens.numpy()[:, :count], part.log_probs.numpy()[:, :count]])
      state = SessionState(part.logits, part.state, state.written + count)
    tokens, log_probs = (np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True))
    return Written(tokens, log_probs, state)


def _reader(advance: Step) -> Callable[..., tuple[tf.Tensor, Any]]:
  """-> a compiled function (tokens [P, N], lengths [P], logits [P, V], state) -> logits and state after them.

  A row without tokens stays as it is.
  """
  @tf.function(jit_compile=True, autograph=False)
  def read(tokens: tf.Tensor, lengths: tf.Tensor, logits: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
    after = prefill(advance, tokens, tf.maximum(lengths, 1), state)
    return tf.nest.map_structure(lambda new, old: tf.where(lengths[:, None] > 0, new, old), after, (logits, state))

  return read


def _writer(advance: Step, constraints: Constraints | None, width: int, relative: bool) -> Callable[..., Generated]:
  """Makes a compiled function that writes `length` tokens, at most WRITE_TOKENS.

  Args:
    advance: the model.
    constraints: what else decides.
    width: the most tokens that top_k and top_p keep; 0 where they keep all.
    relative: whether min_p rules tokens out.
  """
  @tf.function(jit_compile=True, autograph=False)
  def write(logits: tf.Tensor, state: Any, length: tf.Tensor, start: tf.Tensor, seeds: tf.Tensor,
            options: dict[str, tf.Tensor]) -> Generated:
    kept = options if width else options | {'top_k': 0, 'top_p': 1.0}
    return generate(advance, logits, state, length=length, seed=seeds, start=start, max_length=WRITE_TOKENS,
                    max_width=width, constrain=constraints.apply if constraints else None,
                    **kept | ({} if relative else {'min_p': 0.0}))

  return write


class TimedSession:
  """A session that knows how fast it writes. A call that compiles does not count."""

  def __init__(self, session: Session):
    self.read, self._session = session.read, session
    self._times: list[tuple[int, float]] = []  # of each call: tokens, seconds; 0 of one that compiled
    self._compiled = False

  def write(self, length: int, state: SessionState) -> Written:
    """As `Session.write`."""
    began = time.perf_counter()
    written = self._session.write(length, state)
    seconds = time.perf_counter() - began
    self._times.append((written.tokens.size, seconds if self._compiled else 0.0))
    self._compiled = True
    return written

  def drop(self, tokens: int) -> None:
    """Counts so many tokens of the last call no longer, as they were not used. Its time counts."""
    used, seconds = self._times[-1]
    self._times[-1] = used - tokens, seconds

  def change(self, **options: Any) -> None:
    """Writes on with other options, as in `Session.but`."""
    self._session = self._session.but(**options)
    self._compiled = self._compiled and not options.keys() - {'seeds', 'temperature'}

  def summary(self) -> str:
    """Says how many tokens were written, and how many per second."""
    seconds = sum(s for _, s in self._times)
    speed = f', {sum(n for n, s in self._times if s) / seconds:,.0f} per second' if seconds else ''
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
