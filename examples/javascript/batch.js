// Batches of the acknowledged mode as bytes: docs/telemetry-protocol.md, "Batch".
import { Encoder } from "@msgpack/msgpack";

const encoder = new Encoder();
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte;
});

/** CRC-32C (Castagnoli) of bytes, as an unsigned number. */
export function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Binary message of consecutive frames.
 *
 * first   index of the first frame
 * frames  [{ timeUs, state, action }]: a BigInt in µs since the Unix epoch, and numbers ("NaN" is one, too)
 * events  what happened up to these frames: [{ kind, frame_index, … }]
 */
export function encodeBatch(first, frames, events = []) {
  const timestamps = new DataView(new ArrayBuffer(8 * frames.length));
  frames.forEach((frame, row) => timestamps.setBigInt64(8 * row, frame.timeUs, true));
  const body = encoder.encode({
    first,
    count: frames.length,
    timestamps: bytesOf(timestamps),
    state: float32s(frames.map((frame) => frame.state)),
    action: float32s(frames.map((frame) => frame.action)),
    events,
  });
  const message = new Uint8Array(4 + body.length);
  new DataView(message.buffer).setUint32(0, crc32c(body), true);
  message.set(body, 4);
  return message;
}

function float32s(rows) {
  const values = rows.flat();
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, position) => view.setFloat32(4 * position, Number(value), true));
  return bytesOf(view);
}

function bytesOf(view) {
  return new Uint8Array(view.buffer);
}
