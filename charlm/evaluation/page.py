"""A page for a browser that shows the surprise at each character of texts as colour: one file that needs no other.

Its text is in blocks, which `page.js` colours as they come into view:

    <div class="part"><div class="block" data-units="base64">text</div> ... </div>

A part that is out of sight costs a browser nothing; with one part for each block, each frame costs as many blocks as
the page has.

For n units of a block (see `surprise.py`) and G guesses, data-units has, little-endian: the guesses [n, G], ids of
tokens, uint16 or uint32; the UTF-16 length of each [n], its bits times SCALE [n] and those of the guesses [n, G],
uint16.

Nothing in the text can become markup, and the page may run no script but its own: its policy has the script's digest.
"""
import base64
import hashlib
import html
import json
import os
import pathlib
import stat
import unicodedata
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from charlm.evaluation import surprise
from charlm.evaluation.given_texts import Given
from charlm.evaluation.surprise import BIT, Span
from data_pipeline import atomic
from data_pipeline.corpus.account import shown
from data_pipeline.tokenizers.base import token_dtype
from flags.errors import RunError, UserError

GUESSES = 4
BLOCK, LONGEST_BLOCK = 400, 800  # units: a block ends with the line after so many, or within it
PART = 16  # blocks
SCALE = 1024
MOST_BYTES = 1 << 24  # of the texts of one page
BINS = 800  # of the plot
HIDDEN = 'Cc', 'Cf', 'Zl', 'Zp'  # categories of characters that are not seen, or move what is around them
# Others that are not seen: those that Unicode calls default ignorable, fillers among them, and the empty pattern.
IGNORABLE = [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2065, 0x2800, 0x3164,
             *range(0xFE00, 0xFE10), 0xFFA0, *range(0xFFF0, 0xFFF9), 0xFFFE, 0xFFFF, *range(0xE0000, 0xE1000)]


class _Symbols(dict[int, int]):
  """Of each character the one that is shown: itself, or a symbol for what would not be seen. Found as it is needed."""

  def __missing__(self, code: int) -> int:
    self[code] = found = 0x2426 if unicodedata.category(chr(code)) in HIDDEN else code
    return found


SYMBOLS = _Symbols({**{c: 0x2400 + c for c in range(32)}, 9: 9, 10: 10, 0x7F: 0x2421,
                    **dict.fromkeys(IGNORABLE, 0x2426), **dict.fromkeys(range(0xDC80, 0xDD00), 0xFFFD)})


def check(path: str, texts: Sequence[Given]) -> None:
  """Checks that a page of these texts can go to `path`. Raises UserError."""
  named, folder = f'--html={path}', os.path.dirname(path) or '.'
  if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
    raise UserError(f'{named}: expected a file in a folder that is there and can be written to')
  if os.path.exists(path):
    if not stat.S_ISREG(os.stat(path).st_mode):
      raise UserError(f'{named}: expected a file, and this is none')
    if any(os.path.exists(text.path) and os.path.samefile(path, text.path) for text in texts):
      raise UserError(f'{named}: is one of the texts; expected another file')
  if os.path.islink(path):  # /dev/stdin is one: the page would take its place
    raise UserError(f'{named}: expected a file, and this is a link')
  _check_size(path, sum(text.text.num_bytes for text in texts))


def _check_size(path: str, size: int) -> None:
  if size > MOST_BYTES:
    raise UserError(f'--html={path}: expected at most {MOST_BYTES:,} bytes of text for one page, found {size:,}')


def written(path: str, texts: Iterator[Span], pieces: Sequence[bytes]) -> Generator[Span, None, None]:
  """The same texts, of which a page is made as they pass. It is there, whole, when the last has passed.

  Args:
    path: of the page.
    texts: whole ones, with guesses.
    pieces: of the tokenizer.

  Raises:
    UserError: the texts are too long.
    RunError: the page cannot be written.
  """
  head, tail = _template()
  size, all_bits, guessed = 0, [], np.zeros(len(pieces), bool)
  try:
    with atomic.file(path) as page:
      page.write(head.encode())
      for text in texts:
        size += len(text.text.data)
        _check_size(path, size)  # U+FFFD is longer than what it stands for
        units = surprise.units(text)
        page.write(_section(text, units, token_dtype(len(pieces))).encode())
        all_bits.append(units.bits)
        guessed[text.scores.guesses] = True
        yield text
      page.write(tail.replace('@data@', _data(all_bits, guessed, pieces)).encode())
  except OSError as error:
    raise RunError(f'--html={path}: cannot be written ({error.strerror})') from error


