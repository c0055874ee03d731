"""What is no text is told by its content, and named with what to do."""
import gzip
import io
import lzma
import tarfile

import pytest

from charlm.generation.prompt_list import read_list
from charlm.generation.prompts import given_prompt
from corpora import PACK, TEXT, WORDS, fill, read_whole, refused, told, zipped
from data_pipeline.corpus.kinds import PACKINGS
from flags.errors import UserError
from flags.generation import SampleConfig


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


@pytest.mark.parametrize('read', [lambda path: given_prompt(SampleConfig(prompt_file=path)), read_list])
def test_prompts_are_text_too(tmp_path, read):
  packed = {name: (PACK[name](TEXT), 'unpack it first: ') for name in PACK}
  for name, (content, words) in (NO_TEXT | packed).items():
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
      read(str(tmp_path / name))
    kind = PACKINGS.get(next((magic for magic in PACKINGS if content.startswith(magic)), b''))
    words = f'is {kind.name}; unpack it first: {kind.unpacker} ' if kind else words
    assert words in str(raised.value) and f'={tmp_path / name}: is ' in str(raised.value)


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
