"""How likely each token of many texts is, at the speed of evaluation.

All tokens count, the first one too: it is predicted after an empty prompt, as in the served `score`. `charlm-evaluate`
leaves the first one out.

Short documents are read in one piece (see `text_rows.py`). Longer ones go on in the next row, and the
rows are read until they meet, as in `scoring.py`: the figures are those of one row, to 1e-4 nats per token.
"""
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.evaluation.text_rows import Chunk, Layout, Shape, Tokens
from charlm.generation.prompts import encode_prompt
from charlm.network import losses
from charlm.network.model import LanguageModel
from data_pipeline.tokenizers.base import Tokenizer

GROUP_TOKENS = 1 << 20  # of texts that are read together, but for a text that is longer; it bounds the memory


class TokenScores(NamedTuple):
  """How likely the tokens of a text are."""
  nats: np.ndarray  # [N] float32, -log p of each token
  guesses: np.ndarray  # [N, G] int32, the likeliest tokens in its place, best first; G is 0 unless they are asked for
  guess_nats: np.ndarray  # [N, G] float32, -log p of these


class TokenScorer:
  """Scores the tokens of texts. What was compiled for some texts is there for the next."""

  def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, guesses: int = 0) -> None:
    """guesses: G, at most V."""
    self._chunks = _ChunkScorer(model, guesses)
    self._start = int(encode_prompt(tokenizer, b'')[0])

  def scores(self, texts: Iterable[Tokens], progress: scoring.Progress | None = None) -> Iterator[TokenScores]:
    """Scores texts, in their order.

    Args:
      texts: of any number and lengths. They are taken as they are needed, so that memory does not grow with their
        number.
      progress: shows how many chunks are done, of one group of texts after the other.
    """
    group: list[Tokens] = []
    size, shape = 0, None
    for text in texts:
      if size and size + len(text.ids) > GROUP_TOKENS:
        shape = yield from self._group(group, shape, progress)
        group, size = [], 0
      group.append(text)
      size += len(text.ids)
    if group:
      yield from self._group(group, shape, progress)

  def _group(self, texts: list[Tokens], shape: Shape | None,
             progress: scoring.Progress | None) -> Generator[TokenScores, None, Shape | None]:
    """Scores texts side by side. shape: of the group before, which is compiled. Returns that of this one."""
    if not any(len(text.ids) for text in texts):
      guesses = np.zeros([0, self._chunks.guesses], np.int32)
      yield from [TokenScores(np.zeros(0, np.float32), guesses, guesses.astype(np.float32))] * len(texts)
      return shape
    layout = Layout(texts, self._start, self._chunks.model.vocab_size, shape)
    show = scoring.shown(progress, layout.rows, layout.shape.length)
    chunks = scoring.settle(self._chunks, layout, layout.rows, show)[0]
    parts = zip(*((nats, *guesses) for ((nats, guesses),) in chunks), strict=True)  # each of all chunks
    yield from map(TokenScores, *(layout.of_texts([np.asarray(chunk) for chunk in part]) for part in parts))
    return layout.shape


class _ChunkScorer(scoring.OneDevice):
  """A Scorer with the nats of each token in place of their sum, and guesses in place of a count."""

  def __init__(self, model: LanguageModel, guesses: int) -> None:
    self.model = model.with_backend(model.backend.forward_only())
    self.guesses = guesses
    self._compiled = tf.function(self._score, jit_compile=True, autograph=False)

  def score(self, batch: Chunk, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`: nats [B, T]; guesses [B, T, G] and their nats; the carry."""
    nats, logits, norms, carry = self._compiled(*map(tf.constant, batch), carry)
    values, guesses = tf.math.top_k(logits, self.guesses)  # outside XLA, which sorts all of them
    return [(nats, (guesses, norms[..., None] - values))], carry

  def _score(self, inputs: tf.Tensor, targets: tf.Tensor, reset: tf.Tensor, carry: Any) -> tuple:
    """-> nats [B, T]; logits [B, T, V] and their log-sum-exp [B, T], for guesses, V being 0 without; the carry."""
    outputs, carry = self.model(inputs, self.model.reset(carry, reset))
    nats, logits = losses.nats(outputs.logits, targets), outputs.logits
    if not self.guesses:
      return nats, logits[..., :0], nats, carry
    return nats, logits, tf.reduce_logsumexp(logits, -1), carry
