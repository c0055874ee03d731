"""Prepared tokens for tests: made in this process, in small pieces and records."""
import itertools

import numpy as np

from data_pipeline import shard_reader, shards
from data_pipeline.beam import cuts, make, pipeline
from flags.prepare import PrepareConfig


def set_sizes(monkeypatch, *, record=None, piece=None, looked_at=None):
  """Has records of so many tokens, pieces of so many bytes, and their ends looked for in so many bytes."""
  for module in (shards, shard_reader) if record else ():
    monkeypatch.setattr(module, 'RECORD_TOKENS', record)
  if piece:
    monkeypatch.setattr(cuts, 'PIECE_BYTES', piece)
  if looked_at:
    monkeypatch.setattr(cuts, 'LOOKED_AT', looked_at)


def prepared(corpus, folder, **flags):
  """Prepares a corpus in this process -> the manifest."""
  config = PrepareConfig(**{'corpus': str(corpus), 'tokens_dir': str(folder), 'workers': 1, 'valid_fraction': 0.1,
                            **flags})
  return make.make(config, pipeline.Runner(config))


def write_shards(folder, ids, starts, cuts_):
  """Writes ids [N] and starts (indices, or None) as shards that begin at `cuts_` -> their reader."""
  layout = shards.Layout('uint8', starts is not None)
  made, places = [], [*cuts_, len(ids)]
  folder.mkdir(exist_ok=True)
  for number, (begin, end) in enumerate(itertools.pairwise(places)):
    with open(folder / str(number), 'wb') as file:
      writer = shards.ShardWriter(file, layout, first=False)
      for place in range(begin, end):
        writer.write(np.asarray(ids[place:place + 1], np.uint8))
        if starts is not None and place in starts:
          writer.end_document()
      writer.close()
    made.append(shards.Shard(str(number), end - begin, writer.digest))
  return shard_reader.ShardReader(str(folder), made, layout)
