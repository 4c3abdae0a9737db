// `ws`, Node's most used WebSocket library; nobody listens to its messages.
import { once } from "node:events";
import { WebSocket } from "ws";
import { address, paced } from "./pacing.mjs";

const line = new WebSocket(address);
await once(line, "open");
for await (const text of paced()) line.send(text);
line.close(1000);
