"""What is refused before a run begins."""
import pytest

from charlm.training import checks
from flags.config import Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.training import TrainConfig


@pytest.mark.parametrize('name,value', [('patience', 2), ('schedule', 'plateau'), ('average', 'validation')])
def test_a_data_set_that_has_nothing_to_wait_for(name, value):
  config = Config(data=DataConfig(corpus='tfds:x', valid_fraction=0.0), train=TrainConfig(**{name: value}))
  with pytest.raises(UserError, match=rf'--{name}={value}: --corpus=tfds:x has no validation split.*--valid_fraction'):
    checks.check_validation(config, False)
  checks.check_validation(config, True)


def test_workers_read_the_same_text():
  chief = {'vocab_size': 256, 'tokenizer': 'a' * 64, 'text': 'b' * 64}
  checks.check_text(dict(chief), chief)
  with pytest.raises(UserError, match=r'another text than the chief \(cccccccc..., of the chief bbbbbbbb...\)'):
    checks.check_text({**chief, 'text': 'c' * 64}, chief)
