"""What charlm-prepare makes is what the cache has of the text, however it is cut, and appears whole or not at all."""
import json
import os
import pathlib

import numpy as np
import pytest

import data_sets
from corpora import PACK, TEXT, fill, one_line
from data_pipeline.beam import make, tasks
from data_pipeline.corpus import tfds
from data_pipeline.manifest import read_manifest
from data_pipeline.prepare import prepare
from data_pipeline.tokenizers.registry import load_tokenizer
from flags.data import DataConfig
from flags.errors import RunError, UserError
from flags.prepare import PrepareConfig
from hard_text import KINDS
from prepared import prepared, set_sizes

LINES = ''.join(f'{"Grüße" * (i % 3)} aus 世界 🎉 {i}, the  dog\n' + '\n' * (i % 7 == 0) for i in range(400)).encode()
COUNTS = ('num_tokens', 'num_bytes', 'num_characters', 'first_token_bytes', 'first_token_characters', 'num_unknown',
          'first_unknown', 'num_starts', 'dtype')


def size_of(kind):
  return {'vocab_size': 320} if kind == 'sentencepiece' else {}


def assert_same(manifest, corpus, tmp_path, **flags):
  """The manifest has the tokens and counts that the cache has."""
  tokenizer, files = prepare(DataConfig(corpus=str(corpus), cache_dir=str(tmp_path / 'cache'), **flags))
  assert tokenizer.fingerprint == manifest.tokenizer == load_tokenizer(manifest.splits['train'].folder).fingerprint
  assert manifest.splits.keys() == files.keys()
  for name, file in files.items():
    split = manifest.splits[name]
    np.testing.assert_array_equal(split.read(), file.read())
    assert [getattr(split, count) for count in COUNTS] == [getattr(file, count) for count in COUNTS], name
    if file.num_starts:
      found = split.reader.starts(np.arange(split.num_tokens)[None])[0]
      np.testing.assert_array_equal(np.flatnonzero(found), np.fromfile(file.starts_path, np.int64))


def opened(folder):
  return read_manifest(str(folder))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('documents', [{}, {'document_reset': True},
                                       {'document_reset': True, 'document_separator': '\n\n'},
                                       {'document_reset': True, 'document_separator': 'the'}])
@pytest.mark.parametrize('piece', [700, 10**6])
def test_tokens_are_those_of_the_whole_text(tmp_path, monkeypatch, kind, documents, piece):
  set_sizes(monkeypatch, record=64, piece=piece)
  corpus = fill(tmp_path / 'texts', a_txt=LINES, b_txt=b'no line end', c_txt=TEXT + b'\n' * 50, d_txt=LINES[:500])
  flags = {'tokenizer': kind, 'test_fraction': 0.2, **size_of(kind), **documents}
  prepared(corpus, tmp_path / 'tokens', **flags)
  manifest = opened(tmp_path / 'tokens')
  assert_same(manifest, corpus, tmp_path, **flags)
  assert (len(manifest.splits['train'].shards) == 1) == (piece == 10**6)
  assert {path.name for path in (tmp_path / 'tokens').iterdir()} == {
    'tokens.json', 'tokenizer.json', *(['tokenizer.model'] if kind == 'sentencepiece' else []),
    *(shard.name for split in manifest.splits.values() for shard in split.shards)}
  assert [path.name for path in tmp_path.iterdir() if path.name.startswith('.')] == []


@pytest.mark.parametrize('text', [b'x' * 5000, 'ä'.encode() * 2500, b'\n' * 5000, b'ab' * 2500])
@pytest.mark.parametrize('separator', ['\\n\\n', 'ab', ''])
def test_text_that_has_no_good_place_to_be_cut(tmp_path, monkeypatch, text, separator):
  set_sizes(monkeypatch, record=64, piece=700, looked_at=(10, 100))
  (tmp_path / 'text').write_bytes(text)
  manifest = prepared(tmp_path / 'text', tmp_path / 'tokens', tokenizer='char', document_reset=True,
                      document_separator=separator.encode().decode('unicode_escape'))
  assert len(manifest.splits['train'].shards) > 3
  tokenizer, found = load_tokenizer(tmp_path / 'tokens'), opened(tmp_path / 'tokens').splits
  assert b''.join(tokenizer.decode(found[split].read()) for split in ('train', 'valid')) == text


def test_packed_files_and_pydoc(tmp_path, monkeypatch):
  set_sizes(monkeypatch, piece=1000)
  corpus = fill(tmp_path / 'texts', a_txt=LINES, **{f'b{i}_txt': pack(LINES[:3000 + i]) for i, pack in enumerate(
    PACK.values())}, z_txt=LINES)
  for name, text in (('packed', corpus), ('topics', 'pydoc')):
    prepared(text, tmp_path / name, document_reset=True)
    assert_same(opened(tmp_path / name), text, tmp_path, document_reset=True)


