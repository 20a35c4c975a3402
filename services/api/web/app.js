// The page: the camera, live, or one picture at a time.

import { Boxes } from "./boxes.js";
import { closeCamera, listCameras, openCamera } from "./camera.js";
import { Cards, describeFaces } from "./faces.js";
import { currentKey, example, KeyNeeded, nameModel, needsKey, predict, useKey } from "./service.js";
import { Stream } from "./stream.js";
import { Timeline } from "./timeline.js";

const LONGEST_SIDE_PX = 1600; // a larger picture is shown, not sent, at this size
const SENT_WIDTH_PX = 640; // of a camera frame: detection needs no more
const SENT_QUALITY = 0.8;
const ANNOUNCE_EVERY_MS = 4000; // to screen readers, while the camera runs

const element = (id) => document.getElementById(id);
const view = element("view");
const video = element("video");
const drop = element("drop");
const boxes = new Boxes(element("boxes"), { onMark: mark, onChoose: (number) => cards.reveal(number) });
const cards = new Cards(element("faces"), mark);
const timeline = new Timeline(element("minute"), element("legend"));
const live = { camera: null, stream: null, faces: null, encoding: false, drawn: 0, announced: 0 };
let latestTurn = 0; // of what was asked for: only the last may show anything
let keyMissing = needsKey();
let whenKeyIsThere = null; // what was asked for when a key was missing

/* ---- one picture ---- */

/** Send one picture, which `load` gives, and show it with what came back. */
async function show(load) {
  const turn = begin();
  say("");
  status("Looking…");
  try {
    const picture = await load();
    const started = performance.now();
    const answer = await predict(picture);
    const elapsed = Math.round(performance.now() - started);
    if (turn !== latestTurn) return;
    await drawPicture(picture, answer.image);
    if (turn !== latestTurn) return;
    cards.show([]); // those of an earlier picture may be open or closed as nobody chose for this one
    showFaces(answer.faces, answer.image, "No face was found in this picture.");
    const worked = Math.round(Object.values(answer.timings_ms).reduce((sum, value) => sum + value, 0));
    status(`${describeFaces(answer.faces)}. ${elapsed} ms, of which ${worked} ms for the analysis.`);
    view.setAttribute("aria-label", `Picture. ${describeFaces(answer.faces)}.`);
  } catch (error) {
    if (turn !== latestTurn) return;
    clear();
    if (error instanceof KeyNeeded) askForKey(() => show(load));
    else say(error.message);
  }
}

/** Show the picture, which the server sees as `image` {width, height}, at a size that a screen needs. */
async function drawPicture(picture, image) {
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(image.width, image.height));
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  const options = { resizeWidth: width, resizeHeight: height, resizeQuality: "high" };
  const bitmap = await createImageBitmap(picture, options).catch(() => null);
  sizeView(width, height);
  if (bitmap) view.getContext("2d").drawImage(bitmap, 0, 0);
  else say("The server read this picture; your browser cannot display its format.");
  bitmap?.close();
}

/* ---- the camera ---- */

async function start(deviceId) {
  const turn = begin();
  clear();
  say("");
  const missing = await keyMissing;
  if (turn !== latestTurn) return;
  if (missing) {
    askForKey(() => start(deviceId));
    return;
  }
  let camera;
  try {
    camera = await openCamera(deviceId);
  } catch (error) {
    if (turn === latestTurn) say(error.message);
    return;
  }
  if (turn !== latestTurn) {
    closeCamera(camera); // something else was begun while the browser asked for permission
    return;
  }
  live.camera = camera;
  video.srcObject = camera;
  camera.getVideoTracks()[0].addEventListener("ended", () => {
    if (live.camera !== camera) return;
    stop();
    say("The camera was disconnected.");
  });
  running(true);
  timeline.clear();
  live.stream = new Stream({ onResult, onState: (state) => onState(state, deviceId), key: currentKey() });
  live.stream.open();
  requestAnimationFrame(tick);
  await video.play().catch(() => {}); // it may be stopped before it plays
  await listCameras(element("devices"), element("devices-label"), camera);
}

/** End whatever runs; what is still on its way belongs to an earlier turn than the one returned. */
function begin() {
  live.stream?.close();
  live.stream = live.faces = null;
  if (live.camera) clear(); // a picture stays until the next is there
  closeCamera(live.camera);
  live.camera = video.srcObject = null;
  running(false);
  return ++latestTurn;
}

function stop() {
  begin();
  say("");
  status("The camera is off.");
}

