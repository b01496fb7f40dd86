"use strict";
// The frame of every interactive chart: controls, legend, values under the pointer and the keyboard, zoom.
(() => {
  const { el, on, short } = framebench;
  const near = 40; // pixels within which the pointer finds a point

  // A kind of chart is a function of its data that returns
  //   series: what the legend toggles, [{ key, label, color(), dash }], may be empty;
  //   controls(view, redraw): elements, what can be chosen;
  //   draw(width, view): { svg, points, x }: the drawing; what can be pointed at, [{ x, y, key, text }] in pixels; the
  //     scale of x, where the chart can be zoomed along it.
  const kinds = {};

  function frame(figure, chart) {
    const kind = kinds[chart.kind](chart);
    const view = { hidden: new Set(), highlight: null, zoom: null, ...kind.view };
    const caption = figure.querySelector("figcaption");
    caption.id = caption.id || `${figure.id}-caption`;
    const readout = el("p", { class: "readout soft", "aria-live": "polite", id: `${figure.id}-values` });
    const hint = "Values: point at the chart, or focus it and use the arrow keys.";
    const tip = el("div", { class: "tip", hidden: true });
    const box = el("div", { class: "chart", role: "group", tabindex: 0, "aria-labelledby": caption.id,
      "aria-describedby": readout.id, "aria-roledescription": "chart" });
    const legend = el("div", { class: "legend", role: "group", "aria-label": "models and attacks shown" });
    const controls = el("div", { class: "controls" });
    let drawn = { points: [] }, active = null, width = 0;

    function redraw() {
      width = Math.floor(box.clientWidth) || 560;
      drawn = kind.draw(width, view);
      drawn.svg.setAttribute("aria-hidden", "true"); // the group is named by the caption, its values are read out
      box.replaceChildren(drawn.svg, tip);
      for (const button of legend.children) {
        button.setAttribute("aria-pressed", String(!view.hidden.has(button.dataset.key)));
        button.querySelector("line").setAttribute("stroke", button.series.color());
      }
      show(null);
    }

    function show(point, floating = false) {
      active = point;
      box.querySelector(".marker")?.remove();
      tip.hidden = !point || !floating;
      readout.textContent = point ? point.text : hint;
      if (!point) return;
      const ns = "http://www.w3.org/2000/svg";
      const mark = document.createElementNS(ns, "circle");
      for (const [name, value] of Object.entries({ class: "marker", cx: point.x, cy: point.y, r: 6 }))
        mark.setAttribute(name, value);
      root().append(mark);
      tip.textContent = point.text;
      tip.style.left = `${Math.min(point.x + 12, Math.max(width - 200, 0))}px`;
      tip.style.top = `${point.y + 14}px`;
    }

    // With a legend of symbols, which has drawings of its own, the plot is the one directly in the figure.
    const root = () => drawn.svg.tagName === "svg" ? drawn.svg : drawn.svg.querySelector(":scope > svg");

    function place(event) {
      const rect = root().getBoundingClientRect();
      return [event.clientX - rect.left, event.clientY - rect.top];
    }

    function nearest(x, y, points = drawn.points) {
      let best = null, least = Infinity;
      for (const point of points) {
        const distance = Math.hypot(point.x - x, point.y - y);
        if (distance < least) { best = point; least = distance; }
      }
      return [best, least];
    }

    // Left and right along a series (or a row), up and down from one to the next.
    function step(key) {
      if (!active) return show(nearest(0, 0)[0]);
      const own = drawn.points.filter((point) => point.key === active.key);
      if (key === "ArrowLeft" || key === "ArrowRight") {
        const ahead = own.indexOf(active) + (key === "ArrowRight" ? 1 : -1);
        if (own[ahead]) show(own[ahead]);
        return;
      }
      const others = [...new Set(drawn.points.map((point) => point.key))];
      const other = others[others.indexOf(active.key) + (key === "ArrowDown" ? 1 : -1)];
      if (other !== undefined)
        show(nearest(active.x, active.y, drawn.points.filter((point) => point.key === other))[0]);
    }

    box.addEventListener("keydown", (event) => {
      if (event.key.startsWith("Arrow")) { step(event.key); event.preventDefault(); }
      if (event.key === "Escape") show(null);
    });
    box.addEventListener("pointermove", (event) => {
      if (dragging) return drag(event);
      const [point, distance] = nearest(...place(event));
      show(distance < near ? point : null, true);
    });
    box.addEventListener("pointerleave", () => show(null));

    // Zoom along x: by dragging, or by buttons.
    let dragging = null;
    function zoomed(low, high) {
      view.zoom = low === undefined ? null : [Math.min(low, high), Math.max(low, high)];
      redraw();
    }
    function drag(event) {
      const rect = box.querySelector(".brush");
      rect.setAttribute("x", Math.min(dragging.x, place(event)[0]));
      rect.setAttribute("width", Math.abs(place(event)[0] - dragging.x));
    }
    box.addEventListener("pointerdown", (event) => {
      if (!drawn.x || event.button || event.pointerType === "touch") return;
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      dragging = { x: place(event)[0] };
      for (const [name, value] of Object.entries({ class: "brush", y: 0, height: root().clientHeight, width: 0 }))
        rect.setAttribute(name, value);
      root().append(rect);
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener("pointerup", (event) => {
      if (!dragging) return;
      const [from, to] = [dragging.x, place(event)[0]];
      dragging = null;
      box.querySelector(".brush")?.remove();
      if (Math.abs(to - from) > 8) zoomed(drawn.x.invert(from), drawn.x.invert(to));
    });

    for (const series of kind.series) {
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, x2: 26, y1: 6, y2: 6, "stroke-width": 3,
        "stroke-dasharray": series.dash || "none" })) line.setAttribute(name, value);
      swatch.setAttribute("aria-hidden", "true");
      swatch.append(line);
      const button = el("button", { type: "button", "data-key": series.key, title: series.label }, swatch,
        short(series.label, 60));
      button.series = series;
      button.addEventListener("click", () => {
        if (!view.hidden.delete(series.key)) view.hidden.add(series.key);
        redraw();
      });
      const highlight = (key) => () => { if (!view.hidden.has(series.key)) { view.highlight = key; redraw(); } };
      for (const [event, key] of [["pointerenter", series.key], ["pointerleave", null], ["focus", series.key],
        ["blur", null]]) button.addEventListener(event, highlight(key));
      legend.append(button);
    }

    controls.append(...kind.controls(view, redraw));
    if (kind.zoom) {
      const by = (factor) => () => {
        const [left, right] = drawn.x.range;
        const middle = (left + right) / 2, half = (right - left) / 2 * factor;
        zoomed(drawn.x.invert(middle - half), drawn.x.invert(middle + half));
      };
      for (const [text, title, act] of [["+", "zoom in", by(0.5)], ["−", "zoom out", by(2)],
        ["Reset", "show everything", () => zoomed()]])
        controls.append(el("button", { type: "button", title, "aria-label": title, onclick: act }, text));
    }

    figure.classList.add("live");
    figure.prepend(controls, ...(kind.series.length > 1 ? [legend] : []), box, readout);
    redraw();
    on("theme", redraw);
    if (kind.reference) on("reference", redraw);
    new ResizeObserver(() => { if (Math.abs(box.clientWidth - width) > 8) redraw(); }).observe(box);
  }

  framebench.kinds = kinds;
  framebench.frame = frame;
})();
