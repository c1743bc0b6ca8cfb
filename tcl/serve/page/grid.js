// What the index has, in rows, a tile for each; more are asked for as the end comes into view.

import { small } from "./api.js";
import { alternative, byId, make, percent, player } from "./dom.js";

const loader = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      loader.unobserve(entry.target);
      entry.target.src = entry.target.dataset.src;
    }
  },
  { rootMargin: "600px" },
);

/** An image that is fetched when it comes near, and fades in. */
export function picture(hit, alt = alternative(hit)) {
  const image = make("img", { alt, "data-src": small(hit.id), decoding: "async" });
  image.addEventListener("load", () => image.classList.add("there"), { once: true });
  loader.observe(image);
  return image;
}

/** A bar of a share, and the share in words. */
export function meter(share, what, near = false) {
  const bar = make("span", { class: near ? "meter near" : "meter", role: "img", "aria-label": `${what} ${percent(share)}` });
  const filled = make("i");
  filled.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  bar.append(filled);
  return bar;
}

/** How far a cosine is from the farthest to the nearest of these. */
export const nearness = (hit) => Math.max(0, hit.similarity ?? 0);

function moved(hit, rank) {
  const places = hit.before - rank;
  if (!hit.before || !places) return null;
  const said = `${Math.abs(places)} ${places > 0 ? "up" : "down"} from its place by embedding`;
  return make("span", { class: places > 0 ? "up" : "down", title: said, "aria-label": said }, `${places > 0 ? "▲" : "▼"} ${Math.abs(places)}`);
}

function under(hit, rank, byMatch) {
  if (byMatch && hit.match !== null) {
    return make("div", { class: "under" }, meter(hit.match, "matches"), make("span", {}, percent(hit.match)), moved(hit, rank));
  }
  if (hit.similarity === null) return null;
  return make("div", { class: "under" }, meter(nearness(hit), "near", true), make("span", {}, hit.similarity.toFixed(2)));
}

/** A tile. rank: from 1, or null where nothing ranks; open: called with the hit. */
export function tile(hit, rank, byMatch, open) {
  const ratio = Math.min(2.6, Math.max(0.5, hit.width / hit.height || 2)); // a sound is drawn twice as wide as high
  const button = make(
    "button",
    { type: "button", "data-id": hit.id, onclick: () => open(hit) },
    picture(hit),
    hit.type ? make("span", { class: `plays ${player(hit)}`, "aria-hidden": "true" }) : null,
    hit.caption ? make("span", { class: "caption", "aria-hidden": "true" }, hit.caption) : null,
  );
  return make(
    "li",
    { class: "tile", style: { "--ratio": ratio.toFixed(3) } },
    button,
    rank === null ? null : make("span", { class: "rank", "aria-hidden": "true" }, String(rank)),
    under(hit, rank, byMatch),
  );
}

/** Asks `more` whenever the end of the page is near; what it returns says whether there is any. */
export class Endless {
  constructor(more) {
    this.more = more;
    this.busy = false;
    this.ended = true;
    this.seen = false;
    new IntersectionObserver(
      ([entry]) => {
        this.seen = entry.isIntersecting;
        this.go();
      },
      { rootMargin: "900px" },
    ).observe(byId("more"));
  }

  start() {
    this.ended = false;
    requestAnimationFrame(() => this.go());
  }

  stop() {
    this.ended = true;
  }

  async go() {
    if (this.busy || this.ended || !this.seen) return;
    this.busy = true;
    try {
      if (!(await this.more())) this.ended = true;
    } catch {
      this.ended = true;
    } finally {
      this.busy = false;
    }
    requestAnimationFrame(() => this.go());
  }
}

/** The tile that an arrow key leads to from one. */
export function neighbour(from, key) {
  const tiles = [...document.querySelectorAll(".tile > button")];
  const at = tiles.indexOf(from);
  if (key === "ArrowRight") return tiles[at + 1];
  if (key === "ArrowLeft") return tiles[at - 1];
  const here = from.getBoundingClientRect();
  const middle = here.left + here.width / 2;
  const down = key === "ArrowDown";
  const beyond = tiles
    .map((one) => ({ one, box: one.getBoundingClientRect() }))
    .filter(({ box }) => (down ? box.top > here.bottom - 4 : box.bottom < here.top + 4));
  const edge = down ? Math.min(...beyond.map(({ box }) => box.top)) : Math.max(...beyond.map(({ box }) => box.bottom));
  const row = beyond.filter(({ box }) => Math.abs((down ? box.top : box.bottom) - edge) < 30);
  row.sort((a, b) => Math.abs(a.box.left + a.box.width / 2 - middle) - Math.abs(b.box.left + b.box.width / 2 - middle));
  return row[0]?.one;
}
