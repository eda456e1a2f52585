// The page: asks for the state once a second and shows it.
const PERIOD_MS = 1000, MOST_FOLDS = 12, MOST_GAINS = 6;

// --- the server ---

function request(path, options) {
  const token = sessionStorage.getItem('kvfold-token');
  const headers = token ? {Authorization: 'Bearer ' + token} : {};
  if (options) headers['Content-Type'] = 'application/json';
  return fetch(path, {...options, headers, cache: 'no-store'});
}

let state = null, answeredAt = Date.now();
let methods = null; // that the server knows, [{name, advice}]; asked for once

async function answerOf(response) {
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ? answer.error.message : 'the server answers ' + response.status);
  return answer;
}

// The newest poll alone goes on: what an older one asked may be of another process.
let polls = 0;

async function poll() {
  const mine = ++polls;
  try {
    const response = await request('processes');
    if (mine !== polls) return;
    if (response.status === 401) {
      askForToken();
      return; // until there is one
    }
    choose((await answerOf(response)).processes);
    const answer = chosen === null ? null : await answerOf(await request('state?process=' + chosen));
    if (chosen !== null && !methods) methods = (await answerOf(await request('methods?process=' + chosen))).methods;
    if (mine !== polls) return;
    state = answer;
    answeredAt = Date.now();
    connected();
    showState();
  } catch (error) {
    if (mine !== polls) return;
    disconnected(error instanceof TypeError ? 'The admin server does not answer' : error.message);
  }
  setTimeout(() => { if (mine === polls) poll(); }, PERIOD_MS);
}

// --- which process: kept in the address, so that a reload and a bookmark show the same one ---

let chosen = null; // its number; null: there is none

function wanted() { return Number(new URLSearchParams(location.hash.slice(1)).get('process')); }

// The one that is wanted if it is there, else the first.
function choose(processes) {
  const one = processes.find((p) => p.pid === wanted()) || processes[0];
  turnTo(one ? one.pid : null);
  showProcesses(processes);
}

function turnTo(process) {
  if (process === chosen) return;
  chosen = process;
  state = null;
  drawnKept = '';
  show('all', false);
  for (const row of rows.values()) row.remove();
  rows.clear();
}

// The options are made anew only where they changed: an open list would close.
function showProcesses(processes) {
  const names = processes.map((p) => `${p.file || p.model || p.program} \u00b7 ${p.pid}`), select = by('process');
  if (names.join('\n') !== [...select.options].map((o) => o.textContent).join('\n')) {
    select.replaceChildren();
    processes.forEach((p, i) => { make(select, 'option', '', names[i]).value = p.pid; });
  }
  if (Number(select.value) !== chosen) select.value = chosen;
  show('process', processes.length > 1);
}

by('process').addEventListener('change', () => {
  history.replaceState(null, '', '#process=' + by('process').value);
  turnTo(Number(by('process').value));
  poll();
});
addEventListener('hashchange', () => poll());

function connected() {
  document.body.classList.remove('stale');
  by('link').className = 'live';
  by('link').textContent = 'live';
  show('login', false);
}

function disconnected(why) {
  const since = Math.round((Date.now() - answeredAt) / 1000);
  document.body.classList.add('stale');
  by('link').className = 'lost';
  by('link').textContent = 'disconnected';
  notice(`${why}. Last answer ${since} s ago; trying again every second.`, true);
}

function notice(text, lost) {
  by('notice').textContent = text;
  by('notice').classList.toggle('lost', lost);
  show('notice', text !== '');
}

function askForToken() {
  const tried = sessionStorage.getItem('kvfold-token') !== null;
  sessionStorage.removeItem('kvfold-token');
  by('link').className = '';
  by('link').textContent = 'locked';
  notice(tried ? 'The server did not accept that token.' : '', true);
  show('login', true);
  show('all', false);
  show('nothing', false);
}

by('login').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('kvfold-token', by('token').value);
  by('token').value = '';
  poll();
});

// --- the state ---

function showState() {
  const context = state && state.context;
  by('uptime').textContent = state ? 'up ' + clock(state.uptime_s) : '';
  const model = (context && context.model) || '';
  by('model').textContent = model;
  document.title = model ? 'kvfold \u00b7 ' + model : 'kvfold';
  show('nothing', !context);
  show('all', !!context && context.managed);
  notice(whyUnmanaged(context), false);
  if (!context || !context.managed) return;
  showTiles(context);
  showSequences(context);
  showOthers(context.others || []);
  showPolicy();
  showCharts();
  showFolds();
}

function whyUnmanaged(context) {
  if (!context || context.managed) return '';
  if (context.freed) return 'The program has freed its context, as a llama-server that sleeps does. Its cache shows up here when it wakes.';
  return 'This cache is passed through as it is: ' + context.reason;
}

function tile(name, value, unit, note) {
  const box = make(by('tiles'), 'div', 'tile');
  make(box, 'div', 'name', name);
  const line = make(box, 'div', 'value', value);
  if (unit) make(line, 'small', '', unit);
  make(box, 'div', 'note', note);
}

