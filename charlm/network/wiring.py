"""What each recurrent layer reads of the layers below it, and what the logits read of all."""
import itertools
from collections.abc import Sequence

import tensorflow as tf


def inputs(wiring: str, outputs: Sequence[tf.Tensor]) -> tuple[bool, list[tf.Tensor]]:
  """What the next recurrent layer reads, of the outputs h_1, .., h_i [.., H] of those below it and of the entry x.

      plain      h_i
      residual   h_1 + .. + h_i                                He et al. 2016
      dense      x; h_1; ..; h_i                               Huang et al. 2017
      dual_path  x; a_1 + .. + a_i; b_1; ..; b_i               Chen et al. 2017; a_j, b_j: the halves of h_j's units

  The first layer reads x. The entry x is what the feed-forward layers make of a token.

  Returns:
    whether x is read, and the other inputs; each input has a projection of its own.
  """
  if not outputs:
    return True, []
  if wiring in ('plain', 'residual'):
    return False, [outputs[-1] if wiring == 'plain' else tf.add_n(outputs)]
  if wiring == 'dense':
    return True, list(outputs)
  half = outputs[0].shape[-1] // 2
  return True, [tf.add_n([h[..., :half] for h in outputs]), *(h[..., half:] for h in outputs)]


def combine(how: str, wiring: str, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
  """What the logits read of the outputs y_1, .., y_L [.., H] of all layers: their sum, the last, or all side by side.

  y_i = h_i; with --wiring=residual y_i = y_(i-1) + h_i, where there is a layer below.
  """
  if wiring == 'residual':
    outputs = list(itertools.accumulate(outputs))
  if how == 'sum':
    return tf.add_n(outputs)
  return outputs[-1] if how == 'last' else tf.concat(outputs, -1)
