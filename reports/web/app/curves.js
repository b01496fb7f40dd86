"use strict";
// Curves with bands: success against a budget, accuracy against severity or epsilon, what trainings reached.
(() => {
  const { el, color, dash, percent, interval, number, select, kinds } = framebench;
  const palette = framebench.data.palette;
  const patterns = ["", "6 4", "7 3 2 3", "2 3", "12 4", "12 3 2 3 2 3", "2 7", "7 3 2 3 2 3"];  // of an attack

  // chart: { x: { label, log }, step, measures: [{ key, label, percent, log }], lines: [{ label, y, x, measure }],
  //   series: [{ key, label, model, place, n, x: [..], values: { measure: [y[], low[], high[]] } }] }
  kinds.curves = (chart) => {
    const several = new Set(chart.series.map((series) => series.model)).size > 1;
    const shade = (series) => several ? color(series.model)
      : palette[series.place % palette.length][framebench.dark() ? 1 : 0];
    const dashes = (series) => several ? patterns[series.attack % patterns.length] || dash(series.model) : null;
    const measureOf = (view) => chart.measures.find((measure) => measure.key === view.measure);

    function draw(width, view) {
      const measure = measureOf(view);
      const shown = chart.series.filter((series) => !view.hidden.has(series.key) && series.values[measure.key]);
      const end = Math.max(1e-9, ...chart.series.map((series) => series.x.at(-1)));
      const start = Math.min(...chart.series.map((series) => series.x[0]));
      const curve = chart.step ? "step-after" : "linear";
      const dim = (series, full) => view.highlight && view.highlight !== series.key ? full / 4 : full;
      const marks = [];
      for (const series of shown) {
        const [y, low, high] = series.values[measure.key];
        const rows = series.x.map((x, i) => ({ x, y: y[i], low: low?.[i], high: high?.[i] }))
          .filter((row) => row.y !== null);
        if (low) marks.push(Plot.areaY(rows, { x: "x", y1: "low", y2: "high", curve, fill: shade(series),
          fillOpacity: dim(series, 0.14), clip: true }));
        marks.push(Plot.lineY(rows, { x: "x", y: "y", curve, stroke: shade(series),
          strokeWidth: view.highlight === series.key ? 3 : 2, strokeOpacity: dim(series, 1),
          strokeDasharray: dashes(series), clip: true }));
        if (!chart.step) marks.push(Plot.dot(rows, { x: "x", y: "y", fill: shade(series), r: 3,
          fillOpacity: dim(series, 1), clip: true }));
      }
      const lines = (chart.lines || []).filter((line) => line.measure === measure.key && !view.hidden.has(line.series));
      marks.push(Plot.dot(lines.filter((line) => line.x !== null), { x: "x", y: "y", symbol: "diamond2", r: 6,
        stroke: (line) => shade(chart.series.find(({ key }) => key === line.series)), strokeWidth: 1.5,
        clip: Boolean(view.zoom) }));
      const svg = Plot.plot({
        width, height: 340, marginLeft: 56, marginBottom: 42, style: { background: "none", fontSize: "12px" },
        x: { type: view.log ? "symlog" : "linear", constant: 1, domain: view.zoom || [start, end], label: chart.x.label,
          labelAnchor: "center", labelArrow: "none", ticks: view.zoom || !chart.x.ticks ? 6 : chart.x.ticks,
          tickFormat: (value) => Number(value.toPrecision(3)).toLocaleString("en") },
        y: { label: measure.label, grid: true, labelArrow: "none",
          ...(measure.percent ? { domain: [-0.02, 1.02], ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], // lines at 0 and 1 show
            tickFormat: (value) => `${Math.round(100 * value)}%` }
            : { type: measure.log ? "log" : "linear", nice: true, ticks: 6 }) },
        marks,
      });
      const [x, y] = [svg.scale("x"), svg.scale("y")];
      const inside = (value) => value >= Math.min(...x.domain) && value <= Math.max(...x.domain);
      const points = shown.flatMap((series) => {
        const [values, low, high] = series.values[measure.key];
        const of = series.n ? `, n = ${(Array.isArray(series.n) ? series.n : [series.n])
          [chart.measures.indexOf(measure)]?.toLocaleString("en")}` : "";
        return series.x.map((at, i) => values[i] === null || !inside(at) ? null : { key: series.key,
          x: x.apply(at), y: y.apply(values[i]),
          text: `${series.label}: ${measure.percent ? percent(values[i]) + interval(low?.[i], high?.[i])
            : number(values[i])} at ${number(at)} ${chart.x.unit}${of}` }).filter(Boolean);
      });
      for (const line of lines) if (line.x !== null && inside(line.x))
        points.push({ key: "published", x: x.apply(line.x), y: y.apply(line.y), text: `${line.label}: ${percent(line.y)}` });
      return { svg, points, x };
    }

    return {
      view: { measure: chart.measures[0].key, log: chart.x.log },
      zoom: true,
      series: chart.series.map((series) => ({ key: series.key, label: series.label, color: () => shade(series),
        dash: dashes(series) })),
      controls(view, redraw) {
        const made = [];
        if (chart.measures.length > 1)
          made.push(select("Show", chart.measures.map(({ key, label }) => [key, label]), view.measure,
            (key) => { view.measure = key; redraw(); }));
        if (chart.x.log) {
          const button = el("button", { type: "button", "aria-pressed": String(view.log), onclick: () => {
            view.log = !view.log;
            button.setAttribute("aria-pressed", String(view.log));
            redraw();
          } }, "Log axis");
          made.push(button);
        }
        return made;
      },
      draw,
    };
  };
})();
