// One photograph, clip or sound, large: what is known of it, how well it matches, and where each word is.

import { media, photograph, post, small } from "./api.js";
import { alternative, byId, day, fileName, make, percent, player, say, show, whole } from "./dom.js";
import { meter, nearness } from "./grid.js";

const viewer = byId("viewer");
const photo = byId("photo");
const heat = byId("heat");
const SOUND = [256, 128]; // pixels of a sound's picture
const CONTROLS = 80; // and of what plays it, with room around
const FINE = 160; // pixels that the map is drawn with
const DARK = [12, 10, 14, 185];
const GLOW = [255, 112, 30, 70];
let shown = null; // { hit, place, hits, query, explains, root, asked }
let playing = null;
let maps = null;
let word = null;

export const isOpen = () => viewer.open;

/** hits: in the order of the page; context: { query, explains, root, similar }. */
export function openViewer(hit, hits, context) {
  shown?.asked.abort();
  shown = { ...context, hit, hits, asked: new AbortController() };
  if (!viewer.open) viewer.showModal();
  draw();
}

function step(by) {
  const next = shown.hits[shown.hits.indexOf(shown.hit) + by];
  if (next) openViewer(next, shown.hits, shown);
}

function draw() {
  const { hit, hits, root } = shown;
  const place = hits.indexOf(hit);
  heat.classList.remove("shown");
  maps = word = null;
  photo.src = small(hit.id); // at once; the large one takes its place
  [photo.width, photo.height] = size(hit);
  photo.alt = alternative(hit);
  play(hit);
  if (!hit.type) {
    const large = new Image();
    large.onload = () => {
      if (shown?.hit === hit) photo.src = large.src;
    };
    large.src = photograph(hit.id);
  }
  fit();
  say(byId("rank"), hit.similarity === null ? "" : `${whole(place + 1)} of ${whole(hits.length)}`);
  byId("viewer-title").textContent = hit.caption || fileName(hit.path);
  const path = root && hit.path.startsWith(`${root}/`) ? hit.path.slice(root.length + 1) : hit.path.split("/").slice(-2).join("/");
  const facts = [
    ["File", path],
    ["Taken", hit.taken === null ? null : day(hit.taken)],
    ["Size", hit.width ? `${whole(hit.width)} × ${whole(hit.height)}` : null],
  ].filter(([, value]) => value);
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  byId("scores").replaceChildren(...scores(hit));
  byId("open").href = hit.type ? media(hit.id) : photograph(hit.id);
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 || place === hits.length - 1;
  show(byId("why"), Boolean(shown.explains && shown.query && hit.similarity !== null));
  byId("words").replaceChildren();
  if (!byId("why").hidden) explain();
}

const size = (hit) => (hit.width ? [hit.width, hit.height] : SOUND);

/** A clip stands in place of its picture, a sound below. */
function play(hit) {
  quiet();
  const kind = player(hit);
  show(photo, kind !== "video");
  if (!kind) return;
  const given = { controls: true, preload: "metadata", src: media(hit.id), "aria-label": alternative(hit) };
  playing = make(kind, kind === "video" ? { ...given, poster: small(hit.id), playsinline: true } : given);
  byId("frame").append(playing);
}

/** Nothing plays, and nothing more is fetched of it. */
function quiet() {
  if (!playing) return;
  playing.pause();
  playing.removeAttribute("src");
  playing.load();
  playing.remove();
  playing = null;
}

function scores(hit) {
  const found = [];
  if (hit.match !== null) {
    found.push(make("div", { class: "score" }, make("span", {}, "Matches"), make("b", {}, percent(hit.match)), meter(hit.match, "matches")));
  }
  if (hit.similarity !== null) {
    found.push(
      make("div", { class: "score" }, make("span", {}, "Near by embedding"), make("b", {}, hit.similarity.toFixed(2)), meter(nearness(hit), "near", true)),
    );
  }
  return found;
}

