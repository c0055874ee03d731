"""Rows, chunks and state: the drawings of "Streams" in docs/design.md, and every target counted once."""
import itertools

import numpy as np
import pytest

from data_pipeline import streams
from data_pipeline.rows import Cursor, evaluation_rows, training_rows
from data_pipeline.token_files import TokenFile

N = 101
TEXT = np.arange(N, dtype=np.uint8)
STARTS = np.array([0, 1, 5, 6, 24, 25, 52, 99])
CUTS = list(itertools.product([1, 2, 3, 7, 32], [1, 7, 64, 200]))


def take(n, **options):
  return list(itertools.islice(streams.training_stream(TEXT, training_rows(N, 4), **options), n))


@pytest.mark.parametrize('stride,starts', [(4, [0, 4, 8]), (2, [0, 2, 4])])
def test_the_drawing(stride, starts):
  batches = take(3, length=4, stride=stride)
  for batch, start in zip(batches, starts, strict=True):
    for row, tokens in enumerate(batch.tokens.numpy()):
      np.testing.assert_array_equal(tokens, 25 * row + start + np.arange(5))


@pytest.mark.parametrize('length,stride', [(4, 4), (4, 1), (7, 7), (7, 3), (25, 25), (25, 10)])
def test_a_pass_trains_on_every_target_and_starts_again(length, stride):
  rows = training_rows(N, 4)
  steps = rows.steps(length=length, stride=stride)
  batches = take(steps + 1, length=length, stride=stride)
  seen = {int(t) for b in batches[:-1] for t in b.tokens.numpy()[:, 1:][b.weight.numpy() > 0]}
  assert seen == set(range(1, N))
  assert [bool(b.reset.numpy().all()) for b in batches] == [True] + [False] * (steps - 1) + [True]
  np.testing.assert_array_equal(batches[-1].tokens, batches[0].tokens)


@pytest.mark.parametrize('length,stride', [(4, 4), (7, 3)])
def test_any_step_can_be_the_first(length, stride):
  rows, cursor = training_rows(N, 4), Cursor()
  for i, expected in enumerate(take(20, length=length, stride=stride)):
    again = take(1, length=length, stride=stride, offset=cursor.offset)[0]
    for a, b in zip(again, expected, strict=True):
      np.testing.assert_array_equal(a, b, err_msg=str(i))
    cursor = rows.after(cursor, length=length, stride=stride)


def test_a_longer_chunk_goes_on_from_the_same_place():
  rows, cursor = training_rows(N, 4), Cursor(0, 12)
  first = take(2, length=10, stride=10, offset=12)
  np.testing.assert_array_equal(first[0].tokens.numpy()[0], np.arange(12, 23))
  assert rows.after(cursor, length=10, stride=10) == (0, 22)
  assert not first[1].reset.numpy().any()
  assert rows.after(Cursor(0, 22), length=10, stride=10) == (1, 0)


@pytest.mark.parametrize('batch_size,length', CUTS)
def test_evaluation_counts_each_target_once(batch_size, length):
  """A row goes on where the one before it ends; only the first begins with the text."""
  rows = evaluation_rows(N, batch_size, length)
  counts, batches = np.zeros(N, int), [*streams.evaluation_stream(TEXT, rows, length=length)]
  for i, b in enumerate(batches):
    tokens, weight = b.tokens.numpy(), b.weight.numpy()
    np.add.at(counts, tokens[:, 1:][weight > 0], 1)
    np.testing.assert_array_equal(b.reset, [i == 0] + [False] * (batch_size - 1))
  np.testing.assert_array_equal(counts, [0] + [1] * (N - 1))
  firsts, lasts = batches[0].tokens.numpy()[:, 0], batches[-1].tokens.numpy()[:, -1]
  np.testing.assert_array_equal(firsts[1:rows.filled], lasts[:rows.filled - 1])


class Worker:
  """Stands for a tf.distribute.InputContext."""

  def __init__(self, pipeline, pipelines, replicas):
    self.input_pipeline_id, self.num_input_pipelines, self.num_replicas_in_sync = pipeline, pipelines, replicas


@pytest.mark.parametrize('starts', [None, STARTS], ids=['one text', 'documents'])
@pytest.mark.parametrize('pipelines,replicas', [(1, 2), (2, 2), (2, 4), (1, 4)])
def test_replicas_share_rows_not_chunks(pipelines, replicas, starts):
  rows = training_rows(N, 8)
  whole = list(itertools.islice(streams.training_stream(TEXT, rows, length=5, stride=3, starts=starts), 6))
  each = replicas // pipelines
  shares = [list(itertools.islice(streams.training_stream(TEXT, rows, length=5, stride=3, starts=starts,
                                                          context=Worker(i, pipelines, replicas)), 6 * each))
            for i in range(pipelines)]
  for step, batch in enumerate(whole):
    parts = [part for share in shares for part in share[step * each:(step + 1) * each]]
    assert (batch.starts is None) == (starts is None)
    for i, name in enumerate(batch._fields[:3 if starts is None else 4]):
      np.testing.assert_array_equal(np.concatenate([p[i] for p in parts]), batch[i], err_msg=name)


@pytest.mark.parametrize('length,stride,offset', [(4, 4, 0), (7, 1, 3), (25, 10, 0)])
def test_starts_go_with_their_tokens(length, stride, offset):
  """Each token of this text is its own place."""
  found = set()
  for batch in take(20, length=length, stride=stride, offset=offset, starts=STARTS):
    inputs = batch.tokens.numpy()[:, :-1]
    np.testing.assert_array_equal(batch.starts, np.isin(inputs, STARTS))
    found |= set(inputs[batch.starts.numpy()].tolist())
  assert found == set(STARTS.tolist())


@pytest.mark.parametrize('batch_size,length', CUTS)
def test_starts_while_evaluating(batch_size, length):
  rows = evaluation_rows(N, batch_size, length)
  counted = np.zeros(N, int)
  for batch in streams.evaluation_stream(TEXT, rows, length=length, starts=STARTS):
    afresh = batch.starts.numpy() & (batch.weight.numpy() > 0)
    np.add.at(counted, batch.tokens.numpy()[:, :-1][afresh], 1)
  np.testing.assert_array_equal(np.flatnonzero(counted), STARTS)
  assert counted.max() == 1


def test_no_tuner_holds_up_the_end_of_a_stream():
  for make, more in (streams.training_stream, {'stride': 5}), (streams.evaluation_stream, {}):
    rows = training_rows(N, 2)
    assert make(TEXT, rows, length=5, **more).options().autotune.enabled is False


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32'])
def test_a_file_is_mapped(tmp_path, dtype):
  file = TokenFile(str(tmp_path / 'tokens'), dtype, N, N, N, 1, 1, 0)
  TEXT.astype(dtype).tofile(file.path)
  rows = training_rows(N, 4)
  for shared in False, True:
    if shared:  # a host that is asked for the same name has the same file
      file.share()
      assert file.tokens.path == file.path
    mapped = next(iter(streams.training_stream(streams.mapped(file), rows, length=5, stride=5)))
    for a, b in zip(mapped, take(1, length=5, stride=5)[0], strict=True):
      np.testing.assert_array_equal(a, b)
