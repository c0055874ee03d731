"""The texts of --help, what most people set, and of --helpfull, which has every flag."""
import dataclasses
import textwrap
from collections.abc import Sequence

from flags.parse import preset_names
from flags.schema import expected

WIDTH = 100


def short(name: str, doc: str | None, groups: Sequence[type]) -> str:
  """The text of --help: the command's own words, and a line for each of the flags that most people set."""
  lines, count = [f'{name}: {textwrap.dedent(doc or "").strip()}'], 0
  for group in groups:
    fields = dataclasses.fields(group)
    common = [f for f in fields if 'short' in f.metadata]
    count += len(fields)
    if common:
      lines += ['', (group.__doc__ or '').splitlines()[0]]
      lines += [f'  {_assignment(f):<27} {f.metadata["short"]}' for f in common]
  return '\n'.join([*lines, '', f'--helpfull teaches all {count} flags; --flagfile=FILE reads them from a file, one a '
                    'line.'])


def full(name: str, doc: str | None, groups: Sequence[type]) -> str:
  """The text of --helpfull: every flag with its default, the values it accepts, and what it is for."""
  paragraphs = [f'{name}: {textwrap.dedent(doc or "").strip()}',
                'All flags may also be given in a file, one in a line, with --flagfile=FILE.']
  for group in groups:
    paragraphs.append((group.__doc__ or '').splitlines()[0])
    for f in dataclasses.fields(group):
      text = textwrap.fill(f'{f.metadata["help"]}{_conditions(f)}', WIDTH, initial_indent=' ' * 6,
                           subsequent_indent=' ' * 6)
      paragraphs.append(f'  {_assignment(f)}\n{text}')
  return '\n\n'.join(paragraphs)


def _assignment(field):
  return f'--{field.name}={field.default}' if field.default != '' else f'--{field.name}'


def _conditions(field):
  """What the flag accepts and what it needs beside it, in brackets."""
  accepted = f'one of {", ".join(preset_names())}' if field.name == 'preset' else expected(field.metadata)
  needed = ' and '.join(f'--{name}={" or ".join(map(str, values))}' if values else f'--{name}'
                        for name, values in field.metadata.get('only_with', {}).items())
  conditions = '; '.join(filter(None, [accepted, needed and f'only with {needed}']))
  return f' ({conditions})' if conditions else ''
