"""Text that is silently missing: a line says what was read, and what was left out."""
import contextlib
import gzip
import json
import os
import pathlib
import shutil
import tempfile

import pytest

from charlm.commands import evaluate, train
from corpora import MARK, PACK, TEXT, WORDS, fill, read_whole, refused, told, zipped
from data_pipeline.corpus import find
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.prepare import prepare
from flags.data import DataConfig
from flags.errors import UserError
from hard_text import KINDS
from runs import flags


def test_the_line_of_a_folder(tmp_path):
  folder = fill(tmp_path / 'f', **{f'{i}_txt': b'12345\n' * 10**5 for i in range(10, 22)})
  assert told(folder) == '12 files, 7.2 MB of text'
  fill(folder, b_txt='abc'.encode('utf-16'), c_txt='abc'.encode('utf-16'))
  assert told(folder) == '12 files, 7.2 MB of text; left out: 2 (first: b.txt, UTF-16)'
  fill(folder, empty=b'', d_zip=zipped(a='a'))
  (folder / 'broken').symlink_to('nowhere')
  os.mkfifo(folder / 'pipe')
  fill(folder / 'sub' / 'run', **{'config_json': b'{}', 'tokenizer_json': b'{}', 'more_txt': b'of a run'})
  fill(folder / '.git', a=b'hidden')
  assert told(folder) == ('12 files, 7.2 MB of text; left out: 7 (first: b.txt, UTF-16): UTF-16 (2), the workdir of a '
                          'run (1), no regular file (1), a broken link (1), a zip archive (1), empty (1)')
  assert told(folder / '*.txt') == f'12 files, 7.2 MB of text; left out: 2 (first: {folder}/b.txt, UTF-16)'
  assert 'which ** goes into (1)' in told(folder / '*')


def test_the_line_of_other_corpora(tmp_path):
  (tmp_path / 'a').write_bytes(b'a')
  assert told(tmp_path / 'a') == '1 file, 1 byte of text'
  assert told('pydoc').endswith(' kB of text') and ' topics, ' in told('pydoc')
  assert ' files, ' in told('stdlib') and ' MB of text' in told('stdlib')


def test_the_line_is_the_same_when_tokens_come_from_the_cache(tmp_path, capsys):
  folder = fill(tmp_path / 'f', a_gz=gzip.compress(TEXT), b_txt='abc'.encode('utf-16'))
  for _ in range(2):
    prepare(DataConfig(corpus=str(folder), cache_dir=str(tmp_path / 'cache')))
    assert capsys.readouterr().err == '1 file, 2.2 kB of text; left out: 1 (first: b.txt, UTF-16)\n'


def test_commands_say_what_they_read(finished, tmp_path, capsys):
  folder = fill(tmp_path / 'f', a_txt=WORDS.encode(), b_txt='abc'.encode('utf-16'))
  line = '1 file, 1.0 kB of text; left out: 1 (first: b.txt, UTF-16)'
  train.run(flags(folder, tmp_path / 'run', '--steps=1', '--sample_every=0'))
  assert capsys.readouterr().err.splitlines()[0] == line
  evaluate.run(['charlm-evaluate', f'--workdir={finished}', f'--corpus={folder}'])
  output = capsys.readouterr()
  assert output.err.splitlines()[0] == line and json.loads(output.out)['tokens'] == len(WORDS) - 1


