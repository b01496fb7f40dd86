"use strict";
// Forest plot: every model minus the reference model, with intervals.
(() => {
  const { settings, color, points, interval, short, select, kinds } = framebench;
  const many = 40; // rows above which one metric is shown at a time

  // chart: { metrics: [{ key, title, pairs: [{ a, b, difference, low, high, p, n, shown }] }] }
  kinds.forest = (chart) => {
    const models = framebench.data.models;

    function rows(metric) {
      const found = [];
      for (const model of models) {
        if (model === settings.reference) continue;
        for (const pair of metric.pairs) {
          const forward = pair.a === model && pair.b === settings.reference;
          const backward = pair.b === model && pair.a === settings.reference;
          if (!forward && !backward) continue;
          const [difference, low, high] = forward ? [pair.difference, pair.low, pair.high]
            : [-pair.difference, -pair.high, -pair.low];
          found.push({ ...pair, model, metric: metric.title, difference, low, high });
        }
      }
      return found;
    }

    function draw(width, view) {
      const metrics = chart.metrics.filter((metric) => view.metric === "all" || metric.key === view.metric);
      const all = metrics.flatMap(rows);
      const most = 1.08 * Math.max(0.01, ...all.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]));
      const grey = framebench.dark() ? "#6d7783" : "#9aa3ad";
      const shade = (row) => row.shown ? color(row.model) : grey;
      const shownModels = models.filter((model) => all.some((row) => row.model === model));
      const titles = metrics.filter((metric) => all.some((row) => row.metric === metric.title)).map(({ title }) => title);
      const wide = Math.min(width, 900);
      const longest = Math.max(0, ...shownModels.map((name) => name.length));
      const left = Math.min(210, wide / 3, 24 + 8 * longest);
      const svg = Plot.plot({
        width: wide, height: 60 + titles.length * (22 * shownModels.length + 34), marginLeft: left, marginBottom: 40,
        marginTop: 26, marginRight: 12, style: { background: "none", fontSize: "12px" },
        x: { domain: [-100 * most, 100 * most], grid: true, label: `minus ${short(settings.reference || "", 40)}, points`,
          labelAnchor: "center", labelArrow: "none", ticks: 7 },
        y: { type: "band", domain: shownModels, label: null, padding: 0.1, tickFormat: (name) => short(name, Math.floor(left / 8)) },
        fy: { domain: titles, label: null, axis: null, paddingOuter: 0,
          paddingInner: 34 / (22 * shownModels.length + 34) },
        marks: [
          Plot.text(titles, { fy: (title) => title, text: (title) => title, frameAnchor: "top-left", dy: -15, dx: 2,
            fontWeight: 600 }),
          Plot.ruleX([0]),
          Plot.link(all, { fy: "metric", x1: (row) => 100 * row.low, x2: (row) => 100 * row.high, y1: "model", y2: "model",
            stroke: shade, strokeWidth: 2.5 }),
          Plot.dot(all, { fy: "metric", x: (row) => 100 * row.difference, y: "model", fill: shade, r: 4.5 }),
        ],
      });
      const [x, y, fy] = [svg.scale("x"), svg.scale("y"), svg.scale("fy")];
      const inner = fy.apply(titles[0]);
      return { svg, points: all.map((row) => ({
        key: `${row.metric}|${row.model}`, x: x.apply(100 * row.difference),
        y: fy.apply(row.metric) - inner + y.apply(row.model) + y.bandwidth / 2,
        text: `${row.metric}: ${row.model} minus ${settings.reference}: ${points(row.difference)}`
          + `${interval(row.low, row.high)} points, p (Holm) ${row.p === null ? "–" : row.p < 0.001 ? "< 0.001"
            : row.p.toFixed(3)}, n = ${row.n.toLocaleString("en")}${row.shown ? "" : " (not shown by these data)"}`,
      })) };
    }

    return {
      view: { metric: chart.metrics.length * (models.length - 1) > many ? chart.metrics[0].key : "all" },
      reference: true,
      series: [],
      controls(view, redraw) {
        if (chart.metrics.length < 2) return [];
        return [select("Show", [["all", "everything"], ...chart.metrics.map(({ key, title }) => [key, short(title, 60)])],
          view.metric, (key) => { view.metric = key; redraw(); })];
      },
      draw,
    };
  };
})();
