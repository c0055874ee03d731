"""Layer norm (Ba, Kiros, Hinton 2016), and where it stands in a recurrent layer.

Layer norm subtracts the mean of a product over its units. Removing the mean of each row of the weights does the same,
so `centre` does that once a step, and each token is divided by its root mean square only.
"""
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

EPSILON = 1e-5

Gates = Sequence[tf.Tensor]  # k tensors [B, H], one for each gate of a cell


def centre(weights: tf.Tensor, groups: Sequence[int]) -> tf.Tensor:
  """Removes the mean of each row over each group of columns.

  Args:
    weights: [.., sum(groups)].
    groups: columns of each group that is normalised together, in order.
  """
  parts = tf.split(weights, list(groups), -1)
  return tf.concat([p - tf.reduce_mean(p, -1, keepdims=True) for p in parts], -1)


def layer_norm(a: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor, groups: Sequence[int]) -> tf.Tensor:
  """Layer norm of a product with `centre`d weights, group by group: a [.., sum(groups)]; gain, bias [sum(groups)]."""
  parts = tf.split(a, list(groups), -1)
  normal = [p * tf.math.rsqrt(tf.reduce_mean(tf.square(p), -1, keepdims=True) + EPSILON) for p in parts]
  return tf.concat(normal, -1) * gain + bias


class Norm(NamedTuple):
  """Where layer norm stands in a recurrent layer, between its products and the gates of a cell.

  In what follows x are the projections of the input and p = h U those of the state: lists of k tensors [B, H], one
  for each gate. `groups` counts the gates that are normalised together. `gains` has a list of k gains [H] for each
  weight [kH] of the norm.

  Attributes:
    sizes: (gates, groups, units) -> columns of each tensor that `forward` saves for the gradient, a nest.
    forward: (x, p, gains, groups) -> x and a as a cell takes them, and what is saved, tensors [B, columns].
    restore: (saved, gains) -> a again.
    backward: (dx, da, saved, gains, groups) -> gradients of x, of p, and of the gains, these not yet summed over rows.
  """
  sizes: Callable[..., Any]
  forward: Callable[..., Any]
  restore: Callable[..., Any]
  backward: Callable[..., Any]


def _group_means(gates: Gates, groups: Sequence[int]) -> list[tf.Tensor]:
  """k tensors [B, H] -> the mean [B, 1] of each group, over the units of all its gates."""
  remaining = iter(gates)
  members = [list(itertools.islice(remaining, count)) for count in groups]
  return [tf.add_n([tf.reduce_mean(m, -1, keepdims=True) for m in group]) / len(group) for group in members]


def _inverse_rms(gates: Gates, groups: Sequence[int]) -> list[tf.Tensor]:
  """k tensors of mean 0 -> 1 / root mean square of each group, [B, 1]."""
  return [tf.math.rsqrt(mean + EPSILON) for mean in _group_means([tf.square(g) for g in gates], groups)]


def _for_each_gate(values: Gates, groups: Sequence[int]) -> list[tf.Tensor]:
  """One value of each group -> one for each gate."""
  return [value for value, count in zip(values, groups, strict=True) for _ in range(count)]


def _times(gates: Gates, factors: Gates) -> list[tf.Tensor]:
  return [g * f for g, f in zip(gates, factors, strict=True)]


def _separate_forward(x: Gates, p: Gates, gains: Sequence[Gates], groups: Sequence[int]) -> tuple[Gates, Gates, tuple]:
  inverses = _inverse_rms(p, groups)
  n = _times(p, _for_each_gate(inverses, groups))
  return x, _times(n, gains[0]), (n, inverses)


def _separate_backward(dx: Gates, da: Gates, saved: tuple, gains: Sequence[Gates],
                       groups: Sequence[int]) -> tuple[Gates, Gates, list[Gates]]:
  n, inverses = saved
  dgain = _times(da, n)
  means = _for_each_gate(_group_means(_times(dgain, gains[0]), groups), groups)
  dp = [i * (d * g - m * mean)
        for i, d, g, m, mean in zip(_for_each_gate(inverses, groups), da, gains[0], n, means, strict=True)]
  return dx, dp, [dgain]


def _joint_forward(x: Gates, p: Gates, gains: Sequence[Gates], groups: Sequence[int]) -> tuple[Gates, Gates, tuple]:
  """Both over the root mean square of x + p. A cell adds x and a, so that it sees LN(x + p; gain) + bias."""
  gain, bias = gains
  inverses = _inverse_rms([m + q for m, q in zip(x, p, strict=True)], groups)
  n_x, n_p = (_times(gates, _for_each_gate(inverses, groups)) for gates in (x, p))
  x = [m * g + b for m, g, b in zip(n_x, gain, bias, strict=True)]
  return x, _times(n_p, gain), (n_x, n_p, inverses)


def _joint_backward(dx: Gates, da: Gates, saved: tuple, gains: Sequence[Gates],
                    groups: Sequence[int]) -> tuple[Gates, Gates, list[Gates]]:
  n_x, n_p, inverses = saved
  dgain = [d * m + e * q for d, m, e, q in zip(dx, n_x, da, n_p, strict=True)]
  means = _for_each_gate(_group_means(_times(dgain, gains[0]), groups), groups)
  shared = [(m + q) * mean for m, q, mean in zip(n_x, n_p, means, strict=True)]
  of_x, of_p = ([i * (d * g - s) for i, d, g, s in zip(_for_each_gate(inverses, groups), gates, gains[0], shared,
                                                       strict=True)] for gates in (dx, da))
  return of_x, of_p, [dgain, list(dx)]


NORMS = {
  # x is normalised where it is made, p here.
  'separate': Norm(sizes=lambda gates, groups, units: ([units] * gates, [1] * groups), forward=_separate_forward,
                   restore=lambda saved, gains: _times(saved[0], gains[0]), backward=_separate_backward),
  # x + p is normalised here.
  'joint': Norm(sizes=lambda gates, groups, units: ([units] * gates, [units] * gates, [1] * groups),
                forward=_joint_forward, restore=lambda saved, gains: _times(saved[1], gains[0]),
                backward=_joint_backward),
  # No layer norm.
  'none': Norm(sizes=lambda gates, groups, units: [units] * gates, forward=lambda x, p, gains, groups: (x, p, p),
               restore=lambda saved, gains: saved, backward=lambda dx, da, saved, gains, groups: (dx, da, [])),
}
