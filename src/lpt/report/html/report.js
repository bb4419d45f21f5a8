"use strict";
(async () => {
  const ROWS = 50;
  const byId = (id) => document.getElementById(id);
  const [head, body, search, group] = ["head", "rows", "search", "group"].map(byId);
  let columns;
  try {
    const packed = Uint8Array.from(atob(byId("data").textContent.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    columns = JSON.parse(await new Response(stream).text()).columns;
  } catch {
    byId("failed").hidden = false;
    return;
  }
  const names = columns[0].values;
  const folded = names.map((name) => name.toLowerCase());
  const groups = columns.find((column) => column.kind === "group").values;
  const order = { many: 0, medium: 1, few: 2, none: 3 };
  const collator = new Intl.Collator(undefined, { numeric: true });
  const whole = new Intl.NumberFormat("en");
  let rows = names.map((_, index) => index);
  let sorted = { column: 1, ascending: false };
  let page = 0;

  const show = {
    text: (value) => value,
    group: (value) => value,
    count: (value) => whole.format(value),
    percent: (value) => value.toFixed(1) + " %",
    points: (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(1),
    class: (value) => names[value],
  };

  function compare(column) {
    const { kind, values } = column;
    const value = (row) => (kind === "class" && values[row] !== null ? names[values[row]] : values[row]);
    return (a, b) => {
      const [first, second] = [value(a), value(b)];
      if (first === null || second === null) return (first === null) - (second === null) || a - b;
      let result;
      if (kind === "group") result = order[first] - order[second];
      else if (typeof first === "string") result = collator.compare(first, second);
      else result = first - second;
      return (sorted.ascending ? result : -result) || a - b;
    };
  }

  function select() {
    const text = search.value.trim().toLowerCase();
    rows = names.map((_, index) => index);
    rows = rows.filter((row) => folded[row].includes(text) && (!group.value || groups[row] === group.value));
    rows.sort(compare(columns[sorted.column]));
    page = 0;
    draw();
  }

  function draw() {
    const first = page * ROWS;
    const last = Math.min(first + ROWS, rows.length);
    const lines = rows.slice(first, last).map((row) => {
      const line = document.createElement("tr");
      columns.forEach((column, index) => {
        const cell = document.createElement(index ? "td" : "th");
        if (!index) cell.scope = "row";
        const value = column.values[row];
        cell.textContent = value === null ? "–" : show[column.kind](value);
        if (["count", "percent", "points"].includes(column.kind)) cell.className = "n";
        if (column.kind === "points" && value) cell.classList.add(value > 0 ? "up" : "down");
        if (column.kind === "group") cell.className = "group " + value;
        line.append(cell);
      });
      return line;
    });
    body.replaceChildren(...lines);
    const range = rows.length > ROWS ? `, ${whole.format(first + 1)} to ${whole.format(last)} shown` : "";
    byId("count").textContent = `${whole.format(rows.length)} of ${whole.format(names.length)} classes${range}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = last >= rows.length;
    document.querySelector(".pager").hidden = rows.length <= ROWS;
    [...head.children].forEach((cell, index) => {
      const direction = sorted.ascending ? "ascending" : "descending";
      cell.setAttribute("aria-sort", index === sorted.column ? direction : "none");
    });
  }

  columns.forEach((column, index) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.name;
    button.addEventListener("click", () => {
      const words = ["text", "group", "class"].includes(column.kind);
      sorted = { column: index, ascending: sorted.column === index ? !sorted.ascending : words };
      select();
    });
    if (["count", "percent", "points"].includes(column.kind)) cell.className = "n";
    cell.append(button);
    head.append(cell);
  });
  search.addEventListener("input", select);
  group.addEventListener("change", select);
  byId("previous").addEventListener("click", () => { page -= 1; draw(); });
  byId("next").addEventListener("click", () => { page += 1; draw(); });
  byId("table").hidden = false;
  select();
})();
