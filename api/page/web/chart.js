// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// The two charts over one axis of time: counts within their bounds, and the
// metric. Above drawCharts everything is pure.

import { h } from './dom.js';
import { clock, day, label, minute, number } from './data.js';

// scale maps a domain onto pixels, and stays within these.
export function scale(from, to, start, end) {
  const [low, high] = start < end ? [start, end] : [end, start];
  return (value) => {
    const at = start + ((value - from) / (to - from || 1)) * (end - start);
    return Math.round(Math.min(high, Math.max(low, at)) * 10) / 10;
  };
}

// ticks are round values from low to high, about as many as wanted.
export function ticks(low, high, wanted, whole) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// timeTicks are round times of the local day, with what to call them.
export function timeTicks(from, to, wanted) {
  const rough = (to - from) / 1000 / wanted;
  const step = (steps.find((s) => s >= rough) ?? Math.ceil(rough / 86400) * 86400) * 1000;
  const found = [];
  let before = new Date(from).toDateString();
  // Each is rounded in local time by itself: a clock may be changed between two.
  for (let at = round(from, step); at <= to && found.length < 100; at = round(at + step * 1.001, step)) {
    if (at < from) continue;
    const today = new Date(at).toDateString();
    const text = today !== before || step >= 86400_000 ? day(at) : step < 60_000 ? clock(at) : minute(at);
    before = today;
    found.push({ at, text });
  }
  return found;
}

function round(at, step) {
  const shift = new Date(at).getTimezoneOffset() * 60_000;
  return Math.floor((at - shift) / step) * step + shift;
}

// countDomain is what the axis of counts shows. What is far beyond the rest, a
// maximum that is no limit or one wild evaluation, runs along the edge instead
// of flattening everything else.
export function countDomain(rows) {
  const all = (of) => rows.map(of).filter((n) => n != null);
  const counts = [...all((r) => r.desired), ...all((r) => r.current)];
  let top = Math.max(1, ...counts);
  const include = (values) => {
    const most = Math.max(...values);
    if (most > top && most <= Math.max(4 * top, 12)) top = most;
  };
  include(all((r) => r.max));
  include(all((r) => r.min));
  include(all((r) => r.evaluated));
  // Far above zero a change would not be seen from there; where labels are
  // shortened it could not be read.
  const least = Math.min(top, ...counts, ...all((r) => r.evaluated));
  const floor = top > 20 && top < 10_000 && least > top * 0.6 ? Math.max(0, Math.floor(least - Math.max(2, (top - least) * 0.3))) : 0;
  return round5(floor, top);
}

// round5 opens a domain until the top is a tick.
function round5(low, high) {
  const marks = ticks(low, high, 4, true);
  const step = marks.length > 1 ? marks[1] - marks[0] : 1;
  const end = Math.ceil(high / step) * step;
  return [low && Math.floor(low / step) * step, end];
}

// metricDomain is what the metric's axis shows.
export function metricDomain(rows) {
  const known = rows.map((r) => r.metric).filter((m) => m?.mean != null);
  if (!known.length) return null;
  let low = Math.min(...known.map((m) => m.low));
  let high = Math.max(...known.map((m) => m.high));
  if (low >= 0 && low < high * 0.6) low = 0;
  // What hardly differs gets some room, or labels would be alike.
  const room = Math.max(Math.abs(low), Math.abs(high)) * 0.1 || 1;
  if (high - low < room / 20) {
    if (low !== 0) low -= room;
    high += room;
  }
  const marks = ticks(low, high, 3);
  const step = marks.length > 1 ? marks[1] - marks[0] : high - low;
  return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
}

// stepPath is the path of a value that holds until it changes. Where it is null
// or nothing ran there is a gap; where it is undefined it stays as it was.
export function stepPath(rows, of, x, y, end) {
  let path = '';
  let open = false;
  for (const row of rows) {
    const value = of(row);
    if (value === null) {
      open = false;
      continue;
    }
    if (value === undefined && !open) continue;
    if (value !== undefined) path += open ? `V${y(value)}` : `M${x(row.at)} ${y(value)}`;
    path += `H${x(row.until ?? end)}`;
    open = !row.gap;
  }
  return path;
}

