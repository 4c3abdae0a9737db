// One scenario of tus-js-client against a server: `node client.mjs ENDPOINT SCENARIO FILE PATH`; prints JSON.
import fs from 'node:fs'
import process from 'node:process'
import { Readable } from 'node:stream'
import { Upload } from 'tus-js-client'

const [endpoint, scenario, file, path] = process.argv.slice(2)
const content = fs.readFileSync(file)
const MIB = 1024 * 1024
const common = {
  endpoint,
  chunkSize: MIB,
  retryDelays: null,
  metadata: { robot_id: 'robot_A', dataset: 'me/ds', filename: path, filetype: 'application/octet-stream' },
}

function run(source, options, { abortAfter = Infinity, terminate = false } = {}) {
  return new Promise((resolve) => {
    let aborting = false
    const upload = new Upload(source, {
      ...common,
      ...options,
      onSuccess: () => resolve({ end: 'success', url: upload.url }),
      onError: (error) =>
        resolve({ end: 'error', url: upload.url, status: error.originalResponse?.getStatus() }),
      onChunkComplete: async (_size, accepted) => {
        if (accepted >= abortAfter && !aborting) {
          aborting = true
          await upload.abort(terminate)
          resolve({ end: 'aborted', url: upload.url, accepted })
        }
      },
    })
    upload.start()
  })
}

const scenarios = {
  create: () => run(content, {}),
  withCreation: () => run(content, { uploadDataDuringCreation: true }),
  overridden: () => run(content, { overridePatchMethod: true }),
  deferred: () => run(Readable.from([content]), { uploadLengthDeferred: true }),
  resume: async () => {
    const first = await run(content, {}, { abortAfter: 2 * MIB })
    const offsets = []
    const second = await run(content, {
      uploadUrl: first.url,
      onAfterResponse: (request, response) => {
        if (request.getMethod() === 'HEAD') offsets.push(Number(response.getHeader('Upload-Offset')))
      },
    })
    return { ...second, first, offsets }
  },
  wrongChecksum: () =>
    run(content, {
      onBeforeRequest: (request) => {
        if (request.getMethod() === 'PATCH') {
          request.setHeader('Upload-Checksum', `sha1 ${Buffer.alloc(20).toString('base64')}`)
        }
      },
    }),
  terminate: () => run(content, {}, { abortAfter: MIB, terminate: true }),
}

console.log(JSON.stringify(await scenarios[scenario]()))
// An aborted upload leaves its socket open.
process.exit(0)
