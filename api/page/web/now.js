// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// What is so now: counts, why, what is in force, and when that changes.

import { broken, byId, fill, h, say } from './dom.js';
import { ago, line, moment, number, plain, span } from './data.js';

// showNow shows a status. now is the autoscaler's time, in ms.
export function showNow(status, now) {
  const target = status.target ?? {};
  const name = line(target.name || status.id, 253);
  say(byId('target'), name);
  const badges = badgesOf(status).map(([kind, text]) => h('span', { class: `badge ${kind}` }, text));
  fill(byId('about'),
    h('span', null, [target.kind, target.namespace && `in ${target.namespace}`].filter(Boolean).map((part) => line(part, 253)).join(' ')), ...badges);
  const replicas = status.replicas ?? {};
  document.title = `${replicas.desired == null ? '' : `${number(replicas.current)} → ${number(replicas.desired)} · `}${name}`;
  fill(byId('counts'),
    figure('current', replicas.current), h('span', { class: 'arrow', 'aria-hidden': 'true' }, '→'),
    figure('desired', replicas.desired), figure('evaluated', replicas.evaluated));
  say(byId('explanation'), status.explanation ? line(status.explanation, 600) : 'Nothing has been decided yet.');
  fill(byId('notices'), noticesOf(status, now).map(([kind, title, text]) =>
    h('li', { class: kind }, h('strong', null, title), ' ', text)));
  fill(byId('facts'), factsOf(status, now));
  tellTimes(status, now, true);
  say(byId('version'), `Custom Pod Autoscaler ${line(status.version, 60)}, ${line(status.id, 300)}`);
}

function figure(name, value) {
  const text = number(value);
  return h('div', { class: `figure ${name}${text.length > 6 ? ' long' : ''}` }, h('b', null, text), h('span', null, name));
}

function badgesOf(status) {
  const lead = status.leader;
  return [
    lead && (lead.leading ? ['good', 'leading'] : ['plain', 'standing by']),
    status.dryRun && ['note', 'dry run'],
    status.pause && ['note', 'paused'],
    status.hold && ['note', 'on hold'],
    status.override && ['note', 'override'],
    status.fallback && ['bad', 'fallback'],
    status.failures > 0 && ['bad', `${number(status.failures)} failed ${status.failures === 1 ? 'run' : 'runs'}`],
  ].filter(Boolean);
}

const because = (reason) => (reason ? `: ${line(reason, 300)}` : '');
const until = (time, now) => (time ? ` until ${moment(Date.parse(time), now)}` : '');
const overridden = (o) => ['min', 'max'].filter((side) => o[`${side}Replicas`] != null).map((side) => `${side} ${number(o[`${side}Replicas`])}`).join(', ');
const replicasOf = (n) => `${number(n)} ${n === 1 ? 'replica' : 'replicas'}`;

function noticesOf(status, now) {
  const { pause, hold, override, bounds, leader, lastRun, git, config } = status;
  const failure = lastRun?.failure;
  return [
    failure && ['bad', `The last run failed in ${line(failure.stage, 60)}:`, `${failure.subject ? `${line(failure.subject, 253)}: ` : ''}${line(failure.message, 600)}`],
    status.fallback && ['bad', 'Fallback:', 'the hooks have failed so often that the fallback’s count stands in for what they say.'],
    git?.lastError && ['bad', 'Git:', line(git.lastError, 600)],
    git?.arriving && ['note', `Pushed ${number(git.arriving.replicas)};`, arrivingOf(git.arriving, now)],
    config?.fileError && ['bad', 'The configuration file has changed, but is not valid and left aside:', line(String(config.fileError).trim().split('\n', 1)[0], 300)],
    pause && ['note', 'Paused', `${pause.replicas == null ? 'at the count there is' : `at ${replicasOf(pause.replicas)}`}${because(pause.reason)}`],
    hold && ['note', 'On hold', `at ${replicasOf(hold.replicas)}${until(hold.until, now)}${because(hold.reason)}`],
    override && ['note', 'Override:', `${overridden(override)}${until(override.expiresAt, now)}${because(override.reason)}`],
    status.dryRun && ['note', 'Dry run:', 'counts are decided and told, but not written.'],
    bounds?.conflict && ['note', 'Bounds:', line(bounds.conflict, 300)],
    config?.needsRestart?.length > 0 && ['quiet', 'Changed, but needs a restart:', keysOf(config.needsRestart)],
    config?.live?.length > 0 && ['quiet', 'Changed while it runs:', keysOf(config.live)],
    leader && !leader.leading && ['note', 'Standing by:', leader.identity ? `${line(leader.identity, 253)} leads.` : 'nobody leads.'],
  ].filter(Boolean);
}

