"use strict";
// Data of the page, and how its pieces are made. Text goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const { names, videos, classes } = data;
const numVideos = videos.path.length;
const COLOURS = { right: "var(--right)", wrong: "var(--wrong)" };

const byId = id => document.getElementById(id);
const count = number => number.toLocaleString("en");
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;
const chance = tenThousandths => percent(tenThousandths / 10000);
const nameOf = number => names[number] ?? `class ${number}`;
const namesOf = numbers => numbers.map(nameOf).join(", ") || "unknown";

function make(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(settings)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, one] of Object.entries(value)) element.style.setProperty(name, one);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

function bar(share, text, colour = COLOURS.right) {
  const style = { "--share": `${100 * Math.min(1, share)}%`, "--colour": colour };
  return make("div", { class: "bar" }, make("i", { style }), make("b", {}, text));
}

const link = (text, action) =>
  make("button", { class: "link", type: "button", onclick: event => { event.stopPropagation(); action(); } }, text);

const isWrong = video => videos.labels[video].length > 0 && !videos.labels[video].includes(videos.guesses[video][0]);

const short = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
