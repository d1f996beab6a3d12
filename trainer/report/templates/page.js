"use strict";
// Everything here is an addition: without it the page is complete, only without tooltips and copy buttons.

for (const chart of document.querySelectorAll("svg[data-chart]")) {
  const { x: xs, rows, top, bottom, width } = JSON.parse(chart.dataset.chart);
  if (!xs.length) continue;
  const plot = document.createElement("div");
  plot.className = "plot";
  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", chart.getAttribute("aria-label") + ": arrow keys read the values");
  chart.replaceWith(plot);
  plot.append(chart);
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  cursor.style.display = "none";
  chart.append(cursor);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("aria-live", "polite");
  tip.hidden = true;
  plot.append(tip);
  let current = -1;

  const show = (index) => {
    current = Math.min(xs.length - 1, Math.max(0, index));
    cursor.setAttribute("d", `M${xs[current]} ${top}V${bottom}`);
    cursor.style.display = "";
    const [head, ...lines] = rows[current];
    const title = document.createElement("b");
    title.textContent = head;
    tip.replaceChildren(title, ...lines.flatMap((line, i) => (i ? [document.createElement("br"), line] : [line])));
    tip.hidden = false;
    const share = xs[current] / width;
    tip.style.left = share < 0.55 ? `calc(${100 * share}% + 10px)` : "auto";
    tip.style.right = share < 0.55 ? "auto" : `calc(${100 * (1 - share)}% + 10px)`;
  };
  const hide = () => {
    tip.hidden = true;
    cursor.style.display = "none";
  };
  plot.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    let nearest = 0;
    xs.forEach((x, i) => { if (Math.abs(x - at) < Math.abs(xs[nearest] - at)) nearest = i; });
    show(nearest);
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -xs.length, End: xs.length };
    if (event.key === "Escape") hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(current + steps[event.key]);
  });
}

for (const block of document.querySelectorAll(".code")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = block.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(block.querySelector("code"));
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  block.append(button);
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.querySelectorAll("thead th")];
  const body = table.tBodies[0];
  const read = (row, column) => {
    const { order } = row.cells[column].dataset;
    if (order !== undefined) return order === "" || isNaN(order) ? order : Number(order);
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return /^[-+]?[\d.,]+(e[-+]?\d+)?( \u00b1 .*)?\s*(%|s|MB)?$/i.test(text) ? number : text;
  };
  const empty = (value) => value === "" || value === "-";
  heads.forEach((head, column) => {
    if (body.rows[0]?.cells[column].classList.contains("sketch")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [read(row, column), row]);
      rows.sort(([a], [b]) => {
        if (empty(a) || empty(b)) return empty(a) - empty(b);
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
        return down ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// `report.html?short` shows what one hands in: the answer, the data, the curves, the confusions and the gallery.
const short = new URLSearchParams(location.search).has("short");
document.documentElement.classList.toggle("short", short);
const length = document.querySelector(".length");
if (length) {
  const other = document.createElement("a");
  other.href = short ? location.pathname : "?short";
  other.textContent = short ? "Whole report" : "Short version to hand in";
  length.append(other);
}

// A heading that is folded opens when somebody goes there; on paper it is open, and afterwards as it was.
const folds = [...document.querySelectorAll("details.fold")];
const openAt = (hash) => {
  const fold = hash.length > 1 && document.getElementById(hash.slice(1))?.querySelector(":scope > details.fold");
  if (fold) fold.open = true;
};
for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => openAt(link.hash));
openAt(location.hash);
let closed = [];
addEventListener("beforeprint", () => {
  closed = folds.filter((fold) => !fold.open);
  for (const fold of closed) fold.open = true;
});
addEventListener("afterprint", () => { for (const fold of closed) fold.open = false; });
