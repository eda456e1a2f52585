// Plots of series over two axes, drawn anew into `box` at the width that the box has. Our own SVG: a library (Observable
// Plot with D3) would put 490 kB into every report, ten times the page, and npm into the build.
//
// plot: {what: words for the picture, x and y: {name, scale}, labels: 'end' (a name at each line's end) or 'near' (names
//   and notes beside points alone), dodge: whether series step aside for each other, levels: [{name, value}] of y, series}
// series: [{name, style: {hue, shape, dash, hollow}, line: whether points are joined,
//   points: [{x, y: number or null, low, high: the spread if there is one, tip: words, name and note: words beside the
//   point, the name always, the note where there is room}]}]

// --- scales: (values, from, to in pixels) -> {at(value), ticks: [{value, text}]} ---

function mapping(low, high, from, to, transform) {
  const begin = transform(low), end = transform(high);
  return (value) => from + (to - from) * (transform(Math.min(high, Math.max(low, value))) - begin) / (end - begin);
}

// The nearest of 1, 2, 5, 10, 20, ... below or above.
function roundDown(value) {
  const power = Math.pow(10, Math.floor(Math.log10(value) + 1e-9));
  return [5, 2, 1].find((m) => m * power <= value * 1.000001) * power;
}
function roundUp(value) {
  const power = Math.pow(10, Math.floor(Math.log10(value) + 1e-9));
  return [1, 2, 5, 10].find((m) => m * power >= value * 0.999999) * power;
}

// What is not positive lies on the axis's lower end.
function logScale(values, from, to) {
  const positive = values.filter((v) => v > 0);
  const low = roundDown(positive.length ? Math.min(...positive) : 0.1);
  const high = Math.max(roundUp(Math.max(0, ...positive) || 1), low * 2);
  const room = Math.abs(to - from) / Math.log10(high / low), wanted = from < to ? 136 : 54; // pixels of a power of ten; words are wider than high
  const digits = room > wanted ? [1, 2, 5] : [1], ticks = [];
  for (let power = Math.pow(10, Math.floor(Math.log10(low) + 1e-9)); power <= high * 1.000001; power *= 10)
    for (const m of digits) if (m * power >= low * 0.999999 && m * power <= high * 1.000001) ticks.push(m * power);
  return {at: mapping(low, high, from, to, Math.log), ticks: ticks.map((value) => ({value, text: String(Number(value.toPrecision(1)))}))};
}

// A tick at each ratio that has room.
function ratioScale(values, from, to) {
  const least = Math.min(...values), most = Math.max(...values), pad = least < most ? Math.pow(most / least, 0.05) : 1.5;
  const at = mapping(least / pad, most * pad, from, to, Math.log), ticks = [];
  for (const value of [...new Set(values)].sort((a, b) => b - a)) // whole ratios are asked for, others come out of cache types
    if (Number.isInteger(value) && !ticks.some((tick) => Math.abs(at(tick.value) - at(value)) < 26))
      ticks.push({value, text: value + TIMES});
  return {at, ticks};
}

// From `least` on, to a round number.
function linearFrom(least, text = tickText) {
  return (values, from, to) => {
    const marks = steps(Math.max(...values, least + 1e-6) - least, Math.abs(to - from) < 300 ? 4 : 6).map((v) => v + least);
    return {at: mapping(least, marks.at(-1), from, to, (v) => v), ticks: marks.map((value) => ({value, text: text(value)}))};
  };
}
const shortNumber = (value) => String(Number(value.toPrecision(3)));

// Whole numbers only, and no room beyond the last.
function countScale(values, from, to) {
  const least = Math.min(...values), most = Math.max(...values, least + 1), step = Math.ceil(steps(most - least, 8)[1]), ticks = [];
  for (let value = least; value <= most; value += step) ticks.push({value, text: String(value)});
  return {at: mapping(least, most, from, to, (v) => v), ticks};
}

function shareScale(values, from, to) {
  return {at: mapping(0, 1, from, to, (v) => v), ticks: [0, 0.25, 0.5, 0.75, 1].map((value) => ({value, text: percent(value)}))};
}

// --- marks ---

