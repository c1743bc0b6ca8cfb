// Elements made of text and numbers alone: what a caption or a file name says is never read as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`class`, `on...`, `style` of custom properties, attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, own] of Object.entries(value)) element.style.setProperty(key, own);
    else element.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function show(element, shown) {
  element.hidden = !shown;
}

export function say(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** Calls the last of many calls, `wait` milliseconds after it. */
export function debounced(wait, call) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait);
  };
}

const WHOLE = new Intl.NumberFormat();
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeZone: "UTC" });
export const whole = (number) => WHOLE.format(number);
export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 && share > 0 ? 1 : 0)} %`;
/** Seconds by the camera's clock, counted as if it were UTC. */
export const day = (seconds) => DAY.format(new Date(1000 * seconds));
export const isoDay = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 10);

export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

/** The element that plays it, "video" or "audio"; undefined: it is an image. */
export const player = (hit) => hit.type?.split("/")[0];

/** What those hear who do not see the image. */
export function alternative(hit) {
  const what = [hit.caption || fileName(hit.path), player(hit)].filter(Boolean).join(", ");
  return hit.taken === null ? what : `${what}, ${day(hit.taken)}`;
}
