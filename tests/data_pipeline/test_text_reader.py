"""What reads a text shows its progress, and names the place of bytes that are not UTF-8."""
import pytest

from corpora import TEXT
from data_pipeline import text_reader
from data_pipeline.prepare import prepare
from flags.errors import UserError


@pytest.mark.parametrize('kind', ['char', 'sentencepiece'])
@pytest.mark.parametrize('split', ['train', 'valid'])
def test_invalid_bytes_are_an_error_that_names_the_place(config, kind, split, tmp_path):
  place = TEXT.index(b'T', len(TEXT) // 2 if split == 'train' else len(TEXT) - 100)
  bad = TEXT[:place] + b'\xff' + TEXT[place + 1:]
  options = dict(text=bad, test_fraction=0.0)
  with pytest.raises(UserError, match=f'text: byte 0xff at offset {place} is not UTF-8') as error:
    prepare(config(kind, **options))
  assert '\n' not in str(error.value) and f'--corpus={tmp_path}' in str(error.value)
  tokenizer, files = prepare(config(kind, on_invalid='replace', **options))
  decoded = b''.join(tokenizer.decode(file.read()) for file in files.values())
  assert decoded.decode() == bad.decode(errors='replace')
  assert sum(file.num_bytes for file in files.values()) == len(bad)
  with pytest.raises(UserError):
    prepare(config(kind, **options))  # the replaced tokens are not taken for good ones
  assert prepare(config('byte', **options))[1][split].read().tobytes().count(b'\xff') == 1


@pytest.mark.parametrize('progress', [True, False])
def test_progress_of_a_large_corpus(config, monkeypatch, capsys, progress):
  monkeypatch.setattr(text_reader, 'LARGE_BYTES', 1000)
  prepare(config('char'), progress=progress)
  out, err = capsys.readouterr()
  assert out == ''
  assert ('tokenizing train' in err and 'learning' in err and '100%' in err) == progress
  assert ('1 file, 2.2 kB of text\n' in err) == progress


def test_no_progress_of_a_small_corpus(config, capsys):
  prepare(config('char'))
  assert capsys.readouterr() == ('', '1 file, 2.2 kB of text\n')
