// The confusion matrix. The diagonal is grey and mistakes alone have colour, so that they are seen at any size.
const NUMBERED = 30, NAMED = 45, NEIGHBOURS = 12, MARKED = 25;
const matrix = { order: data.order, place: new Map() };

function orderedBy(kind) {
  if (kind === "similarity") return [...data.order];
  const numbers = [...data.order].sort((one, other) => one - other);
  return kind === "number" ? numbers : numbers.sort((one, other) => (classes.value[one] ?? 101) - (classes.value[other] ?? 101));
}

function matrixTraces() {
  const size = matrix.order.length;
  const empty = () => Array.from({ length: size }, () => Array(size).fill(null));
  const [right, wrong, text] = [empty(), empty(), empty()];
  for (const [label, guessed, number] of data.counts) {
    const [row, column] = [matrix.place.get(label), matrix.place.get(guessed)];
    if (row === undefined || column === undefined) continue;
    const share = number / classes.videos[label];
    // the root keeps few mistakes in sight
    (row === column ? right : wrong)[row][column] = Math.sqrt(share);
    text[row][column] = `${plain(nameOf(label))}<br>${label === guessed ? "right" : `taken for ${plain(nameOf(guessed))}`}<br>` +
      `${count(number)} of ${counted(classes.videos[label], "video")}, ${percent(share)}`;
  }
  const trace = { type: "heatmap", zmin: 0, hoverongaps: false, hoverinfo: "text", text, xgap: size <= NUMBERED ? 2 : 0, ygap: size <= NUMBERED ? 2 : 0, showscale: false };
  const largest = data.counts.filter(cell => cell[0] !== cell[1] && matrix.place.has(cell[0]) && matrix.place.has(cell[1]))
    .sort((one, other) => other[2] - one[2]).slice(0, size > NUMBERED ? MARKED : 0)
    .map(([label, guessed]) => [matrix.place.get(guessed), matrix.place.get(label)]);
  const marks = {
    type: "scatter", mode: "markers", x: largest.map(([x]) => x), y: largest.map(([, y]) => y), hoverinfo: "text", hovertext: largest.map(([x, y]) => text[y][x]),
    marker: { symbol: "circle-open", size: 13, color: "#6d2a05", line: { width: 1.5 } },
  };
  const top = Math.max(0.1, ...wrong.flat().filter(value => value !== null));
  const shares = [0.01, 0.05, 0.1, 0.25, 0.5, 1].filter(share => Math.sqrt(share) <= top * 1.001);
  const colorbar = { thickness: 10, len: 0.5, y: 1, yanchor: "top", outlinewidth: 0, tickvals: shares.map(Math.sqrt), ticktext: shares.map(share => percent(share, 0)), title: { text: "taken<br>for it", font: { size: 12 } } };
  return [
    { ...trace, z: right, zmax: 1, colorscale: [[0, "#f4f6f7"], [1, "#8593a0"]] },
    { ...trace, z: wrong, zmax: top, colorscale: [[0, "#fdf1e4"], [0.2, "#fae0c6"], [0.45, "#f2a765"], [0.75, "#c8611a"], [1, "#6d2a05"]], showscale: size > NUMBERED, colorbar },
    marks,
  ];
}

function numbersIn() {
  const shown = data.counts.filter(([label, guessed]) => matrix.place.has(label) && matrix.place.has(guessed));
  // the square of where the colours end in matrixTraces
  const most = Math.max(0.01, ...shown.filter(([label, guessed]) => label !== guessed).map(([label, , number]) => number / classes.videos[label]));
  return shown.map(([label, guessed, number]) => {
    const isDark = label !== guessed && number / classes.videos[label] > 0.4 * most;
    return { x: matrix.place.get(guessed), y: matrix.place.get(label), text: count(number), showarrow: false, font: { size: 12, color: isDark ? "white" : "#1d2733" } };
  });
}

function ticks(range) {
  const [low, high] = [Math.ceil(Math.min(...range)), Math.floor(Math.max(...range))];
  if (high - low >= NAMED) return { tickvals: [], ticktext: [] };
  const shown = matrix.order.map((number, i) => [number, i]).filter(([, i]) => i >= low && i <= high);
  return { tickvals: shown.map(([, i]) => i), ticktext: shown.map(([number]) => plain(short(nameOf(number), 26))) };
}

