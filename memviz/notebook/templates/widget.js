// Shows what Python rendered, and tells it which unit somebody points at.
const PAUSE = 90; // ms that a pointer rests on a unit before it is shown: each is made when it is asked for

function render({ model, el }) {
  const root = make("div", "memviz");
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves arrow keys to us
  const frame = make("div", "frame"), body = make("div", "body"), detail = make("div", "detail"), said = make("p", "said");
  said.setAttribute("role", "status");
  frame.append(body, detail);
  root.append(frame, said);
  el.append(root);
  let waiting, kept = false;

  const groupOf = trait => body.querySelector(`[data-trait=${trait}]`);
  const optionsOf = group => [...group.querySelectorAll("option, [data-unit]")];
  const nameOf = option => option.dataset.unit ?? option.value;

  function mark() {
    for (const trait of ["unit", "other"]) {
      const group = groupOf(trait), name = model.get(trait);
      if (!group) continue;
      const select = group.querySelector("select");
      if (select) select.value = name;
      else for (const option of optionsOf(group)) {
        const chosen = nameOf(option) === name;
        option.setAttribute("aria-selected", chosen);
        option.tabIndex = chosen ? 0 : -1;
        option.classList.toggle("kept", chosen && kept);
      }
    }
  }

  function choose(group, option) {
    clearTimeout(waiting);
    if (!option || nameOf(option) === model.get(group.dataset.trait)) return mark();
    model.set(group.dataset.trait, nameOf(option));
    model.save_changes();
    said.textContent = option.getAttribute("aria-label") ?? option.textContent;
  }

  function step(group, by) {
    const options = optionsOf(group), at = options.findIndex(each => nameOf(each) === model.get(group.dataset.trait));
    const next = options[Math.min(Math.max(at + by, 0), options.length - 1)];
    choose(group, next);
    if (next?.dataset.unit) next.focus();
  }

  const hit = event => event.target.closest("[data-unit]");
  body.addEventListener("pointerover", event => {
    clearTimeout(waiting);
    const option = hit(event);
    if (option && !kept) waiting = setTimeout(() => choose(option.closest("[data-trait]"), option), PAUSE);
  });
  body.addEventListener("pointerleave", () => clearTimeout(waiting));
  body.addEventListener("focusin", event => hit(event) && choose(hit(event).closest("[data-trait]"), hit(event)));
  body.addEventListener("click", event => {
    const option = hit(event), by = event.target.closest("[data-step]");
    if (by) step(by.closest("[data-trait]"), Number(by.dataset.step));
    if (!option) return;
    kept = !(kept && option.classList.contains("kept"));
    choose(option.closest("[data-trait]"), option);
    mark();
  });
  body.addEventListener("change", event => {
    if (event.target.matches("select")) choose(event.target.closest("[data-trait]"), event.target.selectedOptions[0]);
  });
  body.addEventListener("input", event => {
    if ("opacity" in event.target.dataset) root.style.setProperty("--opacity", event.target.value / 100);
  });
  body.addEventListener("keydown", event => {
    const group = event.target.closest("[data-trait]");
    if (!group || event.target.matches("select") || event.altKey || event.ctrlKey || event.metaKey) return;
    const across = Number(group.dataset.across ?? 1), all = optionsOf(group).length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -all, End: all }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    step(group, by);
  });

  const showBody = () => { body.innerHTML = model.get("_body"); mark(); };
  const showDetail = () => { detail.innerHTML = model.get("_detail"); };
  model.on("change:_body", showBody);
  model.on("change:_detail", showDetail);
  model.on("change:unit", mark);
  model.on("change:other", mark);
  showBody();
  showDetail();
}

function make(tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

export default { render };
