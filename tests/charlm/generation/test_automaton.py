"""The automaton of some texts: against looking for them in what was written."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.generation.automaton import automaton

PIECES = [b'a', b'b', b'ab', b'bba', b'aab', *(bytes([byte]) for byte in 'é'.encode())]
TEXTS = st.lists(st.sampled_from([b'a', b'aa', b'abab', b'babb', b'aabaa', b'bb', 'é'.encode(), 'aé'.encode()]),
                 max_size=4)


@given(TEXTS, st.lists(st.integers(0, len(PIECES) - 1), max_size=12))
def test_a_text_is_found_with_the_token_that_ends_it(texts, tokens):
  begun, after, found = automaton(texts, PIECES)
  assert begun[0] == b''
  state, written = 0, b''
  for token in tokens:
    longer = written + PIECES[token]
    ends = any(longer[:end].endswith(text) for text in texts for end in range(len(written) + 1, len(longer) + 1))
    assert found[state, token] == ends
    state, written = after[state, token], longer
    least = [text for text in texts if not any(other in text and other != text for other in texts)]
    ends = [text[:n] for text in [*least, b'x'] for n in range(len(text)) if written.endswith(text[:n])]
    assert begun[state] == max(ends, key=len)


@pytest.mark.parametrize('texts', [[], [b'a']])
def test_one_state_is_enough_for_single_bytes(texts):
  begun, after, found = automaton(texts, PIECES)
  assert begun == [b''] and not after.any()
  assert found[0].tolist() == [bool(texts) and b'a' in piece for piece in PIECES]
