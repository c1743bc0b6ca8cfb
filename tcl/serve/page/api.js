// What the page asks of the service: the same interface that programs have.

import { byId, say } from "./dom.js";

/** What went wrong, as the service says it. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answered(path, options) {
  const answer = await fetch(path, options);
  if (answer.status === 401 && path !== "/login") {
    await loggedIn();
    return answered(path, options);
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.error?.message ?? `the service answers ${answer.status}`);
  return said;
}

export const get = (path, values = {}) => {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return answered(query ? `${path}?${query}` : path, {});
};

export const post = (path, body, signal) =>
  answered(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

let asking = null;

/** Resolves once the token was right, for everybody who waits for it. */
function loggedIn() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("login");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    byId("login-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await post("/login", { token: byId("token").value });
        byId("token").value = "";
        dialog.close();
        asking = null;
        resolve();
      } catch (refused) {
        say(byId("login-problem"), refused.message);
      }
    };
    dialog.showModal();
  });
  return asking;
}

let key = "";
export function setKey(value) {
  key = value;
}
/** key: of the index, so that a browser never takes another one's image for it. */
export const small = (id) => `/v1/images/${id}/small?of=${key}`;
export const media = (id) => `/v1/images/${id}/media?of=${key}`;
export const photograph = (id) => `/v1/images/${id}?of=${key}`;
