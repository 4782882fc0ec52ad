// The place that was chosen, and what people do. Every text of a map is set as text, never as HTML.

// ---- The chosen place

const pictures = JSON.parse(element("pictures").textContent);
const pictured = Object.keys(pictures).map(Number);

function choose(row, keepInSight) {
  chosen = row;
  history.replaceState(null, "", `#place=${place.id[row]}`);
  element("number").value = place.id[row];
  const lines = describe(row).flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  });
  element("details").replaceChildren(...lines);
  showPicture(row);
  if (keepInSight && !Number.isNaN(world.u[row])) {
    const [x, y] = toScreen(world.u[row], world.v[row]);
    const inside = x > 40 && y > 40 && x < size.width - 40 && y < size.height - 40;
    if (!inside) [view.u, view.v] = [world.u[row], world.v[row]];
  }
  draw();
}

function describe(row) {
  const [x, y, z] = place.position[row];
  const stamp = `${place.seconds[row]}.${String(place.nanoseconds[row]).padStart(9, "0")}`;
  const moment = new Date(place.seconds[row] * 1000 + place.nanoseconds[row] / 1e6);
  const lines = [
    ["Place", String(place.id[row])],
    ["Session", data.sessions[place.session[row]]],
    ["Camera", data.cameras[place.camera[row]]],
    ["Time", `${moment.toISOString().replace("T", " ").replace("Z", "")} UTC`],
    ["Stamp", `${stamp} s`],
  ];
  if (data.metric) {
    lines.push(
      ["Position", `${x.toFixed(3)}, ${y.toFixed(3)}, ${z.toFixed(3)} m in ${data.frame}`],
      ["Orientation", `${place.quaternion[row].map((q) => q.toFixed(5)).join(", ")} (x, y, z, w)`],
    );
  } else {
    lines.push(["Frame", `number ${x} of the session`]);
  }
  if (place.heading[row] !== null) {
    lines.push(["Heading", `${place.heading[row].toFixed(1)}° ${data.compass ? "from north, clockwise" : `from x of ${data.frame}, anticlockwise`}`]);
  }
  const geo = place.geo[row];
  if (geo && geo[0] !== null && geo[1] !== null) {
    lines.push(["Lat, lon", `${geo[0].toFixed(7)}, ${geo[1].toFixed(7)}`]);
    if (geo[2] !== null) lines.push(["Altitude", `${geo[2].toFixed(1)} m above the ellipsoid`]);
  }
  return lines;
}

function showPicture(row) {
  const picture = element("picture");
  const jpeg = pictures[row];
  picture.hidden = !jpeg;
  element("no-picture").hidden = Boolean(jpeg);
  if (jpeg) {
    picture.src = `data:image/jpeg;base64,${jpeg}`;
    picture.alt = `what the camera saw at place ${place.id[row]}`;
  } else {
    picture.removeAttribute("src");
    element("no-picture").textContent = "The picture of this place is not in this page.";
  }
  const other = jpeg ? -1 : nearestPictured(row);
  element("nearest").hidden = other < 0;
  if (other >= 0) {
    const metres = Math.hypot(...place.position[row].map((value, k) => value - place.position[other][k]));
    const apart = data.metric ? `${metres.toFixed(1)} m` : `${metres} frames`;
    element("nearest").textContent = `Nearest with a picture: place ${place.id[other]}, ${apart} away`;
    element("nearest").onclick = () => choose(other, true);
  }
}

// Of the same session and camera: another one looks elsewhere, or at another time.
function nearestPictured(row) {
  let [best, least] = [-1, Infinity];
  for (const other of pictured) {
    if (place.session[other] !== place.session[row] || place.camera[other] !== place.camera[row]) continue;
    const away = Math.hypot(...place.position[row].map((value, k) => value - place.position[other][k]));
    if (away < least) [best, least] = [other, away];
  }
  return best;
}

function step(by) {
  let row = chosen < 0 ? (by > 0 ? -1 : count) : chosen;
  do row += by;
  while (row >= 0 && row < count && !isShown(row));
  if (row >= 0 && row < count) choose(row, true);
}

