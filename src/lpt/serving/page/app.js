// The page: choose packs, add pictures, see the answers. Nothing is stored, no other host is asked.

import { aboutPack, summaryOf } from "./about.js";
import { textOf } from "./answer.js";
import { Problem, classify, describePack, hasToken, listPacks, setToken } from "./api.js";
import { Card } from "./card.js";
import { sortOut, takeFiles } from "./files.js";
import { Queue, pause } from "./queue.js";

const MOST_CARDS = 500;
const MOST_SPOKEN = 3; // answers that are read out one by one; of more, only the end is
const TRIES = 6; // of a picture while the server has too much to do

const $ = (id) => document.getElementById(id);
let cards = [];
let packs = []; // descriptions of the chosen packs; empty until they are there
let looked = "none"; // the pack whose attention is shown: its place among the chosen ones, or none
let choice = 0; // counts choices of packs: an answer for a former one is dropped

// --- packs ---------------------------------------------------------------------------------------------------------

async function loadPacks() {
  $("packs-problem").hidden = true;
  try {
    const listed = await listPacks();
    if (!listed.length) throw new Problem("The server has no packs yet. Add one, then try again.");
    $("token-panel").hidden = true;
    fillChoices(listed);
    await choosePacks();
  } catch (error) {
    showPacksProblem(error);
  }
}

function fillChoices(listed) {
  const before = [$("pack-a").value, $("pack-b").value];
  const options = () => listed.map((pack) => new Option(pack.name, pack.name));
  $("pack-a").replaceChildren(...options());
  $("pack-b").replaceChildren(new Option("no other pack", ""), ...options());
  $("pack-a").disabled = false;
  $("compare").hidden = listed.length < 2;
  [$("pack-a"), $("pack-b")].forEach((select, index) => {
    if (listed.some((pack) => pack.name === before[index])) select.value = before[index];
  });
}

/** Describe the chosen packs, and classify all pictures with them. */
async function choosePacks() {
  choice += 1;
  const mine = choice;
  queue.cancel();
  packs = [];
  for (const card of cards) card.show("waiting");
  for (const option of $("pack-b").options) option.disabled = option.value === $("pack-a").value;
  if ($("pack-b").selectedOptions[0].disabled) $("pack-b").value = "";
  const names = [$("pack-a").value, $("pack-b").value].filter(Boolean);
  try {
    const described = await Promise.all(names.map(describePack));
    if (mine !== choice) return;
    offerPriors(described);
    packs = described;
  } catch (error) {
    if (mine === choice) showPacksProblem(error);
    return;
  }
  $("packs-problem").hidden = true;
  $("about").replaceChildren(...packs.map((pack) => textOf("div", "", textOf("p", "hint", summaryOf(pack)), aboutPack(pack))));
  $("cards").classList.toggle("compared", packs.length > 1);
  showLookChoices();
  start(cards);
}

/** Offer the frequencies of training if all packs know them; else say which does not. */
function offerPriors(described) {
  const option = $("prior").querySelector("[value=training]");
  const unknown = described.filter((pack) => pack.classes.some((one) => one.training_images === null));
  option.disabled = unknown.length > 0;
  $("prior").disabled = false;
  $("prior-hint").hidden = !option.disabled;
  $("prior-hint").textContent = `How frequent classes were in training is not known to ${unknown.map((pack) => pack.name).join(" and ")}.`;
  if (!option.disabled || !option.selected) return;
  $("prior").value = "";
  say($("prior-hint").textContent);
}

/** Say why the packs are not there, or ask for the token that they need. */
function showPacksProblem(error) {
  if (error.status === 401) {
    askForToken();
    return;
  }
  if ($("packs-problem").hidden) say(messageOf(error));
  $("packs-problem").hidden = false;
  $("packs-problem").firstElementChild.textContent = messageOf(error);
}

function messageOf(error) {
  return error instanceof Problem ? error.message : `The page could not show this (${error.message}).`;
}

// --- token ---------------------------------------------------------------------------------------------------------

function askForToken() {
  if ($("token-panel").hidden || document.activeElement !== $("token")) {
    $("token-panel").hidden = false;
    $("token").focus();
  }
  const wrong = hasToken();
  $("token").setAttribute("aria-invalid", String(wrong));
  $("token-title").textContent = wrong ? "The server does not accept this token" : "This server asks for a token";
  say($("token-title").textContent);
}

async function tokenGiven(event) {
  event.preventDefault();
  setToken($("token").value.trim());
  $("token").value = "";
  if (!packs.length) await loadPacks();
  else $("token-panel").hidden = true;
  if (!$("token-panel").hidden) return;
  queue.resume();
  $("choose").focus();
}

// --- pictures ------------------------------------------------------------------------------------------------------

function addFiles(files) {
  const { pictures, others } = sortOut(files);
  const room = Math.max(MOST_CARDS - cards.length, 0);
  const added = pictures.slice(0, room).map((file) => new Card(file, { remove: removeCard, retry: (card) => start([card]) }));
  const notes = [];
  if (others.length) notes.push(`Left out, no picture: ${others.slice(0, 3).map((file) => file.name).join(", ")}${others.length > 3 ? ` and ${others.length - 3} more` : ""}.`);
  if (pictures.length > room) notes.push(`This page takes ${MOST_CARDS} pictures at a time; for more there is the command lpt predict.`);
  $("left-out").textContent = notes.join(" ");
  $("left-out").hidden = !notes.length;
  if (notes.length) say(notes.join(" "));
  cards = [...added, ...cards];
  $("cards").prepend(...added.map((card) => card.element));
  showResults();
  if (added.length && $("cards").getBoundingClientRect().top > innerHeight / 2) $("results").scrollIntoView();
  start(added);
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
  endIsSaid = true;
  queue.cancel();
  for (const card of cards) card.remove();
  cards = [];
  showResults();
  $("choose").focus();
}