def test_the_text_is_the_same_for_every_tokenizer(tmp_path, monkeypatch):
  set_sizes(monkeypatch, piece=1000)
  (tmp_path / 'text').write_bytes(LINES)
  content = {prepared(tmp_path / 'text', tmp_path / kind, tokenizer=kind, **size_of(kind)).content for kind in KINDS}
  assert len(content) == 1
  (tmp_path / 'text').write_bytes(LINES[1:])
  assert prepared(tmp_path / 'text', tmp_path / 'other').content not in content


def test_the_tokenizer_of_a_model(tmp_path):
  (tmp_path / 'text').write_bytes(LINES)
  (tmp_path / 'other').write_bytes('Grüße ß\n'.encode() * 50)
  first = prepared(tmp_path / 'text', tmp_path / 'first', tokenizer='char')
  second = prepared(tmp_path / 'other', tmp_path / 'second', tokenizer_from=str(tmp_path / 'first'))
  assert second.tokenizer == first.tokenizer and second.made_with['tokenizer'] == 'char'
  assert second.splits['train'].num_unknown == 0 < len(second.splits)
  (tmp_path / 'third').write_bytes('Grüße é\n'.encode() * 50)
  third = prepared(tmp_path / 'third', tmp_path / 'thirds', tokenizer_from=str(tmp_path / 'first'))
  assert third.splits['train'].first_unknown == 'é'


def test_work_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
  set_sizes(monkeypatch, piece=1000)
  (tmp_path / 'text').write_bytes(LINES)
  whole = prepared(tmp_path / 'text', tmp_path / 'whole')
  done = []

  def stops(folder, name, *arguments):
    if len(done) == 4:
      raise KeyboardInterrupt
    done.append(name)
    return tokenize(folder, name, *arguments)

  tokenize = tasks.tokenize
  monkeypatch.setattr(tasks, 'tokenize', stops)
  with pytest.raises(KeyboardInterrupt):
    prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert not (tmp_path / 'tokens').exists() and len(done) == 4
  making = tmp_path / '.tokens.making'
  (making / '.train-00003.tokens.0123abcd.tmp').write_bytes(b'left by a process that was killed')
  os.truncate(making / 'train-00002.tokens', 10)
  done.remove('train-00002')
  monkeypatch.setattr(tasks, 'tokenize', lambda folder, name, *rest: done.append(name) or tokenize(folder, name, *rest))
  again = prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert len(done) == len(set(done)) == sum(len(split.shards) for split in whole.splits.values())
  assert again.content == whole.content and not making.exists()
  for name in os.listdir(tmp_path / 'whole'):
    assert (tmp_path / 'whole' / name).read_bytes() == (tmp_path / 'tokens' / name).read_bytes()


@pytest.mark.parametrize('change', ['text', 'flags', 'tokenizer'])
def test_what_was_made_of_something_else_is_made_anew(tmp_path, monkeypatch, change):
  set_sizes(monkeypatch, piece=1000)
  (tmp_path / 'text').write_bytes(LINES)
  monkeypatch.setattr(make.atomic, 'rename_folder', lambda *names: (_ for _ in ()).throw(KeyboardInterrupt()))
  with pytest.raises(KeyboardInterrupt):
    prepared(tmp_path / 'text', tmp_path / 'tokens')
  monkeypatch.undo()
  set_sizes(monkeypatch, piece=1000)
  flags = {'flags': {'document_reset': True, 'document_separator': '\n'}, 'tokenizer': {'tokenizer': 'char'}}
  if change == 'text':
    (tmp_path / 'text').write_bytes(LINES.replace(b'dog', b'cat')[:9000])
  prepared(tmp_path / 'text', tmp_path / 'tokens', **flags.get(change, {}))
  assert_same(opened(tmp_path / 'tokens'), tmp_path / 'text', tmp_path, **flags.get(change, {}))
  names = {shard.name for split in opened(tmp_path / 'tokens').splits.values() for shard in split.shards}
  assert {path.name for path in (tmp_path / 'tokens').glob('*.tokens')} == names


def test_text_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
  set_sizes(monkeypatch, piece=1000)
  (tmp_path / 'text').write_bytes(LINES)
  tokenize = tasks.tokenize

  def changes(folder, name, *rest):
    with open(tmp_path / 'text', 'r+b') as file:
      file.write(b'X')
    os.utime(tmp_path / 'text', ns=(1, 1))
    return tokenize(folder, name, *rest)

  monkeypatch.setattr(tasks, 'tokenize', changes)
  with pytest.raises(UserError) as error:
    prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert 'has changed while it was read' in one_line(error) and not (tmp_path / 'tokens').exists()


@pytest.mark.parametrize('there, expected', [
  (lambda path: path.write_text('x'), 'is a file'), (lambda path: fill(path, a_txt=b'x'), 'is not empty'),
  (lambda path: prepared(path.parent / 'text', path), 'holds prepared tokens already')])