const keysOf = (keys) => `${keys.slice(0, 20).map((key) => line(key, 60)).join(', ')}${keys.length > 20 ? ` and ${number(keys.length - 20)} more` : ''}`;

function arrivingOf({ live, since }, now) {
  const waited = (now - Date.parse(since)) / 1000;
  return `the target still has ${number(live)}${Number.isNaN(waited) ? '' : `, for ${ago(waited)}`}: waiting for whoever applies the repository`;
}

const source = (limit) => (limit?.source ? line(limit.source, 120) : 'configuration');

function factsOf(status, now) {
  const { bounds, metrics, leader, git } = status;
  const facts = [];
  const fact = (name, value, ...more) => facts.push(h('div', null, h('dt', null, name), h('dd', null, value, more.filter(Boolean).map((m) => h('small', null, m)))));
  if (bounds?.min) {
    fact('Bounds', `${number(bounds.min.replicas)} – ${number(bounds.max?.replicas)}`,
      source(bounds.min) === source(bounds.max) ? `from ${source(bounds.min)}` : `min: ${source(bounds.min)}, max: ${source(bounds.max)}`);
    if (bounds.nextChange) fact('Bounds change', `in ${span((Date.parse(bounds.nextChange) - now) / 1000)}`, moment(Date.parse(bounds.nextChange), now));
  }
  fact('Next run', h('span', { id: 'next-run' }));
  fact('Last run', h('span', { id: 'last-run' }), status.lastRun && `took ${span(status.lastRun.tookSeconds ?? 0)}${status.lastRun.failure ? ', failed' : ''}`);
  if (metrics?.values?.length) {
    const total = Math.max(metrics.total ?? 0, metrics.values.length);
    fact('Metric', h('span', { class: 'value' }, line(metrics.values[0].value, 40) || '(empty)'),
      `${line(metrics.values[0].resource, 80)}${total > 1 ? ` and ${number(total - 1)} more` : ''}`);
  }
  if (leader?.leading && leader.identity) fact('Leader', 'this one', line(leader.identity, 253));
  if (status.started) fact('Started', `${span((now - Date.parse(status.started)) / 1000)} ago`, moment(Date.parse(status.started), now));
  if (git) facts.push(gitOf(git, now));
  return facts;
}

const modes = { instead: 'commits instead of scaling', record: 'records what is scaled' };

// gitOf is all about the repository, in one.
function gitOf(git, now) {
  const at = (time) => moment(Date.parse(time), now);
  const { pending } = git;
  const wanted = pending && [pending.to != null && `${number(pending.from)} → ${number(pending.to)}`, overridden(pending)].filter(Boolean).join(', ');
  return h('div', { class: 'git' }, h('dt', null, 'Git'), h('dd', null,
    h('span', null, modes[git.mode] ?? line(git.mode, 40)),
    h('small', null, broken(line(git.file, 200)), ` on ${line(git.branch, 200) || '–'} of `, broken(line(git.repository, 300))),
    h('small', null, 'last commit ', git.lastCommit ? h('code', null, line(git.lastCommit, 80).slice(0, 10)) : 'none', git.lastCommitTime && `, ${at(git.lastCommitTime)}`),
    pending && h('small', null, `to be committed: ${wanted || '–'}`, pending.since && `, since ${at(pending.since)}`, pending.due && `, tried at ${at(pending.due)}`, because(pending.reason)),
    git.diff && h('pre', null, plain(git.diff, 4000))));
}

// tellTimes counts on what changes each second. Without a connection nobody
// knows when the next run is.
export function tellTimes(status, now, connected) {
  const next = byId('next-run');
  const last = byId('last-run');
  if (!next || !last) return;
  const due = status.nextRun ? (Date.parse(status.nextRun) - now) / 1000 : null;
  say(next, due === null || !connected ? '–' : due > 0.5 ? `in ${ago(Math.ceil(due))}` : due > -10 ? 'now' : `${ago(-due)} overdue`);
  say(last, status.lastRun ? `${ago((now - Date.parse(status.lastRun.time)) / 1000)} ago` : 'none yet');
}
