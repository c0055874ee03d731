"""Finds texts in what is written token by token, wherever tokens cut them (Aho, Corasick 1975).

The state says how much of a text stands at the end of what was written: the longest end that begins one of them. What a
token does to it is a table, so that a loop over tokens handles no strings.
"""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Automaton(NamedTuple):
  """What a token does to the state, and whether a text ends in it."""
  begun: list[bytes]  # what each state stands for; state 0 is nothing
  after: np.ndarray  # [states, V] int32: the state after a token
  found: np.ndarray  # [states, V] bool: a text ends within the token, or with it


def automaton(texts: Iterable[bytes], pieces: Sequence[bytes]) -> Automaton:
  """Makes the automaton of some texts.

  Args:
    texts: none of them empty. One that holds another is left out: the other is found first.
    pieces: the bytes of each token.
  """
  begun, of_bytes, ends = _of_bytes(set(texts))
  after = np.empty([len(begun), len(pieces)], np.int32)
  found = np.zeros([len(begun), len(pieces)], bool)
  for token, piece in enumerate(pieces):
    states = np.arange(len(begun))
    for byte in piece:
      found[:, token] |= ends[states, byte]
      states = of_bytes[states, byte]
    after[:, token] = states
  return Automaton(begun, after, found)


def _of_bytes(texts: set[bytes]) -> tuple[list[bytes], np.ndarray, np.ndarray]:
  """The automaton that reads byte by byte: begun, the states after each byte and whether a text ends [states, 256]."""
  texts = {text for text in texts if not any(other in text for other in texts - {text})}
  begun = sorted({text[:n] for text in texts for n in range(len(text))} | {b''}, key=lambda text: (len(text), text))
  number = {text: state for state, text in enumerate(begun)}
  after, ends = np.zeros([len(begun), 256], np.int32), np.zeros([len(begun), 256], bool)
  for state, text in enumerate(begun):
    shorter = next((number[text[i:]] for i in range(1, len(text)) if text[i:] in number), 0)
    if state:
      after[state], ends[state] = after[shorter], ends[shorter]
    for byte in range(256):
      longer = text + bytes([byte])
      if longer in number:
        after[state, byte] = number[longer]
      ends[state, byte] |= longer in texts
  return begun, after, ends
