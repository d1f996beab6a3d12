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

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
      const key = (row) => row.cells[column].dataset.order;
      const rows = [...body.rows].sort((a, b) => {
        const [one, other] = [key(a), key(b)];
        if (one === "" || other === "") return (one === "") - (other === "");
        const numbers = !isNaN(one) && !isNaN(other);
        return (numbers ? one - other : one.localeCompare(other)) * (down ? -1 : 1);
      });
      body.append(...rows);
    });
  });
}
