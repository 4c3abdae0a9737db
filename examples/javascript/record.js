// Records a simulated robot with two joints at 60 Hz:
//   node record.js ws://localhost:8000/ws/log/robot_A stream [frames]
// Killed and started again with the same folder, it continues where it stopped.
import { setTimeout as sleep } from "node:timers/promises";
import { ship } from "./shipper.js";
import { Spool } from "./spool.js";

const [url, folder, frames = "600"] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node record.js ws://localhost:8000/ws/log/<robot_id> <folder> [frames]");
  process.exit(2);
}
const FPS = 60;
const JOINTS = ["shoulder_pan.pos", "gripper.pos"];

// The wall clock, read once, and advanced by the monotonic clock.
const nowUs = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));

const spool = new Spool(folder, {
  robot_type: "simulated",
  fps: FPS,
  state_names: JOINTS,
  action_names: JOINTS,
  started_at_us: Number(nowUs()),
});

let stopped = false;
process.on("SIGINT", () => (stopped = true));

const shipped = ship(spool, url, { token: process.env.LEROBOT_BACKEND_TOKEN, report: tell });
await record(Number(frames));
const { session, acked } = await shipped;
console.log(`session ${session} is complete: ${acked} frames`);

/** The robot's loop. What it logs is on disk; the network can't hold it up. */
async function record(count) {
  const began = performance.now() - (spool.frames * 1000) / FPS;
  while (!spool.end && spool.frames < count && !stopped) {
    const index = spool.frames;
    const pan = 45 * Math.sin(index / 30);
    const events = index ? [] : [{ kind: "episode_start", frame_index: 0, episode_index: 0, task: "wave" }];
    spool.append({ timeUs: nowUs(), state: [pan, index % 100], action: [pan + 0.5, index % 100], events });
    await sleep(Math.max(0, began + ((index + 1) * 1000) / FPS - performance.now()));
  }
  // One past the last frame.
  if (!spool.end) spool.close([{ kind: "episode_end", frame_index: spool.frames, episode_index: 0 }]);
}

function tell({ ended, reason, acked }) {
  if (!ended) console.error(`${reason}; ${acked} of ${spool.frames} frames are safe on the server`);
}
