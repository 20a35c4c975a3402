// Faces in words and numbers: a card for each.

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
const LISTED = 4; // of more faces, the status line gives counts
const OPEN_CARDS = 3; // of more faces, the seven bars are shown when asked for

export function percent(probability) {
  return `${Math.round(probability * 100)} %`;
}

/** What a face is called on its card and box: its identity in a video, else its place among the faces. */
export function numberOf(face, index) {
  return face.id ?? index + 1;
}

/** "2 faces: happy 94 %, sad 61 %", or "20 faces: 12 happy, 8 sad", for the status line and for screen readers. */
export function describeFaces(faces) {
  if (!faces.length) return "No face";
  if (faces.length > LISTED) {
    const counts = {};
    for (const { emotion } of faces) counts[emotion] = (counts[emotion] ?? 0) + 1;
    const most = Object.entries(counts).sort((one, other) => other[1] - one[1]);
    return `${faces.length} faces: ${most.map(([emotion, count]) => `${count} ${emotion}`).join(", ")}`;
  }
  const each = faces.map((face) => `${face.emotion} ${percent(face.probabilities[face.emotion])}`);
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${each.join(", ")}`;
}

/** The cards in `list`; `onMark(number)` when one is pointed at or focused, `onMark(null)` when it is left. */
export class Cards {
  constructor(list, onMark) {
    this.list = list;
    for (const [entered, left] of [["pointerover", "pointerleave"], ["focusin", "focusout"]]) {
      list.addEventListener(entered, (event) => onMark(numberAt(event.target)));
      list.addEventListener(left, () => onMark(null));
    }
  }

  /** Show a card for each face. They are kept and updated: at 15 frames a second, new ones would flicker. */
  show(faces) {
    const { list } = this;
    while (list.children.length > faces.length) list.lastElementChild.remove();
    faces.forEach((face, index) => {
      const emotions = Object.keys(face.probabilities);
      const item = list.children[index] ?? list.appendChild(card(emotions, faces.length <= OPEN_CARDS));
      update(item, face, numberOf(face, index));
    });
  }

  mark(number) {
    for (const item of this.list.children) item.classList.toggle("marked", item.dataset.number === String(number));
  }

  /** Bring the card of a face into view. */
  reveal(number) {
    const item = [...this.list.children].find(({ dataset }) => dataset.number === String(number));
    item?.scrollIntoView({ block: "nearest" });
  }
}

function numberAt(target) {
  return target.closest(".face")?.dataset.number ?? null;
}

function card(emotions, open) {
  const item = element("li", "face");
  const details = element("details");
  details.open = open;
  const summary = element("summary");
  summary.append(element("h3"), element("span", "share"));
  const bars = element("dl");
  for (const emotion of emotions) {
    const name = element("dt");
    name.textContent = emotion;
    const meter = element("dd");
    const progress = element("progress");
    progress.max = 1;
    progress.setAttribute("aria-label", emotion);
    meter.append(progress);
    const value = element("dd");
    value.dataset.emotion = emotion;
    bars.append(name, meter, value);
  }
  details.append(summary, bars);
  item.append(details);
  return item;
}

function element(name, className = "") {
  return Object.assign(document.createElement(name), { className });
}

function update(item, face, number) {
  item.dataset.number = number;
  item.style.setProperty("--face", EMOTION_COLORS[face.emotion]);
  item.querySelector("h3").textContent = `Face ${number}: ${face.emotion}`;
  item.querySelector(".share").textContent = percent(face.probabilities[face.emotion]);
  for (const value of item.querySelectorAll("dd[data-emotion]")) {
    const emotion = value.dataset.emotion;
    const probability = face.probabilities[emotion];
    value.textContent = percent(probability);
    value.previousElementSibling.firstElementChild.value = probability;
    value.previousElementSibling.previousElementSibling.classList.toggle("top", emotion === face.emotion);
  }
}
