// The review: keep, change or unsure for every doubted label, kept by the browser and taken along as a table.
(() => {
  const list = $("review");
  if (!list) return;
  const { items, classes, key } = pageData.review;
  const rows = [...list.children];
  const answers = ["keep", "change", "unsure"];
  const names = { keep: "Keep", change: "Change", unsure: "Unsure" };
  const controls = rows.map(() => ({}));
  let decided = {}; // by place: { decision, label }
  let undo = [];
  let current = 0;

  let stored = true;
  try {
    const before = JSON.parse(localStorage.getItem(key) || "{}");
    items.forEach((item, place) => {
      const answer = before[item.id];
      if (answer && answers.includes(answer.decision)) decided[place] = answer;
    });
  } catch {
    stored = false;
  }
  function save() {
    const byId = {};
    for (const [place, answer] of Object.entries(decided)) byId[items[place].id] = answer;
    try {
      localStorage.setItem(key, JSON.stringify(byId));
    } catch {
      stored = false;
    }
  }

  // What the chosen example is changed to, where the suggestion is not right either.
  const other = classes ? make("select") : make("input", { type: "text", inputmode: "decimal" });
  if (classes) for (const name of Object.keys(classes)) other.append(make("option", { value: name, text: name }));
  const otherLabel = make("label", { className: "other", text: "Change to " }, other);

  function decide(place, decision, label = items[place].suggested) {
    undo.push([place, decided[place]]);
    decided = { ...decided };
    if (decision) decided[place] = { decision, label: decision === "change" ? label : items[place].given };
    else delete decided[place];
    save();
    tell();
  }

  function tell() {
    let count = 0;
    rows.forEach((row, place) => {
      const answer = decided[place];
      if (answer) count += 1;
      row.dataset.decision = answer ? answer.decision : "";
      for (const name of answers) {
        controls[place][name].setAttribute("aria-pressed", String(Boolean(answer) && answer.decision === name));
      }
    });
    const answer = decided[current];
    other.value = answer && answer.decision === "change" ? answer.label : items[current].suggested;
    const warning = stored ? "" : " This browser keeps nothing: download before you close the page.";
    $("review-progress").textContent = `${count} of ${items.length} decided.${warning}`;
  }

  const shown = () => [...list.children].filter((row) => !row.hidden);
  function select(row, focus = true) {
    rows.forEach((each) => {
      const chosen = each === row;
      each.classList.toggle("chosen", chosen);
      each.tabIndex = chosen ? 0 : -1;
      if (chosen) each.setAttribute("aria-current", "true");
      else each.removeAttribute("aria-current");
    });
    current = Number(row.dataset.place);
    row.querySelector(".body").append(otherLabel);
    tell();
    if (!focus) return;
    row.focus({ preventScroll: true });
    const top = row.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + row.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top;
  }
  function move(steps) {
    const visible = shown();
    const here = visible.indexOf(rows[current]);
    const next = visible[Math.min(Math.max(here + steps, 0), visible.length - 1)];
    if (next) select(next);
  }

  function arrange() {
    const wanted = $("review-search").value.trim().toLowerCase();
    const only = $("review-show").value;
    const by = $("review-sort").value;
    const text = (place) => `${items[place].id} ${items[place].given} ${items[place].suggested}`.toLowerCase();
    const places = items.map((_, place) => place);
    if (by !== "doubt") places.sort((a, b) => items[a][by].localeCompare(items[b][by], undefined, { numeric: true }) || a - b);
    for (const place of places) {
      const decision = decided[place] ? decided[place].decision : "open";
      rows[place].hidden = !text(place).includes(wanted) || (only !== "all" && decision !== only);
    }
    list.append(...places.map((place) => rows[place]));
    const visible = shown();
    $("review-none").hidden = visible.length > 0;
    if (visible.length && !visible.includes(rows[current])) select(visible[0], false);
  }

  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  files["reviewed.csv"] = () => {
    const lines = [["id", "given", "suggested", "decision", "label"]];
    items.forEach((item, place) => {
      const { decision = "", label = item.given } = decided[place] || {};
      const cell = (name) => (classes && classes[name] !== undefined ? classes[name] : name);
      lines.push([item.id, cell(item.given), cell(item.suggested), decision, cell(label)]);
    });
    return lines.map((line) => `${line.map(quoted).join(",")}\n`).join("");
  };

  rows.forEach((row, place) => {
    const buttons = make("div", { className: "decide", role: "group", "aria-label": `Decision on ${items[place].id}` });
    for (const name of answers) {
      const button = make("button", { type: "button", text: names[name], "aria-pressed": "false", tabindex: "-1" });
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        select(row, false);
        decide(place, decided[place] && decided[place].decision === name ? null : name);
      });
      controls[place][name] = button;
      buttons.append(button);
    }
    row.querySelector(".head").append(buttons);
    row.addEventListener("click", () => select(row, false));
    row.addEventListener("focus", () => current !== place && select(row, false));
  });

  other.addEventListener("change", () => decide(current, "change", other.value));
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, Home: -rows.length, End: rows.length }[event.key];
    const decision = { k: "keep", c: "change", u: "unsure" }[event.key.toLowerCase()];
    if (steps) move(steps);
    else if (decision) {
      decide(current, decision);
      move(1);
    } else if (event.key.toLowerCase() === "z" && undo.length) {
      const [place, before] = undo.pop();
      decided = { ...decided };
      if (before) decided[place] = before;
      else delete decided[place];
      save();
      tell();
      if (!rows[place].hidden) select(rows[place]);
    } else return;
    event.preventDefault();
  });
  $("review-controls").addEventListener("submit", (event) => event.preventDefault());
  $("review-search").addEventListener("input", arrange);
  for (const id of ["review-show", "review-sort"]) $(id).addEventListener("change", arrange);

  // Who follows a link to the review answers by keyboard at once; the browser moves first, and takes the focus.
  for (const link of document.querySelectorAll('a[href="#suspects"]')) {
    link.addEventListener("click", () => setTimeout(() => select(rows[current])));
  }
  list.classList.add("live");
  $("review-controls").hidden = false;
  $("review-keys").hidden = false;
  arrange();
  select(rows[0], false);
})();
