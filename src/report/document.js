// The document of `kvfold eval` as series of plots, heat maps and tables; nothing here touches the page.

const SHAPES = ['circle', 'square', 'up', 'diamond', 'down', 'cross'];
const DASHES = [undefined, '6 3', '2 3', '8 3 2 3'];
// A method looks the same in every report.
const LOOKS = {
  refine: {hue: 0, shape: 'circle'}, self_study: {hue: 1, shape: 'square'}, solver: {hue: 2, shape: 'up'},
  omp: {hue: 3, shape: 'diamond'}, select: {hue: 4, shape: 'down'}, context_prefill: {hue: 5, shape: 'cross'},
  generation: {hue: 6, shape: 'diamond'}, keep_last: {hue: 7, shape: 'square'}, keep_first: {hue: 8, shape: 'up'},
  keep_random: {hue: 9, shape: 'cross'}, full: {hue: 10, shape: 'circle'},
};
const KNOWN_HUES = 7; // those of methods that are no baselines

const number = (value) => Number.isFinite(value) ? value : null;
const distinct = (values) => [...new Set(values)];
function mean(values) { // of those that are known
  const known = values.map(number).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
const figureText = (value) => value === null || value === undefined ? DASH
  : value !== 0 && Math.abs(value) < 0.0001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
const nats = (value) => number(value) === null ? DASH
  : value !== 0 && Math.abs(value) < 0.00005 ? value.toExponential(1) : value.toFixed(4);
const ratioText = (ratio) => figureText(ratio) + TIMES;

// What the charts call the rows of one method in one cache; the first cache goes without saying.
class Naming {
  constructor(rows) {
    this.caches = distinct(rows.map((row) => row.cache));
    this.methods = distinct(rows.map((row) => row.method));
    this.strangers = this.methods.filter((method) => !LOOKS[method]);
  }
  name(row) {
    if (row.method === 'full') return 'full ' + row.cache;
    return row.cache === this.caches[0] ? row.method : `${row.method} ${row.cache}`;
  }
  style(row) {
    const stranger = this.strangers.indexOf(row.method), cache = Math.max(0, this.caches.indexOf(row.cache));
    const look = LOOKS[row.method] || {hue: stranger % KNOWN_HUES, shape: SHAPES[(stranger + 2) % SHAPES.length]};
    return {...look, dash: DASHES[cache % DASHES.length], hollow: cache > 0 || row.method === 'full'};
  }
}

// [{name, style, rows}], one a method and cache, in the order of the document.
function grouping(rows, naming) {
  const groups = new Map();
  for (const row of rows) {
    const name = naming.name(row);
    if (!groups.has(name)) groups.set(name, {name, style: naming.style(row), rows: []});
    groups.get(name).rows.push(row);
  }
  return [...groups.values()];
}

const klWords = (row, name) => `${name}, ${ratioText(row.ratio)}: KL ${nats(row.kl)}` +
  (row.kl_min < row.kl_max ? ` (${nats(row.kl_min)} to ${nats(row.kl_max)})` : '');
function noiseFloor(report, rows) { // of the task that the rows are of
  const value = report.noise_floors ? report.noise_floors[rows[0].task] : report.noise_floor_kl;
  return value > 0 ? [{name: 'noise floor', value}] : [];
}

function qualityByRatio(report, rows, naming) {
  const folded = grouping(rows.filter((row) => row.method !== 'full'), naming);
  const full = rows.filter((row) => row.method === 'full');
  const point = (row, name) => ({x: row.ratio, y: number(row.kl), low: row.kl_min, high: row.kl_max, tip: klWords(row, name)});
  return {
    what: 'KL divergence against the ratio, one line a method', labels: 'end', dodge: folded.length > 1 && rows.some((row) => row.runs > 1),
    x: {name: 'ratio, bytes before / after', scale: ratioScale}, y: {name: 'KL, nats', scale: logScale}, levels: noiseFloor(report, rows),
    series: [
      ...folded.map(({name, style, rows: own}) => ({name, style, line: true,
        points: [...own].sort((a, b) => a.ratio - b.ratio).map((row) => point(row, name))})),
      ...full.map((row) => ({name: naming.name(row), style: naming.style(row), line: false,
        points: [{...point(row, naming.name(row)), name: row.cache}]})),
    ],
  };
}

// With a single ratio there are no lines to draw: the methods below each other, the worst first.
function qualityAtOneRatio(report, rows, naming) {
  return {
    what: 'KL divergence of each method', x: {name: 'KL, nats', scale: logScale}, levels: noiseFloor(report, rows),
    rows: [...rows].sort((a, b) => b.kl - a.kl).map((row) => ({name: `${naming.name(row)} ${ratioText(row.ratio)}`, style: naming.style(row),
      value: number(row.kl), low: row.kl_min, high: row.kl_max, tip: klWords(row, naming.name(row))})),
  };
}

function qualityByTime(report, rows, naming) {
  const folded = grouping(rows.filter((row) => row.method !== 'full'), naming);
  const time = (row) => (number(row.study_s) || 0) + (number(row.solve_s) || 0);
  return {
    what: 'KL divergence against the time that study and solve take', labels: 'near', long: true,
    x: {name: 'study + solve, seconds', scale: linearFrom(0)}, y: {name: 'KL, nats', scale: logScale},
    series: folded.map(({name, style, rows: own}) => ({name, style, line: true,
      points: [...own].sort((a, b) => b.ratio - a.ratio).map((row, i) => ({x: time(row), y: number(row.kl), name: i === 0 ? name : '',
        note: own.length > 1 && time(row) > 0 ? ratioText(row.ratio) : '', // baselines stand above each other at 0
       
        tip: `${klWords(row, name)}, ${fixed(time(row), 1)} s`}))})),
  };
}

// --- along the depth of the question, along the rounds of a chat ---

// One plot of `key` over the entries that rows keep under `list`; `full`: the key of the full cache's value, a dashed line.
function along(rows, naming, {list, at, key, full, what, x, y}) {
  const own = rows.filter((row) => row[list] && row.method !== 'full');
  const series = grouping(own, naming).map(({name, style, rows: [row]}) => ({name, style, line: true,
    points: row[list].map((entry) => ({x: entry[at], y: number(entry[key]),
      tip: `${name}, ${at} ${figureText(entry[at])}: ${figureText(number(entry[key]))}`}))}));
  if (full && own.length) series.push({name: 'full cache', style: {hue: 10, dash: '5 4'}, line: true, bare: true,
    points: own[0][list].map((entry) => ({x: entry[at], y: number(entry[full])}))});
  return {what, labels: 'end', x, y, series: series.filter((one) => one.points.some((point) => point.y !== null))};
}

const DEPTH = {list: 'by_depth', at: 'depth', x: {name: 'depth of the answer in the context', scale: shareScale}};
const ROUND = {list: 'rounds', at: 'round', x: {name: 'round', scale: countScale}};
const exactByDepth = (rows, naming) => along(rows, naming, {...DEPTH, key: 'exact', full: 'exact_full',
  what: 'Share of answers reproduced exactly, by depth', y: {name: 'exact answers', scale: shareScale}});
const nllByDepth = (rows, naming) => along(rows, naming, {...DEPTH, key: 'nll', full: 'nll_full',
  what: 'Negative log-likelihood of the answers, by depth', y: {name: 'NLL of the answer, nats', scale: linearFrom(0, shortNumber)}});
// What a cache writes by itself: figures that only tasks with a judge have.
const WRITTEN = [
  {key: 'f1', name: 'F1', title: 'F1 of written answers by depth', what: 'F1 of the words that the cache writes itself, by depth'},
  {key: 'match', name: 'match', title: 'Written calls that match by depth', what: 'Share of written calls that match, by depth'},
];
const writtenByDepth = (rows, naming, {key, name, what}) => along(rows, naming, {...DEPTH, key, full: key + '_full',
  what, y: {name, scale: shareScale}});
const klByRound = (rows, naming) => along(rows, naming, {...ROUND, key: 'kl',
  what: 'KL divergence, by round', y: {name: 'KL, nats', scale: logScale}});
const exactByRound = (rows, naming) => along(rows, naming, {...ROUND, key: 'exact', full: 'exact_full',
  what: 'Share of facts recalled exactly, by round', y: {name: 'exact recall', scale: shareScale}});
const nllByRound = (rows, naming) => along(rows, naming, {...ROUND, key: 'nll', full: 'nll_full',
  what: 'Negative log-likelihood of what is recalled, by round', y: {name: 'NLL of the recall, nats', scale: linearFrom(0, shortNumber)}});
const cellsByRound = (rows, naming) => along(rows, naming, {...ROUND, key: 'cells', full: 'cells_full',
  what: 'Cells in use, by round', y: {name: 'cells', scale: linearFrom(0)}});

// --- layers: means over the runs ---

// [{name, style, layers: [{layer, output_error, mass_error, kept}]}]
function layerMeans(runs, naming) {
  return grouping(runs.filter((run) => run.layers && run.layers.length), naming).map(({name, style, rows}) => {
    const byLayer = new Map();
    for (const layer of rows.flatMap((run) => run.layers))
      byLayer.set(layer.layer, [...(byLayer.get(layer.layer) || []), layer]);
    return {name, style, layers: [...byLayer.keys()].sort((a, b) => a - b).map((layer) => {
      const all = byLayer.get(layer), kept = all.filter((l) => l.kept && l.kept.length);
      return {layer, output_error: mean(all.map((l) => l.output_error)), mass_error: mean(all.map((l) => l.mass_error)),
        kept: kept.length ? kept[0].kept.map((_, bin) => mean(kept.map((l) => l.kept[bin]))) : []};
    })};
  });
}

function errorByLayer(means, key, what) {
  return {
    what: what + ', by layer', labels: 'end', x: {name: 'layer', scale: countScale}, y: {name: what.toLowerCase(), scale: logScale},
    series: means.map(({name, style, layers}) => ({name, style, line: true, points: layers.map((layer) => ({x: layer.layer, y: layer[key],
      tip: `${name}, layer ${layer.layer}: ${figureText(layer[key])}`}))})).filter((one) => one.points.some((point) => point.y !== null)),
  };
}

// `peak` is the same for all maps that stand side by side.
function keptMap({name, layers}, peak) {
  const part = (i) => percent(i / 4), of = (row) => row.values.length;
  return {
    what: `Cells that ${name} kept, by layer and place in the folded region`, peak,
    rows: layers.map((layer) => ({name: layer.layer, values: layer.kept})),
    tip: (row, bin, cells) => `layer ${row.name}, ${percent(bin / of(row))} to ${percent((bin + 1) / of(row))}: ${figureText(cells)} cells`,
    ticks: [0, 1, 2, 3, 4].map(part), axis: 'place in the folded region', scale: 'cells kept', most: figureText(peak),
  };
}
const keptPeak = (means) => steps(Math.max(0.01, ...means.flatMap((one) => one.layers.flatMap((layer) => layer.kept))), 3).at(-1);

// --- tables: {head, rows} ---

function plotTable(plot) {
  if (plot.long) return {head: ['method', plot.x.name, plot.y.name],
    rows: plot.series.flatMap((one) => one.points.map((point) => [one.name, figureText(point.x), figureText(point.y)]))};
  const places = distinct(plot.series.flatMap((one) => one.points.map((point) => point.x))).sort((a, b) => a - b);
  const value = (one, place) => { const point = one.points.find((p) => p.x === place); return point ? figureText(point.y) : ''; };
  return {head: [plot.x.name, ...plot.series.map((one) => one.name)],
    rows: places.map((place) => [figureText(place), ...plot.series.map((one) => value(one, place))])};
}

function dotTable(dots) {
  return {head: ['method', dots.x.name, 'least', 'most'], rows: dots.rows.map((row) => [row.name, nats(row.value), nats(row.low), nats(row.high)])};
}

// Eighths of the region: 64 columns say less.
function keptTable({layers}) {
  const eighth = (kept, i) => kept.slice(i * kept.length / 8, (i + 1) * kept.length / 8).reduce((sum, cells) => sum + cells, 0);
  const eighths = [0, 1, 2, 3, 4, 5, 6, 7];
  return {head: ['layer', ...eighths.map((i) => `cells from ${percent(i / 8)}`)],
    rows: layers.map((layer) => [String(layer.layer), ...eighths.map((i) => figureText(eighth(layer.kept, i)))])};
}

const megabytes = (bytes) => fixed(bytes / 1e6, bytes < 1e8 ? 1 : 0) + ' MB';
const seconds = (value) => number(value) === null ? DASH : value === 0 ? '0 s' : fixed(value, value < 0.1 ? 2 : 1) + ' s';
const share = (value) => number(value) === null ? DASH : fixed(100 * value, 1) + '%';
const signed = (value) => number(value) === null ? DASH : (value < 0 ? MINUS : '+') + fixed(Math.abs(value), 3);
// A column that no row fills is left out.
const COLUMNS = [
  ['task', (row) => row.task, true], ['method', (row) => row.method, true], ['cache', (row) => row.cache, true],
  ['ratio', (row) => ratioText(row.ratio)], ['cells', (row) => grouped(row.cells_after)], ['state', (row) => megabytes(row.bytes_after)],
  ['KL', (row) => nats(row.kl)],
  ['KL range', (row) => row.runs > 1 ? `${nats(row.kl_min)} ${DASH} ${nats(row.kl_max)}` : DASH],
  ['KL geomean', (row) => nats(row.kl_geomean)], ['top-1', (row) => share(row.top1)], ['\u0394NLL', (row) => signed(row.dnll)],
  ['exact', (row) => share(row.exact)], ['exact, full cache', (row) => share(row.exact_full)],
  ...WRITTEN.flatMap(({key, name}) => [[name, (row) => share(row[key])], [name + ', full cache', (row) => share(row[key + '_full'])]]),
  ['study', (row) => seconds(row.study_s)], ['solve', (row) => seconds(row.solve_s)], ['swap', (row) => seconds(row.swap_s)],
  ['memory', (row) => number(row.peak_extra_mb) === null ? DASH : fixed(row.peak_extra_mb, 0) + ' MB'],
  ['runs', (row) => row.runs ? String(row.runs) : DASH],
];
function rowTable(rows) {
  const filled = COLUMNS.filter(([, text]) => rows.some((row) => text(row) !== DASH && text(row) !== undefined));
  return {head: filled.map(([name]) => name), text: filled.map(([, , isText]) => Boolean(isText)),
    rows: rows.map((row) => filled.map(([, text]) => text(row) ?? ''))};
}
