// Faces as people see them: boxes over the picture, and seven bars for each.

// A colour for each emotion, told apart in light and dark and by most colour-blind people.
export const EMOTION_COLORS = {
  angry: "#c9372c",
  disgust: "#7a9a01",
  fear: "#8250df",
  happy: "#b77900",
  neutral: "#7d8590",
  sad: "#2f7de1",
  surprise: "#d6409f",
};

export function percent(probability) {
  return `${Math.round(probability * 100)} %`;
}

/** "2 faces: happy 94 %, sad 61 %", for the status line and for screen readers. */
export function describeFaces(faces) {
  if (!faces.length) return "No face";
  const each = faces.map((face) => `${face.emotion} ${percent(face.probabilities[face.emotion])}`);
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${each.join(", ")}`;
}

/** Boxes and labels, with `scale` canvas pixels for each pixel of the image; `mirrored` as a mirror shows them. */
export function drawFaces(context, faces, scale, { mirrored = false, points = false } = {}) {
  const { canvas } = context;
  const size = 14 * (canvas.clientWidth ? canvas.width / canvas.clientWidth : 1); // as large as the page's own text
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const face of faces) {
    const width = face.box.width * scale;
    const height = face.box.height * scale;
    const left = face.box.x * scale;
    const x = mirrored ? canvas.width - left - width : left;
    const y = face.box.y * scale;
    const color = EMOTION_COLORS[face.emotion];
    context.strokeStyle = color;
    context.lineWidth = Math.max(2, size / 6);
    context.strokeRect(x, y, width, height);
    if (points) drawPoints(context, Object.values(face.landmarks ?? {}), scale, mirrored, size / 6);
    drawLabel(context, face, { x, y, height }, size, color);
  }
}

function drawPoints(context, points, scale, mirrored, radius) {
  context.fillStyle = context.strokeStyle;
  for (const point of points) {
    const x = mirrored ? context.canvas.width - point.x * scale : point.x * scale;
    context.beginPath();
    context.arc(x, point.y * scale, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

function drawLabel(context, face, box, size, color) {
  const label = `${face.emotion} ${percent(face.probabilities[face.emotion])}`;
  const width = context.measureText(label).width + size;
  const height = size * 1.6;
  const x = Math.max(0, Math.min(box.x - context.lineWidth / 2, context.canvas.width - width));
  const top = box.y >= height ? box.y - height : Math.min(box.y + box.height, context.canvas.height - height);
  context.fillStyle = color;
  context.fillRect(x, top, width, height);
  context.fillStyle = "#ffffff";
  context.shadowColor = "rgb(0 0 0 / 60%)";
  context.shadowBlur = size / 5;
  context.fillText(label, x + size / 2, top + height / 2);
  context.shadowBlur = 0;
}

/** A card for each face in `list`. Cards are kept and updated: at 15 frames a second, new ones would flicker. */
export function listFaces(list, faces) {
  while (list.children.length > faces.length) list.lastElementChild.remove();
  faces.forEach((face, index) => {
    const item = list.children[index] ?? list.appendChild(card(Object.keys(face.probabilities)));
    update(item, face, face.id ?? index + 1);
  });
}

function card(emotions) {
  const item = document.createElement("li");
  item.className = "face";
  const title = document.createElement("h3");
  const bars = document.createElement("dl");
  for (const emotion of emotions) {
    const name = document.createElement("dt");
    name.textContent = emotion;
    const meter = document.createElement("dd");
    const progress = document.createElement("progress");
    progress.max = 1;
    progress.setAttribute("aria-label", emotion);
    meter.append(progress);
    const value = document.createElement("dd");
    value.dataset.emotion = emotion;
    bars.append(name, meter, value);
  }
  item.append(title, bars);
  return item;
}

function update(item, face, number) {
  item.style.setProperty("--face", EMOTION_COLORS[face.emotion]);
  item.querySelector("h3").textContent = `Face ${number}: ${face.emotion}`;
  for (const value of item.querySelectorAll("dd[data-emotion]")) {
    const emotion = value.dataset.emotion;
    const probability = face.probabilities[emotion];
    value.textContent = percent(probability);
    value.previousElementSibling.firstElementChild.value = probability;
    value.previousElementSibling.previousElementSibling.classList.toggle("top", emotion === face.emotion);
  }
}
