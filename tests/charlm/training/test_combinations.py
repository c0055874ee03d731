"""Options in combination: a run that is killed and started again ends in the bits of one that was not.

The combinations are drawn from the fields of the dataclasses, so that a new option takes part as it comes. What a kill
leaves is what is in the workdir at that moment; a copy of it then saves a third run, whose compilation takes longest.
test_train_resume.py kills processes, and resumes quicker runs.
"""
import dataclasses
import functools
import random
import shutil

import pytest

from charlm.commands import train
from charlm.training import learner, optimizer
from charlm.training.resume import INHERITED_FLAGS
from charlm.workdir import layout
from flags.config import Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.network import ModelConfig
from flags.schema import LARGE
from flags.training import TrainConfig
from runs import assert_same_run, last

GROUPS = {'data': DataConfig, 'model': ModelConfig, 'train': TrainConfig}
STEPS, SAVE_EVERY, KILLED_AFTER = 14, 4, 9
# The same in all: where the text is, what is written and when, limits that the clock sets, and what acts after passes
# (test_train_resume.py resumes that).
GIVEN = {'corpus', 'data_dir', 'text_feature', 'cache_dir', 'steps', 'max_minutes', 'flat_epochs', 'report_every',
         'eval_every', 'save_every', 'sample_every', 'tpu'}
FLAGS = [f'--steps={STEPS}', f'--save_every={SAVE_EVERY}', '--report_every=4', '--eval_every=2', '--sample_every=0']
# What limits and choices do not tell: sizes that compile and train in no time, and what acts within so few steps.
VALUES = {
    'valid_fraction': [0.0], 'test_fraction': [0.1], 'vocab_size': [300], 'batch_size': [2, 6],
    'chunk_length': [5, 9], 'chunk_overlap': [1, 3], 'chunk_curriculum': ['4,9', '5,7'],
    'document_separator': ['. ', '\n'], 'embedding_size': [3, 8], 'input_layers': [0, 2], 'input_units': [3, 8],
    'layers': [1], 'units': [3, 8], 'optimizer': sorted(optimizer.optimizers()),
    'optimizer_constants': ['momentum=0.9', 'beta_1=0.8', 'epsilon=1e-5'], 'learning_rate': [0.01, 0.001],
    'warmup_steps': [0, 5], 'plateau_patience': [1], 'ema_decay': [0.5, 0.9], 'average_patience': [0, 2],
    'epochs': [30.0], 'patience': [4], 'init_from': ['the first'],
    'strategy': ['mirrored']}
FIELDS = {f.name: f for group in GROUPS.values() for f in dataclasses.fields(group) if f.name not in GIVEN}
LAST, MOST = {'strategy', 'init_from', 'init_weights'}, 5
# What the native kernels ask for, and the first combination leaves; what the one with two replicas always has.
KERNELS = {'cell', 'norm', 'layer_norm', 'compute_dtype', 'document_reset'}
SHARED = {'professor_forcing', 'clip_percentile', 'chunk_overlap'}
# Sizes whose defaults would take long, and a batch that two devices can share.
SMALL = {'units': 6, 'embedding_size': 4, 'input_units': 4, 'batch_size': 4, 'chunk_length': 6}


def draw_value(field, rng):
  """A value that the field accepts, by its limits and its default."""
  limits, default = field.metadata, field.default
  low, high = (limits.get(a, limits.get(b)) for a, b in [('minimum', 'above'), ('maximum', 'below')])
  if field.name in VALUES or 'choices' in limits:
    return rng.choice(VALUES.get(field.name) or [choice for choice in limits['choices'] if choice != default])
  if field.type is bool:
    return not default
  if field.type is int:
    return default + rng.randint(1, 3)
  assert field.type is float, f'{field.name}: say in VALUES what to draw for it'
  if high in (None, LARGE):
    return default * rng.choice([0.5, 2.0]) or 0.5
  return low + (high - low) * rng.uniform(0.1, 0.6)


def accepted(flags):
  """Whether the dataclasses and Keras accept these flags."""
  try:
    config = Config().replace(flags)
  except UserError:
    return False
  return takes(config.train.optimizer, config.train.optimizer_constants)


@functools.cache
def takes(name, constants):
  """Whether Keras knows the optimizer and these constants of it."""
  try:
    optimizer.choose_optimizer(TrainConfig(optimizer=name, optimizer_constants=constants))
  except UserError:
    return False
  return True


