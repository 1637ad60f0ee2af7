// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Making elements. Whatever comes from the autoscaler becomes text here, never
// markup.

const svgTags = new Set(['svg', 'g', 'path', 'line', 'rect', 'circle', 'text', 'title', 'desc', 'use']);

// h makes an element. Attributes that are null or false are left out; children
// are elements or text.
export function h(tag, attributes, ...children) {
  const node = svgTags.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value != null && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

// broken is text that a narrow place breaks behind the signs of a path or an
// address, rather than within a word.
export const broken = (text) => text.split(/(?<=[/:@])/).flatMap((part) => [h('wbr'), part]).slice(1);

// fill replaces what is in an element.
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child != null && child !== false));
}

// say sets an element's text, and leaves it alone if that is the same: a screen
// reader would tell it again.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
