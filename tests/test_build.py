"""BUILD says what the imports say, and the imports go one way, from the network's equations to the commands."""
import ast

import pytest

from source_tree import (
  EDGES,
  FILES,
  IMPORTS,
  INSTALLED_ROOMS,
  MODULES,
  ROOT,
  imported_names,
  module_name,
  module_of,
  room,
)

COMMANDS = {'charlm.train', 'charlm.evaluate', 'charlm.sample', 'charlm.export_model'}
# Each may import those before it in this row, and nothing of data_pipeline.
NETWORK = ['charlm.config', 'charlm.cells', 'charlm.native', 'charlm.recurrence', 'charlm.masks', 'charlm.layers',
           'charlm.model', 'charlm.losses', 'charlm.multi_step', 'charlm.professor', 'charlm.learner']


def read_targets(text):
  """[(rule, name, srcs, deps)] of the Python targets of a BUILD file."""
  targets = []
  for statement in ast.parse(text).body:
    call = statement.value
    if isinstance(call, ast.Call) and call.func.id in ('py_library', 'py_binary', 'pytest_test'):
      given = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg in ('name', 'srcs', 'deps')}
      targets.append((call.func.id, given['name'], given['srcs'], given.get('deps', [])))
  return targets


TARGETS = read_targets((ROOT / 'BUILD').read_text(encoding='utf-8'))
TARGET_OF = {module_name(src): name for _, name, srcs, _ in TARGETS for src in srcs}


def test_every_file_is_in_one_target():
  assert sorted(src for _, _, srcs, _ in TARGETS for src in srcs) == FILES


@pytest.mark.parametrize('rule, name, srcs, deps', TARGETS, ids=[name for _, name, _, _ in TARGETS])
def test_deps_are_the_imports(rule, name, srcs, deps):
  edges = set().union(*(EDGES.get(module_name(src), set()) for src in srcs))
  wanted = {f':{TARGET_OF.get(module, module)}' for module in edges} - {f':{name}'}
  if rule == 'pytest_test':  # a test may also need what it runs by name
    wanted |= set(deps)
  lines = ''.join(f'        "{dep}",\n' for dep in sorted(wanted))
  assert deps == sorted(wanted), f'in BUILD, {name} needs:\n    deps = [\n{lines}    ],'


@pytest.mark.parametrize('module', [module for module in MODULES if room(module) in INSTALLED_ROOMS])
def test_imports_go_one_way(module):
  edges, own = EDGES[module], room(module)
  rooms = {room(edge) for edge in edges}
  assert rooms <= set(INSTALLED_ROOMS), 'tests and benchmarks are not installed'
  assert not edges & COMMANDS, 'nothing imports a command'
  assert 'flags' not in rooms or own == 'flags' or module in COMMANDS, 'flags are read in commands only'
  assert own == 'flags' or not any(name.startswith('absl.flags') for name in IMPORTS[module]), 'flags/ wraps absl'
  if own != 'charlm':
    assert {edge for edge in edges if room(edge) != own} <= {'charlm', 'charlm.config'}
  if module in NETWORK:
    assert 'data_pipeline' not in rooms
    assert not edges & set(NETWORK[NETWORK.index(module):])


@pytest.mark.parametrize('source, package, names', [
  ('import charlm.cells as c', 'tests', {'charlm.cells'}),
  ('from charlm import cells, config', 'tests', {'charlm.cells', 'charlm.config'}),
  ('def f():\n  from charlm.config import UserError', 'tests', {'charlm.config.UserError'}),
  ('from . import cells', 'charlm', {'charlm.cells'}),
  ('from .cells import gru', 'charlm', {'charlm.cells.gru'}),
])
def test_imports_are_found(source, package, names):
  assert imported_names(source, package) == names


@pytest.mark.parametrize('name, module', [
  ('charlm.config.UserError', 'charlm.config'),
  ('charlm.__version__', 'charlm'),
  ('references.gru', 'tests.references'),
  ('tensorflow.keras', None),
  ('charlmx', None),
])
def test_import_reaches_module(name, module):
  assert module_of(name, {'charlm', 'charlm.config', 'tests.references'}) == module