function megabytes(bytes) { return fixed(bytes / 1e6, bytes < 1e8 ? 1 : 0); }

function archiveNote(totals) {
  const cuts = totals.taken_back === 1 ? '1 cut' : grouped(totals.taken_back) + ' cuts';
  const recalls = totals.recalls ? `, ${totals.recalls === 1 ? '1 recall' : grouped(totals.recalls) + ' recalls'}` : '';
  return `of ${megabytes(totals.archive_budget)} MB; ${cuts} taken back${recalls}`;
}

function showTiles(context) {
  const totals = state.totals, tokens = state.sequences.reduce((sum, s) => sum + s.tokens, 0);
  const speed = (state.history.findLast((s) => s.tok_s > 0) || {tok_s: 0}).tok_s;
  const share = totals.cells_used / Math.max(1, context.cells);
  by('tiles').replaceChildren();
  tile('Cells in use', grouped(totals.cells_used), 'of ' + grouped(context.cells),
    `${percent(share)} full, ${grouped(context.virtual_cells)} virtual`);
  tile('Cache memory', megabytes(context.cells * context.cell_bytes), 'MB',
    `${megabytes(context.virtual_cells * context.cell_bytes)} MB at the virtual size`);
  tile('Tokens held', grouped(tokens), '', totals.cells_used ? `${fixed(tokens / totals.cells_used, 1)}${TIMES} their cells` : 'none');
  tile('Decode speed', speed ? fixed(speed, 1) : DASH, speed ? 'tok/s' : '', `${grouped(totals.tokens_decoded)} tokens decoded`);
  tile('Folds', grouped(totals.folds), '',
    `${totals.failures ? grouped(totals.failures) + ' failed, ' : ''}pauses \u2264 ${fixed(totals.longest_pause_s, 2)} s`);
  tile('Archive', totals.archive_budget ? megabytes(totals.archive_bytes) : 'off', totals.archive_budget ? 'MB' : '',
    totals.archive_budget ? archiveNote(totals) : 'a cut inside a fold reads again');
}

// Contexts beside the one that is shown: of draft models.
function showOthers(others) {
  show('others', others.length > 0);
  by('others').textContent = others.map((other) =>
    `Also managed: ${other.model}, ${grouped(other.used_cells)} of ${grouped(other.cells)} cells in use, ` +
    `${grouped(other.virtual_cells)} virtual, ${other.folds === 1 ? '1 fold' : grouped(other.folds) + ' folds'}.`).join(' ');
}

function showPolicy() {
  const policy = state.policy, keep = `the first ${grouped(policy.keep_first)} and the last ${grouped(policy.keep_last)} tokens stay as they are`;
  by('policy').textContent = policy.automatic
    ? `Folds by itself at ${percent(policy.high_water)} of the cells, ${policy.ratio}${TIMES} with ${policy.method}; ${keep}.`
    : `Folds only when asked, by default ${policy.ratio}${TIMES} with ${policy.method}; ${keep}.`;
}

// --- sequences: rows live on from poll to poll, so that what is being typed in them does too ---

const rows = new Map();

function newRow(id) {
  const row = by('sequence').content.firstElementChild.cloneNode(true);
  const part = (selector) => row.querySelector(selector);
  part('h3').textContent = 'Sequence ' + id;
  const select = part('select'), ratio = part('input');
  for (const method of methods) make(select, 'option', '', method.name).title = method.advice;
  select.value = state.policy.method;
  ratio.value = state.policy.ratio;
  part('form').addEventListener('submit', (event) => {
    event.preventDefault();
    compact(row, id, select.value, Number(ratio.value));
  });
  row.dataset.id = id;
  rows.set(id, row);
  return row;
}

function showSequences(context) {
  const held = [...state.sequences].sort((a, b) => a.id - b.id), ids = new Set(held.map((s) => s.id));
  for (const [id, row] of rows) if (!ids.has(id)) { row.remove(); rows.delete(id); }
  held.forEach((sequence, i) => {
    const row = rows.get(sequence.id) || newRow(sequence.id);
    if (by('sequences').children[i] !== row) by('sequences').insertBefore(row, by('sequences').children[i] || null);
    showSequence(row, sequence, context);
  });
  show('no-sequences', held.length === 0);
  show('cell-kinds', held.length > 0);
}

function showSequence(row, sequence, context) {
  const room = context.unified ? context.cells : context.cells / Math.max(1, context.n_seq_max);
  const parts = {pinned: sequence.pinned, folded: sequence.folded_cells, recalled: sequence.recalled_cells, live: sequence.live_cells};
  for (const kind in parts) row.querySelector('.bar .' + kind).style.width = Math.min(100, 100 * parts[kind] / room) + '%';
  const ratio = sequence.tokens / Math.max(1, sequence.cells);
  row.querySelector('.held').textContent = `${grouped(sequence.tokens)} tokens in ${grouped(sequence.cells)} cells, ${fixed(ratio, 1)}${TIMES}`;
  const detail = `${grouped(parts.pinned)} pinned, ${grouped(parts.folded)} folded from ${grouped(sequence.folded_tokens)} tokens, ${grouped(parts.recalled)} recalled, ${grouped(parts.live)} live, of ${grouped(room)} cells`;
  row.querySelector('.bar').setAttribute('aria-label', detail);
  row.querySelector('.bar').title = detail;

  const tags = row.querySelector('.tags');
  tags.replaceChildren();
  if (sequence.folding) make(tags, 'span', 'folding', 'folding');
  if (!sequence.tokens_known) make(tags, 'span', '', 'text not known');
  row.querySelector('button').disabled = sequence.folding || row.dataset.busy === 'yes';
}

