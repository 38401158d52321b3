// What a page gains with JavaScript: buttons that copy, a notice while a live part cannot be read, and charts by uPlot where a page loads it. Pages read without it.
(() => {
  "use strict";
  const units = {
    bytes: (v) => { const n = ["B", "KiB", "MiB", "GiB", "TiB"]; let i = 0; while (v >= 1024 && i < 4) { v /= 1024; i += 1; } return `${v.toFixed(i ? 1 : 0)} ${n[i]}`; },
    seconds: (v) => (v < 60 ? `${v.toFixed(v < 1 ? 2 : 1)} s` : `${(v / 60).toFixed(1)} min`),
  };

  // <div class="chart" data-time="label of x" data-zone="Asia/Tokyo" data-chart='{"x": [seconds], "series": [{"label", "unit", "values"}]}'>
  function draw(element) {
    if (!window.uPlot || element.dataset.drawn) return;
    element.dataset.drawn = "yes";
    const { x, series } = JSON.parse(element.dataset.chart);
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const ink = colour("--soft"), line = colour("--line"), strokes = [colour("--bar"), colour("--unverified")];
    const axis = (one, n) => ({ scale: one.unit, side: n ? 1 : 3, size: 76, stroke: ink, grid: { stroke: line, show: !n }, ticks: { stroke: line }, values: (_, all) => all.map((v) => (v == null ? "" : units[one.unit](v))) });
    const zone = element.dataset.zone, zoned = (ts) => (zone ? window.uPlot.tzDate(new Date(ts * 1e3), zone) : new Date(ts * 1e3));
    const [moment, day, hour] = ["{YYYY}-{MM}-{DD} {HH}:{mm}", "{MM}-{DD}", "{HH}:{mm}"].map((one) => window.uPlot.fmtDate(one));
    const plot = new window.uPlot({
      width: element.clientWidth, height: 240, legend: { show: series.length > 1 },
      tzDate: zoned,
      series: [{ label: element.dataset.time, value: (_, v) => (v == null ? "–" : moment(zoned(v))) }, ...series.map((one, n) => ({ label: one.label, scale: one.unit, stroke: strokes[n], width: 2, points: { size: 6 }, value: (_, v) => (v == null ? "–" : units[one.unit](v)) }))],
      scales: Object.fromEntries(series.map((one) => [one.unit, { range: (_, low, high) => [0, high || 1] }])),
      axes: [{ values: (_, all, _axis, _space, step) => all.map((v) => (step < 86400 ? hour : day)(zoned(v))), stroke: ink, grid: { stroke: line }, ticks: { stroke: line } }, ...series.map(axis)],
    }, [x, ...series.map((one) => one.values)], element);
    new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 240 })).observe(element);
  }

  function copyButton(block) {
    if (!navigator.clipboard || block.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button"; button.className = "copy"; button.textContent = document.documentElement.lang === "ja" ? "コピー" : "Copy";
    button.addEventListener("click", () => navigator.clipboard.writeText(block.querySelector("code").textContent));
    block.append(button);
  }

  function begin(root) {
    root.querySelectorAll(".chart[data-chart]").forEach(draw);
    root.querySelectorAll(".copyable").forEach(copyButton);
    root.querySelectorAll(".scroll").forEach((one) => { if (one.scrollWidth > one.clientWidth) one.tabIndex = 0; });  // for the keyboard
  }
  const stale = (yes) => () => { document.getElementById("stale").hidden = !yes; };
  for (const name of ["htmx:error", "htmx:response:error", "htmx:sse:error"]) document.addEventListener(name, stale(true));
  document.addEventListener("htmx:sse:after:message", stale(false));
  document.addEventListener("htmx:after:request", (event) => { if (event.detail.ctx.response?.status < 400) stale(false)(); });
  document.addEventListener("DOMContentLoaded", () => begin(document));
  document.addEventListener("htmx:after:swap", () => begin(document));
})();
