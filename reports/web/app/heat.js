"use strict";
// Heat maps: accuracy by corruption and model (or severity), or the difference to the reference model.
(() => {
  const { settings, data, percent, points, interval, short, select, kinds } = framebench;

  // chart: { rows: [corruption], models: [model], slices: [label], n,
  //   cells: { slice: { model: [[accuracy, low, high] or null per row] } },
  //   noise: { slice: { model: [string per row: "1" at the place of a reference where nothing is shown] } } }
  kinds.heat = (chart) => {
    const single = chart.models.length === 1;

    function cells(view) {
      if (single) {
        const slices = chart.slices.filter((slice) => slice !== "mean");
        return slices.flatMap((slice) => chart.rows.map((row, i) => ({ row, column: slice, model: chart.models[0], slice,
          entry: chart.cells[slice][chart.models[0]]?.[i] })));
      }
      return chart.models.flatMap((model) => chart.rows.map((row, i) => ({ row, column: model, model, slice: view.slice,
        entry: chart.cells[view.slice][model]?.[i], i })));
    }

    function draw(width, view) {
      const reference = settings.reference;
      const relative = !single && view.show === "difference" && chart.models.includes(reference);
      const place = chart.models.indexOf(reference);
      const all = cells(view).filter((cell) => cell.entry).map((cell) => {
        const [value] = cell.entry;
        if (!relative) return { ...cell, value };
        const base = chart.cells[view.slice][reference]?.[cell.i];
        const noise = chart.noise?.[view.slice]?.[cell.model]?.[cell.i]?.[place] === "1";
        return { ...cell, value: base ? value - base[0] : null, noise };
      }).filter((cell) => cell.value !== null);
      const most = Math.max(0.02, ...all.map((cell) => Math.abs(cell.value)));
      const scale = relative ? (value) => d3.interpolatePuOr(0.5 + value / most / 2)
        : (value) => d3.interpolateViridis(value);
      const own = relative && framebench.dark() ? "#3a424d" : "#d8dde3";
      const fill = (cell) => cell.noise || (relative && cell.model === reference) ? own : scale(cell.value);
      const ink = (cell) => d3.lab(fill(cell)).l > 58 ? "#000" : "#fff";
      const columns = single ? chart.slices.filter((slice) => slice !== "mean") : chart.models;
      const wide = Math.min(width, 200 + 92 * columns.length);
      const narrow = (wide - 150) / columns.length < 34;
      const svg = Plot.plot({
        width: wide, height: 60 + 24 * chart.rows.length + (single ? 0 : 70), marginLeft: 130, marginTop: single ? 30 : 100,
        marginRight: 60, marginBottom: 8, style: { background: "none", fontSize: "12px" },
        x: { domain: columns, axis: "top", label: single ? "severity" : null, tickRotate: single ? 0 : -35, padding: 0.02,
          tickFormat: (name) => short(String(name), 18) },
        y: { domain: chart.rows, label: null, padding: 0.02, tickFormat: (name) => short(name.replaceAll("_", " "), 20) },
        marks: [
          Plot.cell(all, { x: "column", y: "row", fill }),
          narrow ? null : Plot.text(all, { x: "column", y: "row", fill: ink, fontSize: 11,
            text: (cell) => relative ? points(cell.value, 1) : (100 * cell.value).toFixed(0) }),
        ],
      });
      const [x, y] = [svg.scale("x"), svg.scale("y")];
      return { svg, points: all.sort((a, b) => chart.rows.indexOf(a.row) - chart.rows.indexOf(b.row)).map((cell) => {
        const [accuracy, low, high] = cell.entry;
        const said = `${cell.row.replaceAll("_", " ")}, ${single ? `severity ${cell.slice}` : cell.model}: `
          + `${percent(accuracy)}${interval(low, high)}`;
        const difference = relative && cell.model !== reference ? `, ${points(cell.value)} points to ${reference}`
          + (cell.noise ? " (within noise)" : "") : "";
        return { key: cell.row, x: x.apply(cell.column) + x.bandwidth / 2, y: y.apply(cell.row) + y.bandwidth / 2,
          text: `${said}${difference}, n = ${chart.n.toLocaleString("en")}` };
      }) };
    }

    return {
      view: { slice: "mean", show: "accuracy" },
      reference: true,
      series: [],
      controls(view, redraw) {
        if (single) return [];
        const made = [select("Severity", chart.slices.map((slice) => [slice, slice === "mean" ? "mean" : slice]), "mean",
          (slice) => { view.slice = slice; redraw(); })];
        if (data.reference && chart.models.length > 1)
          made.unshift(select("Show", [["accuracy", "accuracy"], ["difference", "difference to the reference"]],
            view.show, (show) => { view.show = show; redraw(); }));
        return made;
      },
      draw,
    };
  };
})();
