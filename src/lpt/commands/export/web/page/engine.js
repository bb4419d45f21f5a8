// The page's side of worker.js: one call after the other, with its answers as promises.

/** A picture or a file that cannot be used, with a sentence for people. */
export class Problem extends Error {}

export class Engine {
  #worker;
  #calls = new Map(); // number of a call -> how to settle it
  #count = 0;
  #showProgress;

  /** `showProgress({bytes, total})` is called while files are fetched. */
  constructor(showProgress) {
    this.#showProgress = showProgress;
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => this.#receive(data));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      const message = event.message
        ? "This browser cannot run the classifier. Use a current Chrome, Edge, Firefox or Safari."
        : "A part of this page cannot be fetched. Reload it, with a network."; // a script did not load
      for (const { reject } of this.#calls.values()) reject(new Problem(message));
      this.#calls.clear();
    });
  }

  /** Fetch the network and make it ready; return {threads, kept}. */
  load(facts, threads) {
    return this.#call({ task: "load", facts, threads });
  }

  /** Classify a picture file; return {probabilities, scores, groups, milliseconds}. */
  classify(picture) {
    return this.#call({ task: "classify", picture });
  }

  #call(message) {
    this.#count += 1;
    const id = this.#count;
    this.#worker.postMessage({ id, ...message });
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
  }

  #receive({ id, result, error, progress }) {
    if (progress) {
      this.#showProgress(progress);
      return;
    }
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new Problem(error));
  }
}
