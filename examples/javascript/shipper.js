// The client of the acknowledged mode: docs/telemetry-protocol.md, "Rules of the client".
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { encodeBatch } from "./batch.js";

const SUBPROTOCOL = "lerobot.telemetry.v1.3";
const PACE_MS = 1000 / 6;
const PING_MS = 5000;
const DEAD_AFTER_MS = 15000;
const FIRST_PAUSE_MS = 200;

/** Send everything that is, and will be, in a spool; resolves once the server has the whole session. */
export async function ship(spool, url, { token, report = () => {} } = {}) {
  const progress = { acked: 0, session: null };
  for (let failures = 0; ; ) {
    const line = new Connection(spool, url, token, progress);
    const outcome = await line.finished;
    report({ ...outcome, ...progress });
    if (outcome.ended) return progress;
    failures = line.limits ? 1 : failures + 1;
    if (outcome.drained) continue;
    const longest = outcome.retryable === false ? 30000 : 5000;
    await sleep(Math.min(longest, FIRST_PAUSE_MS * 2 ** (failures - 1)) * (0.5 + Math.random() / 2));
  }
}

/** One connection, from the handshake to its end. `finished` resolves to { ended, drained, retryable, reason }. */
class Connection {
  constructor(spool, url, token, progress) {
    Object.assign(this, { spool, progress, limits: null, inFlight: [], next: 0, endSent: false, outcome: {} });
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    this.socket = new WebSocket(url, [SUBPROTOCOL], {
      headers,
      handshakeTimeout: DEAD_AFTER_MS,
      perMessageDeflate: false,
    });
    this.finished = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => {
        clearInterval(this.timer);
        resolve({ reason: `${code} ${reason}`.trim(), ...this.outcome });
      });
    });
    this.socket.on("error", (error) => (this.outcome.reason ??= error.message));
    this.socket.on("unexpected-response", (_, response) => this.#refused(response));
    this.socket.on("open", () => this.#greet());
    this.socket.on("message", (text) => this.#hear(JSON.parse(text)));
    this.socket.on("pong", () => (this.heardAt = Date.now()));
  }

  #greet() {
    const { stream, secret, session } = this.spool;
    this.#say({ type: "hello", stream, secret, session, first_unacked: this.progress.acked });
    this.heardAt = this.pingedAt = Date.now();
    this.timer = setInterval(() => this.#beat(), PACE_MS);
  }

  #hear(message) {
    this.heardAt = Date.now();
    switch (message.type) {
      case "welcome":
        if (message.next > this.spool.frames) return this.#stop("somebody else has written to this stream", false);
        this.limits = message.limits;
        this.progress.session = message.session_id;
        this.progress.acked = this.next = message.next;
        return this.#send();
      case "ack":
        this.progress.acked = Math.max(this.progress.acked, message.next);
        while (this.inFlight.length && this.inFlight[0].end <= message.next) this.inFlight.shift();
        return this.#send();
      case "nack":
        this.next = message.expected;
        this.inFlight = [];
        this.endSent = false;
        return this.#send();
      case "ended":
        this.outcome = { ended: true };
        return;
      case "drain":
        this.outcome = { drained: true };
        return;
      case "error":
        if (message.fatal) this.outcome = { reason: `${message.code}: ${message.detail}`, retryable: message.retryable };
    }
  }

  /** Send what the window has room for, and `end` once everything is acknowledged. */
  #send() {
    if (!this.limits || this.outcome.drained || this.endSent) return;
    while (this.next < this.spool.frames && this.#hasRoom()) {
      const end = Math.min(this.spool.frames, this.next + this.limits.max_frames);
      const frames = this.spool.read(this.next, end);
      this.#sendBatch(frames);
    }
    const { end } = this.spool;
    if (end && this.progress.acked === end.frames) {
      this.#say({ type: "end", frames: end.frames, reason: "closed", events: end.events });
      this.endSent = true;
    }
  }

  #sendBatch(frames) {
    const message = encodeBatch(this.next, frames, frames.flatMap((frame) => frame.events ?? []));
    // Wide frames: half of them fit sooner.
    if (message.length > this.limits.max_message_bytes && frames.length > 1) {
      return this.#sendBatch(frames.slice(0, frames.length / 2));
    }
    this.socket.send(message);
    this.next += frames.length;
    this.inFlight.push({ end: this.next, bytes: message.length });
  }

  #hasRoom() {
    const bytes = this.inFlight.reduce((sum, batch) => sum + batch.bytes, 0);
    return this.inFlight.length < this.limits.window_batches && bytes < this.limits.window_bytes;
  }

  /** New frames go out at a steady pace; a connection that has gone silent is given up. */
  #beat() {
    const now = Date.now();
    if (now - this.heardAt > DEAD_AFTER_MS) return this.#stop("the server does not answer");
    if (now - this.pingedAt > PING_MS) {
      this.pingedAt = now;
      this.socket.ping();
    }
    this.#send();
  }

  #refused(response) {
    let body = "";
    response.on("data", (piece) => (body += piece));
    response.on("end", () => {
      const problem = parsed(body) ?? { detail: body.slice(0, 500) };
      this.#stop(`${response.statusCode}: ${problem.detail}; ${problem.hint ?? ""}`, problem.retryable);
    });
  }

  #stop(reason, retryable) {
    this.outcome = { reason, retryable };
    this.socket.terminate();
  }

  #say(message) {
    this.socket.send(JSON.stringify(message));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
