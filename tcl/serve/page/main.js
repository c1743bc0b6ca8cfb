// The page: what is asked of the index, and what is shown of the answers.

import { readAddress, VIEWS, writeAddress } from "./address.js";
import { get, post, setKey, small } from "./api.js";
import { byId, debounced, make, say, show, whole } from "./dom.js";
import { Filters } from "./filters.js";
import { Endless, neighbour, tile } from "./grid.js";
import { drawMaking } from "./making.js";
import { bothStages, nothing, refill } from "./results.js";
import { watchUploads } from "./upload.js";
import { isOpen, openViewer } from "./viewer.js";
import { sayWhat } from "./wording.js";

const MATCHED = 64; // as many as the second stage puts in order
const PAGE = 60;
const TYPING = 180; // milliseconds

let about = null;
let state = readAddress();
let upload = null;
let running = new AbortController();
let hits = []; // in the order of the second stage, or of the only one
let listed = []; // of the list that grows at its end
const results = byId("results");
const endless = new Endless(more);
const filters = new Filters((chosen) => change(chosen, true));

const asks = () => Boolean(state.q?.trim() || state.like || upload);
const matches = () => Boolean(about.matches && state.q?.trim());
const filtered = () => Boolean(state.folder || state.since || state.until);
const within = () => ({ folder: state.folder, since: state.since, until: state.until });

function change(some, lasting) {
  state = { ...state, ...some };
  writeAddress(state, lasting);
  search();
}

function request(k, offset, rerank) {
  const given = { query: state.q?.trim() || null, id: state.like ? Number(state.like) : null, image: upload?.base64, ...within() };
  const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null && value !== undefined));
  return post("/v1/search", { ...body, k, offset, rerank }, running.signal);
}

/** First by embedding, which takes a moment, then in the order of the second stage. */
async function search() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  endless.stop();
  drawFields();
  if (!asks()) {
    browse();
    return;
  }
  show(byId("busy"), true);
  try {
    const near = (await request(MATCHED, 0, 0)).results;
    if (signal.aborted) return;
    near.forEach((hit, i) => (hit.before = i + 1));
    hits = near;
    say(byId("problem"), "");
    draw(!matches());
    if (matches() && near.length) {
      const again = (await request(MATCHED, 0, MATCHED)).results;
      if (signal.aborted) return;
      const places = new Map(near.map((hit) => [hit.id, hit.before]));
      again.forEach((hit) => (hit.before = places.get(hit.id)));
      hits = again;
      draw(true);
    }
    if (state.view !== "both") endless.start();
  } catch (refused) {
    if (!signal.aborted) tell(refused);
  } finally {
    if (!signal.aborted) show(byId("busy"), false);
  }
}

function tell(refused) {
  hits = listed = [];
  results.replaceChildren();
  show(byId("bar"), false);
  show(byId("hero"), false);
  say(byId("problem"), refused.message.replace(/^(text|query|image): /, ""));
}

function byEmbedding() {
  return [...hits].sort((a, b) => a.before - b.before);
}

/** settled: by all stages that there are. */
function draw(settled) {
  show(byId("hero"), false);
  show(byId("bar"), true);
  drawSummary(settled);
  if (!hits.length) {
    results.replaceChildren(nothing(filtered()));
    return;
  }
  if (state.view === "both" && matches()) {
    results.replaceChildren(bothStages(byEmbedding(), settled ? hits : null, open));
    return;
  }
  listed = state.view === "embedding" || !settled ? byEmbedding() : [...hits];
  if (state.like && !state.q) listed = listed.filter((hit) => hit.id !== Number(state.like));
  refill(results, listed, settled && state.view === "match", open);
}

function drawSummary(settled) {
  const count = make("b", {}, whole(hits.length));
  const asked = [state.q?.trim() ? `“${state.q.trim()}”` : null, upload?.name ?? (state.like ? (about.plays ? "this one" : "this image") : null)].filter(Boolean).join(" and ");
  const how = matches() ? (settled ? "read together with the text" : "reading them with the text …") : "by embedding";
  const among = filtered() ? "within the filters" : `of ${whole(about.searchable)}`;
  byId("summary").replaceChildren("The nearest ", count, ` ${among} to ${asked}, ${how}`);
}

/** More of the list: without a query the next by id, with one the next by embedding. */
async function more() {
  const { signal } = running;
  const grid = results.querySelector(".grid");
  if (!grid) return false;
  const found = asks()
    ? listed.length >= about.most - PAGE
      ? []
      : (await request(PAGE, Math.max(listed.length, MATCHED), 0)).results
    : (await get("/v1/images", { after: listed.at(-1)?.id ?? 0, count: PAGE, ...within() })).results;
  if (signal.aborted) return false;
  const known = new Set(listed.map((hit) => hit.id));
  const fresh = found.filter((hit) => !known.has(hit.id));
  grid.append(...fresh.map((hit, i) => tile(hit, asks() ? listed.length + i + 1 : null, false, open)));
  listed.push(...fresh);
  return found.length === PAGE;
}