// bandPath is the area between two values, a rectangle for as long as both stay.
export function bandPath(rows, low, high, x, y, end) {
  let path = '';
  let from = null;
  rows.forEach((row, i) => {
    const [bottom, top] = [low(row), high(row)];
    if (bottom == null || top == null) {
      from = null;
      return;
    }
    from ??= row.at;
    const next = rows[i + 1];
    if (next && !row.gap && low(next) === bottom && high(next) === top) return;
    path += `M${x(from)} ${y(top)}H${x(row.until ?? end)}V${y(bottom)}H${x(from)}Z`;
    from = null;
  });
  return path;
}

// visible are the rows that reach into a stretch of time.
export const visible = (rows, from) => rows.filter((row) => (row.resumes ?? Infinity) > from);

// nearest is the row in force at a time: the last that began before it.
export function nearest(rows, at) {
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (rows[middle].at <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

// apart leaves out marks that would lie on the one before.
export function apart(rows, x, least) {
  let before = -Infinity;
  return rows.filter((row) => {
    if (x(row.at) - before < least) return false;
    before = x(row.at);
    return true;
  });
}

const margin = { left: 46, right: 10, top: 8 };

// frame is a chart's svg with its axes. lane is the height below the plot that
// is left for marks.
function frame({ id, title, description, width, height, lane, x, y, marks, times }) {
  const bottom = margin.top + height;
  const svg = h('svg', { id, role: 'img', width, height: bottom + lane + 22, viewBox: `0 0 ${width} ${bottom + lane + 22}`, 'aria-labelledby': `${id}-title ${id}-desc` },
    h('title', { id: `${id}-title` }, title),
    h('desc', { id: `${id}-desc` }, description));
  for (const mark of marks) {
    svg.append(
      h('line', { class: 'grid', x1: margin.left, x2: width - margin.right, y1: y(mark), y2: y(mark) }),
      h('text', { class: 'axis', x: margin.left - 8, y: y(mark), dy: '.32em', 'text-anchor': 'end' }, label(mark)));
  }
  for (const { at, text } of times) {
    svg.append(
      h('line', { class: 'grid', x1: x(at), x2: x(at), y1: margin.top, y2: bottom + lane }),
      h('text', { class: 'axis', x: Math.min(x(at), width - 24), y: bottom + lane + 15, 'text-anchor': 'middle' }, text));
  }
  return svg;
}

const path = (name, d) => h('path', { class: name, d });
const mark = {
  up: (x, y) => `M${x - 5} ${y + 4}h10l-5 -9z`,
  down: (x, y) => `M${x - 5} ${y - 4}h10l-5 9z`,
  commit: (x, y) => `M${x} ${y - 5}l5 5l-5 5l-5 -5z`,
  failed: (x, y) => `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`,
};

// drawCharts draws rows, which know until when they hold, from one time to
// another. What is in force holds until end. It returns what shows a row on
// both charts: called with null it shows none. commits are times: something is
// committed later than the run that decided it.
export function drawCharts(hosts, all, { from, to, end, commits, summary }) {
  const rows = visible(all, from);
  const width = Math.max(200, hosts.counts.clientWidth);
  const x = scale(from, to, margin.left, width - margin.right);
  const times = timeTicks(from, to, Math.max(2, Math.floor(width / 95)));
  const crosses = [];

  const [low, high] = countDomain(rows);
  const height = width < 480 ? 170 : 230;
  const bottom = margin.top + height;
  const y = scale(low, high, bottom, margin.top);
  const svg = frame({ id: 'counts-chart', title: 'Replica counts over time', description: summary, width, height, lane: 18, x, y, marks: ticks(low, high, 4, true), times });
  const within = (of) => (row) => (of(row) == null || of(row) > high || of(row) < low ? null : of(row));
  for (const { gap, until, resumes } of rows) {
    const space = x(resumes ?? from) - x(until ?? from);
    if (!gap || space <= 0) continue;
    svg.append(h('rect', { class: 'gap', x: x(until), y: margin.top, width: space, height: height + 18 }));
    if (space > 60) svg.append(h('text', { class: 'axis', x: x(until) + space / 2, y: margin.top + 16, 'text-anchor': 'middle' }, 'no runs'));
  }
  svg.append(
    path('band', bandPath(rows, (r) => r.min, (r) => r.max, x, y, end)),
    path('bound', stepPath(rows, within((r) => r.max), x, y, end)),
    path('bound', stepPath(rows, within((r) => r.min), x, y, end)),
    h('line', { class: 'base', x1: margin.left, x2: width - margin.right, y1: bottom, y2: bottom }),
    path('desired', stepPath(rows, (r) => r.desired, x, y, end)),
    path('current', stepPath(rows, (r) => r.current, x, y, end)),
    path('evaluated', stepPath(rows, (r) => r.evaluated, x, y, end)));
  const began = rows.filter((row) => row.at >= from);
  for (const row of apart(began.filter((r) => r.wrote), x, 9)) svg.append(path('wrote', mark[row.up ? 'up' : 'down'](x(row.at), bottom + 10)));
  for (const row of apart(began.filter((r) => r.failed), x, 9)) svg.append(path('failed', mark.failed(x(row.at), bottom + 10)));
  const committed = commits.filter((at) => at >= from && at <= to).map((at) => ({ at }));
  for (const { at } of apart(committed, x, 9)) svg.append(path('committed', mark.commit(x(at), margin.top)));
  const beyond = Math.max(...rows.map((r) => r.evaluated ?? 0));
  if (beyond > high) {
    svg.append(h('text', { class: 'axis beyond', x: width - margin.right - 4, y: margin.top + 13, 'text-anchor': 'end' }, `↑ evaluated up to ${number(beyond)}`));
  }
  svg.dataset.domain = JSON.stringify([from, to, low, high, end]);
  svg.dataset.plot = JSON.stringify([margin.left, width - margin.right, margin.top, bottom]);
  crosses.push(cross(svg, x, margin.top, bottom + 18, y, ['desired', 'current', 'evaluated'].map((name) => [name, (r) => r[name]])));
  hosts.counts.replaceChildren(svg);

  const domain = metricDomain(rows);
  if (domain) {
    const under = width < 480 ? 70 : 90;
    const value = scale(...domain, margin.top + under, margin.top);
    const second = frame({ id: 'metric-chart', title: 'Metric over time', description: 'The mean of the values of a run, and the band between the lowest and the highest.', width, height: under, lane: 0, x, y: value, marks: ticks(...domain, 3), times });
    const of = (name) => (r) => r.metric?.[name] ?? null;
    second.append(
      path('spread', bandPath(rows, of('low'), of('high'), x, value, end)),
      path('metric', stepPath(rows, of('mean'), x, value, end)));
    second.dataset.domain = JSON.stringify([from, to, ...domain, end]);
    second.dataset.plot = JSON.stringify([margin.left, width - margin.right, margin.top, margin.top + under]);
    crosses.push(cross(second, x, margin.top, margin.top + under, value, [['metric', of('mean')]]));
    hosts.metric.replaceChildren(second);
  } else {
    hosts.metric.replaceChildren();
  }
  return {
    rows,
    at: (pixel) => from + ((pixel - margin.left) / (width - margin.right - margin.left)) * (to - from),
    show: (row) => crosses.forEach((show) => show(row)),
  };
}

// cross is a line through a chart with a dot on each of its values.
function cross(svg, x, top, bottom, y, values) {
  const group = h('g', { class: 'cross' });
  svg.append(group);
  return (row) => {
    group.replaceChildren();
    if (!row) return;
    group.append(h('line', { x1: x(row.at), x2: x(row.at), y1: top, y2: bottom }));
    for (const [name, of] of values) {
      if (of(row) != null) group.append(h('circle', { class: `dot ${name}`, cx: x(row.at), cy: y(of(row)), r: 4 }));
    }
  };
}
