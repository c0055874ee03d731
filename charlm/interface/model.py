"""A trained model in Python.

    import charlm
    model = charlm.load('runs/book')
    for generated in model.generate(['It was', 'It is'], length=200, seed=1):
      print(generated.text)
"""
import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from charlm.generation.constraints import Constraints
from charlm.generation.prompts import Prompt, encode_named, unknown_characters
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session, check_memory, text_memory
from charlm.interface import arguments, likelihood, writing
from charlm.interface.likelihood import Likelihood
from charlm.interface.results import Generated, Score, Token
from charlm.interface.state import State, fresh, saved
from charlm.interface.streaming import Stream
from charlm.interface.writing import Opening
from charlm.network.runtime import memory_bytes
from charlm.workdir import layout, trained_model
from charlm.workdir.trained_model import TrainedModel
from flags.generation import SampleConfig
from flags.schema import MANY

KEPT = 8  # sets of penalties and bans whose functions stay compiled
ONE = np.zeros(1, np.int64)  # the seed of a text that is read


class Constrained(NamedTuple):
  """Options of `Constraints`, those of the same flags."""
  repetition_penalty: float
  repetition_window: int
  ban: tuple[str, ...]
  ban_unknown: bool


def load(workdir: str | os.PathLike, *, weights: str = 'best', recurrence: str = 'auto') -> 'Model':
  """Opens a trained model.

  Args:
    workdir: the folder that charlm-train wrote.
    weights: 'best', those with the lowest validation loss, or 'last'.
    recurrence: what computes it: 'xla', 'native' for the kernels on a CPU, or 'auto', which takes these where they are.

  Raises:
    UserError: there is no model, or an argument is none of these.
    RunError: a file cannot be read, or is damaged.
  """
  with arguments.named():
    given = SampleConfig(workdir=arguments.folder('workdir', workdir), weights=weights, recurrence=recurrence)
    layout.read_config(given.workdir)
    return Model(trained_model.load_model(given.workdir, given.weights, given.recurrence))


