"""Text for the tests of data_pipeline, and how they read a corpus and what it says of mistakes."""
import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest
import zstandard

from data_pipeline.corpus import packed, spec, spool, text
from data_pipeline.token_files import TokenFile
from flags.errors import UserError

TEXT = ('Grüße aus 世界! 🎉 The fox, the dog and the cat.\r\n' * 40).encode()
MARK = '\ufeff'.encode()
PACK = {'.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress,
        '.zst': zstandard.ZstdCompressor().compress}
WORDS = 'It was the best of times.\n' * 40


def token_file(folder, ids, starts=()):
  """Writes tokens, and where documents start, into a folder -> their TokenFile."""
  file = TokenFile(path=str(folder / 'train.tokens'), dtype='uint8', num_tokens=len(ids), num_bytes=len(ids),
                   num_characters=len(ids), first_token_bytes=1, first_token_characters=1, num_unknown=0,
                   num_starts=len(starts))
  np.asarray(ids, np.uint8).tofile(file.path)
  np.asarray(starts, np.int64).tofile(file.starts_path)
  return file


def read(opened):
  """All bytes of a Text."""
  return b''.join(opened.blocks())


def read_whole(corpus, **options):
  """All bytes of a corpus, not cut into splits."""
  splits = spec.open_corpus(str(corpus), **{'valid_fraction': 0.0, **options})
  assert list(splits) == ['train']
  return read(splits['train'])


def one_line(error):
  """The message of what pytest.raises has caught."""
  message = str(error.value)
  assert '\n' not in message
  return message


def set_block_bytes(monkeypatch, size):
  """Has text read in blocks of `size` bytes."""
  for module in (text, packed, spool):
    monkeypatch.setattr(module, 'BLOCK_BYTES', size)


def told(corpus, **options):
  """The line that says what a corpus has."""
  lines = []
  spec.open_corpus(str(corpus), tell=lines.append, **options)
  line, = lines
  return line


def refused(corpus):
  with pytest.raises(UserError) as error:
    spec.open_corpus(str(corpus))
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
