// Puts the pieces where they belong.
function showPairs() {
  const wrong = data.counts.filter(([label, guessed]) => label !== guessed).reduce((sum, cell) => sum + cell[2], 0);
  const total = data.counts.reduce((sum, cell) => sum + cell[2], 0);
  if (!data.pairs.length) {
    byId("confusions-summary").textContent = total ? "Nothing: every video with a label was taken for what it is." : "No scored video has a label.";
    return;
  }
  const inPairs = data.pairs.slice(0, 10).reduce((sum, pair) => sum + pair[2] + pair[3], 0);
  const much = data.pairs.length > 10 ? ` The ten worst pairs of classes have ${percent(inPairs / wrong, 0)} of the mistakes.` : "";
  byId("confusions-summary").textContent = `${count(wrong)} of ${counted(total, "video")} with a label ${wrong === 1 ? "was" : "were"} taken for another class.${much} Point at a pair to play its videos.`;
  byId("pictured-pairs").append(...data.examples.map(([mistaken, right], i) => {
    const [first, second, there, back, numFirst, numSecond] = data.pairs[i];
    const other = back ? `; ${count(back)} of ${count(numSecond)} the other way` : "";
    return make("article", { class: "pair" },
      make("h3", {}, link(nameOf(first), () => showClass(first)), " taken for ", link(nameOf(second), () => showClass(second))),
      make("p", {}, link(`${count(there)} of ${counted(numFirst, "video")}`, () => showCell(first, second)), other),
      make("div", { class: "two" },
        make("figure", {}, mistaken === null ? make("div", { class: "absent" }, "not listed") : film(mistaken),
          make("figcaption", {}, make("span", { class: "wrong" }, `✗ ${nameOf(first)}`), mistaken === null ? "" : make("span", { class: "soft" }, ` mistaken with ${chance(videos.probability[mistaken][0])}`))),
        make("figure", {}, right === null ? make("div", { class: "absent" }, "no video of this class is right") : film(right),
          make("figcaption", {}, make("span", { class: "right" }, `✓ ${nameOf(second)}`), right === null ? "" : make("span", { class: "soft" }, ` recognised with ${chance(videos.probability[right][0])}`)))));
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
  const kind = data.isMultilabel ? "average precision" : "right";
  const columns = [
    { title: "class", value: nameOf, cell: nameOf },
    { title: "videos", value: c => classes.videos[c], isNumber: true, falls: true, cell: c => count(classes.videos[c]) },
    { title: kind, value: c => classes.value[c], cell: c => classes.value[c] === null ? make("span", { class: "soft" }, "unknown") : bar(classes.value[c] / 100, `${classes.value[c].toFixed(1)} %`) },
  ];
  if (!data.isMultilabel) columns.push({
    title: "most often taken for", value: c => worst.get(c)?.[1] ?? 0, falls: true,
    cell: c => worst.has(c) ? link(`${nameOf(worst.get(c)[0])}, ${count(worst.get(c)[1])}`, () => showCell(c, worst.get(c)[0])) : "",
  });
  table(byId("classes"), columns, names.map((_, c) => c), { text: nameOf, sort: 2, pick: showClass, noun: "class", placeholder: "Search a class" });
}

function showMistakes() {
  const { mistakes } = data;
  byId("mistakes-summary").textContent = mistakes.length ? "Wrong videos whose first guess was the surest: hard ones, or wrong labels. Point at one to play it, click for its guesses." : "There is none.";
  byId("mistakes").append(...mistakes.map(video => make("figure", {}, film(video), make("figcaption", {},
    make("span", { class: "wrong" }, guess(video)), make("br"), make("span", { class: "right" }, `is ${labelsWithChance(video)}`), make("br"), make("span", { class: "soft path" }, videos.path[video])))));
}

function showUnscored() {
  const { total, listed } = data.failures;
  byId("failures-summary").textContent = total ? `${counted(total, "video")} could not be scored.${listed.length < total ? ` The first ${count(listed.length)} are listed.` : ""}` : "None: every video of the test has a score.";
  const columns = [
    { title: "video", value: row => row[0], cell: row => row[0], look: "path" },
    { title: "label", value: row => namesOf(row[1]), cell: row => namesOf(row[1]) },
    { title: "reason", value: row => row[2], cell: row => row[2] },
  ];
  const text = row => `${row[0]} ${namesOf(row[1])} ${row[2]}`;
  if (total) table(byId("failures"), columns, listed, { text, noun: "video", placeholder: "Search path, class or reason" });
  if (!data.flawed.total) return;
  byId("flawed-section").hidden = false;
  byId("flawed-summary").textContent = `${counted(data.flawed.total, "time")} a video was scored although something is wrong with it.`;
  table(byId("flawed"), columns, data.flawed.listed, { text, noun: "video", placeholder: "Search path, class or flaw" });
}

if (!data.isMultilabel) {
  showPairs();
  showMatrix();
  showReliability();
}
showClasses();
showMistakes();
showViews();
showRobustness();
showUnscored();
videoTable(byId("videos"), [...Array(numVideos).keys()]);
byId("drawer-close").addEventListener("click", () => byId("drawer").close());
byId("drawer").addEventListener("click", event => { if (event.target === byId("drawer")) byId("drawer").close(); });
