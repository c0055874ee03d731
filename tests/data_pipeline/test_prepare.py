"""Token files are made once, whole, and again when they are damaged."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from corpora import TEXT
from data_pipeline import prepare as prepare_module
from data_pipeline.prepare import prepare
from data_pipeline.tokenizers.byte import ByteTokenizer
from flags.errors import UserError
from hard_text import KINDS


@pytest.mark.parametrize('kind', KINDS)
def test_second_time_reads_the_cache(config, kind, cached):
  first = prepare(config(kind))
  before = cached()
  second = prepare(config(kind))
  assert second[0].fingerprint == first[0].fingerprint and second[1] == first[1]
  third = prepare(config(kind), first[0])  # as a run does that goes on with its saved tokenizer
  assert third[1] == first[1] and cached() == before


@pytest.mark.parametrize('change', [
    dict(text=TEXT + b'.'), dict(valid_fraction=0.3), dict(test_fraction=0.0), dict(kind='char'),
    dict(kind='sentencepiece', vocab_size=321), dict(on_invalid='replace')])
def test_what_changes_tokens_changes_their_files(config, change):
  kind = change.get('kind', 'sentencepiece')
  _, first = prepare(config('sentencepiece'))
  _, second = prepare(config(**{'kind': kind, **change}))
  assert first['train'].path != second['train'].path
  assert os.path.exists(first['train'].path)


@pytest.mark.parametrize('damage', ['cut', 'longer', 'missing', 'no json', 'cut json', 'other json',
                                    'another id', 'another count', 'deep json', 'list'])
def test_damaged_token_files_are_made_anew(config, damage):
  _, files = prepare(config('char'))
  good = files['train'].read().tobytes()
  path = pathlib.Path(files['train'].path)
  facts = path.parent / 'tokens.json'
  if damage == 'cut':
    path.write_bytes(good[:-1])
  elif damage == 'longer':
    path.write_bytes(good + b'\0')
  elif damage == 'missing':
    path.unlink()
  elif damage == 'no json':
    facts.unlink()
  elif damage == 'cut json':
    facts.write_text(facts.read_text()[:40])
  elif damage == 'another id':
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
  elif damage == 'another count':
    facts.write_text(facts.read_text().replace('"num_bytes": ', '"num_bytes": 1', 1))
  elif damage == 'deep json':
    facts.write_text('[' * 100_000)
  elif damage == 'list':
    facts.write_text('[]')
  elif damage == 'other json':
    facts.write_text(json.dumps({'train': {'tokens': 3}}))
  _, again = prepare(config('char'))
  assert again == files and again['train'].read().tobytes() == good
  assert not list(path.parent.parent.glob('.*.tmp'))


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer.model'])
def test_damaged_tokenizer_is_trained_anew(config, name, tmp_path):
  first, _ = prepare(config('sentencepiece'))
  path, = (tmp_path / 'cache' / 'tokenizers').glob(f'*/{name}')
  path.write_bytes(path.read_bytes()[:10])
  second, _ = prepare(config('sentencepiece'))
  assert second.fingerprint == first.fingerprint


def test_stopped_half_way_leaves_nothing(config, tmp_path, cached, monkeypatch):
  def stop(self, blocks, on_invalid):
    yield np.frombuffer(next(iter(blocks)), np.uint8)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(ByteTokenizer, 'encode_blocks', stop)
    prepare(config())
  assert not cached() and not [*(tmp_path / 'cache' / 'tokens').iterdir()]
  prepare(config())


def test_two_processes_at_once(config, tmp_path):
  chosen = config('sentencepiece')
  code = ('import sys; from flags.config import DataConfig; from data_pipeline.prepare import prepare; '
          'print(prepare(DataConfig(**eval(sys.argv[1])))[1])')
  processes = [subprocess.Popen([sys.executable, '-c', code, repr(vars(chosen))], stdout=subprocess.PIPE, text=True)
               for _ in range(3)]
  results = [process.communicate()[0] for process in processes]
  assert [process.returncode for process in processes] == [0, 0, 0]
  assert results == [f'{prepare(chosen)[1]}\n'] * 3
  assert not list((tmp_path / 'cache' / 'tokens').glob('.*.tmp'))


def test_entry_of_another_process_is_kept(config, monkeypatch):
  _, files = prepare(config())
  inode = os.stat(files['train'].path).st_ino
  read = prepare_module.read_token_files
  looks = iter([None])  # the other one finishes after we looked
  monkeypatch.setattr(prepare_module, 'read_token_files', lambda *a: next(looks, read(*a)))
  assert prepare(config())[1] == files
  assert os.stat(files['train'].path).st_ino == inode


def test_content_is_of_the_text_alone(config, monkeypatch):
  """It says what a run was trained on, so another form of the cache or another tokenizer must not change it."""
  first = prepare(config())[1]['train']
  monkeypatch.setattr(prepare_module, 'FORMAT', prepare_module.FORMAT + 1)
  for again in (prepare(config())[1]['train'], prepare(config('char'))[1]['valid']):
    assert again.path != first.path and again.content == first.content
  assert prepare(config(text=TEXT + b'.'))[1]['train'].content != first.content


@pytest.mark.parametrize('place', ['file', 'under a file'])
def test_cache_that_cannot_be_written(config, tmp_path, place):
  (tmp_path / 'blocked').touch()
  cache = tmp_path / 'blocked' / ('' if place == 'file' else 'cache')
  for kind in KINDS:
    with pytest.raises(UserError, match=f'--cache_dir={cache}') as error:
      prepare(config(kind, cache_dir=str(cache)))
    assert '\n' not in str(error.value)


def test_full_disk(config, cached, monkeypatch):
  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(prepare_module, 'write_token_files', full)
  with pytest.raises(UserError, match=r'--cache_dir=.*No space left on device'):
    prepare(config())
  assert not cached()


def test_cache_root(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  assert prepare_module.cache_root() == tmp_path / 'home' / '.cache' / 'charlm'
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  assert prepare_module.cache_root() == tmp_path / 'xdg' / 'charlm'
  assert prepare_module.cache_root('~/c') == tmp_path / 'home' / 'c'
