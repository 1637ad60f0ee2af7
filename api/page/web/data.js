// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// What the autoscaler tells, made fit to be shown. Everything here is pure.

// plain shows what others wrote as it is: control characters and those that
// turn the direction of text are named, colours of a terminal left out, and
// what is very long is cut.
export function plain(value, most = 2000) {
  let text = String(value ?? '');
  if (text.length > most) text = `${text.slice(0, most)} … (${text.length - most} more)`;
  return text
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '')
    .replace(/\r\n/g, '\n')
    .replace(/[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
      (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`);
}

// line is plain on one line.
export const line = (value, most) => plain(value, most).replace(/\s+/g, ' ').trim();

// numberOf is the number a metric's value is, or the only one in it if it is
// JSON; else null.
export function numberOf(value) {
  const text = String(value ?? '').trim();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return finite(Number(text));
  if (!/^[[{]/.test(text)) return null;
  const found = [];
  try {
    JSON.parse(text, (_, part) => {
      if (typeof part === 'number') found.push(part);
      return part;
    });
  } catch {
    return null;
  }
  return found.length === 1 ? finite(found[0]) : null;
}

const finite = (n) => (Number.isFinite(n) ? n : null);

// metricOf sums up the metrics of a run; null if it has none.
export function metricOf(metrics, total) {
  if (!metrics?.length) return null;
  const numbers = metrics.map((m) => numberOf(m.value)).filter((n) => n !== null);
  const summary = { given: metrics.length, total: Math.max(total ?? 0, metrics.length), text: metrics[0].value };
  if (numbers.length === 0) return { ...summary, mean: null };
  return {
    ...summary,
    numbers: numbers.length,
    mean: numbers.reduce((sum, n) => sum + n / numbers.length, 0),
    low: Math.min(...numbers),
    high: Math.max(...numbers),
  };
}

// A run that ended in one of these does not know the current count.
const blind = new Set(['state', 'read']);

// rowOf is a record and what the charts need of it. A count is null if it is
// not known, and undefined if the run was not about it.
export function rowOf(record) {
  const at = Date.parse(record.time);
  if (Number.isNaN(at)) return null;
  const whole = record.trigger?.through !== 'metrics';
  const decision = record.decision;
  return {
    record,
    at,
    key: `${record.time} ${record.sequence}`,
    sequence: record.sequence,
    current: blind.has(record.failure?.stage) && !decision ? null : count(record.current),
    evaluated: whole ? count(decision?.evaluated ?? record.evaluation?.targetReplicas) : undefined,
    desired: whole ? count(decision?.desired) : undefined,
    min: count(record.bounds?.min?.replicas),
    max: count(record.bounds?.max?.replicas),
    metric: metricOf(record.metrics, record.metricsTotal),
    failed: Boolean(record.failure),
    wrote: Boolean(record.written),
    asked: Boolean(record.trigger?.dryRun),
    up: (decision?.desired ?? 0) >= (decision?.current ?? record.current),
  };
}

const count = (n) => (Number.isFinite(n) ? n : null);

// drawn are the rows that the timeline is of. What somebody asked to be told,
// without a consequence, is no decision.
export const drawn = (rows) => rows.filter((row) => !row.asked);

// merge adds records to rows, oldest first, each once, and keeps the newest.
export function merge(rows, records, most = 1000) {
  const all = new Map(rows.map((row) => [row.key, row]));
  for (const record of records) {
    const row = rowOf(record);
    if (row && !all.has(row.key)) all.set(row.key, row);
  }
  return [...all.values()].sort((a, b) => a.at - b.at || a.sequence - b.sequence).slice(-most);
}

// outcomeOf is what became of a run, in the words of the command line, and how
// much of a notice that deserves.
export function outcomeOf(record) {
  const { failure, decision, written } = record;
  if (written) return failure ? ['bad', 'scaled, then failed'] : ['good', 'scaled'];
  if (failure) return ['bad', 'failed'];
  if (record.deferred) return ['note', 'waits'];
  if (!decision) return ['plain', 'gathered'];
  const kind = decision.desired === decision.current ? 'plain' : 'note';
  return [kind, record.dryRun || record.trigger?.dryRun ? 'dry run' : 'kept'];
}

// withGaps says until when each row holds: until the next, unless the
// autoscaler did not run in between. It did not when it began to count anew, or
// when a pause is much longer than the five before and after it.
export function withGaps(rows) {
  const pauses = rows.slice(1).map((row, i) => row.at - rows[i].at);
  return rows.map((row, i) => {
    if (i === pauses.length) return { ...row, gap: false, until: null, resumes: null };
    const usual = Math.max(0, ...pauses.slice(Math.max(0, i - 5), i), ...pauses.slice(i + 1, i + 6));
    const long = usual > 0 && pauses[i] > Math.max(30_000, 4 * usual);
    const gap = long || rows[i + 1].sequence <= row.sequence;
    return { ...row, gap, until: row.at + (gap ? Math.min(usual, pauses[i]) : pauses[i]), resumes: rows[i + 1].at };
  });
}

// parser reads a stream of server-sent events, piece by piece, and hands each
// event on. An event that grows over the limit is an error.
export function parser(take, most = 4 << 20) {
  let rest = '';
  let size = 0;
  let event = { type: '', data: [] };
  let id = '';
  const field = (name, value) => {
    if (name === 'data') event.data.push(value);
    else if (name === 'event') event.type = value;
    else if (name === 'id' && !value.includes('\0')) id = value;
  };
  return (piece) => {
    size += piece.length;
    if (size > most) throw new Error('an event of the stream is too large');
    // A return at the very end may be half a line's end.
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const text of lines) {
      if (text === '') {
        if (event.data.length) take({ type: event.type || 'message', data: event.data.join('\n'), id });
        event = { type: '', data: [] };
        size = rest.length;
        continue;
      }
      const colon = text.indexOf(':');
      if (colon < 0) field(text, '');
      else if (colon > 0) field(text.slice(0, colon), text.slice(colon + 1).replace(/^ /, ''));
    }
  };
}

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 3 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });

// number is a count or a value in full, label one that fits beside an axis.
export const number = (n) => (n == null ? '–' : Number.isInteger(n) ? grouped.format(n) : precise.format(n));
export const label = (n) => (Math.abs(n) >= 10000 ? short.format(n) : precise.format(n));

// span is a length of time in words, of seconds: "340 ms", "12 s", "5 min".
export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 0.0005) return s ? '< 1 ms' : '0 ms';
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${Number(s.toFixed(1))} s`;
  if (s < 119.5) return `${Math.round(s)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ''}`;
  return `${Math.round(minutes / 1440)} days`;
}

// ago is span for what is told each second.
export const ago = (seconds) => span(seconds < 1 ? Math.floor(Math.max(0, seconds)) : Math.floor(seconds)).replace(/^0 ms$/, '0 s');

const formats = {};
function format(name, options) {
  return (formats[name] ??= new Intl.DateTimeFormat(undefined, { hourCycle: 'h23', ...options }));
}
export const clock = (at) => format('clock', { hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(at);
export const minute = (at) => format('minute', { hour: '2-digit', minute: '2-digit' }).format(at);
export const day = (at) => format('day', { day: 'numeric', month: 'short' }).format(at);

// moment is a time of day, with the day unless it is now's.
export function moment(at, now) {
  return new Date(at).toDateString() === new Date(now).toDateString() ? clock(at) : `${day(at)}, ${clock(at)}`;
}
