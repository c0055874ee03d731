"""The kinds of examples. Each is a function that draws one, writes its files, and returns the call to make of it."""
import bz2
import contextlib
import gzip
import lzma
import shutil
from typing import NamedTuple

import zstandard
from hypothesis import strategies as st

from charlm.workdir import checkpoint
from data_pipeline.tokenizers.registry import TOKENIZERS
from flags.network import ModelConfig
from fuzz.command_lines import COMMANDS, command_line
from fuzz.damage import damaged_arrays, damaged_bytes, damaged_json, damaged_value
from fuzz.place import TINY, VOCAB_SIZE, flags, of_tokenizer

PACKERS = {'': bytes, '.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress,
           '.zst': zstandard.ZstdCompressor().compress}
MARKS = [b'', b'\xef\xbb\xbf', b'\xff\xfe', b'\xfe\xff', b'PK\x03\x04', b'%PDF-1.4\n', b'\x1f\x8b', b'\x28\xb5\x2f\xfd']
LINES = ['# a comment\n--units=8\n\n--layers=1\n--dropout=0.2\n', '--flagfile=flags', '--flagfile=other\n',
         '--preset=demo\n', '--units 8\n', '--units=8\n--units=9\n', '-units=8\r\n--noprofile\r\n']
NAMES = ['{name}', '{name}', '{stem}-best{suffix}', '{stem} (conflicted copy){suffix}', '{name}.bad', '{name}~',
         '.{name}.swp', 'step-old{suffix}', 'step-{suffix}', 'step-99999999999999999999{suffix}', 'step-٣{suffix}',
         'step--1{suffix}', 'step-3{suffix}', 'note\udcff', 'notes']
# An export takes twenty times as long as the others.
READERS = [*3 * ['evaluate', 'sample', 'score', 'resume', 'go_on', 'init_from'], 'export']


class Call(NamedTuple):
  """A call of a command."""
  command: str
  arguments: list[str]
  stdin: bytes = b''
  out: bytes | None = None  # what it has to print, where that is known


def damaged(path):
  """Contents for a file in place of its own."""
  return (damaged_json if path.suffix == '.json' else damaged_bytes)(path.read_bytes())


def reads(reader, place, *others):
  """A call that reads the run in one of the ways of READERS."""
  if reader == 'go_on':  # from the first of its two steps
    with contextlib.suppress(OSError):
      (place.folder / 'run' / 'checkpoints' / 'step-00000002.npz').unlink()
  if reader in ('resume', 'go_on'):
    return Call('train', ['--workdir=run', *others])
  if reader == 'init_from':
    new = {name: value for name, value in TINY.items() if name not in ModelConfig.__dataclass_fields__}
    return Call('train', ['--init_from=run', '--workdir=new', '--corpus=text.txt', *flags(new), *others])
  own = {'sample': ['--length=3'], 'score': ['text.txt'], 'export': ['--export_dir=new']}.get(reader, [])
  return Call(reader, ['--workdir=run', *own, *others])


def of_flags(command):
  """The kind of the flags of a command."""
  def kind(draw, place):
    line = draw(command_line(command))
    if any('run' in flag for flag in line):
      place.run()
    (place.folder / 'empty').mkdir()
    return Call(command, line, draw(st.sampled_from([b'', b'x\n', b'\xff\n\n'])))

  return kind


def corpus(draw, place):
  """Bytes as text, plain and packed, for each tokenizer."""
  suffix, sound = draw(st.sampled_from([*PACKERS])), (place.folder / 'text.txt').read_bytes()[:1000]
  data = draw(st.sampled_from(MARKS)) + draw(damaged_bytes(sound + 'é世🎉 \r\n'.encode() * draw(st.integers(0, 3))))
  data = PACKERS[suffix](data)
  if draw(st.integers(0, 3)) == 3:
    data = draw(damaged_bytes(data))
  name = place.write(f'new{suffix}', data).name
  name = draw(st.sampled_from([name, name, '.', '*', f'[n]ew{suffix}']))
  if draw(st.booleans()):
    place.run()
    return reads('evaluate', place, f'--corpus={name}')
  if draw(st.booleans()):
    place.run(draw(st.sampled_from([*TOKENIZERS])))
    how = [draw(st.sampled_from(['--output=json', '--output=jsonl', '--sort', '--html=page.html'])), *draw(
      st.sampled_from([[], ['--document_reset', '--document_separator=\\n']]))]
    return Call('score', ['--workdir=run', *how, draw(st.sampled_from([name, '-']))], data)
  tokenizer = draw(st.sampled_from([*TOKENIZERS]))
  others = {'on_invalid': draw(st.sampled_from(['error', 'replace']))} if tokenizer != 'byte' else {}
  others |= {'vocab_size': draw(st.sampled_from([VOCAB_SIZE, 270, 10, 10**30]))} if tokenizer == 'sentencepiece' else {}
  return Call('train', flags({**of_tokenizer(tokenizer), 'corpus': name, 'workdir': 'trained', **others}))


