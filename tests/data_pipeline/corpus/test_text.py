"""A text is read in blocks, and knows its files and documents, wherever it is cut."""
import gzip

import pytest

from corpora import TEXT, read, set_block_bytes
from data_pipeline.corpus.spec import open_corpus
from flags.errors import UserError


@pytest.mark.parametrize('block', [1, 7, 4096])
def test_blocks_have_one_size_but_the_last(tmp_path, monkeypatch, block):
  set_block_bytes(monkeypatch, block)
  for name in 'abc':
    (tmp_path / name).write_bytes(TEXT[:100])
  text = open_corpus(str(tmp_path), valid_fraction=0.1)['train']
  sizes = [len(b) for b in text.blocks()]
  assert set(sizes[:-1]) <= {block} and 0 < sizes[-1] <= block
  assert sum(sizes) == text.num_bytes


def test_locate(tmp_path):
  for name, content in {'a': b'12345', 'b': b'1234\n', 'c': b'123'}.items():
    (tmp_path / name).write_bytes(content)
  text = open_corpus(str(tmp_path), valid_fraction=0.0)['train']
  places = [text.locate(i) for i in range(text.num_bytes + 1)]
  assert places == [(str(tmp_path / name), i) for name, size in (('a', 6), ('b', 5), ('c', 4)) for i in range(size)]
  assert text.slice(7, 9).locate(1) == (str(tmp_path / 'b'), 2)


@pytest.mark.parametrize('separator,starts', [
    ('', [4, 6, 12]), ('|', [2, 4, 6, 7, 8, 10, 12]), ('||', [4, 6, 8, 12]), ('b||', [4, 6, 12]), ('\n', [4, 6, 12])])
@pytest.mark.parametrize('block', [1, 3, 4096])
def test_documents_start_with_files_and_after_separators(tmp_path, monkeypatch, separator, starts, block):
  set_block_bytes(monkeypatch, block)
  for name, content in {'a': b'1|2', 'b': b'3\n', 'c.gz': gzip.compress(b'||a|x'), 'd': b'cc|'}.items():
    (tmp_path / name).write_bytes(content)
  text = open_corpus(str(tmp_path), valid_fraction=0.0)['train']
  assert read(text) == b'1|2\n3\n||a|x\ncc|'
  assert text.document_starts(separator.encode()).tolist() == starts
  rest = text.slice(5, 11)
  assert rest.document_starts(separator.encode()).tolist() == [s - 5 for s in starts if 5 < s < 11]


def test_file_that_fails_while_read(tmp_path):
  (tmp_path / 'a').write_bytes(b'one')
  text = open_corpus(str(tmp_path / 'a'), valid_fraction=0.0)['train']
  (tmp_path / 'a').write_bytes(b'on')
  with pytest.raises(UserError, match='became shorter'):
    read(text)
  (tmp_path / 'a').unlink()
  with pytest.raises(UserError, match='cannot be read'):
    read(text)
