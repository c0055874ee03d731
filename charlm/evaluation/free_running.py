"""Free-running evaluation: how fast a model goes astray once it reads its own samples.

The text is cut into stretches of K tokens. Up to the start of each, the model reads the true text; after that, what it
samples. The j-th loss of a stretch is that of its j-th true token after j - 1 samples, so that the first is the usual
one, and what the losses rise by is what reading one's own samples costs:

    read      .. x0 | x1 .. samples .. | x5 | ..           K = 5
    judged       x1   x2   x3   x4   x5  x6   ..

A stretch in which the text ends or a document starts is left out. A stretch's samples follow from the seed and its
place in the text, whatever the rows and chunks are.
"""
import numpy as np
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.generation import decoding, rollout
from charlm.network import losses, native


def evaluate_file(model, file, steps, *, seed=0, batch_size=0, length=scoring.EVALUATION_LENGTH, recurrence='auto',
                  bar=None):
  """Runs freely from all along a split.

  Args:
    model: a LanguageModel.
    file: a TokenFile of at least 2 tokens.
    steps: K, at least 2.
    seed: what all samples follow from.
    batch_size, length, bar: as in `scoring.evaluate_file`; chunks are as much longer as makes them whole stretches.
    recurrence: a flag.

  Returns:
    {'nats': [K] sums over stretches, 'stretches': count}.
  """
  length = -(-min(length, file.num_tokens - 1) // steps) * steps
  rows = scoring.rows_of(file, batch_size, length)
  native_kernels = native.chosen(recurrence, model.config)

  @tf.function(jit_compile=True, autograph=False)
  def score(batch, carry, first):
    """first [B] int64: the number of each row's first stretch in the text -> carry, nats [K], count."""
    state = model.reset(carry, batch.reset)
    logits, states, carry = model(batch.tokens[:, :-1], state, native_kernels=native_kernels, starts=batch.starts)
    stretches = rollout.cut(batch, states, logits, steps - 1, every=steps)
    place = tf.reshape(first + tf.range(length // steps, dtype=tf.int64)[:, None], [-1])
    numbers = decoding.random_numbers(seed + place * 2**32, 0, steps - 1)[:, :, 0]
    free, _ = rollout.run(model.stepper(native_kernels), stretches, tf.ones_like(stretches.inputs, tf.bool), numbers,
                             initial=model.initial_state(place.shape[0]))

    def at_starts(x):
      """[B, T] -> [1, P B]"""
      return tf.reshape(tf.transpose(x[:, ::steps]), [1, -1])

    observed = at_starts(losses.nats(logits, batch.tokens[:, 1:]))
    nats = tf.concat([observed, losses.nats(free, stretches.targets)], 0)
    whole = tf.reduce_min(tf.concat([at_starts(batch.weight), stretches.weight], 0), 0)
    if stretches.starts is not None:
      whole *= 1 - tf.cast(tf.reduce_any(stretches.starts, 0), tf.float32)
    return carry, (tf.linalg.matvec(nats, whole), tf.reduce_sum(whole))

  carry, sums, offset = model.initial_state(rows.batch_size), [], -rows.lead
  batches = scoring.stream(file, rows, length)
  for batch in bar(batches, rows.steps(length=length, stride=length)) if bar else batches:
    carry, part = score(batch, carry, tf.constant((np.arange(rows.batch_size) * rows.length + offset) // steps))
    sums.append(part)
    offset += length
  nats, count = (np.sum(np.array(s, np.float64), 0) for s in zip(*sums, strict=True))
  return {'nats': nats.tolist(), 'stretches': int(count)}
