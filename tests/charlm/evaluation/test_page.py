"""The page of surprise: what is in it, and what a browser makes of it."""
import base64
import html
import json
import re
import time

import numpy as np
import pytest

from benchmarks import browser
from charlm.evaluation import page, surprise
from charlm.evaluation.given_texts import TokenText
from charlm.evaluation.surprise import BIT, Span
from charlm.evaluation.token_scores import TokenScores
from flags.errors import UserError

BYTES = [bytes([b]) for b in range(256)]
# Nothing of this may become markup, run, or move what stands around it.
HOSTILE = ('</div></main></script><script>document.title="bad"</script><img src=x onerror="document.title=\'bad\'">'
           '<!-- &lt;&#0; ]]> \u2028\u2029\0\x01\x1b\x7f\x85\u202eabc\u2066\u200f\r\n\ttab\n\n\ufffe\uffff🎉 世\ud7ff')


def scored(data, name='text.txt', ends=None, seed=0):
  """A text with random scores; bytes are its tokens unless `ends` says where others end."""
  ends = np.arange(1, len(data) + 1) if ends is None else np.asarray(ends)
  random, count = np.random.default_rng(seed), len(ends)
  guess_nats = np.sort(random.exponential(2, (count, 4)).astype(np.float32))
  ids = np.frombuffer(data, np.uint8)[ends - 1]
  scores = TokenScores(random.exponential(1.5, count).astype(np.float32),
                       random.integers(0, 256, (count, 4)).astype(np.int32), guess_nats)
  return Span(TokenText(name, data, ids, ends, []), scores, 0, count)


def write(path, *texts, pieces=BYTES):
  assert [*page.written(str(path), iter(texts), pieces)] == [*texts]
  return path.read_text(encoding='utf-8')


def decoded(packed, dtype):
  """data-units -> guesses, lengths, bits, bits of the guesses."""
  data, size = base64.b64decode(packed), np.dtype(dtype).itemsize
  n = len(data) // (4 * (size + 2) + 4)
  guesses, rest = np.frombuffer(data[:n * 4 * size], dtype).reshape(n, 4), np.frombuffer(data[n * 4 * size:], '<u2')
  return guesses, rest[:n], rest[n:2 * n] / page.SCALE, rest[2 * n:].reshape(n, 4) / page.SCALE


def slow_units(span):
  """Runs of tokens that are whole characters, a byte at a time -> [(text, first token, nats)]."""
  found, first, begin = [], 0, 0
  for token, end in enumerate(span.text.ends.tolist()):
    piece = span.text.data[begin:end]
    after = span.text.data[begin:].decode(errors='surrogateescape')
    whole = 0
    for character in after:  # whether characters end where the token does
      whole += len(character.encode(errors='surrogateescape'))
      if whole >= len(piece):
        break
    if whole == len(piece):
      found.append((piece.decode(errors='surrogateescape'), first, span.scores.nats[first:token + 1].sum()))
      first, begin = token + 1, end
  return found


@pytest.mark.parametrize('data, ends', [
  (b'abc', None), ('né世🎉!'.encode(), None), (b'a\xff\xe4b\xf0\x9f\x8e', None), ('né世🎉!'.encode(), [2, 3, 8, 9, 11]),
  ('a世b'.encode(), [1, 4, 5]), ('世世'.encode(), [4, 6]), (b'\x80', None)])
def test_units_are_the_shortest_runs_of_tokens_that_are_characters(data, ends):
  span = scored(data, ends=ends)
  units, wanted = surprise.units(span), slow_units(span)
  assert np.split(np.array([*units.characters]), units.ends[:-1])[0].size
  pieces = [''.join(part) for part in np.split(np.array([*units.characters], object), units.ends[:-1])]
  assert list(zip(pieces, units.first.tolist(), strict=True)) == [(text, first) for text, first, _ in wanted]
  np.testing.assert_allclose(units.bits, [nats / BIT for *_, nats in wanted], rtol=1e-5)


@pytest.mark.parametrize('count, dtype', [(256, '<u2'), (70000, '<u4')])
def test_a_page_has_each_unit_with_its_bits_and_guesses(tmp_path, count, dtype):
  span = scored(('Ein Satz über 世界 🎉\n' * 100).encode())
  written = write(tmp_path / 'page.html', span, pieces=(BYTES * 300)[:count])
  blocks = re.findall(r'<div class="block[^"]*" data-units="([^"]*)">(.*?)</div>', written, re.DOTALL)
  units = surprise.units(span)
  assert ''.join(html.unescape(text) for _, text in blocks) == span.data.decode() and len(blocks) > 3
  parts = [decoded(packed, dtype) for packed, _ in blocks]
  for (_, lengths, *_), (_, text) in zip(parts, blocks, strict=True):
    assert lengths.sum() == len(html.unescape(text).encode('utf-16-le')) // 2
    assert text.endswith('\n')
  guesses, _, bits, guess_bits = (np.concatenate(part) for part in zip(*parts, strict=True))
  np.testing.assert_array_equal(guesses, span.scores.guesses[units.first])
  np.testing.assert_allclose(bits, units.bits, atol=1e-3)
  np.testing.assert_allclose(guess_bits, span.scores.guess_nats[units.first] / BIT, atol=1e-3)


