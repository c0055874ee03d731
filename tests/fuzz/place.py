"""Where examples are tried: models that stay as they are, and for each example a folder with copies of them."""
import contextlib
import hashlib
import itertools
import pathlib
import shutil

from runs import TEXT

# Sizes that a command is quick with. One step.
TINY = {'units': 16, 'layers': 1, 'embedding_size': 8, 'input_units': 16, 'batch_size': 4, 'chunk_length': 20,
        'steps': 1, 'sample_every': 0, 'optimizer': 'sgd', 'dropout': 0.1}
VOCAB_SIZE = 290


def of_tokenizer(tokenizer):
  """{flag: value} of a run that is quick."""
  return {'tokenizer': tokenizer, **({'vocab_size': VOCAB_SIZE} if tokenizer == 'sentencepiece' else {}), **TINY}


def flags(values):
  """{flag: value} -> the flags of a command line."""
  return [f'--{name}={value}' for name, value in values.items()]


class Stage:
  """The models, made when they are first needed."""

  def __init__(self, worker):
    self.worker, self._reports = worker, {}
    self.folder = worker.folder / 'stage'
    self.folder.mkdir()
    (self.folder / 'text.txt').write_text(TEXT)

  def run(self, tokenizer='byte'):
    """The workdir of a finished run of two steps, with a checkpoint of each."""
    workdir = self.folder / tokenizer
    if not workdir.exists():
      values = {**of_tokenizer(tokenizer), 'corpus': self.folder / 'text.txt', 'workdir': workdir,
                'cache_dir': self.cache(tokenizer), 'steps': 2, 'save_every': 1}
      outcome = self.worker.call('charlm.commands.train', flags(values), self.folder)
      assert outcome.status == 0, outcome
    return workdir

  def report(self, tokenizer):
    """What charlm-evaluate prints of that run."""
    if tokenizer not in self._reports:
      with self.place() as place:
        place.run(tokenizer)
        self._reports[tokenizer] = self.worker.call('charlm.commands.evaluate', ['--workdir=run'], place.folder).out
    return self._reports[tokenizer]

  def cache(self, tokenizer):
    """The cache of that run."""
    return self.folder / f'{tokenizer}.cache'

  @contextlib.contextmanager
  def place(self):
    """A context that yields a Place, which is removed at the end.

    Its name is the same each time: files hold it, and what is drawn of their damage must not differ by chance.
    """
    folder = next(path for n in itertools.count() if not (path := self.folder / f'place-{n}').exists())
    folder.mkdir()
    place = Place(self, folder)
    try:
      yield place
    finally:
      for path in place.unfinished():  # the next one has no part in it
        shutil.rmtree(path) if path.is_dir() else path.unlink()
      shutil.rmtree(folder)


class Place:
  """The folder of an example.

  Attributes:
    folder: the folder; it holds text.txt.
    cache: a cache of its own.
  """

  def __init__(self, stage, folder):
    self.stage, self.folder, self.cache = stage, folder, folder / 'cache'
    shutil.copy(stage.folder / 'text.txt', folder)

  def run(self, tokenizer='byte'):
    """A copy of the workdir of a finished run, and of its cache."""
    workdir = pathlib.Path(shutil.copytree(self.stage.run(tokenizer), self.folder / 'run'))
    shutil.copytree(self.stage.cache(tokenizer), self.cache)
    config = workdir / 'config.json'
    config.write_text(config.read_text().replace(str(self.stage.cache(tokenizer)), str(self.cache)))
    return workdir

  def write(self, name, data):
    """-> the path of a new file."""
    path = self.folder / name
    path.write_bytes(data)
    return path

  def contents(self):
    """{path: digest} of all that is in the folder but the cache."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob('*') if path.is_file() and self.cache not in path.parents}

  def unfinished(self):
    """What a command has left of what it had begun to write. TensorFlow removes its own files later."""
    places = self.stage.worker.places
    return [path for root in [self.folder, places['XDG_CACHE_HOME']] for path in root.rglob('*')
            if path.name.startswith('.') and (path.name.endswith('.tmp') or path.name.startswith('.making-'))
            ] + [path for path in places['TMPDIR'].iterdir() if not path.name.startswith('__autograph')]
