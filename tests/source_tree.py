"""The modules of this project and what each imports, read from the sources without running them."""
import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ['charlm', 'data_pipeline', 'flags']  # that are installed
FILES = sorted(str(path.relative_to(ROOT)) for folder in [*PACKAGES, 'tests', 'benchmarks']
               for path in (ROOT / folder).rglob('*.py'))


def module_name(file):
  """'charlm/network/cells.py' -> 'charlm.network.cells', 'charlm/__init__.py' -> 'charlm'."""
  return file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')


def room(module):
  """'charlm.network.cells' -> 'network', 'data_pipeline.streams' -> 'data_pipeline', 'charlm' -> 'charlm'."""
  first, *others = module.split('.')
  return others[0] if first == 'charlm' and others else first


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

  'flags.errors.UserError' -> 'flags.errors'; a test may call a neighbour by its bare name.
  """
  parts = name.split('.')
  candidates = ['.'.join(parts[:n]) for n in range(len(parts), 0, -1)]
  return next((c for c in [*candidates, f'tests.{parts[0]}'] if c in modules), None)


MODULES = {module_name(file): file for file in FILES}
IMPORTS = {module: imported_names((ROOT / file).read_text(encoding='utf-8'),
                                  module if file.endswith('__init__.py') else module.rpartition('.')[0])
           for module, file in MODULES.items()}
EDGES = {module: {module_of(name, MODULES) for name in IMPORTS[module]} - {None, module} for module in MODULES}
EDGES['charlm'] -= {'charlm.interface.model'}  # for type checkers; else it is imported once somebody asks for it
