"""What a model carries away: an export names no place of the machine, and nothing that is loaded can run code."""
import ast
import json
import os
import pathlib
import pickle
import re
import shutil
import site
import sys

import numpy as np
import pytest

from charlm.commands import evaluate, export, sample, train
from charlm.workdir import checkpoint
from data_pipeline import token_files
from runs import ACCOUNT, TEXT
from source_tree import FILES, IMPORTS, PACKAGES, ROOT

SECRET = '/home/somebody/secret'


@pytest.mark.parametrize('format_, names, facts', [
  pytest.param('savedmodel', {'saved_model.pb'}, '1/assets.extra/charlm.json', marks=pytest.mark.slow),
  ('safetensors', {'model.safetensors', 'numpy_model.py'}, 'charlm.json'), ('litert', {'model.tflite'}, 'charlm.json')])
def test_no_file_of_an_export_names_a_place(finished, corpus, tmp_path, format_, names, facts):
  """Neither the graph nor the facts beside it."""
  if package := {'safetensors': 'safetensors', 'litert': 'ai_edge_litert'}.get(format_):
    pytest.importorskip(package)
  workdir, served = tmp_path / 'run', tmp_path / 'served'
  shutil.copytree(finished, workdir)
  config = json.loads((workdir / 'config.json').read_text())
  config['data'] |= {'corpus': f'{SECRET}/book.txt', 'cache_dir': f'{SECRET}/cache'}
  config['train']['init_from'] = f'{SECRET}/runs/other'
  config['places'] |= {'corpus': f'{SECRET}/book.txt', 'workdir': f'{SECRET}/runs/it', 'cache_dir': f'{SECRET}/cache'}
  (workdir / 'config.json').write_text(json.dumps(config))
  export.run(['charlm-export', f'--workdir={workdir}', f'--export_dir={served}', f'--format={format_}'])
  places = {SECRET, corpus, str(tmp_path), str(finished), str(ROOT), sys.prefix, *site.getsitepackages(),
            os.path.expanduser('~'), os.environ['XDG_CACHE_HOME']}
  files = [path for path in served.rglob('*') if path.is_file()]
  assert names <= {path.name for path in files}
  for path in files:
    data = path.read_bytes()
    assert [place for place in places if len(place) > 3 and place.encode() in data] == [], path
  facts = json.loads((served / facts).read_text())
  assert facts['config']['model'] == config['model']
  assert not [text for text in strings(facts) if '/' in text or os.sep in text]


def strings(value):
  """All strings in a JSON value, keys included."""
  if isinstance(value, dict):
    return [text for pair in value.items() for part in pair for text in strings(part)]
  return [value] if isinstance(value, str) else [text for part in value for text in strings(part)] if isinstance(
      value, list) else []


class Planted:
  """Leaves a file behind where it is unpickled."""

  def __init__(self, mark):
    self.mark = mark

  def __reduce__(self):
    return pathlib.Path.touch, (self.mark,)


@pytest.fixture
def planted(tmp_path):
  """A pickle that would leave a mark. At the end there must be none."""
  mark = tmp_path / 'mark'
  pickle.loads(pickle.dumps(Planted(mark)))
  assert mark.exists()
  mark.unlink()
  yield Planted(mark)
  assert not mark.exists()


@pytest.fixture
def workdir(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'run')
  return tmp_path / 'run'


def refused(capsys, run, *arguments):
  """What a command says at last; it must end with status 1 or 2, without a traceback."""
  with pytest.raises(SystemExit) as exit_:
    run(['charlm', *arguments])
  told = capsys.readouterr().err
  assert exit_.value.code in (1, 2) and 'Traceback' not in told
  assert all(line.startswith(('warning: ', 'charlm: ')) or re.match(ACCOUNT, line) for line in told.splitlines()), told
  return told.splitlines()[-1]


@pytest.mark.parametrize('key', ['model/embedding', 'state', 'digest', 'another', ''])
def test_a_pickle_in_a_checkpoint_is_damage(planted, workdir, capsys, key):
  for path in (workdir / 'checkpoints').glob('*.npz'):
    arrays, state = checkpoint.read(path)
    arrays |= {'state': np.frombuffer(json.dumps(state).encode(), np.uint8), 'digest': np.zeros(32, np.uint8)}
    if key:
      np.savez(path, **{**arrays, key: np.array([planted], object)}, allow_pickle=True)
    else:
      path.write_bytes(pickle.dumps(planted))
  for run in sample.run, train.run:
    assert 'checkpoint' in refused(capsys, run, f'--workdir={workdir}')


