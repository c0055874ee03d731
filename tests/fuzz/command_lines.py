"""Command lines of all commands, drawn from the dataclasses of their flags, so that new ones take part at once."""
import dataclasses
import importlib
import inspect
import pkgutil

from hypothesis import strategies as st

import charlm.commands
from flags.schema import Texts
from fuzz.place import TINY, flags

GARBAGE = ['', ' ', 'x', '-1', '0', '1e400', 'nan', '-inf', 'None', 'True', '1,2', '[]', '{}', '0x10', '1_0', '٣',
           'a\nb', '\udcff', '--', '-', '=', '"', "'", '\\', '%s', '{x}', '\x1b[0m', 'x' * 3000, '9' * 30, '9' * 5000,
           '1e5', '½']
TEXTS = ['', 'x', 'momentum=0.9', 'a=b', ' ', '\n', '\\n', '\\n\\n', '\udcff', '世', 'x' * 3000, '\x07', '%d', '=', ',']
PATHS = ['run', 'text.txt', 'new', 'new/deep', 'no/such', '', '.', '~', '~/new', 'empty', 'text.txt/x', '*.txt', '*',
         '[', 'run/checkpoints', 'n' * 300, 'n/' * 2000 + 'n', '\udcff', '\n', ' ', 'pydoc', 'tfds:',
         'tfds:no_such_set', 'tokens:new', 'tokens:', 'tokens:run', 'tokens:s3://no/such', 'gs://no/such',
         'file:///no/such', '/dev/null', '/dev/full', '/dev/stdin']
# Choices of time, which have to be small; of the others, small and impossible values are drawn.
TIMES = {'steps': [1, 2, 3, -1, 10**30], 'epochs': [0, 0.01, 1, 2, -1, float('inf')],
         'max_minutes': [0, 1e-9, 0.001, 0.01, -1, float('inf')]}
BASES = {'train': {'corpus': 'text.txt', 'workdir': 'new', **TINY}, 'evaluate': {'workdir': 'run'},
         'sample': {'workdir': 'run', 'length': 3}, 'score': {'workdir': 'run'},
         'export': {'workdir': 'run', 'export_dir': 'new'},
         'prepare': {'corpus': 'text.txt', 'tokens_dir': 'new', 'workers': 1}}

OPERANDS = {'score'}  # commands that take files without a flag


def commands():
  """{name: the dataclasses of its flags} of all commands."""
  names = [module.name for module in pkgutil.iter_modules(charlm.commands.__path__)]
  found = {name: getattr(importlib.import_module(f'charlm.commands.{name}'), 'run', None) for name in names}
  return {name: inspect.getclosurevars(run).nonlocals['groups'] for name, run in found.items() if run}


COMMANDS = commands()


def texts(field):
  """Values for a flag that holds text: those of its choices, paths where it names one, others."""
  if 'choices' in field.metadata:
    return st.sampled_from([*field.metadata['choices'], field.metadata['choices'][-1].upper(), *GARBAGE])
  if field.name in ('corpus', 'init_from', 'html', 'prompts') or field.name.endswith(('dir', 'file')):
    return st.sampled_from(PATHS)
  return st.sampled_from(TEXTS)


def numbers(field):
  """Values for a flag that holds a number: its limits and what is next to them, small ones, impossible ones."""
  limits = [field.metadata[name] for name in ('minimum', 'above', 'maximum', 'below') if name in field.metadata]
  low = limits[0] if limits else 0
  small = [low, low + 1, low + 2, low + 5] if field.type is int else [low, *(low + x for x in (1e-9, 0.1, 0.5, 1.0))]
  small += [limit for limit in limits if abs(limit) <= 1]
  large = [10**30, -10**30] if field.type is int else [float('nan'), float('inf'), -1.0]
  beyond = [low - 1, *(limit + 1 for limit in limits[1:])]
  return st.sampled_from(TIMES.get(field.name, [field.default, *small, *small, *beyond, *large]))


def value(field):
  """A value for a flag, as it is given: seldom one of another type."""
  of_type = texts(field) if field.type in (str, Texts) else st.sampled_from(
      ['true', 'false', '1', '0', 'maybe']) if field.type is bool else numbers(field)
  garbage = [text for text in GARBAGE if text != '0' or field.name not in TIMES]  # 0 steps are no limit
  return st.integers(0, 11).flatmap(lambda n: st.sampled_from(garbage) if n == 11 else of_type)


@st.composite
def command_line(draw, command):
  """Flags of a command: those that it is quick with, a few others, seldom one twice or one that there is not."""
  fields = [field for group in COMMANDS[command] for field in dataclasses.fields(group)]
  chosen = dict(BASES.get(command, {'workdir': 'run'}))
  for _ in range(draw(st.sampled_from([0, 1, 1, 2, 2, 3, 5]))):
    field = draw(st.sampled_from(fields))
    chosen[field.name] = draw(value(field))
  operands = st.lists(st.sampled_from([*PATHS, *['text.txt'] * 60, '-', '-']), min_size=1, max_size=3)
  line = flags(chosen) + (draw(operands) if command in OPERANDS else [])
  odd = draw(st.integers(0, 15))
  if odd == 15:
    line += [draw(st.sampled_from(['--no_such_flag=1', '--no_such_flag', 'x', '--', '-', '--=', '--help', '--helpfull',
                                   '--workdir', '--nocorpus', '--flagfile=', '--flagfile=no/such', '--flagfile',
                                   '--undefok=x', '---x', '\udcff']))]
  if odd == 14:
    line += [draw(st.sampled_from(line))]
  if odd == 13:
    line.remove(draw(st.sampled_from([flag for flag in line if not flag.startswith('--steps')])))
  return line
