"""charlm-score through its entry point: figures of texts, lines and tokens, which texts it reads, what it refuses."""
import gzip
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from charlm.commands import evaluate, score, train
from charlm.evaluation import page
from charlm.network import runtime
from charlm.workdir import checkpoint
from flags.errors import UserError
from runs import TEXT, flags, told
from source_tree import ROOT

WORDS = 'It was the worst of times.\nIt was naïve: 世\n\nthe best of times, it was\n'
DOCUMENTS = 'It was\n\nthe best of times\n\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A folder with texts, where a command is given."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'words.txt').write_text(WORDS, encoding='utf-8')
  (tmp_path / 'times.txt').write_text(TEXT)
  return tmp_path


@pytest.fixture(scope='module')
def documents(tmp_path_factory):
  """A model of characters that read documents."""
  folder = tmp_path_factory.mktemp('documents')
  (folder / 'text.txt').write_text(DOCUMENTS * 60)
  train.run(flags(folder / 'text.txt', folder / 'run', '--steps=5', '--tokenizer=char', '--document_reset',
                  r'--document_separator=\n\n', '--chunk_overlap=0', '--on_invalid=replace'))
  return folder / 'run'


@pytest.fixture
def ask(capsys):
  def command(workdir, *arguments):
    capsys.readouterr()
    score.run(['charlm-score', f'--workdir={workdir}', *arguments])
    return capsys.readouterr().out

  return command


def test_the_figures_are_those_of_charlm_evaluate_and_the_first_token(finished, here, ask, capsys):
  """Evaluation leaves out the first token: here the line end, which a score reads as its empty prompt."""
  (here / 'after.txt').write_text('\n' + TEXT)
  evaluate.run(['charlm-evaluate', f'--workdir={finished}', '--corpus=after.txt'])
  wanted = json.loads(capsys.readouterr().out)
  found = json.loads(ask(finished, 'times.txt', '--output=json'))
  text, = found['texts']
  assert text['file'] == 'times.txt'
  assert all(found[name] == wanted[name] for name in ('workdir', 'weights', 'step'))
  assert text['nats_per_token'] == pytest.approx(wanted['nats_per_token'], abs=1e-5)
  for name in 'bits_per_byte', 'bits_per_character', 'tokens', 'bytes', 'characters':
    assert text[name] == found['total'][name] == pytest.approx(wanted[name], rel=1e-4)


def test_lines_and_tokens_add_up_to_the_text(finished, here, ask):
  whole = json.loads(ask(finished, 'words.txt', '--output=json', '--lines', '--tokens'))
  lines = [json.loads(line) for line in ask(finished, 'words.txt', '--output=jsonl').splitlines()]
  assert [line['text'] for line in lines] == WORDS.splitlines() and [line['line'] for line in lines] == [1, 2, 3, 4]
  for line, same in zip(lines, whole['lines'], strict=True):
    tokens = same.pop('token_scores')
    assert same == line
    assert sum(token['bits'] for token in tokens) == pytest.approx(line['bits'], abs=0.01)
    assert sum(token['bytes'] for token in tokens) == line['bytes'] == len(tokens)
  text = whole['texts'][0]
  assert 'token_scores' not in text
  for name in 'bits', 'characters', 'bytes', 'tokens':
    assert sum(line[name] for line in lines) == pytest.approx(text[name])
  assert (text['characters'], text['bytes']) == (len(WORDS), len(WORDS.encode()))


def test_the_table_is_sorted_and_has_a_total(finished, here, ask):
  heading, *rows, words, times, total = ask(finished, 'words.txt', 'times.txt', '--sort').splitlines()
  assert heading.split()[0] == 'bits/char' and words.endswith('  words.txt') and times.endswith('  times.txt')
  values = [float(row.split()[0]) for row in rows]
  assert values == sorted(values, reverse=True) and len(rows) == 5
  assert any(row.endswith('words.txt:2: It was naïve: 世') for row in rows)
  assert total.split()[2:] == [f'{len(TEXT) + len(WORDS):,}', f'{len(TEXT) + len(WORDS.encode()):,}',
                               f'{len(TEXT) + len(WORDS.encode()):,}', 'total']
  assert 'total' not in ask(finished, 'words.txt')


