// The explorer: one query, and who helped or harmed it.
(() => {
  "use strict";
  const data = JSON.parse($("explorer-data").textContent);
  const page = 40; // queries in the strip at a time

  const unpacked = (text, Kind) => {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
    return new Kind(bytes.buffer);
  };
  const { query, train, lists, classes, times } = data;
  const Row = lists.bytes === 2 ? Int16Array : Int32Array;
  const rows = unpacked(lists.rows, Row);
  const values = unpacked(lists.values, Float32Array);
  const classRows = unpacked(lists.class_rows, Row);
  const classValues = unpacked(lists.class_values, Float32Array);
  const losses = unpacked(query.losses, Float32Array);
  const scores = unpacked(query.scores, Float32Array);
  const numbers = unpacked(query.numbers, Int32Array);
  const queryClasses = unpacked(query.classes, Int16Array);
  const trainClasses = unpacked(train.classes, Int16Array);
  const scored = classes ? unpacked(query.scored, Int16Array) : null;
  const decided = classes ? unpacked(query.decided, Int16Array) : null;
  const targets = classes ? null : unpacked(query.targets, Float32Array);
  const doubted = new Set(train.doubted);
  const count = query.ids.length;

  const state = { query: 0, at: times.length - 1, trainClass: -1, matches: [] };

  function number(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e-3 && size < 1e5) {
      return size >= 999.5 ? value.toFixed(0).replace("-", "−") : value.toPrecision(3).replace("-", "−");
    }
    const [mantissa, power] = value.toExponential(2).split("e");
    const raised = [...String(Number(power))].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("");
    return `${mantissa} × 10${raised}`.replace("-", "−");
  }
  // Numbers of one list share their decimals, so that they can be compared at a glance.
  function amount(value, largest) {
    const decimals = Math.max(2 - Math.floor(Math.log10(largest)), 0);
    const text = decimals > 7 ? number(value) : value.toFixed(decimals).replace("-", "−");
    return (value > 0 ? "+" : "") + (Number(value.toFixed(decimals)) === 0 ? number(value) : text);
  }
  const score = (value) => (Math.round(100 * value) / 100 + 0).toFixed(2).replace("-", "−");

  function thumb(slot, size, label) {
    if (!data.pictures) return null;
    const within = slot % data.atlas.page;
    const picture = make("span", { className: `thumb s${Math.floor(slot / data.atlas.page)} ${size}` });
    picture.style.setProperty("--x", within % data.atlas.columns);
    picture.style.setProperty("--y", Math.floor(within / data.atlas.columns));
    if (label) {
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", label);
    } else picture.setAttribute("aria-hidden", "true");
    return picture;
  }

  const truth = (q) => (classes ? classes[queryClasses[q]] : query.labels[q]);
  const trainLabel = (i) => (classes ? classes[trainClasses[i]] : train.labels[i]);
  const wrong = (q) => classes !== null && decided[state.at * count + q] !== queryClasses[q];

  // Which queries does the person want to see?
  function search() {
    const wanted = $("search").value.trim().toLowerCase();
    const only = classes ? Number($("query-class").value) : -1;
    const missed = classes !== null && $("wrong").checked;
    const matches = [];
    for (let q = 0; q < count; q += 1) {
      if (wanted && !query.ids[q].toLowerCase().includes(wanted)) continue;
      if (only >= 0 && queryClasses[q] !== only) continue;
      if (missed && !wrong(q)) continue;
      matches.push(q);
    }
    if ($("order").value === "loss") {
      const start = state.at * count;
      matches.sort((a, b) => losses[start + b] - losses[start + a] || a - b);
    }
    state.matches = matches;
    if (matches.length && !matches.includes(state.query)) [state.query] = matches;
  }

  function drawStrip(focus) {
    const strip = $("strip");
    strip.replaceChildren();
    const here = state.matches.indexOf(state.query);
    const start = Math.floor(Math.max(here, 0) / page) * page;
    const shown = state.matches.slice(start, start + page);
    for (const q of shown) {
      const chosen = q === state.query;
      const button = make("button", {
        type: "button", "data-query": q, "aria-pressed": String(chosen), tabindex: chosen ? "0" : "-1",
        "aria-label": `${query.ids[q]}, target ${truth(q)}${wrong(q) ? ", wrong prediction" : ""}`,
      }, thumb(data.atlas.first_query + q, "small"));
      if (!data.pictures) {
        button.className = "text";
        button.textContent = query.ids[q];
      }
      if (wrong(q)) button.append(make("span", { className: "missed", text: "✕", "aria-hidden": "true" }));
      strip.append(button);
      if (chosen && focus) button.focus({ preventScroll: true });
      if (chosen) {
        const middle = button.offsetLeft - strip.offsetLeft - (strip.clientWidth - button.clientWidth) / 2;
        strip.scrollLeft = Math.max(0, middle);
      }
    }
    const total = state.matches.length;
    $("previous").disabled = here <= 0;
    $("next").disabled = here < 0 || here >= total - 1;
    $("position").textContent = total
      ? `Query ${here + 1} of ${total}${total < count ? ` found among ${count}` : ""}${classes ? "; ✕ marks a wrong prediction" : ""}.`
      : "No query matches. Clear the search or choose another class.";
  }

  function scoreBars() {
    const width = query.shown;
    const base = (state.at * count + state.query) * width;
    const answers = Array.from(scores.subarray(base, base + width));
    const right = classes ? null : Array.from(targets.subarray(state.query * width, (state.query + 1) * width));
    const low = Math.min(0, ...answers, ...(right || []));
    const span = Math.max(0, ...answers, ...(right || [])) - low || 1;
    const bars = make("ul", { className: "bars", "aria-label": classes ? "Score of each class" : "Prediction and target" });
    const add = (name, value, kind, text = classes ? score(value) : number(value)) => {
      const fill = make("i");
      fill.style.left = `${(100 * (Math.min(value, 0) - low)) / span}%`;
      fill.style.width = `${(100 * Math.abs(value)) / span}%`;
      const zero = make("u");
      zero.style.left = `${(-100 * low) / span}%`;
      bars.append(make("li", { className: kind },
        make("span", { className: "name", text: name, title: name }),
        make("span", { className: "track", "aria-hidden": "true" }, fill, zero),
        make("span", { className: "value", text })));
    };
    for (let i = 0; i < width; i += 1) {
      if (classes) {
        const c = scored[base + i];
        const target = c === queryClasses[state.query];
        const predicted = c === decided[state.at * count + state.query];
        add((target ? "◆ " : "") + classes[c], answers[i], `${target ? "target " : ""}${predicted ? "predicted" : ""}`);
      } else {
        const which = width > 1 ? ` ${i}` : "";
        add(`predicted${which}`, answers[i], "predicted");
        add(`target${which}`, right[i], "target", width > 1 ? undefined : truth(state.query));
      }
    }
    return bars;
  }

  function drawQuery() {
    const q = state.query;
    const card = $("query-card");
    const loss = number(losses[state.at * count + q]);
    card.replaceChildren(
      make("h3", { className: "id", text: query.ids[q] }),
    );
    const picture = thumb(data.atlas.first_query + q, "large", `query ${query.ids[q]}, target ${truth(q)}`);
    if (picture) card.append(picture);
    if (query.values) card.append(make("p", { className: "quiet", text: query.values[q] }));
    let verdict = "";
    if (classes) {
      const answer = classes[decided[state.at * count + q]];
      verdict = `predicted ${answer}: ${wrong(q) ? "✕ wrong" : "✓ right"}`;
      card.append(make("p", { className: "truth", text: `◆ target ${truth(q)}` }), make("p", { className: "truth", text: verdict }));
    } else card.append(make("p", { className: "truth", text: `target ${truth(q)}` }));
    if (query.trust) card.append(make("p", { className: "truth", text: `influences: ${query.trust[q]}` }));
    card.append(make("p", { className: "truth quiet", text: `loss ${loss} · ${times[state.at]} · row ${numbers[q]} of the scores` }), scoreBars());
    const all = classes ? classes.length : data.outputs;
    if (query.shown < all) {
      const text = classes ? `The highest scores and the target, of ${all} classes.` : `The first ${query.shown} of ${all} outputs.`;
      card.append(make("p", { className: "quiet", text }));
    }
    $("status").textContent = `Query ${query.ids[q]}, ${times[state.at]}: ${verdict || `target ${truth(q)}`}, loss ${loss}.`;
  }

  // Lists of one side (0 helped, 1 harmed), for all classes or for one.
  function influences(side) {
    const listed = [];
    const c = state.trainClass;
    const byClass = c >= 0 && lists.within > 0;
    const size = byClass ? lists.within : lists.length;
    let start = (state.at * count + state.query) * 2 + side;
    if (byClass) start = ((state.at * count + state.query) * classes.length + c) * 2 + side;
    for (let i = 0; i < size; i += 1) {
      const row = (byClass ? classRows : rows)[start * size + i];
      const value = (byClass ? classValues : values)[start * size + i];
      if (row < 0) break;
      if (c < 0 || trainClasses[row] === c) listed.push({ row, value });
    }
    return listed;
  }

  function drawList(place, listed, largest, what) {
    place.replaceChildren();
    for (const { row, value } of listed) {
      const fill = make("i");
      fill.style.width = `${(100 * Math.abs(value)) / largest}%`;
      const name = make("span", {}, make("b", { text: trainLabel(row) }), " ", make("span", { className: "id", text: train.ids[row] }));
      if (doubted.has(row)) name.append(make("span", { className: "badge", text: "doubted" }));
      place.append(make("li", {},
        thumb(row, "small", `training example ${train.ids[row]}, label ${trainLabel(row)}`),
        make("div", { className: "what" },
          make("div", { className: "line" }, name, make("span", { className: "amount", text: amount(value, largest) })),
          train.values ? make("div", { className: "cell-line", text: train.values[row] }) : null,
          make("span", { className: "meter", "aria-hidden": "true" }, fill))));
    }
    if (!listed.length) place.append(make("li", { className: "none", text: `No training example ${state.trainClass < 0 ? "" : "of this class "}${what} this query.` }));
  }

  function draw(focus = false) {
    drawStrip(focus);
    const some = state.matches.length > 0;
    document.querySelector(".answer").hidden = !some;
    if (!some) {
      $("status").textContent = "No query matches.";
      return;
    }
    drawQuery();
    const helped = influences(0);
    const harmed = influences(1);
    const largest = Math.max(...helped.concat(harmed).map((one) => Math.abs(one.value)), 0) || 1;
    $("scale").textContent = helped.length + harmed.length ? `A full bar is ${number(largest)} loss units.` : "";
    drawList($("helped"), helped, largest, "helped");
    drawList($("harmed"), harmed, largest, "harmed");
  }

  function move(steps, focus) {
    const here = state.matches.indexOf(state.query);
    const next = Math.min(Math.max(here + steps, 0), state.matches.length - 1);
    if (next < 0) return;
    state.query = state.matches[next];
    draw(focus);
  }

  function options(select, first) {
    select.append(make("option", { value: "-1", text: first }));
    classes.forEach((name, c) => select.append(make("option", { value: c, text: name })));
  }

  function start() {
    if (classes) {
      options($("query-class"), "any class");
      options($("train-class"), "all classes");
      $("train-class").addEventListener("change", (event) => {
        state.trainClass = Number(event.target.value);
        draw();
      });
      for (const id of ["query-class", "wrong"]) $(id).addEventListener("change", () => { search(); draw(); });
    }
    $("order").addEventListener("change", () => { search(); move(-count, false); });
    $("search").addEventListener("input", () => { search(); draw(); });
    document.querySelector("#explorer form").addEventListener("submit", (event) => event.preventDefault());
    $("previous").addEventListener("click", () => move(-1, false));
    $("next").addEventListener("click", () => move(1, false));
    $("strip").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      state.query = Number(button.dataset.query);
      draw(true);
    });
    $("strip").addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -count, End: count }[event.key];
      if (steps === undefined) return;
      event.preventDefault();
      move(steps, true);
    });
    const slider = $("time");
    if (slider) {
      const tell = () => {
        $("time-label").textContent = times[state.at];
        slider.setAttribute("aria-valuetext", times[state.at]);
      };
      slider.max = times.length - 1;
      slider.value = state.at;
      slider.addEventListener("input", () => {
        state.at = Number(slider.value);
        tell();
        search();
        draw();
      });
      tell();
    }
    $("explorer-body").hidden = false;
    search();
    draw();
  }

  start();
})();
