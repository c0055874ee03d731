"""Corpora that are data sets of TensorFlow Datasets; each example is a document and ends in a newline."""
import contextlib
import functools
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from data_pipeline.corpus.account import Account
from data_pipeline.corpus.spool import Keep, Source, spooled
from data_pipeline.corpus.text import Part
from flags.errors import UserError

if TYPE_CHECKING:
  import tensorflow_datasets

PIECE_BYTES = 64 << 20  # of a data set as it is stored, that are read at a time
SPLIT_NAMES = {'train': ['train'], 'valid': ['validation', 'valid', 'dev'], 'test': ['test']}  # ours -> of data sets


def data_set_parts(spec: str, data_dir: str = '', text_feature: str = '', keep: Keep = spooled,
                   ) -> tuple[list[Part], dict[str, tuple[int, int]], Account]:
  """Reads the splits of a data set, which is downloaded and prepared first if it is not yet.

  Args:
    spec: tfds:NAME or tfds:NAME/CONFIG.
    data_dir: where TensorFlow Datasets keeps its data; its own default if empty.
    text_feature: the feature that holds the text; empty: the only one, or 'text'.
    keep: makes parts of examples, such as `spooled`.

  Returns:
    Parts for each split; {split: (start, stop)} of those that have text, in bytes from the first part's start; and how
    many examples there are, and which splits are left out.

  Raises:
    UserError: there is no such data set, or it has no split to train on, or no text.
  """
  builder = _builder(spec, data_dir)
  available = sorted(builder.info.splits)
  names = _split_names(spec, available)
  feature = _text_feature(spec, builder.info.features, text_feature)
  pieces = {split: _pieces(builder, name) for split, name in names.items()}
  parts = keep(spec, [Source(f'{spec} {piece}', functools.partial(_examples, spec, data_dir, piece, feature))
                      for split in names for piece in pieces[split]], documents=True)
  ends = [0, *itertools.accumulate(part.size for part in parts)]
  cuts = [0, *itertools.accumulate(map(len, pieces.values()))]
  ranges = {split: (ends[cuts[i]], ends[cuts[i + 1]]) for i, split in enumerate(names)
            if split == 'train' or ends[cuts[i]] < ends[cuts[i + 1]]}
  left_out = dict.fromkeys(set(available) - set(names.values()), 'a split that is not read')
  return parts, ranges, Account(sum(len(part.documents) for part in parts), 'example', left_out)


def _pieces(builder: 'tensorflow_datasets.core.DatasetBuilder', split: str) -> list[str]:
  """A split as pieces of about PIECE_BYTES, as TensorFlow Datasets names them: 'train[0:1000]'."""
  info = builder.info.splits[split]
  count = max(1, min(info.num_examples, info.num_bytes // PIECE_BYTES))
  cuts = [info.num_examples * i // count for i in range(count + 1)]
  return [f'{split}[{start}:{stop}]' for start, stop in itertools.pairwise(cuts)] if count > 1 else [split]


def _split_names(spec: str, available: list[str]) -> dict[str, str]:
  """Names of a data set's splits -> {split of ours: its name}, of those that it has. Raises UserError without train."""
  names = {ours: name for ours, accepted in SPLIT_NAMES.items()
           if (name := next((n for n in accepted if n in available), None))}
  if 'train' in names:
    return names
  if len(available) == 1:
    return {'train': available[0]}
  raise UserError(f'--corpus={spec}: expected a data set with a train split, found {", ".join(available) or "none"}')


def _builder(spec: str, data_dir: str) -> 'tensorflow_datasets.core.DatasetBuilder':
  """A builder whose data are on the disk."""
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UserError(f"--corpus={spec}: expected tensorflow-datasets to be installed; pip install -e '.[tfds]'"
                    ) from error
  name = spec.removeprefix('tfds:')
  where = f'--data_dir={data_dir}' if data_dir else 'the default data_dir of TensorFlow Datasets'
  try:
    builder = tfds.builder(name, data_dir=data_dir or None, try_gcs=False)
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(f'--corpus={spec}: expected the name of a data set, but TensorFlow Datasets has no such data '
                    f'set, nor has {where}') from error
  except Exception as error:  # the code of a data set may raise anything
    raise UserError(f'--corpus={spec}: cannot be opened ({_first_line(error)})') from error
  if not builder.is_prepared():
    print(f'charlm: downloading {spec} to {builder.data_dir}', file=sys.stderr)
    try:
      with contextlib.redirect_stdout(sys.stderr):  # standard output is for figures
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # network, disk, or the code of a data set
      raise UserError(f'--corpus={spec}: is not in {where}, and cannot be downloaded '
                      f'({_first_line(error)})') from error
  return builder


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _text_feature(spec: str, features: Mapping[str, Any], wanted: str) -> str:
  """The name of the feature that holds the text: `wanted`, or the only one, or 'text'. Raises UserError."""
  import tensorflow_datasets as tfds
  names = [name for name, feature in sorted(features.items()) if isinstance(feature, tfds.features.Text)
           or (type(feature) in (tfds.features.Tensor, tfds.features.Scalar) and feature.shape == ()
               and feature.tf_dtype.name == 'string')]
  if wanted:
    if wanted not in names:
      raise UserError(f'--text_feature={wanted}: expected one of {", ".join(names) or "none"}, the text '
                      f'features of {spec}')
    return wanted
  if len(names) == 1 or 'text' in names:
    return 'text' if 'text' in names else names[0]
  if not names:
    raise UserError(f'--corpus={spec}: expected a data set with a feature of text, found {", ".join(sorted(features))}')
  raise UserError(f'--corpus={spec}: expected --text_feature to choose one of {", ".join(names)}')


def _examples(spec: str, data_dir: str, split: str, feature: str) -> Iterator[bytes]:
  """The text of each example, with a newline after it."""
  import tensorflow as tf
  import tensorflow_datasets as tfds
  builder = _builder(spec, data_dir)
  try:
    examples = builder.as_dataset(
        split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding({feature: True}),
        read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1))
    for batch in examples.batch(64).map(lambda example: example[feature] + '\n').as_numpy_iterator():
      yield from batch.tolist()
  except tf.errors.OpError as error:
    raise EOFError(_first_line(error)) from error
