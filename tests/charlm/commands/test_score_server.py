"""charlm-score --server: a served model scores as the model in its workdir does."""
import json
import subprocess
import sys

import pytest

import stand_in
from charlm.commands import score
from charlm.serving.signatures import ServedModel
from charlm.workdir import trained_model
from flags.serving import ExportConfig
from source_tree import ROOT

TEXTS = {'one.txt': b'It was the best of times.\n', 'two.txt': b'the worst\n' * 12, 'three.txt': b'x',
         'invalid.txt': b'It\xff\x80\x80 was\xed\xa0\x80'}


@pytest.fixture(scope='module', params=['rest', 'grpc'])
def address(request, finished):
  opened = trained_model.load_model(finished)
  served = ServedModel(opened.model, opened.tokenizer, ExportConfig(max_prompt_tokens=200))
  with getattr(stand_in, request.param)(served.functions) as one:
    yield one


@pytest.fixture
def files(tmp_path):
  for name, text in TEXTS.items():
    (tmp_path / name).write_bytes(text)
  return [str(tmp_path / name) for name in TEXTS]


@pytest.mark.parametrize('texts', [1, 64])
def test_a_server_scores_as_the_workdir_does(address, finished, files, capsys, monkeypatch, texts):
  monkeypatch.setattr(score, 'REQUEST_TEXTS', texts)
  found, wanted = [], []
  for where, one in ((f'--server={address}', found), (f'--workdir={finished}', wanted)):
    score.run(['charlm-score', where, '--output=json', *files])
    told = json.loads(capsys.readouterr().out)
    one += [*told['texts'], {'file': 'total', **told['total']}]
  assert len(found) == len(wanted) == 5
  for one, other in zip(found, wanted, strict=True):
    assert one.keys() == other.keys() and one.pop('file') == other.pop('file')
    assert one == pytest.approx(other, rel=1e-4)
  score.run(['charlm-score', f'--server={address}', *files])
  assert capsys.readouterr().out.count('\n') == 6


def test_texts_that_are_too_many_at_once_are_sent_one_by_one(finished, tmp_path, capsys):
  """Only a text that is refused by itself is named, and those before it are told of."""
  opened, texts = trained_model.load_model(finished), []
  for i in range(4):
    texts.append(str(tmp_path / f'{i}.txt'))
    (tmp_path / f'{i}.txt').write_bytes(b'It was. ' * 12)
  served = ServedModel(opened.model, opened.tokenizer, ExportConfig(max_new_tokens=50, max_prompt_tokens=100,
                                                                    max_batch_tokens=200))
  with stand_in.rest(served.functions) as address:
    score.run(['charlm-score', f'--server={address}', '--output=json', *texts])
    assert len(json.loads(capsys.readouterr().out)['texts']) == 4
    (tmp_path / '2.txt').write_bytes(b'It was. ' * 13)
    with pytest.raises(SystemExit):
      score.run(['charlm-score', f'--server={address}', *texts])
  out, err = capsys.readouterr()
  assert '2.txt: ' in err and ' more: ' not in err and 'expected at most 100' in err
  assert out.count('.txt') == 2


def test_a_text_that_the_server_refuses_is_named(address, tmp_path, capsys):
  (tmp_path / 'long.txt').write_text('It was. ' * 100)
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', f'--server={address}', str(tmp_path / 'long.txt')])
  err = capsys.readouterr().err
  assert exit_.value.code == 1 and 'long.txt: ' in err and 'expected at most 200' in err and err.count('\n') == 1


@pytest.mark.parametrize('flags, named', [
    (['--sort'], '--sort=True has no effect'), (['--html=x.html'], '--html=x.html has no effect'),
    (['--output=jsonl'], '--output=jsonl with'), (['--workdir=w'], '--workdir=w has no effect')])
def test_what_a_server_cannot_do_is_refused(files, capsys, flags, named):
  with pytest.raises(SystemExit) as exit_:
    score.run(['charlm-score', '--server=http://h', *flags, *files])
  assert exit_.value.code == 2 and f'charlm-score: {named}' in capsys.readouterr().err


def test_no_tensorflow_is_imported(files):
  code = ("import sys; from charlm.commands import score; sys.modules['tensorflow'] = None\n"
          f"score.run(['charlm-score', '--server=http://localhost:1', {files[0]!r}])")
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 1 and 'one.txt: ' in done.stderr and 'Traceback' not in done.stderr
