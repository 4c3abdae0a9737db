// A user's program in TypeScript: every call is checked against types that are generated from the description.
import createClient from "openapi-fetch";
import { readFile } from "node:fs/promises";
import type { components, paths } from "./api";

type Problem = components["schemas"]["Problem"];

const [address, file] = process.argv.slice(2) as [string, string];
const backend = createClient<paths>({ baseUrl: address });

/** The data of an answer; the problem's own words otherwise. */
function known<T>(answer: { data?: T; error?: Problem }): T {
  if (answer.data === undefined) throw new Error(`${answer.error?.code}: ${answer.error?.detail}`);
  return answer.data;
}

const { sessions } = known(await backend.GET("/sessions", { params: { query: { robot_id: "robot_A", limit: 10 } } }));
const session_id = sessions[0]!.id;
const ledger = known(await backend.GET("/sessions/{session_id}/ledger", { params: { path: { session_id } } }));

const receipt = known(
  await backend.POST("/upload/sync", {
    body: { robot_id: "robot_A", dataset: "me/ds", path: "meta/info.json", file: file },
    bodySerializer: formOf(await readFile(file)),
  }),
);

const made = known(await backend.POST("/exports", { body: { repo_id: "me/made", session_ids: [session_id] } }));
const path = { export_id: made.id };
const events = known(await backend.GET("/exports/{export_id}/events", { params: { path }, parseAs: "text" }));
const states = [...events.matchAll(/^data: (.*)$/gm)].map(
  ([, data]) => (JSON.parse(data!) as components["schemas"]["ExportView"]).status,
);
const archive = await backend.GET("/exports/{export_id}/archive", { params: { path }, parseAs: "arrayBuffer" });
const missing = await backend.GET("/sessions/{session_id}", { params: { path: { session_id: 999 } } });

console.log(
  JSON.stringify({
    committed: ledger.committed,
    stored: receipt.path,
    states,
    archive: (archive.data as unknown as ArrayBuffer).byteLength,
    code: missing.error?.code,
  }),
);

/** How openapi-fetch sends a form: bytes in place of the file's name. */
function formOf(bytes: Uint8Array<ArrayBuffer>) {
  return (body: components["schemas"]["DatasetForm"]) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(body)) {
      form.append(name, name === "file" ? new Blob([bytes]) : String(value));
    }
    return form;
  };
}