def test_texts_are_read_as_corpora_are(finished, here, ask, monkeypatch, capsys):
  """Folders, globs, packed files, byte order marks, standard input: the same text has the same figures."""
  (here / 'folder' / 'deep').mkdir(parents=True)
  (here / 'folder' / 'a.txt').write_bytes(b'\xef\xbb\xbf' + WORDS.encode())
  (here / 'folder' / 'deep' / 'b.gz').write_bytes(gzip.compress(WORDS.encode()))
  (here / 'folder' / 'picture.png').write_bytes(b'\x89PNG\r\n\x1a\n\0')
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'\xef\xbb\xbf' + WORDS.encode())))
  found = json.loads(ask(finished, 'words.txt', '--output=json', 'folder', '-', '[w]ords.*'))['texts']
  assert [text['file'] for text in found] == ['words.txt', 'folder/a.txt', 'folder/deep/b.gz', 'standard input',
                                              'words.txt']
  for text in found:
    assert text['bits'] == pytest.approx(found[0]['bits'], rel=1e-4)
    assert text['bytes'] == len(WORDS.encode())
  score.run(['charlm-score', f'--workdir={finished}', 'folder'])
  assert told(capsys) == ['folder: left out: 1 (first: picture.png, an image)']


def test_documents_are_those_of_the_training_unless_flags_say_otherwise(documents, here, ask):
  parts = ['It was\n\n', 'the best of times\n\n', 'It\n']
  for i, part in enumerate(parts):
    (here / f'{i}.txt').write_text(part)
  (here / 'all.txt').write_text(''.join(parts))
  *apart, whole = json.loads(ask(documents, '0.txt', '1.txt', '2.txt', 'all.txt', '--output=json'))['texts']
  assert whole['bits'] == pytest.approx(sum(text['bits'] for text in apart), rel=1e-4)
  joined = json.loads(ask(documents, 'all.txt', '--output=json', '--nodocument_reset'))['total']['bits']
  assert joined != pytest.approx(whole['bits'], rel=1e-3)
  lines = json.loads(ask(documents, 'all.txt', '--output=json', r'--document_separator=\n'))['total']['bits']
  assert lines not in (pytest.approx(whole['bits'], rel=1e-3), pytest.approx(joined, rel=1e-3))


def test_what_is_not_utf8_is_told_of_and_stays_valid_in_what_is_printed(documents, finished, here, ask, capsys):
  (here / 'odd\udcff.txt').write_bytes(b'It\xff was \x1b[31m\xe4\n\xe2\x80\xa8"')
  for workdir in documents, finished:
    for line in ask(workdir, 'odd\udcff.txt', '--output=jsonl', '--tokens').splitlines():
      found = json.loads(line)
      assert found['file'] == 'odd\\udcff.txt' and '\udcff' not in str(found)
    table = ask(workdir, 'odd\udcff.txt', '--lines')
    assert '\x1b' not in table and len(table.splitlines()) == 4
  score.run(['charlm-score', f'--workdir={documents}', 'words.txt'])
  unknown = sum(c not in DOCUMENTS for c in WORDS)
  assert told(capsys) == [f'warning: words.txt: {unknown} of {len(WORDS)} characters ({unknown / len(WORDS):.2%}) are '
                          "unknown to this model, first 'r'"]