function running(on) {
  element("camera").textContent = on ? "Stop camera" : "Start camera";
  element("camera").setAttribute("aria-pressed", String(on));
  element("numbers").hidden = element("timeline").hidden = !on;
}

function onResult(result) {
  if (result.faces.length) timeline.add(result.faces[0].probabilities);
  live.faces = result.faces.toSorted((one, other) => one.id - other.id); // cards keep their places
  showFaces(live.faces, result.image, "No face in view.", true);
  const now = performance.now();
  const announced = now - live.announced > ANNOUNCE_EVERY_MS;
  if (announced) live.announced = now;
  status(describeFaces(live.faces), announced);
}

function onState({ connected, refused, reason, retryInMs }, deviceId) {
  if (connected) {
    say("");
    return;
  }
  clear();
  if (refused) {
    begin();
    if (/key/i.test(reason)) askForKey(() => start(deviceId), reason);
    else say(reason || "The server refuses this page.");
    return;
  }
  const why = reason ? `${reason} ` : "";
  say(`The connection was lost. ${why}Trying again in ${Math.ceil(retryInMs / 1000)} s…`);
}

/** Draw the camera as a mirror, and send a frame when the server has room for one. */
function tick(now) {
  if (!live.stream) return;
  requestAnimationFrame(tick);
  if (!video.videoWidth) return;
  sizeView(video.videoWidth, video.videoHeight);
  const context = view.getContext("2d");
  context.save();
  context.scale(-1, 1);
  context.drawImage(video, -view.width, 0, view.width, view.height);
  context.restore();
  if (live.stream.hasRoom && !live.encoding) sendFrame();
  if (now - live.drawn > 200) {
    live.drawn = now;
    showNumbers();
    timeline.draw();
    view.setAttribute("aria-label", `Camera. ${live.faces ? describeFaces(live.faces) : "Waiting for the server"}.`);
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

function showFaces(faces, image, none, mirrored = false) {
  boxes.show(faces, image, mirrored);
  cards.show(faces);
  element("no-faces").textContent = faces.length ? "" : none;
}

/** Nothing is shown, as at the beginning. */
function clear() {
  boxes.clear();
  cards.show([]);
  status("");
  element("no-faces").textContent = "Seven probabilities for each face appear here.";
  view.getContext("2d").clearRect(0, 0, view.width, view.height);
  view.setAttribute("aria-label", "Nothing is shown yet");
  drop.classList.remove("filled");
}

function sizeView(width, height) {
  drop.classList.add("filled");
  if (view.width === width && view.height === height) return;
  Object.assign(view, { width, height });
  element("picture").style.setProperty("--ratio", width / height);
}

/** Mark a face's box and card; null marks none. */
function mark(number) {
  boxes.mark(number);
  cards.mark(number);
}

/** The line under the picture; screen readers hear it where `announced`. */
function status(text, announced = true) {
  element("status").textContent = text;
  if (announced) element("announcement").textContent = text;
}

function say(message) {
  if (element("message").textContent !== message) element("message").textContent = message;
  element("message").hidden = !message;
}

/** Ask for a key; `then` is done once there is a right one. `why` the last one was not. */
function askForKey(then, why = "") {
  whenKeyIsThere = then;
  say(currentKey() ? why : "");
  element("key-form").hidden = false;
  element("key").focus();
}

element("camera").addEventListener("click", () => (live.camera ? stop() : start()));
element("devices").addEventListener("change", (event) => start(event.target.value));
element("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await useKey(element("key").value.trim());
  } catch (error) {
    say(error.message);
    element("key").select();
    return;
  }
  keyMissing = false;
  element("key-form").hidden = true;
  say("");
  const then = whenKeyIsThere;
  whenKeyIsThere = null;
  then?.();
});
element("file").addEventListener("change", (event) => {
  const [picture] = event.target.files;
  if (picture) show(async () => picture);
  event.target.value = ""; // the same picture can be chosen again
});
element("points").addEventListener("change", (event) => boxes.showPoints(event.target.checked));
element("example").addEventListener("click", () => show(example));

for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, () => drop.classList.remove("over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  const [picture] = event.dataTransfer.files;
  if (picture) show(async () => picture);
});
document.addEventListener("paste", (event) => {
  const [picture] = event.clipboardData.files;
  if (picture) show(async () => picture);
});

keyMissing.then((missing) => missing && askForKey(null));
nameModel().then((name) => (element("model").textContent = name));
