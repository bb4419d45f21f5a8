// The page: add pictures, see the answers. Pictures stay on this device; no other host is asked.

import { aboutPack, summaryOf } from "./about.js";
import { Card } from "./card.js";
import { Engine, Problem } from "./engine.js";
import { sortOut, takeFiles } from "./files.js";
import { prepareOffline, threadCount, worksOffline } from "./offline.js";
import { Queue } from "./queue.js";

const MOST_CARDS = 500;
const MOST_SPOKEN = 3; // answers that are read out one by one; of more, only the end is
const MOST_CLASSES = 5; // shown for a picture
const MEGABYTE = 1e6;

const $ = (id) => document.getElementById(id);
let cards = [];
const results = new WeakMap(); // card -> the answer of the network
let pack; // what facts.json says
let engine;
let isReady;
const ready = new Promise((resolve) => (isReady = resolve)); // pictures that come before the network wait for it

// --- the network ---------------------------------------------------------------------------------------------------

async function begin() {
  try {
    const answer = await fetch("./facts.json", { cache: "no-cache" });
    if (!answer.ok) throw new Problem(`facts.json cannot be fetched: the host answers ${answer.status}.`);
    pack = await answer.json();
    $("summary").textContent = summaryOf(pack);
    $("about").replaceChildren(aboutPack(pack));
    for (const option of $("prior").options) option.disabled = Boolean(option.value) && !pack.priors[option.value];
    $("prior").disabled = false;
    if (!(await prepareOffline(() => !cards.length))) return;
    engine = new Engine(showLoading);
    const { threads, kept } = await engine.load(pack, threadCount());
    $("loading").hidden = true;
    const speed = threads > 1 ? `, on ${threads} threads` : "";
    const works = worksOffline(kept) ? "also works without a network" : "works as long as there is a network";
    $("state").textContent = `Ready${speed}. This page ${works}.`;
    say("Ready");
    isReady();
  } catch (error) {
    showProblem(error);
  }
}

function showLoading({ bytes, total }) {
  $("loading").hidden = false;
  $("loaded").max = total;
  $("loaded").value = bytes;
  const [done, all] = [bytes, total].map((size) => (size / MEGABYTE).toFixed(0));
  $("state").textContent = bytes < total ? `Fetching the classifier: ${done} of ${all} MB` : "Starting the classifier";
}

function showProblem(error) {
  $("loading").hidden = true;
  $("state").textContent = "";
  $("problem").hidden = false;
  $("problem").firstElementChild.textContent = messageOf(error);
  say(messageOf(error));
}

function messageOf(error) {
  return error instanceof Problem ? error.message : `The page could not show this (${error.message}).`;
}

// --- pictures ------------------------------------------------------------------------------------------------------

function addFiles(files) {
  const { pictures, others } = sortOut(files);
  const room = Math.max(MOST_CARDS - cards.length, 0);
  const added = pictures.slice(0, room).map(newCard);
  const notes = [];
  const more = others.length > 3 ? ` and ${others.length - 3} more` : "";
  const names = others.slice(0, 3).map((file) => file.name);
  if (others.length) notes.push(`Left out, no picture: ${names.join(", ")}${more}.`);
  if (pictures.length > room) notes.push(`This page takes ${MOST_CARDS} pictures at a time.`);
  $("left-out").textContent = notes.join(" ");
  $("left-out").hidden = !notes.length;
  if (notes.length) say(notes.join(" "));
  cards = [...added, ...cards];
  $("cards").prepend(...added.map((card) => card.element));
  showResults();
  start(added);
}

function newCard(file) {
  const card = new Card(file, { remove: removeCard, retry: (same) => start([same]) });
  const image = card.element.querySelector("img");
  image.addEventListener("error", () => {
    card.element.querySelector(".placeholder").textContent = "This browser cannot show this picture.";
  });
  return card;
}

function removeCard(card) {
  const index = cards.indexOf(card);
  queue.remove(card);
  card.remove();
  cards = cards.filter((other) => other !== card);
  showResults();
  if (cards.length) cards[Math.min(index, cards.length - 1)].focus();
  else $("choose").focus();
}

function removeAll() {
  queue.cancel();
  for (const card of cards) card.remove();
  cards = [];
  showResults();
  $("choose").focus();
}

