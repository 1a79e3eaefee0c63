// Start of the page: asks what the server has, draws the panels and ranks the first request.

import { askKey, get } from "./api.js";
import { byId, counted, h, refill, say } from "./dom.js";
import { experimentsPanel } from "./experiments.js";
import { listsPanel } from "./lists.js";
import { requestPanel } from "./request.js";
import { modelPanel } from "./model.js";
import { noRules, rulesPanel } from "./rules.js";
import { userPanel } from "./user.js";

const state = {
  about: null,
  request: { user_id: null, history: [], candidates: [] },
  example: null,
  rules: noRules(),
  cards: new Map(),
  fault: (text) => refill(byId("store-note"), h("span", { class: "fault" }, text)),
  redrawCandidates: () => {},
  rulesChanged: () => {},
};

async function start() {
  try {
    state.about = await get("v1/page/about");
    byId("loading")?.remove();
  } catch (error) {
    refill(byId("pair"), h("div", { class: "panel stop" }, h("p", { class: "fault", role: "alert" }, error.message),
      h("button", { type: "button", class: "main", onclick: start }, "Try again")));
    return;
  }
  const { about } = state;
  const models = about.variants.length === 1 ? about.variants[0].policy : `${about.variants.length} variants`;
  byId("serving").textContent = `${about.dataset ?? "unknown data"} · ${models} · ${counted(about.slots, "slot")}`;
  if (about.warning) {
    byId("warning").hidden = false;
    byId("warning").textContent = about.warning;
  }
  const lists = listsPanel(state);
  const rules = rulesPanel(state, () => lists.rank(false));
  const known = userPanel(state, () => { request.draw(); rules.draw(); lists.rank(); });
  const request = requestPanel(state, () => { rules.draw(); lists.rank(); known.load(); });
  request.draw();
  rules.draw();
  lists.draw();
  const [first] = about.examples ? await request.findUsers("") : [];
  if (first?.example) await request.loadExample(first.value, 0);
  await modelPanel(state).load();
  await experimentsPanel(state).load(false);
}

byId("key-button").addEventListener("click", () => askKey().then(start, () => say("The key was not changed")));
start().catch((error) => state.fault(error.message));
