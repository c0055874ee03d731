"""What run.py measures: each function alternates the sides of one comparison and returns `report.Row`s."""
import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time

from benchmarks import report
from benchmarks.alternation import ROOT, Work, alternate, side
from benchmarks.report import Goal, Pair, Row
from flags.network import ModelConfig

VOCAB = {'vocab_size': 96, 'embedding_size': 128}
VALID_TOKENS = 111_540  # as the last tenth of Tiny Shakespeare has
NOISE = ('dropout', 'recurrent_dropout', 'zoneout')
CELLS = {'nn.GRU': 'GRU', 'nn.LSTM': 'LSTM', 'layer-norm GRU, a loop': 'LayerNormGRU',
         'layer-norm GRU, a tuned loop': 'TunedLayerNormGRU'}


@dataclasses.dataclass(frozen=True)
class Sizes:
  """How large the tasks are."""
  large: dict
  small: dict
  lengths: tuple
  batches: tuple
  units: tuple
  layers: tuple
  flops: float  # of matrix products in a repeat of training at least, so that it takes a while
  valid_tokens: int
  written: int  # tokens in a text, for sampling
  streams: int
  product: int
  corpus: str
  memory_steps: int
  growth: tuple  # two steps


FULL = Sizes(large=dict(batch_size=64, chunk_length=200, units=512, layers=2),
             small=dict(batch_size=16, chunk_length=64, units=192, layers=2),
             lengths=(50, 100, 200, 400), batches=(8, 16, 32, 64, 128), units=(128, 256, 512, 1024),
             layers=(1, 2, 3, 4), flops=6e10, valid_tokens=VALID_TOKENS, written=512, streams=64, product=2048,
             corpus='stdlib', memory_steps=20, growth=(1_000, 10_000))
QUICK = Sizes(large=dict(batch_size=16, chunk_length=32, units=64, layers=2),
              small=dict(batch_size=4, chunk_length=16, units=32, layers=2),
              lengths=(8, 16), batches=(4, 8), units=(32, 64), layers=(1, 2), flops=1e8, valid_tokens=5_000, written=64,
              streams=8, product=512, corpus='pydoc', memory_steps=5, growth=(100, 300))


def words(size):
  names = dict(batch_size='B', chunk_length='T', units='H', layers='L')
  return ', '.join(f'{names[k]} {v}' for k, v in size.items())


def flops(size):
  """Of a token in training."""
  chosen = ModelConfig()
  return report.training_flops(**VOCAB, **size, input_units=chosen.input_units, input_layers=chosen.input_layers)


