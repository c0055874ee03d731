"""Written bytes as text."""
import codecs
import re

import pytest
import tensorflow as tf
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from charlm.serving.texts import valid_utf8

BYTES = st.lists(st.sampled_from([0, 10, 97, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbb, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0,
                                  0xe2, 0xed, 0xef, 0xf0, 0xf3, 0xf4, 0xf5, 0xff]), max_size=6).map(bytes)


@pytest.mark.parametrize('raw, text', [
    (b'', ''), (b'abc', 'abc'), (b'ab\xc3', 'ab'), (b'ab\xe2\x82', 'ab'), (b'\xf0\x9f\x98', ''),
    (b'a\xc3z', 'a\ufffdz'), (b'\xffz', '\ufffdz'), ('a\ufffd'.encode(), 'a\ufffd'), ('\u20ac'.encode(), '\u20ac'),
    (b'ab\xff', 'ab\ufffd'), (b'ab\x80', 'ab\ufffd'), (b'a\xc0', 'a\ufffd'), (b'a\xe0\x80', 'a\ufffd\ufffd'),
    ('\ufeffa'.encode(), '\ufeffa'), (b'a\xf4\x90', 'a\ufffd\ufffd'), (b'\xed\xa0', '\ufffd\ufffd'), (b'\0\xc3', '\0')])
def test_valid_utf8(raw, text):
  assert valid_utf8(tf.constant([raw, b'other'])).numpy().tolist() == [text.encode(), b'other']


@settings(deadline=None)
@given(st.lists(BYTES, max_size=4))
@example([b'\xf0\x90\x80', b'\xf4\x8f\xbf'])
def test_valid_utf8_is_what_python_reads_of_a_text_that_goes_on(texts):
  # Python takes the first two bytes of a surrogate for the begin of a character until it is told that no more follow.
  assume(not any(re.search(rb'\xed[\xa0-\xbf]\Z', text) for text in texts))
  found = valid_utf8(tf.constant(texts, tf.string)).numpy().tolist()
  assert found == [codecs.getincrementaldecoder('utf-8')('replace').decode(text).encode() for text in texts]