async function browse() {
  const { signal } = running;
  show(byId("busy"), false);
  show(byId("bar"), false);
  say(byId("problem"), "");
  show(byId("hero"), true);
  hits = listed = [];
  try {
    listed = (await get("/v1/images", { count: PAGE, ...within() })).results;
  } catch (refused) {
    if (!signal.aborted) tell(refused);
    return;
  }
  if (signal.aborted) return;
  results.replaceChildren(
    listed.length ? make("ul", { class: "grid", "aria-label": `All ${about.what}` }, ...listed.map((hit) => tile(hit, null, false, open))) : nothing(filtered()),
  );
  if (listed.length === PAGE) endless.start();
}

function open(hit) {
  const list = state.view === "both" && hits.length ? hits : listed;
  const same = list.find((one) => one.id === hit.id) ?? hit;
  openViewer(same, list, { query: state.q?.trim(), explains: about.explains, root: about.root, similar });
}

function similar(hit) {
  forget();
  byId("query").value = "";
  scrollTo({ top: 0 });
  change({ q: null, like: String(hit.id) }, true);
}

function forget() {
  if (upload?.url) URL.revokeObjectURL(upload.url);
  upload = null;
}

function drawFields() {
  const query = byId("query");
  if (document.activeElement !== query || !query.value) query.value = state.q ?? "";
  show(byId("chip"), Boolean(upload || state.like));
  if (upload || state.like) {
    show(byId("chip-image"), upload ? upload.url : true);
    byId("chip-image").src = upload ? (upload.url ?? "") : small(state.like);
    byId("chip-name").textContent = upload?.name ?? `similar ${about.what}`;
  }
  for (const one of byId("views").children) {
    one.setAttribute("aria-checked", String(one.dataset.view === state.view));
    one.tabIndex = one.dataset.view === state.view ? 0 : -1;
  }
  show(byId("views"), matches());
  document.title = state.q ? `${state.q} · ${about.name}` : about.name;
  filters.draw(state, about).catch(() => {});
}

function setView(view) {
  if (!matches()) return;
  state.view = view;
  writeAddress(state, true);
  if (!byId("busy").hidden || !hits.length) {
    search();
    return;
  }
  drawFields(); // both orders are known
  draw(true);
  if (view === "both") endless.stop();
  else endless.start();
}

function listen() {
  const query = byId("query");
  const typed = debounced(TYPING, () => change({ q: query.value.trim() || null }, false));
  query.addEventListener("input", typed);
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    change({ q: query.value.trim() || null }, true);
  });
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    forget();
    query.value = "";
    change({ q: null, like: null, folder: null, since: null, until: null }, true);
  });
  byId("chip-remove").addEventListener("click", () => {
    forget();
    change({ like: null }, true);
  });
  byId("views").addEventListener("click", (event) => event.target.dataset.view && setView(event.target.dataset.view));
  byId("views").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    setView(VIEWS[(VIEWS.indexOf(state.view) + by + VIEWS.length) % VIEWS.length]);
    byId("views").querySelector('[aria-checked="true"]').focus();
  });
  byId("show-keys").addEventListener("click", () => byId("keys").showModal());
  addEventListener("popstate", () => {
    forget();
    state = readAddress();
    query.value = state.q ?? "";
    search();
  });
  addEventListener("scroll", () => byId("top").classList.toggle("stuck", scrollY > 8), { passive: true });
  addEventListener("keydown", pressed);
  watchUploads((image) => {
    forget();
    upload = image;
    change({ like: null }, true);
  });
}

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isOpen() || document.querySelector("dialog[open]")) return;
  const query = byId("query");
  if (event.target === query) {
    if (event.key === "Escape") query.blur();
    if (event.key === "ArrowDown") document.querySelector(".tile > button")?.focus();
    return;
  }
  if (event.target.matches("input")) return;
  const on = event.target.closest?.(".tile > button");
  if (event.key === "/") {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (event.key === "?") byId("keys").showModal();
  else if ("123".includes(event.key)) setView(VIEWS[Number(event.key) - 1]);
  else if (on && event.key.startsWith("Arrow")) {
    event.preventDefault();
    (neighbour(on, event.key) ?? (event.key === "ArrowUp" ? query : on)).focus();
  } else if (on && event.key === "s") similar({ id: on.dataset.id });
  else if (on && event.key === "w") on.click();
}

async function learn() {
  about = await get("/v1/index");
  setKey(about.key);
  sayWhat(about);
  byId("suggestions").replaceChildren(
    ...about.suggestions.map((text) => make("button", { type: "button", onclick: () => change({ q: text }, true) }, text)),
  );
}

/** Until the index can be searched its progress is shown. */
async function begin() {
  await learn();
  if (drawMaking(about)) {
    setTimeout(() => begin().catch(tell), 1000);
    return;
  }
  listen();
  search();
}

begin().catch(tell);
