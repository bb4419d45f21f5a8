// The answer of a pack as elements: the most probable classes, the group prompts and who shares them.

const MOST_SHARING = 6;

/** Make an element with a class, and children that are elements or text. */
export function textOf(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Make an element around a name that may run in either direction. */
export function named(tag, className, name) {
  const element = textOf(tag, className, name);
  element.dir = "auto";
  return element;
}

export function percent(share) {
  if (share > 0.995 && share < 1) return ">99%";
  if (share > 0 && share < 0.005) return "<1%";
  return `${Math.round(100 * share)}%`;
}

export function pictures(count) {
  return `${count.toLocaleString("en")} training picture${count === 1 ? "" : "s"}`;
}

/** Make the label of a shot group: how many pictures the class was learnt from. */
export function shotLabel(group) {
  return group === null ? "" : textOf("span", `shot ${group}`, group);
}

/** Say whether packs agree on the most probable class, or that it is none. */
export function agreementOf(predictions) {
  const best = new Set([...predictions.values()].map((prediction) => (prediction.rejected ? null : prediction.classes[0].class)));
  return best.size > 1 ? textOf("p", "agreement differ", "The packs disagree") : textOf("p", "agreement", "The packs agree");
}

/** Make the answer of a pack to a picture. */
export function answerOf(prediction, pack, titled) {
  const answer = textOf("section", "answer");
  if (titled) answer.append(named("h4", "", pack.name));
  if (prediction.rejected) answer.append(textOf("p", "unsure none", textOf("strong", "", "None of these classes"), " It looks like none of what this pack was trained on. Closest:"));
  else if (prediction.unsure) answer.append(textOf("p", "unsure", textOf("strong", "", "Not sure"), " No class stands out. Most probable:"));
  const list = textOf("ol", "classes");
  list.append(...prediction.classes.map(classRow));
  answer.append(list);
  if (prediction.groups.length) answer.append(groupsOf(prediction, pack));
  return answer;
}

function classRow({ class: name, probability, training_images: count, shot_group: group }) {
  const fill = textOf("span", "fill");
  fill.style.setProperty("--share", String(probability));
  const bar = textOf("span", "bar", fill);
  bar.ariaHidden = "true";
  return textOf(
    "li", "",
    named("span", "name", name), textOf("span", "percent", percent(probability)), bar,
    textOf("span", "facts", count === null ? "" : `${pictures(count)} `, shotLabel(group)),
  );
}

/** Make the list of the picked group prompts, each with the other classes that pick it often. */
function groupsOf(prediction, pack) {
  const numbers = prediction.groups.length === 1 ? "prompt" : "prompts";
  const details = textOf("details", "groups", textOf("summary", "", `Group ${numbers} ${listed(prediction.groups.map(String))}`));
  const measured = pack.classes.some((entry) => entry.groups?.length);
  const why = "Similar classes often pick the same group prompts.";
  const unknown = "This pack does not say which classes pick which group prompts.";
  details.append(textOf("p", "hint", measured ? why : unknown));
  if (measured) details.append(textOf("ul", "", ...prediction.groups.map((group) => sharing(group, prediction, pack))));
  return details;
}

function sharing(group, prediction, pack) {
  const best = prediction.classes[0].class;
  const others = pack.classes
    .filter((entry) => entry.class !== best && entry.groups?.includes(group))
    .sort((a, b) => a.groups.indexOf(group) - b.groups.indexOf(group))
    .map((entry) => entry.class);
  const shown = others.slice(0, MOST_SHARING);
  if (others.length > shown.length) shown.push(`${others.length - shown.length} more`);
  const text = shown.length ? ` is also picked by ${listed(shown)}` : " is picked often by no other class";
  return textOf("li", "", textOf("strong", "", String(group)), named("span", "", text));
}

function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
