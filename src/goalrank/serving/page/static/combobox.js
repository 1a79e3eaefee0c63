// Text field with suggestions (ARIA combobox pattern): arrows move, Enter takes, Escape closes.

import { counted, fresh, h, refill, say, slowly } from "./dom.js";

/**
 * @param {object} o
 * @param {string} o.label
 * @param {string} o.placeholder
 * @param {(query: string) => Promise<{value: any, text: string, note?: string}[]>} o.find
 * @param {(choice: {value: any, text: string}) => void} o.take
 * @param {boolean} [o.clear] empty the field after a choice
 * @param {string} [o.hint] said where nothing was typed and there is nothing to choose
 */
export function combobox({ label, placeholder, find, take, clear = false, hint = "" }) {
  const [id, listId] = [fresh("box"), fresh("options")];
  let [choices, active, asked, timer] = [[], -1, 0, 0];
  const list = h("ul", { role: "listbox", id: listId, "aria-label": label, hidden: true });
  const input = h("input", {
    id, type: "text", role: "combobox", placeholder, autocomplete: "off", spellcheck: "false",
    "aria-expanded": "false", "aria-controls": listId, "aria-autocomplete": "list",
    "data-key": label,
    oninput: () => { clearTimeout(timer); timer = setTimeout(() => open(), 120); },
    onfocus: () => input.select(),
    onclick: () => { if (list.hidden) open(""); }, // all there is, not only what stands in the field
    onblur: () => { clearTimeout(timer); asked += 1; close(); },
    onkeydown: key,
  });

  async function open(query = input.value.trim()) {
    const mine = ++asked;
    const current = () => mine === asked && document.activeElement === input;
    const search = slowly(find(query), () => { if (current()) show([], "Searching …"); });
    const [found, fault] = await search.then((rows) => [rows, null], (error) => [[], error.message]);
    if (!current()) return;
    const none = query || !hint ? `Nothing found${query ? ` for “${query}”` : ""}` : hint;
    show(found, fault ? `The search failed: ${fault}` : none, fault !== null);
    say(fault ? `The search failed: ${fault}` : found.length ? counted(found.length, "suggestion") : none);
  }

  /** Shows suggestions, or one line in their place. */
  function show(found, line, failed = false) {
    [choices, active] = [found, -1];
    refill(list, found.map(row), found.length ? null : h("li", { class: failed ? "none fault" : "none" }, line));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  }

  function row(choice, i) {
    return h("li", {
      role: "option", id: `${listId}-${i}`, "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); pick(i); },
    }, h("span", { class: "clamp", title: choice.text }, choice.text), choice.note ? h("span", { class: "soft" }, choice.note) : null);
  }

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function move(to) {
    if (!choices.length) return;
    active = (to + choices.length) % choices.length;
    [...list.children].forEach((each, i) => each.setAttribute("aria-selected", String(i === active)));
    const now = list.children[active];
    input.setAttribute("aria-activedescendant", now.id);
    now.scrollIntoView({ block: "nearest" });
  }

  function pick(i) {
    const choice = choices[i];
    if (!choice) return;
    input.value = clear ? "" : choice.text;
    close();
    take(choice);
  }

  async function key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      clearTimeout(timer); // a list that opens a moment later would lose the active option
      if (list.hidden) await open();
      if (event.key === "ArrowDown") move(active + 1);
      else move(active < 0 ? choices.length - 1 : active - 1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(timer);
      if (list.hidden || active < 0) await open();
      pick(active < 0 ? 0 : active);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  }

  const box = h("div", { class: "combo" }, h("label", { for: id }, label), h("div", { class: "field" }, input, list));
  return { box, input };
}
