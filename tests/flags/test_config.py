"""Each limit of each field, and each contradiction, is refused with the flag's name."""
import dataclasses
import json
import math
import re
from types import SimpleNamespace

import pytest

from flags import typed
from flags.config import FORMAT_VERSION, Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.evaluation import EvaluateConfig
from flags.generation import SampleConfig
from flags.network import DROPOUTS, ModelConfig
from flags.run import RunConfig
from flags.schema import Texts, accepts, alternatives, holds
from flags.serving import ExportConfig
from flags.training import TrainConfig

GROUPS = [DataConfig, ModelConfig, TrainConfig, EvaluateConfig, SampleConfig,
          ExportConfig]
FIELDS = [(group, f) for group in GROUPS for f in dataclasses.fields(group)]


def outside(f):
  """Values just outside the limits of a field."""
  if 'choices' in f.metadata:
    yield 'no such choice'
  for limit, direction in [('minimum', -1), ('maximum', 1)]:
    if limit in f.metadata:
      value = f.metadata[limit]
      yield value + direction if f.type is int else math.nextafter(value, direction * math.inf)
  for limit in {'above', 'below'} & f.metadata.keys():
    yield f.type(f.metadata[limit])


@pytest.mark.parametrize('group,f', FIELDS, ids=lambda x: getattr(x, 'name', getattr(x, '__name__', '')))
def test_fields_have_help_and_limits_hold(group, f):
  assert f.metadata['help'].endswith('.')
  for value in outside(f):
    with pytest.raises(UserError, match=re.escape(f'--{f.name}={value}') + '.*expected'):
      group(**{f.name: value})


@pytest.mark.parametrize('group,values,named', [
    (DataConfig, {'valid_fraction': 0.5, 'test_fraction': 0.5}, '--test_fraction=0.5'),
    (DataConfig, {'chunk_length': 10, 'chunk_overlap': 10}, '--chunk_overlap=10'),
    (DataConfig, {'chunk_curriculum': '5,50', 'chunk_overlap': 5}, '--chunk_overlap=5'),
    (DataConfig, {'chunk_curriculum': '5,x'}, '--chunk_curriculum=5,x'),
    (DataConfig, {'chunk_curriculum': '5,0'}, '--chunk_curriculum=5,0'),
    (TrainConfig, {'patience': 2, 'eval_every': 0}, '--patience=2 with --eval_every=0'),
    (TrainConfig, {'schedule': 'plateau', 'eval_every': 0}, '--schedule=plateau with --eval_every=0'),
    (TrainConfig, {'average': 'validation', 'eval_every': 0}, '--average=validation with --eval_every=0'),
    (TrainConfig, {'schedule': 'plateau', 'plateau_patience': 3, 'patience': 3}, '--patience=3.*more than 3'),
    (TrainConfig, {'average': 'validation', 'average_patience': 3, 'patience': 4}, '--patience=4.*more than 4'),
    (TrainConfig, {'patience': 2, 'steps': 300, 'eval_every': 100}, '--patience=2.*step 300.*--steps=300'),
    (TrainConfig, {'schedule': 'plateau', 'steps': 900}, '--plateau_patience=2.*step 1500'),
    (TrainConfig, {'average': 'validation', 'steps': 9, 'eval_every': 3, 'average_patience': 1},
     '--average_patience=1 with --eval_every=3.*step 9'),
    (TrainConfig, {'flat_epochs': 3, 'epochs': 4.0}, '--flat_epochs=3: expected more than 4 epochs, .* not 4'),
    (TrainConfig, {'flat_epochs': 9}, '--flat_epochs=9: expected more than 10 epochs, .* not 10'),
    (ModelConfig, {'dropout_per': 'sequence', 'zoneout': 0.1, 'weight_drop': 0.1}, '--dropout_per=sequence'),
    (ModelConfig, {'weight_drop': 0.003}, '--weight_drop=0.003'),
    (SampleConfig, {'prompt': 'a', 'prompt_file': 'f'}, '--prompt_file=f'),
    (SampleConfig, {'interactive': True, 'num_samples': 2}, '--num_samples=2'),
    (SampleConfig, {'server': 'http://h', 'stop': ('x',)}, '--stop=x has no effect'),
    (SampleConfig, {'server': 'host'}, '--server=host'),
    (SampleConfig, {'prompts': 'f', 'prompt': 'a'}, '--prompts=f and --prompt=a'),
    (SampleConfig, {'best_of': 1000, 'num_samples': 1001}, '--best_of=1000 with --num_samples=1001'),
    (EvaluateConfig, {'dynamic': True, 'mc_dropout': 2}, '--mc_dropout=2'),
    (EvaluateConfig, {'dynamic': True, 'free_running': 5}, '--free_running=5 with --dynamic=True'),
    (EvaluateConfig, {'mc_dropout': 2, 'free_running': 5}, '--free_running=5 with --mc_dropout=2'),
    (EvaluateConfig, {'free_running': 1}, '--free_running=1: expected 0, or at least 2'),
    (TrainConfig, {'multi_step': 5, 'multi_step_weight': 0.0}, '--multi_step_weight=0'),
    (TrainConfig, {'professor_forcing': 1.0}, '--professor_forcing=1.0 with --multi_step=0'),
    (TrainConfig, {'professor_forcing': 1.0, 'multi_step': 5, 'multi_step_input': 'expected'},
     '--multi_step_input=expected: expected rollouts of sampled tokens'),
    (RunConfig, {}, '--workdir'),
])
def test_contradictions_are_refused(group, values, named):
  with pytest.raises(UserError, match=named):
    group(**values)


