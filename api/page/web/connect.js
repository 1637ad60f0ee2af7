// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Asking the autoscaler, and following its stream of records. It is read with
// fetch: an EventSource cannot send a token.

import { line, parser } from './data.js';

const answersWithin = 20_000; // in ms
const pingsWithin = 45_000; // three of the stream's pings
const key = 'custom-pod-autoscaler token';

// The token is kept until the tab is closed, or for as long as this page if the
// browser keeps nothing.
let kept = '';
export const token = {
  get() {
    try {
      return sessionStorage.getItem(key) ?? kept;
    } catch {
      return kept;
    }
  },
  set(value) {
    kept = value;
    try {
      if (value) sessionStorage.setItem(key, value);
      else sessionStorage.removeItem(key);
    } catch { /* kept is enough */ }
  },
};

// Failed is an answer that is no success. refused says that credentials are
// what is missing.
export class Failed extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
    this.refused = status === 401 || status === 403;
  }
}

// ask makes a request, relative to the page: it may be served below a path. The
// answer's body ends when touch was not called for as long as it said.
async function ask(path, signal, headers, read) {
  const stop = new AbortController();
  const abort = () => stop.abort();
  let timer;
  const touch = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(abort, ms);
  };
  signal.addEventListener('abort', abort);
  touch(answersWithin);
  try {
    if (signal.aborted) abort();
    const bearer = token.get();
    const response = await fetch(path, {
      headers: { ...headers, ...(bearer && { Authorization: `Bearer ${bearer}` }) },
      cache: 'no-store',
      signal: stop.signal,
    });
    if (!response.ok) throw new Failed(response.status, await explanation(response));
    return await read(response, touch);
  } catch (err) {
    if (err instanceof Failed) throw err;
    if (stop.signal.aborted) throw new Error('there was no answer in time', { cause: err });
    if (err instanceof SyntaxError) throw new Error('what answers is no autoscaler', { cause: err });
    throw err instanceof TypeError ? new Error('it cannot be reached', { cause: err }) : err;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    stop.abort(); // what is left of a body
  }
}

// explanation is what an answer says went wrong.
async function explanation(response) {
  const text = (await response.text()).slice(0, 2000);
  try {
    return line(JSON.parse(text).message ?? text, 300);
  } catch {
    return line(text, 300) || `status ${response.status}`;
  }
}

export const get = (path, signal) => ask(path, signal, { Accept: 'application/json' }, (response) => response.json());

// follow hands on each record that comes after the one numbered last, until the
// stream ends. heard is called for everything that comes, first for its
// beginning.
export function follow(last, signal, heard, take) {
  const headers = { Accept: 'text/event-stream', 'Last-Event-ID': String(last) };
  return ask('api/v1/records/stream', signal, headers, async (response, touch) => {
    const feed = parser((event) => {
      if (event.type === 'record') take(JSON.parse(event.data));
    });
    const reader = response.body.getReader();
    const text = new TextDecoder();
    for (;;) {
      touch(pingsWithin);
      heard();
      const { done, value } = await reader.read();
      if (done) return;
      feed(text.decode(value, { stream: true }));
    }
  });
}

// pause waits, or until the signal.
export function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(end, ms);
    function end() {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      done();
    }
    signal.addEventListener('abort', end);
  });
}

// backoff is how long to wait before another try, in ms: 1 s, 2 s ... 30 s, a
// little more or less so that pages do not come all at once.
export const backoff = (tries, random = Math.random()) => Math.min(30_000, 1000 * 2 ** tries) * (0.8 + 0.4 * random);
