"""SentencePiece learns as many pieces as asked for, from a bounded and repeatable sample of the text."""
import sys

import pytest

from data_pipeline.tokenizers import sentencepiece
from data_pipeline.tokenizers.registry import load_tokenizer, train_tokenizer
from flags.errors import UserError
from hard_text import TRAINING, trained


def test_every_byte_has_a_piece():
  tokenizer = trained('sentencepiece')
  assert {bytes([b]) for b in range(256)} <= set(tokenizer.pieces)
  assert tokenizer.vocab_size == 330 and len(tokenizer.encode('the fox')) < 7


@pytest.mark.parametrize('vocab_size, words', [(10, 'at least'), (100_000, 'at most')])
def test_vocab_size_that_will_not_do_names_one_that_does(vocab_size, words):
  with pytest.raises(UserError, match=rf'^--vocab_size={vocab_size}: expected {words} \d+ for this text$') as error:
    train_tokenizer('sentencepiece', [TRAINING.encode()], vocab_size)
  size = int(str(error.value).split(words)[1].split()[0])
  assert train_tokenizer('sentencepiece', [TRAINING.encode()], size).vocab_size == size


@pytest.mark.parametrize('text', [b'', b'\n\r\n\t', '\u2581\u2581'.encode()])
def test_nothing_to_learn_pieces_from(text):
  with pytest.raises(UserError, match='--tokenizer=sentencepiece: expected text'):
    train_tokenizer('sentencepiece', [text], 300)


def test_sample_is_bounded_even_and_the_same_wherever_blocks_are_cut(monkeypatch):
  monkeypatch.setattr(sentencepiece, 'SAMPLE_BYTES', 1000)
  lines = [f'line {i:04}' for i in range(1000)]
  text = '\n'.join(lines)
  sample = sentencepiece._sample_sentences([text])
  assert sample == lines[::16]
  assert sample == sentencepiece._sample_sentences(text[i:i + 7] for i in range(0, len(text), 7))
  long = sentencepiece._sample_sentences(['x' * 5500])
  assert [len(s) for s in long] == [1000]  # five and a half sentences, and room for one


def test_training_is_repeatable():
  assert trained('sentencepiece').fingerprint == train_tokenizer('sentencepiece', [TRAINING.encode()], 330).fingerprint


@pytest.mark.parametrize('size', [0, 100])
def test_damaged_model(tmp_path, size):
  trained('sentencepiece').save(tmp_path)
  model = (tmp_path / 'tokenizer.model').read_bytes()
  (tmp_path / 'tokenizer.model').write_bytes(model[:size])
  with pytest.raises(UserError, match='expected a saved tokenizer'):
    load_tokenizer(tmp_path)


@pytest.mark.parametrize('ids', [[-1], [330]])
def test_ids_outside_of_the_vocabulary(ids):
  with pytest.raises(ValueError, match='expected 0 to 329'):
    trained('sentencepiece').decode(ids)


@pytest.mark.parametrize('module,wanted', [('sentencepiece', 'pip install sentencepiece'),
                                           ('tensorflow_text', r"to export it; pip install -e '\.\[text\]'")])
def test_without_the_packages_of_sentencepiece(monkeypatch, module, wanted):
  tokenizer = sentencepiece.SentencePieceTokenizer(trained('sentencepiece')._model)
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(UserError, match=wanted):
    if module == 'sentencepiece':
      train_tokenizer('sentencepiece', [TRAINING.encode()], 330)
    else:
      tokenizer.encode_tf(['a'])
