"use strict";
// The index of runs: the search is kept in the address, and two rows are chosen for a comparison.
(() => {
  const { el, short } = framebench;
  const search = document.querySelector(".filter input");
  if (search) {
    search.value = decodeURIComponent(location.hash.slice(1));
    if (search.value) search.dispatchEvent(new Event("input"));
    search.addEventListener("input", () =>
      history.replaceState(null, "", `${location.pathname}${search.value ? `#${encodeURIComponent(search.value)}` : ""}`));
  }

  const form = document.querySelector("form.compare");
  if (!form) return;
  const [first, second] = form.querySelectorAll("select");
  const boxes = [];
  const enough = () => {
    form.querySelector("button").disabled = !first.value || !second.value || first.value === second.value;
    for (const box of boxes) box.checked = box.value === first.value || box.value === second.value;
  };
  // The options stand in the order of the rows that can be compared.
  const names = new Map([...first.options].map((option) => [option.textContent, option.value]));
  for (const row of document.querySelector('table[data-table="runs"]').tBodies[0].rows) {
    const heading = row.cells[0];
    const link = heading.querySelector("a");
    if (!link || !names.has(link.textContent)) continue;
    const box = el("input", { type: "checkbox", value: names.get(link.textContent),
      "aria-label": `compare ${short(link.textContent, 60)}` });
    box.addEventListener("change", () => {
      if (!box.checked) {
        for (const list of [first, second]) if (list.value === box.value) list.value = "";
      } else if (!first.value) first.value = box.value;
      else second.value = box.value;
      enough();
    });
    boxes.push(box);
    heading.prepend(box);
  }
  first.addEventListener("change", enough);
  second.addEventListener("change", enough);
  enough();
})();