@pytest.mark.parametrize('name', ['config.json', 'tokenizer.json'])
def test_a_pickle_in_place_of_a_file_of_the_run_is_refused(planted, workdir, capsys, name):
  for data in pickle.dumps(planted), pickle.dumps(planted, 0):
    (workdir / name).write_bytes(data)
    assert name in refused(capsys, sample.run, f'--workdir={workdir}')


def test_a_pickle_in_place_of_a_tokenizer_is_refused(planted, workdir, capsys):
  (workdir / 'tokenizer.json').write_text('{"kind": "sentencepiece"}')
  (workdir / 'tokenizer.model').write_bytes(pickle.dumps(planted))
  assert 'not a SentencePiece model' in refused(capsys, sample.run, f'--workdir={workdir}')


def test_a_pickle_in_place_of_flags_is_refused(planted, tmp_path, capsys):
  (tmp_path / 'my.flags').write_bytes(pickle.dumps(planted))
  assert 'flag' in refused(capsys, sample.run, f'--flagfile={tmp_path / "my.flags"}')


@pytest.mark.parametrize('name', ['train.tokens', 'valid.tokens', 'tokens.json'])
def test_a_pickle_in_the_cache_is_made_anew(planted, workdir, tmp_path, capsys, name):
  cache, arguments = tmp_path / 'cache', ['charlm', f'--workdir={workdir}', f'--cache_dir={tmp_path / "cache"}']
  evaluate.run(arguments)
  figures = capsys.readouterr().out
  path, = cache.rglob(name)
  path.write_bytes(pickle.dumps(planted))
  evaluate.run(arguments)
  assert capsys.readouterr().out == figures


def test_a_cache_that_says_its_tokens_are_objects_is_made_anew(planted, workdir, tmp_path, capsys):
  cache, arguments = tmp_path / 'cache', ['charlm', f'--workdir={workdir}', f'--cache_dir={tmp_path / "cache"}']
  evaluate.run(arguments)
  figures = capsys.readouterr().out
  path, = cache.rglob('tokens.json')
  facts = json.loads(path.read_text())
  del facts['digest']
  for split, own in facts.items():
    (path.parent / f'{split}.tokens').write_bytes(bytes(8 * own['num_tokens']))
    own['dtype'] = 'object'
  facts['digest'] = token_files._digest(path.parent, facts)
  path.write_text(json.dumps(facts))
  evaluate.run(arguments)
  assert capsys.readouterr().out == figures


def test_text_is_text_whatever_it_holds(planted, workdir, tmp_path, capsys):
  (tmp_path / 'text').write_bytes(pickle.dumps(planted, 0) + TEXT.encode())
  evaluate.run(['charlm', f'--workdir={workdir}', f'--corpus={tmp_path / "text"}'])
  sample.run(['charlm', f'--workdir={workdir}', f'--prompt_file={tmp_path / "text"}', '--length=2'])
  assert 'it was the worst of times' in capsys.readouterr().out


def test_no_module_unpickles_or_evaluates():
  files = [file for file in FILES if file.split('/')[0] in PACKAGES]
  running = {'pickle', 'marshal', 'shelve', 'dill', 'joblib', 'cloudpickle', 'yaml', 'runpy', 'imp'}
  modules = {module for module in IMPORTS if module.split('.')[0] in PACKAGES}
  assert not {(module, name) for module in modules for name in IMPORTS[module] if name.split('.')[0] in running}
  for file in files:
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding='utf-8'))):
      if isinstance(node, ast.Call):
        assert not (isinstance(node.func, ast.Name) and node.func.id in ('eval', 'exec', '__import__')), file
        assert not [k for k in node.keywords if k.arg == 'allow_pickle' and ast.unparse(k.value) != 'False'], file
        assert not (isinstance(node.func, ast.Attribute) and node.func.attr == 'load_model'
                    and 'keras' in ast.unparse(node.func)), file
