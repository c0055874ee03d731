"""Training and evaluation from prepared tokens are those from the text itself, bit for bit."""
import json
import pathlib

import pytest

import runs
from charlm.commands import evaluate, prepare, train
from charlm.workdir import layout
from prepared import prepared, set_sizes

DOCUMENTS = ['--document_reset', '--document_separator=worst of times. ']


def run_prepare(corpus, folder, *others):
  prepare.run(['charlm-prepare', f'--corpus={corpus}', f'--tokens_dir={folder}', '--workers=1', *others])


@pytest.mark.parametrize('others', [
    pytest.param([], id='bytes', marks=pytest.mark.slow),
    pytest.param(DOCUMENTS, id='documents', marks=pytest.mark.slow),
    pytest.param(['--tokenizer=char', '--test_fraction=0.2'], id='characters')])
def test_a_run_is_that_of_the_text(corpus, tmp_path, monkeypatch, capsys, others):
  set_sizes(monkeypatch, record=100, piece=700)
  run_prepare(corpus, tmp_path / 'tokens', '--valid_fraction=0.1', *others)
  assert f'charlm-train --corpus=tokens:{tmp_path}/tokens' in capsys.readouterr().out
  train.run(runs.flags(corpus, tmp_path / 'text', *others))
  tokens, needed = f'tokens:{tmp_path}/tokens', others[:1] if others == DOCUMENTS else []
  train.run(runs.flags(tokens, tmp_path / 'run', '--steps=17', *needed))
  assert layout.read_config(tmp_path / 'run').data.tokenizer == layout.read_config(tmp_path / 'text').data.tokenizer
  train.run(runs.flags(tokens, tmp_path / 'whole', *needed))
  runs.assert_same_run(tmp_path / 'text', tmp_path / 'whole')
  reports = []
  for workdir in 'text', 'whole':
    capsys.readouterr()
    evaluate.run(['charlm-evaluate', f'--workdir={tmp_path}/{workdir}'])
    report = json.loads(capsys.readouterr().out)
    reports.append({name: value for name, value in report.items() if name not in ('corpus', 'workdir')})
  assert reports[0] == reports[1] and reports[0]['training_corpus']


def test_a_run_goes_on_where_the_tokens_have_moved(corpus, tmp_path, monkeypatch, capsys):
  set_sizes(monkeypatch, record=100, piece=700)
  (tmp_path / 'project').mkdir()
  run_prepare(corpus, tmp_path / 'project' / 'tokens')
  tokens = f'tokens:{tmp_path}/project/tokens'
  train.run(runs.flags(tokens, tmp_path / 'whole'))
  with monkeypatch.context() as patch:
    interrupted(tmp_path, tokens, patch)
  moved = (tmp_path / 'project').rename(tmp_path / 'elsewhere')
  train.run(['charlm-train', f'--workdir={moved}/run'])
  runs.assert_same_run(tmp_path / 'whole', moved / 'run')
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={moved}/run'])
  assert json.loads(capsys.readouterr().out)['corpus'] == f'tokens:{moved}/tokens'


def test_the_tokens_are_no_workdir(corpus, tmp_path, capsys):
  prepared(corpus, tmp_path / 'tokens')
  line = runs.refused(runs.flags(f'tokens:{tmp_path}/tokens', tmp_path / 'tokens'), capsys)
  assert line == (f'charlm-train: --workdir={tmp_path}/tokens: is the --corpus, too; expected a folder of its own')


def interrupted(tmp_path, tokens, patch):
  """Trains until step 12, and is interrupted there."""
  from charlm.training import trainer
  once = trainer.Trainer._train_call

  def call(self):
    if self.step == 12:
      raise KeyboardInterrupt
    return once(self)

  patch.setattr(trainer.Trainer, '_train_call', call)
  with pytest.raises(SystemExit):
    train.run(runs.flags(tokens, tmp_path / 'project' / 'run'))


def test_other_tokens_are_evaluated(finished, tmp_path, capsys):
  (tmp_path / 'other').write_text('It is a far, far better thing that I do. ' * 50)
  prepared(tmp_path / 'other', tmp_path / 'tokens', valid_fraction=0.5)
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={finished}', f'--corpus=tokens:{tmp_path}/tokens'])
  report = json.loads(capsys.readouterr().out)
  assert (report['split'], report['training_corpus'], report['bytes']) == ('valid', False, 1024)
  with pytest.raises(SystemExit):
    evaluate.run(['charlm-evaluate', f'--workdir={finished}', f'--corpus=tokens:{tmp_path}/tokens', '--split=all'])
  assert f'--split=all with --corpus=tokens:{tmp_path}/tokens: expected train, valid or test' in capsys.readouterr().err


@pytest.mark.parametrize('command', ['train', 'evaluate'])
def test_a_damaged_shard_ends_a_command_in_one_line(finished, corpus, tmp_path, capsys, command):
  prepared(corpus, tmp_path / 'tokens')
  path = pathlib.Path(tmp_path, 'tokens', 'train-00000.tokens')
  path.write_bytes(b'X' + path.read_bytes()[1:])
  capsys.readouterr()
  with pytest.raises(SystemExit) as exit_:
    if command == 'train':
      train.run(runs.flags(f'tokens:{tmp_path}/tokens', tmp_path / 'run'))
    else:
      evaluate.run(['charlm-evaluate', f'--workdir={finished}', f'--corpus=tokens:{tmp_path}/tokens', '--split=train'])
  assert exit_.value.code == 1
  *_, line = capsys.readouterr().err.splitlines()
  assert line == (f'charlm-{command}: {path}: is damaged: other bytes than were written, at offset 0. Copy it again, '
                  'or prepare the corpus again')
