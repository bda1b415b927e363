// Tables that sort by a click on a column's name, search, and draw only the rows that are asked for.
const ROWS_AT_ONCE = 100;

/* columns: {title, value: row -> what sorts, cell: row -> element or text, isNumber, falls: sorts falling first}
   settings: {text: row -> what is searched, sort: column to begin with, pick: row -> action, noun, placeholder} */
function table(element, columns, rows, settings = {}) {
  let sorted = settings.sort ?? null, sign = sorted !== null && columns[sorted].falls ? -1 : 1, limit = ROWS_AT_ONCE;
  const body = make("tbody");
  const heads = columns.map((column, i) => {
    const head = make("th", column.isNumber ? { class: "number" } : {});
    const sort = () => {
      sign = sorted === i ? -sign : column.falls ? -1 : 1;
      sorted = i;
      update();
    };
    head.append(column.value ? make("button", { type: "button", onclick: sort }, column.title) : column.title);
    return head;
  });
  const search = make("input", { type: "search", placeholder: settings.placeholder ?? "Search", "aria-label": settings.placeholder ?? "Search" });
  const found = make("span", { class: "soft", role: "status" });
  const more = make("button", { class: "more", type: "button", onclick: () => { limit *= 10; update(); } });
  const texts = settings.text ? rows.map(row => settings.text(row).toLowerCase()) : null;

  function compare(one, other) {
    const [a, b] = [columns[sorted].value(one), columns[sorted].value(other)];
    if (a === b) return 0;
    if (a === null || b === null) return a === null ? 1 : -1; // the unknown is last, either way
    return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  }

  function update() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let fitting = words.length && texts ? rows.filter((_, i) => words.every(word => texts[i].includes(word))) : [...rows];
    if (sorted !== null) fitting.sort(compare);
    heads.forEach((head, i) => i === sorted ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
    body.replaceChildren(...fitting.slice(0, limit).map(row => {
      const cells = columns.map(column => make("td", { class: `${column.isNumber ? "number" : ""} ${column.look ?? ""}` }, column.cell(row)));
      return make("tr", settings.pick ? { class: "pick", onclick: () => settings.pick(row) } : {}, ...cells);
    }));
    found.textContent = counted(fitting.length, settings.noun ?? "row");
    more.hidden = fitting.length <= limit;
    more.textContent = `Show more, ${count(fitting.length - limit)} are left`;
  }

  search.addEventListener("input", () => { limit = ROWS_AT_ONCE; update(); });
  if (texts && rows.length > 5) element.append(make("div", { class: "tools" }, search, found));
  element.append(make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body), more));
  update();
}