class Bench:
  """All sections, their choices and everything that was measured."""

  def __init__(self, sizes, torch_python, repeats, note):
    self.sizes, self.torch_python, self.repeats, self.note = sizes, torch_python, repeats, note
    self.measured = []  # every work, for the JSON
    self.tables = []  # (title, headings, lines) that stand below the main one

  # Sides and works.

  @contextlib.contextmanager
  def sides(self):
    """-> charlm's side, and PyTorch's or None."""
    with contextlib.ExitStack() as stack:
      ours = stack.enter_context(side(sys.executable, 'benchmarks.charlm_tasks'))
      peer = self.torch_python and stack.enter_context(side(self.torch_python, 'benchmarks.torch_tasks'))
      yield ours, peer

  def alternate(self, works, repeats=None):
    """works: {name: Work}, those of no side left out -> the same, measured."""
    works = {name: work for name, work in works.items() if work.ask}
    alternate(list(works.values()), repeats or self.repeats, self.note)
    self.measured += [{'name': name, **{k: v for k, v in vars(work).items() if k != 'ask'}}
                      for name, work in works.items()]
    return works

  def products(self, ours, peer):
    return {f'product, {name}': Work(ask, 'product', {'size': self.sizes.product})
            for name, ask in (('TensorFlow', ours), ('PyTorch', peer))}

  def train_work(self, ask, size, **more):
    steps = math.ceil(self.sizes.flops / (flops(size) * size['batch_size'] * size['chunk_length']))
    return Work(ask, 'train', {**VOCAB, **size, 'steps': steps, **more})

  # Sections.

  def large(self):
    """Training, its share of the machine, evaluation and the input pipeline at the large size."""
    return self._training(self.sizes.large, {'nn.GRU': 1.2, 'nn.LSTM': None, 'layer-norm GRU, a loop': 7,
                                             'layer-norm GRU, a tuned loop': None}, share=Goal('>=', 0.6))

  def small(self):
    """The same at the small size."""
    return self._training(self.sizes.small, {'nn.GRU': 2.5, 'nn.LSTM': 1.2})

  def _training(self, size, peers, share=None):
    model = {name: size[name] for name in ('units', 'layers')}
    with self.sides() as (ours, peer):
      works = self.alternate({
          'train': self.train_work(ours, size),
          **{name: self.train_work(peer, size, cell=CELLS[name]) for name in peers},
          'evaluate': Work(ours, 'evaluate', {**VOCAB, **model, 'tokens': self.sizes.valid_tokens}),
          'pipeline': Work(ours, 'pipeline', {
              'vocab_size': VOCAB['vocab_size'], 'steps': 100, **{k: size[k] for k in ('batch_size', 'chunk_length')}}),
          **self.products(ours, peer)})
    speeds = {name: report.speed(work) for name, work in works.items()}
    train, at = speeds['train'], words(size)
    product = report.fastest([pair for name, pair in speeds.items() if name.startswith('product')])
    limit = Pair(*(p / flops(size) for p in product))
    self.note(f'large-matrix speed: {report.number(product.best / 1e9)} GFLOP/s')
    return [
        *(Row(f'train {at}, tokens/s', train, name, speeds[name], report.ratio(train, speeds[name]),
              goal and Goal('>=', goal)) for name, goal in peers.items() if name in speeds),
        Row(f'train {at}, tokens/s', train, 'its matrix products alone, at the speed of a '
            f'{self.sizes.product}³ product ({product.best / 1e9:.0f} / {product.median / 1e9:.0f} GFLOP/s)', limit,
            report.ratio(train, limit), share),
        Row(f'evaluate {self.sizes.valid_tokens:,} tokens, {words(model)}, tokens/s', speeds['evaluate'],
            'charlm training', train, report.ratio(speeds['evaluate'], train), Goal('>=', 4)),
        Row(f'input pipeline B {size["batch_size"]}, T {size["chunk_length"]}, tokens/s', speeds['pipeline'],
            'charlm training', train, report.ratio(speeds['pipeline'], train), Goal('>=', 100))]

  def sample(self):
    """Writing text at the large model's size."""
    rows = []
    model = {name: self.sizes.large[name] for name in ('units', 'layers')}
    for streams in (1, self.sizes.streams):
      options = {**VOCAB, **model, 'rows': streams, 'length': self.sizes.written}
      with contextlib.ExitStack() as stack:
        ours, peer = stack.enter_context(self.sides())
        works = {'charlm': Work(ours, 'sample', options), 'nn.GRU': Work(peer, 'sample', {**options, 'cell': 'GRU'})}
        if peer and streams == 1:  # where one thread may do better than all
          narrow = stack.enter_context(side(self.torch_python, 'benchmarks.torch_tasks', 1))
          works |= {'nn.GRU, one thread': Work(narrow, 'sample', {**options, 'cell': 'GRU'})}
          works['nn.GRU, all threads'] = works.pop('nn.GRU')
        works = self.alternate(works)
      speeds = {name: report.speed(work) for name, work in works.items()}
      mine = speeds.pop('charlm')
      what = f'sample {words(model)}, {streams} {"text" if streams == 1 else "texts"}, tokens/s'
      rows += [Row(what, mine, f'{name}, stepped', theirs, report.ratio(mine, theirs), Goal('>=', 2))
               for name, theirs in speeds.items()] or [Row(what, mine)]
    return rows

  def prepare(self):
    """Text to files of tokens."""
    with self.sides() as (ours, _):
      works = self.alternate({f'prepare {self.sizes.corpus} with --tokenizer={kind}, MB/s': Work(
          ours, 'tokenize', {'tokenizer': kind, 'spec': self.sizes.corpus}) for kind in ('byte', 'char')})
    return [Row(name, Pair(*(s / 1e6 for s in report.speed(work)))) for name, work in works.items()]

  def compile(self):
    """Tracing and compiling the training step."""
    rows = []
    for size in (self.sizes.large, self.sizes.small):
      with self.sides() as (ours, _):
        works = self.alternate({'step': Work(ours, 'train', {**VOCAB, **size, 'steps': 1}),
                                'first step': Work(ours, 'first_step', {**VOCAB, **size})}, min(3, self.repeats))
      seconds = report.difference(*(report.least(works[name].seconds) for name in ('first step', 'step')))
      rows.append(Row(f'trace and compile the training step {words(size)}, s', seconds, goal=Goal('<=', 10)))
    return rows

  def start(self):
    """The time to the first character of charlm-sample, and where it goes."""
    size = self.sizes.large
    with tempfile.TemporaryDirectory() as folder:
      self.note('trains a model to start')
      command(['charlm.commands.train', f'--workdir={folder}', f'--units={size["units"]}', f'--layers={size["layers"]}',
               '--batch_size=1', '--chunk_length=8', '--steps=1', '--sample_every=0', '--valid_fraction=0',
               f'--cache_dir={folder}'])
      seconds, phases = {'import tensorflow': [], 'first character': []}, []
      for i in range(self.repeats + 1):
        self.note(f'starts charlm-sample, repeat {i} of {self.repeats}')
        took = [first_character(['-c', 'import tensorflow; print(1)']),
                first_character(['charlm.commands.sample', f'--workdir={folder}', '--length=64'])]
        split = json.loads(command(['benchmarks.start', folder]))
        if i:  # the first reads the files from the disk
          phases.append(split)
          for name, s in zip(seconds, took, strict=True):
            seconds[name].append(s)
    self.measured += [{'name': name, 'seconds': s} for name, s in seconds.items()]
    self.measured += [{'name': f'start: {name}', 'seconds': [p[name] for p in phases]} for name in phases[0]]
    self.tables.append(('The start of charlm-sample, in seconds', ('phase', 'best / median'), [
        (name, report.least([p[name] for p in phases])) for name in phases[0]]))
    first, floor = (report.least(seconds[name]) for name in ('first character', 'import tensorflow'))
    return [Row('first character of charlm-sample, s (the ratio column is the difference)', first,
                'import tensorflow', floor, report.difference(first, floor), Goal('<=', 3))]

  def cost(self):
    """What a token of training costs at other sizes."""
    size, rows = self.sizes.large, []
    for name, values in (('chunk_length', self.sizes.lengths), ('batch_size', self.sizes.batches),
                         ('units', self.sizes.units), ('layers', self.sizes.layers)):
      with self.sides() as (ours, _):
        works = self.alternate({f'train {words(at)}': self.train_work(ours, at)
                                for at in ({**size, name: value} for value in values)})
      costs = {name: Pair(*(1e6 / s for s in report.speed(work))) for name, work in works.items()}
      self.tables.append((f'Cost of training by {words({name: ""}).strip()}, microseconds per token',
                          ('work', 'best / median', 'GFLOP/s of matrix products'), [
          (work, cost, Pair(*(flops({**size, name: value}) / c / 1e3 for c in cost)))
          for value, (work, cost) in zip(values, costs.items(), strict=True)]))
      if name == 'chunk_length':
        rows.append(Row(f'time per token over T {values[0]} to {values[-1]}, largest distance from the mean',
                        report.spread(list(costs.values())), goal=Goal('<=', 0.15)))
    return rows

  def noise(self):
    """Training with dropout and its kin, beside training without."""
    choices = {f'--{name}=0.2': {name: 0.2} for name in NOISE} | {'all three': dict.fromkeys(NOISE, 0.2)}
    size = self.sizes.large
    with self.sides() as (ours, _):
      works = self.alternate({'none': self.train_work(ours, size), **{
          name: self.train_work(ours, size, **options) for name, options in choices.items()}})
    speeds = {name: report.speed(work) for name, work in works.items()}
    without = speeds.pop('none')
    return [Row(f'train {words(size)} with {options}, tokens/s', pair, 'without', without,
                report.ratio(pair, without), Goal('>=', 0.9)) for options, pair in speeds.items()]

  def memory(self):
    """charlm-train's memory."""
    size, (early, late) = self.sizes.large, self.sizes.growth
    tiny = dict(batch_size=4, chunk_length=16, units=32, layers=1)

    def train(at, steps, watched):
      self.note(f'measures the memory of {steps:,} steps, {words(at)}')
      with tempfile.TemporaryDirectory() as folder:
        answer = json.loads(command(['benchmarks.memory', ','.join(map(str, watched)), f'--workdir={folder}/run',
                                     f'--steps={steps}', f'--cache_dir={folder}', '--sample_every=0',
                                     *(f'--{name}={value}' for name, value in at.items())]))
      self.measured.append({'name': f'memory {words(at)}', **answer})
      return answer

    # The heap goes up and down by some megabytes: the median of ten readings at each end.
    ends = [range(early, early * 3 // 2, early // 20), range(late - early // 2, late, early // 20)]
    big, long = train(size, self.sizes.memory_steps, [self.sizes.memory_steps]), train(tiny, late, [*ends[0], *ends[1]])
    imported, peak = big['imported'], big['peak']
    before, after = (report.median([long['after'][str(step)] for step in end]) for end in ends)
    growth = after - before
    return [Row(f'memory of charlm-train {words(size)} beyond its imports ({imported:.0f} MB), MB',
                Pair(peak - imported, peak - imported), goal=Goal('<=', 1500)),
            Row(f'growth of its memory from step {early:,} to {late:,}, {words(tiny)}, MB', Pair(growth, growth),
                goal=Goal('<=', 15))]


SECTIONS = ('large', 'small', 'sample', 'prepare', 'compile', 'start', 'cost', 'noise', 'memory')


def popen(arguments):
  """Python on a module, or on `-c CODE`, from the project's root."""
  how = arguments if arguments[0] == '-c' else ['-m', *arguments]
  return subprocess.Popen([sys.executable, *how], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'})


def command(arguments):
  """-> what it prints. Raises RuntimeError with what it complains of."""
  process = popen(arguments)
  out, err = process.communicate()
  if process.returncode:
    raise RuntimeError(f'{" ".join(arguments)}: {err}')
  return out


def first_character(arguments):
  """-> seconds from the start of a program to the first character that it writes."""
  began = time.perf_counter()
  with popen(arguments) as process:
    written = process.stdout.read(1)
    seconds = time.perf_counter() - began
    _, err = process.communicate()
  if not written:
    raise RuntimeError(f'{" ".join(arguments)}: {err}')
  return seconds
