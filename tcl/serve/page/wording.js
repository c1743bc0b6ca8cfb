// What the page says of what is in the index: of images as it comes, of clips and sounds in their words.

import { byId, whole } from "./dom.js";

const SEEN = "Say what is to be seen, or drop an image";
const HINTS = {
  matched: `${SEEN}. The nearest are found by embedding, then read together with your words.`,
  images: `${SEEN} that is like it.`,
  media: "Say what is to be seen or heard, or drop an image, a clip or a sound that is like it.",
};

/** about: the answer of /v1/index. */
export function sayWhat(about) {
  const all = `${whole(about.searchable)} ${about.what}`;
  byId("name").textContent = about.name;
  byId("count").textContent = `${all} in ${about.name}${about.being_made && about.searchable ? ", more to come" : ""}`;
  byId("title").textContent = `Search ${all}`;
  byId("hint").textContent = HINTS[about.matches ? "matched" : about.plays ? "media" : "images"];
  if (!about.plays) return;
  byId("query").placeholder = "Describe it";
  byId("query").ariaLabel = `Search ${about.what}`;
  byId("similar").textContent = `Similar ${about.what}`;
  byId("drop-said").textContent = "Drop an image, a clip or a sound to find what is like it";
  byId("file").accept = "image/*,video/*,audio/*";
  byId("pick").title = byId("pick").ariaLabel = byId("file").ariaLabel = "Search by a file of yours";
}
