"""Packed files are copied to a temporary file, if there is room."""
import gzip

import pytest

from corpora import TEXT, one_line
from data_pipeline.corpus import spool
from data_pipeline.corpus.spec import open_corpus
from flags.errors import UserError


def test_no_room_to_unpack(tmp_path, monkeypatch):
  (tmp_path / 'a.gz').write_bytes(gzip.compress(TEXT))
  with open('/dev/full', 'w+b', buffering=0) as full:
    monkeypatch.setattr(spool.tempfile, 'TemporaryFile', lambda **_: full)
    with pytest.raises(UserError, match=r'TMPDIR=.*expected room') as error:
      open_corpus(str(tmp_path / 'a.gz'))
  one_line(error)
