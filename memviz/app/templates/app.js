// What the pages do beyond forms and links: several photographs one after the other, drop, paste, camera, and results as
// they come. Everything else works without.
"use strict";
const form = document.querySelector("form.upload[enctype]");
const json = { Accept: "application/json" };
const input = form?.querySelector("#files");
const AT_ONCE = 2;

function say(text) {
  form.querySelector("[role=status]").textContent = text;
}

async function send(file, page) {
  const body = new FormData();
  body.append(input.name, file, file.name || "photograph.png");
  const answer = await fetch(page, { method: "POST", body, headers: json });
  const found = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

// One photograph a request, so that one that is refused does not take the others along.
async function give(files) {
  const waiting = [...files];
  const total = waiting.length;
  if (!total) return;
  input.disabled = true;
  const refused = [];
  let done = 0;
  const batch = new URL(form.action).searchParams.get("batch");
  let found = batch ? { batch, page: `/photographs/${batch}` } : null;
  const next = async () => {
    for (let file; (file = waiting.shift());) {
      say(`Sending ${++done} of ${total} …`);
      try {
        found = await send(file, found ? `/photographs?batch=${found.batch}` : `/photographs?alone=${total === 1}`);
      } catch (error) {
        refused.push(`${file.name}: ${error.message}`);
      }
      if (!found) continue;
      if (running < AT_ONCE) others.push(start());
    }
  };
  const others = [];
  let running = 0;
  const start = () => { running += 1; return next(); };
  await start();
  await Promise.all(others);
  input.disabled = false;
  input.value = "";
  if (refused.length) sessionStorage.setItem("refused", refused.join(" "));
  if (found) location.assign(found.page);
  else show();
}

// What was refused is told on the page that comes next.
function show() {
  const refused = sessionStorage.getItem("refused");
  sessionStorage.removeItem("refused");
  if (refused && form) say(refused);
}

if (form) {
  const camera = form.querySelector(".camera");
  for (const each of document.querySelectorAll(".with-script")) each.hidden = false;
  form.querySelector("button").hidden = true;
  if (matchMedia("(pointer: coarse)").matches) camera.hidden = false;
  input.addEventListener("change", () => give(input.files));
  camera.querySelector("input").addEventListener("change", (event) => give(event.target.files));
  form.addEventListener("submit", (event) => { event.preventDefault(); give(input.files); });
  addEventListener("paste", (event) => give([...event.clipboardData.files].filter((file) => file.type.startsWith("image/"))));
  addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("over"); });
  addEventListener("drop", (event) => { event.preventDefault(); form.classList.remove("over"); give(event.dataTransfer.files); });
  show();
}

// Buttons that act without leaving the page.
document.addEventListener("submit", async (event) => {
  if (!event.target.matches("[data-stay]")) return;
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  const answer = await fetch(event.target.action, { method: "POST", headers: json }).catch(() => null);
  if (answer?.ok) return;
  button.disabled = false;
  const found = await answer?.json().catch(() => null);
  const told = document.createElement("p");
  told.className = "error";
  told.role = "alert";
  told.textContent = found?.detail ?? "The server does not answer.";
  event.target.after(told);
});

if (document.body.dataset.changes) {
  const source = new EventSource(document.body.dataset.changes);
  const gone = document.querySelector(".gone");
  source.onopen = () => { gone.hidden = true; };
  source.onerror = () => { gone.hidden = false; };
  source.onmessage = (event) => {
    const { id, html } = JSON.parse(event.data);
    const old = document.getElementById(id);
    if (!old || old.outerHTML === html) return;
    const focused = old.contains(document.activeElement);
    old.outerHTML = html;
    if (focused) document.getElementById(id).querySelector("button, a")?.focus();
  };
}
