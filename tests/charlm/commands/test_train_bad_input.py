"""What charlm-train refuses, in one line, before there is a workdir."""
import pytest

from charlm.commands import train
from runs import complaint, flags


@pytest.mark.parametrize('arguments,words', [
    (['--learning_rate=inf'], ['--learning_rate=inf', 'finite']),
    (['--corpus=/no/such/file'], ['--corpus=', '/no/such/file']),
    (['--units=0'], ['--units=0', 'at least 2']),
    (['--unitz=3'], ['--unitz', '--units']),
    (['--optimizer=adom'], ['--optimizer=adom', 'adam']),
    (['--batch_size=5000'], ['--batch_size=5000', 'would fit', '--batch_size=']),
    (['--batch_size=3', '--strategy=mirrored'], ['--batch_size=3', '2']),
    (['--valid_fraction=0.6', '--test_fraction=0.4'], ['--valid_fraction=0.6', '--test_fraction=0.4']),
    (['--patience=2', '--valid_fraction=0'], ['--patience=2', '--valid_fraction=0']),
    (['--units=65536'], ['--units=65536', 'GiB']),
    (['--embedding_size=65536', '--input_units=65536'], ['--embedding_size=65536', 'GiB']),
    (['--valid_fraction=0.0001'], ['--valid_fraction=0.0001', 'at least 2', 'found 0']),
    (['--test_fraction=0.0005'], ['--test_fraction=0.0005', 'at least 2', 'found 1']),
    (['--document_reset'], ['--document_reset', 'no second document', '--document_separator']),
    (['--document_reset', '--document_separator=times', '--recurrence=native'], ['--recurrence=native', 'xla']),
    (['--document_separator=times'], ['--document_separator=times', '--document_reset=False']),
    (['--chunk_curriculum=8,16'], ['--chunk_length=16', '--chunk_curriculum=8,16', 'its default, 100']),
])
def test_bad_input_gets_one_line_and_leaves_nothing(corpus, tmp_path, capsys, arguments, words):
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', *arguments))
  assert exit_.value.code == 2
  error = complaint(capsys.readouterr().err)
  assert all(word in error for word in words), error
  assert not (tmp_path / 'run').exists()


def invalid(folder):
  (folder / 'a').write_bytes(b'a' * 300)
  (folder / 'b').write_bytes(b'b' * 100 + b'\xff' + b'b' * 2000)


@pytest.mark.parametrize('fill,arguments,words', [
    (invalid, ['--tokenizer=char'], ['{corpus}/b:', '0xff', 'offset 100', '--on_invalid=replace']),
    (lambda folder: None, [], ['--corpus={corpus}:', 'no text in it']),
    (lambda folder: (folder / 'empty').touch(), ['--corpus={corpus}/empty'], ['--corpus={corpus}/empty:', '0 bytes']),
    (lambda folder: None, ['--corpus=tfds:no_such_set', '--data_dir={corpus}'], ['tfds:no_such_set', 'the name of']),
], ids=['invalid', 'empty folder', 'empty file', 'unknown data set'])
def test_a_corpus_that_will_not_do_gets_one_line_and_leaves_nothing(tmp_path, capsys, fill, arguments, words):
  corpus = tmp_path / 'corpus'
  corpus.mkdir()
  fill(corpus)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', *(a.format(corpus=corpus) for a in arguments)))
  assert exit_.value.code == 2
  error = complaint(capsys.readouterr().err)
  assert all(word.format(corpus=corpus) in error for word in words), error
  assert not (tmp_path / 'run').exists()


def test_what_waits_as_long_as_the_run_does_is_refused(corpus, tmp_path, capsys):
  small = [f for f in flags(corpus, tmp_path / 'run') if not f.startswith('--steps')]
  with pytest.raises(SystemExit):
    train.run([*small, '--epochs=1', '--patience=5'])
  line = capsys.readouterr().err.splitlines()[-1]
  assert all(word in line for word in ('--patience=5', '1 epochs')), line
  short = [f for f in small if not f.startswith('--chunk_length')]
  for others, words in ((['--epochs=1', '--chunk_curriculum=8,16', '--patience=50'], ['--patience=50', '1 epochs']),
                        (['--steps=5', '--flat_epochs=3'], ['--flat_epochs=3', '--steps=5'])):
    with pytest.raises(SystemExit):
      train.run([*short, *others])
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(word in line for word in words), line
