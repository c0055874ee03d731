"""Writes charlm's training step as a program that a machine with a GPU or TPU runs without TensorFlow.

    python -m benchmarks.accelerator FOLDER [--platform=GPU|TPU] [--cells=gru,lstm] [--precisions=NAMES]
    python FOLDER/run.py                  there; it needs jax, and compares with PyTorch where that is

A program is the whole step: forward, gradient, clipping, Adam, the state carried. Its arguments are numbers that run.py
draws from a seed. The loss and the gradient's norm of its first step, computed here on the CPU, go along.
"""
import argparse
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

from benchmarks import accelerator_run
from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.training import learner
from charlm.training.distribution import Distribution, make_strategy
from data_pipeline.streams import Batch
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.training import TrainConfig

# How products are rounded: the flag, and how far the first step's loss may be from the CPU's, relatively; the norm of
# the gradient ten times as far. tf32 is what an NVIDIA GPU makes of float32; a TPU makes bfloat16 of it.
PRECISIONS = {'float32': ('full_float32', 1e-4), 'tf32': ('float32', 1e-3), 'bfloat16': ('bfloat16', 1e-2)}
TYPES = {xla_data_pb2.F32: 'float32', xla_data_pb2.S64: 'int64', xla_data_pb2.S32: 'int32', xla_data_pb2.PRED: 'bool'}
SIZES = dict(batch_size=64, chunk_length=200, units=512, layers=2, vocab_size=96, embedding_size=128)
FILES = {'run.py': 'accelerator_run.py', 'torch_step.py': 'accelerator_torch.py'}


def arguments():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('folder', help='where the programs are written')
  parser.add_argument('--platform', choices=['GPU', 'TPU'], default='GPU', help='what the programs are for')
  parser.add_argument('--cells', default='gru,lstm', help='some of the default, separated by commas')
  parser.add_argument('--precisions', help='some of float32, tf32 (GPU alone) and bfloat16; all by default')
  for name, value in SIZES.items():
    parser.add_argument(f'--{name}', type=int, default=value)
  args = parser.parse_args()
  known = [name for name in PRECISIONS if name != 'tf32' or args.platform == 'GPU']
  args.cells, args.precisions = args.cells.split(','), args.precisions.split(',') if args.precisions else known
  for name, values in dict(cells=['gru', 'lstm'], precisions=known).items():
    if set(getattr(args, name)) - set(values):
      parser.error(f'--{name}={",".join(getattr(args, name))}: expected some of {",".join(values)}')
  return args


def make_learner(sizes: dict[str, int], cell: str, compute_dtype: str, platform: str) -> learner.Learner:
  """The Learner of a new model."""
  config = ModelConfig(cell=cell, compute_dtype=compute_dtype,
                       **{name: sizes[name] for name in ('units', 'layers', 'embedding_size')})
  model = LanguageModel(config, sizes['vocab_size'], backend=choice.choose('xla', config, platform))
  data = DataConfig(batch_size=sizes['batch_size'], chunk_length=sizes['chunk_length'])
  return learner.Learner(model, TrainConfig(), data, Distribution(make_strategy('default')))


def inputs(one: learner.Learner, vocab_size: int) -> tuple[Any, Any, Any]:
  """What its step takes: a chunk of tokens, the carry, the decisions."""
  rows, length = one.batch_size, one.longest
  tokens = tf.random.stateless_uniform([rows, length + 1], [0, 0], 0, vocab_size, tf.int32)
  batch = Batch(tokens, tf.zeros([rows], tf.bool), tf.ones([rows, length]))
  return batch, one.initial_carry(), learner.StepDecisions(*(tf.constant(x, tf.float32) for x in (0.5, 1, 1)))


def program(one: learner.Learner, given: tuple[Any, Any, Any]) -> Any:
  """The step as an HloModuleProto: the arguments given, then the variables, which are outputs again, last."""
  hlo = one._step.experimental_get_compiler_ir(*given)(stage='hlo_serialized')
  module = hlo_pb2.HloModuleProto.FromString(hlo)
  for instruction in (i for computation in module.computations for i in computation.instructions):
    instruction.ClearField('metadata')
    if instruction.opcode == 'copy':  # which StableHLO does not have
      instruction.opcode = 'reshape'
  return module


