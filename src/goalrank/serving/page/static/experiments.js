// Panel of the running experiments: sizes of the variants, lifts and running averages.

import { get } from "./api.js";
import { lifts, lines, shares, signed } from "./charts.js";
import { byId, counted, fresh, h, pValue, refill, say } from "./dom.js";

const EVERY = 30_000;

export function experimentsPanel(state) {
  let days = 14;
  let chosen = {};
  let shown = "";
  if (!state.about.experiments.length) {
    refill(byId("lab"), h("p", { class: "soft" }, "No experiment is running on this server. Start one with ", h("code", {}, "goalrank serve --experiments experiments.toml"), "."));
    return { load: async () => {} };
  }
  const span = fresh("days");
  refill(byId("lab-controls"),
    h("label", { for: span }, "Latest"),
    h("select", { id: span, onchange: (e) => { days = Number(e.target.value); load(true); } },
      [[1, "day"], [7, "7 days"], [14, "14 days"], [30, "30 days"], [90, "90 days"]].map(([n, text]) => h("option", { value: n, selected: n === days }, text))),
    h("button", { type: "button", class: "quiet small", onclick: () => load(true) }, "Refresh"));
  setInterval(() => { if (!document.hidden) load(false); }, EVERY);

  async function load(aloud) {
    try {
      const found = await get("v1/page/experiments", { days });
      const mark = JSON.stringify(found.experiments);
      if (mark !== shown) refill(byId("lab"), found.experiments.map(experiment));
      shown = mark;
      if (aloud) say(`Numbers of the latest ${days === 1 ? "day" : `${days} days`}`);
    } catch (error) {
      if (aloud) refill(byId("lab"), h("p", { class: "fault" }, error.message));
    }
  }

  function experiment(each) {
    const names = Object.keys(each.weights);
    const total = names.reduce((sum, n) => sum + (each.requests[n] ?? 0), 0);
    const { report } = each;
    return h("article", { class: "experiment", "aria-label": `Experiment ${each.name}` },
      h("header", { class: "bar" },
        h("h3", {}, each.name),
        h("p", { class: "soft" }, `${counted(total, "request")} · by ${each.unit.replace("_id", "")} · ${Math.round(each.share * 100)} % take part`),
        report ? srm(report) : null),
      report?.alarm ? h("p", { class: "warning", role: "alert" }, "The sizes of the variants do not fit their weights. Assignment or logging is broken: do not trust the numbers below.") : null,
      each.message ? h("p", { class: "soft" }, each.message) : null,
      (report?.notes ?? []).map((note) => h("p", { class: "soft told-note" }, note)),
      total ? h("div", { class: "charts" },
        figure("Units in each variant", shares(each.units, each.weights), "Bars are shares of all units. The line marks the share that the weights predict."),
        report?.effects.length ? figure(`Lift over ${report.control}`, lifts(report.effects, names), `${Math.round(report.confidence * 100)} % intervals. Hollow: not told apart from 0, as the interval contains it or p after correction is 5 % or more.`) : null,
        running(each, names)) : null,
      report?.effects.length ? table(report) : null);
  }

  function srm(report) {
    return h("span", { class: `tag ${report.alarm ? "bad" : "good"}`, title: "Sample ratio mismatch test: could these sizes be due to chance?" }, report.alarm ? `sample ratio mismatch, p ${pValue(report.srm_p)}` : `sizes fit, p ${pValue(report.srm_p)}`);
  }

  function running(each, names) {
    const drawn = each.metrics.filter((m) => names.some((n) => (each.lines[m]?.[n] ?? []).length));
    if (!drawn.length) return null;
    const metric = drawn.includes(chosen[each.name]) ? chosen[each.name] : drawn[0];
    const frame = h("div", {}, lines(each.lines[metric], names));
    const id = fresh("metric");
    const pick = drawn.length > 1 ? h("span", { class: "controls" }, h("label", { for: id, class: "unseen" }, "Metric"),
      h("select", { id, "data-key": `metric-${each.name}`, onchange: (e) => {
        chosen = { ...chosen, [each.name]: e.target.value };
        frame.replaceChildren(lines(each.lines[e.target.value], names));
      } }, drawn.map((m) => h("option", { value: m, selected: m === metric }, m)))) : h("span", { class: "soft" }, metric);
    return h("figure", {}, h("div", { class: "bar" }, h("h4", {}, "Average so far"), pick), frame, h("figcaption", {}, "All requests since the start of the period."));
  }

  function figure(title, chart, caption) {
    return h("figure", {}, h("h4", {}, title), chart, h("figcaption", {}, caption));
  }

  function table(report) {
    const short = (v) => (v === null ? "–" : v.toPrecision(3));
    return h("details", { class: "fold" }, h("summary", {}, "All numbers"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers of ${report.experiment}` },
        h("table", {},
          h("thead", {}, h("tr", {}, ["Metric", "Variant", report.control, "Variant’s value", "Lift", "Interval", "p", "p, corrected"].map((t) => h("th", { scope: "col" }, t)))),
          h("tbody", {}, report.effects.map((e) => h("tr", {}, h("th", { scope: "row" }, e.metric),
            [e.variant, short(e.control_value), short(e.value), signed(e.lift), `${signed(e.low)} … ${signed(e.high)}`, pValue(e.p_value), pValue(e.p_adjusted)].map((t) => h("td", {}, t))))))),
      report.crossed ? h("p", { class: "soft" }, `${counted(report.crossed, "unit was", "units were")} in two variants and left out.`) : null);
  }

  return { load };
}
