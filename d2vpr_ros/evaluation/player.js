"use strict";

// The player: each image of the drive is a template of the page, with a part for each slot. No text is made here.

const element = (id) => document.getElementById(id);
const player = element("player");
const moments = [...player.querySelectorAll("template")];
const slider = element("slider");
const STEP_MS = 400;

let shown = -1;
let timer = 0;

// Pictures are decoded before they are put in, else the page flickers from one to the next.
async function show(number, quietly = false) {
  if (number === shown) return;
  shown = number;
  slider.value = number;
  element("count").textContent = `${number + 1} / ${moments.length}`;
  if (!quietly) history.replaceState(null, "", `#image=${number + 1}`);
  const parts = moments[number].content.cloneNode(true);
  const decoded = [...parts.querySelectorAll("image")].map((image) => {
    const picture = new Image();
    picture.src = image.getAttribute("href");
    return picture.decode().catch(() => {}); // a broken picture stays empty
  });
  await Promise.all(decoded);
  if (number !== shown) return; // another one was asked for
  for (const part of parts.querySelectorAll("[data-slot]")) {
    element(part.dataset.slot)?.replaceChildren(...part.childNodes);
  }
}

const step = (by) => show(Math.min(moments.length - 1, Math.max(0, shown + by)));

function pause() {
  clearInterval(timer);
  timer = 0;
  element("play").textContent = "Play";
}

function play() {
  if (shown === moments.length - 1) show(0);
  element("play").textContent = "Pause";
  timer = setInterval(() => {
    step(1);
    if (shown === moments.length - 1) pause();
  }, STEP_MS);
}

const toggle = () => (timer ? pause() : play());

element("play").onclick = toggle;
element("previous").onclick = () => step(-1);
element("next").onclick = () => step(1);
slider.oninput = () => show(Number(slider.value));
element("whole").onclick = (event) => {
  const dot = event.target.closest("[data-moment]");
  if (dot) show(Number(dot.dataset.moment));
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const inside = player.contains(event.target);
  if (!inside && event.target !== document.body) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (inside && event.key === "Home") show(0);
  else if (inside && event.key === "End") show(moments.length - 1);
  else if (inside && event.key === " " && event.target.tagName !== "BUTTON") toggle();
  else return;
  event.preventDefault();
});

function showFromAddress() {
  const found = /^#image=(\d+)$/.exec(location.hash);
  const number = found ? Number(found[1]) - 1 : -1;
  return number >= 0 && number < moments.length ? show(number).then(() => player.scrollIntoView()) : null;
}

window.addEventListener("hashchange", showFromAddress);
if (!showFromAddress()) show(0, true); // the address stays as it was given
