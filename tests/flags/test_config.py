"""Each limit of each field, and each contradiction, is refused with the flag's name."""
import dataclasses

import pytest

from flags import config

GROUPS = [config.DataConfig, config.ModelConfig, config.TrainConfig, config.EvaluateConfig, config.SampleConfig,
          config.ExportConfig]
FIELDS = [(group, f) for group in GROUPS for f in dataclasses.fields(group)]


def outside(f):
  """Values just outside the limits of a field."""
  if 'choices' in f.metadata:
    yield 'no such choice'
  step = 1 if f.type is int else 1e-6
  for limit, value in [('minimum', -step), ('above', 0), ('maximum', step), ('below', 0)]:
    if limit in f.metadata:
      yield f.type(f.metadata[limit] + value)


@pytest.mark.parametrize('group,f', FIELDS, ids=lambda x: getattr(x, 'name', getattr(x, '__name__', '')))
def test_fields_have_help_and_limits_hold(group, f):
  assert f.metadata['help'].endswith('.')
  for value in outside(f):
    with pytest.raises(config.UserError, match=f'--{f.name}={value}.*expected'):
      group(**{f.name: value})


@pytest.mark.parametrize('group,values,named', [
    (config.DataConfig, {'valid_fraction': 0.5, 'test_fraction': 0.5}, '--test_fraction=0.5'),
    (config.DataConfig, {'chunk_length': 10, 'chunk_overlap': 10}, '--chunk_overlap=10'),
    (config.DataConfig, {'chunk_curriculum': '5,50', 'chunk_overlap': 5}, '--chunk_overlap=5'),
    (config.DataConfig, {'chunk_curriculum': '5,x'}, '--chunk_curriculum=5,x'),
    (config.DataConfig, {'chunk_curriculum': '5,0'}, '--chunk_curriculum=5,0'),
    (config.TrainConfig, {'patience': 2, 'eval_every': 0}, '--patience=2 with --eval_every=0'),
    (config.TrainConfig, {'schedule': 'plateau', 'eval_every': 0}, '--schedule=plateau with --eval_every=0'),
    (config.TrainConfig, {'average': 'validation', 'eval_every': 0}, '--average=validation with --eval_every=0'),
    (config.TrainConfig, {'schedule': 'plateau', 'plateau_patience': 3, 'patience': 3}, '--patience=3.*more than 3'),
    (config.TrainConfig, {'average': 'validation', 'average_patience': 3, 'patience': 4}, '--patience=4.*more than 4'),
    (config.TrainConfig, {'patience': 2, 'steps': 300, 'eval_every': 100}, '--patience=2.*step 300.*--steps=300'),
    (config.TrainConfig, {'schedule': 'plateau', 'steps': 900}, '--plateau_patience=2.*step 1500'),
    (config.TrainConfig, {'average': 'validation', 'steps': 9, 'eval_every': 3, 'average_patience': 1},
     '--average_patience=1 with --eval_every=3.*step 9'),
    (config.TrainConfig, {'flat_epochs': 3, 'epochs': 4.0}, '--flat_epochs=3: expected more than 4 epochs, .* not 4'),
    (config.TrainConfig, {'flat_epochs': 9}, '--flat_epochs=9: expected more than 10 epochs, .* not 10'),
    (config.ModelConfig, {'dropout_per': 'sequence', 'zoneout': 0.1, 'weight_drop': 0.1}, '--dropout_per=sequence'),
    (config.ModelConfig, {'weight_drop': 0.003}, '--weight_drop=0.003'),
    (config.SampleConfig, {'prompt': 'a', 'prompt_file': 'f'}, '--prompt_file=f'),
    (config.SampleConfig, {'interactive': True, 'num_samples': 2}, '--num_samples=2'),
    (config.EvaluateConfig, {'dynamic': True, 'mc_dropout': 2}, '--mc_dropout=2'),
    (config.EvaluateConfig, {'dynamic': True, 'free_running': 5}, '--free_running=5 with --dynamic=True'),
    (config.EvaluateConfig, {'mc_dropout': 2, 'free_running': 5}, '--free_running=5 with --mc_dropout=2'),
    (config.EvaluateConfig, {'free_running': 1}, '--free_running=1: expected 0, or at least 2'),
    (config.TrainConfig, {'multi_step': 5, 'multi_step_weight': 0.0}, '--multi_step_weight=0'),
    (config.TrainConfig, {'professor_forcing': 1.0}, '--professor_forcing=1.0 with --multi_step=0'),
    (config.TrainConfig, {'professor_forcing': 1.0, 'multi_step': 5, 'multi_step_input': 'expected'},
     '--multi_step_input=expected: expected stretches of sampled tokens'),
    (config.RunConfig, {}, '--workdir'),
])
def test_contradictions_are_refused(group, values, named):
  with pytest.raises(config.UserError, match=named):
    group(**values)


