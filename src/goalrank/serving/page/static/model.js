// Panel of the model's versions: which one serves, and what the gate said of each.

import { get } from "./api.js";
import { byId, counted, h, moment, number, refill } from "./dom.js";

const TONE = { champion: "good", refused: "bad" };

export function modelPanel(state) {
  if (!state.about.versions) return { load: async () => {} };
  byId("model").hidden = false;

  async function load() {
    try {
      draw(await get("v1/page/versions"));
    } catch (error) {
      refill(byId("model-body"), h("p", { class: "fault", role: "alert" }, error.message));
    }
  }

  function draw(found) {
    refill(byId("model-controls"),
      h("span", { class: "soft" }, found.serving ? `Version ${found.serving} serves (${found.policy})` : `${found.policy} serves; it is no version of the registry`),
      h("button", { type: "button", class: "quiet small", "data-key": "model-again", onclick: load }, "Refresh"));
    const less = found.versions.length < found.count ? `the newest ${found.versions.length} of ${number(found.count)}` : "newest first";
    refill(byId("model-body"),
      h("div", { class: "stack" }, h("h3", {}, "Versions and their gate ", h("span", { class: "soft" }, less)),
        found.versions.map((each) => version(each, each.version === found.serving))),
      h("div", { class: "stack" }, h("h3", {}, "Promotions and rollbacks"), moves(found.moves)));
  }

  function version(each, serves) {
    const bad = each.reasons.filter((reason) => reason.passed === false);
    const verdict = { true: "passed the gate", false: "the gate refused it", null: "no gate" }[each.accepted];
    return h("details", { class: "fold version", open: serves },
      h("summary", {}, `Version ${each.version} `, h("span", { class: `tag ${TONE[each.state] ?? ""}` }, each.state),
        h("span", { class: "soft" }, ` ${moment(each.created)}, ${verdict}${bad.length ? `: ${bad.map((reason) => reason.check).join(", ")}` : ""}`)),
      h("dl", { class: "facts plain" }, [["policy", each.policy], ["trained on", range(each.trained)], ["judged on", range(each.judged)],
        ["judged against", each.parent ? `version ${each.parent}` : "nobody"], ["note", each.note]]
        .filter(([, text]) => text).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
      each.figures.length ? h("p", { class: "soft" }, each.figures.join(" · ")) : null,
      h("ul", { class: "reasons" }, each.reasons.map(reason)));
  }

  function reason(each) {
    const [tone, word] = { true: ["good", "passed"], false: ["bad", "refused"], null: ["", "not checked"] }[each.passed];
    return h("li", {}, h("span", { class: `tag ${tone}` }, word), h("span", { class: "name" }, each.check), h("span", { class: "soft" }, each.said));
  }

  function moves(all) {
    if (!all.length) return h("p", { class: "soft" }, "None so far.");
    return h("ul", { class: "reasons" }, all.map((move) => h("li", {},
      h("span", { class: `tag ${move.kind === "rollback" ? "rule" : ""}` }, move.kind),
      h("span", { class: "name" }, `version ${move.version}${move.pointer === "champion" ? "" : ` as ${move.pointer}`}`),
      h("span", { class: "soft" }, [moment(move.time), move.reason].filter(Boolean).join(", ")))));
  }

  return { load };
}

function range(data) {
  return data ? `${counted(data.requests, "request")}, ${moment(data.first)} to ${moment(data.last)}` : null;
}
