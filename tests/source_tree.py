"""The modules of this project and what each imports, read from the sources without running them."""
import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
INSTALLED_ROOMS = ['charlm', 'data_pipeline', 'flags']
ROOMS = [*INSTALLED_ROOMS, 'tests', 'benchmarks']
FILES = sorted(str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob('*.py'))


def module_name(file):
  """'charlm/cells.py' -> 'charlm.cells', 'charlm/__init__.py' -> 'charlm'."""
  return file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')


def room(module):
  """'charlm.cells' -> 'charlm'."""
  return module.partition('.')[0]


def imported_names(source, package):
  """The dotted names that a module's `source` imports, at any depth; `package` is where relative imports start."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      parents = package.split('.')
      base = parents[:len(parents) - node.level + 1] if node.level else []
      names |= {'.'.join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
  return names


def module_of(name, modules):
  """The module among `modules` that an import of the dotted `name` reaches, or None.

  'charlm.config.UserError' -> 'charlm.config'; a test may call its neighbour by its bare name.
  """
  parts = name.split('.')
  candidates = ['.'.join(parts[:n]) for n in range(len(parts), 0, -1)]
  return next((c for c in [*candidates, f'tests.{parts[0]}'] if c in modules), None)


MODULES = {module_name(file): file for file in FILES}
IMPORTS = {module: imported_names((ROOT / file).read_text(encoding='utf-8'),
                                  module if file.endswith('__init__.py') else module.rpartition('.')[0])
           for module, file in MODULES.items()}


def edges(module):
  """The modules of ours that `module` imports; with charlm.cells Python also imports charlm."""
  reached = {module_of(name, MODULES) for name in IMPORTS[module]} - {None}
  return (reached | {name.rpartition('.')[0] for name in reached} & set(MODULES)) - {module}


EDGES = {module: edges(module) for module in MODULES}
