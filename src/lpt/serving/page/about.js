// What a pack is: how good, trained on what, and its classes.

import { named, percent, shotLabel, textOf } from "./answer.js";

const MOST_ROWS = 2000;

/** Make the description of a pack. */
export function aboutPack(pack) {
  const details = textOf("details", "pack", textOf("summary", "", "About ", named("span", "", pack.name)));
  const facts = textOf("dl", "");
  for (const [term, text] of factsOf(pack)) facts.append(textOf("dt", "", term), named("dd", "", text));
  const classes = textOf("div", "table");
  details.append(facts, classes);
  details.addEventListener("toggle", () => {
    if (details.open && !classes.firstChild) fillTable(classes, pack);
  });
  return details;
}

/** Say in a line what a pack is. */
export function summaryOf(pack) {
  const [height, width] = pack.input_size;
  return `${pack.classes.length.toLocaleString("en")} classes, ${pack.method}, ${width} × ${height} pixels`;
}

function factsOf(pack) {
  const { shots, probabilities, backbone } = pack;
  const groups = `few: below ${shots.few_below} training pictures; many: above ${shots.many_above}; medium: between`;
  const facts = [["Classes", `${pack.classes.length.toLocaleString("en")} (${groups})`]];
  const [split, measures] = ["test", "validation"].map((name) => [name, pack.metrics[name]]).find(([, m]) => m) ?? [];
  if (measures) facts.push(["Right answers", accuracyOf(split, measures)]);
  if (probabilities.meaning) facts.push(["Probabilities", probabilities.meaning]);
  const prompts = pack.pool_size ? `, ${pack.pool_size} group prompts, ${pack.top_k} picked for a picture` : "";
  facts.push(["Method", `${pack.method}${prompts}`]);
  facts.push(["Backbone", `${backbone.name}, licence ${backbone.licence}`]);
  return facts;
}

function accuracyOf(split, measures) {
  const groups = ["many", "medium", "few"]
    .filter((group) => typeof measures[group] === "number")
    .map((group) => `${group} ${percent(measures[group])}`);
  const images = measures.images.toLocaleString("en");
  return `${percent(measures.overall)} of ${images} ${split} pictures (${groups.join(", ")})`;
}

/** Fill the table of classes, most training pictures first: the long tail. */
function fillTable(place, pack) {
  const classes = [...pack.classes].sort((a, b) => b.training_images - a.training_images).slice(0, MOST_ROWS);
  const grouped = classes.some((entry) => entry.groups);
  const titles = ["Class", "Training pictures", "", ...(grouped ? ["Group prompts"] : [])];
  const head = textOf("tr", "", ...titles.map((title) => (title ? textOf("th", "", title) : textOf("td", ""))));
  const most = Math.max(...classes.map((entry) => entry.training_images), 1);
  const table = textOf("table", "", textOf("thead", "", head), textOf("tbody", "", ...classes.map((entry) => row(entry, most, grouped))));
  place.tabIndex = 0;
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", `Classes of ${pack.name}`);
  place.append(table);
  if (classes.length < pack.classes.length) place.append(textOf("p", "hint", `The ${MOST_ROWS} largest of ${pack.classes.length}.`));
}

function row(entry, most, grouped) {
  const name = named("th", "", entry.class);
  name.scope = "row";
  const fill = textOf("span", "fill");
  fill.style.setProperty("--share", String(entry.training_images / most));
  const bar = textOf("span", "bar", fill);
  bar.ariaHidden = "true";
  const cells = [name, textOf("td", "count", entry.training_images?.toLocaleString("en") ?? "not known", bar), textOf("td", "", shotLabel(entry.shot_group))];
  if (grouped) cells.push(textOf("td", "", (entry.groups ?? []).join(", ") || "–"));
  return textOf("tr", "", ...cells);
}
