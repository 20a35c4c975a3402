// The page: choose or drop a picture, see its faces.

import { describeFaces, drawFaces, listFaces } from "./faces.js";

const LONGEST_SIDE_PX = 1600; // a larger picture is shown, not sent, at this size

const element = (id) => document.getElementById(id);
const view = element("view");
const frame = element("drop");

/** Ask /predict about a picture; throws an Error that a person can read. */
async function predict(picture) {
  let response;
  try {
    response = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": picture.type || "application/octet-stream" },
      body: picture,
    });
  } catch {
    throw new Error("The server does not answer. Is it running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail ?? `The server answered ${response.status}.`);
  return body;
}

/** Send one picture and show it with what came back. */
async function show(picture) {
  say("");
  element("timing").textContent = "Looking…";
  try {
    const started = performance.now();
    const answer = await predict(picture);
    const elapsed = Math.round(performance.now() - started);
    await draw(picture, answer);
    element("timing").textContent =
      `${describeFaces(answer.faces)}. ${elapsed} ms, of which ${total(answer.timings_ms)} ms for the analysis.`;
  } catch (error) {
    element("timing").textContent = "";
    say(error.message);
  }
}

async function draw(picture, answer) {
  const bitmap = await createImageBitmap(picture);
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  view.width = Math.round(bitmap.width * scale);
  view.height = Math.round(bitmap.height * scale);
  const context = view.getContext("2d");
  context.drawImage(bitmap, 0, 0, view.width, view.height);
  drawFaces(context, answer.faces, view.width / answer.image.width);
  view.setAttribute("aria-label", `Picture. ${describeFaces(answer.faces)}.`);
  frame.classList.add("filled");
  listFaces(element("faces"), answer.faces);
  element("no-faces").textContent = answer.faces.length ? "" : "No face was found in this picture.";
}

function total(timings) {
  return Math.round(Object.values(timings).reduce((sum, value) => sum + value, 0));
}

function say(message) {
  element("message").textContent = message;
  element("message").hidden = !message;
}

async function nameModel() {
  const response = await fetch("readyz").catch(() => null);
  const body = (await response?.json().catch(() => null)) ?? {};
  element("model").textContent = response?.ok
    ? `${body.model.name} ${body.model.version}, faces found by ${body.detector}`
    : (body.detail ?? "The server does not answer.");
}

element("file").addEventListener("change", (event) => {
  const [picture] = event.target.files;
  if (picture) show(picture);
  event.target.value = ""; // the same picture can be chosen again
});

element("example").addEventListener("click", async () => {
  show(await (await fetch("web/example.jpg")).blob());
});

for (const name of ["dragenter", "dragover"]) {
  frame.addEventListener(name, (event) => {
    event.preventDefault();
    frame.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  frame.addEventListener(name, () => frame.classList.remove("over"));
}
frame.addEventListener("drop", (event) => {
  event.preventDefault();
  const [picture] = event.dataTransfer.files;
  if (picture) show(picture);
});
document.addEventListener("paste", (event) => {
  const [picture] = event.clipboardData.files;
  if (picture) show(picture);
});

nameModel();