def test_a_text_cannot_become_markup(tmp_path):
  written = write(tmp_path / 'page.html', scored(HOSTILE.encode('utf-8', 'surrogatepass'), name='<b>\x1b"&.txt'),
                  pieces=[b'</script><b>'] * 256)
  assert written.count('<script') == 2 == written.count('</script>') and '<img' not in written and '<b>' not in written
  assert not re.search('[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200f\ufffe\uffff]', written)
  assert '&lt;b&gt;\\x1b&quot;&amp;.txt' in written
  data = json.loads(re.search(r'id="data">(.*?)</script>', written, re.DOTALL)[1])
  assert set(data['pieces'].values()) == {'</script><b>'}


@pytest.mark.parametrize('character', [*'\u200b\ufeff\u00ad\u2060\u180e\u3164\u115f\u1160\uffa0\u2028\u2029\ufe0f',
                                       '\u034f', '\U000e0020', '\U000e0100'], ids=ascii)
def test_a_character_that_would_not_be_seen_is_shown_as_a_symbol(tmp_path, character):
  written = write(tmp_path / 'page.html', scored(f'a{character}🎉b'.encode()), pieces=[character.encode()] * 256)
  (packed, text), = re.findall(r'data-units="([^"]*)">(.*?)</div>', written)
  assert text == 'a\u2426🎉b' and character not in written
  assert decoded(packed, '<u2')[1].tolist() == [1, 1, 2, 1]  # lengths are those of what is shown
  data = json.loads(re.search(r'id="data">(.*?)</script>', written, re.DOTALL)[1])
  assert set(data['pieces'].values()) == {'\u2426'}


def test_a_page_that_is_too_long_or_left_early_is_not_there(tmp_path, monkeypatch):
  monkeypatch.setattr(page, 'MOST_BYTES', 100)
  with pytest.raises(UserError, match=r'--html=.*at most 100 bytes'):
    write(tmp_path / 'page.html', scored(b'a' * 60), scored(b'b' * 60))
  assert not [*tmp_path.iterdir()]
  texts = page.written(str(tmp_path / 'page.html'), iter([scored(b'a')] * 2), BYTES)
  next(texts)
  texts.close()
  assert not [*tmp_path.iterdir()]


def test_a_page_of_a_megabyte_is_no_larger_than_thirty(tmp_path):
  write(tmp_path / 'page.html', scored(b'It was the best of times,\n' * 38462))
  assert (tmp_path / 'page.html').stat().st_size < 30e6


# In a browser.


@pytest.fixture(scope='module')
def window():
  if browser.MISSING:
    pytest.skip(f'no {" and no ".join(browser.MISSING)}; on Debian: apt install chromium chromium-driver')
  with browser.browser() as one:
    yield one


def until(window, script):
  """Waits until a script returns something, and returns it."""
  end = time.monotonic() + 30
  while not (found := window.run(f'return {script}')):
    assert time.monotonic() < end, script
    time.sleep(0.05)
  return found


LEVELS = [0.5, 1, 2, 3, 4, 6, 8, 12]


def test_a_browser_colours_each_unit_by_its_bits(tmp_path, window):
  span = scored(('Ein Satz über 世界 🎉\n' * 30).encode())
  write(tmp_path / 'page.html', span)
  window.open(tmp_path / 'page.html')
  units = surprise.units(span)
  until(window, f'document.querySelectorAll(".block > span").length === {len(units.ends)}')
  classes = window.run('return [...document.querySelectorAll(".block > span")].map(s => s.className)')
  rounded = np.round(units.bits * page.SCALE) / page.SCALE
  assert [int(name[1]) for name in classes] == np.searchsorted(LEVELS, rounded, side='right').tolist()
  assert window.run('return document.getElementById("text").innerText').count('Satz über 世界 🎉') == 30
  colours = []
  for dark in False, True:
    window.dark(dark)
    colours.append(window.run('''return [...document.querySelectorAll("#legend li")].map(li => {
      const style = getComputedStyle(li);
      return [style.backgroundColor, style.color].map(c => c.match(/[0-9]+/g).map(Number));
    })'''))
  window.dark(False)
  for pairs, rising in zip(colours, (False, True), strict=True):
    lights = [luminance(background) for background, _ in pairs]
    assert lights == sorted(lights, reverse=not rising)  # so that they differ without hues
    assert all(contrast(background, ink) >= 4.5 for background, ink in pairs)
  assert not window.messages()


def luminance(colour):
  """That of WCAG 2: red, green, blue of 0 to 255 -> 0 to 1."""
  parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055)**2.4 for c in colour]
  return float(np.dot([0.2126, 0.7152, 0.0722], parts))