function drawMatrix() {
  matrix.order = orderedBy(byId("matrix-order").value);
  matrix.place = new Map(matrix.order.map((number, i) => [number, i]));
  const size = matrix.order.length, element = byId("matrix");
  const whole = [-0.5, size - 0.5];
  const axis = { constrain: "domain", showgrid: false, ticks: "" };
  const room = element.parentElement.clientWidth;
  const height = size <= NUMBERED ? Math.max(280, 26 * size + 180) : Math.min(820, Math.max(460, room));
  element.style.maxWidth = `${size <= NUMBERED ? 110 * size + 260 : height + 140}px`;
  draw(element, matrixTraces(), {
    xaxis: { ...axis, ...ticks(whole), range: whole, tickangle: size <= 6 && room > 620 ? 0 : -50 },
    yaxis: { ...axis, ...ticks(whole), range: [...whole].reverse(), ...(size > NUMBERED ? { scaleanchor: "x" } : {}) },
    annotations: size <= NUMBERED ? numbersIn() : [], dragmode: size <= NUMBERED ? false : "zoom",
  }, height).then(() => {
    element.removeAllListeners("plotly_click");
    element.removeAllListeners("plotly_relayout");
    element.on("plotly_click", ({ points: [point] }) => showCell(matrix.order[point.y], matrix.order[point.x]));
    element.on("plotly_relayout", change => {
      if (Object.keys(change).some(key => /axis\.(range|autorange)/.test(key))) nameVisible();
    });
  });
}

function nameVisible() {
  const { xaxis, yaxis } = byId("matrix").layout;
  const named = { x: ticks(xaxis.range), y: ticks(yaxis.range) };
  Plotly.relayout("matrix", {
    "xaxis.tickvals": named.x.tickvals, "xaxis.ticktext": named.x.ticktext,
    "yaxis.tickvals": named.y.tickvals, "yaxis.ticktext": named.y.ticktext,
  });
}

function zoomTo(number) {
  const place = matrix.place.get(number), last = matrix.order.length - 0.5;
  if (place === undefined) return;
  const [low, high] = [Math.max(-0.5, place - NEIGHBOURS - 0.5), Math.min(last, place + NEIGHBOURS + 0.5)];
  const line = { type: "rect", line: { width: 1.5, color: COLOURS.right } };
  Plotly.relayout("matrix", {
    "xaxis.range": [low, high], "yaxis.range": [high, low],
    shapes: [{ ...line, x0: low, x1: high, y0: place - 0.5, y1: place + 0.5 }, { ...line, x0: place - 0.5, x1: place + 0.5, y0: low, y1: high }],
  });
}

function showMatrix() {
  if (!data.order.length) {
    byId("matrix-section").hidden = true;
    return;
  }
  const size = data.order.length, left = names.length - size;
  byId("matrix-summary").textContent = "A row has the videos of one class, a column those taken for it; grey is right. " +
    (size > NUMBERED ? `Circles mark the ${Math.min(MARKED, data.pairs.length)} cells with the most mistakes. Drag to zoom until names appear, double-click to see all again. ` : "") + "A click lists the videos." +
    (left > 0 ? ` ${counted(left, "class")} without mistakes or videos ${left === 1 ? "is" : "are"} left out.` : "");
  byId("class-names").append(...data.order.map(number => make("option", { value: nameOf(number) })));
  const input = byId("matrix-class");
  input.addEventListener("input", () => {
    const typed = input.value.trim().toLowerCase();
    const exact = data.order.find(number => nameOf(number).toLowerCase() === typed);
    const near = typed.length > 2 ? data.order.find(number => nameOf(number).toLowerCase().includes(typed)) : undefined;
    if ((exact ?? near) !== undefined) zoomTo(exact ?? near);
  });
  if (size <= NUMBERED) byId("matrix-class").hidden = byId("matrix-all").hidden = true;
  byId("matrix-order").addEventListener("change", drawMatrix);
  byId("matrix-all").addEventListener("click", () => { input.value = ""; drawMatrix(); });
  drawMatrix();
}
