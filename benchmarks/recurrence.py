"""Times one layer-norm GRU layer, forward and gradient, compiled by XLA: charlm's against a plain loop.

    python benchmarks/recurrence.py [BxTxH ...]

The plain loop is what one would write first: the same arithmetic, one `tf.while_loop`, differentiated by
TensorFlow. The two are run alternately, because other work on the machine comes and goes; `cpu` is the processor
time of all threads, which other work disturbs less. GFLOP/s counts the three matrix products with U alone, and
their share is of the speed of one large product.

Tried, and what it cost beside the way it is done now (B 64, T 200, H 512; processor time of one thread, both in
one run; the matrix products alone are about 70% of it):

    gates computed again in the gradient instead of kept                      7 to 11% more
    the same at B 16, T 64, H 192                                             25 to 35% more
    gradient written over what the forward loop kept                          5 times: XLA copies the array each token
"""
import os
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import tensorflow as tf

from charlm import cells, recurrence

SIZES = '64x200x512', '32x64x256', '16x64x192'
REPEATS = 7


def plain_layer(cell, x, state, U, gain, bias):
  """The same layer, its gradient left to TensorFlow."""
  steps, U = x.shape[0], recurrence.centre(U, [count * U.shape[0] for count in cell.groups])
  xs = tf.TensorArray(x.dtype, steps, element_shape=x.shape[1:]).unstack(x)
  outputs = tf.TensorArray(x.dtype, steps, element_shape=state.shape)

  def body(t, h, outputs):
    h = recurrence.step(cell, xs.read(t), h, U, gain, bias)
    return t + 1, h, outputs.write(t, h)

  _, state, outputs = tf.while_loop(lambda t, *_: t < steps, body, (0, state, outputs), maximum_iterations=steps)
  return outputs.stack(), state


def with_gradient(layer):
  """-> compiled function: arguments of the layer, gradient of its outputs -> gradients."""
  @tf.function(jit_compile=True)
  def run(arguments, dy):
    with tf.GradientTape() as tape:
      tape.watch(arguments)
      outputs, _ = layer(cells.GRU, *arguments)
      loss = tf.reduce_sum(outputs * dy)
    return tape.gradient(loss, arguments)

  return run


def alternate(functions, repeats):
  """{name: function} -> {name: [(seconds, processor seconds), ..]}, each warmed up once before."""
  for function in functions.values():
    function()
  measured = {name: [] for name in functions}
  for _ in range(repeats):
    for name, function in functions.items():
      wall, cpu = time.perf_counter(), time.process_time()
      function()
      measured[name].append((time.perf_counter() - wall, time.process_time() - cpu))
  return measured


def main():
  square = tf.random.normal((2048, 2048))
  product = alternate({'product': lambda: tf.matmul(square, square).numpy()}, REPEATS)['product']
  large = 2 * 2048**3 / min(wall for wall, _ in product) / 1e9
  print(f'2048 x 2048 x 2048 product: {large:.0f} GFLOP/s')
  for size in sys.argv[1:] or SIZES:
    B, T, H = map(int, size.split('x'))
    arguments = [tf.random.normal((T, B, 3 * H)), tf.zeros((B, H)), tf.random.normal((H, 3 * H)) / H**0.5,
                 tf.ones(3 * H), tf.zeros(H)]
    dy = tf.random.normal((T, B, H))
    repeats = max(1, round(2e9 / (B * T * H * H)))

    def task(layer, arguments=arguments, dy=dy, repeats=repeats):
      run = with_gradient(layer)

      def several():
        for _ in range(repeats):
          gradients = run(arguments, dy)
        return gradients[-1].numpy()

      return several

    measured = alternate({'plain': task(plain_layer), 'hoisted': task(recurrence.recurrent_layer)}, REPEATS)
    flop = 3 * 2 * B * T * H * 3 * H * repeats / 1e9
    milliseconds = {name: np.array(times) * 1e3 / repeats for name, times in measured.items()}
    for name, times in milliseconds.items():
      (best, cpu), median = times.min(0), np.median(times[:, 0])
      speed = flop / best / repeats * 1e3
      print(f'B {B} T {T} H {H} {name:8} best {best:7.1f} median {median:7.1f} cpu {cpu:7.1f} ms, '
            f'{speed:5.1f} GFLOP/s, {speed / large:.0%} of the large product')
    ratios = [f(milliseconds['plain'], 0) / f(milliseconds['hoisted'], 0) for f in (np.min, np.median)]
    print(f'  hoisted is {ratios[0][0]:.2f} times as fast by best, {ratios[1][0]:.2f} by median, '
          f'{ratios[0][1]:.2f} by processor time')


if __name__ == '__main__':
  main()
