// Ranked images: in one list, or as either stage ranks them.

import { make } from "./dom.js";
import { tile } from "./grid.js";

const MOVED = 40; // tiles that are seen to move
const grid = (name, list, byMatch, open) =>
  make("ul", { class: "grid", "aria-label": name }, ...list.map((hit, i) => tile(hit, i + 1, byMatch, open)));

/** Into `results`; tiles that stay move to their new places. */
export function refill(results, list, byMatch, open) {
  const before = new Map();
  for (const one of results.querySelectorAll(".tile > button")) before.set(one.dataset.id, one.parentElement.getBoundingClientRect());
  const tiles = grid("Images", list, byMatch, open);
  results.replaceChildren(tiles);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const one of [...tiles.children].slice(0, MOVED)) {
    const was = before.get(one.firstChild.dataset.id);
    if (!was) continue;
    const now = one.getBoundingClientRect();
    const [x, y] = [was.left - now.left, was.top - now.top];
    if (Math.abs(x) + Math.abs(y) < 2) continue;
    one.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 320, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

/** matched: null while the second stage reads. */
export function bothStages(near, matched, open) {
  const column = (kind, title, said, list, byMatch) =>
    make("section", { class: kind }, make("h2", {}, title), make("p", {}, said), grid(title, list, byMatch, open));
  const how = matched ? "Second stage: the two read together. The arrows say how far an image moved." : "Second stage: reading …";
  const both = make(
    "div",
    { class: "both" },
    column("first", "Embedding", "First stage: how near text and image are, each read by itself.", near, false),
    column("second", "Matched", how, matched ?? [], true),
  );
  const light = (event, on) => {
    const id = event.target.closest?.(".tile > button")?.dataset.id;
    if (id) for (const one of both.querySelectorAll(`button[data-id="${id}"]`)) one.parentElement.classList.toggle("same", on);
  };
  for (const kind of ["mouseover", "focusin"]) both.addEventListener(kind, (event) => light(event, true));
  for (const kind of ["mouseout", "focusout"]) both.addEventListener(kind, (event) => light(event, false));
  return both;
}

export function nothing(filtered) {
  const why = filtered ? "Nothing fits the filters." : "The index has nothing like it.";
  return make("div", { class: "nothing" }, make("strong", {}, "Nothing here"), why);
}
