// Figures of the whole test: reliability, accuracy against views, robustness.
function absent(element, text) {
  element.replaceChildren(make("p", {}, text));
}

function showReliability() {
  const bins = data.reliability.filter(bin => bin.num_videos);
  if (!bins.length) return absent(byId("reliability"), "Nothing is known of the probabilities.");
  const middle = bins.map(bin => (bin.low + bin.high) / 2), width = bins.map(bin => 0.92 * (bin.high - bin.low));
  const text = bins.map(bin => `${percent(bin.low, 0)} to ${percent(bin.high, 0)}: ${counted(bin.num_videos, "video")}<br>` +
    `mean probability ${percent(bin.confidence)}<br>right ${percent(bin.accuracy)}`);
  const bars = { type: "bar", x: middle, width, hovertext: text, hoverinfo: "text" };
  draw(byId("reliability"), [
    { ...bars, y: bins.map(bin => bin.accuracy), marker: { color: COLOURS.right, opacity: 0.35 } },
    { x: bins.map(bin => bin.confidence), y: bins.map(bin => bin.accuracy), mode: "lines+markers", line: { color: COLOURS.right, width: 1.5 }, marker: { size: 8 }, hovertext: text, hoverinfo: "text" },
    { x: [0, 1], y: [0, 1], mode: "lines", line: { color: COLOURS.wrong, width: 1.5, dash: "dot" }, hoverinfo: "skip" },
    { ...bars, y: bins.map(bin => bin.num_videos), yaxis: "y2", marker: { color: COLOURS.pale } },
  ], {
    xaxis: { range: [0, 1], tickformat: ".0%", title: { text: "probability of the first guess" }, anchor: "y2", showgrid: false },
    yaxis: { range: [0, 1.02], tickformat: ".0%", domain: [0.36, 1], title: { text: "right" }, gridcolor: "#eef2f5" },
    yaxis2: { domain: [0, 0.26], title: { text: "videos" }, nticks: 4, gridcolor: "#eef2f5" },
  }, 400);
}

function showViews() {
  const metric = data.byViews.length && "mAP" in data.byViews[0] ? "mAP" : "top1";
  const points = data.byViews.filter(point => point[metric] !== null);
  if (points.length < 2) return absent(byId("views"), points.length ? "The test had one view of each video, so there are no fewer." : "Nothing is known of fewer views.");
  const crops = [...new Set(points.map(point => point.num_crops))];
  const most = Math.max(...points.map(point => point.num_views));
  const values = points.map(point => point[metric]), low = Math.min(...values), high = Math.max(...values);
  const middle = (low + high) / 2, room = Math.max(2.5, 0.6 * (high - low)); // a tenth of a point is not to look like much
  const looks = [{ color: COLOURS.right, symbol: "circle" }, { color: COLOURS.wrong, symbol: "diamond" }];
  draw(byId("views"), crops.map((number, i) => {
    const some = points.filter(point => point.num_crops === number);
    return {
      name: counted(number, "crop"), x: some.map(point => point.num_views), y: some.map(point => point[metric]), mode: "lines+markers",
      line: { color: looks[i].color, width: 2 }, marker: { size: 8, symbol: looks[i].symbol },
      hovertext: some.map(point => `${counted(point.num_clips, "clip")} x ${counted(point.num_crops, "crop")}: ${point[metric].toFixed(2)} %<br>` +
        `${percent(point.num_views / most, 0)} of the cost of the whole test`), hoverinfo: "text",
    };
  }), {
    xaxis: { title: { text: "views of each video, passes through the net" }, rangemode: "tozero", showgrid: false, tickformat: "d" },
    yaxis: { title: { text: `${metric === "mAP" ? metric : "top-1"}, %` }, gridcolor: "#eef2f5", range: [middle - room, middle + room] },
    showlegend: crops.length > 1, legend: { x: 1, xanchor: "right", y: 0, yanchor: "bottom" },
  }, 400);
}

const groupBy = (rows, key) => rows.reduce((groups, row) => groups.set(key(row), [...groups.get(key(row)) ?? [], row]), new Map());

