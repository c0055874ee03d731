"""Damage: what hypothesis draws in place of bytes, JSON and arrays that are sound. The simplest draw leaves them."""
import copy
import json
import re

import numpy as np
from hypothesis import strategies as st

NUMBERS = [b'0', b'-1', b'1', b'255', b'256', b'65536', b'2147483648', b'18446744073709551616', b'1' + b'0' * 400,
           b'1e400', b'-0.0', b'NaN', b'1.5']
VALUES = [None, True, False, -1, 0, 1, 2, 1.5, 2**31, 2**63, 2**64, 10**30, 10**400, 1e308, float('nan'), float('inf'),
          '', 'x', 'None', '\0', '\ud800', '\ufffd', 'x' * 5000, '../../x', [], [0], {}, {'x': 1}, [[]], [None]]
DTYPES = ['float16', 'float64', 'int32', 'uint8', 'bool', 'complex64', 'S3', 'U2', '>f4']
A_VALUE = st.sampled_from(VALUES).map(copy.deepcopy)  # later edits change what is inside it
EDITS = st.sampled_from([0, 1, 1, 1, 2, 4])  # how many


@st.composite
def damaged_bytes(draw, sound):
  """Bytes with a few edits, or quite other ones."""
  if draw(st.integers(0, 9)) == 9:
    return draw(st.binary(max_size=400))
  data = sound
  for _ in range(draw(EDITS)):
    data = draw(_edited(data))
  return data


@st.composite
def _edited(draw, data):
  """Bytes with one edit."""
  start, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
  near = min(len(data), start + draw(st.integers(0, 16)))
  edit = draw(st.sampled_from(['flip', 'overwrite', 'insert', 'cut', 'truncate', 'repeat', 'move', 'number', 'zeros']))
  if edit == 'flip' and start < len(data):
    return data[:start] + bytes([data[start] ^ (1 << draw(st.integers(0, 7)))]) + data[start + 1:]
  if edit == 'overwrite':
    new = draw(st.binary(min_size=1, max_size=8))
    return data[:start] + new + data[start + len(new):]
  if edit == 'number' and (numbers := [*re.finditer(rb'-?\d+(\.\d+)?', data)]):
    found = draw(st.sampled_from(numbers))
    return data[:found.start()] + draw(st.sampled_from(NUMBERS)) + data[found.end():]
  return {'insert': data[:start] + draw(st.binary(min_size=1, max_size=8)) + data[start:],
          'cut': data[:start] + data[near:],
          'truncate': data[:start],
          'repeat': data[:near] + data[start:],
          'move': data[end:] + data[:end],
          'zeros': data[:start] + bytes(near - start) + data[near:]}.get(edit, data)


@st.composite
def damaged_json(draw, sound):
  """The text of a JSON file: values replaced, removed, added or nested; or its bytes damaged."""
  if draw(st.integers(0, 3)) == 3:
    return draw(damaged_bytes(sound))
  text = json.dumps(draw(damaged_value(json.loads(sound))))
  return draw(st.sampled_from([text, text, text, '\ufeff' + text, f'[{text}]', f'{text}{text}'])).encode()


@st.composite
def damaged_value(draw, sound):
  """A value that JSON can hold, with a few edits at any depth."""
  value = json.loads(json.dumps(sound))
  for _ in range(draw(EDITS)):
    places = [*_places(value)]
    if not places:
      return draw(A_VALUE)
    holder, key = draw(st.sampled_from(places))
    edit = draw(st.sampled_from(['replace', 'replace', 'replace', 'remove', 'add', 'nest']))
    if edit == 'remove':
      del holder[key]
    elif edit == 'add' and isinstance(holder, dict):
      holder[draw(st.sampled_from(['unknown', '', '\ud800', f'{key}x']))] = draw(A_VALUE)
    elif edit == 'nest':
      holder[key] = draw(st.sampled_from([[holder[key]], {'x': holder[key]}]))
    else:
      holder[key] = draw(A_VALUE)
  return value


def _places(value):
  """(dict or list, key or index) of everything inside a value."""
  for key in [*value] if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
    yield value, key
    yield from _places(value[key])


@st.composite
def damaged_arrays(draw, sound):
  """{name: array} with a few arrays removed, added or changed."""
  arrays = dict(sound)
  for _ in range(draw(EDITS)):
    name = draw(st.sampled_from(sorted(arrays) or ['x']))
    array = arrays.get(name, np.zeros(2, np.float32))
    edit = draw(st.sampled_from(['number', 'type', 'shape', 'remove', 'rename']))
    if edit in ('remove', 'rename'):
      arrays.pop(name, None)
      if edit == 'rename':
        arrays[draw(st.sampled_from(['x', f'{name}/x', name.rpartition('/')[0] or 'y']))] = array
    elif edit == 'type':
      with np.errstate(all='ignore'):
        arrays[name] = array.astype(draw(st.sampled_from(DTYPES)))
    elif edit == 'shape':
      arrays[name] = draw(st.sampled_from([array[None], array.ravel(), array[..., :0], array.T, array[:1],
                                           np.zeros((), array.dtype)] if array.ndim else [array[None]]))
    else:
      arrays[name] = np.full_like(array, draw(st.sampled_from([0, 1, 100])))
      if array.dtype.kind == 'f' and array.size:
        arrays[name].flat[0] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.5]))
  return arrays
