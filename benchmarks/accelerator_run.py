"""Runs the training steps that lie beside this file on this machine's GPU or TPU.

    python run.py [--steps=N] [--repeats=N] [NAME ..]

It needs jax of a version in JAX, and nothing else. charlm's benchmarks/accelerator.py wrote them. The first step of
each is compared with what a CPU made of it. Where PyTorch is, its GRU and LSTM (cuDNN) take turns with them."""
import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).parent
JAX = (0, 10), (0, 12)  # from this version, to below that one
STABLEHLO = '1.9.0'  # the version in which jax is handed a program


def draw(facts, number):
  """Argument `number` of a program, as its description says."""
  random, shape, value = np.random.default_rng([0, number]), facts['shape'], facts['value']
  drawn = {'constant': lambda: np.full(shape, value), 'tokens': lambda: random.integers(0, value, shape),
           'normal': lambda: value * random.standard_normal(shape)}[facts['kind']]()
  return drawn.astype(facts['dtype'])


def load(jax, name, facts):
  """A program -> a function of its arguments. Those that are outputs again are donated."""
  from jax.extend import mlir
  taken, made = ([jax.ShapeDtypeStruct(a['shape'], a['dtype']) for a in facts[of]] for of in ('arguments', 'outputs'))
  like = jax.jit(lambda *_: [jax.numpy.zeros(a.shape, a.dtype) for a in made], keep_unused=True)
  module = mlir.serialize_portable_artifact(mlir.hlo_to_stablehlo((HERE / f'{name}.hlo').read_bytes()), STABLEHLO)
  exported = dataclasses.replace(jax.export.export(like)(*taken), mlir_module_serialized=module)
  return jax.jit(exported.call, donate_argnums=[argument for _, argument in facts['feedback']])


def measure(jax, name, facts, steps, repeats):
  """-> seconds of a step in each repeat, to compile; {metric of the first: how far from the CPU's, relatively}."""
  step, state = load(jax, name, facts), [jax.device_put(draw(a, i)) for i, a in enumerate(facts['arguments'])]

  def run(count):
    began = time.perf_counter()
    for _ in range(count):
      outputs = step(*state)
      for output, argument in facts['feedback']:
        state[argument] = outputs[output]
    metrics = [float(m) for m, _ in zip(outputs, facts['metrics'], strict=False)]  # waits for the device
    return (time.perf_counter() - began) / count, dict(zip(facts['metrics'], metrics, strict=True))

  compiling, first = run(1)
  off = {metric: abs(first[metric] / value - 1) for metric, (value, _) in facts['expected'].items()}
  return [run(steps)[0] for _ in range(repeats + 1)][1:], compiling, off


def measure_torch(facts, steps, repeats):
  """-> seconds of a step of PyTorch in each repeat."""
  given = dict(facts['sizes'], cell=facts['cell'], precision=facts['precision'], steps=steps, repeats=repeats)
  command = [sys.executable, HERE / 'torch_step.py', json.dumps(given)]
  return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def row(name, sizes, seconds, *others):
  tokens, best, median = sizes['batch_size'] * sizes['chunk_length'], min(seconds), statistics.median(seconds)
  speeds = f'{tokens / best:,.0f} / {tokens / median:,.0f}', f'{1000 * best:.2f}'
  print(f'| {" | ".join([name, *speeds, *others])} |', flush=True)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('names', nargs='*', metavar='NAME', default=sorted(path.stem for path in HERE.glob('*.hlo')))
  parser.add_argument('--steps', type=int, default=50, help='in a repeat')
  parser.add_argument('--repeats', type=int, default=5)
  args = parser.parse_args()
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # leaves memory to PyTorch
  import jax
  if not JAX[0] <= jax.__version_info__[:2] < JAX[1]:
    sys.exit('jax: expected version {}.{} or later, below {}.{}; got {}'.format(*JAX[0], *JAX[1], jax.__version__))
  jax.config.update('jax_enable_x64', True)  # steps are counted in int64
  print(f'{jax.devices()[0].device_kind}, jax {jax.__version__}, {args.repeats} repeats of {args.steps} steps\n')
  print(f'| step | tokens/s, best / median | ms a step, best | loss, gradient off | s to compile |\n{5 * "| --- "}|')
  wrong = []
  for name in args.names:
    facts = json.loads((HERE / f'{name}.json').read_text())
    seconds, compiling, off = measure(jax, name, facts, args.steps, args.repeats)
    row(name, facts['sizes'], seconds, ', '.join(f'{far:.0e}' for far in off.values()), f'{compiling:.0f}')
    if importlib.util.find_spec('torch'):
      row(f'PyTorch {name}', facts['sizes'], measure_torch(facts, args.steps, args.repeats), '', '')
    wrong += [f'{name}: {metric}' for metric, (_, most) in facts['expected'].items() if not off[metric] <= most]
  if wrong:
    sys.exit(f'the first step is not the one that the CPU made: {", ".join(wrong)}')


if __name__ == '__main__':
  main()
