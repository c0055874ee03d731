"""A corpus spec -> the text of its splits. The rest of the project reads text through this alone.

  pydoc                 the language reference that Python carries
  stdlib                the sources of Python's standard library
  a file, folder, glob  text files, in sorted order; packed ones are unpacked, others left out (files.py)
  tfds:NAME[/CONFIG]    a data set of TensorFlow Datasets (tfds.py)

The parts of a corpus (files, or splits of a data set) are read one after the other. A part that does not end in a
newline gets one if another part follows it. A split is a range of the bytes:

  |--------- train ---------|---- valid ----|-- test --|    cuts are moved to where a character starts

Each file, each example of a data set and each topic of pydoc is a document; a separator in the text may divide them
further. So every document but the last ends in a newline or in the separator.

No text is held in memory as a whole.
"""
import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from data_pipeline.corpus import files, tfds
from data_pipeline.corpus.spool import Keep, spooled
from data_pipeline.corpus.text import Text
from flags.errors import UserError


def open_corpus(spec: str, *, data_dir: str = '', text_feature: str = '', valid_fraction: float = 0.1,
                test_fraction: float = 0.0, tell: Callable[[str], None] = lambda line: None,
                keep: Keep = spooled) -> dict[str, Text]:
  """Opens a corpus and cuts it into splits.

  A data set's own valid and test splits are kept, and its train split is cut only for what is missing.

  Args:
    spec: the corpus.
    data_dir: of a data set: where TensorFlow Datasets keeps its data; its own default if empty.
    text_feature: of a data set: the feature that holds the text; found by itself if empty.
    valid_fraction: share of the bytes, cut from the end before the test share.
    test_fraction: share of the bytes, cut from the end.
    tell: is given a line that says how much was found, and what was left out of it.
    keep: makes parts of what can only be read from its start: packed files, data sets.

  Returns:
    {'train': Text, 'valid': Text, 'test': Text}, without the splits that are empty.

  Raises:
    UserError: the corpus has no text, or it cannot be read; names the spec and the file.
  """
  ranges: dict[str, tuple[int, int]] = {}  # of the splits that the corpus has itself
  if spec.startswith('tfds:'):
    parts, ranges, account = tfds.data_set_parts(spec, data_dir, text_feature, keep)
  else:
    parts, account = files.pydoc_parts(keep) if spec == 'pydoc' else files.file_parts(spec, keep)
  whole = Text(spec, parts)
  if not whole.num_bytes:
    raise UserError(f'--corpus={spec}: expected text, found 0 bytes')
  tell(account.line(whole.num_bytes))
  start, end = ranges.get('train', (0, whole.num_bytes))
  shares = {'valid': valid_fraction, 'test': test_fraction}
  sizes = {split: int((end - start) * share) for split, share in shares.items() if split not in ranges}
  for split in reversed(sizes):
    cut = min(whole.character_start(end - sizes[split]), end)
    ranges[split], end = (cut, end), cut
  ranges['train'] = start, end
  return {split: whole.slice(*ranges[split]) for split in ('train', 'valid', 'test')
          if ranges[split][0] < ranges[split][1]}


def fingerprint(splits: Mapping[str, Text], starts: Mapping[str, np.ndarray] | None = None) -> str:
  """A digest of the text of all splits: the same for the same text, however it is stored.

  Args:
    splits: {split: Text}.
    starts: {split: byte offsets [n] int64 where documents start}, if documents matter.

  Returns:
    SHA-256 in hexadecimal.
  """
  digest = hashlib.sha256()
  for split, text in splits.items():
    digest.update(f'{split} {text.num_bytes}\n'.encode())
    if starts:
      digest.update(f'{len(starts[split])} documents more\n'.encode())
      digest.update(starts[split].data)
    for block in text.blocks():
      digest.update(block)
  return digest.hexdigest()
