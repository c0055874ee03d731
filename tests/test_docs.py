"""README, CONTRIBUTING and docs/ are true: their examples run, and what they name exists.

Examples are fenced blocks, ```sh or ```python; ```text is for drawings. The examples of a page run in order, in one
folder with a few small texts. Commands of charlm run in this process, with what is slow replaced by FORCED, SMALL and
LOWERED; lines of other programs are looked at only, by CHECKED.
"""
import contextlib
import dataclasses
import functools
import importlib
import inspect
import io
import json
import pathlib
import re
import shlex
import sys

import pytest
import tensorflow as tf

import rest
import stand_in
from charlm.commands import evaluate, export, prepare, sample, score, train
from charlm.serving import check
from flags.config import Config
from flags.evaluation import EvaluateConfig
from flags.generation import SampleConfig
from flags.prepare import PrepareConfig
from flags.run import PRESETS, RunConfig
from flags.score import ScoreConfig
from flags.serving import ExportConfig
from source_tree import FILES, PACKAGES, ROOT

DOCS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding='utf-8')
        for path in [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]}
LINKING = ['benchmarks/README.md', 'CHANGELOG.md', *DOCS]
DESIGN = DOCS['docs/design.md']
BLOCKS = {page: re.findall(r'^```(\w*)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL) for page, text in DOCS.items()}
EXAMPLES = {page: examples for page, found in BLOCKS.items()
            if (examples := [(language, text) for language, text in found if language != 'text'])}

COMMANDS = {'charlm-train': train, 'charlm-evaluate': evaluate, 'charlm-sample': sample, 'charlm-score': score,
            'charlm-export': export, 'charlm-prepare': prepare}
FIRST = 'charlm-train --corpus=book.txt --workdir=runs/book --max_minutes=10'  # the model of all pages

# Flags that an example of charlm-train has in place of its own, so that it takes a few steps, and not minutes.
FORCED = {'steps': 6, 'max_minutes': 0, 'epochs': 0, 'eval_every': 1, 'units': 8, 'input_units': 8, 'embedding_size': 8,
          'batch_size': 2}
# Flags that it has where it does not give them itself.
SMALL = {'chunk_length': 16, 'dropout': 0.05, 'report_every': 2, 'sample_every': 0, 'save_every': 0}
# Values that are lower, where an example of any command gives them.
LOWERED = {'length': 40, 'mc_dropout': 2, 'free_running': 3, 'vocab_size': 350, 'num_samples': 2, 'best_of': 2}

LONG = 'docs/recipe.md', 'docs/train.md', 'docs/scale.md'  # of many runs, or processes; others are of the same kind


def read(name):
  return (ROOT / name).read_text(encoding='utf-8')


def check_make(target):
  assert re.search(f'^{target}:', read('Makefile'), re.MULTILINE)


def check_pip(*arguments):
  assert arguments[:2] == ('install', '-e')
  assert all(f"'{extra}':" in read('setup.py') for extra in re.findall(r'\[(\w+)\]', arguments[2]))


def check_python(*arguments):
  assert arguments[:2] == ('-m', 'pytest') and all((ROOT / path).exists() for path in arguments[2:])


def check_bazel(verb, target):
  assert verb == 'test' and re.search(f'"(charlm/)?{target.removeprefix("//:test_")}"', read('BUILD'))


def check_activate(script):
  assert script == '.venv/bin/activate'


def check_logdir(logdir):
  assert list(pathlib.Path(logdir.removeprefix('--logdir=')).rglob('events.out.*'))


def check_server(*arguments):
  folder = next(word.removeprefix('--model_base_path=$PWD/') for word in arguments if 'base_path' in word)
  assert pathlib.Path(folder, '1/saved_model.pb').exists()


def check_curl(url, option, body):
  """The request, asked of the model in this process. STATE is that of an answer to `prefill`."""
  name = url.removeprefix('http://localhost:8501/v1/models/').removesuffix(':predict')
  signatures = loaded(f'served/{name}/1')
  state = rest.predict(signatures, '{"signature_name": "prefill", "inputs": ["a"]}')['state']
  assert option == '-d' and rest.predict(signatures, body.replace('STATE', json.dumps(state.tolist())))


@functools.cache
def loaded(folder):
  return tf.saved_model.load(folder).signatures


@contextlib.contextmanager
def answered(text):
  """An example, with the address of a server that is there in place of the one that it names."""
  if 'http://localhost:8501' not in text:
    yield text
    return
  with stand_in.rest(loaded('served/book/1')) as address:
    yield text.replace('http://localhost:8501', address)


# Programs whose lines are not run, and what is looked at.
CHECKED = {'make': check_make, 'pip': check_pip, 'python': check_python, 'bazel': check_bazel, '.': check_activate,
           '.ci/run': lambda: read('.ci/run'), 'tensorboard': check_logdir, 'tensorflow_model_server': check_server,
           'curl': check_curl}


def flag(word):
  """'--name=value' -> 'name'"""
  return word.lstrip('-').partition('=')[0]


def shortened(command, arguments):
  """The arguments of an example, for a run of a second or two."""
  arguments = [f'--{flag(word)}={LOWERED[flag(word)]}' if flag(word) in LOWERED else word for word in arguments]
  if command != 'charlm-train':
    return arguments
  given = {flag(word) for word in arguments}
  added = FORCED | {name: value for name, value in SMALL.items() if name not in given}
  return [*(word for word in arguments if flag(word) not in FORCED),
          *(f'--{name}={value}' for name, value in added.items())]


def lines(text):
  """The commands of a block; one goes on over a line end after a backslash, or within quotes."""
  found, held = [], ''
  for line in text.replace('\\\n', '').splitlines():
    held += line
    if held.count("'") % 2 == 0:
      found, held = [*found, held], ''
  return found


@pytest.fixture(scope='module')
def folder(cache, tmp_path_factory):
  """Where the examples run, with the texts that they name."""
  from pydoc_data.topics import topics
  folder, text = tmp_path_factory.mktemp('docs'), '\n'.join(topics[name] for name in sorted(topics))
  (folder / 'poems').mkdir()
  (folder / 'prompts.txt').write_text('It was\nIt is\n')
  (folder / 'prompts.jsonl').write_text('{"prompt": "It was", "id": 1}\n{"prompt": "It is", "id": 2}\n')
  names = ['book.txt', 'another.txt', 'tinyshakespeare.txt', 'poems/one.txt', 'poems/two.txt']
  for i, name in enumerate(names):
    (folder / name).write_text(text[i * 6000:(i + 1) * 6000], encoding='utf-8')
  return folder


@pytest.fixture(scope='module')
def done():
  """Lines that have run in the folder."""
  return set()


@pytest.mark.parametrize('page', [pytest.param(page, marks=[pytest.mark.slow] * (page in LONG)) for page in EXAMPLES])
def test_examples_run(page, folder, done, monkeypatch):
  monkeypatch.chdir(folder)
  monkeypatch.setattr(check, 'check', lambda *given: None)  # it takes a process; test_export.py of the command has it

  def run(line):
    program, *arguments = shlex.split(line, comments=True)
    if program not in COMMANDS:
      CHECKED[program](*arguments)
    elif line not in done:
      monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'The\n')))  # for --interactive
      COMMANDS[program].run([program, *shortened(program, arguments)])
      done.add(line)

  run(FIRST)
  for language, text in EXAMPLES[page]:
    if language == 'python':
      with answered(text) as example:
        exec(compile(example, page, 'exec'), {})
    else:
      for line in lines(text):
        run(line)


