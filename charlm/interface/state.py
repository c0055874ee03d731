"""Where a text stands."""
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.generation.session import Session, SessionState
from flags.errors import UserError

RECENT = 4096  # tokens that a state remembers, for what looks back: repetition_window has this limit


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class State:
  """Where a text stands: all that a model knows of what it has read and written.

  It does not change: whatever takes one returns another. So a text can go on from the same state in several ways. It
  holds a few kilobytes, however long the text is, and can be pickled. It belongs to the model that it comes from.

  Attributes:
    model: which model that is.
    logits: [V], of the next token.
    network: the network's state, arrays [H].
    recent: [n] int32, the last tokens, at most RECENT.
    written: tokens that were written, for the random numbers: those of the next text follow on.
  """
  model: str
  logits: np.ndarray
  network: tuple[np.ndarray, ...]
  recent: np.ndarray
  written: int

  def __post_init__(self) -> None:
    for array in (self.logits, *self.network, self.recent):
      array.flags.writeable = False

  def __reduce__(self) -> tuple:
    """How it is pickled, so that what comes back cannot be changed either."""
    return State, (self.model, self.logits, self.network, self.recent, self.written)


def fresh(session: Session, model: str) -> State:
  """The state where text begins, of which no text can go on before it has read something. model: as of `State`."""
  logits, *network = (part[0].numpy() for part in session.parts(session.begin(1)))
  return State(model, logits, tuple(network), np.zeros(0, np.int32), 0)


def resumed(session: Session, states: Sequence[State]) -> SessionState:
  """States of B texts -> where a session of these stands."""
  parts = [tf.constant(np.stack(part)) for part in zip(*((s.logits, *s.network) for s in states), strict=True)]
  return session.resumed(parts, np.array([s.written for s in states]), [s.recent for s in states])


def saved(session: Session, state: SessionState, before: Sequence[State], ids: Sequence[Any]) -> list[State]:
  """Where a session stands -> the states of its first texts.

  Args:
    session: whose state it is.
    state: of B texts or more.
    before: the states of B texts at some time.
    ids: the tokens that each has read and written since then, arrays [n].
  """
  logits, *network = (part.numpy() for part in session.parts(state))
  return [State(one.model, logits[i].copy(), tuple(part[i].copy() for part in network),
                np.concatenate([one.recent, new])[-RECENT:].astype(np.int32), int(state.written[i]))
          for i, (one, new) in enumerate(zip(before, ids, strict=True))]


def check(name: str, state: Any, model: str) -> State:
  """A state that was given, if it is one of this model's. name: of the argument, for messages."""
  if not isinstance(state, State):
    raise UserError(f'{name}={str(state)[:40]}: expected a state, as Model.read returns')
  if state.model != model:
    raise UserError(f'{name}: expected a state of this model, this one is of another')
  return state