function robustnessTrace(name, rows, x, i) {
  const look = ["#2f6f9f", "#c8611a", "#4d9a6a", "#8a5fa8", "#7a6a3a", "#c24d7e", "#3fa3b5", "#55606b"][i % 8];
  const symbol = ["circle", "diamond", "square", "triangle-up", "x", "cross", "star", "pentagon"][i % 8];
  const known = rows.every(row => row.low !== null && row.high !== null);
  const error_y = { type: "data", symmetric: false, array: rows.map(row => row.high - row.value), arrayminus: rows.map(row => row.value - row.low), color: look, thickness: 1 };
  return { name: plain(short(name)), x: rows.map(x), y: rows.map(row => row.value), error_y: known ? error_y : undefined, line: { color: look }, marker: { size: 8, color: look, symbol } };
}

function viewsOf(row) {
  const words = /^(\d+) clips? x (\d+) crops?$/.exec(row.setting);
  return words ? [Number(words[1]), Number(words[2])] : null;
}

function drawCosts(element, rows) {
  const cost = row => (data.gigaflops ?? 1) * viewsOf(row)[0] * viewsOf(row)[1];
  const lines = [...groupBy(rows, row => viewsOf(row)[1])].sort(([one], [other]) => one - other).map(([crops, some], i) => {
    const rising = some.sort((one, other) => cost(one) - cost(other));
    return { ...robustnessTrace(counted(crops, "crop"), rising, cost, i), mode: "lines+markers", hovertext: rising.map(row => `${row.setting}: ${row.value.toFixed(2)} %`), hoverinfo: "text" };
  });
  const title = data.gigaflops === null ? "views of each video" : "GFLOPs (multiply-adds) per video";
  return draw(element, lines, {
    xaxis: { title: { text: title }, rangemode: "tozero", showgrid: false }, yaxis: { title: { text: `${rows[0].metric}, %` }, gridcolor: "#eef2f5" },
    showlegend: true, legend: { x: 1, xanchor: "right", y: 0, yanchor: "bottom" },
  }, 340);
}

function drawRobustness(element, rows) {
  if (rows.every(row => viewsOf(row) !== null)) return drawCosts(element, rows);
  const graded = rows.filter(row => row.severity !== null), single = rows.filter(row => row.severity === null);
  const yaxis = { title: { text: plain(String(rows[0].metric)) }, gridcolor: "#eef2f5", rangemode: "tozero" };
  const label = row => plain(short(String(row.setting)));
  if (!graded.length) {
    const trace = robustnessTrace("", single, label, 0);
    trace.error_y = { ...trace.error_y, color: "#1d2733" };
    return draw(element, [{ ...trace, type: "bar", marker: { color: COLOURS.right } }], { xaxis: { type: "category" }, yaxis, bargap: 0.45 }, 340);
  }
  const lines = [...groupBy(graded, row => String(row.setting))].map(([name, some], i) => {
    const rising = some.sort((one, other) => one.severity - other.severity);
    return { ...robustnessTrace(name, rising, row => row.severity, i), mode: "lines+markers" };
  });
  const levels = single.map(row => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: row.value, y1: row.value, line: { dash: "dot", width: 1.5, color: COLOURS.soft } }));
  const annotations = single.map(row => ({ xref: "paper", x: 1, xanchor: "right", y: row.value, yanchor: "bottom", text: label(row), showarrow: false }));
  return draw(element, lines, {
    xaxis: { title: { text: "severity" }, showgrid: false }, yaxis, shapes: levels, annotations, showlegend: true, legend: { orientation: "h", y: -0.25 },
  }, 340);
}

function showRobustness() {
  const known = data.robustness.filter(row => row.value !== null);
  if (!known.length) return;
  byId("robustness-section").hidden = false;
  const figures = [...groupBy(known, row => row.study).values()].map(all => {
    const rows = all.filter(row => row.metric === all[0].metric), figure = make("div"); // top-5 comes after top-1
    byId("robustness").append(make("div", {}, make("h3", {}, `${String(rows[0].study).replaceAll("_", " ")}: ${rows[0].metric}`), figure));
    return [figure, rows];
  });
  for (const [figure, rows] of figures) drawRobustness(figure, rows); // a figure takes the width that all of them leave it
}
