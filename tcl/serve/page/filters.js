// Folder and dates: what of the index a search is about.

import { get } from "./api.js";
import { byId, isoDay, make, say, show } from "./dom.js";

/** Draws the filters of `state`, and calls `changed` with what was chosen. */
export class Filters {
  constructor(changed) {
    this.changed = changed;
    this.listed = null;
    byId("filter").addEventListener("click", () => this.toggle());
    for (const name of ["since", "until"]) {
      byId(name).addEventListener("change", (event) => changed({ [name]: event.target.value || null }));
    }
    byId("clear").addEventListener("click", () => changed({ folder: null, since: null, until: null }));
  }

  toggle(open = byId("filters").hidden) {
    show(byId("filters"), open);
    byId("filter").setAttribute("aria-expanded", String(open));
  }

  async draw(state, about) {
    const chosen = [state.folder, state.since, state.until].filter(Boolean).length;
    say(byId("filter-count"), chosen ? String(chosen) : "");
    for (const name of ["since", "until"]) {
      const field = byId(name);
      field.value = state[name] ?? "";
      if (about.days) [field.min, field.max] = about.days.map(isoDay);
      field.disabled = !about.days;
    }
    const folder = state.folder ?? "";
    if (this.listed === folder) return;
    this.listed = folder;
    const { folders } = await get("/v1/folders", { below: folder });
    if (this.listed !== folder) return;
    const parts = folder ? folder.split("/") : [];
    const all = this.choice("All", null, !folder);
    const above = parts.map((part, i) => this.choice(part, parts.slice(0, i + 1).join("/"), i === parts.length - 1));
    const below = folders.map((name) => this.choice(name.slice(folder ? folder.length + 1 : 0), name, false));
    byId("folders").replaceChildren(all, ...above, ...below);
    show(byId("folders").parentElement, folder || folders.length);
  }

  choice(text, folder, pressed) {
    return make("button", { type: "button", "aria-pressed": String(pressed), onclick: () => this.changed({ folder }) }, text);
  }
}
