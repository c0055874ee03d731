"""Lists of prompts: one a line, or JSON; what is wrong is named with its line before any work."""
import io
import re
import sys
import tracemalloc

import pytest

from charlm.generation import prompt_list
from charlm.generation.prompt_list import PromptList, read_list
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.errors import UserError


def prompts(text, is_json=False):
  found = PromptList('--prompts=f', text, is_json)
  items = list(found)
  assert len(found) == len(items) and items == list(found) and items[0] in found
  return [(item.prompt.text, item.keys) for item in items]


@pytest.mark.parametrize('text, expected', [
  (b'one', [b'one']), (b'one\ntwo\n', [b'one', b'two']), (b'one\r\n\r\ntwo\r\n', [b'one', b'', b'two']),
  (b'\n', [b'']), (b' a \n\n', [b' a ', b'']), (b'\xff\x0c\xe2\x80\xa8x', [b'\xff\x0c\xe2\x80\xa8x']),
  (b'{\na}\n', [b'{', b'a}']), (b'[1]\n"a"', [b'[1]', b'"a"']), (b'[so]', [b'[so]']), (b"{'a'}", [b"{'a'}"]),
  (b'[' * 100_000, [b'[' * 100_000])])
def test_lines_are_prompts_as_they_are(text, expected):
  assert prompts(text) == [(line, {}) for line in expected]


def test_json_lines_have_a_prompt_and_other_keys():
  text = '{"prompt": "a\\nb"}\r\n\n  \n{"id": 7, "prompt": "世", "x": {"y": [null, 1.5]}}\n'.encode()
  expected = [(b'a\nb', {}), ('世'.encode(), {'id': 7, 'x': {'y': [None, 1.5]}})]
  assert prompts(text) == prompts(text, is_json=True) == expected


@pytest.mark.parametrize('line, words', [
  ('{"promt": "a"}', 'expected a JSON object such as {"prompt": "It was"}'), ('[]', 'expected a JSON object such as'),
  ('{"prompt": 3}', 'expected a JSON object such as'), ('"a"', 'expected a JSON object such as'),
  ('{"prompt": "a"', "(Expecting ',' delimiter at character 15)"), ('plain', '(Expecting value at character 1)'),
  ('{"prompt": "\\ud800"}', 'expected a "prompt" of whole characters, found half of one'),
  ('{"prompt": "a", "x": NaN}', '(NaN is no number in JSON)'), ('{"prompt": "a", "x": -Infinity}', '-Infinity is no'),
  ('{"prompt": "a", "x": [-1e999]}', '(-1e999 is too large a number)'),
  ('[' * 100_000, 'expected a JSON object'), ('{"prompt": "a", "x": ' + '9' * 5000 + '}', 'expected a JSON object'),
  ('{"prompt": "\udcff"}', 'expected a JSON object such as')])
def test_lines_that_are_no_prompt_are_named(line, words):
  data = f'{{"prompt": "first"}}\n\n{line}\n'.encode('utf-8', 'surrogateescape')
  with pytest.raises(UserError, match=r'^--prompts=f: line 3: ') as raised:
    prompts(data)
  assert words in str(raised.value)


@pytest.mark.parametrize('line', ['{"prompt": "a"', '{"prompt": 1e999}', ' { "prompt": "a",}', '{"a": NaN}', '{}'])
def test_a_first_line_that_begins_as_an_object_has_to_be_one(line):
  with pytest.raises(UserError, match=r'^--prompts=f: line 1: expected a JSON object such as'):
    prompts(line.encode() + b'\nplain\n')


@pytest.mark.parametrize('text, kind', [
  ('["a", "b"]', 'array'), ('[\n  "a",\n  "b"\n]\n', 'array'), ('\n[{"prompt": "a"},\n {"prompt": "b"}]', 'array'),
  ('{\n  "prompt": "a"\n}\n', 'object')])
def test_a_file_that_is_json_as_a_whole_is_refused(text, kind):
  with pytest.raises(UserError, match=f'^--prompts=f: expected a prompt on each line, .*; found a JSON {kind}$'):
    prompts(text.encode())


@pytest.mark.parametrize('text', [b'', b'\n \n'])
def test_a_list_has_a_prompt(text):
  with pytest.raises(UserError, match=r'^--prompts=f: has no prompts; expected one a line'):
    PromptList('--prompts=f', text, is_json=True)


def test_lists_come_from_files_and_from_standard_input(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'\xef\xbb\xbfone\ntwo')))
  assert [item.prompt for item in read_list('-')] == [('--prompts=-: line 1', b'one'), ('--prompts=-: line 2', b'two')]
  path = tmp_path / 'prompts.JSONL'
  path.write_bytes(b'plain\n')
  with pytest.raises(UserError, match=f'^--prompts={path}: line 1: expected a JSON object'):
    read_list(str(path))
  for wrong in (tmp_path, tmp_path / 'missing'):
    with pytest.raises(UserError, match=f'^--prompts={wrong}: expected a file that can be read'):
      read_list(str(wrong))
  monkeypatch.setattr(prompt_list, 'MAX_BYTES', 5)
  with pytest.raises(UserError, match=r'^--prompts=.*: expected at most 5 bytes'):
    read_list(str(path))


def test_prompts_are_checked_against_the_model(capsys):
  items = PromptList('--prompts=f', b'ab\n\xc3\xa8\xc3\xa9\nb\xff\n', is_json=False)
  with pytest.raises(UserError, match=r'^--prompts=f: line 3: byte 0xff at offset 1 is not UTF-8'):
    prompt_list.check(items, '--prompts=f', CharTokenizer('\nab'))
  prompt_list.check(items, '--prompts=f', ByteTokenizer())
  assert capsys.readouterr().err == ''
  prompt_list.check(list(items)[:2], '--prompts=f', CharTokenizer('\nab'))
  assert capsys.readouterr().err == "warning: --prompts=f: the model has never seen 'è' 'é'\n"


def test_many_prompts_take_little_more_than_their_text():
  text = b'\n'.join(b'{"prompt": "It was the %d. of times", "id": %d}' % (i, i) for i in range(50_000))
  tracemalloc.start()
  items = PromptList('--prompts=f', text, is_json=True)
  assert sum(1 for _ in items) == len(items) == 50_000
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 6 * len(text)
  assert re.match(b'It was the 49999', list(items)[-1].prompt.text)
