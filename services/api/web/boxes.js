// Boxes and labels over the picture, sharp at any size. A label lies at its own box and off the others; where its text
// does not fit it is shorter, at last only the number that the face's card has too.

import { EMOTION_COLORS, numberOf, percent } from "./faces.js";

const TYPE_PX = 14;
const SMALL_TYPE_PX = 11;
const SMALL_BOX_PX = 70; // below this width the type is small
const TOLERATED = 0.3; // the share of a label that may lie over another face's box, rather than be a number

const measuring = document.createElement("canvas").getContext("2d");

export class Boxes {
  /** In `root`, which lies over the picture; `onMark(number)` as a box is pointed at, `onChoose(number)` as it is clicked. */
  constructor(root, { onMark, onChoose }) {
    Object.assign(this, { root, shown: null, marked: null, points: false });
    root.addEventListener("pointerover", (event) => onMark(event.target.dataset.number ?? null));
    root.addEventListener("pointerleave", () => onMark(null));
    root.addEventListener("click", (event) => event.target.dataset.number && onChoose(event.target.dataset.number));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  /** Show the faces of an image of {width, height}, as a mirror shows them where `mirrored`. */
  show(faces, image, mirrored = false) {
    this.shown = { faces, image, mirrored };
    this.draw();
  }

  clear() {
    this.shown = null;
    this.root.replaceChildren();
  }

  mark(number) {
    this.marked = number === null ? null : String(number);
    this.root.classList.toggle("marking", this.marked !== null);
    for (const child of this.root.children) child.classList.toggle("marked", child.dataset.number === this.marked);
  }

  /** Whether the five points of each face are shown, where the detector finds them. */
  showPoints(on) {
    this.points = on;
    this.draw();
  }

  draw() {
    const { root, shown } = this;
    if (!shown || !root.clientWidth) return;
    const { faces, image, mirrored } = shown;
    const scale = root.clientWidth / image.width;
    const frame = { width: root.clientWidth, height: root.clientHeight };
    const boxes = faces.map(({ box }) => {
      const left = (mirrored ? image.width - box.x - box.width : box.x) * scale;
      return area(left, box.y * scale, box.width * scale, box.height * scale);
    });
    const taken = [];
    while (root.children.length > 2 * faces.length) root.lastElementChild.remove();
    faces.forEach((face, index) => {
      const number = String(numberOf(face, index));
      const others = boxes.filter((_, other) => other !== index);
      const label = labelFor(face, number, boxes[index], frame, others, taken);
      taken.push(label.place);
      const box = this.child(2 * index);
      put(box, "box", boxes[index], face, number);
      const points = this.points ? Object.values(face.landmarks ?? {}) : [];
      box.replaceChildren(...points.map(({ x, y }) => dot((mirrored ? image.width - x : x) * scale, y * scale, boxes[index])));
      put(this.child(2 * index + 1), "label", label.place, face, number, label);
    });
    this.mark(this.marked);
  }

  child(index) {
    return this.root.children[index] ?? this.root.appendChild(document.createElement("div"));
  }
}

function put(element, className, { left, top, width, height }, face, number, { text = "", size = 0 } = {}) {
  element.className = className;
  element.dataset.number = number;
  if (text && element.textContent !== text) element.textContent = text;
  const color = EMOTION_COLORS[face.emotion];
  const style = { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` };
  Object.assign(element.style, style, size ? { fontSize: `${size}px`, lineHeight: `${height}px` } : {});
  element.style.setProperty("--face", color);
  element.style.setProperty("--ink", inkOn(color));
}

function dot(x, y, box) {
  const element = document.createElement("div");
  element.className = "point";
  Object.assign(element.style, { left: `${x - box.left}px`, top: `${y - box.top}px` });
  return element;
}

/** The fullest text that covers no label and no other box or, failing that, little of one; and where it goes. */
function labelFor(face, number, box, frame, others, taken) {
  const size = box.width < SMALL_BOX_PX ? SMALL_TYPE_PX : TYPE_PX;
  measuring.font = `600 ${size}px system-ui, sans-serif`;
  const share = percent(face.probabilities[face.emotion]);
  const found = [`${number} ${face.emotion} ${share}`, `${number} ${face.emotion}`, number].flatMap((text) => {
    const width = Math.ceil(measuring.measureText(text).width + size * 0.8);
    return places(box, width, Math.round(size * 1.5), frame).map((place) => ({ text, size, place }));
  });
  for (const one of found) {
    const covers = (all) => all.reduce((sum, other) => sum + overlap(one.place, other), 0);
    one.label = covers(taken);
    one.share = covers(others) / (one.place.width * one.place.height);
  }
  const free = (allowed) => found.find((one) => one.label === 0 && one.share <= allowed);
  return free(0) ?? free(TOLERATED) ?? found.reduce((best, one) => (one.label < best.label ? one : best), found.at(-1));
}

/** Above the box, below it, at its sides, in it; always inside the picture. */
function places(box, width, height, frame) {
  const { left, top, right, bottom } = box;
  const corners = [
    [left, top - height], [right - width, top - height], [left, bottom], [right - width, bottom],
    [right, top], [left - width, top], [left, top], [left, bottom - height],
  ];
  return corners
    .map(([x, y]) => [x, y, area(within(x, frame.width - width), within(y, frame.height - height), width, height)])
    .filter(([x, y, place], index) => {
      const inside = x >= left && y >= top && x + width <= right && y + height <= bottom;
      return inside || overlap(place, box) === 0 || index === corners.length - 1;
    })
    .map(([, , place]) => place);
}

function within(value, most) {
  return Math.max(0, Math.min(value, most));
}

function area(left, top, width, height) {
  return { left, top, width, height, right: left + width, bottom: top + height };
}

function overlap(one, other) {
  const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
  const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
  return Math.max(width - 1, 0) * Math.max(height - 1, 0); // less than a pixel is none
}

/** Black or white, whichever has more contrast (WCAG 2). */
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const value = parseInt(color.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 ? "#ffffff" : "#000000";
}
