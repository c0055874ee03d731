"""What TF_CONFIG may say, and that all else is told in one line."""
import json
import os
import re
import subprocess

import pytest

from charlm.training import cluster
from charlm.training.cluster import Cluster
from flags.errors import UserError
from source_tree import ROOT


def config(index=0, kind='worker', **jobs):
  return json.dumps({'cluster': jobs or {'worker': ['a:1', 'b:1']}, 'task': {'type': kind, 'index': index}})


@pytest.mark.parametrize('text, wanted', [
  (config(1), Cluster(('a:1', 'b:1'), 1)), (config('1'), Cluster(('a:1', 'b:1'), 1)),
  (config(0, worker=['[::1]:2222']), Cluster(('[::1]:2222',), 0)),
  (config(0, 'chief', chief=['c:1'], worker=['a:1', 'b:1']), Cluster(('c:1', 'a:1', 'b:1'), 0)),
  (config(1, 'worker', chief=['c:1'], worker=['a:1', 'b:1']), Cluster(('c:1', 'a:1', 'b:1'), 2))])
def test_a_cluster(monkeypatch, text, wanted):
  monkeypatch.setenv('TF_CONFIG', text)
  assert cluster.of_strategy('multi_worker') == wanted and wanted.is_chief == (wanted.index == 0)
  assert cluster.of_strategy('default') == Cluster() and Cluster().count == 1


@pytest.mark.parametrize('text, words', [
  *((text, 'expected {"cluster"') for text in (
      'x', '[1]', '17', '""', 'null', '{}', '{"cluster": 3}', '{"cluster": {}, "task": {}}', '[' * 100000,
      config(worker=['a']), config(worker=['a:b']), config(worker='a:1'), config(worker=[1, 2]),
      config(worker=['a:1', 'http://b:1']), config(True), config(0.0), config('x'), config(None), config(kind='ps'))),
  (config(worker=[]), 'has no worker of index 0; expected one of its 0'),
  (config(2), 'has no worker of index 2'), (config(-1), 'has no worker of index -1'),
  (config(0, 'chief', chief=['a:1', 'b:1']), 'has 2 chiefs'), (config(worker=['a:1', 'a:1']), 'two workers at a:1'),
  (config(worker=['a:1'], ps=['b:1']), 'the job ps'), (config(0, 'chief'), 'has no chief of index 0')])
def test_what_is_no_cluster_is_one_line(monkeypatch, text, words):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(UserError) as error:
    cluster.of_strategy('multi_worker')
  assert str(error.value).startswith('TF_CONFIG=') and words in str(error.value)


def test_without_tf_config_it_says_what_to_do(monkeypatch):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  with pytest.raises(UserError, match=r'TF_CONFIG is not set.*--local_workers=2'):
    cluster.of_strategy('multi_worker')


# The scripts of docs/scale.md, in front of programs that print what they are given.

STAND_INS = {'charlm-train': 'echo "$TF_CONFIG" >> configs; for flag; do echo "$flag" >> flags; done',
             'scontrol': '[ "$1" = requeue ] || printf "first\nsecond\n"',
             'srun': 'shift; for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done'}


def clusters_of(script, folder, **environ):
  """-> what the workers find in TF_CONFIG that a shell script starts."""
  for name, text in STAND_INS.items():
    (folder / name).write_text(f'#!/bin/sh\n{text}\n')
    (folder / name).chmod(0o755)
  path = f'{folder}{os.pathsep}{os.environ["PATH"]}'
  subprocess.run(['bash', '-e', '-c', script], cwd=folder, env={**os.environ, 'PATH': path, **environ}, check=True)
  assert '--strategy=multi_worker' in (folder / 'flags').read_text().splitlines()
  configs = re.findall(r'\{"cluster".*?\}\}', (folder / 'configs').read_text(), re.DOTALL)
  return [cluster.parse(text) for text in configs]


def test_the_scripts_of_the_docs_say_where_the_workers_are(tmp_path):
  blocks = re.findall(r'^```text\n(.*?)^```$', (ROOT / 'docs' / 'scale.md').read_text(), re.MULTILINE | re.DOTALL)
  by_hand, = (block for block in blocks if block.startswith('TF_CONFIG='))
  slurm, = (block for block in blocks if 'srun' in block)
  manifest = (ROOT / 'docs' / 'kubernetes.yaml').read_text()
  pod = re.search(r'- \|\n(.*?)^        ports', manifest, re.MULTILINE | re.DOTALL)
  for name, script, wanted in (
      ('hand', by_hand, [0]), ('slurm', slurm, [0, 1]), ('pod', pod[1], [1])):
    (tmp_path / name).mkdir()
    found = clusters_of(script, tmp_path / name, JOB_COMPLETION_INDEX='1', SLURM_JOB_NODELIST='x', SLURM_JOB_ID='7')
    hosts = {'hand': ('one:1234', 'two:1234'), 'slurm': ('first:12345', 'second:12345'),
             'pod': ('charlm-0.charlm:12345', 'charlm-1.charlm:12345')}[name]
    assert found == [Cluster(hosts, index) for index in wanted], name
