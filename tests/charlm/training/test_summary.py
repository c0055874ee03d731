"""What a run says that it has left."""
import pytest

from charlm.training.summary import summarize


@pytest.mark.parametrize('state,average,words', [
    ({}, 'none', 'the last weights (of step 40), '), ({}, 'ema', 'the last weights (of step 40, averaged), '),
    ({'best_nats': 2.0, 'best_step': 30}, 'none', 'the best weights (of step 30), '),
    ({'best_nats': 2.0, 'best_step': 30}, 'validation', 'the best weights (of step 30), '),
    ({'best_nats': 2.0, 'best_step': 30, 'average_from': 30}, 'validation', 'the best weights (of step 30), '),
    ({'best_nats': 2.0, 'best_step': 30, 'average_from': 20}, 'validation', '(of step 30, averaged since step 20), ')])
def test_the_summary_says_which_weights_are_used(state, average, words):
  start = {'step': 40, 'finished': 'done', 'best_nats': None, 'best_step': 0, 'average_from': None}
  assert words in summarize('run', start | state, average)


def test_a_folder_whose_name_has_line_ends_breaks_no_line(tmp_path):
  (tmp_path / 'my\nrun' / 'samples').mkdir(parents=True)
  state = {'step': 3, 'finished': 'all steps are done', 'best_nats': None, 'best_step': 0, 'average_from': None}
  lines = summarize(tmp_path / 'my\nrun', state).split('\n')
  assert len(lines) == 6 and sum('my\\nrun/' in line for line in lines) == 4
