"""How likely texts are: each token of each text."""
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from charlm.evaluation.text_rows import Tokens
from charlm.evaluation.token_scores import TokenScorer
from charlm.generation.session import NOT_FINITE
from charlm.interface.results import Score, Token
from charlm.interface.state import State
from charlm.network import losses
from charlm.network.model import LanguageModel
from data_pipeline.text_reader import count_characters
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError

CHUNK_LENGTH = 64  # tokens that are read at a time


class Likelihood:
  """Says how likely texts are. What was compiled for some texts is there for the next."""

  def __init__(self, model: LanguageModel, tokenizer: Tokenizer):
    self._tokenizer, self._afresh = tokenizer, TokenScorer(model, tokenizer)
    self._initial, reads = model.initial_state(1), model.with_backend(model.backend.forward_only())

    @tf.function(jit_compile=True, autograph=False)
    def read(inputs: tf.Tensor, targets: tf.Tensor, state: tuple) -> tuple[tf.Tensor, tuple]:
      outputs, state = reads(inputs, state)
      return losses.nats(outputs.logits, targets), state

    self._read = read

  def nats(self, ids: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """-log p of the tokens of texts that start afresh, after an empty prompt: [n] float32 for each."""
    return (found.nats for found in self._afresh.scores(Tokens(one) for one in ids))

  def nats_after(self, state: State, ids: np.ndarray) -> np.ndarray:
    """-log p of the tokens of a text that goes on from a state, [n] float32."""
    parts = [_nats(state.logits, ids[:1])]
    now = tf.nest.pack_sequence_as(self._initial, [tf.constant(part[None]) for part in state.network])
    for start in range(0, len(ids) - 1, CHUNK_LENGTH):
      pair = [ids[start + i:start + i + CHUNK_LENGTH] for i in (0, 1)]
      count = len(pair[1])
      inputs, targets = (tf.constant(np.resize(part, [1, CHUNK_LENGTH])) for part in pair)
      nats, now = self._read(inputs, targets, now)  # what follows the last token does not count
      parts.append(nats[0, :count].numpy())
    return np.concatenate(parts)

  def score(self, text: bytes, ids: np.ndarray, nats: np.ndarray, tokens: bool) -> Score:
    """A text and what its tokens cost -> its score, with them if they are asked for."""
    total, pairs = float(nats.sum(dtype=np.float64)), zip(ids.tolist(), nats.tolist(), strict=True)
    if not np.isfinite(total):
      raise RunError(NOT_FINITE)
    return Score(-total, len(ids), len(text), count_characters(text),
                 [token(self._tokenizer, *pair) for pair in pairs] if tokens else None)


def likeliest(tokenizer: Tokenizer, logits: np.ndarray, count: int) -> list[Token]:
  """The `count` likeliest next tokens, most likely first, of equally likely ones those with the lowest ids."""
  log_probs = _log_softmax(logits)
  best = np.argsort(-log_probs, kind='stable')[:count]
  return [token(tokenizer, i, -log_probs[i]) for i in best.tolist()]


def token(tokenizer: Tokenizer, number: int, nats: float) -> Token:
  """A token by its id."""
  piece = tokenizer.pieces[number]
  return Token(piece.decode('utf-8', 'replace'), piece, -float(nats))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  """In float64."""
  above = logits.astype(np.float64) - logits.max()
  return above - np.log(np.exp(above).sum())


def _nats(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
  """Of one token after these logits, or of none."""
  return -_log_softmax(logits)[ids].astype(np.float32)
