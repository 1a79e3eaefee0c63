// Panel of the two lists: items with their probabilities, effects of the rules, stored feedback.

import { get, post } from "./api.js";
import { byId, chance, counted, factsOf, fresh, h, nameOf, ordinal, refill, say, slowly } from "./dom.js";
import { rulesBody } from "./rules.js";

const LETTERS = ["A", "B"];
const TEMPERATURES = [0.3, 0.5, 1, 2];

const newId = () => `page-${Array.from(crypto.getRandomValues(new Uint8Array(10)), (b) => b.toString(16).padStart(2, "0")).join("")}`;

export function listsPanel(state) {
  const { about } = state;
  const sides = firstChoice(about).map((choice) => ({ ...choice, id: newId(), result: null, kept: null, answers: [], turn: 0 }));
  const feedback = { kind: about.target ?? about.kinds[0], value: 1 };
  drawKinds();
  byId("store-note").textContent = about.store
    ? "Nothing is stored until you give feedback. Then the list is stored as an exposure, marked “page”, with its exact propensity."
    : "This server keeps no store, so you cannot give feedback.";

  /** Ranks one list or both again; `again` takes new request ids and so draws other lists. */
  async function rank(again = true, only = null) {
    const asked = only ? [only] : sides;
    for (const side of asked) {
      if (again || side.kept) Object.assign(side, { id: newId() });
      Object.assign(side, { kept: null, answers: [], note: null, turn: side.turn + 1 });
    }
    const turns = sides.map((side) => side.turn);
    const latest = () => sides.every((side, i) => side.turn === turns[i]);
    if (!state.request.candidates.length || state.request.user_id === null) {
      for (const side of sides) Object.assign(side, { result: null, fault: null });
      return draw();
    }
    byId("pair").setAttribute("aria-busy", "true");
    await slowly(Promise.all(asked.map((side) => ask(side))), () => { if (latest()) waiting(true); });
    if (!latest()) return;
    byId("pair").removeAttribute("aria-busy");
    waiting(false);
    draw();
    const lengths = sides.map((side, i) => `${LETTERS[i]} ${side.result ? `${counted(side.result.items.length, "slot")}` : "has no list"}`);
    say(`Lists are ready: ${lengths.join(", ")}`);
  }

  /** Says that lists are on their way, where they take long. */
  function waiting(on) {
    byId("waiting").hidden = !on;
    if (on) say("Ranking …");
  }

  async function ask(side) {
    const { turn } = side;
    const current = () => side.turn === turn;
    try {
      const found = await post("v1/page/compare", body(side));
      if (!current()) return;
      for (const card of found.cards) state.cards.set(card.id, card);
      state.request.time ??= found.time;
      Object.assign(side, { result: found.lists[0], experiment: found.experiment, fault: null });
    } catch (error) {
      if (current()) Object.assign(side, { result: null, fault: error.message });
    }
  }

  function body(side) {
    const rules = rulesBody(state.rules);
    const missing = "mean"; // a request made up here may lack inputs; the list says which
    const request = Object.fromEntries(Object.entries({ ...state.request, rules, missing }).filter(([, v]) => v !== null && v !== undefined));
    return { request, sides: [{ variant: side.variant, temperature: side.temperature, request_id: side.id }] };
  }

  async function answer(side, item) {
    const event = { request_id: side.id, item, kind: feedback.kind, value: feedback.value };
    try {
      if (!side.kept) {
        const kept = await post("v1/page/keep", body(side));
        const same = JSON.stringify(kept.lists[0].items) === JSON.stringify(side.result.items);
        Object.assign(side, { kept: kept.time, result: kept.lists[0] });
        if (!same) {
          side.note = "The model was replaced in the meantime; this is the new list. Give your feedback again.";
          return draw();
        }
      }
      const taken = await post("v1/feedback", { events: [event] });
      const stored = await get("v1/page/stored", { request_id: side.id, time: side.kept });
      side.answers = stored.answers;
      const what = taken.stored ? "stored" : taken.replaced ? "stored; it replaces the earlier value" : "was stored before";
      side.note = `Request ${stored.request_id}: policy ${stored.policy}, propensity ${stored.propensity === null ? "unknown" : told(stored.propensity)}, ${counted(stored.answers.length, "answer")}.`;
      say(`${feedback.kind} ${feedback.value} for ${nameOf(state.cards.get(item))}: ${what}`);
    } catch (error) {
      side.note = error.message;
      say(error.message);
    }
    draw();
  }

  function drawKinds() {
    if (!about.store || !about.kinds.length) return;
    const [kind, value] = [fresh("kind"), fresh("value")];
    refill(byId("feedback-kind"), h("div", { class: "controls" },
      h("label", { for: kind }, "Feedback"),
      h("select", { id: kind, "data-key": "kind", onchange: (e) => { feedback.kind = e.target.value; draw(); } },
        about.kinds.map((each) => h("option", { value: each, selected: each === feedback.kind }, each))),
      h("label", { for: value, class: "unseen" }, "Value"),
      h("input", { id: value, type: "number", step: "any", value: 1, title: "Value", class: "tiny",
        onchange: (e) => { feedback.value = Number.isFinite(e.target.valueAsNumber) ? e.target.valueAsNumber : 1; draw(); } })));
  }

  function draw() {
    refill(byId("pair"), sides.map(card));
  }

  function card(side, i) {
    const letter = LETTERS[i];
    return h("article", { class: `list side-${letter.toLowerCase()}`, "aria-label": `List ${letter}` },
      head(side, letter),
      side.fault ? h("p", { class: "fault", role: "alert" }, side.fault) : null,
      side.result ? facts(side) : side.fault ? null : h("p", { class: "empty" }, "Choose a user and some candidates."),
      side.result?.probabilities ? h("p", { class: "unit" }, unit(side)) : null,
      side.result ? h("ol", { class: "slots" }, side.result.items.map((item, at) => slot(side, item, at, i))) : null,
      side.note ? h("p", { class: "stored", role: "note" }, side.note) : null,
      side.result?.rules.length ? rulesOf(side) : null);
  }

  function head(side, letter) {
    const [variant, way] = [fresh("variant"), fresh("way")];
    const options = [...about.variants.map((v) => [v.key, `${v.label} (${v.ranker})`]), [about.retriever, "Retriever's order"]];
    const ways = [["", "Best list"], ...[...new Set([...TEMPERATURES, about.temperature ?? 1])].sort((a, b) => a - b).map((t) => [String(t), `Drawn, temperature ${t}`])];
    const sampled = side.variant !== about.retriever;
    return h("header", { class: "list-head" },
      h("span", { class: "badge", "aria-hidden": "true" }, letter),
      h("div", { class: "choose" },
        h("label", { for: variant, class: "unseen" }, `Variant ${letter}`),
        h("select", { id: variant, "data-key": `variant-${letter}`, onchange: (e) => { side.variant = e.target.value; if (side.variant === about.retriever) side.temperature = null; rank(false, side); } },
          options.map(([key, text]) => h("option", { value: key, selected: key === side.variant }, text))),
        h("div", { class: "controls" },
          h("label", { for: way, class: "unseen" }, `How list ${letter} is chosen`),
          h("select", { id: way, "data-key": `way-${letter}`, disabled: !sampled, onchange: (e) => { side.temperature = e.target.value ? Number(e.target.value) : null; rank(false, side); } },
            ways.map(([key, text]) => h("option", { value: key, selected: key === String(side.temperature ?? "") }, text))),
          side.temperature === null ? null : h("button", { type: "button", class: "quiet small", "data-key": `again-${letter}`, onclick: () => rank(true, side) }, "Draw again"))));
  }

  function facts(side) {
    const { result } = side;
    const parts = [["policy", result.policy]];
    if (result.propensity !== null) parts.push(["propensity", told(result.propensity), PROPENSITY]);
    if (result.log_prob !== null && side.temperature === null) parts.push(["probability if it were drawn", chance(Math.exp(result.log_prob)), "The product of the percentages below: how likely the model draws just this list at temperature 1."]);
    if (result.filled.length) parts.push(["means of training for", result.filled.join(", ")]);
    if (side.experiment) parts.push(["this user’s variant", side.experiment]);
    return h("dl", { class: "facts" }, parts.map(([name, value, title]) => h("div", { title, class: title ? "hint" : null }, h("dt", {}, name), h("dd", {}, value))));
  }

  /** Says what the percentages are, and that they are not the propensity. */
  function unit(side) {
    return side.temperature === null
      ? "% = the model’s probability of the item in its slot, given those above. Not the propensity: the best list is always shown."
      : `% = probability of drawing the item into its slot at temperature ${side.temperature}, given those above. Their product is the propensity.`;
  }

  function slot(side, item, at, i) {
    const info = state.cards.get(item);
    const p = side.result.probabilities?.[at];
    const other = sides[1 - i].result?.items.indexOf(item);
    const answers = side.answers.filter((each) => each.slot === at);
    const brought = side.result.rules.some((rule) => rule.state === "changed" && moves(rule).added.includes(item));
    const bar = h("span", { class: "level", "aria-hidden": "true" }, h("span"));
    bar.firstChild.style.width = `${100 * (p ?? 0)}%`;
    const liked = state.example && state.example.answers.liked.some((k) => state.example.request.candidates[k] === item);
    return h("li", { class: "slot" },
      h("span", { class: "rank" }, String(at + 1)),
      h("div", { class: "what" },
        h("span", { class: "name clamp", title: nameOf(info) }, nameOf(info)),
        h("span", { class: "soft clamp", title: factsOf(info, 2) }, factsOf(info, 2)),
        h("span", { class: "tags" },
          h("span", { class: `tag ${other === -1 ? "only" : ""}` }, place(other, at, 1 - i)),
          liked ? h("span", { class: "tag good", title: "What the user liked in the log" }, `♥ ${state.example.answers.target} in the log`) : null,
          brought ? h("span", { class: "tag rule" }, "by a rule") : null,
          answers.map((each) => h("span", { class: "tag kept" }, `✓ ${each.kind} ${each.value} stored`)))),
      p === undefined ? h("span", { class: "p none" }, "") : h("div", { class: "p", title: unit(side) },
        h("span", { class: "unseen" }, "probability "), h("span", {}, chance(p)), bar),
      about.store && feedback.kind ? h("button", { type: "button", class: "quiet small give", "data-key": `give-${i}-${at}`, "aria-label": `Send ${feedback.kind} ${feedback.value} for ${nameOf(info)}, slot ${at + 1} of list ${LETTERS[i]}`, onclick: () => answer(side, item) }, feedback.value === 1 ? feedback.kind : `${feedback.kind} ${feedback.value}`) : null);
  }

  function place(other, at, j) {
    if (other === undefined) return "";
    if (other === -1) return `not in ${LETTERS[j]}`;
    return other === at ? `same in ${LETTERS[j]}` : `${ordinal(other + 1)} in ${LETTERS[j]}`;
  }

  function rulesOf(side) {
    const words = { changed: "changed the list", idle: "made no difference", "given up": "given up: no list obeys it" };
    return h("div", { class: "effects" }, h("h3", {}, "Rules applied"),
      h("ul", {}, side.result.rules.map((rule) => h("li", { class: `effect ${rule.state.replace(" ", "-")}` },
        h("span", { class: "name" }, title(rule.label)), h("span", { class: "tag" }, words[rule.state]),
        rule.state === "changed" ? effect(rule) : null))));
  }

  const title = (label) => label.replace(/holds item (.+)$/, (_, id) => {
    const found = [...state.cards.values()].find((each) => String(each.id) === id);
    return `holds ${found ? nameOf(found) : `item ${id}`}`;
  });

  function effect(rule) {
    const { added, kept, moved } = moves(rule);
    const names = (ids) => ids.map((id) => nameOf(state.cards.get(id))).join(" · ");
    const line = (name, text) => h("div", {}, h("dt", {}, name), h("dd", {}, text));
    return h("dl", { class: "soft" },
      added.length ? line("brought in", names(added)) : null,
      kept.length ? line("kept out", names(kept)) : null,
      moved ? line("moved", counted(moved, "item")) : null);
  }

  return { rank, draw };
}

const PROPENSITY = "Probability with which the server shows exactly this list: 1 for the best list, which is not drawn; the product of the percentages for a drawn one.";

/** Writes a propensity: a number up to 1, unlike the percentages beside items. */
const told = (propensity) => (propensity === 1 ? "1 (always this list)" : String(Number(propensity.toPrecision(2))));

/** Finds what a rule brought into the list, what it kept out, and how many items it moved. */
function moves({ changes }) {
  const [now, without] = [changes.map((c) => c.item), changes.map((c) => c.instead)];
  const added = now.filter((id) => id !== null && !without.includes(id));
  return {
    added,
    kept: without.filter((id) => id !== null && !now.includes(id)),
    moved: now.filter((id) => id !== null).length - added.length,
  };
}

/** Chooses the first two lists: two bundles, or the model and the retriever, or the model twice. */
function firstChoice(about) {
  const [first, second] = about.variants;
  const left = { variant: first.key, temperature: about.temperature };
  if (second) return [left, { variant: second.key, temperature: about.temperature }];
  if (about.scored) return [left, { variant: about.retriever, temperature: null }];
  return [left, { variant: first.key, temperature: about.temperature === null ? 1 : null }];
}
