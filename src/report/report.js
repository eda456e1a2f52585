// The page: what was measured, the charts that its document can fill, and all rows.

const report = JSON.parse(by('document').textContent);
const rows = report.rows || [], runs = report.runs || [], naming = new Naming(rows);
const tasks = distinct(rows.map((row) => row.task));
const chosen = {task: '', ratio: 0, hidden: new Set()};
let drawings = [], drawnWidth = 0; // of the figures on the page, to be made again when the window's width changes

// --- what was measured ---

function fact(list, name, value) {
  if (value === undefined || value === null || value === '') return;
  const pair = make(list, 'div');
  make(pair, 'dt', '', name);
  make(pair, 'dd', '', value);
}

function showFacts() {
  const list = make(by('facts'), 'dl'), {texts = [], offsets = [], seeds = []} = report;
  const keys = report.cache_type_k, values = report.cache_type_v;
  by('model').textContent = report.model || '';
  document.title = `kvfold eval \u00b7 ${report.model}`;
  fact(list, 'model', report.model);
  fact(list, 'context', report.context && grouped(report.context) + ' tokens');
  fact(list, 'cache', keys && (keys === values ? keys : `${keys} keys, ${values} values`));
  fact(list, texts.length === 1 ? 'text' : 'texts', texts.join(', '));
  if (offsets.some((offset) => offset > 0)) fact(list, 'offsets', offsets.join(', '));
  fact(list, seeds.length === 1 ? 'seed' : 'seeds', seeds.join(', '));
  fact(list, 'hindsight', report.hindsight &&
      `methods studied ${report.hindsight === 'later' ? 'the text behind what is judged' : 'what is judged'}: a bound, not a result`);
  fact(list, 'prefill', number(report.prefill_s) === null ? null : seconds(report.prefill_s));
  fact(list, 'noise floor', number(report.noise_floor_kl) !== null && `KL ${nats(report.noise_floor_kl)}`);
  fact(list, 'threads', report.threads && String(report.threads));
  fact(list, 'kvfold', report.kvfold);
  fact(list, 'llama.cpp', report.llama_cpp);
  if (!report.command) return;
  const command = make(by('facts'), 'pre', 'wide');
  command.tabIndex = 0;
  make(command, 'code', '', report.command);
}

// --- figures ---

function fillTable(parent, {head, text = [], rows: lines}, caption) {
  const table = make(parent, 'table'), top = make(make(table, 'thead'), 'tr'), body = make(table, 'tbody');
  make(table, 'caption', 'unseen', caption);
  head.forEach((name, i) => { make(top, 'th', text[i] ? 'text' : '', name).scope = 'col'; });
  for (const cells of lines) {
    const line = make(body, 'tr');
    cells.forEach((cell, i) => make(line, 'td', text[i] ? 'text' : '', cell));
  }
}

function figure(parent, title, drawInto, table) {
  const box = make(parent, 'figure', 'panel'), head = make(box, 'figcaption', 'head');
  make(head, 'h3', '', title);
  const button = make(head, 'button', 'save', 'SVG'), chart = make(box, 'div', 'chart'), details = make(box, 'details');
  button.type = 'button';
  button.setAttribute('aria-label', `Save the chart "${title}" as SVG`);
  button.addEventListener('click', () => saveSvg(chart, title));
  make(details, 'summary', '', 'Table');
  const wide = make(details, 'div', 'wide');
  wide.tabIndex = 0;
  fillTable(wide, table, title);
  drawings.push(() => drawInto(chart));
}

function plotFigure(parent, title, plot) {
  if (plot.series.some((one) => one.points.some((point) => point.y !== null)))
    figure(parent, title, (chart) => drawPlot(chart, plot), plotTable(plot));
}

function dotFigure(parent, title, dots) {
  if (dots.rows.some((row) => row.value !== null)) figure(parent, title, (chart) => drawDots(chart, dots), dotTable(dots));
}

// A part of the page with the figures that `fill` puts into it; without any it does not appear.
function part(title, words, fill) {
  const section = make(by('figures'), 'section', 'part');
  make(section, 'h2', '', title);
  make(section, 'p', 'quiet', words);
  const grid = make(section, 'div', 'grid');
  fill(grid);
  if (!grid.children.length) section.remove();
}

const isShown = (row) => !chosen.hidden.has(naming.name(row));
const atRatio = (row) => row.method === 'full' || row.ratio === chosen.ratio;

