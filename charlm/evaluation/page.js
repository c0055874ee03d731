'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const LEVELS = [0.5, 1, 2, 3, 4, 6, 8, 12];  // bits from which levels 1 to 8 count
  const SURPRISE = 4, BUDGET = 6;  // bits; milliseconds of a frame
  const GUESSES = data.guesses, ID = data.wide ? 4 : 2, UNIT = GUESSES * (ID + 2) + 4;  // bytes
  const SVG = 'http://www.w3.org/2000/svg';
  const text = document.getElementById('text'), panel = document.getElementById('panel');
  const plot = document.getElementById('plot'), place = document.getElementById('place');
  const blocks = [...text.querySelectorAll('.block')];
  const units = blocks.map(block => {  // how many each has
    const packed = block.dataset.units;
    return (packed.length / 4 * 3 - (packed.endsWith('==') ? 2 : packed.endsWith('=') ? 1 : 0)) / UNIT;
  });
  const before = [0];  // units before each block
  units.forEach(n => before.push(before[before.length - 1] + n));
  const total = before[blocks.length];
  blocks.forEach((block, i) => { block.index = i; });

  // What data-units says; see page.py.
  function decode(i) {
    const packed = atob(blocks[i].dataset.units), bytes = new Uint8Array(packed.length), n = units[i];
    for (let k = 0; k < packed.length; k++) bytes[k] = packed.charCodeAt(k);
    const numbers = (at, count) => new Uint16Array(bytes.buffer, at, count);
    const ids = data.wide ? new Uint32Array(bytes.buffer, 0, n * GUESSES) : numbers(0, n * GUESSES);
    const at = n * GUESSES * ID;
    return {ids, lengths: numbers(at, n), bits: numbers(at + 2 * n, n), guessBits: numbers(at + 4 * n, n * GUESSES)};
  }

  function level(bits) {
    let found = 0;
    while (found < LEVELS.length && bits >= LEVELS[found]) found++;
    return found;
  }

  function element(tag, className, content) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (content !== undefined) made.textContent = content;
    return made;
  }

  // Colours: a span for each unit of the blocks that are near. Others are plain text again.
  const waiting = new Set();
  let drawing = false;

  function colour(i) {
    waiting.delete(i);
    const block = blocks[i];
    if (block.firstElementChild) return;
    const found = decode(i), whole = block.textContent, parts = document.createDocumentFragment();
    let at = 0;
    for (let k = 0; k < units[i]; k++) {
      const piece = whole.slice(at, at += found.lengths[k]), b = level(found.bits[k] / data.scale);
      const span = element('span', piece.endsWith('\n') ? `b${b} end` : `b${b}`, piece);
      span.unit = k;
      parts.append(span);
    }
    block.replaceChildren(parts);
    if (current && current.block === i) block.children[current.unit].classList.add('here');
  }

  function plain(i) {
    waiting.delete(i);
    if (blocks[i].firstElementChild) blocks[i].textContent = blocks[i].textContent;
  }

  function draw() {
    const end = performance.now() + BUDGET;
    for (const i of waiting) {
      colour(i);
      if (performance.now() > end) break;
    }
    drawing = waiting.size > 0;
    if (drawing) requestAnimationFrame(draw);
  }

  const near = new IntersectionObserver(entries => {
    for (const entry of entries) {
      if (entry.isIntersecting) waiting.add(entry.target.index);
      else plain(entry.target.index);
    }
    if (waiting.size && !drawing) {
      drawing = true;
      requestAnimationFrame(draw);
    }
  }, {rootMargin: '300px 0px'});
  const inView = new Set();  // kept so, because to ask for places makes the browser lay out what has just changed
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) inView[entry.isIntersecting ? 'add' : 'delete'](entry.target.index);
    if (document.activeElement !== place) mark(before[firstInView()] / Math.max(1, total));
  }, {rootMargin: '-60px 0px 0px'});
  const parts = new IntersectionObserver(entries => {
    for (const entry of entries) {
      for (const block of entry.target.children) {
        for (const observer of [near, seen]) observer[entry.isIntersecting ? 'observe' : 'unobserve'](block);
        if (!entry.isIntersecting) {
          plain(block.index);
          inView.delete(block.index);
        }
      }
    }
  }, {rootMargin: '600px 0px'});
  text.querySelectorAll('.part').forEach(part => parts.observe(part));

  function firstInView() { return inView.size ? Math.min(...inView) : 0; }

  // The unit that is looked at.
  let current = null;

  function spanOf(at) { return at && blocks[at.block].children[at.unit]; }

  function percent(bits) {
    const share = 100 * 2 ** -bits;
    return share >= 10 ? `${share.toFixed(0)}%` : share >= 0.1 ? `${share.toFixed(1)}%` : `1 in ${
      Math.round(2 ** bits).toLocaleString('en')}`;
  }

  function named(piece) {
    const seen = piece.replace(/ /g, '␣').replace(/\t/g, '␉').replace(/\n/g, '␤');
    const symbol = /[\u2400-\u2426\ufffd]/.test(piece);  // it stands for another, which is not shown
    const codes = [...piece].map(c => 'U+' + c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0'));
    return codes.length > 1 || symbol ? seen : `${seen} (${codes[0]})`;
  }

  function show(at, aloud) {
    const found = decode(at.block), bits = found.bits[at.unit] / data.scale;
    const title = `${named(spanOf(at).textContent)}: ${bits.toFixed(2)} bits, ${percent(bits)}`;
    const table = element('table'), guesses = [];
    for (let g = 0; g < GUESSES; g++) {
      const k = at.unit * GUESSES + g, piece = data.pieces[found.ids[k]], its = found.guessBits[k] / data.scale;
      const row = element('tr'), meter = element('meter'), cell = element('td');
      meter.value = 2 ** -its;
      cell.append(meter);
      row.append(element('td', '', piece), element('td', '', percent(its)), cell);
      table.append(row);
      guesses.push(`${piece} ${percent(its)}`);
    }
    panel.replaceChildren(element('p', '', title), element('p', '', 'What the model expected here:'), table);
    panel.hidden = false;
    if (aloud) document.getElementById('told').textContent = `${title}. Expected: ${guesses.join(', ')}`;
  }

  function go(at, byKeys) {
    spanOf(current)?.classList.remove('here');
    current = at;
    colour(at.block);
    spanOf(at).classList.add('here');
    show(at, byKeys);
    if (byKeys) {
      const box = spanOf(at).getBoundingClientRect();
      if (box.top < 60 || box.bottom > innerHeight - panel.offsetHeight - 20) spanOf(at).scrollIntoView({block: 'center'});
    }
  }

  function unitAt(x, y) {
    const span = document.elementFromPoint(x, y)?.closest('.block > span');
    return span && {block: span.parentNode.index, unit: span.unit};
  }

  // Moves.
  function beside(at, step) {
    const unit = at.unit + step;
    if (unit >= 0 && unit < units[at.block]) return {block: at.block, unit};
    const block = at.block + step;
    return blocks[block] ? {block, unit: step > 0 ? 0 : units[block] - 1} : null;
  }

  function surprising(at, step) {
    for (let block = at.block, unit = at.unit + step; blocks[block]; block += step) {
      const bits = decode(block).bits;
      if (block !== at.block) unit = step > 0 ? 0 : bits.length - 1;
      for (; unit >= 0 && unit < bits.length; unit += step) {
        if (bits[unit] >= SURPRISE * data.scale) return {block, unit};
      }
    }
    return null;
  }

  function aboveOrBelow(at, step) {
    const box = spanOf(at).getBoundingClientRect();
    for (let y = step > 0 ? box.bottom + 8 : box.top - 8, tries = 0; tries < 12; y += step * 8, tries++) {
      for (let x = box.left + 2; x > text.getBoundingClientRect().left - 8; x -= 8) {
        const found = unitAt(x, y);
        if (found && (found.block !== at.block || found.unit !== at.unit)) return found;
      }
    }
    return null;
  }

  const MOVES = {
    ArrowRight: at => beside(at, 1), ArrowLeft: at => beside(at, -1), n: at => surprising(at, 1),
    p: at => surprising(at, -1), ArrowDown: at => aboveOrBelow(at, 1), ArrowUp: at => aboveOrBelow(at, -1)};

  text.addEventListener('keydown', event => {
    const move = MOVES[event.key];
    if (!move || !total || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const start = {block: firstInView(), unit: 0};
    if (current) colour(current.block);
    const next = current ? move(current) : event.key === 'n' ? move({...start, unit: -1}) : start;
    if (next) go(next, true);
  });
  text.addEventListener('focus', () => {
    if (!current && total && text.matches(':focus-visible')) go({block: firstInView(), unit: 0}, true);
  });
  text.addEventListener('pointermove', event => {
    const at = unitAt(event.clientX, event.clientY);
    if (at && (!current || at.block !== current.block || at.unit !== current.unit)) go(at, false);
  });

  // Legend, plot, slider.
  [0, ...LEVELS].forEach((bits, i) => {
    const more = i === LEVELS.length ? ' bits or more' : '';
    document.getElementById('legend').append(element('li', `b${i}`, `${bits}${more}`));
  });

  function drawn(tag, className, attributes) {
    const made = document.createElementNS(SVG, tag);
    made.setAttribute('class', className);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    plot.append(made);
    return made;
  }

  const most = Math.max(1, ...data.plot), step = 800 / data.plot.length;
  const outline = data.plot.map((bits, i) => `V${100 - 100 * bits / most}H${(i + 1) * step}`).join('');
  drawn('path', 'area', {d: `M0 100${outline}V100Z`});
  data.starts.slice(1).forEach(x => drawn('line', 'start', {x1: 800 * x, x2: 800 * x, y1: 0, y2: 100}));
  const here = drawn('line', 'here', {x1: 0, x2: 0, y1: 0, y2: 100});
  document.getElementById('most').textContent = most.toFixed(1);

  function mark(share) {
    here.setAttribute('x1', 800 * share);
    here.setAttribute('x2', 800 * share);
    place.value = 1000 * share;
  }

  function scrollTo(share) {
    const wanted = Math.min(total - 1, Math.floor(share * total));
    let low = 0, high = blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (before[middle] <= wanted) low = middle;
      else high = middle - 1;
    }
    blocks[low].scrollIntoView({block: 'start'});
    colour(low);
    go({block: low, unit: wanted - before[low]}, true);
    mark(share);
  }

  place.addEventListener('input', () => scrollTo(place.value / 1000));
  plot.addEventListener('click', event => {
    const box = plot.getBoundingClientRect();
    scrollTo((event.clientX - box.left) / box.width);
  });
})();