async function explain() {
  const { hit, query, asked } = shown;
  byId("why-said").textContent = "Looking …";
  try {
    const found = await post("/v1/explain", { id: hit.id, query }, asked.signal);
    if (shown?.hit !== hit) return;
    maps = found;
    byId("why-said").textContent = "Choose a word to see where it is.";
    const strongest = found.of_words.map((values) => Math.max(...values) / 255);
    const choices = [[null, "whole text", null], ...found.words.map((one, i) => [i, one, strongest[i]])];
    byId("words").replaceChildren(...choices.map(([i, text, share]) => choice(i, text, share)));
  } catch (refused) {
    if (refused.name !== "AbortError" && shown?.hit === hit) byId("why-said").textContent = refused.message;
  }
}

function choice(i, text, share) {
  const line = make("i");
  if (share !== null) line.style.transform = `scaleX(${share.toFixed(3)})`;
  const button = make("button", { type: "button", role: "radio", "aria-checked": "false" }, text, share === null ? null : line);
  button.addEventListener("click", () => choose(button.getAttribute("aria-checked") === "true" ? undefined : i));
  return button;
}

/** i: of a word, null: the whole text, undefined: none. */
function choose(i) {
  word = i;
  [...byId("words").children].forEach((button, at) => {
    button.setAttribute("aria-checked", String(i !== undefined && at === (i === null ? 0 : i + 1)));
  });
  heat.classList.toggle("shown", i !== undefined);
  if (i !== undefined) paint(i === null ? maps.of_text : maps.of_words[i]);
}

/** The next of: nothing, the whole text, each word. */
export function nextWord() {
  if (!maps) return;
  const last = maps.words.length - 1;
  if (word === null) choose(last >= 0 ? 0 : undefined);
  else if (word === undefined || word === last) choose(word === undefined ? null : undefined);
  else choose(word + 1);
}

/** A value of 0 to 255 for each patch, smoothed: what speaks for the word glows, the rest lies in the dark. */
function paint(values) {
  const { rows, columns } = maps;
  const scale = Math.ceil(FINE / Math.max(rows, columns));
  heat.width = columns * scale;
  heat.height = rows * scale;
  const pixels = new ImageData(heat.width, heat.height);
  for (let y = 0; y < heat.height; y++) {
    for (let x = 0; x < heat.width; x++) {
      const share = smoothed(values, (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5) / 255;
      const colour = DARK.map((dark, i) => dark + (GLOW[i] - dark) * Math.min(1, 1.15 * share));
      pixels.data.set(colour, 4 * (y * heat.width + x));
    }
  }
  heat.getContext("2d").putImageData(pixels, 0, 0);
}

/** Between the middles of patches. */
function smoothed(values, x, y) {
  const { rows, columns } = maps;
  const at = (row, column) => values[Math.min(rows - 1, Math.max(0, row)) * columns + Math.min(columns - 1, Math.max(0, column))];
  const ease = (t) => t * t * (3 - 2 * t);
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [u, v] = [ease(x - left), ease(y - top)];
  const above = at(top, left) * (1 - u) + at(top, left + 1) * u;
  const below = at(top + 1, left) * (1 - u) + at(top + 1, left + 1) * u;
  return above * (1 - v) + below * v;
}

/** The canvas lies over the photograph, wherever that is. */
function fit() {
  const frame = byId("frame").getBoundingClientRect();
  const [width, height] = size(shown.hit);
  const [room, largest] = player(shown.hit) === "audio" ? [frame.height - CONTROLS, 640] : [frame.height, 1200];
  const scale = Math.min(frame.width / width, room / height, Math.max(1, largest / Math.max(width, height)));
  const moving = player(shown.hit) === "video" ? [playing] : [];
  for (const element of [photo, heat, ...moving]) {
    element.style.width = `${Math.floor(width * scale)}px`;
    element.style.height = `${Math.floor(height * scale)}px`;
  }
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => viewer.close());
byId("similar").addEventListener("click", () => {
  const { hit, similar } = shown;
  viewer.close();
  similar(hit);
});
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
viewer.addEventListener("close", () => {
  const { hit, asked } = shown;
  asked.abort();
  quiet();
  shown = null;
  document.querySelector(`.tile > button[data-id="${hit.id}"]`)?.focus({ preventScroll: true });
});
addEventListener("resize", () => shown && fit());
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === playing) return; // a player has keys of its own
  const act = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), w: nextWord, s: () => byId("similar").click() }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
