// Items wait here and are worked on a few at a time.

export class Queue {
  #waiting = [];
  #running = new Map(); // item -> its AbortController
  #paused = false;
  #work;
  #changed;
  #atOnce;

  /**
   * @param work does an item: `await work(item, signal)`; it returns false if the item must wait and the queue pause
   * @param changed is called after every change
   * @param atOnce is how many items are worked on at a time
   */
  constructor(work, changed, atOnce = 3) {
    this.#work = work;
    this.#changed = changed;
    this.#atOnce = atOnce;
    this.total = 0;
    this.done = 0;
  }

  get busy() {
    return this.#waiting.length + this.#running.size > 0;
  }

  get paused() {
    return this.#paused;
  }

  add(items) {
    if (!this.busy) this.total = this.done = 0;
    this.#waiting.push(...items);
    this.total += items.length;
    this.#next();
  }

  /** Stop everything; return the items that are not done. */
  cancel() {
    const left = [...this.#running.keys(), ...this.#waiting];
    this.#waiting = [];
    for (const stop of this.#running.values()) stop.abort();
    this.#running.clear();
    this.total = this.done;
    this.#changed();
    return left;
  }

  remove(item) {
    if (!this.#waiting.includes(item) && !this.#running.has(item)) return;
    this.#waiting = this.#waiting.filter((other) => other !== item);
    this.#running.get(item)?.abort();
    this.#running.delete(item);
    this.total -= 1;
    this.#next();
  }

  resume() {
    this.#paused = false;
    this.#next();
  }

  #next() {
    while (!this.#paused && this.#waiting.length && this.#running.size < this.#atOnce) this.#start(this.#waiting.shift());
    this.#changed();
  }

  async #start(item) {
    const stop = new AbortController();
    this.#running.set(item, stop);
    const finished = await this.#work(item, stop.signal);
    if (this.#running.get(item) !== stop) return; // it was cancelled or removed
    this.#running.delete(item);
    if (finished) this.done += 1;
    else {
      this.#waiting.unshift(item);
      this.#paused = true;
    }
    this.#next();
  }
}

/** Wait; reject with an AbortError as soon as the signal comes. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stopped = () => reject(new DOMException("stopped", "AbortError"));
    if (signal.aborted) return stopped();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), stopped()), { once: true });
  });
}
