'use strict';
// What the pages share: numbers as text, elements, SVG. Text only ever goes in as text.

const THIN = '\u202f', TIMES = '\u00d7', DASH = '\u2013', ARROW = '\u2192', MINUS = '\u2212';

function grouped(number) { // 12345 -> 12 345
  const text = String(Math.round(Number(number) || 0));
  return text.replace(/\B(?=(\d{3})+$)/g, THIN);
}
function fixed(number, digits) { return (Number(number) || 0).toFixed(digits); }
function percent(share) { return fixed(100 * share, share < 0.0995 && share > 0 ? 1 : 0) + '%'; }
const tickText = (value) => Number.isInteger(value) ? grouped(value) : fixed(value, 1);

const by = (id) => document.getElementById(id);
const show = (id, visible) => { by(id).hidden = !visible; };
function make(parent, name, kind, text) {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function draw(parent, name, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}
// An empty picture in `box`, as wide as the box.
function canvas(box, height, what) {
  const width = Math.max(240, box.clientWidth);
  box.replaceChildren();
  const svg = draw(box, 'svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': what});
  return {svg, width, height};
}

// Round steps that cut [0, most] in about `wanted` parts.
function steps(most, wanted) {
  const rough = Math.max(most, 1e-9) / wanted, power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= rough) * power;
  const marks = [];
  for (let i = 0; i * step < most + step * 0.999; ++i) marks.push(i * step);
  return marks;
}

// map: {what, rows: [{name, values}], peak: the value of the darkest cell, tip(row, bin, value): its words,
// ticks: five words along the bottom, axis: what they count, scale: what the shades say, most: the peak in words}.
function heatMap(box, map) {
  const {rows, peak} = map, bins = Math.max(1, ...rows.map((row) => row.values.length));
  const left = 46, right = 12, top = 4, bottom = 64;
  const rowHeight = Math.max(5, Math.min(14, 210 / rows.length));
  const {svg, width, height} = canvas(box, top + bottom + rowHeight * rows.length, map.what);
  const floor = height - bottom, inner = width - left - right, cell = inner / bins;

  draw(svg, 'rect', {class: 'ground', x: left, y: top, width: inner, height: floor - top});
  rows.forEach((row, i) => row.values.forEach((value, bin) => {
    const rect = draw(svg, 'rect', {class: 'cell', x: (left + bin * cell).toFixed(2), y: (top + i * rowHeight).toFixed(2),
      width: Math.max(1, cell - 0.5).toFixed(2), height: (rowHeight - 0.5).toFixed(2), 'fill-opacity': Math.min(1, value / peak).toFixed(3)});
    draw(rect, 'title', {}, map.tip(row, bin, value));
  }));

  const every = Math.ceil(steps(Math.max(1, rows.length - 1), 6)[1]);
  for (let i = 0; i < rows.length; i += every)
    draw(svg, 'text', {x: left - 8, y: top + (i + 0.5) * rowHeight + 4, 'text-anchor': 'end'}, rows[i].name);
  draw(svg, 'text', {x: 11, y: (top + floor) / 2, 'text-anchor': 'middle', transform: `rotate(-90 11 ${(top + floor) / 2})`}, 'layer');
  map.ticks.forEach((text, i) =>
    draw(svg, 'text', {x: left + i * inner / 4, y: floor + 17, 'text-anchor': ['start', 'middle', 'middle', 'middle', 'end'][i]}, text));
  draw(svg, 'text', {x: left + inner / 2, y: floor + 34, 'text-anchor': 'middle'}, map.axis);
  shades(svg, width - right, height, map);
}

// The key of a heat map, its right end at (right, bottom).
function shades(svg, right, bottom, map) {
  const scale = 120, left = right - scale - 38;
  draw(svg, 'text', {x: left - 30, y: bottom - 4, 'text-anchor': 'end'}, map.scale);
  draw(svg, 'text', {x: left - 8, y: bottom - 4, 'text-anchor': 'end'}, '0');
  draw(svg, 'rect', {class: 'ground', x: left, y: bottom - 14, width: scale, height: 10});
  for (let i = 0; i < 12; ++i)
    draw(svg, 'rect', {class: 'shade', x: left + i * scale / 12, y: bottom - 14, width: scale / 12, height: 10, 'fill-opacity': (i + 0.5) / 12});
  draw(svg, 'text', {x: right, y: bottom - 4, 'text-anchor': 'end'}, map.most);
}
