// What is asked, as it stands in the address: a link leads to the same results.

const NAMES = ["q", "like", "view", "folder", "since", "until"];
export const VIEWS = ["match", "embedding", "both"];

export function readAddress() {
  const given = new URLSearchParams(location.search);
  const state = Object.fromEntries(NAMES.map((name) => [name, given.get(name) || null]));
  if (!/^\d{1,15}$/.test(state.like ?? "")) state.like = null;
  if (!VIEWS.includes(state.view)) state.view = "match";
  return state;
}

/** lasting: a step that `back` undoes. */
export function writeAddress(state, lasting) {
  const given = NAMES.filter((name) => state[name] && !(name === "view" && state.view === "match"));
  const query = new URLSearchParams(given.map((name) => [name, state[name]])).toString();
  const address = query ? `/?${query}` : "/";
  if (address === location.pathname + location.search) return;
  history[lasting ? "pushState" : "replaceState"](null, "", address);
}
