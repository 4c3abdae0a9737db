// The WebSocket that Node brings along, as browsers have it; nobody listens to its messages.
import { address, paced } from "./pacing.mjs";

const line = new WebSocket(address);
await new Promise((resolve, reject) => Object.assign(line, { onopen: resolve, onerror: reject }));
for await (const text of paced()) line.send(text);
line.close(1000);
