// Runs the network, apart from the page so that it stays responsive.

import * as ort from "./ort.wasm.min.js";
import "./release.js";
import { changed, download, DownloadError } from "./download.js";
import { PictureError, prepare } from "./pixels.js";

let model; // {preprocessing, session}

self.onmessage = async ({ data }) => {
  const { id, task, ...given } = data;
  try {
    self.postMessage({ id, result: await (task === "load" ? load(given) : classify(given)) });
  } catch (error) {
    const known = error instanceof PictureError || error instanceof DownloadError;
    self.postMessage({ id, error: known ? error.message : `Something went wrong: ${error.message ?? error}` });
  }
};

/** Fetch the runtime and the network, and make them ready. */
async function load({ facts, threads }) {
  const files = Object.fromEntries(self.RELEASE.files.map((file) => [file.name, file]));
  // classes of one version must not name the answers of another
  if (facts.model_sha256 !== files["model.onnx"].sha256) throw await changed(self.RELEASE, files["facts.json"]);
  const wanted = [files["ort-wasm-simd-threaded.wasm"], files["model.onnx"]];
  const total = wanted.reduce((sum, file) => sum + file.bytes, 0);
  const done = wanted.map(() => 0);
  const parts = await Promise.all(
    wanted.map((file, number) =>
      download(self.RELEASE, file, (bytes) => {
        done[number] = bytes;
        self.postMessage({ progress: { bytes: done.reduce((sum, part) => sum + part), total } });
      }),
    ),
  );
  ort.env.wasm.wasmPaths = { mjs: new URL("./ort-wasm-simd-threaded.js", import.meta.url).href };
  ort.env.wasm.wasmBinary = parts[0].content;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  const session = await ort.InferenceSession.create(parts[1].content, { graphOptimizationLevel: "all" });
  const { height, width } = facts.preprocessing;
  model = { preprocessing: facts.preprocessing, session };
  await run(new Uint8Array(height * width * 3)); // the first run is slow
  return { threads: ort.env.wasm.numThreads, kept: parts.every((part) => part.kept) };
}

/** Classify a picture file. */
async function classify({ picture }) {
  const begin = performance.now();
  const pixels = await prepare(picture, model.preprocessing);
  const prepared = performance.now();
  const answer = await run(pixels);
  return { ...answer, milliseconds: { prepare: prepared - begin, run: performance.now() - prepared } };
}

/** Run the network on resized pixels [height, width, 3]. */
async function run(pixels) {
  const { height, width } = model.preprocessing;
  const images = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const { probabilities, scores, groups } = await model.session.run({ images });
  return { probabilities: probabilities.data.slice(), scores: scores.data.slice(), groups: Array.from(groups?.data ?? [], Number) };
}
