"""Files on this machine, and those that TensorFlow reads elsewhere: gs://bucket/name. All errors are OSErrors."""
import contextlib
import os
from collections.abc import Iterator

from flags.typed import ADDRESSES


def is_address(path: str) -> bool:
  """Whether a path is of a file system that TensorFlow reads."""
  return path.startswith(ADDRESSES['tokens'])


def join(folder: str, name: str) -> str:
  return f'{folder.rstrip("/")}/{name}' if is_address(folder) else os.path.join(folder, name)


def read(path: str, offset: int = 0, size: int = -1) -> bytes:
  """The bytes of a file from `offset` on: `size` of them, or fewer where it ends; all where `size` is -1.

  Raises:
    OSError: it cannot be read.
  """
  if not is_address(path):
    with open(path, 'rb') as file:
      file.seek(offset)
      return file.read(size)
  import tensorflow as tf
  with _failures(path), tf.io.gfile.GFile(path, 'rb') as file:
    file.seek(offset)
    return file.read(size)


def size(path: str) -> int:
  """The bytes of a file. Raises OSError."""
  return os.stat(path).st_size


def names(folder: str) -> list[str]:
  """The names in a folder. Raises OSError."""
  if not is_address(folder):
    return os.listdir(folder)
  import tensorflow as tf
  with _failures(folder):
    return tf.io.gfile.listdir(folder)


def reason(error: OSError) -> str:
  """Why a file cannot be read, in one line."""
  return error.strerror or [*str(error).splitlines(), type(error).__name__][0]


@contextlib.contextmanager
def _failures(path: str) -> Iterator[None]:
  """Turns an error of TensorFlow's file systems into an OSError."""
  import tensorflow as tf
  try:
    yield
  except tf.errors.NotFoundError as error:
    raise FileNotFoundError(2, 'no such file', path) from error
  except tf.errors.OpError as error:
    raise OSError([*str(error).splitlines(), type(error).__name__][0]) from error
