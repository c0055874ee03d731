"""charlm-sample with many prompts: each text is the one that it writes for that prompt alone."""
import io
import json
import sys

import pytest

from charlm.commands import sample
from charlm.interface import records, writing

PROMPTS = ['It was', 'the best of times, it was the worst', '']

STOPS = [f'--stop={letter}' for letter in 'aeitso ']


@pytest.fixture
def command(finished, capsys):
  """-> what charlm-sample prints."""
  def run(*flags, status=0):
    capsys.readouterr()
    if status:
      with pytest.raises(SystemExit) as ended:
        sample.run(['charlm-sample', f'--workdir={finished}', '--length=30', *flags])
      assert ended.value.code == status
    else:
      sample.run(['charlm-sample', f'--workdir={finished}', '--length=30', *flags])
    return capsys.readouterr()

  return run


@pytest.fixture
def listed(tmp_path):
  path = tmp_path / 'prompts'
  path.write_text('\n'.join(PROMPTS) + '\n')
  return f'--prompts={path}'


def test_each_text_is_that_of_its_prompt_alone(command, listed):
  alone = [command(f'--prompt={prompt}', f'--seed={3 + i}').out for i, prompt in enumerate(PROMPTS)]
  out = command(listed, '--seed=3').out
  assert out == ''.join(f'==> prompt {i} of 3 <==\n{text}' for i, text in enumerate(alone, 1))


def test_each_prompt_has_its_samples(command, listed, monkeypatch):
  monkeypatch.setattr(writing, 'ROWS', 4)  # cut within a prompt
  alone = [command(f'--prompt={prompt}', f'--seed={i}', '--num_samples=2').out for i, prompt in enumerate(PROMPTS)]
  out = command(listed, '--num_samples=2').out
  assert out == ''.join(alone[i].replace('==> sample', f'==> prompt {i + 1} of 3, sample') for i in range(3))


def test_jsonl_has_an_object_a_line_and_json_a_list(command, listed):
  flags = [listed, '--num_samples=2', '--seed=5', *STOPS]
  found = [json.loads(line) for line in command(*flags, '--output=jsonl').out.splitlines()]
  assert json.loads(command(*flags, '--output=json').out) == found
  assert [(f['prompt'], f['sample'], f['seed']) for f in found] == [
    (prompt, j, 5 + i) for i, prompt in enumerate(PROMPTS) for j in (1, 2)]
  for f in found:
    assert [*f] == ['prompt', 'text', 'num_tokens', 'log_prob', 'sample', 'seed', 'finish_reason']
    assert f['log_prob'] < 0 < f['num_tokens'] <= 30 and not set(f['text']) & {*'aeitso '}
    assert f['finish_reason'] == ('length' if f['num_tokens'] == 30 else 'stop')
  assert {f['finish_reason'] for f in found} == {'stop', 'length'}


def test_other_keys_are_passed_on(command, monkeypatch):
  lines = b'{"id": 7, "text": "mine", "seed": "x", "sample": 9, "prompt": "It w"}\n'
  lines += b'{"prompt": "It", "of": ["\xc3\xa8", "\\ud800"]}\n'
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(lines)))
  one, other = map(json.loads, command('--prompts=-', '--output=jsonl').out.splitlines())
  assert one['id'] == 7 and one['prompt'] == 'It w' and one['text'] != 'mine'
  assert (one['seed'], one['sample']) == (0, 1)
  assert other['of'] == ['è', '\ud800'] and other['sample'] == 1


def test_output_is_json_for_a_single_prompt_too(command):
  found = json.loads(command('--prompt=It was\xff', '--output=json').out)
  assert len(found) == 1 and f'It was{chr(0xff)}{found[0]["text"]}\n' == command('--prompt=It was\xff').out
  bare = command('--prompt=It was\udcff', '--output=jsonl')
  assert json.loads(bare.out)['prompt'] == 'It was\ufffd' and bare.out.isascii()


@pytest.mark.parametrize('stop', [[], STOPS])
def test_best_of_keeps_the_likeliest_for_each_token(command, stop):
  every = [json.loads(line) for line in
           command('--prompt=It', '--num_samples=6', '--output=jsonl', *stop).out.splitlines()]
  found = [json.loads(line) for line in
           command('--prompt=It', '--num_samples=2', '--best_of=3', '--output=jsonl', *stop).out.splitlines()]
  best = [max(part, key=lambda one: one['log_prob'] / one['num_tokens']) for part in (every[:3], every[3:])]
  assert [one['text'] for one in found] == [one['text'] for one in best]
  assert [one['sample'] for one in found] == [1, 2]
  assert command('--prompt=It', '--best_of=3', *stop).out.startswith('It' + best[0]['text'])


def test_a_batch_is_printed_as_soon_as_it_is_written(command, listed, monkeypatch):
  monkeypatch.setattr(writing, 'ROWS', 1)
  shown, before = [], []
  monkeypatch.setattr(records, 'show', shown.append)
  write = writing.Batch.write
  monkeypatch.setattr(writing.Batch, 'write', lambda *given, **more: (before.append(len(shown)), write(*given, **more)))
  command(listed, '--output=jsonl')
  assert before == [0, 1, 2] and len(shown) == 4


@pytest.mark.parametrize('flags, words', [
  (['--prompts=/none'], '--prompts=/none: expected a file that can be read'),
  (['--prompts=x', '--prompt=y'], '--prompts=x and --prompt=y: expected one of the two'),
  (['--prompts=x', '--prompt_file=y'], '--prompts=x and --prompt_file=y: expected one of the two'),
  (['--prompts=x', '--interactive'], '--prompts=x has no effect beside --interactive=True'),
  (['--best_of=2', '--interactive'], '--best_of=2 has no effect beside --interactive=True'),
  (['--output=json', '--interactive'], '--output=json has no effect beside --interactive=True'),
  (['--output=xml'], '--output=xml: expected one of text, json, jsonl'),
  (['--best_of=0'], '--best_of=0: expected at least 1'),
  (['--best_of=900', '--num_samples=2000'], '--best_of=900 with --num_samples=2000: expected at most 1,000,000 texts'),
])
def test_mistakes_are_told_in_one_line(command, flags, words):
  done = command(*flags, status=2)
  assert done.err.startswith(f'charlm-sample: {words}') and done.err.count('\n') == 1


def test_a_seed_that_has_no_next_one_for_each_prompt_is_refused(command, listed):
  last = json.loads(command(listed, f'--seed={2**31 - 3}', '--output=json').out)[-1]
  assert last['seed'] == 2**31 - 1
  words = f'--seed={2**31 - 2}: expected at most 2,147,483,645 with 3 prompts, which have this seed and the next ones'
  assert words in command(listed, f'--seed={2**31 - 2}', status=2).err


def test_texts_that_the_memory_does_not_hold_side_by_side_are_written_in_turn(command, listed, monkeypatch):
  whole = command(listed).out
  from charlm.generation import session
  from charlm.interface import model
  for module in (model, session):
    monkeypatch.setattr(module, 'memory_bytes', lambda: 20_000)
  sizes, write = [], writing.Batch.write
  monkeypatch.setattr(writing.Batch, 'write', lambda self, *given, **more: (sizes.append(len(self.rows)),
                                                                            write(self, *given, **more)))
  assert command(listed).out == whole and sizes == [2, 1]
  for module in (model, session):
    monkeypatch.setattr(module, 'memory_bytes', lambda: 2_000)
  assert '--length=30: expected fewer tokens: a text of so many takes' in command(listed, status=2).err
