"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const time = data.time;
  const root = document.documentElement;
  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const charts = [];
  const MISSING = "—";

  // The same spelling as the tables of this page.
  const trim = (text) => text.replace(/\.?0+$/, "");
  const ms = (value) => {
    if (value == null) return MISSING;
    if (value < 1) return (value * 1000).toFixed(0) + " µs";
    if (value < 1000) return value.toFixed(value < 100 ? 1 : 0) + " ms";
    if (value < 60000) return (value / 1000).toFixed(2) + " s";
    return (value / 60000).toFixed(1) + " min";
  };
  const msTick = (value) => {
    if (value == null) return "";
    if (value === 0) return "0";
    if (value < 1) return trim((value * 1000).toFixed(3)) + " µs";
    return value < 1000 ? trim(value.toFixed(2)) + " ms" : trim((value / 1000).toFixed(2)) + " s";
  };
  const plain = (value) => (value == null ? MISSING : trim(value.toFixed(value < 10 ? 2 : 1)));
  const percent = (value) => (value == null ? MISSING : trim(value.toFixed(2)) + " %");

  const end = Math.max(0, ...data.phases.map((phase) => phase.to), ...(time.t.length ? [time.t[time.t.length - 1]] : []));
  const first = time.t[0];
  const last = time.t[time.t.length - 1];
  // The whole run by default, a part of it when zoomed.
  const timeRange = (u, low, high) => (time.t.length < 2 || (low === first && high === last) ? [0, end || 1] : [low, high]);

  const phases = (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = 11 * devicePixelRatio + "px system-ui, sans-serif";
    ctx.textAlign = "left";
    ctx.textBaseline = "top";
    data.phases.forEach((phase, index) => {
      const left = u.valToPos(phase.from, "x", true);
      const right = u.valToPos(phase.to, "x", true);
      if (index % 2 === 0) {
        ctx.fillStyle = color("band");
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
      }
      const inset = Math.max(left, bbox.left) + 6 * devicePixelRatio;
      if (ctx.measureText(phase.name).width < right - inset) {
        ctx.fillStyle = color("faint");
        ctx.fillText(phase.name, inset, bbox.top + 3 * devicePixelRatio);
      }
    });
    ctx.restore();
  };

  // Thresholds: a dashed line across (`y`) or down (`x`), with its name.
  const limitLines = (axis, limits) => (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.font = 11 * devicePixelRatio + "px system-ui, sans-serif";
    ctx.textAlign = "left";
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    limits.forEach((limit, index) => {
      const at = u.valToPos(limit.ms, axis, true);
      const start = axis === "y" ? bbox.top : bbox.left;
      const size = axis === "y" ? bbox.height : bbox.width;
      if (!(at >= start - 1 && at <= start + size + 1)) return;
      ctx.strokeStyle = ctx.fillStyle = color({ pass: "good", fail: "bad" }[limit.status] || "unsure");
      ctx.beginPath();
      ctx.moveTo(axis === "y" ? bbox.left : at, axis === "y" ? at : bbox.top);
      ctx.lineTo(axis === "y" ? bbox.left + bbox.width : at, axis === "y" ? at : bbox.top + bbox.height);
      ctx.stroke();
      const unit = devicePixelRatio;
      const width = ctx.measureText(limit.label).width + 8 * unit;
      const height = 15 * unit;
      let left = index % 2 ? bbox.left : bbox.left + bbox.width - width;
      let top = at - height - unit < bbox.top ? at + unit : at - height - unit;
      if (axis === "x") {
        left = at - width < bbox.left ? at + unit : at - width - unit;
        top = bbox.top + (2 + 17 * index) * unit;
      }
      const ink = ctx.fillStyle;
      ctx.fillStyle = color("card");
      ctx.globalAlpha = 0.8;
      ctx.fillRect(left, top, width, height);
      ctx.globalAlpha = 1;
      ctx.fillStyle = ink;
      ctx.textBaseline = "middle";
      ctx.fillText(limit.label, left + 4 * unit, top + height / 2);
    });
    ctx.restore();
  };

  const axis = (more) => ({
    stroke: () => color("muted"),
    grid: { stroke: () => color("rule"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    gap: 4,
    ...more,
  });
  // A value without neighbours makes no line: it is drawn as a point.
  const alone = (u, index) => {
    const values = u.data[index];
    return values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
  };
  const line = (label, name, write, more) => ({
    label, stroke: () => color(name), width: 1.75, value: (u, value) => write(value),
    points: { show: true, size: 5, filter: alone }, ...more,
  });
  const fromZero = (least) => (u, low, high) => [0, Math.max(high || 0, least) * 1.16];

  const timeOptions = (height, series, write, least, limits = []) => ({
    height,
    series: [{ label: "until", value: (u, value) => (value == null ? MISSING : trim(value.toFixed(2)) + " s") }, ...series],
    scales: { x: { time: false, range: timeRange }, y: { range: fromZero(least) } },
    axes: [
      axis({ size: 24, values: (u, values) => values.map((value) => trim(value.toFixed(2)) + " s") }),
      axis({ size: 58, values: (u, values) => values.map(write) }),
    ],
    cursor: { sync: { key: "run", scales: ["x", null] }, drag: { x: true, y: false }, y: false, points: { size: 6 } },
    hooks: { drawClear: [phases], draw: [limitLines("y", limits)] },
    padding: [8, 18, 0, 0],
  });

  const show = (id, options, columns) => {
    const place = document.getElementById("chart-" + id);
    if (!place) return;
    const slot = charts.find((item) => item.id === id) || charts[charts.push({ id }) - 1];
    if (slot.plot) slot.plot.destroy();
    slot.plot = new uPlot({ width: Math.max(place.clientWidth, 120), ...options }, columns, place);
  };
  // A limit far above the values would flatten them: then it is left out.
  const nearLimits = (limits, values) => {
    const top = Math.max(0, ...values.filter((value) => value != null));
    return limits.filter((limit) => limit.ms <= top * 3);
  };

  const drawConcurrency = () => show("concurrency", timeOptions(200, [
    line("planned", "grey", plain, { dash: [6, 4], width: 1.5 }),
    line("achieved", "p95", plain, { fill: () => color("band") }),
  ], plain, 1), [time.t, time.planned, time.active]);

  const drawLatency = () => {
    const choice = document.getElementById("latency-metric");
    if (!choice) return;
    const metric = choice.value;
    if (time.means[metric]) return drawMean(metric);
    const columns = time.latencies[metric];
    const limits = nearLimits(data.limits[metric] || [], columns.p99);
    const least = Math.max(0.001, ...limits.map((limit) => limit.ms));
    show("latency", timeOptions(240, [
      line("p50", "p50", ms), line("p95", "p95", ms, { width: 2.25 }), line("p99", "p99", ms, { width: 1.25 }),
      { label: "n", scale: "n", value: (u, value) => (value == null ? MISSING : String(value)), paths: () => null, points: { show: false } },
    ], msTick, least, limits), [time.t, columns.p50, columns.p95, columns.p99, columns.n]);
  };

  // A ratio from 0 to 100 %, a score on its own scale.
  const drawMean = (metric) => {
    const share = data.units[metric] === "%";
    const factor = share ? 100 : 1;
    const unit = share ? " %" : data.units[metric] && " " + data.units[metric];
    const write = (value) => (value == null ? MISSING : trim(value.toFixed(2)) + unit);
    const tick = (value) => (value == null ? "" : trim(value.toFixed(2)) + (share ? " %" : ""));
    const values = time.means[metric].map((value) => (value == null ? null : value * factor));
    const limits = (data.meanLimits[metric] || []).map((limit) => ({ ...limit, ms: limit.value * factor }));
    const options = timeOptions(240, [line("mean", "p95", write, { width: 2.25 })], tick, share ? 1 : 0.001, limits);
    const top = Math.max(0, ...values, ...limits.map((limit) => limit.ms));
    if (share) options.scales.y.range = () => [0, top > 40 ? 104 : Math.max(top * 1.25, 1)];
    show("latency", options, [time.t, values]);
  };

  // Turns and services in one chart: a logarithmic axis, as a cache answers in ms and an agent in seconds.
  const drawSideBySide = () => {
    const names = data.sideBySide.filter((name) => time.latencies[name]);
    if (!names.length) return;
    const columns = names.map((name) => time.latencies[name].p95.map((value) => (value > 0 ? value : null)));
    const values = columns.flat().filter((value) => value != null);
    const least = Math.min(...values), most = Math.max(...values);
    const options = timeOptions(240, names.map((name, index) => line(data.titles[name] || name, index ? "o" + (1 + (index - 1) % 7) : "p95", ms, { width: index ? 1.5 : 2.5 })), msTick, 1);
    options.scales.y = { distr: 3, range: () => [least / 1.5, most * 1.5] };
    options.axes[1].filter = roundTicks;
    show("probes", options, [time.t, ...columns]);
  };

  const drawOutcomes = () => {
    const names = Object.keys(time.outcomes);
    const sums = [];
    names.forEach((name, index) => sums.push(time.outcomes[name].map((value, at) => value + (index ? sums[index - 1][at] : 0))));
    const bars = uPlot.paths.bars({ size: [0.86, 28], align: -1 });
    // Tallest first, so that each lower sum is painted over it; the legend tells the single rates.
    const stacked = names.map((name, index) => ({
      label: data.titles[name] || name,
      stroke: () => color("o" + (name === "completed" ? 0 : 1 + (index - (names[0] === "completed" ? 1 : 0)) % 7)),
      fill: () => color("o" + (name === "completed" ? 0 : 1 + (index - (names[0] === "completed" ? 1 : 0)) % 7)),
      width: 0, paths: bars, points: { show: false },
      value: (u, value, series, at) => (at == null ? MISSING : plain(time.outcomes[name][at]) + " /s"),
    })).reverse();
    const started = line("started", "p99", (value) => plain(value) + (value == null ? "" : " /s"), { width: 1.5 });
    show("outcomes", timeOptions(190, [...stacked, started], plain, 1), [time.t, ...sums.slice().reverse(), time.started]);
  };

  const drawHealth = () => {
    const late = (time.latencies.frame_lateness || time.latencies.loop_lateness || {}).p99 || time.t.map(() => null);
    const limit = { ms: data.latenessLimit, label: "limit " + ms(data.latenessLimit), status: "fail" };
    show("lateness", timeOptions(140, [line("p99", "p95", ms)], msTick, data.latenessLimit, [limit]), [time.t, late]);
    show("cpu", timeOptions(140, [line("CPU", "o3", percent)], (value) => plain(value) + " %", 100), [time.t, time.cpu]);
  };

  // Labels at 1, 2 and 5 of a decade where there is room, else at 1 only.
  const roundTicks = (u, splits) => {
    const shown = splits.length > 24 || u.width < 500 ? [1] : [1, 2, 5];
    const ticks = splits.map((value) => {
      const decade = 10 ** Math.floor(Math.log10(value) + 1e-9);
      const digit = Math.round(value / decade);
      return shown.includes(digit) && Math.abs(value / decade - digit) < 0.001 ? value : null;
    });
    return ticks.filter((value) => value != null).length > 1 ? ticks : splits;
  };

  const drawCurve = () => {
    const choice = document.getElementById("curve-metric");
    if (!choice) return;
    const metric = choice.value;
    const curve = data.curves[metric];
    if (!curve.corrected[0].length) return;
    const tables = [curve.corrected, curve.uncorrected].filter(Boolean);
    const columns = tables.length > 1 ? uPlot.join(tables) : tables[0];
    const stepped = { paths: uPlot.paths.stepped({ align: 1 }), points: { show: columns[0].length < 4 }, spanGaps: true };
    const name = data.titles[metric] || metric;
    const series = [line(tables.length > 1 ? "corrected" : name, "p95", percent, { ...stepped, width: 2.25 })];
    if (tables.length > 1) series.push(line("uncorrected (hides waiting)", "o2", percent, { ...stepped, dash: [5, 4] }));
    const limits = data.limits[metric] || [];
    // A few values near 0 must not push the rest to the edge of a logarithmic axis.
    const low = Math.min(...tables.map(([x, y]) => Math.max(x[0], x[y.findIndex((share) => share >= 5)] / 10)));
    const high = Math.max(...columns[0], ...limits.map((limit) => limit.ms).filter((value) => value < Math.max(...columns[0]) * 5));
    const least = low === high ? low / 2 : low / 1.1;
    show("curve", {
      height: 280,
      series: [{ label: name, value: (u, value) => ms(value) }, ...series],
      scales: {
        x: { time: false, distr: 3, range: (u, from, to) => (from === columns[0][0] || from < least ? [least, high * (low === high ? 2 : 1.15)] : [from, to]) },
        y: { range: [0, 100] },
      },
      axes: [
        axis({ size: 24, values: (u, values) => values.map((value) => (value == null ? "" : msTick(value))), filter: roundTicks }),
        axis({ size: 58, values: (u, values) => values.map((value) => value + " %"), splits: () => [0, 25, 50, 75, 90, 100] }),
      ],
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 6 } },
      hooks: { draw: [limitLines("x", limits)] },
      padding: [8, 18, 0, 0],
    }, columns);
  };

  const draw = () => {
    if (time.t.length) [drawConcurrency, drawLatency, drawSideBySide, drawOutcomes, drawHealth].forEach((step) => step());
    drawCurve();
  };
  draw();

  // Recordings: a line runs over the lanes as the sound plays; a click on a lane goes there.
  document.querySelectorAll("details.call").forEach((call) => {
    const sound = call.querySelector("audio");
    const stage = call.querySelector(".stage");
    if (!sound || !stage) return;
    const head = stage.querySelector(".playhead");
    const length = Number(stage.dataset.length);
    const move = () => {
      head.hidden = false;
      head.style.left = Math.min(100, (100 * sound.currentTime) / length) + "%";
      if (!sound.paused) requestAnimationFrame(move);
    };
    sound.addEventListener("play", () => {
      document.querySelectorAll("audio").forEach((other) => other !== sound && other.pause());
      move();
    });
    sound.addEventListener("seeked", move);
    stage.classList.add("seekable");
    stage.querySelectorAll(".lane").forEach((lane) => lane.addEventListener("click", (event) => {
      const box = lane.getBoundingClientRect();
      sound.currentTime = Math.max(0, ((event.clientX - box.left) / box.width) * length);
      sound.play();
    }));
  });
  const openTarget = () => {
    const target = location.hash.startsWith("#call-") && document.getElementById(location.hash.slice(1));
    if (target) target.open = true;
  };
  addEventListener("hashchange", openTarget);
  openTarget();

  document.getElementById("latency-metric")?.addEventListener("change", drawLatency);
  document.getElementById("curve-metric")?.addEventListener("change", drawCurve);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    charts.forEach((item) => item.plot.setSize({ width: document.getElementById("chart-" + item.id).clientWidth, height: item.plot.height }));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // Paper is white: print in the light colours, and put the others back after.
  addEventListener("beforeprint", () => { root.classList.add("printing"); draw(); });
  addEventListener("afterprint", () => { root.classList.remove("printing"); draw(); });
})();
