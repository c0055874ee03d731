"""The processes that train one model together, as TF_CONFIG describes them.

    TF_CONFIG='{"cluster": {"worker": ["first:12345", "second:12345"]}, "task": {"type": "worker", "index": 0}}'

TensorFlow reads this variable, and Kubernetes' operators and others write it. The first worker, or the one task of the
job `chief` where there is such a job, is the chief: it decides, and writes the workdir.
"""
import dataclasses
import json
import os
import re
from typing import Any

from flags.errors import UserError

ADDRESS = re.compile(r'(?:[^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}')  # HOST:PORT
EXAMPLE = ('{"cluster": {"worker": ["first:12345", "second:12345"]}, "task": {"type": "worker", "index": 0}}, with '
           'the index of each worker on its own machine')


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The workers of a run, and which of them this process is."""
  addresses: tuple[str, ...] = ('',)  # of all workers, HOST:PORT, the chief's first
  index: int = 0  # of this process among them

  @property
  def count(self) -> int:
    return len(self.addresses)

  @property
  def is_chief(self) -> bool:
    return not self.index


def of_strategy(strategy: str) -> Cluster:
  """The cluster of a --strategy: one process, unless it is multi_worker. Raises UserError as `parse`."""
  return parse(os.environ.get('TF_CONFIG', '')) if strategy == 'multi_worker' else Cluster()


def parse(text: str) -> Cluster:
  """What TF_CONFIG says. Raises UserError where that is no cluster of workers with this process among them."""
  if not text:
    raise UserError('--strategy=multi_worker: TF_CONFIG is not set; expected the environment to say which workers '
                    f'there are, such as TF_CONFIG={EXAMPLE}; or --local_workers=2, which starts two on this machine')
  try:
    config = json.loads(text)
    jobs, task = config['cluster'], config['task']
    chief, workers = (_addresses(jobs.get(name, [])) for name in ('chief', 'worker'))
    others = sorted(jobs.keys() - {'chief', 'worker'})
    place = {'chief': 0, 'worker': len(chief)}[task['type']] + _index(task['index'])
    count = len({'chief': chief, 'worker': workers}[task['type']])
  except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
    raise _refused(text, f'expected {EXAMPLE}') from None
  if others:
    raise _refused(text, f'has tasks of the job {others[0]}, which charlm-train has no use for; expected workers alone')
  if len(chief) > 1:
    raise _refused(text, f'has {len(chief)} chiefs; expected one at most')
  if not 0 <= _index(task['index']) < count:
    raise _refused(text, f'has no {task["type"]} of index {task["index"]}; expected one of its {count}, counted from 0')
  both = chief + workers
  if twice := [address for address in both if both.count(address) > 1]:
    raise _refused(text, f'has two workers at {twice[0]}; expected an address of its own for each')
  return Cluster(both, place)


def _addresses(given: Any) -> tuple[str, ...]:
  """Raises ValueError where they are none."""
  if not isinstance(given, list) or not all(isinstance(a, str) and ADDRESS.fullmatch(a) for a in given):
    raise ValueError(given)
  return tuple(given)


def _index(given: Any) -> int:
  """Raises ValueError where it is none. Some write it as text."""
  if isinstance(given, bool) or not isinstance(given, int | str):
    raise ValueError(given)
  return int(given)


def _refused(text: str, why: str) -> UserError:
  return UserError(f'TF_CONFIG={text[:200]}: {why}')
