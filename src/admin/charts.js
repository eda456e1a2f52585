// The dashboard's charts: each draws itself anew into `box`, at the width that the box has.

function clock(seconds) { // 75 -> 1:15
  const whole = Math.max(0, Math.floor(Number(seconds) || 0));
  const two = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return (hours ? hours + ':' + two(minutes) : minutes) + ':' + two(whole % 60);
}
function clockSteps(from, to, wanted) {
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400]
    .find((s) => (to - from) / s <= wanted) || (to - from) / wanted;
  const marks = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) marks.push(t);
  return marks;
}

// Runs of samples that have a value: a missing one leaves a gap.
function runs(samples, key) {
  const all = [[]];
  for (const sample of samples) {
    if (sample[key] === null) { if (all.at(-1).length) all.push([]); } else all.at(-1).push(sample);
  }
  return all.filter((run) => run.length);
}

// lines: [{key, kind, label}], samples: [{t, key: number or null}], marks: times of folds.
function lineChart(box, what, samples, lines, marks) {
  const {svg, width, height} = canvas(box, 220, what);
  const left = 46, right = 58, top = 12, bottom = 24;
  const from = samples[0].t, to = Math.max(samples.at(-1).t, from + 1);
  const most = Math.max(1, ...samples.flatMap((s) => lines.map((l) => s[l.key] || 0)));
  const ticks = steps(most, 4), peak = ticks.at(-1);
  const x = (t) => left + (width - left - right) * (t - from) / (to - from);
  const y = (v) => height - bottom - (height - top - bottom) * v / peak;

  for (const tick of ticks) {
    draw(svg, 'line', {class: 'grid', x1: left, x2: width - right, y1: y(tick), y2: y(tick)});
    draw(svg, 'text', {x: left - 8, y: y(tick) + 4, 'text-anchor': 'end'}, tickText(tick));
  }
  for (const t of clockSteps(from, to, Math.max(2, Math.floor((width - left - right) / 75))))
    draw(svg, 'text', {x: x(t), y: height - 5, 'text-anchor': 'middle'}, clock(t));
  const seen = marks.filter((t) => t >= from && t <= to), ink = Math.max(0.3, Math.min(0.9, 12 / seen.length));
  for (const t of seen) // many folds must not hide the lines
    draw(svg, 'line', {class: 'mark', x1: x(t), x2: x(t), y1: top, y2: height - bottom, opacity: ink.toFixed(2)});

  const ends = [];
  for (const line of lines) {
    for (const run of runs(samples, line.key)) {
      const points = run.map((s) => `${x(s.t).toFixed(1)},${y(s[line.key]).toFixed(1)}`);
      if (line.area) draw(svg, 'polygon', {class: 'area ' + line.kind, points:
        [`${x(run[0].t).toFixed(1)},${y(0)}`, ...points, `${x(run.at(-1).t).toFixed(1)},${y(0)}`].join(' ')});
      if (run.length > 1) draw(svg, 'polyline', {class: 'series ' + line.kind, points: points.join(' ')});
      else draw(svg, 'circle', {class: 'end ' + line.kind, cx: x(run[0].t), cy: y(run[0][line.key]), r: 3});
    }
    const last = samples.findLast((s) => s[line.key] !== null);
    if (last) ends.push({line, t: last.t, value: last[line.key], at: y(last[line.key])});
  }
  ends.sort((a, b) => a.at - b.at); // labels at the line ends, pushed apart where they would touch
  let above = -Infinity;
  for (const end of ends) {
    draw(svg, 'circle', {class: 'end ' + end.line.kind, cx: x(end.t), cy: end.at, r: 4});
    above = Math.max(end.at + 4, above + 15);
    draw(svg, 'text', {class: 'label ' + end.line.kind, x: width - right + 10, y: above}, end.line.label(end.value));
  }
}

// kept: {from, to, layers: a list a layer of the share of each bin's positions that it kept}.
function keptMap(box, kept) {
  const bins = Math.max(1, ...kept.layers.map((shares) => shares.length));
  const peak = Math.min(1, steps(Math.max(0.01, ...kept.layers.flat()), 1).at(-1));
  const position = (bin) => Math.round(kept.from + (kept.to - kept.from) * bin / bins);
  heatMap(box, {
    what: 'Share kept, by layer and position', peak,
    rows: kept.layers.map((values, name) => ({name, values})),
    tip: (row, bin, share) => `layer ${row.name}, positions ${position(bin)} to ${position(bin + 1)}: ${percent(share)} kept`,
    ticks: [0, 1, 2, 3, 4].map((i) => grouped(position(bins * i / 4))),
    axis: 'position', scale: 'share kept', most: percent(peak),
  });
}

// Decode speed before and after each fold: two dots and a rod.
function gainChart(box, folds) {
  const row = 30, {svg, width, height} = canvas(box, folds.length * row + 26, 'Decode speed before and after each fold');
  const left = 64, right = 62;
  const ticks = steps(Math.max(...folds.map((f) => Math.max(f.decode_before_tok_s, f.decode_after_tok_s))), 4);
  const x = (v) => left + (width - left - right) * v / ticks.at(-1);
  for (const tick of ticks) {
    draw(svg, 'line', {class: 'grid', x1: x(tick), x2: x(tick), y1: 4, y2: height - 24});
    draw(svg, 'text', {x: x(tick), y: height - 5, 'text-anchor': 'middle'}, tickText(tick));
  }
  folds.forEach((fold, i) => {
    const y = i * row + row / 2 + 4, before = fold.decode_before_tok_s, after = fold.decode_after_tok_s;
    const change = Math.round(100 * (after / before - 1));
    draw(svg, 'text', {x: 0, y: y + 4}, 'at ' + clock(fold.t));
    draw(svg, 'line', {class: 'rod', x1: x(before), x2: x(after), y1: y, y2: y});
    draw(svg, 'circle', {class: 'hollow', cx: x(before), cy: y, r: 4.5});
    draw(svg, 'circle', {class: 'end gain live', cx: x(after), cy: y, r: 6});
    draw(svg, 'text', {class: 'strong', x: width, y: y + 4, 'text-anchor': 'end'}, (change < 0 ? MINUS : '+') + Math.abs(change) + '%');
  });
}
