// The confusion matrix: a table of up to 30 classes with names and numbers. Of more classes a map shows all, and the
// table a part of them. The diagonal is grey and only mistakes have colour, so that they are seen at any size.
const FEW = 7, MOST_NAMED = 30, PART = 25, MARKED = 25;
const matrix = { order: data.order, place: new Map(), cells: new Map(), top: 1, start: [0, 0], size: 0, chosen: null };

function orderedBy(kind) {
  if (kind === "similarity") return [...data.order];
  const numbers = [...data.order].sort((one, other) => one - other);
  return kind === "number" ? numbers : numbers.sort((one, other) => (classes.value[one] ?? 101) - (classes.value[other] ?? 101));
}

function arrange() {
  matrix.order = orderedBy(byId("matrix-order").value);
  matrix.place = new Map(matrix.order.map((number, i) => [number, i]));
  matrix.cells = new Map();
  for (const [label, guessed, number] of data.counts) {
    const [row, column] = [matrix.place.get(label), matrix.place.get(guessed)];
    if (row === undefined || column === undefined) continue;
    matrix.cells.set(row * matrix.order.length + column, { row, column, number, share: number / classes.videos[label] });
  }
  const mistakes = [...matrix.cells.values()].filter(cell => cell.row !== cell.column).map(cell => cell.share);
  matrix.top = Math.sqrt(Math.max(0.01, ...mistakes));
  matrix.size = matrix.order.length > MOST_NAMED ? PART : matrix.order.length;
}

// the root keeps few mistakes in sight
const strength = cell => Math.sqrt(cell.share) / (cell.row === cell.column ? 1 : matrix.top);

function drawCells() {
  const [top, left] = matrix.start, span = [...Array(matrix.size).keys()];
  const head = (place, i) => make("th", { class: `class${matrix.order[place] === matrix.chosen ? " chosen" : ""}`, scope: i, title: nameOf(matrix.order[place]) },
    short(nameOf(matrix.order[place]), 24));
  const rows = span.map(i => make("tr", {},
    i ? null : make("th", { class: "axis", rowspan: matrix.size }, "true class"), head(top + i, "row"), ...span.map(j => cellOf(top + i, left + j))));
  byId("matrix").replaceChildren(make("table", { class: matrix.size <= FEW ? "few" : "" },
    make("thead", {}, make("tr", {}, make("td", { colspan: 2, style: { background: "none" } }), make("th", { class: "axis", colspan: matrix.size }, "predicted class")),
      make("tr", {}, make("td", { colspan: 2, style: { background: "none" } }), ...span.map(j => head(left + j, "col")))),
    make("tbody", {}, ...rows)));
}

function cellOf(row, column) {
  const cell = matrix.cells.get(row * matrix.order.length + column);
  const [label, guessed] = [matrix.order[row], matrix.order[column]];
  const title = `${nameOf(label)}, ${label === guessed ? "right" : `predicted as ${nameOf(guessed)}`}`;
  if (!cell) return make("td", { title });
  const share = (0.08 + 0.92 * strength(cell)).toFixed(3);
  return make("td", {
    class: `${row === column ? "diagonal" : ""}${share > 0.82 ? " deep" : ""}`, "data-share": share, style: { "--share": share },
    title: `${title}: ${count(cell.number)} of ${counted(classes.videos[label], "video")}, ${percent(cell.share)}`, onclick: () => showCell(label, guessed),
  }, count(cell.number));
}

function drawMap() {
  const canvas = byId("matrix-map"), side = canvas.width, step = side / matrix.order.length, wide = Math.max(step, 1.5);
  const paper = canvas.getContext("2d"), colour = getComputedStyle(document.documentElement);
  paper.clearRect(0, 0, side, side);
  const cells = [...matrix.cells.values()];
  for (const cell of cells) {
    paper.fillStyle = colour.getPropertyValue(cell.row === cell.column ? "--soft" : "--wrong");
    paper.globalAlpha = 0.15 + 0.85 * Math.min(1, strength(cell));
    paper.fillRect(cell.column * step, cell.row * step, wide, wide);
  }
  paper.globalAlpha = 1;
  paper.strokeStyle = colour.getPropertyValue("--bad");
  paper.lineWidth = 2;
  for (const cell of cells.filter(one => one.row !== one.column).sort((one, other) => other.number - one.number).slice(0, MARKED)) {
    paper.beginPath();
    paper.arc((cell.column + 0.5) * step, (cell.row + 0.5) * step, Math.max(9, step), 0, 7);
    paper.stroke();
  }
}

function look(row, column) {
  const last = matrix.order.length - matrix.size, size = matrix.order.length;
  matrix.start = [row, column].map(place => Math.max(0, Math.min(last, Math.round(place - matrix.size / 2))));
  for (const [name, value] of [["top", matrix.start[0]], ["left", matrix.start[1]], ["width", matrix.size], ["height", matrix.size]]) {
    byId("matrix-part").style[name] = `calc(${value / size} * var(--side))`;
  }
  drawCells();
}

function lookAt(number) {
  matrix.chosen = number;
  const place = matrix.place.get(number);
  if (place !== undefined) look(place, place);
}

function showMatrix() {
  if (!data.order.length) {
    byId("matrix-section").hidden = true;
    return;
  }
  arrange();
  const size = data.order.length, left = names.length - size, isLarge = size > MOST_NAMED;
  byId("matrix-summary").textContent = "Rows are true classes, columns predicted classes; the diagonal (grey) is right. Click a cell to list its videos." +
    (isLarge ? ` The map has all classes, with circles around the ${Math.min(MARKED, data.pairs.length)} cells of most mistakes; the table has the part in the frame. Click the map to move it, or search a class.` : "") +
    (left > 0 ? ` ${counted(left, "class")} without mistakes or videos ${left === 1 ? "is" : "are"} not shown.` : "");
  byId("class-names").append(...data.order.map(number => make("option", { value: nameOf(number) })));
  const input = byId("matrix-class"), canvas = byId("matrix-map"), map = byId("map");
  input.hidden = map.hidden = !isLarge;
  const update = () => {
    arrange();
    if (!isLarge) return drawCells();
    drawMap();
    const most = data.pairs[0]?.[0] ?? matrix.order[0];
    lookAt(matrix.chosen ?? most);
  };
  input.addEventListener("input", () => {
    const typed = input.value.trim().toLowerCase();
    const exact = data.order.find(number => nameOf(number).toLowerCase() === typed);
    const near = typed.length > 2 ? data.order.find(number => nameOf(number).toLowerCase().includes(typed)) : undefined;
    if ((exact ?? near) !== undefined) lookAt(exact ?? near);
  });
  canvas.addEventListener("click", event => {
    matrix.chosen = null;
    look(size * event.offsetY / canvas.clientHeight, size * event.offsetX / canvas.clientWidth);
  });
  byId("matrix-order").addEventListener("change", update);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  new ResizeObserver(() => map.style.setProperty("--side", `${canvas.clientWidth}px`)).observe(canvas);
  update();
}