IGNORED = [  # the flag without effect, what makes it so
    (DataConfig, {'chunk_length': 50}, {'chunk_curriculum': '25,50'}),
    (DataConfig, {'vocab_size': 500}, {'tokenizer': 'byte'}),
    (DataConfig, {'vocab_size': 500}, {'tokenizer': 'char'}),
    (DataConfig, {'on_invalid': 'replace'}, {'tokenizer': 'byte'}),
    (DataConfig, {'data_dir': '/data'}, {'corpus': 'pydoc'}),
    (DataConfig, {'text_feature': 'title'}, {'corpus': 'book.txt'}),
    (TrainConfig, {'tpu': 'name'}, {'strategy': 'mirrored'}),
    (ModelConfig, {'input_units': 3}, {'input_layers': 0}),
    *((ModelConfig, one, {'cell': 'gru'}) for one in ({'forget_bias': 0.0}, {'cell_norm': True},
                                                             {'zoneout_output': 0.05})),
    *((ModelConfig, {name: 0.0}, {'cell': 'lstm'}) for name in ('reset_bias', 'update_bias')),
    (ModelConfig, {'norm': 'joint'}, {'layer_norm': False}),
    *((ModelConfig, one, {'layers': 1}) for one in ({'combine': 'last'}, {'wiring': 'dense'},
                                                           {'layer_dropout': 0.1})),
    (TrainConfig, {'final_fraction': 0.5}, {'schedule': 'constant'}),
    (TrainConfig, {'final_fraction': 0.5}, {'schedule': 'plateau'}),
    (TrainConfig, {'plateau_factor': 0.1}, {'schedule': 'linear'}),
    (TrainConfig, {'plateau_patience': 5}, {'schedule': 'cosine'}),
    (TrainConfig, {'weight_decay': 0.1}, {'optimizer': 'ftrl'}),
    (TrainConfig, {'clip_norm': 0.0}, {'clip_percentile': 10.0}),
    (TrainConfig, {'ema_decay': 0.9}, {'average': 'validation'}),
    (TrainConfig, {'average_patience': 9}, {'average': 'ema'}),
    (DataConfig, {'document_separator': '|'}, {'document_reset': False}),
    (TrainConfig, {'init_weights': 'last'}, {'init_from': ''}),
    *((TrainConfig, one, {'multi_step': 0}) for one in (
        {'multi_step_input': 'expected'}, {'multi_step_weight': 0.1}, {'multi_step_mix': 0.1},
        {'multi_step_schedule': 'linear'})),
    *((TrainConfig, one, {'professor_forcing': 0.0}) for one in (
        {'professor_forcing_teacher': True}, {'discriminator_learning_rate': 0.1})),
    (EvaluateConfig, {'chunk_length': 5}, {'dynamic': True}),
    *((EvaluateConfig, one, {'dynamic': False}) for one in (
        {'dynamic_learning_rate': 0.5}, {'dynamic_decay': 0.5}, {'dynamic_length': 5}, {'dynamic_statistics': 5})),
    (EvaluateConfig, {'seed': 5}, {'mc_dropout': 0}),
    (SampleConfig, {'model': 'book'}, {'server': ''}),
    (ModelConfig, {'dropout_per': 'sequence'}, {'dropout': 0.0}),
    *((ExportConfig, one, {'text_ops': 'none'}) for one in (
        {'length': 5}, {'temperature': 0.5}, {'top_k': 5}, {'top_p': 0.5}, {'seed': 5})),
    *((ExportConfig, one, {'format': name}) for name in ('safetensors', 'litert') for one in (
        {'version': 5}, {'length': 5}, {'temperature': 0.5}, {'top_k': 5}, {'top_p': 0.5}, {'seed': 5},
        {'stop': ('x',)}, {'max_new_tokens': 5}, {'max_prompt_tokens': 5}, {'max_batch_tokens': 5000},
        {'text_ops': 'none'})),
    (SampleConfig, {'repetition_window': 5}, {'repetition_penalty': 1.0}),
    *((SampleConfig, one, {'interactive': True}) for one in (
        {'prompts': 'prompts.txt'}, {'output': 'json'}, {'best_of': 2})),
]