function showFigures() {
  drawings = [];
  by('figures').replaceChildren();
  const shown = rows.filter(isShown), detailed = shown.filter(atRatio), ratio = ratioText(chosen.ratio);
  const oneRatio = distinct(shown.filter((row) => row.method !== 'full').map((row) => row.ratio)).length === 1;
  const quality = (grid, title, own) => oneRatio ? dotFigure(grid, title, qualityAtOneRatio(report, own, naming))
    : plotFigure(grid, title, qualityByRatio(report, own, naming));
  const time = (grid, title, own) => plotFigure(grid, title, qualityByTime(report, own, naming));
  const perTask = (add) => (grid) => {
    for (const task of tasks) {
      const own = shown.filter((row) => row.task === task);
      if (own.length) add(grid, task, own);
    }
  };
  const kl = 'KL divergence of the next token from the full cache: the mean over the runs, and the spread from least to most. The noise ' +
    'floor is the full cache with its cells in another order.', cost = 'What study and solve cost together, for every method and ratio.';
  if (tasks.length === 1 && shown.length) {
    part('Quality', kl, (grid) => {
      quality(grid, oneRatio ? 'KL' : 'KL against ratio', shown);
      time(grid, 'KL against time', shown);
    });
  } else {
    part(oneRatio ? 'Quality' : 'Quality against ratio', kl, perTask(quality));
    part('Quality against time', cost, perTask(time));
  }
  part('Questions', `Answers to questions about the context, by where the answer stands in it, at ${ratio}.`, (grid) => {
    const asked = distinct(detailed.filter((row) => row.by_depth).map((row) => row.task));
    for (const task of asked) {
      const own = detailed.filter((row) => row.task === task), titled = (title) => asked.length > 1 ? `${task}: ${title}` : title;
      plotFigure(grid, titled('Exact answers by depth'), exactByDepth(own, naming));
      plotFigure(grid, titled('Likelihood of the answers by depth'), nllByDepth(own, naming));
      for (const written of WRITTEN) plotFigure(grid, titled(written.title), writtenByDepth(own, naming, written));
    }
  });
  part('Chat', `A conversation that is folded again and again, at ${ratio}.`, (grid) => {
    plotFigure(grid, 'KL by round', klByRound(detailed, naming));
    plotFigure(grid, 'Exact recall by round', exactByRound(detailed, naming));
    plotFigure(grid, 'Likelihood of the recall by round', nllByRound(detailed, naming));
    plotFigure(grid, 'Cells by round', cellsByRound(detailed, naming));
  });
  showLayers(ratio);
  if (rows.length && !shown.length) make(by('figures'), 'p', 'panel empty', 'No method is chosen.');
  redraw();
}

function showLayers(ratio) {
  const means = layerMeans(runs.filter((run) => run.task === chosen.task && atRatio(run) && isShown(run)), naming);
  const where = `at ${ratio} of task ${chosen.task}, means over the runs`;
  part('Layers', `How far each layer's attention output and attention mass are from those of the full cache, ${where}.`, (grid) => {
    plotFigure(grid, 'Output error', errorByLayer(means, 'output_error', 'Output error'));
    plotFigure(grid, 'Mass error', errorByLayer(means, 'mass_error', 'Mass error'));
  });
  const kept = means.filter((one) => one.layers.some((layer) => layer.kept.length)), peak = keptPeak(kept);
  part('What was kept', `Where the kept cells stood, in 64 equal stretches of the folded region, ${where} and KV heads.`, (grid) => {
    for (const one of kept) figure(grid, one.name, (chart) => heatMap(chart, keptMap(one, peak)), keptTable(one));
  });
}

function redraw() {
  drawnWidth = innerWidth;
  for (const drawing of drawings) drawing();
}

// --- a chart as a file ---

const KEPT_STYLE = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin', 'opacity', 'font-size',
                    'font-weight'];

// The chart in its light colours as a document of its own, for papers.
function svgText(chart) {
  const stage = make(document.body, 'div', 'stage'), svg = chart.querySelector('svg').cloneNode(true);
  stage.append(svg);
  const [, , width, height] = svg.getAttribute('viewBox').split(' ');
  for (const node of svg.querySelectorAll('*')) {
    const style = getComputedStyle(node);
    for (const name of KEPT_STYLE) if (style[name] !== '') node.setAttribute(name, style.getPropertyValue(name));
  }
  for (const node of svg.querySelectorAll('*')) node.removeAttribute('class');
  const own = {xmlns: 'http://www.w3.org/2000/svg', width, height, 'font-family': 'Helvetica, Arial, sans-serif'};
  for (const name in own) svg.setAttribute(name, own[name]);
  stage.remove();
  return new XMLSerializer().serializeToString(svg);
}

function saveSvg(chart, title) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([svgText(chart)], {type: 'image/svg+xml'}));
  link.download = `kvfold-${title.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.svg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- what is shown ---

function methodChoice({name, style}) {
  const label = make(by('methods'), 'label'), box = make(label, 'input');
  box.type = 'checkbox';
  box.checked = true;
  const svg = draw(label, 'svg', {viewBox: '-14 -7 28 14', width: 28, height: 14, 'aria-hidden': 'true'});
  draw(svg, 'line', {class: 'series hue-' + style.hue, x1: -13, x2: 13, y1: 0, y2: 0, 'stroke-dasharray': style.dash});
  marker(svg, style, 0, 0, 4);
  label.append(name);
  box.addEventListener('change', () => {
    chosen.hidden[box.checked ? 'delete' : 'add'](name);
    showFigures();
  });
}

function choice(id, values, first, words, choose) {
  for (const value of values) make(by(id), 'option', '', words(value)).value = value;
  by(id).value = first;
  show(id + '-choice', values.length > 1);
  by(id).addEventListener('change', () => { choose(by(id).value); showFigures(); });
}

function showControls() {
  const folded = rows.filter((row) => row.method !== 'full');
  const ratios = distinct(folded.map((row) => row.ratio)).sort((a, b) => a - b);
  const layered = tasks.filter((task) => runs.some((run) => run.task === task && run.layers));
  chosen.ratio = ratios.includes(8) ? 8 : ratios[Math.floor(ratios.length / 2)];
  chosen.task = layered[0];
  for (const group of grouping(folded, naming)) methodChoice(group);
  choice('ratio', ratios, chosen.ratio, ratioText, (value) => { chosen.ratio = Number(value); });
  choice('task', layered, chosen.task, String, (value) => { chosen.task = value; });
  by('controls').addEventListener('submit', (event) => event.preventDefault());
  show('controls', true);
}

showFacts();
if (rows.length) {
  showControls();
  showFigures();
  fillTable(by('rows'), rowTable(rows), 'All rows');
  show('all-rows', true);
  addEventListener('resize', () => { if (innerWidth !== drawnWidth) redraw(); });
} else {
  show('nothing', true);
}
