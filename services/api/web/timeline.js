// The last minute of one face: its seven probabilities, stacked over time.

import { EMOTION_COLORS, percent } from "./faces.js";

const MINUTE_MS = 60_000;
const GAP_MS = 1000; // without an answer for longer, nothing is drawn

export class Timeline {
  constructor(canvas, legend) {
    this.canvas = canvas;
    this.points = [];
    legend.replaceChildren(
      ...Object.entries(EMOTION_COLORS).map(([emotion, color]) => {
        const item = document.createElement("li");
        item.textContent = emotion;
        item.style.setProperty("--emotion", color);
        return item;
      }),
    );
  }

  clear() {
    this.points = [];
  }

  add(probabilities) {
    const now = performance.now();
    this.points.push({ at: now, probabilities });
    while (this.points[0].at < now - MINUTE_MS) this.points.shift();
  }

  draw() {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    const now = performance.now();
    const place = (at) => width * (1 - (now - at) / MINUTE_MS);
    context.clearRect(0, 0, width, height);
    this.points.forEach((point, index) => {
      const next = this.points[index + 1];
      const left = place(point.at);
      const right = next ? (next.at - point.at < GAP_MS ? place(next.at) : left + 1) : width;
      let y = height;
      for (const [emotion, color] of Object.entries(EMOTION_COLORS)) {
        const share = point.probabilities[emotion] * height;
        context.fillStyle = color;
        context.fillRect(left, y - share, right - left + 0.6, share + 0.6);
        y -= share;
      }
    });
    this.canvas.setAttribute("aria-label", this.describe());
  }

  /** The mean over the minute in words. */
  describe() {
    if (!this.points.length) return "No face in the last minute";
    const means = Object.keys(EMOTION_COLORS).map((emotion) => {
      const sum = this.points.reduce((total, point) => total + point.probabilities[emotion], 0);
      return [emotion, sum / this.points.length];
    });
    const top = means.sort((a, b) => b[1] - a[1]).slice(0, 3);
    return `The last minute on average: ${top.map(([emotion, mean]) => `${emotion} ${percent(mean)}`).join(", ")}`;
  }
}
