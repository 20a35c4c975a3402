// The page: the camera, live, or one picture at a time.

import { closeCamera, listCameras, openCamera } from "./camera.js";
import { describeFaces, drawFaces, listFaces } from "./faces.js";
import { Stream } from "./stream.js";
import { Timeline } from "./timeline.js";

const LONGEST_SIDE_PX = 1600; // a larger picture is shown, not sent, at this size
const SENT_WIDTH_PX = 640; // of a camera frame: detection needs no more
const SENT_QUALITY = 0.8;
const ANNOUNCE_EVERY_MS = 4000; // to screen readers, while the camera runs

const element = (id) => document.getElementById(id);
const view = element("view");
const points = element("points");
const video = element("video");
const frame = element("drop");
const timeline = new Timeline(element("minute"), element("legend"));
const live = { camera: null, stream: null, latest: null, encoding: false, drawn: 0, announced: 0 };
let latestTurn = 0; // of what was asked for: only the last may show anything
let key = "";

/* ---- one picture ---- */

/** Ask /predict about a picture; throws an Error that a person can read. */
async function predict(picture) {
  const headers = { "Content-Type": picture.type || "application/octet-stream" };
  if (key) headers["X-API-Key"] = key;
  let response;
  try {
    response = await fetch("predict", { method: "POST", headers, body: picture });
  } catch {
    throw new Error("The server does not answer. Is it running?");
  }
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) askForKey();
  if (!response.ok) throw new Error(body.detail ?? `The server answered ${response.status}.`);
  return body;
}

/** Send one picture, which `load` gives, and show it with what came back. */
async function show(load) {
  const turn = begin();
  element("status").textContent = "Looking…";
  try {
    const picture = await load();
    const started = performance.now();
    const answer = await predict(picture);
    const elapsed = Math.round(performance.now() - started);
    if (turn !== latestTurn) return;
    showFaces(answer.faces, "No face was found in this picture.");
    const worked = Math.round(Object.values(answer.timings_ms).reduce((sum, value) => sum + value, 0));
    element("status").textContent = `${describeFaces(answer.faces)}. ${elapsed} ms, of which ${worked} ms for the analysis.`;
    await drawPicture(picture, answer, turn);
    points.onchange = () => drawPicture(picture, answer, turn);
  } catch (error) {
    if (turn !== latestTurn) return;
    element("status").textContent = "";
    say(error.message);
  }
}

async function drawPicture(picture, answer, turn) {
  const bitmap = await createImageBitmap(picture).catch(() => null);
  if (turn !== latestTurn) return;
  if (!bitmap) {
    say("The server read this picture; your browser cannot show its kind.");
    return;
  }
  const fits = Math.min(1, LONGEST_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const scale = Math.max(fits, Math.min(4, 720 / bitmap.width)); // a small one is enlarged, or its labels would be coarse
  view.width = Math.round(bitmap.width * scale);
  view.height = Math.round(bitmap.height * scale);
  const context = view.getContext("2d");
  context.drawImage(bitmap, 0, 0, view.width, view.height);
  drawFaces(context, answer.faces, view.width / answer.image.width, { points: points.checked });
  view.setAttribute("aria-label", `Picture. ${describeFaces(answer.faces)}.`);
  frame.classList.add("filled");
}

/* ---- the camera ---- */

async function start(deviceId) {
  const turn = begin();
  let stream;
  try {
    stream = await openCamera(deviceId);
  } catch (error) {
    if (turn === latestTurn) say(error.message);
    return;
  }
  if (turn !== latestTurn) {
    closeCamera(stream); // something else was begun while the browser asked for permission
    return;
  }
  live.camera = stream;
  video.srcObject = stream;
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (live.camera !== stream) return;
    begin();
    say("The camera was disconnected.");
  });
  running(true);
  timeline.clear();
  live.stream = new Stream({ onResult, onState, key });
  live.stream.open();
  requestAnimationFrame(tick);
  await video.play().catch(() => {}); // it may be stopped before it plays
  await listCameras(element("devices"), element("devices-label"), stream);
}

/** Stop whatever runs; what is still on its way belongs to an earlier turn than the one returned. */
function begin() {
  live.stream?.close();
  live.stream = live.latest = null;
  closeCamera(live.camera);
  live.camera = video.srcObject = null;
  running(false);
  say("");
  return ++latestTurn;
}

