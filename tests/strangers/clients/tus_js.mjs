// tus-js-client: sends a file in chunks, and goes on by itself after a cut. Prints how far it is.
import { createReadStream, statSync } from "node:fs";
import * as tus from "tus-js-client";

const [address, file, dataset, chunkBytes] = process.argv.slice(2);
const upload = new tus.Upload(createReadStream(file), {
  endpoint: `${address}/files/`,
  uploadSize: statSync(file).size,
  chunkSize: Number(chunkBytes) || Infinity,
  retryDelays: [100, 300, 1000, 1000, 1000],
  metadata: { kind: "dataset", robot_id: "robot_tus", dataset, path: "meta/notes.txt" },
  onChunkComplete: (_size, stored) => console.log(`stored ${stored}`),
  onError: (error) => {
    console.error(error.originalResponse?.getStatus(), error.message);
    process.exit(1);
  },
  onSuccess: () => console.log(upload.url),
});
upload.start();