class Model:
  """A trained model. It has no state of its own: threads may share it.

  Attributes:
    opened: its configuration, its weights, the state of its training.
    tokenizer: text to tokens and back.
  """

  def __init__(self, opened: TrainedModel):
    """Reads the weights. The first calls of each method compile, for each number of texts side by side."""
    self.opened, self.tokenizer, state = opened, opened.tokenizer, opened.state
    name = repr([self.tokenizer.fingerprint, state['text'], state['step'], opened.config.to_json()])
    self._plain = Session(opened.model, ONE)
    self._fresh = fresh(self._plain, hashlib.sha256(name.encode()).hexdigest())
    self._constrained = functools.lru_cache(KEPT)(self._constrain)
    self._likelihood = functools.cache(lambda: Likelihood(opened.model, self.tokenizer))

  def generate(self, prompts: Sequence[str | bytes] = ('',), *, length: int = SampleConfig.length,
               temperature: float = SampleConfig.temperature, top_k: int = SampleConfig.top_k,
               top_p: float = SampleConfig.top_p, min_p: float = SampleConfig.min_p,
               repetition_penalty: float = SampleConfig.repetition_penalty,
               repetition_window: int = SampleConfig.repetition_window, stop: str | Sequence[str] = (),
               ban: str | Sequence[str] = (), ban_unknown: bool = False, seed: int = SampleConfig.seed,
               num_samples: int = 1, state: State | Sequence[State] | None = None) -> list[Generated]:
    """Goes on from prompts, side by side; each text is what it would be alone.

    Args:
      prompts: texts to go on from. An empty one starts afresh, or leaves the state that is given as it is.
      length: tokens to write for each.
      temperature, top_k, top_p, min_p, repetition_penalty, repetition_window, ban_unknown: as of charlm-sample.
      stop: a text, or several: what is written ends before the first of them that turns up.
      ban: a text, or several, that are never written.
      seed: of the first prompt; the others have the next ones.
      num_samples: texts for each prompt, with random numbers of their own.
      state: where the text before the prompts stands, one for all or one for each; None is no text.

    Returns:
      The texts: `num_samples` for the first prompt, then those for the second, and so on.

    Raises:
      UserError: an argument is not what it may be.
      RunError: the model's weights are not finite.
    """
    config = arguments.options(
      length=length, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
      repetition_penalty=repetition_penalty, repetition_window=repetition_window, stop=stop, ban=ban,
      ban_unknown=ban_unknown, seed=seed, num_samples=num_samples)
    openings = self._openings('prompts', prompts, state)
    found: list[Generated] = []
    with arguments.named():
      config.check_seeds(len(openings))
      batches = self.write(config, openings, config.num_samples)
    for batch in batches:
      found += [Generated(row.text(), row.num_tokens, row.log_prob, row.stopped, after)
                for row, after in zip(batch.rows, batch.states(), strict=True)]
    return found

  def stream(self, prompt: str | bytes = '', *, length: int = SampleConfig.length,
             temperature: float = SampleConfig.temperature, top_k: int = SampleConfig.top_k,
             top_p: float = SampleConfig.top_p, min_p: float = SampleConfig.min_p,
             repetition_penalty: float = SampleConfig.repetition_penalty,
             repetition_window: int = SampleConfig.repetition_window, stop: str | Sequence[str] = (),
             ban: str | Sequence[str] = (), ban_unknown: bool = False, seed: int = SampleConfig.seed,
             state: State | None = None) -> Stream:
    """Goes on from a prompt: the text of `generate` with the same arguments, in parts, as it is written.

    Leaving it early costs no more than a few tokens. Args and errors: as of `generate`.

    Returns:
      An iterator of str, whose `state` is where the text stands.
    """
    config = arguments.options(
      length=length, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
      repetition_penalty=repetition_penalty, repetition_window=repetition_window, stop=stop, ban=ban,
      ban_unknown=ban_unknown, seed=seed)
    opening = self._opening('prompt', prompt, state)
    with arguments.named():
      session = self.session(config, np.array([config.seed]))
    return Stream(session, opening, writing.text_stream(self.tokenizer, opening, config.stop), config.length)

  def next(self, prompt: str | bytes = '', *, n: int = 10, state: State | None = None) -> list[Token]:
    """The `n` likeliest next tokens after a prompt, the most likely first. Args and errors: as of `generate`."""
    n = arguments.count('n', n, MANY)
    return likelihood.likeliest(self.tokenizer, self._read('prompt', prompt, state).logits, n)

  def read(self, text: str | bytes, state: State | None = None) -> State:
    """Reads a text -> where it stands then, from where the other methods go on.

    Args:
      text: an empty one counts as a line end where there is no state, and leaves a state as it is.
      state: where the text before it stands.

    Raises:
      UserError, RunError: as of `generate`.
    """
    return self._read('text', text, state)

  def score(self, texts: Sequence[str | bytes], *, tokens: bool = False,
            state: State | Sequence[State] | None = None) -> list[Score]:
    """Says how likely texts are, each by itself.

    Args:
      texts: of any lengths. Each is read after an empty prompt, or after the state that is given.
      tokens: whether the log-probability of each token is wanted, too.
      state: as of `generate`.

    Raises:
      UserError, RunError: as of `generate`.
    """
    given = arguments.texts('texts', texts)
    states = arguments.states(state, self._fresh, len(given))
    self._warn_of_unknown('texts', given)
    ids = [self._encoded(f'texts[{i}]', text) if text else np.zeros(0, np.int32) for i, text in enumerate(given)]
    scorer = self._likelihood()
    nats = scorer.nats(ids) if state is None else map(scorer.nats_after, states, ids)
    return [scorer.score(*row, tokens) for row in zip(given, ids, nats, strict=True)]

  def session(self, config: SampleConfig, seeds: np.ndarray) -> Session:
    """What writes texts with these options. config: checked flags. seeds: [B] int64, one for each text."""
    session = self._constrained(Constrained(*(getattr(config, name) for name in Constrained._fields)))
    return session.but(seeds=seeds, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p,
                       min_p=config.min_p)

  def _constrain(self, chosen: 'Constrained') -> Session:
    constraints = Constraints(self.tokenizer, **chosen._asdict())
    return self._plain.constrained(constraints) if constraints else self._plain

  def write(self, config: SampleConfig, openings: Iterable[Opening], samples: int) -> Iterator[writing.Batch]:
    """Writes texts, batch by batch.

    Args:
      config: checked flags.
      openings: what the texts go on from.
      samples: texts for each of these.

    Raises:
      UserError: the memory does not hold a single one.
    """
    model, length = self.opened.model, config.length
    check_memory(model, 1, length, config.window)
    rows = min(writing.ROWS, writing.rows_within(memory_bytes() // text_memory(model, length, config.window)))
    wanted = ((opening, seed) for i, opening in enumerate(openings)
              for seed in row_seeds(config.seed + i, samples).tolist())
    return writing.batches(self.session(config, ONE), self.tokenizer, wanted, length=length, stop=config.stop,
                           rows=rows)

  def opening(self, prompt: Prompt, state: State | None = None) -> Opening:
    """What a text goes on from. Raises UserError where the tokenizer cannot read the prompt, whose source it names."""
    if state not in (None, self._fresh) and not prompt.text:
      return Opening(state, b'', np.zeros(0, np.int32))
    return Opening(state or self._fresh, prompt.text, encode_named(self.tokenizer, prompt))

  def _openings(self, name: str, given: Sequence[str | bytes],
                state: State | Sequence[State] | None) -> list[Opening]:
    texts = arguments.texts(name, given)
    self._warn_of_unknown(name, texts)
    states = arguments.states(state, self._fresh, len(texts))
    return [self.opening(Prompt(f'{name}[{i}]', text), one)
            for i, (text, one) in enumerate(zip(texts, states, strict=True))]

  def _opening(self, name: str, given: str | bytes, state: State | None) -> Opening:
    text = arguments.text(name, given)
    self._warn_of_unknown(name, [text])
    return self.opening(Prompt(name, text), arguments.states(state, self._fresh, 1)[0])

  def _warn_of_unknown(self, name: str, texts: Iterable[bytes]) -> None:
    if unknown := unknown_characters(self.tokenizer, texts):
      level, frame = 1, sys._getframe()
      while frame.f_back and frame.f_globals['__name__'] == __name__:
        level, frame = level + 1, frame.f_back
      warnings.warn(f'{name}: the model has never seen {unknown}', stacklevel=level)

  def _read(self, name: str, text: str | bytes, state: State | None) -> State:
    opening = self._opening(name, text, state)
    return saved(self._plain, writing.read(self._plain, [opening]), [opening.state], [opening.ids])[0]

  def _encoded(self, name: str, text: bytes) -> np.ndarray:
    return encode_named(self.tokenizer, Prompt(name, text))
