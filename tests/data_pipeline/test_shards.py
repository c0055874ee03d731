"""Shards give the tokens and starts that were written, wherever they are cut, to any number of rows."""
import itertools

import numpy as np
import pytest

from data_pipeline import streams
from data_pipeline.rows import evaluation_rows, training_rows
from data_pipeline.shards import RECORD_TOKENS, Layout
from flags.errors import RunError
from prepared import set_sizes, write_shards

N = 101
IDS = np.arange(N, dtype=np.uint8)
STARTS = np.array([0, 1, 5, 6, 24, 25, 52, 99])
CUTS = [[0], [0, 1, 40, 99]]


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32'])
@pytest.mark.parametrize('documents', [False, True])
@pytest.mark.parametrize('count', [1, 7, 8, 9, RECORD_TOKENS])
def test_a_record_is_unpacked_as_it_was_packed(dtype, documents, count):
  layout, rng = Layout(dtype, documents), np.random.default_rng(0)
  ids, starts = rng.integers(0, np.iinfo(dtype).max, count, dtype, endpoint=True), rng.random(count) < 0.3
  record = layout.pack(ids, starts)
  assert len(record) == layout.size(count) == layout.shard_size(count)
  found, found_starts = layout.unpack(record, count)
  np.testing.assert_array_equal(found, ids)
  np.testing.assert_array_equal(found_starts, starts if documents else [])
  for place in {0, len(record) // 2, len(record) - 1}:
    damaged = bytearray(record)
    damaged[place] ^= 1
    with pytest.raises(ValueError, match='other bytes'):
      layout.unpack(bytes(damaged), count)
  with pytest.raises(ValueError, match='in place of'):
    layout.unpack(record[:-1], count)


@pytest.mark.parametrize('cuts', CUTS)
@pytest.mark.parametrize('starts', [None, STARTS], ids=['one text', 'documents'])
@pytest.mark.parametrize('batch_size, length', [(4, 10), (60, 1), (3, 200)])
def test_streams_of_shards_are_those_of_arrays(tmp_path, monkeypatch, cuts, starts, batch_size, length):
  set_sizes(monkeypatch, record=16)
  reader = write_shards(tmp_path / 'shards', IDS, starts, cuts)
  rows = training_rows(N, batch_size)
  for offset in 0, 3:
    same([streams.training_stream(ids, rows, length=length, stride=length, offset=offset, starts=where).take(12)
          for ids, where in ((IDS, starts), (reader, None if starts is None else reader))])
  rows = evaluation_rows(N, batch_size, length)
  same([streams.evaluation_stream(ids, rows, length=length, starts=where)
        for ids, where in ((IDS, starts), (reader, None if starts is None else reader))])


def same(pair):
  for one, other in itertools.zip_longest(*pair):
    assert [x is None for x in one] == [x is None for x in other]
    for a, b in zip(one, other, strict=True):
      if a is not None:
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_few_records_are_kept_and_each_is_read_once(tmp_path, monkeypatch):
  set_sizes(monkeypatch, record=16)
  reader = write_shards(tmp_path / 'shards', IDS, None, [0, 50])
  read, monitored = [], reader._read
  monkeypatch.setattr(reader, '_read', lambda key: read.append(key) or monitored(key))
  rows = training_rows(N, 2)
  for _ in streams.training_stream(reader, rows, length=5, stride=5).take(10):
    assert len(reader._records) <= 8
  assert len(read) <= len(set(read)) + 2 and len(set(read)) == 8


@pytest.mark.parametrize('damage, expected', [
  (lambda path: path.unlink(), 'cannot be read any more (No such file'),
  (lambda path: path.write_bytes(path.read_bytes()[:30]), 'is damaged'),
  (lambda path: path.write_bytes(path.read_bytes()[:-9] + b'x' + path.read_bytes()[-8:]), 'is damaged')])
def test_a_damaged_shard_is_named(tmp_path, damage, expected):
  reader = write_shards(tmp_path / 'shards', IDS, None, [0, 50])
  damage(tmp_path / 'shards' / '1')
  assert reader.tokens(np.array([[0, 1]])).tolist() == [[0, 1]]
  with pytest.raises(RunError) as error:
    reader.tokens(np.array([[60, 61]]))
  assert expected in str(error.value) and str(tmp_path / 'shards' / '1') in str(error.value)