def test_a_folder_that_is_there_is_not_touched(tmp_path, there, expected):
  (tmp_path / 'text').write_bytes(LINES)
  there(tmp_path / 'tokens')
  before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
  with pytest.raises(UserError) as error:
    prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert f'--tokens_dir={tmp_path}/tokens: {expected}' in one_line(error)
  assert before == {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}


def test_two_at_once(tmp_path, monkeypatch):
  (tmp_path / 'text').write_bytes(LINES)
  tokenize, said = tasks.tokenize, []

  def second(folder, name, *rest):
    with pytest.raises(UserError) as error:
      prepared(tmp_path / 'text', tmp_path / 'tokens')
    said.append(one_line(error))
    return tokenize(folder, name, *rest)

  monkeypatch.setattr(tasks, 'tokenize', second)
  prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert all('another charlm-prepare is at work there' in line for line in said) and said
  assert_same(opened(tmp_path / 'tokens'), tmp_path / 'text', tmp_path)


def test_bytes_that_are_not_utf8_are_named_and_others_are_not_read(tmp_path, monkeypatch):
  set_sizes(monkeypatch, piece=1000)
  fill(tmp_path / 'texts', a_txt=LINES, b_txt=b'x' * 1500 + b'\xff' + LINES)
  flags = {'tokenizer': 'char', 'valid_fraction': 0.0}
  with pytest.raises(UserError) as error:
    prepared(tmp_path / 'texts', tmp_path / 'tokens', **flags)
  assert f'{tmp_path}/texts/b.txt: byte 0xff at offset 1500 is not UTF-8' in one_line(error)
  assert [path.name for path in tmp_path.iterdir()] == ['texts']
  prepared(tmp_path / 'texts', tmp_path / 'tokens', on_invalid='replace', **flags)
  assert_same(opened(tmp_path / 'tokens'), tmp_path / 'texts', tmp_path, on_invalid='replace', **flags)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
  (tmp_path / 'text').write_bytes(LINES)
  write = tasks.ShardWriter._flush

  def full(writer):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(tasks.ShardWriter, '_flush', full)
  with pytest.raises(RunError) as error:
    prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert 'cannot be written (No space left on device)' in one_line(error)
  monkeypatch.setattr(tasks.ShardWriter, '_flush', write)
  prepared(tmp_path / 'text', tmp_path / 'tokens')
  assert_same(opened(tmp_path / 'tokens'), tmp_path / 'text', tmp_path)


@pytest.mark.parametrize('splits', [('train',), ('train', 'validation')])
def test_a_data_set(tmp_path, monkeypatch, splits):
  set_sizes(monkeypatch, piece=700)
  monkeypatch.setattr(tfds, 'PIECE_BYTES', 1000)  # so that it is read in several parts
  data_sets.make(tmp_path / 'data', {split: [f'{i} ü' * (i % 9) + '\n\nx' for i in range(90)] for split in splits})
  flags = {'corpus': 'tfds:tiny_tales', 'data_dir': str(tmp_path / 'data'), 'document_reset': True}
  manifest = prepared(folder=tmp_path / 'tokens', **flags)
  assert manifest.splits['train'].num_starts > 70 and len(manifest.splits['train'].shards) > 1
  assert_same(opened(tmp_path / 'tokens'), tmp_path=tmp_path, **flags)


@pytest.mark.parametrize('flags, expected', [
  ({'corpus': ''}, '--corpus: expected'), ({'tokens_dir': ''}, '--tokens_dir: expected'),
  ({'corpus': 'tokens:x'}, 'prepared already'), ({'valid_fraction': 0.5, 'test_fraction': 0.5}, 'sum below 1'),
  ({'workers': 2000}, '--workers=2000'), ({'workers': 2, 'runner': 'FlinkRunner'}, '--workers=2 has no effect'),
  ({'beam_option': ('--x=1',)}, '--beam_option=--x=1 has no effect'),
  ({'tokenizer': 'char', 'tokenizer_from': 'w'}, 'one of the two'),
  ({'tokens_dir': 'gs://bucket/x'}, 'gs:// is not supported')])
def test_flags_that_are_refused(flags, expected):
  with pytest.raises(UserError) as error:
    PrepareConfig(**{'corpus': 'text', 'tokens_dir': 'tokens', **flags})
  assert expected in one_line(error)


def test_the_manifest_is_json(tmp_path):
  (tmp_path / 'text').write_bytes(LINES)
  prepared(tmp_path / 'text', tmp_path / 'tokens')
  facts = json.loads(pathlib.Path(tmp_path, 'tokens', 'tokens.json').read_text())
  assert facts['made_with']['tokenizer'] == 'byte' and facts['splits']['train']['shards'][0]['num_tokens'] > 9000
