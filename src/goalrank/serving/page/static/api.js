// Calls to the server of this page. The API key, if one is needed, is kept only in this module.

import { byId } from "./dom.js";

let key = null;
let asking = null;

/** An error answer of the server: its status, code and message. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function get(path, query = {}) {
  const search = new URLSearchParams(query).toString();
  return send(search ? `${path}?${search}` : path, {});
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(body) });
}

async function send(path, options) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit" });
  } catch {
    throw new ApiError(0, "unreachable", "The server does not answer.");
  }
  if (response.status === 401) {
    await askKey(key !== null);
    return send(path, options);
  }
  const content = await response.json().catch(() => null);
  if (response.ok) return content;
  const error = content?.error ?? { code: "unknown", message: response.statusText };
  const first = error.details?.[0];
  const detail = first ? ` (${first.where}: ${first.rule})` : "";
  throw new ApiError(response.status, error.code, `${error.message}${detail}`);
}

/** Asks for a key, once for all waiting calls; rejects if the visitor cancels. */
export function askKey(wrong = false) {
  asking ??= prompt(wrong).finally(() => { asking = null; });
  return asking;
}

function prompt(wrong) {
  const [dialog, form, input] = [byId("key-dialog"), byId("key-form"), byId("key")];
  byId("key-button").hidden = false;
  byId("key-fault").textContent = wrong ? "The server does not take this key." : "";
  input.value = "";
  if (!dialog.open) dialog.showModal();
  input.focus();
  return new Promise((resolve, reject) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      if (!input.value.trim()) return;
      key = input.value.trim();
      input.value = "";
      dialog.close("given");
    };
    byId("key-cancel").onclick = () => dialog.close("cancelled");
    dialog.onclose = () => {
      if (dialog.returnValue === "given") resolve();
      else reject(new ApiError(401, "unauthorized", "Without a key the server shows nothing."));
      dialog.returnValue = "";
    };
  });
}
