"""What a table of counts reaches on the same split: an interpolated Kneser-Ney n-gram model over bytes.

    python -m benchmarks.ngram [--corpus=pydoc] [--order=5] [--workdir=demo]

prints one JSON object: nats per byte of the validation split under the n-gram model and, with --workdir, the best
validation loss of the byte model that was trained there on the same split. Source: Chen and Goodman (1998), "An
Empirical Study of Smoothing Techniques for Language Modeling", with one discount n1 / (n1 + 2 n2) per order.
"""
import argparse
import collections
import json
import math

import numpy as np

from charlm.workdir import checkpoint
from data_pipeline import prepare
from flags.data import DataConfig


class KneserNey:
  """p(token | the order - 1 tokens before it)."""

  def __init__(self, tokens, order, vocab_size):
    """tokens: bytes."""
    self.order, self.vocab_size, self.levels = order, vocab_size, []
    counts = collections.Counter(tokens[i:i + order] for i in range(len(tokens) - order + 1))
    for _ in range(order):
      ones, twos = (sum(c == k for c in counts.values()) for k in (1, 2))
      totals, kinds = collections.Counter(), collections.Counter()
      for gram, count in counts.items():
        totals[gram[:-1]] += count
        kinds[gram[:-1]] += 1
      self.levels.append((counts, totals, kinds, ones / (ones + 2 * twos) if ones else 0.5))
      # A shorter gram counts as often as there are different tokens before it.
      counts = collections.Counter(gram[1:] for gram in counts)

  def probability(self, gram):
    """gram: order tokens, of which the last is predicted."""
    p = 1 / self.vocab_size
    for counts, totals, kinds, discount in reversed(self.levels):
      part = gram[len(gram) - len(next(iter(counts))):]
      total = totals[part[:-1]]
      if total:
        p = (max(counts[part] - discount, 0) + discount * kinds[part[:-1]] * p) / total
    return p

  def nats(self, tokens):
    """Mean over all tokens that have order - 1 tokens before them."""
    n = self.order
    return -sum(math.log(self.probability(tokens[i:i + n])) for i in range(len(tokens) - n + 1)) / (len(tokens) - n + 1)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--corpus', default='pydoc')
  parser.add_argument('--order', type=int, default=5)
  parser.add_argument('--workdir')
  args = parser.parse_args()
  tokenizer, files = prepare.prepare(DataConfig(corpus=args.corpus))
  train, valid = (np.array(files[split].read()).tobytes() for split in ('train', 'valid'))
  result = {'corpus': args.corpus, 'order': args.order,
            'ngram_nats_per_token': KneserNey(train, args.order, tokenizer.vocab_size).nats(valid)}
  if args.workdir:
    result['charlm_nats_per_token'] = checkpoint.read(checkpoint.best_path(args.workdir))[1]['best_nats']
  print(json.dumps(result))


if __name__ == '__main__':
  main()
