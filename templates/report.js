/* gradaudit: sorting, filtering, links, colours, copying. Pages are complete without this script. */
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  root.classList.add("js");

  // What the reader chose. It stands in the address behind the place: #layer-x?filter=a&theme=dark
  const state = { at: "", filter: "", hide: false, theme: "", sort: new Map() };

  function read() {
    const [at, query] = location.hash.slice(1).split("?");
    state.at = at;
    if (query === undefined) return;
    const given = new URLSearchParams(query);
    state.filter = given.get("filter") || "";
    state.hide = given.has("hide");
    state.theme = ["light", "dark"].find((name) => name === given.get("theme")) || "";
    state.sort = new Map();
    for (const item of (given.get("sort") || "").split(",").filter(Boolean)) {
      const [table, column, direction] = item.split(":");
      state.sort.set(table, { column: Number(column), up: direction === "up" });
    }
  }

  function write() {
    const given = new URLSearchParams();
    if (state.filter) given.set("filter", state.filter);
    if (state.hide) given.set("hide", "1");
    if (state.theme) given.set("theme", state.theme);
    const sorts = [...state.sort].map(([id, s]) => `${id}:${s.column}:${s.up ? "up" : "down"}`);
    if (sorts.length) given.set("sort", sorts.join(","));
    const query = given.toString();
    const hash = state.at + (query && `?${query}`);
    if (location.hash.slice(1) === hash) return;
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function paint() {
    if (state.theme) root.dataset.theme = state.theme;
    else delete root.dataset.theme;
  }

  read();
  paint(); // before the page is shown

  // Numbers as they are written here: 1,024; 6.1×10⁴; −3; 87%; 2.9×. Larger than floats may be.
  const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  function size(text) {
    const power = /^([−-]?)(?:([\d.,]+)×)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/.exec(text);
    const plain = /^([−-]?)([\d.,]+)/.exec(text);
    const found = power || plain;
    if (!found) return NaN;
    const mantissa = Number((found[2] || "1").replaceAll(",", ""));
    const digits = power ? power[3].replace("⁻", "-") : "0";
    const exponent = Number(digits.replace(/[⁰-⁹¹²³]/g, (d) => SUPERSCRIPTS.indexOf(d)));
    if (mantissa === 0) return 0;
    const above = 1e5 + Math.log10(mantissa) + exponent; // orders as the number itself does
    return found[1] ? -above : above;
  }

  const collator = new Intl.Collator(undefined, { numeric: true });
  const words = (cell) => (cell ? (cell.firstChild || cell).textContent.trim() : "");

  // A row and those that belong below it, as they stood at first.
  const families = new Map();
  function family(table) {
    if (!families.has(table)) {
      const found = [];
      for (const row of table.tBodies[0].rows) {
        const below = row.cells[0].classList.contains("sub") && found.length;
        if (below) found[found.length - 1].push(row);
        else found.push([row]);
      }
      families.set(table, found);
    }
    return families.get(table);
  }

  function order(table) {
    const wanted = state.sort.get(table.id);
    all("th", table.tHead).forEach((head, i) => {
      const direction = wanted && wanted.column === i && (wanted.up ? "ascending" : "descending");
      head.setAttribute("aria-sort", direction || "none");
    });
    const head = wanted && table.tHead.rows[0].cells[wanted.column];
    let rows = family(table);
    if (head) {
      const numeric = head.classList.contains("number");
      const sign = wanted.up ? 1 : -1;
      const keyed = rows.map((group) => {
        const text = words(group[0].cells[wanted.column]);
        return { group, text, size: numeric ? size(text) : 0 };
      });
      const unknown = (item) => (numeric ? Number.isNaN(item.size) : item.text === "–" || !item.text);
      keyed.sort((a, b) => unknown(a) - unknown(b) || (unknown(a) ? 0
        : sign * (numeric ? a.size - b.size : collator.compare(a.text, b.text))));
      rows = keyed.map((item) => item.group);
    }
    table.tBodies[0].append(...rows.flat());
  }

  function choose(table, column) {
    const first = table.tHead.rows[0].cells[column].classList.contains("number") ? "down" : "up";
    const now = state.sort.get(table.id);
    if (!now || now.column !== column) state.sort.set(table.id, { column, up: first === "up" });
    else if (now.up === (first === "up")) state.sort.set(table.id, { column, up: !now.up });
    else state.sort.delete(table.id);
    order(table);
    write();
  }

  function sortable(table) {
    if (table.tBodies[0].rows.length < 2 || !table.id) return;
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () => choose(table, head.cellIndex));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    }
    if (state.sort.has(table.id)) order(table);
  }

  // Layers of long nets are many: their tables are made sortable once somebody looks.
  function whenShown(table, act) {
    const fold = table.closest(".layer");
    if (!fold || fold.open || state.sort.has(table.id)) act();
    else fold.addEventListener("toggle", act, { once: true });
  }

  // Filter and "hide what passes": rows, layers, findings. One that is linked to is always shown.
  const wanted = (text) => text.toLowerCase().includes(state.filter.toLowerCase());
  let seen = 0;
  let known = 0;

  function fits(text, hot) {
    return (!state.hide || hot) && (!state.filter || wanted(text));
  }

  function show(node, visible) {
    const shown = visible || node.id === state.at && state.at !== "";
    if (node.hidden === shown) node.hidden = !shown;
    return shown;
  }

  function sift(table) {
    let count = 0;
    const heads = [...table.tHead.rows[0].cells];
    const named = heads.map((head, i) => (head.classList.contains("number") ? -1 : i))
      .filter((i) => i >= 0);
    const groups = family(table);
    for (const group of groups) {
      const row = group[0];
      const text = named.map((i) => (row.cells[i] ? row.cells[i].textContent : "")).join(" ");
      const shown = show(row, fits(text, row.classList.contains("hot")));
      for (const below of group.slice(1)) below.hidden = !shown;
      count += shown;
    }
    seen += count;
    known += groups.length;
    said(table, count, groups.length);
    return count;
  }

  function said(table, count, whole) {
    const active = state.filter || state.hide;
    noted(table.closest("details"), count, whole);
    const scroll = table.parentElement;
    const next = scroll.nextElementSibling;
    const empty = next && next.classList.contains("empty") ? next : document.createElement("p");
    empty.className = "aside empty";
    empty.textContent = "No row here fits.";
    empty.hidden = !(active && count === 0);
    scroll.after(empty);
    scroll.hidden = !empty.hidden;
  }

  // How many of its rows a folded part still has.
  function noted(fold, count, whole) {
    const place = fold && fold.querySelector("summary");
    if (!place) return;
    const note = place.querySelector(".hits") || document.createElement("span");
    note.className = "hits";
    note.textContent = state.filter || state.hide ? ` ${count} of ${whole}` : "";
    place.append(note);
  }

  function siftAll() {
    seen = known = 0;
    for (const table of all("main table.data")) {
      const count = sift(table);
      const layer = table.closest(".layer");
      if (layer) layer.hidden = (state.filter || state.hide) && count === 0;
    }
    for (const layer of all(".layer")) {
      if (layer.querySelector("table.data")) continue;
      const text = layer.querySelector("summary").textContent
        + all(".held", layer).map((list) => list.textContent).join(" ");
      seen += show(layer, fits(text, layer.classList.contains("hot")));
      known += 1;
    }
    for (const fold of all(".all")) {
      const held = all(".layer", fold);
      noted(fold, held.filter((layer) => !layer.hidden).length, held.length);
    }
    for (const finding of all(".finding")) {
      const head = all("h3, .place", finding).map((part) => part.textContent).join(" ");
      seen += show(finding, fits(head, !finding.classList.contains("note")));
      known += 1;
    }
    const active = state.filter || state.hide;
    const status = byId("status");
    if (status) status.textContent = active ? `${seen} of ${known} rows` : "";
  }

  // A place in the page: everything that is folded around it is opened.
  let target = null;
  function go() {
    if (target) target.classList.remove("target");
    target = state.at ? byId(decode(state.at)) : null;
    if (!target) return;
    for (let n = target; n; n = n.parentElement) {
      if (n.tagName === "DETAILS") n.open = true;
      if (n.hidden) n.hidden = false;
    }
    target.classList.add("target");
    target.scrollIntoView();
    const focus = target.matches("details") ? target.querySelector("summary") : target;
    if (focus === target && !focus.hasAttribute("tabindex")) focus.setAttribute("tabindex", "-1");
    focus.focus({ preventScroll: true });
  }

  function decode(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  function moved() {
    const before = JSON.stringify([state.filter, state.hide, state.theme, [...state.sort]]);
    read();
    if (JSON.stringify([state.filter, state.hide, state.theme, [...state.sort]]) !== before) restore();
    write();
    go();
  }

  function restore() {
    paint();
    controls();
    all("main table.data").filter((table) => table.id).forEach(order);
    siftAll();
  }

  function controls() {
    const fields = { theme: "value", filter: "value", hide: "checked" };
    for (const [name, property] of Object.entries(fields)) {
      if (byId(name)) byId(name)[property] = state[name];
    }
  }

  function copyBySelection(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "spoken";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyBySelection(text); // opened from a file, or permission refused
    }
  }

  function tell(node, words, label = node.textContent) {
    node.textContent = words;
    setTimeout(() => { node.textContent = label; }, 1600);
  }

  function ready() {
    controls();
    for (const table of all("main table.data")) whenShown(table, () => sortable(table));
    if (state.filter || state.hide) siftAll();
    for (const button of all("button.copy")) {
      const label = button.textContent;
      button.addEventListener("click", async () => {
        const code = button.parentElement.querySelector("code");
        tell(button, (await copy(code.textContent)) ? "Copied" : "Press Ctrl+C", label);
      });
    }
    for (const link of all("a.here")) {
      const label = link.textContent;
      link.addEventListener("click", async (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        state.at = link.getAttribute("href").slice(1);
        write();
        go();
        link.focus();
        if (await copy(location.href)) tell(link, "Link copied", label);
      });
    }
    wire();
    go();
  }

  function wire() {
    const listen = (name, kind, act) => byId(name) && byId(name).addEventListener(kind, act);
    let wait = 0;
    listen("filter", "input", (event) => {
      clearTimeout(wait);
      wait = setTimeout(() => {
        state.filter = event.target.value.trim();
        state.at = "";
        siftAll();
        write();
      }, 120);
    });
    listen("hide", "change", (event) => {
      state.hide = event.target.checked;
      state.at = "";
      siftAll();
      write();
    });
    listen("theme", "change", (event) => {
      state.theme = event.target.value;
      paint();
      write();
    });
    listen("share", "click", async (event) => {
      const done = await copy(location.href);
      tell(event.target, done ? "Copied" : "Copy the address", "Copy link");
    });
    window.addEventListener("hashchange", moved);
    for (const link of all(".menu a")) {
      link.addEventListener("click", () => { link.closest("details").open = false; });
    }
    const folded = [];
    window.addEventListener("beforeprint", () => {
      for (const part of all("details:not([open], .layer, .menu)")) {
        part.open = true;
        folded.push(part);
      }
    });
    window.addEventListener("afterprint", () => {
      for (const part of folded.splice(0)) part.open = false;
    });
  }

  document.addEventListener("DOMContentLoaded", ready);
})();
