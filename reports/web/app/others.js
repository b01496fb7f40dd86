"use strict";
// Shifted against clean accuracy, accuracy by class, and frame bounds by layer.
(() => {
  const { color, percent, interval, number, short, select, kinds } = framebench;
  const symbols = ["circle", "square", "triangle", "diamond", "star", "wye", "cross", "hexagon"];
  const legend = (models) => models.map((model) => ({ key: model, label: model, color: () => color(model), dash: null }));

  // chart: { points: [{ model, domain, clean, accuracy, low, high, n, published }] }
  kinds.points = (chart) => {
    const models = [...new Set(chart.points.map((point) => point.model))];
    const domains = [...new Set(chart.points.map((point) => point.domain))];
    return {
      series: legend(models), controls: () => [],
      draw(width, view) {
        const all = chart.points.filter((point) => !view.hidden.has(point.model));
        const faint = (point) => view.highlight && view.highlight !== point.model ? 0.2 : 1;
        const svg = Plot.plot({
          width: Math.min(width, 760), height: 380, marginLeft: 56, marginBottom: 42,
          style: { background: "none", fontSize: "12px" },
          x: { label: "clean accuracy", labelAnchor: "center", labelArrow: "none", tickFormat: (v) => percent(v), nice: true,
            ticks: 5, inset: 12 },
          y: { label: "shifted accuracy", labelArrow: "none", tickFormat: (v) => percent(v, 0), grid: true, nice: true,
            inset: 12 },
          symbol: { domain: domains, range: symbols.slice(0, domains.length), legend: domains.length > 1 },
          marks: [
            Plot.ruleX(all, { x: "clean", y1: "low", y2: "high", stroke: (p) => color(p.model), strokeOpacity: faint }),
            Plot.dot(all, { x: "clean", y: "accuracy", symbol: "domain", r: 5, fill: (p) => color(p.model),
              fillOpacity: faint }),
          ],
        });
        const [x, y] = [svg.scale("x"), svg.scale("y")];
        return { svg, points: all.map((p) => ({ key: p.domain, x: x.apply(p.clean), y: y.apply(p.accuracy),
          text: `${p.model} on ${p.domain}: ${percent(p.accuracy)}${interval(p.low, p.high)} shifted, `
            + `${percent(p.clean)} clean, n = ${p.n.toLocaleString("en")}` })).sort((a, b) => a.x - b.x) };
      },
    };
  };

  // chart: { classes: [name], measures: [{ key, label, models: { model: [[value, low, high, n] or null per class] } }] }
  kinds.classes = (chart) => {
    const models = [...new Set(chart.measures.flatMap((measure) => Object.keys(measure.models)))];
    return {
      view: { measure: chart.measures[0].key },
      series: legend(models),
      controls: (view, redraw) => [select("Show", chart.measures.map(({ key, label }) => [key, label]), view.measure,
        (key) => { view.measure = key; redraw(); })],
      draw(width, view) {
        const measure = chart.measures.find(({ key }) => key === view.measure);
        const shown = Object.keys(measure.models).filter((model) => !view.hidden.has(model));
        const all = shown.flatMap((model) => chart.classes.map((name, i) => ({ model, name,
          entry: measure.models[model][i] })).filter(({ entry }) => entry));
        const faint = (row) => view.highlight && view.highlight !== row.model ? 0.2 : 1;
        const wide = Math.max(Math.min(width, 1200), 0);
        const svg = Plot.plot({
          width: wide, height: 340, marginLeft: 56, marginBottom: 70, style: { background: "none", fontSize: "12px" },
          fx: { domain: chart.classes, label: null, tickRotate: -30, padding: 0.15,
            tickFormat: (name) => short(name, 12) },
          x: { domain: shown, axis: null, padding: 0.1 },
          y: { domain: [0, 1], axis: null, grid: true },
          marks: [
            Plot.axisY({ facetAnchor: "left", label: "accuracy", labelArrow: "none", tickFormat: (v) => `${100 * v}%`,
              ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] }), // not once more beside every class without images
            Plot.barY(all, { fx: "name", x: "model", y: (row) => row.entry[0], fill: (row) => color(row.model),
              fillOpacity: (row) => 0.75 * faint(row) }),
            Plot.ruleX(all, { fx: "name", x: "model", y1: (row) => row.entry[1], y2: (row) => row.entry[2] }),
            Plot.ruleY([0]),
          ],
        });
        const [fx, x, y] = [svg.scale("fx"), svg.scale("x"), svg.scale("y")];
        const start = fx.apply(chart.classes[0]);
        return { svg, points: all.map((row) => ({ key: row.model,
          x: fx.apply(row.name) - start + x.apply(row.model) + x.bandwidth / 2, y: y.apply(row.entry[0]),
          text: `${row.name}, ${row.model}: ${percent(row.entry[0])}${interval(row.entry[1], row.entry[2])}, `
            + `n = ${row.entry[3].toLocaleString("en")}` })) };
      },
    };
  };

  // chart: { layers: [name], models: { model: [[lower, upper] per layer] } }
  kinds.bounds = (chart) => {
    const models = Object.keys(chart.models);
    return {
      series: legend(models), controls: () => [],
      draw(width, view) {
        const shown = models.filter((model) => !view.hidden.has(model));
        const all = shown.flatMap((model, place) => chart.layers.map((layer, i) => ({ layer, model,
          lower: chart.models[model][i][0], upper: chart.models[model][i][1],
          dx: (place - (shown.length - 1) / 2) * Math.min(9, 24 / shown.length) })));
        const faint = (row) => view.highlight && view.highlight !== row.model ? 0.2 : 1;
        const svg = Plot.plot({
          width, height: 360, marginLeft: 64, marginBottom: 90, style: { background: "none", fontSize: "12px" },
          x: { type: "point", domain: chart.layers, label: null, tickRotate: -35, padding: 0.6,
            tickFormat: (name) => short(name, 18) },
          y: { type: "log", label: "eigenvalue: from A to B", labelArrow: "none", grid: true,
            tickFormat: (value) => Math.abs(Math.log10(value) % 1) < 1e-9 ? value.toLocaleString("en",
              { maximumSignificantDigits: 1 }) : "" },
          marks: [
            Plot.ruleY([1], { strokeDasharray: "3 3" }),
            ...shown.map((model) => {
              const own = all.filter((row) => row.model === model);
              return Plot.link(own, { x1: "layer", x2: "layer", y1: "lower", y2: "upper", dx: own[0].dx, strokeWidth: 3,
                stroke: color(model), strokeOpacity: faint });
            }),
          ],
        });
        const [x, y] = [svg.scale("x"), svg.scale("y")];
        return { svg, points: all.map((row) => ({ key: row.model, x: x.apply(row.layer) + row.dx, y: y.apply(row.upper),
          text: `${row.layer}, ${row.model}: A ${number(row.lower)}, B ${number(row.upper)}, `
            + `B/A ${number(row.upper / row.lower)}` })) };
      },
    };
  };

  // Last: every figure that has data becomes interactive.
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const chart = framebench.data.charts[figure.dataset.chart];
    if (chart) framebench.frame(figure, chart);
  }
})();