function running(on) {
  element("camera").textContent = on ? "Stop camera" : "Start camera";
  element("camera").setAttribute("aria-pressed", String(on));
  element("numbers").hidden = element("timeline").hidden = !on;
  if (on) frame.classList.add("filled");
}

function onResult(result) {
  live.latest = result;
  if (result.faces.length) timeline.add(result.faces[0].probabilities);
  showFaces(result.faces, "No face in view.");
  const now = performance.now();
  if (now - live.announced > ANNOUNCE_EVERY_MS) {
    live.announced = now;
    element("status").textContent = describeFaces(result.faces);
  }
}

function onState({ connected, refused, reason, retryInMs }) {
  if (connected) {
    say("");
    return;
  }
  live.latest = null;
  if (refused) {
    begin();
    if (/key/i.test(reason)) askForKey();
    say(reason || "The server refuses this page.");
    return;
  }
  const why = reason ? `${reason} ` : "";
  say(`The connection is lost. ${why}Trying again in ${Math.ceil(retryInMs / 1000)} s…`);
}

/** Draw the camera as a mirror with the latest faces, and send a frame when the server has room for one. */
function tick(now) {
  if (!live.stream) return;
  requestAnimationFrame(tick);
  if (!video.videoWidth) return;
  if (view.width !== video.videoWidth || view.height !== video.videoHeight) {
    view.width = video.videoWidth;
    view.height = video.videoHeight;
  }
  const context = view.getContext("2d");
  context.save();
  context.scale(-1, 1);
  context.drawImage(video, -view.width, 0, view.width, view.height);
  context.restore();
  if (live.latest) drawFaces(context, live.latest.faces, view.width / live.latest.image.width, { mirrored: true, points: points.checked });
  if (live.stream.hasRoom && !live.encoding) sendFrame();
  if (now - live.drawn > 200) {
    live.drawn = now;
    showNumbers();
    timeline.draw();
    view.setAttribute("aria-label", `Camera. ${live.latest ? describeFaces(live.latest.faces) : "Waiting for the server"}.`);
  }
}

const sending = document.createElement("canvas");

function sendFrame() {
  const scale = Math.min(1, SENT_WIDTH_PX / video.videoWidth);
  sending.width = Math.round(video.videoWidth * scale);
  sending.height = Math.round(video.videoHeight * scale);
  sending.getContext("2d").drawImage(video, 0, 0, sending.width, sending.height);
  live.encoding = true;
  sending.toBlob(
    (blob) => {
      live.encoding = false;
      if (blob) live.stream?.send(blob);
    },
    "image/jpeg",
    SENT_QUALITY,
  );
}

function showNumbers() {
  const { fps, lag, dropped } = live.stream.numbers;
  element("fps").textContent = fps.toFixed(1);
  element("lag").textContent = lag === null ? "–" : `${Math.round(lag)} ms`;
  element("dropped").textContent = String(dropped);
}

/* ---- both ---- */

function showFaces(faces, none) {
  listFaces(element("faces"), faces);
  element("no-faces").textContent = faces.length ? "" : none;
}

function say(message) {
  if (element("message").textContent !== message) element("message").textContent = message;
  element("message").hidden = !message;
}

function askForKey() {
  element("key-form").hidden = false;
  element("key").focus();
}

async function example() {
  try {
    return await (await fetch("web/example.jpg")).blob();
  } catch {
    throw new Error("The server does not answer. Is it running?");
  }
}

async function nameModel() {
  const response = await fetch("readyz").catch(() => null);
  const body = (await response?.json().catch(() => null)) ?? {};
  element("model").textContent = response?.ok
    ? `Model ${body.model.name} ${body.model.version}, faces found by ${body.model.detector}`
    : (body.detail ?? "The server does not answer.");
}

element("camera").addEventListener("click", () => (live.camera ? begin() : start()));
element("devices").addEventListener("change", (event) => start(event.target.value));
element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = element("key").value;
  if (!/^[\x21-\x7e]+$/.test(given)) {
    say("A key has no blanks and no letters beyond a to z.");
    return;
  }
  key = given;
  element("key-form").hidden = true;
  say("");
});
element("file").addEventListener("change", (event) => {
  const [picture] = event.target.files;
  if (picture) show(async () => picture);
  event.target.value = ""; // the same picture can be chosen again
});
element("example").addEventListener("click", () => show(example));

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
  if (picture) show(async () => picture);
});
document.addEventListener("paste", (event) => {
  const [picture] = event.clipboardData.files;
  if (picture) show(async () => picture);
});

nameModel();
