"""The texts of --help, which has what most people set, and of --helpfull, which has everything."""
import dataclasses
import textwrap
from collections.abc import Sequence

from flags.schema import Checked, expected, in_words

COLUMNS = 100


def short_help(name: str, doc: str, groups: Sequence[type[Checked]]) -> str:
  """The text of --help: a line for each flag with a short text. COLUMNS wide, 40 lines at most.

  Args:
    name: of the command.
    doc: what it does, with examples: a docstring.
    groups: the dataclasses of its flags.
  """
  common = [[f for f in dataclasses.fields(group) if 'short' in f.metadata] for group in groups]
  width = max(len(_flag(f)) for fields in common for f in fields) + 2
  lines = [_title(name, doc), '']
  for group, fields in zip(groups, common, strict=True):
    lines.append(_heading(group))
    lines += [f'  {_flag(f):{width}}{f.metadata["short"]}' for f in fields]
  count = sum(len(dataclasses.fields(group)) for group in groups)
  lines += ['', f'--flagfile=FILE reads flags from a file, one in each line. --helpfull teaches all {count} flags.']
  return '\n'.join(lines)


def full_help(name: str, doc: str, groups: Sequence[type[Checked]]) -> str:
  """The text of --helpfull: every flag with its default, full text, choices, limits and rules. See `short_help`."""
  paragraphs = [_title(name, doc), textwrap.fill(_conventions(groups), COLUMNS)]
  for group in groups:
    paragraphs.append(_heading(group))
    for f in dataclasses.fields(group):
      notes = '; '.join(filter(None, [expected(f.metadata), in_words(f.metadata)]))
      text = textwrap.fill(f'{f.metadata["help"]}{f" ({notes})" if notes else ""}', COLUMNS,
                           initial_indent=' ' * 6, subsequent_indent=' ' * 6)
      paragraphs.append(f'  {_flag(f)}\n{text}')
  return '\n\n'.join(paragraphs)


def _conventions(groups: Sequence[type[Checked]]) -> str:
  """What holds for all flags of a command, and how it ends."""
  escapes = [f'--{f.name}' for group in groups for f in dataclasses.fields(group) if 'escapes' in f.metadata]
  texts = (f' In {", ".join(escapes)}, \\n is a line end, \\t a tab, \\r a carriage return and \\\\ a backslash.'
           if escapes else '')
  return ('All flags can also be given in a file, one in each line, with --flagfile=FILE. A path may begin with ~, the '
          f'home folder.{texts} The exit status is 0, or 2 after a mistake in the flags or in what they name, 1 '
          'after another failure, 130 where it was stopped by Ctrl-C. Where no terminal reads it, output is UTF-8.')


def _title(name: str, doc: str) -> str:
  first, _, rest = doc.strip().partition('\n')
  return f'{name}: {first}\n{textwrap.dedent(rest)}'.strip()


def _heading(group: type[Checked]) -> str:
  return (group.__doc__ or '').splitlines()[0].rstrip('.') + ':'


def _flag(f: dataclasses.Field) -> str:
  return f'--{f.name}={f.default}' if f.default not in ('', ()) else f'--{f.name}'
