// Videos: their frames, lists of them, and the drawer that shows lists.
const NO_FRAMES = "The page has no frames of this video.";

function film(video, plays = false) {
  const [image, frames, width, height, note] = data.strips[video] ?? ["", 0, 0, 0, NO_FRAMES];
  if (!image) return make("div", { class: "absent", title: note }, note);
  const style = {
    "--frames": frames, "--width": width, "--height": height, "background-image": `url("${image}")`,
    "--rest": frames > 1 ? `${100 * Math.floor(frames / 2) / (frames - 1)}%` : "0%",
  };
  const look = `film${width * 10 > height * 16 ? " wide" : ""}`;
  const label = `Frames of ${videos.path[video]}`;
  return make("button", { class: `screen${plays ? " plays" : ""}`, type: "button", "aria-label": label, onclick: () => showVideo(video) },
    make("span", { class: look, style }));
}

function verdict(video) {
  if (!videos.labels[video].length) return make("span", { class: "verdict soft" }, "no label");
  return isWrong(video) ? make("span", { class: "verdict wrong" }, "✗ wrong") : make("span", { class: "verdict right" }, "✓ right");
}

const guess = video => `${nameOf(videos.guesses[video][0])} ${chance(videos.probability[video][0])}`;
const labelsWithChance = video =>
  videos.labels[video].map((label, i) => `${nameOf(label)} ${chance(videos.own[video][i])}`).join(", ") || "unknown";

function openDrawer(title, ...content) {
  byId("drawer-title").textContent = title;
  byId("drawer-body").replaceChildren(...content);
  if (!byId("drawer").open) byId("drawer").showModal();
  byId("drawer").scrollTop = 0;
}

function showVideo(video) {
  const [image, frames, , , note] = data.strips[video] ?? [];
  const rows = videos.guesses[video].map((label, i) => {
    const isLabel = videos.labels[video].includes(label);
    const share = videos.probability[video][i] / 10000;
    return make("tr", {}, make("td", {}, link(nameOf(label), () => showClass(label)), isLabel ? "  ✓" : ""),
      make("td", {}, bar(share, percent(share), isLabel ? COLOURS.right : COLOURS.wrong)));
  });
  const guessed = nameOf(videos.guesses[video][0]);
  openDrawer(isWrong(video) ? `${namesOf(videos.labels[video])}, predicted as ${guessed}` : guessed,
    make("p", { class: "path" }, videos.path[video]),
    image ? make("div", { class: "one" }, film(video, true)) : null,
    image ? make("img", { class: "strip", src: image, alt: `${frames} frames of the video` }) : make("p", {}, note ?? NO_FRAMES),
    make("p", {}, verdict(video), ` Label: ${labelsWithChance(video)}.`),
    make("h3", {}, "Most probable classes"), make("table", {}, make("tbody", {}, ...rows)));
}

function videoTable(element, rows, sort = 3) {
  const columns = [
    { title: "verdict", value: video => isWrong(video) ? 0 : 1, cell: verdict },
    { title: "video", value: video => videos.path[video], cell: video => videos.path[video], look: "path" },
    { title: "label", value: video => namesOf(videos.labels[video]), cell: labelsWithChance },
    { title: "prediction", value: video => videos.probability[video][0], cell: guess, falls: true },
  ];
  const text = video => `${videos.path[video]} ${namesOf(videos.labels[video])} ${nameOf(videos.guesses[video][0])} ${isWrong(video) ? "wrong" : "right"}`;
  table(element, columns, rows, { text, sort, pick: showVideo, noun: "video", placeholder: "Search path, class, right or wrong" });
}

const captioned = video => make("figure", {}, film(video), make("figcaption", {}, verdict(video), make("br"), guess(video)));

function videoList(rows) {
  const pictured = rows.filter(video => data.strips[video]?.[0]).slice(0, 4);
  const list = make("div");
  videoTable(list, rows);
  return [pictured.length ? make("div", { class: "players" }, ...pictured.map(video => captioned(video))) : null, list]
    .filter(Boolean);
}

const chosen = test => [...Array(numVideos).keys()].filter(test);

function showCell(label, guessed) {
  const rows = chosen(video => videos.labels[video].includes(label) && videos.guesses[video][0] === guessed);
  const what = label === guessed ? `${nameOf(label)}: right` : `${nameOf(label)}, predicted as ${nameOf(guessed)}`;
  openDrawer(what, make("p", {}, link(nameOf(label), () => showClass(label)), " · ", link(nameOf(guessed), () => showClass(guessed))),
    ...videoList(rows));
}

function takenTable(title, cells, total, otherOf) {
  const most = 12, rest = cells.length - most;
  const rows = cells.sort((one, other) => other[2] - one[2]).slice(0, most).map(cell => make("tr", {},
    make("td", {}, link(nameOf(otherOf(cell)), () => showCell(cell[0], cell[1]))),
    make("td", {}, bar(cell[2] / total, count(cell[2]), COLOURS.wrong))));
  return make("div", {}, make("h3", {}, title),
    rows.length ? make("table", {}, make("tbody", {}, ...rows)) : make("p", {}, "None."),
    rest > 0 ? make("p", {}, `and ${counted(rest, "other class")}`) : null);
}

function showClass(number) {
  const total = classes.videos[number], value = classes.value[number];
  const kind = data.isMultilabel ? "average precision" : "recall";
  const summary = total ? `${counted(total, "video")}${value === null ? "" : `, ${kind} ${value.toFixed(1)} %`}.` : "No video of this class was scored.";
  const missed = data.counts.filter(([label, other]) => label === number && other !== number);
  const attracted = data.counts.filter(([label, other]) => other === number && label !== number);
  const most = Math.max(total, 1);
  const both = data.isMultilabel ? null : make("div", { class: "columns" },
    takenTable("Its videos were predicted as", missed, most, cell => cell[1]),
    takenTable("Predicted as it by mistake", attracted, most, cell => cell[0]));
  const rows = chosen(video => videos.labels[video].includes(number) || videos.guesses[video][0] === number);
  openDrawer(nameOf(number), make("p", {}, summary), ...[both].filter(Boolean), make("h3", {}, "Videos with this class or predicted as it"), ...videoList(rows));
}
