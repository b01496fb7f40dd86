"use strict";
// The images of shifted domains, by corruption and severity, and what each model says of them.
(() => {
  const { el, data, percent, select, short, galleries } = framebench;
  const words = (corruption) => corruption.replaceAll("_", " ");

  function view(box, domains) {
    const state = { domain: domains[0], corruption: "", severity: 0 };
    const live = el("p", { class: "soft", role: "status" });
    const controls = el("div", { class: "controls" });
    const place = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "predictions" });
    box.append(controls, live, place);

    const severities = () => [...(state.domain.clean ? [0] : []), ...state.domain.cells
      .filter((cell) => cell.corruption === state.corruption).map((cell) => cell.severity)].sort((a, b) => a - b);
    const cellOf = () => state.severity === 0 && state.domain.clean ? state.domain.clean
      : state.domain.cells.find((cell) => cell.corruption === state.corruption && cell.severity === state.severity);

    function choose(domain) {
      state.domain = domain;
      state.corruption = domain.cells[0].corruption;
      state.severity = Math.max(...severities());
      const own = [];
      if (domains.length > 1)
        own.push(select("Data", domains.map((one, i) => [String(i), short(one.name, 48)]),
          String(domains.indexOf(domain)), (i) => { choose(domains[Number(i)]); controls.querySelector("select").focus(); }));
      const slider = el("input", { type: "range", step: 1 });
      const output = el("output");
      const limits = () => {
        const all = severities();
        slider.min = all[0];
        slider.max = all.at(-1);
        if (!all.includes(state.severity)) state.severity = all.at(-1);
        slider.value = state.severity;
        move();
      };
      const move = () => {
        const all = severities(); // a run can have had some of them
        state.severity = all.reduce((a, b) => Math.abs(b - slider.value) < Math.abs(a - slider.value) ? b : a);
        output.textContent = state.severity === 0 ? "0 (clean)" : String(state.severity);
        slider.setAttribute("aria-valuetext", output.textContent);
        draw();
      };
      slider.addEventListener("input", move);
      if (state.corruption) {
        own.push(select("Corruption", galleries.unique(domain.cells.map((cell) => cell.corruption))
          .map((name) => [name, words(name)]), state.corruption, (name) => { state.corruption = name; limits(); }),
        el("label", {}, "Severity", slider, output));
      }
      controls.replaceChildren(...own);
      if (state.corruption) limits(); else draw();
    }

    async function draw() {
      const { domain } = state, cell = cellOf(), models = Object.keys(cell.models);
      const canvases = domain.examples.map(([example, label]) => el("canvas", { role: "img",
        "aria-label": `${label ?? "image"}, image ${example}` }));
      const rows = domain.examples.map(([example, label], i) => el("tr", {},
        el("td", { class: "text" }, canvases[i]),
        el("th", { scope: "row", class: "text" }, label ?? "–", el("small", {}, `image ${example}`)),
        ...models.map((model) => {
          const said = cell.models[model][i];
          if (!said) return el("td", { class: "text" }, "–");
          const right = said[0] === label;
          return el("td", { class: `text ${right ? "right" : "wrong"}` },
            el("span", { "aria-hidden": "true" }, right ? "✓ " : "✗ "), said[0],
            el("small", {}, `${right ? "correct" : "wrong"}, ${percent(said[1])}`));
        })));
      const of = cell.corruption ? `${words(cell.corruption)}, severity ${cell.severity}` : `${domain.name}, clean`;
      const title = domain.cells.length === 1 && !domain.clean ? domain.name : of;
      place.replaceChildren(el("table", { class: "shifted" }, el("caption", {}, title),
        el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "text" }, "image"),
          el("th", { scope: "col", class: "text" }, "class"),
          ...models.map((model) => el("th", { scope: "col", class: "text" }, model)))), el("tbody", {}, ...rows)));
      live.textContent = `${title}: ` + models.map((model) => {
        const said = cell.models[model].map((one, i) => one && one[0] === domain.examples[i][1]);
        const known = said.filter((one) => one !== null);
        return `${model} ${known.filter(Boolean).length} of ${known.length} correct`;
      }).join("; ") + ".";
      const strip = await galleries.picture(cell.strip);
      const width = Math.round(strip.naturalWidth / canvases.length);
      canvases.forEach((canvas, i) => {
        canvas.width = width;
        canvas.height = strip.naturalHeight;
        canvas.getContext("2d").drawImage(strip, -i * width, 0);
      });
    }

    // Nothing is decoded before the viewer comes into view.
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      choose(domains.find((domain) => domain.cells[0].corruption) || domains[0]);
    }, { rootMargin: "300px" }).observe(box);
  }

  const shifted = data.pictures?.shifted;
  galleries.start("shifted", shifted?.length ? shifted : null, view);
})();
