// Helpers that make elements without markup in strings, so that no data can become code.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. Properties `on…` are listeners, others are attributes; null is left out. */
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** Makes an SVG element, like `h`. */
export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" && "value" in element) element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Announces a text to screen readers without moving the focus. */
export function say(text) {
  const live = byId("live");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 30);
}

let count = 0;
/** Makes a new id for labels. */
export const fresh = (prefix) => `${prefix}-${++count}`;

const CONTROLS = "summary, button, select, input";

/**
 * Replaces children and keeps the focus in its place: on the control with the same data-key, or,
 * where that is gone (a chip was removed), on the next one that is left, else on the one before.
 */
export function refill(parent, ...children) {
  const active = document.activeElement;
  const held = parent.contains(active);
  const keys = held ? [...parent.querySelectorAll("[data-key]")].map((each) => each.dataset.key) : [];
  const at = keys.indexOf(active?.dataset?.key);
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  if (!held || at < 0) return;
  const left = [...keys.slice(at), ...keys.slice(0, at).reverse()];
  const found = left.map((key) => parent.querySelector(`[data-key="${CSS.escape(key)}"]`)).find(Boolean);
  (found ?? parent.querySelector(CONTROLS))?.focus({ preventScroll: true });
}

/** Calls `show` if a promise takes longer than a person waits without wondering; gives the promise. */
export function slowly(promise, show, after = 400) {
  const timer = setTimeout(show, after);
  return promise.finally(() => clearTimeout(timer));
}

export const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;

export function chance(value) {
  if (value >= 0.995) return value > 0.9995 ? "100 %" : "> 99 %";
  return value >= 0.1 ? percent(value) : value >= 0.001 ? percent(value, 1) : "< 0.1 %";
}

/** Writes a p-value; one that three digits cannot tell from 0 is "< 0.001". */
export const pValue = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));

export const number = (value) => value.toLocaleString("en-US");

/** Writes a number with its noun: "1 request", "2 requests". */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Writes a number for a table: three digits that count, long ones with separators. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? number(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** Writes seconds in the largest unit of which there are two or more. */
export function duration(seconds) {
  const units = [["years", 31_557_600], ["days", 86_400], ["h", 3_600], ["min", 60]];
  const [name, size] = units.find(([, each]) => seconds >= 2 * each) ?? ["s", 1];
  return `${number(Math.floor(seconds / size))} ${name}`;
}

/** Writes a time of the server in the visitor's zone, to the minute. */
export const moment = (text) => new Date(text).toLocaleString("sv-SE", { dateStyle: "short", timeStyle: "short" });

export function ordinal(n) {
  const tail = n % 100 > 10 && n % 100 < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] ?? "th";
  return `${n}${tail}`;
}

export const nameOf = (card) => card.title ?? `Item ${card.id}`;

/** Writes the first facts of an item in one line. */
export function factsOf(card, most = 2) {
  const facts = card.facts.slice(0, most);
  return facts.map((f) => (card.title ? f.value : `${f.name} ${f.value}`)).join(" · ");
}