def contrast(one, other):
  light, dark = sorted([luminance(one), luminance(other)], reverse=True)
  return (light + 0.05) / (dark + 0.05)


def test_keys_and_pointer_show_what_the_model_expected(tmp_path, window):
  span = scored(b'abcdefghij\nklmnop\n' * 200)
  span.scores.nats[:] = 0.1
  span.scores.nats[[7, 3000]] = 5.0
  write(tmp_path / 'page.html', span)
  window.open(tmp_path / 'page.html')
  until(window, 'document.querySelector(".block > span")')
  window.press('Tab', 'Tab')
  assert until(window, 'document.activeElement.id') == 'text'

  def told():
    return window.run('return document.getElementById("told").textContent')

  window.press('n')
  assert told().startswith('h (U+0068): 7.21 bits, 0.7%. Expected: ')
  for guess, nats in zip(span.scores.guesses[7], span.scores.guess_nats[7], strict=True):
    assert window.run('return document.getElementById("panel").textContent').count(page._seen(BYTES[guess]))
    assert f'{100 * np.exp(-nats):.0f}%' in told() or nats > 2
  for key, wanted in [('ArrowRight', 'i (U+0069): 0.14 bits, 90%'), ('ArrowLeft', 'h ('), ('ArrowLeft', 'g ('),
                      ('n', 'h (')]:
    window.press(key)
    assert told().startswith(wanted), key
  for key, line in [('ArrowDown', range(11, 18)), ('ArrowDown', range(18, 29)), ('ArrowUp', range(11, 18)),
                    ('ArrowUp', range(11))]:
    window.press(key)
    assert window.run('return document.querySelector("span.here").unit') in line, key
  window.press('n', 'n')
  assert window.run('return document.querySelector("span.here").parentNode.index') > 0
  assert window.run('const b = document.querySelector("span.here").getBoundingClientRect();'
                    'return b.top >= 0 && b.bottom <= innerHeight')
  window.press('p')
  assert told().startswith('h (')
  box = window.run('scrollTo(0, 0); const b = document.querySelectorAll(".block > span")[4].getBoundingClientRect();'
                   'return [b.left + b.width / 2, b.top + b.height / 2]')
  window.point(*box)
  assert until(window, 'document.querySelector("span.here").textContent === "e" && document.getElementById("panel")'
                       '.textContent').startswith('e (U+0065): 0.14 bits')
  assert not window.messages()


def test_the_plot_leads_to_its_place(tmp_path, window):
  write(tmp_path / 'page.html', scored(b'one line\n' * 2000, 'one.txt'), scored(b'another\n' * 500, 'two.txt'))
  window.open(tmp_path / 'page.html')
  assert window.run('return [...document.querySelectorAll("h2")].map(h => h.textContent)') == ['one.txt', 'two.txt']
  assert window.run('return document.querySelectorAll("#plot .start").length') == 1
  window.run('const p = document.getElementById("place"); p.value = 900; p.dispatchEvent(new Event("input"))')
  assert until(window, 'document.querySelector("span.here").closest("section").textContent.slice(0, 7)') == 'two.txt'
  assert 680 < float(window.run('return document.querySelector("#plot .here").getAttribute("x1")')) <= 720


def test_nothing_in_a_text_runs(tmp_path, window):
  text = HOSTILE.encode('utf-8', 'surrogatepass')
  write(tmp_path / 'page.html', scored(text, '<script>document.title="bad"</script>'), pieces=[text] * 256)
  window.open(tmp_path / 'page.html')
  count = len(surprise.units(scored(text)).ends)
  until(window, f'document.querySelectorAll(".block > span").length === {count}')
  window.press('Tab', 'Tab', 'ArrowRight', 'n')
  assert window.run('return [document.title, document.querySelectorAll("script").length, document.images.length]') == [
    'Surprise', 2, 0]
  assert not window.messages()
  window.run('const own = document.createElement("script"); own.textContent = "document.title = 1";'
             'document.body.append(own)')
  assert window.run('return document.title') == 'Surprise' and 'Content Security Policy' in window.messages()[0]


def test_a_long_page_is_there_at_once_and_scrolls(tmp_path, window):
  """Times no task, as machines differ; but what a frame costs follows from what is in sight, not from the page."""
  write(tmp_path / 'page.html', scored(b'It was the best of times, it was\n' * 30303))
  window.open(tmp_path / 'page.html')
  until(window, 'document.querySelector(".block > span")')
  height = window.run('return document.documentElement.scrollHeight')
  for share in 0.3, 0.9, 0.1, 0.6:
    window.run(f'scrollTo(0, {share * height})')
    until(window, 'document.elementFromPoint(300, 400).closest(".block > span")')
  spans = window.run('return document.querySelectorAll(".block > span").length')
  assert spans < 20000, 'blocks that were left are not plain text again'
  assert not window.messages()