IGNORED = [  # the flag without effect, what makes it so
    (config.DataConfig, {'chunk_length': 50}, {'chunk_curriculum': '25,50'}),
    (config.DataConfig, {'vocab_size': 500}, {'tokenizer': 'byte'}),
    (config.DataConfig, {'vocab_size': 500}, {'tokenizer': 'char'}),
    (config.DataConfig, {'on_invalid': 'replace'}, {'tokenizer': 'byte'}),
    (config.DataConfig, {'data_dir': '/data'}, {'corpus': 'pydoc'}),
    (config.DataConfig, {'text_feature': 'title'}, {'corpus': 'book.txt'}),
    (config.ModelConfig, {'input_units': 3}, {'input_layers': 0}),
    *((config.ModelConfig, one, {'cell': 'gru'}) for one in ({'forget_bias': 0.0}, {'cell_norm': True},
                                                             {'zoneout_output': 0.05})),
    *((config.ModelConfig, {name: 0.0}, {'cell': 'lstm'}) for name in ('reset_bias', 'update_bias')),
    (config.ModelConfig, {'norm': 'joint'}, {'layer_norm': False}),
    *((config.ModelConfig, one, {'layers': 1}) for one in ({'combine': 'last'}, {'wiring': 'dense'},
                                                           {'layer_dropout': 0.1})),
    (config.TrainConfig, {'final_fraction': 0.5}, {'schedule': 'constant'}),
    (config.TrainConfig, {'final_fraction': 0.5}, {'schedule': 'plateau'}),
    (config.TrainConfig, {'plateau_factor': 0.1}, {'schedule': 'linear'}),
    (config.TrainConfig, {'plateau_patience': 5}, {'schedule': 'cosine'}),
    (config.TrainConfig, {'weight_decay': 0.1}, {'optimizer': 'ftrl'}),
    (config.TrainConfig, {'clip_norm': 0.0}, {'clip_percentile': 10.0}),
    (config.TrainConfig, {'ema_decay': 0.9}, {'average': 'validation'}),
    (config.TrainConfig, {'average_patience': 9}, {'average': 'ema'}),
    (config.DataConfig, {'document_separator': '|'}, {'document_reset': False}),
    (config.TrainConfig, {'init_weights': 'last'}, {'init_from': ''}),
    *((config.TrainConfig, one, {'multi_step': 0}) for one in (
        {'multi_step_input': 'expected'}, {'multi_step_weight': 0.1}, {'multi_step_mix': 0.1},
        {'multi_step_schedule': 'linear'})),
    *((config.TrainConfig, one, {'professor_forcing': 0.0}) for one in (
        {'professor_forcing_teacher': True}, {'discriminator_learning_rate': 0.1})),
    (config.EvaluateConfig, {'chunk_length': 5}, {'dynamic': True}),
    (config.EvaluateConfig, {'dynamic_learning_rate': 0.5}, {'dynamic': False}),
    (config.EvaluateConfig, {'seed': 5}, {'mc_dropout': 0}),
]


@pytest.mark.parametrize('group,ignored,beside', IGNORED, ids=str)
def test_flags_without_effect_are_refused_where_they_were_set(group, ignored, beside):
  (name, value), (cause, choice) = *ignored.items(), *beside.items()
  with pytest.raises(config.UserError, match=f'^--{name}={value} has no effect beside --{cause}={choice}.*: expected'):
    group(**ignored, **beside)
  at_default = group(**beside, **{name: getattr(group(), name)})  # as a saved configuration holds it
  assert group(**dataclasses.asdict(at_default)) == at_default


@pytest.mark.parametrize('name,value', [('patience', 1), ('schedule', 'plateau'), ('average', 'validation')])
def test_what_waits_for_the_validation_loss_needs_one(name, value):
  train = config.TrainConfig(**{name: value})
  with pytest.raises(config.UserError, match=f'--{name}={value} with --valid_fraction=0'):
    config.Config(data=config.DataConfig(valid_fraction=0.0), train=train)


@pytest.mark.parametrize('limits,epochs', [
    ({}, 10), ({'epochs': 2.5}, 2.5), ({'steps': 5}, 0), ({'max_minutes': 1.0}, 0), ({'epochs': 2.0, 'steps': 5}, 2)])
def test_a_run_without_limits_is_ten_passes(limits, epochs):
  assert config.TrainConfig(**limits).most_epochs == epochs


def test_json_round_trip():
  chosen = config.Config(data=config.DataConfig(chunk_curriculum='5,50'), model=config.ModelConfig(units=7))
  assert config.Config.from_json(chosen.to_json()) == chosen
  assert chosen.data.lengths == (5, 50)


@pytest.mark.parametrize('text', ['', '[]', '{"data": {"no_such_field": 1}}', '{"other": {}}', '{"data": 3}'])
def test_damaged_json_is_refused(text):
  with pytest.raises(config.UserError, match='not a charlm configuration'):
    config.Config.from_json(text)


def test_flags_of_a_run_have_one_meaning():
  names = [f.name for group in (config.RunConfig, *GROUPS[:3]) for f in dataclasses.fields(group)]
  assert len(names) == len(set(names))