function nearestTo(x, y) {
  let [best, least] = [-1, REACH];
  for (let row = 0; row < count; row++) {
    if (!isShown(row)) continue;
    const [px, py] = toScreen(world.u[row], world.v[row]);
    const away = Math.hypot(px - x, py - y);
    if (away < least) [best, least] = [row, away];
  }
  return best;
}

function chooseById(text) {
  const row = place.id.indexOf(Number(text));
  if (row >= 0) choose(row, true);
  else if (chosen >= 0) element("number").value = place.id[chosen];
}

function chooseFromAddress() {
  const found = /^#place=(\d+)$/.exec(location.hash);
  if (found) chooseById(found[1]);
}

// ---- What people do

const fingers = new Map(); // where each pointer on the plan is
let dragged = 0;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  if (fingers.size === 0) dragged = 0;
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
});

canvas.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  const now = [event.offsetX, event.offsetY];
  if (!before) {
    canvas.classList.toggle("over", nearestTo(...now) >= 0);
    return;
  }
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  const [x, y] = [now[0] - before[0], now[1] - before[1]];
  dragged += Math.hypot(x, y);
  fingers.set(event.pointerId, now);
  if (other) {
    const span = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    move(x / 2, y / 2);
    zoom(span(now) / Math.max(1, span(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  } else if (dragged > 5) {
    move(x, y);
  }
});

canvas.addEventListener("pointerup", (event) => {
  fingers.delete(event.pointerId);
  if (dragged > 5 || fingers.size > 0) return;
  const row = nearestTo(event.offsetX, event.offsetY);
  if (row >= 0) choose(row, false);
});

canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));

canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
  },
  { passive: false },
);

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const arrow = arrows[event.key];
  if (arrow && event.shiftKey) move(60 * arrow[0], 60 * arrow[1]);
  else if (arrow) step(event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : -1);
  else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") fit();
  else return;
  event.preventDefault();
});

function show(which) {
  world = which;
  element("on-plan").setAttribute("aria-pressed", String(world === plan));
  element("on-earth").setAttribute("aria-pressed", String(world === earth));
  const lost = world.u.filter(Number.isNaN).length;
  element("unlocated").textContent = lost ? ` ${lost} places have no latitude and longitude and are not shown.` : "";
  fit();
}

element("on-plan").onclick = () => show(plan);
element("on-earth").onclick = () => show(earth);
element("on-earth").disabled = earth === null;
element("zoom-in").onclick = () => zoom(1.4);
element("zoom-out").onclick = () => zoom(1 / 1.4);
element("fit").onclick = fit;
element("previous").onclick = () => step(-1);
element("next").onclick = () => step(1);
element("number").onchange = (event) => chooseById(event.target.value);

function toggles(boxes, shown) {
  for (const box of boxes) {
    box.onchange = () => {
      shown[Number(box.value)] = box.checked;
      draw();
    };
    box.onchange(); // a browser keeps what was ticked before a reload
  }
}

const sessionBoxes = [...document.querySelectorAll(".legend tr input")];
toggles(sessionBoxes, shownSessions);
toggles(document.querySelectorAll("#cameras input"), shownCameras);

if (element("loops")) element("loops").onchange = draw;

for (const row of document.querySelectorAll(".legend tr")) {
  const emphasise = (session) => () => {
    emphasised = session;
    draw();
  };
  row.onmouseenter = row.onfocusin = emphasise(Number(row.dataset.session));
  row.onmouseleave = row.onfocusout = emphasise(-1);
}

if (element("every")) {
  element("every").onclick = () => {
    const tick = !sessionBoxes.some((box) => box.checked);
    for (const box of sessionBoxes) {
      box.checked = tick;
      box.onchange();
    }
    element("every").textContent = tick ? "Hide all" : "Show all";
  };
}

window.addEventListener("hashchange", chooseFromAddress);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(() => {
  const wasEmpty = size.width === 0;
  size = { width: canvas.clientWidth, height: canvas.clientHeight };
  if (wasEmpty) fit();
  else draw();
}).observe(canvas);
size = { width: canvas.clientWidth, height: canvas.clientHeight };
show(plan);
chooseFromAddress();