def prompt(draw, place):
  """Bytes as a prompt: in a file, or typed; or as a list of prompts."""
  place.run(draw(st.sampled_from([*TOKENIZERS])))
  if draw(st.booleans()):
    place.write('prompts', draw(damaged_bytes(b'{"prompt": "It was"}\n{"prompt": "", "id": 1}\n')))
    return reads('sample', place, '--prompts=prompts', f'--output={draw(st.sampled_from(["text", "json", "jsonl"]))}')
  data = draw(damaged_bytes(b'It was\n'))
  if draw(st.booleans()):
    return Call('sample', ['--workdir=run', '--length=3', '--interactive'], data)
  place.write('prompt', data)
  return reads('sample', place, '--prompt_file=prompt')


def flagfile(draw, place):
  """Bytes as a file of flags."""
  place.run()
  sound = ''.join(draw(st.lists(st.sampled_from(LINES), max_size=2))).encode()
  place.write('flags', draw(damaged_bytes(sound)))
  place.write('other', b'--steps=1\n')
  if draw(st.booleans()):
    return reads('evaluate', place, '--flagfile=flags')
  return Call('train', [*flags({'corpus': 'text.txt', 'workdir': 'new', **TINY}), '--flagfile=flags'])


def config(draw, place):
  """Damage to config.json."""
  path = place.run() / 'config.json'
  path.write_bytes(draw(damaged_json(path.read_bytes())))
  return reads(draw(st.sampled_from(READERS)), place)


def tokenizer(draw, place):
  """Damage to the files of a tokenizer."""
  run = place.run(draw(st.sampled_from([*TOKENIZERS])))
  path = draw(st.sampled_from(sorted(run.glob('tokenizer.*'))))
  path.write_bytes(draw(damaged(path)))
  return reads(draw(st.sampled_from(READERS)), place)


def metrics(draw, place):
  """Damage to metrics.jsonl."""
  path = place.run() / 'metrics.jsonl'
  line = path.read_bytes()
  lines = [draw(damaged_json(line)) for _ in range(draw(st.integers(1, 3)))]
  path.write_bytes(draw(st.sampled_from([b'\n', b'\n', b'\r\n', b'\n\n', b''])).join(lines))
  return reads(draw(st.sampled_from(['resume', 'go_on'])), place)


def checkpoint_bytes(draw, place):
  """Damage to the bytes of checkpoints."""
  run = place.run()
  for path in sorted((run / 'checkpoints').iterdir()):
    if draw(st.booleans()):
      path.write_bytes(draw(damaged_bytes(path.read_bytes())))
  return reads(draw(st.sampled_from(READERS)), place)


def checkpoint_contents(draw, place):
  """Checkpoints with other arrays and another state, whose digest is right."""
  run = place.run()
  path = draw(st.sampled_from(sorted((run / 'checkpoints').iterdir())))
  arrays, state = checkpoint.read(path)
  if draw(st.booleans()):
    arrays = draw(damaged_arrays(arrays))
  else:
    state = draw(damaged_value({**state, 'format_version': checkpoint.FORMAT_VERSION}))
  checkpoint.write(run, path.name, arrays, state)
  return reads(draw(st.sampled_from(READERS)), place)


def strangers(draw, place):
  """A workdir that holds what charlm did not put there, or something else in place of a file."""
  run = place.run()
  (run / 'samples').mkdir(exist_ok=True)
  (run / 'samples' / 'step-00000001.txt').touch()
  for _ in range(draw(st.integers(1, 3))):
    like = draw(st.sampled_from(sorted(run.rglob('*'))))
    path = like.with_name(draw(st.sampled_from(NAMES)).format(name=like.name, stem=like.stem, suffix=like.suffix))
    data = like.read_bytes() if like.is_file() else b''
    if path.is_dir():
      shutil.rmtree(path)
    path.unlink(missing_ok=True)
    what = draw(st.sampled_from(['copy', 'empty', 'folder', 'link', 'nothing']))
    if what == 'folder':
      path.mkdir()
    elif what == 'link':
      path.symlink_to('no such file')
    elif what != 'nothing' and path.parent.is_dir():
      path.write_bytes(data if what == 'copy' else b'')
  return reads(draw(st.sampled_from(READERS)), place)


def token_files(draw, place):
  """Damage to what the cache holds of a text and a tokenizer."""
  name = draw(st.sampled_from([*TOKENIZERS]))
  place.run(name)
  files = sorted(path for path in place.cache.rglob('*') if path.is_file())
  for path in draw(st.lists(st.sampled_from(files), max_size=2, unique=True)):
    if draw(st.integers(0, 4)) == 4:
      path.unlink()
    else:
      path.write_bytes(draw(damaged(path)))
  reader = draw(st.sampled_from(['evaluate', 'go_on', 'train']))
  if reader != 'train':
    return reads(reader, place)._replace(out=place.stage.report(name) if reader == 'evaluate' else None)
  return Call('train', flags({'corpus': place.stage.folder / 'text.txt', 'workdir': 'new', 'cache_dir': place.cache,
                              **of_tokenizer(name)}))


MENDED = {'metrics', 'token_files'}  # kinds whose damage is left out or made good, so that no command is refused
KINDS = {**{f'flags of {command}': of_flags(command) for command in COMMANDS},
         **{f.__name__: f for f in (corpus, prompt, flagfile, config, tokenizer, metrics, checkpoint_bytes,
                                    checkpoint_contents, strangers, token_files)}}