function showResults() {
  $("results").hidden = !cards.length;
  document.body.classList.toggle("filled", cards.length > 0);
  showWork();
}

// --- work ----------------------------------------------------------------------------------------------------------

const queue = new Queue(classifyCard, showWork);
let endIsSaid = true; // whether the end of the work needs no words

/** Classify pictures; as long as no pack is there, they wait for it. */
function start(some) {
  for (const card of some) card.show("waiting");
  if (!packs.length || !some.length) return;
  queue.add(some);
  endIsSaid = queue.total <= MOST_SPOKEN;
  if (some.length > 1) say(`Classifying ${some.length} pictures`);
}

/** Classify a picture and show the answer; return false if it must wait for a token. */
async function classifyCard(card, signal) {
  const [mine, chosen] = [choice, packs];
  card.show("running");
  try {
    const predictions = await patiently(card, chosen.map((pack) => pack.name), signal);
    if (mine === choice && !signal.aborted) {
      card.answer(predictions, chosen);
      showAttention(card);
      speak(card);
    }
  } catch (error) {
    if (signal.aborted) return true;
    if (error.status === 401) {
      card.show("waiting");
      askForToken();
      return false;
    }
    card.show("failed", messageOf(error));
    if (error.status === 404) showPacksProblem(error); // the pack has gone
    speak(card);
  }
  return true;
}

/** Classify a picture; while the server has too much to do, wait as long as it says and try again. */
async function patiently(card, names, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await classify(card.file, names, $("prior").value, signal);
    } catch (error) {
      if (!error.wait || attempt === TRIES) throw error;
      card.show("running", "The server has much to do. Trying again by itself.");
      await pause(error.wait * (0.8 + 0.4 * Math.random()), signal);
    }
  }
}

function cancel() {
  endIsSaid = true;
  for (const card of queue.cancel()) card.show("stopped");
  showWork();
  const left = cards.filter((card) => card.state === "stopped").length;
  say(`Stopped. ${left} ${left === 1 ? "picture is" : "pictures are"} not classified yet.`);
  if (!$("again").hidden) $("again").focus();
}

function showWork() {
  const [stopped, failed] = ["stopped", "failed"].map((state) => cards.filter((card) => card.state === state).length);
  const { busy, done, total } = queue;
  $("work").hidden = !busy && !stopped && !failed;
  $("bar").hidden = $("cancel").hidden = !busy;
  $("again").hidden = busy || !(stopped || failed);
  $("bar").max = Math.max(total, 1);
  $("bar").value = done;
  if (busy) $("count").textContent = `${done} of ${total} done${queue.paused ? "; waiting for the token" : ""}`;
  else $("count").textContent = stopped ? `Stopped; ${stopped} not classified` : `${failed} could not be classified`;
  $("again").textContent = stopped ? "Go on" : "Try them again";
  if (busy || endIsSaid) return;
  endIsSaid = true;
  say(`${done} pictures done${failed ? `, ${failed} could not be classified` : ""}`);
}

// --- where the model looked ------------------------------------------------------------------------------------------

function showLookChoices() {
  const names = packs.length > 1 ? packs.map((pack) => pack.name) : ["shown"];
  if (Number(looked) >= names.length) looked = "none";
  const choices = [["none", "hidden"], ...names.map((name, index) => [String(index), name])];
  const legend = $("look").querySelector("legend");
  $("look").replaceChildren(legend, ...choices.map(([value, text]) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "look", value, checked: value === looked });
    const label = textOf("label", "", input, textOf("span", "", text));
    label.dir = "auto";
    return label;
  }));
  showLook();
}

function showLook() {
  $("strength-field").hidden = $("legend").hidden = looked === "none";
  for (const card of cards) showAttention(card);
}

function showAttention(card) {
  card.look(looked === "none" || card.state !== "done" ? null : (packs[Number(looked)]?.name ?? null));
}

// --- for screen readers ----------------------------------------------------------------------------------------------

let spoken = [];

/** Say something; what comes in the same moment is said together. */
function say(text) {
  spoken.push(text);
  if (spoken.length > 1) return;
  setTimeout(() => {
    $("announce").textContent = spoken.map((text) => (/[.!?]$/.test(text) ? text : `${text}.`)).join(" ");
    spoken = [];
  }, 150);
}

function speak(card) {
  if (queue.total <= MOST_SPOKEN) say(card.spoken);
}

// --- wiring ----------------------------------------------------------------------------------------------------------

function wire() {
  for (const id of ["pack-a", "pack-b", "prior"]) $(id).addEventListener("change", choosePacks);
  $("packs-retry").addEventListener("click", loadPacks);
  $("token-form").addEventListener("submit", tokenGiven);
  $("cancel").addEventListener("click", cancel);
  $("again").addEventListener("click", () => start(cards.filter((card) => ["stopped", "failed"].includes(card.state))));
  $("clear").addEventListener("click", removeAll);
  $("look").addEventListener("change", (event) => {
    looked = event.target.value;
    showLook();
  });
  $("strength").addEventListener("input", () => $("cards").style.setProperty("--strength", $("strength").value / 100));
  takeFiles(addFiles);
}

wire();
loadPacks();
