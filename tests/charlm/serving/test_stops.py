"""Stop texts: a text ends before the first of them, wherever tokens and blocks cut it."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.serving.stops import Stops
from flags.errors import UserError
from flags.generation import SampleConfig
from flags.parse import parse
from flags.serving import ExportConfig

PIECES = [b'a', b'b', b'ab', b'ba', b'\n', b'b\na', b'aab', b'\xc3', b'\xa8']


def cut(text, stops):
  """The obvious way: at the stop text that is complete first."""
  ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
  return text[:min(ends)[1]] if ends else text


@settings(deadline=None)
@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=12), st.sets(st.integers(0, 11)),
       st.sampled_from([[b'\n'], [b'abab'], [b'aa', b'ba\n'], ['è'.encode(), b'bb'], [b'a.b', b'bab']]))
def test_blocks_join_to_the_text_before_the_stop(tokens, cuts, texts):
  stops, state, joined, used = Stops(texts, PIECES), tf.constant([0]), b'', []
  for block in np.split(np.array(tokens, np.int32), sorted(cuts)):
    before, own = state, b''
    for token in block:
      if not stops.done(state)[0]:
        state = stops.advance(state, tf.constant([token]))
        own += PIECES[token]
        used.append(PIECES[token])
    joined += stops.release(before, tf.constant([own]), state, tf.constant([False])).numpy()[0]
  joined += stops.release(state, tf.constant([b'']), state, tf.constant([True])).numpy()[0]
  whole = b''.join(PIECES[token] for token in tokens)
  assert joined == cut(whole, texts)
  assert bool(stops.done(state)[0]) == any(text in whole for text in texts)
  assert stops.cut(tf.constant([b''.join(used)]), state).numpy()[0] == cut(whole, texts)


def test_a_served_text_stops(serve):
  """generate and blocks of continue alike, and a row that has stopped writes no more."""
  free = serve('byte').generate(['the'], 60, temperature=0.0)
  text = free['text_bytes'][0]
  stop = text[20:23].decode('latin-1')
  if not stop.isascii():
    stop = next(chr(b) for b in text[20:] if b < 128 and chr(b) not in '|\\')
  served = serve('byte', 'gru', stop=stop)
  wanted = text[:text.index(stop.encode())]
  answer = served.generate(['the', 'the'], [60, 2], temperature=0.0)
  assert answer['text_bytes'].tolist() == [wanted, text[:2]]
  assert answer['num_tokens'][0] == len(wanted) + len(stop) < 60
  state, joined, position = served.ask('prefill', prompt=['the'])['state'], b'', 0
  for _ in range(30):
    part = served.ask('continue', state=state, position=[position], **served.options(4, temperature=0.0))
    state, joined, position = part['state'], joined + part['text_bytes'][0], position + part['num_tokens'][0]
  assert joined == wanted and position == answer['num_tokens'][0] and part['num_tokens'][0] == 0


@pytest.mark.parametrize('stop', [('a', ''), ('', ''), ('ab', 'b'), ('a', 'a'), '\udcff', ('a' * 600, 'b' * 600)])
@pytest.mark.parametrize('group', [ExportConfig, SampleConfig])
def test_stop_texts_that_contradict_each_other_are_refused(group, stop):
  with pytest.raises(UserError, match=r'--stop[=:]'):
    group(stop=stop)


def test_stop_texts_of_the_flag():
  several = parse(['charlm-export', '--stop=\\n\\n', '--stop=User:|x'], (ExportConfig,))
  assert ExportConfig(**several).stop_texts == [b'\n\n', b'User:|x']
  none = parse(['charlm-export', '--stop='], (ExportConfig,))
  assert ExportConfig().stop_texts == ExportConfig(**none).stop_texts == []
