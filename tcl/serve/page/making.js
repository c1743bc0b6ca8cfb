// While `tcl index` writes: how far it is, how long it will take, what came last.

import { byId, make, show, whole } from "./dom.js";
import { small } from "./api.js";

const STILL = 60_000;
let first = null;
let last = null;

function pace(about, now) {
  const { read, files } = about.being_made;
  first ??= { read, now };
  if (last === null || last.read !== read) last = { read, now };
  if (now - last.now > STILL) return "Nothing has come for a minute; if `tcl index` was stopped, run it again.";
  const rate = (1000 * (read - first.read)) / (now - first.now);
  if (!(rate > 0)) return "";
  const minutes = (files - read) / rate / 60;
  const left = minutes < 1 ? "less than a minute left" : minutes < 90 ? `${Math.ceil(minutes)} minutes left` : `${(minutes / 60).toFixed(1)} hours left`;
  return `${rate < 10 ? rate.toFixed(1) : whole(Math.round(rate))} a second, ${left}`;
}

/** Shows it, or nothing once the index can be searched; returns whether it is being made. */
export function drawMaking(about) {
  const making = about.searchable === 0;
  show(byId("progress"), making);
  if (!making) return false;
  const bar = byId("progress-bar");
  if (about.being_made === null) {
    byId("progress-said").textContent = `It holds no ${about.what} that can be found yet.`;
    show(bar, false);
  } else {
    const { read, files } = about.being_made;
    show(bar, true);
    bar.value = files ? read / files : 0;
    const said = `${whole(read)} of ${whole(files)} files, ${whole(about.images)} ${about.what}`;
    byId("progress-said").textContent = [said, pace(about, performance.now())].filter(Boolean).join(" · ");
  }
  const strip = byId("progress-latest");
  const known = new Set([...strip.children].map((one) => one.dataset.id));
  for (const id of [...about.latest].reverse()) {
    if (!known.has(String(id))) strip.prepend(make("li", { "data-id": id }, make("img", { src: small(id), alt: "" })));
  }
  while (strip.children.length > 12) strip.lastChild.remove();
  return true;
}