async function compact(row, id, method, ratio) {
  const output = row.querySelector('output'), say = (text, kind) => { output.textContent = text; output.className = kind; };
  row.dataset.busy = 'yes';
  row.querySelector('button').disabled = true;
  say('compacting \u2026', 'busy');
  try {
    const response = await request('compact', {method: 'POST', body: JSON.stringify({id_slot: id, method, ratio, process: chosen})});
    const answer = await answerOf(response);
    say(`${grouped(answer.original_tokens)} ${ARROW} ${grouped(answer.compacted_tokens)}, ${fixed(answer.compression_ratio, 1)}${TIMES} in ${fixed(answer.compaction_time_ms / 1000, 1)} s`, '');
  } catch (error) {
    say(error instanceof TypeError ? 'the admin server does not answer' : error.message, 'bad');
  }
  row.dataset.busy = '';
  row.querySelector('button').disabled = false;
}

// --- charts and the list of folds ---

let drawnKept = '';

function showCharts() {
  const folds = state.folds.filter((f) => !f.error), marks = folds.map((f) => f.t);
  const sampled = state.history.length > 0;
  for (const name of ['cells', 'speed']) {
    show(name + '-chart', sampled);
    show('no-' + name, !sampled);
  }
  if (sampled) {
    lineChart(by('cells-chart'), 'Tokens and cells over time', state.history,
      [{key: 'tokens', kind: 'tokens', label: grouped}, {key: 'cells', kind: 'live', label: grouped, area: true}], marks);
    const speeds = state.history.map((s) => ({t: s.t, tok_s: s.tok_s > 0 ? s.tok_s : null}));
    lineChart(by('speed-chart'), 'Tokens a second over time', speeds, [{key: 'tok_s', kind: 'live', label: (v) => fixed(v, 1)}], marks);
  }
  const gains = folds.filter((f) => f.decode_before_tok_s > 0 && f.decode_after_tok_s > 0).slice(-MOST_GAINS);
  show('gain', gains.length > 0);
  show('no-gain', gains.length === 0);
  if (gains.length) gainChart(by('gain'), gains);
  showKept();
}

function showKept() {
  const kept = state.kept && state.kept.layers.length ? state.kept : null;
  show('kept', kept !== null);
  show('no-kept', kept === null);
  by('kept-where').textContent = kept ? `slot ${kept.id_slot}, positions ${grouped(kept.from)} to ${grouped(kept.to)}` : '';
  const now = JSON.stringify([kept, by('kept').clientWidth]);
  if (kept && now !== drawnKept) keptMap(by('kept'), kept); // thousands of cells: not every second
  drawnKept = now;
}

function cell(line, name, text, kind) {
  const node = make(line, 'td', kind, text);
  node.dataset.name = name;
  return node;
}

// What only some methods report, by the names that they give it.
function figuresText(figures) {
  return Object.entries(figures || {}).map(([name, value]) => name + ' ' + (Number.isInteger(value) ? grouped(value) : value.toPrecision(3))).join(', ');
}

function showFolds() {
  const body = by('folds').tBodies[0];
  body.replaceChildren();
  for (const fold of state.folds.slice(-MOST_FOLDS).reverse()) {
    const line = make(body, 'tr');
    cell(line, 'at', clock(fold.t));
    cell(line, 'slot', fold.id_slot);
    cell(line, 'method', fold.method, 'text');
    cell(line, 'positions', `${grouped(fold.from)} ${DASH} ${grouped(fold.to)}`);
    if (fold.error) {
      cell(line, 'error', fold.error, 'bad').colSpan = 7;
      continue;
    }
    const speed = (value) => value > 0 ? fixed(value, 1) : DASH;
    cell(line, 'cells', `${grouped(fold.cells_before)} ${ARROW} ${grouped(fold.cells_after)}`);
    cell(line, 'ratio', fixed(fold.cells_before / Math.max(1, fold.cells_after), 1) + TIMES);
    cell(line, 'study', fixed(fold.study_s, 1) + ' s');
    cell(line, 'solve', fixed(fold.solve_s, 1) + ' s').title = `on ${fold.solved_on}`;
    cell(line, 'swap', fixed(fold.swap_s, 2) + ' s');
    cell(line, 'tok/s', `${speed(fold.decode_before_tok_s)} ${ARROW} ${speed(fold.decode_after_tok_s)}`);
    cell(line, 'also', figuresText(fold.figures), 'text');
  }
  show('folds', state.folds.length > 0);
  show('no-folds', state.folds.length === 0);
}

addEventListener('resize', () => { if (state && state.context) showCharts(); });
poll();
