// Panel of the request: its user, history and candidates.

import { get } from "./api.js";
import { combobox } from "./combobox.js";
import { byId, counted, factsOf, h, nameOf, ordinal, refill, say } from "./dom.js";

const SHORT = 8; // history events shown at first

/** Makes the panel; `state.request` is a body of /v1/rank, `changed()` ranks it again. */
export function requestPanel(state, changed) {
  const users = combobox({
    label: "User",
    placeholder: state.about.examples ? "Search, or type any id" : "Type an id",
    find: findUsers,
    take: (choice) => (choice.example ? loadExample(choice.value, 0) : useUser(choice.value)),
  });
  const walk = h("div", { class: "walk" });
  byId("user").replaceChildren(users.box, walk);
  const adders = {
    history: adder("Add to the history", "history"),
    candidates: adder("Add a candidate", "candidates"),
  };
  let whole = false;

  async function findUsers(query) {
    const found = state.about.examples ? (await get("v1/page/users", { query })).users : [];
    const rows = found.map((each) => ({
      value: each.user, text: each.user, example: true,
      note: counted(each.requests, "request"),
    }));
    const exact = found.some((each) => each.user === query);
    if (query && !exact) rows.push({ value: query, text: query, note: state.about.state ? "by what the server knows" : "new user without a history" });
    return rows;
  }

  async function loadExample(user, index) {
    const found = await get("v1/page/request", { user, index });
    Object.assign(state, { request: found.request, example: { ...found, user } });
    learn(found.cards);
    whole = false;
    users.input.value = user;
    say(`User ${user}: ${counted(found.request.history.length, "event")} in the history, ${counted(found.request.candidates.length, "candidate")}`);
    draw();
    changed();
  }

  function useUser(text) {
    const id = state.about.numeric_users ? Number(text) : text;
    if (state.about.numeric_users && !Number.isSafeInteger(id)) {
      say("This model's users are whole numbers");
      state.fault("This model's users are whole numbers.");
      return;
    }
    const kept = state.request.candidates;
    const { candidate_score, candidate_features } = state.request;
    state.request = { user_id: id, history: [], candidates: kept, candidate_score, candidate_features };
    state.example = null;
    draw();
    changed();
  }

  function learn(cards) {
    for (const card of cards) state.cards.set(card.id, card);
  }

  function adder(label, field) {
    return combobox({
      label, placeholder: "Title or id", clear: true,
      find: async (query) => {
        if (!query) return [];
        const { items } = await get("v1/page/items", { query });
        learn(items);
        const rows = items.map((card) => ({ value: card.id, text: nameOf(card), note: factsOf(card, 1) }));
        const id = state.about.numeric_items ? Number(query) : query;
        const usable = !state.about.numeric_items || Number.isSafeInteger(id);
        if (usable && !items.some((card) => card.id === id)) rows.push({ value: id, text: `Item ${id}`, note: "unknown to the model" });
        return rows;
      },
      hint: "Type a title or an id",
      take: (choice) => add(field, choice.value),
    }).box;
  }

  function add(field, id) {
    const request = state.request;
    if (!state.cards.has(id)) learn([{ id, title: null, facts: [], known: false }]);
    if (field === "candidates") {
      if (request.candidates.includes(id)) return say("It is already a candidate");
      request.candidates = [...request.candidates, id];
      // An added candidate has no score or features: it gets the lowest score and average features.
      if (request.candidate_score) request.candidate_score = [...request.candidate_score, Math.min(...request.candidate_score)];
      if (request.candidate_features?.length) request.candidate_features = [...request.candidate_features, means(request.candidate_features)];
    } else {
      request.history = [...request.history, id];
      if (request.history_feedback) request.history_feedback = [...request.history_feedback, 1];
      if (request.history_time) request.history_time = [...request.history_time, justBefore(request.time)];
    }
    say(`Added ${nameOf(state.cards.get(id))}`);
    draw();
    changed();
  }

  function removeAt(field, at) {
    const request = state.request;
    const less = (values) => (values?.length ? values.filter((_, i) => i !== at) : values);
    say(`Removed ${nameOf(state.cards.get(request[field][at]))}`);
    if (field === "history") {
      for (const name of ["history", "history_feedback", "history_time"]) request[name] = less(request[name]);
    } else {
      for (const name of ["candidates", "candidate_score", "candidate_features"]) request[name] = less(request[name]);
    }
    draw();
    changed();
  }

  function draw() {
    drawWalk();
    drawHistory();
    drawCandidates();
  }

  function drawWalk() {
    const example = state.example;
    if (!example || example.of < 2) return refill(walk);
    const go = (step) => () => loadExample(example.user, (example.index + step + example.of) % example.of);
    refill(walk,
      h("button", { type: "button", class: "quiet small", "data-key": "earlier", onclick: go(-1), "aria-label": "Earlier request" }, "‹"),
      h("span", {}, `${ordinal(example.index + 1)} of ${example.of} requests`),
      h("button", { type: "button", class: "quiet small", "data-key": "later", onclick: go(1), "aria-label": "Later request" }, "›"));
  }

  function drawHistory() {
    const history = state.request.history;
    const from = whole ? 0 : Math.max(0, history.length - SHORT);
    const chips = history.map((id, at) => ({ id, at })).slice(from).reverse().map(({ id, at }) => {
      const name = nameOf(state.cards.get(id));
      return h("li", { class: "chip" }, h("span", { title: name }, name),
        h("button", { type: "button", "data-key": `history-${at}-${id}`, "aria-label": `Remove ${name} from the history`, onclick: () => removeAt("history", at) }, "×"));
    });
    const more = h("button", { type: "button", class: "link", "data-key": "more", onclick: () => { whole = !whole; drawHistory(); } },
      whole ? "Show fewer" : `Show all ${history.length}`);
    refill(byId("history"),
      h("h3", {}, "History ", h("span", { class: "soft" }, history.length ? "newest first" : "empty")),
      h("ul", { class: "chips" }, chips),
      history.length > SHORT ? more : null,
      adders.history);
  }

  function drawCandidates() {
    const { candidates } = state.request;
    const rows = candidates.map((id, at) => candidate(id, at));
    const open = byId("candidates").querySelector("details")?.open ?? false;
    refill(byId("candidates"),
      h("details", { class: "fold", open },
        h("summary", {}, "Candidates ", h("span", { class: "count" }, String(candidates.length))),
        candidates.length ? h("ul", { class: "rows", tabindex: "0", "aria-label": "Candidates in the retriever's order" }, rows) : null,
        adders.candidates));
  }

  function candidate(id, at) {
    const card = state.cards.get(id);
    const name = nameOf(card);
    const liked = state.example?.answers.liked.includes(at) && state.example.request.candidates[at] === id;
    const blocked = state.rules.blocked.includes(id);
    return h("li", { class: blocked ? "blocked" : "" },
      h("div", { class: "what" }, h("span", { class: "name clamp", title: name }, name),
        liked ? h("span", { class: "tag good" }, `♥ ${state.example.answers.target} in the log`) : null,
        card.known ? null : h("span", { class: "tag" }, "new"),
        h("span", { class: "soft" }, factsOf(card, 2))),
      h("div", { class: "acts" },
        h("button", { type: "button", class: "quiet small", "data-key": `block-${id}`, "aria-pressed": String(blocked), "aria-label": `Block ${name}`, onclick: () => block(id) }, blocked ? "Blocked" : "Block"),
        h("button", { type: "button", class: "quiet small", "data-key": `pin-${id}`, "aria-label": `Pin ${name} to the first free slot`, onclick: () => pin(id) }, "Pin"),
        h("button", { type: "button", class: "quiet small", "data-key": `drop-${id}`, "aria-label": `Remove ${name} from the candidates`, onclick: () => removeAt("candidates", at) }, "×")));
  }

  function block(id) {
    const { blocked } = state.rules;
    state.rules.blocked = blocked.includes(id) ? blocked.filter((each) => each !== id) : [...blocked, id];
    draw();
    state.rulesChanged();
  }

  function pin(id) {
    const slots = Object.entries(state.rules.pinned);
    const there = slots.find(([, item]) => item === id);
    if (there) return say(`It is already pinned to slot ${Number(there[0]) + 1}`);
    let slot = 0;
    while (slot in state.rules.pinned) slot += 1;
    if (slot >= state.about.slots) return say("Every slot is pinned");
    state.rules.pinned = { ...state.rules.pinned, [slot]: id };
    state.rulesChanged();
  }

  state.redrawCandidates = drawCandidates;
  return { draw, loadExample, findUsers };
}

function means(rows) {
  return rows[0].map((_, column) => rows.reduce((sum, row) => sum + row[column], 0) / rows.length);
}

function justBefore(time) {
  return new Date(new Date(time).getTime() - 1).toISOString();
}