def tensors(nest: Any) -> list[tf.Tensor]:
  """Those of a nest in which some may be left out."""
  return [a for a in tf.nest.flatten(nest) if a is not None]


def describe(value: np.ndarray, vocab_size: int) -> dict[str, Any]:
  """How accelerator_run.draw makes such an array."""
  facts = {'shape': list(value.shape), 'dtype': str(value.dtype)}
  if value.size and (value == value.flat[0]).all():
    return {**facts, 'kind': 'constant', 'value': value.flat[0].item()}
  if value.dtype == np.int32:
    return {**facts, 'kind': 'tokens', 'value': vocab_size}
  return {**facts, 'kind': 'normal', 'value': float(value.std())}


def first_step(one: learner.Learner, given: tuple[Any, Any, Any], values: list[np.ndarray]) -> dict[str, float]:
  """The metrics of a step on the CPU, from these arguments and variables."""
  values = iter(values)
  given = tf.nest.map_structure(lambda a: a if a is None else tf.constant(next(values)), given)
  for variable, value in zip(captured(one, given), values, strict=True):
    tf.raw_ops.AssignVariableOp(resource=variable, value=tf.constant(value))
  return {name: float(value) for name, value in one._step(*given)[0].items()}


def captured(one: learner.Learner, given: tuple[Any, Any, Any]) -> list[tf.Tensor]:
  """The variables of its step, in the order of its program."""
  return one._step.get_concrete_function(*given).captured_inputs


def write(folder: pathlib.Path, name: str, sizes: dict[str, int], cell: str, precision: str, platform: str) -> None:
  """NAME.hlo; and NAME.json: its arguments, which outputs they are next, what the CPU makes of the first step."""
  compute_dtype, tolerance = PRECISIONS[precision]
  one = make_learner(sizes, cell, compute_dtype, platform)
  given = inputs(one, sizes['vocab_size'])
  module, flat = program(one, given), tensors(given)
  read = [tf.raw_ops.ReadVariableOp(resource=v, dtype=v._handle_data.shape_and_type[0].dtype)
          for v in captured(one, given)]
  arguments = [describe(a.numpy(), sizes['vocab_size']) for a in [*flat, *read]]
  metrics = first_step(one, given, [accelerator_run.draw(facts, i) for i, facts in enumerate(arguments)])
  before, carry = len(tensors(given[0])), len(tensors(given[1]))
  feedback = [[len(metrics) + i, before + i] for i in range(carry)]
  feedback += [[alias.output_shape_index[0], alias.parameter_number] for alias in module.input_output_alias.entries]
  module.ClearField('input_output_alias')
  outputs = [{'shape': list(s.dimensions), 'dtype': TYPES[s.element_type]}
             for s in module.host_program_shape.result.tuple_shapes]
  expected = {'nats': [metrics['nats'], tolerance], 'gradient_norm': [metrics['gradient_norm'], 10 * tolerance]}
  facts = dict(sizes=sizes, cell=cell, precision=precision, arguments=arguments, outputs=outputs, feedback=feedback,
               metrics=sorted(metrics), expected=expected)
  (folder / f'{name}.hlo').write_bytes(module.SerializeToString())
  (folder / f'{name}.json').write_text(json.dumps(facts) + '\n')


def main():
  args = arguments()
  folder = pathlib.Path(args.folder)
  folder.mkdir(parents=True, exist_ok=True)
  for name, source in FILES.items():
    shutil.copy(pathlib.Path(__file__).with_name(source), folder / name)
  sizes = {name: getattr(args, name) for name in SIZES}
  for cell in args.cells:
    for precision in args.precisions:
      write(folder, f'{cell}-{precision}', sizes, cell, precision, args.platform)
  print(f'python {folder}/run.py on a machine with a {args.platform}')


if __name__ == '__main__':
  main()
