// A picture with its answers.

import { drawAttention, whereItLooked } from "./attention.js";
import { agreementOf, answerOf, percent } from "./answer.js";

const STATES = { waiting: "Waiting", running: "Classifying", stopped: "Not classified yet" };

export class Card {
  /** `actions` has `remove(card)` and `retry(card)`. */
  constructor(file, actions) {
    this.file = file;
    this.state = "waiting";
    this.predictions = new Map();
    this.element = document.querySelector("#card").content.firstElementChild.cloneNode(true);
    this.#part("h3").textContent = file.name;
    this.#part(".remove").setAttribute("aria-label", `Remove ${file.name}`);
    this.#part(".remove").addEventListener("click", () => actions.remove(this));
    this.#part(".retry").setAttribute("aria-label", `Try again: ${file.name}`);
    this.#part(".retry").addEventListener("click", () => actions.retry(this));
    this.#showPicture();
    this.show("waiting");
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  get name() {
    return this.file.name;
  }

  #showPicture() {
    const image = this.#part("img");
    this.address = URL.createObjectURL(this.file);
    image.addEventListener("error", () => {
      image.hidden = true;
      const placeholder = this.#part(".placeholder");
      placeholder.hidden = false;
      const kind = this.file.name.includes(".") ? this.file.name.split(".").pop().toUpperCase() : "such";
      placeholder.textContent = `This browser cannot show ${kind.slice(0, 6)} pictures. The server may still read it.`;
    });
    image.src = this.address;
    image.alt = this.file.name;
  }

  /** Show a state: waiting, running, stopped, or failed with its message. */
  show(state, message = "") {
    this.state = state;
    this.predictions = new Map();
    this.#part(".answers").replaceChildren();
    this.#setState(message || STATES[state]);
    this.look(null);
  }

  /** Show what the server answered: a prediction of each pack, whose details are in `packs`. */
  answer(predictions, packs) {
    this.state = "done";
    this.predictions = predictions;
    this.packs = packs;
    const several = packs.length > 1;
    const parts = packs.map((pack) => answerOf(predictions.get(pack.name), pack, several));
    this.#part(".answers").replaceChildren(...parts);
    if (several) this.#part(".answers").prepend(agreementOf(predictions));
    this.#setState("");
  }

  #setState(text) {
    this.element.dataset.state = this.state;
    this.element.setAttribute("aria-busy", String(this.state === "running"));
    this.#part(".state").textContent = text;
    this.#part(".state").hidden = !text;
    this.#part(".retry").hidden = this.state !== "failed" && this.state !== "stopped";
  }

  /** Lay the attention of a pack over the picture; null takes it away. */
  look(name) {
    const [canvas, caption, frame] = [this.#part("canvas"), this.#part("figcaption"), this.#part(".frame")];
    const prediction = name === null ? undefined : this.predictions.get(name);
    const attention = prediction?.attention;
    canvas.hidden = !attention;
    caption.hidden = !prediction;
    frame.classList.toggle("looked", Boolean(attention));
    if (!prediction) return;
    if (!attention) {
      caption.textContent = "This pack does not say where it looked.";
      return;
    }
    drawAttention(canvas, attention);
    const share = this.packs.find((pack) => pack.name === name)?.test_crop ?? 1;
    canvas.style.setProperty("--seen", String(share));
    caption.textContent = `${whereItLooked(attention)}.`;
    canvas.setAttribute("aria-label", `Attention over ${this.name}. ${caption.textContent}`);
  }

  /** Return the answer as a sentence for a screen reader. */
  get spoken() {
    if (this.state === "failed") return `${this.name}: ${this.#part(".state").textContent}`;
    const parts = [...this.predictions].map(([pack, prediction]) => {
      const best = prediction.classes[0];
      const doubt = prediction.rejected ? "none of these classes, closest " : prediction.unsure ? "not sure, perhaps " : "";
      const verdict = `${doubt}${best.class}, ${percent(best.probability)}`;
      return this.predictions.size > 1 ? `${pack}: ${verdict}` : verdict;
    });
    return `${this.name}: ${parts.join("; ")}`;
  }

  focus() {
    this.#part("h3").focus();
  }

  /** Let go of the picture. */
  remove() {
    URL.revokeObjectURL(this.address);
    this.element.remove();
  }
}

