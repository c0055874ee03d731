"""Tokens to characters: the same text however it comes, and nothing from the stop string on."""
import pytest

from charlm.generation.text_stream import TextStream
from data_pipeline.tokenizers.byte import ByteTokenizer

BYTES = ByteTokenizer()


@pytest.mark.parametrize('cut', [1, 2, 3, 5, 100])
@pytest.mark.parametrize('written, stop, shown, stopped', [
    ('caffè è 😀 così', '', 'caffè è 😀 così', False),
    ('one\ntwo\nthree', '\nthree', 'one\ntwo', True),
    ('one two', 'x', 'one two', False),
    ('aaaaab', 'aab', 'aaa', True),
    ('ababac', 'abac', 'ab', True),
    ('the aa', 'aab', 'the aa', False),
    ('è così 😀😁 x', '😁', 'è così 😀', True),
    ('stop at once', 'stop', '', True), ('no empty one', '', 'no empty one', False),
    ('one two three', ['three', 'two'], 'one ', True), ('abcabd', ['abd', 'cc'], 'abc', True),
    ('aababc', ['aab!', 'babc', 'x'], 'aa', True), ('un deux', ['deux!', 'ux?'], 'un deux', False),
    ('é😁😀', ['😀', '😁😁'], 'é😁', True), ('none', [], 'none', False)])
def test_text_is_the_same_however_it_comes(written, stop, shown, stopped, cut):
  ids, text, parts = BYTES.encode(written), TextStream(BYTES, stop), []
  for start in range(0, len(ids), cut):
    parts.append(text.push(ids[start:start + cut]))
    assert '\ufffd' not in parts[-1]
  assert ''.join([*parts, text.end()]) == shown
  assert text.stopped == stopped


def test_text_holds_back_no_more_than_it_must():
  text = TextStream(BYTES, '\n\n')
  assert [text.push([byte]) for byte in b'a\nb\n\nc'] == ['a', '', '\nb', '', '', '']


def test_a_text_goes_on_within_a_character_and_may_end_within_one():
  prompt, rest = b'caff\xc3', b'\xa8!\xc3'
  text = TextStream(BYTES, prompt=prompt)
  assert (text.prompt_text, text.push(list(rest)), text.end()) == ('caff', 'è!', '')


def test_the_stop_string_counts_in_what_is_written_only():
  text = TextStream(BYTES, 'ab', prompt=b'ab a')
  assert (text.prompt_text, text.push(list(b'bcab'))) == ('ab a', 'bc')
