"""charlm-export through its entry point."""
import json

import pytest

from charlm.commands import export
from charlm.network.model import LanguageModel
from charlm.serving import check
from charlm.workdir import checkpoint, layout, variables
from data_pipeline.tokenizers.byte import ByteTokenizer
from flags.config import Config
from flags.network import ModelConfig


@pytest.mark.slow
def test_command_says_where_the_model_went(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(check, 'check', lambda *given: None)  # it takes a process; tests of serving have it
  folder, tokenizer = tmp_path / 'workdir', ByteTokenizer()
  chosen = Config(model=ModelConfig(embedding_size=8, input_units=16, units=16))
  layout.save_config(folder, chosen, tokenizer)
  arrays = variables.collect('model', LanguageModel(chosen.model, tokenizer.vocab_size).variables)
  state = {'step': 5, 'tokenizer': tokenizer.fingerprint, 'text': '', 'best_nats': 1.5, 'best_step': 5}
  checkpoint.save(folder, 5, arrays, state)
  export.run(['charlm-export', f'--workdir={folder}', f'--export_dir={tmp_path}/served'])
  assert capsys.readouterr().out.startswith(f'{tmp_path}/served/1\n')
  facts = json.loads((tmp_path / 'served' / '1' / 'assets.extra' / 'charlm.json').read_text())
  assert (facts['step'], facts['valid_nats_per_token'], facts['config']['model']['units']) == (5, 1.5, 16)


@pytest.mark.parametrize('format_, package, files', [
  ('safetensors', 'safetensors', {'model.safetensors', 'numpy_model.py'}),
  ('litert', 'ai_edge_litert', {'model.tflite'})])
def test_other_formats_go_to_the_folder_itself(finished, tmp_path, capfd, format_, package, files):
  pytest.importorskip(package)
  arguments = ['charlm-export', f'--workdir={finished}', f'--export_dir={tmp_path}/to', f'--format={format_}']
  export.run(arguments)
  out, err = capfd.readouterr()
  assert out.startswith(f'{tmp_path}/to\n') and not err
  assert {path.name for path in (tmp_path / 'to').iterdir()} == files | {'charlm.json', 'tokenizer.json', 'vocab.json'}
  facts = json.loads((tmp_path / 'to' / 'charlm.json').read_text())
  assert (facts['weights'], facts['config']['model']['units']) == ('best', 12)
  before = {path.name: path.read_bytes() for path in (tmp_path / 'to').iterdir()}
  with pytest.raises(SystemExit) as ended:
    export.run(arguments)
  out, err = capfd.readouterr()
  assert ended.value.code == 2 and err.startswith(f'charlm-export: --export_dir={tmp_path}/to: is there already')
  assert not out and err.count('\n') == 1
  assert {path.name: path.read_bytes() for path in (tmp_path / 'to').iterdir()} == before


@pytest.mark.parametrize('flags, named', [(['--workdir=/none'], '--export_dir'), (['--export_dir=x'], '--workdir'),
                                          (['--export_dir=x', '--version=-1'], '--version=-1')])
def test_command_tells_mistakes_in_one_line(flags, named, capsys):
  with pytest.raises(SystemExit) as ended:
    export.run(['charlm-export', *flags])
  told = capsys.readouterr().err
  assert ended.value.code == 2 and told.startswith(f'charlm-export: {named}') and told.count('\n') == 1


@pytest.mark.parametrize('flags, named', [
  (['--max_batch_tokens=4096'], '--max_batch_tokens=4096'), (['--max_new_tokens=0'], '--max_new_tokens=0'),
  (['--stop=a', '--stop=ab'], '--stop=a --stop=ab'), (['--length=5', '--text_ops=none'], '--length=5'),
  (['--text_ops=some'], '--text_ops=some'), (['--format=onnx'], '--format=onnx'),
  (['--stop=x', '--format=litert'], '--stop=x'), (['--top_p=0'], '--top_p=0'),
  (['--temperature=nan'], '--temperature=nan')])
def test_options_of_the_signatures_are_checked(flags, named, capsys):
  with pytest.raises(SystemExit) as ended:
    export.run(['charlm-export', '--workdir=w', '--export_dir=x', *flags])
  told = capsys.readouterr().err
  assert ended.value.code == 2 and told.startswith(f'charlm-export: {named}') and told.count('\n') == 1
