// An image of the visitor's own: dropped, pasted or chosen, and made small before it is sent. Where the index has clips
// and sounds, a file of these, too.

import { byId, show } from "./dom.js";

const SIDE = 1024;

/** -> { base64, url, name }; url: of a picture, or null. What the browser cannot decode is sent as it is. */
async function read(file) {
  let blob = file;
  let pictured = true;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    blob = await new Promise((resolve) => canvas.toBlob((made) => resolve(made ?? file), "image/jpeg", 0.92));
  } catch {
    pictured = false; // sent as it is; where the service cannot read it either, it says why
  }
  const base64 = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = reject;
    reader.readAsDataURL(blob);
  });
  return { base64, url: pictured ? URL.createObjectURL(blob) : null, name: file.name || "pasted image" };
}

/** Calls `given` with every image that somebody brings. */
export function watchUploads(given) {
  const take = async (file) => file && given(await read(file));
  const drop = byId("drop");
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => carries(event) && show(drop, true));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  drop.addEventListener("dragleave", (event) => event.relatedTarget && drop.contains(event.relatedTarget) || show(drop, false));
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    show(drop, false);
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) take(file);
  });
  byId("pick").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = "";
  });
}
