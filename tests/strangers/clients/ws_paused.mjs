// `ws` with reading paused, as behind a consumer that has stopped: it answers no pings.
import { once } from "node:events";
import { WebSocket } from "ws";
import { address, paced } from "./pacing.mjs";

const line = new WebSocket(address);
await once(line, "open");
line.pause();
for await (const text of paced()) line.send(text);
line.close(1000);
line.resume();
