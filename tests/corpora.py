"""Text for the tests of data_pipeline, and how they read a corpus and what it says of mistakes."""
from data_pipeline.corpus import packed, spec, spool, text

TEXT = ('Grüße aus 世界! 🎉 The fox, the dog and the cat.\r\n' * 40).encode()


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