@pytest.mark.parametrize('group,ignored,beside', IGNORED, ids=str)
def test_flags_without_effect_are_refused_where_they_were_set(group, ignored, beside):
  (name, value), (cause, choice) = *ignored.items(), *beside.items()
  told = f'^{typed.assigned(name, value)} has no effect beside --{cause}={choice}.*: expected'
  with pytest.raises(UserError, match=told):
    group(**ignored, **beside)
  at_default = group(**beside, **{name: getattr(group(), name)})  # as a saved configuration holds it
  assert group(**dataclasses.asdict(at_default)) == at_default


@pytest.mark.parametrize('group,values', [
    (DataConfig, {'on_invalid': 'replace', 'tokenizer': 'char'}),
    (DataConfig, {'on_invalid': 'replace', 'tokenizer': 'sentencepiece'}),
    *((ModelConfig, {'dropout_per': 'sequence', name: 0.5}) for name in DROPOUTS),
    (TrainConfig, {'final_fraction': 0.5, 'schedule': 'cosine'}),
    (TrainConfig, {'final_fraction': 0.5, 'schedule': 'linear'}),
    (EvaluateConfig, {'seed': 5, 'mc_dropout': 2}),
    (EvaluateConfig, {'seed': 5, 'free_running': 2}),
])
def test_flags_have_an_effect_beside_each_of_several(group, values):
  assert {name: getattr(group(**values), name) for name in values} == values


RULES = [(group, f) for group, f in FIELDS if f.metadata.keys() & {'only_with', 'not_with'}]


def other_values(f):
  """Values of a field that are within its limits and not its default, the boundary ones among them."""
  candidates = f.metadata.get('choices') or {
    bool: [False, True], int: [0, 1, 2, 5000], float: [0.0, 0.25, 0.5, 1.5], Texts: [('x',)],
    str: ['', 'pydoc', 'ftrl', 'tfds:x', '5,50']}[f.type]
  return [value for value in candidates if value != f.default and accepts(f.metadata, value)]


@pytest.mark.parametrize('group,f', RULES, ids=lambda x: getattr(x, 'name', getattr(x, '__name__', '')))
def test_rules_hold(group, f):
  """In each state of the fields that a rule names, a field is refused exactly where it has no effect."""
  named = {name for key in ('only_with', 'not_with') for name in alternatives(f.metadata.get(key, '')) if name}
  causes = [group.__dataclass_fields__[name] for name in named]
  value, outcomes = other_values(f)[0], set()
  for beside in [{}] + [{cause.name: other} for cause in causes for other in other_values(cause)]:
    values = SimpleNamespace(**{cause.name: cause.default for cause in causes} | beside)
    has_effect = all(holds(f.metadata[key], values) == (key == 'only_with') for key in ('only_with', 'not_with')
                     if key in f.metadata)
    outcomes.add(has_effect)
    try:
      group(**{f.name: value}, **beside)
      refused = False
    except UserError as error:
      refused = str(error).startswith(f'{typed.assigned(f.name, value)} has no effect beside --')
    assert refused != has_effect, (f.name, value, beside)
  assert outcomes == {False, True}, 'a rule that always holds, or never'


@pytest.mark.parametrize('group,f', RULES, ids=lambda x: getattr(x, 'name', getattr(x, '__name__', '')))
def test_rules_name_fields_and_values_that_they_accept(group, f):
  for condition in filter(None, map(f.metadata.get, ('only_with', 'not_with'))):
    for name, patterns in alternatives(condition).items():
      cause = group.__dataclass_fields__[name]
      assert name != f.name and set(patterns) <= set(cause.metadata.get('choices', patterns))


def test_each_rule_is_in_the_table_of_ignored_flags():
  assert {(group, f.name) for group, f in RULES} <= {(group, name) for group, ignored, _ in IGNORED for name in ignored}


@pytest.mark.parametrize('condition,values,wanted', [
    ('a', {'a': 1}, True), ('a', {'a': 0}, False), ('a', {'a': ''}, False), ('a', {'a': False}, False),
    ('a=x', {'a': 'x'}, True), ('a=x', {'a': 'X'}, True), ('a=x', {'a': 'xx'}, False), ('a=1', {'a': 1}, True),
    ('a=x|y', {'a': 'y'}, True), ('a=x|y', {'a': 'z'}, False),
    ('a=x:*', {'a': 'x:z'}, True), ('a=x:*', {'a': 'zx:'}, False),
    ('a or b=x', {'a': 0, 'b': 'x'}, True), ('a or b=x', {'a': 0, 'b': 'y'}, False)])
