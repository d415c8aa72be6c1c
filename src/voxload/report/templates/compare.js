"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("chart");
  if (!place) return;
  const root = document.documentElement;
  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const metric = document.getElementById("metric");
  const label = document.getElementById("label");
  const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  const ms = (value) => {
    if (value == null) return "—";
    if (value < 1) return trim((value * 1000).toFixed(0)) + " µs";
    if (value < 1000) return trim(value.toFixed(value < 100 ? 1 : 0)) + " ms";
    return trim((value / 1000).toFixed(2)) + " s";
  };
  const percent = (value) => (value == null ? "—" : trim(value.toFixed(2)) + " %");
  let plot = null;

  // Ticks at 1, 2 and 5 of each decade, or at 1 only where many decades are shown.
  const decades = (u, index, low, high) => {
    const digits = Math.log10(high / low) > 4 || u.width < 500 ? [1] : [1, 2, 5];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
      digits.forEach((digit) => ticks.push(digit * 10 ** power));
    }
    const shown = ticks.filter((value) => value >= low && value <= high);
    return shown.length > 1 ? shown : [low, high];
  };
  const axis = (more) => ({
    stroke: () => color("muted"), grid: { stroke: () => color("rule"), width: 1 }, ticks: { show: false },
    font: "11px system-ui, sans-serif", gap: 4, ...more,
  });

  const draw = () => {
    if (plot) plot.destroy();
    place.textContent = "";
    const curves = data.curves[metric.value + "\n" + (label ? label.value : "")];
    if (!curves) {
      place.textContent = "No values.";
      plot = null;
      return;
    }
    const shown = curves.map((table, side) => ({ table, side })).filter(({ table }) => table[0].length);
    const columns = shown.length > 1 ? uPlot.join(shown.map(({ table }) => table)) : shown[0].table;
    const low = Math.min(...shown.map(({ table: [x, y] }) => Math.max(x[0], x[y.findIndex((share) => share >= 5)] / 10)));
    const high = Math.max(...columns[0]);
    const least = low === high ? low / 2 : low / 1.1;
    plot = new uPlot({
      width: Math.max(place.clientWidth, 120),
      height: 320,
      series: [
        { label: data.titles[metric.value], value: (u, value) => ms(value) },
        ...shown.map(({ side }) => ({
          label: data.letters[side], stroke: () => color("side" + (side % 6)), width: side ? 2.25 : 2,
          dash: side ? undefined : [6, 3],
          paths: uPlot.paths.stepped({ align: 1 }), points: { show: columns[0].length < 4 }, spanGaps: true,
          value: (u, value) => percent(value),
        })),
      ],
      scales: {
        x: { time: false, distr: 3, range: (u, from, to) => (from === columns[0][0] || from < least ? [least, high * (low === high ? 2 : 1.15)] : [from, to]) },
        y: { range: [0, 100] },
      },
      axes: [
        axis({ size: 24, values: (u, values) => values.map(ms), splits: decades, filter: (u, values) => values }),
        axis({ size: 58, values: (u, values) => values.map((value) => value + " %"), splits: () => [0, 25, 50, 75, 90, 100] }),
      ],
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 6 } },
      padding: [8, 18, 0, 0],
    }, columns, place);
  };
  draw();
  metric.addEventListener("change", draw);
  if (label) label.addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    if (plot) plot.setSize({ width: place.clientWidth, height: plot.height });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => { root.classList.add("printing"); draw(); });
  addEventListener("afterprint", () => { root.classList.remove("printing"); draw(); });
})();
