// Panel of what the server knows of the user: latest events, history, and candidates' features beside training.

import { post } from "./api.js";
import { byId, counted, duration, fresh, h, moment, nameOf, number, percent, refill, say, short, svg } from "./dom.js";

const WIDE = 4; // deviations that a strip shows to either side

/** Makes the panel; `load()` asks for the user of `state.request`, `rank()` ranks it again. */
export function userPanel(state, rank) {
  if (!state.about.state) return { load: async () => {} };
  byId("known").hidden = false;
  let [found, chosen, turn] = [null, 0, 0];

  async function load() {
    const { user_id, candidates } = state.request;
    if (user_id === null) return;
    const mine = ++turn;
    try {
      const answer = await post("v1/page/state", { user_id, candidates: candidates.slice(0, 1000) });
      if (mine !== turn) return;
      for (const card of answer.cards) state.cards.set(card.id, card);
      [found, chosen] = [answer, 0];
      draw();
      say(`State of user ${user_id}: ${found.user.known ? counted(found.user.events, "event") : "unknown"}`);
    } catch (error) {
      if (mine !== turn) return;
      refill(byId("known-controls"));
      refill(byId("known-body"), h("p", { class: "fault", role: "alert" }, error.message));
    }
  }

  function draw() {
    refill(byId("known-controls"),
      h("span", { class: "soft" }, `User ${found.user.user_id}`),
      h("button", { type: "button", class: "quiet small", "data-key": "known-again", onclick: load }, "Refresh"));
    refill(byId("known-body"),
      h("div", { class: "stack" }, facts(), events(), history()),
      features());
  }

  function facts() {
    const { user, age } = found;
    const sums = Object.entries(user.sums).filter(([, sum]) => sum !== null)
      .map(([kind, sum]) => [`${kind}, sum (mean)`, user.means[kind] === null ? short(sum) : `${short(sum)} (${short(user.means[kind])})`]);
    const told = Object.entries(user.columns).map(([name, value]) => [name, String(value)]);
    const parts = [
      ["State’s age", age === null ? "no event so far" : `${duration(age)} since anybody’s latest event`],
      ["events of this user", !user.known ? "none: unknown to the state" : user.events === null ? "not counted for this model" : number(user.events)],
      user.last_time ? ["latest counted", moment(user.last_time)] : null,
      ...sums,
      ...told,
    ];
    return h("dl", { class: "facts plain" }, parts.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  function events() {
    const told = (values) => Object.entries(values).filter(([, v]) => v).map(([kind, v]) => `${kind} ${short(v)}`).join(", ") || "shown";
    return h("figure", {}, h("h3", {}, "Latest events ", h("span", { class: "soft" }, `newest first, ${found.most} at most`)),
      found.events.length ? table("Latest events", ["Item", "Time", "Values"], "told", found.events.map((each) =>
        [nameOf(state.cards.get(each.item)), moment(each.time), each.before ? "before the log" : told(each.values)])) : h("p", { class: "soft" }, "No events are stored."));
  }

  function history() {
    const items = [...found.user.history].reverse();
    return h("details", { class: "fold" },
      h("summary", {}, "History that the model sees ", h("span", { class: "count" }, String(items.length))),
      h("ol", { class: "chips" }, items.map((id, at) => h("li", { class: "chip still" },
        h("span", { title: moment([...found.user.history_time].reverse()[at]) }, nameOf(state.cards.get(id)))))));
  }

  function features() {
    if (found.fault) return h("p", { class: "fault", role: "note" }, found.fault);
    if (!found.candidates.length || !found.features.length) {
      return h("p", { class: "soft" }, found.features.length ? "Without candidates there are no features to show." : "The model reads no features of candidates.");
    }
    const id = fresh("candidate");
    const pick = h("select", { id, "data-key": "known-candidate", onchange: (e) => { chosen = Number(e.target.value); draw(); } },
      found.candidates.map((item, at) => h("option", { value: at, selected: at === chosen }, nameOf(state.cards.get(item)))));
    const use = found.retrieved ? h("button", { type: "button", class: "quiet small", "data-key": "known-rank", onclick: take }, "Rank these") : null;
    const origin = found.retrieved ? "retrieved for this user now" : "of the request";
    return h("figure", {},
      h("div", { class: "bar" }, h("h3", {}, "Features of a candidate"), h("span", { class: "controls" }, h("label", { for: id, class: "unseen" }, "Candidate"), pick, use)),
      table("Features of a candidate", ["Feature", "Now", "In training", "Against training", "Outside"], "ranges", found.features.map((each, at) => row(each, found.values[chosen][at]))),
      h("figcaption", {}, `In training: mean ± deviation. The band is one deviation, the mark is this candidate. Outside: share of the ${counted(found.candidates.length, "candidate")} ${origin} that are more than ${found.reach} deviations from the mean.`));
  }

  /** Makes the retrieved candidates, with the history and features of this moment, the request. */
  function take() {
    const { user, candidates, scores, values } = found;
    state.request = {
      user_id: user.user_id, history: user.history, history_feedback: user.history_feedback, history_time: user.history_time,
      candidates, candidate_score: scores, candidate_features: values,
    };
    state.example = null;
    rank();
  }

  function row(feature, value) {
    const steps = value === null ? null : (value - feature.mean) / (feature.deviation || 1);
    const far = steps !== null && Math.abs(steps) > found.reach;
    return [feature.name, far ? h("span", { class: "tag rule", title: "outside" }, short(value)) : short(value),
      `${short(feature.mean)} ± ${short(feature.deviation)}`, strip(steps, far), percent(feature.outside)];
  }

  return { load };
}

/** Draws a value between deviations of training; the numbers stand beside it. */
function strip(steps, far) {
  const x = (value) => 60 + (56 * Math.max(-WIDE, Math.min(WIDE, value))) / WIDE;
  return svg("svg", { width: 120, height: 14, "aria-hidden": "true" },
    svg("rect", { x: 2, y: 4, width: 116, height: 6, rx: 3, class: "track" }),
    svg("rect", { x: x(-1), y: 4, width: x(1) - x(-1), height: 6, class: "band" }),
    steps === null ? null : svg("line", { x1: x(steps), x2: x(steps), y1: 1, y2: 13, class: far ? "mark out" : "mark" }));
}

function table(label, heads, kind, rows) {
  return h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": label },
    h("table", { class: kind },
      h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, h("span", { class: "clamp", title: name }, name)), cells.map((cell) => h("td", {}, cell)))))));
}