@pytest.mark.parametrize('kind', KINDS)
def test_a_byte_order_mark_is_no_text(tmp_path, kind):
  """Nor is it in the tokens that an earlier charlm has left in the cache, in which it was a character."""
  half = TEXT.index(b'\n', len(TEXT) // 2) + 1
  plain = fill(tmp_path / 'plain', a=TEXT[:half], b=TEXT[half:])
  marked = fill(tmp_path / 'marked', a=MARK + TEXT[:half], b_gz=gzip.compress(MARK + TEXT[half:]))
  options = dict(cache_dir=str(tmp_path / 'cache'), tokenizer=kind)
  options |= {'vocab_size': 320} if kind == 'sentencepiece' else {}
  tokenizer, files = prepare(DataConfig(corpus=str(marked), **options))
  assert tokenizer.decode(files['train'].read()) + tokenizer.decode(files['valid'].read()) == TEXT
  assert prepare(DataConfig(corpus=str(plain), **options))[1] == files


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_a_byte_order_mark_inside_a_text_stays(tmp_path, suffix):
  path = tmp_path / f'a{suffix}'
  path.write_bytes(PACK.get(suffix, bytes)(MARK + MARK + b'one' + MARK + b'two'))
  assert read_whole(path) == MARK + b'one' + MARK + b'two'
  path.write_bytes(PACK.get(suffix, bytes)(MARK + b'a\xff'))
  with pytest.raises(UserError, match='0xff at offset 4 is not'):  # as an editor counts
    prepare(DataConfig(corpus=str(path), tokenizer='char', valid_fraction=0.0, cache_dir=str(tmp_path / 'cache')))


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('content', [b'', MARK])
def test_a_file_without_text(tmp_path, content, packed):
  (tmp_path / 'a').write_bytes(gzip.compress(content) if packed else content)
  assert 'found 0 bytes' in refused(tmp_path / 'a')
  assert refused(tmp_path).endswith('found no text in it; left out: 1 (first: a, empty)')


@pytest.mark.parametrize('content', [b'\n', b' \n\t\n', b'a', b'abc', '€'.encode(), MARK + b'a', b'\xff'])
def test_a_little_text(tmp_path, content):
  (tmp_path / 'a').write_bytes(content)
  assert read_whole(tmp_path / 'a') == content.removeprefix(MARK)


def test_links_to_folders_are_followed(tmp_path):
  folder, other = fill(tmp_path / 'f', a=b'A'), fill(tmp_path / 'other', b=b'B')
  (folder / 'link').symlink_to(other)
  (folder / 'zlink').symlink_to(other)
  (other / 'back').symlink_to(folder)
  for corpus in folder, folder / '**', folder / '**' / '*', f'{folder}/**/**/*':
    assert read_whole(corpus) == b'A\nB'
    assert 'left out: 2' in told(corpus) and 'read by another name' in told(corpus)


def test_links_that_go_round_end(tmp_path):
  """Two links to the same parent, followed blindly, double with each level."""
  folder = fill(tmp_path / 'f', a=b'A')
  fill(tmp_path / 'beside', x=b'X')
  fill(folder / 'sub' / 'deep', b=b'B')
  for i in range(3):
    (folder / f'loop{i}').symlink_to('.')
    (folder / 'sub' / f'up{i}').symlink_to('..')
    (folder / 'sub' / 'deep' / f'top{i}').symlink_to(tmp_path)
  for corpus in folder, folder / '**', f'{folder}/**/[ab]':
    assert read_whole(corpus) == b'A\nB'
    assert 'a link to a folder that it is in' in told(corpus)


def test_a_file_is_read_once(tmp_path):
  folder = fill(tmp_path / 'f', b=b'B')
  (folder / 'a').symlink_to('b')
  (folder / 'c').symlink_to(folder / 'b')
  assert read_whole(folder) == b'B' == read_whole(folder / '*') == read_whole(folder / '[ac]')
  assert told(folder) == '1 file, 1 byte of text; left out: 2 (first: a, read by another name)'
  os.link(folder / 'b', folder / 'd')  # as good as a copy
  assert read_whole(folder) == b'B\nB'


def test_broken_links_are_named(tmp_path):
  folder = fill(tmp_path / 'f', a=b'A')
  (folder / 'gone').symlink_to('nowhere')
  (folder / 'self').symlink_to('self')
  assert told(folder) == '1 file, 1 byte of text; left out: 2 (first: gone, a broken link)'
  assert 'is a broken link, to nowhere' in refused(folder / 'gone')
  assert 'Too many levels' in refused(folder / 'self')


def test_a_glob_without_a_match_says_where(tmp_path):
  fill(tmp_path / 'f', a=b'A')
  assert refused(tmp_path / 'f' / '**' / 'x*').endswith(f'found no match in {tmp_path}/f')
  assert refused(tmp_path / 'f' / '*' / '**' / 'a').endswith(f'found no match in {tmp_path}/f')


def test_names_that_are_no_words(tmp_path):
  folder = fill(tmp_path / 'f', a=b'A')
  names = ['line\nend', os.fsdecode(b'\xff\xfe'), '\x1b[31mred', "quote'", '世界', ' ']
  for name in names:
    (folder / name).write_bytes('words'.encode('utf-16'))
    with pytest.raises(UserError) as error:
      open_corpus(str(folder / name))
    assert str(error.value).replace(str(folder / name), '', 1).isprintable()  # a command escapes what is left
    line = told(folder)
    assert line.isprintable() and line.startswith('1 file, 1 byte of text; left out: 1 (first: ')
    (folder / name).unlink()


@contextlib.contextmanager
def as_nobody():
  """A folder of a user who is not the superuser, and may not read everything."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='charlm-test-'))
  superuser = os.geteuid() == 0
  if superuser:
    os.chown(folder, 65534, -1)
    os.seteuid(65534)
  try:
    yield folder
  finally:
    if superuser:
      os.seteuid(0)
    shutil.rmtree(folder)


def test_what_may_not_be_read():
  with as_nobody() as tmp_path:
    folder = fill(tmp_path / 'f', a=b'A', b=b'B', c_gz=gzip.compress(b'C'))
    fill(folder / 'sub', d=b'D')
    for path in folder / 'b', folder / 'c.gz', folder / 'sub':
      path.chmod(0)
    assert read_whole(folder) == b'A'
    assert told(folder).endswith('left out: 3 (first: b, cannot be read (Permission denied))')
    assert 'cannot be read (Permission denied)' in refused(folder / 'b')
    assert 'Permission denied' in refused(folder / 'sub') and 'Permission denied' in refused(folder / 'sub' / 'd')
    (folder / 'a').unlink()
    assert 'no text in it; left out: 3 (first: b, cannot be read (Permission denied))' in refused(folder)
    (folder / 'sub').chmod(0o700)


def test_a_file_that_is_gone_once_it_was_found(tmp_path, monkeypatch):
  folder = fill(tmp_path / 'f', a=b'A', b=b'B')
  once = find._once

  def lose(paths, left_out):
    files = once(paths, left_out)
    (folder / 'b').unlink()
    return files

  monkeypatch.setattr(find, '_once', lose)
  assert told(folder) == '1 file, 1 byte of text; left out: 1 (first: b, cannot be read (No such file or directory))'
