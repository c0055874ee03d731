"""Where a run has found what it reads, so that it is found again from another folder, or once a project has moved."""
import dataclasses
import glob
import os

from flags.data import DataConfig, is_path
from flags.schema import Checked
from flags.typed import TOKENS


@dataclasses.dataclass(frozen=True)
class Places(Checked):
  """Which text a run has, and absolute paths of what its flags name; '' where nothing is known.

  Attributes:
    content: the digest of the text.
    workdir: the folder of the run, which a project that moves takes along.
    corpus, data_dir, cache_dir: as in DataConfig; '' for a corpus that is no path;
      of prepared tokens, their folder.
  """
  content: str = ''
  workdir: str = ''
  corpus: str = ''
  data_dir: str = ''
  cache_dir: str = ''

  @classmethod
  def of(cls, data: DataConfig, workdir: str | os.PathLike, content: str) -> 'Places':
    """The places of a run that is in `workdir` and reads `data`, a text of the digest `content`."""
    return cls(content, absolute(os.fspath(workdir)), absolute(_path(data.corpus)),
               absolute(data.data_dir), absolute(data.cache_dir))

  def candidates(self, data: DataConfig, workdir: str | os.PathLike) -> list[DataConfig]:
    """`data`, with each place where its text may be, the most likely first.

    That is where the run has found it, then there as seen from the workdir, then where `data` says.

    Args:
      data: of the run.
      workdir: where the run is now.
    """
    here = dataclasses.replace(
        data, cache_dir=self._kept(self.cache_dir, workdir) if self.cache_dir else data.cache_dir,
        data_dir=data.data_dir and (self._kept(self.data_dir, workdir) or data.data_dir))
    before = TOKENS if data.corpus.startswith(TOKENS) else ''
    path = _path(data.corpus)
    names = [*self._moved(self.corpus, workdir), absolute(path)] if path else []
    return [dataclasses.replace(here, corpus=before + name) for name in dict.fromkeys(filter(None, names))] or [here]

  def _kept(self, path: str, workdir: str | os.PathLike) -> str:
    """Where a folder is that a run keeps things in, or can be made again; '' where the folder above it is gone, too."""
    return next((place for place in self._moved(path, workdir) if place and os.path.isdir(os.path.dirname(place))), '')

  def _moved(self, path: str, workdir: str | os.PathLike) -> list[str]:
    """An absolute path, then where it is if it has moved with the workdir, which may be a link now."""
    if not path or not self.workdir:
      return [path]
    here, relative = os.fspath(workdir), os.path.relpath(path, self.workdir)
    return [path, *(os.path.normpath(os.path.join(now, relative)) for now in (absolute(here), os.path.realpath(here)))]


def _path(corpus: str) -> str:
  """The path of a text or of prepared tokens; '' where --corpus names none."""
  return corpus.removeprefix(TOKENS) if is_path(corpus) or corpus.startswith(TOKENS) else ''


def absolute(path: str) -> str:
  """The absolute path of a file, a folder or a glob; '' for '', an address, and where there is no folder here."""
  if '://' in path:
    return ''
  try:
    if glob.has_magic(path) and not os.path.isabs(path) and not os.path.exists(path):
      return os.path.join(glob.escape(os.getcwd()), path)
    return path and os.path.abspath(path)
  except FileNotFoundError:  # the folder that the command was given in has been removed
    return ''
