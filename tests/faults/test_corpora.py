"""Text that is silently missing, and what is no text: a line says what was read, and what will not do is named."""
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import pathlib
import shutil
import tarfile
import tempfile
import zipfile

import numpy as np
import pytest
import zstandard

from charlm.commands import evaluate, train
from corpora import TEXT, one_line, read_whole
from data_pipeline import prepare as prepare_module
from data_pipeline.corpus import find, kinds, text
from data_pipeline.corpus import packed as packed_files
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.prepare import prepare
from flags.data import DataConfig
from flags.errors import UserError
from hard_text import KINDS
from runs import flags

MARK = '\ufeff'.encode()
PACK = {'.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress,
        '.zst': zstandard.ZstdCompressor().compress}
WORDS = 'It was the best of times.\n' * 40


def told(corpus, **options):
  """The line that says what a corpus has."""
  lines = []
  open_corpus(str(corpus), tell=lines.append, **options)
  line, = lines
  return line


def refused(corpus):
  with pytest.raises(UserError) as error:
    open_corpus(str(corpus))
  message = one_line(error)
  assert message.startswith('--corpus=')
  return message


def fill(folder, **files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    (folder / name.replace('_', '.')).write_bytes(content)
  return folder


def zipped(**files):
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w') as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return data.getvalue()


def tarred(kind=''):
  data = io.BytesIO()
  with tarfile.open(fileobj=data, mode=f'w:{kind}') as archive:
    member = tarfile.TarInfo('a.txt')
    member.size = len(WORDS)
    archive.addfile(member, io.BytesIO(WORDS.encode()))
  return data.getvalue()


NO_TEXT = {
  'a.zip': (zipped(a=WORDS), 'is a zip archive; unpack it first: unzip'),
  'b.docx': (zipped(**{'[Content_Types].xml': WORDS}), 'is an office document; extract its text first: soffice'),
  'c.odt': (zipped(mimetype='application/vnd.oasis.opendocument.text'), 'is an office document'),
  'd.epub': (zipped(mimetype='application/epub+zip'), 'is an EPUB book; extract its text first: pandoc'),
  'e.tar': (tarred(), 'is a tar archive; unpack it first: tar -xf'),
  'f.tar.gz': (tarred('gz'), 'is a tar archive; unpack it first: tar -xf'),
  'g.tgz': (tarred('gz'), 'is a tar archive'),
  'h.tar.xz': (tarred('xz'), 'is a tar archive'),
  'i.tar.bz2': (tarred('bz2'), 'is a tar archive'),
  'j.tar.zst': (PACK['.zst'](tarred()), 'is a tar archive'),
  'k.7z': (b'7z\xbc\xaf\x27\x1c' + bytes(40), 'is a 7z archive; unpack it first: 7z x'),
  'l.rar': (b'Rar!\x1a\7\1\0', 'is a RAR archive; unpack it first: unrar x'),
  'm.pdf': (b'%PDF-1.4\nno NUL in it', 'is a PDF; extract its text first: pdftotext'),
  'n.pdf.gz': (gzip.compress(b'%PDF-1.4\nno NUL in it'), 'is a PDF, packed with gzip; unpack it first: gunzip'),
  'o.gz': (gzip.compress(gzip.compress(WORDS.encode())), 'is gzip inside gzip; unpack it first: gunzip'),
  'p.xz': (lzma.compress(gzip.compress(WORDS.encode())), 'is gzip inside xz; unpack it first: unxz'),
  'q.png': (b'\x89PNG\r\n\x1a\n\0\0\0', 'is an image; expected text'),
  'r.jpg': (b'\xff\xd8\xff\xe0\0\x10JFIF', 'is an image'),
  's.doc': (bytes.fromhex('d0cf11e0a1b11ae1') + bytes(40), 'is an office document'),
  't.rtf': (b'{\\rtf1 words}', 'is an office document (RTF)'),
  'u.txt': (WORDS.encode('utf-16'), 'is UTF-16; convert it: iconv -f UTF-16 -t UTF-8'),
  'v.txt': (b'\xfe\xff' + WORDS.encode('utf-16-be'), 'is UTF-16; convert it: iconv -f UTF-16'),
  'w.txt': (WORDS.encode('utf-16-le'), 'is UTF-16LE; convert it: iconv -f UTF-16LE'),
  'x.txt': (WORDS.encode('utf-16-be'), 'is UTF-16BE; convert it: iconv -f UTF-16BE'),
  'y.txt': ('世界你好。\n'.encode('utf-16-le') * 900, 'is UTF-16LE'),
  'z.txt': (('🎉' * 5000 + '\n').encode('utf-16'), 'is UTF-16;'),
  'za.txt': (('a' + '🎉' * 5000 + '\n').encode('utf-16-be'), 'is UTF-16BE'),  # its start ends inside a character
  'zb.txt': (WORDS.encode('utf-32'), 'is UTF-32; convert it: iconv -f UTF-32'),
  'zc.txt': (WORDS.encode('utf-32-be'), 'is UTF-32BE'),
  'zd.txt': ((WORDS + '\0' + WORDS).encode(), 'is binary; expected text, without NUL bytes'),
  'ze.bin': (bytes(range(256)), 'is binary'),
}


@pytest.mark.parametrize('name', NO_TEXT)
def test_what_is_no_text_is_named_whatever_it_is_called(tmp_path, name):
  content, words = NO_TEXT[name]
  for path in tmp_path / name, tmp_path / 'with a space', *([] if 'binary' in words else [tmp_path / 'a.gz']):
    path.write_bytes(content)
    message = refused(path)
    assert words in message, message
    assert message.startswith(f'--corpus={path}: is ')
    if path.name == 'with a space' and ': ' in words:
      assert f"'{path}'" in message  # the command can be pasted
    path.unlink()
  folder = fill(tmp_path / 'folder', ok_txt=b'text')
  (folder / name).write_bytes(content)
  assert told(folder).startswith(f'1 file, 4 bytes of text; left out: 1 (first: {name}, ')
  (folder / 'ok.txt').unlink()
  for corpus in folder, folder / '*':
    message = refused(corpus)
    assert 'found no text in it; left out: 1 (first: ' in message and words in message, message


@pytest.mark.parametrize('content', [
  b'PK is not an archive', b'%PDF-files are a pain', b'GIF89a was a format', b'BZh91AY is how bzip2 begins',
  b'Rar! Rar!', b'7z is an archiver', b'ustar' * 100, b'II* MM*', 'Größe'.encode('latin-1'), b'LZIP',
  ('a' * 8191 + 'ü').encode()])
def test_text_is_text_whatever_it_is_called(tmp_path, content):
  for name in 'a.txt', 'a.zip', 'a.tar.gz', 'a.pdf', 'a.docx':
    if name.endswith('.gz') and not content.isascii() and len(content) < 100:
      continue  # not even UTF-8: taken for a damaged file
    (tmp_path / name).write_bytes(content)
    assert read_whole(tmp_path / name) == content
    assert told(tmp_path / name).startswith('1 file, ')


@pytest.mark.parametrize('suffix', PACK)
def test_packed_text_is_unpacked_whatever_it_is_called(tmp_path, suffix):
  (tmp_path / 'a').write_bytes(PACK[suffix](TEXT))
  assert read_whole(tmp_path / 'a') == TEXT == read_whole(tmp_path)
  assert told(tmp_path / 'a') == '1 file, 2.2 kB of text'  # as it is read, not as it is stored


@pytest.mark.parametrize('suffix', PACK)
@pytest.mark.parametrize('damage', ['garbage behind', 'cut in the last bytes', 'wrong inside'])
def test_damaged_packed_text_is_one_line(tmp_path, suffix, damage):
  packed = PACK[suffix](b''.join(b'%d ' % (i * i) for i in range(9000)))
  damaged = {'garbage behind': packed + b'garbage', 'cut in the last bytes': packed[:-3],
             'wrong inside': packed[:-900] + bytes(100) + packed[-800:]}[damage]
  folder = fill(tmp_path / 'f', a_txt=b'text')
  (folder / f'b{suffix}').write_bytes(damaged)
  for corpus in folder, folder / f'b{suffix}', folder / '*':
    if suffix in ('.bz2', '.xz') and damage == 'garbage behind':  # the text is whole
      assert told(corpus)
    else:
      assert 'damaged' in refused(corpus)


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


def test_a_file_that_grows_is_read_as_it_was(tmp_path):
  (tmp_path / 'a').write_bytes(b'one two')
  opened = open_corpus(str(tmp_path / 'a'), valid_fraction=0.0)['train']
  with open(tmp_path / 'a', 'ab') as file:
    file.write(b' three')
  assert b''.join(opened.blocks()) == b'one two'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('when', ['fingerprint', 'load_tokenizer'])
def test_a_text_that_changes_while_it_is_read_leaves_nothing_in_the_cache(tmp_path, monkeypatch, kind, when):
  """Tokens of the new text under the digest of the old one would be taken for those of the old one ever after."""
  path = tmp_path / 'a'
  path.write_bytes(TEXT)
  options = {'vocab_size': 320} if kind == 'sentencepiece' else {}
  config = DataConfig(corpus=str(path), tokenizer=kind, cache_dir=str(tmp_path / 'cache'), **options)
  before = getattr(prepare_module, when)

  def change(*arguments):
    try:
      return before(*arguments)
    finally:
      path.write_bytes(TEXT.replace(b'fox', b'ox\xc3\xbc')[:len(TEXT)])  # of the same size, and other characters

  with monkeypatch.context() as patch:
    patch.setattr(prepare_module, when, change)
    if when == 'fingerprint' or kind != 'byte':
      with pytest.raises(UserError, match='the text has changed while it was read') as error:
        prepare(config)
      one_line(error)
  path.write_bytes(TEXT)
  tokenizer, files = prepare(config)
  assert tokenizer.decode(files['train'].read()) + tokenizer.decode(files['valid'].read()) == TEXT


def test_a_text_that_changed_under_its_size_and_time_is_read_anew(tmp_path):
  path = tmp_path / 'a'
  config = DataConfig(corpus=str(path), cache_dir=str(tmp_path / 'cache'), valid_fraction=0.0)
  for content in TEXT, TEXT.replace(b'fox', b'dog'):
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert prepare(config)[1]['train'].read().tobytes() == content


def test_a_bomb_takes_little_memory(tmp_path):
  """30 MB of the same letter in 1 kB: blocks stay small, whatever they unpack to."""
  (tmp_path / 'a.zst').write_bytes(PACK['.zst'](b'a' * (200 << 20)))
  sizes = [len(block) for block in packed_files.unpack(str(tmp_path / 'a.zst'), kinds.SUFFIXES['.zst'])]
  assert sum(sizes) == 200 << 20 and max(sizes) <= 40 << 20


@pytest.mark.parametrize('place', ['/dev/zero', '/dev/null', '/dev/full'])
def test_devices(place):
  assert 'expected a regular file or a folder' in refused(place)


def test_train_warns_of_characters_that_training_has_not_seen(tmp_path, capsys):
  path = tmp_path / 'two.txt'
  path.write_text('a' * 900 + 'λ' * 160)  # 1220 bytes, of which the last tenth is one letter
  train.run(flags(path, tmp_path / 'run', '--steps=1', '--sample_every=0', '--tokenizer=char', '--test_fraction=0.1',
                  '--valid_fraction=0.2'))
  warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith('warning:')]
  assert warnings == [
    f'warning: --corpus={path}: 99 of 145 characters of its valid split (68.28%) are unknown to this model, '
    "first 'λ'",
    f'warning: --corpus={path}: 61 of 61 characters of its test split (100.00%) are unknown to this model, '
    "first 'λ'"]
  train.run(['charlm-train', f'--workdir={tmp_path / "run"}'])  # it is said again where a run goes on
  assert capsys.readouterr().err.count('are unknown to this model') == 2


def test_train_has_nothing_to_warn_of(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', '--steps=1', '--sample_every=0', '--tokenizer=char'))
  assert 'warning' not in capsys.readouterr().err


def test_a_text_reads_the_same_each_time(tmp_path):
  (tmp_path / 'a').write_bytes(b'abcdef')
  opened = open_corpus(str(tmp_path / 'a'), valid_fraction=0.5)
  assert [b''.join(opened[split].blocks()) for split in opened] * 2 == [b'abc', b'def'] * 2
  (tmp_path / 'a').write_bytes(b'abcdeg')
  assert b''.join(opened['train'].blocks()) == b'abc'
  with pytest.raises(UserError, match='has changed'):
    list(opened['valid'].blocks())
  assert np.all(text.Text('', []).document_starts() == [])