def test_conditions(condition, values, wanted):
  assert holds(condition, SimpleNamespace(**values)) == wanted


@pytest.mark.parametrize('name,value', [('patience', 1), ('schedule', 'plateau'), ('average', 'validation')])
def test_what_waits_for_the_validation_loss_needs_one(name, value):
  train = TrainConfig(**{name: value})
  with pytest.raises(UserError, match=f'--{name}={value} with --valid_fraction=0'):
    Config(data=DataConfig(valid_fraction=0.0), train=train)


@pytest.mark.parametrize('limits,epochs', [
    ({}, 10), ({'epochs': 2.5}, 2.5), ({'steps': 5}, 0), ({'max_minutes': 1.0}, 0), ({'epochs': 2.0, 'steps': 5}, 2)])
def test_a_run_without_limits_is_ten_passes(limits, epochs):
  assert TrainConfig(**limits).max_epochs == epochs


def test_json_round_trip():
  chosen = Config(data=DataConfig(chunk_curriculum='5,50'), model=ModelConfig(units=7))
  assert Config.from_json(chosen.to_json()) == chosen
  assert chosen.data.lengths == (5, 50)


def test_a_configuration_of_the_first_format_is_read():
  chosen = Config(model=ModelConfig(units=7))
  groups = json.loads(chosen.to_json())
  assert groups.pop('format_version') == FORMAT_VERSION
  assert Config.from_json(json.dumps(groups)) == chosen


def test_a_configuration_of_a_newer_format_is_refused():
  text = Config().to_json().replace(f'"format_version": {FORMAT_VERSION}', f'"format_version": {FORMAT_VERSION + 1}')
  with pytest.raises(UserError, match=f'^a newer .* format {FORMAT_VERSION + 1}; expected format {FORMAT_VERSION}'):
    Config.from_json(text)


@pytest.mark.parametrize('text', [
    '', '[]', '{"format_version": "2"}', '{"data": {"no_such_field": 1}}', '{"other": {}}', '{"data": 3}', '{}', 'null',
    '[' * 100_000, '9' * 5000, '{"format_version": true}', '{"format_version": -1}', '{"format_version": NaN}'])
def test_damaged_json_is_refused(text):
  with pytest.raises(UserError, match='not a charlm configuration'):
    Config.from_json(text)


@pytest.mark.parametrize('group,name,value,words', [
    pytest.param('train', 'learning_rate', 10**400, '--learning_rate=1000', id='400 digits'),
    ('train', 'learning_rate', math.nan, 'finite'),
    ('train', 'learning_rate', '1', 'a number'), ('train', 'steps', None, 'an integer'),
    ('model', 'units', 8.5, 'an integer'), ('model', 'layer_norm', 1, 'true or false'),
    ('data', 'corpus', 'a\0b', 'NUL'), ('data', 'cache_dir', '\ud800', 'UTF-8'), ('data', 'corpus', ['a'], 'text'),
    ('data', 'no_such', 1, "'no_such'"), ('model', '\ud800', 1, 'no flag')])
def test_damaged_values_are_refused(group, name, value, words):
  groups = json.loads(Config().to_json())
  groups[group][name] = value
  with pytest.raises(UserError, match=words):
    Config.from_json(json.dumps(groups))


@pytest.mark.parametrize('group', ['data', 'model', 'train'])
def test_a_configuration_without_a_group_is_refused(group):
  groups = json.loads(Config().to_json())
  del groups[group]
  with pytest.raises(UserError, match='expected data, model, train'):
    Config.from_json(json.dumps(groups))


def test_bytes_that_are_not_utf8_are_text_for_a_flag():
  assert DataConfig(corpus='caf\udce9.txt').corpus


def test_flags_of_a_run_have_one_meaning():
  names = [f.name for group in (RunConfig, *GROUPS[:3]) for f in dataclasses.fields(group)]
  assert len(names) == len(set(names))


@pytest.mark.parametrize('value, texts', [((), ()), ('', ()), (('',), ()), ('a', ('a',)), (['a', 'b'], ('a', 'b'))])
def test_a_field_of_texts_takes_one_or_several(value, texts):
  assert SampleConfig(stop=value, ban=value) == SampleConfig(stop=texts, ban=texts)
  assert SampleConfig(stop=value).stop == texts


@pytest.mark.parametrize('value', [5, None, [5], [None], b'a', {'a': 'b'}, ['a\0']])
def test_a_field_of_texts_takes_nothing_else(value):
  with pytest.raises(UserError, match=r'--stop=.*: expected text'):
    SampleConfig(stop=value)