def _template() -> tuple[str, str]:
  """What comes before the texts, and after them."""
  parts = {name: pathlib.Path(__file__).with_name(f'page.{name}').read_text(encoding='utf-8')
           for name in ('html', 'css', 'js')}
  digest = base64.b64encode(hashlib.sha256(parts['js'].encode()).digest()).decode()
  page = parts['html'].replace('@style@', parts['css']).replace('@digest@', digest)
  head, tail = page.split('@texts@')
  return head, tail.replace('@script@', parts['js'])


def _section(text: Span, units: surprise.Units, dtype: np.dtype) -> str:
  """A text, under its name."""
  figures = text.figures()
  rates = (f'{figures["bits_per_character"]:.3f} bits per character' if figures['characters'] else '',
           f'{figures["bits_per_byte"]:.3f} bits per byte', f'{figures["bytes"]:,} bytes')
  name = html.escape(shown(text.text.name))
  blocks = [*_blocks(text, units, dtype)]
  parts = [f'<div class="part">{"".join(blocks[i:i + PART])}</div>' for i in range(0, len(blocks), PART)]
  return f'<section><h2>{name}</h2><p>{", ".join(filter(None, rates))}</p>\n{"".join(parts)}</section>\n'


def _blocks(text: Span, units: surprise.Units, dtype: np.dtype) -> Iterator[str]:
  display = units.characters.translate(SYMBOLS)
  codes = np.frombuffer(display.encode('utf-32-le'), '<u4')
  wide = np.append(0, np.cumsum(codes > 0xFFFF))[units.ends]  # characters of two UTF-16 units, up to here
  lengths = np.diff(units.ends + wide, prepend=0)
  guesses = text.scores.guesses[units.first].astype(np.dtype('<u4') if dtype.itemsize > 2 else np.dtype('<u2'))
  bits, guess_bits = (np.minimum(np.round(x * SCALE), 0xFFFF).astype('<u2')
                      for x in (units.bits, text.scores.guess_nats[units.first] / BIT))
  start = 0
  for first, end in _cuts(units):
    packed = b''.join(x[first:end].astype(x.dtype.newbyteorder('<')).tobytes()
                      for x in (guesses, lengths.astype('<u2'), bits, guess_bits))
    stop = int(units.ends[end - 1])
    goes_on = ' on' if first and units.codes[start - 1] != ord('\n') else ''
    yield (f'<div class="block{goes_on}" data-units="{base64.b64encode(packed).decode()}">'
           f'{html.escape(display[start:stop], quote=False)}</div>\n')
    start = stop


def _cuts(units: surprise.Units) -> Iterator[tuple[int, int]]:
  """Units first and end of each block."""
  line_ends, first = np.flatnonzero(units.codes[units.ends - 1] == ord('\n')) + 1, 0
  while first < len(units.ends):
    at = np.searchsorted(line_ends, first + BLOCK)
    end = int(line_ends[at]) if at < len(line_ends) else len(units.ends)
    end = min(end, first + LONGEST_BLOCK)
    yield first, end
    first = end


def _data(bits: Sequence[np.ndarray], guessed: np.ndarray, pieces: Sequence[bytes]) -> str:
  """What the script reads beside the blocks, in JSON."""
  joined = np.concatenate(bits)
  edges = np.unique(np.linspace(0, joined.size, min(BINS, joined.size) + 1).astype(int))
  means = np.add.reduceat(joined, edges[:-1]) / np.diff(edges)
  starts = np.cumsum([0, *(len(b) for b in bits[:-1])]) / joined.size
  data = {'guesses': min(GUESSES, len(pieces)), 'wide': len(pieces) > 1 << 16, 'scale': SCALE,
          'plot': np.round(means, 3).tolist(), 'starts': np.round(starts, 5).tolist(),
          'pieces': {i: _seen(pieces[i]) for i in np.flatnonzero(guessed).tolist()}}
  return json.dumps(data).replace('<', '\\u003c')


def _seen(piece: bytes) -> str:
  """A token as it is shown: symbols for spaces and controls, escapes for bytes that are no whole character."""
  return piece.decode(errors='backslashreplace').translate(SYMBOLS).translate({32: 0x2423, 9: 0x2409, 10: 0x2424})