// Outlines around (0, 0); all look equally large.
function outline(shape, r) {
  const polygon = (...points) => 'M' + points.map(([x, y]) => `${(x * r).toFixed(2)} ${(y * r).toFixed(2)}`).join('L') + 'Z';
  switch (shape) {
    case 'square': return polygon([-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]);
    case 'diamond': return polygon([0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]);
    case 'up': return polygon([0, -1.2], [1.15, 0.85], [-1.15, 0.85]);
    case 'down': return polygon([0, 1.2], [1.15, -0.85], [-1.15, -0.85]);
    case 'cross': return polygon([-0.35, -1.15], [0.35, -1.15], [0.35, -0.35], [1.15, -0.35], [1.15, 0.35], [0.35, 0.35],
      [0.35, 1.15], [-0.35, 1.15], [-0.35, 0.35], [-1.15, 0.35], [-1.15, -0.35], [-0.35, -0.35]);
    default: return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }
}
function marker(parent, style, x, y, r, tip) {
  const kind = `point hue-${style.hue}${style.hollow ? ' hollow' : ''}${r < 3 ? ' small' : ''}`;
  const node = draw(parent, 'path', {class: kind, d: outline(style.shape, r), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`});
  if (tip) draw(node, 'title', {}, tip);
}

// Runs of points that have a value: a missing one leaves a gap.
function unbroken(points) {
  const all = [[]];
  for (const point of points) {
    if (point.y === null) { if (all.at(-1).length) all.push([]); } else all.at(-1).push(point);
  }
  return all.filter((run) => run.length);
}

function drawSeries(svg, one, x, y, aside) {
  const known = unbroken(one.points), r = one.points.length > 16 ? 2 : 4, at = (point) => x.at(point.x) + aside;
  if (one.line) for (const run of known) draw(svg, 'polyline', {class: 'series hue-' + one.style.hue, 'stroke-dasharray': one.style.dash,
    points: run.map((point) => `${at(point).toFixed(1)},${y.at(point.y).toFixed(1)}`).join(' ')});
  for (const point of known.flat()) {
    if (point.low < point.high)
      draw(svg, 'line', {class: 'spread hue-' + one.style.hue, x1: at(point), x2: at(point), y1: y.at(point.low), y2: y.at(point.high)});
    if (!one.bare) marker(svg, one.style, at(point), y.at(point.y), r, point.tip);
  }
}

// --- words beside marks ---

const ruler = document.createElement('canvas').getContext('2d');
function widthOf(text) { // as a name is written, the widest kind of text
  ruler.font = '600 12px ' + getComputedStyle(document.body).fontFamily;
  return ruler.measureText(text).width;
}

// Names behind the lines' ends, pushed apart where they would touch, back up from the bottom where they would leave it.
function endLabels(svg, area, ends) {
  const step = 14;
  ends.sort((a, b) => a.y - b.y);
  let above = -Infinity;
  for (const end of ends) above = end.at = Math.max(end.y, above + step);
  let below = area.bottom + step;
  for (const end of ends.toReversed()) below = end.at = Math.min(end.at, below - step);
  for (const end of ends) {
    if (Math.abs(end.at - end.y) > 3) draw(svg, 'polyline', {class: 'leader', points:
      `${end.x + 6},${end.y} ${area.right + 4},${end.y} ${area.right + 12},${end.at}`});
    draw(svg, 'text', {class: end.kind, x: area.right + 15, y: end.at + 4}, end.text);
  }
}

// Each note beside its point, where it covers neither a mark (`marks`: [{x, y}]) nor another note; those without room
// stay away unless they must be there.
function nearLabels(svg, area, notes, marks) {
  const taken = marks.map(({x, y}) => ({left: x - 3, right: x + 3, top: y - 3, bottom: y + 3}));
  const touches = (a) => a.left < area.left + 2 || a.right > area.outer || a.top < 0 || a.bottom > area.bottom ||
    taken.some((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom);
  const near = [[9, 4, 'start'], [-9, 4, 'end'], [0, -8, 'middle'], [0, 17, 'middle'],
    [9, -6, 'start'], [9, 14, 'start'], [-9, -6, 'end'], [-9, 14, 'end']];
  const far = [[0, -20, 'middle'], [0, 29, 'middle'], [9, -18, 'start'], [9, 26, 'start'], [-9, -18, 'end'], [-9, 26, 'end']];
  for (const note of notes) {
    const wide = widthOf(note.text), boxAt = ([dx, dy, anchor]) => {
      const left = note.x + dx - (anchor === 'start' ? 0 : anchor === 'end' ? wide : wide / 2);
      return {left, right: left + wide, top: note.y + dy - 11, bottom: note.y + dy + 2};
    };
    const place = [...near, ...(note.must ? far : [])].find((p) => !touches(boxAt(p))) || (note.must && near[0]);
    if (!place) continue;
    taken.push(boxAt(place));
    draw(svg, 'text', {class: note.kind, x: note.x + place[0], y: note.y + place[1], 'text-anchor': place[2]}, note.text);
  }
}

// --- the plot ---

// Places that lines and points cover, a line every few pixels.
function covered(points) {
  return points.flatMap((point, i) => {
    const next = points[i + 1] || point, parts = Math.ceil(Math.hypot(next.x - point.x, next.y - point.y) / 5) || 1;
    return Array.from({length: parts}, (_, k) => ({
      x: point.x + (next.x - point.x) * k / parts, y: point.y + (next.y - point.y) * k / parts}));
  });
}

function axes(svg, area, plot, x, y) {
  for (const {value, text} of y.ticks) {
    draw(svg, 'line', {class: 'grid', x1: area.left, x2: area.right, y1: y.at(value), y2: y.at(value)});
    draw(svg, 'text', {x: area.left - 8, y: y.at(value) + 4, 'text-anchor': 'end'}, text);
  }
  draw(svg, 'line', {class: 'axis', x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom});
  for (const {value, text} of x.ticks) {
    draw(svg, 'line', {class: 'axis', x1: x.at(value), x2: x.at(value), y1: area.bottom, y2: area.bottom + 4});
    draw(svg, 'text', {x: x.at(value), y: area.bottom + 17, 'text-anchor': 'middle'}, text);
  }
  draw(svg, 'text', {x: 0, y: 12}, plot.y.name);
  draw(svg, 'text', {x: (area.left + area.right) / 2, y: area.bottom + 33, 'text-anchor': 'middle'}, plot.x.name);
}

function drawPlot(box, plot) {
  const {svg, width, height} = canvas(box, 280, plot.what), levels = plot.levels || [];
  const names = [...plot.series.filter((one) => one.line), ...levels].map((one) => widthOf(one.name));
  const margin = plot.labels === 'end' ? Math.max(...names, 0) + 18 : 14;
  const area = {left: 46, right: width - margin, outer: width, top: 28, bottom: height - 40};
  const points = plot.series.flatMap((one) => one.points).filter((point) => point.y !== null);
  const x = plot.x.scale(points.map((point) => point.x), area.left + 12, area.right - 12);
  const y = plot.y.scale([...points.flatMap((point) => [point.y, point.low, point.high]), ...levels.map((level) => level.value)]
    .filter(Number.isFinite), area.bottom, area.top);
  axes(svg, area, plot, x, y);
  for (const level of levels)
    draw(svg, 'line', {class: 'level', x1: area.left, x2: area.right, y1: y.at(level.value), y2: y.at(level.value)});

  const aside = (i) => plot.dodge ? 3 * (i - (plot.series.length - 1) / 2) : 0;
  plot.series.forEach((one, i) => drawSeries(svg, one, x, y, aside(i)));
  const ends = levels.map((level) => ({x: area.right, y: y.at(level.value), text: level.name, kind: ''})), notes = [];
  plot.series.forEach((one, i) => {
    const last = one.points.findLast((point) => point.y !== null), kind = 'label hue-' + one.style.hue;
    if (one.line && last) ends.push({x: x.at(last.x) + aside(i), y: y.at(last.y), text: one.name, kind});
    for (const point of one.points.filter((p) => p.y !== null)) {
      const at = {x: x.at(point.x) + aside(i), y: y.at(point.y)};
      if (point.name) notes.push({...at, text: point.name, must: true, kind});
      if (point.note) notes.push({...at, text: point.note, must: false, kind: ''});
    }
  });
  if (plot.labels === 'end') endLabels(svg, area, ends);
  const lines = plot.series.map((one, i) => one.points.filter((point) => point.y !== null)
    .map((point) => ({x: x.at(point.x) + aside(i), y: y.at(point.y)})));
  nearLabels(svg, area, notes.sort((a, b) => Number(b.must) - Number(a.must)), lines.flatMap(covered));
}

// What is known of each at one point only: a row each, its value along the bottom.
// dots: {what, x: {name, scale}, levels: [{name, value}] of x, rows: [{name, style, value, low, high, tip}]}
function drawDots(box, dots) {
  const step = 26, rows = dots.rows.filter((row) => row.value !== null), levels = dots.levels || [];
  const {svg, width, height} = canvas(box, rows.length * step + 62, dots.what);
  const area = {left: Math.max(...rows.map((row) => widthOf(row.name))) + 14, right: width - 14, top: 20, bottom: height - 40};
  const x = dots.x.scale([...rows.flatMap((row) => [row.value, row.low, row.high]), ...levels.map((level) => level.value)]
    .filter(Number.isFinite), area.left + 12, area.right - 12);
  for (const {value, text} of x.ticks) {
    draw(svg, 'line', {class: 'grid', x1: x.at(value), x2: x.at(value), y1: area.top, y2: area.bottom});
    draw(svg, 'text', {x: x.at(value), y: area.bottom + 17, 'text-anchor': 'middle'}, text);
  }
  draw(svg, 'text', {x: (area.left + area.right) / 2, y: area.bottom + 33, 'text-anchor': 'middle'}, dots.x.name);
  for (const {name, value} of levels) {
    draw(svg, 'line', {class: 'level', x1: x.at(value), x2: x.at(value), y1: area.top, y2: area.bottom});
    draw(svg, 'text', {x: x.at(value), y: area.top - 6, 'text-anchor': x.at(value) < area.left + 40 ? 'start' : 'middle'}, name);
  }
  rows.forEach((row, i) => {
    const y = area.top + (i + 0.5) * step;
    draw(svg, 'text', {class: 'label hue-' + row.style.hue, x: 0, y: y + 4}, row.name);
    if (row.low < row.high) draw(svg, 'line', {class: 'spread hue-' + row.style.hue, x1: x.at(row.low), x2: x.at(row.high), y1: y, y2: y});
    marker(svg, row.style, x.at(row.value), y, 4.5, row.tip);
  });
}
