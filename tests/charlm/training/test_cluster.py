"""What TF_CONFIG may say, and that all else is told in one line."""
import json

import pytest

from charlm.training import cluster
from charlm.training.cluster import Cluster
from flags.errors import UserError


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