@pytest.mark.parametrize('page', DOCS)
def test_commands_are_in_blocks_that_run(page):
  assert {language for language, _ in BLOCKS[page]} <= {'sh', 'python', 'text'}
  command = re.compile(r'^ *(charlm-\w+ --|make \w|python -m|pip install)', re.MULTILINE)
  assert not [text for language, text in BLOCKS[page] if language == 'text' and command.search(text)]
  assert not re.findall(r'^    (?:charlm-\w+ --|make \w|python -m|pip install).*$', DOCS[page], re.MULTILINE)


@pytest.mark.parametrize('page', DOCS)
def test_flags_and_presets_exist(page):
  groups = [*(f.default_factory for f in dataclasses.fields(Config)), RunConfig, EvaluateConfig, SampleConfig,
            ScoreConfig, ExportConfig, PrepareConfig]
  known = {f.name for group in groups for f in dataclasses.fields(group)}
  known |= {'help', 'helpfull', 'flagfile'}
  text = re.sub(r'^(tensorboard|tensorflow_model_server|#SBATCH|srun) .*$', '', DOCS[page], flags=re.MULTILINE)
  text = re.sub(r'`(python -m benchmarks|tensorboard|tensorflow_model_server) ?[^`]*`', '', text)
  assert set(re.findall(r'(?<![\w-])--([a-z_]+)', text)) <= known
  assert set(re.findall(r'--preset=([a-z_]+)', text)) <= set(PRESETS)
  assert all((ROOT / f'benchmarks/{name}.py').exists() for name in re.findall(r'python -m benchmarks\.(\w+)', text))


