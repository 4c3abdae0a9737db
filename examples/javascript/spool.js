// What has to survive a killed process, in one folder: docs/telemetry-protocol.md, "States".
//   session.json  { stream, secret, session }, written once, before the first frame
//   frames.jsonl  one line for each frame; a line that was cut off by a kill was never logged
//   end.json      { frames, events }, once the recording is over
import * as fs from "node:fs";
import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";

const AT_ONCE = 64 * 1024;

/** A stream in a folder: a new one, or the one that a killed process has left there. */
export class Spool {
  constructor(folder, session) {
    this.folder = folder;
    fs.mkdirSync(folder, { recursive: true });
    const description = join(folder, "session.json");
    if (!fs.existsSync(description)) {
      const secret = randomBytes(32).toString("base64url");
      writeWhole(description, { stream: randomUUID(), secret, session });
    }
    Object.assign(this, JSON.parse(fs.readFileSync(description)));
    this.file = fs.openSync(join(folder, "frames.jsonl"), "a+");
    this.offsets = [0]; // of each frame's line, and of the next one
    this.#findLines();
  }

  /** How many frames there are; the index of the next one. */
  get frames() {
    return this.offsets.length - 1;
  }

  /** { frames, events } once the recording is over, null before. */
  get end() {
    const path = join(this.folder, "end.json");
    return fs.existsSync(path) ? JSON.parse(fs.readFileSync(path)) : null;
  }

  /** Log a frame: { timeUs, state, action, events }. A kill of the process can't take it any more. */
  append(frame) {
    const line = Buffer.from(JSON.stringify(frame, exactly) + "\n");
    fs.writeSync(this.file, line);
    this.offsets.push(this.offsets.at(-1) + line.length);
  }

  /** Say that the recording is over. */
  close(events = []) {
    fs.fsyncSync(this.file);
    writeWhole(join(this.folder, "end.json"), { frames: this.frames, events });
  }

  /** Frames `first` to `end` - 1, after which a power cut can't take them: the server may learn of them now. */
  read(first, end) {
    fs.fdatasyncSync(this.file);
    const bytes = Buffer.alloc(this.offsets[end] - this.offsets[first]);
    fs.readSync(this.file, bytes, 0, bytes.length, this.offsets[first]);
    const lines = bytes.toString().split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line)).map((frame) => ({ ...frame, timeUs: BigInt(frame.timeUs) }));
  }

  #findLines() {
    const piece = Buffer.alloc(AT_ONCE);
    let size = 0;
    for (let got; (got = fs.readSync(this.file, piece, 0, AT_ONCE, size)) > 0; size += got) {
      for (let at = piece.indexOf(10); at >= 0 && at < got; at = piece.indexOf(10, at + 1)) {
        this.offsets.push(size + at + 1);
      }
    }
    fs.ftruncateSync(this.file, this.offsets.at(-1));
  }
}

/** JSON has neither integers of 64 bits nor NaN and infinities. */
function exactly(_, value) {
  return typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value)) ? String(value) : value;
}

/** Whole or not at all, whenever the process is killed. */
function writeWhole(path, content) {
  const file = fs.openSync(`${path}.new`, "w");
  fs.writeSync(file, JSON.stringify(content));
  fs.fsyncSync(file);
  fs.closeSync(file);
  fs.renameSync(`${path}.new`, path);
}
