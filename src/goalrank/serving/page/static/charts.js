// Small charts as inline SVG, drawn at the width of their frame; the style sheet sets the colours.

import { number, percent, svg } from "./dom.js";

const text = (x, y, content, properties = {}) => svg("text", { x, y, ...properties }, content);

const pen = document.createElement("canvas").getContext("2d");

/** Width of a text of a chart in pixels. */
function measure(content) {
  pen.font = `600 12.5px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(content).width;
}

/** A name within `room` pixels; a longer one ends in "…", and its whole text is its title. */
function nameLabel(x, y, name, room) {
  let shown = name;
  while (shown.length > 1 && measure(shown) > room) shown = `${shown.slice(0, -2)}…`;
  return svg("text", { x, y, class: "t strong" }, shown, shown === name ? null : svg("title", {}, name));
}

/** Draws a chart again whenever the width of its frame changes. */
export function fitted(draw) {
  const frame = document.createElement("div");
  frame.className = "chart";
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now && now !== width) {
      width = now;
      frame.replaceChildren(draw(Math.max(240, now)));
    }
  }).observe(frame);
  return frame;
}

function picture(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...children);
}

/** Shares of all units by variant, with a mark at the share that its weight predicts. */
export function shares(units, weights) {
  const names = Object.keys(weights);
  const total = names.reduce((sum, n) => sum + (units[n] ?? 0), 0);
  const whole = names.reduce((sum, n) => sum + weights[n], 0);
  const expected = (n) => (total * weights[n]) / whole;
  const label = `Units: ${names.map((n) => `${n} ${units[n] ?? 0}, expected ${Math.round(expected(n))}`).join("; ")}`;
  return fitted((width) => {
    const scale = (value) => (value / Math.max(total, 1)) * width;
    const inside = (x) => Math.min(Math.max(x, 1), width - 1); // a mark at an end is drawn whole
    const rows = names.flatMap((name, i) => {
      const y = i * 44;
      const count = units[name] ?? 0;
      const told = `${number(count)}${total ? ` · ${percent(count / total, 1)}` : ""}`;
      return [
        nameLabel(0, y + 13, name, width - measure(told) - 12),
        text(width, y + 13, told, { class: "t", "text-anchor": "end" }),
        svg("rect", { x: 0, y: y + 20, width: width, height: 12, rx: 3, class: "track" }),
        svg("rect", { x: 0, y: y + 20, width: Math.max(scale(count), count ? 2 : 0), height: 12, rx: 3, class: `arm-${i % 4}` }),
        total ? svg("line", { x1: inside(scale(expected(name))), x2: inside(scale(expected(name))), y1: y + 17, y2: y + 35, class: "mark" }) : null,
      ];
    });
    return picture(width, names.length * 44 - 6, label, ...rows);
  });
}

/** Lift of each metric and variant with its interval; the vertical line means no difference. */
export function lifts(effects, names) {
  const finite = effects.filter((e) => [e.lift, e.low, e.high].every((v) => v !== null && Number.isFinite(v)));
  const reach = 1.1 * Math.max(0.01, ...finite.flatMap((e) => [Math.abs(e.low), Math.abs(e.high)]));
  const label = `Lift: ${finite.map((e) => `${e.metric} of ${e.variant} ${signed(e.lift)}, from ${signed(e.low)} to ${signed(e.high)}`).join("; ") || "not yet known"}`;
  return fitted((width) => {
    const at = (value) => width / 2 + (Math.min(Math.max(value, -reach), reach) / reach) * (width / 2 - 6);
    const height = finite.length * 46 + 22;
    const rows = finite.flatMap((e, i) => {
      const y = i * 46;
      const arm = `arm-${Math.max(names.indexOf(e.variant), 0) % 4}`;
      const sure = e.p_adjusted < 0.05 && (e.low > 0 || e.high < 0);
      const told = `${signed(e.lift)}${sure ? "" : " (not sure)"}`;
      return [
        nameLabel(0, y + 13, `${e.metric} · ${e.variant}`, width - measure(told) - 12),
        text(width, y + 13, told, { class: "t", "text-anchor": "end" }),
        svg("line", { x1: at(e.low), x2: at(e.high), y1: y + 28, y2: y + 28, class: `${arm} interval` }),
        svg("line", { x1: at(e.low), x2: at(e.low), y1: y + 23, y2: y + 33, class: `${arm} cap` }),
        svg("line", { x1: at(e.high), x2: at(e.high), y1: y + 23, y2: y + 33, class: `${arm} cap` }),
        svg("circle", { cx: at(e.lift), cy: y + 28, r: 5, class: `${arm} ${sure ? "dot" : "dot hollow"}` }),
      ];
    });
    return picture(width, height, label,
      svg("line", { x1: width / 2, x2: width / 2, y1: 20, y2: height - 20, class: "axis" }),
      ...rows,
      text(0, height - 5, signed(-reach), { class: "t soft" }),
      text(width / 2, height - 5, "0 %", { class: "t soft", "text-anchor": "middle" }),
      text(width, height - 5, signed(reach), { class: "t soft", "text-anchor": "end" }));
  });
}

/** Running averages over time, one line per variant. */
export function lines(series, names) {
  const points = names.flatMap((n) => series[n] ?? []);
  const times = points.map(([t]) => Date.parse(t));
  const values = points.map(([, v]) => v);
  const [t0, t1] = [Math.min(...times), Math.max(...times)];
  const top = 1.15 * (Math.max(0, ...values) || 1); // an axis to 1 where all are 0
  const last = (n) => series[n]?.at(-1)?.[1];
  const label = `Running averages: ${names.filter((n) => last(n) !== undefined).map((n) => `${n} ${last(n).toPrecision(3)} now`).join("; ")}`;
  return fitted((width) => {
    const height = 168;
    const ticks = [0, 0.5, 1].map((part) => (part * top) / 1.15).map((value) => [value, value ? String(Number(value.toPrecision(2))) : "0"]);
    const left = 10 + Math.max(...ticks.map(([, told]) => measure(told)));
    const right = Math.min(14 + Math.max(...names.map(measure)), width / 3);
    const bottom = 24;
    const x = (t) => (t1 === t0 ? left + (width - left - right) / 2 : left + ((t - t0) / (t1 - t0)) * (width - left - right));
    const y = (v) => 8 + (1 - v / top) * (height - bottom - 8);
    const grid = ticks.flatMap(([value, told]) => [
      svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      text(left - 6, y(value) + 4, told, { class: "t soft", "text-anchor": "end" }),
    ]);
    const ends = separated(names.filter((n) => last(n) !== undefined).map((n) => ({ n, y: y(last(n)) })));
    const curves = names.flatMap((name, i) => {
      const mine = (series[name] ?? []).map(([t, v]) => [x(Date.parse(t)), y(v)]);
      if (!mine.length) return [];
      const end = ends.find((each) => each.n === name);
      return [
        svg("polyline", { points: mine.map((p) => p.map((c) => c.toFixed(1)).join(",")).join(" "), class: `arm-${i % 4} line` }),
        ...mine.slice(-1).map(([cx, cy]) => svg("circle", { cx, cy, r: 4, class: `arm-${i % 4} dot` })),
        nameLabel(width - right + 8, end.y + 4, name, right - 8),
      ];
    });
    const day = (t) => new Date(t).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
    return picture(width, height, label, ...grid, ...curves,
      text(left, height - 4, day(t0), { class: "t soft" }),
      t1 > t0 ? text(width - right, height - 4, day(t1), { class: "t soft", "text-anchor": "end" }) : null);
  });
}

/** Moves labels down until they do not overlap. */
function separated(ends) {
  ends.sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i += 1) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 15);
  return ends;
}

/** Writes a difference with its sign; what rounds to 0 has none. */
export function signed(value) {
  const told = percent(Math.abs(value), 1);
  return Number.parseFloat(told) === 0 ? told : `${value > 0 ? "+" : "−"}${told}`;
}
