"""What a model loses where text begins: the loss of the first tokens after a fresh start, all along a split.

    python -m benchmarks.cold_start --workdir=DIR [--tokens=20]

cuts the validation split into stretches of so many tokens, each of which is read from the initial state on, and prints
a JSON object: the mean loss of a stretch's first, second, ... prediction in nats, and the number of stretches. The
first prediction has read one token.
"""
import argparse
import json

import numpy as np
import tensorflow as tf

from charlm.network import losses
from charlm.workdir import trained_model
from data_pipeline import prepare

ROWS = 1024  # at a time


def evaluate(model, tokens, length):
  """Losses after fresh starts.

  Args:
    model: a LanguageModel.
    tokens: a 1-D array, of more than `length` tokens.
    length: K, tokens to predict after a start; starts are that many tokens apart.

  Returns:
    {'nats_per_token': [K] means over stretches, 'stretches': count}.
  """
  @tf.function(jit_compile=True, autograph=False)
  def score(stretches):
    outputs, _ = model(stretches[:, :-1], model.initial_state(stretches.shape[0]))
    return losses.nats(outputs.logits, stretches[:, 1:])

  stretches = np.lib.stride_tricks.sliding_window_view(tokens, length + 1)[::length].astype(np.int32)
  nats = np.concatenate([score(part) for part in np.split(stretches, range(ROWS, len(stretches), ROWS))])
  return {'nats_per_token': nats.mean(0, np.float64).tolist(), 'stretches': len(stretches)}


def main():
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--tokens', type=int, default=20)
  args = parser.parse_args()
  opened = trained_model.load_model(args.workdir)
  config = opened.config
  source = prepare.find(opened.state['text'], config.places.candidates(config.data, args.workdir),
                        named=f'--workdir={args.workdir}', remedy='Bring it back')
  _, files = prepare.tokenize(source, opened.tokenizer)
  print(json.dumps(evaluate(opened.model, np.array(files['valid'].read()), args.tokens)))


if __name__ == '__main__':
  main()
