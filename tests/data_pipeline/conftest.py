"""A corpus on the disk and a cache for its tokens."""
import pytest

from corpora import TEXT
from flags.data import DataConfig


@pytest.fixture
def config(tmp_path):
  """Makes a DataConfig for TEXT, or for other bytes."""
  def make(kind='byte', text=TEXT, **options):
    (tmp_path / 'text').write_bytes(text)
    size = {'vocab_size': 320} if kind == 'sentencepiece' else {}
    return DataConfig(**{'corpus': str(tmp_path / 'text'), 'tokenizer': kind, 'test_fraction': 0.2,
                         'cache_dir': str(tmp_path / 'cache'), **size, **options})
  return make


@pytest.fixture
def cached(tmp_path):
  """Returns {path: time of change} of all files in the cache."""
  return lambda: {path: path.stat().st_mtime_ns for path in (tmp_path / 'cache').rglob('*') if path.is_file()}