def draw(rng, names):
  """-> {flag: value}, all away from their defaults: those of `names` that the others do not refuse."""
  flags = {}
  for _ in range(3):  # what one field refuses may be accepted once others are drawn
    for name in rng.sample(sorted(names), len(names)):
      value = draw_value(FIELDS[name], rng)
      if name not in flags and value != FIELDS[name].default and accepted(small(flags | {name: value})):
        flags[name] = value
  if 'init_from' in flags:  # which brings its network and tokenizer; bytes are never invalid
    flags = {name: value for name, value in flags.items() if name not in {*INHERITED_FLAGS, 'on_invalid'}}
  return flags


def small(flags):
  """The flags, with sizes that are drawn or small."""
  sizes = dict(SMALL)
  if flags.get('input_layers') == 0:
    del sizes['input_units']
  if 'chunk_curriculum' in flags:
    del sizes['chunk_length']
  if flags.get('tokenizer') == 'sentencepiece':
    sizes['vocab_size'] = VALUES['vocab_size'][0]
  if 'init_from' in flags:
    sizes = {name: value for name, value in sizes.items() if name not in INHERITED_FLAGS}
  return sizes | flags


def combinations(seed):
  """Combinations, until each field was away from its default: each of about half of the fields beside those missing.

  The first is of what the native kernels compute. Only the last has two replicas, which compile twice, and starts from
  another model, the first.
  """
  rng, missing, chosen = random.Random(seed), set(FIELDS), []
  while missing and len(chosen) < MOST:
    ends = missing <= LAST
    held = set() if ends else LAST if chosen else LAST | KERNELS
    wanted = missing | SHARED if ends else missing
    candidates = [draw(rng, {name for name in FIELDS if name in wanted or rng.random() < 0.5} - held)
                  for _ in range(50)]
    chosen.append(max(candidates, key=lambda flags: len(wanted & flags.keys())))
    missing -= chosen[-1].keys()
  assert chosen[-1].keys() >= SHARED | LAST, 'another seed would draw them'
  return chosen


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Two files of 700 characters in all, so that there are documents, and several passes in a few steps."""
  folder = tmp_path_factory.mktemp('corpus')
  for name, text in ('best', 'It was the best of times. '), ('worst', 'It was the worst of times!\n'):
    (folder / name).write_text(text * 13)
  return folder


def killed_copy(monkeypatch, workdir, copy):
  """From now on a run in `workdir` leaves in `copy` what a kill in its step KILLED_AFTER + 1 would leave of it."""
  step, steps = learner.Learner.step, []

  def watched(self, *args, **options):
    steps.append(None)
    if len(steps) == KILLED_AFTER + 1:
      shutil.copytree(workdir, copy)
    return step(self, *args, **options)

  monkeypatch.setattr(learner.Learner, 'step', watched)


def resumes_bit_for_bit(flags, corpus, folder, monkeypatch):
  """Trains with these flags unbroken, killed and resumed; fails where they differ. -> the workdir."""
  arguments = ['charlm-train', f'--corpus={corpus}', *FLAGS, *(f'--{k}={v}' for k, v in small(flags).items())]
  print(*arguments)  # for whoever reads a failure
  with monkeypatch.context() as patch:
    killed_copy(patch, folder / 'whole', folder / 'killed')
    train.run([*arguments, f'--workdir={folder / "whole"}'])
  newest = KILLED_AFTER // SAVE_EVERY * SAVE_EVERY  # which may still have been on its way to the disk
  assert last(folder / 'killed')[1]['step'] in (newest - SAVE_EVERY, newest), arguments
  train.run([*arguments, f'--workdir={folder / "killed"}'])
  assert_same_run(folder / 'whole', folder / 'killed')
  return folder / 'whole'


@pytest.mark.slow
def test_killed_with_any_options_it_ends_in_the_same_bits(corpus, tmp_path, monkeypatch):
  undrawn, defaults, chosen = set(FIELDS), Config().flat(), combinations(seed=84)
  for i, flags in enumerate(chosen):
    (tmp_path / str(i)).mkdir()
    if 'init_from' in flags:
      flags['init_from'] = tmp_path / '0' / 'whole'
    whole = resumes_bit_for_bit(flags, corpus, tmp_path / str(i), monkeypatch)
    undrawn -= {name for name, value in layout.read_config(whole).flat().items() if value != defaults[name]}
  assert not undrawn, 'another seed, or more combinations, would draw them'
