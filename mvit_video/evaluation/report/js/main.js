// Fills the sections of the page.
function showPairs() {
  const wrong = data.counts.filter(([label, guessed]) => label !== guessed).reduce((sum, cell) => sum + cell[2], 0);
  const total = data.counts.reduce((sum, cell) => sum + cell[2], 0);
  if (!data.pairs.length) {
    byId("confusions-summary").textContent = total ? "None: every video with a label was predicted right." : "No scored video has a label.";
    return;
  }
  const inPairs = data.pairs.slice(0, 10).reduce((sum, pair) => sum + pair[2] + pair[3], 0);
  const much = data.pairs.length > 10 ? ` The ten worst pairs of classes make ${percent(inPairs / wrong, 0)} of the mistakes.` : "";
  byId("confusions-summary").textContent = `${count(wrong)} of ${counted(total, "video")} with a label ${wrong === 1 ? "was" : "were"} predicted as another class.${much} Point at a pair to play its videos.`;
  byId("pictured-pairs").append(...data.examples.map(([mistaken, right], i) => {
    const [first, second, there, back, numFirst, numSecond] = data.pairs[i];
    const other = back ? `; ${count(back)} of ${count(numSecond)} the other way` : "";
    return make("article", { class: "pair" },
      make("h3", {}, link(nameOf(first), () => showClass(first)), " predicted as ", link(nameOf(second), () => showClass(second))),
      make("p", {}, link(`${count(there)} of ${counted(numFirst, "video")}`, () => showCell(first, second)), other),
      make("div", { class: "two" },
        make("figure", {}, mistaken === null ? make("div", { class: "absent" }, "not listed") : film(mistaken),
          make("figcaption", {}, make("span", { class: "wrong" }, `✗ ${nameOf(first)}`), mistaken === null ? "" : make("span", { class: "soft" }, ` wrong with ${chance(videos.probability[mistaken][0])}`))),
        make("figure", {}, right === null ? make("div", { class: "absent" }, "no video of this class is right") : film(right),
          make("figcaption", {}, make("span", { class: "right" }, `✓ ${nameOf(second)}`), right === null ? "" : make("span", { class: "soft" }, ` right with ${chance(videos.probability[right][0])}`)))));
  }));
  const share = (number, total) => total ? number / total : 0;
  const directed = (title, at, of) => ({ title, isNumber: true, falls: true, value: pair => share(pair[at], pair[of]), cell: pair => `${count(pair[at])} of ${count(pair[of])}` });
  table(byId("pairs"), [
    { title: "class", value: pair => nameOf(pair[0]), cell: pair => nameOf(pair[0]) },
    { title: "and class", value: pair => nameOf(pair[1]), cell: pair => nameOf(pair[1]) },
    directed("first as second", 2, 4), directed("second as first", 3, 5),
    { title: "mistakes", value: pair => pair[2] + pair[3], falls: true, cell: pair => bar((pair[2] + pair[3]) / (data.pairs[0][2] + data.pairs[0][3]), count(pair[2] + pair[3]), COLOURS.wrong) },
  ], data.pairs, { text: pair => `${nameOf(pair[0])} ${nameOf(pair[1])}`, sort: 4, pick: pair => showBoth(pair[0], pair[1]), noun: "pair", placeholder: "Search a class" });
}

function showBoth(one, other) {
  const rows = chosen(video => {
    const [label, guessed] = [videos.labels[video][0], videos.guesses[video][0]];
    return (label === one && guessed === other) || (label === other && guessed === one);
  });
  openDrawer(`${nameOf(one)} and ${nameOf(other)}`, make("p", {}, link(nameOf(one), () => showClass(one)), " · ", link(nameOf(other), () => showClass(other))), ...videoList(rows));
}

function showClasses() {
  const worst = new Map();
  for (const [label, guessed, number] of data.counts) {
    if (label !== guessed && number > (worst.get(label)?.[1] ?? 0)) worst.set(label, [guessed, number]);
  }
  const shown = value => value === null ? make("span", { class: "soft" }, "none") : `${value.toFixed(1)} %`;
  const columns = [
    { title: "class", value: nameOf, cell: nameOf },
    { title: "videos", value: c => classes.videos[c], isNumber: true, falls: true, cell: c => count(classes.videos[c]) },
    { title: data.isMultilabel ? "average precision" : "recall", value: c => classes.value[c],
      cell: c => classes.value[c] === null ? shown(null) : bar(classes.value[c] / 100, shown(classes.value[c])) },
  ];
  if (!data.isMultilabel) columns.push(
    { title: "precision", value: c => classes.precision[c], isNumber: true, cell: c => shown(classes.precision[c]) },
    { title: "F1", value: c => classes.f1[c], isNumber: true, cell: c => shown(classes.f1[c]) },
    { title: "most often predicted as", value: c => worst.get(c)?.[1] ?? 0, falls: true,
      cell: c => worst.has(c) ? link(`${nameOf(worst.get(c)[0])}, ${count(worst.get(c)[1])}`, () => showCell(c, worst.get(c)[0])) : "" },
  );
  table(byId("classes"), columns, names.map((_, c) => c), { text: nameOf, sort: 2, pick: showClass, noun: "class", placeholder: "Search a class" });
}

function showPictured() {
  const { mistakes, correct } = data;
  byId("mistakes-summary").textContent = mistakes.length ? "Wrong predictions with the highest probability, from as many pairs of classes as there are: hard videos, or wrong labels. Point at one to play it, click it for its classes." : "None.";
  byId("mistakes").append(...mistakes.map(video => make("figure", {}, film(video), make("figcaption", {},
    make("span", { class: "wrong" }, `✗ ${guess(video)}`), make("br"), make("span", { class: "right" }, `is ${labelsWithChance(video)}`), make("br"), make("span", { class: "soft path" }, videos.path[video])))));
  byId("correct-section").hidden = !correct.length;
  byId("correct").append(...correct.map(video => make("figure", {}, film(video), make("figcaption", {},
    make("span", { class: "right" }, `✓ ${guess(video)}`), make("br"), make("span", { class: "soft path" }, videos.path[video])))));
}

function showUnscored() {
  const { total, listed } = data.failures;
  byId("failures-summary").textContent = total ? `${counted(total, "video")} have no score.${listed.length < total ? ` The first ${count(listed.length)} are listed.` : ""}` : "None: every video of the test has a score.";
  const columns = [
    { title: "video", value: row => row[0], cell: row => row[0], look: "path" },
    { title: "label", value: row => namesOf(row[1]), cell: row => namesOf(row[1]) },
    { title: "reason", value: row => row[2], cell: row => row[2] },
  ];
  const text = row => `${row[0]} ${namesOf(row[1])} ${row[2]}`;
  if (total) table(byId("failures"), columns, listed, { text, noun: "video", placeholder: "Search path, class or reason" });
  if (!data.flawed.total) return;
  byId("flawed-section").hidden = false;
  byId("flawed-summary").textContent = `${counted(data.flawed.total, "case")} of a video that was scored although it is damaged or too short.`;
  table(byId("flawed"), columns, data.flawed.listed, { text, noun: "video", placeholder: "Search path, class or flaw" });
}

if (!data.isMultilabel) {
  showPairs();
  showMatrix();
}
showClasses();
showPictured();
showUnscored();
videoTable(byId("videos"), [...Array(numVideos).keys()]);
byId("drawer-close").addEventListener("click", () => byId("drawer").close());
byId("drawer").addEventListener("click", event => { if (event.target === byId("drawer")) byId("drawer").close(); });
