"""A sample is lines from all along a text, and the rest is not read; starts of documents are no Python objects."""
import tracemalloc

import numpy as np
import pytest

from corpora import fill, one_line
from data_pipeline import learning
from data_pipeline.corpus import find, sample
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.corpus.text import Part, Text
from data_pipeline.token_files import mark_document_ends
from flags.data import DataConfig
from flags.errors import UserError


def test_a_sample_is_whole_lines_from_all_along(monkeypatch):
  monkeypatch.setattr(sample, 'RUN_BYTES', 100)
  data = ''.join(f'{i:06d} äß\n' for i in range(5000)).encode()
  found = b''.join(sample.sample(text_of(data), 2000)).decode().splitlines()
  assert all(line.endswith(' äß') and len(line) == 9 for line in found)
  places = [int(line[:6]) for line in found]
  assert places == sorted(set(places)) and places[0] < 100 and places[-1] > 4700
  assert max(np.diff(places)) < 300 and 1000 < len(found) * 12 < 2000


def test_a_sample_of_one_long_line(monkeypatch):
  monkeypatch.setattr(sample, 'RUN_BYTES', 100)
  found = [*sample.sample(text_of('äöü'.encode() * 1000), 1000)]
  assert len(found) == 10 and all(set(run.decode()) == set('äöü\n') for run in found)


def text_of(data):
  return Text('text', [Part('text', len(data), lambda start: iter([data[start:]]))])


def test_what_is_read_from_its_start_gives_its_beginning(monkeypatch):
  monkeypatch.setattr(sample, 'RUN_BYTES', 100)
  data = ''.join(f'{i:06d}\n' for i in range(5000)).encode()
  parts = [Part(name, len(data), lambda start: iter([data[start:]]), seeks=False) for name in 'ab']
  found = [int(line) for line in b''.join(sample.sample(Text('text', parts), 2000)).split()]
  assert max(found) < 200 and len(found) > 150


def test_sentencepiece_does_not_read_a_large_text(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(learning, 'SAMPLED_BYTES', 100_000)
  monkeypatch.setattr(learning, 'SAMPLE_BYTES', 40_000)
  (tmp_path / 'text').write_text(''.join(f'the {i % 700} dog and the cat\n' for i in range(40_000)))
  config = DataConfig(corpus=str(tmp_path / 'text'), tokenizer='sentencepiece', vocab_size=300)
  read, monitored = [], Text.blocks
  monkeypatch.setattr(Text, 'blocks', lambda text: read.append(text.num_bytes) or monitored(text))
  train = open_corpus(config.corpus)['train']
  assert learning.learn_tokenizer(train, config).vocab_size == 300
  assert sum(read) < 60_000
  assert 'learns from 40.0 kB, from all along the ' in capsys.readouterr().err


def test_starts_of_documents_take_little_memory(tmp_path):
  (tmp_path / 'text').write_bytes(b'x\n' * 500_000)
  text = open_corpus(str(tmp_path / 'text'), valid_fraction=0.0)['train']
  tracemalloc.start()
  try:
    starts = text.document_starts(b'\n')
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    documents = sum(block == b'' for block in mark_document_ends((b'x\n' * 1000 for _ in range(500)), starts))
    assert tracemalloc.get_traced_memory()[1] - before < 1_000_000
  finally:
    tracemalloc.stop()
  assert (documents, starts.nbytes) == (499_999, 8 * 499_999)


def test_prepared_tokens_are_no_text(tmp_path):
  fill(tmp_path / 'texts', a_txt=b'text')
  fill(tmp_path / 'texts' / 'tokens', tokens_json=b'{}', tokenizer_json=b'{}', train_tokens=b'text')
  found = find.find_files(str(tmp_path / 'texts'))
  assert [*found.left_out.values()] == ['prepared tokens'] and len(found.files) == 1
  with pytest.raises(UserError) as error:
    find.find_files(str(tmp_path / 'texts' / 'tokens'))
  assert f'holds prepared tokens; expected text, or --corpus=tokens:{tmp_path}/texts/tokens' in one_line(error)
