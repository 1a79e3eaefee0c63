// Panel of the request's rules: blocked and pinned items, and limits by item columns.

import { byId, fresh, h, nameOf, refill, say } from "./dom.js";

export const noRules = () => ({ blocked: [], pinned: {}, at_most: [], at_least: [], dedupe: null, diversity: null });

/** Makes the `rules` field of a request; null if there is no rule. */
export function rulesBody(rules) {
  const empty = !rules.blocked.length && !Object.keys(rules.pinned).length && !rules.at_most.length
    && !rules.at_least.length && !rules.dedupe && !rules.diversity;
  return empty ? null : rules;
}

const KINDS = {
  at_most: "At most",
  dedupe: "No two of one",
  diversity: "Variety of",
  at_least: "At least",
};

export function rulesPanel(state, changed) {
  let kind = "at_most";
  let [count, column, value, span] = [1, state.about.columns[0] ?? "", "", 3];

  state.rulesChanged = () => { draw(); changed(); };

  function draw() {
    const open = byId("rules").querySelector("details")?.open ?? false;
    const set = current();
    refill(byId("rules"),
      h("details", { class: "fold", open },
        h("summary", {}, "Rules for this request ", h("span", { class: "count" }, String(set.length))),
        set.length ? h("ul", { class: "chips" }, set.map(chip)) : h("p", { class: "soft" }, "None. Block or pin a candidate above, or add a limit."),
        state.about.columns.length ? form() : h("p", { class: "soft" }, "Limits by category need a table of items: goalrank serve --items FILE.")));
  }

  function current() {
    const { blocked, pinned, at_most, at_least, dedupe, diversity } = state.rules;
    const title = (id) => nameOf(state.cards.get(id) ?? { id, title: null });
    const less = (name, i) => () => { state.rules[name] = state.rules[name].filter((_, k) => k !== i); };
    return [
      ...blocked.map((id, i) => [`Blocked: ${title(id)}`, less("blocked", i)]),
      ...Object.entries(pinned).map(([slot, id]) => [`Slot ${Number(slot) + 1}: ${title(id)}`, () => {
        const { [slot]: _, ...rest } = state.rules.pinned;
        state.rules.pinned = rest;
      }]),
      ...at_most.map((r, i) => [`At most ${r.most} of one ${r.by} in ${r.window ? `any ${r.window} slots` : "the list"}`, less("at_most", i)]),
      ...at_least.map((r, i) => [`At least ${r.least} with ${r.by} ${r.value}`, less("at_least", i)]),
      ...(dedupe ? [[`No two of one ${dedupe}`, () => { state.rules.dedupe = null; }]] : []),
      ...(diversity ? [[`Variety of ${diversity.by}, weight ${diversity.weight}`, () => { state.rules.diversity = null; }]] : []),
    ];
  }

  function chip([text, remove]) {
    return h("li", { class: "chip rule" }, h("span", { title: text }, text),
      h("button", { type: "button", "data-key": `rule-${text}`, "aria-label": `Remove rule: ${text}`, onclick: () => {
        remove();
        say("Rule removed");
        state.redrawCandidates();
        state.rulesChanged();
      } }, "×"));
  }

  function form() {
    const field = (label, control) => {
      const id = fresh("rule");
      control.id = id;
      return h("div", { class: "cell" }, h("label", { for: id }, label), control);
    };
    const options = (pairs, chosen) => pairs.map(([key, text]) => h("option", { value: key, selected: key === chosen }, text));
    const numeric = (key, from, read) => h("input", { type: "number", min: 1, max: 100, step: 1, value: from, "data-key": key, oninput: (e) => read(Number(e.target.value)) });
    return h("div", { class: "rule-form", role: "group", "aria-label": "Add a limit" },
      field("Limit", h("select", { "data-key": "rule-kind", onchange: (e) => { kind = e.target.value; draw(); } }, options(Object.entries(KINDS), kind))),
      kind === "dedupe" ? null : field(kind === "diversity" ? "Weight" : "Count", numeric("rule-count", count, (n) => { count = n; })),
      field("Column", h("select", { "data-key": "rule-column", onchange: (e) => { column = e.target.value; } }, options(state.about.columns.map((c) => [c, c]), column))),
      kind === "at_least" ? field("Value", h("input", { type: "text", value, "data-key": "rule-value", oninput: (e) => { value = e.target.value; } })) : null,
      kind === "at_most" ? field("Slots in a row", numeric("rule-span", span, (n) => { span = n; })) : null,
      h("button", { type: "button", class: "add", "data-key": "rule-add", onclick: addRule }, "Add limit"));
  }

  function addRule() {
    const whole = Number.isInteger(count) && count >= 1;
    if (kind !== "dedupe" && !whole) return say("Enter a whole number of at least 1");
    if (kind === "at_least" && !value.trim()) return say("Enter a value");
    const { rules } = state;
    if (kind === "at_most") rules.at_most = [...rules.at_most, { by: column, most: count, window: span >= 2 ? span : null }];
    if (kind === "at_least") rules.at_least = [...rules.at_least, { by: column, value: value.trim(), least: count }];
    if (kind === "dedupe") rules.dedupe = column;
    if (kind === "diversity") rules.diversity = { by: column, weight: count };
    say("Rule added");
    state.rulesChanged();
  }

  return { draw };
}