def anchors(text):
  """The anchors of the headings of a page, as GitHub makes them."""
  text = re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
          for heading in re.findall(r'^#+ (.+)$', text, re.MULTILINE)}


@pytest.mark.parametrize('page', LINKING)
def test_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)\s]+)\)', read(page)):
    if re.match(r'https?:', link):
      continue
    path, _, anchor = link.partition('#')
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists(), link
    assert not anchor or anchor in anchors(target.read_text(encoding='utf-8')), link


def test_readme_leads_to_every_page():
  assert set(DOCS) - {'README.md'} <= set(re.findall(r'\]\(([\w./]+)\)', DOCS['README.md']))


def listed():
  """The files and folders that the tree of the design lists, by the indentation of its lines."""
  tree = next(text for language, text in BLOCKS['docs/design.md'] if language == 'text' and 'errors.py' in text)
  above, found = [], []
  for line in tree.splitlines():
    indent, name = re.match(r'( *)(\S+)', line).groups()
    above[len(indent) // 2:] = [name]
    found.append(''.join(above))
  return found


def test_design_lists_every_module():
  found = listed()
  assert [path for path in found if not (ROOT / path).exists()] == []
  modules = {file for file in FILES if file.split('/')[0] in PACKAGES and not file.endswith('__init__.py')}
  assert modules - set(found) == set()
  assert {path.relative_to(ROOT).as_posix() for path in (ROOT / 'kernels').iterdir()} <= set(found)


def test_design_names_what_exists():
  paths = re.findall(r'`((?:charlm|data_pipeline|flags|kernels|tests|benchmarks|docs)/[\w./-]*)`', DESIGN)
  assert [path for path in paths if not (ROOT / path).exists()] == []
  for path, name in re.findall(r'`([\w./-]+\.py)`: `(\w+)`', DESIGN):
    assert re.search(rf'\b{name}\b', read(path)), (path, name)


@pytest.mark.parametrize('signature', re.findall(r'`((?:charlm|data_pipeline|flags)\.[\w.]+\(.*?\))`', DESIGN))
def test_design_has_the_signatures_of_the_code(signature):
  dotted, _, _ = signature.partition('(')
  parts = dotted.split('.')
  split = next(i for i, part in enumerate(parts) if part[0].isupper() or i == len(parts) - 1)
  thing = importlib.import_module('.'.join(parts[:split]))
  for part in parts[split:]:
    thing = getattr(thing, part)
  found = inspect.signature(thing)
  parameters = [p.replace(annotation=p.empty) for p in found.parameters.values() if p.name != 'self']
  assert signature == dotted + str(found.replace(parameters=parameters, return_annotation=found.empty))
