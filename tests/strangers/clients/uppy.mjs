// Uppy with its tus plugin, which goes on by itself after a cut. Prints how far it is.
import { readFileSync, statSync } from "node:fs";
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

const [address, file, dataset, chunkBytes] = process.argv.slice(2);
const uppy = new Uppy().use(Tus, {
  endpoint: `${address}/files/`,
  chunkSize: Number(chunkBytes) || Infinity,
  retryDelays: [100, 300, 1000, 1000, 1000],
});
uppy.on("upload-progress", (_file, progress) => console.log(`stored ${progress.bytesUploaded}`));
// In Node, what it sends is a Buffer; only a browser has File.
uppy.addFile({
  name: "notes.txt",
  data: Object.assign(readFileSync(file), { size: statSync(file).size }),
  meta: { kind: "dataset", robot_id: "robot_tus", dataset, path: "meta/notes.txt" },
});
const { successful, failed } = await uppy.upload();
for (const each of failed) console.error(each.error);
for (const each of successful) console.log(each.uploadURL);
process.exit(failed.length ? 1 : 0);
