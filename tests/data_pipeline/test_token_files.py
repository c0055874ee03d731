"""Token files hold the tokens of the text, with its true counts and the starts of its documents."""
import os

import numpy as np
import pytest
import tensorflow as tf

from corpora import TEXT, set_block_bytes
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.prepare import prepare
from data_pipeline.text_reader import count_characters
from data_pipeline.tokenizers.char import CharTokenizer
from data_pipeline.tokenizers.registry import train_tokenizer
from hard_text import KINDS


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
    assert file.first_token_characters == len(text.decode()) - count_characters(rest)
    assert (file.num_unknown, file.first_unknown) == (0, '')
    assert os.path.getsize(file.path) == file.num_tokens * ids.itemsize


@pytest.mark.parametrize('block', [5, 4 << 20])
@pytest.mark.parametrize('kind', KINDS)
def test_documents_are_encoded_apart(config, cached, monkeypatch, kind, block):
  set_block_bytes(monkeypatch, block)
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
  before = cached()
  assert prepare(chosen)[1] == files and cached() == before
  plain = prepare(config(kind, valid_fraction=0.3))[1]
  assert plain['train'].num_starts == 0 and plain['train'].content != files['train'].content
  os.truncate(files['train'].starts_path, 8)
  assert prepare(chosen)[1] == files and os.path.getsize(files['train'].starts_path) == 8 * files['train'].num_starts


def test_the_drawing_of_starts(config):
  _, files = prepare(config(text=b'abc\nde\nfg\n', document_reset=True, document_separator='\n', valid_fraction=0.0,
                            test_fraction=0.0))
  np.testing.assert_array_equal(np.fromfile(files['train'].starts_path, np.int64), [0, 3, 6])


def test_a_document_of_one_token(config):
  _, files = prepare(config(text=b'a\n\n\nb\n', document_reset=True, document_separator='\n', valid_fraction=0.0,
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


def test_the_first_unknown_character_is_found_in_any_block(config, monkeypatch):
  set_block_bytes(monkeypatch, 5)
  tokenizer = CharTokenizer('aä')
  _, files = prepare(config(text='aäaäaaaäaa世äß世'.encode(), valid_fraction=0.0, test_fraction=0.0), tokenizer)
  assert (files['train'].num_unknown, files['train'].first_unknown) == (3, '世')


def test_unknown_characters_are_counted(config):
  tokenizer = train_tokenizer('char', [b'The fox, the dog and the cat.\r\n'])
  _, files = prepare(config('byte', 'äa世T'.encode(), valid_fraction=0.0, test_fraction=0.0), tokenizer)
  file = files['train']
  assert file.read().tolist() == tokenizer.encode('äa世T').tolist()
  assert (file.num_unknown, file.num_tokens, file.first_token_bytes, file.first_token_characters) == (2, 4, 2, 1)
  assert file.first_unknown == 'ä'


@pytest.mark.parametrize('kind,on_invalid', [('byte', 'error'), ('char', 'replace'), ('sentencepiece', 'replace')])
def test_invalid_first_byte(config, kind, on_invalid):
  _, files = prepare(config(kind, b'\xff' + TEXT, on_invalid=on_invalid))
  assert files['train'].first_token_bytes == 1
