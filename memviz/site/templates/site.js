// What the pages can do beyond links: search, order and filter, and turn over by keyboard. Everything else works without.
"use strict";
const root = document.currentScript.dataset.root;
const form = document.querySelector(".top form");
const input = form.querySelector("input");
const found = form.querySelector("ol");
const MOST = 20;

function load() {
  if (window.memviz || document.querySelector("script[data-index]")) return;
  // A script, since pages that are opened from disk may not fetch.
  const script = document.createElement("script");
  script.src = root + SEARCH;
  script.dataset.index = "";
  script.onload = search;
  document.head.append(script);
}
const SEARCH = document.currentScript.dataset.search;

function search() {
  found.replaceChildren();
  const text = input.value.trim().toLowerCase();
  if (!text || !window.memviz) return;
  const hits = [];
  const [address, channel] = text.split(":");
  for (const [layer, [place, units]] of Object.entries(window.memviz.layers)) {
    if (hits.length >= MOST) break;
    if (!layer.toLowerCase().includes(address)) continue;
    if (channel === undefined || channel === "") hits.push([`${place}/index.html`, layer, `${units} units`]);
    else if (/^\d+$/.test(channel) && Number(channel) < units) hits.push([`${place}/${Number(channel)}/index.html`, `${layer}:${Number(channel)}`, ""]);
  }
  for (const [unit, label] of window.memviz.labels) {
    if (hits.length >= MOST) break;
    if (!label.toLowerCase().includes(text)) continue;
    const colon = unit.lastIndexOf(":");
    hits.push([`${window.memviz.layers[unit.slice(0, colon)][0]}/${unit.slice(colon + 1)}/index.html`, unit, label]);
  }
  for (const [target, name, about] of hits) {
    const item = document.createElement("li"), anchor = document.createElement("a"), code = document.createElement("code");
    anchor.href = root + encodeURI(target);
    code.textContent = name;
    anchor.append(code, about ? ` ${about}` : "");
    item.append(anchor);
    found.append(item);
  }
  if (!hits.length) {
    const item = document.createElement("li"), text = document.createElement("p");
    text.textContent = "Nothing by that name.";
    item.append(text);
    found.append(item);
  }
}

form.hidden = false;
input.addEventListener("focus", load);
input.addEventListener("input", search);
form.addEventListener("submit", event => { event.preventDefault(); found.querySelector("a")?.click(); });
form.addEventListener("keydown", event => {
  if (event.key === "Escape") { input.value = ""; search(); input.blur(); }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...found.querySelectorAll("a")], at = links.indexOf(document.activeElement);
  const next = event.key === "ArrowDown" ? links[at + 1] : at > 0 ? links[at - 1] : input;
  if (next) { event.preventDefault(); next.focus(); }
});
document.addEventListener("keydown", event => {
  if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "/") { event.preventDefault(); input.focus(); }
  const turn = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (turn && !found.contains(event.target)) document.querySelector(`a[rel=${turn}]`)?.click();
});

const tools = document.querySelector(".tools");
if (tools) {
  const grid = document.querySelector(".grid"), cells = [...grid.children];
  const value = (cell, name) => name in cell.dataset ? Number(cell.dataset[name]) : -Infinity;
  const orders = {
    unit: (a, b) => a.dataset.unit - b.dataset.unit,
    drive: (a, b) => value(b, "drive") - value(a, "drive"),
    "-drive": (a, b) => value(a, "drive") - value(b, "drive"),
    selectivity: (a, b) => value(b, "selectivity") - value(a, "selectivity"),
    ratio: (a, b) => value(b, "ratio") - value(a, "ratio"),
    label: (a, b) => ("label" in b.dataset) - ("label" in a.dataset) || (a.dataset.label || "").localeCompare(b.dataset.label || ""),
  };
  const shows = {
    "": () => true,
    raising: cell => value(cell, "drive") > 0,
    lowering: cell => "drive" in cell.dataset && value(cell, "drive") < 0,
    labelled: cell => "label" in cell.dataset,
    dead: cell => "dead" in cell.dataset,
    losing: cell => "ratio" in cell.dataset && value(cell, "ratio") <= 1,
  };
  const update = () => {
    let count = 0;
    for (const cell of cells) count += !(cell.hidden = !shows[tools.show.value](cell));
    grid.append(...cells.sort(orders[tools.order.value]));
    tools.querySelector("output").textContent = count === cells.length ? "" : `${count} of ${cells.length} units`;
    history.replaceState(null, "", `#${tools.order.value}/${tools.show.value}`);
  };
  tools.hidden = false;
  tools.addEventListener("change", update);
  const [order, show] = location.hash.slice(1).split("/");
  if (order in orders && show in shows && (order !== "unit" || show)) { tools.order.value = order; tools.show.value = show; update(); }
}
