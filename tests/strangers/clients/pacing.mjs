// The frames that each of these clients sends, as in pacing.py.
import { setTimeout as sleep } from "node:timers/promises";

export const [address, frames, seconds, ending] = process.argv.slice(2);
const REFUSED = JSON.stringify({ observation: { a: "far" } });

export async function* paced() {
  const began = performance.now();
  for (let number = 0; number < frames; number++) {
    await sleep(Math.max(0, began + (number * seconds * 1000) / frames - performance.now()));
    yield JSON.stringify({ observation: { a: number }, action: { a: number + 0.5 } });
    if (number === Math.floor(frames / 2)) yield REFUSED;
  }
  if (ending === "stay") await sleep(3_600_000);
}
