"""Muon: momentum whose matrices are made orthogonal, so that a step moves all directions by about as much.

    m ← momentum m + gradient
    W ← W - rate 0.2 √max(rows, columns) polar(gradient + momentum m)

polar(U S Vᵀ) = U Vᵀ. The factor makes the root mean square of a step that of Adam's (Liu et al. 2025, "Muon is Scalable
for LLM Training"). The recurrent kernel of a layer is as many matrices as the cell has gates, side by side, and each is
made orthogonal by itself, as are the maps to them from the layer's inputs. Vectors, the embedding and the output, each
row of which is met with its own frequency, are trained by Adam.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""
import re
from collections.abc import Sequence

import keras
import tensorflow as tf

# Of the steps x ← a x + b x³ + c x⁵ on singular values in [0.001, 1], each the best for where the last leaves them:
# Amsel et al. 2025, "The Polar Express", algorithm 1. The last goes on.
COEFFICIENTS = [(8.28721201814563, -23.595886519098837, 17.300387312530933),
                (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
                (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
                (3.3184196573706015, -2.488488024314874, 0.51004894012372),
                (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
                (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
                (1.875, -1.25, 0.375)]
SAFETY = 1.01  # rounding may make a singular value this much larger than 1
ADAMS = re.compile(r'embedding|output_(?!projection)')  # names of matrices that Adam trains


def polar(matrix: tf.Tensor, steps: int = 5) -> tf.Tensor:
  """U Vᵀ of a matrix U S Vᵀ, roughly.

  Args:
    matrix: [m, n].
    steps: how many, of three products each; five bring singular values above 0.01 of the norm to 1 ± 0.13.
  """
  tall = matrix.shape[0] > matrix.shape[1]
  x = tf.transpose(matrix) if tall else matrix
  x /= SAFETY * tf.norm(x) + 1e-7
  for i in range(steps):
    a, b, c = COEFFICIENTS[min(i, len(COEFFICIENTS) - 1)]
    if i < steps - 1:
      a, b, c = a / SAFETY, b / SAFETY**3, c / SAFETY**5
    square = tf.matmul(x, x, transpose_b=True)
    x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
  return tf.transpose(x) if tall else x


class Muon(keras.optimizers.Optimizer):
  """An optimizer as Keras has them. Its variables: a momentum of each weight, a velocity of those that Adam trains."""

  def __init__(self, learning_rate: float = 0.02, weight_decay: float | None = None, name: str = 'muon',
               momentum: float = 0.95, nesterov: bool = True, ns_steps: int = 5, adam_beta_1: float = 0.9,
               adam_beta_2: float = 0.999, epsilon: float = 1e-7, **options: object):
    """ns_steps: of `polar`. options: of Keras's optimizers. Raises ValueError where ns_steps is not 1 to 20."""
    super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **options)
    if not 1 <= ns_steps <= 20:
      raise ValueError(f'ns_steps={ns_steps}')
    self.momentum, self.nesterov, self.ns_steps = momentum, nesterov, ns_steps
    self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon

  def build(self, variables: Sequence[tf.Variable]) -> None:
    if self.built:
      return
    super().build(variables)
    units = {found[1]: v.shape[0] for v in variables if (found := re.match(r'recurrent_(\d+)_kernel', v.name))}
    self._momenta, self._velocities, self._matrices = [], [], []
    for v in variables:
      layer = re.match(r'recurrent_(\d+)_', v.name)
      orthogonal = v.shape.rank == 2 and not ADAMS.match(v.name)
      self._matrices.append(v.shape[1] // units[layer[1]] if orthogonal and layer else int(orthogonal))
      self._momenta.append(self.add_variable_from_reference(v, 'momentum'))
      self._velocities.append(None if orthogonal else self.add_variable_from_reference(v, 'velocity'))

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
    """Changes one weight by its gradient."""
    i, rate = self._get_variable_index(variable), tf.cast(learning_rate, variable.dtype)
    m, v, count = self._momenta[i], self._velocities[i], self._matrices[i]
    if v is not None:
      step = tf.cast(self.iterations + 1, variable.dtype)
      self.assign(m, m + (1 - self.adam_beta_1) * (gradient - m))
      self.assign(v, v + (1 - self.adam_beta_2) * (gradient**2 - v))
      rate *= tf.sqrt(1 - self.adam_beta_2**step) / (1 - self.adam_beta_1**step)
      self.assign_sub(variable, rate * m / (tf.sqrt(tf.convert_to_tensor(v)) + self.epsilon))
      return
    self.assign(m, self.momentum * m + gradient)
    direction = gradient + self.momentum * m if self.nesterov else tf.convert_to_tensor(m)
    parts = [polar(part, self.ns_steps) for part in tf.split(direction, count, 1)]
    scale = 0.2 * max(variable.shape[0], variable.shape[1] // count)**0.5
    self.assign_sub(variable, rate * scale * tf.concat(parts, 1))
