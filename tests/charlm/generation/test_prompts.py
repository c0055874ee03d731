"""Prompts: where they come from, what they become, and what is said of those that the model cannot read."""
import pytest

from charlm.generation.prompts import Prompt, encode_prompt, encode_user_prompt, given_prompt
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.errors import UserError
from flags.generation import SampleConfig
from step_functions import Letters


@pytest.mark.parametrize('known, empty', [('abc\n', [4]), ('abc', [0])])
def test_an_empty_prompt_is_a_newline_or_else_token_0(known, empty):
  tokenizer = Letters(known)
  prompts = [b'', b'ab', b'c']
  assert [encode_prompt(tokenizer, p).tolist() for p in prompts] == [empty, [1, 2], [3]]


def test_unknown_characters_are_named(capsys):
  tokenizer = CharTokenizer('\nabc')
  assert encode_user_prompt(tokenizer, Prompt('--prompt', 'aßbλaß'.encode())).tolist() == [2, 0, 3, 0, 2, 0]
  assert capsys.readouterr().err == "warning: --prompt: the model has never seen 'ß' 'λ'\n"
  encode_user_prompt(tokenizer, Prompt('--prompt', ''.join(map(chr, range(0x100, 0x130))).encode()))
  assert capsys.readouterr().err.endswith("'ē' and 28 more\n")
  encode_user_prompt(tokenizer, Prompt('--prompt', b'abc\n'))
  encode_user_prompt(ByteTokenizer(), Prompt('--prompt', b'\xff\xc3 and anything'))
  assert capsys.readouterr().err == ''


def test_a_prompt_that_is_not_utf8_is_refused_where_it_matters():
  with pytest.raises(UserError, match=r'^--prompt_file=x: byte 0xff at offset 2 is not UTF-8: .* char tokenizer'):
    encode_user_prompt(CharTokenizer('\nabc'), Prompt('--prompt_file=x', b'ab\xffc'))


def test_prompt_file_is_read_as_it_is(tmp_path):
  path = tmp_path / 'prompt'
  path.write_bytes(b'\xff\r\n\xc3')
  assert given_prompt(SampleConfig(prompt_file=str(path))) == (f'--prompt_file={path}', b'\xff\r\n\xc3')
  assert given_prompt(SampleConfig(prompt='è\udcff')) == ('--prompt', b'\xc3\xa8\xff')
  path.write_bytes(b'')
  with pytest.raises(UserError, match=f'^--prompt_file={path}: is empty; expected text'):
    given_prompt(SampleConfig(prompt_file=str(path)))
  for wrong in (tmp_path, tmp_path / 'missing'):
    with pytest.raises(UserError, match=r'^--prompt_file=.*: expected a file that can be read'):
      given_prompt(SampleConfig(prompt_file=str(wrong)))
