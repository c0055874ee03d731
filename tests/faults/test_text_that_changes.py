"""Texts that change, grow or never end while they are read."""
import os

import numpy as np
import pytest

from charlm.commands import train
from corpora import PACK, TEXT, one_line, refused
from data_pipeline import prepare as prepare_module
from data_pipeline.corpus import kinds, text
from data_pipeline.corpus import packed as packed_files
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.prepare import prepare
from flags.data import DataConfig
from flags.errors import UserError
from hard_text import KINDS
from runs import flags


def test_a_file_that_grows_is_read_as_it_was(tmp_path):
  (tmp_path / 'a').write_bytes(b'one two')
  opened = open_corpus(str(tmp_path / 'a'), valid_fraction=0.0)['train']
  with open(tmp_path / 'a', 'ab') as file:
    file.write(b' three')
  assert b''.join(opened.blocks()) == b'one two'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('when', ['fingerprint', 'load_tokenizer'])
def test_a_text_that_changes_while_it_is_read_leaves_nothing_in_the_cache(tmp_path, monkeypatch, kind, when):
  """Tokens of the new text under the digest of the old one would be taken for those of the old one ever after."""
  path = tmp_path / 'a'
  path.write_bytes(TEXT)
  options = {'vocab_size': 320} if kind == 'sentencepiece' else {}
  config = DataConfig(corpus=str(path), tokenizer=kind, cache_dir=str(tmp_path / 'cache'), **options)
  before = getattr(prepare_module, when)

  def change(*arguments):
    try:
      return before(*arguments)
    finally:
      path.write_bytes(TEXT.replace(b'fox', b'ox\xc3\xbc')[:len(TEXT)])  # of the same size, and other characters

  with monkeypatch.context() as patch:
    patch.setattr(prepare_module, when, change)
    if when == 'fingerprint' or kind != 'byte':
      with pytest.raises(UserError, match='the text has changed while it was read') as error:
        prepare(config)
      one_line(error)
  path.write_bytes(TEXT)
  tokenizer, files = prepare(config)
  assert tokenizer.decode(files['train'].read()) + tokenizer.decode(files['valid'].read()) == TEXT


def test_a_text_that_changed_under_its_size_and_time_is_read_anew(tmp_path):
  path = tmp_path / 'a'
  config = DataConfig(corpus=str(path), cache_dir=str(tmp_path / 'cache'), valid_fraction=0.0)
  for content in TEXT, TEXT.replace(b'fox', b'dog'):
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert prepare(config)[1]['train'].read().tobytes() == content


def test_a_bomb_takes_little_memory(tmp_path):
  """30 MB of the same letter in 1 kB: blocks stay small, whatever they unpack to."""
  (tmp_path / 'a.zst').write_bytes(PACK['.zst'](b'a' * (200 << 20)))
  sizes = [len(block) for block in packed_files.unpack(str(tmp_path / 'a.zst'), kinds.SUFFIXES['.zst'])]
  assert sum(sizes) == 200 << 20 and max(sizes) <= 40 << 20


@pytest.mark.parametrize('place', ['/dev/zero', '/dev/null', '/dev/full'])
def test_devices(place):
  assert 'expected a regular file or a folder' in refused(place)


def test_train_warns_of_characters_that_training_has_not_seen(tmp_path, capsys):
  path = tmp_path / 'two.txt'
  path.write_text('a' * 900 + 'λ' * 160)  # 1220 bytes, of which the last tenth is one letter
  train.run(flags(path, tmp_path / 'run', '--steps=1', '--sample_every=0', '--tokenizer=char', '--test_fraction=0.1',
                  '--valid_fraction=0.2'))
  warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith('warning:')]
  assert warnings == [
    f'warning: --corpus={path}: 99 of 145 characters of its valid split (68.28%) are unknown to this model, '
    "first 'λ'",
    f'warning: --corpus={path}: 61 of 61 characters of its test split (100.00%) are unknown to this model, '
    "first 'λ'"]
  train.run(['charlm-train', f'--workdir={tmp_path / "run"}'])  # it is said again where a run goes on
  assert capsys.readouterr().err.count('are unknown to this model') == 2


def test_train_has_nothing_to_warn_of(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', '--steps=1', '--sample_every=0', '--tokenizer=char'))
  assert 'warning' not in capsys.readouterr().err


def test_a_text_reads_the_same_each_time(tmp_path):
  (tmp_path / 'a').write_bytes(b'abcdef')
  opened = open_corpus(str(tmp_path / 'a'), valid_fraction=0.5)
  assert [b''.join(opened[split].blocks()) for split in opened] * 2 == [b'abc', b'def'] * 2
  (tmp_path / 'a').write_bytes(b'abcdeg')
  assert b''.join(opened['train'].blocks()) == b'abc'
  with pytest.raises(UserError, match='has changed'):
    list(opened['valid'].blocks())
  assert np.all(text.Text('', []).document_starts() == [])
