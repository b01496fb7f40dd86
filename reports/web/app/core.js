"use strict";
// What all parts of the page share: its data, its settings, and how elements and numbers are made.
window.framebench = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const listeners = { reference: [], theme: [] };
  const root = document.documentElement;
  const settings = { reference: data.reference };

  // Everything that comes from data is set as text or as an attribute, never parsed as HTML.
  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false)
        made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  function on(what, listener) { listeners[what].push(listener); }
  function set(what, value) {
    settings[what] = value;
    for (const listener of listeners[what]) listener(value);
  }

  function kept(name, value) { // file: pages may have no storage
    try {
      if (value === undefined) return localStorage.getItem(name);
      localStorage.setItem(name, value);
    } catch { return null; }
    return value;
  }

  function dark() { return root.dataset.theme === "dark"; }
  function theme(name) {
    root.dataset.theme = name;
    for (const listener of listeners.theme) listener(name);
  }
  theme(kept("framebench-theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));

  function color(model) {
    const style = data.styles[model];
    return style ? style[dark() ? "dark" : "color"] : "currentColor";
  }
  function dash(model) { return { "--": "6 4", "-.": "7 3 2 3", ":": "2 3" }[data.styles[model]?.dashes] || null; }

  const percent = (value, digits = 1) => value === null ? "–" : `${(100 * value).toFixed(digits)}%`;
  const points = (value, digits = 1) =>
    value === null ? "–" : `${value > 0 ? "+" : ""}${(100 * value).toFixed(digits)}`;
  const number = (value) => value === null ? "–" : Number(value.toPrecision(4)).toLocaleString("en");
  const interval = (low, high, digits = 1) =>
    low === null || low === undefined ? "" : ` [${(100 * low).toFixed(digits)}, ${(100 * high).toFixed(digits)}]`;
  const short = (name, length = 28) => name.length > length ? `${name.slice(0, length - 1)}…` : name;

  function select(label, options, value, change) {
    const list = el("select", { onchange: () => change(list.value) });
    for (const [key, text] of options) list.append(el("option", { value: key }, text));
    list.value = value;
    return el("label", {}, label, list);
  }

  // The bar at the top: sections, reference model, theme.
  const bar = document.querySelector("nav.bar > div");
  if (bar) {
    const headings = [...document.querySelectorAll("main h2, main h3")];
    const sections = headings.map((heading, i) => {
      heading.id = heading.id || `section-${i + 1}`;
      return [heading.id, (heading.tagName === "H3" && headings.some((h) => h.classList.contains("part")) ? "– " : "")
        + short(heading.textContent, 60)];
    });
    if (sections.length > 1)
      bar.append(select("Go to", [["", "section"], ...sections], "", (id) => {
        const target = document.getElementById(id);
        if (!target) return;
        target.tabIndex = -1;
        target.focus();
        target.scrollIntoView();
      }));
    if (data.models.length > 1 && data.reference) {
      const list = select("Compare with", data.models.map((model) => [model, short(model, 40)]), data.reference,
        (model) => set("reference", model));
      list.title = "the model that differences are taken to";
      bar.append(list);
    }
    bar.append(el("span", { class: "spring" }));
    const button = el("button", { type: "button", onclick: () => {
      theme(kept("framebench-theme", dark() ? "light" : "dark") || (dark() ? "light" : "dark"));
      label();
    } });
    const label = () => { button.textContent = dark() ? "Light" : "Dark"; button.title = "switch colours"; };
    label();
    bar.append(button);
  }

  if (data.refresh) setTimeout(() => location.reload(), 1000 * data.refresh);

  return { data, settings, el, on, set, dark, color, dash, percent, points, number, interval, short, select };
})();
