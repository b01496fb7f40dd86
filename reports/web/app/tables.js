"use strict";
// Tables: sorted by a click on a heading, filtered by a text.
(() => {
  const { el } = framebench;
  const enough = 8; // rows from which a filter helps

  function value(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text === "–" || text === "" ? null : text;
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  for (const table of document.querySelectorAll("table[data-table]")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) continue;
    const live = el("span", { class: "soft", role: "status" });

    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = el("button", { type: "button" });
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const order = ["none", "descending", "ascending"];
        if (heading.classList.contains("text")) order.splice(1, 2, "ascending", "descending");
        const next = order[(order.indexOf(heading.getAttribute("aria-sort")) + 1) % 3];
        for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", next);
        const rows = [...original];
        if (next !== "none") {
          const sign = next === "ascending" ? 1 : -1;
          rows.sort((a, b) => { // what has no value stays at the end
            const [x, y] = [value(a, column), value(b, column)];
            return x === null || y === null ? compare(x, y) : sign * compare(x, y);
          });
        }
        body.append(...rows);
        live.textContent = next === "none" ? "original order" : `sorted by ${button.textContent}, ${next}`;
      });
    });

    const tools = el("div", { class: "filter" });
    if (original.length > enough || table.dataset.table === "runs") {
      const input = el("input", { type: "search", size: 24 });
      input.addEventListener("input", () => {
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        let left = 0;
        for (const row of original) {
          const text = row.textContent.toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          left += !row.hidden;
        }
        live.textContent = words.length ? `${left} of ${original.length} rows` : "";
      });
      tools.append(el("label", {}, "Filter", input));
    }
    tools.append(live);
    table.closest(".scroll").before(tools);
  }
})();
