// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// The page: it asks, follows the stream, and shows what comes.

import { byId, fill, h, say } from './dom.js';
import { drawn, line, merge, moment, number, withGaps } from './data.js';
import { backoff, follow, get, pause, token } from './connect.js';
import { drawCharts, nearest } from './chart.js';
import { showNow, tellTimes } from './now.js';
import { showMore, showRuns } from './runs.js';

const every = 15_000; // ms between two looks at the status

let status = null;
let rows = [];
let commits = []; // when something was committed, in ms, as far as that was seen
let skew = 0; // what the autoscaler's clock is ahead of this one's, in ms
let heardAt = null; // when it was last heard of, by this clock
let link = { state: 'connecting' };
let charts = null;
let pointed = null; // the key of the row that the crosshair is on
let range = null; // in seconds; 0 is all

const now = () => Date.now() + skew;

// ---- Asking ----

let stop = new AbortController();

// connect stays connected until stop: it fetches what there is, then follows
// the stream, and begins again, later each time that fails.
async function connect() {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  for (let tries = 0; !signal.aborted; tries++) {
    let polled = false;
    let why = 'the stream has ended';
    try {
      await refresh(signal);
      polled = true;
      await follow(rows.at(-1)?.sequence ?? 0, signal, () => {
        if (signal.aborted) return;
        tries = polled ? 0 : tries;
        polled = false;
        heard();
        if (link.state !== 'live') to({ state: 'live' });
      }, take);
    } catch (err) {
      if (signal.aborted) return;
      if (err.refused) {
        askForToken(err);
        return;
      }
      why = err.message;
    }
    if (signal.aborted) return;
    const wait = polled ? every : backoff(tries);
    to({ state: polled ? 'polling' : 'lost', why, since: heardAt, again: Date.now() + wait });
    await pause(wait, signal);
  }
}

function heard() {
  heardAt = Date.now();
}

async function refresh(signal) {
  await refreshStatus(signal);
  const newest = rows.at(-1)?.record.time;
  const { records } = await get(`api/v1/records?limit=1000${newest ? `&since=${encodeURIComponent(newest)}` : ''}`, signal);
  heard();
  byId('ask').hidden = true;
  byId('data').hidden = false;
  add(records ?? []);
}

async function refreshStatus(signal) {
  const answer = await get('api/v1/status', signal);
  if (signal.aborted) return;
  status = answer;
  heard();
  skew = (Date.parse(status.time) || Date.now()) - Date.now();
  const commit = Date.parse(status.git?.lastCommitTime);
  if (commit && !commits.includes(commit)) commits = [...commits, commit].slice(-1000);
  showNow(status, now());
}

// again asks for the status, and whether there still is a connection.
async function again() {
  if (link.state !== 'live') return;
  const { signal } = stop;
  try {
    await refreshStatus(signal);
  } catch (err) {
    if (signal.aborted) return;
    if (err.refused) {
      stop.abort();
      askForToken(err);
    } else {
      to({ state: 'lost', why: err.message, since: heardAt });
      connect();
    }
  }
}

// soon asks for the status after a record, at most once a second.
let waiting = null;
let askedAt = 0;
function soon() {
  waiting ??= setTimeout(() => {
    waiting = null;
    askedAt = Date.now();
    again();
  }, askedAt + 1000 - Date.now());
}

// take shows a record of the stream, together with those that come with it.
let coming = [];
function take(record) {
  if (coming.push(record) > 1) return;
  setTimeout(() => {
    add(coming);
    coming = [];
  }, 50);
  soon();
}

function add(records) {
  rows = merge(rows, records);
  showRuns(rows, now());
  draw();
}

// ---- The connection ----

function to(next) {
  link = next;
  byId('link').dataset.state = link.state;
  document.body.classList.toggle('stale', ['lost', 'hidden', 'refused'].includes(link.state) && status !== null);
  tellLink();
}

function tellLink() {
  const since = link.since ? ` since ${moment(link.since, Date.now())}` : '';
  const left = Math.max(0, Math.ceil(((link.again ?? 0) - Date.now()) / 1000));
  const retry = left ? `retrying in ${left} s` : 'retrying';
  say(byId('link-text'), {
    connecting: 'Connecting …',
    live: 'Live',
    polling: `No stream (${link.why}), asking every 15 s`,
    lost: `Not connected${since}: ${link.why}; ${retry}`,
    hidden: 'Paused while not in view',
    refused: `Not connected${since}: no credentials`,
  }[link.state]);
}

function askForToken(err) {
  to({ state: 'refused', since: heardAt });
  say(byId('ask-why'), token.get() && err.status === 401 ? `The token is not accepted: ${err.message}` : err.message);
  byId('ask').hidden = false;
  byId('bearer').focus();
}

byId('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const value = byId('bearer').value.trim().replace(/^Bearer\s+/i, '');
  if (!/^[\x21-\x7e]+$/.test(value)) {
    say(byId('ask-why'), 'A token is of letters, digits and signs, without spaces.');
    return;
  }
  token.set(value);
  byId('bearer').value = '';
  tellToken();
  connect();
});

byId('forget').addEventListener('click', () => {
  token.set('');
  tellToken();
  // What was shown was for who had it.
  location.reload();
});

function tellToken() {
  byId('stored').hidden = !token.get();
}

document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') {
    if (link.state === 'hidden') connect();
  } else if (link.state !== 'refused') {
    stop.abort();
    to({ state: 'hidden' });
  }
});

// ---- The timeline ----

