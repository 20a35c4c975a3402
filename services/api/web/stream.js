// A /stream session that comes back: frames in, results out, and honest numbers about both.
//
//   const stream = new Stream({ onResult, onState });
//   stream.open();            // again and again, with growing pauses, until close()
//   stream.send(blob);        // false when the server has enough to do
//   stream.close();

const IN_FLIGHT = 2; // one being worked on, one on its way: more only adds lag
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;
const WINDOW_MS = 2000; // over which rates are taken
const POLICY = 1008;

export class Stream {
  constructor({ onResult, onState, key = "" }) {
    Object.assign(this, { onResult, onState, key });
    this.wanted = false;
    this.pause = FIRST_PAUSE_MS;
    this.forget();
  }

  open() {
    this.wanted = true;
    const url = new URL("stream", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const protocols = ["mien.v1", ...(this.key ? [`mien.key.${base64url(this.key)}`] : [])];
    this.socket = new WebSocket(url, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.socket.onclose = (event) => this.closed(event);
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    this.socket?.close(1000);
    this.forget();
  }

  /** Whether a frame sent now would be worked on soon. */
  get hasRoom() {
    return this.ready && this.sentAt.size < IN_FLIGHT;
  }

  send(frame) {
    if (!this.hasRoom) return false;
    this.socket.send(frame);
    this.sentAt.set(++this.sent, performance.now());
    return true;
  }

  /** Answers a second and the median lag in ms, over the last two seconds; frames the server passed over. */
  get numbers() {
    const since = performance.now() - WINDOW_MS;
    this.answers = this.answers.filter((answer) => answer.at > since);
    const lags = this.answers.map((answer) => answer.lag).sort((a, b) => a - b);
    return {
      fps: this.answers.length / (WINDOW_MS / 1000),
      lag: lags.length ? lags[Math.floor(lags.length / 2)] : null,
      dropped: this.dropped,
    };
  }

  forget() {
    this.ready = false;
    this.sent = 0;
    this.dropped = 0;
    this.sentAt = new Map();
    this.answers = [];
  }

  receive(message) {
    if (message.type === "ready") {
      this.ready = true;
      this.pause = FIRST_PAUSE_MS;
      this.onState({ connected: true });
      return;
    }
    if (message.frame === undefined) return;
    const now = performance.now();
    const lag = now - this.sentAt.get(message.frame);
    // An answer to a frame settles those before it as well: they were passed over.
    for (const number of this.sentAt.keys()) if (number <= message.frame) this.sentAt.delete(number);
    this.dropped += message.dropped;
    this.answers.push({ at: now, lag });
    if (message.type === "result") this.onResult(message);
  }

  closed(event) {
    const { dropped } = this;
    this.forget();
    this.dropped = dropped;
    if (!this.wanted) return;
    if (event.code === POLICY) {
      this.wanted = false;
      this.onState({ connected: false, refused: true, reason: event.reason });
      return;
    }
    if (document.hidden) {
      // No frames are drawn on a hidden page: the server ends the idle session, and there is nobody to tell.
      document.addEventListener("visibilitychange", () => this.wanted && this.open(), { once: true });
      return;
    }
    const wait = this.pause * (0.75 + Math.random() / 2); // not everybody at once
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
    this.onState({ connected: false, reason: event.reason, retryInMs: wait });
    this.timer = setTimeout(() => this.open(), wait);
  }
}

function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
