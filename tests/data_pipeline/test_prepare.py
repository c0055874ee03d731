"""Token files hold the tokens of the text, with its true counts, and are made once, whole, and again when damaged."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import prepare as prepare_module
from data_pipeline.corpus import text as corpus
from data_pipeline.corpus.text import open_corpus
from data_pipeline.prepare import prepare
from data_pipeline.tokenizers import base as tokenizers
from flags.data import DataConfig
from flags.errors import UserError

KINDS = ['byte', 'char', 'sentencepiece']
TEXT = ('Grüße aus 世界! 🎉 The fox, the dog and the cat.\r\n' * 40).encode()


@pytest.fixture
def config(tmp_path):
  """Makes a DataConfig for TEXT, or for other bytes."""
  def make(kind='byte', text=TEXT, **options):
    (tmp_path / 'text').write_bytes(text)
    size = {'vocab_size': 320} if kind == 'sentencepiece' else {}
    return DataConfig(**{'corpus': str(tmp_path / 'text'), 'tokenizer': kind, 'test_fraction': 0.2,
                         'cache_dir': str(tmp_path / 'cache'), **size, **options})
  return make


def made(tmp_path):
  """Path -> time of change of all that is in the cache."""
  return {path: path.stat().st_mtime_ns for path in (tmp_path / 'cache').rglob('*') if path.is_file()}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('start', ['', '🎉', '世', '\n'])
def test_token_files_hold_the_text_and_its_counts(config, kind, start):
  chosen = config(kind, start.encode() + TEXT)
  tokenizer, files = prepare(chosen)
  splits = open_corpus(chosen.corpus, test_fraction=0.2)
  assert list(files) == list(splits) == ['train', 'valid', 'test']
  for split, file in files.items():
    text = b''.join(splits[split].blocks())
    ids = file.read()
    assert isinstance(ids, np.memmap) and not ids.flags.writeable
    assert file.dtype == ids.dtype.name == {'sentencepiece': 'uint16'}.get(kind, 'uint8')
    np.testing.assert_array_equal(ids, tokenizer.encode(text))
    assert tokenizer.decode(ids) == text
    assert (file.num_tokens, file.num_bytes, file.num_characters) == (len(ids), len(text), len(text.decode()))
    assert file.first_token_bytes == len(tokenizer.decode(ids[:1]))
    rest = text[file.first_token_bytes:]
    assert file.first_token_characters == len(text.decode()) - prepare_module.count_characters(rest)
    assert (file.num_unknown, file.first_unknown) == (0, '')
    assert os.path.getsize(file.path) == file.num_tokens * ids.itemsize


@pytest.mark.parametrize('block', [5, 4 << 20])
@pytest.mark.parametrize('kind', KINDS)
def test_documents_are_encoded_apart(config, tmp_path, monkeypatch, kind, block):
  monkeypatch.setattr(corpus, 'BLOCK', block)
  chosen = config(kind, document_reset=True, document_separator='the', valid_fraction=0.3)
  tokenizer, files = prepare(chosen)
  for split, text in open_corpus(chosen.corpus, valid_fraction=0.3, test_fraction=0.2).items():
    parts = b''.join(text.blocks()).split(b'the')
    parts = [*(part + b'the' for part in parts[:-1]), *filter(None, parts[-1:])]
    ids = [tokenizer.encode(part) for part in parts]
    np.testing.assert_array_equal(files[split].read(), np.concatenate(ids))
    starts = np.fromfile(files[split].starts_path, np.int64)
    assert len(starts) == files[split].num_starts == len(parts) > 3
    # Read from the initial state: the first token, and the last of each document but the last one.
    np.testing.assert_array_equal(starts, [0, *np.cumsum([len(i) for i in ids])[:-1] - 1])
  before = made(tmp_path)
  assert prepare(chosen)[1] == files and made(tmp_path) == before
  plain = prepare(config(kind, valid_fraction=0.3))[1]
  assert plain['train'].num_starts == 0 and plain['train'].content != files['train'].content
  os.truncate(files['train'].starts_path, 8)
  assert prepare(chosen)[1] == files and os.path.getsize(files['train'].starts_path) == 8 * files['train'].num_starts


def test_a_document_of_one_token(config):
  _, files = prepare(config(text=b'a\n\n\nb\n', document_reset=True, document_separator=r'\n', valid_fraction=0.0,
                            test_fraction=0.0))
  np.testing.assert_array_equal(np.fromfile(files['train'].starts_path, np.int64), [0, 1, 2, 3])


def test_no_fractions_give_one_split(config):
  _, files = prepare(config(valid_fraction=0.0, test_fraction=0.0))
  assert list(files) == ['train'] and files['train'].read().tobytes() == TEXT


@pytest.mark.parametrize('kind', KINDS)
def test_tensorflow_maps_a_token_file_into_memory(config, kind):
  _, files = prepare(config(kind))
  for file in files.values():
    ids = tf.raw_ops.ImmutableConst(dtype=file.dtype, shape=[file.num_tokens], memory_region_name=file.path)
    np.testing.assert_array_equal(ids, file.read())


@pytest.mark.parametrize('kind', KINDS)
def test_second_time_reads_the_cache(config, kind, tmp_path):
  first = prepare(config(kind))
  before = made(tmp_path)
  second = prepare(config(kind))
  assert second[0].fingerprint == first[0].fingerprint and second[1] == first[1]
  third = prepare(config(kind), first[0])  # as a run does that goes on with its saved tokenizer
  assert third[1] == first[1] and made(tmp_path) == before


@pytest.mark.parametrize('change', [
    dict(text=TEXT + b'.'), dict(valid_fraction=0.3), dict(test_fraction=0.0), dict(kind='char'),
    dict(kind='sentencepiece', vocab_size=321), dict(on_invalid='replace')])
def test_what_changes_tokens_changes_their_files(config, change):
  kind = change.get('kind', 'sentencepiece')
  _, first = prepare(config('sentencepiece'))
  _, second = prepare(config(**{'kind': kind, **change}))
  assert first['train'].path != second['train'].path
  assert os.path.exists(first['train'].path)


@pytest.mark.parametrize('damage', ['cut', 'longer', 'missing', 'no json', 'cut json', 'other json'])
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
  elif damage == 'other json':
    facts.write_text(json.dumps({'train': {'tokens': 3}}))
  _, again = prepare(config('char'))
  assert again == files and again['train'].read().tobytes() == good
  assert not list(path.parent.parent.glob('.making-*'))


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer.model'])
def test_damaged_tokenizer_is_trained_anew(config, name, tmp_path):
  first, _ = prepare(config('sentencepiece'))
  path, = (tmp_path / 'cache' / 'tokenizers').glob(f'*/{name}')
  path.write_bytes(path.read_bytes()[:10])
  second, _ = prepare(config('sentencepiece'))
  assert second.fingerprint == first.fingerprint


def test_stopped_half_way_leaves_nothing(config, tmp_path, monkeypatch):
  def stop(self, blocks, on_invalid):
    yield np.frombuffer(next(iter(blocks)), np.uint8)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(tokenizers.ByteTokenizer, 'encode_blocks', stop)
    prepare(config())
  assert not made(tmp_path)
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
  assert not list((tmp_path / 'cache' / 'tokens').glob('.making-*'))


def test_entry_of_another_process_is_kept(config, monkeypatch):
  _, files = prepare(config())
  inode = os.stat(files['train'].path).st_ino
  read = prepare_module._read_entry
  answers = iter([None])  # as if the other had finished after we looked
  monkeypatch.setattr(prepare_module, '_read_entry', lambda *a: next(answers) if next(seen) else read(*a))
  seen = iter([True, False, False])
  assert prepare(config())[1] == files
  assert os.stat(files['train'].path).st_ino == inode


def test_content_is_of_the_text_alone(config, monkeypatch):
  """It says what a run was trained on, so another form of the cache or another tokenizer must not change it."""
  first = prepare(config())[1]['train']
  monkeypatch.setattr(prepare_module, 'FORMAT', prepare_module.FORMAT + 1)
  for again in (prepare(config())[1]['train'], prepare(config('char'))[1]['valid']):
    assert again.path != first.path and again.content == first.content
  assert prepare(config(text=TEXT + b'.'))[1]['train'].content != first.content


def test_the_first_unknown_character_is_found_in_any_block(config, monkeypatch):
  monkeypatch.setattr(corpus, 'BLOCK', 5)
  tokenizer = tokenizers.CharTokenizer('aä')
  _, files = prepare(config(text='aäaäaaaäaa世äß世'.encode(), valid_fraction=0.0, test_fraction=0.0), tokenizer)
  assert (files['train'].num_unknown, files['train'].first_unknown) == (3, '世')


def test_unknown_characters_are_counted(config):
  tokenizer = tokenizers.train_tokenizer('char', [b'The fox, the dog and the cat.\r\n'])
  _, files = prepare(config('byte', 'äa世T'.encode(), valid_fraction=0.0, test_fraction=0.0), tokenizer)
  file = files['train']
  assert file.read().tolist() == tokenizer.encode('äa世T').tolist()
  assert (file.num_unknown, file.num_tokens, file.first_token_bytes, file.first_token_characters) == (2, 4, 2, 1)
  assert file.first_unknown == 'ä'


@pytest.mark.parametrize('kind', ['char', 'sentencepiece'])
@pytest.mark.parametrize('split', ['train', 'valid'])
def test_invalid_bytes_are_an_error_that_names_the_place(config, kind, split, tmp_path):
  place = TEXT.index(b'T', len(TEXT) // 2 if split == 'train' else len(TEXT) - 100)
  bad = TEXT[:place] + b'\xff' + TEXT[place + 1:]
  options = dict(text=bad, test_fraction=0.0)
  with pytest.raises(UserError, match=f'text: byte 0xff at offset {place} is not UTF-8') as error:
    prepare(config(kind, **options))
  assert '\n' not in str(error.value) and f'--corpus={tmp_path}' in str(error.value)
  tokenizer, files = prepare(config(kind, on_invalid='replace', **options))
  decoded = b''.join(tokenizer.decode(file.read()) for file in files.values())
  assert decoded.decode() == bad.decode(errors='replace')
  assert sum(file.num_bytes for file in files.values()) == len(bad)
  with pytest.raises(UserError):
    prepare(config(kind, **options))  # the replaced tokens are not taken for good ones
  assert prepare(config('byte', **options))[1][split].read().tobytes().count(b'\xff') == 1


@pytest.mark.parametrize('kind,on_invalid', [('byte', 'error'), ('char', 'replace'), ('sentencepiece', 'replace')])
def test_invalid_first_byte(config, kind, on_invalid):
  _, files = prepare(config(kind, b'\xff' + TEXT, on_invalid=on_invalid))
  assert files['train'].first_token_bytes == 1


@pytest.mark.parametrize('place', ['file', 'under a file'])
def test_cache_that_cannot_be_written(config, tmp_path, place):
  (tmp_path / 'blocked').touch()
  cache = tmp_path / 'blocked' / ('' if place == 'file' else 'cache')
  for kind in KINDS:
    with pytest.raises(UserError, match=f'--cache_dir={cache}') as error:
      prepare(config(kind, cache_dir=str(cache)))
    assert '\n' not in str(error.value)


def test_full_disk(config, tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(prepare_module, '_write_tokens', full)
  with pytest.raises(UserError, match=r'--cache_dir=.*No space left on device'):
    prepare(config())
  assert not made(tmp_path)


def test_cache_root(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  assert prepare_module.cache_root() == tmp_path / 'home' / '.cache' / 'charlm'
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  assert prepare_module.cache_root() == tmp_path / 'xdg' / 'charlm'
  assert prepare_module.cache_root('~/c') == tmp_path / 'home' / 'c'


@pytest.mark.parametrize('progress', [True, False])
def test_progress_of_a_large_corpus(config, monkeypatch, capsys, progress):
  monkeypatch.setattr(prepare_module, 'LARGE', 1000)
  prepare(config('char'), progress=progress)
  out, err = capsys.readouterr()
  assert out == ''
  assert ('tokenizing train' in err and 'learning' in err and '100%' in err) == progress


def test_no_progress_of_a_small_corpus(config, capsys):
  prepare(config('char'))
  assert capsys.readouterr() == ('', '')
