"""Rows are counted in chunks and passes; a split that is too short for them says what would fit."""
import pytest

from data_pipeline.rows import Cursor, Rows, check_fits, evaluation_batch_size, evaluation_rows, training_rows
from data_pipeline.token_files import TokenFile
from flags.data import DataConfig
from flags.errors import UserError


def test_a_pass_in_steps_and_epochs():
  rows = training_rows(num_tokens=101, batch_size=4)
  assert rows == Rows(101, 4, length=25)
  assert rows.steps(length=10, stride=10) == 3 and rows.steps(length=10, stride=5) == 4
  assert rows.steps(length=10, stride=10, offset=20) == 1
  cursors = [Cursor()]
  for _ in range(3):
    cursors.append(rows.after(cursors[-1], length=10, stride=10))
  assert cursors == [(0, 0), (0, 10), (0, 20), (1, 0)]
  assert [rows.epochs(cursor) for cursor in cursors] == [0, 0.4, 0.8, 1]


def test_rows_of_evaluation_are_whole_chunks_and_as_many_as_are_filled():
  assert evaluation_rows(501, 4, length=32) == Rows(501, 4, length=128, unbroken=True)
  assert [evaluation_rows(n, 4, length=32).filled for n in (2, 129, 130, 501)] == [1, 4, 3, 4]


def test_evaluation_rows_are_so_few_that_reading_again_costs_little():
  assert [evaluation_batch_size(n) for n in (2, 2049, 2050, 10**9)] == [1, 1, 2, 128]
  assert evaluation_batch_size(10**9, most=16) == 16


def file(num_tokens):
  return TokenFile('', 'uint8', num_tokens, num_tokens, num_tokens, 1, 1, 0)


@pytest.mark.parametrize('num_tokens,fits', [(1000, '--batch_size=9 or --chunk_length=62'), (50, '--chunk_length=3'),
                                             (5, 'more text')])
def test_too_short_a_corpus_says_what_would_fit(num_tokens, fits):
  config = DataConfig(batch_size=16, chunk_length=100)
  with pytest.raises(UserError, match=f'pydoc.* {num_tokens} tokens.*1601.*fit: {fits}'):
    check_fits(config, {'train': file(num_tokens), 'valid': file(100)})


def test_no_second_document_to_start_at():
  with pytest.raises(UserError, match='--document_reset: --corpus=pydoc has no second document'):
    check_fits(DataConfig(batch_size=1, document_reset=True), {'train': file(200), 'valid': file(20)})


def test_no_text_to_measure_on():
  with pytest.raises(UserError, match=r'--valid_fraction=0\.1'):
    check_fits(DataConfig(batch_size=1), {'train': file(200), 'valid': file(1)})
  with pytest.raises(UserError, match=r'--test_fraction=0\.01: expected at least 2 tokens in the test .* found 0'):
    check_fits(DataConfig(batch_size=1, test_fraction=0.01), {'train': file(200), 'valid': file(2)})
  check_fits(DataConfig(batch_size=1, valid_fraction=0.0), {'train': file(200)})