function showResults() {
  $("results").hidden = !cards.length;
  showWork();
}

// --- work ----------------------------------------------------------------------------------------------------------

const queue = new Queue(classifyCard, showWork, 1);

function start(some) {
  for (const card of some) card.show("waiting");
  if (some.length) queue.add(some);
  if (some.length > 1) say(`Classifying ${some.length} pictures`);
}

async function classifyCard(card, signal) {
  await ready;
  if (signal.aborted) return true;
  card.show("running");
  try {
    const result = await engine.classify(card.file);
    if (signal.aborted) return true;
    results.set(card, result);
    showAnswer(card);
    card.element.dataset.milliseconds = JSON.stringify(result.milliseconds);
  } catch (error) {
    if (signal.aborted) return true;
    card.show("failed", messageOf(error));
  }
  if (queue.total <= MOST_SPOKEN) say(card.spoken);
  return true;
}

function showAnswer(card) {
  card.answer(new Map([[pack.name, predictionOf(results.get(card))]]), [pack]);
}

/** Show the answers again, under the frequencies that were chosen. */
function choosePrior() {
  const done = cards.filter((card) => card.state === "done");
  for (const card of done) showAnswer(card);
  if (done.length) say(done.length > MOST_SPOKEN ? `${done.length} answers changed` : done.map((card) => card.spoken).join(". "));
}

/** Return probabilities [C] under the chosen frequencies, as lpt.packs.prior.scores_under does. */
function underPrior(probabilities) {
  const ratios = pack.priors[$("prior").value];
  if (!ratios) return probabilities;
  const weighed = Array.from(probabilities, (probability, index) => probability * ratios[index]);
  const sum = weighed.reduce((all, value) => all + value, 0);
  return weighed.map((value) => value / sum);
}

/** Return the answer of the network as the page's parts take it. */
function predictionOf({ probabilities: plain, scores, groups }) {
  const probabilities = underPrior(plain);
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const classes = order.slice(0, MOST_CLASSES).map((index) => ({ ...pack.classes[index], probability: probabilities[index] }));
  const unsure = classes[0].probability < pack.unsure_below;
  const known = pack.reject ? knownScore(scores) : null;
  return { classes, groups, unsure, attention: null, rejected: known === null ? null : known < 0, known_score: known };
}

/** Return how far a picture lies above the threshold of the pack, as lpt.packs.rejection does. */
function knownScore(scores) {
  return scores.reduce((most, score) => Math.max(most, score)) - pack.rejection.threshold;
}

function cancel() {
  for (const card of queue.cancel()) card.show("stopped");
  const left = cards.filter((card) => card.state === "stopped").length;
  say(`Stopped. ${left} ${left === 1 ? "picture is" : "pictures are"} not classified yet.`);
  if (!$("again").hidden) $("again").focus();
}

function showWork() {
  const [stopped, failed] = ["stopped", "failed"].map((state) => cards.filter((card) => card.state === state).length);
  const { busy, done, total } = queue;
  $("work").hidden = !busy && !stopped && !failed;
  $("bar").hidden = $("cancel").hidden = !busy;
  $("again").hidden = busy || !stopped;
  $("bar").max = Math.max(total, 1);
  $("bar").value = done;
  if (busy) $("count").textContent = `${done} of ${total} done`;
  else $("count").textContent = stopped ? `Stopped; ${stopped} not classified` : `${failed} could not be classified`;
  if (!busy && total > MOST_SPOKEN && done === total) {
    say(`${done} pictures done${failed ? `, ${failed} could not be classified` : ""}`);
  }
}

// --- for screen readers ----------------------------------------------------------------------------------------------

let spoken = [];

/** Say something; what comes in the same moment is said together. */
function say(text) {
  spoken.push(text);
  if (spoken.length > 1) return;
  setTimeout(() => {
    $("announce").textContent = spoken.join(". ");
    spoken = [];
  }, 150);
}

// --- wiring ----------------------------------------------------------------------------------------------------------

function wire() {
  $("reload").addEventListener("click", () => location.reload());
  $("cancel").addEventListener("click", cancel);
  $("again").addEventListener("click", () => start(cards.filter((card) => card.state === "stopped")));
  $("clear").addEventListener("click", removeAll);
  $("prior").addEventListener("change", choosePrior);
  takeFiles(addFiles);
}

wire();
begin();