function draw() {
  if (!byId('timeline').clientWidth) return;
  if (!rows.length) {
    say(byId('when'), 'No runs yet.');
    return;
  }
  range ??= defaultRange();
  for (const input of document.getElementsByName('range')) input.checked = Number(input.value) === range;
  const end = link.state === 'lost' || link.state === 'hidden' ? Math.max(heardAt + skew, rows.at(-1).at) : now();
  const right = Math.max(now(), rows.at(-1).at);
  const from = range ? right - range * 1000 : Math.min(rows[0].at, right - 60_000);
  const held = withGaps(drawn(rows));
  charts = drawCharts({ counts: byId('counts-host'), metric: byId('metric-host') }, held, { from, to: right, end, commits, summary: summary(held, from) });
  point(charts.rows.find((row) => row.key === pointed) ?? null);
}

// defaultRange is the shortest one with enough to see.
function defaultRange() {
  return [900, 3600].find((seconds) => drawn(rows).filter((row) => row.at > now() - seconds * 1000).length >= 10) ?? 0;
}

function summary(held, from) {
  const seen = held.filter((row) => row.at >= from);
  if (!seen.length) return 'No runs in this range.';
  const counts = seen.map((row) => row.desired).filter((n) => n != null);
  return `${number(seen.length)} runs from ${moment(seen[0].at, now())} to ${moment(seen.at(-1).at, now())}` +
    `${counts.length ? `; desired ${number(Math.min(...counts))} to ${number(Math.max(...counts))}, now ${number(counts.at(-1))}` : ''}` +
    `; ${number(seen.filter((row) => row.failed).length)} failed, ${number(seen.filter((row) => row.wrote).length)} scaled.`;
}

// point puts the crosshair on a row, and its values into the legends; null
// takes it away, and the latest is told.
function point(row) {
  pointed = row?.key ?? null;
  charts.show(row);
  const told = row ?? charts.rows.at(-1);
  const when = byId('when');
  if (!told) {
    say(when, 'No runs in this range.');
  } else {
    fill(when, h('b', null, row ? moment(row.at, now()) : 'Latest'), ` ${outcome(told)}`);
  }
  fill(byId('counts-legend'),
    key('desired', 'desired', number(told?.desired)), key('current', 'current', number(told?.current)),
    key('evaluated', 'evaluated', number(told?.evaluated)), key('band', 'bounds', `${number(told?.min)} – ${number(told?.max)}`),
    h('li', null, h('span', { class: 'marks' }, '▲▼'), ' scaled'), h('li', null, h('span', { class: 'bad' }, '✕'), ' failed'),
    status?.git && h('li', null, h('span', { class: 'commits' }, '◆'), ' committed'));
  const metric = told?.metric;
  const several = metric?.numbers > 1;
  fill(byId('metric-legend'),
    !metric ? h('li', null, 'metric: none gathered')
      : metric.mean === null ? h('li', null, 'metric: not a number ', h('code', null, line(metric.text, 80) || '(empty)'))
        : key('metric', several ? `mean of ${number(metric.numbers)}${metric.total > metric.numbers ? ` of ${number(metric.total)}` : ''}` : 'metric', number(metric.mean)),
    several && key('spread', 'lowest – highest', `${number(metric.low)} – ${number(metric.high)}`));
}

const outcome = (row) => line(row.failed ? `failed in ${row.record.failure.stage}: ${row.record.failure.message}` : row.record.explanation ?? '', 240);

function key(name, text, value) {
  return h('li', null, h('svg', { class: 'key', width: 22, height: 10, 'aria-hidden': 'true' },
    name === 'band' || name === 'spread' ? h('rect', { class: name, width: 22, height: 10 }) : h('path', { class: name, d: 'M0 5H22' })), `${text} `, h('b', null, value));
}

function follows(event) {
  if (!charts?.rows.length) return;
  const box = byId('counts-host').getBoundingClientRect();
  point(charts.rows[nearest(charts.rows, charts.at(event.clientX - box.left))]);
}

const timeline = byId('timeline');
for (const host of [byId('counts-host'), byId('metric-host')]) {
  host.addEventListener('pointermove', follows);
  host.addEventListener('pointerdown', follows);
  host.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && charts && point(null));
}
timeline.addEventListener('keydown', (event) => {
  if (!charts?.rows.length) return;
  const last = charts.rows.length - 1;
  const at = charts.rows.findIndex((row) => row.key === pointed);
  const to = { ArrowLeft: at < 0 ? last : at - 1, ArrowRight: at < 0 ? last : at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: last, Escape: null }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const row = to === null ? null : charts.rows[Math.min(last, Math.max(0, to))];
  point(row);
  say(byId('pointed'), row ? `${moment(row.at, now())}: desired ${number(row.desired)}, current ${number(row.current)}, evaluated ${number(row.evaluated)}, bounds ${number(row.min)} to ${number(row.max)}. ${outcome(row)}` : '');
});
timeline.addEventListener('blur', () => charts && point(null));
byId('range').addEventListener('change', (event) => {
  range = Number(event.target.value);
  draw();
});
new ResizeObserver(() => charts && draw()).observe(timeline);

byId('more').addEventListener('click', () => {
  showMore();
  showRuns(rows, now());
});

// ---- Time ----

let seconds = 0;
setInterval(() => {
  tellLink();
  if (document.visibilityState !== 'visible') return;
  if (status) tellTimes(status, now(), link.state !== 'lost');
  if (++seconds % 5 === 0 && charts) draw();
}, 1000);
setInterval(again, every);

tellToken();
if (document.visibilityState === 'visible') connect();
else to({ state: 'hidden' });
