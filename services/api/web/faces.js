// Faces as people see them: boxes over the picture, and seven bars for each.

const COLORS = ["#2f7de1", "#d9622b", "#2e9b57", "#a24fc0", "#c2a100", "#d43d6b", "#1b9aaa"];

export function colorOf(index) {
  return COLORS[index % COLORS.length];
}

export function percent(probability) {
  return `${Math.round(probability * 100)} %`;
}

/** "2 faces: happy 94 %, sad 61 %", for the status line and for screen readers. */
export function describeFaces(faces) {
  if (!faces.length) return "No face";
  const each = faces.map((face) => `${face.emotion} ${percent(face.probabilities[face.emotion])}`);
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${each.join(", ")}`;
}

/** Boxes and labels, with `scale` canvas pixels for each pixel of the image. */
export function drawFaces(context, faces, scale) {
  const size = Math.max(14, Math.round(context.canvas.width / 45));
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  faces.forEach((face, index) => {
    const x = face.box.x * scale;
    const y = face.box.y * scale;
    const width = face.box.width * scale;
    const height = face.box.height * scale;
    const label = `${face.emotion} ${percent(face.probabilities[face.emotion])}`;
    const tag = { width: context.measureText(label).width + size, height: size * 1.6 };
    const top = y >= tag.height ? y - tag.height : y + height;
    context.strokeStyle = colorOf(index);
    context.lineWidth = Math.max(2, size / 6);
    context.strokeRect(x, y, width, height);
    context.fillStyle = colorOf(index);
    context.fillRect(x - context.lineWidth / 2, top, tag.width, tag.height);
    context.fillStyle = "#ffffff";
    context.fillText(label, x + size / 2, top + tag.height / 2);
  });
}

/** A card for each face in `list`, its most probable emotion first to be read. */
export function listFaces(list, faces) {
  list.replaceChildren(...faces.map((face, index) => card(face, index)));
}

function card(face, index) {
  const item = document.createElement("li");
  item.className = "face";
  item.style.setProperty("--face", colorOf(index));
  const title = document.createElement("h3");
  const number = document.createElement("span");
  number.textContent = `Face ${index + 1}: ${face.emotion}`;
  title.append(number);
  const bars = document.createElement("dl");
  for (const [emotion, probability] of Object.entries(face.probabilities)) {
    bars.append(...bar(emotion, probability, emotion === face.emotion));
  }
  item.append(title, bars);
  return item;
}

function bar(emotion, probability, isTop) {
  const name = document.createElement("dt");
  name.textContent = emotion;
  name.classList.toggle("top", isTop);
  const meter = document.createElement("dd");
  const progress = document.createElement("progress");
  progress.max = 1;
  progress.value = probability;
  progress.setAttribute("aria-label", emotion);
  meter.append(progress);
  const value = document.createElement("dd");
  value.textContent = percent(probability);
  return [name, meter, value];
}