@pytest.mark.parametrize('arguments, words', [
  ([], ['FILE', 'expected texts']), (['no.txt'], ['no.txt', 'no such file']), (['-', '-'], ['-: given twice']),
  (['empty.txt'], ['empty.txt', '0 bytes']), (['pdf.txt'], ['is a PDF', 'pdftotext']),
  (['wide.txt'], ['UTF-16', 'iconv']), (['tfds:x'], ['tfds:x', 'charlm-evaluate']), (['gs://a/b'], ['gs://']),
  (['words.txt', '--tokens'], ['--tokens', '--output']), (['words.txt', '--output=xml'], ['--output=xml']),
  (['words.txt', '--document_separator=x'], ['--document_separator=x', '--document_reset']),
  (['words.txt', '--html=no/page.html'], ['--html=no/page.html', 'folder']),
  (['words.txt', '--html=./words.txt'], ['--html=./words.txt', 'one of the texts']),
  (['folder', '--html=folder/a.html'], ['--html=folder/a.html', 'one of the texts']),
  (['a\x01.txt', '--html=a\x01.txt'], ['--html=a', 'one of the texts']),
  (['packed*', '--html=linked.html'], ['--html=linked.html', 'one of the texts']),
  (['fold\x01er', '--html=fold\x01er/\x01.txt'], ['--html=fold', 'one of the texts']),
  (['words.txt', '--html=.'], ['--html=.', 'expected a file']),
  (['words.txt', '--html=/dev/null'], ['--html=/dev/null', 'expected a file']),
])
def test_what_score_refuses(finished, here, capsys, arguments, words):
  (here / 'folder').mkdir()
  (here / 'folder' / 'a.html').write_text(WORDS)
  (here / 'empty.txt').touch()
  (here / 'pdf.txt').write_bytes(b'%PDF-1.4\n\0')
  (here / 'wide.txt').write_bytes('\ufeffwide'.encode('utf-16-le'))
  (here / 'a\x01.txt').write_text(WORDS)
  (here / 'packed\x01.gz').write_bytes(gzip.compress(WORDS.encode()))
  (here / 'linked.html').symlink_to('packed\x01.gz')
  (here / 'fold\x01er').mkdir()
  (here / 'fold\x01er' / '\x01.txt').write_text(WORDS)
  before = {path: path.read_bytes() for path in here.rglob('*') if path.is_file()}
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', f'--workdir={finished}', *arguments])
  assert exit_.value.code == 2
  line, = told(capsys)
  assert all(word in line for word in words) and '--corpus=' not in line.replace('charlm-evaluate --corpus', ''), line
  assert {path: path.read_bytes() for path in here.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('target', ['old.html', 'no such file'])
def test_a_page_does_not_take_the_place_of_a_link(here, target):
  """As /dev/stdin is one, to a file where standard input comes from a file."""
  (here / 'old.html').write_text('old')
  (here / 'page.html').symlink_to(target)
  with pytest.raises(UserError, match=r'--html=page\.html: expected a file, and this is a link'):
    page.check('page.html', [])
  assert (here / 'page.html').is_symlink() and (here / 'old.html').read_text() == 'old'


def test_a_page_does_not_take_the_place_of_what_standard_input_comes_from(here):
  """In a process of its own, which has a standard input of its own."""
  code = ("import sys; from charlm.evaluation import given_texts, page\n"
          "page.check('words.txt', given_texts.find(['-']))")
  with open('words.txt', 'rb') as file:
    done = subprocess.run([sys.executable, '-c', code], stdin=file, capture_output=True, text=True, check=False,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
  assert 'UserError: --html=words.txt: is one of the texts' in done.stderr


def test_texts_too_long_for_a_page_are_refused_before_they_are_scored(finished, here, monkeypatch, capsys):
  monkeypatch.setattr(page, 'MOST_BYTES', len(WORDS.encode()))
  (here / 'words.gz').write_bytes(gzip.compress(WORDS.encode()))
  monkeypatch.setattr(score, 'scored', None)  # is not called
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', f'--workdir={finished}', 'words.txt', 'words.gz', '--html=page.html'])
  size = len(WORDS.encode())
  assert exit_.value.code == 2
  assert told(capsys) == [f'charlm-score: --html=page.html: expected at most {size} bytes of text for one page, found '
                          f'{2 * size}']


def test_a_text_that_the_memory_does_not_hold_is_refused(finished, here, monkeypatch, capsys):
  monkeypatch.setattr(runtime, 'memory_bytes', lambda: 30 * 1000)
  (here / 'long.txt').write_bytes(b'a' * 1001)
  (here / 'fits.txt').write_bytes(b'a' * 1000)
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', f'--workdir={finished}', 'fits.txt', 'long.txt'])
  line, = told(capsys)
  assert exit_.value.code == 2
  assert line.startswith('charlm-score: long.txt: expected a text of at most 1,000 bytes') and 'found 1,001' in line


@pytest.mark.parametrize('data, words', [
    (b'', '0 bytes'), (gzip.compress(b'a', mtime=0), 'is gzip; unpack it first: gunzip'),
    (b'%PDF-1.4\n\0', 'is a PDF')])
def test_standard_input_that_is_no_text_is_refused(finished, monkeypatch, capsys, data, words):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(data)))
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', f'--workdir={finished}', '-'])
  line, = told(capsys)
  assert exit_.value.code == 2 and line.startswith('charlm-score: standard input') and words in line


def test_weights_that_are_of_no_use_are_told_of(finished, here, tmp_path, capsys):
  run = tmp_path / 'run'
  shutil.copytree(finished, run)
  arrays, state = checkpoint.read(checkpoint.best_path(run))
  arrays['model/output_bias'] = np.resize(np.float32([3e38, -3e38]), arrays['model/output_bias'].shape)
  checkpoint.write(run, checkpoint.best_path(run).name, arrays, state)
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', f'--workdir={run}', 'words.txt', '--html=page.html'])
  assert exit_.value.code == 1 and 'words.txt' in told(capsys)[-1]
  assert not [path for path in here.iterdir() if 'page' in path.name]
