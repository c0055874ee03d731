"""Imports go one way between the rooms, without circles inside them, and BUILD says what they are; files and functions
are short.
"""
import ast
import graphlib
import re

import pytest

from source_tree import EDGES, FILES, IMPORTS, MODULES, PACKAGES, ROOT, imported_names, module_of, room

# What each room may import. The network knows no text, and nobody imports a command.
BELOW = {
  'flags': [],
  'data_pipeline': ['flags'],
  'charlm': [],
  'network': ['charlm', 'flags'],
  'workdir': ['charlm', 'data_pipeline', 'flags', 'network'],
  'generation': ['charlm', 'data_pipeline', 'flags', 'network', 'workdir'],
  'evaluation': ['charlm', 'data_pipeline', 'flags', 'generation', 'network', 'workdir'],
  'training': ['charlm', 'data_pipeline', 'evaluation', 'flags', 'generation', 'network', 'workdir'],
  'serving': ['charlm', 'data_pipeline', 'evaluation', 'flags', 'generation', 'network', 'workdir'],
}
BELOW['interface'] = BELOW['serving']
BELOW['client'] = ['flags']  # it runs where nothing else of this is, nor TensorFlow
BELOW['commands'] = [*BELOW]
INSTALLED = [module for module in MODULES if module.partition('.')[0] in PACKAGES]


def libraries():
  """{name: the rooms in its deps} of the py_library targets of BUILD."""
  found = {}
  for statement in ast.parse((ROOT / 'BUILD').read_text(encoding='utf-8')).body:
    call = statement.value
    if isinstance(call, ast.Call) and call.func.id == 'py_library':
      given = {k.arg: k.value for k in call.keywords}
      found[ast.literal_eval(given['name'])] = ast.literal_eval(given['deps']) if 'deps' in given else []
  return found


LIBRARIES = libraries()


def test_every_file_is_in_a_room():
  assert {room(module) for module in MODULES} == {*BELOW, 'tests', 'benchmarks'} == set(LIBRARIES)
  assert all((ROOT / file).parent.joinpath('__init__.py').exists() for file in FILES if file.split('/')[0] in PACKAGES)


@pytest.mark.parametrize('module', INSTALLED)
def test_imports_go_one_way(module):
  assert {room(edge) for edge in EDGES[module]} - {room(module)} <= set(BELOW[room(module)])
  if room(module) == 'commands':
    shared = {'charlm.commands.console', 'charlm.commands.streams'}
    assert not {edge for edge in EDGES[module] if room(edge) == 'commands'} - shared
  absl = any(name.split('.')[0] == 'absl' for name in IMPORTS[module])
  assert not absl or module == 'flags.parse', 'flags/parse.py alone knows absl'


def test_no_module_imports_itself_by_way_of_others():
  assert list(graphlib.TopologicalSorter({module: EDGES[module] for module in INSTALLED}).static_order())


@pytest.mark.parametrize('name', LIBRARIES)
def test_build_declares_the_imports(name):
  """With charlm.network Python imports charlm, too."""
  modules = [module for module in MODULES if room(module) == name and not module.rpartition('.')[2].startswith('test_')]
  wanted = {room(edge) for module in modules for edge in EDGES[module]}
  if any(MODULES[edge].startswith('charlm/') for module in modules for edge in [module, *EDGES[module]]):
    wanted.add('charlm')
  wanted = sorted(f':{other}' for other in wanted - {name})
  lines = ''.join(f'        "{dep}",\n' for dep in wanted)
  assert LIBRARIES[name] == wanted, f'in BUILD, {name} needs:\n    deps = [\n{lines}    ],'


def python_functions(source):
  """(name, number of lines) of each function."""
  return [(f.name, f.end_lineno - f.lineno + 1) for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef)]


def cpp_blocks(source):
  """(first line, number of lines) of each block in braces but namespaces and classes."""
  opened = []
  for number, line in enumerate(source.splitlines()):
    for brace in re.findall('[{}]', re.sub(r'//.*|"[^"]*"', '', line)):
      if brace == '{':
        opened.append((number, line))
      else:
        first, head = opened.pop()
        if not re.match(r'(namespace|class|struct|extern)\b', head):
          yield head, number - first + 1


SOURCES = [*FILES, 'setup.py', *(str(path.relative_to(ROOT)) for path in sorted((ROOT / 'kernels').iterdir()))]


@pytest.mark.parametrize('file', SOURCES)
def test_files_and_functions_are_short(file):
  source = (ROOT / file).read_text(encoding='utf-8')
  assert source.count('\n') <= 300
  found = python_functions(source) if file.endswith('.py') else cpp_blocks(source)
  assert not [(name, lines) for name, lines in found if lines > 40]


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
