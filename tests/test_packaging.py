"""What setup.py promises is there: version, commands, presets, and a declared package for each import."""
import importlib
import re
import runpy
import sys

import pytest
import setuptools

import charlm
from source_tree import IMPORTS, PACKAGES, ROOT

IMPORTED_AS = {'grpcio': 'grpc', 'protobuf': 'google', 'absl-py': 'absl'}
WANTED = 'text', 'tfds', 'grpc', 'safetensors', 'litert', 'beam'  # extras that parts of charlm import
LOADED_BY_TENSORFLOW = {'tensorboard'}  # for tf.summary


@pytest.fixture
def arguments(monkeypatch):
  """The keyword arguments that setup.py gives to setuptools."""
  given = {}
  monkeypatch.setattr(setuptools, 'setup', lambda **arguments: given.update(arguments))
  runpy.run_path(str(ROOT / 'setup.py'))
  return given


def package_names(requirements):
  return {re.match(r'[\w-]+', requirement)[0] for requirement in requirements}


def import_names(requirements):
  return {IMPORTED_AS.get(name, name.replace('-', '_')) for name in package_names(requirements)}


def test_version(arguments):
  assert arguments['version'] == charlm.__version__
  assert f'version = "{charlm.__version__}"' in (ROOT / 'MODULE.bazel').read_text()
  assert f'## [{charlm.__version__}]' in (ROOT / 'CHANGELOG.md').read_text()


def test_commands_exist(arguments):
  for line in arguments['entry_points']['console_scripts']:
    module, _, function = line.partition('=')[2].partition(':')
    assert callable(getattr(importlib.import_module(module), function)), line


def test_packages_and_presets_are_installed(arguments):
  folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob('*.py')}
  assert {ROOT / package.replace('.', '/') for package in arguments['packages']} == folders
  patterns = arguments['package_data']['flags']
  installed = {path.name for pattern in patterns for path in (ROOT / 'flags').glob(pattern)}
  assert 'demo.flags' in installed
  assert installed == {path.name for path in (ROOT / 'flags/presets').iterdir()}


def test_imports_are_declared(arguments):
  names = {name.split('.')[0] for module in IMPORTS for name in IMPORTS[module] if module.split('.')[0] in PACKAGES}
  imported = names - set(sys.stdlib_module_names) - set(PACKAGES)
  base, extras = arguments['install_requires'], arguments['extras_require']
  assert imported <= import_names([*base, *(r for name in WANTED for r in extras[name])])
  assert import_names(base) - LOADED_BY_TENSORFLOW <= imported, 'declared but not imported'


def test_dev_has_the_extras_that_tests_need(arguments):
  extras = arguments['extras_require']
  assert {r for name in WANTED for r in extras[name]} <= set(extras['dev'])
  assert {'pytest', 'ruff'} <= package_names(extras['dev'])
