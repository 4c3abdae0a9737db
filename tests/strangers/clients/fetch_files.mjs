// Node's own fetch: sends a file as a form, and fetches it in two ranges. Prints what it reads of a compressed one.
import assert from "node:assert";
import { openAsBlob, writeFileSync } from "node:fs";

const [address, path, dataset, copy] = process.argv.slice(2);
const form = new FormData();
form.append("robot_id", "robot_http");
form.append("dataset", dataset);
form.append("path", "meta/notes.txt");
form.append("file", await openAsBlob(path), "notes.txt");
assert.strictEqual((await fetch(`${address}/upload/sync`, { method: "POST", body: form })).status, 201);

const stored = `${address}/datasets/robot_http/${dataset}/files/meta/notes.txt`;
const first = await fetch(stored, { headers: { Range: "bytes=0-999999" } });
const etag = first.headers.get("ETag");
const rest = await fetch(stored, { headers: { Range: "bytes=1000000-", "If-Range": etag } });
assert.deepStrictEqual([first.status, rest.status], [206, 206]);
writeFileSync(copy, Buffer.concat([Buffer.from(await first.arrayBuffer()), Buffer.from(await rest.arrayBuffer())]));

const description = await fetch(`${address}/openapi.json`);
console.log(description.headers.get("Content-Encoding"), (await description.json()).openapi);
