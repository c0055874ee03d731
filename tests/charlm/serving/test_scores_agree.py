"""The served score of a text is the sum of the scores of its tokens, as charlm-score has them."""
import numpy as np
import pytest

from charlm.evaluation.text_rows import Tokens
from charlm.evaluation.token_scores import TokenScorer


@pytest.mark.parametrize('kind, structure', [('byte', 'gru'), pytest.param('char', 'lstm', marks=pytest.mark.slow),
                                             pytest.param('sentencepiece', 'gru', marks=pytest.mark.slow)])
def test_the_served_score_is_that_of_charlm_score(serve, kind, structure):
  served, texts = serve(kind, structure), ['', 'a', 'the cat sat on the mat, caffè' * 20, 'c d\n']
  wanted = served.ask('score', text=texts)
  found = [*TokenScorer(served.model, served.tokenizer).scores(Tokens(served.tokenizer.encode(text)) for text in texts)]
  np.testing.assert_allclose([-scores.nats.sum() for scores in found], wanted['log_prob'], rtol=1e-4, atol=1e-4)
  assert [len(scores.nats) for scores in found] == wanted['num_tokens'].tolist()
