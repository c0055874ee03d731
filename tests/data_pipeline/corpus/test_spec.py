"""A corpus is cut into splits between characters, and its digest follows its text."""
import gzip
import subprocess
import sys

import pytest

from corpora import TEXT, read
from data_pipeline.corpus.spec import fingerprint, open_corpus


@pytest.mark.parametrize('size', [1, 2, 3, 10, 1001])
@pytest.mark.parametrize('valid, test', [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.5, 0.4), (0.98, 0.01)])
def test_splits_are_contiguous_and_cut_between_characters(tmp_path, size, valid, test):
  text = '€ä🎉a'.encode() * 300
  text = text[:size].decode(errors='ignore').encode() or b'a'
  (tmp_path / 'a').write_bytes(text)
  splits = open_corpus(str(tmp_path / 'a'), valid_fraction=valid, test_fraction=test)
  assert b''.join(map(read, splits.values())) == text
  assert list(splits) == [s for s in ('train', 'valid', 'test') if s in splits]
  assert splits['train'].num_bytes > 0
  for split, share in (('valid', valid), ('test', test)):
    part = read(splits[split]) if split in splits else b''
    part.decode()
    assert abs(len(part) - share * len(text)) <= 4


def test_cut_of_bytes_that_are_no_characters(tmp_path):
  (tmp_path / 'a').write_bytes(b'\x80' * 100)
  splits = open_corpus(str(tmp_path / 'a'), valid_fraction=0.5)
  assert [t.num_bytes for t in splits.values()] == [53, 47]


def test_fingerprint_follows_content_and_cuts_alone(tmp_path):
  (tmp_path / 'a.txt').write_bytes(TEXT)
  (tmp_path / 'b.txt.gz').write_bytes(gzip.compress(TEXT))
  (tmp_path / 'c.txt').write_bytes(TEXT[:-1] + b'?')

  def of(name, **options):
    return fingerprint(open_corpus(str(tmp_path / name), **options))

  assert of('a.txt') == of('b.txt.gz')
  others = [of('c.txt'), of('a.txt', valid_fraction=0.2), of('a.txt', valid_fraction=0.0),
            of('a.txt', valid_fraction=0.0, test_fraction=0.1)]
  assert len({of('a.txt'), *others}) == 5


def test_plain_text_needs_no_tensorflow():
  code = ("import sys; import data_pipeline.prepare; from data_pipeline.corpus.spec import open_corpus; "
          "open_corpus('pydoc'); "
          "sys.exit(bool({'tensorflow', 'tensorflow_datasets', 'sentencepiece'} & set(sys.modules)))")
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
