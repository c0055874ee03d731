"""Every flag that a message names exists in the command that prints it, or is said to be another command's.

The messages are found in the sources: the texts in all functions that a command may reach, by the names that they use.
"""
import ast
import dataclasses
import importlib
import re

import pytest

import all_flags
from source_tree import EDGES, MODULES, PACKAGES, ROOT

COMMANDS = [name.partition('-')[2] for name in all_flags.COMMANDS]
EVERYWHERE = {'help', 'helpfull', 'flagfile'}
# Words after which flags, up to the end of the line, are those that the model was made with, or another program's.
OTHERS = r'(trained with|charlm-\w+|tensorboard|tensorflow_model_server)\b[^\n]*'
NEVER = {  # (command, flag): why no such message can come
  ('score', 'corpus'): 'texts are named without a flag, and given_texts.py takes it out of messages of corpora',
  ('evaluate', 'tokenizer'): 'the model brings its tokenizer; none is learned',
  ('evaluate', 'vocab_size'): 'the model brings its tokenizer; none is learned',
  ('train', 'num_samples'): 'it writes one sample at a time',
  ('train', 'length'): 'it writes samples of a few hundred tokens, for which no memory is checked',
  ('sample', 'corpus'): 'it reads no text',
  ('export', 'corpus'): 'it reads no text',
  ('export', 'recurrence'): 'it takes XLA, whatever is there',
}


def groups(command):
  """The dataclasses of a command's flags."""
  module, tree = importlib.import_module(f'charlm.commands.{command}'), syntax(f'charlm.commands.{command}')
  call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call)
              and ast.unparse(node.func) == 'console.command')
  return [getattr(module, ast.unparse(group)) for group in call.args[1:]]


def flags(command):
  return EVERYWHERE | {f.name for group in groups(command) for f in dataclasses.fields(group)}


def syntax(module):
  return ast.parse((ROOT / MODULES[module]).read_text(encoding='utf-8'))


def imported(module):
  """A module and all of the program that it may import."""
  found, waiting = set(), [module]
  while waiting:
    module = waiting.pop()
    if module not in found and module.split('.')[0] in PACKAGES:
      found.add(module)
      waiting += EDGES[module]
  return found


def definitions(tree):
  """(name, body) of each function, with the special methods of a class under its own name; module level is ''."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Module | ast.ClassDef):
      own = getattr(node, 'name', '')
      rest = [n for n in node.body if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
      yield own, rest
      for child in node.body:
        if isinstance(child, ast.FunctionDef):
          yield (own if child.name.startswith('__') else child.name), [child]


def names_used(body):
  return {getattr(node, 'id', None) or getattr(node, 'attr', '') for part in body for node in ast.walk(part)
          if isinstance(node, ast.Name | ast.Attribute)}


def texts(body):
  """The strings in the statements, without docstrings; what an f-string puts in is {}."""
  inside = set()
  for node in (node for part in body for node in ast.walk(part)):
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
      inside.add(node.value)
    if isinstance(node, ast.JoinedStr) and node not in inside:
      inside |= {*node.values}
      yield ''.join(part.value if isinstance(part, ast.Constant) else '{}' for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
      yield node.value


def messages(command):
  """{text: module} of all that a command may say, beside the help of its flags."""
  start, own = f'charlm.commands.{command}', {group.__module__ for group in groups(command)}
  modules = {m for m in imported(start) if not m.startswith('flags.') or m in own}
  table = {}
  for module in modules:
    for name, body in definitions(syntax(module)):
      if name or module == start or module in own:
        table.setdefault(name, []).append((module, body))
  found, waiting, seen = {}, {'main', '', 'run', 'command'}, set()
  while waiting:
    name = waiting.pop()
    seen.add(name)
    for module, body in table.get(name, ()):
      if name != 'main' or module == start:
        found |= dict.fromkeys(texts(body), module)
        waiting |= names_used(body) - seen
  return found


def named(text):
  """The flags that a text names as those of the command that says it."""
  return set(re.findall(r'(?<![\w-])--([a-z]\w+)', re.sub(OTHERS, '', text)))


@pytest.mark.parametrize('command', COMMANDS)
def test_flags_in_messages_exist(command):
  said, there = messages(command), flags(command)
  missing = {(flag, text): module for text, module in said.items() for flag in named(text)
             if flag not in there and (command, flag) not in NEVER}
  assert not missing
  assert len(said) > 50 and any('--workdir' in text or '--tokens_dir' in text for text in said)


@pytest.mark.parametrize('text, expected', [
  ('--corpus={}: expected --split', {'corpus', 'split'}), ('a model trained with --dropout or --zoneout', set()),
  ('--mc_dropout={}: trained without', {'mc_dropout'}), ('charlm-sample --prompt=x\n--stop', {'stop'}),
  ('a--b', set())])
def test_flags_that_a_text_names(text, expected):
  assert named(text) == expected


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_that_messages_print_have_these_flags(command):
  for text in messages(command):
    for other, arguments in re.findall(r'charlm-(\w+)((?: --\w+=[^\s,]*)+)', text):
      assert set(re.findall(r'--(\w+)', arguments)) <= flags(other), text
