"use strict";
// The attacked images: cards with filters, or the same image under every model side by side.
(() => {
  const { el, color, data, number, percent, select, short } = framebench;
  const at = 24; // cards that are shown at first, and more at a click

  const unique = (values) => [...new Set(values)];
  const likely = ([name, confidence]) => confidence === null ? name : `${name} ${percent(confidence)}`;

  // What comes into view gets its images, which are text until then.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      entry.target.load();
    }
  }, { rootMargin: "300px" });

  function picture(uri) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = reject;
      image.src = uri;
    });
  }

  function pixels(image) {
    const canvas = el("canvas", { width: image.naturalWidth, height: image.naturalHeight });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  // Grey stands for no difference.
  function difference(canvas, clean, attacked, factor) {
    const made = new ImageData(clean.width, clean.height);
    for (let i = 0; i < made.data.length; i++)
      made.data[i] = i % 4 === 3 ? 255 : 127.5 + factor * (attacked.data[i] - clean.data[i]);
    canvas.width = clean.width;
    canvas.height = clean.height;
    canvas.getContext("2d").putImageData(made, 0, 0);
  }

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const probability = (margin) => 1 / (1 + Math.exp(-margin));

  // The margin is the log odds of the class attacked: 0 is a probability of one half.
  function path(card) {
    const [queries, margins] = card.path;
    const [width, height, pad] = [240, 74, 5];
    const end = Math.max(card.queries, 2);
    const [low, high] = [Math.min(0, ...margins), Math.max(0, ...margins)];
    const x = (query) => pad + (width - 2 * pad) * Math.log(query) / Math.log(end);
    const y = (margin) => pad + (height - 2 * pad) * (high - margin) / (high - low || 1);
    let line = `M${x(queries[0])},${y(margins[0])}`;
    queries.forEach((query, i) => { line += `H${x(query)}V${y(margins[i])}`; });
    line += `H${x(card.queries)}`;
    const what = card.goal === null ? "true class" : "target";
    const words = `${what}: ${percent(probability(margins[0]))} at the start, `
      + `${percent(probability(margins.at(-1)))} after ${card.queries.toLocaleString("en")} queries`;
    const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
      `Path of the margin over the queries, on a logarithmic axis. Probability of the ${words}.` },
    svg("line", { class: "half", x1: pad, x2: width - pad, y1: y(0), y2: y(0) }),
    svg("path", { d: line, fill: "none", "stroke-width": 2 }),
    svg("circle", { cx: x(card.queries), cy: y(margins.at(-1)), r: 3 }));
    drawn.paint = () => {
      drawn.querySelector("path").setAttribute("stroke", color(card.model));
      drawn.querySelector("circle").setAttribute("fill", color(card.model));
    };
    drawn.paint();
    return el("div", { class: "path" }, drawn, el("p", {}, `Probability of the ${words}`));
  }

  function facts(card) {
    const list = el("dl");
    const distance = (value) => value === null ? "–" : number(value);
    for (const [name, value] of [["before", likely(card.before)], ["after", likely(card.after)],
      ...(card.goal === null ? [] : [["target", card.goal]]),
      ["iterations", card.iterations === null ? "–" : card.iterations.toLocaleString("en")],
      ["queries", card.queries.toLocaleString("en")], ["L2", distance(card.l2)], ["Linf", distance(card.linf)]])
      list.append(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
    return list;
  }

  function cardOf(card, title, state) {
    const about = `${card.label}, image ${card.example}, ${card.model}`;
    const views = [["original", "img"], ["attacked", "img"], ["difference", "canvas"]].map(([name, tag]) => {
      const view = el(tag, tag === "img" ? { alt: `${name}: ${about}` }
        : { role: "img", "aria-label": `amplified difference: ${about}` });
      return [view, el("figure", {}, view, el("figcaption", {}, name))];
    });
    const made = el("article", { class: "card", tabindex: -1, "aria-label": about },
      el("h4", {}, title, " ", el("span", { class: `outcome ${card.outcome}` }, card.words)),
      el("div", { class: "views" }, ...views.map(([, figure]) => figure)), facts(card),
      ...(card.path && card.queries > 1 ? [path(card)] : []));
    made.load = async () => {
      const [original, attacked, canvas] = views.map(([view]) => view);
      original.src = state.originals[card.original];
      attacked.src = card.attacked;
      const images = await Promise.all([picture(original.src), picture(attacked.src)]);
      const [clean, after] = images.map(pixels);
      made.amplify = () => difference(canvas, clean, after, state.factor);
      made.amplify();
    };
    seen.observe(made);
    return made;
  }

  // The arrow keys go from card to card; one of them at a time can be reached by tab.
  function roving(box) {
    const cards = () => [...box.querySelectorAll(".card")];
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const all = cards(), place = all.indexOf(document.activeElement);
      const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : place + step;
      if (place < 0 || !all[to]) return;
      event.preventDefault();
      all[place].tabIndex = -1;
      all[to].tabIndex = 0;
      all[to].focus();
    });
    return () => { const first = cards()[0]; if (first) first.tabIndex = 0; };
  }

  function browse(box, { originals, cards, kept }) {
    const several = (key) => unique(cards.map((card) => card[key])).length > 1;
    for (const card of cards) card.run = several("domain") ? `${card.attack}, ${card.domain}` : card.attack;
    const outcomes = { broken: "broken", unbroken: "not broken", start: cards.some((card) => card.goal !== null)
      ? "at the target, or misclassified, from the start" : "misclassified from the start" };
    const state = { originals, factor: 5, model: "", run: "", label: "", outcome: "", beside: false, shown: at };
    const live = el("p", { class: "soft", role: "status" });
    const grid = el("div", { class: "cards", role: "group", "aria-label": "attacked images" });
    const more = el("button", { type: "button", onclick: () => {
      const next = grid.querySelectorAll(".card").length;
      state.shown += at;
      draw();
      grid.querySelectorAll(".card")[next]?.focus();
    } });
    const enter = roving(grid);

    function draw() {
      const chosen = cards.filter((card) => ["model", "run", "label", "outcome"].every(
        (key) => !state[key] || card[key] === state[key]));
      const title = (card) => `${card.label} · ${card.example}`;
      const where = (card) => [several("model") && card.model, several("run") && card.run].filter(Boolean).join(" · ");
      const children = [];
      let count = 0;
      if (state.beside) { // whole groups, so that none lacks a model
        const groups = new Map();
        for (const card of chosen) {
          const key = `${card.run}|${card.original}`;
          if (!groups.has(key)) groups.set(key, []);
          groups.get(key).push(card);
        }
        for (const group of groups.values()) {
          if (count >= state.shown) break;
          count += group.length;
          children.push(el("section", { class: "same", "aria-label": `${title(group[0])}, ${group[0].run}` },
            el("h4", {}, several("run") ? `${title(group[0])} · ${group[0].run}` : title(group[0])),
            el("div", {}, ...group.map((card) => cardOf(card, card.model, state)))));
        }
      } else for (const card of chosen.slice(0, state.shown)) {
        count += 1;
        children.push(cardOf(card, [title(card), where(card)].filter(Boolean).join(" · "), state));
      }
      grid.classList.toggle("beside", state.beside);
      grid.replaceChildren(...children);
      more.hidden = count >= chosen.length;
      more.textContent = `Show ${Math.min(at, chosen.length - count)} more`;
      live.textContent = `${count.toLocaleString("en")} of ${chosen.length.toLocaleString("en")} shown`
        + (chosen.length < cards.length ? `, chosen from ${cards.length.toLocaleString("en")}` : "")
        + (kept > cards.length ? `; ${(kept - cards.length).toLocaleString("en")} more were kept, for which the page `
          + "has no room" : "") + ".";
      enter();
    }

    const redraw = (key) => (value) => { state[key] = value; state.shown = at; draw(); };
    const choice = (label, key, all) => several(key) ? [select(label,
      [["", `all ${all}`], ...unique(cards.map((card) => card[key])).sort().map((name) => [name, short(name, 48)])], "",
      redraw(key))] : [];
    const output = el("output", {}, `×${state.factor}`);
    const slider = el("input", { type: "range", min: 0, max: 6, step: 0.5, value: Math.log2(state.factor),
      oninput: () => {
        state.factor = Math.round(2 ** slider.value);
        output.textContent = `×${state.factor}`;
        slider.setAttribute("aria-valuetext", output.textContent);
        for (const card of grid.querySelectorAll(".card")) card.amplify?.();
      } });
    slider.setAttribute("aria-valuetext", output.textContent);
    const beside = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
      state.beside = !state.beside;
      beside.setAttribute("aria-pressed", String(state.beside));
      redraw("model")(state.model);
    } }, "Same image side by side");
    box.append(el("div", { class: "controls" }, ...choice("Model", "model", "models"),
      ...choice("Attack", "run", "attacks"), ...choice("Class", "label", "classes"),
      ...(several("outcome") ? [select("Outcome", [["", "all outcomes"], ...Object.entries(outcomes)
        .filter(([key]) => cards.some((card) => card.outcome === key))], "", redraw("outcome"))] : []), ...(several("model") ? [beside] : []),
      el("label", {}, "Difference", slider, output)),
    el("p", { class: "soft" }, "Difference: attacked minus original, amplified; grey is none. The images have 256 levels "
      + "here. Chart: the lowest margin of the class attacked so far, against the queries on a logarithmic axis; the "
      + "dashed line is a probability of one half."), live, grid, more);
    framebench.on("theme", () => { for (const drawn of grid.querySelectorAll(".path svg")) drawn.paint(); });
    draw();
  }

  framebench.galleries = {
    // What stands there for readers without scripts is hidden, but for print.
    start(name, content, make) {
      const box = document.querySelector(`[data-gallery="${name}"]`);
      if (!box || !content) return;
      box.parentElement.classList.add("browsed");
      make(box, content);
    },
    picture, unique, likely,
  };
  const attacked = data.pictures?.attacked;
  framebench.galleries.start("attacked", attacked?.cards.length ? attacked : null, browse);
})();
