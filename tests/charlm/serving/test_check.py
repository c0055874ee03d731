"""An export is called done only where it answers without charlm as the model in memory does."""
import types

import numpy as np
import pytest
import tensorflow as tf

from charlm.serving import check, warm_up
from flags.errors import RunError

SLOW = pytest.mark.slow
ASKED = {'score': {'text': np.array(['the cat', ''], object)}}


@pytest.mark.parametrize('wrong', [float('nan'), float('inf'), -float('inf')])
def test_weights_that_are_not_finite_are_told_of(wrong):
  served = types.SimpleNamespace(functions={'score': lambda text: {'log_prob': tf.constant([0.0, wrong])}})
  with pytest.raises(RunError, match='weights of this model are not finite'):
    check.answers_of(served, ASKED)


@pytest.mark.parametrize('code, told', [('import sys; sys.exit("no such op")', r'without charlm \(no such op\)'),
                                        ('import os; os._exit(9)', r'without charlm \(exit status 9\)'),
                                        ('import time; time.sleep(60)', 'did not answer within 1 seconds')])
def test_a_process_that_fails_is_told_of_in_one_line(tmp_path, monkeypatch, code, told):
  (tmp_path / 'answer.py').write_text(code)
  monkeypatch.setattr(check.answer, '__file__', str(tmp_path / 'answer.py'))
  monkeypatch.setattr(check, 'SECONDS', 1 if 'sleep' in code else 60)
  with pytest.raises(RunError, match=told) as caught:
    check.check(tmp_path, ASKED, {}, [])
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('changed', [None, 'score/log_prob', 'score/num_tokens'])
def test_other_answers_than_in_memory_are_told_of(tmp_path, monkeypatch, changed):
  expected = {'score/log_prob': np.float32([-3, 0]), 'score/num_tokens': np.int32([7, 0])}
  found = {name: value + (name == changed) for name, value in expected.items()}
  np.savez(tmp_path / 'found.npz', **{name: check.answer.packed(value) for name, value in found.items()})
  (tmp_path / 'answer.py').write_text(f'import shutil, sys; shutil.copy({str(tmp_path / "found.npz")!r}, sys.argv[3])')
  monkeypatch.setattr(check.answer, '__file__', str(tmp_path / 'answer.py'))
  if not changed:
    return check.check(tmp_path, ASKED, expected, [])
  with pytest.raises(RunError, match=f'{changed} is .* expected'):
    check.check(tmp_path, ASKED, expected, [])


@SLOW
def test_an_export_passes_and_a_damaged_one_does_not(exported, serve, tmp_path):
  served = serve().served
  asked = warm_up.requests(served)
  check.check(exported(), asked, check.answers_of(served, asked), [])
  with pytest.raises(RunError, match='does not run without charlm'):
    check.check(tmp_path, asked, {}, [])
