// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// The table of runs, newest first. A row is made once, so that one which is
// open stays so.

import { byId, h } from './dom.js';
import { line, moment, number, outcomeOf, plain, span } from './data.js';

const stages = ['state', 'read', 'kubernetesMetrics', 'preMetric', 'metric', 'postMetric', 'preEvaluate', 'evaluate', 'postEvaluate', 'decide', 'preScale', 'write', 'postScale'];

const made = new Map();
let shown = 50;

// showRuns brings the table up to date with rows, oldest first.
export function showRuns(rows, now) {
  const newest = rows.slice(-shown).reverse();
  const wanted = new Set(newest.map((row) => row.key));
  for (const [key, pair] of made) {
    if (wanted.has(key)) continue;
    pair.forEach((node) => node.remove());
    made.delete(key);
  }
  const body = byId('runs');
  let place = body.firstChild;
  for (const row of newest) {
    if (!made.has(row.key)) made.set(row.key, runOf(row, now));
    for (const node of made.get(row.key)) {
      if (node === place) place = place.nextSibling;
      else body.insertBefore(node, place);
    }
  }
  byId('no-runs').hidden = rows.length > 0;
  byId('more').hidden = rows.length <= shown;
}

// showMore shows more of the rows at the next showRuns.
export function showMore() {
  shown += 100;
}

// runOf is a run's line in the table, and what opens below it.
function runOf(row, now) {
  const { record } = row;
  const [kind, outcome] = outcomeOf(record);
  const details = h('tr', { class: 'details', role: 'row', hidden: true });
  const toggle = h('button', {
    type: 'button', class: 'toggle', 'aria-expanded': 'false', title: 'Details',
    click() {
      const open = details.hidden;
      if (open && !details.firstChild) details.append(h('td', { colspan: 6, role: 'cell' }, detailsOf(record)));
      details.hidden = !open;
      toggle.setAttribute('aria-expanded', String(open));
    },
  }, h('time', { datetime: record.time }, moment(row.at, now)));
  const counts = row.desired == null
    ? number(row.current)
    : `${number(row.record.decision?.current ?? row.current)} → ${number(row.desired)}`;
  return [
    h('tr', { role: 'row' },
      h('td', { role: 'cell', class: 'time' }, toggle),
      h('td', { role: 'cell', class: 'trigger' }, line(record.trigger?.kind, 40), row.asked && h('small', null, 'dry run, not drawn above'), record.trigger?.reason && h('small', null, line(record.trigger.reason, 200))),
      h('td', { role: 'cell', class: kind === 'plain' || row.asked ? 'count quiet' : 'count' }, counts),
      h('td', { role: 'cell', class: 'why' }, h('div', null, explanationOf(record))),
      h('td', { role: 'cell', class: 'outcome' }, h('span', { class: `badge ${kind}` }, outcome)),
      h('td', { role: 'cell', class: 'took' }, span(record.tookSeconds ?? 0), stackOf(record))),
    details,
  ];
}

function explanationOf(record) {
  const { failure } = record;
  return [
    failure && h('p', { class: 'bad' }, h('strong', null, line(failure.stage, 60)), ` ${failure.subject ? `${line(failure.subject, 253)}: ` : ''}${line(failure.message, 400)}`),
    record.explanation && h('p', null, line(record.explanation, 600)),
    record.deferred && h('p', null, `Waits: ${line(record.deferred, 300)}`),
    record.skippedPods?.length > 0 && h('p', { class: 'quiet' }, `${number(record.skippedPods.length)} ${record.skippedPods.length === 1 ? 'pod' : 'pods'} left out`),
    !failure && !record.explanation && h('p', { class: 'quiet' }, record.trigger?.through === 'metrics' ? 'only gathered the metrics' : 'nothing was decided'),
  ].filter(Boolean);
}

const partsOf = (record) => Object.entries(record.durationSeconds ?? {})
  .filter(([, seconds]) => seconds > 0)
  .sort(([a], [b]) => stages.indexOf(a) - stages.indexOf(b));

// stackOf is a small bar of how long each stage took, beside one another.
function stackOf(record) {
  const parts = partsOf(record);
  const sum = parts.reduce((total, [, seconds]) => total + seconds, 0);
  const rest = Math.max(0, (record.tookSeconds ?? 0) - sum);
  const bar = h('span', { class: 'stack', role: 'img', 'aria-label': parts.map(([stage, seconds]) => `${line(stage, 40)} ${span(seconds)}`).join(', ') || 'no stages' });
  for (const [, seconds] of parts) bar.append(grown(h('i'), seconds));
  if (rest) bar.append(grown(h('i', { class: 'rest' }), rest));
  return bar;
}

function grown(node, share) {
  node.style.flexGrow = share;
  return node;
}

function detailsOf(record) {
  const longest = Math.max(0, ...partsOf(record).map(([, seconds]) => seconds));
  const failure = record.failure;
  const constraints = record.decision?.constraints ?? [];
  return [
    failure && block(`Failed in ${line(failure.stage, 60)}`,
      h('p', null, [failure.kind && `${line(failure.kind, 40)}: `, failure.subject && `${line(failure.subject, 253)}: `, line(failure.message, 2000)].filter(Boolean).join('')),
      stderrOf(failure.stderr, Boolean(failure.kind))),
    record.skippedPods?.length > 0 && block('Pods left out', record.skippedPods.slice(0, 50).map((pod) => [
      h('p', null, h('strong', null, line(pod.name, 253)), ` ${line(pod.error, 600)}`), stderrOf(pod.stderr, false)]).flat(),
    record.skippedPods.length > 50 && h('p', { class: 'quiet' }, `and ${number(record.skippedPods.length - 50)} more`)),
    constraints.length > 0 && block('What changed the count', h('ol', null, constraints.slice(0, 20).map((c) =>
      h('li', null, `${line(c.name, 60)}: ${number(c.from)} → ${number(c.to)}`, c.detail && h('small', null, line(c.detail, 300)))))),
    block('Stages', h('ol', { class: 'stages' }, partsOf(record).map(([stage, seconds]) => {
      const bar = h('i');
      bar.style.width = `${(100 * seconds) / longest}%`;
      return h('li', null, h('span', null, line(stage, 40)), h('span', { class: 'length' }, bar), h('b', null, span(seconds)));
    }))),
    record.metrics?.length > 0 && block('Metrics', h('ul', null, record.metrics.slice(0, 20).map((m) =>
      h('li', null, `${line(m.resource, 120)} `, h('code', null, line(m.value, 256) || '(empty)')))),
    record.metricsTotal > record.metrics.length && h('p', { class: 'quiet' }, `the first ${number(record.metrics.length)} of ${number(record.metricsTotal)}`)),
    h('p', { class: 'quiet' }, `Run ${number(record.sequence)}, ${line(record.trigger?.runType, 40)}, ${line(record.time, 40)}, bounds ${number(record.bounds?.min?.replicas)} – ${number(record.bounds?.max?.replicas)}`),
  ].filter(Boolean);
}

function block(title, ...children) {
  return h('div', { class: 'block' }, h('h3', null, title), ...children);
}

// stderrOf is what a hook said, or why that is not shown: who has no
// credentials is not told.
function stderrOf(stderr, expected) {
  if (stderr) return h('pre', { tabindex: 0, 'aria-label': 'stderr' }, plain(stderr, 9000));
  return expected && h('p', { class: 'quiet' }, 'No stderr: the hook wrote none, or it is shown only with credentials.');
}
